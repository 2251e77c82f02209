//! Clients that take what a gateway has: connections, descriptors, streams.

use std::{process::Command, time::Duration};

use token_broker_tests::wire;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    gateway::items,
    setup::{Serving, Setup},
};

/// A gateway that may open this many files.
fn with_descriptors(setup: &Setup, most: u32) -> Serving {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("ulimit -n {most}; exec \"$0\" serve")])
        .arg(env!("CARGO_BIN_EXE_token-broker"))
        .current_dir(setup.folder.path())
        .env_remove("RUST_LOG");
    Serving::start(&mut command)
}

#[tokio::test]
async fn x36_a_gateway_without_descriptors_recovers() {
    let setup = Setup::new(items().await).await;
    // Fewer than its own files and its least number of connections need together.
    let mut serving = with_descriptors(&setup, 38);
    let token = setup.token("alice");
    assert_eq!(setup.call(&token).await.status, 200, "X36");
    for _ in 0..3 {
        let mut idle = Vec::new();
        for _ in 0..100 {
            idle.push(TcpStream::connect(setup.address).await.unwrap());
        }
        // While all places are taken, the kernel keeps further connections.
        let call = setup.call(&token);
        let waits = tokio::time::timeout(Duration::from_millis(300), call).await;
        assert!(waits.is_err() || waits.unwrap().status == 503, "X36");
        serving.until("gateway.accept_failed");
        drop(idle);
        setup.until_status(&token, 200).await;
    }
    serving.stop();
}

/// The frames of a request of HTTP/2 that is cancelled at once, on this stream.
fn opened_and_reset(stream: u32) -> Vec<u8> {
    // `:method POST`, `:scheme http`, `:path /`, from the static table of RFC 7541.
    const HEADERS: [u8; 3] = [0x83, 0x86, 0x84];
    let id = stream.to_be_bytes();
    let mut frames = vec![0, 0, 3, 0x1, 0x4];
    frames.extend(id);
    frames.extend(HEADERS);
    frames.extend([0, 0, 4, 0x3, 0]);
    frames.extend(id);
    frames.extend(8_u32.to_be_bytes());
    frames
}

/// Opens and cancels streams, then pings. Returns the type and the error code of the frame that
/// ends it: an acknowledged ping, or a GOAWAY.
async fn rapid_reset(setup: &Setup, streams: u32) -> (u8, u32) {
    let mut socket = TcpStream::connect(setup.address).await.unwrap();
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    let (mut read, mut write) = socket.into_split();
    let send = async {
        for number in 0..streams {
            if write.write_all(&opened_and_reset(number * 2 + 1)).await.is_err() {
                // Disconnected.
                return;
            }
        }
        let ping = [&[0, 0, 8, PING, 0, 0, 0, 0, 0][..], &[7; 8]].concat();
        write.write_all(&ping).await.unwrap_or_default();
    };
    let receive = async {
        loop {
            let mut head = [0; 9];
            read.read_exact(&mut head).await.expect("a last frame");
            let [high, middle, low, kind, flags, ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
            read.read_exact(&mut payload).await.expect("a whole frame");
            match kind {
                PING if flags == 1 && payload == [7; 8] => return (PING, 0),
                GOAWAY => {
                    return (GOAWAY, u32::from_be_bytes(payload[4..8].try_into().unwrap()));
                }
                _ => {}
            }
        }
    };
    tokio::join!(receive, send).0
}

const PING: u8 = 6;
const GOAWAY: u8 = 7;
/// The error code of RFC 9113 for a peer that makes too much load.
const ENHANCE_YOUR_CALM: u32 = 11;

/// Returns the resident memory of a process, in KiB.
fn memory(serving: &Serving) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", serving.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x28_a_client_that_resets_streams_without_end_is_disconnected() {
    let setup = Setup::new(items().await).await;
    let serving = setup.serve();
    let token = setup.token("alice");
    assert_eq!(setup.call(&token).await.status, 200, "X28");
    // A client may cancel some requests.
    assert_eq!(rapid_reset(&setup, 15).await, (PING, 0), "X28");
    let before = memory(&serving);
    let attacks = async {
        for _ in 0..4 {
            assert_eq!(rapid_reset(&setup, 200_000).await, (GOAWAY, ENHANCE_YOUR_CALM), "X28");
        }
    };
    let others = async {
        for _ in 0..20 {
            assert_eq!(setup.call(&token).await.status, 200, "X28");
        }
    };
    tokio::join!(attacks, others);
    let after = memory(&serving);
    assert!(after < before + 32 * 1024, "X28: {before} KiB, then {after} KiB");
    assert_eq!(setup.call(&token).await.status, 200, "X28");
    serving.stop();
}

#[tokio::test]
async fn a_connection_that_is_idle_keeps_no_other_out() {
    let setup = Setup::new(items().await).await;
    let serving = setup.serve();
    let token = setup.token("alice");
    let mut half = TcpStream::connect(setup.address).await.unwrap();
    half.write_all(b"POST /crm/mcp HTTP/1.1\r\nhost: ").await.unwrap();
    let request = setup.request(&token);
    assert_eq!(wire::send(setup.address, &request).await.status, 200);
    drop(half);
    serving.stop();
}
