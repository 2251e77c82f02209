//! One record's members on their way into the buffer that is written: printable ASCII, and nothing
//! that can end a line.

use crate::{
    clock::Timestamp,
    principal::{Actor, Principal},
};

/// Longest text from outside that a record keeps, in bytes; what is longer is cut there.
pub const MAX_TEXT: usize = 256;

/// Longest text of the operator's own: what [`Scopes`](crate::principal::Scopes) may hold at most
/// stands in a record whole.
const MAX_OWN_TEXT: usize = 16 * 1024;
/// Links of an actor chain that a record keeps; the number of all stands beside them.
const MAX_ACTORS: usize = 16;
/// Hexadecimal digits of a hash that stand behind a name that was cut.
const CUT_DIGITS: usize = 16;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Members, each with its comma before it: between `{"seq":…` and `,"prev":…`.
pub(super) struct Line<'a>(pub(super) &'a mut Vec<u8>);

impl Line<'_> {
    pub(super) fn name(&mut self, name: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    pub(super) fn flag(&mut self, name: &str) {
        self.name(name);
        self.0.extend_from_slice(b"true");
    }

    pub(super) fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        push_number(self.0, value);
    }

    pub(super) fn time(&mut self, name: &str, at: Timestamp) {
        self.name(name);
        self.0.push(b'"');
        self.0.extend_from_slice(&at.to_rfc_3339());
        self.0.push(b'"');
    }

    pub(super) fn hex(&mut self, name: &str, bytes: &[u8]) {
        self.name(name);
        self.0.push(b'"');
        push_hex(self.0, bytes);
        self.0.push(b'"');
    }

    /// A text that may come from outside.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.quoted(value, MAX_TEXT);
    }

    /// A text of the operator's, which is evidence to its last byte.
    pub(super) fn own_text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.quoted(value, MAX_OWN_TEXT);
    }

    /// The operator's scopes, space-delimited.
    pub(super) fn scopes<'s>(&mut self, name: &str, scopes: impl Iterator<Item = &'s str>) {
        self.name(name);
        self.0.push(b'"');
        for (position, token) in scopes.enumerate() {
            if position > 0 {
                self.0.push(b' ');
            }
            // RFC 6749 §3.3 leaves a scope no character that would have to be escaped.
            self.0.extend_from_slice(token.as_bytes());
        }
        self.0.push(b'"');
    }

    /// A name that says who somebody is. Cut, it carries a hash of the whole: two long names that
    /// begin alike stay two.
    pub(super) fn identity(&mut self, name: &str, value: &str) {
        self.name(name);
        self.quoted_identity(value);
    }

    pub(super) fn principal(&mut self, principal: Option<&Principal>) {
        if let Some(principal) = principal {
            // Written once for each token, not once for each record.
            self.0.extend_from_slice(principal.in_record(|principal| {
                let mut members = Vec::with_capacity(256);
                Line(&mut members).members_of(principal);
                members
            }));
        }
    }

    fn members_of(&mut self, principal: &Principal) {
        self.identity("issuer", principal.issuer());
        self.identity("subject", principal.subject());
        self.identity("client", principal.client());
        self.identity("token", principal.token_id());
        if let Some(family) = principal.family() {
            self.identity("family", family);
        }
        if let Some(actor) = principal.actor() {
            self.actors(actor);
        }
    }

    /// The chain of who acts, from the nearest on. Objects and not one text: a subject can't
    /// pretend to be two links.
    fn actors(&mut self, nearest: &Actor) {
        self.name("actors");
        self.0.push(b'[');
        let (mut links, mut next) = (0, Some(nearest));
        while let Some(link) = next {
            if links < MAX_ACTORS {
                self.0.extend_from_slice(if links == 0 {
                    b"{\"issuer\":"
                } else {
                    b",{\"issuer\":"
                });
                self.quoted_identity(link.user().issuer());
                self.0.extend_from_slice(b",\"subject\":");
                self.quoted_identity(link.user().subject());
                self.0.push(b'}');
            }
            links += 1;
            next = link.before();
        }
        self.0.push(b']');
        self.number("actor_links", links as u64);
    }

    fn quoted_identity(&mut self, value: &str) {
        if value.len() <= MAX_TEXT {
            return self.quoted(value, MAX_TEXT);
        }
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, value.as_bytes());
        let mut whole = cut(value, MAX_TEXT - 1 - CUT_DIGITS).to_owned();
        whole.push('~');
        let mut digits = Vec::with_capacity(64);
        push_hex(&mut digits, hash.as_ref());
        whole.extend(digits.iter().take(CUT_DIGITS).map(|digit| char::from(*digit)));
        self.quoted(&whole, MAX_TEXT);
    }

    /// Nothing but printable ASCII stands in the log as it is.
    fn quoted(&mut self, value: &str, longest: usize) {
        let value = cut(value, longest);
        self.0.push(b'"');
        let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        if value.as_bytes().iter().all(is_plain) {
            self.0.extend_from_slice(value.as_bytes());
        } else {
            self.escaped(value);
        }
        self.0.push(b'"');
    }

    fn escaped(&mut self, value: &str) {
        for character in value.chars() {
            match character {
                '"' => self.0.extend_from_slice(b"\\\""),
                '\\' => self.0.extend_from_slice(b"\\\\"),
                ' '..='~' => {
                    self.0.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes())
                }
                other => {
                    for unit in other.encode_utf16(&mut [0; 2]) {
                        self.0.extend_from_slice(b"\\u");
                        push_hex(self.0, &unit.to_be_bytes());
                    }
                }
            }
        }
    }
}

pub(super) fn push_hex(to: &mut Vec<u8>, bytes: &[u8]) {
    let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'-');
    to.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
}

pub(super) fn push_number(to: &mut Vec<u8>, mut value: u64) {
    // 20 digits are the longest that a u64 has.
    let mut digits = [b'0'; 20];
    let mut first = digits.len();
    for (place, digit) in digits.iter_mut().enumerate().rev() {
        // A remainder of ten is one digit.
        *digit = b'0' + u8::try_from(value % 10).unwrap_or_default();
        first = place;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    to.extend_from_slice(digits.get(first..).unwrap_or_default());
}

pub(super) fn cut(text: &str, longest: usize) -> &str {
    let mut end = text.len().min(longest);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Line<'_>)) -> String {
        let mut text = Vec::new();
        write(&mut Line(&mut text));
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn numbers_are_decimal() {
        for value in [0, 7, 10, 255, 65_536, u64::MAX] {
            assert_eq!(written(|line| line.number("n", value)), format!(",\"n\":{value}"));
        }
    }

    #[test]
    fn what_is_not_printable_ascii_is_escaped() {
        assert_eq!(
            written(|line| line.text("t", "a\"\\\n\u{e9}\u{1f600}\u{7f}")),
            ",\"t\":\"a\\\"\\\\\\u000a\\u00e9\\ud83d\\ude00\\u007f\""
        );
    }

    #[test]
    fn two_long_names_that_begin_alike_stay_two() {
        let (one, other) = ("x".repeat(400) + "1", "x".repeat(400) + "2");
        let (one, other) =
            (written(|line| line.identity("i", &one)), written(|line| line.identity("i", &other)));
        assert_ne!(one, other);
        assert_eq!(one.len(), ",\"i\":\"\"".len() + MAX_TEXT);
        assert_eq!(written(|line| line.identity("i", "short")), ",\"i\":\"short\"");
    }
}
