//! Gives each caller's own access token for one upstream, in exchange for a token that says who the caller is (RFC 8693).
//!
//! For upstreams whose authorization server trusts the broker: nobody has to connect an account, and no refresh token is kept.
//! What is exchanged is never the broker token, which the authenticate layer took off, but an [`Assertion`] that the
//! broker signs with its own key, or a token of your own source ([`ProvideToken`]).
//!
//! # Example
//! A user of the broker's own issuer is spoken for; one of another is refused before anyone is asked.
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use token_broker_outbound::{Guard, GuardedClient};
//! use token_broker_upstream::{Assertion, AuthorizationServer, SignError, ClientAuthentication, TokenExchange};
//! use tower_token_broker::{
//!     Secret, audit::{AuditLog, Trail}, clock::Clock, exchange::{CredentialError, ProvideCredential, Upstream},
//!     principal::{User, Principal, Resource, Scopes, TokenTimes, Verified},
//! };
//!
//! # let issuer = ();
//! # trait Sign { fn sign_jwt(&self, claims: &str) -> Result<Secret, ()>; }
//! # impl Sign for () { fn sign_jwt(&self, _: &str) -> Result<Secret, ()> { Ok(Secret::from_text("e30.e30.x".into())) } }
//! // The broker's own issuer (`token_broker_authority::issue::Issuer`) signs; the server has its JWKS.
//! let sign = move |claims: &str| issuer.sign_jwt(claims).map_err(|_| SignError);
//! # let endpoint = axum::Router::new().route("/token", axum::routing::post(|| async {
//! #     axum::Json(serde_json::json!({"access_token": "upstream-token", "token_type": "Bearer",
//! #         "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"})) }));
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
//! # let token_endpoint = format!("http://{}/token", listener.local_addr().unwrap());
//! # tokio::spawn(async move { axum::serve(listener, endpoint).await });
//! # let guard = Guard::new().allow_loopback("127.0.0.1");
//! let client = ClientAuthentication::basic("broker", Secret::from_text("from a file".into()));
//! let server = AuthorizationServer::new("https://login.crm.example", token_endpoint.parse().unwrap(), client)
//!     .scopes(Scopes::parse("crm:read").unwrap())
//!     .resource("https://mcp.crm.example/mcp");
//! let upstream = Upstream::parse("crm", "https://mcp.crm.example/mcp").unwrap();
//! let assertion = Assertion::of_caller("https://broker.example.com", sign);
//! let credentials = TokenExchange::new(assertion, upstream, server, GuardedClient::new(&guard).unwrap());
//!
//! # let now = Clock::system().now();
//! # let caller = |issuer: &str| Principal::for_test(&Verified::vouch(
//! #     User::new(issuer, "ana"), "client", Resource::parse("https://broker.example.com/crm/mcp").unwrap(),
//! #     TokenTimes { id: "t", issued_at: now, expires_at: now.plus(std::time::Duration::from_secs(60)) }));
//! # let (trail, _) = Trail::for_test(&AuditLog::in_memory().0);
//! let ana = caller("https://broker.example.com");
//! let given = credentials.credential(&ana, &Scopes::none(), &trail).await.unwrap();
//! assert_eq!(given.scopes().to_string(), "crm:read");
//!
//! let namesake = caller("https://other.example");
//! let refused = credentials.credential(&namesake, &Scopes::none(), &trail).await.unwrap_err();
//! assert_eq!(refused, CredentialError::RefusedByPolicy);
//! # });
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
//! 100 000 credentials in memory, a key for each: user, actor chain, authorization server, client, resource, audience and scopes; where the
//! token is your own source's, also client, resource, family and scopes of the broker token. One request at a time for each of them
//! and 64 per authorization server; 8 s for the token endpoint; 25 s for a caller to wait. A token is used until 10 s before its end,
//! and a new one is got behind its users' backs at four fifths of its life. Without a usable `expires_in` it lives for 5 minutes.
//! Each process asks for itself.
//!
//! # Cancellation
//! Callers wait for an owned task, which no caller ends.
//!
//! # Refusals
//! [`CredentialError`](tower_token_broker::exchange::CredentialError), by the server's `error`: revoked (`invalid_grant`), connect required
//! (`interaction_required`, `login_required`, `consent_required`, `account_selection_required`), scope required (`invalid_scope`, where a
//! rule asked for more than the operator), refused by policy (`invalid_target`, `access_denied`, `unauthorized_client`,
//! `unsupported_grant_type`, `invalid_request`, `invalid_scope` else; a token with more scopes than it was asked for), unavailable (all else,
//! `invalid_client` included: that one is the operator's to mend).
//!
//! A failure is remembered for 5 s, then 20 s, then 60 s, or as long as `Retry-After` says, up to an hour: for whom it met; for
//! all callers if it is not about one (no connection, `invalid_client`, a `Retry-After`). Meanwhile the token at hand is
//! used to its end, unless the server said no to this caller (the first four, and refused by policy): then it is dropped.
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
