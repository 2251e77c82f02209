//! Percent-encoding (RFC 3986 §2.1).

use std::borrow::Cow;

/// Decodes a text; a percent sign that begins no escape is kept.
pub(crate) fn decode(text: &str) -> Cow<'_, [u8]> {
    if !text.contains('%') {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut parts = text.split('%');
    let mut octets = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let behind = match escaped(part) {
            Some(octet) => {
                octets.push(octet);
                part.as_bytes().get(2..).unwrap_or_default()
            }
            None => {
                octets.push(b'%');
                part.as_bytes()
            }
        };
        octets.extend_from_slice(behind);
    }
    Cow::Owned(octets)
}

/// Returns the octet of each percent sign and its digits; `None` if it begins no escape.
pub(crate) fn escapes(text: &str) -> impl Iterator<Item = Option<u8>> {
    text.split('%').skip(1).map(escaped)
}

/// Returns whether an octet means the same with and without an escape (RFC 3986 §2.3), so that
/// there is no reason to escape it (§6.2.2.2).
pub(crate) const fn is_unreserved(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~')
}

/// Decodes the digits after a percent sign.
fn escaped(behind: &str) -> Option<u8> {
    match behind.as_bytes() {
        [high, low, ..] => Some(hex_digit(*high)? << 4 | hex_digit(*low)?),
        _ => None,
    }
}

const fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_and_all_else_is_kept() {
        for (text, octets) in [
            ("", &b""[..]),
            ("plain", b"plain"),
            ("%61dmin", b"admin"),
            ("a%2fB%2Fc", b"a/B/c"),
            ("%c3%A9", b"\xc3\xa9"),
            ("%", b"%"),
            ("%6", b"%6"),
            ("%zz%+1%%41é", "%zz%+1%Aé".as_bytes()),
        ] {
            assert_eq!(*decode(text), *octets, "{text}");
        }
        assert_eq!(escapes("a%41b%zz%").collect::<Vec<_>>(), [Some(b'A'), None, None]);
    }
}
