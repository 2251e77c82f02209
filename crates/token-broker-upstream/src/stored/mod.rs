//! Gives each user's own access token for one upstream, out of a stored grant that is refreshed when it is due.
//!
//! # Example
//! A grant that is fresh passes without a word to the authorization server; without a grant the user must connect.
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use std::time::Duration;
//! use token_broker_outbound::{Guard, GuardedClient};
//! use token_broker_store::{AccessToken, Account, Grant, GrantKey, GrantStore, MemoryGrants};
//! use token_broker_upstream::{AuthorizationServer, ClientAuthentication, StoredGrants};
//! use tower_token_broker::{
//!     Secret, audit::{AuditLog, Trail}, clock::{Clock, Timestamp},
//!     exchange::{CredentialError, ProvideCredential, Upstream},
//!     principal::{GrantId, User, Principal, Resource, Scopes, TokenTimes, Verified},
//! };
//!
//! let read = Scopes::parse("crm:read").unwrap();
//! let now = Clock::system().now();
//! let grants = MemoryGrants::new();
//! let ana = User::new("https://broker.example.com", "ana");
//! let key = GrantKey::new(ana.clone(), "crm", Account::default_account());
//! let expires_at = now.plus(Duration::from_secs(600));
//! let token = AccessToken::new(Secret::from_text("token".into()), read.clone(), now, expires_at);
//! let grant = Grant::new(GrantId::new("g1"), key, "https://login.crm.example");
//! grants.put(grant.granted(read.clone()).access_token(token)).await.unwrap();
//! let server = AuthorizationServer::new(
//!     "https://login.crm.example",
//!     "https://login.crm.example/token".parse().unwrap(),
//!     ClientAuthentication::public("broker"),
//! )
//! .scopes(read.clone());
//! let upstream = Upstream::parse("crm", "https://mcp.crm.example/mcp").unwrap();
//! let credentials = StoredGrants::new(grants, upstream, server, GuardedClient::new(&Guard::new()).unwrap());
//!
//! # let caller = |user: &User| Principal::for_test(&Verified::vouch(
//! #     user.clone(), "client", Resource::parse("https://broker.example.com/crm/mcp").unwrap(),
//! #     TokenTimes { id: "t", issued_at: now, expires_at: now.plus(Duration::from_secs(60)) }));
//! # let (trail, _) = Trail::for_test(&AuditLog::in_memory().0);
//! let given = credentials.credential(&caller(&ana), &Scopes::none(), &trail).await.unwrap();
//! assert_eq!(given.scopes(), &read);
//!
//! let bob = User::new("https://broker.example.com", "bob");
//! let refused = credentials.credential(&caller(&bob), &Scopes::none(), &trail).await.unwrap_err();
//! assert_eq!(refused, CredentialError::ConnectRequired { connect_url: None });
//! # });
//! ```
//!
//! # Order
//! The provider of the exchange layer.
//!
//! # Reads, writes
//! Reads and writes the [`GrantStore`](token_broker_store::GrantStore). Before a refresh token is sent: the lease, the intent in the audit and the mark
//! in the store are durable, in this order. Before anyone is given the new access token: the rotated refresh token is.
//!
//! # Limits
//! 100 000 credentials in memory, each re-read from the store after a minute; one refresh at a time per grant and 64 per
//! authorization server; 8 s for the token endpoint;
//! 25 s for a caller to wait. After a failed try 5 s, then 20 s, then 60 s, or what `Retry-After` says up to an hour. A
//! refresh token that was sent without an answer is sent once more, no earlier than 30 s later and not before the access
//! token at hand has ended; without an answer to that either, never again: the user connects anew.
//!
//! # Cancellation
//! Callers wait for an owned task, which no caller ends.
//!
//! # Refusals
//! [`CredentialError`](tower_token_broker::exchange::CredentialError): connect required, scope required, unavailable, revoked, refused by policy (a token that is wider than asked for).
//!
//! # Scopes
//! A refresh asks for the operator's scopes, and for those that the rule of this call needs, as far as the user agreed to them; never
//! for what the client wants. What the server gives less is recorded as such. What it gives more is not used (the grant
//! is kept), unless the operator tolerates it.
//!
//! # Sources
//! RFC 6749 §5, §6; RFC 8707 §2.2; RFC 9700 §4.14 (rotation).

mod cache;
mod provider;
mod refresh;

#[cfg(test)]
mod tests;

pub use provider::StoredGrants;
