//! Records every use of a credential, and lets no credential be used without a record.
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
//! // In the place of the service: what the exchange layer does.
//! let service = AuditLayer::new(&broker, &config).layer(service_fn(async |request: Request<String>| {
//!     let trail = request.extensions().get::<Trail>().ok_or("the audit layer puts it there")?;
//!     let scopes = Scopes::none();
//!     let intent = Intent::new("crm", "https://crm.example.com:443", &scopes, None);
//!     let status = match trail.intent(intent).await {
//!         Ok(_receipt) => 200, // the record is durable: now, and not before, the credential may be sent
//!         Err(_unavailable) => 503,
//!     };
//!     Response::builder().status(status).body(String::from("hello")).map_err(|_| "a response")
//! }));
//! let request = || Request::get("/crm/mcp").body(String::new());
//! let recorded = service.clone().oneshot(request()?).await?;
//! assert_eq!(recorded.status(), 200);
//! drop(recorded); // the end of the answer is the end of the request
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
//! Outermost, so that refusals of all layers are seen; [`BrokerStack`](crate::stack::BrokerStack)
//! places it. The layers further in refuse with 500 where they find no [`Trail`]. The one
//! [`AuditLog`] of a process belongs to its [`Broker`](crate::Broker).
//!
//! # Reads, writes
//! Puts a [`Trail`] and a [`RequestId`](crate::request_id::RequestId) into the extensions, and
//! removes any that were there; reads the peer's address from them if it stands there as a
//! [`SocketAddr`](std::net::SocketAddr) (whoever accepts the connection puts it there, as the
//! example `hyper_proxy` does) or, with feature `axum`, as axum's `ConnectInfo`; and an
//! [`OuterRequestId`](crate::request_id::OuterRequestId), or the field `x-request-id` where it is
//! [trusted](crate::stack::BrokerStack::trust_request_id_header). A request for another path than
//! the resource's is refused with 404 before anything else looks at it (`req.path_not_served`): MCP
//! is served at exactly one path, HTTP below it by whole segments, gRPC anywhere; axum's original
//! URI counts, if known. Adds `x-request-id` to the answer. Request and answer are otherwise
//! untouched; the service's error is passed on as it is.
//!
//! Each request has one terminal record, written when the answer's body ends, fails or is dropped,
//! or when the future is dropped before there is an answer. Its place in the queue is kept before
//! the service is called, so nothing can prevent it. A clone of the trail that somebody keeps
//! delays nothing. Each use of a credential has an intent before it, and whoever uses one waits
//! until that is durable; all that wait at one time share one write. What the records hold:
//! `docs/audit-schema.md`; how a file is verified: [`verify`].
//!
//! A sink that fails, panics or does not answer in time closes the door: requests are refused at
//! once, counted, and written as counts later. The group that failed is kept and comes again, after
//! 100 ms at first and each second in the end, until it is written; a write that hangs is awaited,
//! not repeated. Then the door opens by itself.
//!
//! # Limits
//! A wait for durability ≤ 1.5 s; records that wait or are owed ≤ 65 536, so that many requests may
//! be open at most ([`AuditOptions`]). A group ≤ 4096 records, a text from outside ≤ [`MAX_TEXT`]
//! bytes.
//!
//! # Cancellation
//! Dropped at any await, the request has its terminal record (`dropped`), and an intent that was on
//! its way may stand in the log.
//!
//! # Refusals
//! [`Reason::AuditUnavailable`](crate::refusal::Reason::AuditUnavailable) (503) while the door is
//! closed or the queue is full.
//!
//! # Sources
//! FIPS 180-4 (SHA-256), RFC 8259 (JSON), RFC 3339 (times).

mod body;
mod chain;
mod future;
#[cfg(feature = "grpc")]
mod grpc;
mod json_lines;
mod layer;
mod line;
mod log;
#[cfg(any(test, feature = "test-util"))]
mod memory;
mod mount;
mod open;
mod queue;
mod record;
mod service;
mod sink;
mod trail;
pub mod verify;
mod waiting;
mod writer;

pub use body::TrailBody;
pub use future::ResponseFuture;
#[cfg(feature = "grpc")]
pub(crate) use grpc::Counts;
pub use json_lines::{AuditFileError, JsonLines};
pub use layer::AuditLayer;
pub(crate) use layer::Config;
pub use log::{AuditError, AuditLog, AuditOptions};
#[cfg(any(test, feature = "test-util"))]
pub use memory::InMemory;
pub(crate) use mount::MountPath;
pub use mount::{MountPathError, MountedAt};
pub use record::{
    Intent, MAX_TEXT, Operation, Outcome, Record, Records, RefreshOutcome, SCHEMA_VERSION,
};
pub use service::Audit;
pub use sink::{AuditSink, Both, BoxAuditSink, Resumed, SinkError, Tracing};
pub use trail::{Receipt, RefreshReceipt, Terminal, Trail};

#[cfg(test)]
mod schema_tests;
#[cfg(test)]
mod tests;
