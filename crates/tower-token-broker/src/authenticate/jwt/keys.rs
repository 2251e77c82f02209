//! A set of public keys, parsed once (RFC 7517).

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::{
    algorithm::{Algorithm, Algorithms},
    key::{Key, KeyError},
};
use crate::{
    alarm::Alarm,
    clock::{Deadline, Reading, Timestamp},
    json::{Limits, Value},
    refusal::Reason,
};

/// Public keys that verify broker tokens. Clones share them, so keys can be replaced while requests
/// are in progress.
///
/// A key that is invalid or unsafe is skipped, and the others are used; [`Keys::problems`] lists
/// the skipped ones. A private member in a public set raises the alarm `jwks.private_key`.
// B052, B053.
#[derive(Clone)]
pub struct Keys(Arc<ArcSwap<KeySet>>);

impl Keys {
    /// Largest set, in bytes.
    pub const MAX_BYTES: usize = 64 * 1024;
    /// Largest number of keys in a set, usable or not.
    pub const MAX_KEYS: usize = 100;

    /// Parses a JWK set and accepts keys for ES256 and EdDSA.
    ///
    /// # Errors
    /// It is no JWK set, exceeds a limit, or has no usable key.
    pub fn parse(jwk_set: &[u8]) -> Result<Self, KeysError> {
        Self::parse_for(jwk_set, Algorithms::default())
    }

    /// Parses a JWK set and accepts keys for these algorithms, such as
    /// [`Algorithm::Rs256`](super::Algorithm::Rs256). An RSA key without `alg` is for the one of
    /// RS256 and PS256 that is accepted.
    ///
    /// # Errors
    /// As for [`Keys::parse`].
    pub fn parse_for(jwk_set: &[u8], algorithms: impl Into<Algorithms>) -> Result<Self, KeysError> {
        let set = KeySet::parse(jwk_set, algorithms.into())?;
        set.report_skipped(None);
        Ok(Self(Arc::new(ArcSwap::from_pointee(set))))
    }

    /// Parses the JWK set of an untrusted party, such as a client of an authorization server, as
    /// [`Keys::parse_for`] does. Skipped keys raise no alarm; read [`Keys::problems`].
    ///
    /// # Errors
    /// As for [`Keys::parse`].
    pub fn parse_untrusted(
        jwk_set: &[u8],
        algorithms: impl Into<Algorithms>,
    ) -> Result<Self, KeysError> {
        let set = KeySet::parse(jwk_set, algorithms.into())?;
        Ok(Self(Arc::new(ArcSwap::from_pointee(set))))
    }

    /// Replaces the current keys, for all clones. Key IDs that are missing from the new set are
    /// retired from now on. A retired ID stays retired, even if the new set contains it.
    pub fn replace(&self, with: &Self, now: Reading) {
        let next = with.0.load();
        self.0.rcu(|old| old.followed_by(&next, now));
    }

    /// Refuses tokens that were signed with this key from `from` on, the end of the grace period of
    /// its last tokens. Cached verdicts expire within a minute after that. For a period that begins
    /// now, use [`Keys::retire_after`].
    pub fn retire(&self, key_id: &str, from: Timestamp) {
        self.retire_at(key_id, Deadline::on(from));
    }

    /// Refuses tokens that were signed with this key after this grace period, which begins now. It
    /// is measured, too: a wall clock that was ahead when it began does not extend it.
    // N401
    pub fn retire_after(&self, key_id: &str, grace: Duration, now: Reading) {
        self.retire_at(key_id, Deadline::after(now, grace));
    }

    fn retire_at(&self, key_id: &str, from: Deadline) {
        self.0.rcu(|old| {
            let mut set = KeySet::clone(old);
            set.retire(key_id, from);
            set
        });
    }

    /// Returns whether tokens of this key are refused.
    pub fn is_retired(&self, key_id: &str, now: Reading) -> bool {
        self.0.load().is_retired(key_id, now)
    }

    /// Returns the time from which tokens of this key are refused, if it was retired.
    pub fn retires_at(&self, key_id: &str) -> Option<Timestamp> {
        self.0
            .load()
            .retired
            .iter()
            .find(|(retired, _)| **retired == *key_id)
            .map(|(_, from)| from.date())
    }

    /// Returns the skipped keys: position in the set, and problem.
    pub fn problems(&self) -> Vec<(usize, KeyError)> {
        self.0.load().problems.clone()
    }

    /// Returns the number of usable keys.
    pub fn len(&self) -> usize {
        self.0.load().keys.len()
    }

    /// Returns whether there is no usable key; a parsed set has at least one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn algorithms(&self) -> Algorithms {
        self.0.load().accepted
    }

    pub(super) fn find(&self, wanted: &WantedKey, now: Reading) -> Result<Arc<Key>, Reason> {
        self.0.load().find(wanted, now)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("usable", &self.len()).finish_non_exhaustive()
    }
}

/// The reasons why a text is not a usable set of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// No JSON, duplicate members, or no `keys` array of objects.
    #[error("not a JWK set: an object with an array `keys` of objects, without duplicate members")]
    NotAKeySet,
    /// Over 64 KiB or 100 keys.
    #[error("more than 64 KiB or 100 keys")]
    TooLarge,
    /// No usable key.
    #[error(
        "no key of the set is usable: public, for signatures, and of an accepted algorithm \
         (by default ES256 and EdDSA; others such as RS256 are named)"
    )]
    NoneUsable,
}

/// The key that a token's header requires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WantedKey {
    pub(super) id: Option<Box<str>>,
    pub(super) algorithm: Algorithm,
    /// The claims, before their signature is verified.
    pub(super) claims: Bytes,
}

impl WantedKey {
    /// Returns the `iat` that the token claims: only a hint whether its key may be newer than the
    /// set.
    pub(super) fn claimed_issued_at(&self) -> Option<Timestamp> {
        let claims = Value::parse(&self.claims, &Limits::default()).ok()?;
        claims.get("iat")?.as_u64().map(Timestamp::from_unix_seconds)
    }
}

/// The keys at one time.
#[derive(Clone, Default)]
pub(super) struct KeySet {
    accepted: Algorithms,
    keys: Vec<Arc<Key>>,
    /// Key IDs and the times from which they are refused, the latest first.
    retired: Vec<(Box<str>, Deadline)>,
    problems: Vec<(usize, KeyError)>,
    skipped: Vec<Skipped>,
}

/// A skipped key, as a digest of its text and problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Skipped([u8; 32]);

impl Skipped {
    fn of(key: &str, problem: KeyError) -> Self {
        let text = format!("{problem:?} {key}");
        let hashed = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        let mut digest = [0; 32];
        digest.copy_from_slice(hashed.as_ref());
        Self(digest)
    }
}

impl Key {
    /// Returns whether a token that names the one may mean the other.
    fn is_taken_for(&self, other: &Self) -> bool {
        self.id.is_some() && self.id == other.id && self.algorithm == other.algorithm
    }
}

impl KeySet {
    pub(super) fn parse(bytes: &[u8], accepted: Algorithms) -> Result<Self, KeysError> {
        if bytes.len() > Keys::MAX_BYTES {
            return Err(KeysError::TooLarge);
        }
        let set = Value::parse(bytes, &Limits::default()).map_err(|_| KeysError::NotAKeySet)?;
        let keys = set.get("keys").ok_or(KeysError::NotAKeySet)?;
        let entries: Vec<_> = keys
            .elements()
            .ok_or(KeysError::NotAKeySet)?
            .take(Keys::MAX_KEYS.saturating_add(1))
            .collect();
        if entries.len() > Keys::MAX_KEYS {
            return Err(KeysError::TooLarge);
        }
        // B491: who read the private member of one entry can sign for all that are the same key.
        let shown: Vec<_> = entries.iter().flat_map(|key| Key::shown_private(*key)).collect();
        let (mut usable, mut problems) = (Vec::<(usize, Arc<Key>)>::new(), Vec::new());
        for (position, entry) in entries.iter().enumerate() {
            match Key::parse(*entry, accepted) {
                Ok(key) if shown.contains(&key.number) => {
                    problems.push((position, KeyError::Private));
                }
                Ok(key) => usable.push((position, Arc::new(key))),
                Err(problem) => problems.push((position, problem)),
            }
        }
        let mut parsed = Self { accepted, ..Self::default() };
        let mut ambiguous = Vec::new();
        for (position, key) in &usable {
            match parsed.keys.iter().find(|other| other.is_taken_for(key)) {
                // The same key twice.
                Some(other) if other.value == key.value => {}
                // B053, B490: the second may be meant to replace the first, so neither is used.
                Some(_) => {
                    problems.push((*position, KeyError::DuplicateKeyId));
                    ambiguous.push(Arc::clone(key));
                }
                None => parsed.keys.push(Arc::clone(key)),
            }
        }
        parsed.keys.retain(|key| !ambiguous.iter().any(|other| other.is_taken_for(key)));
        problems.sort_unstable_by_key(|(position, _)| *position);
        let text = |position: usize| entries.get(position).map_or("", |entry| entry.raw());
        parsed.skipped =
            problems.iter().map(|(at, problem)| Skipped::of(text(*at), *problem)).collect();
        parsed.problems = problems;
        if parsed.keys.is_empty() {
            return Err(KeysError::NoneUsable);
        }
        Ok(parsed)
    }

    /// Logs the keys that were skipped, in one line, with the URL of the set if it has one.
    pub(super) fn report_skipped(&self, url: Option<&str>) {
        let of = |is_private: bool| {
            let of_kind = self
                .problems
                .iter()
                .filter(move |(_, problem)| (*problem == KeyError::Private) == is_private);
            of_kind.map(|(at, problem)| format!("{at}: {problem}")).collect::<Vec<_>>().join("; ")
        };
        let (private, others) = (of(true), of(false));
        if !private.is_empty() {
            tracing::error!(
                alarm = Alarm::JwksPrivateKey.code(),
                url,
                keys = private,
                "a public key set shows a private key"
            );
        }
        if !others.is_empty() {
            tracing::warn!(
                alarm = Alarm::JwksKeyUnusable.code(),
                url,
                keys = others,
                "keys of the set are skipped"
            );
        }
    }

    /// Returns the keys that were skipped, to recognize them in a later set.
    pub(super) fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    pub(super) fn find(&self, wanted: &WantedKey, now: Reading) -> Result<Arc<Key>, Reason> {
        let is_retired = |id: &str| self.is_retired(id, now);
        let Some(id) = &wanted.id else {
            // B030: without a `kid`, only if exactly one key matches.
            let mut fitting = self.keys.iter().filter(|key| {
                key.algorithm == wanted.algorithm
                    && !key.id.as_ref().is_some_and(|id| is_retired(id))
            });
            return match fitting.next() {
                Some(key) if fitting.all(|other| other.value == key.value) => Ok(Arc::clone(key)),
                _ => Err(Reason::JwtKeyId),
            };
        };
        // B061
        if is_retired(id) {
            return Err(Reason::JwtKeyRetired);
        }
        let mut named = self.keys.iter().filter(|key| key.id.as_ref() == Some(id)).peekable();
        if named.peek().is_none() {
            return Err(Reason::JwtKeyId);
        }
        // B028: a key is for one algorithm, whatever the token claims.
        named
            .find(|key| key.algorithm == wanted.algorithm)
            .map(Arc::clone)
            .ok_or(Reason::JwtAlgorithmKeyMismatch)
    }

    /// Returns the next set: IDs that are retired in this set, or missing in the next, are retired
    /// in it.
    pub(super) fn followed_by(&self, next: &Self, now: Reading) -> Self {
        let mut set = next.clone();
        for (id, from) in self.retired.iter().rev() {
            set.retire(id, *from);
        }
        for id in self.keys.iter().filter_map(|key| key.id.as_deref()) {
            if !set.has(id) {
                set.retire(id, Deadline::after(now, Duration::ZERO));
            }
        }
        set
    }

    /// Returns the next set of a remote source, where IDs are only retired while they are missing.
    pub(super) fn followed_by_remote(&self, next: &Self, now: Reading) -> Self {
        let mut set = self.followed_by(next, now);
        let keys = &set.keys;
        set.retired.retain(|(id, _)| !keys.iter().any(|key| key.id.as_ref() == Some(id)));
        set
    }

    fn has(&self, id: &str) -> bool {
        self.keys.iter().any(|key| key.id.as_deref() == Some(id))
    }

    fn is_retired(&self, id: &str, now: Reading) -> bool {
        self.retired.iter().any(|(retired, from)| **retired == *id && from.has_passed(now))
    }

    fn retire(&mut self, id: &str, from: Deadline) {
        let earlier = self.retired.iter().position(|(retired, _)| **retired == *id);
        let from = earlier.map_or(from, |position| self.retired.remove(position).1.min(from));
        self.retired.insert(0, (id.into(), from));
        // Of the IDs that are not in the set, the oldest are forgotten. Their tokens are refused
        // because the key is unknown.
        if self.retired.len() > Keys::MAX_KEYS
            && let Some(oldest) = self.retired.iter().rposition(|(id, _)| !self.has(id))
        {
            self.retired.remove(oldest);
        }
    }
}
