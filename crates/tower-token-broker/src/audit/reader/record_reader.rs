//! Reads a file of records in order.

use std::io::{self, BufRead};

use super::{
    lines::{Lines, Next},
    stored_record::StoredRecord,
};
use crate::audit::record::Head;

/// Reads the records of a file in order. Each must follow from the one before it.
#[derive(Debug)]
pub struct RecordReader<R> {
    lines: Lines<R>,
    last: Option<Head>,
    /// The number of the first damaged line. Nothing after it is read.
    damaged: Option<u64>,
}

/// The reason why the next record cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be read.
    #[error("the audit file cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The line is not the record that follows: it was changed, or one before it is missing.
    /// [`Verification`](crate::audit::verify::Verification) explains what is wrong.
    #[error("line {line} of the audit file is not the record that follows; verify the file")]
    Damaged {
        /// The number of the line, from 1 on.
        line: u64,
    },
    /// The last line has no line break: it is being written, or its process or machine failed.
    #[error("line {line} of the audit file is incomplete")]
    Torn {
        /// The number of the line, from 1 on.
        line: u64,
    },
}

impl<R: BufRead> RecordReader<R> {
    /// Reads a chain from its first record.
    pub const fn new(file: R) -> Self {
        Self { lines: Lines::new(file), last: None, damaged: None }
    }

    /// Reads a chain from the record after `head`.
    pub const fn after(head: Head, file: R) -> Self {
        Self { lines: Lines::new(file), last: Some(head), damaged: None }
    }

    /// Reads the next record; `None` at the end of the file.
    ///
    /// # Errors
    /// See [`ReadError`]. After a damaged line, each call returns the same error: a record after
    /// it may follow from the last one that was read, if the line was inserted.
    pub fn read(&mut self) -> Result<Option<StoredRecord<'_>>, ReadError> {
        if let Some(line) = self.damaged {
            return Err(ReadError::Damaged { line });
        }
        let next = self.lines.next()?;
        let line = self.lines.number;
        match next {
            Next::End => return Ok(None),
            Next::Torn => return Err(ReadError::Torn { line }),
            // X17: zeros of any length are the end of a file after a power failure.
            Next::TooLong if self.lines.rest_is_zeros()? => return Err(ReadError::Torn { line }),
            Next::TooLong | Next::Line => {}
        }
        // Lifted by the record that follows.
        self.damaged = Some(line);
        if matches!(next, Next::TooLong) {
            return Err(ReadError::Damaged { line });
        }
        let record = StoredRecord::read(&self.lines.line).ok();
        let record = record.filter(|record| record.follows(self.last));
        let record = record.ok_or(ReadError::Damaged { line })?;
        (self.last, self.damaged) = (Some(record.head()), None);
        Ok(Some(record))
    }

    /// Returns sequence number and hash of the last record that was read.
    pub const fn head(&self) -> Option<Head> {
        self.last
    }

    /// Returns the bytes read so far.
    pub const fn bytes(&self) -> u64 {
        self.lines.bytes
    }
}
