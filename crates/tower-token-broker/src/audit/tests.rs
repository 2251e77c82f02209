//! The layer as a whole, over services that respond, hang and fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    fs,
    io::Write as _,
    pin::Pin,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use serde_json::Value;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

use super::*;
use crate::{
    clock::{Clock, Timestamp},
    principal::{Actor, Initiator, Principal, Resource, Scopes, TokenTimes, User, Verified},
    refusal::Reason,
    request_id::RequestId,
    revocation::{RevocationChange, RevocationTarget},
};

pub(super) fn intent() -> Intent<'static> {
    static READ: LazyLock<Scopes> = LazyLock::new(|| Scopes::parse("read").unwrap());
    Intent::new("crm", "https://crm.example.com:443", &READ, None)
}

pub(super) type Plain = Request<Empty<Bytes>>;

pub(super) fn request() -> Plain {
    Request::new(Empty::new())
}

/// Waits until the log is open again. The bound turns a log that stays closed into a failure.
pub(super) async fn opened(log: &AuditLog) {
    let open = async {
        while !log.is_open() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), open).await.expect("the log opens by itself");
}

pub(super) fn parsed(lines: &[String]) -> Vec<Value> {
    lines.iter().map(|line| line.parse().unwrap()).collect()
}

pub(super) async fn results(log: &AuditLog, sink: &InMemory) -> Vec<Value> {
    log.flush().await.unwrap();
    parsed(&sink.lines()).into_iter().filter(|record| record["kind"] == "result").collect()
}

/// Uses one credential, then responds with this body.
fn uses_a_credential<B>(
    body: impl Fn() -> B + Clone + Send + 'static,
) -> impl Clone + Service<Plain, Response = Response<B>, Error = Infallible, Future: Send>
where
    B: Send + 'static,
{
    service_fn(move |request: Request<Empty<Bytes>>| {
        let body = body.clone();
        async move {
            let trail = request.extensions().get::<Trail>().unwrap().clone();
            match trail.intent(intent()).await {
                Ok(receipt) => {
                    receipt.used().unwrap();
                    Ok(Response::new(body()))
                }
                Err(AuditError) => {
                    trail.refused(Reason::AuditUnavailable);
                    let mut response = Response::new(body());
                    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                    Ok(response)
                }
            }
        }
    })
}

pub(super) async fn note_revoked(log: &AuditLog) -> Result<(), AuditError> {
    let initiator = Initiator::operator("olga");
    let change = RevocationChange::Revoked(RevocationTarget::Everything);
    log.note(&initiator, Note::revocation(&change)).await
}

#[tokio::test]
async fn a_request_has_an_intent_and_one_result() {
    let (log, sink) = AuditLog::in_memory();
    let service = AuditLayer::for_test(&log).layer(uses_a_credential(|| Full::from("hello")));
    let response = service.oneshot(request()).await.unwrap();
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
    log.flush().await.unwrap();
    let records = parsed(&sink.lines());
    let kinds: Vec<_> = records.iter().map(|record| record["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["start", "intent", "result"]);
    assert!(records[1..].iter().all(|record| record["request"] == id.as_str()));
    let result = &records[2];
    assert_eq!(
        (&result["outcome"], &result["status"], &result["uses"]),
        (&"completed".into(), &200.into(), &1.into())
    );
    assert_eq!(result["response_bytes"], 5);
}

#[tokio::test]
async fn each_end_of_a_body_is_recorded_once() {
    type Frames = Vec<Result<Frame<Bytes>, &'static str>>;
    type Boxed = http_body_util::combinators::BoxBody<Bytes, &'static str>;
    fn frames(frames: Frames) -> Boxed {
        let mut frames = frames.into_iter();
        struct Stream<F>(F);
        impl<F: FnMut() -> Option<T> + Unpin, T> futures_core::Stream for Stream<F> {
            type Item = T;
            fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<T>> {
                Poll::Ready((self.0)())
            }
        }
        http_body_util::BodyExt::boxed(StreamBody::new(Stream(move || frames.next())))
    }
    let data = || Ok(Frame::data(Bytes::from_static(b"abc")));
    let (log, sink) = AuditLog::in_memory();
    let cases: Vec<(&str, Frames)> = vec![
        ("completed", vec![]),
        ("completed", vec![data(), Ok(Frame::data(Bytes::new())), data()]),
        ("completed", vec![data(), Ok(Frame::trailers(HeaderMap::new()))]),
        ("failed", vec![data(), Err("broken")]),
    ];
    for (requests, (outcome, body)) in cases.into_iter().enumerate() {
        let body = Arc::new(parking_lot::Mutex::new(Some(frames(body))));
        let service = uses_a_credential(move || body.lock().take().unwrap());
        let response = AuditLayer::for_test(&log).layer(service).oneshot(request()).await.unwrap();
        drop(response.into_body().collect().await);
        let results = results(&log, &sink).await;
        assert_eq!(results.len(), requests + 1);
        assert_eq!(results[requests]["outcome"], outcome);
    }
}

#[tokio::test]
async fn a_request_dropped_during_its_intent_has_one_record() {
    let (log, sink) = AuditLog::in_memory();
    log.flush().await.unwrap();
    sink.hang();
    let mut whole = Box::pin(
        AuditLayer::for_test(&log).layer(uses_a_credential(Empty::<Bytes>::new)).oneshot(request()),
    );
    assert!(poll_once(&mut whole).is_none());
    drop(whole);
    sink.work();
    let results = results(&log, &sink).await;
    assert_eq!(results.len(), 1);
    let result = &results[0];
    assert_eq!(
        (&result["outcome"], &result["intents"], &result["uses"]),
        (&"dropped".into(), &1.into(), &0.into())
    );
    let records = sink.records();
    let kinds: Vec<_> = records.iter().map(|record| record.kind()).collect();
    assert_eq!(kinds, ["start", "intent", "result"], "the intent is before the result");
}

#[tokio::test]
async fn a_failing_sink_closes_the_log_until_it_recovers() {
    let (log, sink) = AuditLog::in_memory();
    let service = AuditLayer::for_test(&log).layer(uses_a_credential(|| Full::from("hello")));
    log.flush().await.unwrap();
    sink.fail();
    let refused = service.clone().oneshot(request()).await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    drop(refused);
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let mut request = request();
        // A forged ID is not returned as ours.
        request.extensions_mut().insert(RequestId::from_bits([7; 16]));
        let refused = service.clone().oneshot(request).await.unwrap();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        let id = refused.headers()["x-request-id"].to_str().unwrap();
        assert_ne!(id, RequestId::from_bits([7; 16]).to_string());
        assert!(id.len() == 32 && ids.insert(id.to_owned()), "P498 one ID for each: {id}");
        assert!(refused.headers().contains_key("retry-after"));
    }
    sink.work();
    opened(&log).await;
    assert_eq!(service.oneshot(request()).await.unwrap().status(), StatusCode::OK);
    let results = results(&log, &sink).await;
    let counted: u64 = results.iter().map(|record| record["count"].as_u64().unwrap()).sum();
    assert_eq!(counted, 5, "no refusal is lost while the log is closed: {results:#?}");
    assert!(
        results
            .iter()
            .any(|record| record["count"] == 3 && record["reason"] == "audit.unavailable")
    );
}

#[tokio::test]
async fn a_hanging_sink_refuses_in_time_and_repeats_nothing() {
    let sink = InMemory::new();
    let log =
        AuditLog::start(sink.clone(), AuditOptions::new().write_timeout(Duration::from_millis(20)));
    let service = AuditLayer::for_test(&log).layer(uses_a_credential(|| Full::from("hello")));
    sink.hang();
    assert_eq!(
        service.clone().oneshot(request()).await.unwrap().status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    sink.work();
    opened(&log).await;
    let results = results(&log, &sink).await;
    assert_eq!(results.len(), 1);
    let sequences: Vec<_> = sink.records().iter().map(|record| record.sequence()).collect();
    assert!(
        sequences.iter().copied().eq(0..sequences.len() as u64),
        "each record once: {sequences:?}"
    );
}

#[tokio::test]
async fn a_hanging_sink_closes_the_log_without_waiters() {
    let sink = InMemory::new();
    let log =
        AuditLog::start(sink.clone(), AuditOptions::new().write_timeout(Duration::from_millis(20)));
    // The first random number of a process may take longer than that.
    while log.flush().await.is_err() {}
    sink.hang();
    let (_trail, terminal) = Trail::for_test(&log);
    drop(terminal);
    let closed = async {
        while log.is_open() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), closed).await.expect("the log closes by itself");
    // While the first write hangs, a caller that needs a durable record is refused at once.
    assert_eq!(note_revoked(&log).await, Err(AuditError));
    sink.work();
    opened(&log).await;
    assert_eq!(results(&log, &sink).await.len(), 1);
}

#[tokio::test]
async fn callers_waiting_during_a_write_share_the_next() {
    let (log, sink) = AuditLog::in_memory();
    log.flush().await.unwrap();
    let (trail, _terminal) = Trail::for_test(&log);
    let (calls, groups) = (sink.calls(), sink.groups());
    sink.hang();
    let mut intents: Vec<_> = (0..201).map(|_| Box::pin(trail.intent(intent()))).collect();
    let mut others = intents.split_off(1);
    // The first is being written when the others come: each is polled once, so that it is in the
    // queue.
    let mut first = intents.pop().unwrap();
    assert!(poll_once(&mut first).is_none());
    sink.called(calls + 1).await;
    assert!(others.iter_mut().all(|other| poll_once(other).is_none()));
    sink.work();
    first.await.unwrap().used().unwrap();
    for other in others {
        other.await.unwrap().used().unwrap();
    }
    assert_eq!(
        (sink.calls(), sink.groups()),
        (calls + 2, groups + 2),
        "one write for the first, one for all others"
    );
}

/// Polls once, without a wake-up.
pub(super) fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    match Pin::new(future).poll(&mut Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

#[tokio::test]
async fn a_token_request_without_an_outcome_is_unknown() {
    let (log, sink) = AuditLog::in_memory();
    let (trail, terminal) = Trail::for_test(&log);
    trail
        .token_request(GrantType::RefreshToken, intent())
        .await
        .unwrap()
        .finish(TokenOutcome::Issued);
    drop(trail.token_request(GrantType::RefreshToken, intent()).await.unwrap());
    drop(terminal);
    log.flush().await.unwrap();
    let records = parsed(&sink.lines());
    let outcomes: Vec<_> = records
        .iter()
        .filter(|record| record["kind"] == "token_result")
        .map(|record| &record["outcome"])
        .collect();
    assert_eq!(outcomes, ["issued", "unknown"]);
}

#[tokio::test]
async fn text_from_outside_is_truncated_and_escaped() {
    let (log, sink) = AuditLog::in_memory();
    let (trail, terminal) = Trail::for_test(&log);
    let hostile = format!("\"}}\n{{\"kind\":\"result\"\u{1f600}\u{7f}{}", "x".repeat(1000));
    trail.judged(&Operation::new("tools/call", Some(&hostile)));
    drop(terminal);
    note_revoked(&log).await.unwrap();
    for line in sink.lines() {
        assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line}");
    }
    let record = &results(&log, &sink).await[0];
    let name = record["name"].as_str().unwrap();
    assert!(name.len() <= MAX_TEXT && hostile.starts_with(name));
}

#[tokio::test]
async fn names_with_the_same_beginning_have_different_records() {
    let (log, sink) = AuditLog::in_memory();
    for end in ["secret", "public"] {
        let (trail, terminal) = Trail::for_test(&log);
        let name = format!("{}{end}", "/".repeat(MAX_TEXT));
        trail.judged(&Operation::new("resources/read", Some(&name)));
        drop(terminal);
    }
    let results = results(&log, &sink).await;
    assert_eq!(results[0]["name"], results[1]["name"]);
    let hashes = [0, 1].map(|number: usize| text(&results[number]["name_sha256"]));
    assert_ne!(hashes[0], hashes[1]);
    let whole = format!("{}secret", "/".repeat(MAX_TEXT));
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, whole.as_bytes());
    assert_eq!(hashes[0], crate::hex::Hex(hash.as_ref()).to_string());
}

#[tokio::test]
async fn a_credential_is_not_used_after_the_result() {
    let (log, sink) = AuditLog::in_memory();
    let (trail, terminal) = Trail::for_test(&log);
    let receipt = trail.intent(intent()).await.unwrap();
    drop(terminal);
    assert_eq!(receipt.used(), Err(AuditError), "the result does not count it");
    trail.intent(intent()).await.unwrap().used().unwrap();
    let job = log.job("grants.refresh_ahead").unwrap();
    let receipt = job.trail().intent(intent()).await.unwrap();
    job.complete();
    assert_eq!(receipt.used(), Err(AuditError));
    log.flush().await.unwrap();
    let late = parsed(&sink.lines()).iter().filter(|record| record["late"] == true).count();
    assert_eq!(late, 1);
}

#[tokio::test]
async fn a_refused_token_request_has_no_result() {
    let sink = InMemory::new();
    // Four places for jobs and token requests.
    let log = AuditLog::start(sink.clone(), AuditOptions::new().queue_capacity(8));
    let (trail, _terminal) = Trail::for_test(&log);
    let _jobs = [(); 3].map(|()| log.job("grants.refresh_ahead").unwrap());
    let refused = trail.token_request(GrantType::RefreshToken, intent()).await;
    assert_eq!(refused.unwrap_err(), AuditError, "no place for the request and its result");
    assert_eq!(log.owed(), 4, "the place of the result was released");
}

#[tokio::test]
async fn only_the_uris_of_resources_are_shortened() {
    let (log, sink) = AuditLog::in_memory();
    for (operation, expected) in [
        (Operation::new("tools/call", Some("db:query?all")), "db:query?all"),
        (Operation::new("prompts/get", Some("ns:a#1")), "ns:a#1"),
        (Operation::on_resource("resources/read", "//host/p?sig=S"), "//host/p?"),
        (Operation::on_resource("resources/read", "files/x?token=S"), "files/x?"),
        (Operation::on_resource("resources/read", "/p?u=https://x&sig=S"), "/p?"),
        (Operation::on_resource("resources/read", "https:\\\\u:S@host/"), "https:\\\\@host/"),
        (Operation::on_resource("resources/read", "https:/u:S@host/a"), "https:/@host/a"),
        (Operation::on_resource("resources/read", "mailto:a@b"), "mailto:a@b"),
        (Operation::on_resource("resources/read", "a/b:c@d"), "a/b:c@d"),
    ] {
        let (trail, terminal) = Trail::for_test(&log);
        trail.judged(&operation);
        drop(terminal);
        let results = results(&log, &sink).await;
        assert_eq!(text(&results.last().unwrap()["name"]), expected);
    }
}

#[tokio::test]
async fn x17_zeros_of_any_length_are_a_torn_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let log = AuditLog::from(JsonLines::append(&path).unwrap());
    log.close(Duration::from_secs(20)).await.unwrap();
    let written = fs::read(&path).unwrap();
    for (zeros, more, is_continued) in [
        (1 << 20, &b""[..], true),
        ((1 << 20) + 1, b"", true),
        (3 << 20, b"", true),
        (3 << 20, b"x", false),
    ] {
        let copy = folder.path().join("copy.jsonl");
        fs::write(&copy, [&*written, &vec![0; zeros], more].concat()).unwrap();
        let sink = JsonLines::append(&copy);
        assert_eq!(sink.is_ok(), is_continued, "{zeros}");
        if let Ok(sink) = sink {
            assert_eq!(sink.resume().await.unwrap().dropped_bytes, zeros as u64);
            assert_eq!(fs::read(&copy).unwrap(), written);
        }
    }
}

#[tokio::test]
async fn a_job_has_one_result_with_its_uses() {
    let (log, sink) = AuditLog::in_memory();
    let job = log.job("grants.refresh_ahead").unwrap();
    job.trail().intent(intent()).await.unwrap().used().unwrap();
    let receipt = job.trail().token_request(GrantType::RefreshToken, intent()).await.unwrap();
    receipt.finish(TokenOutcome::Issued);
    let id = job.trail().request_id().to_string();
    job.complete();
    log.job("grants.refresh_ahead").unwrap().fail();
    drop(log.job("grants.refresh_ahead").unwrap());
    let open = log.job("grants.refresh_ahead").unwrap();
    log.settle_open(Reason::ShuttingDown);
    drop(open);
    log.flush().await.unwrap();
    let records = parsed(&sink.lines());
    let kinds: Vec<_> = sink.records().iter().map(|record| record.kind()).take(5).collect();
    assert_eq!(kinds, ["start", "intent", "token_request", "token_result", "job_result"]);
    for record in &records[1..5] {
        assert_eq!((text(&record["job"]), record.get("request")), (id.clone(), None));
        assert_eq!(record["job_name"], "grants.refresh_ahead");
    }
    assert_eq!((&records[4]["intents"], &records[4]["uses"]), (&1.into(), &1.into()));
    let outcomes: Vec<_> = records[4..].iter().map(|record| text(&record["outcome"])).collect();
    assert_eq!(outcomes, ["completed", "failed", "dropped", "cut"]);
}

#[tokio::test]
async fn a_closed_log_refuses_jobs_and_notes_but_records_revocations() {
    let (log, sink) = AuditLog::in_memory();
    let user = User::new("https://i.example", "alice");
    let note = || Note::signed_in(&user);
    log.note(&Initiator::user(&user), note()).await.unwrap();
    sink.fail();
    assert_eq!(log.note(&Initiator::user(&user), note()).await, Err(AuditError));
    assert!(!log.is_open());
    assert_eq!(log.job("grants.refresh_ahead").unwrap_err(), AuditError);
    assert_eq!(log.note(&Initiator::user(&user), note()).await, Err(AuditError));
    let mut revoked = Box::pin(note_revoked(&log));
    assert!(poll_once(&mut revoked).is_none(), "queued while the log is closed");
    sink.work();
    opened(&log).await;
    log.flush().await.unwrap();
    let kinds: Vec<_> = sink.records().iter().map(|record| record.kind()).collect();
    assert_eq!(kinds, ["start", "sign_in", "sign_in", "revoked"]);
}

/// An independent check of the chain, written from the document.
fn verify(text: &str) -> usize {
    use aws_lc_rs::digest::{SHA256, digest};
    let mut previous = vec![0; 32];
    for (number, line) in text.lines().enumerate() {
        let record: Value = line.parse().unwrap();
        let (head, _) = line.rsplit_once(",\"hash\":").unwrap();
        let hash = digest(&SHA256, &[previous.as_slice(), head.as_bytes()].concat());
        let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            (record["seq"].as_u64(), record["hash"].as_str()),
            (Some(number as u64), Some(hex.as_str()))
        );
        previous = hash.as_ref().to_vec();
    }
    text.lines().count()
}

#[cfg(unix)]
#[test]
fn a_device_is_not_an_audit_file() {
    let folder = tempfile::tempdir().unwrap();
    for path in
        [std::path::Path::new("/dev/null"), std::path::Path::new("/dev/full"), folder.path()]
    {
        assert!(
            matches!(JsonLines::append(path), Err(AuditFileError::NotAFile { .. })),
            "{}",
            path.display()
        );
    }
}

#[tokio::test]
async fn a_file_is_continued_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let log = AuditLog::from(JsonLines::append(&path).unwrap());
    assert!(matches!(JsonLines::append(&path), Err(AuditFileError::InUse { .. })));
    let service = AuditLayer::for_test(&log).layer(uses_a_credential(|| Full::from("hello")));
    drop(service.clone().oneshot(request()).await.unwrap());
    // A request that is open when the process ends: the file is copied while it is open.
    let open = service.oneshot(request()).await.unwrap();
    let lost = open.headers()["x-request-id"].to_str().unwrap().to_owned();
    let after_crash = folder.path().join("after.jsonl");
    log.flush().await.unwrap();
    fs::copy(&path, &after_crash).unwrap();
    fs::OpenOptions::new()
        .append(true)
        .open(&after_crash)
        .unwrap()
        .write_all(b"{\"seq\":9,\"ti")
        .unwrap();

    let log = AuditLog::from(JsonLines::append(&after_crash).unwrap());
    log.flush().await.unwrap();
    let text = fs::read_to_string(&after_crash).unwrap();
    verify(&text);
    let records: Vec<Value> = text.lines().map(|line| line.parse().unwrap()).collect();
    let reopened = records.iter().find(|record| record["kind"] == "open").unwrap();
    assert_eq!(reopened["dropped_bytes"], 12);
    let last = records.last().unwrap();
    assert_eq!((&last["request"], &last["outcome"]), (&lost.as_str().into(), &"unknown".into()));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[tokio::test]
async fn an_edited_file_is_not_continued() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let log = AuditLog::from(JsonLines::append(&path).unwrap());
    let service = AuditLayer::for_test(&log).layer(uses_a_credential(|| Full::from("hello")));
    for _ in 0..3 {
        service.clone().oneshot(request()).await.unwrap().into_body().collect().await.unwrap();
    }
    log.flush().await.unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(verify(&text), 7);
    for (what, edited, line) in [
        ("edited", text.replacen("\"status\":200", "\"status\":403", 1), 3),
        ("deleted", [&lines[..2], &lines[3..]].concat().join("\n") + "\n", 3),
        ("swapped", [lines[0], lines[2], lines[1]].join("\n") + "\n", 2),
        ("doubled", [lines[0], lines[1], lines[1]].join("\n") + "\n", 3),
        ("longer than any record", format!("{}\n{}\n", lines[0], "x".repeat(1024 * 1024)), 2),
    ] {
        let path = folder.path().join(what);
        fs::write(&path, edited).unwrap();
        match JsonLines::append(&path) {
            Err(AuditFileError::Damaged { line: found, .. }) => assert_eq!(found, line, "{what}"),
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn readiness_and_errors_of_the_service_are_forwarded() {
    #[derive(Clone)]
    struct Strict(bool);
    impl Service<Request<Empty<Bytes>>> for Strict {
        type Response = Response<Full<Bytes>>;
        type Error = &'static str;
        type Future = std::future::Ready<Result<Self::Response, Self::Error>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            self.0 = true;
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, _: Request<Empty<Bytes>>) -> Self::Future {
            assert!(self.0, "called unready");
            self.0 = false;
            std::future::ready(Err("its own"))
        }
    }
    let (log, sink) = AuditLog::in_memory();
    let mut service = AuditLayer::for_test(&log).layer(Strict(false));
    for _ in 0..2 {
        assert_eq!(service.ready().await.unwrap().call(request()).await.unwrap_err(), "its own");
    }
    let results = results(&log, &sink).await;
    assert_eq!(results.iter().filter(|record| record["outcome"] == "failed").count(), 2);
}

#[test]
fn the_body_has_a_default_if_the_inner_one_has() {
    assert!(TrailBody::<Full<Bytes>>::default().is_end_stream());
}

#[tokio::test]
async fn a_retry_for_the_second_sink_skips_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let second = InMemory::new();
    let log = AuditLog::from(JsonLines::append(&path).unwrap().and(second.clone()));
    log.flush().await.unwrap();
    second.fail();
    let service = AuditLayer::for_test(&log).layer(uses_a_credential(|| Full::from("hello")));
    assert_eq!(
        service.clone().oneshot(request()).await.unwrap().status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    // Retried at least once before it may succeed.
    second.called(second.calls() + 2).await;
    second.work();
    opened(&log).await;
    drop(service.oneshot(request()).await.unwrap());
    log.flush().await.unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(verify(&text), second.records().len());
    assert_eq!(text.lines().map(str::to_owned).collect::<Vec<_>>(), second.lines());
}

#[tokio::test]
async fn p293_a_file_has_one_writer() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (one, two) =
        (JsonLines::append(path("one")).unwrap(), JsonLines::append(path("two")).unwrap());
    assert!(matches!(JsonLines::append(path("one")), Err(AuditFileError::InUse { .. })));
    let (one, two) = (AuditLog::from(one), AuditLog::from(two));
    one.flush().await.unwrap();
    two.flush().await.unwrap();
    let chain = |name: &str| {
        verify::Verification::new().run(fs::read(path(name)).unwrap().as_slice()).unwrap().chain
    };
    assert!(chain("one").is_some());
    assert_ne!(chain("one"), chain("two"));
}

#[tokio::test]
async fn p293_two_files_are_continued_together_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let both =
        || JsonLines::append(path("one")).unwrap().and(JsonLines::append(path("two")).unwrap());
    // A sink that keeps nothing has no condition, on either side.
    let tracing_first = TracingSink::new().and(JsonLines::append(path("alone")).unwrap());
    assert!(tracing_first.resume().await.unwrap().is_kept);
    let ended = async |sink| {
        let log = AuditLog::from(sink);
        log.close(Duration::from_secs(20)).await.unwrap();
        drop(log);
        // The writer's thread releases the lock of the files.
        while matches!(JsonLines::append(path("two")), Err(AuditFileError::InUse { .. })) {
            tokio::task::yield_now().await;
        }
    };
    ended(both()).await;
    ended(both()).await;
    let text = fs::read_to_string(path("one")).unwrap();
    assert_eq!(verify(&text), 4);
    assert_eq!(text, fs::read_to_string(path("two")).unwrap());
    // A crash between the two writes: the second file lacks the last record.
    let shorter = text.lines().take(3).map(|line| format!("{line}\n")).collect::<String>();
    fs::write(path("two"), shorter).unwrap();
    assert_eq!(
        both().resume().await.unwrap_err().to_string(),
        "the audit sink failed: its two sinks stopped at different records; keep both, and start \
         two new ones"
    );
}

#[tokio::test]
async fn p288_a_panicking_sink_refuses_until_it_recovers() {
    let (log, sink) = AuditLog::in_memory();
    let service = AuditLayer::for_test(&log).layer(uses_a_credential(|| Full::from("hello")));
    log.flush().await.unwrap();
    sink.panic();
    assert_eq!(
        service.clone().oneshot(request()).await.unwrap().status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(
        service.clone().oneshot(request()).await.unwrap().status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    sink.work();
    opened(&log).await;
    assert_eq!(service.oneshot(request()).await.unwrap().status(), StatusCode::OK);
    let results = results(&log, &sink).await;
    assert_eq!(results.iter().map(|record| record["count"].as_u64().unwrap()).sum::<u64>(), 3);
    assert_eq!(results.iter().filter(|record| record["uses"] == 1).count(), 1, "{results:#?}");
}

#[tokio::test]
async fn a_late_intent_does_not_reopen_its_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let log = AuditLog::from(JsonLines::append(&path).unwrap());
    let (trail, terminal) = Trail::for_test(&log);
    drop(terminal);
    // A handler that continues after its client has disconnected: its use is recorded, and the
    // request keeps its one result.
    trail.intent(intent()).await.unwrap().used().unwrap();
    let copy = folder.path().join("copy.jsonl");
    fs::copy(&path, &copy).unwrap();
    let again = AuditLog::from(JsonLines::append(&copy).unwrap());
    again.flush().await.unwrap();
    let text = fs::read_to_string(&copy).unwrap();
    let kinds: Vec<_> =
        text.lines().map(|line| line.parse::<Value>().unwrap()["kind"].clone()).collect();
    assert_eq!(kinds, ["start", "result", "intent", "open"]);
}

/// Pending once before each step, like a network.
struct Slow<B>(B, bool);

impl<B: Body + Unpin> Body for Slow<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.1 = !self.1;
        if self.1 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}

/// Three frames of data and trailers.
fn frames() -> impl Body<Data = Bytes, Error = Infallible> + Unpin + Send {
    struct Frames(u8);
    impl futures_core::Stream for Frames {
        type Item = Result<Frame<Bytes>, Infallible>;
        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            self.0 += 1;
            Poll::Ready(match self.0 {
                1..=3 => Some(Ok(Frame::data(Bytes::from_static(b"abc")))),
                4 => Some(Ok(Frame::trailers(HeaderMap::new()))),
                _ => None,
            })
        }
    }
    StreamBody::new(Frames(0))
}

#[tokio::test]
async fn x25_dropped_at_any_poll_a_request_has_one_record() {
    let (log, sink) = AuditLog::in_memory();
    let service =
        AuditLayer::for_test(&log).layer(service_fn(|request: Request<Empty<Bytes>>| async move {
            tokio::task::yield_now().await;
            let trail = request.extensions().get::<Trail>().unwrap().clone();
            let receipt = trail.intent(intent()).await.unwrap();
            tokio::task::yield_now().await;
            receipt.used().unwrap();
            tokio::task::yield_now().await;
            Ok::<_, Infallible>(Response::new(Slow(frames(), false)))
        }));
    for polls in 0.. {
        let seen = Arc::new(AtomicUsize::new(0));
        let mut whole = Box::pin({
            let (service, seen) = (service.clone(), Arc::clone(&seen));
            async move {
                let mut body = service.oneshot(request()).await.unwrap().into_body();
                while let Some(frame) = body.frame().await {
                    seen.fetch_add(
                        frame.unwrap().data_ref().map_or(0, Bytes::len),
                        Ordering::Relaxed,
                    );
                }
            }
        });
        let mut done = false;
        for _ in 0..polls {
            // The writer may finish at any poll, so each poll is driven separately.
            if poll_once(&mut whole).is_some() {
                done = true;
                break;
            }
            log.flush().await.unwrap();
        }
        drop(whole);
        let results = results(&log, &sink).await;
        // Never polled, there is no request.
        assert_eq!(results.len(), polls, "after {polls} polls");
        let Some(result) = results.last() else { continue };
        assert_eq!(
            result["outcome"],
            if done { "completed" } else { "dropped" },
            "after {polls} polls"
        );
        assert_eq!(result["response_bytes"], seen.load(Ordering::Relaxed));
        let intents = parsed(&sink.lines())
            .into_iter()
            .filter(|record| record["kind"] == "intent" && record["request"] == result["request"])
            .count();
        assert_eq!(result["intents"], intents, "after {polls} polls");
        assert!(result["uses"].as_u64().unwrap() <= intents as u64);
        if done {
            assert!(polls >= 8, "every step was dropped in, not only {polls}");
            assert_eq!((&result["uses"], &result["response_bytes"]), (&1.into(), &9.into()));
            break;
        }
    }
}

#[tokio::test]
async fn a_kept_trail_delays_no_record() {
    let (log, sink) = AuditLog::in_memory();
    let kept = Arc::new(parking_lot::Mutex::new(None));
    let service = AuditLayer::for_test(&log).layer(service_fn({
        let kept = Arc::clone(&kept);
        move |request: Request<Empty<Bytes>>| {
            *kept.lock() = request.extensions().get::<Trail>().cloned();
            async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello"))) }
        }
    }));
    drop(service.oneshot(request()).await.unwrap());
    assert_eq!(results(&log, &sink).await.len(), 1);
    assert!(kept.lock().is_some());
}

#[tokio::test]
async fn forged_extensions_are_replaced() {
    let (log, sink) = AuditLog::in_memory();
    let (foreign, terminal) = Trail::for_test(&log);
    let foreign_id = foreign.request_id();
    let service = AuditLayer::for_test(&log).layer(service_fn(
        move |request: Request<Empty<Bytes>>| async move {
            let id = request.extensions().get::<RequestId>().copied().unwrap();
            assert_ne!(id, foreign_id);
            assert_eq!(request.extensions().get::<Trail>().unwrap().request_id(), id);
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        },
    ));
    let mut request = request();
    request.extensions_mut().insert(foreign);
    request.extensions_mut().insert(foreign_id);
    let response = service.oneshot(request).await.unwrap();
    drop(terminal);
    // A body that is at its end immediately ends its request.
    let results = results(&log, &sink).await;
    assert_eq!(results[0]["request"], response.headers()["x-request-id"].to_str().unwrap());
    assert_eq!(
        (&results[0]["outcome"], &results[1]["outcome"]),
        (&"completed".into(), &"dropped".into())
    );
}

#[tokio::test]
async fn closing_waits_for_open_requests() {
    let (log, sink) = AuditLog::in_memory();
    let service = AuditLayer::for_test(&log).layer(uses_a_credential(|| Full::from("hello")));
    let open = service.clone().oneshot(request()).await.unwrap();
    let mut close = Box::pin(log.close(Duration::from_secs(20)));
    assert!(poll_once(&mut close).is_none());
    // The writer takes no more records once it has seen the end.
    while log.is_open() {
        tokio::task::yield_now().await;
    }
    assert_eq!(service.oneshot(request()).await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(poll_once(&mut close).is_none(), "a request is open");
    assert_eq!(open.into_body().collect().await.unwrap().to_bytes(), "hello");
    close.await.unwrap();
    assert_eq!(log.close(Duration::from_secs(20)).await, Err(AuditError));
    let records = parsed(&sink.lines());
    assert_eq!(records.last().unwrap()["kind"], "close");
    let results: Vec<_> = records.iter().filter(|record| record["kind"] == "result").collect();
    assert_eq!(results.len(), 2, "the one that was open, and the one that was refused");
}

#[tokio::test]
async fn x16_a_blocking_sink_refuses_in_time() {
    struct Blocks(std::sync::mpsc::Receiver<()>, AtomicUsize);
    // The log requires `Sync`; the receiver has one owner.
    struct Shared(parking_lot::Mutex<Blocks>);
    impl AuditSink for Shared {
        async fn resume(&self) -> Result<Resumed, SinkError> {
            Ok(Resumed::nothing_kept())
        }

        async fn write(&self, _: &Records) -> Result<(), SinkError> {
            let blocks = self.0.lock();
            // The first batch starts the chain.
            if blocks.1.fetch_add(1, Ordering::Relaxed) == 1 {
                blocks.0.recv().map_err(|_| SinkError::new("the test is over"))?;
            }
            Ok(())
        }
    }
    let (release, blocked) = std::sync::mpsc::channel();
    let sink = Shared(parking_lot::Mutex::new(Blocks(blocked, AtomicUsize::new(0))));
    let log = AuditLog::start(sink, AuditOptions::new().write_timeout(Duration::from_millis(20)));
    let service = AuditLayer::for_test(&log).layer(uses_a_credential(|| Full::from("hello")));
    for _ in 0..2 {
        assert_eq!(
            service.clone().oneshot(request()).await.unwrap().status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
        assert!(!log.is_open());
    }
    release.send(()).unwrap();
    opened(&log).await;
    assert_eq!(service.oneshot(request()).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_log_that_cannot_resume_refuses_until_it_can() {
    struct Unreadable(InMemory, AtomicUsize);
    impl AuditSink for Unreadable {
        async fn resume(&self) -> Result<Resumed, SinkError> {
            match self.1.fetch_add(1, Ordering::Relaxed) {
                0 => Err(SinkError::new("not mounted yet")),
                1 => panic!("a sink may panic here, too"),
                _ => Ok(Resumed::nothing_kept()),
            }
        }
        async fn write(&self, records: &Records) -> Result<(), SinkError> {
            self.0.write(records).await
        }
    }
    let sink = InMemory::new();
    let log = AuditLog::from(Unreadable(sink.clone(), AtomicUsize::new(0)));
    let service = AuditLayer::for_test(&log).layer(uses_a_credential(|| Full::from("hello")));
    while log.is_open() {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        service.clone().oneshot(request()).await.unwrap().status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    opened(&log).await;
    assert_eq!(service.oneshot(request()).await.unwrap().status(), StatusCode::OK);
    log.flush().await.unwrap();
    assert_eq!(sink.records().iter().next().unwrap().kind(), "start");
}

#[tokio::test]
async fn x16_x17_a_failing_disk_leaves_each_record_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let log = AuditLog::from(JsonLines::flaky(&path));
    let used = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let service = AuditLayer::for_test(&log).layer(service_fn({
        let (used, path) = (Arc::clone(&used), path.clone());
        move |request: Request<Empty<Bytes>>| {
            let (used, path) = (Arc::clone(&used), path.clone());
            async move {
                let trail = request.extensions().get::<Trail>().unwrap().clone();
                let status = match trail.intent(intent()).await {
                    Ok(receipt) => {
                        receipt.used().unwrap();
                        // The content of the disk at the moment of the use.
                        let text = fs::read_to_string(path).unwrap();
                        let request =
                            format!("\"kind\":\"intent\",\"request\":\"{}\"", trail.request_id());
                        assert!(
                            text.contains(&request),
                            "the intent is on the disk before the use"
                        );
                        // Whole, without the rest of a failed write: a crash now would leave a
                        // valid chain.
                        verify(&text);
                        used.lock().push(trail.request_id().to_string());
                        StatusCode::OK
                    }
                    Err(AuditError) => StatusCode::SERVICE_UNAVAILABLE,
                };
                let mut response = Response::new(Full::<Bytes>::from("hello"));
                *response.status_mut() = status;
                Ok::<_, Infallible>(response)
            }
        }
    }));
    let (mut passed, mut refused) = (0, 0);
    for _ in 0..40 {
        let response = service.clone().oneshot(request()).await.unwrap();
        if response.status() == StatusCode::OK {
            passed += 1
        } else {
            refused += 1
        }
        drop(response.into_body().collect().await);
        opened(&log).await;
    }
    assert!(passed > 20 && refused > 0, "{passed} passed, {refused} refused");
    log.flush().await.unwrap();
    let text = fs::read_to_string(&path).unwrap();
    verify(&text);
    let records: Vec<Value> = text.lines().map(|line| line.parse().unwrap()).collect();
    let results: Vec<_> = records.iter().filter(|record| record["kind"] == "result").collect();
    assert_eq!(results.iter().map(|record| record["count"].as_u64().unwrap()).sum::<u64>(), 40);
    let recorded: BTreeSet<_> = results
        .iter()
        .filter(|record| record["uses"] == 1)
        .map(|record| record["request"].as_str().unwrap())
        .collect();
    assert_eq!(recorded, used.lock().iter().map(String::as_str).collect());
}

#[tokio::test]
async fn x17_x18_a_file_cut_at_any_byte_is_continued() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let log = AuditLog::from(JsonLines::append(&path).unwrap());
    let (one, one_ends) = Trail::for_test(&log);
    let (two, two_ends) = Trail::for_test(&log);
    one.intent(intent()).await.unwrap().used().unwrap();
    let refreshing = two.token_request(GrantType::RefreshToken, intent()).await.unwrap();
    two.intent(intent()).await.unwrap().used().unwrap();
    drop(one_ends);
    refreshing.finish(TokenOutcome::Issued);
    drop(two_ends);
    log.flush().await.unwrap();
    let whole = fs::read(&path).unwrap();
    let lines: Vec<Value> =
        std::str::from_utf8(&whole).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(lines.len(), 7);

    for length in 0..=whole.len() {
        let before = &whole[..length];
        let kept = before.iter().filter(|byte| **byte == b'\n').count();
        let torn = before.iter().rev().take_while(|byte| **byte != b'\n').count();
        let cut = folder.path().join("cut.jsonl");
        fs::write(&cut, before).unwrap();
        let resumed = JsonLines::append(&cut).unwrap().resume().await.unwrap();
        assert_eq!(
            resumed.last.map(|last| last.sequence + 1),
            (kept > 0).then_some(kept as u64),
            "{length}"
        );
        assert_eq!(resumed.dropped_bytes, torn as u64, "{length}");
        assert_eq!(fs::metadata(&cut).unwrap().len(), (length - torn) as u64, "{length}");
        // Computed from the records, as an auditor would.
        let open = |begun: &str, ended: &str| {
            let requests = |kind: &str| -> BTreeSet<_> {
                lines[..kept]
                    .iter()
                    .filter(|line| line["kind"] == kind)
                    .map(|line| &line["request"])
                    .map(text)
                    .collect()
            };
            requests(begun).difference(&requests(ended)).cloned().collect::<Vec<_>>()
        };
        let id = |work: &OpenWork| match work {
            OpenWork::Request(id) | OpenWork::Job(id) => id.to_string(),
        };
        let requests: Vec<_> = resumed.open.iter().map(id).collect();
        assert_eq!(requests, open("intent", "result"), "{length}");
        let refreshes: Vec<_> =
            resumed.open_token_requests.iter().map(|(request, _)| id(request)).collect();
        assert_eq!(refreshes, open("token_request", "token_result"), "{length}");
        // At each line break and in the middle of each line, run the whole log on it, twice:
        // nothing is settled a second time.
        let line_length =
            whole[length - torn..].iter().position(|byte| *byte == b'\n').unwrap_or_default();
        if torn == 0 || torn == line_length / 2 {
            for _ in 0..2 {
                let log = AuditLog::from(JsonLines::append(&cut).unwrap());
                log.close(Duration::from_secs(20)).await.unwrap();
                // The writer's thread releases the lock of the file.
                drop(log);
                while matches!(JsonLines::append(&cut), Err(AuditFileError::InUse { .. })) {
                    tokio::task::yield_now().await;
                }
            }
            let text = fs::read_to_string(&cut).unwrap();
            verify(&text);
            let records: Vec<Value> = text.lines().map(|line| line.parse().unwrap()).collect();
            let mut ends = BTreeMap::new();
            for record in records.iter().filter(|record| record["kind"] == "result") {
                *ends.entry(record["request"].to_string()).or_insert(0) += 1;
            }
            for record in records.iter().filter(|record| record["kind"] == "intent") {
                assert_eq!(ends.get(&record["request"].to_string()), Some(&1), "{length}");
            }
            assert!(ends.values().all(|count| *count == 1), "{length}: {ends:?}");
        }
    }
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Collects the events of one target, as a log shipper does.
#[derive(Clone, Default)]
struct Shipper(Arc<parking_lot::Mutex<Vec<String>>>);

impl tracing::Subscriber for Shipper {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "token_broker::audit"
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Message<'a>(&'a Shipper);
        impl tracing::field::Visit for Message<'_> {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0.0.lock().push(format!("{value:?}"));
                }
            }
        }
        event.record(&mut Message(self));
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn the_tracing_sink_emits_one_event_per_record() {
    let (log, sink) = AuditLog::in_memory();
    let (trail, terminal) = Trail::for_test(&log);
    trail.intent(intent()).await.unwrap().used().unwrap();
    drop(terminal);
    log.flush().await.unwrap();
    let shipper = Shipper::default();
    let write = tracing::subscriber::with_default(shipper.clone(), || {
        let records = sink.records();
        poll_once(&mut Box::pin(async move { TracingSink::new().write(&records).await }))
    });
    assert_eq!(write, Some(Ok(())));
    assert_eq!(*shipper.0.lock(), sink.lines());
}

#[tokio::test]
async fn p294_secrets_in_uris_are_not_recorded() {
    let (log, sink) = AuditLog::in_memory();
    for (name, recorded) in [
        ("https://h.example/p?token=CANARY#f", "https://h.example/p?"),
        ("https://h.example/p#CANARY", "https://h.example/p#"),
        ("https://ana:CANARY@h.example/p", "https://@h.example/p"),
        ("https://ana:CANARY@h.example", "https://@h.example"),
        ("https://ana@CANARY@h.example/a@b", "https://@h.example/a@b"),
        ("crm:contact?key=CANARY", "crm:contact?"),
        ("file:///home/ana/a@b.txt", "file:///home/ana/a@b.txt"),
        ("ns:tool", "ns:tool"),
        ("what?", "what?"),
    ] {
        let (trail, terminal) = Trail::for_test(&log);
        trail.judged(&Operation::on_resource("resources/read", name));
        drop(terminal);
        assert_eq!(results(&log, &sink).await.last().unwrap()["name"], recorded);
    }
    // User information that is longer than the recorded text.
    let (trail, terminal) = Trail::for_test(&log);
    let uri = format!("https://{}@h", "CANARY".repeat(100));
    trail.judged(&Operation::on_resource("resources/read", &uri));
    drop(terminal);
    assert_eq!(results(&log, &sink).await.last().unwrap()["name"], "https://@h");
    assert!(sink.lines().iter().all(|line| !line.contains("CANARY")));
}

pub(super) fn principal(actor: Option<Actor>) -> Principal {
    principal_of(User::new("https://i.example", "ana"), actor)
}

pub(super) fn principal_of(user: User, actor: Option<Actor>) -> Principal {
    let clock = Clock::manual(Timestamp::from_unix_seconds(1_800_000_000));
    let times = TokenTimes {
        id: "token-1",
        issued_at: clock.now(),
        expires_at: clock.now().plus(Duration::from_secs(600)),
    };
    let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
    let verified = Verified::vouch(user, "client-1", resource, times);
    let verified = verified.with_family("family-1");
    Principal::for_test(&match actor {
        Some(actor) => verified.with_actor(actor),
        None => verified,
    })
}

#[tokio::test]
async fn actor_chains_are_recorded_link_by_link() {
    let (log, sink) = AuditLog::in_memory();
    let chain = (0..40).fold(None, |before, link| {
        Some(Actor::new(
            User::new("https://i.example", format!("agent-{link}\"}},{{\"issuer\":\"x")),
            before,
        ))
    });
    let (trail, terminal) = Trail::for_test(&log);
    trail.identified(&principal(chain));
    drop(terminal);
    let results = results(&log, &sink).await;
    let actors = results[0]["actors"].as_array().unwrap();
    assert_eq!((actors.len(), &results[0]["actor_links"]), (16, &40.into()));
    assert!(actors.iter().all(|actor| actor["issuer"] == "https://i.example"));
    assert_eq!(actors[0]["subject"], "agent-39\"},{\"issuer\":\"x");
}

#[tokio::test]
async fn scopes_are_recorded_whole() {
    let (log, sink) = AuditLog::in_memory();
    let scopes: Vec<_> =
        (0..100).map(|number| format!("https://www.example.com/auth/scope.{number}")).collect();
    let (trail, _terminal) = Trail::for_test(&log);
    let scopes = Scopes::parse(&scopes.join(" ")).unwrap();
    let receipt = trail
        .intent(Intent::new("crm", "https://crm.example.com:443", &scopes, None))
        .await
        .unwrap();
    receipt.used().unwrap();
    let records = parsed(&sink.lines());
    assert_eq!(records.last().unwrap()["upstream_scopes"], scopes.to_string());
}

#[tokio::test]
async fn p299_refusals_are_counted_exactly() {
    const HALF: u64 = 25_000;
    const PLACES: usize = 64;
    let sink = InMemory::new();
    // Far fewer places than refusals: those without a place are counted, too.
    let log = AuditLog::start(sink.clone(), AuditOptions::new().queue_capacity(PLACES));
    let service =
        AuditLayer::for_test(&log).layer(service_fn(async |request: Request<Empty<Bytes>>| {
            request.extensions().get::<Trail>().unwrap().refused(Reason::Missing);
            Ok::<_, Infallible>(
                Response::builder().status(401).body(Empty::<Bytes>::new()).unwrap(),
            )
        }));
    let refuse = async |times| {
        for _ in 0..times {
            drop(service.clone().oneshot(request()).await.unwrap());
        }
    };
    refuse(HALF).await;
    log.flush().await.unwrap();
    sink.fail();
    // This is the record that cannot be written.
    refuse(1).await;
    while log.is_open() {
        tokio::task::yield_now().await;
    }
    let before = sink.records().len();
    refuse(HALF - 1).await;
    assert_eq!(sink.records().len(), before);
    sink.work();
    opened(&log).await;
    let results = results(&log, &sink).await;
    let counts = || results.iter().map(|record| record["count"].as_u64().unwrap());
    assert_eq!(counts().sum::<u64>(), 2 * HALF);
    // One record for all refusals while the log was closed, in addition to those with a place.
    assert!(counts().any(|count| count >= HALF - 1));
    assert!(sink.records().len() - before <= PLACES + 2);
}
