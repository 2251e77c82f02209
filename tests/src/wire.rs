//! Raw HTTP/1.1 over a socket: what a hostile client sends, byte for byte, and what it gets.

use std::net::SocketAddr;

use http::{HeaderMap, StatusCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// One answer as it came off the wire.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header fields in their order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, its chunks joined.
    pub body: Vec<u8>,
    /// All bytes as they came.
    pub raw: Vec<u8>,
}

impl Answer {
    /// An answer that was read by a client; its bytes as HTTP/1.1 would write them.
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

    /// The only value of a field; `None` if it is not there.
    ///
    /// # Panics
    /// If it is there twice.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter().filter(|(field, _)| field == name);
        let value = all.next().map(|(_, value)| value.as_str());
        assert!(all.next().is_none(), "the field {name} came twice");
        value
    }

    /// The body as text.
    ///
    /// # Panics
    /// If it is not UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a text body")
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    pub fn json(&self) -> serde_json::Value {
        self.text().parse().unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }
}

/// Sends bytes on a connection of their own and reads until the other side closes.
///
/// # Panics
/// If there is no answer that can be read as HTTP/1.1.
pub async fn send(to: SocketAddr, bytes: &[u8]) -> Answer {
    try_send(to, bytes).await.expect("an answer")
}

/// As [`send`], but `None` if the connection was closed without an answer.
///
/// # Panics
/// If what came is not HTTP/1.1.
pub async fn try_send(to: SocketAddr, bytes: &[u8]) -> Option<Answer> {
    let mut socket = TcpStream::connect(to).await.expect("a listener");
    // A server that refuses early may close before all was written: what it said counts.
    let written = socket.write_all(bytes).await;
    let mut raw = Vec::new();
    let read = socket.read_to_end(&mut raw).await;
    if raw.is_empty() {
        assert!(written.is_err() || read.is_err() || raw.is_empty());
        return None;
    }
    Some(parse(raw))
}

/// A POST of a JSON-RPC message, as an MCP client sends it, with these fields beside the usual.
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

/// Reads an answer.
///
/// # Panics
/// If it is not HTTP/1.1.
pub fn parse(raw: Vec<u8>) -> Answer {
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
    Answer { status: status.expect("a status line"), headers, body, raw }
}

/// Joins the chunks; stops where they stop, as a cut stream does.
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
