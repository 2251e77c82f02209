//! Tower layers that keep upstream OAuth tokens away from MCP clients. (Being written.)

pub mod audit;
pub mod authenticate;
#[cfg(feature = "axum")]
pub mod axum_body;
pub mod body;
pub mod clock;
pub mod dialect;
pub mod exchange;
pub mod principal;
pub mod refusal;
pub mod revocation;
pub mod scope_filter;
pub mod tasks;

mod secret;

pub use secret::Secret;
