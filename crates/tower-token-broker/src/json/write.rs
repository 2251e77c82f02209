//! Writes JSON strings.

use crate::hex;

/// Appends a text as a JSON string, with only the escapes that RFC 8259 §7 requires.
pub(crate) fn push_json_string(json: &mut String, text: &str) {
    let needs_escape = |character| matches!(character, '"' | '\\' | '\0'..='\x1f');
    write_string(text, needs_escape, |piece| json.push_str(piece));
}

/// Appends a text as a JSON string of printable ASCII: every other character is escaped.
pub(crate) fn push_ascii_json_string(json: &mut Vec<u8>, text: &str) {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if text.as_bytes().iter().all(is_plain) {
        json.push(b'"');
        json.extend_from_slice(text.as_bytes());
        json.push(b'"');
        return;
    }
    let needs_escape =
        |character| !matches!(character, ' '..='~') || matches!(character, '"' | '\\');
    write_string(text, needs_escape, |piece| json.extend_from_slice(piece.as_bytes()));
}

fn write_string(text: &str, needs_escape: impl Fn(char) -> bool, mut push: impl FnMut(&str)) {
    push("\"");
    let mut rest = text;
    while let Some(at) = rest.find(&needs_escape) {
        let (plain, from) = rest.split_at(at);
        push(plain);
        let mut characters = from.chars();
        match characters.next() {
            Some('"') => push("\\\""),
            Some('\\') => push("\\\\"),
            Some(other) => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    let [high, low] = unit.to_be_bytes().map(hex::digits);
                    push("\\u");
                    for pair in [high, low] {
                        // Digits are ASCII.
                        push(str::from_utf8(&pair).unwrap_or_default());
                    }
                }
            }
            None => {}
        }
        rest = characters.as_str();
    }
    push(rest);
    push("\"");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_as_the_same_text() {
        for text in ["", "plain", "a\"\\\n\u{e9}\u{1f600}\u{7f}\0z", "\u{1f}\u{20}"] {
            let (mut json, mut ascii) = (String::new(), Vec::new());
            push_json_string(&mut json, text);
            push_ascii_json_string(&mut ascii, text);
            assert!(ascii.iter().all(|byte| matches!(byte, b' '..=b'~')), "{text:?}");
            let ascii = String::from_utf8(ascii).unwrap();
            for json in [&json, &ascii] {
                assert_eq!(json.parse::<serde_json::Value>().unwrap(), text, "{json}");
            }
        }
    }

    #[test]
    fn only_what_must_be_is_escaped() {
        let (mut json, mut ascii) = (String::new(), Vec::new());
        let text = "a\"\\\n\u{e9}\u{1f600}\u{7f}";
        push_json_string(&mut json, text);
        push_ascii_json_string(&mut ascii, text);
        assert_eq!(json, "\"a\\\"\\\\\\u000a\u{e9}\u{1f600}\u{7f}\"");
        assert_eq!(ascii, br#""a\"\\\u000a\u00e9\ud83d\ude00\u007f""#);
    }
}
