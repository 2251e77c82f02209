//! Records every request and every use of a credential. No credential is used without a record.
//!
//! # Example
//! ```
//! # #[cfg(feature = "test-util")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use http::{Request, Response};
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_token_broker::{
//!     Broker,
//!     audit::{AuditLayer, InMemory, Intent, Trail},
//!     principal::Scopes,
//!     stack::StackConfig,
//! };
//!
//! // In production: `JsonLines::append("audit.jsonl")?`.
//! let records = InMemory::new();
//! let broker = Broker::builder().audit(records.clone()).build()?;
//! let config = StackConfig::new("https://broker.example.com/crm/mcp")?;
//! // An inner service that uses a credential, as the exchange layer does.
//! let layer = AuditLayer::new(&broker, &config);
//! let service = layer.layer(service_fn(async |request: Request<String>| {
//!     let trail = request.extensions().get::<Trail>().ok_or("no audit layer")?;
//!     let scopes = Scopes::none();
//!     let intent = Intent::new("crm", "https://crm.example.com:443", &scopes, None);
//!     let status = match trail.intent(intent).await {
//!         Ok(_receipt) => 200, // the record is durable: now the credential may be sent
//!         Err(_unavailable) => 503,
//!     };
//!     Response::builder().status(status).body(String::from("hello")).map_err(|_| "a response")
//! }));
//! let request = || Request::get("/crm/mcp").body(String::new());
//! let recorded = service.clone().oneshot(request()?).await?;
//! assert_eq!(recorded.status(), 200);
//! drop(recorded); // the end of the response is the end of the request
//!
//! broker.audit_log().flush().await?;
//! records.fail();
//! let not_recorded = service.oneshot(request()?).await?;
//! assert_eq!(not_recorded.status(), 503);
//! assert!(!broker.audit_log().is_open());
//!
//! let kinds: Vec<_> = records.records().iter().map(|record| record.kind()).collect();
//! assert_eq!(kinds, ["start", "intent", "result"]);
//! # records.work();
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "test-util"))]
//! # fn main() {}
//! ```
//!
//! # Order
//! Outermost, so that it records the refusals of all layers;
//! [`BrokerStack`](crate::stack::BrokerStack) places it. The inner layers respond with 500 where
//! they find no [`Trail`]. The [`AuditLog`] of a process belongs to its [`Broker`](crate::Broker).
//!
//! # Reads, writes
//! Inserts a [`Trail`] and a [`RequestId`](crate::request_id::RequestId) into the extensions, and
//! removes any that were there. Reads from the extensions: the address of the peer, as a
//! [`SocketAddr`](std::net::SocketAddr) (inserted by the code that accepts the connection, as in
//! the example `hyper_proxy`) or, with feature `axum`, as axum's `ConnectInfo`; and an
//! [`OuterRequestId`](crate::request_id::OuterRequestId), or the header `x-request-id` if it is
//! [trusted](crate::stack::BrokerStack::trust_request_id_header).
//!
//! A request for another path than the resource's is refused with 404 before any other check
//! (`req.path_not_served`). MCP is served at exactly one path, HTTP at the path and below it by
//! whole segments, gRPC at any path. If axum's original URI is known, its path counts. Adds
//! `x-request-id` to the response. Request and response are otherwise unchanged, and so is the
//! service's error.
//!
//! Each request has one terminal record, written when the response body ends, fails or is dropped,
//! or when the future is dropped before there is a response. The record of a refusal is written at
//! once, before its response is read. Its place in the queue is reserved
//! before the inner service is called, so nothing can prevent it. Each use of a credential has an
//! intent before it, and the caller waits until the intent is durable. All callers that wait at one
//! time share one write. `docs/audit-schema.md` lists the records and their members; [`reader`]
//! reads them back, [`verify`] verifies a file. What happens outside of requests is recorded by
//! [`AuditLog::note`] and [`AuditLog::job`].
//!
//! Anyone can send requests without a verified user, so their refusals do not fill the disk: in
//! each minute, 600 of one network (an IPv4 address, an IPv6 /64) and 6000 in all have a record
//! each. The others are counted, and a record for each reason has their number and the time of the
//! first one; it is written after at most some seconds, and at the end of the log. Requests that
//! are dropped before a user is verified are counted likewise. Requests with a verified user always
//! have a record each.
//!
//! A sink that fails, panics or does not finish in time closes the log: requests are refused at
//! once, counted, and recorded as counts later. A failed batch is retried, after 100 ms at first
//! and at most every second, until it is written. A write that hangs is awaited, not repeated. Then
//! the log opens again by itself.
//!
//! # Limits
//! A wait for durability ≤ 1.5 s. Records of requests that are queued or reserved ≤ 65 536, so at
//! most as many requests can be open: half of them without a verified user, half of them of users,
//! and a sixteenth of one user ([`AuditOptions`]). Three quarters of a user's places are for open
//! requests, the others for intents. While requests without a user have taken their half, only
//! those pass whose user is known at once, from a cached verdict. Jobs and token requests have a
//! sixteenth of their own, and so have revocations. A text from outside ≤ [`MAX_TEXT`] bytes; a
//! longer one is truncated, with the SHA-256 of the whole next to it.
//!
//! # Cancellation
//! A request dropped at any await has its terminal record (`dropped`). An intent that was being
//! written may be in the log.
//!
//! # Refusals
//! [`Reason::AuditUnavailable`](crate::refusal::Reason::AuditUnavailable) (503) while the log is
//! closed or there is no place; `UserQuota` (503) if the user has taken its places; `PathNotServed`
//! (404); `ShuttingDown` (503).
//!
//! # Sources
//! FIPS 180-4 (SHA-256), RFC 8259 (JSON), RFC 3339 (times).

mod body;
mod future;
#[cfg(feature = "grpc")]
mod grpc;
mod layer;
mod log;
mod mount;
pub mod reader;
mod record;
mod removal;
mod segment;
mod service;
mod sink;
mod trail;
pub mod verify;

pub use body::TrailBody;
pub use future::ResponseFuture;
#[cfg(feature = "grpc")]
pub(crate) use grpc::Counts;
pub use layer::AuditLayer;
pub use log::{AuditError, AuditLog, AuditOptions};
pub(crate) use mount::MountPath;
pub use mount::{MountPathError, MountedAt};
pub use record::{
    Connection, Consent, EndedFamily, FamilyEndCause, GrantType, Intent, IssuedCode, IssuedToken,
    MAX_TEXT, Member, Note, OpenWork, Operation, Outcome, PolicyDigest, PublishedKey, Record,
    RecordKind, Records, RegisteredClient, Reloaded, SCHEMA_VERSION, SignInFailure, SignOutExtent,
    TokenGrant, TokenOutcome, UpstreamRevocation, UpstreamRevocationOutcome,
};
pub use removal::{Removal, RemovalError};
pub use segment::{WriterName, WriterNameError};
pub use service::Audit;
pub(crate) use service::Config;
#[cfg(any(test, feature = "test-util"))]
pub use sink::InMemory;
pub use sink::{
    AuditFileError, AuditFolder, AuditSink, BoxAuditSink, JsonLines, Resumed, SegmentEnd,
    SegmentLimits, SegmentedChain, SinkError, TeeSink, TracingSink,
};
pub use trail::{Job, Receipt, Terminal, TokenReceipt, Trail};

#[cfg(test)]
mod file_tests;
#[cfg(test)]
mod flood_tests;
#[cfg(test)]
mod folder_tests;
#[cfg(test)]
mod places_tests;
#[cfg(test)]
mod removal_tests;
#[cfg(test)]
mod schema_tests;
#[cfg(test)]
mod segment_start_tests;
#[cfg(test)]
mod tests;
