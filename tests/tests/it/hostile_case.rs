//! One hostile case: the bytes it sends, and the expected status, reason, upstream calls and
//! records.

use std::net::SocketAddr;

use token_broker_tests::{
    harness::Broker,
    upstream::ScriptedServer,
    wire::{self, RawResponse},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A row of a table of hostile cases.
#[derive(Debug)]
#[must_use = "a case that is not run proves nothing"]
pub(crate) struct Case {
    case: &'static str,
    bytes: Vec<u8>,
    status: u16,
    reason: Option<&'static str>,
    calls: usize,
    intents: usize,
    recorded: bool,
    hangs_up: bool,
    challenge: Option<String>,
    body: Option<String>,
    holds: Option<&'static str>,
    sent_on: Option<Vec<u8>>,
}

impl Case {
    /// The request passes: one upstream call, and its response.
    pub(crate) fn passes(case: &'static str, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            case,
            bytes: bytes.into(),
            status: 200,
            reason: None,
            calls: 1,
            intents: 1,
            recorded: true,
            hangs_up: false,
            challenge: None,
            body: None,
            holds: None,
            sent_on: None,
        }
    }

    /// The request is refused before anything is sent.
    pub(crate) fn refused(
        case: &'static str,
        bytes: impl Into<Vec<u8>>,
        status: u16,
        reason: &'static str,
    ) -> Self {
        Self { status, reason: Some(reason), calls: 0, intents: 0, ..Self::passes(case, bytes) }
    }

    /// The request is sent, but the response is replaced for the given reason.
    pub(crate) fn fails(
        case: &'static str,
        bytes: impl Into<Vec<u8>>,
        status: u16,
        reason: &'static str,
    ) -> Self {
        Self { calls: 1, intents: 1, ..Self::refused(case, bytes, status, reason) }
    }

    /// hyper refuses the bytes, so no layer sees them and there is no record.
    pub(crate) fn refused_by_server(
        case: &'static str,
        bytes: impl Into<Vec<u8>>,
        status: u16,
    ) -> Self {
        Self { status, calls: 0, intents: 0, recorded: false, ..Self::passes(case, bytes) }
    }

    /// Sets another status.
    pub(crate) const fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// A credential was provided, but its request did not reach the upstream.
    pub(crate) const fn unsent(mut self) -> Self {
        self.calls = 0;
        self
    }

    /// The client closes its side after these bytes.
    pub(crate) const fn hangs_up(mut self) -> Self {
        self.hangs_up = true;
        self
    }

    /// Sets the expected `WWW-Authenticate`.
    pub(crate) fn challenge(mut self, challenge: impl Into<String>) -> Self {
        self.challenge = Some(challenge.into());
        self
    }

    /// Sets the expected body.
    pub(crate) fn body(mut self, body: impl Into<String>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Sets a JSON member that the record must contain.
    pub(crate) const fn record_holds(mut self, member: &'static str) -> Self {
        self.holds = Some(member);
        self
    }

    /// Sets the body that the upstream must receive.
    pub(crate) fn sent_on(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.sent_on = Some(body.into());
        self
    }
}

/// Runs the cases one after another, so that each has its own records and calls, and returns the
/// responses.
pub(crate) fn run(
    broker: &Broker,
    upstream: &ScriptedServer,
    rows: impl Into<Vec<Case>>,
) -> impl Future<Output = Vec<RawResponse>> {
    // Tables are long: `rows` is moved into a `Vec` to keep the future small.
    run_all(broker, upstream, rows.into())
}

async fn run_all(broker: &Broker, upstream: &ScriptedServer, rows: Vec<Case>) -> Vec<RawResponse> {
    let mut responses = Vec::new();
    let mut calls = upstream.received().len();
    let mut seen = broker.records().await.len();
    for row in rows {
        let case = row.case;
        let response = response(broker, &row).await;
        let text = String::from_utf8(response.body.clone()).unwrap();
        assert_eq!(response.status, row.status, "{case}: {text}");

        calls += row.calls;
        let received = upstream.received();
        assert_eq!(received.len(), calls, "{case}: upstream calls");
        if let Some(body) = row.sent_on {
            assert_eq!(received.last().unwrap().body, body, "{case}: what was sent on");
        }

        let records = broker.records().await;
        let new = records.get(seen..).unwrap();
        seen = records.len();
        let terminal: Vec<_> = new.iter().filter(|record| record["count"].is_u64()).collect();
        assert_eq!(terminal.len(), usize::from(row.recorded), "{case}: records {new:#?}");
        // One intent for each credential provided, and none if nothing was sent.
        assert_eq!(new.len() - terminal.len(), row.intents, "{case}: records {new:#?}");
        if let Some(record) = terminal.first() {
            assert_eq!(
                (record["count"].as_u64(), record["reason"].as_str()),
                (Some(1), row.reason),
                "{case}: {record}"
            );
            if let Some(member) = row.holds {
                assert!(record.to_string().contains(member), "{case}: {record}");
            }
            // I181: each masked echo raises an alarm.
            if record["echo_masked"].as_u64() > Some(0) {
                let logs = String::from_utf8(broker.ledger().logs()).unwrap();
                assert!(logs.contains(r#"alarm="exchange.upstream_echo""#), "{case}: no alarm");
            }
            // C0
            if row.reason.is_some() && row.status != 200 {
                assert_eq!(response.header("cache-control"), Some("no-store"), "{case}");
            }
        }
        if let Some(challenge) = row.challenge {
            assert_eq!(response.header("www-authenticate"), Some(challenge.as_str()), "{case}");
        }
        if let Some(body) = row.body {
            assert_eq!(text, body, "{case}");
        }
        responses.push(response);
    }
    responses
}

async fn response(broker: &Broker, row: &Case) -> RawResponse {
    if row.recorded && !row.hangs_up {
        return broker.send(&row.bytes).await;
    }
    broker.ledger().sent(u64::from(row.recorded), &row.bytes);
    let response = if row.hangs_up {
        half(broker.address(), &row.bytes).await
    } else {
        wire::send(broker.address(), &row.bytes).await
    };
    broker.ledger().received(&response);
    response
}

/// Sends bytes and closes the sending side, even if the message is incomplete.
async fn half(to: SocketAddr, bytes: &[u8]) -> RawResponse {
    let mut socket = TcpStream::connect(to).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut raw = Vec::new();
    socket.read_to_end(&mut raw).await.unwrap();
    wire::parse(raw)
}
