//! A TCP relay that records what a client sends and receives, byte for byte.

use std::{net::SocketAddr, sync::Arc};

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
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
    received: Arc<Mutex<Vec<Vec<u8>>>>,
}

type Copies = Arc<Mutex<Vec<Vec<u8>>>>;

impl Wiretap {
    /// Starts a relay in front of the server at `target`.
    pub(crate) fn start(
        listener: TcpListener,
        target: SocketAddr,
        tasks: &Tasks,
    ) -> std::io::Result<Self> {
        let tap = Self {
            address: listener.local_addr()?,
            sent: Arc::default(),
            received: Arc::default(),
        };
        let (sent, received, owned) =
            (Arc::clone(&tap.sent), Arc::clone(&tap.received), tasks.clone());
        drop(tasks.spawn("demo-wiretap", async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(target).await else { continue };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                drop(owned.spawn("demo-wire", pass(from_client, to_server, Arc::clone(&sent))));
                drop(owned.spawn("demo-wire", pass(from_server, to_client, Arc::clone(&received))));
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
        self.sent.lock().clone()
    }

    /// Returns what clients received, by connection.
    pub(crate) fn received(&self) -> Vec<Vec<u8>> {
        self.received.lock().clone()
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    copies: Copies,
) {
    let connection = {
        let mut copies = copies.lock();
        copies.push(Vec::new());
        copies.len() - 1
    };
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let bytes = buffer.get(..read).unwrap_or_default();
        if let Some(copy) = copies.lock().get_mut(connection) {
            copy.extend_from_slice(bytes);
        }
        if to.write_all(bytes).await.is_err() {
            break;
        }
    }
    // The end is forwarded.
    drop(to.shutdown().await);
}
