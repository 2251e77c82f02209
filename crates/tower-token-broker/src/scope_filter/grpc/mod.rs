//! Judges gRPC calls by the same policy as HTTP requests.

mod call;
mod request;
mod response;
#[cfg(test)]
mod tests;
mod watch;

pub(super) use self::{call::GrpcCall, response::GrpcFilter};
