//! Refresh tokens: derived from their family, never stored.

use std::fmt;

use aws_lc_rs::{constant_time, hmac};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use token_broker_store::authority::FamilyId;
use tower_token_broker::Secret;

/// Beginning of each refresh token, so that scanners for secrets recognize it.
const PREFIX: &str = "tbr_";
const MAX_BYTES: usize = 512;
const PURPOSE: &[u8] = b"token-broker refresh token";

/// A refresh token that a client presents: which family and generation it claims to be of.
pub(crate) struct RefreshToken {
    pub(crate) family: FamilyId,
    pub(crate) generation: u64,
    tag: [u8; 32],
}

impl RefreshToken {
    /// Reads a token; `None` if it is none of ours. Nothing is verified yet.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix(PREFIX).filter(|_| text.len() <= MAX_BYTES)?;
        let mut parts = text.split('.');
        let (family, generation, tag) = (parts.next()?, parts.next()?, parts.next()?);
        let is_number = !generation.starts_with('0')
            && !generation.is_empty()
            && generation.bytes().all(|byte| byte.is_ascii_digit());
        if parts.next().is_some() || family.is_empty() || !is_number {
            return None;
        }
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?.try_into().ok()?;
        Some(Self { family: FamilyId::new(family), generation: generation.parse().ok()?, tag })
    }

    /// Returns whether this key derived the token, in constant time.
    pub(crate) fn is_derived_from(&self, key: &Secret) -> bool {
        let tag = tag(key, &self.family, self.generation);
        constant_time::verify_slices_are_equal(tag.as_ref(), &self.tag).is_ok()
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshToken").field("family", &self.family).finish_non_exhaustive()
    }
}

/// Derives the refresh token of a generation. The same one can be derived at any time.
pub(crate) fn derive(key: &Secret, family: &FamilyId, generation: u64) -> Secret {
    let tag = URL_SAFE_NO_PAD.encode(tag(key, family, generation));
    Secret::from_text(format!("{PREFIX}{family}.{generation}.{tag}"))
}

fn tag(key: &Secret, family: &FamilyId, generation: u64) -> hmac::Tag {
    #[expect(clippy::disallowed_methods, reason = "the key of the family's tokens")]
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
    let mut context = hmac::Context::with_key(&key);
    for part in [PURPOSE, family.as_str().as_bytes(), &generation.to_be_bytes()] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    context.sign()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a token of the test")]
    fn text(secret: &Secret) -> String {
        secret.expose_text().unwrap().to_owned()
    }

    #[test]
    fn a_token_is_of_one_family_generation_and_key() {
        let (key, other) = (Secret::new(vec![1; 32]), Secret::new(vec![2; 32]));
        let family = FamilyId::new("Zm9v");
        let derived = text(&derive(&key, &family, 7));
        assert_eq!(derived, text(&derive(&key, &family, 7)));
        let token = RefreshToken::parse(&derived).unwrap();
        assert_eq!((token.family.as_str(), token.generation), ("Zm9v", 7));
        assert!(token.is_derived_from(&key) && !token.is_derived_from(&other));
        for changed in [
            derived.replace(".7.", ".8."),
            derived.replace("Zm9v", "Zm9w"),
            derived.replace(".7.", ".70."),
        ] {
            assert!(!RefreshToken::parse(&changed).unwrap().is_derived_from(&key), "{changed}");
        }
        for none in [
            derived.replace(".7.", ".07."),
            derived.replace(".7.", ".+7."),
            derived.replace(".7.", "..7."),
            derived.replace(".7.", ".18446744073709551616."),
            derived.replace("tbr_", ""),
            format!("{derived}."),
            format!("{derived}A"),
            derived.get(..derived.len() - 1).unwrap().to_owned(),
            format!("tbr_{}", "x".repeat(600)),
            String::new(),
        ] {
            assert!(RefreshToken::parse(&none).is_none(), "{none}");
        }
        assert!(!format!("{token:?}").contains("tag"));
    }

    proptest! {
        #[test]
        fn no_changed_text_is_a_token(at in any::<prop::sample::Index>(), with in "[ -~]{0,2}") {
            let key = Secret::new(vec![1; 32]);
            let derived = text(&derive(&key, &FamilyId::new("Zm9v"), 7));
            let at = at.index(derived.len());
            let changed =
                [derived.get(..at).unwrap(), &with, derived.get(at + 1..).unwrap()].concat();
            let is_token =
                RefreshToken::parse(&changed).is_some_and(|token| token.is_derived_from(&key));
            prop_assert_eq!(is_token, changed == derived);
        }
    }
}
