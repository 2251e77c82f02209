//! Signing keys of the store: rotated by one process, used by all.
//!
//! A new key is published before it signs ([`KeySettings::published_before_use`]), so that each
//! verifier knows it by then, and after it has signed, as long as its tokens live. Each process
//! reads the keys once a minute. A step by compare-and-swap adds a key, so several processes rotate
//! once.

use std::{cmp::Reverse, fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use serde_json::json;
use token_broker_store::{
    StoreError,
    authority::{AddSigningKey, KeyTimes, SigningKey as StoredKey, SigningKeySet, SigningKeyStore},
};
use tower_token_broker::{
    Broker, Secret,
    alarm::Alarm,
    audit::{Note, PublishedKey},
    authenticate::jwt::{Keys, KeysError},
    clock::{Clock, LEEWAY, Timestamp},
    principal::Initiator,
    revocation::Revocations,
};

use crate::issue::{Algorithm, BrokerToken, KeyError, Mint, MintError, SigningKey};

/// Settings of the signing keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "does nothing unless it is used"]
pub struct KeySettings {
    /// Algorithm of new keys; ES256 by default.
    pub algorithm: Algorithm,
    /// Time for which a key signs; 90 days by default.
    pub period: Duration,
    /// Time for which a key is published before it signs; one hour by default. Verifiers fetch keys
    /// more often.
    pub published_before_use: Duration,
}

impl Default for KeySettings {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::Es256,
            period: Duration::from_secs(90 * 24 * 60 * 60),
            published_before_use: Duration::from_secs(60 * 60),
        }
    }
}

/// The reasons why signing keys cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key cannot be created.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The keys cannot be published.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The new key could not be recorded.
    #[error("the new signing key could not be recorded in the audit log")]
    NotRecorded,
    /// Other processes changed the keys at each attempt.
    #[error("other processes changed the signing keys again and again; try again")]
    Contended,
}

/// The reasons why no token is minted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyringMintError {
    /// No key signs now: the successor of the last one cannot be read.
    #[error("no signing key of the store signs now")]
    NoKey,
    /// The key does not sign.
    #[error(transparent)]
    Mint(#[from] MintError),
}

/// The signing keys of one issuer, as the store has them.
pub(crate) struct SigningKeyring<S> {
    issuer: Box<str>,
    store: Arc<S>,
    broker: Broker,
    settings: KeySettings,
    current: ArcSwap<Current>,
    /// For verifiers in this process.
    published: Keys,
}

/// The keys at one time.
struct Current {
    /// The published keys, the latest first.
    signing: Vec<(KeyTimes, SigningKey)>,
    jwks: Bytes,
}

/// Attempts to change the keys in one step.
const ATTEMPTS: usize = 8;
/// Time between two readings of the keys.
const READ_EVERY: Duration = Duration::from_secs(60);

impl<S: SigningKeyStore> SigningKeyring<S> {
    /// Loads the keys. Without one that can sign, the first is created.
    pub(crate) async fn load(
        broker: &Broker,
        issuer: &str,
        store: &Arc<S>,
        settings: KeySettings,
    ) -> Result<Arc<Self>, KeyringError> {
        let (current, published) =
            Rotation { broker, store: &**store, settings }.current(None).await?;
        Ok(Arc::new(Self {
            issuer: issuer.into(),
            store: Arc::clone(store),
            broker: broker.clone(),
            settings,
            current: ArcSwap::from_pointee(current),
            published,
        }))
    }

    /// Reads the keys again, and publishes the next one if it is time to.
    pub(crate) async fn refresh(&self) -> Result<(), KeyringError> {
        let (current, published) = self.rotation().current(None).await?;
        self.follow(current, &published);
        Ok(())
    }

    /// Publishes a new key now, to sign when it was published long enough.
    pub(crate) async fn rotate(&self, initiator: &Initiator) -> Result<(), KeyringError> {
        let (current, published) = self.rotation().current(Some(initiator)).await?;
        self.follow(current, &published);
        Ok(())
    }

    fn rotation(&self) -> Rotation<'_, S> {
        Rotation { broker: &self.broker, store: &*self.store, settings: self.settings }
    }

    fn follow(&self, current: Current, published: &Keys) {
        // Published first: no token is signed with a key that this process does not verify.
        self.published.replace(published, self.broker.clock().read());
        self.current.store(Arc::new(current));
    }

    /// Mints a token that is issued at this time, with the key that signs now.
    pub(crate) fn mint(
        &self,
        mint: &Mint,
        issued_at: Timestamp,
    ) -> Result<BrokerToken, KeyringMintError> {
        let now = self.broker.clock().now();
        let current = self.current.load();
        let mut signing = current.signing.iter();
        // X21: a key that has stopped to sign is not published for as long as a new token lives.
        let key = signing.find(|(times, _)| signs_at(times, now)).map(|(_, key)| key);
        let key = key.ok_or(KeyringMintError::NoKey)?;
        Ok(mint.sign(&self.issuer, key, issued_at)?)
    }

    /// Signs a JWT of these claims with the key that signs now.
    pub(crate) fn sign_jwt(&self, claims: &str) -> Result<Secret, KeyError> {
        let now = self.broker.clock().now();
        let current = self.current.load();
        let mut signing = current.signing.iter();
        let key = signing.find(|(times, _)| signs_at(times, now)).map(|(_, key)| key);
        key.ok_or(KeyError::NotAKey)?.sign_jwt(claims)
    }

    /// Returns the public keys for verifiers in this process.
    pub(crate) const fn keys(&self) -> &Keys {
        &self.published
    }

    /// Returns the JWK set (RFC 7517 §5).
    pub(crate) fn jwks(&self) -> Bytes {
        self.current.load().jwks.clone()
    }

    /// Reads the keys once a minute until the keyring is dropped or the broker shuts down.
    pub(crate) fn keep_current(self: &Arc<Self>) {
        let (weak, clock) = (Arc::downgrade(self), self.broker.clock().clone());
        let mut ending = Box::pin(self.broker.ending());
        drop(self.broker.tasks().spawn("signing keys", async move {
            loop {
                let next = clock.now().plus(READ_EVERY);
                // Both may be dropped: one is a timer, and the other only waits.
                tokio::select! {
                    () = clock.sleep_until(next) => {}
                    () = &mut ending => return,
                }
                let Some(keyring) = weak.upgrade() else { return };
                if let Err(error) = keyring.refresh().await {
                    tracing::error!(
                        alarm = Alarm::SigningKeysNotLoaded.code(),
                        %error,
                        "the signing keys could not be read; the last ones are used"
                    );
                }
            }
        }));
    }
}

impl<S> fmt::Debug for SigningKeyring<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKeyring").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// One reading of the keys, with the step that it may need.
struct Rotation<'a, S> {
    broker: &'a Broker,
    store: &'a S,
    settings: KeySettings,
}

impl<S: SigningKeyStore> Rotation<'_, S> {
    /// Returns the keys, after the next one was added if it is time to, or if `rotate` demands it.
    async fn current(&self, rotate: Option<&Initiator>) -> Result<(Current, Keys), KeyringError> {
        let by_itself = Initiator::system("key rotation");
        for _ in 0..ATTEMPTS {
            let now = self.clock().now();
            let set = self.store.signing_keys().await?;
            let known = Known::read(&set);
            let signs_from = match (known.signs_now(now), known.next_step(now, self.settings)) {
                // No key can sign, so there is nothing to wait for.
                (false, _) => now,
                (true, is_due) if is_due || rotate.is_some() => {
                    now.plus(self.settings.published_before_use)
                }
                (true, _) => return known.current(now),
            };
            let added = self.add(&set, &known, now, signs_from).await?;
            if let Some(id) = added {
                let initiator = rotate.unwrap_or(&by_itself);
                let published = PublishedKey { key: &id, signs_from };
                let note = Note::key_published(published);
                let recorded = self.broker.audit_log().note(initiator, note).await;
                recorded.map_err(|_| KeyringError::NotRecorded)?;
                return Known::read(&self.store.signing_keys().await?).current(now);
            }
        }
        Err(KeyringError::Contended)
    }

    fn clock(&self) -> &Clock {
        self.broker.clock()
    }

    /// Adds a key, unless another process did; returns its ID.
    async fn add(
        &self,
        set: &SigningKeySet,
        known: &Known,
        now: Timestamp,
        signs_from: Timestamp,
    ) -> Result<Option<Box<str>>, KeyringError> {
        let key = SigningKey::generate(self.settings.algorithm)?;
        let times = KeyTimes::new(now, signs_from);
        let id = Box::from(key.id());
        let stored = StoredKey::new(key.id(), key.algorithm().as_str(), key.pkcs8().clone(), times);
        let mut request = AddSigningKey::new(set.generation, stored);
        // B061: published as long as a token of it can live.
        let published_until = signs_from.plus(Revocations::RETENTION + LEEWAY);
        for (times, other) in &known.keys {
            if times.signs_until.is_none() {
                let until = times.until(signs_from, published_until);
                request = request.times(other.id(), until);
            }
        }
        Ok(self.store.add_signing_key(&request).await?.then_some(id))
    }
}

/// The keys that can be read.
struct Known {
    keys: Vec<(KeyTimes, SigningKey)>,
}

impl Known {
    fn read(set: &SigningKeySet) -> Self {
        if !set.unreadable.is_empty() {
            tracing::error!(
                alarm = Alarm::SigningKeysNotLoaded.code(),
                keys = set.unreadable.len(),
                "signing keys of the store cannot be decrypted; they sign and verify nothing"
            );
        }
        let parsed = set.keys.iter().filter_map(|stored| {
            let algorithm = [Algorithm::Es256, Algorithm::EdDsa]
                .into_iter()
                .find(|algorithm| algorithm.as_str() == &*stored.algorithm)?;
            let key = SigningKey::from_pkcs8(algorithm, stored.private_key.clone()).ok()?;
            Some((stored.times, key))
        });
        let mut keys: Vec<_> = parsed.collect();
        // The latest first.
        keys.sort_by_key(|(times, _)| Reverse(times.signs_from));
        Self { keys }
    }

    /// Returns whether a key signs now that no other one has replaced.
    fn signs_now(&self, now: Timestamp) -> bool {
        self.keys.iter().any(|(times, _)| signs_at(times, now))
    }

    /// Returns whether the last key will have signed for its period when the next one can.
    fn next_step(&self, now: Timestamp, settings: KeySettings) -> bool {
        let last = self.keys.first().map(|(times, _)| times.signs_from);
        let soon = now.plus(settings.published_before_use);
        last.is_none_or(|last| soon >= last.plus(settings.period))
    }

    fn current(self, now: Timestamp) -> Result<(Current, Keys), KeyringError> {
        // X21: also a key that is published from a later time on. Another replica added it, whose
        // clock is ahead, and it may sign there already.
        let is_published = |times: &KeyTimes| times.published_until.is_none_or(|until| now < until);
        let keys: Vec<_> = self.keys.into_iter().filter(|(times, _)| is_published(times)).collect();
        let public: Vec<_> = keys.iter().map(|(_, key)| key.public()).collect();
        let jwks = json!({ "keys": public }).to_string();
        let published = Keys::parse(jwks.as_bytes())?;
        Ok((Current { signing: keys, jwks: jwks.into() }, published))
    }
}

/// Returns whether a key signs at this time.
fn signs_at(times: &KeyTimes, now: Timestamp) -> bool {
    times.signs_from <= now && times.signs_until.is_none_or(|until| now < until)
}
