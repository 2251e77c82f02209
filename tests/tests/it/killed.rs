//! A broker killed with `kill -9` at any moment under load: it leaves no unmarked gap and no use
//! without an intent.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::rand;
use base64::Engine as _;
use parking_lot::Mutex;
use serde_json::Value;
use token_broker_tests::{
    harness::SECRET,
    upstream::{ScriptedServer, json},
    wire,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStdout, Command},
    task::JoinSet,
};
use tower_token_broker::audit::{
    AuditLog, JsonLines,
    verify::{End, Report},
};

/// Number of kills per run; `TOKEN_BROKER_KILLS` overrides it.
const KILLS: usize = 6;
/// A file is read at each start; a new file after this many kills keeps the total time linear.
const KILLS_A_FILE: usize = 50;
/// Concurrent clients.
const CLIENTS: usize = 8;
/// Maximum number of calls per process: each has its own token, which its intent names.
const CALLS: usize = 200;
/// One in this many kills happens while the process starts.
const WHILE_IT_STARTS: u64 = 8;

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;

/// The history of one file.
struct Trial {
    folder: tempfile::TempDir,
    upstream: ScriptedServer,
    /// The `jti` of the token of each call, by number.
    sent: Arc<Mutex<BTreeMap<u64, String>>>,
    kills: usize,
    /// Kills of a broker that had responded.
    under_load: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x18_p293_a_killed_broker_leaves_no_unmarked_gap() {
    let mut left = kills();
    while left > 0 {
        let mut trial = Trial::begin().await;
        for _ in 0..left.min(KILLS_A_FILE) {
            trial.start_and_kill().await;
        }
        left -= trial.kills;
        trial.judge().await;
    }
}

#[expect(clippy::disallowed_methods, reason = "longer runs set a larger number")]
fn kills() -> usize {
    std::env::var("TOKEN_BROKER_KILLS")
        .map_or(KILLS, |kills| kills.parse().expect("a number of kills"))
}

impl Trial {
    async fn begin() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            upstream: ScriptedServer::start(|_| json(RESULT)).await,
            sent: Arc::default(),
            kills: 0,
            under_load: 0,
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("audit.jsonl")
    }

    /// Runs one process on the file, from its start to its kill.
    async fn start_and_kill(&mut self) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_broker_to_kill"))
            .arg(self.file())
            .args([self.upstream.address().to_string(), CALLS.to_string()])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        if random(WHILE_IT_STARTS) == 0 {
            self.kill(&mut child).await;
        } else {
            let calls = self.load(output).await;
            self.kill(&mut child).await;
            let answered: usize = calls.join_all().await.into_iter().sum();
            self.under_load += usize::from(answered > 0);
        }
    }

    /// Calls until all tokens are used or the broker is gone.
    async fn load(&self, mut output: Lines<BufReader<ChildStdout>>) -> JoinSet<usize> {
        let address: SocketAddr =
            output.next_line().await.unwrap().expect("a broker that starts").parse().unwrap();
        let mut tokens = Vec::new();
        while tokens.len() < CALLS {
            tokens.push(output.next_line().await.unwrap().expect("a token"));
        }
        let tokens = Arc::new(Mutex::new(tokens));
        let mut calls = JoinSet::new();
        for _ in 0..CLIENTS {
            let (tokens, sent) = (Arc::clone(&tokens), Arc::clone(&self.sent));
            calls.spawn(async move {
                let mut answered = 0;
                loop {
                    let Some(token) = tokens.lock().pop() else { break };
                    let number = {
                        let mut sent = sent.lock();
                        let number = sent.len() as u64;
                        sent.insert(number, id_of(&token));
                        number
                    };
                    match call(address, &token, number).await {
                        Some(status) => assert_eq!(status, "200"),
                        None => break,
                    }
                    answered += 1;
                }
                answered
            });
        }
        calls
    }

    async fn kill(&mut self, child: &mut Child) {
        // Not a wait for a condition: the moment of the kill is random.
        tokio::time::sleep(Duration::from_micros(random(60_000))).await;
        child.start_kill().unwrap();
        let status = child.wait().await.unwrap();
        assert_eq!(status.signal(), Some(9), "it ended before by itself: {status}");
        self.kills += 1;
        // The file before the next process continues it.
        if fs::metadata(self.file()).is_ok_and(|file| file.len() > 1000) {
            assert!(verified(&self.file()).is_whole(), "kill {}", self.kills);
        }
    }

    #[expect(clippy::print_stderr, reason = "shown with --nocapture")]
    fn print(&self, report: &Report) {
        eprintln!(
            "{} kills, {} of them under load: {} gaps, each marked; {} \
             requests cut short; {} came to the upstream, each with its intent",
            self.kills,
            self.under_load,
            report.crashes,
            report.unknown,
            self.upstream.received().len()
        );
    }

    async fn judge(self) {
        let log = AuditLog::from(JsonLines::append(self.file()).unwrap());
        log.close(Duration::from_secs(20)).await.unwrap();
        let report = verified(&self.file());
        assert_eq!(report.found, Ok(End::Closed));
        let crashes = usize::try_from(report.crashes).unwrap();
        // A process that is killed before its first record leaves no gap.
        assert!(
            (self.under_load..=self.kills).contains(&crashes),
            "{crashes} gaps of {} kills",
            self.kills
        );
        assert!(self.under_load > 0 && report.unknown > 0, "no kill met a request that was open");

        let text = fs::read_to_string(self.file()).unwrap();
        assert!(!text.contains(SECRET));
        let records: Vec<Value> = text.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(unsettled(&records), BTreeSet::new());

        let sent = self.sent.lock();
        let received = self.upstream.received();
        let used: Vec<&str> =
            received.iter().map(|call| sent[&number_of(&call.body)].as_str()).collect();
        assert!(used.len() >= self.under_load);
        assert_eq!(without_intent(&used, &records), BTreeSet::new());
        // The check itself fails if an intent is missing.
        let less: Vec<_> =
            records.iter().filter(|record| record["token"] != used[0]).cloned().collect();
        assert_eq!(without_intent(&used, &less), BTreeSet::from([used[0].to_owned()]));
        self.print(&report);
    }
}

/// Counts requests with an intent that do not have exactly one terminal record.
fn unsettled(records: &[Value]) -> BTreeSet<String> {
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    for record in records.iter().filter(|record| record["kind"] == "result") {
        *ends.entry(record["request"].as_str().unwrap_or_default()).or_default() += 1;
    }
    let intents = records.iter().filter(|record| record["kind"] == "intent");
    let requests = intents.map(|record| record["request"].as_str().unwrap());
    requests.filter(|request| ends.get(request) != Some(&1)).map(str::to_owned).collect()
}

/// Counts tokens with which the upstream received more requests than there are intents.
fn without_intent(used: &[&str], records: &[Value]) -> BTreeSet<String> {
    let intents = records.iter().filter(|record| record["kind"] == "intent");
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    intents
        .filter_map(|intent| intent["token"].as_str())
        .for_each(|token| *left.entry(token).or_default() += 1);
    let mut lacks = |token: &&&str| match left.get_mut(**token) {
        Some(intents) if *intents > 0 => {
            *intents -= 1;
            false
        }
        _ => true,
    };
    used.iter().filter(|token| lacks(token)).map(ToString::to_string).collect()
}

fn verified(file: &Path) -> Report {
    let verified = token_broker::audit::verify(file, &[], |_| {}).unwrap();
    let report = verified.report().clone();
    assert_eq!(verified.exit_code() == 0, report.is_whole());
    report
}

/// Returns the status of the response, or `None` if the broker was killed first.
async fn call(address: SocketAddr, token: &str, number: u64) -> Option<String> {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":{number},"method":"tools/call","params":{{"name":"get_item"}}}}"#
    );
    let bearer = format!("Bearer {token}");
    let request = wire::post("/mcp", &address.to_string(), &[("authorization", &bearer)], &body);
    let mut socket = TcpStream::connect(address).await.ok()?;
    socket.write_all(&request).await.ok()?;
    let mut response = Vec::new();
    socket.read_to_end(&mut response).await.ok()?;
    let head = std::str::from_utf8(&response).ok()?;
    head.split(' ').nth(1).map(str::to_owned)
}

fn number_of(body: &[u8]) -> u64 {
    let message: Value = std::str::from_utf8(body).unwrap().parse().unwrap();
    message["id"].as_u64().unwrap()
}

fn id_of(token: &str) -> String {
    let claims = token.split('.').nth(1).unwrap();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: Value = String::from_utf8(claims).unwrap().parse().unwrap();
    claims["jti"].as_str().unwrap().to_owned()
}

fn random(below: u64) -> u64 {
    let mut bytes = [0; 8];
    rand::fill(&mut bytes).unwrap();
    u64::from_ne_bytes(bytes) % below
}
