//! Discovery: which authorization server a server has, and where its endpoints are.
//!
//! The server is called without a token, and names its metadata (RFC 9728 §5.1); otherwise the
//! metadata is at one of the well-known paths. It names the authorization server, whose metadata
//! (RFC 8414, OpenID Connect Discovery 1.0) names the endpoints. A server without metadata of its
//! own is one of MCP 2025-03-26: its origin is the issuer.

mod cache;
mod challenge;
mod fetch;
mod found;
mod metadata;

pub(super) use cache::Discoveries;
pub(super) use found::Found;

/// The reason why no authorization server was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotFound {
    /// Code of the reason, for logs.
    pub(super) code: &'static str,
    /// Whether another try may succeed without a change of the configuration.
    pub(super) is_retryable: bool,
}

impl NotFound {
    const fn misconfigured(code: &'static str) -> Self {
        Self { code, is_retryable: false }
    }
}
