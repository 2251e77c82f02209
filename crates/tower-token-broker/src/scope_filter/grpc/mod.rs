//! Judges gRPC calls by the same policy as HTTP requests.

mod calling;
mod request;
mod response;
#[cfg(test)]
mod tests;
mod watch;

pub(super) use self::{calling::Calling, response::GrpcFilter};
