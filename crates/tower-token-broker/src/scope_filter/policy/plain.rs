//! Texts that all servers read alike, except for their case: the usual ones.

use std::borrow::Cow;

use super::spelling::TextKind;

/// Returns the only reading of a text that all servers read alike, which costs no more than a look
/// at each byte.
pub(super) fn plain(text: &str, kind: TextKind) -> Option<Cow<'_, str>> {
    match kind {
        TextKind::Name => plain_name(text),
        TextKind::Path => {
            let is_plain = text.strip_prefix('/').is_some_and(are_plain_segments);
            let has_upper = || text.bytes().any(|byte| byte.is_ascii_uppercase());
            match is_plain {
                true if has_upper() => Some(Cow::Owned(text.to_ascii_lowercase())),
                true => Some(Cow::Borrowed(text)),
                false => None,
            }
        }
        TextKind::Uri => plain_uri(text).map(Cow::Owned),
    }
}

fn plain_name(text: &str) -> Option<Cow<'_, str>> {
    match classes(text) {
        _ if text.is_empty() || text.ends_with('.') => None,
        LOWER => Some(Cow::Borrowed(text)),
        seen if seen & OTHER == 0 => Some(Cow::Owned(text.to_ascii_lowercase().replace('-', "_"))),
        _ => None,
    }
}

fn plain_uri(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    // Any host of a file is read in several ways, and a number may be an address.
    let path = if scheme.eq_ignore_ascii_case("file") {
        rest.strip_prefix('/')?
    } else {
        Some(rest).filter(|rest| rest.starts_with(|char: char| char.is_ascii_alphabetic()))?
    };
    // An unknown scheme before a host may be one of the web, and this machine has several names.
    let host = rest.split('/').next().unwrap_or_default();
    let is_local = host.rsplit('.').next().is_some_and(|it| it.eq_ignore_ascii_case("localhost"));
    let is_of_web = || ["http", "https"].iter().any(|web| scheme.eq_ignore_ascii_case(web));
    if is_local || (host.contains('.') && !is_of_web()) {
        return None;
    }
    let is_coded = rest.get(..4).is_some_and(|label| label.eq_ignore_ascii_case("xn--"));
    let is_scheme =
        scheme.len() > 1 && scheme.bytes().all(|byte| byte.is_ascii_alphabetic()) && !is_coded;
    (is_scheme && are_plain_segments(path))
        .then(|| format!("{scheme}:/{path}").to_ascii_lowercase())
}

/// Classes of the bytes of a name.
const LOWER: u8 = 1;
const CHANGED: u8 = 2;
const OTHER: u8 = 4;

static CLASSES: [u8; 256] = {
    let mut classes = [OTHER; 256];
    let mut byte = 0;
    #[expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "below 256")]
    while byte < classes.len() {
        classes[byte] = match byte as u8 {
            b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' => LOWER,
            b'A'..=b'Z' | b'-' => CHANGED,
            _ => OTHER,
        };
        byte += 1;
    }
    classes
};

/// Returns the classes that occur. One look at each byte, because most texts are plain.
fn classes(text: &str) -> u8 {
    let class = |byte| CLASSES.get(usize::from(byte)).copied().unwrap_or(OTHER);
    text.bytes().fold(0, |seen, byte| seen | class(byte))
}

/// Whether no segment is empty or has a character that some server does not take for itself.
fn are_plain_segments(path: &str) -> bool {
    let mut before = b'/';
    for byte in path.bytes() {
        let is_plain = match byte {
            b'/' => !matches!(before, b'/' | b'.'),
            b'.' | b'~' => before != b'/',
            // The next label of a host may be coded.
            b'-' => before != b'-',
            byte => byte.is_ascii_alphanumeric() || byte == b'_',
        };
        if !is_plain {
            return false;
        }
        before = byte;
    }
    !matches!(before, b'/' | b'.')
}
