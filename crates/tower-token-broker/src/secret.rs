//! The one type that holds a secret: it is wiped when dropped and can't be printed, compared or
//! serialised by accident.

use std::fmt;

use bytes::Bytes;
use zeroize::Zeroizing;

/// A secret: an access token, a refresh token, a key.
///
/// Its bytes are zeroized on drop. `Debug` prints the type's name; there is no `Display`,
/// `Serialize`, `PartialEq` or `Deref`. What leaves it, leaves by [`Secret::expose`], which clippy
/// bans everywhere but on the lines that were reviewed.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over; the caller's copy is the one that is wiped.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Takes a text over, without a copy.
    pub fn from_text(text: String) -> Self {
        Self::new(text.into_bytes())
    }

    /// The bytes themselves. Each call stands on a reviewed line.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The secret as text, if it is UTF-8. Each call stands on a reviewed line.
    pub fn expose_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Whether both hold the same bytes, in a time that depends on their lengths alone.
    pub fn matches(&self, other: &Self) -> bool {
        subtle::ConstantTimeEq::ct_eq(self.0.as_slice(), other.0.as_slice()).into()
    }

    /// The bytes after `prefix` as shared bytes that are wiped when their last holder drops them.
    ///
    /// For a header value: `http::HeaderValue::from_maybe_shared` takes these without another copy.
    /// What hyper copies into its write buffer is out of reach.
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
