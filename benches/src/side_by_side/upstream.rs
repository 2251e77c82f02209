//! The upstream: answers at once, with bytes that were made before.

use std::io;

use token_broker_benches::fixtures::Ask;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};
use tower_token_broker::tasks::Tasks;

use super::wire::Reader;

/// How far into the body it looks for what is asked.
const NEAR: usize = 256;

/// Answers until the process ends.
pub(crate) async fn serve(listener: TcpListener, tasks: &Tasks) -> io::Result<()> {
    let answers: &'static [Answer] =
        Box::leak(Ask::ALL.iter().map(|ask| Answer::of(*ask)).collect());
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        drop(tasks.spawn("connection", connection(socket, answers)));
    }
}

struct Answer {
    mark: &'static [u8],
    bytes: Vec<u8>,
}

impl Answer {
    fn of(ask: Ask) -> Self {
        let body = ask.answer();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {}\r\n", ask.answer_type());
        let text = match ask {
            // One chunk an event, as a server sends them.
            Ask::Events => {
                let mut text =
                    format!("{head}cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n");
                for event in body.split_inclusive("\n\n") {
                    text.push_str(&format!("{:x}\r\n{event}\r\n", event.len()));
                }
                text.push_str("0\r\n\r\n");
                text
            }
            Ask::Small | Ask::Large | Ask::List(_) => {
                format!("{head}content-length: {}\r\n\r\n{body}", body.len())
            }
        };
        Self { mark: ask.mark().as_bytes(), bytes: text.into_bytes() }
    }
}

async fn connection(mut socket: TcpStream, answers: &'static [Answer]) {
    let mut reader = Reader::default();
    // A proxy that goes away ends its connection; that is no news.
    while let Ok(Some(request)) = reader.next(&mut socket).await {
        let near = request.body.get(..NEAR).unwrap_or(request.body);
        let asked = answers.iter().find(|answer| memchr::memmem::find(near, answer.mark).is_some());
        let bytes = asked
            .map_or(&b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"[..], |asked| {
                &asked.bytes
            });
        if socket.write_all(bytes).await.is_err() {
            return;
        }
    }
}
