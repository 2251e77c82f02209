//! Texts inside a text: a URI after another scheme, and a text between delimiters.
//!
//! `jar:file:///a!/b`, `view-source:https://a`, `URL:<https://a>`: whatever the outer scheme or the
//! delimiters are, a reader that knows them reads the inner URI.
//!
//! Source: RFC 3986 §3.1 and appendix C.

use unicode_normalization::char::is_combining_mark;

/// Characters around a text that do not belong to it.
const DELIMITERS: &str = "<>\"'`()[]|,;! ";
/// Characters that end a URI inside a text.
const ENDS: [char; 10] = ['<', '>', '"', '\'', '`', ')', '|', ',', '!', ' '];

/// Returns a text without the delimiters around it, and the dots and slashes after these.
pub(super) fn undelimited(text: &str) -> &str {
    let is_after = |char| is_delimiter(char) || matches!(char, '.' | '/');
    text.trim_start_matches(is_delimiter).trim_end_matches(is_after)
}

fn is_delimiter(char: char) -> bool {
    match char.is_ascii() {
        true => DELIMITERS.contains(char),
        // Quotation marks and brackets of any language; an accent belongs to its letter.
        false => !char.is_alphanumeric() && !is_combining_mark(char),
    }
}

/// Returns the positions at which a text inside another may end: at the first of each delimiter,
/// because a file may have some of them in its name.
pub(super) fn ends(text: &str) -> impl Iterator<Item = usize> {
    let other = text.find(|char: char| !char.is_ascii() && is_delimiter(char));
    ENDS.into_iter().filter_map(|end| text.find(end)).chain(other)
}

// J421: whatever scheme or text is before it.
/// Returns the positions at which a URI may begin, except for the beginning of the text.
///
/// A scheme begins where a word begins (`local_file:` has two). After anything but schemes and
/// delimiters, such as a path or a query, a slash must follow it.
pub(super) fn beginnings(text: &str) -> Vec<usize> {
    let is_of_outer = |char: char| char == ':' || is_of_scheme(char) || is_delimiter(char);
    let path = text.find(|char| !is_of_outer(char)).unwrap_or(text.len());
    let mut beginnings = Vec::new();
    for (colon, _) in text.match_indices(':') {
        let (before, after) = (text.get(..colon).unwrap_or_default(), text.get(colon + 1..));
        let is_before_slash = after.is_some_and(|after| after.starts_with('/'));
        let whole = run(before, is_of_scheme);
        let word = run(before, |char| char.is_ascii_alphanumeric());
        for scheme in [whole, word] {
            let begin = colon - scheme.len();
            // One letter is a drive.
            if scheme.len() > 1
                && scheme.starts_with(|char: char| char.is_ascii_alphabetic())
                && begin > 0
                && (is_before_slash || begin <= path)
                && !beginnings.contains(&begin)
            {
                beginnings.push(begin);
            }
        }
    }
    beginnings
}

fn is_of_scheme(char: char) -> bool {
    char.is_ascii_alphanumeric() || "+-._".contains(char)
}

/// Returns the last characters of this class.
fn run(text: &str, is_in: impl Fn(char) -> bool) -> &str {
    text.get(text.trim_end_matches(is_in).len()..).unwrap_or_default()
}

/// Decodes numeric escapes of HTML, JSON and programming languages (`&#115;`, `\u0073`, `\x73`).
/// `None` if there are none.
pub(super) fn without_escapes(text: &str) -> Option<String> {
    if !text.contains(['\\', '&']) {
        return None;
    }
    let (mut decoded, mut rest, mut is_changed) = (String::new(), text, false);
    while let Some(at) = rest.find(['\\', '&']) {
        let (before, escape) = rest.split_at(at);
        decoded.push_str(before);
        let (char, length) = match escaped(escape) {
            Some(found) => {
                is_changed = true;
                found
            }
            None => (escape.chars().next()?, 1),
        };
        decoded.push(char);
        rest = escape.get(length..)?;
    }
    decoded.push_str(rest);
    is_changed.then_some(decoded)
}

/// Returns the character of the escape at the beginning of a text, and the length of the escape.
fn escaped(text: &str) -> Option<(char, usize)> {
    let fixed = |from: usize, digits: usize| {
        let char = char_of(text.get(from..from + digits)?, 16)?;
        Some((char, from + digits))
    };
    let until = |from: usize, end: char, radix: u32| {
        let (digits, _) = text.get(from..)?.split_once(end)?;
        let char = char_of(digits, radix)?;
        Some((char, from + digits.len() + 1))
    };
    match text.as_bytes() {
        [b'\\', b'u' | b'x', b'{', ..] => until(3, '}', 16),
        [b'\\', b'u', ..] => fixed(2, 4),
        [b'\\', b'x', ..] => fixed(2, 2),
        [b'&', b'#', b'x', ..] => until(3, ';', 16),
        [b'&', b'#', ..] => until(2, ';', 10),
        _ => None,
    }
}

fn char_of(digits: &str, radix: u32) -> Option<char> {
    let is_number = !digits.is_empty() && digits.len() <= 8 && !digits.starts_with('+');
    is_number.then(|| u32::from_str_radix(digits, radix).ok()).flatten().and_then(char::from_u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j421_uris_inside_a_text_are_found() {
        for (text, inner) in [
            ("jar:file:///a!/b", &["file:///a!/b"][..]),
            ("view-source:https://a/", &["source:https://a/", "https://a/"]),
            ("<url:https://a/>", &["url:https://a/>", "https://a/>"]),
            ("local_file:///a", &["file:///a"]),
            ("git+file:///a", &["file:///a"]),
            ("a:b-c:https:d", &["b-c:https:d", "c:https:d", "https:d"]),
            ("https://a/?u=file:/b", &["file:/b"]),
            ("https://a/x:y", &[]),
            ("https://a:443/b", &[]),
            ("file:///c:/a", &[]),
            ("https://[fe80::1]/a", &[]),
            ("note://2026-01-01T12:30:00", &[]),
            ("file:///a", &[]),
            ("", &[]),
        ] {
            let found: Vec<_> =
                beginnings(text).into_iter().filter_map(|at| text.get(at..)).collect();
            // A single letter is no scheme.
            let expected: Vec<_> =
                inner.iter().copied().filter(|it| !it.starts_with("c:")).collect();
            assert_eq!(found, expected, "J421 {text}");
        }
    }

    #[test]
    fn delimiters_around_a_text_are_removed() {
        for text in ["<a/b>", "\"a/b\"", "'a/b'", " (a/b) ", "[a/b]", "“a/b”", "«a/b»", "「a/b」"]
        {
            assert_eq!(undelimited(text), "a/b", "{text}");
        }
        for text in ["a/b", "/a/b", "cafe\u{301}", "_a", "-a", "a:", "$a"] {
            assert_eq!(undelimited(text), text);
        }
        assert_eq!(ends("file:///a b!/c!>").collect::<Vec<_>>(), [15, 11, 9]);
        assert_eq!(ends("file:///é”;v=1").collect::<Vec<_>>(), [10]);
    }

    #[test]
    fn numeric_escapes_are_decoded() {
        for (text, decoded) in [
            ("&#115;ecret", Some("secret")),
            ("&#x73;ecret", Some("secret")),
            ("\\u0073ecret", Some("secret")),
            ("\\x73ecret", Some("secret")),
            ("\\u{73}ecret", Some("secret")),
            ("a\\b&c&#;", None),
            ("\\ud800&#xd800;", None),
            ("\\u00", None),
            ("a\\b\\x41é", Some("a\\bAé")),
            ("a", None),
        ] {
            assert_eq!(without_escapes(text).as_deref(), decoded, "{text}");
        }
    }
}
