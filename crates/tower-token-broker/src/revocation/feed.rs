//! How a replica hears what others revoked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{RevocationTarget, Revocations};
use crate::{
    clock::Timestamp,
    tasks::{Task, Tasks},
};

/// What a feed tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FeedEvent {
    /// This was revoked, at that time.
    Revoked {
        /// What.
        what: RevocationTarget,
        /// When, by the clock of the one who revoked it.
        at: Timestamp,
    },
    /// Everything revoked up to now was told. Only this counts as a sign of life: a feed that is behind is not heard from.
    Current,
}

/// The feed can't be read at the moment; it is asked again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the revocation feed can't be read: {0}")]
pub struct FeedError(Box<str>);

impl FeedError {
    /// Says what failed; it is logged.
    #[must_use]
    pub fn new(what: &str) -> Self {
        Self(what.into())
    }
}

/// Tells what was revoked elsewhere: a table that is polled, a channel, a message bus.
///
/// A new feed first tells all that still counts, then [`FeedEvent::Current`]; from then on each revocation as it comes, and
/// `Current` at least once a second.
pub trait RevocationFeed: Send + 'static {
    /// Waits for the next piece of news.
    ///
    /// # Errors
    /// The feed can't be read. It is asked again after 200 ms; meanwhile it is not heard from.
    ///
    /// # Cancellation
    /// Dropped only when the [`Revocations`] that follow it are gone.
    fn next(&mut self) -> impl Future<Output = Result<FeedEvent, FeedError>> + Send;
}

impl Revocations {
    /// Follows a feed in an owned task, until the last clone of these revocations is gone. Until the feed has told
    /// [`FeedEvent::Current`] for the first time, no request is let in.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn follow<F: RevocationFeed>(&self, mut feed: F, tasks: &Tasks) -> Task<()> {
        let last_heard = Arc::new(AtomicU64::new(0));
        self.add_feed(&last_heard);
        let (revocations, mut changes) = (self.downgrade(), self.subscribe());
        tasks.spawn("revocation feed", async move {
            let reading = async {
                loop {
                    match feed.next().await {
                        Ok(heard) => {
                            let Some(revocations) = Self::upgrade(&revocations) else { return };
                            match heard {
                                FeedEvent::Revoked { what, at } => {
                                    revocations.revoke_at(what, at);
                                }
                                FeedEvent::Current => {
                                    last_heard.store(revocations.clock().now().unix_millis(), Ordering::Release);
                                }
                            }
                        }
                        Err(error) => {
                            tracing::warn!(%error, "the revocation feed failed; requests are refused once it is stale");
                            tokio::time::sleep(Duration::from_millis(200)).await;
                        }
                    }
                }
            };
            // The sender lives in the revocations: an error says that the last clone is gone.
            let gone = async { while changes.changed().await.is_ok() {} };
            tokio::select! {
                // Both may be dropped: nobody is left who could ask what the feed tells.
                () = reading => {}
                () = gone => {}
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::{clock::Clock, principal::User, refusal::Reason, revocation::tables::tests::principal};

    struct Channel(mpsc::Receiver<FeedEvent>, mpsc::Sender<()>);

    impl RevocationFeed for Channel {
        async fn next(&mut self) -> Result<FeedEvent, FeedError> {
            // Asking for the next says that the last was taken in.
            self.1.send(()).await.map_err(|_| FeedError::new("gone"))?;
            match self.0.recv().await {
                Some(heard) => Ok(heard),
                None => std::future::pending().await,
            }
        }
    }

    #[tokio::test]
    async fn nobody_gets_in_before_the_feed_is_current_nor_when_it_falls_silent() {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_000_000));
        let revocations = Revocations::new(clock.clone());
        let tasks = Tasks::new();
        let (tell, told) = mpsc::channel(4);
        let (ready, mut asked) = mpsc::channel(1);
        let following = revocations.follow(Channel(told, ready), &tasks);
        asked.recv().await.unwrap();
        assert_eq!(revocations.fresh(), Err(Reason::RevocationStale));

        let alice = User::new("https://broker.example.com", "alice");
        tell.send(FeedEvent::Revoked { what: RevocationTarget::User(alice), at: clock.now() }).await.unwrap();
        asked.recv().await.unwrap();
        assert_eq!(revocations.fresh(), Err(Reason::RevocationStale), "a revocation alone is no sign of being current");

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
}
