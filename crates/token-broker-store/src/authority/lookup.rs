//! Keyed hashes, by which secrets are found that a store does not keep.

use std::{fmt, sync::Arc};

use aws_lc_rs::{constant_time, hmac, rand};
use tower_token_broker::{
    Secret,
    principal::{Scopes, User},
};
use zeroize::Zeroizing;

use super::ClientId;
use crate::sealing::SealingContext;

/// Number of octets of a key and of a hash.
const LENGTH: usize = 32;

/// Key of the hashes by which a store finds codes, sessions, links and client secrets
/// (HMAC-SHA-256). All processes that share a store share it. Cheap to clone.
///
/// # Example
/// ```
/// use token_broker_store::authority::LookupKey;
/// use tower_token_broker::Secret;
///
/// let key = LookupKey::generate();
/// let value = Secret::from_text("Xk2…".into());
/// assert_eq!(key.code(&value), key.code(&value));
/// // A value that leaked as another kind finds nothing.
/// assert_ne!(key.code(&value), key.session(&value));
/// // Without the key, the hash can't be computed.
/// assert_ne!(key.code(&value), LookupKey::generate().code(&value));
/// ```
#[derive(Clone)]
pub struct LookupKey(Arc<hmac::Key>);

impl LookupKey {
    /// Creates a random key.
    ///
    /// # Panics
    /// The system's random number generator fails.
    pub fn generate() -> Self {
        let mut octets = Zeroizing::new([0; LENGTH]);
        rand::fill(&mut *octets)
            .expect("the system's source of randomness does not fail once it is seeded");
        Self::new(&octets)
    }

    /// Creates a key of these octets, which must be random. Only stores call this.
    pub fn new(octets: &[u8; LENGTH]) -> Self {
        Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, octets)))
    }

    /// Hashes an authorization code.
    pub fn code(&self, code: &Secret) -> LookupHash {
        self.hash(SealingContext::new("authorization code"), code)
    }

    /// Hashes the value of a session cookie.
    pub fn session(&self, cookie: &Secret) -> LookupHash {
        self.hash(SealingContext::new("browser session"), cookie)
    }

    /// Hashes the token in the one-time link for the first account.
    pub fn first_account_link(&self, token: &Secret) -> LookupHash {
        self.hash(SealingContext::new("first account link"), token)
    }

    /// Hashes the `state` of a connect.
    pub fn connect_state(&self, state: &Secret) -> LookupHash {
        self.hash(SealingContext::new("connect state"), state)
    }

    /// Hashes a user, a server and the scopes that a rule needs, for links to the connect page that
    /// are for this user only. The hash is in the link; it is no secret, and reveals nothing about
    /// the user.
    pub fn connect_link(&self, user: &User, server: &str, scopes: &Scopes) -> LookupHash {
        let context = SealingContext::new("connect link").text(user.issuer()).text(user.subject());
        let context = context.text(server).text(&scopes.to_string());
        LookupHash(octets(&hmac::sign(&self.0, context.as_bytes())))
    }

    /// Hashes the secret of this client. The hash matches for no other client.
    pub fn client_secret(&self, client: &ClientId, secret: &Secret) -> LookupHash {
        self.hash(SealingContext::new("client secret").text(client.as_str()), secret)
    }

    /// Authenticates the contents of a row. Only stores call this.
    pub fn authenticate(&self, row: &SealingContext) -> [u8; LENGTH] {
        // Another number of parts than `hash` has, so that no row is a hash.
        let context = SealingContext::new("row").text("").part(row.as_bytes());
        octets(&hmac::sign(&self.0, context.as_bytes()))
    }

    fn hash(&self, context: SealingContext, value: &Secret) -> LookupHash {
        #[expect(clippy::disallowed_methods, reason = "the value that is hashed")]
        let value = value.expose();
        // The value is not copied into the context, which is not wiped.
        let mut hmac = hmac::Context::with_key(&self.0);
        hmac.update(context.part(&(value.len() as u64).to_be_bytes()).as_bytes());
        hmac.update(value);
        LookupHash(octets(&hmac.sign()))
    }
}

fn octets(tag: &hmac::Tag) -> [u8; LENGTH] {
    tag.as_ref().try_into().expect("HMAC-SHA-256 has 32 octets")
}

impl fmt::Debug for LookupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LookupKey").finish_non_exhaustive()
    }
}

/// Keyed hash of a secret that a store finds and does not keep. Only a [`LookupKey`] creates one,
/// so that no store can be given the secret instead:
/// ```compile_fail,E0423
/// # use token_broker_store::authority::LookupHash;
/// let plain = LookupHash([0x61; 32]);
/// ```
///
/// ```compile_fail,E0308
/// # use token_broker_store::authority::{CodeStore, MemoryAuthority};
/// # use tower_token_broker::Secret;
/// # async fn find(store: MemoryAuthority, code: Secret) {
/// store.code(&code).await.unwrap();
/// # }
/// ```
///
/// ```
/// # use token_broker_store::authority::{CodeStore, LookupKey, MemoryAuthority};
/// # use tower_token_broker::Secret;
/// # async fn find(store: MemoryAuthority, keys: LookupKey, code: Secret) {
/// store.code(&keys.code(&code)).await.unwrap();
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LookupHash([u8; LENGTH]);

impl LookupHash {
    /// Returns the octets, to be stored.
    pub const fn as_bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }

    /// Returns whether this is the stored hash, in constant time.
    pub fn matches(&self, stored: &StoredHash) -> bool {
        // O284: what is compared is a keyed hash, and the time reveals nothing about the value.
        constant_time::verify_slices_are_equal(&self.0, &stored.0).is_ok()
    }
}

impl fmt::Debug for LookupHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LookupHash").finish_non_exhaustive()
    }
}

/// A [`LookupHash`] as a store has read it. It can be compared, and no store finds or keeps
/// anything by it.
#[derive(Clone)]
pub struct StoredHash([u8; LENGTH]);

impl StoredHash {
    /// Creates a hash from the octets that were stored. Only stores call this.
    pub const fn new(octets: [u8; LENGTH]) -> Self {
        Self(octets)
    }
}

impl From<LookupHash> for StoredHash {
    fn from(hash: LookupHash) -> Self {
        Self(hash.0)
    }
}

impl fmt::Debug for StoredHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredHash").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn o284_no_two_purposes_have_one_hash() {
        let key = LookupKey::generate();
        let hash = |text: &str| {
            let secret = Secret::from_text(text.to_owned());
            let (one, other) = (ClientId::new("a"), ClientId::new("ab"));
            [
                key.code(&secret),
                key.session(&secret),
                key.first_account_link(&secret),
                key.connect_state(&secret),
                key.connect_link(&User::new(text, "a"), "b", &Scopes::none()),
                key.client_secret(&one, &secret),
                key.client_secret(&other, &secret),
                LookupHash(key.authenticate(&SealingContext::new(text))),
            ]
        };
        let hashes: HashSet<_> = ["", "b", "bc", "\0", "b\0"].into_iter().flat_map(hash).collect();
        assert_eq!(hashes.len(), 40);
    }

    #[test]
    fn o284_a_stored_hash_matches_only_itself() {
        let key = LookupKey::generate();
        let hash = |text: &str| key.code(&Secret::from_text(text.to_owned()));
        let stored = StoredHash::from(hash("one"));
        assert!(hash("one").matches(&stored));
        assert!(!hash("two").matches(&stored));
        assert!(hash("one").matches(&StoredHash::new(*hash("one").as_bytes())));
        assert!(format!("{stored:?} {:?} {key:?}", hash("one")).len() < 80);
    }
}
