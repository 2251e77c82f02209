//! An upstream whose streams the test controls, and the requests that open them.

use bytes::Bytes;
use http::header;
use http_body_util::BodyExt as _;
use token_broker_tests::{
    harness::{Broker, CALL},
    upstream::{Received, ScriptedServer, json, live_events},
    wire,
};
use tokio::sync::mpsc;

pub(crate) const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;
/// A call whose response is a stream.
pub(crate) const STREAMED_CALL: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"stream_items"}}"#;
pub(crate) const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

/// An upstream that responds to [`CALL`] at once and opens a stream for every other request.
pub(crate) struct Streams {
    pub(crate) scripted: ScriptedServer,
    opened: mpsc::Receiver<Feed>,
}

/// The upstream's end of one stream; dropped, the stream ends.
pub(crate) struct Feed(mpsc::Sender<Bytes>);

impl Streams {
    /// Streams are event streams.
    pub(crate) async fn start() -> Self {
        Self::of("text/event-stream").await
    }

    /// Streams are of this media type.
    pub(crate) async fn of(media: &'static str) -> Self {
        let (opens, opened) = mpsc::channel(8);
        let scripted = ScriptedServer::start(move |request: &Received| {
            if request.body == CALL {
                return json(RESULT);
            }
            let (feed, chunks) = mpsc::channel(8);
            opens.try_send(Feed(feed)).unwrap();
            let mut response = live_events(chunks).map(|body| body.boxed_unsync());
            response.headers_mut().insert(header::CONTENT_TYPE, media.parse().unwrap());
            response
        })
        .await;
        Self { scripted, opened }
    }

    /// Returns the next stream that a request has opened.
    pub(crate) async fn opened(&mut self) -> Feed {
        self.opened.recv().await.expect("an upstream")
    }
}

impl Feed {
    /// Sends bytes. If the receiver is gone, this has no effect.
    pub(crate) async fn send(&self, text: &str) {
        drop(self.0.send(Bytes::copy_from_slice(text.as_bytes())).await);
    }

    /// Waits until the receiver of the stream is gone.
    pub(crate) async fn closed(&self) {
        self.0.closed().await;
    }
}

/// Returns an event with a message.
pub(crate) fn event(message: &str) -> String {
    format!("data: {message}\n\n")
}

/// Returns an event that reports progress.
pub(crate) fn progress(number: u32) -> String {
    event(&format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progress":{number}}}}}"#
    ))
}

/// Returns an event that reports an update of a resource.
pub(crate) fn updated(uri: &str) -> String {
    let params = format!(r#"{{"uri":"{uri}"}}"#);
    let method = "notifications/resources/updated";
    event(&format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#))
}

fn bearer(broker: &Broker) -> String {
    format!("Bearer {}", broker.token("items:read"))
}

/// Returns a POST of a message by a client of MCP 2025-11-25.
pub(crate) fn post(broker: &Broker, message: &str) -> Vec<u8> {
    let path = broker.resource().path();
    wire::post(path, broker.host(), &[("authorization", &bearer(broker))], message)
}

/// Returns a request for the GET stream (MCP 2025-11-25).
pub(crate) fn get_stream(broker: &Broker) -> Vec<u8> {
    let (path, host, bearer) = (broker.resource().path(), broker.host(), bearer(broker));
    format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
         accept: text/event-stream\r\nauthorization: {bearer}\r\n\r\n"
    )
    .into_bytes()
}

/// Returns the `subscriptions/listen` message for resources (MCP 2026-07-28).
pub(crate) fn listen_message(uris: &[&str]) -> String {
    let uris = serde_json::to_string(uris).unwrap();
    format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"subscriptions/listen\",\"params\":{{\
         \"notifications\":{{\"resourceSubscriptions\":{uris}}},\"_meta\":{{\
         \"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\",\
         \"io.modelcontextprotocol/clientCapabilities\":{{}}}}}}}}"
    )
}

/// Returns a `subscriptions/listen` request for resources (MCP 2026-07-28).
pub(crate) fn listen(broker: &Broker, uris: &[&str]) -> Vec<u8> {
    let fields = [
        ("authorization", bearer(broker)),
        ("mcp-protocol-version", "2026-07-28".to_owned()),
        ("mcp-method", "subscriptions/listen".to_owned()),
    ];
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    wire::post(broker.resource().path(), broker.host(), &fields, &listen_message(uris))
}
