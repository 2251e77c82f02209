//! How a refusal is said: in plain HTTP, in MCP over Streamable HTTP, or as a status of gRPC.
//!
//! The dialect is chosen from the request, before the request moves on, and never by the layer that
//! refuses. All refusals carry `Cache-Control: no-store`, and give nothing but a code, a short text
//! and the request's id.

#[cfg(feature = "grpc")]
mod grpc;
mod http;
mod json_rpc;
mod render;
#[cfg(test)]
mod tests;

pub use render::{Dialect, RefusedCall};
