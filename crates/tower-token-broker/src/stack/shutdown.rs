//! Shutdown of a broker: drains requests, cuts the rest, and closes the audit log.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::Broker;
use crate::{
    audit::AuditError,
    refusal::Reason,
    revocation::{Phase, Revocations},
};

/// Interval of the check whether all requests have ended.
const LOOK: Duration = Duration::from_millis(10);
/// Time for a response to notice that it is cut.
const TO_BE_CUT: Duration = Duration::from_secs(1);
/// Time for the records of cut requests, for refreshes and for writes.
const LAST_RECORDS: Duration = Duration::from_secs(5);

/// The broker has ended, but some of its work has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// A refresh or a write of a revocation was still in progress. This process has no record of
    /// its outcome; the next one records it as unknown.
    #[error("work in the background did not end in time")]
    TasksRunning,
    /// The last records are not durable.
    #[error("the audit log could not be closed: its sink fails, or a request is still open")]
    AuditNotClosed,
}

impl Broker {
    /// Ends all stacks. From now on requests are refused (503). Idle streams (the GET stream,
    /// `subscriptions/listen`) end at once, after a whole event. Calls have `grace`, then they are
    /// cut. Then it waits for refreshes and closes the audit log.
    ///
    /// Call it before the server stops, or during its graceful shutdown: a server that waits for
    /// open connections would wait for streams that only this ends. A second call waits for the end
    /// of the first one, with its grace, and returns the same.
    ///
    /// # Errors
    /// See [`ShutdownError`]. The broker has ended nevertheless.
    ///
    /// # Cancellation
    /// Dropped, requests are still refused, and calls continue until they or the process end.
    pub async fn shutdown(&self, grace: Duration) -> Result<(), ShutdownError> {
        *self.0.end.get_or_init(|| self.end(grace)).await
    }

    /// Returns a future that completes when [`Broker::shutdown`] was called, or when the broker is
    /// gone, which it does not keep alive: for the background work of your own.
    pub fn ending(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let revocations = self.0.revocations.downgrade();
        let mut changes = self.0.revocations.subscribe();
        async move {
            loop {
                let revocations = Revocations::upgrade(&revocations);
                if revocations.is_none_or(|revocations| revocations.phase() > Phase::Serving) {
                    return;
                }
                if changes.changed().await.is_err() {
                    return;
                }
            }
        }
    }

    async fn end(&self, grace: Duration) -> Result<(), ShutdownError> {
        let revocations = &self.0.revocations;
        revocations.enter(Phase::Draining);
        self.all_ended(grace).await;
        revocations.enter(Phase::Over);
        self.all_ended(TO_BE_CUT).await;
        // A response whose reader does not poll it cannot be cut.
        self.0.audit.settle_open(Reason::ShuttingDown);
        self.all_ended(LAST_RECORDS).await;
        let tasks_ended = self.0.tasks.shutdown(LAST_RECORDS).await;
        tracing::info!("the broker has shut down");
        match self.0.audit.close(LAST_RECORDS).await {
            Err(AuditError) => Err(ShutdownError::AuditNotClosed),
            Ok(()) if !tasks_ended => Err(ShutdownError::TasksRunning),
            Ok(()) => Ok(()),
        }
    }

    /// Waits, at most this long, until every request has its record in the audit log.
    async fn all_ended(&self, patience: Duration) {
        let end = Instant::now().checked_add(patience);
        let looking = async {
            while self.0.audit.owed() > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        match end {
            // A timeout is no error here: open requests are then cut and recorded as such.
            Some(end) => drop(timeout_at(end, looking).await),
            None => looking.await,
        }
    }
}
