//! The upstream: responds at once, with prepared bytes.

use std::io;

use token_broker_benches::fixtures::Call;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};
use tower_token_broker::tasks::Tasks;

use super::wire::Reader;

/// Number of bytes of the body in which the call is recognized.
const NEAR: usize = 256;

/// Serves until the process ends.
pub(crate) async fn serve(listener: TcpListener, tasks: &Tasks) -> io::Result<()> {
    let replies: &'static [Reply] =
        Box::leak(Call::ALL.iter().map(|call| Reply::of(*call)).collect());
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        drop(tasks.spawn("connection", connection(socket, replies)));
    }
}

struct Reply {
    mark: &'static [u8],
    bytes: Vec<u8>,
}

impl Reply {
    fn of(call: Call) -> Self {
        let body = call.response();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {}\r\n", call.response_type());
        let text = match call {
            // One chunk per event, as a server sends them.
            Call::Events => {
                let mut text =
                    format!("{head}cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n");
                for event in body.split_inclusive("\n\n") {
                    text.push_str(&format!("{:x}\r\n{event}\r\n", event.len()));
                }
                text.push_str("0\r\n\r\n");
                text
            }
            Call::Small | Call::Large | Call::List(_) => {
                format!("{head}content-length: {}\r\n\r\n{body}", body.len())
            }
        };
        Self { mark: call.mark().as_bytes(), bytes: text.into_bytes() }
    }
}

async fn connection(mut socket: TcpStream, replies: &'static [Reply]) {
    let mut reader = Reader::default();
    // A proxy that ends closes its connection, which is not an error.
    while let Ok(Some(request)) = reader.next(&mut socket).await {
        let near = request.body.get(..NEAR).unwrap_or(request.body);
        let found = replies.iter().find(|reply| memchr::memmem::find(near, reply.mark).is_some());
        let bytes = found
            .map_or(&b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"[..], |reply| {
                &reply.bytes
            });
        if socket.write_all(bytes).await.is_err() {
            return;
        }
    }
}
