//! Accepts connections: survives a lack of file descriptors, and closes connections that are
//! silent.
//!
//! Every connection has a timeout for its first byte, for TLS, for each part of a response that its
//! client does not read, and for a time without a request; HTTP/1.1 one for the headers of each
//! request, and HTTP/2 pings.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use http::Request;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use ipnet::IpNet;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, oneshot, watch},
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_rustls::TlsAcceptor;
use tower::service_fn;
use tower_token_broker::{alarm::Alarm, tasks::Tasks};

use super::{
    activity::{ActiveBody, Activity},
    client_address::client_address,
    peers::Peers,
    routes::Routes,
    write_timeout::WriteTimeout,
};
use crate::configuration::Configuration;

/// The time in which the first byte, the TLS handshake and the headers of a request must arrive. An
/// idle connection of HTTP/1.1 is closed after this time.
const HEADERS: Duration = Duration::from_secs(30);
/// The interval of HTTP/2 pings, and the time until each is acknowledged.
const PING: Duration = Duration::from_secs(20);
/// A connection of HTTP/2 without a request is closed after this time.
const IDLE: Duration = Duration::from_secs(300);
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
    trusted_proxies: Arc<[IpNet]>,
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
        let (routes, trusted_proxies) =
            (Arc::clone(routes), configuration.trusted_proxies.as_slice().into());
        // Not those of the broker: a connection may outlive it by its last response.
        Self { tcp, tls, trusted_proxies, routes, tasks: Tasks::new() }
    }

    /// Serves until `stop` is ready, and then until all connections have ended, or a little later.
    pub(super) async fn serve(self, stop: impl Future<Output = ()>) {
        let most = most_connections();
        let places = Arc::new(Semaphore::new(most));
        let ending = watch::Sender::new(false);
        let peers = Peers::new(most / SHARE_OF_A_PEER);
        let mut stop = std::pin::pin!(stop);
        let server = server();
        let (mut warned, mut warned_of_many) = (None, None);
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
                warn_of_untrusted(peer, &mut warned);
                continue;
            }
            let of_peer = if is_trusted { None } else { peers.enter(peer.ip()) };
            if of_peer.is_none() && !is_trusted {
                // Many connections of one address must not keep others out.
                warn_of_many(peer, &mut warned_of_many);
                continue;
            }
            let (connection, is_ending) = (self.connection(&server, peer), ending.subscribe());
            drop(self.tasks.spawn("connection", async move {
                connection.serve(socket, is_ending).await;
                drop((place, of_peer));
            }));
        }
        drop(self.tcp);
        // A client that does not take its last response is disconnected.
        ending.send_replace(true);
        drop(timeout(LAST_RESPONSES, ending.closed()).await);
    }

    fn connection(&self, server: &auto::Builder<TokioExecutor>, peer: SocketAddr) -> Connection {
        let (routes, tls) = (Arc::clone(&self.routes), self.tls.clone());
        let trusted_proxies = Arc::clone(&self.trusted_proxies);
        Connection { server: server.clone(), routes, tls, peer, trusted_proxies }
    }

    fn is_trusted(&self, peer: SocketAddr) -> bool {
        let address = peer.ip().to_canonical();
        address.is_loopback() || self.trusted_proxies.iter().any(|net| net.contains(&address))
    }
}

/// Warns of an address that is no trusted proxy, but not of each.
fn warn_of_untrusted(peer: SocketAddr, warned: &mut Option<Instant>) {
    if is_due(warned) {
        tracing::warn!(
            alarm = Alarm::UntrustedPeer.code(),
            peer = %peer.ip(),
            "a plain connection from an address that is no trusted proxy was closed"
        );
    }
}

/// Warns of an address that has its share of the connections, but not of each.
fn warn_of_many(peer: SocketAddr, warned: &mut Option<Instant>) {
    if is_due(warned) {
        tracing::warn!(
            alarm = Alarm::PeerConnections.code(),
            peer = %peer.ip(),
            "a connection was closed, because its address has too many"
        );
    }
}

fn is_due(warned: &mut Option<Instant>) -> bool {
    let is_due = warned.is_none_or(|warned| warned.elapsed() > BETWEEN_WARNINGS);
    if is_due {
        *warned = Some(Instant::now());
    }
    is_due
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
    trusted_proxies: Arc<[IpNet]>,
}

impl Connection {
    async fn serve(self, socket: TcpStream, is_ending: watch::Receiver<bool>) {
        // Small responses are not delayed.
        drop(socket.set_nodelay(true));
        // Before the first byte, no other timeout runs.
        if !matches!(timeout(HEADERS, socket.readable()).await, Ok(Ok(()))) {
            return;
        }
        match self.tls.clone() {
            None => self.run(socket, is_ending).await,
            Some(tls) => match timeout(HEADERS, tls.accept(socket)).await {
                Ok(Ok(stream)) => self.run(stream, is_ending).await,
                // A client that speaks no TLS, or does not trust the certificate.
                Ok(Err(error)) => tracing::debug!(peer = %self.peer, %error, "no TLS connection"),
                Err(_) => {}
            },
        }
    }

    async fn run(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        mut is_ending: watch::Receiver<bool>,
    ) {
        let (routes, peer, proxies) = (self.routes, self.peer, self.trusted_proxies);
        let activity = Activity::new();
        let of_requests = activity.clone();
        let respond = service_fn(move |mut request: Request<Incoming>| {
            let active = of_requests.begin();
            // For the audit log, and for limits of each address.
            let client = client_address(peer, request.headers(), &proxies);
            request.extensions_mut().insert(client);
            let routes = Arc::clone(&routes);
            async move {
                let response = routes.respond(request).await?;
                Ok::<_, Infallible>(response.map(|body| ActiveBody::new(body, active)))
            }
        });
        let connection = self
            .server
            .serve_connection(
                TokioIo::new(WriteTimeout::new(stream, WRITE)),
                TowerToHyperService::new(respond),
            )
            .into_owned();
        let mut connection = std::pin::pin!(connection);
        // In a task of its own: what a connection waits for is looked at with each of its events.
        let (advise, mut advised) = oneshot::channel();
        // The listener waits until this one is dropped.
        let _open = is_ending.clone();
        let mut adviser = JoinSet::new();
        adviser.spawn(async move { advise.send(activity.advice(&mut is_ending).await) });
        let ended = tokio::select! {
            biased;
            ended = &mut connection => ended,
            Ok(advice) = &mut advised => match advice {
                Advice::Drop => return,
                Advice::End => {
                    // One that has no request ends at once; others end with their last response.
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            },
        };
        // Each failure is one of the client: it has closed the connection, or broken the protocol.
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "a connection ended");
        }
    }
}

/// When a connection ends that its client does not end.
enum Advice {
    /// At once.
    Drop,
    /// After its last response.
    End,
}

impl Activity {
    /// Waits until the connection must end.
    async fn advice(&self, is_ending: &mut watch::Receiver<bool>) -> Advice {
        // Until its first request, hyper has no timeout for a connection of unknown version.
        let without_request = async {
            tokio::time::sleep(HEADERS).await;
            if self.has_begun() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            _ = is_ending.wait_for(|is_ending| *is_ending) => Advice::End,
            () = self.idle_for(IDLE) => Advice::End,
            () = without_request => Advice::Drop,
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
