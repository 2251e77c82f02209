//! Other readings of a text: without its line breaks, without escapes, decoded.

use super::{alphabet::line_break, coded::Coding};

/// Start and end of the bytes of the response from which one byte was read.
pub(super) type Span = (usize, usize);

/// The origin of the bytes of a reading.
#[derive(Clone, Copy)]
pub(super) enum Origin<'a> {
    /// They are those of the response, from this position.
    Text(usize),
    /// Each has its own origin.
    Each(&'a [Span]),
    /// They were decoded, from this byte on, of characters that have an origin.
    Coded { chars: &'a Self, coding: Coding, first: usize },
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
            Self::Coded { chars, coding, first } => {
                let last = coding.first_char(first + end.saturating_sub(1));
                chars.span(coding.first_char(first + start), last + 2)
            }
        }
    }

    pub(super) fn part(self, start: usize, end: usize) -> Self {
        match self {
            Self::Text(base) => Self::Text(base + start),
            Self::Each(spans) => Self::Each(spans.get(start..end).unwrap_or_default()),
            Self::Coded { chars, coding, first } => {
                Self::Coded { chars, coding, first: first + start }
            }
        }
    }
}

/// Another reading of a part of the response.
pub(super) struct Reading {
    pub(super) bytes: Vec<u8>,
    spans: Vec<Span>,
}

impl Reading {
    pub(super) fn with_capacity(length: usize) -> Self {
        Self { bytes: Vec::with_capacity(length), spans: Vec::with_capacity(length) }
    }

    pub(super) fn origin(&self) -> Origin<'_> {
        Origin::Each(&self.spans)
    }

    pub(super) fn push(&mut self, byte: u8, span: Span) {
        self.bytes.push(byte);
        self.spans.push(span);
    }
}

/// Removes line breaks, with the `=` of quoted-printable before them, indentation after them and
/// the `data:` of an event stream, and the zero bytes of UTF-16 and UTF-32; `None` if there are
/// none.
pub(super) fn unfolded(text: &[u8], origin: Origin<'_>) -> Option<Reading> {
    memchr::memchr3(b'\n', b'\r', 0, text)?;
    let mut reading = Reading::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match line_break(text.get(at..).unwrap_or_default()) {
            0 if *byte == 0 => at += 1,
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
    /// `%41`, `%u0041`, `\u0041`, `\U00000041`, `\x41`, `\101`, `\/`, `\n`, `&#65;`, `&#x41;`
    /// and `&plus;`.
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
        [b'%', b'u' | b'U', b'0', b'0', rest @ ..] => hex_pair(rest).map(|byte| (byte, 6)),
        [b'%', rest @ ..] => hex_pair(rest).map(|byte| (byte, 3)),
        [b'\\', b'u', b'0', b'0', rest @ ..] => hex_pair(rest).map(|byte| (byte, 6)),
        [b'\\', b'U', b'0', b'0', b'0', b'0', b'0', b'0', rest @ ..] => {
            hex_pair(rest).map(|byte| (byte, 10))
        }
        [b'\\', b'x', rest @ ..] => hex_pair(rest).map(|byte| (byte, 4)),
        [b'\\', high @ b'0'..=b'1', middle @ b'0'..=b'7', low @ b'0'..=b'7', ..] => {
            Some(((high - b'0') << 6 | (middle - b'0') << 3 | (low - b'0'), 4))
        }
        [b'\\', b'n', ..] => Some((b'\n', 2)),
        [b'\\', b'r', ..] => Some((b'\r', 2)),
        [b'\\', b't', ..] => Some((b'\t', 2)),
        [b'\\', byte @ (b'/' | b'\\' | b'"' | b'\''), ..] => Some((*byte, 2)),
        [b'&', b'#', b'x' | b'X', rest @ ..] => entity(rest, 16).map(|(byte, n)| (byte, n + 3)),
        [b'&', b'#', rest @ ..] => entity(rest, 10).map(|(byte, n)| (byte, n + 2)),
        [b'&', rest @ ..] => NAMED
            .iter()
            .find(|(name, _)| rest.starts_with(name))
            .map(|(name, byte)| (*byte, name.len() + 1)),
        _ => None,
    }
}

/// The names that HTML has for characters of tokens and escapes.
const NAMED: [(&[u8], u8); 9] = [
    (b"amp;", b'&'),
    (b"plus;", b'+'),
    (b"sol;", b'/'),
    (b"equals;", b'='),
    (b"lowbar;", b'_'),
    (b"period;", b'.'),
    (b"percnt;", b'%'),
    (b"num;", b'#'),
    (b"bsol;", b'\\'),
];

fn hex_pair(text: &[u8]) -> Option<u8> {
    match text {
        [high, low, ..] => Some(hex_digit(*high)? << 4 | hex_digit(*low)?),
        _ => None,
    }
}

/// Reads a number with any number of leading zeros, and a semicolon, which browsers do not require
/// (HTML 13.2.5.80).
fn entity(text: &[u8], radix: u32) -> Option<(u8, usize)> {
    // I452: zeros do not count as digits.
    let zeros = text.iter().take_while(|byte| **byte == b'0').count();
    let rest = text.get(zeros..).unwrap_or_default();
    let is_digit = |byte: &&u8| char::from(**byte).is_digit(radix);
    let digits = rest.iter().take(4).take_while(is_digit).count();
    if digits == 0 {
        return None;
    }
    let value = rest.get(..digits)?.iter().try_fold(0_u32, |value, digit| {
        value.checked_mul(radix)?.checked_add(char::from(*digit).to_digit(radix)?)
    })?;
    let semicolon = usize::from(rest.get(digits) == Some(&b';'));
    Some((u8::try_from(value).ok()?, zeros + digits + semicolon))
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_resolved_with_their_origin() {
        for (text, read) in [
            ("a%42c", "aBc"),
            (r"\u0041\x42\/\n", "AB/\n"),
            ("&#65;&#x42;&#000067;", "ABC"),
            ("&#0000000000000000065;&#X000000000000042;&#67 &#x44x", "ABC Dx"),
            (r"%u0041\U00000042\103", "ABC"),
            ("a&plus;b&sol;c&lowbar;&period;&equals;", "a+b/c_.="),
            ("%%41", "%A"),
        ] {
            let reading = unescaped(text.as_bytes(), Origin::Text(0), Escapes::UrlJsonHtml);
            assert_eq!(reading.unwrap().bytes, read.as_bytes(), "{text}");
        }
        for text in ["", "100%", r"\u1234", "&nbsp;", "&#;", "&#300;", "&#x;", "%4", "a=41", r"\9"]
        {
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
        let reading = unfolded(b"a\0b\0=\0\n\0c\0", Origin::Text(0)).unwrap();
        assert_eq!(reading.bytes, b"abc");
    }
}
