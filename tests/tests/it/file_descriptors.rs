//! A broker without free file descriptors: it refuses requests, keeps running, and recovers as soon
//! as some are free.

use std::{net::SocketAddr, process::Stdio, time::Duration};

use token_broker_tests::{
    harness::CALL,
    upstream::{ScriptedServer, json},
    wire,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::Command,
    time::{Instant, timeout},
};
use tower_token_broker::audit::verify::End;

/// Limit of file descriptors for the broker.
const DESCRIPTORS: usize = 64;

#[tokio::test]
async fn x36_a_broker_without_descriptors_refuses_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let upstream =
        ScriptedServer::start(|_| json(r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#))
            .await;
    let mut broker = Command::new("sh")
        .args([
            "-c",
            &format!("ulimit -n {DESCRIPTORS} && exec \"$0\" \"$@\""),
            env!("CARGO_BIN_EXE_broker_to_kill"),
        ])
        .arg(&file)
        .args([upstream.address().to_string(), "1".to_owned()])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut output = BufReader::new(broker.stdout.take().unwrap()).lines();
    let address: SocketAddr = output.next_line().await.unwrap().unwrap().parse().unwrap();
    let token = output.next_line().await.unwrap().unwrap();

    // More connections than the limit: the kernel connects all, and the broker accepts as many as
    // it has descriptors.
    let mut held = Vec::new();
    for _ in 0..2 * DESCRIPTORS {
        held.push(TcpStream::connect(address).await.unwrap());
    }
    // For an accepted connection there is no descriptor left to reach the upstream: it must receive
    // a response and not hang.
    let refused =
        timeout(Duration::from_secs(10), call(held.swap_remove(0), address, &token)).await.unwrap();
    assert_eq!(refused, "502", "X36");
    assert_eq!(upstream.received().len(), 0);

    drop(held);
    let since = Instant::now();
    let again = TcpStream::connect(address).await.unwrap();
    let answered = timeout(Duration::from_secs(10), call(again, address, &token)).await.unwrap();
    assert_eq!(answered, "200", "X36: after {:?}", since.elapsed());
    print(since.elapsed());
    broker.start_kill().unwrap();
    broker.wait().await.unwrap();
    let verified = token_broker::audit::verify(&file, &[], |_| {}).unwrap();
    assert!(verified.report().is_whole() && verified.report().found != Ok(End::Closed), "X36");
}

#[expect(clippy::print_stderr, reason = "shown with --nocapture")]
fn print(recovered: Duration) {
    eprintln!("served again {recovered:?} after descriptors were free");
}

/// Returns the status of the response.
async fn call(mut socket: TcpStream, address: SocketAddr, token: &str) -> String {
    let bearer = format!("Bearer {token}");
    let request = wire::post("/mcp", &address.to_string(), &[("authorization", &bearer)], CALL);
    socket.write_all(&request).await.unwrap();
    let mut response = Vec::new();
    socket.read_to_end(&mut response).await.unwrap();
    std::str::from_utf8(&response).unwrap().split(' ').nth(1).unwrap().to_owned()
}
