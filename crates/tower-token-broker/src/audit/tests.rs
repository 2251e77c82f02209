//! The layer as a whole, over services that answer, hang and fail.

use std::{
    convert::Infallible,
    fs,
    io::Write as _,
    pin::Pin,
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
use crate::{principal::Scopes, refusal::Reason, revocation::Revoked};

fn intent() -> Intent {
    Intent::new("crm", "https://crm.example.com:443", &Scopes::parse("read").unwrap(), None)
}

fn request() -> Request<Empty<Bytes>> {
    Request::new(Empty::new())
}

/// Waits until the door is open again; the bound turns a door that stays closed into a failure.
async fn opened(log: &AuditLog) {
    let open = async {
        while !log.is_open() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), open).await.expect("the door opens by itself");
}

fn parsed(lines: &[String]) -> Vec<Value> {
    lines.iter().map(|line| line.parse().unwrap()).collect()
}

async fn results(log: &AuditLog, sink: &InMemory) -> Vec<Value> {
    log.flush().await.unwrap();
    parsed(&sink.lines()).into_iter().filter(|record| record["kind"] == "result").collect()
}

/// Uses one credential, then answers with this body.
fn uses_a_credential<B>(
    body: impl Fn() -> B + Clone + Send + 'static,
) -> impl Service<Request<Empty<Bytes>>, Response = Response<B>, Error = Infallible, Future: Send> + Clone
where
    B: Send + 'static,
{
    service_fn(move |request: Request<Empty<Bytes>>| {
        let body = body.clone();
        async move {
            let trail = request.extensions().get::<Trail>().unwrap().clone();
            match trail.intent(intent()).await {
                Ok(receipt) => {
                    receipt.used();
                    Ok(Response::new(body()))
                }
                Err(AuditUnavailable) => {
                    trail.refused(Reason::AuditUnavailable);
                    let mut answer = Response::new(body());
                    *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                    Ok(answer)
                }
            }
        }
    })
}

#[tokio::test]
async fn a_request_has_an_intent_and_one_result() {
    let (log, sink) = AuditLog::in_memory();
    let service = AuditLayer::new(log.clone()).layer(uses_a_credential(|| Full::from("hello")));
    let answer = service.oneshot(request()).await.unwrap();
    let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hello");
    log.flush().await.unwrap();
    let records = parsed(&sink.lines());
    let kinds: Vec<_> = records.iter().map(|record| record["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["start", "intent", "result"]);
    assert!(records[1..].iter().all(|record| record["request"] == id.as_str()));
    let result = &records[2];
    assert_eq!((&result["outcome"], &result["status"], &result["uses"]), (&"completed".into(), &200.into(), &1.into()));
    assert_eq!(result["answer_bytes"], 5);
}

#[tokio::test]
async fn each_end_of_a_body_is_recorded_once() {
    type Boxed = http_body_util::combinators::BoxBody<Bytes, &'static str>;
    fn frames(frames: Vec<Result<Frame<Bytes>, &'static str>>) -> Boxed {
        let mut frames = frames.into_iter();
        struct Frames<F>(F);
        impl<F: FnMut() -> Option<T> + Unpin, T> futures_core::Stream for Frames<F> {
            type Item = T;
            fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<T>> {
                Poll::Ready((self.0)())
            }
        }
        http_body_util::BodyExt::boxed(StreamBody::new(Frames(move || frames.next())))
    }
    let data = || Ok(Frame::data(Bytes::from_static(b"abc")));
    let (log, sink) = AuditLog::in_memory();
    let cases: Vec<(&str, Vec<Result<Frame<Bytes>, &'static str>>)> = vec![
        ("completed", vec![]),
        ("completed", vec![data(), Ok(Frame::data(Bytes::new())), data()]),
        ("completed", vec![data(), Ok(Frame::trailers(HeaderMap::new()))]),
        ("failed", vec![data(), Err("broken")]),
    ];
    for (requests, (outcome, body)) in cases.into_iter().enumerate() {
        let body = std::sync::Arc::new(parking_lot::Mutex::new(Some(frames(body))));
        let service = uses_a_credential(move || body.lock().take().unwrap());
        let answer = AuditLayer::new(log.clone()).layer(service).oneshot(request()).await.unwrap();
        drop(answer.into_body().collect().await);
        let results = results(&log, &sink).await;
        assert_eq!(results.len(), requests + 1);
        assert_eq!(results[requests]["outcome"], outcome);
    }
}

#[tokio::test]
async fn dropped_at_every_poll_there_is_one_terminal_record() {
    let (log, sink) = AuditLog::in_memory();
    let service = AuditLayer::new(log.clone()).layer(uses_a_credential(|| Full::from("hello")));
    for polls in 1.. {
        let mut whole = Box::pin({
            let service = service.clone();
            async move { service.oneshot(request()).await.unwrap().into_body().collect().await.unwrap().to_bytes() }
        });
        let mut left = polls;
        let done = std::future::poll_fn(|cx| {
            left -= 1;
            match whole.as_mut().poll(cx) {
                Poll::Ready(_) => Poll::Ready(true),
                Poll::Pending if left == 0 => Poll::Ready(false),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        drop(whole);
        let results = results(&log, &sink).await;
        assert_eq!(results.len(), polls, "after {polls} polls");
        assert_eq!(results[polls - 1]["outcome"], if done { "completed" } else { "dropped" });
        if done {
            break;
        }
    }
}

#[tokio::test]
async fn a_sink_that_fails_closes_the_door_and_opens_it_by_itself() {
    let (log, sink) = AuditLog::in_memory();
    let service = AuditLayer::new(log.clone()).layer(uses_a_credential(|| Full::from("hello")));
    log.flush().await.unwrap();
    sink.fail();
    let refused = service.clone().oneshot(request()).await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    drop(refused);
    for _ in 0..3 {
        let refused = service.clone().oneshot(request()).await.unwrap();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.headers().contains_key("retry-after"));
    }
    sink.work();
    opened(&log).await;
    assert_eq!(service.oneshot(request()).await.unwrap().status(), StatusCode::OK);
    let results = results(&log, &sink).await;
    let counted: u64 = results.iter().map(|record| record["count"].as_u64().unwrap()).sum();
    assert_eq!(counted, 5, "no refusal is lost while the door is closed: {results:#?}");
    assert!(results.iter().any(|record| record["count"] == 3 && record["reason"] == "audit.unavailable"));
}

#[tokio::test]
async fn a_sink_that_hangs_refuses_within_the_deadline_and_repeats_nothing() {
    let sink = InMemory::new();
    let log = AuditLog::start(sink.clone(), AuditOptions::new().deadline(Duration::from_millis(20)));
    let service = AuditLayer::new(log.clone()).layer(uses_a_credential(|| Full::from("hello")));
    sink.hang();
    assert_eq!(service.clone().oneshot(request()).await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    sink.work();
    opened(&log).await;
    let results = results(&log, &sink).await;
    assert_eq!(results.len(), 1);
    let sequences: Vec<_> = sink.records().iter().map(Record::sequence).collect();
    assert!(sequences.iter().copied().eq(0..sequences.len() as u64), "each record once: {sequences:?}");
}

#[tokio::test]
async fn all_that_wait_during_a_write_are_one_group() {
    let (log, sink) = AuditLog::in_memory();
    log.flush().await.unwrap();
    sink.hang();
    let (trail, _terminal) = Trail::for_test(&log);
    // The first is being written when the others come.
    let first = tokio::spawn({
        let trail = trail.clone();
        async move { trail.intent(intent()).await.is_ok() }
    });
    tokio::task::yield_now().await;
    std::thread::yield_now();
    let others: Vec<_> = (0..200)
        .map(|_| {
            let trail = trail.clone();
            tokio::spawn(async move { trail.intent(intent()).await.is_ok() })
        })
        .collect();
    tokio::task::yield_now().await;
    let before = sink.groups();
    sink.work();
    assert!(first.await.unwrap());
    for other in others {
        assert!(other.await.unwrap());
    }
    let groups = sink.groups() - before;
    assert!(groups <= 4, "200 intents in {groups} groups");
}

#[tokio::test]
async fn a_refresh_without_an_outcome_is_unknown() {
    let (log, sink) = AuditLog::in_memory();
    let (trail, terminal) = Trail::for_test(&log);
    trail.refresh_intent(intent()).await.unwrap().finish(RefreshOutcome::Refreshed);
    drop(trail.refresh_intent(intent()).await.unwrap());
    drop(terminal);
    log.flush().await.unwrap();
    let records = parsed(&sink.lines());
    let outcomes: Vec<_> =
        records.iter().filter(|record| record["kind"] == "refresh_result").map(|record| &record["outcome"]).collect();
    assert_eq!(outcomes, ["refreshed", "unknown"]);
}

#[tokio::test]
async fn what_comes_from_outside_is_cut_and_escaped() {
    let (log, sink) = AuditLog::in_memory();
    let (trail, terminal) = Trail::for_test(&log);
    let hostile = format!("\"}}\n{{\"kind\":\"result\"\u{1f600}\u{7f}{}", "x".repeat(1000));
    trail.judged(&Operation::new("tools/call", Some(&hostile)));
    drop(terminal);
    log.note_revoked(&Revoked::Everything).await.unwrap();
    for line in sink.lines() {
        assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line}");
    }
    let record = &results(&log, &sink).await[0];
    let name = record["name"].as_str().unwrap();
    assert!(name.len() <= MAX_TEXT && hostile.starts_with(name));
}

/// An auditor's own reading of the chain, by the document and not by our code.
fn verify(text: &str) -> usize {
    use aws_lc_rs::digest::{SHA256, digest};
    let mut previous = vec![0; 32];
    for (number, line) in text.lines().enumerate() {
        let record: Value = line.parse().unwrap();
        let (head, _) = line.rsplit_once(",\"hash\":").unwrap();
        let hash = digest(&SHA256, &[previous.as_slice(), head.as_bytes()].concat());
        let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((record["seq"].as_u64(), record["hash"].as_str()), (Some(number as u64), Some(hex.as_str())));
        previous = hash.as_ref().to_vec();
    }
    text.lines().count()
}

#[tokio::test]
async fn a_file_goes_on_where_it_stopped_and_says_what_a_crash_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let log = AuditLog::from(JsonLines::append(&path).unwrap());
    assert!(matches!(JsonLines::append(&path), Err(AuditFileError::InUse)));
    let service = AuditLayer::new(log.clone()).layer(uses_a_credential(|| Full::from("hello")));
    drop(service.clone().oneshot(request()).await.unwrap());
    // A request whose end this process does not live to see: the file is copied while it is open.
    let open = service.oneshot(request()).await.unwrap();
    let lost = open.headers()["x-request-id"].to_str().unwrap().to_owned();
    let after_crash = folder.path().join("after.jsonl");
    log.flush().await.unwrap();
    fs::copy(&path, &after_crash).unwrap();
    fs::OpenOptions::new().append(true).open(&after_crash).unwrap().write_all(b"{\"seq\":9,\"ti").unwrap();

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
async fn a_file_that_was_edited_is_not_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let log = AuditLog::from(JsonLines::append(&path).unwrap());
    let service = AuditLayer::new(log.clone()).layer(uses_a_credential(|| Full::from("hello")));
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
    ] {
        let path = folder.path().join(what);
        fs::write(&path, edited).unwrap();
        match JsonLines::append(&path) {
            Err(AuditFileError::Damaged { line: found }) => assert_eq!(found, line, "{what}"),
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn an_unready_service_is_never_called_and_its_error_is_passed_on() {
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
    let mut service = AuditLayer::new(log.clone()).layer(Strict(false));
    for _ in 0..2 {
        assert_eq!(service.ready().await.unwrap().call(request()).await.unwrap_err(), "its own");
    }
    let results = results(&log, &sink).await;
    assert_eq!(results.iter().filter(|record| record["outcome"] == "failed").count(), 2);
}

#[test]
fn the_body_has_a_default_where_the_inner_one_has() {
    assert!(TrailBody::<Full<Bytes>>::default().is_end_stream());
}

#[tokio::test]
async fn what_two_sinks_share_stands_once_in_the_first_when_the_second_fails() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let second = InMemory::new();
    let log = AuditLog::from(JsonLines::append(&path).unwrap().and(second.clone()));
    log.flush().await.unwrap();
    second.fail();
    let service = AuditLayer::new(log.clone()).layer(uses_a_credential(|| Full::from("hello")));
    assert_eq!(service.clone().oneshot(request()).await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    // Begun again at least once before it may succeed.
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
async fn p288_a_sink_that_panics_before_it_is_durable_lets_nothing_be_used_and_comes_back() {
    let (log, sink) = AuditLog::in_memory();
    let service = AuditLayer::new(log.clone()).layer(uses_a_credential(|| Full::from("hello")));
    log.flush().await.unwrap();
    sink.panic();
    assert_eq!(service.clone().oneshot(request()).await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(service.clone().oneshot(request()).await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    sink.work();
    opened(&log).await;
    assert_eq!(service.oneshot(request()).await.unwrap().status(), StatusCode::OK);
    let results = results(&log, &sink).await;
    assert_eq!(results.iter().map(|record| record["count"].as_u64().unwrap()).sum::<u64>(), 3);
    assert_eq!(results.iter().filter(|record| record["uses"] == 1).count(), 1, "{results:#?}");
}

#[tokio::test]
async fn an_intent_behind_the_end_of_its_request_opens_it_no_second_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let log = AuditLog::from(JsonLines::append(&path).unwrap());
    let (trail, terminal) = Trail::for_test(&log);
    drop(terminal);
    // A handler that works on after its client has gone: its use is recorded, and the request keeps its one result.
    trail.intent(intent()).await.unwrap().used();
    let copy = folder.path().join("copy.jsonl");
    fs::copy(&path, &copy).unwrap();
    let again = AuditLog::from(JsonLines::append(&copy).unwrap());
    again.flush().await.unwrap();
    let text = fs::read_to_string(&copy).unwrap();
    let kinds: Vec<_> = text.lines().map(|line| line.parse::<Value>().unwrap()["kind"].clone()).collect();
    assert_eq!(kinds, ["start", "result", "intent", "open"]);
}
