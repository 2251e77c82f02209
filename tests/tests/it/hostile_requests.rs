//! Hostile HTTP requests: raw bytes through the whole stack. Each case asserts status, reason,
//! upstream calls and records.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::Router;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use token_broker_tests::{
    harness::{Broker, CALL, ISSUER, proxy, serve},
    upstream::{Received, ScriptedBody, ScriptedServer, events, frames, json},
    wire,
};
use tower_token_broker::scope_filter::{Rules, prompts, resources, tools};

use crate::hostile_case::{Case, run};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;
/// The response for a tool, resource or prompt that the client may not use, whether it exists or
/// not.
const UNKNOWN: &str = concat!(
    r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"#,
    r#""message":"unknown tool, resource or prompt"}}"#
);

#[tokio::test]
async fn group_a_presenting_the_token() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let broker = Broker::in_front_of(&upstream).start().await;
    let token = broker.token("items:read");
    let bearer = format!("Bearer {token}");
    let host = broker.host().to_owned();
    let at = |path: &str, host: &str, fields: &[(&str, &str)]| wire::post(path, host, fields, CALL);
    let with = |value: &str| at("/mcp", &host, &[("authorization", value)]);
    let beside =
        |name: &str, value: &str| at("/mcp", &host, &[("authorization", &bearer), (name, value)]);
    let alone = |name: &str, value: &str| at("/mcp", &host, &[(name, value)]);
    let basic = format!("Basic {}", STANDARD.encode(format!("user:{token}")));
    // RFC 6750 §3.1: without usable credentials the challenge has no error.
    let metadata_challenge =
        format!("Bearer resource_metadata=\"{}\"", broker.resource().metadata_url());
    let malformed = format!(
        "Bearer error=\"invalid_request\", \
         error_description=\"send one Authorization field with one Bearer token\", \
         resource_metadata=\"{}\"",
        broker.resource().metadata_url()
    );
    let knock = |case, bytes, reason| {
        Case::refused(case, bytes, 401, reason).challenge(metadata_challenge.as_str())
    };
    let wrong =
        |case, bytes, reason| Case::refused(case, bytes, 400, reason).challenge(malformed.as_str());
    let in_query = malformed.replace(
        "send one Authorization field with one Bearer token",
        "send the token in the Authorization field only, and none in the query of the URL",
    );
    let two_methods = |case, bytes| {
        Case::refused(case, bytes, 400, "authn.query_and_header").challenge(in_query.as_str())
    };

    let rows = [
        knock("A001", at("/mcp", &host, &[]), "authn.missing"),
        knock("A002", with("Bearer"), "authn.empty"),
        knock("A002", with("Bearer "), "authn.empty"),
        knock("A002", with("Bearer    "), "authn.empty"),
        wrong(
            "A003",
            at("/mcp", &host, &[("authorization", &bearer), ("authorization", "garbage")]),
            "authn.duplicate_header",
        ),
        wrong(
            "A003",
            at("/mcp", &host, &[("authorization", "garbage"), ("Authorization", &bearer)]),
            "authn.duplicate_header",
        ),
        wrong(
            "A003",
            at("/mcp", &host, &[("authorization", &bearer), ("authorization", &bearer)]),
            "authn.duplicate_header",
        ),
        Case::refused_by_server(
            "A006",
            alone("authorization", &format!("Bearer\r\n  {token}")),
            400,
        ),
        Case::refused_by_server(
            "A006",
            alone("authorization", &format!("Bearer\r\n\t{token}")),
            400,
        ),
        Case::passes("A008", with(&format!("bearer {token}"))),
        Case::passes("A008", with(&format!("BEARER {token}"))),
        Case::passes("A008", with(&format!("BeArEr {token}"))),
        wrong("A009", with(&format!("Bearer  {token}")), "authn.malformed"),
        wrong("A009", with(&format!("Bearer\t{token}")), "authn.malformed"),
        wrong("A009", with(&format!("Bearer {token} x")), "authn.malformed"),
        Case::passes("A009", with(&format!("Bearer {token} "))),
        Case::passes("A009", with(&format!("Bearer {token} \t "))),
        knock("A010", with(&basic), "authn.unsupported_scheme"),
        knock("A010", with(&format!("Digest username=\"{token}\"")), "authn.unsupported_scheme"),
        knock("A010", with(&format!("DPoP {token}")), "authn.unsupported_scheme"),
        knock("A010", with(&token), "authn.unsupported_scheme"),
        wrong("A010", with(&format!("Bear\u{e9}r {token}")), "authn.malformed"),
        wrong("A010", with(&format!("Bearer\u{a0}{token}")), "authn.malformed"),
        knock("A011", at(&format!("/mcp?access_token={token}"), &host, &[]), "authn.query_token"),
        two_methods(
            "A011 next to a valid one",
            at(&format!("/mcp?a=b&access_token={token}"), &host, &[("authorization", &bearer)]),
        ),
        two_methods(
            "A011 next to a valid one",
            at("/mcp?Access%5fToken=x", &host, &[("authorization", &bearer)]),
        ),
        knock("A014", alone("cookie", &format!("access_token={token}")), "authn.missing"),
        knock("A014", alone("proxy-authorization", &bearer), "authn.missing"),
        Case::passes(
            "A014 next to a valid one",
            beside("cookie", &format!("access_token={token}")),
        ),
        Case::passes("A014 next to a valid one", beside("proxy-authorization", &bearer)),
        // A019: headers of intermediaries do not determine the broker's origin.
        knock("A019", alone("x-forwarded-host", "evil.example"), "authn.missing"),
        knock("A019", alone("forwarded", "host=evil.example;proto=http"), "authn.missing"),
        Case::passes("A019", beside("x-forwarded-host", "evil.example")),
        Case::refused(
            "A019",
            at("/mcp", "evil.example", &[("authorization", &bearer), ("x-forwarded-host", &host)]),
            421,
            "req.host_not_allowed",
        ),
        Case::refused(
            "A021",
            at("/mcp", "evil.example", &[("authorization", &bearer)]),
            421,
            "req.host_not_allowed",
        ),
        Case::refused(
            "A021",
            at("http://evil.example/mcp", &host, &[("authorization", &bearer)]),
            421,
            "req.host_not_allowed",
        ),
        Case::refused(
            "A022",
            beside("origin", "https://evil.example"),
            403,
            "req.origin_not_allowed",
        ),
        Case::refused("A022", beside("origin", "null"), 403, "req.origin_not_allowed"),
    ];
    run(&broker, &upstream, rows).await;
    // A014, A019: none of these headers were forwarded.
    for request in upstream.received() {
        for gone in ["cookie", "proxy-authorization", "x-forwarded-host", "forwarded"] {
            assert!(request.headers.get(gone).is_none(), "{gone}");
        }
    }
    broker.done().await;
}

#[tokio::test]
async fn a003_two_fields_are_refused_over_http_2() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let broker = Broker::in_front_of(&upstream).start().await;
    let bearer = format!("Bearer {}", broker.token("items:read"));
    let client: Client<_, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    for (requests, values) in
        [(1, [bearer.as_str(), "garbage"]), (2, ["garbage", &bearer]), (3, [&bearer, &bearer])]
    {
        let [first, second] = values;
        let request = Request::post(broker.resource().as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, first)
            .header(header::AUTHORIZATION, second)
            .body(Full::from(CALL))
            .unwrap();
        broker.ledger().sent(1, values.concat().as_bytes());
        let response = client.request(request).await.unwrap();
        assert_eq!(response.version(), http::Version::HTTP_2);
        let response = broker.read(response).await;
        assert_eq!(response.status, 400, "A003");
        let records = broker.expect_records(requests).await;
        assert_eq!(records.last().unwrap()["reason"], "authn.duplicate_header", "A003");
        assert!(upstream.received().is_empty(), "A003");
    }
    broker.done_unsent().await;
}

#[tokio::test]
async fn a019_metadata_ignores_forwarding_headers() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let (listener, stack, broker) = Broker::in_front_of(&upstream).prepare().await;
    let path = "/.well-known/oauth-protected-resource/mcp";
    let router = Router::new().route_service("/mcp", stack.layer(proxy()));
    serve(listener, router.merge(broker.handle().metadata_router()));
    let ask = |fields: &str| {
        let host = broker.host();
        format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{fields}\r\n")
    };
    let plain = wire::send(broker.address(), ask("").as_bytes()).await;
    assert_eq!(plain.status, 200, "A019");
    assert_eq!(plain.json()["resource"], broker.resource().as_str(), "A019");
    assert_eq!(plain.json()["authorization_servers"], serde_json::json!([ISSUER]), "A019");
    for shown in
        ["x-forwarded-host: evil.example\r\n", "forwarded: host=evil.example;proto=http\r\n"]
    {
        let response = wire::send(broker.address(), ask(shown).as_bytes()).await;
        assert_eq!((response.status, response.text()), (200, plain.text()), "A019");
    }
    broker.done_unsent().await;
}

#[tokio::test]
async fn group_j_messages() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let broker = Broker::in_front_of(&upstream).policy(rules()).start().await;
    let sender = Sender::of(&broker);
    let with = |fields: &[(&str, &str)], body: &str| sender.with(fields, body);
    let post = |body: &str| sender.with(&[], body);
    let call = |method: &str, params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#)
    };
    let ping = call("ping", "{}");
    let get = |arguments: &str| {
        call("tools/call", &format!(r#"{{"name":"get_x","arguments":{arguments}}}"#))
    };
    // Message, parameters and arguments are three levels.
    let deep = |levels: usize| {
        get(&format!(r#"{{"a":{}{}}}"#, "[".repeat(levels - 3), "]".repeat(levels - 3)))
    };
    let exact = get(r#"{"n":1e999,"m":-0,"big":9007199254740993,"long":1"#.to_owned().as_str());
    let exact = exact.replace("\"long\":1", &format!("\"long\":1{}}}", "0".repeat(400)));
    let with_id = |id: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
    let utf_16 = |little: bool| {
        ping.encode_utf16()
            .flat_map(|unit| if little { unit.to_le_bytes() } else { unit.to_be_bytes() })
            .collect::<Vec<u8>>()
    };
    let denied_with = |id: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"delete_x"}}}}"#
        )
    };

    let rows = [
        Case::refused(
            "J194",
            post(&call("tools/call", r#"{"name":"delete_x"}"#)),
            200,
            "filter.tool_denied",
        )
        .body(UNKNOWN),
        Case::refused(
            "J194 there is none",
            post(&call("tools/call", r#"{"name":"no_such"}"#)),
            200,
            "filter.tool_denied",
        )
        .body(UNKNOWN),
        Case::refused(
            "J195",
            post(&call("tools/call", r#"{"name":"hidden"}"#)),
            200,
            "filter.tool_denied",
        )
        .body(UNKNOWN),
        Case::refused(
            "J196",
            post(concat!(
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","#,
                r#""method":"tools/list"}"#
            )),
            400,
            "filter.duplicate_member",
        ),
        Case::refused(
            "J196",
            post(concat!(
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","#,
                r#""method":"tools/call"}"#
            )),
            400,
            "filter.duplicate_member",
        ),
        Case::refused(
            "J196",
            post(r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#),
            400,
            "filter.duplicate_member",
        ),
        Case::refused(
            "J196",
            post(concat!(
                r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{},"#,
                r#""params":{"a":1}}"#
            )),
            400,
            "filter.duplicate_member",
        ),
        Case::refused(
            "J196",
            post(&call("tools/call", r#"{"name":"get_x","name":"delete_x"}"#)),
            400,
            "filter.duplicate_member",
        ),
        Case::refused(
            "J196",
            post(&call("tools/call", r#"{"name":"get_x","arguments":{},"arguments":{"a":1}}"#)),
            400,
            "filter.duplicate_member",
        ),
        Case::refused(
            "J196",
            post(&get(r#"{"a":[{"b":{"c":1,"\u0063":2}}]}"#)),
            400,
            "filter.duplicate_member",
        ),
        Case::refused(
            "J197",
            post(r#"{"jsonrpc":"2.0","id":1,"\u006dethod":"ping","method":"ping"}"#),
            400,
            "filter.duplicate_member",
        ),
        Case::refused(
            "J197",
            post(r#"{"jsonrpc":"2.0","id":1,"METHOD":"tools/call","method":"ping"}"#),
            400,
            "filter.case_variant",
        ),
        Case::refused(
            "J197",
            post(r#"{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}"#),
            400,
            "filter.case_variant",
        ),
        Case::refused("J199", post(&call("tools/call", "[]")), 400, "filter.not_a_message"),
        Case::refused(
            "J199",
            post(&call("tools/call", r#"{"name":null}"#)),
            400,
            "filter.not_a_message",
        ),
        Case::refused(
            "J199",
            post(&call("tools/call", r#"{"name":["get_x"]}"#)),
            400,
            "filter.not_a_message",
        ),
        Case::refused(
            "J199",
            post(&call("tools/call", r#"{"name":{"a":"get_x"}}"#)),
            400,
            "filter.not_a_message",
        ),
        Case::refused(
            "J199",
            post(&call("tools/call", r#"{"name":7}"#)),
            400,
            "filter.not_a_message",
        ),
        Case::refused(
            "J199",
            post(&call("tools/call", r#"{"name":"get_x","arguments":[]}"#)),
            400,
            "filter.not_a_message",
        ),
        Case::refused("J200", post(&format!("[{ping}]")), 400, "filter.batch"),
        Case::refused(
            "J200",
            post(&format!("[{},{}]", get("{}"), call("tools/call", r#"{"name":"delete_x"}"#))),
            400,
            "filter.batch",
        ),
        Case::refused("J200", post(&format!("[[{ping}]]")), 400, "filter.batch"),
        Case::refused("J200", post("[]"), 400, "filter.batch"),
        Case::refused(
            "J200",
            post(&format!("[{ping}{}]", format!(",{ping}").repeat(10_000))),
            400,
            "filter.batch",
        ),
        Case::refused(
            "J201 a byte order mark",
            post(&format!("\u{feff}{ping}")),
            400,
            "filter.not_json",
        ),
        Case::refused("J201 UTF-16LE", sender.bytes(&utf_16(true)), 400, "filter.not_json"),
        Case::refused(
            "J201 UTF-16BE",
            sender.bytes(&[b"\xfe\xff".as_slice(), &utf_16(false)].concat()),
            400,
            "filter.not_json",
        ),
        Case::refused(
            "J201",
            with(&[("content-type", "application/json; charset=utf-7")], &ping),
            415,
            "filter.media_type",
        ),
        Case::refused(
            "J201 no UTF-8",
            sender.bytes(
                &get("{\"a\":\"?\"}")
                    .into_bytes()
                    .iter()
                    .map(|byte| if *byte == b'?' { 0xff } else { *byte })
                    .collect::<Vec<_>>(),
            ),
            400,
            "filter.not_json",
        ),
        Case::refused("J201 a leading NUL", post(&format!("\0{ping}")), 400, "filter.not_json"),
        Case::refused("J201", post(&format!("{ping}{ping}")), 400, "filter.not_json"),
        Case::refused("J201", post("{\"jsonrpc\":\"2.0\",}"), 400, "filter.not_json"),
        Case::refused("J201", post("{\"jsonrpc\":NaN}"), 400, "filter.not_json"),
        Case::refused("J201 a comment", post(&format!("{ping}// {{}}")), 400, "filter.not_json"),
        Case::refused(
            "J201 a comment",
            post(&ping.replacen('{', "{/* */", 1)),
            400,
            "filter.not_json",
        ),
        Case::refused("J201 single quotes", post(&ping.replace('"', "'")), 400, "filter.not_json"),
        Case::passes("J203", post(&deep(128))).sent_on(deep(128)),
        Case::refused("J203", post(&deep(129)), 400, "filter.too_deep"),
        Case::refused("J203", post(&"[".repeat(100_000)), 400, "filter.too_deep"),
        Case::passes("J204", post(&exact)).sent_on(exact.clone()),
        Case::passes("J204", post(&with_id("9007199254740993")))
            .sent_on(with_id("9007199254740993")),
        Case::passes("J204", post(&with_id("-0"))).sent_on(with_id("-0")),
        Case::refused("J204", post(&with_id("1e999")), 400, "filter.not_a_message"),
        Case::refused(
            "J204 echoed",
            post(&denied_with("9007199254740993")),
            200,
            "filter.tool_denied",
        )
        .body(UNKNOWN.replace("\"id\":1", "\"id\":9007199254740993")),
        Case::refused(
            "J204 echoed",
            post(&denied_with(r#""\u0061/\/""#)),
            200,
            "filter.tool_denied",
        )
        .body(UNKNOWN.replace("\"id\":1", r#""id":"\u0061/\/""#)),
        Case::refused("J205", post(&with_id("{}")), 400, "filter.not_a_message"),
        Case::refused("J205", post(&with_id("null")), 400, "filter.not_a_message"),
        Case::refused("J205", post(&with_id("1.5")), 400, "filter.not_a_message"),
        Case::refused(
            "J205",
            post(&with_id(&format!("\"{}\"", "x".repeat(5000)))),
            400,
            "filter.member_too_large",
        ),
        Case::refused(
            "J205",
            post(&with_id(&format!("\"{}\"", "x".repeat(1 << 20)))),
            413,
            "filter.body_too_large",
        ),
        // A notification has no response that could carry an error.
        Case::passes(
            "J205 missing",
            post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#),
        )
        .status(202),
        Case::refused(
            "J205 missing",
            post(concat!(
                r#"{"jsonrpc":"2.0","method":"tools/call","#,
                r#""params":{"name":"delete_x"}}"#
            )),
            403,
            "filter.tool_denied",
        ),
        Case::refused(
            "J209",
            with(&[("mcp-name", "get_x")], &call("tools/call", r#"{"name":"delete_x"}"#)),
            200,
            "filter.tool_denied",
        )
        .body(UNKNOWN),
        Case::refused(
            "J209",
            with(
                &[
                    ("mcp-name", "get_x"),
                    ("mcp-method", "tools/list"),
                    ("mcp-protocol-version", "2025-11-25"),
                ],
                &call("tools/call", r#"{"name":"delete_x"}"#),
            ),
            200,
            "filter.tool_denied",
        )
        .body(UNKNOWN),
        Case::refused(
            "J209",
            with(&[("mcp-protocol-version", "2024-11-05")], &ping),
            400,
            "filter.unsupported_version",
        ),
        Case::refused(
            "J209",
            with(
                &[
                    ("mcp-name", "get_x"),
                    ("mcp-method", "tools/call"),
                    ("mcp-protocol-version", "2026-07-28"),
                ],
                &call(
                    "tools/call",
                    concat!(
                        r#"{"name":"delete_x","#,
                        r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}"#
                    ),
                ),
            ),
            400,
            "filter.header_mismatch",
        ),
        Case::refused(
            "J209 no version",
            with(
                &[
                    ("mcp-name", "get_x"),
                    ("mcp-method", "tools/call"),
                    ("mcp-protocol-version", "2026-07-28"),
                ],
                &call("tools/call", r#"{"name":"get_x"}"#),
            ),
            400,
            "filter.no_version",
        ),
        Case::refused(
            "J211",
            with(&[("content-encoding", "gzip")], &ping),
            415,
            "filter.content_encoding",
        ),
        Case::refused(
            "J211",
            with(&[("content-encoding", "deflate")], &ping),
            415,
            "filter.content_encoding",
        ),
        Case::refused(
            "J211",
            with(&[("content-encoding", "gzip, gzip")], &ping),
            415,
            "filter.content_encoding",
        ),
        Case::refused(
            "J211",
            with(&[("content-encoding", "identity"), ("content-encoding", "gzip")], &ping),
            415,
            "filter.content_encoding",
        ),
        Case::refused(
            "J211",
            with(&[("content-encoding", "x-none")], &ping),
            415,
            "filter.content_encoding",
        ),
        Case::refused(
            "J212",
            with(&[("content-type", "text/plain")], &ping),
            415,
            "filter.media_type",
        ),
        Case::refused(
            "J212",
            with(&[("content-type", "application/json-seq")], &ping),
            415,
            "filter.media_type",
        ),
        Case::refused(
            "J212",
            with(&[("content-type", "multipart/form-data; boundary=a")], &ping),
            415,
            "filter.media_type",
        ),
        Case::refused(
            "J212",
            with(&[("content-type", "application/json"), ("content-type", "text/plain")], &ping),
            415,
            "filter.media_type",
        ),
        Case::refused("J212 missing", sender.without_type(&ping), 415, "filter.media_type"),
        Case::passes("J212", with(&[("content-type", "application/JSON; charset=UTF-8")], &ping)),
        Case::passes("J215", post(&of_length(1 << 20))).sent_on(of_length(1 << 20)),
        Case::refused("J215", post(&of_length((1 << 20) + 1)), 413, "filter.body_too_large"),
        Case::passes("J215", sender.chunked(&of_length(1 << 20))).sent_on(of_length(1 << 20)),
        Case::refused(
            "J215",
            sender.chunked(&of_length((1 << 20) + 1)),
            413,
            "filter.body_too_large",
        ),
        Case::refused("J216", sender.by("PUT", &[], &ping), 405, "filter.http_method"),
        Case::refused("J216", sender.by("HEAD", &[], ""), 405, "filter.http_method"),
        Case::refused("J216", sender.by("OPTIONS", &[], ""), 405, "filter.http_method"),
        Case::refused("J216", sender.by("PATCH", &[], &ping), 405, "filter.http_method"),
        Case::refused(
            "J216",
            sender.by("PUT", &[("x-http-method-override", "POST")], &ping),
            405,
            "filter.http_method",
        ),
        Case::passes("J216", sender.by("GET", &[("x-http-method-override", "DELETE")], "")),
        Case::passes("J216", sender.by("DELETE", &[], "")),
        Case::refused(
            "J216",
            sender.by("GET", &[("mcp-protocol-version", "2026-07-28")], ""),
            405,
            "filter.http_method",
        ),
        Case::passes("J216", with(&[("x-http-method-override", "DELETE")], &ping))
            .sent_on(ping.clone()),
        Case::refused(
            "J217",
            post(&call("resources/read", r#"{"uri":"file:///etc/passwd"}"#)),
            200,
            "filter.resource_denied",
        )
        .body(UNKNOWN),
        Case::refused(
            "J217",
            post(&call("resources/read", r#"{"uri":"FILE:///etc/passwd"}"#)),
            200,
            "filter.resource_denied",
        )
        .body(UNKNOWN),
        Case::refused(
            "J217",
            post(&call("resources/read", r#"{"uri":"http://169.254.169.254/latest"}"#)),
            200,
            "filter.resource_denied",
        )
        .body(UNKNOWN),
        Case::refused(
            "J217",
            post(&call("resources/subscribe", r#"{"uri":"file:///etc/passwd"}"#)),
            200,
            "filter.resource_denied",
        )
        .body(UNKNOWN),
        Case::refused(
            "J217",
            post(&call("prompts/get", r#"{"name":"secret"}"#)),
            200,
            "filter.prompt_denied",
        )
        .body(UNKNOWN),
        Case::refused(
            "J217",
            post(&call("completion/complete", r#"{"ref":{"type":"ref/prompt","name":"secret"}}"#)),
            200,
            "filter.prompt_denied",
        )
        .body(UNKNOWN),
        Case::refused(
            "J217",
            post(&call(
                "completion/complete",
                r#"{"ref":{"type":"ref/resource","uri":"file:///etc/passwd"}}"#,
            )),
            200,
            "filter.resource_denied",
        )
        .body(UNKNOWN),
        Case::refused(
            "J223",
            post(&call("tools/call", r#"{"name":"create_x"}"#)),
            403,
            "filter.insufficient_scope",
        )
        .challenge(format!(
            "Bearer error=\"insufficient_scope\", \
             error_description=\"the token lacks a scope that this operation needs\", \
             scope=\"items:read items:write\", resource_metadata=\"{}\"",
            broker.resource().metadata_url()
        )),
        Case::refused("method", post(&call("logging/setLevel", "{}")), 200, "filter.method_denied"),
    ];
    run(&broker, &upstream, rows).await;
    // J216: the forwarded request has the method of its own request line.
    for request in upstream.received() {
        assert!(request.headers.get("x-http-method-override").is_none());
        assert_eq!(request.method == http::Method::POST, !request.body.is_empty(), "{request:?}");
    }
    // J205: the same id twice in flight is two calls.
    let twice = post(&ping);
    let (one, other) = tokio::join!(broker.send(&twice), broker.send(&twice));
    assert_eq!((one.text(), other.text()), (RESULT, RESULT), "J205");
    broker.done().await;
}

fn rules() -> Rules {
    Rules::new()
        .allow(tools(["get_*"]))
        .allow(tools(["create_*"]).with_scope("items:write items:read"))
        .allow(resources(["items://*"]))
        .allow(prompts(["greet"]))
}

/// Returns a call with a total number of bytes.
fn of_length(bytes: usize) -> String {
    let around = concat!(
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","#,
        r#""params":{"name":"get_x","arguments":{"a":""}}}"#
    );
    around.replace("\"\"", &format!("\"{}\"", "x".repeat(bytes - around.len())))
}

/// Builds requests with a valid token, byte for byte.
struct Sender {
    host: String,
    bearer: String,
}

impl Sender {
    fn of(broker: &Broker) -> Self {
        Self {
            host: broker.host().to_owned(),
            bearer: format!("Bearer {}", broker.token("items:read")),
        }
    }

    /// Returns a POST with additional fields.
    fn with(&self, fields: &[(&str, &str)], body: &str) -> Vec<u8> {
        let all = [&[("authorization", self.bearer.as_str())], fields].concat();
        wire::post("/mcp", &self.host, &all, body)
    }

    /// Returns a POST with a binary body.
    fn bytes(&self, body: &[u8]) -> Vec<u8> {
        let mut request = self.with(&[("content-length", &body.len().to_string())], "");
        request.extend_from_slice(body);
        request
    }

    /// Returns a POST without `Content-Length`, in chunks of 64 KiB.
    fn chunked(&self, body: &str) -> Vec<u8> {
        let mut request = self.with(&[("transfer-encoding", "chunked")], "");
        for chunk in body.as_bytes().chunks(1 << 16) {
            request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            request.extend_from_slice(chunk);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"0\r\n\r\n");
        request
    }

    fn without_type(&self, body: &str) -> Vec<u8> {
        let request = String::from_utf8(self.with(&[], body)).unwrap();
        request.replace("content-type: application/json\r\n", "").into_bytes()
    }

    /// Returns a request with another method.
    fn by(&self, method: &str, fields: &[(&str, &str)], body: &str) -> Vec<u8> {
        let request = String::from_utf8(self.with(fields, body)).unwrap();
        request.replacen("POST", method, 1).into_bytes()
    }
}

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
const ALL: &str =
    r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"get_x"},{"name":"delete_x"}]}}"#;
const VISIBLE: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"get_x"}]}}"#;

/// Sends `tools/list` to a broker whose upstream responds with `response`, and runs the case.
async fn filter_list<F>(response: F, row: impl FnOnce(Vec<u8>) -> Case) -> wire::RawResponse
where
    F: Fn(&Received) -> http::Response<ScriptedBody> + Send + Sync + 'static,
{
    let upstream = ScriptedServer::start(response).await;
    let broker = Broker::in_front_of(&upstream).policy(rules()).start().await;
    let mut responses = run(&broker, &upstream, [row(Sender::of(&broker).with(&[], LIST))]).await;
    broker.done().await;
    responses.remove(0)
}

#[tokio::test]
async fn k224_k225_lists_are_filtered_or_refused() {
    for (case, status, content_type, passes) in [
        ("K224", 200, Some("application/json"), true),
        ("K224", 200, Some("Application/JSON"), true),
        ("K224", 200, Some("application/json ;charset=utf-8"), true),
        ("K224", 200, Some("text/plain"), false),
        ("K224", 200, Some("application/json-seq"), false),
        ("K224", 200, None, false),
        ("K225", 201, Some("application/json"), true),
        ("K225", 203, Some("application/json"), true),
        ("K225", 299, Some("application/json"), true),
        ("K225", 206, Some("application/json"), false),
    ] {
        let response = move |_: &Received| {
            let mut response = json(ALL);
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response.headers_mut().remove("content-type");
            if let Some(content_type) = content_type {
                response.headers_mut().insert("content-type", content_type.parse().unwrap());
            }
            response
        };
        let response = filter_list(response, |bytes| {
            if passes {
                Case::passes(case, bytes).status(status).body(VISIBLE)
            } else {
                Case::fails(case, bytes, 502, "filter.response_unreadable")
            }
        })
        .await;
        assert!(!response.text().contains("delete_x"), "{case} {status} {content_type:?}");
    }
}

/// The error that replaces an event over the limit.
const TOO_LONG: &str = "data: {\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32603,\
                        \"message\":\"an event of the server was too long\"}}\n\n";

#[tokio::test]
async fn k228_excessive_events_end_the_stream() {
    let limit = 16 << 20;
    let longer = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"a":"{}"}}}}"#, "x".repeat(limit));
    filter_list(
        move |_| events(&[ALL, &longer, ALL]),
        |bytes| {
            Case::fails("K228", bytes, 200, "filter.response_unreadable")
                .body(format!("data: {VISIBLE}\n\n{TOO_LONG}"))
        },
    )
    .await;
    let made = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&made);
    let endless = move |_: &Received| {
        let counted = Arc::clone(&counted);
        let chunks = std::iter::repeat_with(move || {
            counted.fetch_add(1 << 16, Ordering::SeqCst);
            "x".repeat(1 << 16)
        });
        let body = StreamBody::new(frames(std::iter::once("data: ".to_owned()).chain(chunks)))
            .boxed_unsync();
        http::Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
    };
    filter_list(endless, |bytes| {
        let with_id = TOO_LONG.replace(r#","error""#, r#","id":1,"error""#);
        Case::fails("K228 no end", bytes, 200, "filter.response_unreadable").body(with_id)
    })
    .await;
    // Data in flight when the limit is reached is lost in socket buffers: a few MiB.
    assert!(made.load(Ordering::SeqCst) < 2 * limit, "K228: {}", made.load(Ordering::SeqCst));
}

#[tokio::test]
async fn k230_unreadable_events_are_removed() {
    for (case, broken) in [
        ("K230 no JSON", "{\"result\":{\"tools\":[{\"name\":\"delete_x\"}]"),
        (
            "K230 a doubled member",
            "{\"result\":{},\"result\":{\"tools\":[{\"name\":\"delete_x\"}]}}",
        ),
        ("K230 another case", "{\"Result\":{\"tools\":[{\"name\":\"delete_x\"}]}}"),
    ] {
        filter_list(
            move |_| events(&[broken, ALL]),
            |bytes| {
                Case::fails(case, bytes, 200, "filter.response_unreadable")
                    .body(format!(": withheld\n\ndata: {VISIBLE}\n\n"))
            },
        )
        .await;
    }
    // Before the list: bytes that are not UTF-8, and byte order marks, one of which a client
    // removes at the start of a stream.
    for (case, before) in [
        ("K230 no UTF-8", b"data: {\"a\":\"\xff\xfe\"}\n\n".as_slice()),
        ("K230 two marks", b"\xef\xbb\xbf\xef\xbb\xbf"),
        ("K230 a mark after a removed event", b"data: {\n\n\xef\xbb\xbf"),
    ] {
        filter_list(
            move |_| {
                let bytes = [before, b"data: ", ALL.as_bytes(), b"\n\n"].concat();
                let body = Full::new(Bytes::from(bytes)).boxed_unsync();
                http::Response::builder()
                    .header("content-type", "text/event-stream")
                    .body(body)
                    .unwrap()
            },
            |bytes| {
                if case == "K230 two marks" {
                    return Case::passes(case, bytes).body(format!("data: {VISIBLE}\n\n"));
                }
                Case::fails(case, bytes, 200, "filter.response_unreadable")
                    .body(format!(": withheld\n\ndata: {VISIBLE}\n\n"))
            },
        )
        .await;
    }
}

#[tokio::test]
async fn k232_only_visible_notifications_pass() {
    let updated = |uri: &str| {
        format!(
            "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/updated\",\
             \"params\":{{\"uri\":\"{uri}\"}}}}"
        )
    };
    let (hidden, visible) = (updated("file:///etc/passwd"), updated("items://7"));
    // It names no resource, so it reveals nothing.
    let changed = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
    let expected = format!("data: {visible}\n\ndata: {changed}\n\ndata: {VISIBLE}\n\n");
    let shown = visible.clone();
    let response = filter_list(
        move |_| events(&[&hidden, &shown, changed, ALL]),
        |bytes| Case::passes("K232", bytes).body(expected),
    )
    .await;
    assert!(!response.text().contains("passwd"), "K232");
}
