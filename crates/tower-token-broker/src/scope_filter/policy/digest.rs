//! The encoding of rules from which the digest of a policy is computed.

use crate::audit::PolicyDigest;

/// Encodes rules so that different rules have different bytes: every text has its length before it.
#[derive(Debug, Default)]
pub(super) struct Encoder(Vec<u8>);

impl Encoder {
    /// Starts an encoding. The number changes with the encoding.
    pub(super) fn new() -> Self {
        let mut encoder = Self::default();
        encoder.bytes(b"token-broker rules 1");
        encoder
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(super) fn count(&mut self, count: usize) {
        self.0.extend_from_slice(&(count as u64).to_be_bytes());
    }

    pub(super) fn optional(&mut self, text: Option<&str>) {
        self.count(usize::from(text.is_some()));
        self.text(text.unwrap_or_default());
    }

    pub(super) fn digest(&self) -> PolicyDigest {
        PolicyDigest::of(&self.0)
    }
}
