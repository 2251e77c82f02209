//! HTTP/1.1 written by hand, where the scenario needs every byte.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Longest time until a response is complete.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A response, as it was received.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) text: String,
}

/// A request on a connection of its own, which ends with the response.
pub(crate) struct Request<'a> {
    pub(crate) to: SocketAddr,
    pub(crate) path: &'a str,
    pub(crate) token: &'a str,
    /// JSON-RPC message. Without one, the request is a GET.
    pub(crate) message: Option<&'a str>,
}

impl Request<'_> {
    async fn send(&self) -> io::Result<TcpStream> {
        let Self { to, path, token, message } = self;
        let (method, body) = message.map_or(("GET", ""), |message| ("POST", message));
        let text = format!(
            "{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n\
             authorization: Bearer {token}\r\ncontent-type: application/json\r\n\
             accept: application/json, text/event-stream\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut socket = TcpStream::connect(to).await?;
        socket.write_all(text.as_bytes()).await?;
        Ok(socket)
    }

    /// Sends the request and reads the whole response.
    pub(crate) async fn response(&self) -> io::Result<Response> {
        let mut socket = self.send().await?;
        let mut bytes = Vec::new();
        tokio::time::timeout(TIMEOUT, socket.read_to_end(&mut bytes))
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
        Ok(read(bytes))
    }

    /// Sends the request, runs `then` after the first event, and reads the rest of the stream for
    /// at most 5 s. Returns also whether the stream ended.
    pub(crate) async fn stream(
        &self,
        then: impl Future<Output = ()>,
    ) -> io::Result<(Response, bool)> {
        let mut socket = self.send().await?;
        let mut bytes = Vec::new();
        let mut then = Some(then);
        let until_end = async {
            let mut buffer = vec![0; 4096];
            loop {
                let read = socket.read(&mut buffer).await?;
                if read == 0 {
                    return Ok::<_, io::Error>(());
                }
                bytes.extend_from_slice(buffer.get(..read).unwrap_or_default());
                let has_event = bytes.windows(5).any(|window| window == b"data:");
                if let Some(then) = then.take_if(|_| has_event) {
                    then.await;
                }
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(5), until_end).await;
        let ended = ended.map_or(Ok(false), |end| end.map(|()| true))?;
        Ok((read(bytes), ended))
    }
}

/// Sends a form, or a GET request without one, with these header fields.
pub(crate) async fn exchange(
    to: SocketAddr,
    target: &str,
    fields: &[(&str, String)],
    form: Option<&str>,
) -> io::Result<Response> {
    let (method, body) = form.map_or(("GET", ""), |form| ("POST", form));
    let fields: String =
        fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let text = format!(
        "{method} {target} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n{fields}\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut socket = TcpStream::connect(to).await?;
    socket.write_all(text.as_bytes()).await?;
    let mut bytes = Vec::new();
    tokio::time::timeout(TIMEOUT, socket.read_to_end(&mut bytes))
        .await
        .map_err(|_| io::ErrorKind::TimedOut)??;
    Ok(read(bytes))
}

impl Response {
    /// Returns the values of a header field.
    pub(crate) fn headers<'r>(&'r self, name: &'r str) -> impl Iterator<Item = &'r str> {
        let head = self.text.split("\r\n\r\n").next().unwrap_or_default();
        head.lines().filter_map(move |line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// Returns the text after the headers.
    pub(crate) fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }

    /// Returns the first value of a header field.
    pub(crate) fn header<'r>(&'r self, name: &'r str) -> Option<&'r str> {
        self.headers(name).next()
    }
}

fn read(bytes: Vec<u8>) -> Response {
    let text = String::from_utf8(bytes).unwrap_or_default();
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    Response { status, text }
}
