//! Other readings of a text: without its line breaks, without escapes, decoded.

use super::alphabet::line_break;

/// Start and end of the bytes of the response from which one byte was read.
pub(super) type Span = (usize, usize);

/// The origin of the bytes of a reading.
#[derive(Clone, Copy)]
pub(super) enum Origin<'a> {
    /// They are those of the response, from this position.
    Text(usize),
    /// Each has its own origin.
    Each(&'a [Span]),
}

impl<'a> Origin<'a> {
    pub(super) fn span(self, start: usize, end: usize) -> Span {
        match self {
            Self::Text(base) => (base + start, base + end),
            Self::Each(spans) => {
                let first = spans.get(start).map_or(0, |span| span.0);
                let last = end.checked_sub(1).and_then(|last| spans.get(last));
                (first, last.map_or(first, |span| span.1))
            }
        }
    }

    pub(super) fn part(self, start: usize, end: usize) -> Self {
        match self {
            Self::Text(base) => Self::Text(base + start),
            Self::Each(spans) => Self::Each(spans.get(start..end).unwrap_or_default()),
        }
    }
}

/// Another reading of a part of the response.
pub(super) struct Reading {
    pub(super) bytes: Vec<u8>,
    spans: Vec<Span>,
}

impl Reading {
    fn with_capacity(length: usize) -> Self {
        Self { bytes: Vec::with_capacity(length), spans: Vec::with_capacity(length) }
    }

    pub(super) fn origin(&self) -> Origin<'_> {
        Origin::Each(&self.spans)
    }

    fn push(&mut self, byte: u8, span: Span) {
        self.bytes.push(byte);
        self.spans.push(span);
    }
}

/// Removes line breaks, with the `=` of quoted-printable before them, indentation after them and
/// the `data:` of an event stream; `None` if there is none.
pub(super) fn unfolded(text: &[u8], origin: Origin<'_>) -> Option<Reading> {
    memchr::memchr2(b'\n', b'\r', text)?;
    let mut reading = Reading::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match line_break(text.get(at..).unwrap_or_default()) {
            0 => {
                reading.push(*byte, origin.span(at, at + 1));
                at += 1;
            }
            length => {
                if reading.bytes.last() == Some(&b'=') {
                    reading.bytes.pop();
                    reading.spans.pop();
                }
                at += length;
            }
        }
    }
    Some(reading)
}

/// The escapes that one reading resolves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Escapes {
    /// `%41`, `\u0041`, `\x41`, `\/`, `\n`, `&#65;` and `&#x41;`.
    UrlJsonHtml,
    /// `=41`. Separate, because `=` also fills base64 up.
    QuotedPrintable,
}

/// Resolves escapes; `None` if there is none.
pub(super) fn unescaped(text: &[u8], origin: Origin<'_>, escapes: Escapes) -> Option<Reading> {
    let begins_escape = |text: &[u8]| match escapes {
        Escapes::UrlJsonHtml => memchr::memchr3(b'%', b'\\', b'&', text),
        Escapes::QuotedPrintable => memchr::memchr(b'=', text),
    };
    let escape = |at: usize| {
        let text = text.get(at..).unwrap_or_default();
        match escapes {
            Escapes::UrlJsonHtml => escape(text),
            Escapes::QuotedPrintable => hex_pair(text.strip_prefix(b"=")?).map(|byte| (byte, 3)),
        }
    };
    let mut first = begins_escape(text)?;
    while escape(first).is_none() {
        first += 1 + begins_escape(text.get(first + 1..)?)?;
    }
    let mut reading = Reading::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let (byte, length) = escape(at).filter(|_| at >= first).unwrap_or((*byte, 1));
        reading.push(byte, origin.span(at, at + length));
        at += length;
    }
    Some(reading)
}

/// Returns the byte and the length of the escape at the beginning of `text`.
fn escape(text: &[u8]) -> Option<(u8, usize)> {
    match text {
        [b'%', rest @ ..] => hex_pair(rest).map(|byte| (byte, 3)),
        [b'\\', b'u', b'0', b'0', rest @ ..] => hex_pair(rest).map(|byte| (byte, 6)),
        [b'\\', b'x', rest @ ..] => hex_pair(rest).map(|byte| (byte, 4)),
        [b'\\', b'n', ..] => Some((b'\n', 2)),
        [b'\\', b'r', ..] => Some((b'\r', 2)),
        [b'\\', b't', ..] => Some((b'\t', 2)),
        [b'\\', byte @ (b'/' | b'\\' | b'"' | b'\''), ..] => Some((*byte, 2)),
        [b'&', b'#', b'x' | b'X', rest @ ..] => entity(rest, 16).map(|(byte, n)| (byte, n + 3)),
        [b'&', b'#', rest @ ..] => entity(rest, 10).map(|(byte, n)| (byte, n + 2)),
        _ => None,
    }
}

fn hex_pair(text: &[u8]) -> Option<u8> {
    match text {
        [high, low, ..] => Some(hex_digit(*high)? << 4 | hex_digit(*low)?),
        _ => None,
    }
}

/// Reads a number and a semicolon; leading zeros may be many.
fn entity(text: &[u8], radix: u32) -> Option<(u8, usize)> {
    let digits = text.iter().take(8).take_while(|byte| byte.is_ascii_hexdigit()).count();
    if digits == 0 || text.get(digits) != Some(&b';') {
        return None;
    }
    let value = text.get(..digits)?.iter().try_fold(0_u32, |value, digit| {
        value.checked_mul(radix)?.checked_add(char::from(*digit).to_digit(radix)?)
    })?;
    Some((u8::try_from(value).ok()?, digits + 1))
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// A run of characters that encode bytes. Single bytes are decoded, so that a run that cannot
/// contain a secret is not decoded as a whole.
#[derive(Clone, Copy)]
pub(super) struct Coded<'a> {
    chars: &'a [u8],
    coding: Coding,
}

/// How characters encode bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// Base64, both alphabets.
    Base64,
    /// Hexadecimal, both cases.
    Hex,
}

impl Coding {
    /// Number of characters in a group. A run may begin within a group.
    pub(super) const fn group(self) -> usize {
        match self {
            Self::Base64 => 4,
            Self::Hex => 2,
        }
    }

    /// Number of bytes that a group encodes.
    const fn bytes(self) -> usize {
        match self {
            Self::Base64 => 3,
            Self::Hex => 1,
        }
    }

    /// The shortest secret that is searched for in this coding: a shorter form has less than eight
    /// characters and occurs by chance.
    pub(super) const fn shortest_secret(self) -> usize {
        match self {
            Self::Base64 => 6,
            Self::Hex => 4,
        }
    }

    /// Number of characters that encode so many bytes, at least.
    pub(super) const fn chars_for(self, bytes: usize) -> usize {
        (bytes * self.group()).div_ceil(self.bytes())
    }

    #[inline(always)]
    pub(super) fn has(self, char: u8) -> bool {
        self.value(char) != NO_VALUE
    }

    #[inline(always)]
    fn value(self, char: u8) -> u8 {
        let values = match self {
            Self::Base64 => &BASE64,
            Self::Hex => &HEX,
        };
        values.get(usize::from(char)).copied().unwrap_or(NO_VALUE)
    }
}

impl<'a> Coded<'a> {
    pub(super) const fn new(chars: &'a [u8], coding: Coding) -> Self {
        Self { chars, coding }
    }

    /// Returns the number of bytes that are encoded.
    pub(super) const fn len(&self) -> usize {
        self.chars.len() * self.coding.bytes() / self.coding.group()
    }

    /// Returns the first of the two characters that encode a byte.
    #[inline(always)]
    const fn first_char(&self, at: usize) -> usize {
        match self.coding {
            Coding::Base64 => at + at / 3,
            Coding::Hex => at * 2,
        }
    }

    #[inline(always)]
    pub(super) fn byte(&self, at: usize) -> u8 {
        let first = self.first_char(at);
        let value = |at: usize| self.chars.get(at).map_or(0, |char| self.coding.value(*char));
        let (high, low) = (value(first), value(first + 1));
        match (self.coding, at % 3) {
            (Coding::Hex, _) => high << 4 | low,
            (Coding::Base64, 0) => high << 2 | low >> 4,
            (Coding::Base64, 1) => high << 4 | low >> 2,
            (Coding::Base64, _) => high << 6 | low,
        }
    }

    /// Decodes a part.
    #[inline(always)]
    pub(super) fn part(&self, start: usize, end: usize, origin: Origin<'_>) -> Reading {
        let span = |at: usize| origin.span(self.first_char(at), self.first_char(at) + 2);
        Reading {
            bytes: (start..end).map(|at| self.byte(at)).collect(),
            spans: (start..end).map(span).collect(),
        }
    }
}

const NO_VALUE: u8 = u8::MAX;
const BASE64: [u8; 256] = values(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    &[(b'-', 62), (b'_', 63)],
);
const HEX: [u8; 256] = values(
    b"0123456789abcdef",
    &[(b'A', 10), (b'B', 11), (b'C', 12), (b'D', 13), (b'E', 14), (b'F', 15)],
);

#[expect(clippy::indexing_slicing, reason = "evaluated at compile time")]
const fn values(digits: &[u8], others: &[(u8, u8)]) -> [u8; 256] {
    let mut values = [NO_VALUE; 256];
    let mut value = 0_u8;
    while (value as usize) < digits.len() {
        values[digits[value as usize] as usize] = value;
        value += 1;
    }
    let mut other = 0;
    while other < others.len() {
        values[others[other].0 as usize] = others[other].1;
        other += 1;
    }
    values
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_are_resolved_with_their_origin() {
        for (text, read) in [
            ("a%42c", "aBc"),
            (r"\u0041\x42\/\n", "AB/\n"),
            ("&#65;&#x42;&#000067;", "ABC"),
            ("%%41", "%A"),
        ] {
            let reading = unescaped(text.as_bytes(), Origin::Text(0), Escapes::UrlJsonHtml);
            assert_eq!(reading.unwrap().bytes, read.as_bytes(), "{text}");
        }
        for text in ["", "100%", r"\u1234", "&amp;", "&#65", "&#300;", "%4", "a=41"] {
            let reading = unescaped(text.as_bytes(), Origin::Text(0), Escapes::UrlJsonHtml);
            assert!(reading.is_none(), "{text}");
        }
        let reading = unescaped(b"a=42c", Origin::Text(7), Escapes::QuotedPrintable).unwrap();
        assert_eq!((reading.bytes.as_slice(), reading.origin().span(1, 2)), (&b"aBc"[..], (8, 11)));
    }

    #[test]
    fn line_breaks_are_removed_with_their_origin() {
        let reading = unfolded(b"ab=\r\n  cd\ndata: ef", Origin::Text(1)).unwrap();
        assert_eq!(reading.bytes, b"abcdef");
        assert_eq!(reading.origin().span(1, 3), (2, 9));
        assert!(unfolded(b"ab", Origin::Text(0)).is_none());
    }

    proptest! {
        #[test]
        fn coded_bytes_are_decoded_at_each_position(
            bytes in prop::collection::vec(any::<u8>(), 1..60),
        ) {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            for (text, coding) in
                [(STANDARD_NO_PAD.encode(&bytes), Coding::Base64), (hex, Coding::Hex)]
            {
                let coded = Coded::new(text.as_bytes(), coding);
                prop_assert_eq!(coded.len(), bytes.len());
                let decoded = coded.part(0, coded.len(), Origin::Text(0));
                prop_assert_eq!(&decoded.bytes, &bytes);
                prop_assert_eq!(decoded.origin().span(0, bytes.len()).0, 0);
                prop_assert_eq!(decoded.origin().span(0, bytes.len()).1, text.len());
            }
        }
    }
}
