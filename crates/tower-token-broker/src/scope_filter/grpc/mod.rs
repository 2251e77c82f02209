//! gRPC: what of a call is judged, by the very policy that judges HTTP.

mod calling;
mod request;
mod response;
#[cfg(test)]
mod tests;
mod watch;

pub(super) use self::{calling::Calling, response::GrpcFilter};
