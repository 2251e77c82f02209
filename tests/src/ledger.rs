//! What one test sent, what it got, and what must be in none of it.

use std::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::Mutex;
use serde_json::Value;

use crate::{logs, marker_scan::Scan, upstream::Scripted, wire::Answer};

/// The books of one broker under test. Dropped before they were settled
/// ([`Broker::done`](crate::harness::Broker::done)), they fail the test.
pub struct Ledger {
    requests: AtomicU64,
    sent: Mutex<Vec<u8>>,
    answers: Mutex<Vec<(String, Vec<u8>)>>,
    upstream: Scripted,
    /// What is for the upstream and its authorization server alone, and what they sent and got.
    secrets: Mutex<Vec<(String, String)>>,
    in_play: Mutex<Vec<u8>>,
    /// The client's secrets: in play where a client has sent them.
    tokens: Mutex<Vec<String>>,
    logs_from: usize,
    is_settled: AtomicBool,
}

/// What the test says of the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upstream {
    /// It was sent each secret at least once.
    Called,
    /// It was asked for nothing at all.
    Untouched,
}

impl Ledger {
    /// Of a broker before this upstream.
    pub fn new(upstream: &Scripted) -> Self {
        let logs_from = logs::capture().mark();
        tracing::trace!("{OPENED}");
        Self {
            requests: AtomicU64::new(0),
            sent: Mutex::default(),
            answers: Mutex::default(),
            upstream: upstream.clone(),
            secrets: Mutex::default(),
            in_play: Mutex::default(),
            tokens: Mutex::default(),
            logs_from,
            is_settled: AtomicBool::new(false),
        }
    }

    /// So many requests reached the layers by these bytes: none, where the server refuses the bytes
    /// before.
    pub fn sent(&self, requests: u64, bytes: &[u8]) {
        self.requests.fetch_add(requests, Ordering::SeqCst);
        self.sent.lock().extend_from_slice(bytes);
    }

    /// An answer, as it came and with its chunks joined.
    pub fn got(&self, answer: &Answer) {
        self.got_bytes("an answer", &answer.raw);
        self.got_bytes("the body of an answer", &answer.body);
    }

    /// Bytes that came out.
    pub fn got_bytes(&self, name: &str, bytes: &[u8]) {
        self.answers.lock().push((name.to_owned(), bytes.to_vec()));
    }

    /// A secret of the upstream's: it must come out nowhere.
    pub fn secret(&self, name: &str, secret: &str) {
        self.secrets.lock().push((name.to_owned(), secret.to_owned()));
    }

    /// What another one than the upstream got or gave: a token endpoint. Whichever secret stands
    /// there was in play.
    pub fn in_play(&self, bytes: &[u8]) {
        self.in_play.lock().extend_from_slice(bytes);
    }

    /// A broker token: once a client has sent it, it must come out nowhere.
    pub fn token(&self, token: &str) {
        self.tokens.lock().push(token.to_owned());
    }

    /// How many requests were sent.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    /// What was logged since the broker was made.
    pub fn logs(&self) -> Vec<u8> {
        logs::capture().since(self.logs_from)
    }

    /// Requests = sum of the terminal records' counts.
    ///
    /// # Panics
    /// If it is not so.
    pub fn balances(&self, records: &[Value]) {
        let counted: u64 = records.iter().filter_map(|record| record["count"].as_u64()).sum();
        assert_eq!(
            counted,
            self.requests(),
            "requests = sum of the terminal records' counts: {records:#?}"
        );
    }

    /// The end of a test: the books balance, and no secret stands in any answer, record or log
    /// line.
    ///
    /// # Panics
    /// If they don't, if one does, or if a secret was never in play, so that nothing would be
    /// shown.
    pub(crate) fn settle(&self, lines: &[String], upstream: Upstream) {
        // Whatever is found now is what fails the test.
        self.is_settled.store(true, Ordering::SeqCst);
        let records: Vec<Value> =
            lines.iter().map(|line| line.parse().expect("a JSON record")).collect();
        self.balances(&records);

        let mut scan = Scan::new();
        for (name, secret) in self.secrets.lock().iter() {
            scan.secret(name, secret);
            if upstream == Upstream::Untouched {
                // Nobody was sent it; the broker held it, and that is where it would come from.
                scan.received(secret.as_bytes());
            }
        }
        let received = self.upstream.received();
        match upstream {
            Upstream::Untouched => {
                assert!(received.is_empty(), "the upstream was asked: {received:#?}")
            }
            Upstream::Called => {
                for request in &received {
                    scan.received(&request.to_bytes());
                }
                scan.received(&self.in_play.lock());
            }
        }
        let sent = self.sent.lock();
        for token in self.tokens.lock().iter() {
            if sent.windows(token.len()).any(|window| window == token.as_bytes()) {
                scan.secret("a broker token", token).received(token.as_bytes());
            }
        }
        for (name, bytes) in self.answers.lock().iter() {
            scan.source(name, bytes.as_slice());
        }
        scan.source("the audit", lines.join("\n"));
        let logs = self.logs();
        assert!(
            logs.windows(OPENED.len()).any(|window| window == OPENED.as_bytes()),
            "the logs were not captured"
        );
        scan.source("the logs", logs);
        if self.requests() > 0 {
            assert_eq!(scan.run(), Ok(()));
        }
    }
}

/// Logged at trace level when the books are opened: shows that whatever is logged is captured.
const OPENED: &str = "the books are open";

impl Drop for Ledger {
    fn drop(&mut self) {
        let is_settled = self.is_settled.load(Ordering::SeqCst);
        assert!(
            is_settled || std::thread::panicking(),
            "a test with a broker ends with `broker.done().await`"
        );
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("requests", &self.requests).finish_non_exhaustive()
    }
}
