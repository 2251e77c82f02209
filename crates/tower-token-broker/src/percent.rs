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

/// The result of [`decode_text`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// There is no escape.
    Unchanged,
    /// The text without its escapes.
    Text(String),
    /// The octets are not UTF-8: in no encoding, overlong, or a surrogate.
    NoText,
}

/// Decodes each escape once, also the form `%uXXXX` that some servers read.
pub(crate) fn decode_text(text: &str) -> Decoded {
    let mut parts = text.split('%');
    let mut octets = parts.next().unwrap_or_default().as_bytes().to_vec();
    let mut is_changed = false;
    for part in parts {
        if let Some(octet) = escaped(part) {
            octets.push(octet);
            octets.extend(part.bytes().skip(2));
        } else if let Some(unit) = escaped_unit(part) {
            let Some(char) = char::from_u32(unit) else { return Decoded::NoText };
            octets.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            octets.extend(part.bytes().skip(5));
        } else {
            octets.push(b'%');
            octets.extend_from_slice(part.as_bytes());
            continue;
        }
        is_changed = true;
    }
    match is_changed {
        true => String::from_utf8(octets).map_or(Decoded::NoText, Decoded::Text),
        false => Decoded::Unchanged,
    }
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

/// Decodes the `u` and four digits after a percent sign.
fn escaped_unit(behind: &str) -> Option<u32> {
    match behind.as_bytes() {
        [b'u' | b'U', digits @ ..] => digits
            .get(..4)?
            .iter()
            .try_fold(0, |unit, digit| Some(unit << 4 | u32::from(hex_digit(*digit)?))),
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
        for (text, decoded) in [
            ("100%", Decoded::Unchanged),
            ("a%2fb%", Decoded::Text("a/b%".to_owned())),
            ("%u002F%U00e9", Decoded::Text("/é".to_owned())),
            ("%%32%65", Decoded::Text("%2e".to_owned())),
            ("%c0%ae", Decoded::NoText),
            ("%e0%80%af", Decoded::NoText),
            ("%ed%a0%80", Decoded::NoText),
            ("%ud800", Decoded::NoText),
            ("%ff", Decoded::NoText),
        ] {
            assert_eq!(decode_text(text), decoded, "{text}");
        }
        assert_eq!(escapes("a%41b%zz%").collect::<Vec<_>>(), [Some(b'A'), None, None]);
    }
}
