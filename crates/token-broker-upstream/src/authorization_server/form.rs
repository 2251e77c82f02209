//! Form body of a request to a token endpoint.

use bytes::Bytes;
use zeroize::Zeroizing;

/// Body of type `application/x-www-form-urlencoded`, zeroized on drop.
pub(super) struct Form(Zeroizing<Vec<u8>>);

impl Form {
    const ROOM: usize = 4 * 1024;

    pub(super) fn new() -> Self {
        Self(Zeroizing::new(Vec::with_capacity(Self::ROOM)))
    }

    pub(super) fn push(&mut self, name: &str, value: &[u8]) {
        self.reserve(name.len().saturating_add(2));
        if !self.0.is_empty() {
            self.0.push(b'&');
        }
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'=');
        self.encode(value);
    }

    pub(super) fn encode(&mut self, text: &[u8]) {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        self.reserve(text.len().saturating_mul(3));
        for &byte in text {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => {
                    self.0.push(byte)
                }
                b' ' => self.0.push(b'+'),
                _ => {
                    let digit = |half: u8| HEX.get(usize::from(half)).copied().unwrap_or(b'0');
                    self.0.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 0xf)]);
                }
            }
        }
    }

    /// Joins the two parts of `client_secret_basic`, each encoded first (RFC 6749 §2.3.1).
    pub(super) fn pair(left: &[u8], right: &[u8]) -> Self {
        let mut pair = Self::new();
        pair.encode(left);
        pair.reserve(1);
        pair.0.push(b':');
        pair.encode(right);
        pair
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn into_wiped_bytes(self) -> Bytes {
        Bytes::from_owner(Wiped(self.0))
    }

    /// Reserves space. A vector that grows by itself leaves copies in freed memory; here the old
    /// one is zeroized.
    fn reserve(&mut self, more: usize) {
        let needed = self.0.len().saturating_add(more);
        if needed > self.0.capacity() {
            let mut wider = Zeroizing::new(Vec::with_capacity(needed.saturating_mul(2)));
            wider.extend_from_slice(&self.0);
            self.0 = wider;
        }
    }
}

struct Wiped(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_that_outgrows_its_room_loses_nothing() {
        let mut form = Form::new();
        let value = "é".repeat(Form::ROOM);
        form.push("a", value.as_bytes());
        form.push("b", b"c d");
        let expected = format!("a={}&b=c+d", "%C3%A9".repeat(Form::ROOM));
        assert_eq!(form.into_wiped_bytes(), expected.as_bytes());
    }
}
