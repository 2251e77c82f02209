//! Reads records back: typed, in order, and only if the chain holds.
//!
//! For queries and exports, and for [`verify`](super::verify), which explains what is wrong with a
//! file where the reader only refuses it.
//!
//! # Example
//! ```
//! # #[cfg(feature = "test-util")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use tower_token_broker::audit::{AuditLog, Member, RecordKind, reader::RecordReader};
//!
//! # let (log, records) = AuditLog::in_memory();
//! # log.close(std::time::Duration::from_secs(20)).await?;
//! # let written = records.lines().iter().map(|line| format!("{line}\n")).collect::<String>();
//! // In production: a `BufReader` of the file.
//! let mut reader = RecordReader::new(written.as_bytes());
//! let mut kinds = Vec::new();
//! while let Some(record) = reader.read()? {
//!     kinds.extend(record.kind());
//!     assert!(record.text(Member::Chain).is_some() || record.kind() == Some(RecordKind::Close));
//! }
//! assert_eq!(kinds, [RecordKind::Start, RecordKind::Close]);
//!
//! let edited = written.replace("\"kind\":\"close\"", "\"kind\":\"start\"");
//! let mut reader = RecordReader::new(edited.as_bytes());
//! reader.read()?;
//! assert!(reader.read().is_err());
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "test-util"))]
//! # fn main() {}
//! ```
//!
//! # Limits
//! One line is held at a time, of at most 1 MiB.

mod lines;
mod record_reader;
mod stored_record;

pub(super) use lines::{Lines, MAX_LINE, Next};
pub use record_reader::{ReadError, RecordReader};
pub use stored_record::StoredRecord;
pub(super) use stored_record::Unreadable;

pub use super::record::{Head, HeadError};
