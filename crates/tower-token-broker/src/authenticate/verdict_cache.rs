//! Cache of verdicts on tokens: for seconds, never past the token's expiry, never past its epoch.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use moka::sync::Cache;

use super::{PresentedToken, VerifyError};
use crate::{
    clock::{Clock, Deadline, LEEWAY, Reading, Timestamp},
    inbound::PeerCertificate,
    principal::{Actor, Principal, Resource, Verified},
    refusal::Reason,
    revocation::{Epoch, Revocations},
};

/// Longest lifetime of a good verdict.
const GOOD: Duration = Duration::from_secs(60);
/// Longest lifetime of a bad verdict.
const BAD: Duration = Duration::from_secs(5);

/// The key of a verdict: a token, and the certificate of the client that presented it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VerdictKey([u8; 32]);

impl VerdictKey {
    pub(super) fn new(token: &PresentedToken, certificate: Option<&PeerCertificate>) -> Self {
        let mut key = *token.digest();
        if let Some(certificate) = certificate {
            key.iter_mut().zip(certificate.thumbprint()).for_each(|(byte, other)| *byte ^= other);
        }
        Self(key)
    }
}

/// The verdicts of one verifier for one resource, by the hash of the whole token. Only clones share
/// them.
// G159: another verifier, or the same for another resource, has its own cache.
#[derive(Clone)]
pub(super) struct VerdictCache {
    good: Cache<[u8; 32], Arc<Good>>,
    /// Separate, so that invalid tokens cannot evict valid ones.
    bad: Cache<[u8; 32], (Reason, Deadline)>,
}

struct Good {
    principal: Principal,
    /// When the token must be verified again.
    stale: Deadline,
    ends_at: Timestamp,
    stamp: AtomicU64,
}

/// A principal that was not revoked at this epoch.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) principal: Principal,
    pub(super) epoch: Epoch,
    pub(super) ends_at: Timestamp,
}

/// The reason why a token is refused, and its principal if it is known: the record names a caller
/// whose token was revoked.
#[derive(Debug)]
pub(super) struct RefusedToken {
    pub(super) reason: Reason,
    pub(super) principal: Option<Principal>,
}

impl From<Reason> for RefusedToken {
    fn from(reason: Reason) -> Self {
        Self { reason, principal: None }
    }
}

impl RefusedToken {
    pub(super) fn known(reason: Reason, principal: &Principal) -> Self {
        Self { reason, principal: Some(principal.clone()) }
    }
}

impl VerdictCache {
    /// Creates a cache for this number of good verdicts, and the same number of bad ones.
    pub(super) fn new(entries: u64) -> Self {
        // moka has its own clock: its lifetimes only collect; each read compares with ours.
        Self {
            good: Cache::builder().max_capacity(entries).time_to_live(GOOD).build(),
            bad: Cache::builder().max_capacity(entries).time_to_live(BAD).build(),
        }
    }

    /// Returns the largest number of good verdicts.
    pub(super) fn entries(&self) -> Option<u64> {
        self.good.policy().max_capacity()
    }

    /// Returns the verdict on this token, if it is cached and still valid.
    pub(super) fn recall(
        &self,
        key: &VerdictKey,
        clock: &Clock,
        revocations: &Revocations,
    ) -> Option<Result<Admitted, RefusedToken>> {
        let now = clock.read();
        if let Some(good) = self.good.get(&key.0) {
            if now.wall >= good.ends_at {
                return Some(Err(RefusedToken::known(Reason::JwtExpired, &good.principal)));
            }
            // N401: measured, so that a verdict from under a wrong clock lives no longer.
            if good.stale.has_passed(now) {
                return None;
            }
            // N258: read before the tables, so that a revocation in between is checked next time.
            let epoch = revocations.epoch();
            if epoch.0 != good.stamp.load(Ordering::Acquire) {
                // Only the IDs of the verdict are looked up, so one revocation does not re-verify
                // every token.
                if let Err(reason) = revocations.stands(&good.principal) {
                    return Some(Err(RefusedToken::known(reason, &good.principal)));
                }
                good.stamp.store(epoch.0, Ordering::Release);
            }
            return Some(Ok(Admitted {
                principal: good.principal.clone(),
                epoch,
                ends_at: good.ends_at,
            }));
        }
        match self.bad.get(&key.0) {
            Some((reason, stale)) if !stale.has_passed(now) => Some(Err(reason.into())),
            Some(_) | None => None,
        }
    }

    /// Judges the verifier's result and caches the verdict.
    pub(super) fn judge(
        &self,
        key: &VerdictKey,
        found: Result<Verified, VerifyError>,
        resource: &Resource,
        clock: &Clock,
        revocations: &Revocations,
    ) -> Result<Admitted, RefusedToken> {
        let now = clock.read();
        let verified = match found {
            Ok(verified) => verified,
            Err(rejected) => {
                if rejected.may_be_remembered() {
                    self.bad.insert(key.0, (rejected.reason(), Deadline::after(now, BAD)));
                }
                return Err(rejected.reason().into());
            }
        };
        let principal = Principal::of(&verified);
        // A017: a token for another resource is refused, even if the verifier accepts it.
        if verified.resource() != resource {
            return Err(RefusedToken::known(Reason::WrongResource, &principal));
        }
        if let Err(reason) = within_retention(&principal, now) {
            return Err(RefusedToken::known(reason, &principal));
        }
        let ends_at = verified.expires_at().plus(LEEWAY);
        if now.wall >= ends_at {
            return Err(RefusedToken::known(Reason::JwtExpired, &principal));
        }
        let epoch = revocations.epoch();
        revocations.stands(&principal).map_err(|reason| RefusedToken::known(reason, &principal))?;
        revocations.note_seen(&principal);
        let cached_for = verified.longest_cached().map_or(GOOD, |longest| longest.min(GOOD));
        let good = Good {
            principal: principal.clone(),
            stale: Deadline::after(now, cached_for),
            ends_at,
            stamp: AtomicU64::new(epoch.0),
        };
        if !cached_for.is_zero() {
            self.good.insert(key.0, Arc::new(good));
        }
        Ok(Admitted { principal, epoch, ends_at })
    }
}

/// Refuses what revocations could not stop: a token that is valid for longer than they are kept,
/// and a chain of more actors than are looked up.
// N403: whatever verifies the token.
fn within_retention(principal: &Principal, now: Reading) -> Result<(), Reason> {
    let (issued, expires) = (principal.issued_at(), principal.expires_at());
    if issued.until(expires) > Revocations::RETENTION
        || now.wall.until(expires) > Revocations::RETENTION.saturating_add(LEEWAY)
    {
        return Err(Reason::JwtLifetime);
    }
    let chain = std::iter::successors(principal.actor(), |actor| actor.before());
    if chain.take(Actor::MAX_CHAIN + 1).count() > Actor::MAX_CHAIN {
        return Err(Reason::JwtClaimType);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        principal::{TokenTimes, User},
        revocation::RevocationTarget,
        secret::Secret,
    };

    struct Setting {
        clock: Clock,
        revocations: Revocations,
        verdicts: VerdictCache,
        resource: Resource,
        token: PresentedToken,
    }

    fn setting() -> Setting {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_000));
        let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
        Setting {
            revocations: Revocations::new(clock.clone()),
            verdicts: VerdictCache::new(100),
            token: PresentedToken::new(Secret::from_text("tok".into())),
            clock,
            resource,
        }
    }

    impl Setting {
        fn verified(&self, life: u64) -> Verified {
            let now = self.clock.now();
            let times = TokenTimes {
                id: "1",
                issued_at: now,
                expires_at: now.plus(Duration::from_secs(life)),
            };
            Verified::vouch(
                User::new("https://i.example", "alice"),
                "client",
                self.resource.clone(),
                times,
            )
        }

        fn judge(&self, found: Result<Verified, VerifyError>) -> Result<(), Reason> {
            let judged = self.verdicts.judge(
                &self.key(),
                found,
                &self.resource,
                &self.clock,
                &self.revocations,
            );
            judged.map(|_| ()).map_err(|refused| refused.reason)
        }

        fn key(&self) -> VerdictKey {
            VerdictKey::new(&self.token, None)
        }

        fn recall(&self) -> Option<Result<(), Reason>> {
            self.verdicts
                .recall(&self.key(), &self.clock, &self.revocations)
                .map(|verdict| verdict.map(|_| ()).map_err(|refused| refused.reason))
        }
    }

    #[test]
    fn a_good_verdict_lives_for_60_seconds() {
        let setting = setting();
        setting.judge(Ok(setting.verified(600))).unwrap();
        setting.clock.advance(GOOD - Duration::from_millis(1));
        assert_eq!(setting.recall(), Some(Ok(())));
        setting.clock.advance(Duration::from_millis(1));
        assert_eq!(setting.recall(), None);
    }

    #[test]
    fn a_good_verdict_ends_with_its_token() {
        let setting = setting();
        setting.judge(Ok(setting.verified(10))).unwrap();
        setting.clock.advance(Duration::from_secs(10) + LEEWAY - Duration::from_millis(1));
        assert_eq!(setting.recall(), Some(Ok(())));
        setting.clock.advance(Duration::from_millis(1));
        assert_eq!(setting.recall(), Some(Err(Reason::JwtExpired)));
        assert_eq!(setting.judge(Ok(setting.verified(0))), Ok(()), "within the leeway");
    }

    #[test]
    fn a_revocation_reaches_cached_verdicts() {
        let setting = setting();
        setting.judge(Ok(setting.verified(600))).unwrap();
        setting.revocations.revoke(RevocationTarget::User(User::new("https://i.example", "bob")));
        assert_eq!(setting.recall(), Some(Ok(())));
        setting.revocations.revoke(RevocationTarget::User(User::new("https://i.example", "alice")));
        assert_eq!(setting.recall(), Some(Err(Reason::Revoked)), "N258");
        assert_eq!(setting.judge(Ok(setting.verified(600))), Err(Reason::Revoked));
    }

    #[test]
    fn a_cached_verdict_follows_block_and_unblock() {
        let (setting, alice) = (setting(), User::new("https://i.example", "alice"));
        setting.judge(Ok(setting.verified(600))).unwrap();
        setting.revocations.block(alice.clone());
        assert_eq!(setting.recall(), Some(Err(Reason::Blocked)));
        assert_eq!(setting.judge(Ok(setting.verified(600))), Err(Reason::Blocked));
        setting.revocations.unblock(&alice);
        assert_eq!(setting.recall(), Some(Ok(())));
    }

    #[test]
    fn a_bad_verdict_is_cached_for_5_seconds() {
        let setting = setting();
        assert_eq!(
            setting.judge(Err(VerifyError::for_now(Reason::KeysUnavailable))),
            Err(Reason::KeysUnavailable)
        );
        assert_eq!(setting.recall(), None);
        assert_eq!(
            setting.judge(Err(VerifyError::because(Reason::JwtSignature))),
            Err(Reason::JwtSignature)
        );
        setting.clock.advance(BAD - Duration::from_millis(1));
        assert_eq!(setting.recall(), Some(Err(Reason::JwtSignature)));
        setting.clock.advance(Duration::from_millis(1));
        assert_eq!(setting.recall(), None);
    }

    #[test]
    fn g158_similar_tokens_share_no_verdict() {
        let setting = setting();
        for length in [20, 64, 512, 4096] {
            let token = |last: char| {
                PresentedToken::new(Secret::from_text("t".repeat(length) + &last.to_string()))
            };
            let (one, other) = (token('1'), token('2'));
            let (one, other) = (VerdictKey::new(&one, None), VerdictKey::new(&other, None));
            let judged = setting.verdicts.judge(
                &one,
                Ok(setting.verified(600)),
                &setting.resource,
                &setting.clock,
                &setting.revocations,
            );
            assert!(judged.is_ok());
            let recall = |key| setting.verdicts.recall(key, &setting.clock, &setting.revocations);
            assert!(recall(&one).is_some() && recall(&other).is_none(), "{length}");
        }
    }

    #[test]
    fn a017_a_token_for_another_resource_is_refused() {
        let setting = setting();
        let now = setting.clock.now();
        let times = TokenTimes { id: "1", issued_at: now, expires_at: now.plus(GOOD) };
        let other = Resource::parse("https://broker.example.com/mail/mcp").unwrap();
        let verified = Verified::vouch(User::new("i", "alice"), "client", other, times);
        assert_eq!(setting.judge(Ok(verified)), Err(Reason::WrongResource));
        assert_eq!(setting.recall(), None);
    }

    #[test]
    fn g163_bad_tokens_evict_no_good_verdict() {
        let setting = setting();
        assert_eq!(setting.judge(Ok(setting.verified(300))), Ok(()));
        for number in 0..50_000 {
            let token = PresentedToken::new(Secret::from_text(format!("made up {number}")));
            let rejected = Err(VerifyError::because(Reason::JwtSignature));
            let Setting { verdicts, resource, clock, revocations, .. } = &setting;
            drop(verdicts.judge(
                &VerdictKey::new(&token, None),
                rejected,
                resource,
                clock,
                revocations,
            ));
        }
        setting.verdicts.bad.run_pending_tasks();
        let (kept, most) = (setting.verdicts.bad.entry_count(), 100);
        assert!((1..=most).contains(&kept), "{kept}");
        assert_eq!(setting.recall(), Some(Ok(())));
    }

    #[test]
    fn n401_a_verdict_from_under_a_wrong_clock_lives_no_longer() {
        let day = Duration::from_secs(24 * 3600);
        let steps = |from: Timestamp| [from, from.plus(day), from.minus(day)];
        for first in steps(setting().clock.now()) {
            for second in steps(setting().clock.now()) {
                let setting = setting();
                setting.clock.set_wall_clock(first);
                // Valid for as long as any token is.
                let verified = setting.verified(24 * 3600);
                setting.judge(Ok(verified)).unwrap();
                setting.clock.set_wall_clock(second);
                setting.clock.advance(GOOD);
                let recalled = setting.recall();
                assert!(
                    matches!(recalled, None | Some(Err(Reason::JwtExpired))),
                    "N401 {first} {second}: {recalled:?}"
                );
            }
        }
    }

    #[test]
    fn n401_a_verdict_does_not_survive_the_sleep_of_its_system() {
        let setting = setting();
        setting.judge(Ok(setting.verified(600))).unwrap();
        setting.clock.set_wall_clock(setting.clock.now().plus(GOOD));
        assert_eq!(setting.recall(), None, "N401: the monotonic clock stood still");
    }

    #[test]
    fn n403_a_token_that_outlives_revocations_is_refused() {
        let day = Revocations::RETENTION.as_secs();
        let setting = setting();
        assert_eq!(setting.judge(Ok(setting.verified(day))), Ok(()));
        for life in [day + 1, 30 * day, 1 << 53] {
            let judged = setting.judge(Ok(setting.verified(life)));
            assert_eq!(judged, Err(Reason::JwtLifetime), "N403 {life}");
        }
        // Issued in the future, by its own claim.
        let issued_at = setting.clock.now().plus(Revocations::RETENTION);
        let times = TokenTimes { id: "1", issued_at, expires_at: issued_at.plus(GOOD) };
        let alice = User::new("https://i.example", "alice");
        let verified = Verified::vouch(alice, "client", setting.resource.clone(), times);
        assert_eq!(setting.judge(Ok(verified)), Err(Reason::JwtLifetime), "N403");
    }

    #[test]
    fn n402_a_revoked_actor_reaches_cached_verdicts() {
        let setting = setting();
        let agent = User::new("https://agents.example", "agent");
        let acting = || {
            let actor = Actor::new(agent.clone(), None).with_client("agents");
            setting.verified(600).with_actor(actor)
        };
        setting.judge(Ok(acting())).unwrap();
        setting.revocations.block(agent.clone());
        assert_eq!(setting.recall(), Some(Err(Reason::Blocked)), "N402");
        assert_eq!(setting.judge(Ok(acting())), Err(Reason::Blocked), "N402");
        setting.revocations.unblock(&agent);
        assert_eq!(setting.recall(), Some(Ok(())));
        let agents = RevocationTarget::Client {
            issuer: "https://agents.example".into(),
            id: "agents".into(),
        };
        setting.revocations.revoke(agents);
        assert_eq!(setting.recall(), Some(Err(Reason::Revoked)), "N402");
    }

    #[test]
    fn n402_a_chain_that_is_too_long_is_refused() {
        let setting = setting();
        let chain = |length: usize| {
            (0..length).fold(None, |before, number| {
                Some(Actor::new(User::new("https://i.example", number.to_string()), before))
            })
        };
        let judge =
            |length| setting.judge(Ok(setting.verified(600).with_actor(chain(length).unwrap())));
        assert_eq!(judge(Actor::MAX_CHAIN), Ok(()));
        assert_eq!(judge(Actor::MAX_CHAIN + 1), Err(Reason::JwtClaimType), "N402");
    }
}
