//! The revocations of one process.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::RwLock;
use tokio::sync::watch;

use super::{
    Observer, Registered, RevocationChange, Sequence,
    observers::Observers,
    placed::Placed,
    seen::Seen,
    tables::{RevokedAt, Tables},
};
use crate::{
    clock::{Clock, Deadline, LEEWAY, Moment, Timestamp},
    principal::GrantId,
    principal::{Principal, Resource, User, Verified},
    refusal::Reason,
};

/// A number that rises with each revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub(crate) u64);

/// The target of a revocation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RevocationTarget {
    /// One broker token, by issuer and `jti`.
    Token {
        /// `iss`
        issuer: Arc<str>,
        /// `jti`
        id: Arc<str>,
    },
    /// All tokens of one authorization, by issuer and family.
    Family {
        /// `iss`
        issuer: Arc<str>,
        /// The ID of the family.
        id: Arc<str>,
    },
    /// All tokens of one client, by issuer and `client_id`, that were issued until now, and those
    /// in whose actor chain it is.
    Client {
        /// `iss`
        issuer: Arc<str>,
        /// `client_id`
        id: Arc<str>,
    },
    /// All tokens of one user that were issued until now, and those by which it acts for others
    /// (RFC 8693 §4.1). `iat` has whole seconds, so a token of
    /// the second of the revocation is refused, too.
    User(User),
    /// One grant, until it is restored.
    Grant(GrantId),
    /// All tokens for one server that were issued until now.
    Server(Resource),
    /// All tokens that were issued until now.
    Everything,
}

impl RevocationTarget {
    /// Returns the kind of the target, as in the audit record: `token`, `family`, `client`, `user`,
    /// `grant`, `server` or `everything`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Token { .. } => "token",
            Self::Family { .. } => "family",
            Self::Client { .. } => "client",
            Self::User(_) => "user",
            Self::Grant(_) => "grant",
            Self::Server(_) => "server",
            Self::Everything => "everything",
        }
    }
}

/// The revocations of one process. The [`Broker`](crate::Broker) owns them and revokes, so each
/// revocation is recorded. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Revocations(Arc<Shared>);

/// The phase of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Requests are accepted.
    Serving = 0,
    /// New requests are refused; idle streams end, calls continue.
    Draining = 1,
    /// Everything that is still open is cut.
    Over = 2,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    retention: Duration,
    capacity: usize,
    tables: RwLock<Tables>,
    /// Written after the tables, while they are locked: a reader of a number finds all changes that
    /// it counts.
    epoch: AtomicU64,
    changed: watch::Sender<Epoch>,
    feeds: ArcSwap<Vec<Arc<Heard>>>,
    seen: Seen,
    placed: Placed,
    /// A [`Phase`]. A change of it raises the epoch, so that open requests check it.
    phase: AtomicU8,
    observers: Observers,
}

/// When a feed becomes stale, unless it reports again; `None` before its first
/// [`FeedEvent::Current`](super::FeedEvent::Current).
#[derive(Debug, Default)]
pub(super) struct Heard(ArcSwapOption<Deadline>);

impl Heard {
    /// Notes that the feed was current.
    pub(super) fn current(&self, clock: &Clock) {
        let stale = Deadline::after(clock.read(), Revocations::STALE_AFTER + TICK);
        self.0.store(Some(Arc::new(stale)));
    }
}

/// The shortest time by which a feed is late.
const TICK: Duration = Duration::from_millis(1);

impl Revocations {
    /// The longest lifetime of a token that a verifier may accept, and so the default retention of
    /// a revocation.
    pub const RETENTION: Duration = Duration::from_secs(24 * 60 * 60);
    /// The largest number of separate revocations.
    pub const CAPACITY: usize = 1_000_000;
    /// The longest silence of a feed.
    pub const STALE_AFTER: Duration = Duration::from_secs(5);

    /// Creates an empty set with the retention [`Revocations::RETENTION`].
    pub(crate) fn new(clock: Clock) -> Self {
        Self::with_retention(clock, Self::RETENTION)
    }

    /// Creates an empty set for verifiers that accept tokens with a longer lifetime: `retention`
    /// must not be shorter than the longest. It is never less than [`Revocations::RETENTION`].
    pub(crate) fn with_retention(clock: Clock, retention: Duration) -> Self {
        Self::with_bounds(clock, retention, Self::CAPACITY)
    }

    fn with_bounds(clock: Clock, retention: Duration, capacity: usize) -> Self {
        // `iat` may be ahead of our clock by the leeway, a token is accepted for the leeway after
        // `exp`, and the wall clock may be set back a little.
        let retention = retention.max(Self::RETENTION).saturating_add(LEEWAY * 3);
        Self(Arc::new(Shared {
            clock,
            retention,
            capacity,
            tables: RwLock::default(),
            epoch: AtomicU64::new(0),
            changed: watch::Sender::new(Epoch(0)),
            feeds: ArcSwap::default(),
            seen: Seen::default(),
            placed: Placed::default(),
            phase: AtomicU8::new(Phase::Serving as u8),
            observers: Observers::default(),
        }))
    }

    /// Revokes in this process, without a record. When it returns, requests that begin later are
    /// refused and open streams are being cut.
    #[cfg(test)]
    pub(crate) fn revoke(&self, what: RevocationTarget) -> Epoch {
        self.revoke_at(what, self.0.clock.now())
    }

    /// Revokes at this time, which is the current one.
    pub(crate) fn revoke_at(&self, what: RevocationTarget, at: Timestamp) -> Epoch {
        let now = self.0.clock.read();
        let epoch = self.change(|tables| {
            tables.collect(now.moment, self.0.retention);
            tables.insert(what, RevokedAt::now(at, now), now, self.0.capacity);
        });
        self.end_revoked_work();
        epoch
    }

    /// Revokes what was revoked elsewhere at that time, and not before `earliest`, if that is
    /// known.
    pub(super) fn revoke_elsewhere(
        &self,
        what: RevocationTarget,
        at: Timestamp,
        earliest: Option<Moment>,
    ) -> Epoch {
        let now = self.0.clock.read();
        self.change(|tables| {
            tables.collect(now.moment, self.0.retention);
            let at = RevokedAt::elsewhere(at, earliest, now);
            tables.insert(what, at, now, self.0.capacity);
        })
    }

    /// Returns whether a user is blocked.
    pub(crate) fn is_blocked(&self, user: &User) -> bool {
        self.0.tables.read().is_blocked(user)
    }

    /// Blocks a user until [`Revocations::unblock`].
    pub(crate) fn block(&self, user: User) -> Epoch {
        let epoch = self.change(|tables| tables.block(user));
        self.end_revoked_work();
        epoch
    }

    /// Blocks a user who was blocked elsewhere.
    pub(super) fn block_elsewhere(&self, user: User) -> Epoch {
        self.change(|tables| tables.block(user))
    }

    /// Unblocks a user.
    pub(crate) fn unblock(&self, user: &User) -> Epoch {
        self.change(|tables| tables.unblock(user))
    }

    fn change(&self, change: impl FnOnce(&mut Tables)) -> Epoch {
        let epoch = {
            let mut tables = self.0.tables.write();
            change(&mut tables);
            // N258: raised before this returns, so that each cached verdict is checked again.
            Epoch(self.0.epoch.fetch_add(1, Ordering::AcqRel).saturating_add(1))
        };
        // Outside of the lock, since this wakes others; two at once may arrive in either order.
        self.0.changed.send_modify(|seen| *seen = epoch.max(*seen));
        epoch
    }

    /// Ends the work in progress that is no longer valid, also what no one polls.
    // N461.
    pub(super) fn end_revoked_work(&self) {
        self.0.observers.look();
    }

    /// Registers work that a revocation ends before it returns.
    pub(super) fn observe(&self, observer: Weak<dyn Observer>) -> Registered {
        self.0.observers.register(observer)
    }

    /// Restores a revoked grant; returns whether it was revoked.
    pub(crate) fn lift(&self, grant: &GrantId) -> (Epoch, bool) {
        let mut was_revoked = false;
        let epoch = self.change(|tables| was_revoked = tables.lift(grant));
        (epoch, was_revoked)
    }

    /// Returns whether a grant is revoked.
    pub(crate) fn is_grant_revoked(&self, grant: &GrantId) -> bool {
        self.0.tables.read().is_grant_revoked(grant)
    }

    /// Notes a change of this process, before it takes effect and is stored.
    pub(crate) fn storing(&self, change: &RevocationChange) {
        self.0.placed.begin(change);
    }

    /// Notes the place at which a change was stored.
    pub(crate) fn stored(&self, change: &RevocationChange, place: Sequence) {
        self.0.placed.stored(change, place);
    }

    /// Notes a change of this process that loosens.
    pub(crate) fn loosened(&self, change: &RevocationChange) {
        self.0.placed.loosened(change);
    }

    /// Returns whether a change from the store takes effect here.
    pub(super) fn may_apply(&self, place: Sequence, change: &RevocationChange) -> bool {
        self.0.placed.may_apply(place, change)
    }

    /// Returns the number of the last change.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.0.epoch.load(Ordering::Acquire))
    }

    /// Notes the identities of a verified token.
    pub(crate) fn note_seen(&self, principal: &Principal) {
        self.0.seen.note(principal);
    }

    /// Notes a grant whose credential was provided.
    pub(crate) fn note_seen_grant(&self, grant: &GrantId) {
        self.0.seen.note_grant(grant);
    }

    /// Returns whether this process has seen a target. Of a server, only the caller knows.
    pub(crate) fn has_seen(&self, target: &RevocationTarget) -> bool {
        self.0.seen.knows(target)
    }

    /// Enters a later phase; open requests check at once.
    pub(crate) fn enter(&self, phase: Phase) {
        self.0.phase.fetch_max(phase as u8, Ordering::AcqRel);
        let epoch = Epoch(self.0.epoch.fetch_add(1, Ordering::AcqRel).saturating_add(1));
        self.0.changed.send_modify(|seen| *seen = epoch.max(*seen));
        self.0.observers.look();
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.0.phase.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            _ => Phase::Over,
        }
    }

    /// Returns an error if new requests are refused: the process shuts down, or a feed is stale.
    pub(crate) fn admits(&self) -> Result<(), Reason> {
        if self.phase() != Phase::Serving {
            return Err(Reason::ShuttingDown);
        }
        self.fresh()
    }

    /// Returns an error if no token may be issued or renewed for this user and client now: the
    /// process shuts down, a feed is stale, the user is blocked, or user, client, family or
    /// resource were revoked since the authorization began, which is `issued_at` of
    /// [`Verified::vouch`].
    ///
    /// For an authorization server: a revocation is kept for [`Revocations::RETENTION`], so it also
    /// has to end what it keeps itself.
    ///
    /// # Errors
    /// [`Reason::ShuttingDown`], [`Reason::RevocationStale`], [`Reason::Blocked`], or
    /// [`Reason::Revoked`].
    pub fn permits(&self, authorization: &Verified) -> Result<(), Reason> {
        self.admits()?;
        self.stands(&Principal::of(authorization))
    }

    /// Returns an error if a feed is stale.
    pub(crate) fn fresh(&self) -> Result<(), Reason> {
        let feeds = self.0.feeds.load();
        if feeds.is_empty() {
            return Ok(());
        }
        let now = self.0.clock.read();
        let is_stale =
            |heard: &Arc<Heard>| heard.0.load().as_deref().is_none_or(|end| end.has_passed(now));
        // N260: while a feed is silent, requests are refused. N401: measured by both clocks, so
        // that neither a wrong wall clock nor a system that slept hides the silence.
        if feeds.iter().any(is_stale) { Err(Reason::RevocationStale) } else { Ok(()) }
    }

    /// Returns an error if something that this principal depends on was revoked.
    pub(crate) fn stands(&self, principal: &Principal) -> Result<(), Reason> {
        let now = self.0.clock.read();
        let tables = self.0.tables.read();
        if tables.blocks(principal) {
            return Err(Reason::Blocked);
        }
        if tables.is_revoked(principal, now) { Err(Reason::Revoked) } else { Ok(()) }
    }

    pub(super) fn grant_stands(&self, grant: &GrantId) -> Result<(), Reason> {
        if self.0.tables.read().is_grant_revoked(grant) {
            Err(Reason::GrantRevoked)
        } else {
            Ok(())
        }
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Epoch> {
        self.0.changed.subscribe()
    }

    pub(super) fn add_feed(&self, heard: &Arc<Heard>) {
        self.0.feeds.rcu(|feeds| {
            let mut more = Vec::clone(feeds);
            more.push(Arc::clone(heard));
            more
        });
    }

    pub(crate) fn downgrade(&self) -> Ending {
        Ending(Arc::downgrade(&self.0))
    }

    pub(crate) fn upgrade(ending: &Ending) -> Option<Self> {
        ending.0.upgrade().map(Self)
    }
}

/// Revocations held weakly.
#[derive(Debug)]
pub(crate) struct Ending(Weak<Shared>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revocation::tables::tests::principal;

    #[test]
    fn a_revocation_outlives_every_token() {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_000_000));
        let revocations = Revocations::new(clock.clone());
        let first = revocations.revoke(RevocationTarget::Token {
            issuer: "https://broker.example.com".into(),
            id: "token-1".into(),
        });
        assert_eq!(first, Epoch(1));
        clock.advance(Revocations::RETENTION + LEEWAY * 3 - Duration::from_millis(1));
        revocations.revoke(RevocationTarget::Grant(GrantId::new("g")));
        assert_eq!(revocations.stands(&principal(1_000_000)), Err(Reason::Revoked));
        clock.advance(Duration::from_millis(1));
        revocations.revoke(RevocationTarget::Grant(GrantId::new("g")));
        assert_eq!(revocations.stands(&principal(1_000_000)), Ok(()));
        assert_eq!(revocations.epoch(), Epoch(3));
    }

    #[test]
    fn a_grant_is_over_until_it_is_lifted() {
        let revocations = Revocations::new(Clock::manual(Timestamp::from_unix_seconds(1)));
        let grant = GrantId::new("g");
        revocations.revoke(RevocationTarget::Grant(grant.clone()));
        assert_eq!(revocations.grant_stands(&grant), Err(Reason::GrantRevoked));
        assert!(revocations.lift(&grant).1);
        assert!(!revocations.lift(&grant).1);
        assert_eq!(revocations.grant_stands(&grant), Ok(()));
    }

    #[test]
    fn a_block_ends_only_when_it_is_lifted() {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_000_000));
        let revocations = Revocations::with_bounds(clock.clone(), Revocations::RETENTION, 3);
        let alice = User::new("https://broker.example.com", "alice");
        let first = revocations.block(alice.clone());
        assert_eq!(
            revocations.stands(&principal(2_000_000)),
            Err(Reason::Blocked),
            "whenever it was issued"
        );
        for number in 0..10_u32 {
            revocations.revoke(RevocationTarget::Token {
                issuer: "i".into(),
                id: number.to_string().into(),
            });
        }
        assert_eq!(revocations.stands(&principal(2_000_000)), Err(Reason::Blocked), "no collapse");
        clock.advance(Revocations::RETENTION * 100);
        revocations.revoke(RevocationTarget::Grant(GrantId::new("g")));
        assert_eq!(revocations.stands(&principal(20_000_000)), Err(Reason::Blocked), "no expiry");
        assert_eq!(revocations.unblock(&User::new("https://other.example", "alice")), Epoch(13));
        assert_eq!(
            revocations.stands(&principal(20_000_000)),
            Err(Reason::Blocked),
            "another issuer"
        );
        assert!(revocations.unblock(&alice) > first, "cached refusals are looked up again");
        assert_eq!(revocations.stands(&principal(20_000_000)), Ok(()));
    }

    fn alice() -> RevocationTarget {
        RevocationTarget::User(User::new("https://broker.example.com", "alice"))
    }

    #[test]
    fn n400_a_clock_that_was_ahead_forgets_no_revocation() {
        let start = Timestamp::from_unix_seconds(1_000_000);
        let clock = Clock::manual(start);
        let revocations = Revocations::new(clock.clone());
        revocations.revoke(alice());
        clock.set_wall_clock(start.plus(Revocations::RETENTION * 2));
        revocations.revoke(RevocationTarget::Grant(GrantId::new("g")));
        clock.advance(Duration::from_secs(20));
        clock.set_wall_clock(start.plus(Duration::from_secs(20)));
        assert_eq!(revocations.stands(&principal(1_000_000)), Err(Reason::Revoked), "N400");
    }

    #[test]
    fn n402_a_revoked_actor_ends_the_tokens_it_acts_with() {
        let start = Timestamp::from_unix_seconds(1_000_000);
        let revocations = Revocations::new(Clock::manual(start));
        let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
        let times = crate::principal::TokenTimes {
            id: "token-1",
            issued_at: start,
            expires_at: start.plus(Duration::from_secs(600)),
        };
        let agent = User::new("https://broker.example.com", "agent");
        let alice = User::new("https://broker.example.com", "alice");
        let verified = crate::principal::Verified::vouch(alice, "inspector", resource, times)
            .with_actor(crate::principal::Actor::new(agent.clone(), None));
        let principal = Principal::of(&verified);
        revocations.block(agent.clone());
        assert_eq!(revocations.stands(&principal), Err(Reason::Blocked), "N402");
        revocations.unblock(&agent);
        revocations.revoke(RevocationTarget::User(agent));
        assert_eq!(revocations.stands(&principal), Err(Reason::Revoked), "N402");
    }
}
