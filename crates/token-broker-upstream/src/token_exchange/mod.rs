//! Gives each caller's own access token for one upstream, in exchange for a token that says who the caller is (RFC 8693).
//!
//! For upstreams whose authorization server trusts the broker: nobody has to connect an account, and no refresh token is kept.
//! What is exchanged is never the broker token, which the authenticate layer took off, but an [`Assertion`](crate::Assertion) that the
//! broker signs with its own key, or a token of your own source ([`ProvideToken`](crate::ProvideToken)).
//!
//! # Example
//! ```
//! use token_broker_outbound::{Guard, GuardedClient};
//! use token_broker_upstream::{Assertion, AuthorizationServer, CannotSign, ClientAuthentication, TokenExchange};
//! use tower_token_broker::{Secret, exchange::Upstream, principal::Scopes};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let issuer = std::sync::Arc::new(());
//! # trait Sign { fn sign_jwt(&self, claims: &str) -> Result<Secret, ()>; }
//! # impl Sign for () { fn sign_jwt(&self, _: &str) -> Result<Secret, ()> { Err(()) } }
//! // The broker's own issuer (`token_broker_authority::issue::Issuer`) signs; the server has its JWKS.
//! let sign = move |claims: &str| issuer.sign_jwt(claims).map_err(|_| CannotSign);
//! let server = AuthorizationServer::new(
//!     "https://login.crm.example",
//!     "https://login.crm.example/token".parse()?,
//!     ClientAuthentication::basic("broker", Secret::from_text("from a file".into())),
//! )
//! .scopes(Scopes::parse("crm:read")?)
//! .resource("https://mcp.crm.example/mcp");
//! let upstream = Upstream::parse("crm", "https://mcp.crm.example/mcp")?;
//! let client = GuardedClient::new(&Guard::new())?;
//! let credentials =
//!     TokenExchange::new(Assertion::of_caller("https://broker.example.com", sign), upstream, server, client);
//! # drop(credentials);
//! # Ok(())
//! # }
//! ```
//!
//! # Order
//! The provider of the exchange layer.
//!
//! # Reads, writes
//! Nothing is stored. Before a token endpoint is asked, the intent in the audit is durable (`refresh_intent`); its `grant` is a hash
//! of all that took part, the same in each process, by which what comes of it can be revoked.
//!
//! # Limits
//! 100 000 credentials in memory, a key for each: person, actor chain, authorization server, client, resource, audience and scopes; where the
//! token is your own source's, also client, resource, family and scopes of the broker token. One request at a time for each of them
//! and 64 per authorization server; 8 s for the token endpoint; 25 s for a caller to wait. A token is used until 10 s before its end,
//! and a new one is got behind its users' backs at four fifths of its life. Without a usable `expires_in` it lives for 5 minutes.
//! Each process asks for itself.
//!
//! # Cancellation
//! Callers wait for an owned task, which no caller ends.
//!
//! # Refusals
//! [`NoCredential`](tower_token_broker::exchange::NoCredential), by the server's `error`: revoked (`invalid_grant`), connect required
//! (`interaction_required`, `login_required`, `consent_required`, `account_selection_required`), scope required (`invalid_scope`, where a
//! rule asked for more than the operator), refused by policy (`invalid_target`, `access_denied`, `unauthorized_client`,
//! `unsupported_grant_type`, `invalid_request`, `invalid_scope` else; a token with more scopes than it was asked for), unavailable (all else,
//! `invalid_client` included: that one is the operator's to mend).
//!
//! A failure is remembered for 5 s, then 20 s, then 60 s, or as long as `Retry-After` says, up to an hour: for whom it met; for
//! all callers if it is not about one (no connection, `invalid_client`, a `Retry-After`). Meanwhile the token at hand is used to its end.
//!
//! # Scopes
//! The operator's, and those of the rule for this call; never those that the client has or wants. A server that was asked for no scope
//! chooses itself: set them.
//!
//! # Sources
//! RFC 8693 §2; RFC 6749 §5; RFC 8707 §2.2; RFC 7523 §2.2, §3.

mod assertion;
mod provider;
mod security_token;

pub use assertion::Assertion;
pub use provider::TokenExchange;
pub use security_token::{ProvideToken, SecurityToken, TokenSource, TokenType};
