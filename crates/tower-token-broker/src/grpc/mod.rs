//! gRPC on the wire: frames, strict protobuf, the two services that carry MCP, and rich statuses.
//!
//! # Example
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_token_broker::{
//!     Broker,
//!     body::RequestBody,
//!     limits::{GrpcOptions, Protocol},
//!     scope_filter::{Rules, ScopeFilterLayer, grpc},
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
//! # let resource = Resource::parse("https://broker.example.com/").unwrap();
//! # let alice = User::new("https://broker.example.com", "alice");
//! # let verified = Verified::vouch(alice, "grpcurl", resource, times);
//! # let call = |path: &str| {
//! #     let request = Request::post(path).header("content-type", "application/grpc");
//! #     let mut request = request.body(Full::from(vec![0; 5])).unwrap();
//! #     request.extensions_mut().insert(Principal::for_test(&verified));
//! #     request.extensions_mut().insert(trail.clone());
//! #     request
//! # };
//! let server = service_fn(async |_: Request<RequestBody<Full<Bytes>>>| {
//!     Response::builder()
//!         .header("content-type", "application/grpc")
//!         .header("grpc-status", "0")
//!         .body(Full::<Bytes>::default())
//! });
//! let rules = Rules::new().allow(grpc("shop.v1.Orders", ["Get*", "Watch*"]));
//! # let broker = Broker::builder().audit(InMemory::new()).build().unwrap();
//! let mut config = StackConfig::new("https://broker.example.com/").unwrap();
//! config.protocol = Protocol::Grpc(GrpcOptions::default());
//! let service = ScopeFilterLayer::new(&broker, &config, rules).layer(server);
//!
//! let passed = service.clone().oneshot(call("/shop.v1.Orders/GetOrder")).await.unwrap();
//! assert_eq!(passed.headers()["grpc-status"], "0");
//!
//! // PERMISSION_DENIED, over HTTP 200.
//! let refused = service.oneshot(call("/shop.v1.Orders/DeleteOrder")).await.unwrap();
//! assert_eq!(refused.status(), 200);
//! assert_eq!(refused.headers()["grpc-status"], "7");
//! # }
//! ```
//!
//! A whole stack speaks gRPC after
//! [`protocol(Protocol::Grpc(..))`](crate::stack::BrokerStack::protocol). Mount it with tonic's
//! `Server::builder().layer`, or on one of several services with its `named_layer`. The path
//! determines what is judged:
//!
//! - `/token_broker.mcp.v1.Mcp/{Call,Stream,Notify}`: the JSON-RPC message in the frame is parsed
//!   and judged as over HTTP.
//! - `/model_context_protocol.Mcp/*`: the typed request of Google's published mapping (8 unary
//!   methods) is judged as the same MCP call.
//! - `/package.Service/Method`: the name is judged, by a rule
//!   [`scope_filter::grpc`](crate::scope_filter::grpc()). Reflection and health also need a rule.
//! - Any other path (with a query, an escape, an additional slash) is refused with `UNIMPLEMENTED`.
//!
//! # MCP in frames
//! `token_broker.mcp.v1.Frame` has one field, `bytes json = 1`: exactly one unchanged JSON-RPC
//! message, never a batch. `Call` and `Stream` take requests. `Notify` takes notifications and, in
//! 2025-11-25, the client's responses.
//!
//! Both revisions require the metadata `mcp-method` and `mcp-protocol-version`, and `mcp-name` if
//! the message names a tool, a prompt or a resource. The values are those of the headers of MCP
//! 2026-07-28 and are compared with the message. The message decides; a mismatch is
//! `INVALID_ARGUMENT` with `mcp-error-code: -32020`.
//!
//! A JSON-RPC error of the server is a frame. A refusal of the broker is a status. Cancelling the
//! RPC cancels the request.
//!
//! # MCP in types
//! Google's mapping has no cursor, no stream, no notification and no session, and numbers in
//! arguments are doubles. What it leaves undefined is refused here: a singular field that occurs
//! twice, an unknown field, a duplicate key in a map, two members of a choice, a value without a
//! kind, a number that is not finite.
//!
//! A policy sees the arguments as JSON: integers within ±2^53 without a fraction, other numbers in
//! their shortest form. The judged bytes are forwarded unchanged. The routing metadata `mcp_tool`,
//! `mcp_prompt` and `mcp_resource` is optional. Each occurs at most once and must match the
//! message.
//!
//! # Any other service
//! Messages are streamed in both directions, frame by frame. A message that exceeds the limit ends
//! the stream, as do too many messages. If the upstream refuses the credential of a unary call, the
//! call is not replayed; only a call that was judged as a message is.
//!
//! # Compression
//! `gzip` and `identity`. A judged message is decoded within the limit and forwarded uncompressed.
//! A message of another service is forwarded as it is. The request to the upstream accepts only
//! `identity`, because a compressed message can be neither guarded nor filtered. A compressed
//! response is refused.
//!
//! # Limits
//! A message of a request ≤ 1 MiB and of a response ≤ 16 MiB ([`Limits`](crate::limits::Limits)),
//! checked as soon as the frame header has arrived. A judged message ≤ 30 s. A million messages in
//! each direction ([`GrpcOptions`](crate::limits::GrpcOptions)). The client's deadline
//! (`grpc-timeout`) limits the wait for its message and for the response headers. The upstream
//! receives the remaining time.
//!
//! # Statuses
//! | status | used for |
//! |---|---|
//! | 16 `UNAUTHENTICATED` | no token, or an invalid one; a stream whose token ended |
//! | 7 `PERMISSION_DENIED` | a denied or unknown tool, resource or prompt |
//! | 7 `PERMISSION_DENIED` | a gRPC method that no rule allows; a missing scope |
//! | 12 `UNIMPLEMENTED` | an MCP method that no rule names; a path of another form |
//! | 12 `UNIMPLEMENTED` | an unknown media type or coding |
//! | 3 `INVALID_ARGUMENT` | a message that cannot be read or disagrees with its metadata |
//! | 8 `RESOURCE_EXHAUSTED` | an exceeded limit |
//! | 9 `FAILED_PRECONDITION` | the user must connect an account |
//! | 9 `FAILED_PRECONDITION` | the upstream refused the credential |
//! | 4 `DEADLINE_EXCEEDED` | the client's deadline |
//! | 14 `UNAVAILABLE` | the upstream failed, or its response cannot be read |
//! | 14 `UNAVAILABLE` | no audit, no store, no keys |
//! | 13 `INTERNAL` | a defect of the broker |
//!
//! A status has `google.rpc` details: `ErrorInfo` (domain `token-broker`; the reason is the HTTP
//! error code in upper case; `request_id`, `scope`, `resource_metadata`), `Help` with the page
//! where an account is connected, and `RetryInfo` for a temporary failure. The upstream's statuses
//! are kept, without the text of those that describe its internals (2, 13, 14, 15). Its 16 concerns
//! the broker's credential and becomes 9.
//!
//! # gRPC-Web
//! Refused with its own reason. To support it, put tonic-web's layer *outside* the stack. It
//! translates the browser's request into gRPC before the stack sees it.
//!
//! # Sources
//! gRPC over HTTP/2; protobuf, "Encoding"; `google/rpc/status.proto`, `error_details.proto`; MCP
//! 2026-07-28 "Custom Transports".

pub(crate) mod frame;
pub(crate) mod framed_mcp;
pub(crate) mod gzip;
pub(crate) mod metadata;
pub(crate) mod protobuf;
pub(crate) mod status;
pub(crate) mod typed_mcp;

pub use framed_mcp::FRAMED_MCP;
pub use typed_mcp::TYPED_MCP;
