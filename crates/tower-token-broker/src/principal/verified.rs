//! The result of verifying a token.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use super::{Actor, Resource, Scopes, User};
use crate::{clock::Timestamp, json::Value};

/// The facts that a verified token proves. Only verifiers call [`Verified::vouch`], which creates
/// it.
#[derive(Clone, Debug)]
#[must_use = "unused verification result"]
pub struct Verified(pub(super) Arc<Proof>);

#[derive(Debug)]
pub(super) struct Proof {
    pub(super) user: User,
    pub(super) client: Box<str>,
    pub(super) token_id: Box<str>,
    pub(super) family: Option<Box<str>>,
    pub(super) actor: Option<Actor>,
    pub(super) scopes: Scopes,
    pub(super) resource: Resource,
    pub(super) issued_at: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) more: Option<Box<More>>,
    /// The longest time for which the layer caches the verdict; zero: not at all.
    pub(super) cached_for: Option<Duration>,
    pub(super) in_record: OnceLock<Box<[u8]>>,
}

/// Facts that few tokens have.
#[derive(Clone, Debug, Default)]
pub(super) struct More {
    pub(super) groups: Box<[Box<str>]>,
    pub(super) acr: Option<Box<str>>,
    pub(super) account: Option<Box<str>>,
    pub(super) confirmation: Option<Confirmation>,
    /// The JSON text of each claim that the verifier was configured to keep.
    pub(super) claims: BTreeMap<Box<str>, Box<str>>,
}

/// The key to which a token is bound (RFC 7800 §3). The authenticate layer compares a certificate
/// with that of the connection. It refuses a token that is bound to a JWK, because a bearer token
/// has no proof of possession.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Confirmation {
    /// The SHA-256 thumbprint of a JWK, `jkt` (RFC 9449 §6).
    JwkThumbprint(Box<str>),
    /// The SHA-256 thumbprint of a client certificate, `x5t#S256` (RFC 8705 §3.1).
    CertificateThumbprint(Box<str>),
}

impl Verified {
    /// Vouches that the presented token was verified for `resource` and proves these facts. The
    /// calling code checked signature, issuer, audience and times, or relied on a party that did.
    pub fn vouch(user: User, client: &str, resource: Resource, token: TokenTimes<'_>) -> Self {
        Self(Arc::new(Proof {
            user,
            client: client.into(),
            token_id: token.id.into(),
            family: None,
            actor: None,
            scopes: Scopes::none(),
            resource,
            issued_at: token.issued_at,
            expires_at: token.expires_at,
            more: None,
            cached_for: None,
            in_record: OnceLock::new(),
        }))
    }

    /// Limits the result to one request, because it depends on more than the token and the client
    /// certificate, such as a proof of possession over method and URI (RFC 9449). The layer does
    /// not cache it.
    pub fn for_this_request(self) -> Self {
        self.cached_for(Duration::ZERO)
    }

    /// Limits the time for which the layer caches the result, below its own limit of 60 s: for what
    /// may change while the token is valid. Zero is [`Verified::for_this_request`].
    pub fn cached_for(self, time: Duration) -> Self {
        self.with(|proof| {
            proof.cached_for = Some(proof.cached_for.map_or(time, |earlier| earlier.min(time)));
        })
    }

    pub(crate) fn longest_cached(&self) -> Option<Duration> {
        self.0.cached_for
    }

    /// Sets the scopes.
    pub fn with_scopes(self, scopes: Scopes) -> Self {
        self.with(|proof| proof.scopes = scopes)
    }

    /// Sets the token family: all tokens of one authorization.
    pub fn with_family(self, family: &str) -> Self {
        self.with(|proof| proof.family = Some(family.into()))
    }

    /// Sets the actor (RFC 8693 §4.1).
    pub fn with_actor(self, actor: Actor) -> Self {
        self.with(|proof| proof.actor = Some(actor))
    }

    /// Sets the groups or roles that the token names.
    pub fn with_groups<'a>(self, groups: impl IntoIterator<Item = &'a str>) -> Self {
        let groups = groups.into_iter().map(Box::from).collect();
        self.with_more(|more| more.groups = groups)
    }

    /// Sets the authentication context class (`acr`, OpenID Connect Core §2).
    pub fn with_acr(self, acr: &str) -> Self {
        self.with_more(|more| more.acr = Some(acr.into()))
    }

    /// Sets the account for which the token was issued, where a user has several at one server.
    pub fn with_account(self, account: &str) -> Self {
        self.with_more(|more| more.account = Some(account.into()))
    }

    /// Binds the token to a key (`cnf`, RFC 7800 §3).
    pub fn with_confirmation(self, confirmation: Confirmation) -> Self {
        self.with_more(|more| more.confirmation = Some(confirmation))
    }

    /// Keeps a claim for policies and credential sources.
    pub fn with_claim(self, name: &str, value: Value<'_>) -> Self {
        let value = value.raw().into();
        self.with_more(|more| drop(more.claims.insert(name.into(), value)))
    }

    fn with_more(self, change: impl FnOnce(&mut More)) -> Self {
        self.with(|proof| change(proof.more.get_or_insert_default()))
    }

    fn with(self, change: impl FnOnce(&mut Proof)) -> Self {
        let mut proof = Arc::try_unwrap(self.0).unwrap_or_else(|shared| Proof {
            user: shared.user.clone(),
            client: shared.client.clone(),
            token_id: shared.token_id.clone(),
            family: shared.family.clone(),
            actor: shared.actor.clone(),
            scopes: shared.scopes.clone(),
            resource: shared.resource.clone(),
            issued_at: shared.issued_at,
            expires_at: shared.expires_at,
            more: shared.more.clone(),
            cached_for: shared.cached_for,
            in_record: OnceLock::new(),
        });
        change(&mut proof);
        Self(Arc::new(proof))
    }

    /// Returns the resource for which the token was issued.
    pub fn resource(&self) -> &Resource {
        &self.0.resource
    }

    /// Returns the time of expiry (`exp`, without leeway).
    pub fn expires_at(&self) -> Timestamp {
        self.0.expires_at
    }
}

/// The ID and times of a token, for [`Verified::vouch`].
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "these are all; callers name each of them")]
pub struct TokenTimes<'a> {
    /// `jti`: unique for its issuer.
    pub id: &'a str,
    /// `iat`.
    pub issued_at: Timestamp,
    /// `exp`, without leeway.
    pub expires_at: Timestamp,
}
