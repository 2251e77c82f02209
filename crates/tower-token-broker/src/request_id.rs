//! The identifier of a request.

use std::{cell::RefCell, fmt};

use ::http::HeaderValue;

/// The id of a request in the audit, in our log lines and in the header `x-request-id` of the answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 16]);

impl RequestId {
    /// From 128 random bits.
    #[must_use]
    pub const fn from_bits(bits: [u8; 16]) -> Self {
        Self(bits)
    }

    pub(crate) const fn as_bits(&self) -> &[u8; 16] {
        &self.0
    }

    pub(crate) fn header_value(self) -> HeaderValue {
        let mut digits = [0; 32];
        for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(self.0) {
            let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble };
            *pair = [digit(byte >> 4), digit(byte & 15)];
        }
        // Hexadecimal digits are a valid field value.
        HeaderValue::from_bytes(&digits).unwrap_or(HeaderValue::from_static("-"))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// 128 random bits: drawn for many at a time, for the price of a draw is that of its call.
pub(crate) fn random_bits() -> [u8; 16] {
    const DRAWN: usize = 64;
    thread_local! {
        static LEFT: RefCell<Vec<[u8; 16]>> = const { RefCell::new(Vec::new()) };
    }
    LEFT.with_borrow_mut(|left| {
        if left.is_empty() {
            left.resize(DRAWN, [0; 16]);
            aws_lc_rs::rand::fill(left.as_flattened_mut())
                .expect("the system's source of randomness does not fail once it is seeded");
        }
        left.pop().expect("some were drawn")
    })
}
