//! Reads JSON text that decides nothing: only its grammar is checked.
//!
//! Lone surrogates, repeated members and any depth are allowed. Where a value ends is still the
//! same for every parser.

use super::strict::{
    JsonError, behind, behind_space, end_of_number, end_of_word, escape, four_digits, run_length,
};

/// Returns the position after the closing quotation mark of the string whose content begins at
/// `at`, and whether it contains an escape.
pub(super) fn end_of_string(text: &[u8], mut at: usize) -> Result<(usize, bool), JsonError> {
    let mut is_escaped = false;
    loop {
        at += run_length(text.get(at..).unwrap_or_default());
        match (text.get(at), text.get(at + 1)) {
            (Some(b'"'), _) => return Ok((at + 1, is_escaped)),
            (Some(b'\\'), Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')) => at += 2,
            (Some(b'\\'), Some(b'u')) => {
                four_digits(text, at + 2)?;
                at += 6;
            }
            _ => return Err(JsonError::Syntax),
        }
        is_escaped = true;
    }
}

/// Decodes the content of a string. Half a surrogate pair becomes U+FFFD.
pub(super) fn unescape(raw: &str) -> Result<String, JsonError> {
    let (mut unescaped, mut at) = (String::with_capacity(raw.len()), 0);
    while let Some(length) = memchr::memchr(b'\\', raw.as_bytes().get(at..).unwrap_or_default()) {
        unescaped.push_str(raw.get(at..at + length).unwrap_or_default());
        let (character, behind) = match escape(raw.as_bytes(), at + length) {
            Err(JsonError::LoneSurrogate) => (char::REPLACEMENT_CHARACTER, at + length + 6),
            other => other?,
        };
        unescaped.push(character);
        at = behind;
    }
    unescaped.push_str(raw.get(at..).unwrap_or_default());
    Ok(unescaped)
}

/// Returns the end of the value that begins at `at`. The depth takes no stack.
pub(super) fn end_of_content(text: &[u8], mut at: usize) -> Result<usize, JsonError> {
    // The brackets that close what is open.
    let mut open = Vec::new();
    loop {
        let opened = match text.get(at) {
            Some(b'{') => Some(b'}'),
            Some(b'[') => Some(b']'),
            _ => None,
        };
        if let Some(closes) = opened {
            at = behind_space(text, at + 1);
            if text.get(at) != Some(&closes) {
                open.push(closes);
                if closes == b'}' {
                    at = value_of_member(text, at)?;
                }
                continue;
            }
            at += 1;
        } else {
            at = end_of_scalar(text, at)?;
        }
        // A value has ended: another one follows, or what contains it ends, too.
        loop {
            let Some(closes) = open.last().copied() else { return Ok(at) };
            at = behind_space(text, at);
            match text.get(at) {
                Some(b',') => {
                    at = behind_space(text, at + 1);
                    if closes == b'}' {
                        at = value_of_member(text, at)?;
                    }
                    break;
                }
                Some(byte) if *byte == closes => {
                    open.pop();
                    at += 1;
                }
                _ => return Err(JsonError::Syntax),
            }
        }
    }
}

fn end_of_scalar(text: &[u8], at: usize) -> Result<usize, JsonError> {
    match text.get(at) {
        Some(b'"') => end_of_string(text, at + 1).map(|(ends, _)| ends),
        Some(b'-' | b'0'..=b'9') => end_of_number(text, at),
        Some(b't') => end_of_word(text, at, b"true"),
        Some(b'f') => end_of_word(text, at, b"false"),
        Some(b'n') => end_of_word(text, at, b"null"),
        _ => Err(JsonError::Syntax),
    }
}

/// Reads the name that begins at `at`. Returns the position of its value.
fn value_of_member(text: &[u8], at: usize) -> Result<usize, JsonError> {
    let (ends, _) = end_of_string(text, behind(text, at, b'"')?)?;
    Ok(behind_space(text, behind(text, behind_space(text, ends), b':')?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{Limits, Reader};

    fn content(text: &str) -> Result<usize, JsonError> {
        let mut reader = Reader::new(text.as_bytes(), &Limits::default())?;
        let length = reader.skip_content()?.len();
        reader.end().map(|()| length)
    }

    #[test]
    fn only_the_grammar_is_checked() {
        let deep = format!("{}0{}", r#"[{"a":"#.repeat(50_000), "}]".repeat(50_000));
        for text in [
            r#""\ud83d""#,
            r#"{"\ud83d":1,"a":"\udc00\ud800"}"#,
            r#"{"a":1,"a":[{"b":1,"b":2}]}"#,
            "[]",
            "{}",
            r#"{ "a" : [ 1 , { } , [ ] , "x" , null , true , -1.5e3 ] , "b" : { "c" : false } }"#,
            &deep,
        ] {
            assert_eq!(content(text), Ok(text.len()), "{}", text.get(..40).unwrap_or(text));
        }
        for text in [
            "",
            "[",
            "{",
            "]",
            "[1,]",
            "[,1]",
            "[1 2]",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{,"a":1}"#,
            r#"{a:1}"#,
            r#"{"a":1]"#,
            "[1}",
            r#""\ud83""#,
            r#""\x""#,
            "\"",
            "01",
            "nul",
            "1 1",
            "\"\n\"",
            r#"{"a" 1}"#,
            r#"{"a":1 "b":2}"#,
        ] {
            assert!(content(text).is_err(), "{text}");
        }
    }

    #[test]
    fn all_members_are_found() {
        let text = r#" { "a":1 , "a":[] ,"\ud83dx":{}, "\u0062":"\udc00" } "#;
        let mut reader = Reader::new(text.as_bytes(), &Limits::default()).unwrap();
        let mut names = Vec::new();
        let read = reader.object_of_content(|reader, name| {
            names.push(name.to_owned());
            reader.skip_content().map(drop)
        });
        assert_eq!(read.and_then(|()| reader.end()), Ok(()));
        assert_eq!(names, ["a", "a", "\u{fffd}x", "b"]);
    }
}
