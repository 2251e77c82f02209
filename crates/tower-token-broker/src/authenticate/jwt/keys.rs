//! A set of public keys, parsed once (RFC 7517).

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, crypto::aws_lc::DEFAULT_PROVIDER};

use super::ed25519::is_weak_point;
use crate::{
    alarm::Alarm,
    clock::{Deadline, Reading, Timestamp},
    json::{Kind, Limits, Value},
    refusal::Reason,
};

/// The algorithms of broker tokens (RFC 7518 §3.4, RFC 8037 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// Returns the name, as in `alg`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// Parses an `alg`: one of two names, in exact spelling.
    // B026, B027.
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "ES256" => Some(Self::Es256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }

    const fn to_jsonwebtoken(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

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

    /// Parses a JWK set.
    ///
    /// # Errors
    /// It is no JWK set, exceeds a limit, or has no usable key.
    pub fn parse(jwk_set: &[u8]) -> Result<Self, KeysError> {
        KeySet::parse(jwk_set).map(|set| Self(Arc::new(ArcSwap::from_pointee(set))))
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
    #[error("no key of the set is usable: EC P-256 or OKP Ed25519, public, for signatures")]
    NoneUsable,
}

/// The reasons why a key of a set is skipped (`jwks.bad_key`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// It has a private member, so every reader of the set can sign.
    #[error(
        "the key has a private member; revoke it, because anyone who read the set can sign with it"
    )]
    Private,
    /// Neither EC P-256 nor OKP Ed25519.
    #[error("only EC P-256 and OKP Ed25519 keys are used")]
    UnsupportedType,
    /// `use`, `key_ops` or `alg` name another purpose.
    #[error("`use`, `key_ops` or `alg` do not allow verifying signatures of this type")]
    OtherPurpose,
    /// A member of the wrong type or form.
    #[error("a member is missing, or has the wrong type, length or encoding")]
    Malformed,
    /// Not a point of the curve, or one of small order.
    #[error("the key is not a valid point of its curve")]
    UnsoundPoint,
    /// Another key has the same `kid`, so neither is used.
    #[error("two keys have the same `kid`")]
    DuplicateKeyId,
}

/// One usable key.
pub(super) struct Key {
    id: Option<Box<str>>,
    algorithm: Algorithm,
    public: DecodingKey,
}

/// The key that a token's header requires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WantedKey {
    pub(super) id: Option<Box<str>>,
    pub(super) algorithm: Algorithm,
}

impl Key {
    /// Returns whether this key made the signature.
    pub(super) fn verify(&self, message: &[u8], signature: &Vec<u8>) -> bool {
        if self.algorithm == Algorithm::EdDsa {
            // B055: also of the commitment.
            let Some(commitment) = signature.first_chunk::<32>() else { return false };
            if is_weak_point(commitment) {
                return false;
            }
        }
        // The provider is named here. The process-wide one panics at its first use if another crate
        // enabled a second backend.
        (DEFAULT_PROVIDER.verifier_factory)(&self.algorithm.to_jsonwebtoken(), &self.public)
            .is_ok_and(|verifier| verifier.verify(message, signature).is_ok())
    }

    fn parse(key: Value<'_>) -> Result<Self, KeyError> {
        if key.kind() != Kind::Object {
            return Err(KeyError::Malformed);
        }
        let text = |name: &str| match key.get(name) {
            None => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or(KeyError::Malformed),
        };
        // B053: the members that RFC 7518 §6 and RFC 8037 §2 call private, and every symmetric key.
        if ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|name| key.get(name).is_some())
        {
            return Err(KeyError::Private);
        }
        let id = text("kid")?;
        if id.as_ref().is_some_and(|id| !is_key_id(id)) {
            return Err(KeyError::Malformed);
        }
        let key_type = text("kty")?.ok_or(KeyError::Malformed)?;
        let curve = text("crv")?;
        let algorithm = match (key_type.as_ref(), curve.as_deref()) {
            ("EC", Some("P-256")) => Algorithm::Es256,
            ("OKP", Some("Ed25519")) => Algorithm::EdDsa,
            _ => return Err(KeyError::UnsupportedType),
        };
        if !may_verify(key, algorithm)? {
            return Err(KeyError::OtherPurpose);
        }
        let public = public_key(key, algorithm)?;
        Ok(Self { id: id.map(|id| id.as_ref().into()), algorithm, public })
    }
}

/// Reads the point of a public key, and checks that it is sound.
fn public_key(key: Value<'_>, algorithm: Algorithm) -> Result<DecodingKey, KeyError> {
    let coordinate = |name: &str| -> Result<[u8; 32], KeyError> {
        let text = key.get(name).and_then(Value::as_str).ok_or(KeyError::Malformed)?;
        let bytes = URL_SAFE_NO_PAD.decode(text.as_bytes());
        bytes.ok().and_then(|bytes| bytes.try_into().ok()).ok_or(KeyError::Malformed)
    };
    match algorithm {
        Algorithm::Es256 => {
            let (x, y) = (coordinate("x")?, coordinate("y")?);
            let point = [&[4][..], &x, &y].concat();
            ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point)
                .map_err(|_| KeyError::UnsoundPoint)?;
            Ok(DecodingKey::from_ec_der(&point))
        }
        Algorithm::EdDsa => {
            let x = coordinate("x")?;
            if key.get("y").is_some() {
                return Err(KeyError::Malformed);
            }
            if is_weak_point(&x) {
                return Err(KeyError::UnsoundPoint);
            }
            Ok(DecodingKey::from_ed_der(&x))
        }
    }
}

/// Checks `use`, `key_ops` and `alg`, if present (RFC 7517 §4.2 to 4.4).
fn may_verify(key: Value<'_>, algorithm: Algorithm) -> Result<bool, KeyError> {
    for (name, expected) in [("use", "sig"), ("alg", algorithm.as_str())] {
        if let Some(value) = key.get(name)
            && value.as_str().ok_or(KeyError::Malformed)? != expected
        {
            return Ok(false);
        }
    }
    let Some(operations) = key.get("key_ops") else { return Ok(true) };
    let mut seen = Vec::new();
    for operation in operations.elements().ok_or(KeyError::Malformed)? {
        let operation = operation.as_str().ok_or(KeyError::Malformed)?.into_owned();
        if seen.contains(&operation) {
            return Err(KeyError::Malformed);
        }
        seen.push(operation);
    }
    Ok(seen.iter().any(|operation| operation == "verify"))
}

/// Returns whether a text may be a key ID: short, without control characters. It is only looked up
/// in memory.
// B029.
pub(super) fn is_key_id(text: &str) -> bool {
    (1..=256).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// The keys at one time.
#[derive(Clone, Default)]
pub(super) struct KeySet {
    keys: Vec<Arc<Key>>,
    /// Key IDs and the times from which they are refused, the latest first.
    retired: Vec<(Box<str>, Deadline)>,
    problems: Vec<(usize, KeyError)>,
}

fn report(position: usize, problem: &KeyError) {
    if *problem == KeyError::Private {
        tracing::error!(
            alarm = Alarm::JwksPrivateKey.code(),
            position,
            "a public key set shows a private key"
        );
    } else {
        tracing::warn!(
            alarm = Alarm::JwksKeyUnusable.code(),
            position,
            %problem,
            "a key of the set is skipped"
        );
    }
}

impl KeySet {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, KeysError> {
        if bytes.len() > Keys::MAX_BYTES {
            return Err(KeysError::TooLarge);
        }
        let set = Value::parse(bytes, &Limits::default()).map_err(|_| KeysError::NotAKeySet)?;
        let keys = set.get("keys").ok_or(KeysError::NotAKeySet)?;
        let elements = || keys.elements().ok_or(KeysError::NotAKeySet);
        let mut parsed = Self::default();
        for (position, key) in elements()?.enumerate() {
            if position >= Keys::MAX_KEYS {
                return Err(KeysError::TooLarge);
            }
            match Key::parse(key) {
                Ok(key) => parsed.keys.push(Arc::new(key)),
                Err(problem) => {
                    report(position, &problem);
                    parsed.problems.push((position, problem));
                }
            }
        }
        // B053: of two keys with the same ID, the second may be meant to replace the first.
        let mut holders: HashMap<Box<str>, usize> = HashMap::new();
        for (position, key) in elements()?.enumerate() {
            if let Some(id) =
                key.get("kid").and_then(|id| id.as_str().map(|id| Box::from(id.as_ref())))
            {
                let others = holders.entry(id).or_insert(0);
                *others = others.saturating_add(1);
                if *others > 1 {
                    tracing::warn!(
                        alarm = Alarm::JwksKeyUnusable.code(),
                        position,
                        "two keys of the set have the same kid; neither is used"
                    );
                    parsed.problems.push((position, KeyError::DuplicateKeyId));
                }
            }
        }
        parsed.keys.retain(|key| {
            key.id.as_ref().is_none_or(|id| holders.get(id).is_none_or(|holders| *holders == 1))
        });
        if parsed.keys.is_empty() {
            return Err(KeysError::NoneUsable);
        }
        Ok(parsed)
    }

    pub(super) fn find(&self, wanted: &WantedKey, now: Reading) -> Result<Arc<Key>, Reason> {
        let is_retired = |id: &str| self.is_retired(id, now);
        let Some(id) = &wanted.id else {
            // B030: without a `kid`, only if exactly one key matches.
            let mut fitting = self.keys.iter().filter(|key| {
                key.algorithm == wanted.algorithm
                    && !key.id.as_ref().is_some_and(|id| is_retired(id))
            });
            return match (fitting.next(), fitting.next()) {
                (Some(key), None) => Ok(Arc::clone(key)),
                _ => Err(Reason::JwtKeyId),
            };
        };
        // B061
        if is_retired(id) {
            return Err(Reason::JwtKeyRetired);
        }
        let key =
            self.keys.iter().find(|key| key.id.as_ref() == Some(id)).ok_or(Reason::JwtKeyId)?;
        // B028: a key is for one algorithm, whatever the token claims.
        if key.algorithm == wanted.algorithm {
            Ok(Arc::clone(key))
        } else {
            Err(Reason::JwtAlgorithmKeyMismatch)
        }
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
