//! The names of writers and of their segments.

use std::{fmt, str::FromStr, sync::Arc};

/// The name of a process that writes to an audit folder: the first part of the names of its
/// segments. 1 to 64 of `a-z`, `0-9`, `-` and `_`; the first one is a letter or a digit.
///
/// Two processes that run at one time need different names. A process that is restarted continues
/// its chain if it has the same name again: use a name that remains, such as that of a replica.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriterName(Arc<str>);

/// A text that is not a [`WriterName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} does not name a writer of audit records: use 1 to 64 lower-case letters, digits, `-` \
     and `_`, and begin with a letter or digit"
)]
#[non_exhaustive]
pub struct WriterNameError(Box<str>);

impl WriterName {
    /// Reads a name.
    ///
    /// # Errors
    /// The text has another form.
    pub fn parse(text: &str) -> Result<Self, WriterNameError> {
        let is_part = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if begins && text.len() <= 64 && text.bytes().all(is_part) {
            Ok(Self(text.into()))
        } else {
            Err(WriterNameError(text.chars().take(80).collect()))
        }
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for WriterName {
    type Err = WriterNameError;

    fn from_str(text: &str) -> Result<Self, WriterNameError> {
        Self::parse(text)
    }
}

impl fmt::Display for WriterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a segment: `WRITER.SEQ.jsonl`, with the sequence number of its first record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::audit) struct SegmentName {
    pub(in crate::audit) writer: WriterName,
    pub(in crate::audit) first: u64,
}

/// Digits of a sequence number, so that names sort in the order of the chain.
const DIGITS: usize = 20;

impl SegmentName {
    /// Reads the name of a file. Each segment has one name: other spellings are other files.
    pub(in crate::audit) fn parse(name: &str) -> Option<Self> {
        let (writer, digits) = name.strip_suffix(".jsonl")?.split_once('.')?;
        if digits.len() != DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Some(Self { writer: WriterName::parse(writer).ok()?, first: digits.parse().ok()? })
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:0DIGITS$}.jsonl", self.writer, self.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_has_one_name() {
        let name = "broker-1.00000000000000000042.jsonl";
        let read = SegmentName::parse(name).unwrap();
        assert_eq!((read.writer.as_str(), read.first), ("broker-1", 42));
        assert_eq!(read.to_string(), name);
        for other in [
            "broker-1.42.jsonl",
            "broker-1.000000000000000000042.jsonl",
            "broker-1.+0000000000000000042.jsonl",
            "broker-1.99999999999999999999.jsonl",
            "Broker-1.00000000000000000042.jsonl",
            "broker.1.00000000000000000042.jsonl",
            ".00000000000000000042.jsonl",
            "broker-1.00000000000000000042.jsonl.1",
            "broker-1.00000000000000000042.JSONL",
        ] {
            assert_eq!(SegmentName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_writer_name_is_no_path() {
        for name in ["a", "0", "pod-7_b", &"x".repeat(64)] {
            assert_eq!(WriterName::parse(name).unwrap().as_str(), name);
        }
        for name in ["", "-a", "_a", "..", "a.b", "a/b", "a\\b", "A", "a b", "ü", &"x".repeat(65)]
        {
            let error = WriterName::parse(name).unwrap_err().to_string();
            assert!(error.contains("lower-case letters"), "{error}");
        }
    }
}
