//! Under which key something is kept: a hash over all that took part in it.

use aws_lc_rs::digest;
use tower_token_broker::principal::User;

pub(crate) type Key = [u8; 32];

/// The parts of a key, one after the other.
pub(crate) struct Parts(digest::Context);

impl Parts {
    pub(crate) fn of(purpose: &str) -> Self {
        Self(digest::Context::new(&digest::SHA256)).part(purpose)
    }

    /// G157: each part goes in with its length before it, so that no two lists of parts are one text.
    pub(crate) fn part(mut self, text: &str) -> Self {
        self.0.update(&(text.len() as u64).to_be_bytes());
        self.0.update(text.as_bytes());
        self
    }

    /// A list of parts, each announced and its end marked, so that no list goes on where the next part begins.
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
