//! gRPC as it is on the wire: frames, a strict reading of protobuf, the two services that carry
//! MCP, and rich statuses.
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
//! # // What audit and authenticate, which stand outside, put into the extensions.
//! # let (log, _records) = AuditLog::in_memory();
//! # let (trail, _terminal) = Trail::for_test(&log);
//! # let (issued_at, expires_at) = (Timestamp::from_unix_seconds(0), Timestamp::from_unix_seconds(600));
//! # let resource = Resource::parse("https://broker.example.com/").unwrap();
//! # let alice = User::new("https://broker.example.com", "alice");
//! # let verified = Verified::vouch(alice, "grpcurl", resource, TokenTimes { id: "t1", issued_at, expires_at });
//! # let call = |path: &str| {
//! #     let mut request = Request::post(path).header("content-type", "application/grpc").body(Full::from(vec![0; 5])).unwrap();
//! #     request.extensions_mut().insert(Principal::for_test(&verified));
//! #     request.extensions_mut().insert(trail.clone());
//! #     request
//! # };
//! let server = service_fn(async |_: Request<RequestBody<Full<Bytes>>>| {
//!     Response::builder().header("content-type", "application/grpc").header("grpc-status", "0").body(Full::<Bytes>::default())
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
//! assert_eq!((refused.status().as_u16(), refused.headers()["grpc-status"].as_bytes()), (200, &b"7"[..]));
//! # }
//! ```
//!
//! A whole stack speaks it after
//! [`protocol(Protocol::Grpc(..))`](crate::stack::BrokerStack::protocol); mount it with tonic's
//! `Server::builder().layer`, or on one service of several with its `named_layer`. What a path
//! means, and what is judged of it:
//!
//! | path | judged by |
//! |---|---|
//! | `/token_broker.mcp.v1.Mcp/{Call,Stream,Notify}` | the one JSON-RPC message in the frame, by the same reading and the same policy as over HTTP |
//! | `/model_context_protocol.Mcp/*` | the typed request of Google's published mapping (8 unary methods), as the same call |
//! | `/package.Service/Method` | its name, by a rule [`scope_filter::grpc`](crate::scope_filter::grpc()); reflection and health, too, pass only if a rule names them |
//! | anything else: a query, an escape, a slash too many | nobody; `UNIMPLEMENTED` |
//!
//! # MCP in frames
//! `token_broker.mcp.v1.Frame` has one field, `bytes json = 1`: exactly one JSON-RPC message, never
//! a batch, unchanged. `Call` and `Stream` take requests, `Notify` takes notifications and, in
//! 2025-11-25, the client's answers. The metadata `mcp-method`, `mcp-protocol-version` and, where a
//! tool, a prompt or a resource is named, `mcp-name` are required in both revisions, have the
//! values of the header fields of MCP 2026-07-28, and are compared with the message: the message
//! decides, a mismatch is `INVALID_ARGUMENT` with `mcp-error-code: -32020`. A JSON-RPC error *of
//! the server* is a frame; a refusal *of ours* is a status. Cancelling the RPC cancels the request.
//!
//! # MCP in types
//! Google's mapping is younger and weaker than the message it maps: it has no cursor, no stream, no
//! notice and no session, and numbers in arguments are doubles. What it leaves open is refused
//! here: a field that stands twice and may stand once, a field that is not known, a doubled name in
//! a map, two members of a choice, a value of no kind, a number that is not finite. The arguments
//! that a policy sees are JSON: integers within ±2^53 without a fraction, other numbers in their
//! shortest form. What is sent on are the very bytes that were judged. Its routing metadata
//! `mcp_tool`, `mcp_prompt`, `mcp_resource` is optional; where it stands, it stands once and says
//! what the message says.
//!
//! # Any other service
//! Streams both ways untouched, but frame by frame: a message over the limit, or more messages than
//! the limit, end it. Where one call of a unary method is refused by the upstream for its
//! credential, it is not replayed: only what was judged as a message is.
//!
//! # Compression
//! `gzip` and `identity`. A judged message is decoded within the limit and goes on uncompressed; of
//! other services it goes on as it came. The upstream is asked for `identity`: what is compressed
//! can be neither guarded nor filtered, so an answer that is compressed all the same is refused.
//!
//! # Limits
//! A message of a request ≤ 1 MiB, of an answer ≤ 16 MiB ([`Limits`](crate::limits::Limits)), by
//! what its head says before any of it is waited for; a judged message ≤ 30 s; a million messages
//! each way ([`GrpcOptions`](crate::limits::GrpcOptions)). The client's deadline (`grpc-timeout`)
//! bounds the wait for its message and for the head of the answer, and goes on to the upstream,
//! less the time that has passed.
//!
//! # Statuses
//! | status | said for |
//! |---|---|
//! | 16 `UNAUTHENTICATED` | no token, a bad one, one in a form that can't be read; a stream whose token was revoked or has ended |
//! | 7 `PERMISSION_DENIED` | a tool, resource or prompt that is denied or does not exist; a gRPC method that no rule allows; a scope that is missing |
//! | 12 `UNIMPLEMENTED` | a method of MCP that no rule names; a path that is no service and method; a media type or a coding that is not known |
//! | 3 `INVALID_ARGUMENT` | a message that can't be read, is not one, or disagrees with its metadata |
//! | 8 `RESOURCE_EXHAUSTED` | over a limit |
//! | 9 `FAILED_PRECONDITION` | the user must connect an account; the upstream refused the credential |
//! | 4 `DEADLINE_EXCEEDED` | the client's deadline |
//! | 14 `UNAVAILABLE` | the upstream failed, or sent what can't be read; no audit, no store, no keys |
//! | 13 `INTERNAL` | our own fault |
//!
//! With `google.rpc` details: `ErrorInfo` (domain `token-broker`; as its reason the code that HTTP
//! says, in upper case; `request_id`, `scope`, `resource_metadata`), `Help` with the page where an
//! account is connected, `RetryInfo` for what passes by itself. The upstream's statuses are kept,
//! without their text where it is of its inside (2, 13, 14, 15); its 16 is about its own door and
//! becomes 9.
//!
//! # gRPC-Web
//! Is refused by name. To switch it on, put tonic-web's layer *outside* of the stack: it turns the
//! browser's request into gRPC before the stack sees it.
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

/// The service that carries MCP unchanged, in frames.
pub const FRAMED_MCP: &str = "token_broker.mcp.v1.Mcp";

/// The service of Google's typed mapping of MCP.
pub const TYPED_MCP: &str = "model_context_protocol.Mcp";
