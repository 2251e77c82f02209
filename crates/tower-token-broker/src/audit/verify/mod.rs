//! Verifies an audit file offline: names the first wrong record and why, and tells what a crash
//! left from what was cut.
//!
//! # Example
//! ```
//! # #[cfg(feature = "test-util")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use tower_token_broker::audit::{
//!     AuditLog,
//!     verify::{End, Fault, Verification},
//! };
//!
//! # let (log, records) = AuditLog::in_memory();
//! # log.close(std::time::Duration::from_secs(20)).await?;
//! # let written = records.lines().iter().map(|line| format!("{line}\n")).collect::<String>();
//! // In production: a `BufReader` over the file.
//! let report = Verification::new().run(written.as_bytes())?;
//! assert_eq!((report.records, report.found), (2, Ok(End::Closed)));
//!
//! let edited = written.replace("\"kind\":\"close\"", "\"kind\":\"start\"");
//! let report = Verification::new().run(edited.as_bytes())?;
//! let wrong = report.found.unwrap_err();
//! assert_eq!((wrong.sequence, wrong.fault), (1, Fault::Edited));
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "test-util"))]
//! # fn main() {}
//! ```
//!
//! # What it shows
//! Each record up to [`Report::head`] stands in the file as it was written, once, in its place. A
//! process that ended without `close` has left a [`Gap`], which the `open` of the next one marks; a
//! last line without its end is what such a process leaves while none has come.
//!
//! # What it can't show
//! The chain has no secret in it. Whoever may write the file can take records off its end, or write
//! it anew from any record on, and the chain holds. A [`Head`] that was noted elsewhere shows both:
//! [`Verification::expect`]. And a chain says nothing of requests that never came to the broker.
//!
//! # Limits
//! A line at a time is held, of at most 1 MiB, and the first [`MAX_GAPS`] gaps.

mod report;
mod walk;

pub use super::chain::{Head, NotAHead};
pub use report::{End, Fault, Gap, MAX_GAPS, Report, Wrong};
pub use walk::Verification;

#[cfg(test)]
mod tests;
