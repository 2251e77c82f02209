//! Raw HTTP/1.1 over a socket: requests that a hostile client may send, byte for byte, and the
//! responses.

use std::net::SocketAddr;

use http::{HeaderMap, StatusCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A response as received.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RawResponse {
    /// Status code.
    pub status: u16,
    /// Header fields in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body, with chunks joined.
    pub body: Vec<u8>,
    /// All bytes as received.
    pub raw: Vec<u8>,
}

impl RawResponse {
    /// Creates the response from parts that an HTTP client has read; `raw` is what HTTP/1.1 would
    /// send.
    pub fn of(status: StatusCode, headers: &HeaderMap, body: &[u8], trailers: &HeaderMap) -> Self {
        let fields = |fields: &HeaderMap| -> Vec<(String, String)> {
            let fields = fields.iter();
            fields
                .map(|(name, value)| {
                    (name.to_string(), value.as_bytes().iter().map(|b| char::from(*b)).collect())
                })
                .collect()
        };
        let text = |fields: &[(String, String)]| -> String {
            fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
        };
        let (headers, trailers) = (fields(headers), fields(trailers));
        let head = format!("HTTP/1.1 {}\r\n{}\r\n", status.as_u16(), text(&headers));
        let raw = [head.as_bytes(), body, b"\r\n", text(&trailers).as_bytes()].concat();
        Self { status: status.as_u16(), headers, body: body.to_vec(), raw }
    }

    /// Returns the value of a header field, or `None` if it is absent.
    ///
    /// # Panics
    /// Panics if the field occurs more than once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter().filter(|(field, _)| field == name);
        let value = all.next().map(|(_, value)| value.as_str());
        assert!(all.next().is_none(), "the field {name} came twice");
        value
    }

    /// Returns the body as text.
    ///
    /// # Panics
    /// Panics if it is not UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a text body")
    }

    /// Returns the body as JSON.
    ///
    /// # Panics
    /// Panics if it is not JSON.
    pub fn json(&self) -> serde_json::Value {
        self.text().parse().unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }
}

/// Sends bytes on a new connection and reads until the server closes it.
///
/// # Panics
/// Panics if the response is missing or not valid HTTP/1.1.
pub async fn send(to: SocketAddr, bytes: &[u8]) -> RawResponse {
    try_send(to, bytes).await.expect("a response")
}

/// Like [`send`], but returns `None` if the connection is closed without a response.
///
/// # Panics
/// Panics if the response is not valid HTTP/1.1.
pub async fn try_send(to: SocketAddr, bytes: &[u8]) -> Option<RawResponse> {
    let mut socket = TcpStream::connect(to).await.expect("a listener");
    // A server that refuses early may close the connection before the request is written; its
    // response counts.
    let written = socket.write_all(bytes).await;
    let mut raw = Vec::new();
    let read = socket.read_to_end(&mut raw).await;
    if raw.is_empty() {
        assert!(written.is_err() || read.is_err() || raw.is_empty());
        return None;
    }
    Some(parse(raw))
}

/// Returns the bytes of a POST with a JSON-RPC message, as an MCP client sends it, with additional
/// header fields.
pub fn post(path: &str, host: &str, fields: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("POST {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    let has = |name: &str| fields.iter().any(|(field, _)| field.eq_ignore_ascii_case(name));
    for (name, value) in
        [("content-type", "application/json"), ("accept", "application/json, text/event-stream")]
    {
        if !has(name) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    if !has("content-length") && !has("transfer-encoding") {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    for (name, value) in fields {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

/// Parses a response.
///
/// # Panics
/// Panics if it is not valid HTTP/1.1.
pub fn parse(raw: Vec<u8>) -> RawResponse {
    let end = raw.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    let head = std::str::from_utf8(&raw[..end]).expect("a text head");
    let mut lines = head.split("\r\n");
    let status =
        lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let rest = &raw[end + 4..];
    let chunked =
        headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = if chunked { unchunk(rest) } else { rest.to_vec() };
    RawResponse { status: status.expect("a status line"), headers, body, raw }
}

/// Joins the chunks received so far; a cut stream has no final chunk.
fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&rest[..end])
            .ok()
            .and_then(|text| usize::from_str_radix(text, 16).ok());
        let Some(size) = size.filter(|size| *size > 0) else { break };
        let from = end + 2;
        let to = (from + size).min(rest.len());
        body.extend_from_slice(&rest[from..to]);
        rest = rest.get(to + 2..).unwrap_or_default();
    }
    body
}
