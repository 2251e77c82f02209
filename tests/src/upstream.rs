//! An HTTP server on loopback with scripted responses, which records the requests it receives.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, Response};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// A request as the upstream received it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Received {
    /// Method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// Header fields.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Received {
    /// Returns target, headers and body as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.target.clone().into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(format!("\r\n{name}: ").as_bytes());
            bytes.extend_from_slice(value.as_bytes());
        }
        bytes.extend_from_slice(b"\r\n\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Returns all values of a header field.
    ///
    /// # Panics
    /// Panics if a value is not text.
    pub fn values(&self, name: &str) -> Vec<String> {
        self.headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8(value.as_bytes().to_vec()).expect("text"))
            .collect()
    }
}

/// Body of a scripted response.
pub type ScriptedBody = UnsyncBoxBody<Bytes, Infallible>;

/// The server. It stops with the test's runtime.
#[derive(Debug, Clone)]
pub struct ScriptedServer {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

impl ScriptedServer {
    /// Starts a server that responds to each request with the result of `respond`.
    ///
    /// # Panics
    /// Panics if no loopback port is available.
    pub async fn start<F>(response: F) -> Self
    where
        F: Fn(&Received) -> Response<ScriptedBody> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let received = Arc::new(Mutex::new(Vec::new()));
        let (log, response) = (Arc::clone(&received), Arc::new(response));
        #[expect(clippy::disallowed_methods, reason = "the server stops with the test")]
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (log, response) = (Arc::clone(&log), Arc::clone(&response));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (log, response) = (Arc::clone(&log), Arc::clone(&response));
                    async move {
                        let (parts, body) = request.into_parts();
                        let body =
                            body.collect().await.map(|all| all.to_bytes()).unwrap_or_default();
                        let target =
                            parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
                        let received =
                            Received { method: parts.method, target, headers: parts.headers, body };
                        log.lock().push(received.clone());
                        Ok::<_, Infallible>(response(&received))
                    }
                });
                tokio::spawn(async move {
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    // Disconnected clients are expected.
                    drop(server.serve_connection(TokioIo::new(socket), service).await);
                });
            }
        });
        Self { address, received }
    }

    /// Starts a server that sends the bytes that `respond` returns and closes the connection, for
    /// responses that an HTTP library would not write.
    ///
    /// # Panics
    /// Panics if no loopback port is available.
    pub async fn raw<F>(response: F) -> Self
    where
        F: Fn(&Received) -> String + Send + Sync + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let received = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&received);
        #[expect(clippy::disallowed_methods, reason = "the server stops with the test")]
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let request = read_request(&mut socket).await;
                let bytes = response(&request);
                log.lock().push(request);
                // Disconnected clients are expected.
                drop(socket.write_all(bytes.as_bytes()).await);
            }
        });
        Self { address, received }
    }

    /// Wraps the address of a server that the test runs itself; no requests are recorded.
    pub fn elsewhere(address: SocketAddr) -> Self {
        Self { address, received: Arc::default() }
    }

    /// Returns the address that the server listens on.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL of a path on the server.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns the requests received so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().clone()
    }
}

/// Reads one request with `Content-Length`.
async fn read_request(socket: &mut TcpStream) -> Received {
    let mut bytes = Vec::new();
    loop {
        assert_ne!(socket.read_buf(&mut bytes).await.expect("a request"), 0, "half a request");
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&bytes[..end]).expect("a text head");
        let (line, fields) = head.split_once("\r\n").expect("header fields");
        let mut words = line.split(' ');
        let method = words.next().and_then(|word| word.parse().ok()).expect("a method");
        let target = words.next().expect("a target").to_owned();
        let fields = fields.split("\r\n").filter_map(|field| field.split_once(": "));
        let headers: HeaderMap = fields
            .map(|(name, value)| {
                (HeaderName::try_from(name).expect("a name"), value.parse().expect("a value"))
            })
            .collect();
        let length = headers
            .get("content-length")
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .unwrap_or(0);
        let body = &bytes[end + 4..];
        if body.len() >= length {
            return Received { method, target, headers, body: Bytes::copy_from_slice(body) };
        }
    }
}

/// Creates a body of known length.
pub fn full(bytes: impl Into<Bytes>) -> ScriptedBody {
    Full::new(bytes.into()).boxed_unsync()
}

/// Creates a JSON response with status 200.
///
/// # Panics
/// Never: all parts are valid.
pub fn json(body: &str) -> Response<ScriptedBody> {
    Response::builder()
        .header("content-type", "application/json")
        .body(full(body.to_owned()))
        .expect("valid parts")
}

/// Creates an event stream with status 200 and one chunk per event.
///
/// # Panics
/// Never: all parts are valid.
pub fn events(events: &[&str]) -> Response<ScriptedBody> {
    let events: Vec<String> = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    let body = http_body_util::StreamBody::new(frames(events));
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(http_body_util::BodyExt::boxed_unsync(body))
        .expect("valid parts")
}

/// Creates an event stream with status 200, whose chunks the test sends.
///
/// # Panics
/// Never: all parts are valid.
pub fn live_events(chunks: mpsc::Receiver<Bytes>) -> Response<ScriptedBody> {
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(live(chunks))
        .expect("valid parts")
}

/// Creates a body whose chunks the test sends.
pub fn live(chunks: mpsc::Receiver<Bytes>) -> ScriptedBody {
    http_body_util::StreamBody::new(Live(chunks)).boxed_unsync()
}

struct Live(mpsc::Receiver<Bytes>);

impl futures_core::Stream for Live {
    type Item = Result<http_body::Frame<Bytes>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|chunk| chunk.map(|chunk| Ok(http_body::Frame::data(chunk))))
    }
}

/// Creates a stream of chunks for `http_body_util::StreamBody`; the iterator is advanced on demand.
pub fn frames<I>(
    chunks: I,
) -> impl futures_core::Stream<Item = Result<http_body::Frame<Bytes>, Infallible>> + Send + 'static
where
    I: IntoIterator<Item = String, IntoIter: Send + 'static>,
{
    IterStream(Box::new(
        chunks.into_iter().map(|chunk| Ok(http_body::Frame::data(Bytes::from(chunk)))),
    ))
}

/// Creates a stream of the given items.
pub fn iter<T: Send + Unpin + 'static>(
    items: Vec<T>,
) -> impl futures_core::Stream<Item = T> + Send + 'static {
    IterStream(items.into_iter())
}

struct IterStream<I>(I);

impl<I: Iterator + Unpin> futures_core::Stream for IterStream<I> {
    type Item = I::Item;

    fn poll_next(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<I::Item>> {
        Poll::Ready(self.0.next())
    }
}
