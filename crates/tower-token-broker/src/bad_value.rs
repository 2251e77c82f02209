//! The bad value that an error message shows.

use std::fmt;

/// Longest part of a value that a message shows, in bytes.
const LONGEST: usize = 256;

/// A value from configuration or from the calling code, escaped and truncated to 256 bytes, for an
/// error message. Never a secret, and never a peer's text, which only the log may have.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BadValue(Box<str>);

impl BadValue {
    /// Escapes and truncates a value.
    pub fn new(value: &str) -> Self {
        let mut end = value.len().min(LONGEST);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        let shown = value.get(..end).unwrap_or_default();
        let mut text: String = shown.escape_debug().collect();
        if end < value.len() {
            text.push('…');
        }
        Self(text.into())
    }
}

impl From<&str> for BadValue {
    fn from(value: &str) -> Self {
        Self::new(value)
    }
}

/// The value in quotation marks.
impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

impl fmt::Debug for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_value_is_escaped_and_truncated() {
        assert_eq!(BadValue::new("a\n\"b").to_string(), r#""a\n\"b""#);
        let long = BadValue::new(&"é".repeat(300)).to_string();
        assert!(long.ends_with("…\"") && long.len() < 300, "{long}");
    }
}
