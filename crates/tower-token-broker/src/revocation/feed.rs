//! Feeds that report revocations of other replicas.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use super::{Phase, RevocationChange, RevocationEntry, Revocations, Sequence, revocations::Heard};
use crate::{
    alarm::Alarm,
    clock::{LEEWAY, Moment},
    tasks::{Task, Tasks},
};

/// An event of a [`RevocationFeed`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FeedEvent {
    /// A change, in the order of the changes.
    Changed(RevocationEntry),
    /// A change and its place in the sequence of a [`RevocationStore`](super::RevocationStore). An
    /// unblock or a restore never undoes a block or a revocation of this process that has a later
    /// place.
    Stored {
        /// Its place.
        place: Sequence,
        /// The change.
        entry: RevocationEntry,
    },
    /// All changes until now were yielded. Only this event keeps a feed from becoming stale.
    Current,
}

/// The reason why a feed cannot be read at the moment. The read is retried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the revocation feed cannot be read: {0}")]
pub struct FeedError(Box<str>);

impl FeedError {
    /// Creates an error with this text for the log.
    pub fn new(what: &str) -> Self {
        Self(what.into())
    }
}

/// Reports what was revoked elsewhere: a table that is polled, a channel, a message bus.
///
/// A new feed first yields all changes that still count, then [`FeedEvent::Current`]. After that it
/// yields each change when it happens, and `Current` at least once a second.
pub trait RevocationFeed: Send + 'static {
    /// Waits for the next event.
    ///
    /// # Errors
    /// The feed cannot be read. The call is retried after 200 ms.
    ///
    /// # Cancellation
    /// Dropped only when the [`Revocations`] that follow it are gone.
    fn next(&mut self) -> impl Future<Output = Result<FeedEvent, FeedError>> + Send;
}

/// A feed whose type is erased, for programs that choose one by configuration.
pub struct BoxRevocationFeed(Box<dyn ErasedRevocationFeed>);

impl BoxRevocationFeed {
    /// Erases the type of a feed.
    pub fn new(feed: impl RevocationFeed) -> Self {
        Self(Box::new(feed))
    }
}

type BoxedEvent<'a> = Pin<Box<dyn Future<Output = Result<FeedEvent, FeedError>> + Send + 'a>>;

trait ErasedRevocationFeed: Send {
    fn next(&mut self) -> BoxedEvent<'_>;
}

impl<F: RevocationFeed> ErasedRevocationFeed for F {
    fn next(&mut self) -> BoxedEvent<'_> {
        Box::pin(F::next(self))
    }
}

impl RevocationFeed for BoxRevocationFeed {
    async fn next(&mut self) -> Result<FeedEvent, FeedError> {
        self.0.next().await
    }
}

impl fmt::Debug for BoxRevocationFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxRevocationFeed")
    }
}

impl Revocations {
    /// Follows a feed in an owned task until the last clone of these revocations is dropped.
    /// Requests are refused until the feed has yielded [`FeedEvent::Current`] once.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub(crate) fn follow<F: RevocationFeed>(&self, mut feed: F, tasks: &Tasks) -> Task<()> {
        let heard = Arc::new(Heard::default());
        self.add_feed(&heard);
        let (revocations, ending, mut changes) =
            (self.downgrade(), self.downgrade(), self.subscribe());
        tasks.spawn("revocation feed", async move {
            let mut following = Following { heard, caught_up: None, last: None };
            let reading = async {
                loop {
                    match watched(feed.next()).await {
                        Ok(event) => {
                            let Some(revocations) = Self::upgrade(&revocations) else { return };
                            following.handle(&revocations, event);
                        }
                        Err(error) => {
                            tracing::warn!(
                                alarm = Alarm::RevocationFeedFailed.code(),
                                %error,
                                "the revocation feed failed; requests are refused once it is stale"
                            );
                            tokio::time::sleep(Duration::from_millis(200)).await;
                        }
                    }
                }
            };
            // The revocations hold the sender, so an error means that the last clone is gone.
            let gone = async {
                while changes.changed().await.is_ok() {
                    let all = Self::upgrade(&ending);
                    if all.is_none_or(|all| all.phase() == Phase::Over) {
                        return;
                    }
                }
            };
            tokio::select! {
                // Both may be dropped: the revocations are gone or the process ends, so the feed
                // has no reader.
                () = reading => {}
                () = gone => {}
            }
        })
    }

    /// Applies a change that another replica made, or this one before it restarted.
    fn apply(&self, entry: RevocationEntry, earliest: Option<Moment>) {
        match entry.change {
            RevocationChange::Revoked(target) => {
                self.revoke_elsewhere(target, entry.at, earliest);
            }
            RevocationChange::Blocked(user) => {
                self.block_elsewhere(user);
            }
            RevocationChange::Unblocked(user) => {
                self.unblock(&user);
            }
            RevocationChange::GrantRestored(grant) => {
                self.lift(&grant);
            }
        }
    }
}

/// The state of a feed that is followed.
struct Following {
    heard: Arc<Heard>,
    /// When it last yielded all changes: a new one is not older.
    caught_up: Option<Moment>,
    /// The last place of the sequence that was read.
    last: Option<Sequence>,
}

impl Following {
    fn handle(&mut self, revocations: &Revocations, event: FeedEvent) {
        match event {
            // It may have been yielded before, so its age is not known.
            FeedEvent::Changed(entry) => revocations.apply(entry, None),
            FeedEvent::Stored { place, entry } => {
                let is_new = self.last.is_some_and(|last| last < place);
                self.last = self.last.max(Some(place));
                if !revocations.may_apply(place, &entry.change) {
                    return;
                }
                let earliest = self.caught_up.filter(|_| is_new);
                let now = revocations.clock().moment();
                if earliest.is_some_and(|earliest| earliest.until(now) <= LEEWAY) {
                    revocations.clock().compare(entry.at, "another replica of this broker");
                }
                revocations.apply(entry, earliest);
            }
            FeedEvent::Current => {
                self.caught_up = Some(revocations.clock().moment());
                // An empty sequence was read to its end, too.
                self.last = self.last.or(Some(Sequence::START));
                self.heard.current(revocations.clock());
                // Once for all changes since the last time; a feed that lags may have many.
                revocations.end_revoked_work();
            }
        }
    }
}

/// Waits for the next event, and raises the alarm while there is none. The wait is never ended: a
/// feed may be in the middle of an event.
async fn watched<T>(next: impl Future<Output = T>) -> T {
    let mut next = std::pin::pin!(next);
    loop {
        match tokio::time::timeout(Revocations::STALE_AFTER, next.as_mut()).await {
            Ok(event) => return event,
            Err(_elapsed) => tracing::warn!(
                alarm = Alarm::RevocationFeedFailed.code(),
                silent_for = ?Revocations::STALE_AFTER,
                "the revocation feed is silent; requests are refused until it reports again"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        clock::{Clock, Timestamp},
        principal::{GrantId, User},
        refusal::Reason,
        revocation::{RevocationTarget, tables::tests::principal},
    };

    struct Channel(mpsc::Receiver<FeedEvent>, mpsc::Sender<()>);

    impl RevocationFeed for Channel {
        async fn next(&mut self) -> Result<FeedEvent, FeedError> {
            // A call for the next event shows that the last one was processed.
            self.1.send(()).await.map_err(|_| FeedError::new("gone"))?;
            match self.0.recv().await {
                Some(heard) => Ok(heard),
                None => std::future::pending().await,
            }
        }
    }

    #[tokio::test]
    async fn requests_are_refused_while_the_feed_is_stale() {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_000_000));
        let revocations = Revocations::new(clock.clone());
        let tasks = Tasks::new();
        let (tell, told) = mpsc::channel(4);
        let (ready, mut asked) = mpsc::channel(1);
        let following = revocations.follow(Channel(told, ready), &tasks);
        asked.recv().await.unwrap();
        assert_eq!(revocations.fresh(), Err(Reason::RevocationStale));

        let alice = User::new("https://broker.example.com", "alice");
        let revoked = RevocationChange::Revoked(RevocationTarget::User(alice));
        tell.send(FeedEvent::Changed(RevocationEntry::new(revoked, clock.now()))).await.unwrap();
        asked.recv().await.unwrap();
        assert_eq!(
            revocations.fresh(),
            Err(Reason::RevocationStale),
            "a revocation alone is no sign of being current"
        );

        tell.send(FeedEvent::Current).await.unwrap();
        asked.recv().await.unwrap();
        assert_eq!(revocations.fresh(), Ok(()));
        assert_eq!(revocations.stands(&principal(1_000_000)), Err(Reason::Revoked));

        clock.advance(Duration::from_secs(5));
        assert_eq!(revocations.fresh(), Ok(()));
        clock.advance(Duration::from_millis(1));
        assert_eq!(revocations.fresh(), Err(Reason::RevocationStale), "N260");

        drop(revocations);
        following.await.unwrap();
        assert!(tasks.shutdown(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn each_change_takes_effect() {
        let revocations = Revocations::new(Clock::manual(Timestamp::from_unix_seconds(1_000)));
        let (alice, grant) = (User::new("https://broker.example.com", "alice"), GrantId::new("g"));
        let apply = |change| {
            revocations.apply(RevocationEntry::new(change, Timestamp::from_unix_seconds(900)), None)
        };
        apply(RevocationChange::Revoked(RevocationTarget::Grant(grant.clone())));
        assert_eq!(revocations.grant_stands(&grant), Err(Reason::GrantRevoked));
        apply(RevocationChange::GrantRestored(grant.clone()));
        assert_eq!(revocations.grant_stands(&grant), Ok(()));
        apply(RevocationChange::Blocked(alice.clone()));
        assert_eq!(revocations.stands(&principal(2_000)), Err(Reason::Blocked));
        apply(RevocationChange::Unblocked(alice));
        assert_eq!(revocations.stands(&principal(2_000)), Ok(()));
    }

    struct Setting {
        clock: Clock,
        revocations: Revocations,
        following: Following,
    }

    fn setting(start: Timestamp) -> Setting {
        let clock = Clock::manual(start);
        let revocations = Revocations::new(clock.clone());
        let heard = Arc::new(Heard::default());
        revocations.add_feed(&heard);
        Setting { clock, revocations, following: Following { heard, caught_up: None, last: None } }
    }

    impl Setting {
        fn event(&mut self, event: FeedEvent) {
            self.following.handle(&self.revocations, event);
        }

        fn revoked(&mut self, place: u64, at: Timestamp) {
            let alice = User::new("https://broker.example.com", "alice");
            let change = RevocationChange::Revoked(RevocationTarget::User(alice));
            let entry = RevocationEntry::new(change, at);
            self.event(FeedEvent::Stored { place: Sequence::new(place), entry });
        }
    }

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn n401_no_wrong_clock_hides_the_silence_of_a_feed() {
        let start = Timestamp::from_unix_seconds(1_000_000);
        // Heard under a clock that is ahead or slow, and right again; or right, then wrong.
        for (first, second) in [
            (start.plus(DAY), start),
            (start.minus(DAY), start),
            (start, start.minus(DAY)),
            (start.minus(DAY), start.plus(DAY)),
        ] {
            let mut setting = setting(start);
            setting.clock.set_wall_clock(first);
            setting.event(FeedEvent::Current);
            assert_eq!(setting.revocations.fresh(), Ok(()));
            setting.clock.set_wall_clock(second);
            setting.clock.advance(Duration::from_millis(5_001));
            let fresh = setting.revocations.fresh();
            assert_eq!(fresh, Err(Reason::RevocationStale), "N401 {first} {second}");
        }
    }

    #[test]
    fn n401_a_system_that_slept_hears_the_feed_first() {
        let start = Timestamp::from_unix_seconds(1_000_000);
        let mut setting = setting(start);
        setting.event(FeedEvent::Current);
        setting.clock.set_wall_clock(start.plus(DAY));
        assert_eq!(setting.revocations.fresh(), Err(Reason::RevocationStale), "N401");
        setting.event(FeedEvent::Current);
        assert_eq!(setting.revocations.fresh(), Ok(()));
    }

    #[test]
    fn n401_a_revoke_by_a_replica_with_a_slow_clock_counts() {
        let start = Timestamp::from_unix_seconds(1_000_000);
        let mut setting = setting(start);
        setting.event(FeedEvent::Current);
        setting.clock.advance(Duration::from_secs(1));
        setting.revoked(1, start.minus(DAY));
        let issued = |seconds| setting.revocations.stands(&principal(seconds));
        assert_eq!(issued(1_000_000), Err(Reason::Revoked), "N401: issued before it was revoked");
        assert_eq!(issued(1_000_031), Ok(()), "N401: issued afterwards");
    }

    #[test]
    fn an_entry_that_is_read_again_revokes_nothing_new() {
        let start = Timestamp::from_unix_seconds(1_000_000);
        let mut setting = setting(start);
        let yesterday = start.minus(DAY / 2);
        setting.revoked(7, yesterday);
        setting.event(FeedEvent::Current);
        setting.clock.advance(Duration::from_secs(3600));
        // The store lost entries, and is read again from its start.
        setting.revoked(3, yesterday);
        setting.revoked(7, yesterday);
        assert_eq!(setting.revocations.stands(&principal(1_000_000)), Ok(()));
        assert_eq!(setting.revocations.stands(&principal(950_000)), Err(Reason::Revoked));
    }
}
