//! The characters of tokens and of their encodings, and where a line of them continues.

use std::sync::Arc;

/// Longest indentation of a continued line.
const LONGEST_PREFIX: usize = 64;

/// A set of bytes: the characters of tokens (RFC 6750 §2.1), base64, hexadecimal and escapes, line
/// breaks, by which long values are wrapped, zeros, which UTF-16 has between ASCII characters, and
/// the bytes of the secrets in question.
#[derive(Clone, Debug, Default)]
pub(super) struct Alphabet {
    /// `None` if the secrets add nothing.
    extended: Option<Arc<[bool; 256]>>,
}

#[expect(clippy::indexing_slicing, reason = "evaluated at compile time")]
const TOKENS: [bool; 256] = {
    let mut set = [false; 256];
    let mut rest: &[u8] =
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=%\\&#;\r\n\0";
    while let [byte, tail @ ..] = rest {
        set[*byte as usize] = true;
        rest = tail;
    }
    set
};

impl Alphabet {
    /// Adds the bytes of a secret.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if !self.contains(*byte) {
                let set = self.extended.get_or_insert_with(|| Arc::new(TOKENS));
                if let Some(is_of) = Arc::make_mut(set).get_mut(usize::from(*byte)) {
                    *is_of = true;
                }
            }
        }
    }

    #[inline]
    pub(super) fn contains(&self, byte: u8) -> bool {
        let set = self.extended.as_deref().unwrap_or(&TOKENS);
        set.get(usize::from(byte)).is_some_and(|is_of| *is_of)
    }

    /// Returns the set, to look at many bytes.
    #[inline]
    pub(super) fn set(&self) -> &[bool; 256] {
        self.extended.as_deref().unwrap_or(&TOKENS)
    }
}

/// Returns whether the byte at this position continues a run: it is of this alphabet, or it is the
/// indentation of a line, or the `data:` before a line of an event stream.
pub(super) fn joins(set: &[bool; 256], text: &[u8], at: usize) -> bool {
    text.get(at).is_some_and(|byte| is_in(set, *byte)) || is_line_prefix(text, at)
}

/// Returns the last position in this part of the text that ends a run.
#[inline]
pub(super) fn last_end(
    set: &[bool; 256],
    text: &[u8],
    from: usize,
    mut to: usize,
) -> Option<usize> {
    // Most words end with a blank or a quotation mark, and eight bytes are looked at together.
    if let Some(at) = last_blank(text, from, to)
        && !is_line_prefix(text, at)
        && text.get(at).is_some_and(|byte| !is_in(set, *byte))
    {
        return Some(at);
    }
    loop {
        let part = text.get(from..to)?;
        to = from + part.iter().rposition(|byte| !is_in(set, *byte))?;
        if !is_line_prefix(text, to) {
            return Some(to);
        }
    }
}

/// Returns the last of the eight bytes before `to` that is a blank, a quotation mark or a control
/// character. It may return another one; the caller looks at it.
#[inline]
fn last_blank(text: &[u8], from: usize, to: usize) -> Option<usize> {
    const LESS_THAN: u64 = 0x2323_2323_2323_2323;
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(*text.get(from..to)?.last_chunk()?);
    let less = word.wrapping_sub(LESS_THAN) & !word & HIGH_BITS;
    let after = usize::try_from(less.leading_zeros() / 8).ok()?;
    if less == 0 { None } else { to.checked_sub(1 + after) }
}

/// Returns the first position in this part of the text that ends a run.
#[inline]
pub(super) fn first_end(
    set: &[bool; 256],
    text: &[u8],
    mut from: usize,
    to: usize,
) -> Option<usize> {
    loop {
        let part = text.get(from..to)?;
        from += part.iter().position(|byte| !is_in(set, *byte))?;
        if !is_line_prefix(text, from) {
            return Some(from);
        }
        from += 1;
    }
}

#[inline]
fn is_in(set: &[bool; 256], byte: u8) -> bool {
    set.get(usize::from(byte)).is_some_and(|is_of| *is_of)
}

/// Returns whether the byte at this position is indentation, or belongs to `data:`. The two bytes
/// before it exclude nearly all others.
#[inline(always)]
fn is_line_prefix(text: &[u8], at: usize) -> bool {
    if !matches!(text.get(at), Some(b' ' | b'\t' | b':')) {
        return false;
    }
    let may_follow = matches!(
        text.get(at.saturating_sub(2)..at),
        Some([.., b' ' | b'\t' | b':' | b'\n' | b'\r'] | [b'\\', b'n' | b'r'] | [b't', b'a'])
    );
    may_follow && follows_a_line_end(text, at)
}

fn follows_a_line_end(text: &[u8], at: usize) -> bool {
    let Some(before) = text.get(at.saturating_sub(LONGEST_PREFIX)..=at) else { return false };
    let rest = without_blanks(before);
    let rest = rest.strip_suffix(b"data:").map_or(rest, without_blanks);
    matches!(rest, [.., b'\n' | b'\r'] | [.., b'\\', b'n' | b'r'])
}

fn without_blanks(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Returns the length of a line break at the beginning of `text`, with indentation and `data:`; 0
/// if there is none.
pub(super) fn line_break(text: &[u8]) -> usize {
    let blanks = |from: usize| {
        text.get(from..)
            .unwrap_or_default()
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t'))
            .count()
    };
    let mut length = text.iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
    if length == 0 {
        return 0;
    }
    length += blanks(length);
    if text.get(length..).is_some_and(|rest| rest.starts_with(b"data:")) {
        length += b"data:".len();
        length += blanks(length);
    }
    // An empty line of an event stream is followed by another one.
    length + line_break(text.get(length..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_continue_after_indentation_and_data() {
        for (text, at, joins) in [
            ("a\n  b", 3, true),
            ("a\r\n\tb", 3, true),
            ("a\ndata: b", 6, true),
            ("a\ndata: b", 7, true),
            (r"a\n  b", 4, true),
            ("a b", 1, false),
            ("a\nb: c", 3, false),
            ("data: b", 4, false),
        ] {
            assert_eq!(super::joins(&TOKENS, text.as_bytes(), at), joins, "{text:?} {at}");
        }
        for (text, length) in [("\r\n  x", 4), ("\ndata: x", 7), ("\n\ndata:x", 7), ("x", 0)] {
            assert_eq!(line_break(text.as_bytes()), length, "{text:?}");
        }
    }
}
