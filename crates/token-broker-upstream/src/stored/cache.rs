//! What is kept in memory of a grant, under which key, and for how long.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::digest;
use tower_token_broker::{
    clock::Timestamp,
    exchange::{Credential, Origin},
    principal::{Person, Scopes},
};

use crate::grant::{AccessToken, Grant};

/// A hash over all that took part in the answer.
pub(super) type Key = [u8; 32];

/// G157: each part goes in with its length before it, so that no two lists of parts are one text.
pub(super) fn key<'a>(purpose: &str, person: &Person, upstream: &[&str], asked: impl Iterator<Item = &'a str>) -> Key {
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut part = |text: &str| {
        hash.update(&(text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    };
    part(purpose);
    part(person.issuer());
    part(person.subject());
    upstream.iter().for_each(|text| part(text));
    asked.for_each(part);
    let mut key = [0; 32];
    key.copy_from_slice(hash.finish().as_ref());
    key
}

/// One access token as it is given out.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) credential: Credential,
    /// Not given out from then on if another can be had: a moment before its end.
    usable_until: Timestamp,
    /// A new one is got from then on, while this one is still used.
    refresh_at: Timestamp,
    /// Looked up in the store again from then on.
    recheck_at: Timestamp,
    /// Whether somebody is getting a new one already.
    refreshing: AtomicBool,
    /// Whether the upstream has refused it.
    refused: Arc<AtomicBool>,
}

impl Entry {
    /// Longest time between two looks into the store.
    const RECHECK: Duration = Duration::from_secs(60);
    /// Longer than a refresh takes.
    const REFRESHING: Duration = Duration::from_secs(30);

    pub(super) fn new(
        grant: &Grant,
        token: &AccessToken,
        origin: &Origin,
        now: Timestamp,
        refused: Arc<AtomicBool>,
    ) -> Self {
        let credential = Credential::vouch(token.secret.clone(), origin.clone())
            .with_scopes(token.scopes.clone())
            .from_grant(grant.id.clone(), token.version)
            .until(token.expires_at);
        // What was tried in vain is tried again when the store says so, and the token is used to its very end.
        let (usable_until, refresh_at) = match grant.retry_at.filter(|retry_at| *retry_at > now) {
            // Without a refresh token there is nothing to get sooner or later.
            _ if grant.refresh_token.is_none() => (token.expires_at, token.expires_at),
            Some(retry_at) => (token.expires_at, retry_at),
            None => (usable_until(token), refresh_at(grant, token)),
        };
        let recheck_at = now.plus(Self::RECHECK);
        let refreshing = AtomicBool::new(false);
        Self { credential, usable_until, refresh_at, recheck_at, refreshing, refused }
    }

    /// Whether it can be given out now.
    pub(super) fn is_usable(&self, now: Timestamp) -> bool {
        // Whoever is getting a new one looks into the store, too: nobody has to wait for that.
        let looked_up_by = match self.refreshing.load(Ordering::Acquire) {
            true => self.recheck_at.plus(Self::REFRESHING),
            false => self.recheck_at,
        };
        now < self.usable_until && now < looked_up_by && !self.is_refused()
    }

    /// Whether a new one should be got, and nobody is at it.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        now >= self.refresh_at && !self.refreshing.load(Ordering::Acquire)
    }

    /// Says that somebody is getting a new one; true for the first who says so.
    pub(super) fn begin_refreshing(&self) -> bool {
        !self.refreshing.swap(true, Ordering::AcqRel)
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Acquire)
    }
}

/// A moment before its end: what is sent now must still be good when it arrives.
pub(super) fn usable_until(token: &AccessToken) -> Timestamp {
    let lifetime = token.obtained_at.until(token.expires_at);
    token.expires_at.minus((lifetime / 10).min(Duration::from_secs(10)))
}

/// At 78 to 82 % of its lifetime, spread over the grants, so that what was connected together is not refreshed together.
pub(super) fn refresh_at(grant: &Grant, token: &AccessToken) -> Timestamp {
    let lifetime = token.obtained_at.until(token.expires_at);
    let hash = digest::digest(&digest::SHA256, format!("{} {}", token.version, grant.id.as_str()).as_bytes());
    let jitter = u32::from(hash.as_ref().first().copied().unwrap_or(0)) * 4 / 256;
    token.obtained_at.plus(lifetime.saturating_mul(78 + jitter) / 100)
}

/// What of `need` is not in `held`.
pub(crate) fn missing(need: &Scopes, held: &Scopes) -> Scopes {
    filtered(need, |token| !held.contains(token))
}

/// What is in both.
pub(super) fn common(one: &Scopes, other: &Scopes) -> Scopes {
    filtered(one, |token| other.contains(token))
}

fn filtered(scopes: &Scopes, keep: impl Fn(&str) -> bool) -> Scopes {
    let kept: Vec<&str> = scopes.iter().filter(|token| keep(token)).collect();
    // Tokens that were scopes are scopes.
    Scopes::parse(&kept.join(" ")).unwrap_or_else(|_| Scopes::none())
}
