//! Verifies an audit file offline: names the first wrong record and the reason, and distinguishes
//! the traces of a crash from a manipulation.
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
//! Each record up to [`Report::head`] is in the file once, in its place, as it was written. A
//! process that ended without `close` leaves a [`Gap`], which the `open` of the next process marks,
//! or a torn last line if there is no next process yet.
//!
//! # What it cannot show
//! The chain contains no secret. A process that can write the file can remove records from its end,
//! or rewrite it from any record on, and the chain still holds. A [`Head`] noted elsewhere shows
//! both: [`Verification::expect`]. And a chain contains nothing about requests that never reached
//! the broker.
//!
//! # Limits
//! One line is held at a time, of at most 1 MiB, and the first [`MAX_GAPS`] gaps.

mod folder;
mod folder_report;
mod noted_heads;
mod report;
mod settings;
mod walk;

pub use folder::FolderVerification;
pub use folder_report::{
    ChainReport, FolderReport, MAX_FAULTS, RemovedHead, RemovedSegments, SegmentFault, Verdict,
};
pub use report::{End, Fault, Gap, MAX_GAPS, Report, Wrong};
pub use walk::Verification;

pub use super::record::{Head, HeadError};

#[cfg(test)]
mod folder_tests;
#[cfg(test)]
mod noted_heads_tests;
#[cfg(test)]
mod tests;
