//! Each user's own access token for one upstream, from a stored grant that is refreshed when due.
//!
//! # Example
//! The token of a fresh grant is provided without a request to the authorization server. A user, or
//! an account, without a grant must be connected.
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use std::time::Duration;
//!
//! use token_broker_store::{AccessToken, Account, Grant, GrantKey, GrantStore};
//! use token_broker_upstream::prelude::*;
//! use tower_token_broker::{
//!     exchange::{CredentialError, CredentialRequest, ProvideCredential},
//!     prelude::*,
//!     principal::GrantId,
//!     test_util::{TestCall, caller},
//! };
//!
//! # let sink = tower_token_broker::audit::InMemory::new();
//! # let broker = Broker::builder().audit(sink).build().unwrap();
//! # let (trail, _) = tower_token_broker::audit::Trail::for_test(broker.audit_log());
//! // What the connect flow stores for alice.
//! let (alice, read) = (caller("alice"), Scopes::parse("crm:read").unwrap());
//! let now = broker.clock().now();
//! let expires_at = now.plus(Duration::from_secs(600));
//! let token = AccessToken::new(Secret::from_text("token".into()), read.clone(), now, expires_at);
//! let key = GrantKey::new(alice.user().clone(), "crm", Account::default_account());
//! let grant = Grant::new(GrantId::new("g1"), key, "https://login.crm.example");
//! let grants = MemoryGrants::new();
//! grants.put(grant.granted(read.clone()).access_token(token)).await.unwrap();
//!
//! let server = AuthorizationServer::new(
//!     "https://login.crm.example",
//!     "https://login.crm.example/token".parse().unwrap(),
//!     ClientAuthentication::public("broker"),
//! );
//! let upstream = Upstream::parse("crm", "https://mcp.crm.example/mcp").unwrap();
//! let client = GuardedClient::new(&Guard::new()).unwrap();
//! let server = server.scopes(read.clone());
//! let credentials = StoredGrants::new(&broker, grants, upstream, server, client);
//!
//! // The requests of the exchange layer.
//! let (bob, none) = (caller("bob"), Scopes::none());
//! let operation = TestCall::tool("get_contact", "{}").operation();
//! let request = CredentialRequest::new(&alice, &none, &operation, &trail);
//! let provided = credentials.credential(&request).await.unwrap();
//! assert_eq!(provided.scopes(), &read);
//!
//! let request = CredentialRequest::new(&bob, &none, &operation, &trail);
//! let refused = credentials.credential(&request).await.unwrap_err();
//! assert_eq!(refused, CredentialError::ConnectRequired);
//! # });
//! ```
//!
//! # Order
//! The provider of the exchange layer.
//!
//! # Reads, writes
//! Reads and writes the [`GrantStore`](token_broker_store::GrantStore), by the user, the name of
//! the upstream and the account that the broker token names. A broker token without an account uses
//! the account `default`.
//!
//! Before a refresh token is sent, the lease, the intent in the audit log and the attempt marker in
//! the store are durable, in this order. Before any caller receives the new access token, the
//! rotated refresh token is durable.
//!
//! # Limits
//! - 100 000 credentials in memory, each loaded from the store again after a minute.
//! - One refresh at a time per grant, and 64 per authorization server, of which one user holds at
//!   most 4 ([`AuthorizationServer`](crate::AuthorizationServer) has the settings).
//! - 8 s for the token endpoint, and 25 s for a caller to wait.
//! - After a failure a retry follows after 5 s, then 20 s, then 60 s, or after the time in
//!   `Retry-After`, up to an hour.
//! - Refusals by the authorization server, whatever their codes, for an hour, at least each ten
//!   minutes, while it accepts other grants, or for three days, at least each day: the user is sent
//!   to connect, and the grant is tried each hour. Pages (HTML), 429, timeouts, and 5xx without a
//!   code of an ended grant are no refusals.
//! - A token that the upstream refuses is replaced once in 30 s, and a second time if the upstream
//!   had accepted it before.
//! - A refresh token that was sent without a response is sent again once, at least 30 s later
//!   and not before the current access token has ended. Without a response to that either, it is
//!   never sent again, and the user is sent to connect.
//!
//! # Cancellation
//! Callers wait for an owned task, which no caller can cancel.
//!
//! # Refusals
//! [`CredentialError`](tower_token_broker::exchange::CredentialError): connect required (also for
//! an account name that is not one), scope required, unavailable, revoked, refused by policy (a
//! token with more scopes than requested).
//!
//! # Scopes
//! A refresh requests the operator's scopes, and those that the rule of this call needs and the
//! user agreed to. It never requests what the client wants. A narrower token is recorded as such. A
//! wider token is not used, and the grant is kept, unless the operator tolerates it. A server that
//! responds with `invalid_scope` receives the refresh again, without `scope`; if its token then
//! names no scopes, it counts as one with all that the user agreed to. If the token can be used,
//! the grant is refreshed without `scope` for an hour.
//!
//! # Responses
//! A refresh token in a response is stored first, whatever the rest states; an error next to it has
//! the same effect as without it. An error code counts at any status but those of proxies (407,
//! 408, 421, 425, 431), 429 and 5xx: `invalid_grant`, and the codes of known providers and of
//! [`grant_ended_codes`](crate::AuthorizationServer::grant_ended_codes), end the grant;
//! `login_required` and the like send the user to connect, and keep it. An `error_description` is
//! never judged.
//!
//! # Sources
//! RFC 6749 §5, §6; RFC 8707 §2.2; RFC 9700 §4.14 (rotation).

mod attempt;
mod cache;
mod hint;
mod provider;
mod refresh;
mod sightings;

#[cfg(test)]
mod tests;

pub use provider::StoredGrants;
