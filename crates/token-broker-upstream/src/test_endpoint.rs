//! Token endpoint on loopback for the tests of this crate: responds as configured, and records its
//! requests.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tower_token_broker::tasks::Tasks;

/// Response to one request.
pub(crate) enum Reply {
    /// This status, these header lines and this body.
    Says(u16, &'static str, String),
    /// These bytes, as they are: status line, headers and body. Then the connection ends.
    Raw(Vec<u8>),
    /// These bytes, as they are. Then the connection stays open.
    Stalls(Vec<u8>),
    /// Half of this body.
    BreaksOff(String),
    /// None: the connection is closed.
    HangsUp,
    /// None: the connection stays open.
    Hangs,
}

pub(crate) struct Endpoint {
    pub(crate) url: String,
    shared: Arc<Shared>,
}

struct Shared {
    respond: Box<dyn Fn(&str) -> Reply + Send + Sync>,
    posts: Mutex<Vec<String>>,
    gate: Semaphore,
}

impl Endpoint {
    /// Starts an endpoint that responds to each request with what `respond` returns for its text.
    pub(crate) async fn start(respond: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let gate = Semaphore::new(Semaphore::MAX_PERMITS);
        let shared = Arc::new(Shared { respond: Box::new(respond), posts: Mutex::default(), gate });
        let (serving, tasks) = (Arc::clone(&shared), Tasks::new());
        drop(tasks.clone().spawn("accept", async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = Arc::clone(&serving);
                drop(tasks.spawn("connection", async move { shared.serve(stream).await }));
            }
        }));
        Self { url, shared }
    }

    pub(crate) fn posts(&self) -> Vec<String> {
        self.shared.posts.lock().clone()
    }

    /// Delays each response until [`Endpoint::open`].
    pub(crate) fn close(&self) {
        self.shared.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub(crate) fn open(&self) {
        self.shared.gate.add_permits(Semaphore::MAX_PERMITS);
    }

    /// Waits until so many requests have arrived.
    pub(crate) async fn until_asked(&self, times: usize) {
        let received = async {
            while self.posts().len() < times {
                tokio::task::yield_now().await;
            }
        };
        let received = tokio::time::timeout(Duration::from_secs(20), received).await;
        assert!(received.is_ok(), "{} requests instead of {times}", self.posts().len());
    }
}

impl Shared {
    async fn serve(&self, mut stream: TcpStream) {
        let mut read = Vec::new();
        let request = loop {
            let mut buffer = [0; 4096];
            let count = stream.read(&mut buffer).await.unwrap_or(0);
            if count == 0 {
                return;
            }
            read.extend_from_slice(&buffer[..count]);
            let text = String::from_utf8(read.clone()).unwrap();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() >= length.parse().unwrap() {
                break text;
            }
        };
        self.posts.lock().push(request.clone());
        let reply = (self.respond)(&request);
        drop(self.gate.acquire().await.unwrap());
        let (status, headers, length, body) = match reply {
            Reply::Says(status, headers, body) => (status, headers, body.len(), body),
            Reply::Raw(bytes) => return stream.write_all(&bytes).await.unwrap_or_default(),
            Reply::Stalls(bytes) => {
                stream.write_all(&bytes).await.unwrap_or_default();
                std::future::pending().await
            }
            Reply::BreaksOff(mut body) => {
                let length = body.len();
                body.truncate(length / 2);
                (200, "", length, body)
            }
            Reply::HangsUp => return,
            Reply::Hangs => std::future::pending().await,
        };
        let reply = format!(
            "HTTP/1.1 {status} x\r\n{headers}content-length: {length}\r\n\
             connection: close\r\n\r\n{body}"
        );
        stream.write_all(reply.as_bytes()).await.unwrap_or_default();
    }
}
