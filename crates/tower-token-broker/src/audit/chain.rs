//! One line of the file, read strictly: what the chain says of it, and what its readers ask.

use std::{fmt, str::FromStr};

use super::record::chain_hash;
use crate::json::{JsonError, Limits, Reader, Value};

/// No record is as long: what is, is none.
pub(super) const LONGEST_LINE: u64 = 1024 * 1024;

/// What stands between a line's own bytes and its hash, and behind it.
const BEFORE_HASH: &[u8] = b",\"hash\":\"";
const BEHIND_HASH: &[u8] = b"\"}";
const HEX_DIGITS: usize = 64;
/// Of a time, with every digit as `0`.
const TIME_FORM: &str = "0000-00-00T00:00:00.000Z";

/// A record's number and hash: all that has to be noted elsewhere to know later that the file up to
/// there is still the same. Written as `SEQ:HASH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::exhaustive_structs, reason = "a place in a chain is these two")]
pub struct Head {
    /// The record's number.
    pub sequence: u64,
    /// The record's hash.
    pub hash: [u8; 32],
}

/// A text that is no [`Head`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a head is a record's number, a colon, and 64 lower-case hexadecimal digits")]
#[expect(clippy::exhaustive_structs, reason = "there is one way to be wrong")]
pub struct NotAHead;

impl FromStr for Head {
    type Err = NotAHead;

    fn from_str(text: &str) -> Result<Self, NotAHead> {
        let (sequence, hash) = text.split_once(':').ok_or(NotAHead)?;
        if sequence.is_empty() || !sequence.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NotAHead);
        }
        let sequence = sequence.parse().map_err(|_| NotAHead)?;
        Ok(Self { sequence, hash: hash_of(hash.as_bytes()).ok_or(NotAHead)? })
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.sequence)?;
        self.hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why a line is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    NotJson(JsonError),
    NotARecord,
}

impl From<JsonError> for Unreadable {
    fn from(error: JsonError) -> Self {
        Self::NotJson(error)
    }
}

/// A line that has the form of a record. Whether it is one, its hash says.
pub(super) struct Link<'a> {
    line: &'a [u8],
    pub(super) sequence: u64,
    pub(super) previous: [u8; 32],
    pub(super) hash: [u8; 32],
    pub(super) kind: Box<str>,
    pub(super) time: Box<str>,
    pub(super) chain: Option<Box<str>>,
    pub(super) request: Option<Box<str>>,
    pub(super) outcome: Option<Box<str>>,
    pub(super) refresh: Option<u64>,
    pub(super) count: Option<u64>,
    pub(super) dropped_bytes: Option<u64>,
    pub(super) is_late: bool,
}

impl<'a> Link<'a> {
    pub(super) fn read(line: &'a [u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader::new(line, &Limits::default())?;
        let (mut sequence, mut previous, mut kind, mut time) = (None, None, None, None);
        let (mut chain, mut request, mut outcome) = (None, None, None);
        let (mut refresh, mut count, mut dropped_bytes, mut is_late) = (None, None, None, false);
        let is_object = reader.kind()? == crate::json::Kind::Object;
        if is_object {
            reader.object::<JsonError, _>(|reader, name| {
                let value = Value::known(reader.skip()?);
                match name.as_ref() {
                    "seq" => sequence = value.as_u64(),
                    "prev" => previous = text(value).and_then(|hex| hash_of(hex.as_bytes())),
                    "kind" => kind = text(value),
                    "time" => time = text(value).filter(|time| is_time(time)),
                    "chain" => chain = text(value).filter(|chain| is_hex(chain.as_bytes())),
                    "request" => request = text(value),
                    "outcome" => outcome = text(value),
                    "refresh" => refresh = value.as_u64(),
                    "count" => count = value.as_u64(),
                    "dropped_bytes" => dropped_bytes = value.as_u64(),
                    "late" => is_late = value.as_bool().unwrap_or(false),
                    _ => {}
                }
                Ok(())
            })?;
        } else {
            reader.skip()?;
        }
        reader.end()?;
        // The hash stands outside of what is hashed: its place and form are fixed, or there would
        // be bytes that nothing holds.
        let hash =
            line.strip_suffix(BEHIND_HASH).and_then(|rest| rest.split_last_chunk::<HEX_DIGITS>());
        let hash = hash
            .filter(|(head, _)| head.ends_with(BEFORE_HASH))
            .and_then(|(_, digits)| hash_of(digits));
        match (sequence, previous, hash, kind, time) {
            (Some(sequence), Some(previous), Some(hash), Some(kind), Some(time)) => Ok(Self {
                line,
                sequence,
                previous,
                hash,
                kind,
                time,
                chain,
                request,
                outcome,
                refresh,
                count,
                dropped_bytes,
                is_late,
            }),
            _ => Err(Unreadable::NotARecord),
        }
    }

    /// Its place in the chain, if it has one.
    pub(super) const fn head(&self) -> Head {
        Head { sequence: self.sequence, hash: self.hash }
    }

    /// Whether its hash is that of its bytes.
    pub(super) fn is_whole(&self) -> bool {
        let behind = BEFORE_HASH.len() + HEX_DIGITS + BEHIND_HASH.len();
        let hashed = self.line.len().checked_sub(behind).and_then(|end| self.line.get(..end));
        hashed.is_some_and(|hashed| chain_hash(&self.previous, hashed) == self.hash)
    }

    /// P291: whether it is the record behind this one, and nothing of it was changed.
    pub(super) fn follows(&self, last: Option<Head>) -> bool {
        self.sequence == next_behind(last) && self.previous == hash_before(last) && self.is_whole()
    }
}

/// The number of the record behind this one.
pub(super) fn next_behind(last: Option<Head>) -> u64 {
    last.map_or(0, |last| last.sequence.saturating_add(1))
}

/// The previous hash of the record behind this one.
pub(super) fn hash_before(last: Option<Head>) -> [u8; 32] {
    last.map_or([0; 32], |last| last.hash)
}

fn text(value: Value<'_>) -> Option<Box<str>> {
    value.as_str().map(Box::from)
}

/// A hash in its one form: 64 digits, none in upper case.
fn hash_of(digits: &[u8]) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if digits.len() != HEX_DIGITS || !is_hex(digits) {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair.iter().try_fold(0, |byte, digit| Some(byte << 4 | nibble(*digit)?))?;
    }
    Some(hash)
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

fn is_hex(digits: &[u8]) -> bool {
    digits.iter().all(|digit| nibble(*digit).is_some())
}

fn is_time(text: &str) -> bool {
    let form = |byte: u8| if byte.is_ascii_digit() { b'0' } else { byte };
    text.bytes().map(form).eq(TIME_FORM.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_is_written_and_in_no_other_form() {
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
            assert_eq!(text.parse::<Head>(), Err(NotAHead), "{text}");
        }
    }
}
