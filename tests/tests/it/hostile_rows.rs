//! Groups A, J and K, row by row: raw bytes through the whole stack; status, reason, upstream calls and records, each asserted.

use token_broker_tests::{
    harness::{Broker, CALL},
    upstream::{Scripted, json},
    wire,
};
use tower_token_broker::scope_filter::{Rules, prompts, resources, tools};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;

/// What one row sends, and what must come of it.
struct Row {
    case: &'static str,
    bytes: Vec<u8>,
    status: u16,
    /// `None` for a request that passes.
    reason: Option<&'static str>,
}

/// Runs the rows one after the other, so that each record and each call is its own.
async fn run(broker: &Broker, upstream: &Scripted, rows: Vec<Row>) {
    let (mut requests, mut calls) = (0, 0);
    for Row { case, bytes, status, reason } in rows {
        let answer = broker.send(&bytes).await;
        requests += 1;
        calls += usize::from(reason.is_none());
        assert_eq!(answer.status, status, "{case}: {}", answer.text());
        let records = broker.expect_records(requests).await;
        let last = records.iter().rev().find(|record| record["count"].is_u64()).unwrap();
        assert_eq!(last["reason"].as_str(), reason, "{case}: {last}");
        assert_eq!(upstream.received().len(), calls, "{case}");
        if reason.is_some() {
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{case}");
        }
    }
    broker.done().await;
}

#[tokio::test]
async fn group_a_presenting_the_token() {
    let upstream = Scripted::start(|_| json(RESULT)).await;
    let broker = Broker::before(&upstream).start().await;
    let token = broker.token("items:read");
    let host = broker.host().to_owned();
    let at = |path: &str, host: &str, fields: &[(&str, &str)]| wire::post(path, host, fields, CALL);
    let with = |value: &str| at("/mcp", &host, &[("authorization", value)]);
    let row = |case, bytes, status, reason| Row { case, bytes, status, reason };
    let rows = vec![
        row("A001", at("/mcp", &host, &[]), 401, Some("authn.missing")),
        row("A002", with("Bearer"), 401, Some("authn.malformed")),
        row(
            "A003",
            at("/mcp", &host, &[("authorization", &format!("Bearer {token}")), ("authorization", "Bearer x")]),
            400,
            Some("authn.duplicate_header"),
        ),
        row("A008", with(&format!("bearer {token}")), 200, None),
        row("A008", with(&format!("BEARER {token}")), 200, None),
        row("A008", with(&format!("BeArEr {token}")), 200, None),
        row("A009", with(&format!("Bearer  {token}")), 400, Some("authn.malformed_credentials")),
        row("A009", with(&format!("Bearer\t{token}")), 400, Some("authn.malformed_credentials")),
        row("A010", with("Basic dTpw"), 401, Some("authn.unsupported_scheme")),
        row("A010", with(&format!("DPoP {token}")), 401, Some("authn.unsupported_scheme")),
        row("A011", at(&format!("/mcp?access_token={token}"), &host, &[]), 401, Some("authn.query_token")),
        row("A014", at("/mcp", &host, &[("cookie", &format!("access_token={token}"))]), 401, Some("authn.missing")),
        row(
            "A014",
            at("/mcp", &host, &[("proxy-authorization", &format!("Bearer {token}"))]),
            401,
            Some("authn.missing"),
        ),
        row(
            "A021",
            at("/mcp", "evil.example", &[("authorization", &format!("Bearer {token}"))]),
            421,
            Some("req.host_not_allowed"),
        ),
        row(
            "A021",
            at("http://evil.example/mcp", &host, &[("authorization", &format!("Bearer {token}"))]),
            421,
            Some("req.host_not_allowed"),
        ),
        row(
            "A022",
            at("/mcp", &host, &[("authorization", &format!("Bearer {token}")), ("origin", "https://evil.example")]),
            403,
            Some("req.origin_not_allowed"),
        ),
    ];
    run(&broker, &upstream, rows).await;
}

#[tokio::test]
async fn group_j_messages() {
    let upstream = Scripted::start(|_| json(RESULT)).await;
    let rules = Rules::new()
        .allow(tools(["get_*"]))
        .allow(tools(["create_*"]).with_scope("items:write items:read"))
        .allow(resources(["items://*"]))
        .allow(prompts(["greet"]));
    let broker = Broker::before(&upstream).policy(rules).start().await;
    let bearer = format!("Bearer {}", broker.token("items:read"));
    let host = broker.host().to_owned();
    let with = |fields: &[(&str, &str)], body: &str| {
        let all = [&[("authorization", bearer.as_str())], fields].concat();
        wire::post("/mcp", &host, &all, body)
    };
    let post = |body: &str| with(&[], body);
    let call =
        |method: &str, params: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
    let ping = call("ping", "{}");
    let deep = |levels: usize| {
        call(
            "tools/call",
            &format!(r#"{{"name":"get_x","arguments":{{"a":{}{}}}}}"#, "[".repeat(levels), "]".repeat(levels)),
        )
    };
    let row = |case, bytes, status, reason| Row { case, bytes, status, reason };
    let rows = vec![
        row("J194", post(&call("tools/call", r#"{"name":"delete_x"}"#)), 200, Some("filter.tool_denied")),
        row("J195", post(&call("tools/call", r#"{"name":"hidden"}"#)), 200, Some("filter.tool_denied")),
        row(
            "J196",
            post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","method":"tools/list"}"#),
            400,
            Some("filter.duplicate_member"),
        ),
        row(
            "J196",
            post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call"}"#),
            400,
            Some("filter.duplicate_member"),
        ),
        row(
            "J196",
            post(&call("tools/call", r#"{"name":"get_x","name":"delete_x"}"#)),
            400,
            Some("filter.duplicate_member"),
        ),
        row(
            "J197",
            post(r#"{"jsonrpc":"2.0","id":1,"\u006dethod":"ping","method":"ping"}"#),
            400,
            Some("filter.duplicate_member"),
        ),
        row(
            "J197",
            post(r#"{"jsonrpc":"2.0","id":1,"METHOD":"tools/call","method":"ping"}"#),
            400,
            Some("filter.case_variant"),
        ),
        row("J199", post(&call("tools/call", "[]")), 400, Some("filter.not_a_message")),
        row("J199", post(&call("tools/call", r#"{"name":null}"#)), 400, Some("filter.not_a_message")),
        row("J200", post(&format!("[{ping}]")), 400, Some("filter.batch")),
        row("J200", post(&format!("[[{ping}]]")), 400, Some("filter.batch")),
        row("J200", post("[]"), 400, Some("filter.batch")),
        row("J201", post(&format!("\u{feff}{ping}")), 400, Some("filter.not_json")),
        row("J201", post(&format!("{ping}{ping}")), 400, Some("filter.not_json")),
        row("J201", post("{\"jsonrpc\":\"2.0\",}"), 400, Some("filter.not_json")),
        row("J201", post("{\"jsonrpc\":NaN}"), 400, Some("filter.not_json")),
        row("J203", post(&deep(129)), 400, Some("filter.too_deep")),
        row("J203", post(&"[".repeat(100_000)), 400, Some("filter.too_deep")),
        row("J203", post(&deep(120)), 200, None),
        row("J204", post(&call("tools/call", r#"{"name":"get_x","arguments":{"n":1e999,"m":-0}}"#)), 200, None),
        row("J205", post(r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#), 400, Some("filter.not_a_message")),
        row(
            "J205",
            post(&format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"ping"}}"#, "x".repeat(5000))),
            400,
            Some("filter.member_too_large"),
        ),
        row(
            "J209",
            with(&[("mcp-name", "get_x")], &call("tools/call", r#"{"name":"delete_x"}"#)),
            200,
            Some("filter.tool_denied"),
        ),
        row("J211", with(&[("content-encoding", "gzip")], &ping), 415, Some("filter.content_encoding")),
        row("J212", with(&[("content-type", "text/plain")], &ping), 415, Some("filter.media_type")),
        row("J212", with(&[("content-type", "application/JSON; charset=UTF-8")], &ping), 200, None),
        row(
            "J215",
            post(&call("tools/call", &format!(r#"{{"name":"get_x","arguments":{{"a":"{}"}}}}"#, "x".repeat(1 << 20)))),
            413,
            Some("filter.body_too_large"),
        ),
        row(
            "J217",
            post(&call("resources/read", r#"{"uri":"FILE:///etc/passwd"}"#)),
            200,
            Some("filter.resource_denied"),
        ),
        row("J217", post(&call("prompts/get", r#"{"name":"secret"}"#)), 200, Some("filter.prompt_denied")),
        row(
            "J217",
            post(&call("completion/complete", r#"{"ref":{"type":"ref/prompt","name":"secret"}}"#)),
            200,
            Some("filter.prompt_denied"),
        ),
        row("J223", post(&call("tools/call", r#"{"name":"create_x"}"#)), 403, Some("filter.insufficient_scope")),
        row("method", post(&call("logging/setLevel", "{}")), 200, Some("filter.method_denied")),
    ];
    run(&broker, &upstream, rows).await;
}

#[tokio::test]
async fn group_k_lists() {
    let list = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"get_x"},{"name":"delete_x"}]}}"#;
    let visible = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"get_x"}]}}"#;
    let post = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    for (case, status, content_type, passes) in [
        ("K224", 200, Some("application/json"), true),
        ("K224", 200, Some("Application/JSON"), true),
        ("K224", 200, Some("application/json ;charset=utf-8"), true),
        ("K224", 200, Some("text/plain"), false),
        ("K224", 200, None, false),
        ("K225", 201, Some("application/json"), true),
        ("K225", 299, Some("application/json"), true),
        ("K225", 206, Some("application/json"), false),
    ] {
        let upstream = Scripted::start(move |_| {
            let mut answer = json(list);
            *answer.status_mut() = http::StatusCode::from_u16(status).unwrap();
            answer.headers_mut().remove("content-type");
            if let Some(content_type) = content_type {
                answer.headers_mut().insert("content-type", content_type.parse().unwrap());
            }
            answer
        })
        .await;
        let broker = Broker::before(&upstream).policy(Rules::new().allow(tools(["get_*"]))).start().await;
        let answer = broker.call_with(&[], post).await;
        let records = broker.expect_records(1).await;
        if passes {
            assert_eq!((answer.status, answer.text()), (status, visible), "{case} {content_type:?}");
        } else {
            assert_eq!(answer.status, 502, "{case} {content_type:?}");
            assert!(!answer.text().contains("delete_x"), "{case}");
            assert!(
                records.iter().any(|record| record["reason"] == "filter.answer_unreadable"),
                "{case}: {records:#?}"
            );
        }
        broker.done().await;
    }
}
