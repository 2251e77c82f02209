//! `Mcp-Name` and `Mcp-Param-*` (MCP 2026-07-28) of methods that other documents define.

use token_broker_tests::{
    harness::Broker,
    upstream::{ScriptedServer, json},
    wire::RawResponse,
};
use tower_token_broker::scope_filter::{Rules, methods, tools};

use crate::streams::RESULT;

fn message(method: &str, params: &str) -> String {
    let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;
    let params = if params.is_empty() { meta.to_owned() } else { format!("{params},{meta}") };
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}}}}}"#)
}

async fn send(
    broker: &Broker,
    method: &str,
    params: &str,
    more: &[(&str, &str)],
) -> (RawResponse, Option<i64>) {
    let mut fields = vec![("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)];
    fields.extend_from_slice(more);
    let response = broker.call_with(&fields, &message(method, params)).await;
    let code = response.json()["error"]["code"].as_i64();
    (response, code)
}

async fn start() -> (ScriptedServer, Broker) {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let named = ["tasks/get", "tasks/update", "tasks/cancel", "tasks/result", "vendor/do"];
    let rules = Rules::new().allow(methods(named)).allow(tools(["get"]));
    let broker = Broker::in_front_of(&upstream).policy(rules).start().await;
    (upstream, broker)
}

#[tokio::test]
async fn j433_a_task_is_named_by_its_id() {
    let (upstream, broker) = start().await;
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let task = r#""taskId":"t-é""#;
        let named = [("mcp-name", "=?base64?dC3DqQ==?=")];
        let (response, _) = send(&broker, method, task, &named).await;
        assert_eq!(response.status, 200, "J433 {method}: {}", response.text());
        for (params, fields) in [
            (task, &[][..]),
            (task, &[("mcp-name", "t-2")]),
            (task, &[("mcp-name", "T-é")]),
            ("", &[("mcp-name", "t-1")]),
            (r#""taskId":7"#, &[("mcp-name", "7")]),
            (r#""taskId":null"#, &[("mcp-name", "null")]),
            (r#""name":"t-1""#, &[("mcp-name", "t-1")]),
            (r#""taskId":"t-1""#, &[("mcp-name", "t-1"), ("mcp-name", "t-1")]),
        ] {
            let (response, code) = send(&broker, method, params, fields).await;
            assert_eq!((response.status, code), (400, Some(-32020)), "J433 {method} {params}");
        }
        let spelled = r#""taskId":"t-1","task_id":"t-2""#;
        let (response, _) = send(&broker, method, spelled, &[("mcp-name", "t-1")]).await;
        assert_eq!(response.status, 400, "J433 {method}");
    }
    let names: Vec<_> = upstream.received().iter().map(|it| it.values("mcp-name")).collect();
    assert_eq!(names, vec![["=?base64?dC3DqQ==?="]; 3]);
    broker.done().await;
}

#[tokio::test]
async fn j433_a_name_of_an_unknown_method_passes_unjudged() {
    let (upstream, broker) = start().await;
    for method in ["vendor/do", "tasks/result"] {
        for fields in [&[][..], &[("mcp-name", "x")], &[("mcp-name", "=?base64?!?=")]] {
            let (response, _) = send(&broker, method, r#""name":"y""#, fields).await;
            assert_eq!(response.status, 200, "J433 {method} {fields:?}: {}", response.text());
            let received = upstream.received();
            let expected: Vec<&str> = fields.iter().map(|(_, value)| *value).collect();
            assert_eq!(received.last().unwrap().values("mcp-name"), expected, "J433");
        }
        let twice = [("mcp-name", "x"), ("mcp-name", "y")];
        let (response, code) = send(&broker, method, "", &twice).await;
        assert_eq!((response.status, code), (400, Some(-32020)), "J433 {method}");
    }
    let sent = upstream.received().len();
    // A method that no rule names, with and without a name; and one that names nothing.
    for fields in [&[][..], &[("mcp-name", "x")]] {
        for unknown in ["vendor/other", "tools/Call", "tasks/list"] {
            let (response, code) = send(&broker, unknown, r#""name":"x""#, fields).await;
            assert_eq!((response.status, code), (404, Some(-32601)), "J433 {unknown} {fields:?}");
        }
    }
    let (response, code) = send(&broker, "tools/list", "", &[("mcp-name", "x")]).await;
    assert_eq!((response.status, code), (400, Some(-32020)));
    let mut fields = vec![("mcp-protocol-version", "2026-07-28"), ("mcp-method", "vendor/else")];
    fields.push(("mcp-name", "x"));
    let response = broker.call_with(&fields, &message("vendor/do", "")).await;
    assert_eq!(response.json()["error"]["code"], -32020, "another method in the header");
    assert_eq!(upstream.received().len(), sent);
    broker.done().await;
}

#[tokio::test]
async fn j431_a_parameter_is_a_text() {
    let (upstream, broker) = start().await;
    let call = async |value: &str| {
        let fields = [("mcp-name", "get"), ("mcp-param-region", value)];
        send(&broker, "tools/call", r#""name":"get""#, &fields).await
    };
    for passed in ["eu", "=?base64?w6k=?=", "=?base64??=", ""] {
        assert_eq!(call(passed).await.0.status, 200, "J431 {passed}");
    }
    for refused in ["=?base64?/w==?=", "=?base64?wyg=?=", "=?base64?7aCA?=", "=?base64?!?="] {
        let (response, code) = call(refused).await;
        assert_eq!((response.status, code), (400, Some(-32020)), "J431 {refused}");
    }
    assert_eq!(upstream.received().len(), 4);
    broker.done().await;
}
