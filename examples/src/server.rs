//! Serves a router with a timeout for the headers of a request, which `axum::serve` does not have:
//! with it, a client that sends half of its headers holds a connection for as long as it likes.
//! HTTP/2 has no such timeout; there, a client that is silent after a ping is disconnected.

use std::{io, net::SocketAddr, time::Duration};

use axum::{Router, extract::ConnectInfo};
use http::Request;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower::ServiceExt as _;
use tower_token_broker::{Broker, tasks::Tasks};

use crate::shutdown;

/// The time in which the headers of a request must arrive, from the moment that the connection is
/// open, and after each response: an idle connection is closed after this time. Behind a proxy, set
/// it higher than the proxy's keep-alive.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until a signal arrives. The audit log records the address of the peer.
///
/// # Errors
/// The listener failed, or the audit log could not be closed.
pub async fn serve(broker: &Broker, listener: TcpListener, router: Router) -> io::Result<()> {
    let (connections, tasks) = (GracefulShutdown::new(), Tasks::new());
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    server.http2().timer(TokioTimer::new()).keep_alive_interval(HEADER_TIMEOUT);
    let server = async {
        loop {
            let (socket, peer) = tokio::select! {
                // Either may be dropped: a client retries a connection that is not accepted.
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        wait_after(&error).await;
                        continue;
                    }
                },
                () = shutdown::signal() => break,
            };
            let from_peer = move |mut request: Request<_>| {
                request.extensions_mut().insert(ConnectInfo::<SocketAddr>(peer));
                request
            };
            let service = TowerToHyperService::new(router.clone().map_request(from_peer));
            let (server, watcher) = (server.clone(), connections.watcher());
            drop(tasks.spawn("connection", async move {
                // Before the first byte, it is not known which of the two timeouts applies.
                if tokio::time::timeout(HEADER_TIMEOUT, socket.readable()).await.is_err() {
                    return;
                }
                let connection = server.serve_connection(TokioIo::new(socket), service);
                // The client has closed the connection, or broken the protocol.
                drop(watcher.watch(connection.into_owned()).await);
            }));
        }
        connections.shutdown().await;
        Ok(())
    };
    shutdown::serve(broker, server).await
}

/// Waits if the process has no file descriptor left; a connection that was reset needs no wait.
async fn wait_after(error: &io::Error) {
    let is_of_the_client =
        matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset);
    if !is_of_the_client {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
