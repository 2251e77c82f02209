//! The position of a record in its chain.

use std::{fmt, str::FromStr};

use crate::hex::{self, Hex};

/// Sequence number and hash of a record. Noted elsewhere, it shows later whether the file up to
/// that record is unchanged. Written as `SEQ:HASH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::exhaustive_structs, reason = "these two identify a place in a chain")]
pub struct Head {
    /// The sequence number of the record.
    pub sequence: u64,
    /// The hash of the record.
    pub hash: [u8; 32],
}

/// A text that is not a [`Head`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a head is a record's number, a colon, and 64 lower-case hexadecimal digits")]
#[expect(clippy::exhaustive_structs, reason = "there is one way to be wrong")]
pub struct HeadError;

impl FromStr for Head {
    type Err = HeadError;

    fn from_str(text: &str) -> Result<Self, HeadError> {
        let (sequence, hash) = text.split_once(':').ok_or(HeadError)?;
        if sequence.is_empty() || !sequence.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(HeadError);
        }
        let sequence = sequence.parse().map_err(|_| HeadError)?;
        Ok(Self { sequence, hash: hex::decode(hash.as_bytes()).ok_or(HeadError)? })
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sequence, Hex(&self.hash))
    }
}

/// Returns the sequence number of the record after this one.
pub(in crate::audit) fn sequence_after(last: Option<Head>) -> u64 {
    last.map_or(0, |last| last.sequence.saturating_add(1))
}

/// Returns the previous hash of the record after this one.
pub(in crate::audit) fn hash_before(last: Option<Head>) -> [u8; 32] {
    last.map_or([0; 32], |last| last.hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_has_one_written_form() {
        let head = Head { sequence: 7, hash: [0xab; 32] };
        assert_eq!(head.to_string().parse(), Ok(head));
        let hash = "ab".repeat(32);
        for text in [
            hash.clone(),
            format!(":{hash}"),
            format!("+7:{hash}"),
            format!("7:{}", hash.to_uppercase()),
            format!("7:{hash}0"),
            format!("18446744073709551616:{hash}"),
            "7:".to_owned(),
        ] {
            assert_eq!(text.parse::<Head>(), Err(HeadError), "{text}");
        }
    }
}
