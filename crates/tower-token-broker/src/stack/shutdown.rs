//! The end of a broker: nothing is cut that has time, and the chain of records is closed.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::Broker;
use crate::{audit::AuditError, refusal::Reason, revocation::Phase};

/// How often it is looked whether all requests have ended.
const LOOK: Duration = Duration::from_millis(10);
/// How long a response that is cut may take to notice.
const TO_BE_CUT: Duration = Duration::from_secs(1);
/// How long a request that was cut may take to write its record, and a refresh or a write to end.
const LAST_RECORDS: Duration = Duration::from_secs(5);

/// The broker has ended, but not everything behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// A refresh or a write of a revocation was still under way. Its outcome is on no record of
    /// this process; the next one records it as unknown.
    #[error("work in the background did not end in time")]
    TasksRunning,
    /// The last records are not durable.
    #[error("the audit log could not be closed: its sink fails, or a request is still open")]
    AuditNotClosed,
}

impl Broker {
    /// Ends all stacks. From now on no request is let in (503). Streams that no call waits for (the
    /// GET stream, `subscriptions/listen`) end at once, at the border of an event. Calls have
    /// `grace`, then they are cut. Refreshes are waited for, and the audit log is closed.
    ///
    /// Call it before the server stops, or beside its graceful shutdown: a server that waits for
    /// open connections first waits for streams that only this ends. A second call waits for the
    /// end that the first one has begun, with its grace, and returns the same.
    ///
    /// # Errors
    /// See [`ShutdownError`]. The broker has ended all the same.
    ///
    /// # Cancellation
    /// Dropped, nothing new is let in, and calls go on until they end or the process does.
    pub async fn shutdown(&self, grace: Duration) -> Result<(), ShutdownError> {
        *self.0.end.get_or_init(|| self.end(grace)).await
    }

    async fn end(&self, grace: Duration) -> Result<(), ShutdownError> {
        let revocations = &self.0.revocations;
        revocations.enter(Phase::Draining);
        self.all_ended(grace).await;
        revocations.enter(Phase::Over);
        self.all_ended(TO_BE_CUT).await;
        // What nobody polls nobody cuts: a response whose reader stands still.
        self.0.audit.settle_open(Reason::ShuttingDown);
        self.all_ended(LAST_RECORDS).await;
        let tasks_ended = self.0.tasks.shutdown(LAST_RECORDS).await;
        match self.0.audit.close(LAST_RECORDS).await {
            Err(AuditError) => Err(ShutdownError::AuditNotClosed),
            Ok(()) if !tasks_ended => Err(ShutdownError::TasksRunning),
            Ok(()) => Ok(()),
        }
    }

    /// Waits until no request owes the audit log a record, at most this long.
    async fn all_ended(&self, patience: Duration) {
        let end = Instant::now().checked_add(patience);
        let looking = async {
            while self.0.audit.owed() > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        match end {
            // Not in time is no error here: what is open is cut, and then recorded as it is.
            Some(end) => drop(timeout_at(end, looking).await),
            None => looking.await,
        }
    }
}
