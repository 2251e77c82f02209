//! Keys that seal client-held state, and the purposes of sealing.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest, rand,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::{principal::Principal, secret::Secret};

/// Version of the format below. Another format has another number.
const FORM: u8 = 1;
/// Number of bytes that name the key.
const KEY_NAME: usize = 4;
const HEAD: usize = 1 + KEY_NAME + NONCE_LEN;

/// Keys that seal client-held state. Cheap to clone.
///
/// All replicas that serve one resource need the same keys. By default a stack has random keys;
/// then a restart ends all sessions, and their clients begin new ones.
#[derive(Clone)]
#[must_use = "does nothing unless it is used"]
pub struct SealingKeys {
    /// The first key seals; all of them open.
    keys: Arc<[Arc<Key>]>,
}

struct Key {
    name: [u8; KEY_NAME],
    key: LessSafeKey,
}

impl SealingKeys {
    /// Creates keys that seal with this key of 256 random bits. Zeroize your own copy.
    pub fn new(key: &[u8; 32]) -> Self {
        Self { keys: Arc::new([Arc::new(Key::of(key))]) }
    }

    /// Creates a random key for this process.
    ///
    /// # Panics
    /// The system's random number generator fails.
    pub fn generate() -> Self {
        let mut key = Zeroizing::new([0; 32]);
        rand::fill(&mut *key)
            .expect("the system's source of randomness does not fail once it is seeded");
        Self::new(&key)
    }

    /// Also opens what this older key sealed. To change keys without ending sessions: add the new
    /// key to all replicas as one that opens, then let it seal, then remove the old key.
    pub fn also_opening(self, older: &[u8; 32]) -> Self {
        let older = Arc::new(Key::of(older));
        Self { keys: self.keys.iter().cloned().chain([older]).collect() }
    }

    /// Seals state that a browser or a client carries for code outside of the stack. It opens only
    /// with the same purpose and the same texts, in the same order.
    ///
    /// The result is base64url. It is longer than the content by a third and 44 characters.
    pub fn seal_state(&self, purpose: &str, bound_to: &[&str], content: &[u8]) -> String {
        self.seal_bound(&bound_to_texts(purpose, bound_to), content)
    }

    /// Opens what [`SealingKeys::seal_state`] sealed for exactly this purpose and these texts;
    /// `None` for all other input.
    pub fn open_state(&self, purpose: &str, bound_to: &[&str], sealed: &str) -> Option<Secret> {
        self.open_bound(&bound_to_texts(purpose, bound_to), sealed.as_bytes()).map(Secret::new)
    }

    /// Seals `content` for this user, at the resource of the token.
    pub(crate) fn seal(&self, purpose: Purpose<'_>, whose: &Principal, content: &[u8]) -> String {
        self.seal_bound(&purpose.bound_to(whose), content)
    }

    fn seal_bound(&self, bound_to: &[u8], content: &[u8]) -> String {
        let mut sealed = Vec::with_capacity(HEAD + content.len() + AES_256_GCM_SIV.tag_len());
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce)
            .expect("the system's source of randomness does not fail once it is seeded");
        let key = self.keys.first().expect("there is a key that seals");
        let aad = Aad::from(bound_to);
        let mut content = content.to_vec();
        key.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut content)
            .expect("what a message can hold can be sealed");
        sealed.push(FORM);
        sealed.extend(key.name);
        sealed.extend(nonce);
        sealed.extend(content);
        URL_SAFE_NO_PAD.encode(sealed)
    }

    /// Opens what was sealed for exactly this purpose, user and resource; `None` for all other
    /// input.
    pub(crate) fn open(
        &self,
        purpose: Purpose<'_>,
        whose: &Principal,
        sealed: &[u8],
    ) -> Option<Vec<u8>> {
        self.open_bound(&purpose.bound_to(whose), sealed)
    }

    fn open_bound(&self, bound_to: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let sealed = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (head, content) = sealed.split_at_checked(HEAD)?;
        let (form, head) = head.split_first()?;
        let (name, nonce) = head.split_at_checked(KEY_NAME)?;
        if *form != FORM {
            return None;
        }
        let key = self.keys.iter().find(|key| key.name == name)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut content = content.to_vec();
        let length = key.key.open_in_place(nonce, Aad::from(bound_to), &mut content).ok()?.len();
        content.truncate(length);
        Some(content)
    }
}

impl Key {
    fn of(key: &[u8; 32]) -> Self {
        let named = digest::digest(
            &digest::SHA256,
            &[b"token-broker sealing key".as_slice(), key].concat(),
        );
        let mut name = [0; KEY_NAME];
        name.iter_mut().zip(named.as_ref()).for_each(|(to, from)| *to = *from);
        let key = UnboundKey::new(&AES_256_GCM_SIV, key).expect("a key of 32 bytes");
        Self { name, key: LessSafeKey::new(key) }
    }
}

impl fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealingKeys").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

/// The purpose of sealing: state that was sealed for one purpose does not open for another.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose<'a> {
    /// A session of MCP 2025-11-25.
    Session,
    /// The state of a request of MCP 2026-07-28: of this method and target.
    RequestState { request: &'a str },
}

impl Purpose<'_> {
    fn bound_to(self, whose: &Principal) -> Vec<u8> {
        let (purpose, request) = match self {
            Self::Session => ("mcp session", ""),
            Self::RequestState { request } => ("mcp request state", request),
        };
        let mut bound = Vec::with_capacity(256);
        let mut part = |text: &str| push_part(&mut bound, text);
        [purpose, request, whose.issuer(), whose.subject(), whose.resource().as_str()]
            .into_iter()
            .for_each(&mut part);
        // State of one agent for a user is not valid for another agent.
        let mut actor = whose.actor();
        while let Some(one) = actor {
            part(one.user().issuer());
            part(one.user().subject());
            actor = one.before();
        }
        bound
    }
}

/// The texts that state outside of the stack is bound to. The first part differs from each of
/// [`Purpose`], so no state of one opens as state of the other.
fn bound_to_texts(purpose: &str, texts: &[&str]) -> Vec<u8> {
    let mut bound = Vec::with_capacity(256);
    for text in ["state", purpose].iter().chain(texts) {
        push_part(&mut bound, text);
    }
    bound
}

fn push_part(bound: &mut Vec<u8>, text: &str) {
    bound.extend((text.len() as u64).to_be_bytes());
    bound.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        clock::Timestamp,
        principal::{Actor, Resource, TokenTimes, User, Verified},
    };

    fn principal(issuer: &str, subject: &str, resource: &str) -> Principal {
        let issued_at = Timestamp::from_unix_seconds(1_000);
        let times =
            TokenTimes { id: "1", issued_at, expires_at: issued_at.plus(Duration::from_secs(60)) };
        let resource = Resource::parse(resource).unwrap();
        Principal::of(&Verified::vouch(User::new(issuer, subject), "client", resource, times))
    }

    fn alice() -> Principal {
        principal("https://i.example", "alice", "https://b.example/crm/mcp")
    }

    #[test]
    fn sealed_state_is_bound_to_user_server_and_purpose() {
        let keys = SealingKeys::new(&[7; 32]);
        let state = |request| Purpose::RequestState { request };
        let sealed = keys.seal(state("tools/call\na"), &alice(), b"secret");
        assert_eq!(
            keys.open(state("tools/call\na"), &alice(), sealed.as_bytes()).as_deref(),
            Some(&b"secret"[..])
        );
        for (purpose, whose) in [
            (Purpose::Session, alice()),
            (state("tools/call\nb"), alice()),
            (state("tools/calla"), alice()),
            (
                state("tools/call\na"),
                principal("https://i.example", "bob", "https://b.example/crm/mcp"),
            ),
            (
                state("tools/call\na"),
                principal("https://i.example", "Alice", "https://b.example/crm/mcp"),
            ),
            (
                state("tools/call\na"),
                principal("https://j.example", "alice", "https://b.example/crm/mcp"),
            ),
            (
                state("tools/call\na"),
                principal("https://i.example", "alice", "https://b.example/hr/mcp"),
            ),
        ] {
            assert_eq!(
                keys.open(purpose, &whose, sealed.as_bytes()),
                None,
                "{purpose:?} {whose:?}"
            );
        }
        assert_ne!(
            sealed,
            keys.seal(state("tools/call\na"), &alice(), b"secret"),
            "nobody sees that two are alike"
        );
    }

    #[test]
    fn sealed_state_is_bound_to_the_agent() {
        let acted = |agent: &str| {
            let issued_at = Timestamp::from_unix_seconds(1_000);
            let times = TokenTimes {
                id: "1",
                issued_at,
                expires_at: issued_at.plus(Duration::from_secs(60)),
            };
            let resource = Resource::parse("https://b.example/crm/mcp").unwrap();
            let verified =
                Verified::vouch(User::new("https://i.example", "alice"), "client", resource, times);
            Principal::of(
                &verified.with_actor(Actor::new(User::new("https://i.example", agent), None)),
            )
        };
        let keys = SealingKeys::new(&[7; 32]);
        let sealed = keys.seal(Purpose::Session, &acted("a"), b"id");
        assert!(keys.open(Purpose::Session, &acted("a"), sealed.as_bytes()).is_some());
        for other in [acted("b"), alice()] {
            assert_eq!(keys.open(Purpose::Session, &other, sealed.as_bytes()), None, "{other:?}");
        }
    }

    #[test]
    fn keys_change_without_ending_sessions() {
        let (old, new) = (SealingKeys::new(&[1; 32]), SealingKeys::new(&[2; 32]));
        let sealed = old.seal(Purpose::Session, &alice(), b"id");
        let both = new.clone().also_opening(&[1; 32]);
        assert!(both.open(Purpose::Session, &alice(), sealed.as_bytes()).is_some());
        assert_eq!(new.open(Purpose::Session, &alice(), sealed.as_bytes()), None);
        let anew = both.seal(Purpose::Session, &alice(), b"id");
        assert!(new.open(Purpose::Session, &alice(), anew.as_bytes()).is_some());
        assert!(!format!("{both:?}").contains("1, 1"));
    }

    #[test]
    fn state_of_other_code_is_bound_to_purpose_and_texts() {
        let keys = SealingKeys::new(&[7; 32]);
        let sealed = keys.seal_state("consent", &["session", "alice"], b"request");
        let opened = |purpose, texts: &[&str]| keys.open_state(purpose, texts, &sealed).is_some();
        assert!(opened("consent", &["session", "alice"]));
        for (purpose, texts) in [
            ("pending", &["session", "alice"][..]),
            ("consent", &["session"]),
            ("consent", &["alice", "session"]),
            ("consent", &["session", "alice", ""]),
            ("consent", &["sessiona", "lice"]),
        ] {
            assert!(!opened(purpose, texts), "{purpose} {texts:?}");
        }
        assert_eq!(keys.open(Purpose::Session, &alice(), sealed.as_bytes()), None);
        let session = keys.seal(Purpose::Session, &alice(), b"id");
        assert!(keys.open_state("mcp session", &[], &session).is_none());
        assert!(keys.open_state("consent", &["session", "alice"], "").is_none());
    }

    proptest! {
        #[test]
        fn changed_state_does_not_open(
            content in prop::collection::vec(any::<u8>(), 0..40),
            at in any::<prop::sample::Index>(),
            with in "[A-Za-z0-9_=-]{0,3}",
        ) {
            let keys = SealingKeys::new(&[7; 32]);
            let sealed = keys.seal(Purpose::Session, &alice(), &content);
            let opened = keys.open(Purpose::Session, &alice(), sealed.as_bytes());
            prop_assert_eq!(opened, Some(content));
            let at = at.index(sealed.len());
            let (before, after) = (sealed.get(..at).unwrap(), sealed.get(at + 1..).unwrap());
            let changed = [before, &with, after].concat();
            prop_assume!(changed != sealed);
            prop_assert_eq!(keys.open(Purpose::Session, &alice(), changed.as_bytes()), None);
        }
    }
}
