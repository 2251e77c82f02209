//! The gateway on PostgreSQL, if `TOKEN_BROKER_POSTGRES` names one.

use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use token_broker_tests::marker_scan::Scan;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use crate::{
    gateway::items,
    setup::{SECRET, Setup, text},
};

/// The URL of an empty schema, and its name.
pub(crate) fn empty_schema() -> Option<(String, String)> {
    #[expect(clippy::disallowed_methods, reason = "the tests' only setting")]
    let Ok(url) = std::env::var("TOKEN_BROKER_POSTGRES") else {
        // `eprintln!` would be captured by the test harness if the test passes.
        let mut stderr = std::io::stderr();
        writeln!(stderr, "NOT RUN on PostgreSQL: TOKEN_BROKER_POSTGRES is not set").unwrap();
        return None;
    };
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let schema = format!("g{}_{number}", std::process::id());
    let sql = format!("DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}");
    let created = Command::new("psql").args([&url, "-q", "-c", &sql]).output().unwrap();
    assert!(created.status.success(), "{}", text(&created.stderr));
    Some((url, schema))
}

/// Returns the URL of a schema.
pub(crate) fn within(url: &str, schema: &str) -> String {
    format!("{url}?options=-csearch_path%3D{schema}")
}

#[tokio::test]
async fn a_gateway_on_postgresql_serves_and_learns_of_commands() {
    let Some((url, schema)) = empty_schema() else { return };
    let setup = Setup::on(&within(&url, &schema), items().await).await;
    setup.configure("get_*", &setup.mail("https://login.mail.example/token"));
    let serving = setup.serve();
    let (alice, bob) = (setup.token("alice"), setup.token("bob"));
    let grant = setup.add_grant("alice");
    for token in [&alice, &bob] {
        assert_eq!(setup.call(token).await.status, 200);
    }
    setup.done(&["users", "block", "alice"]);
    setup.until_status(&alice, 401).await;
    setup.done(&["grants", "revoke", &grant]);
    setup.done(&["keys", "rotate"]);
    let backup = setup.run(&["backup", "backup.db"]);
    assert!(text(&backup.stderr).contains("pg_dump"), "{}", text(&backup.stderr));
    let log = serving.stop();
    let serving = setup.serve();
    assert_eq!(setup.call(&alice).await.status, 401, "a block outlives a restart");
    assert_eq!(setup.call(&bob).await.status, 200);
    serving.stop();
    // O276: a dump, the logs and the records have no secret.
    let dump = Command::new("pg_dump").args(["--schema", &schema, &url]).output().unwrap();
    assert!(dump.status.success() && text(&dump.stdout).contains("alice"), "O276");
    let mut scan = Scan::new();
    scan.secret("the secret", SECRET).received(SECRET.as_bytes());
    scan.secret("the token", &alice).received(alice.as_bytes());
    scan.source("the dump", dump.stdout).source("the log", log);
    for file in fs::read_dir(setup.path("audit")).unwrap() {
        let path = file.unwrap().path();
        scan.source(path.display().to_string(), fs::read(&path).unwrap());
    }
    assert_eq!(scan.run(), Ok(()), "O276");
    setup.done(&["audit", "verify", "audit"]);
}

/// A wire to the database that can be cut.
struct Wire {
    address: SocketAddr,
    is_whole: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Wire {
    async fn to(database: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (is_whole, state) = watch::channel(true);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut state = state.clone();
                if !*state.borrow() {
                    continue;
                }
                connections.spawn(async move {
                    let mut server = TcpStream::connect(database).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = state.wait_for(|is_whole| !is_whole) => {}
                    }
                });
            }
        });
        Self { address, is_whole, _tasks: tasks }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x12_without_its_database_a_gateway_refuses_and_then_recovers() {
    let Some((url, schema)) = empty_schema() else { return };
    let host = url.split('@').nth(1).unwrap().split('/').next().unwrap();
    let wire = Wire::to(host.parse().unwrap()).await;
    let url = url.replace(host, &wire.address.to_string());
    let setup = Setup::on(&within(&url, &schema), items().await).await;

    // Down at the start: it does not start.
    wire.is_whole.send_replace(false);
    let down = setup.run(&["serve"]);
    assert_eq!(down.status.code(), Some(1), "X12");
    assert!(text(&down.stderr).contains("the store"), "X12 {}", text(&down.stderr));
    wire.is_whole.send_replace(true);

    let serving = setup.serve();
    let token = setup.token("alice");
    assert_eq!(setup.call(&token).await.status, 200, "X12");
    wire.is_whole.send_replace(false);
    // Once its revocations are older than 5 s, every request is refused.
    setup.until_status(&token, 503).await;
    let command = setup.run(&["users", "block", "alice"]);
    assert_eq!(command.status.code(), Some(1), "X12");
    let sent = setup.upstream.received().len();
    for _ in 0..20 {
        assert_eq!(setup.call(&token).await.status, 503, "X12");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(setup.upstream.received().len(), sent, "X12");
    wire.is_whole.send_replace(true);
    setup.until_status(&token, 200).await;
    serving.stop();
    setup.done(&["audit", "verify", "audit"]);
}
