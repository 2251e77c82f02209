//! Ledger of a test: requests sent, responses received, and the secrets that no output may contain.

use std::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use memchr::memmem;
use parking_lot::Mutex;
use serde_json::Value;

use crate::{logs, marker_scan::Scan, upstream::ScriptedServer, wire::RawResponse};

/// The ledger of one broker under test.
///
/// The test fails if the ledger is dropped before [`Broker::done`](crate::harness::Broker::done)
/// has settled it.
pub struct Ledger {
    requests: AtomicU64,
    sent: Mutex<Vec<u8>>,
    responses: Mutex<Vec<(String, Vec<u8>)>>,
    upstream: ScriptedServer,
    /// Secrets of the upstream and its authorization server.
    secrets: Mutex<Vec<(String, String)>>,
    in_play: Mutex<Vec<u8>>,
    /// Secrets of the client; a scan looks for those that a client has sent.
    tokens: Mutex<Vec<String>>,
    logs_from: logs::Mark,
    is_settled: AtomicBool,
}

/// The expected use of the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upstream {
    /// The upstream received each secret at least once.
    Called,
    /// The upstream received no request.
    Untouched,
}

impl Ledger {
    /// Opens the ledger of a broker in front of the upstream.
    pub fn new(upstream: &ScriptedServer) -> Self {
        let logs_from = logs::capture().mark();
        tracing::trace!("{OPENED}");
        Self {
            requests: AtomicU64::new(0),
            sent: Mutex::default(),
            responses: Mutex::default(),
            upstream: upstream.clone(),
            secrets: Mutex::default(),
            in_play: Mutex::default(),
            tokens: Mutex::default(),
            logs_from,
            is_settled: AtomicBool::new(false),
        }
    }

    /// Reports the bytes of requests, and how many requests of them reach the layers: none if the
    /// server refuses them first.
    pub fn sent(&self, requests: u64, bytes: &[u8]) {
        self.requests.fetch_add(requests, Ordering::SeqCst);
        self.sent.lock().extend_from_slice(bytes);
    }

    /// Reports a response, both as received and with its chunks joined.
    pub fn received(&self, response: &RawResponse) {
        self.received_bytes("a response", &response.raw);
        self.received_bytes("the body of a response", &response.body);
    }

    /// Reports bytes that were received.
    pub fn received_bytes(&self, name: &str, bytes: &[u8]) {
        self.responses.lock().push((name.to_owned(), bytes.to_vec()));
    }

    /// Registers a secret of the upstream, which no output may contain.
    pub fn secret(&self, name: &str, secret: &str) {
        self.secrets.lock().push((name.to_owned(), secret.to_owned()));
    }

    /// Reports bytes exchanged with a server other than the upstream, such as a token endpoint.
    /// Secrets in them count as in use.
    pub fn in_use(&self, bytes: &[u8]) {
        self.in_play.lock().extend_from_slice(bytes);
    }

    /// Registers a broker token, which no output may contain once a client has sent it.
    pub fn token(&self, token: &str) {
        self.tokens.lock().push(token.to_owned());
    }

    /// Returns the number of requests that reached the layers.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    /// Returns the log lines since the ledger was opened.
    pub fn logs(&self) -> Vec<u8> {
        logs::capture().since(self.logs_from)
    }

    /// Checks that the counts of the terminal records add up to the number of requests.
    ///
    /// # Panics
    /// Panics if they do not.
    pub fn check_counts(&self, records: &[Value]) {
        let counted: u64 = records.iter().filter_map(|record| record["count"].as_u64()).sum();
        assert_eq!(
            counted,
            self.requests(),
            "requests = sum of the terminal records' counts: {records:#?}"
        );
    }

    /// Settles the ledger: checks the counts, and that no response, record or log line contains a
    /// secret.
    ///
    /// # Panics
    /// Panics if a check fails, or if a secret was never in use, because the check would then prove
    /// nothing.
    pub(crate) fn settle(&self, lines: &[String], upstream: Upstream) {
        // Set first: from here on, a failed check is what fails the test.
        self.is_settled.store(true, Ordering::SeqCst);
        let records: Vec<Value> =
            lines.iter().map(|line| line.parse().expect("a JSON record")).collect();
        self.check_counts(&records);

        let mut scan = Scan::new();
        for (name, secret) in self.secrets.lock().iter() {
            scan.secret(name, secret);
            if upstream == Upstream::Untouched {
                // No one received the secret. The broker holds it, so the broker could leak it.
                scan.received(secret.as_bytes());
            }
        }
        let received = self.upstream.received();
        match upstream {
            Upstream::Untouched => {
                assert!(received.is_empty(), "the upstream was called: {received:#?}")
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
            if memmem::find(&sent, token.as_bytes()).is_some() {
                scan.secret("a broker token", token).received(token.as_bytes());
            }
        }
        for (name, bytes) in self.responses.lock().iter() {
            scan.source(name, bytes.as_slice());
        }
        scan.source("the audit", lines.join("\n"));
        let logs = self.logs();
        assert!(memmem::find(&logs, OPENED.as_bytes()).is_some(), "the logs were not captured");
        scan.source("the logs", logs);
        if self.requests() > 0 {
            assert_eq!(scan.run(), Ok(()));
        }
    }
}

/// Logged at trace level when a ledger is opened; its presence shows that logs are captured.
const OPENED: &str = "the ledger is open";

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
