//! Each caller's own access token for one upstream, in exchange for a token that identifies the
//! caller (RFC 8693).
//!
//! For upstreams whose authorization server trusts the broker: no one connects an account, and no
//! refresh token is kept. The broker token is never exchanged, because the authenticate layer
//! removed it. What is exchanged is an [`Assertion`] that the broker signs, or a token from your
//! [`ProvideToken`].
//!
//! # Example
//! A user of the broker's own issuer receives a token. A user of another issuer is refused without
//! a request to the authorization server.
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use token_broker_upstream::{Assertion, SignError, prelude::*};
//! use tower_token_broker::{
//!     exchange::{CredentialError, CredentialRequest, ProvideCredential},
//!     prelude::*,
//!     test_util::{TestCall, caller},
//! };
//!
//! # let issuer = ();
//! # trait Sign { fn sign_jwt(&self, claims: &str) -> Result<Secret, ()>; }
//! # impl Sign for () {
//! #     fn sign_jwt(&self, _: &str) -> Result<Secret, ()> {
//! #         Ok(Secret::from_text("e30.e30.x".into()))
//! #     }
//! # }
//! // The broker's own issuer (`token_broker_authority::issue::Issuer`) signs, and the server has
//! // its JWKS.
//! let sign = move |claims: &str| issuer.sign_jwt(claims).map_err(|_| SignError);
//! # let endpoint = axum::Router::new().route("/token", axum::routing::post(|| async {
//! #     axum::Json(serde_json::json!({"access_token": "upstream-token", "token_type": "Bearer",
//! #         "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"})) }));
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
//! # let token_endpoint = format!("http://{}/token", listener.local_addr().unwrap());
//! # tokio::spawn(async move { axum::serve(listener, endpoint).await });
//! # let guard = Guard::new().allow_loopback("127.0.0.1");
//! # let sink = tower_token_broker::audit::InMemory::new();
//! # let broker = Broker::builder().audit(sink).build().unwrap();
//! # let (trail, _) = tower_token_broker::audit::Trail::for_test(broker.audit_log());
//! let server = AuthorizationServer::new(
//!     "https://login.crm.example",
//!     token_endpoint.parse().unwrap(),
//!     ClientAuthentication::basic("broker", Secret::from_text("from a file".into())),
//! )
//! .scopes(Scopes::parse("crm:read").unwrap())
//! .resource("https://mcp.crm.example/mcp");
//! let upstream = Upstream::parse("crm", "https://mcp.crm.example/mcp").unwrap();
//! let client = GuardedClient::new(&guard).unwrap();
//! let ours = Assertion::of_caller("https://broker.example.com", sign.clone());
//! let credentials =
//!     TokenExchange::new(&broker, ours, upstream.clone(), server.clone(), client.clone());
//!
//! // The requests of the exchange layer. Alice is a user of https://broker.example.com.
//! let (alice, none) = (caller("alice"), Scopes::none());
//! let operation = TestCall::tool("get_contact", "{}").operation();
//! let request = CredentialRequest::new(&alice, &none, &operation, &trail);
//! let provided = credentials.credential(&request).await.unwrap();
//! assert_eq!(provided.scopes().to_string(), "crm:read");
//!
//! // A broker with another name does not speak for her.
//! let other = Assertion::of_caller("https://other.example.com", sign);
//! let credentials = TokenExchange::new(&broker, other, upstream, server, client);
//! let refused = credentials.credential(&request).await.unwrap_err();
//! assert_eq!(refused, CredentialError::RefusedByPolicy);
//! # });
//! ```
//!
//! # Order
//! The provider of the exchange layer.
//!
//! # Reads, writes
//! Stores nothing. Before a request to the token endpoint, its intent in the audit log is durable
//! (`token_request`). The `grant` of that record is a hash over all parts that determine the
//! token. It is the same in each process, and revokes what is provided under it.
//!
//! # Limits
//! - 100 000 credentials in memory, each under a key of its own: user, account, actor chain,
//!   authorization server, client of the broker, resource, audience and scopes; for a
//!   [`ProvideToken`] also client, resource, family, scopes, groups, `acr` and kept claims of the
//!   broker token.
//! - One request at a time per key, and 64 per authorization server, of which one user holds at
//!   most 4 ([`AuthorizationServer`](crate::AuthorizationServer) has the settings).
//! - After a failure a retry follows after 5 s, then 20 s, then 60 s, or after the time in
//!   `Retry-After`, up to an hour. Other users wait only if the server cannot be reached, refuses
//!   the broker, or fails for three users; and for a minute at most.
//! - 8 s for the token endpoint, and 25 s for a caller to wait.
//! - A token is used until 10 s before its end. A new one is requested in the background at four
//!   fifths of its lifetime. Without a usable `expires_in` a token lives for 5 minutes.
//! - Each process requests tokens of its own.
//!
//! # Cancellation
//! Callers wait for an owned task, which no caller can cancel.
//!
//! # Refusals
//! [`CredentialError`](tower_token_broker::exchange::CredentialError), by the server's `error`:
//!
//! - Revoked: `invalid_grant`.
//! - Connect required: `interaction_required`, `login_required`, `consent_required`,
//!   `account_selection_required`.
//! - Scope required: `invalid_scope`, where a rule needs more scopes than the operator's.
//! - Refused by policy: `invalid_target`, `access_denied`, `unauthorized_client`,
//!   `unsupported_grant_type`, `invalid_request`, any other `invalid_scope`; and a token with more
//!   scopes than requested.
//! - Unavailable: all others. `invalid_client` is one of them; the operator must resolve it.
//!
//! A failure is remembered for 5 s, then 20 s, then 60 s, or for the time in `Retry-After`, up to
//! an hour. It is remembered for the caller, or for all callers if it does not concern one (no
//! connection, `invalid_client`, a `Retry-After`). Meanwhile the current token is used to its end,
//! unless the server refused this caller (revoked, connect required, scope required, refused by
//! policy): then it is dropped.
//!
//! # Scopes
//! The operator's, and those of the rule for this call; never those that the client has or
//! requests. A server that receives a request without scopes chooses them itself, so set them.
//!
//! # Sources
//! RFC 8693 §2; RFC 6749 §5; RFC 8707 §2.2; RFC 7523 §2.2, §3.

mod assertion;
mod provider;
mod security_token;

pub use assertion::Assertion;
pub use provider::TokenExchange;
pub use security_token::{ProvideToken, SecurityToken, TokenSource, TokenType};
