//! The identifier of a request.

use std::{cell::RefCell, fmt};

use ::http::{HeaderMap, HeaderValue};

use crate::hex;

/// The ID of a request, in the audit, in our log lines and in the response header `x-request-id`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 16]);

impl RequestId {
    /// Creates an ID from 128 random bits.
    pub const fn from_bits(bits: [u8; 16]) -> Self {
        Self(bits)
    }

    pub(crate) const fn as_bits(&self) -> &[u8; 16] {
        &self.0
    }

    pub(crate) fn header_value(self) -> HeaderValue {
        let mut digits = [0; 32];
        for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(self.0) {
            *pair = hex::digits(byte);
        }
        // Hexadecimal digits are a valid header value.
        HeaderValue::from_bytes(&digits).unwrap_or(HeaderValue::from_static("-"))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::Hex(&self.0).fmt(f)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The ID that an outer service gave the request: a load balancer, a tracing middleware. Insert it
/// into the extensions of a request, outside of the stack. The record contains it in addition to
/// our own ID (`outer_request`).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct OuterRequestId(Box<str>);

impl OuterRequestId {
    /// Longest ID, in bytes.
    pub const MAX_BYTES: usize = 128;

    /// Parses an ID of 1 to [`OuterRequestId::MAX_BYTES`] visible ASCII characters; `None` for any
    /// other text.
    pub fn new(id: &str) -> Option<Self> {
        let is_id = !id.is_empty()
            && id.len() <= Self::MAX_BYTES
            && id.bytes().all(|byte| byte.is_ascii_graphic());
        is_id.then(|| Self(id.into()))
    }

    /// Reads the header `x-request-id`, if there is exactly one.
    pub(crate) fn from_header(headers: &HeaderMap) -> Option<Self> {
        let mut fields = headers.get_all("x-request-id").iter();
        let (Some(field), None) = (fields.next(), fields.next()) else { return None };
        Self::new(field.to_str().ok()?)
    }

    /// Returns the ID.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for OuterRequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns 128 random bits. They are generated in batches, because the cost of a call does not
/// depend on their number.
pub(crate) fn random_bits() -> [u8; 16] {
    const DRAWN: usize = 64;
    thread_local! {
        static LEFT: RefCell<Vec<[u8; 16]>> = const { RefCell::new(Vec::new()) };
    }
    LEFT.with_borrow_mut(|left| {
        if left.is_empty() {
            left.resize(DRAWN, [0; 16]);
            aws_lc_rs::rand::fill(left.as_flattened_mut())
                .expect("the system's random number generator does not fail once it is seeded");
        }
        left.pop().expect("the batch was just filled")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outer_id_is_short_and_visible() {
        assert_eq!(OuterRequestId::new("7f-a").unwrap().as_str(), "7f-a");
        for bad in ["", "a b", "a\n", "é", &"x".repeat(129)] {
            assert_eq!(OuterRequestId::new(bad), None, "{bad:?}");
        }
        let mut headers = HeaderMap::new();
        assert_eq!(OuterRequestId::from_header(&headers), None);
        headers.append("x-request-id", HeaderValue::from_static("one"));
        assert!(OuterRequestId::from_header(&headers).is_some());
        headers.append("x-request-id", HeaderValue::from_static("two"));
        assert_eq!(OuterRequestId::from_header(&headers), None, "which of the two?");
    }
}
