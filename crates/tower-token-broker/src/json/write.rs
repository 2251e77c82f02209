//! Writes JSON strings.

use std::fmt::Write as _;

/// Appends a text as a JSON string.
pub(crate) fn push_json_string(body: &mut String, text: &str) {
    body.push('"');
    for character in text.chars() {
        match character {
            '"' => body.push_str("\\\""),
            '\\' => body.push_str("\\\\"),
            control if control < ' ' => {
                // Writing to a String can't fail.
                write!(body, "\\u{:04x}", u32::from(control)).unwrap_or_default();
            }
            other => body.push(other),
        }
    }
    body.push('"');
}
