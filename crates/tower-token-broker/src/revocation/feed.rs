//! Feeds that report revocations of other replicas.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{Phase, RevocationChange, RevocationEntry, Revocations, Sequence};
use crate::{
    alarm::Alarm,
    clock::LEEWAY,
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
        let last_heard = Arc::new(AtomicU64::new(0));
        self.add_feed(&last_heard);
        let (revocations, ending, mut changes) =
            (self.downgrade(), self.downgrade(), self.subscribe());
        tasks.spawn("revocation feed", async move {
            let reading = async {
                loop {
                    match feed.next().await {
                        Ok(event) => {
                            let Some(revocations) = Self::upgrade(&revocations) else { return };
                            revocations.handle(event, &last_heard);
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

    fn handle(&self, event: FeedEvent, last_heard: &AtomicU64) {
        match event {
            FeedEvent::Changed(entry) => self.apply(entry),
            FeedEvent::Stored { place, entry } => {
                if self.may_apply(place, &entry.change) {
                    self.apply(entry);
                }
            }
            FeedEvent::Current => {
                last_heard.store(self.clock().now().unix_millis(), Ordering::Release);
            }
        }
    }

    /// Applies a change that another replica made, or this one before it restarted.
    fn apply(&self, entry: RevocationEntry) {
        match entry.change {
            RevocationChange::Revoked(target) => {
                // A clock that is far ahead must not revoke tokens that are still to be issued.
                let latest = self.clock().now().plus(LEEWAY);
                self.revoke_at(target, entry.at.min(latest));
            }
            RevocationChange::Blocked(user) => {
                self.block(user);
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
            revocations.apply(RevocationEntry::new(change, Timestamp::from_unix_seconds(900)))
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
}
