//! Decodes gzip within a limit.

use std::io::{self, Read as _};

use bytes::Bytes;
use flate2::bufread::GzDecoder;

/// The reason why a message cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GzipError {
    /// Not gzip, incomplete, or followed by other bytes.
    Unreadable,
    /// A decoded message that exceeds the limit.
    TooLong,
}

/// Decodes a complete message, and never more than `limit` bytes of it.
// L240: a small message may decode to a huge one.
pub(crate) fn decode(coded: &[u8], limit: usize) -> Result<Bytes, GzipError> {
    let mut decoder = GzDecoder::new(coded);
    let mut decoded = Vec::new();
    let one_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    match decoder.by_ref().take(one_more).read_to_end(&mut decoded) {
        Ok(_) if decoded.len() > limit => Err(GzipError::TooLong),
        // Other readers would append a second member to the message.
        Ok(_) if decoder.into_inner().is_empty() => Ok(decoded.into()),
        Ok(_) | Err(io::Error { .. }) => Err(GzipError::Unreadable),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn coded(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn l240_a_message_is_decoded_within_its_limit() {
        assert_eq!(decode(&coded(b"hello"), 5), Ok(Bytes::from_static(b"hello")));
        assert_eq!(decode(&coded(b"hello"), 4), Err(GzipError::TooLong));
        let bomb = coded(&vec![0; 1 << 24]);
        assert!(bomb.len() < 1 << 15);
        assert_eq!(decode(&bomb, 1 << 20), Err(GzipError::TooLong));
        for unreadable in
            [&b""[..], b"hello", &coded(b"hello")[..10], &[coded(b"a"), coded(b"b")].concat()]
        {
            assert_eq!(decode(unreadable, 100), Err(GzipError::Unreadable));
        }
    }
}
