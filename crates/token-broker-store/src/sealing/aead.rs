//! AES-256-GCM-SIV with random nonces, and the format of a sealed value.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf, rand,
};
use tower_token_broker::Secret;
use zeroize::Zeroizing;

use super::context::{FORMAT, SealingContext};

/// Number of octets that name the key.
pub(super) const NAME: usize = 8;
/// Number of octets of a key.
pub(super) const KEY: usize = 32;
const HEAD: usize = 1 + NAME + NONCE_LEN;

/// A key that seals and opens.
///
/// A sealed value is: format version (1 octet), name of the key (8), nonce (12), ciphertext and tag
/// (16). Version and name are authenticated.
pub(super) struct SealingKey {
    name: [u8; NAME],
    key: LessSafeKey,
}

impl SealingKey {
    /// Derives the key for one purpose from a secret (HKDF-SHA-256, RFC 5869).
    // O283: one secret that is used for two purposes is two keys.
    pub(super) fn derive(secret: &[u8; KEY], purpose: &str) -> Self {
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, b"token-broker sealing").extract(secret);
        let mut key = Zeroizing::new([0; KEY]);
        let mut name = [0; NAME];
        expand(&secret, &[purpose.as_bytes(), b"key"], &mut *key);
        expand(&secret, &[purpose.as_bytes(), b"name"], &mut name);
        let key = UnboundKey::new(&AES_256_GCM_SIV, &*key).expect("a key of 32 bytes");
        Self { name, key: LessSafeKey::new(key) }
    }

    pub(super) const fn name(&self) -> &[u8; NAME] {
        &self.name
    }

    pub(super) fn seal(&self, context: &SealingContext, content: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        // O278: random, so that no counter restarts; and a repeated nonce reveals only whether two
        // values are equal (RFC 8452 §1).
        rand::fill(&mut nonce)
            .expect("the system's source of randomness does not fail once it is seeded");
        let mut sealed = Vec::with_capacity(HEAD + content.len() + AES_256_GCM_SIV.tag_len());
        sealed.push(FORMAT);
        sealed.extend(self.name);
        sealed.extend(nonce);
        let mut content = {
            let mut copy = Vec::with_capacity(content.len() + AES_256_GCM_SIV.tag_len());
            copy.extend_from_slice(content);
            Zeroizing::new(copy)
        };
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key
            .seal_in_place_append_tag(nonce, self.aad(context), &mut *content)
            .expect("what a store can hold can be sealed");
        sealed.extend_from_slice(&content);
        sealed
    }

    /// Opens what this key sealed in this context; `None` for all other input.
    pub(super) fn open(&self, context: &SealingContext, sealed: &[u8]) -> Option<Secret> {
        // O272, O273: each octet is compared or authenticated.
        let (head, content) = sealed.split_at_checked(HEAD)?;
        let (format, head) = head.split_first()?;
        let (name, nonce) = head.split_at_checked(NAME)?;
        if *format != FORMAT || name != self.name {
            return None;
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut content = Zeroizing::new(content.to_vec());
        let length = self.key.open_in_place(nonce, self.aad(context), &mut content).ok()?.len();
        content.truncate(length);
        Some(Secret::new(std::mem::take(&mut *content)))
    }

    fn aad(&self, context: &SealingContext) -> Aad<Vec<u8>> {
        Aad::from(context.clone().part(&self.name).as_bytes().to_vec())
    }
}

fn expand(secret: &hkdf::Prk, info: &[&[u8]], into: &mut [u8]) {
    /// A length that HKDF produces.
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    secret
        .expand(info, Length(into.len()))
        .and_then(|expanded| expanded.fill(into))
        .expect("HKDF-SHA-256 produces 32 octets");
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealingKey").finish_non_exhaustive()
    }
}
