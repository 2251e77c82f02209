//! The digest that identifies the rules of a policy.

use std::fmt;

use crate::hex::Hex;

/// Identifies the rules that a policy applied, in the member `policy_version` of a record: equal
/// rules have equal digests, also in another process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyDigest([u8; 16]);

impl PolicyDigest {
    /// Hashes the rules, in whatever form fully determines them: the first 128 bits of SHA-256.
    pub fn of(rules: &[u8]) -> Self {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, rules);
        let mut digest = [0; 16];
        for (byte, from) in digest.iter_mut().zip(hash.as_ref()) {
            *byte = *from;
        }
        Self(digest)
    }

    /// Combines the digests of two policies that decide together. The order counts.
    #[must_use = "returns the combined digest"]
    pub fn and(self, other: Self) -> Self {
        Self::of([self.0, other.0].as_flattened())
    }

    pub(super) const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for PolicyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

impl fmt::Debug for PolicyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
