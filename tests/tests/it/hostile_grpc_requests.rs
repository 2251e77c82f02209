//! Hostile gRPC requests: HTTP/2 through a mounted stack. Each case asserts status, reason,
//! upstream calls and records.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use http::Response;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::Value;
use token_broker_tests::{
    grpc::{
        FRAMED, Reply, TYPED, call, client, field, flagged, frame, framed, json_of, response,
        status, typed_call,
    },
    harness::{Broker, SECRET, base64url},
    marker_scan::Scan,
    upstream::{Received, ScriptedBody, ScriptedServer},
};
use tower_token_broker::scope_filter::{Rules, grpc, resources, tools};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;
const OK: (&str, &str) = ("grpc-status", "0");
const ORDERS: &str = "/shop.v1.Orders";

fn rules() -> Rules {
    Rules::new()
        .allow(tools(["get_*"]))
        .allow(tools(["create_*"]).with_scope("items:read items:write"))
        .allow(grpc("shop.v1.Orders", ["Get*", "Watch*"]))
        .allow(grpc("shop.v1.Stock", ["Set*"]).with_scope("stock:write"))
}

fn usual(request: &Received) -> Response<ScriptedBody> {
    let list = field(2, [field(1, "get_item"), field(2, "gets")].concat());
    let hidden = field(2, field(1, "delete_item"));
    match request.target.as_str() {
        "/model_context_protocol.Mcp/ListTools" => {
            response([frame(&[list, hidden, vec![0x20, 1]].concat())], &[OK])
        }
        target if target.starts_with(FRAMED) => response([framed(RESULT)], &[OK]),
        _ => response([frame(b"\x0a\x02hi")], &[OK]),
    }
}

async fn broker() -> (ScriptedServer, Broker) {
    let upstream = ScriptedServer::start(usual).await;
    let broker = Broker::in_front_of(&upstream).grpc().policy(rules()).start().await;
    (upstream, broker)
}

/// Returns the reasons of the terminal records, in order.
async fn reasons(broker: &Broker, requests: u64) -> Vec<Value> {
    let records = broker.expect_records(requests).await;
    let results = records.iter().filter(|record| record["count"].is_u64());
    results.map(|record| record["reason"].clone()).collect()
}

/// Returns everything that a client can compare, without the parts that identify the request.
fn without_ids(reply: &Reply) -> String {
    let id = reply.field("x-request-id").expect("an id").to_owned();
    assert_eq!(reply.info("request_id"), Some(id.clone()));
    let mut text = String::from_utf8_lossy(&reply.everything()).replace(&id, "ID");
    let details = reply.field("grpc-status-details-bin").expect("details").to_owned();
    text = text.replace(&details, "DETAILS");
    text.lines().filter(|line| !line.starts_with("date: ")).collect::<Vec<_>>().join("\n")
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn l235_the_credential_is_one_metadata_entry() {
    let (upstream, broker) = broker().await;
    let token = broker.token("items:read");
    let bearer = format!("Bearer {token}");
    let twice = [("authorization", bearer.as_str()), ("authorization", bearer.as_str())];
    let refused = broker.call_in_frame(&twice, "get_item").await;
    assert_eq!((refused.http, refused.status()), (200, Some(16)));
    assert_eq!(upstream.received().len(), 0);

    // Similar metadata next to a valid token is removed; without a valid token it does not count.
    let binary = base64url(bearer.as_bytes());
    let others =
        [("authorization-bin", binary.as_str()), ("grpc-metadata-authorization", bearer.as_str())];
    let passed = broker.call_in_frame(&others, "get_item").await;
    assert_eq!(passed.status(), Some(0), "{passed:?}");
    let received = &upstream.received()[0];
    assert_eq!(received.values("authorization"), [format!("Bearer {SECRET}")]);
    for name in ["authorization-bin", "grpc-metadata-authorization"] {
        assert!(received.values(name).is_empty(), "{name}");
    }
    let alone =
        broker.call_in_frame(&[&others[..], &[("authorization", "-")]].concat(), "get_item").await;
    assert_eq!(alone.status(), Some(16));
    assert_eq!(upstream.received().len(), 1);
    let missing = Value::from("authn.missing");
    assert_eq!(reasons(&broker, 3).await, ["authn.duplicate_header".into(), Value::Null, missing]);
    broker.done().await;
}

#[tokio::test]
async fn l236_a_bad_token_is_a_status_without_body() {
    let (upstream, broker) = broker().await;
    let mut text = Vec::new();
    let elsewhere = Broker::in_front_of(&upstream).grpc().start().await;
    let other = elsewhere.token("items:read");
    broker.ledger().token(&other);
    for authorization in
        ["-", "Bearer", "Bearer garbage", &format!("Bearer {other}"), "Bearer e30.e30.e30"]
    {
        let refused = broker.call_in_frame(&[("authorization", authorization)], "get_item").await;
        assert_eq!(
            (refused.http, refused.status(), refused.body.len()),
            (200, Some(16), 0),
            "{authorization}"
        );
        assert_eq!(refused.field("content-type"), Some("application/grpc"));
        assert_eq!(refused.field("cache-control"), Some("no-store"));
        assert_eq!(
            refused.info("resource_metadata").as_deref(),
            Some(broker.resource().metadata_url())
        );
        assert!(refused.trailers.is_empty(), "a trailers-only response");
        text.push(without_ids(&refused));
    }
    assert_eq!(text[0], text[1], "no token");
    assert!(
        text[2] == text[3] && text[3] == text[4],
        "the same response to all invalid tokens: {text:#?}"
    );
    assert_eq!(upstream.received().len(), 0);
    let reasons = reasons(&broker, 5).await;
    assert_eq!(reasons[0], "authn.missing");
    assert!(
        reasons[2..].iter().all(|reason| reason.as_str().unwrap().starts_with("jwt.")),
        "{reasons:?}"
    );
    elsewhere.done_unsent().await;
    broker.done_unsent().await;
}

#[tokio::test]
async fn l237_denied_and_unknown_methods_look_alike() {
    let (upstream, broker) = broker().await;
    let mut text = Vec::new();
    for tool in ["delete_item", "no_such_tool"] {
        let in_frame = broker.call_in_frame(&[], tool).await;
        let typed = broker.rpc(&format!("{TYPED}/CallTool"), &[], typed_call(tool)).await;
        for refused in [in_frame, typed] {
            assert_eq!(
                (refused.status(), refused.field("mcp-error-code")),
                (Some(7), Some("-32602"))
            );
            assert!(!String::from_utf8_lossy(&refused.everything()).contains(tool));
            text.push(without_ids(&refused));
        }
    }
    assert!(text.iter().all(|one| *one == text[0]), "{text:#?}");

    let needs = broker.call_in_frame(&[], "create_item").await;
    assert_eq!((needs.status(), needs.reason().as_deref()), (Some(7), Some("INSUFFICIENT_SCOPE")));
    assert_eq!(needs.info("scope").as_deref(), Some("items:read items:write"));
    let needs = broker.rpc("/shop.v1.Stock/SetLevel", &[], frame(b"")).await;
    assert_eq!((needs.status(), needs.info("scope").as_deref()), (Some(7), Some("stock:write")));

    for path in [
        "/shop.v1.Orders/Delete",
        "/shop.v1.Other/Get",
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ] {
        let refused = broker.rpc(path, &[], frame(b"")).await;
        assert_eq!(
            (refused.status(), refused.reason().as_deref()),
            (Some(7), Some("FORBIDDEN")),
            "{path}"
        );
    }
    for path in [format!("{FRAMED}/Session"), format!("{TYPED}/WatchTools")] {
        let refused = broker.rpc(&path, &[], frame(b"")).await;
        assert_eq!(
            (refused.status(), refused.field("mcp-error-code")),
            (Some(12), Some("-32601")),
            "{path}"
        );
    }
    assert_eq!(upstream.received().len(), 0);
    let reasons = reasons(&broker, 12).await;
    assert_eq!(reasons.iter().filter(|reason| *reason == "filter.tool_denied").count(), 4);
    assert_eq!(reasons.iter().filter(|reason| *reason == "filter.rpc_denied").count(), 4);
    assert_eq!(reasons.iter().filter(|reason| *reason == "filter.insufficient_scope").count(), 2);
    assert_eq!(reasons.iter().filter(|reason| *reason == "filter.method_denied").count(), 2);
    broker.done_unsent().await;
}

#[tokio::test]
async fn l239_a_judged_method_takes_exactly_one_message() {
    let (upstream, broker) = broker().await;
    let typed = format!("{TYPED}/CallTool");
    let in_frame = format!("{FRAMED}/Call");
    let metadata = [
        ("mcp-protocol-version", "2025-11-25"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "get_item"),
    ];
    let (one, call) = (typed_call("get_item"), framed(&call("get_item")));
    for (what, path, body, reason) in [
        ("none", &typed, vec![], "filter.not_one_message"),
        ("two", &typed, [&one[..], &one].concat(), "filter.not_one_message"),
        (
            "an allowed one and a denied one",
            &typed,
            [one.clone(), typed_call("delete")].concat(),
            "filter.not_one_message",
        ),
        ("none", &in_frame, vec![], "filter.not_one_message"),
        ("two", &in_frame, [&call[..], &call].concat(), "filter.not_one_message"),
        ("one and a half", &in_frame, [&call[..], &call[..9]].concat(), "filter.body_incomplete"),
        ("half", &in_frame, call[..9].to_vec(), "filter.body_incomplete"),
        ("half a head", &in_frame, call[..3].to_vec(), "filter.body_incomplete"),
        ("a flag of 2", &in_frame, flagged(2, b"x"), "filter.not_a_frame"),
        (
            "two fields",
            &in_frame,
            frame(&[field(1, "{}"), field(1, "{}")].concat()),
            "filter.duplicate_member",
        ),
        (
            "another field",
            &in_frame,
            frame(&[field(1, "{}"), field(2, "{}")].concat()),
            "filter.not_protobuf",
        ),
        ("an empty frame", &in_frame, frame(b""), "filter.not_protobuf"),
        ("a batch", &in_frame, framed("[]"), "filter.batch"),
        ("no JSON", &in_frame, framed("{"), "filter.not_json"),
        (
            "two requests in one",
            &typed,
            frame(&[&one[5..], &one[5..]].concat()),
            "filter.duplicate_member",
        ),
    ] {
        let refused = broker.rpc(path, if *path == in_frame { &metadata } else { &[] }, body).await;
        assert_eq!((refused.status(), refused.body.len()), (Some(3), 0), "{what} {path}");
        let records = broker.records().await;
        assert_eq!(records.last().unwrap()["reason"], reason, "{what} {path}");
    }
    assert_eq!(upstream.received().len(), 0);

    // For a method that is judged by name, the number of messages is unknown: they pass byte for
    // byte.
    for body in [vec![], [frame(b"\x08\x01"), frame(b"")].concat()] {
        let passed = broker.rpc(&format!("{ORDERS}/GetAll"), &[], body.clone()).await;
        assert_eq!((passed.status(), passed.messages()), (Some(0), vec![b"\x0a\x02hi".to_vec()]));
        assert_eq!(upstream.received().last().unwrap().body, body);
    }
    broker.done().await;
}

#[tokio::test]
async fn l240_compressed_messages_are_decoded_within_the_limit() {
    let (upstream, broker) = broker().await;
    let path = format!("{TYPED}/CallTool");
    let gzipped = ("grpc-encoding", "gzip");
    let bomb = flagged(1, &gzip(&vec![0; 64 << 20]));
    assert!(bomb.len() < 70_000);
    let too_large = [
        ("64 MiB out of 64 KiB", bomb, "filter.body_too_large"),
        ("4 GiB by its head", vec![0, 255, 255, 255, 255], "filter.body_too_large"),
        (
            "over the limit by its head",
            [&[0, 0, 0x10, 0, 1][..], &[0; 100]].concat(),
            "filter.body_too_large",
        ),
    ];
    for (what, body, reason) in too_large {
        let refused = broker.rpc(&path, &[gzipped], body).await;
        assert_eq!((refused.status(), refused.may_be_retried()), (Some(8), false), "{what}");
        assert_eq!(broker.records().await.last().unwrap()["reason"], reason, "{what}");
    }
    let good = typed_call("get_item");
    for (what, fields, body, status) in [
        ("another coding", &[("grpc-encoding", "zstd")][..], good.clone(), 12),
        ("two codings", &[gzipped, gzipped], good.clone(), 12),
        ("a coding of HTTP", &[("content-encoding", "gzip")], good.clone(), 12),
        ("a flag without a coding", &[], flagged(1, &gzip(&good[5..])), 3),
        ("no gzip", &[gzipped], flagged(1, b"hello"), 3),
        ("two members", &[gzipped], flagged(1, &[gzip(&good[5..]), gzip(b"")].concat()), 3),
    ] {
        let refused = broker.rpc(&path, fields, body).await;
        assert_eq!(refused.status(), Some(status), "{what}");
        let accepted = refused.field("grpc-accept-encoding");
        assert_eq!(accepted, (status == 12).then_some("identity,gzip"), "{what}");
    }
    assert_eq!(upstream.received().len(), 0);
    let passed = broker
        .rpc(&path, &[gzipped, ("grpc-accept-encoding", "gzip")], flagged(1, &gzip(&good[5..])))
        .await;
    assert_eq!(passed.status(), Some(0));
    let received = &upstream.received()[0];
    assert_eq!(received.body, good, "what was judged is what is sent, and it is not compressed");
    assert!(received.values("grpc-encoding").is_empty());
    assert_eq!(received.values("grpc-accept-encoding"), ["identity"]);
    broker.done().await;
}

#[tokio::test]
async fn l241_a_path_is_one_service_and_method() {
    let (upstream, broker) = broker().await;
    let paths = [
        "/shop.v1.Orders/Get/",
        "//shop.v1.Orders/Get",
        "/shop.v1.Orders//Get",
        "/shop.v1.Orders%2FGet",
        "/shop.v1.Orders/%47et",
        "/shop.v1.Orders/Get?x",
        "/shop.v1.Orders/Get?",
        "/shop.v1.Orders",
        "/shop.v1.Orders/../Get",
        "/token_broker.mcp.v1.Mcp/Call/",
        "/a/token_broker.mcp.v1.Mcp/Call",
        "/",
    ];
    for path in paths {
        let refused = broker.rpc(path, &[], frame(b"")).await;
        assert_eq!((refused.status(), refused.body.len()), (Some(12), 0), "{path}");
    }
    // In different case it is a different service, and no rule names it.
    for path in ["/shop.v1.orders/Get", "/shop.v1.Orders/get", "/Token_broker.mcp.v1.Mcp/Call"] {
        assert_eq!(broker.rpc(path, &[], frame(b"")).await.status(), Some(7), "{path}");
    }
    assert_eq!(broker.rpc(&format!("{FRAMED}/call"), &[], frame(b"")).await.status(), Some(12));
    assert_eq!(upstream.received().len(), 0);
    let reasons = reasons(&broker, 16).await;
    assert_eq!(reasons.iter().filter(|reason| *reason == "filter.rpc_path").count(), paths.len());
    broker.done_unsent().await;
}

#[tokio::test]
async fn contradicting_metadata_and_message_are_refused() {
    let (upstream, broker) = broker().await;
    let path = format!("{FRAMED}/Call");
    let good = [
        ("mcp-protocol-version", "2025-11-25"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "get_item"),
    ];
    let without = |name| good.into_iter().filter(|(field, _)| *field != name).collect::<Vec<_>>();
    let with = |name, value| without(name).into_iter().chain([(name, value)]).collect::<Vec<_>>();
    for (what, fields) in [
        ("no version", without("mcp-protocol-version")),
        ("no method", without("mcp-method")),
        ("no name", without("mcp-name")),
        ("another method", with("mcp-method", "tools/list")),
        ("another name", with("mcp-name", "delete_item")),
        ("two names", good.into_iter().chain([("mcp-name", "get_item")]).collect()),
    ] {
        let refused = broker.rpc(&path, &fields, framed(&call("get_item"))).await;
        assert_eq!(
            (refused.status(), refused.field("mcp-error-code")),
            (Some(3), Some("-32020")),
            "{what}"
        );
    }
    // A message of 2026-07-28 contains its version; one of 2025-11-25, as here, does not.
    let another = broker
        .rpc(&path, &with("mcp-protocol-version", "2026-07-28"), framed(&call("get_item")))
        .await;
    assert_eq!((another.status(), another.field("mcp-error-code")), (Some(3), Some("-32602")));
    let unknown = broker
        .rpc(&path, &with("mcp-protocol-version", "2099-01-01"), framed(&call("get_item")))
        .await;
    assert_eq!((unknown.status(), unknown.field("mcp-error-code")), (Some(3), Some("-32022")));
    let notice = framed(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    let of_notice = [good[0], ("mcp-method", "notifications/initialized")];
    assert_eq!(
        broker.rpc(&path, &of_notice, notice.clone()).await.status(),
        Some(3),
        "a notice is not called"
    );
    let notify = format!("{FRAMED}/Notify");
    assert_eq!(
        broker.rpc(&notify, &good, framed(&call("get_item"))).await.status(),
        Some(3),
        "a call is no notice"
    );
    let client_response = framed(r#"{"jsonrpc":"2.0","id":7,"result":{}}"#);
    assert_eq!(
        broker.rpc(&notify, &good[..1], client_response).await.status(),
        Some(3),
        "outside of a session"
    );
    let typed = format!("{TYPED}/CallTool");
    for fields in [
        &[("mcp_tool", "delete_item")][..],
        &[("mcp_tool", "get_item"), ("mcp_tool", "get_item")],
        &[("mcp_prompt", "get_item")],
        &[("mcp-name", "delete_item")],
        &[("mcp-method", "tools/list")],
    ] {
        let refused = broker.rpc(&typed, fields, typed_call("get_item")).await;
        assert_eq!(
            (refused.status(), refused.field("mcp-error-code")),
            (Some(3), Some("-32020")),
            "{fields:?}"
        );
    }
    assert_eq!(upstream.received().len(), 0);
    let passed = broker.rpc(&typed, &[("mcp_tool", "get_item")], typed_call("get_item")).await;
    assert_eq!(passed.status(), Some(0), "{passed:?}");
    broker.done().await;
}

#[tokio::test]
async fn grpc_web_and_other_protocols_are_refused() {
    let (upstream, broker) = broker().await;
    let path = format!("{FRAMED}/Call");
    for (content_type, http, status) in [
        ("application/grpc-web+proto", 415, None),
        ("application/grpc-web-text", 415, None),
        ("application/json", 415, None),
        ("application/grpc+json", 200, Some(12)),
        ("application/grpc; charset=utf-8", 200, Some(12)),
    ] {
        let refused =
            broker.rpc(&path, &[("content-type", content_type)], framed(&call("get_item"))).await;
        assert_eq!((refused.http, refused.status()), (http, status), "{content_type}");
    }
    assert_eq!(upstream.received().len(), 0);
    let reasons = reasons(&broker, 5).await;
    assert_eq!(reasons[..2], ["filter.grpc_web", "filter.grpc_web"]);
    assert_eq!(reasons[2..], ["filter.media_type"; 3]);
    broker.done_unsent().await;
}

#[tokio::test]
async fn typed_and_framed_lists_are_filtered() {
    let (upstream, broker) = broker().await;
    let listed = broker.rpc(&format!("{TYPED}/ListTools"), &[], frame(b"")).await;
    let kept = field(2, [field(1, "get_item"), field(2, "gets")].concat());
    // The remaining entries keep their bytes and must not be cached for others: cache_scope =
    // PRIVATE.
    assert_eq!(
        (listed.status(), listed.messages()),
        (Some(0), vec![[kept, vec![0x20, 2]].concat()])
    );
    assert_eq!(upstream.received()[0].body, frame(b""));
    broker.done().await;
}

#[tokio::test]
async fn unreadable_responses_become_a_status() {
    let secret_tool =
        framed(r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"delete_item"}]}}"#);
    for (what, frames) in [
        ("compressed", vec![flagged(1, &gzip(&secret_tool[5..]))]),
        ("two responses", vec![framed(RESULT), secret_tool.clone()]),
        ("no frame of MCP", vec![frame(&field(2, RESULT))]),
        ("no JSON", vec![framed("{")]),
        ("doubled members", vec![framed(r#"{"result":{"tools":[]},"result":{"tools":[]}}"#)]),
        ("a flag of 2", vec![flagged(2, b"")]),
        (
            "a notice of what is hidden",
            vec![framed(concat!(
                r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","#,
                r#""params":{"uri":"crm://delete_item"}}"#
            ))],
        ),
    ] {
        let upstream = ScriptedServer::start(move |_| response(frames.clone(), &[OK])).await;
        let broker = Broker::in_front_of(&upstream).grpc().policy(rules()).start().await;
        let refused = broker.call_in_frame(&[], "get_item").await;
        assert_eq!(refused.status(), Some(14), "{what} {refused:?}");
        assert!(!refused.everything().windows(11).any(|bytes| bytes == b"delete_item"), "{what}");
        assert_eq!(
            broker.expect_records(1).await.last().unwrap()["reason"],
            "filter.response_unreadable",
            "{what}"
        );
        broker.done().await;
    }
}

#[tokio::test]
async fn responses_to_other_methods_become_a_status() {
    let fields =
        [("mcp-protocol-version", "2025-11-25"), ("mcp-method", "notifications/cancelled")];
    let notice = framed(r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#);
    for (what, method, fields, sent, frames) in [
        (
            "an empty message with bytes",
            format!("{FRAMED}/Notify"),
            &fields[..],
            notice,
            vec![frame(b"x")],
        ),
        (
            "a list that is none",
            format!("{TYPED}/ListTools"),
            &[],
            frame(b""),
            vec![frame(&[0x12, 9])],
        ),
    ] {
        let upstream = ScriptedServer::start(move |_| response(frames.clone(), &[OK])).await;
        let broker = Broker::in_front_of(&upstream).grpc().policy(rules()).start().await;
        let refused = broker.rpc(&method, fields, sent).await;
        assert_eq!(
            (refused.status(), refused.messages().len()),
            (Some(14), 0),
            "{what} {refused:?}"
        );
        assert_eq!(
            broker.expect_records(1).await.last().unwrap()["reason"],
            "filter.response_unreadable",
            "{what}"
        );
        broker.done().await;
    }
}

#[tokio::test]
async fn l240_unannounced_compression_is_not_forwarded() {
    let (upstream, broker) = broker().await;
    let sent = [frame(b"first"), flagged(1, &gzip(b"second"))].concat();
    let refused = broker.rpc(&format!("{ORDERS}/WatchAll"), &[], sent).await;
    assert_ne!(refused.status(), Some(0), "{refused:?}");
    assert_eq!(reasons(&broker, 1).await, ["filter.content_encoding"]);
    assert!(
        upstream.received().iter().all(|received| received.body.len() <= frame(b"first").len())
    );
    broker.done().await;
}

#[tokio::test]
async fn k232_hidden_notifications_are_removed_and_the_rest_counted() {
    let listen = framed(r#"{"jsonrpc":"2.0","id":1,"method":"resources/list"}"#);
    let fields = [("mcp-protocol-version", "2025-11-25"), ("mcp-method", "resources/list")];
    let notice = |uri: &str| {
        framed(&format!(
            "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/updated\",\
             \"params\":{{\"uri\":\"{uri}\"}}}}"
        ))
    };
    let (hidden, visible) = (notice("crm://secret/1"), notice("crm://public/1"));
    // The harness allows 16 messages, including those that are removed.
    for (more, status, reason) in [(14, 0, Value::Null), (15, 8, "filter.too_many_messages".into())]
    {
        let frames = [vec![hidden.clone(), visible.clone()], vec![visible.clone(); more]].concat();
        let upstream = ScriptedServer::start(move |_| response(frames.clone(), &[OK])).await;
        let policy = Rules::new().allow(resources(["crm://public/*"]));
        let broker = Broker::in_front_of(&upstream).grpc().policy(policy).start().await;
        let reply = broker.rpc(&format!("{FRAMED}/Stream"), &fields, listen.clone()).await;
        assert_eq!((reply.status(), reply.messages().len()), (Some(status), 15), "{reply:?}");
        assert!(!reply.everything().windows(6).any(|bytes| bytes == b"secret"));
        assert_eq!(broker.expect_records(1).await.last().unwrap()["reason"], reason);
        broker.done().await;
    }
}

#[tokio::test]
async fn a_message_after_the_clients_deadline_is_refused() {
    let (upstream, broker) = broker().await;
    let (frames, rest) = tokio::sync::mpsc::channel::<
        Result<http_body::Frame<bytes::Bytes>, std::convert::Infallible>,
    >(1);
    let body = StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(rest)).boxed_unsync();
    let request =
        broker.rpc_request(&format!("{TYPED}/CallTool"), &[("grpc-timeout", "20m")], body);
    let reply = broker.reply(client().request(request).await.unwrap()).await;
    assert_eq!((reply.status(), upstream.received().len()), (Some(4), 0));
    assert_eq!(reasons(&broker, 1).await, ["filter.deadline_exceeded"]);
    drop(frames);
    broker.done_unsent().await;
}

#[tokio::test]
async fn upstream_statuses_pass_without_challenges_and_details() {
    for (what, fields, in_head, expected, message) in [
        (
            "its response to the broker",
            &[("grpc-status", "16"), ("grpc-message", "bad token")][..],
            true,
            9,
            None,
        ),
        (
            "the same in trailers",
            &[("grpc-status", "16"), ("grpc-message", "bad token")],
            false,
            9,
            None,
        ),
        ("internal", &[("grpc-status", "13"), ("grpc-message", "at db-7:5432")], true, 13, None),
        ("unknown", &[("grpc-status", "2"), ("grpc-message", "at db-7:5432")], false, 2, None),
        (
            "unavailable",
            &[("grpc-status", "14"), ("grpc-message", "at db-7:5432")],
            false,
            14,
            None,
        ),
        ("data loss", &[("grpc-status", "15"), ("grpc-message", "at db-7:5432")], false, 15, None),
        (
            "not found",
            &[("grpc-status", "5"), ("grpc-message", "no order 7")],
            false,
            5,
            Some("no order 7"),
        ),
        (
            "not allowed",
            &[("grpc-status", "7"), ("grpc-message", "not yours")],
            true,
            7,
            Some("not yours"),
        ),
        ("no status", &[("grpc-status", "x")], false, 14, None),
        ("two statuses", &[("grpc-status", "0"), ("grpc-status", "5")], false, 14, None),
    ] {
        let upstream =
            ScriptedServer::start(
                move |_| if in_head { status(fields) } else { response([], fields) },
            )
            .await;
        let broker = Broker::in_front_of(&upstream).grpc().policy(rules()).start().await;
        for path in [format!("{ORDERS}/Get"), format!("{TYPED}/CallTool")] {
            let reply = broker.rpc(&path, &[], typed_call("get_item")).await;
            assert_eq!(reply.status(), Some(expected), "{what} {reply:?}");
            let text = reply.field("grpc-message").unwrap_or_default().to_owned();
            assert!(!text.contains("db-7") && !text.contains("bad token"), "{what} {text}");
            message.inspect(|message| assert_eq!(text, *message, "{what}"));
            if expected == 9 {
                assert_eq!(reply.reason().as_deref(), Some("CREDENTIAL_REFUSED"), "{what}");
                let record = broker.records().await.last().unwrap().clone();
                assert_eq!(record["reason"], "exchange.credential_refused", "{what}");
            }
        }
        broker.done().await;
    }
}

#[tokio::test]
async fn a_response_that_is_not_grpc_fails() {
    for (http, media) in [(404, "application/grpc"), (200, "application/json"), (200, "text/html")]
    {
        let upstream = ScriptedServer::start(move |_| {
            let mut reply = response([frame(b"x")], &[OK]);
            *reply.status_mut() = http::StatusCode::from_u16(http).unwrap();
            reply.headers_mut().insert("content-type", media.parse().unwrap());
            reply
        })
        .await;
        let broker = Broker::in_front_of(&upstream).grpc().policy(rules()).start().await;
        let reply = broker.rpc(&format!("{ORDERS}/Get"), &[], frame(b"")).await;
        assert_eq!(
            (reply.status(), reply.messages().len()),
            (Some(14), 0),
            "{http} {media} {reply:?}"
        );
        assert_eq!(
            broker.expect_records(1).await.last().unwrap()["reason"],
            "exchange.upstream_failed"
        );
        broker.done().await;
    }
}

#[tokio::test]
async fn l235_binary_authorization_metadata_is_not_forwarded() {
    let upstream = ScriptedServer::start(usual).await;
    let broker = Broker::in_front_of(&upstream)
        .grpc()
        .policy(rules())
        .credential_in("trace-context")
        .start()
        .await;
    let fields = [("trace-context-bin", "AAEC"), ("other-bin", "AAEC")];
    let passed = broker.rpc(&format!("{ORDERS}/Get"), &fields, frame(b"")).await;
    assert_eq!(passed.status(), Some(0), "{passed:?}");
    let received = &upstream.received()[0];
    assert_eq!(received.values("trace-context"), [SECRET]);
    assert!(received.values("trace-context-bin").is_empty());
    assert_eq!(received.values("other-bin"), ["AAEC"]);
    broker.done().await;
}

#[tokio::test]
async fn an_echo_is_masked_in_every_part() {
    let coded = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD_NO_PAD,
        format!("\x08\x05\x12{SECRET}"),
    );
    let percent: String = SECRET.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let echoing = move |_: &Received| {
        let message =
            field(1, format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"text":"{SECRET}"}}}}"#));
        let trailers = [
            ("grpc-status", "5"),
            ("grpc-message", &percent),
            ("grpc-status-details-bin", &coded),
            ("x-echo", SECRET),
        ];
        let mut response = response([frame(&message)], &trailers);
        for (name, value) in [("x-echo", SECRET), ("x-echo-bin", &coded)] {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        response
    };
    let upstream = ScriptedServer::start(echoing).await;
    let broker = Broker::in_front_of(&upstream).grpc().start().await;
    let mut scan = Scan::new();
    scan.secret("the upstream's token", SECRET);
    for path in [format!("{FRAMED}/Call"), format!("{TYPED}/CallTool"), format!("{ORDERS}/Get")] {
        let metadata = [
            ("mcp-protocol-version", "2025-11-25"),
            ("mcp-method", "tools/call"),
            ("mcp-name", "get_item"),
        ];
        let (fields, body): (&[_], _) = if path.starts_with(FRAMED) {
            (&metadata, framed(&call("get_item")))
        } else {
            (&[], typed_call("get_item"))
        };
        let reply = broker.rpc(&path, fields, body).await;
        assert_eq!((reply.status(), reply.messages().len()), (Some(5), 1), "{path}");
        let masked = "*".repeat(SECRET.len());
        assert!(json_of(&reply.messages()[0]).contains(&masked), "{path}: masked at equal length");
        // Binary values stay base64, so that a client can read the others.
        let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
        for name in ["x-echo-bin", "grpc-status-details-bin"] {
            base64::Engine::decode(&engine, reply.field(name).unwrap()).unwrap();
        }
        scan.source(path, reply.everything());
    }
    for received in upstream.received() {
        scan.received(received.values("authorization").concat().as_bytes());
    }
    let records = broker.expect_records(3).await;
    for record in &records {
        scan.source("a record", record.to_string());
    }
    assert_eq!(scan.run(), Ok(()));
    let masked: Vec<_> = records
        .iter()
        .filter(|record| record["count"].is_u64())
        .map(|r| r["echo_masked"].clone())
        .collect();
    assert_eq!(masked, [6, 6, 6]);
    broker.done().await;
}

#[tokio::test]
async fn binary_metadata_passes_except_credentials() {
    let (upstream, broker) = broker().await;
    let fields = [
        ("trace-context-bin", "AAEC/w"),
        ("cookie-bin", "AAEC"),
        ("x-forwarded-user-bin", "cm9vdA"),
        ("x-user", "root"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("user-agent", "grpc-test/1"),
    ];
    let passed = broker.rpc(&format!("{ORDERS}/Get"), &fields, frame(b"")).await;
    assert_eq!(passed.status(), Some(0));
    let received = &upstream.received()[0];
    assert_eq!(received.target, "/shop.v1.Orders/Get");
    assert_eq!(received.values("trace-context-bin"), ["AAEC/w"]);
    assert_eq!(received.values("te"), ["trailers"]);
    assert_eq!(received.values("content-type"), ["application/grpc"]);
    assert_eq!((received.values("user-agent").len(), received.values("traceparent").len()), (1, 1));
    for name in ["cookie-bin", "x-forwarded-user-bin", "x-user"] {
        assert!(received.values(name).is_empty(), "{name}");
    }
    broker.done().await;
}

#[tokio::test]
async fn a_stream_has_limits_in_both_directions() {
    let (upstream, broker) = broker().await;
    let watch = format!("{ORDERS}/WatchAll");
    // The harness allows 16 messages.
    let passed = broker.rpc(&watch, &[], frame(b"").repeat(16)).await;
    assert_eq!(passed.status(), Some(0));
    let refused = broker.rpc(&watch, &[], frame(b"").repeat(17)).await;
    assert_eq!(refused.status(), Some(8), "{refused:?}");
    let refused = broker.rpc(&watch, &[], [frame(b"a"), vec![0, 0, 0x20, 0, 0]].concat()).await;
    assert_eq!(refused.status(), Some(8), "{refused:?}");
    assert_eq!(
        reasons(&broker, 3).await,
        [Value::Null, "filter.too_many_messages".into(), "filter.body_too_large".into()]
    );
    assert!(
        upstream.received()[1..].iter().all(|received| received.body.len() < 85),
        "nothing after the limit"
    );
    broker.done().await;

    let upstream = ScriptedServer::start(|_| response(vec![frame(b"x"); 17], &[OK])).await;
    let broker = Broker::in_front_of(&upstream).grpc().policy(rules()).start().await;
    let ended = broker.rpc(&watch, &[], frame(b"")).await;
    assert_eq!((ended.status(), ended.messages().len(), ended.broken), (Some(8), 16, false));
    let record = broker.expect_records(1).await.last().unwrap().clone();
    let counted = (
        &record["messages_in"],
        &record["messages_out"],
        &record["grpc_status"],
        &record["outcome"],
    );
    assert_eq!(counted, (&1.into(), &16.into(), &8.into(), &"cut".into()));
    broker.done().await;
}

#[tokio::test]
async fn an_excessive_length_is_refused_before_the_message() {
    let (upstream, broker) = broker().await;
    // Never ends: only the headers are sent.
    let (frames, rest) = tokio::sync::mpsc::channel(1);
    let head = http_body::Frame::data(bytes::Bytes::from_static(&[0, 0x7f, 0xff, 0xff, 0xff]));
    frames.send(Ok(head)).await.unwrap();
    let body = StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(rest)).boxed_unsync();
    let request = broker.rpc_request(&format!("{TYPED}/CallTool"), &[], body);
    let reply = broker.reply(client().request(request).await.unwrap()).await;
    assert_eq!(reply.status(), Some(8));
    assert_eq!(upstream.received().len(), 0);
    drop(frames);
    broker.done_unsent().await;
}
