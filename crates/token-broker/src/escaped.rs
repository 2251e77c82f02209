//! Names from files and records, so that they cannot change the text around them.

use std::fmt::Display;

/// Returns the text with escapes in place of control characters, line breaks, and others that
/// terminals act on or do not show.
pub(crate) fn escaped(text: impl Display) -> String {
    text.to_string().escape_debug().to_string()
}
