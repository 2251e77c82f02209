//! Shares of the places: who can keep whom out.

use std::{
    convert::Infallible,
    future::pending,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use proptest::prelude::*;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

use super::{
    tests::{Plain, intent, note_revoked, poll_once, principal_of, request, results, text},
    *,
};
use crate::{
    body::ResponseBody,
    dialect::Dialect,
    principal::{Initiator, Principal, User},
    refusal::{Reason, Refusal},
};

type Answer = Response<TrailBody<ResponseBody<Full<Bytes>>>>;

/// 32 places for requests without a user, 32 for those of users, 4 for each user.
/// A quarter of the users' places is for intents.
fn log() -> (AuditLog, InMemory) {
    let sink = InMemory::new();
    (AuditLog::start(sink.clone(), AuditOptions::new().queue_capacity(64)), sink)
}

fn caller(subject: &str) -> Principal {
    principal_of(User::new("https://i.example", subject), None)
}

/// Knows the user in `x-user` at once, as a cached verdict does. `?` is a token whose verification
/// does not end, `!` one whose verifier panics.
fn stack(
    log: &AuditLog,
) -> impl Clone + Service<Plain, Response = Answer, Error = Infallible, Future: Send + 'static> {
    AuditLayer::for_test(log).layer(service_fn(|request: Plain| {
        let trail = request.extensions().get::<Trail>().unwrap().clone();
        let dialect = Dialect::of(&request);
        let admitted = match request.headers().get("x-user").map(|user| user.to_str().unwrap()) {
            None => Some(Err(Reason::Missing)),
            Some("?") => None,
            Some("!") => panic!("a defect of a verifier"),
            Some(user) => Some(trail.admitted(&caller(user))),
        };
        async move {
            match admitted {
                None => pending().await,
                Some(Ok(())) => Ok(Response::new(Full::from("open"))),
                Some(Err(reason)) => {
                    trail.refused(reason);
                    Ok(dialect.render(&Refusal::new(reason)).map(Full::from))
                }
            }
        }
    }))
}

fn from(user: &str) -> Plain {
    let mut request = request();
    if !user.is_empty() {
        request.headers_mut().insert("x-user", user.parse().unwrap());
    }
    request
}

/// Sends a request, and returns the response unread.
async fn open(log: &AuditLog, user: &str) -> Answer {
    stack(log).oneshot(from(user)).await.unwrap()
}

async fn reason(log: &AuditLog, sink: &InMemory) -> String {
    text(&results(log, sink).await.last().unwrap()["reason"])
}

#[tokio::test]
async fn p382_one_user_keeps_no_other_out() {
    let (log, sink) = log();
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(open(&log, "alice").await);
    }
    let refused = open(&log, "alice").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(reason(&log, &sink).await, "audit.user_quota");
    let record = results(&log, &sink).await.pop().unwrap();
    assert_eq!((text(&record["subject"]), &record["uses"]), ("alice".into(), &0.into()));
    // Another user, and the same subject at another issuer.
    assert_eq!(open(&log, "bob").await.status(), StatusCode::OK);
    let (trail, _terminal) = Trail::for_test(&log);
    trail.admitted(&principal_of(User::new("https://j.example", "alice"), None)).unwrap();
    // A place is free once the record of a stream that ended is written.
    streams.pop();
    log.flush().await.unwrap();
    assert_eq!(open(&log, "alice").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn p382_the_quota_is_a_setting() {
    for (setting, expected) in [(None, 3), (Some(0), 3), (Some(7), 6), (Some(1000), 24)] {
        let mut options = AuditOptions::new().queue_capacity(64);
        if let Some(setting) = setting {
            options = options.queue_capacity_per_user(setting);
        }
        let log = AuditLog::start(InMemory::new(), options);
        let mut streams = Vec::new();
        while let response = open(&log, "alice").await
            && response.status() == StatusCode::OK
        {
            streams.push(response);
        }
        assert_eq!(streams.len(), expected, "{setting:?}");
    }
}

#[tokio::test]
async fn p382_users_without_places_are_refused_as_unrecorded() {
    let (log, sink) = log();
    let mut streams = Vec::new();
    for user in 0..24 {
        streams.push(open(&log, &format!("user-{}", user % 8)).await);
    }
    assert!(streams.iter().all(|response| response.status() == StatusCode::OK));
    assert_eq!(open(&log, "ninth").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reason(&log, &sink).await, "audit.unavailable");
    // They keep requests without a user from nothing.
    assert_eq!(open(&log, "").await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn p382_intents_count_in_the_users_quota() {
    let (log, sink) = log();
    log.flush().await.unwrap();
    sink.hang();
    let (trail, _terminal) = Trail::for_test(&log);
    trail.admitted(&caller("alice")).unwrap();
    // A handler that starts many calls: while the sink hangs, their intents wait in the queue.
    let mut intents: Vec<_> = (0..40).map(|_| Box::pin(trail.intent(intent()))).collect();
    let refused = intents.iter_mut().filter_map(poll_once).filter(Result::is_err).count();
    assert!(refused >= 33, "{refused}");
    let (other, _open) = Trail::for_test(&log);
    other.admitted(&caller("bob")).unwrap();
    let mut others = Box::pin(other.intent(super::tests::intent()));
    assert!(poll_once(&mut others).is_none(), "bob's intent is queued");
    sink.work();
    others.await.unwrap().used().unwrap();
}

#[tokio::test]
async fn p382_late_intents_count_in_the_users_quota() {
    let (log, sink) = log();
    log.flush().await.unwrap();
    let (trail, terminal) = Trail::for_test(&log);
    trail.admitted(&caller("alice")).unwrap();
    drop(terminal);
    log.flush().await.unwrap();
    let calls = sink.calls();
    sink.hang();
    let mut first = Box::pin(trail.intent(intent()));
    assert!(poll_once(&mut first).is_none());
    sink.called(calls + 1).await;
    let mut more: Vec<_> = (0..40).map(|_| Box::pin(trail.intent(intent()))).collect();
    let refused = more.iter_mut().filter_map(poll_once).filter(Result::is_err).count();
    assert_eq!(refused, 36);
    sink.work();
    first.await.unwrap().used().unwrap();
}

#[tokio::test]
async fn p383_requests_without_a_user_keep_no_user_out() {
    let (log, sink) = log();
    let mut flood = Vec::new();
    for _ in 0..32 {
        let mut request = Box::pin(stack(&log).oneshot(from("?")));
        assert!(poll_once(&mut request).is_none());
        flood.push(request);
    }
    // Only a user that is known at once passes; each of these refusals is counted.
    for user in ["?", "", "?"] {
        let refused = open(&log, user).await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.headers().contains_key("x-request-id"), "P498");
    }
    let mut streams = Vec::new();
    for user in ["alice", "bob", "alice"] {
        streams.push(open(&log, user).await);
        assert_eq!(streams.last().unwrap().status(), StatusCode::OK);
    }
    drop((flood, streams));
    let results = results(&log, &sink).await;
    let count = |record: &serde_json::Value| record["count"].as_u64().unwrap();
    assert_eq!(results.iter().map(count).sum::<u64>(), 32 + 3 + 3, "{results:#?}");
    let unavailable = results.iter().filter(|record| record["reason"] == "audit.unavailable");
    assert_eq!(unavailable.map(count).sum::<u64>(), 3);
    assert_eq!(open(&log, "").await.status(), StatusCode::UNAUTHORIZED);
    log.flush().await.unwrap();
    assert!(log.has_all_places());
}

#[tokio::test]
async fn p383_queued_refusals_keep_no_user_out() {
    let (log, sink) = log();
    log.flush().await.unwrap();
    let calls = sink.calls();
    sink.hang();
    drop(open(&log, "").await);
    sink.called(calls + 1).await;
    // The writer is busy: these records wait for it.
    let mut unrecorded = 0;
    for _ in 0..100 {
        let status = open(&log, "").await.status();
        unrecorded += usize::from(status == StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(unrecorded, 100 - 32);
    assert_eq!(open(&log, "alice").await.status(), StatusCode::OK);
    sink.work();
}

#[tokio::test]
async fn p383_a_panicking_verifier_leaks_no_place() {
    let (log, sink) = log();
    let _flood = [(); 32].map(|()| Trail::for_test(&log));
    for _ in 0..3 {
        let panicked = catch_unwind(AssertUnwindSafe(|| drop(stack(&log).call(from("!")))));
        assert!(panicked.is_err());
    }
    assert_eq!(log.owed(), 32);
    let results = results(&log, &sink).await;
    assert_eq!(results.iter().map(|record| record["count"].as_u64().unwrap()).sum::<u64>(), 3);
}

#[tokio::test]
async fn p384_a_flood_keeps_no_revocation_out() {
    let (log, sink) = log();
    let _requests = [(); 32].map(|()| Trail::for_test(&log));
    let mut streams = Vec::new();
    for user in 0..24 {
        streams.push(open(&log, &format!("user-{}", user % 8)).await);
    }
    let mut jobs = Vec::new();
    while let Ok(job) = log.job("grants.refresh_ahead") {
        jobs.push(job);
    }
    assert_eq!((streams.len(), jobs.len()), (24, 4));
    let user = User::new("https://i.example", "alice");
    let note = log.note(&Initiator::user(&user), Note::signed_in(&user)).await;
    assert_eq!(note, Err(AuditError), "no other note has a place");
    for _ in 0..3 {
        note_revoked(&log).await.unwrap();
    }
    // Also many at one time.
    let mut revoked: Vec<_> = (0..256).map(|_| Box::pin(note_revoked(&log))).collect();
    assert!(revoked.iter_mut().all(|revoked| poll_once(revoked).is_none()));
    for revoked in revoked {
        revoked.await.unwrap();
    }
    let recorded = sink.lines().iter().filter(|line| line.contains("\"revoked\"")).count();
    assert_eq!(recorded, 3 + 256);
}

#[tokio::test]
async fn a_second_verification_moves_the_place() {
    let (log, _sink) = log();
    let (trail, terminal) = Trail::for_test(&log);
    for user in ["alice", "alice", "bob"] {
        trail.admitted(&caller(user)).unwrap();
        assert_eq!(log.owed(), 1);
    }
    drop(terminal);
    log.flush().await.unwrap();
    trail.admitted(&caller("alice")).unwrap();
    assert!(log.has_all_places(), "after the result, nothing is taken");
}

#[derive(Clone, Debug)]
enum Step {
    Begin,
    Job,
    Admit(usize, u8),
    Intent(usize),
    TokenRequest(usize),
    Forget(usize),
    Respond(usize, bool),
    Drop(usize),
    Revoke,
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0..8_usize;
    prop_oneof![
        4 => Just(Step::Begin),
        1 => Just(Step::Job),
        4 => (which.clone(), 0..3_u8).prop_map(|(which, user)| Step::Admit(which, user)),
        3 => which.clone().prop_map(Step::Intent),
        1 => which.clone().prop_map(Step::TokenRequest),
        1 => which.clone().prop_map(Step::Forget),
        2 => (which.clone(), any::<bool>())
            .prop_map(|(which, refused)| Step::Respond(which, refused)),
        3 => which.prop_map(Step::Drop),
        1 => Just(Step::Revoke),
        1 => Just(Step::Flush),
    ]
}

/// Runs the steps, ends the log, and checks that each place is free.
async fn run(steps: Vec<Step>, end: u8) {
    let sink = InMemory::new();
    let log = AuditLog::start(sink, AuditOptions::new().queue_capacity(8));
    let (mut requests, mut trails, mut jobs) = (Vec::new(), Vec::new(), Vec::new());
    let mut writes: Vec<Pin<Box<dyn Future<Output = bool>>>> = Vec::new();
    let mut token_requests = Vec::new();
    for step in steps {
        match step {
            Step::Begin => requests.extend(Trail::begin(&log, Default::default())),
            Step::Job => jobs.extend(log.job("grants.refresh_ahead")),
            Step::Admit(which, user) => {
                if let Some((trail, _)) = requests.get(which) {
                    trail.admitted(&caller(&user.to_string())).unwrap_or_default();
                }
            }
            Step::Intent(which) => {
                if let Some((trail, _)) = requests.get(which) {
                    let trail = trail.clone();
                    let mut write: Pin<Box<dyn Future<Output = bool>>> =
                        Box::pin(async move { trail.intent(intent()).await.is_ok() });
                    if poll_once(&mut write).is_none() {
                        writes.push(write);
                    }
                }
            }
            Step::TokenRequest(which) => {
                if let Some((trail, _)) = requests.get(which) {
                    let trail = trail.clone();
                    let mut sent = Box::pin(async move {
                        drop(trail.token_request(GrantType::RefreshToken, intent()).await);
                    });
                    if poll_once(&mut sent).is_none() {
                        token_requests.push(sent);
                    }
                }
            }
            Step::Forget(which) => {
                if which < writes.len() {
                    drop(writes.swap_remove(which));
                }
            }
            Step::Respond(which, refused) => {
                if let Some((_, terminal)) = requests.get_mut(which) {
                    terminal.responded(StatusCode::OK, refused.then_some(Reason::Missing));
                    if refused {
                        terminal.refused(3);
                    } else {
                        terminal.settle(Outcome::Completed);
                    }
                }
            }
            Step::Drop(which) => {
                if which < requests.len() {
                    let (trail, terminal) = requests.swap_remove(which);
                    trails.push(trail);
                    drop(terminal);
                }
            }
            Step::Revoke => {
                let log = log.clone();
                writes.push(Box::pin(async move { note_revoked(&log).await.is_ok() }));
            }
            Step::Flush => log.flush().await.unwrap(),
        }
    }
    // The end: in order, by a shutdown, or with requests that are never polled again.
    if end == 1 {
        log.settle_open(Reason::ShuttingDown);
    }
    if end == 2 {
        token_requests.clear();
    }
    for write in writes {
        write.await;
    }
    for sent in token_requests {
        sent.await;
    }
    drop((requests, jobs));
    log.close(Duration::from_secs(20)).await.unwrap();
    assert!(log.has_all_places(), "{}", log.owed());
    drop(trails);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn p382_p383_no_interleaving_leaks_a_place(
        steps in prop::collection::vec(step(), 0..60),
        end in 0..3_u8,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps, end));
    }
}

#[tokio::test]
async fn p382_threads_leak_no_place() {
    let (log, _sink) = log();
    thread::scope(|threads| {
        for thread in 0..4 {
            let log = &log;
            threads.spawn(move || {
                for round in 0..500 {
                    let Ok((trail, terminal)) = Trail::begin(log, Default::default()) else {
                        continue;
                    };
                    let user = caller(&((thread + round) % 3).to_string());
                    if trail.admitted(&user).is_ok() {
                        trail.admitted(&caller("other")).unwrap_or_default();
                    }
                    drop(terminal);
                }
            });
        }
    });
    log.close(Duration::from_secs(20)).await.unwrap();
    assert!(log.has_all_places(), "{}", log.owed());
}

#[tokio::test]
async fn m380_a_refusal_is_recorded_before_it_is_read() {
    let (log, sink) = log();
    let unread = open(&log, "").await;
    let results = results(&log, &sink).await;
    assert_eq!((results.len(), &results[0]["outcome"]), (1, &"refused".into()));
    // The length of a body that no one has read yet.
    let length = http_body::Body::size_hint(unread.body()).exact().unwrap();
    assert!(length > 0 && results[0]["response_bytes"] == length);
    assert!(log.has_all_places());
    let body = http_body_util::BodyExt::collect(unread.into_body()).await.unwrap().to_bytes();
    assert_eq!(body.len() as u64, length);
}
