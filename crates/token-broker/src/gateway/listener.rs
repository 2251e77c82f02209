//! Accepts connections: survives a lack of file descriptors, and closes connections that are
//! silent.
//!
//! Every connection has a timeout for its first byte, for TLS, and for each part of a response that
//! its client does not read; HTTP/1.1 one for the headers of each request, and HTTP/2 pings.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use ipnet::IpNet;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Instant, timeout},
};
use tokio_rustls::TlsAcceptor;
use tower::{ServiceExt as _, service_fn};
use tower_token_broker::{alarm::Alarm, tasks::Tasks};

use super::{peers::Peers, routes::Routes, write_timeout::WriteTimeout};
use crate::configuration::Configuration;

/// The time in which the first byte, the TLS handshake and the headers of a request must arrive. An
/// idle connection of HTTP/1.1 is closed after this time.
const HEADERS: Duration = Duration::from_secs(30);
/// The interval of HTTP/2 pings, and the time until each is acknowledged.
const PING: Duration = Duration::from_secs(20);
/// The time in which a client must take a part of a response that waits to be written.
const WRITE: Duration = Duration::from_secs(60);
/// The time that connections have after the broker has ended.
const LAST_RESPONSES: Duration = Duration::from_secs(2);
/// Most connections at a time, if the process may have enough file descriptors. Further ones wait
/// in the backlog of the listener.
const MOST_CONNECTIONS: usize = 20_000;
/// The share of the connections that one address may have, unless it is that of this machine or
/// of a trusted proxy.
const SHARE_OF_A_PEER: usize = 8;
/// File descriptors that are kept for the audit log, the store and the rest of the process.
const RESERVED_DESCRIPTORS: usize = 200;
/// At most one warning in this time, however many connections are closed.
const BETWEEN_WARNINGS: Duration = Duration::from_secs(60);
/// The pause after an error of the process, such as a lack of file descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// The listener of the gateway.
pub(super) struct Listener {
    tcp: TcpListener,
    tls: Option<TlsAcceptor>,
    trusted_proxies: Vec<IpNet>,
    routes: Arc<Routes>,
    tasks: Tasks,
}

impl Listener {
    pub(super) fn new(
        tcp: TcpListener,
        tls: Option<TlsAcceptor>,
        configuration: &Configuration,
        routes: &Arc<Routes>,
    ) -> Self {
        let (routes, trusted_proxies) = (Arc::clone(routes), configuration.trusted_proxies.clone());
        // Not those of the broker: a connection may outlive it by its last response.
        Self { tcp, tls, trusted_proxies, routes, tasks: Tasks::new() }
    }

    /// Serves until `stop` is ready, and then until all connections have ended, or a little later.
    pub(super) async fn serve(self, stop: impl Future<Output = ()>) {
        let most = most_connections();
        let (connections, places) = (GracefulShutdown::new(), Arc::new(Semaphore::new(most)));
        let peers = Peers::new(most / SHARE_OF_A_PEER);
        let mut stop = std::pin::pin!(stop);
        let server = server();
        let mut warned: Option<Instant> = None;
        loop {
            let place = tokio::select! {
                place = Arc::clone(&places).acquire_owned() => place,
                () = &mut stop => break,
            };
            let Ok(place) = place else { break };
            let (socket, peer) = tokio::select! {
                accepted = self.tcp.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        wait_after(&error).await;
                        continue;
                    }
                },
                () = &mut stop => break,
            };
            let is_trusted = self.is_trusted(peer);
            if self.tls.is_none() && !is_trusted {
                warn_of(peer, &mut warned);
                continue;
            }
            let of_peer = if is_trusted { None } else { peers.enter(peer.ip()) };
            if of_peer.is_none() && !is_trusted {
                // Many connections of one address must not keep others out.
                tracing::debug!(peer = %peer.ip(), "an address has too many connections");
                continue;
            }
            let (connection, watcher) = (self.connection(&server, peer), connections.watcher());
            drop(self.tasks.spawn("connection", async move {
                connection.serve(socket, watcher).await;
                drop((place, of_peer));
            }));
        }
        drop(self.tcp);
        // A client that does not take its last response is disconnected.
        drop(timeout(LAST_RESPONSES, connections.shutdown()).await);
    }

    fn connection(&self, server: &auto::Builder<TokioExecutor>, peer: SocketAddr) -> Connection {
        let (routes, tls) = (Arc::clone(&self.routes), self.tls.clone());
        Connection { server: server.clone(), routes, tls, peer }
    }

    fn is_trusted(&self, peer: SocketAddr) -> bool {
        let address = peer.ip().to_canonical();
        address.is_loopback() || self.trusted_proxies.iter().any(|net| net.contains(&address))
    }
}

/// Warns of a peer that is no trusted proxy, but not of each.
fn warn_of(peer: SocketAddr, warned: &mut Option<Instant>) {
    if warned.is_none_or(|warned| warned.elapsed() > BETWEEN_WARNINGS) {
        *warned = Some(Instant::now());
        tracing::warn!(
            alarm = Alarm::UntrustedPeer.code(),
            peer = %peer.ip(),
            "a plain connection from an address that is no trusted proxy was closed"
        );
    }
}

/// Returns the number of connections for which there are file descriptors: each may need another
/// one for its upstream.
fn most_connections() -> usize {
    // The soft limit, in the fourth column.
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let open_files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = open_files.and_then(|columns| columns.split_whitespace().next()?.parse().ok());
    let free = soft.unwrap_or(usize::MAX).saturating_sub(RESERVED_DESCRIPTORS);
    (free / 2).clamp(16, MOST_CONNECTIONS)
}

fn server() -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        // hyper resets a client that opens and cancels streams without end (rapid reset).
        .max_concurrent_streams(250);
    server
}

struct Connection {
    server: auto::Builder<TokioExecutor>,
    routes: Arc<Routes>,
    tls: Option<TlsAcceptor>,
    peer: SocketAddr,
}

impl Connection {
    async fn serve(self, socket: TcpStream, watcher: hyper_util::server::graceful::Watcher) {
        // Small responses are not delayed.
        drop(socket.set_nodelay(true));
        // Before the first byte, no other timeout runs.
        if !matches!(timeout(HEADERS, socket.readable()).await, Ok(Ok(()))) {
            return;
        }
        match self.tls.clone() {
            None => self.run(socket, watcher).await,
            Some(tls) => match timeout(HEADERS, tls.accept(socket)).await {
                Ok(Ok(stream)) => self.run(stream, watcher).await,
                // A client that speaks no TLS, or does not trust the certificate.
                Ok(Err(error)) => tracing::debug!(peer = %self.peer, %error, "no TLS connection"),
                Err(_) => {}
            },
        }
    }

    async fn run(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        watcher: hyper_util::server::graceful::Watcher,
    ) {
        let (routes, peer) = (self.routes, self.peer);
        let has_begun = Arc::new(AtomicBool::new(false));
        let begun = Arc::clone(&has_begun);
        let respond = service_fn(move |mut request: Request<Incoming>| {
            begun.store(true, Ordering::Relaxed);
            // The audit log records the address of the peer.
            request.extensions_mut().insert(peer);
            let router: Router = routes.current();
            router.oneshot(request)
        });
        let connection = self
            .server
            .serve_connection(
                TokioIo::new(WriteTimeout::new(stream, WRITE)),
                TowerToHyperService::new(respond),
            )
            .into_owned();
        let mut connection = std::pin::pin!(watcher.watch(connection));
        // Until its first request, hyper has no timeout for a connection of unknown version.
        let ended = match timeout(HEADERS, &mut connection).await {
            Ok(ended) => ended,
            Err(_) if !has_begun.load(Ordering::Relaxed) => return,
            Err(_) => connection.await,
        };
        // Each failure is one of the client: it has closed the connection, or broken the protocol.
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "a connection ended");
        }
    }
}

/// Waits if the process has no file descriptor left; a connection that was reset needs no wait.
async fn wait_after(error: &io::Error) {
    let is_of_the_client = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    );
    if !is_of_the_client {
        tracing::error!(
            alarm = Alarm::AcceptFailed.code(),
            %error,
            "no connection can be accepted: the process may have too few file descriptors"
        );
        tokio::time::sleep(PAUSE).await;
    }
}
