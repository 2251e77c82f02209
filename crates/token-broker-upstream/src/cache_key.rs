//! Cache keys: hashes over all parts that determine a value.

use aws_lc_rs::digest;
use tower_token_broker::principal::User;

pub(crate) type Key = [u8; 32];

/// Parts of a key, hashed in their order.
pub(crate) struct Parts(digest::Context);

impl Parts {
    pub(crate) fn of(purpose: &str) -> Self {
        Self(digest::Context::new(&digest::SHA256)).part(purpose)
    }

    /// Adds one part.
    // G157: the length of a part precedes it, so that different parts never form the same text.
    pub(crate) fn part(mut self, text: &str) -> Self {
        self.0.update(&(text.len() as u64).to_be_bytes());
        self.0.update(text.as_bytes());
        self
    }

    /// Adds a list of parts. Each one is announced and the end is marked, so that a list never
    /// runs into the part after it.
    pub(crate) fn list<'a>(self, texts: impl Iterator<Item = &'a str>) -> Self {
        let mut parts = self;
        for text in texts {
            parts.0.update(&[1]);
            parts = parts.part(text);
        }
        parts.0.update(&[0]);
        parts
    }

    pub(crate) fn user(self, user: &User) -> Self {
        self.part(user.issuer()).part(user.subject())
    }

    pub(crate) fn key(self) -> Key {
        let mut key = [0; 32];
        key.copy_from_slice(self.0.finish().as_ref());
        key
    }
}
