//! The random value in a cookie, and the token against forged forms that is derived from it.

use std::fmt;

use aws_lc_rs::{hmac, rand};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use tower_token_broker::Secret;
use zeroize::Zeroizing;

/// Number of random octets: 256 bits.
const OCTETS: usize = 32;
/// Number of characters in base64url.
const CHARACTERS: usize = 43;

/// The value of a cookie: 256 random bits. It is in the browser and in no store.
#[derive(Clone)]
pub(crate) struct BrowserSecret(Zeroizing<String>);

impl BrowserSecret {
    /// Generates a value.
    ///
    /// # Panics
    /// The system's random number generator fails.
    pub(crate) fn generate() -> Self {
        let mut octets = Zeroizing::new([0; OCTETS]);
        rand::fill(&mut *octets)
            .expect("the system's source of randomness does not fail once it is seeded");
        Self(Zeroizing::new(URL_SAFE_NO_PAD.encode(*octets)))
    }

    /// Parses the value of a cookie; `None` for any text that [`BrowserSecret::generate`] does not
    /// make.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() != CHARACTERS {
            return None;
        }
        let mut octets = Zeroizing::new([0; OCTETS]);
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut *octets).ok()?;
        (length == OCTETS).then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// Returns the text of the cookie.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the value as a secret, to be hashed for the store.
    pub(super) fn to_secret(&self) -> Secret {
        Secret::from_text((*self.0).clone())
    }

    /// Returns the token that a form of this browser carries (OWASP: HMAC-based token). It shows
    /// nothing of the cookie, needs no key that could be rotated, and ends with the cookie.
    // D098: bound to the session, so a token of another one does not fit.
    pub(crate) fn form_token(&self) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes());
        URL_SAFE_NO_PAD.encode(hmac::sign(&key, b"token-broker form"))
    }
}

impl fmt::Debug for BrowserSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BrowserSecret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_generated_values_are_parsed() {
        let secret = BrowserSecret::generate();
        assert_eq!(secret.as_str().len(), CHARACTERS);
        assert_eq!(BrowserSecret::parse(secret.as_str()).unwrap().as_str(), secret.as_str());
        assert_ne!(BrowserSecret::generate().as_str(), secret.as_str());
        let padded = format!("{}=", secret.as_str());
        // The last character of 32 octets has two unused bits, which must be zero.
        let unused_bits = format!("{}B", "A".repeat(42));
        let not_base64 = format!("{}+", "A".repeat(42));
        for other in ["", "a", &padded, &"a".repeat(44), &unused_bits, &not_base64, "\0"] {
            assert!(BrowserSecret::parse(other).is_none(), "{other}");
        }
    }

    #[test]
    fn d098_each_cookie_has_its_own_form_token() {
        let (one, other) = (BrowserSecret::generate(), BrowserSecret::generate());
        assert_eq!(one.form_token(), one.clone().form_token(), "D098");
        assert_ne!(one.form_token(), other.form_token(), "D098");
        assert!(!one.form_token().contains(one.as_str()));
        assert_eq!(format!("{one:?}"), "BrowserSecret");
    }
}
