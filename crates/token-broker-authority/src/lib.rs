//! Authorization server of the broker: clients, consent, codes, broker tokens and their keys.
//!
//! An MCP client finds it by the metadata of a protected resource, registers, sends its user to the
//! authorize endpoint, and redeems the code that the user allowed for a broker token, which is
//! valid for one resource and a short time.
//!
//! - [`Authority`]: the endpoints, as functions from requests to responses; with feature `axum` one
//!   router. [`AuthoritySettings`] has all lifetimes and quotas.
//! - [`authorize`]: the authorize endpoint; [`authorize::Interaction`] is the seam to pages and
//!   sessions.
//! - [`client`]: clients that the operator configured, that a metadata document describes, and that
//!   registered themselves.
//! - [`issue`]: broker tokens and signing keys, for issuers without an authorization server.
//!
//! # Example
//! ```
//! # #[cfg(feature = "axum")]
//! # mod example {
//! use token_broker_authority::{
//!     Authority, IssuerUrl, ProtectedServer,
//!     authorize::Interaction,
//!     client::ConfiguredClient,
//! };
//! use token_broker_store::authority::AuthorityStore;
//! use tower_token_broker::{
//!     Broker,
//!     authenticate::JwtVerifier,
//!     principal::{Resource, Scopes},
//! };
//!
//! # async fn example(
//! #     broker: &Broker,
//! #     store: impl AuthorityStore,
//! #     pages: impl Interaction,
//! # ) -> Result<axum::Router, Box<dyn std::error::Error>> {
//! let crm = Resource::parse("https://broker.example.com/crm/mcp")?;
//! let scopes = Scopes::parse("crm:read crm:write")?;
//! let issuer = IssuerUrl::parse("https://broker.example.com")?;
//! let authority = Authority::builder(broker, issuer, store)
//!     .server(ProtectedServer::new(crm, "CRM", scopes).scope_text("crm:read", "Read contacts"))
//!     .client(ConfiguredClient::new("reports", ["https://reports.example.com/callback"])?)
//!     .start()
//!     .await?;
//!
//! // For the stack of the server: its broker tokens are those of this authority.
//! let verifier = JwtVerifier::new(authority.issuer().as_str(), authority.keys());
//!
//! // A redirect URI that any program or page could own is refused.
//! assert!(ConfiguredClient::new("reports", ["http://reports.example.com/callback"]).is_err());
//! # drop(verifier);
//! let app = axum::Router::new().merge(authority.router(pages));
//! # Ok(app)
//! # }
//! # }
//! ```
//!
//! # Sources
//! OAuth 2.1 (draft-ietf-oauth-v2-1), RFC 7009, 7523, 7591, 7636, 8252, 8414, 8707, 9207, 9700,
//! draft-ietf-oauth-client-id-metadata-document; MCP 2025-11-25 and 2026-07-28, "Authorization".

mod authority;
pub mod authorize;
mod builder;
pub mod client;
pub mod issue;
mod jwks;
mod key_rotation;
mod limits;
mod maintenance;
mod metadata;
mod oauth_error;
pub mod pages;
mod params;
mod random;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod readers;
mod request;
mod revoke;
#[cfg(feature = "axum")]
mod router;
mod servers;
pub mod sign_in;
mod token;

pub use self::{
    authority::{Authority, AuthoritySettings},
    builder::{AuthorityBuilder, AuthorityError},
    client::RegistrationLimits,
    key_rotation::{KeySettings, KeyringError},
    limits::Quota,
    metadata::{IssuerUrl, IssuerUrlError},
    oauth_error::ErrorCode,
    request::EndpointRequest,
    servers::ProtectedServer,
    token::{FamilyEnder, NotEnded, TokenSettings, end_families},
};
