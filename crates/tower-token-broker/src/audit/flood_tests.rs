//! Floods of requests without a verified user: what they may write.

use std::{
    convert::Infallible,
    fs,
    future::pending,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::Value;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

use super::{
    tests::{Plain, note_revoked, parsed, poll_once, principal_of, request, results, text},
    *,
};
use crate::{
    clock::{Clock, Timestamp},
    dialect::Dialect,
    principal::{Principal, User},
    refusal::{Reason, Refusal},
};

fn clock() -> Clock {
    Clock::manual(Timestamp::from_unix_seconds(1_800_000_000))
}

fn log_with(clock: &Clock) -> (AuditLog, InMemory) {
    let sink = InMemory::new();
    (AuditLog::start(sink.clone(), AuditOptions::new().with_clock(clock.clone())), sink)
}

fn alice() -> Principal {
    principal_of(User::new("https://i.example", "alice"), None)
}

/// Refuses each request. `x-user: verified` is a user that the policy refuses, `expired` one whose
/// token is refused, and `?` a token whose verification does not end.
fn refuses(log: &AuditLog) -> impl Clone + Service<Plain, Error = Infallible, Future: Send> {
    AuditLayer::for_test(log).layer(service_fn(|request: Plain| {
        let trail = request.extensions().get::<Trail>().unwrap().clone();
        let user = request.headers().get("x-user").map(|user| user.to_str().unwrap().to_owned());
        let reason = match user.as_deref() {
            Some("verified") => {
                trail.admitted(&alice()).unwrap();
                Some(Reason::MethodDenied)
            }
            Some("expired") => {
                trail.identified(&alice());
                Some(Reason::JwtExpired)
            }
            Some("?") => None,
            _ => Some(Reason::Missing),
        };
        let dialect = Dialect::of(&request);
        async move {
            match reason {
                Some(reason) => {
                    trail.refused(reason);
                    let response = dialect.render(&Refusal::new(reason)).map(Full::from);
                    Ok::<Response<Full<Bytes>>, _>(response)
                }
                None => pending().await,
            }
        }
    }))
}

fn from(peer: IpAddr, user: &str) -> Plain {
    let mut request = request();
    request.extensions_mut().insert(SocketAddr::new(peer, 4711));
    request.headers_mut().insert("x-user", user.parse().unwrap());
    request
}

async fn send(log: &AuditLog, peer: IpAddr, user: &str, times: usize) {
    for _ in 0..times {
        drop(refuses(log).oneshot(from(peer, user)).await.unwrap());
    }
}

fn sum(results: &[Value]) -> u64 {
    results.iter().map(|result| result["count"].as_u64().unwrap()).sum()
}

fn network(number: u32) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits(u128::from(number) << 64))
}

#[tokio::test]
async fn m257_a_flood_shares_its_records() {
    let clock = clock();
    let (log, sink) = log_with(&clock);
    send(&log, network(1), "", 500).await;
    clock.advance(Duration::from_secs(20));
    send(&log, network(1), "", 700).await;
    send(&log, network(1), "expired", 300).await;
    // Another network has its own.
    send(&log, network(2), "", 10).await;
    clock.advance(Duration::from_secs(3));
    let all = results(&log, &sink).await;
    assert_eq!(sum(&all), 1510, "M257: none is lost");
    let shared: Vec<_> = all.iter().filter(|result| result.get("request").is_none()).collect();
    assert_eq!((all.len(), shared.len()), (612, 2), "M257");
    for (reason, count) in [(Reason::Missing, 600), (Reason::JwtExpired, 300)] {
        let record = shared.iter().find(|record| record["reason"] == reason.code()).unwrap();
        assert_eq!((text(&record["outcome"]), &record["count"]), ("refused".into(), &count.into()));
        // From the first one that was counted to the record.
        for (member, at) in [("started", ":00:20."), ("time", ":00:23.")] {
            assert!(text(&record[member]).contains(at), "M257: {record}");
        }
    }
    // A minute later, each has its record again.
    clock.advance(Duration::from_secs(60));
    send(&log, network(1), "", 5).await;
    let again = results(&log, &sink).await;
    assert_eq!((again.len(), sum(&again)), (617, 1515));
}

#[tokio::test]
async fn m257_many_networks_share_a_limit() {
    let (log, sink) = log_with(&clock());
    for number in 0..7_000 {
        send(&log, network(number), "", 1).await;
    }
    let all = results(&log, &sink).await;
    assert_eq!((all.len(), sum(&all)), (6_001, 7_000), "M257");
}

#[tokio::test]
async fn m257_each_refusal_of_a_verified_user_is_recorded() {
    let (log, sink) = log_with(&clock());
    send(&log, network(1), "", 700).await;
    send(&log, network(1), "verified", 1_000).await;
    let all = results(&log, &sink).await;
    let of_alice = all.iter().filter(|result| result.get("subject").is_some());
    assert_eq!((of_alice.count(), all.len(), sum(&all)), (1_000, 1_601, 1_700), "M257");
}

#[tokio::test]
async fn m257_disconnecting_before_the_verdict_is_no_way_out() {
    let (log, sink) = log_with(&clock());
    for _ in 0..1_000 {
        let mut dropped = Box::pin(refuses(&log).oneshot(from(network(1), "?")));
        assert!(poll_once(&mut dropped).is_none());
    }
    let all = results(&log, &sink).await;
    assert_eq!((all.len(), sum(&all)), (601, 1_000), "M257");
    let shared = all.last().unwrap();
    assert_eq!((text(&shared["outcome"]), shared.get("reason")), ("dropped".into(), None));
}

#[tokio::test]
async fn m257_counts_are_written_with_what_comes_later() {
    let clock = clock();
    let (log, sink) = log_with(&clock);
    send(&log, network(1), "", 700).await;
    let shared = || {
        let records = parsed(&sink.lines());
        records.iter().filter(|record| record["count"] == 100).count()
    };
    // Other records do not wait for a flush, and a busy log is never idle for some seconds.
    note_revoked(&log).await.unwrap();
    assert_eq!(shared(), 0);
    clock.advance(Duration::from_secs(5));
    note_revoked(&log).await.unwrap();
    let written = async {
        while shared() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(4), written).await.expect("M257");
}

#[tokio::test]
async fn m257_a_flood_ends_in_a_whole_and_small_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let options = AuditOptions::new().with_clock(clock());
    let log = AuditLog::start(JsonLines::append(&path).unwrap(), options);
    send(&log, network(1), "", 5_000).await;
    // No flush: the end of the log writes the counts.
    log.close(Duration::from_secs(20)).await.unwrap();
    let report = verify::Verification::new().run(&*fs::read(&path).unwrap()).unwrap();
    assert_eq!((report.found, report.requests), (Ok(verify::End::Closed), 5_000), "M257");
    let bytes = fs::metadata(&path).unwrap().len();
    assert!(bytes < 601 * 600, "M257: {bytes}");
}
