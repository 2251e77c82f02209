//! Ends a server on Ctrl-C and SIGTERM: the broker shuts down while the server drains.

use std::{io, time::Duration};

use tokio::{
    signal::unix::{self, SignalKind},
    sync::Notify,
    time::sleep,
};
use tower_token_broker::Broker;

/// The time that open calls have. Streams that belong to no call end at once.
const GRACE: Duration = Duration::from_secs(5);
/// The time that idle connections have after the last request.
const IDLE: Duration = Duration::from_secs(1);

/// Serves until a signal arrives. The server must begin to drain at [`signal`].
///
/// # Errors
/// The server failed, or the audit log could not be closed.
pub async fn serve(
    broker: &Broker,
    server: impl IntoFuture<Output = io::Result<()>>,
) -> io::Result<()> {
    let over = Notify::new();
    let drained = async {
        tokio::select! {
            // Either may be dropped: the process ends.
            served = server.into_future() => served,
            () = async { over.notified().await; sleep(IDLE).await } => Ok(()),
        }
    };
    // While the server drains, not after it: a server that waits for its connections waits for
    // streams that only the broker ends.
    let ended = async {
        signal().await;
        let ended = broker.shutdown(GRACE).await.map_err(io::Error::other);
        over.notify_one();
        ended
    };
    tokio::try_join!(drained, ended).map(drop)
}

/// Completes when a signal arrives.
pub async fn signal() {
    let Ok(mut terminate) = unix::signal(SignalKind::terminate()) else { return };
    tokio::select! {
        // Either may be dropped: both only wait.
        interrupted = tokio::signal::ctrl_c() => interrupted.unwrap_or_default(),
        _ = terminate.recv() => {}
    }
}
