//! A TCP relay that records what a client sends and receives, byte for byte.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tower_token_broker::tasks::Tasks;

/// Forwards every byte in both directions, and keeps a copy.
#[derive(Clone, Debug)]
pub(crate) struct Wiretap {
    address: SocketAddr,
    sent: Copies,
    received: Copies,
}

/// Bytes of one direction, by connection.
#[derive(Clone, Debug, Default)]
struct Copies {
    bytes: Arc<Mutex<Vec<Vec<u8>>>>,
    has_stopped: Arc<AtomicBool>,
}

impl Wiretap {
    /// Starts a relay in front of the server at `target`.
    pub(crate) fn start(
        listener: TcpListener,
        target: SocketAddr,
        tasks: &Tasks,
    ) -> std::io::Result<Self> {
        let tap = Self {
            address: listener.local_addr()?,
            sent: Copies::default(),
            received: Copies::default(),
        };
        let (sent, received, owned) = (tap.sent.clone(), tap.received.clone(), tasks.clone());
        drop(tasks.spawn("demo-wiretap", async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(target).await else { continue };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                drop(owned.spawn("demo-wire", pass(from_client, to_server, sent.clone())));
                drop(owned.spawn("demo-wire", pass(from_server, to_client, received.clone())));
            }
        }));
        Ok(tap)
    }

    /// Returns the address that clients connect to.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns what clients sent, by connection.
    pub(crate) fn sent(&self) -> Vec<Vec<u8>> {
        self.sent.bytes.lock().clone()
    }

    /// Returns what clients received, by connection.
    pub(crate) fn received(&self) -> Vec<Vec<u8>> {
        self.received.bytes.lock().clone()
    }

    /// Keeps no more copies, and forgets those that it has.
    pub(crate) fn stop_recording(&self) {
        for copies in [&self.sent, &self.received] {
            copies.has_stopped.store(true, Ordering::Relaxed);
            copies.bytes.lock().clear();
        }
    }
}

impl Copies {
    /// Returns the position of a new connection.
    fn begin(&self) -> usize {
        let mut bytes = self.bytes.lock();
        bytes.push(Vec::new());
        bytes.len() - 1
    }

    fn add(&self, connection: usize, more: &[u8]) {
        if self.has_stopped.load(Ordering::Relaxed) {
            return;
        }
        if let Some(bytes) = self.bytes.lock().get_mut(connection) {
            bytes.extend_from_slice(more);
        }
    }
}

/// Returns the number of requests that were sent to the servers. The authorization server, which
/// has records of other kinds, is not among them.
pub(crate) fn requests(sent: &[Vec<u8>]) -> u64 {
    let is_request = |line: &&[u8]| {
        let mut words = line.split(|byte| *byte == b' ');
        let method = words.next().unwrap_or_default();
        let has_method = [&b"POST"[..], b"GET", b"DELETE"].iter().any(|end| method.ends_with(end));
        let target = words.next().unwrap_or_default();
        has_method
            && target.starts_with(b"/")
            && !target.starts_with(b"/oauth/")
            && words.next() == Some(b"HTTP/1.1")
            && words.next().is_none()
    };
    let of = |bytes: &Vec<u8>| {
        let lines = bytes.split(|byte| *byte == b'\n');
        lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line)).filter(is_request).count()
    };
    sent.iter().map(of).sum::<usize>() as u64
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    copies: Copies,
) {
    let connection = copies.begin();
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let bytes = buffer.get(..read).unwrap_or_default();
        copies.add(connection, bytes);
        if to.write_all(bytes).await.is_err() {
            break;
        }
    }
    // The end is forwarded.
    drop(to.shutdown().await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_to_servers_are_counted() {
        // A body without a line end is followed by the next request.
        let sent = b"POST /crm/mcp HTTP/1.1\r\nhost: x\r\n\r\n{}GET /crm/mcp HTTP/1.1\r\n\r\n";
        let token = b"POST /oauth/token HTTP/1.1\r\n\r\na=b".to_vec();
        assert_eq!(requests(&[sent.to_vec(), token, b"GET / HTTP/1.1 x\r\n".to_vec()]), 2);
    }
}
