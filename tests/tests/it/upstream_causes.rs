//! The log names the cause of each failed upstream request; the client does not learn it.

use std::net::IpAddr;

use axum::Router;
use http::Response;
use token_broker_outbound::{Guard, Proxy};
use token_broker_tests::{
    harness::{Broker, CALL, serve},
    upstream::{Received, ScriptedBody, ScriptedServer, full, json},
    wire,
};
use tower_token_broker::cause::Cause;

use crate::{
    hostile_case::{Case, run},
    resolvers::Always,
};

fn call(broker: &Broker) -> Vec<u8> {
    let bearer = format!("Bearer {}", broker.token("items:read"));
    wire::post("/mcp", broker.host(), &[("authorization", &bearer)], CALL)
}

/// Returns the warnings with this alarm.
fn warnings(broker: &Broker, alarm: &str) -> Vec<String> {
    let logs = String::from_utf8(broker.ledger().logs()).unwrap();
    let alarm = format!("alarm=\"{alarm}\"");
    logs.lines().filter(|line| line.contains(&alarm)).map(str::to_owned).collect()
}

fn with(status: u16, fields: &[(&str, &str)], body: &'static str) -> Response<ScriptedBody> {
    let response = Response::builder().status(status);
    let response =
        fields.iter().fold(response, |response, (name, value)| response.header(*name, *value));
    response.body(full(body)).unwrap()
}

#[tokio::test]
async fn h498_each_refused_response_has_its_cause() {
    type Respond = fn(&Received) -> Response<ScriptedBody>;
    let failed = "exchange.upstream_failed";
    let unreadable = "filter.response_unreadable";
    let rows: [(Cause, &'static str, Respond); 11] = [
        (Cause::ServerError, failed, |_| with(500, &[], "stack trace")),
        (Cause::ServerError, failed, |_| with(503, &[("content-type", "application/json")], "{}")),
        (Cause::ProxyAuthentication, failed, |_| with(407, &[], "")),
        (Cause::Redirect, failed, |_| with(307, &[("location", "https://evil.example/")], "")),
        (Cause::Redirect, failed, |_| with(304, &[], "")),
        (Cause::Partial, unreadable, |_| with(206, &[("content-type", "application/json")], "{}")),
        (Cause::ContentCoding, unreadable, |_| {
            with(200, &[("content-type", "application/json"), ("content-encoding", "br")], "x")
        }),
        (Cause::ContentCoding, unreadable, |_| {
            with(200, &[("content-type", "text/event-stream"), ("content-encoding", "gzip")], "x")
        }),
        (Cause::MediaType, unreadable, |_| with(200, &[("content-type", "text/html")], "<html>")),
        (Cause::MediaType, unreadable, |_| with(200, &[], "no type")),
        (Cause::MediaType, unreadable, |_| {
            with(200, &[("content-type", "application/jsonl")], "{}")
        }),
    ];
    for (cause, reason, respond) in rows {
        let upstream = ScriptedServer::start(respond).await;
        let broker = Broker::in_front_of(&upstream).start().await;
        let case = Case::fails("H498", call(&broker), 502, reason);
        let responses = run(&broker, &upstream, [case]).await;
        let lines = warnings(&broker, "exchange.upstream_response_refused");
        let [line] = &lines[..] else { panic!("H498 {cause}: {lines:?}") };
        let id = responses[0].header("x-request-id").unwrap();
        for part in [
            format!("cause=\"{cause}\""),
            format!("refusal.reason=\"{reason}\""),
            format!("request.id={id}"),
        ] {
            assert!(line.contains(&part), "H498 {part} in {line}");
        }
        // Neither does the log have the upstream's text, nor the client the cause.
        assert!(!line.contains("stack trace") && !line.contains("evil"), "H498 {line}");
        assert!(!responses[0].text().contains(cause.code()), "H498 {}", responses[0].text());
        broker.done().await;
    }
}

#[tokio::test]
async fn h498_a_good_response_has_no_cause() {
    let upstream =
        ScriptedServer::start(|_| json(r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#))
            .await;
    let broker = Broker::in_front_of(&upstream).start().await;
    run(&broker, &upstream, [Case::passes("H498", call(&broker))]).await;
    let logs = String::from_utf8(broker.ledger().logs()).unwrap();
    assert!(!logs.contains("cause="), "H498 {logs}");
    broker.done().await;
}

#[tokio::test]
async fn c497_a_blocked_upstream_is_named_with_its_remedy() {
    let allow_private = r#"Guard::allow_private_host(\"items.corp.example:8443\")"#;
    let allow_http = r#"Guard::dangerous_allow_http(\"items.corp.example\", 8080)"#;
    let allow_loopback = r#"Guard::allow_loopback(\"items.corp.example:8080\")"#;
    let (https, http) = ("https://items.corp.example:8443", "http://items.corp.example:8080");
    for (origin, address, cause, remedy) in [
        (https, "10.0.0.7", Cause::BlockedAddress, Some(allow_private)),
        (https, "fd00::7", Cause::BlockedAddress, Some(allow_private)),
        (https, "169.254.169.254", Cause::BlockedAddress, None),
        (http, "10.0.0.7", Cause::Scheme, Some(allow_http)),
        (http, "127.0.0.1", Cause::Scheme, Some(allow_loopback)),
    ] {
        let upstream = ScriptedServer::start(|_| json("{}")).await;
        let url = format!("{origin}/s/a-key-in-the-path/mcp?key=another");
        let (listener, stack, broker) =
            Broker::in_front_of(&upstream).upstream_at(&url).prepare().await;
        let address: IpAddr = address.parse().unwrap();
        let proxy = Proxy::new(&Guard::new().with_resolver(Always(address))).unwrap();
        serve(listener, Router::new().route_service("/mcp", stack.layer(proxy)));
        let case = Case::fails("C497", call(&broker), 502, "exchange.upstream_failed").unsent();
        let responses = run(&broker, &upstream, [case]).await;
        let lines = warnings(&broker, "exchange.upstream_unavailable");
        let [line] = &lines[..] else { panic!("C497 {origin} {address}: {lines:?}") };
        for part in [
            r#"server.name="items""#.to_owned(),
            format!("origin=\"{origin}\""),
            format!("cause=\"{cause}\""),
            format!("request.id={}", responses[0].header("x-request-id").unwrap()),
        ] {
            assert!(line.contains(&part), "C497 {part} in {line}");
        }
        match remedy {
            Some(call) => assert!(line.contains(call), "C497 {call} in {line}"),
            None => assert!(!line.contains("allowed_by"), "C497 {line}"),
        }
        assert!(!line.contains("a-key-in-the-path") && !line.contains("another"), "C497 {line}");
        broker.done_unsent().await;
    }
}
