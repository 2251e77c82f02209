//! Connects users' own accounts at servers: from the page with one button to a grant, and back.
//!
//! A [`Connector`] serves the pages of the authority
//! ([`Connections`](token_broker_store::connect::Connections)), and
//! [`StoredGrants::connected`](crate::StoredGrants::connected) uses the grants. What an operator
//! does not set is discovered: the server names its authorization server (RFC 9728), which names
//! its endpoints (RFC 8414). The broker is a client there by its metadata document, by dynamic
//! registration (RFC 7591), or as the operator registered it.
//!
//! # Order
//! [`begin`](token_broker_store::connect::Connections::begin) decides everything: authorization
//! server, client, scopes, `resource`, and the PKCE verifier. It stores the connect, and returns
//! the URL for the browser. When the browser comes back,
//! [`finish`](token_broker_store::connect::Connections::finish) claims the connect by its `state`,
//! once and in the same browser session, compares `iss`, and only then sends the code.
//!
//! # Reads, writes
//! Connects, grants, registered clients and pending revocations in the
//! [`ConnectStore`](token_broker_store::connect::ConnectStore). The refresh token in a response is
//! durable before anything else of it is judged.
//!
//! # Limits
//! - 10 minutes for the user to come back, 20 connects in 10 minutes for a user and server.
//! - 8 s for each request to the server and its authorization server, 256 KiB for a document.
//! - What was discovered is used for 10 minutes, and a failure repeated for 15 s.
//! - Tokens of a disconnected account are revoked at their authorization server: at once, then
//!   after 30 s, 2 min, 10 min, 1 h and each 6 h, for 7 days.
//!
//! # Cancellation
//! A code is redeemed in an owned task, which no caller can cancel.
//!
//! # Refusals
//! [`ConnectError`](token_broker_store::connect::ConnectError)
//!
//! # Scopes
//! A connect requests the operator's scopes, and those of rules for which the user came by a link
//! or that the user gave before. If more are granted, nothing is connected, and the tokens are
//! revoked, unless that could end another connection of the account. If fewer are, the account is
//! connected, and the page names the others.
//!
//! # Sources
//! RFC 6749 §4.1, RFC 7636, RFC 8414, RFC 8707, RFC 9207, RFC 9700, RFC 9728; OAuth Client ID
//! Metadata Document; MCP 2025-11-25 and 2026-07-28, "Authorization".

mod begin;
mod callback;
mod clients;
mod connector;
mod content;
mod discovery;
mod end;
mod finish;
mod give_back;
mod listing;
mod quotas;
mod random;
mod refreshed;
mod revocations;
mod server;
mod uses;

pub use connector::Connector;
pub(crate) use refreshed::Refreshed;
pub use server::{ConnectServer, ReservedParameter, ResourceParameter};
