//! A wire with a tap on it: what a client sent and what it got, byte for byte.

use std::{net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tower_token_broker::tasks::Tasks;

/// Passes every byte on, both ways, and keeps a copy.
#[derive(Clone, Debug)]
pub(crate) struct Wiretap {
    address: SocketAddr,
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
    got: Arc<Mutex<Vec<Vec<u8>>>>,
}

type Copies = Arc<Mutex<Vec<Vec<u8>>>>;

impl Wiretap {
    /// In front of the server at `target`.
    pub(crate) fn start(
        listener: TcpListener,
        target: SocketAddr,
        tasks: &Tasks,
    ) -> std::io::Result<Self> {
        let tap =
            Self { address: listener.local_addr()?, sent: Arc::default(), got: Arc::default() };
        let (sent, got, owned) = (Arc::clone(&tap.sent), Arc::clone(&tap.got), tasks.clone());
        drop(tasks.spawn("demo-wiretap", async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(target).await else { continue };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                drop(owned.spawn("demo-wire", pass(from_client, to_server, Arc::clone(&sent))));
                drop(owned.spawn("demo-wire", pass(from_server, to_client, Arc::clone(&got))));
            }
        }));
        Ok(tap)
    }

    /// Where clients connect to.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What clients sent, by connection.
    pub(crate) fn sent(&self) -> Vec<Vec<u8>> {
        self.sent.lock().clone()
    }

    /// What clients got, by connection.
    pub(crate) fn got(&self) -> Vec<Vec<u8>> {
        self.got.lock().clone()
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
    // One side has ended: so does the other, and the end is passed on.
    drop(to.shutdown().await);
}
