//! Renders refusals in the client's protocol: plain HTTP, MCP over Streamable HTTP, or a gRPC
//! status.
//!
//! The request determines the dialect; the layer that refuses does not choose it. Every refusal has
//! `Cache-Control: no-store` and reveals only a code, a short text and the request's id.

#[cfg(feature = "grpc")]
mod grpc;
mod http;
mod json_rpc;
mod render;
#[cfg(test)]
mod tests;

pub(crate) use json_rpc::WithoutAccount;
pub use render::{Dialect, RefusedCall};
