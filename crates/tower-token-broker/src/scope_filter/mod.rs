//! Judges each request by a policy before it is forwarded, and filters lists in responses by the
//! same policy.
//!
//! # Example
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_token_broker::{
//!     Broker,
//!     body::RequestBody,
//!     scope_filter::{Rules, ScopeFilterLayer, tools},
//!     stack::StackConfig,
//! };
//! # use tower_token_broker::{
//! #     audit::{AuditLog, InMemory, Trail}, clock::Timestamp,
//! #     principal::{User, Principal, Resource, TokenTimes, Verified},
//! # };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! # // The extensions that the audit and authenticate layers insert.
//! # let (log, _records) = AuditLog::in_memory();
//! # let (trail, _terminal) = Trail::for_test(&log);
//! # let issued_at = Timestamp::from_unix_seconds(0);
//! # let expires_at = Timestamp::from_unix_seconds(600);
//! # let times = TokenTimes { id: "t1", issued_at, expires_at };
//! # let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
//! # let alice = User::new("https://broker.example.com", "alice");
//! # let verified = Verified::vouch(alice, "inspector", resource, times);
//! # let call = |tool: &str| {
//! #     let params = format!(r#"{{"name":"{tool}"}}"#);
//! #     let call =
//! #         format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
//! #     let request = Request::post("/mcp").header("content-type", "application/json");
//! #     let mut request = request.body(Full::from(call)).unwrap();
//! #     request.extensions_mut().insert(Principal::for_test(&verified));
//! #     request.extensions_mut().insert(trail.clone());
//! #     request
//! # };
//! let server = service_fn(async |_: Request<RequestBody<Full<Bytes>>>| {
//!     let done = Full::<Bytes>::from(r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#);
//!     Response::builder().header("content-type", "application/json").body(done)
//! });
//! # let broker = Broker::builder().audit(InMemory::new()).build().unwrap();
//! let config = StackConfig::new("https://broker.example.com/crm/mcp").unwrap();
//! let rules = Rules::new().allow(tools(["get_*"]));
//! let service = ScopeFilterLayer::new(&broker, &config, rules).layer(server);
//!
//! let passed = service.clone().oneshot(call("get_contact")).await.unwrap();
//! let body = passed.into_body().collect().await.unwrap().to_bytes();
//! assert_eq!(body, r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#);
//!
//! // The same bytes as for a tool that does not exist.
//! let refused = service.oneshot(call("delete_contact")).await.unwrap();
//! let body = refused.into_body().collect().await.unwrap().to_bytes();
//! assert!(body.starts_with(br#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602"#));
//! # }
//! ```
//!
//! # Order
//! Inside authenticate, outside exchange; [`BrokerStack`](crate::stack::BrokerStack) places it.
//!
//! # Reads, writes
//! Reads the [`Principal`](crate::principal::Principal) and the audit trail. Inserts a [`Judged`]
//! into the extensions and forwards exactly the bytes that were judged.
//!
//! In responses it removes what the policy denies whatever scopes and arguments the caller has:
//!
//! - Tools, prompts, resources and templates, recognized by the shape of the result. In an event
//!   stream every message is inspected. A JSON response to `tools/call`, `prompts/get`,
//!   `resources/read` or `completion/complete` is streamed, because no client reads it as a list.
//! - Notifications about hidden resources.
//! - A public `cacheScope`, which becomes `private`.
//!
//! Only what decides is read strictly: the members of a message, its lists with the names of their
//! entries, and what the client keeps. An entry with its name in two spellings is removed. An event
//! that cannot be judged becomes a comment; if it may have been the response to the request, the
//! client receives the error −32603 at once, at the end of the stream, or after 1 s without an
//! event, and the record has the reason. The response to a notification is its status, without a
//! body; so is an error page (4xx) that is no JSON-RPC message, with a body of ours.
//!
//! `Mcp-Session-Id` (up to 2025-11-25) and `requestState` (2026-07-28) are sealed in responses and
//! opened in requests, with the broker's sealing keys. Both are bound to the user and the resource;
//! a request state also to its method and name.
//!
//! The module `grpc` describes resources that speak gRPC ([`Protocol`](crate::limits::Protocol)). A
//! request to a plain HTTP resource is judged by its method and its whole path (axum's original
//! one, if known), and its body is streamed.
//!
//! # Limits
//! Messages ≤ 1 MiB and ≤ 30 s, 128 levels of JSON, ids ≤ 1 KiB. Inspected JSON responses and
//! single events ≤ 16 MiB. Whatever two parsers could read differently is refused: duplicate
//! members, known members in another case, lone surrogates, batches, content codings.
//!
//! # Replacing the policy
//! With a [`PolicyHandle`], a call in flight finishes under its decision. Each later event, list
//! entry and message is judged by the new policy. The GET stream and `subscriptions/listen` end
//! before their next event if they are no longer permitted.
//!
//! # Cancellation
//! Nothing was sent if the future is dropped before the request was judged.
//!
//! # Refusals
//! [`Reason`](crate::refusal::Reason)`::{NotJson, NotAMessage, DuplicateMember, CaseVariant,
//! TooDeep, Batch, MemberTooLarge, HeaderMismatch, NoVersion, UnsupportedVersion, BodyTooLarge,
//! BodyIncomplete, MediaType, ContentEncoding, HttpMethod, MethodDenied, ToolDenied,
//! ResourceDenied, PromptDenied, ArgumentsDenied, ResponseWithoutSession, RequestDenied, GrpcWeb,
//! NotAFrame, NotOneMessage, NotProtobuf, TooManyMessages, DeadlineExceeded, RpcPath, RpcDenied,
//! InsufficientScope, UnknownSession, RequestState, ResponseUnreadable, UpstreamFailed, Internal,
//! MissingLayer}`.
//!
//! # Sources
//! JSON-RPC 2.0; RFC 8259; MCP 2025-11-25 "Transports", "Tools", "Resources", "Prompts"; MCP
//! 2026-07-28 "Streamable HTTP"; RFC 6750 §3.1.

mod body;
mod events;
#[cfg(feature = "grpc")]
mod grpc;
mod judged;
mod layer;
mod policy;
mod request;
mod response;
mod service;

pub use body::FilterBody;
pub use judged::Judged;
pub use layer::ScopeFilterLayer;
#[cfg(feature = "grpc")]
pub use policy::grpc;
pub use policy::{
    And, Arguments, BoxPolicy, Call, Decision, Or, Policy, PolicyExt, PolicyHandle, PolicySummary,
    Rule, RuleError, Rules, Unless, http, methods, policy_fn, prompts, resources, tools, try_http,
};
pub use service::{Filtered, ResponseFuture, ScopeFilter};

pub use crate::mcp::Listed;

pub(crate) use judged::{Awaits, JudgedBody};

#[cfg(test)]
mod tests;
