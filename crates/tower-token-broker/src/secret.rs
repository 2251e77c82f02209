//! The only type for secrets: zeroized on drop, and never printed, compared or serialized by
//! accident.

use std::fmt;

use bytes::Bytes;
use zeroize::Zeroizing;

/// A secret: an access token, a refresh token, a key.
///
/// Its bytes are zeroized on drop. `Debug` prints the type's name; there is no `Display`,
/// `Serialize`, `PartialEq` or `Deref`. The bytes are only available through [`Secret::expose`],
/// which clippy bans except on reviewed lines.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes ownership of the bytes, without a copy.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Takes ownership of a text, without a copy.
    pub fn from_text(text: String) -> Self {
        Self::new(text.into_bytes())
    }

    /// Returns the bytes. Each call is a reviewed line.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Returns the secret as text, if it is UTF-8. Each call is a reviewed line.
    pub fn expose_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Compares two secrets, in a time that depends only on their lengths.
    pub fn matches(&self, other: &Self) -> bool {
        subtle::ConstantTimeEq::ct_eq(self.0.as_slice(), other.0.as_slice()).into()
    }

    /// Returns `prefix` and the bytes as shared bytes that are zeroized when their last holder
    /// drops them.
    ///
    /// `http::HeaderValue::from_maybe_shared` takes them without another copy. Bytes that hyper
    /// copies into its write buffer are not zeroized.
    pub fn to_wiped_bytes(&self, prefix: &str) -> Bytes {
        let mut joined = Zeroizing::new(Vec::with_capacity(prefix.len() + self.0.len()));
        joined.extend_from_slice(prefix.as_bytes());
        joined.extend_from_slice(&self.0);
        Bytes::from_owner(Wiped(joined))
    }
}

struct Wiped(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Clone for Secret {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_prints_the_name_alone() {
        assert_eq!(format!("{:?}", Secret::from_text("hunter2".into())), "Secret");
    }

    #[test]
    fn equal_secrets_match_and_others_do_not() {
        let secret = Secret::from_text("abc".into());
        assert!(secret.matches(&secret.clone()));
        assert!(!secret.matches(&Secret::from_text("abd".into())));
        assert!(!secret.matches(&Secret::from_text("ab".into())));
    }

    #[test]
    fn header_bytes_carry_the_prefix() {
        assert_eq!(Secret::from_text("t".into()).to_wiped_bytes("Bearer "), "Bearer t");
    }
}
