//! Small servers on loopback for tests. They record the bytes that they receive.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;
use tower_token_broker::tasks::Tasks;

/// Server that responds to each request with the same bytes, and records connections and requests.
pub(crate) struct Wire {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
}

#[derive(Default)]
pub(crate) struct Seen {
    connections: AtomicUsize,
    requests: Mutex<Vec<String>>,
}

impl Seen {
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().clone()
    }
}

impl Wire {
    /// Starts a server that responds to each request with these bytes, then closes the connection.
    pub(crate) async fn answering(reply: &str) -> Self {
        Self::serve(reply, None, false).await
    }

    /// Starts a server that responds with these bytes, sends no more, and keeps the connection.
    pub(crate) async fn falling_silent_after(reply: &str) -> Self {
        Self::serve(reply, None, true).await
    }

    /// Starts the same server over TLS.
    pub(crate) async fn over_tls(reply: &str, tls: rustls::ServerConfig) -> Self {
        Self::serve(reply, Some(TlsAcceptor::from(Arc::new(tls))), false).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn serve(reply: &str, tls: Option<TlsAcceptor>, silent: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, reply, tasks) =
            (Arc::new(Seen::default()), Arc::<str>::from(reply), Tasks::new());
        let noted = Arc::clone(&seen);
        drop(tasks.clone().spawn("accept", async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                noted.connections.fetch_add(1, Ordering::SeqCst);
                let (noted, reply, tls) = (Arc::clone(&noted), Arc::clone(&reply), tls.clone());
                drop(tasks.spawn("connection", async move {
                    match tls {
                        None => respond(stream, &noted, &reply, silent).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                respond(stream, &noted, &reply, silent).await;
                            }
                        }
                    }
                }));
            }
        }));
        Self { address, seen }
    }
}

async fn respond<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    seen: &Seen,
    reply: &str,
    silent: bool,
) {
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let headers = std::str::from_utf8(&read[..end]).unwrap().to_ascii_lowercase();
            let length = headers.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |digits| digits.parse().unwrap());
            let chunked = headers.contains("transfer-encoding: chunked");
            if (chunked && read.ends_with(b"0\r\n\r\n"))
                || (!chunked && read.len() >= end + 4 + length)
            {
                break;
            }
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => read.extend_from_slice(&buffer[..count]),
        }
    }
    seen.requests.lock().push(String::from_utf8(read).unwrap());
    let written = stream.write_all(reply.as_bytes()).await;
    if silent {
        std::future::pending::<()>().await;
    }
    if written.is_ok() {
        stream.shutdown().await.unwrap_or_default();
    }
}

/// Certification authority for one test.
pub(crate) struct Authority {
    pub(crate) root: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap().der().to_vec();
        Self { root, issuer: Issuer::new(params, key) }
    }

    /// Returns the configuration of a server whose certificate for `name` this authority signed. It
    /// is valid until the end of `year`.
    pub(crate) fn server(&self, name: &str, year: i32) -> rustls::ServerConfig {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 12, 31);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        server_config(certificate.der().to_vec(), &key)
    }
}

/// Returns the configuration of a server with a self-signed certificate.
pub(crate) fn self_signed(name: &str) -> rustls::ServerConfig {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    server_config(certificate.der().to_vec(), &key)
}

fn server_config(certificate: Vec<u8>, key: &KeyPair) -> rustls::ServerConfig {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(vec![certificate.into()], key)
    .unwrap()
}
