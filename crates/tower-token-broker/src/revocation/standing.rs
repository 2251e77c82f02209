//! The validity of one request while it is in progress.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use parking_lot::Mutex;

use super::{Epoch, Observer, Phase, Registered, Revocations};
use crate::{
    clock::{Clock, Timestamp},
    principal::GrantId,
    principal::Principal,
    refusal::Reason,
};

/// The validity of one request: whether its token or grant has been revoked since it was accepted.
/// Only the authenticate layer creates it, and inserts it into the extensions.
#[derive(Clone)]
pub struct Standing(Arc<Watched>);

struct Watched {
    revocations: Revocations,
    clock: Clock,
    principal: Principal,
    ends_at: Timestamp,
    /// The epoch of the last successful check.
    stamp: AtomicU64,
    /// Whether the request is an idle stream, which ends as soon as the process shuts down.
    is_idle: AtomicBool,
    grants: Mutex<Vec<GrantId>>,
}

impl Standing {
    /// Creates the standing of a principal that was valid at this epoch, until `ends_at` (`exp` and
    /// the leeway).
    pub(crate) fn new(
        revocations: &Revocations,
        clock: &Clock,
        principal: &Principal,
        stamp: Epoch,
        ends_at: Timestamp,
    ) -> Self {
        Self(Arc::new(Watched {
            revocations: revocations.clone(),
            clock: clock.clone(),
            principal: principal.clone(),
            ends_at,
            stamp: AtomicU64::new(stamp.0),
            is_idle: AtomicBool::new(false),
            grants: Mutex::default(),
        }))
    }

    /// Checks again just before the send: token, family, client, user, server, everything, and this
    /// grant. From now on, a revocation of the grant also cuts the stream.
    ///
    /// # Errors
    /// [`Reason::Revoked`], [`Reason::Blocked`], [`Reason::GrantRevoked`], [`Reason::JwtExpired`],
    /// or [`Reason::RevocationStale`].
    pub(crate) fn check_before_send(&self, grant: Option<&GrantId>) -> Result<(), Reason> {
        if let Some(grant) = grant {
            {
                let mut grants = self.0.grants.lock();
                if !grants.contains(grant) {
                    grants.push(grant.clone());
                }
            }
            // Checked after it is in the list: the epoch reveals a later revocation.
            self.0.revocations.grant_stands(grant)?;
        }
        self.0.revocations.fresh()?;
        self.check()
    }

    /// Notes a grant whose credential was provided for this request.
    pub(crate) fn note_seen_grant(&self, grant: &GrantId) {
        self.0.revocations.note_seen_grant(grant);
    }

    /// Marks the request as an idle stream: the GET stream of a session, or `subscriptions/listen`.
    pub(crate) fn mark_idle_stream(&self) {
        self.0.is_idle.store(true, Ordering::Release);
    }

    /// Registers work of this request, which a revocation ends before it returns.
    pub(crate) fn observe(&self, observer: Weak<dyn Observer>) -> Registered {
        self.0.revocations.observe(observer)
    }

    fn ends_in(&self, phase: Phase) -> bool {
        match phase {
            Phase::Serving => false,
            Phase::Draining => self.0.is_idle.load(Ordering::Acquire),
            Phase::Over => true,
        }
    }

    /// Returns an error if the request is no longer valid; cheap while nothing was revoked. A stale
    /// feed does not end requests in progress.
    pub(crate) fn check(&self) -> Result<(), Reason> {
        // N262: one instant for verification, cache and streams.
        if self.0.clock.now() >= self.0.ends_at {
            return Err(Reason::JwtExpired);
        }
        self.check_revocations()
    }

    /// As [`Standing::check`], without the expiry of the token.
    pub(crate) fn check_revocations(&self) -> Result<(), Reason> {
        // Read before the tables, so that a revocation in between is checked next time.
        let epoch = self.0.revocations.epoch();
        // Checked before the stamp: a request that was verified while the process began to shut
        // down is stamped with the last epoch.
        if self.ends_in(self.0.revocations.phase()) {
            return Err(Reason::ShuttingDown);
        }
        if epoch.0 == self.0.stamp.load(Ordering::Acquire) {
            return Ok(());
        }
        self.0.revocations.stands(&self.0.principal)?;
        {
            let grants = self.0.grants.lock();
            grants.iter().try_for_each(|grant| self.0.revocations.grant_stands(grant))?;
        }
        self.0.stamp.store(epoch.0, Ordering::Release);
        Ok(())
    }

    /// Completes after the next revocation, or when the token expires. Then call
    /// [`Standing::check`].
    pub(crate) fn changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send + Sync>> {
        let mut changes = self.0.revocations.subscribe();
        let (clock, ends_at) = (self.0.clock.clone(), self.0.ends_at);
        Box::pin(async move {
            tokio::select! {
                // Both may be dropped: they only wait.
                _ = changes.changed() => {}
                () = clock.sleep_until(ends_at) => {}
            }
        })
    }
}

/// Waits until a request has ended. Allocates nothing before the first wait.
pub(crate) struct StandingWatch {
    standing: Standing,
    changed: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl StandingWatch {
    pub(crate) const fn new(standing: Standing) -> Self {
        Self { standing, changed: None }
    }

    pub(crate) const fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Returns the reason once the request has ended.
    pub(crate) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Reason> {
        loop {
            // Subscribed before the check, so that no change is missed in between.
            let changed = self.changed.get_or_insert_with(|| self.standing.changed());
            if let Err(reason) = self.standing.check() {
                return Poll::Ready(reason);
            }
            ready!(changed.as_mut().poll(cx));
            self.changed = None;
        }
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standing").field("ends_at", &self.0.ends_at).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::revocation::{RevocationTarget, tables::tests::principal};

    fn standing() -> (Clock, Revocations, Standing) {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_000));
        let revocations = Revocations::new(clock.clone());
        let ends_at = clock.now().plus(Duration::from_secs(60));
        let standing =
            Standing::new(&revocations, &clock, &principal(1_000), revocations.epoch(), ends_at);
        (clock, revocations, standing)
    }

    #[test]
    fn a_grant_counts_from_its_first_check() {
        let (_, revocations, standing) = standing();
        let (asked, never_asked) = (GrantId::new("asked"), GrantId::new("never asked"));
        assert_eq!(standing.check_before_send(Some(&asked)), Ok(()));
        revocations.revoke(RevocationTarget::Grant(never_asked));
        assert_eq!(standing.check(), Ok(()));
        revocations.revoke(RevocationTarget::Grant(asked.clone()));
        assert_eq!(standing.check(), Err(Reason::GrantRevoked));
        assert_eq!(standing.check_before_send(Some(&asked)), Err(Reason::GrantRevoked));
        assert_eq!(
            standing.check_before_send(None),
            Err(Reason::GrantRevoked),
            "a request stays bound to what it used"
        );
    }

    #[test]
    fn a_grant_that_was_revoked_before_is_refused() {
        let (_, revocations, standing) = standing();
        let grant = GrantId::new("g");
        revocations.revoke(RevocationTarget::Grant(grant.clone()));
        assert_eq!(standing.check(), Ok(()), "stamped anew");
        assert_eq!(standing.check_before_send(Some(&grant)), Err(Reason::GrantRevoked));
    }

    #[tokio::test]
    async fn n260_a_stale_feed_stops_sends_but_no_open_request() {
        struct Silent;
        impl crate::revocation::RevocationFeed for Silent {
            async fn next(
                &mut self,
            ) -> Result<crate::revocation::FeedEvent, crate::revocation::FeedError> {
                std::future::pending().await
            }
        }
        let (_, revocations, standing) = standing();
        assert_eq!(standing.check_before_send(None), Ok(()));
        drop(revocations.follow(Silent, &crate::tasks::Tasks::new()));
        assert_eq!(standing.check_before_send(None), Err(Reason::RevocationStale), "N260");
        assert_eq!(standing.check(), Ok(()));
    }

    #[test]
    fn a_shutdown_ends_idle_streams_first_and_calls_last() {
        let (_, revocations, call) = standing();
        let stream = Standing::new(
            &revocations,
            &call.0.clock,
            &principal(1_000),
            revocations.epoch(),
            call.0.ends_at,
        );
        stream.mark_idle_stream();
        assert_eq!((call.check(), stream.check()), (Ok(()), Ok(())));
        revocations.enter(Phase::Draining);
        assert_eq!((call.check(), stream.check()), (Ok(()), Err(Reason::ShuttingDown)));
        assert_eq!(revocations.admits(), Err(Reason::ShuttingDown));
        let late = Standing::new(
            &revocations,
            &call.0.clock,
            &principal(1_000),
            revocations.epoch(),
            call.0.ends_at,
        );
        assert_eq!(late.check(), Ok(()));
        late.mark_idle_stream();
        assert_eq!(late.check(), Err(Reason::ShuttingDown));
        revocations.enter(Phase::Over);
        assert_eq!(call.check(), Err(Reason::ShuttingDown));
        revocations.enter(Phase::Draining);
        assert_eq!(revocations.phase(), Phase::Over, "there is no way back");
    }

    #[tokio::test]
    async fn a_revocation_and_the_expiry_both_wake_it() {
        let (clock, revocations, standing) = standing();
        let changed = standing.changed();
        revocations.revoke(RevocationTarget::Everything);
        changed.await;
        assert_eq!(standing.check(), Err(Reason::Revoked));

        let (clock_of_other, _revocations, other) = self::standing();
        let changed = other.changed();
        clock_of_other.advance(Duration::from_secs(60));
        changed.await;
        assert_eq!(other.check(), Err(Reason::JwtExpired));
        drop(clock);
    }
}
