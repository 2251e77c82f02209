//! The lines of a file, with a limit on their length.

use std::io::{self, BufRead, Read as _};

/// The result of reading one line.
pub(in crate::audit) enum Next {
    /// A line, without its line break.
    Line,
    /// A last line without a line break.
    Torn,
    /// A line over the limit.
    TooLong,
    /// The end of the file.
    End,
}

/// The limit on the length of a line, in bytes. No record is as long.
pub(in crate::audit) const MAX_LINE: u64 = 1024 * 1024;

/// Reads lines. The last one is in `line`.
#[derive(Debug)]
pub(in crate::audit) struct Lines<R> {
    file: R,
    pub(in crate::audit) line: Vec<u8>,
    /// The number of the line, from 1 on.
    pub(in crate::audit) number: u64,
    /// Bytes read so far.
    pub(in crate::audit) bytes: u64,
}

impl<R: BufRead> Lines<R> {
    pub(in crate::audit) const fn new(file: R) -> Self {
        Self { file, line: Vec::new(), number: 0, bytes: 0 }
    }

    pub(in crate::audit) fn next(&mut self) -> io::Result<Next> {
        self.line.clear();
        let mut limited = (&mut self.file).take(MAX_LINE);
        let length = limited.read_until(b'\n', &mut self.line)? as u64;
        self.bytes += length;
        if length == 0 {
            return Ok(Next::End);
        }
        self.number += 1;
        Ok(match self.line.last() {
            Some(b'\n') => {
                self.line.pop();
                Next::Line
            }
            _ if length == MAX_LINE => Next::TooLong,
            _ => Next::Torn,
        })
    }

    /// Returns whether the line ends in zeros and the rest of the file consists of them: blocks of
    /// a file that a power failure left without content. A line over the limit is then torn.
    pub(in crate::audit) fn rest_is_zeros(&mut self) -> io::Result<bool> {
        let is_zero = |byte: &u8| *byte == 0;
        let mut all = self.line.last().is_some_and(is_zero);
        while all {
            let buffered = self.file.fill_buf()?;
            let length = buffered.len();
            if length == 0 {
                return Ok(true);
            }
            all = buffered.iter().all(is_zero);
            self.file.consume(length);
            self.bytes += length as u64;
        }
        Ok(false)
    }
}
