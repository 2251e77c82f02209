//! Texts inside a text: a URI after another scheme, and a text between delimiters.
//!
//! `jar:file:///a!/b`, `view-source:https://a`, `URL:<https://a>`: whatever the outer scheme or the
//! delimiters are, a reader that knows them reads the inner URI.
//!
//! Source: RFC 3986 §3.1 and appendix C.

use unicode_normalization::char::is_combining_mark;

use super::budget::{Budget, Unbounded};

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

/// Decodes the escapes of HTML, JSON and programming languages (`&#115;`, `&sol;`, `\u0073`,
/// `\x73`, `\163`). `None` if there are none.
pub(super) fn without_escapes(
    text: &str,
    budget: &mut Budget,
) -> Result<Option<String>, Unbounded> {
    decode(text, Semicolon::Optional, budget)
}

/// The same, where the numbers of HTML end with a semicolon: the digits of others may be escaped
/// themselves (`&#x6&#67;;`). `None` if there is no such number.
pub(super) fn without_whole_escapes(
    text: &str,
    budget: &mut Budget,
) -> Result<Option<String>, Unbounded> {
    let is_interrupted = |(at, _): (usize, &str)| {
        let behind = text.get(at..).unwrap_or_default().trim_start_matches(['&', '#', 'x', 'X']);
        behind.trim_start_matches(|char: char| char.is_ascii_hexdigit()).starts_with(BEGINS_ESCAPE)
    };
    match text.match_indices("&#").any(is_interrupted) {
        true => decode(text, Semicolon::Required, budget),
        false => Ok(None),
    }
}

/// Whether a number of HTML needs a semicolon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Semicolon {
    Optional,
    Required,
}

fn decode(
    text: &str,
    semicolon: Semicolon,
    budget: &mut Budget,
) -> Result<Option<String>, Unbounded> {
    if !text.contains(BEGINS_ESCAPE) {
        return Ok(None);
    }
    budget.spend(text)?;
    let (mut decoded, mut rest, mut is_changed) = (String::new(), text, false);
    while let Some(at) = rest.find(BEGINS_ESCAPE) {
        let (before, escape) = rest.split_at(at);
        decoded.push_str(before);
        if let Some((char, behind)) = escaped(escape, semicolon) {
            is_changed = true;
            decoded.push(char);
            rest = behind;
        } else {
            // Each of them has one byte.
            let (begin, behind) = escape.split_at(1);
            decoded.push_str(begin);
            rest = behind;
        }
    }
    decoded.push_str(rest);
    Ok(is_changed.then_some(decoded))
}

const BEGINS_ESCAPE: [char; 2] = ['\\', '&'];

/// Returns the character of the escape at the beginning of a text, and the text after the escape.
fn escaped(text: &str, semicolon: Semicolon) -> Option<(char, &str)> {
    let after = |begin: &str| text.strip_prefix(begin);
    if let Some(digits) = after("\\u{").or_else(|| after("\\x{")) {
        let (char, behind) = number(digits, 16)?;
        return Some((char, behind.strip_prefix('}')?));
    }
    if let Some(digits) = after("\\u") {
        return fixed(digits, 4, 16);
    }
    if let Some(digits) = after("\\x") {
        return fixed(digits, 2, 16);
    }
    // `\163`. Fewer digits are the name of a file after a backslash.
    if let Some(digits) = after("\\") {
        return fixed(digits, 3, 8).filter(|(char, _)| char.is_ascii());
    }
    if let Some(digits) = after("&#x") {
        return html(number(digits, 16)?, semicolon);
    }
    if let Some(digits) = after("&#") {
        return html(number(digits, 10)?, semicolon);
    }
    let name = after("&")?;
    let named =
        |(known, char): &(&str, char)| Some((*char, name.strip_prefix(known)?.strip_prefix(';')?));
    NAMED.iter().find_map(named)
}

/// HTML reads a reference without the semicolon, too.
fn html((char, behind): (char, &str), semicolon: Semicolon) -> Option<(char, &str)> {
    let whole = behind.strip_prefix(';');
    let behind = whole.or_else(|| (semicolon == Semicolon::Optional).then_some(behind))?;
    Some((char, behind))
}

/// Reads a character of exactly so many digits.
fn fixed(text: &str, length: usize, radix: u32) -> Option<(char, &str)> {
    let (digits, behind) = text.split_at_checked(length)?;
    let (char, rest) = number(digits, radix)?;
    rest.is_empty().then_some((char, behind))
}

/// Reads a character of any number of zeros and at most eight other digits. No other text is looked
/// at.
fn number(text: &str, radix: u32) -> Option<(char, &str)> {
    let rest = text.trim_start_matches('0');
    let is_digit = |char: &char| char.is_digit(radix);
    let length = rest.chars().take(MOST_DIGITS + 1).take_while(is_digit).count();
    if length > MOST_DIGITS || (length == 0 && rest.len() == text.len()) {
        return None;
    }
    let (digits, behind) = rest.split_at_checked(length)?;
    let value = if digits.is_empty() { 0 } else { u32::from_str_radix(digits, radix).ok()? };
    Some((char::from_u32(value)?, behind))
}

/// The most digits of a number that may be a character.
const MOST_DIGITS: usize = 8;

/// Characters that separate the parts of a name, path or URI, by their names in HTML, in lower
/// case.
const NAMED: [(&str, char); 38] = [
    ("period", '.'),
    ("sol", '/'),
    ("colon", ':'),
    ("bsol", '\\'),
    ("amp", '&'),
    ("apos", '\''),
    ("ast", '*'),
    ("comma", ','),
    ("commat", '@'),
    ("dash", '-'),
    ("dollar", '$'),
    ("equals", '='),
    ("excl", '!'),
    ("gt", '>'),
    ("hyphen", '-'),
    ("lbrace", '{'),
    ("lbrack", '['),
    ("lcub", '{'),
    ("lowbar", '_'),
    ("lpar", '('),
    ("lsqb", '['),
    ("lt", '<'),
    ("nbsp", ' '),
    ("newline", '\n'),
    ("num", '#'),
    ("percnt", '%'),
    ("plus", '+'),
    ("quest", '?'),
    ("quot", '"'),
    ("rbrace", '}'),
    ("rbrack", ']'),
    ("rcub", '}'),
    ("rpar", ')'),
    ("rsqb", ']'),
    ("semi", ';'),
    ("tab", '\t'),
    ("underbar", '_'),
    ("vert", '|'),
];

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
    fn j421_escapes_are_decoded() {
        let zeros = "0".repeat(10_000);
        let long = [
            format!("&#{zeros}115;ecret"),
            format!("&#x{zeros}73;ecret"),
            format!("\\u{{{zeros}73}}ecret"),
            format!("\\x{{{zeros}73}}ecret"),
        ];
        let long = long.iter().map(|text| (text.as_str(), Some("secret")));
        let short = [
            ("&#115;ecret", Some("secret")),
            ("&#000000115;ecret", Some("secret")),
            ("&#115ecret", Some("secret")),
            ("&#x73;ecret", Some("secret")),
            ("\\u0073ecret", Some("secret")),
            ("\\x73ecret", Some("secret")),
            ("\\u{73}ecret", Some("secret")),
            ("\\163ecret", Some("secret")),
            ("file&colon;&sol;&sol;&sol;a&period;b&bsol;c", Some("file:///a.b\\c")),
            ("a&lowbar;b&amp;sol;&commat;&comma;", Some("a_b&sol;@,")),
            ("&#0;&#x0;", Some("\0\0")),
            ("a\\b&c&#;&sol&solidus;", None),
            ("\\ud800&#xd800;&#123456789;&#x110000;&#+1;&#x+1;", None),
            ("\\u00", None),
            ("\\u00é", None),
            ("\\u{}\\u{73\\u{123456789}\\x{g}\\16\\777", None),
            ("%73%u%u00g", None),
            ("a\\b\\x41é", Some("a\\bAé")),
            ("a", None),
        ];
        for (text, decoded) in short.into_iter().chain(long) {
            let found = without_escapes(text, &mut Budget::of_text()).unwrap();
            assert_eq!(found.as_deref(), decoded, "J421 {}", text.get(..40).unwrap_or(text));
        }
    }

    #[test]
    fn j429_texts_with_escapes_take_from_the_budget() {
        for text in
            ["a&#b".to_owned(), "&#x".repeat(5000), "\\u{".repeat(5000), "\\".repeat(10_000)]
        {
            let mut budget = Budget::of_text();
            assert_eq!(without_escapes(&text, &mut budget), Ok(None));
            assert_eq!(budget.spent(), text.len(), "J429");
            let times = Budget::MOST / text.len();
            for _ in 1..times {
                assert_eq!(without_escapes(&text, &mut budget), Ok(None));
            }
            assert_eq!(without_escapes(&text, &mut budget), Err(Unbounded::TooMany), "J429");
        }
    }

    #[test]
    fn j421_digits_that_are_escaped_are_decoded_first() {
        let whole = |text: &str| without_whole_escapes(text, &mut Budget::of_text()).unwrap();
        for (text, expected) in [
            ("de&#x6&#67;;ete", Some("de&#x6C;ete")),
            ("&#1&#49;5;ecret", Some("&#115;ecret")),
            ("&#11\\u0035;ecret", Some("&#115;ecret")),
            ("&#115;ecret", None),
            ("&#115ecret", None),
            ("a&#b", None),
        ] {
            assert_eq!(whole(text).as_deref(), expected, "J421 {text}");
        }
    }

    #[test]
    fn names_of_escapes_are_in_lower_case_and_distinct() {
        for (at, (name, _)) in NAMED.iter().enumerate() {
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase()), "{name}");
            assert!(NAMED[..at].iter().all(|(other, _)| other != name), "{name}");
        }
    }
}
