//! HTTP/1.1 by hand, where the story needs to see each byte.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Longest time the story waits for an answer's end.
const PATIENCE: Duration = Duration::from_secs(15);

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
}

/// A request on a connection of its own, which ends with the answer.
pub(crate) struct Request<'a> {
    pub(crate) to: SocketAddr,
    pub(crate) path: &'a str,
    pub(crate) token: &'a str,
    /// A JSON-RPC message; a GET without one.
    pub(crate) message: Option<&'a str>,
}

impl Request<'_> {
    async fn send(&self) -> io::Result<TcpStream> {
        let Self { to, path, token, message } = self;
        let (method, body) = message.map_or(("GET", ""), |message| ("POST", message));
        let text = format!(
            "{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\naccept: application/json, text/event-stream\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut socket = TcpStream::connect(to).await?;
        socket.write_all(text.as_bytes()).await?;
        Ok(socket)
    }

    /// Sends it and reads the answer to its end.
    pub(crate) async fn answer(&self) -> io::Result<Answer> {
        let mut socket = self.send().await?;
        let mut bytes = Vec::new();
        tokio::time::timeout(PATIENCE, socket.read_to_end(&mut bytes))
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
        Ok(read(bytes))
    }

    /// Sends it, waits for the first event, lets `then` happen, and reads what still comes, until
    /// the end or until patience ends.
    pub(crate) async fn stream(
        &self,
        then: impl Future<Output = ()>,
    ) -> io::Result<(Answer, bool)> {
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

/// Posts a form, without credentials.
pub(crate) async fn post_form(to: SocketAddr, path: &str, form: &str) -> io::Result<()> {
    let text = format!(
        "POST {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    );
    let mut socket = TcpStream::connect(to).await?;
    socket.write_all(text.as_bytes()).await?;
    socket.read_to_end(&mut Vec::new()).await.map(drop)
}

fn read(bytes: Vec<u8>) -> Answer {
    let text = String::from_utf8(bytes).unwrap_or_default();
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    Answer { status, text }
}
