//! Lower-case hexadecimal text.

use std::fmt;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Displays bytes as lower-case hexadecimal digits.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Appends two digits per byte.
pub(crate) fn push(text: &mut Vec<u8>, bytes: &[u8]) {
    text.extend(bytes.iter().copied().flat_map(digits));
}

/// Returns the two digits of a byte.
pub(crate) fn digits(byte: u8) -> [u8; 2] {
    let digit = |half: u8| DIGITS.get(usize::from(half)).copied().unwrap_or(b'-');
    [digit(byte >> 4), digit(byte & 15)]
}

/// Decodes exactly `N` bytes. Refuses upper-case digits and any other length, so that a value has
/// one text.
pub(crate) fn decode<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    if pairs.len() != N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = value_of(*high)? << 4 | value_of(*low)?;
    }
    Some(bytes)
}

const fn value_of(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decode_reverses_push_and_takes_no_other_form() {
        let mut text = Vec::new();
        push(&mut text, &[0, 0xab, 0xff]);
        assert_eq!(text, b"00abff");
        assert_eq!(Hex(&[0, 0xab, 0xff]).to_string(), "00abff");
        assert_eq!(decode::<3>(&text), Some([0, 0xab, 0xff]));
        for other in [&b"00abf"[..], b"00ABff", b"00abff00", b"00ab", b"00ab g", b""] {
            assert_eq!(decode::<3>(other), None, "{other:?}");
        }
    }
}
