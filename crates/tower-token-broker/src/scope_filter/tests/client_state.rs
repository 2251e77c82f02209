//! Tests of client-held state: only its owner can use it, and the upstream receives its own value
//! back.

use super::*;
use crate::{
    refusal::{Reason, Refusal},
    sealing::Purpose,
};

const KEY: [u8; 32] = [7; 32];

fn sealed_layer() -> ScopeFilterLayer<Rules> {
    sealed_for(Protocol::Mcp)
}

fn sealed_for(protocol: Protocol) -> ScopeFilterLayer<Rules> {
    ScopeFilterLayer::build(rules(), protocol, Limits::default(), SealingKeys::new(&KEY))
}

fn user(subject: &str, resource: &str) -> Principal {
    let times = TokenTimes {
        id: "t2",
        issued_at: Timestamp::from_unix_seconds(0),
        expires_at: Timestamp::from_unix_seconds(600),
    };
    let user = User::new("https://broker.example.com", subject);
    let verified = Verified::vouch(user, "test-client", Resource::parse(resource).unwrap(), times);
    Principal::of(&verified.with_scopes(Scopes::parse("crm:read").unwrap()))
}

fn strangers() -> [Principal; 2] {
    [
        user("mallory", "https://broker.example.com/crm/mcp"),
        user("alice", "https://broker.example.com/hr/mcp"),
    ]
}

fn with_session<'a>(mut request: Request<&'a str>, session: &str) -> Request<&'a str> {
    request.headers_mut().append("mcp-session-id", session.parse().unwrap());
    request
}

/// Returns the session that a client with these capabilities receives.
async fn session(capabilities: &str) -> String {
    let params = format!(r#"{{"protocolVersion":"2025-11-25","capabilities":{capabilities}}}"#);
    let initialize = message("initialize", &params);
    let mut response = json(RESULT);
    response.headers_mut().insert("mcp-session-id", "upstream-1".parse().unwrap());
    let outcome = send(sealed_layer(), post(&initialize), response).await;
    let session = outcome.headers["mcp-session-id"].to_str().unwrap().to_owned();
    assert!(!session.contains("upstream-1"));
    session
}

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_x"}}"#;

fn with_method(method: &str) -> Request<&'static str> {
    Request::builder()
        .method(method)
        .uri("/mcp")
        .header("accept", "text/event-stream")
        .body("")
        .unwrap()
}

#[tokio::test]
async fn h171_a_session_is_bound_to_user_and_server() {
    let session = session("{}").await;
    let resumed = || {
        let mut request = with_method("GET");
        request.headers_mut().insert("last-event-id", "3".parse().unwrap());
        request
    };
    for request in [|| post(CALL), || with_method("GET"), || with_method("DELETE"), resumed] {
        let mut response = json(RESULT);
        response.headers_mut().insert("mcp-session-id", "upstream-1".parse().unwrap());
        let outcome = send(sealed_layer(), with_session(request(), &session), response).await;
        assert_eq!(outcome.received_fields["mcp-session-id"], "upstream-1");
        assert!(
            !outcome.headers["mcp-session-id"].to_str().unwrap().contains("upstream-1"),
            "nor in a later response"
        );
        for stranger in strangers() {
            let request = with_session(request(), &session);
            let refused = send_as(&stranger, sealed_layer(), request, json(RESULT)).await;
            assert_eq!((refused.status.as_u16(), refused.received), (404, None), "{stranger:?}");
        }
        for hostile in [
            "upstream-1",
            "",
            session.get(1..).unwrap(),
            &format!("{session}A"),
            &session.to_lowercase(),
        ] {
            let refused =
                send(sealed_layer(), with_session(request(), hostile), json(RESULT)).await;
            assert_eq!((refused.status.as_u16(), refused.received), (404, None), "{hostile}");
        }
        let twice = with_session(with_session(request(), &session), &session);
        let refused = send(sealed_layer(), twice, json(RESULT)).await;
        assert_eq!((refused.status.as_u16(), refused.received), (404, None));
    }
    let refused = send(sealed_layer(), resumed(), json(RESULT)).await;
    assert_eq!(
        (refused.status.as_u16(), refused.received),
        (404, None),
        "a stream is resumed within a session alone"
    );
    let after_restart = send(layer(), with_session(post(CALL), &session), json(RESULT)).await;
    assert_eq!(after_restart.status, 404, "of a key that was drawn anew");
}

#[tokio::test]
async fn a_client_response_needs_a_session() {
    let response = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    let session = session("{}").await;
    let outcome = send(sealed_layer(), with_session(post(response), &session), json("")).await;
    assert_eq!(outcome.received.as_deref(), Some(response.as_bytes()));
    assert_eq!(send(sealed_layer(), post(response), json("")).await.status, 400);
    let refused = send(sealed_layer(), with_session(post(response), "upstream-1"), json("")).await;
    assert_eq!((refused.status.as_u16(), refused.received), (404, None));
}

#[tokio::test]
async fn a_session_remembers_url_elicitation() {
    for (capabilities, can) in
        [(r#"{"elicitation":{"url":{}}}"#, true), (r#"{"elicitation":{}}"#, false), ("{}", false)]
    {
        let session = session(capabilities).await;
        let refusing = service_fn(|request: Request<RequestBody<Full<Bytes>>>| async move {
            let judged = request.extensions().get::<Judged>().unwrap();
            let refusal = Refusal::new(Reason::ConnectRequired)
                .connect_at("https://broker.example.com/connect/1");
            Ok::<_, Infallible>(judged.dialect().render(&refusal).map(Full::from))
        });
        let (trail, _terminal) = Trail::for_test(&LOG);
        let mut request =
            with_session(post(CALL), &session).map(|body| Full::from(body.to_owned()));
        request.extensions_mut().insert(trail);
        request.extensions_mut().insert(caller("crm:read"));
        let response = sealed_layer().layer(refusing).oneshot(request).await.unwrap();
        let text = response.into_body().collect().await.unwrap().to_bytes();
        let text = std::str::from_utf8(&text).unwrap();
        assert_eq!(
            (text.contains("-32042"), text.contains("-32001")),
            (can, !can),
            "{capabilities} {text}"
        );
    }
}

#[tokio::test]
async fn a_response_with_two_session_ids_is_refused() {
    let mut response = json(RESULT);
    response.headers_mut().append("mcp-session-id", "a".parse().unwrap());
    response.headers_mut().append("mcp-session-id", "b".parse().unwrap());
    assert_eq!(send(sealed_layer(), post(CALL), response).await.status, 502);
}

#[tokio::test]
async fn a_stateless_revision_has_no_sessions() {
    let mut request = post_2026("tools/call", Some("get_x"), &CALL_2026);
    request.headers_mut().insert("mcp-session-id", "upstream-1".parse().unwrap());
    request.headers_mut().insert("last-event-id", "3".parse().unwrap());
    let mut response = json(RESULT);
    response.headers_mut().insert("mcp-session-id", "upstream-1".parse().unwrap());
    let outcome = send(sealed_layer(), request, response).await;
    assert!(outcome.received.is_some());
    for name in ["mcp-session-id", "last-event-id"] {
        assert!(
            !outcome.received_fields.contains_key(name) && !outcome.headers.contains_key(name),
            "{name}"
        );
    }
}

static CALL_2026: LazyLock<String> = LazyLock::new(|| call_2026("get_x", ""));

fn call_2026(tool: &str, retry: &str) -> String {
    let params = format!(r#"{{"name":"{tool}",{META},"arguments":{{"n":1e9}}{retry}}}"#);
    message("tools/call", &params)
}

const INPUT_REQUIRED: &str = concat!(
    r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","#,
    r#""inputRequests":{"a":{}}, "requestState" : "upstream \"state\" é","x":1}}"#
);

/// Returns the request state in a response.
fn state_in(text: &[u8]) -> String {
    let text = std::str::from_utf8(text).unwrap();
    let (_, rest) = text.split_once(r#""requestState" : ""#).expect("a state");
    rest.split_once('"').unwrap().0.to_owned()
}

#[tokio::test]
async fn a_request_state_is_bound_to_user_and_request() {
    let in_events = format!(": hello\n\ndata: {INPUT_REQUIRED}\n\n");
    let escaped = INPUT_REQUIRED.replace("requestState", "r\\u0065questState");
    for response in [json(INPUT_REQUIRED), events(&in_events), json(&escaped)] {
        let is_escaped = response.body().contains("r\\u0065");
        let outcome =
            send(sealed_layer(), post_2026("tools/call", Some("get_x"), &CALL_2026), response)
                .await;
        let body =
            String::from_utf8(outcome.body.to_vec()).unwrap().replace("r\\u0065quest", "request");
        assert!(!body.contains("upstream"), "{body}");
        assert!(
            body.contains(r#""inputRequests":{"a":{}}, "requestState" : ""#)
                && body.contains(r#"","x":1}}"#),
            "{is_escaped}"
        );
        let state = state_in(body.as_bytes());

        let retry = |state: &str| {
            format!(r#","inputResponses":{{"a":{{"action":"accept"}}}},"requestState":"{state}""#)
        };
        let again = call_2026("get_x", &retry(&state));
        let outcome =
            send(sealed_layer(), post_2026("tools/call", Some("get_x"), &again), json(RESULT))
                .await;
        let restored = call_2026("get_x", &retry(r#"upstream \"state\" é"#));
        assert_eq!(outcome.received.as_deref(), Some(restored.as_bytes()));

        let other_tool = call_2026("list_x", &retry(&state));
        let refused = send(
            sealed_layer(),
            post_2026("tools/call", Some("list_x"), &other_tool),
            json(RESULT),
        )
        .await;
        assert!(refused.received.is_none() && refused.body.windows(6).any(|at| at == b"-32602"));
        for stranger in strangers() {
            let request = post_2026("tools/call", Some("get_x"), &again);
            let refused = send_as(&stranger, sealed_layer(), request, json(RESULT)).await;
            assert!(refused.received.is_none(), "{stranger:?}");
        }
        for hostile in ["upstream", "", state.get(1..).unwrap(), &format!("{state}A")] {
            let body = call_2026("get_x", &retry(hostile));
            let refused =
                send(sealed_layer(), post_2026("tools/call", Some("get_x"), &body), json(RESULT))
                    .await;
            assert!(
                refused.received.is_none() && refused.body.windows(6).any(|at| at == b"-32602"),
                "{hostile}"
            );
        }
    }
    // Absent, so the upstream receives it as a first request, unchanged.
    let absent = call_2026("get_x", r#","requestState":null"#);
    let passed =
        send(sealed_layer(), post_2026("tools/call", Some("get_x"), &absent), json(RESULT)).await;
    assert_eq!(passed.received.as_deref(), Some(absent.as_bytes()), "J430");
    for no_text in ["7", "{}", r#"["a"]"#] {
        let body = call_2026("get_x", &format!(r#","requestState":{no_text}"#));
        let refused =
            send(sealed_layer(), post_2026("tools/call", Some("get_x"), &body), json(RESULT)).await;
        assert_eq!((refused.status.as_u16(), refused.received), (400, None), "{no_text}");
    }
}

#[tokio::test]
async fn a_retry_with_our_state_becomes_a_first_request() {
    let ours = SealingKeys::new(&KEY).seal(
        Purpose::RequestState { request: "tools/call\nget_x" },
        &caller("crm:read"),
        &[0],
    );
    let responses = r#""inputResponses" : {"connect":{"action":"accept"}}"#;
    let retry = format!(r#", {responses} , "requestState":"{ours}", "o\u0074her" : [1] "#);
    let body = call_2026("get_x", &retry);
    let outcome =
        send(sealed_layer(), post_2026("tools/call", Some("get_x"), &body), json(RESULT)).await;
    let first = call_2026("get_x", r#","other":[1]"#);
    assert_eq!(outcome.received.as_deref(), Some(first.as_bytes()));
}

#[tokio::test]
async fn i188_a_public_cache_scope_becomes_private() {
    let read = message("resources/read", &format!(r#"{{"uri":"crm://public/a",{META}}}"#));
    for name in ["cacheScope", "cacheSc\\u006fpe"] {
        let text = |scope: &str| {
            format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"contents":[],"{name}":"{scope}"}}}}"#)
        };
        let request = post_2026("resources/read", Some("crm://public/a"), &read);
        let outcome = send(sealed_layer(), request, json(&text("public"))).await;
        assert_eq!(outcome.body, text("private"));
    }
}

#[tokio::test]
async fn a_state_is_bound_to_the_whole_uri() {
    let read = |uri: &str, retry: &str| {
        message("resources/read", &format!(r#"{{"uri":"{uri}",{META}{retry}}}"#))
    };
    let (one, other) = ("crm://public/a?id=1", "crm://public/a?id=2");
    let request = read(one, "");
    let outcome = send(
        sealed_layer(),
        post_2026("resources/read", Some(one), &request),
        json(INPUT_REQUIRED),
    )
    .await;
    let retry = format!(r#","requestState":"{}""#, state_in(&outcome.body));
    for (uri, is_sent) in [(one, true), (other, false)] {
        let again = read(uri, &retry);
        let outcome =
            send(sealed_layer(), post_2026("resources/read", Some(uri), &again), json(RESULT))
                .await;
        assert_eq!(outcome.received.is_some(), is_sent, "{uri}");
    }
}

#[tokio::test]
async fn a_state_that_was_never_issued_is_refused() {
    let old = CALL.replace(r#""get_x""#, r#""get_x","requestState":"forged""#);
    let refused = send(sealed_layer(), post(&old), json(RESULT)).await;
    assert!(refused.received.is_none() && refused.body.windows(6).any(|at| at == b"-32602"));
    let reference = r#""ref":{"type":"ref/prompt","name":"greet"}"#;
    let params = format!(r#"{{{reference},{META},"requestState":"forged"}}"#);
    let completion = message("completion/complete", &params);
    let refused =
        send(sealed_layer(), post_2026("completion/complete", None, &completion), json(RESULT))
            .await;
    assert!(refused.received.is_none());
}

#[tokio::test]
async fn an_older_revision_has_no_request_states() {
    let outcome = send(sealed_layer(), post(CALL), json(INPUT_REQUIRED)).await;
    assert_eq!(outcome.body, INPUT_REQUIRED);
}

#[tokio::test]
async fn an_ambiguous_request_state_is_refused() {
    let utf_16: String =
        r#"{"result":{}}"#.chars().flat_map(|character| [character, '\0']).collect();
    for broken in [
        &utf_16,
        r#"{"result":{"RequestState":"b"}}"#,
        r#"{"result":{"requestState":7}}"#,
        r#"{"result":{"RequestState":"a","requestState":"b"}}"#,
    ] {
        let outcome =
            send(sealed_layer(), post_2026("tools/call", Some("get_x"), &CALL_2026), json(broken))
                .await;
        assert_eq!(outcome.status, 502, "{broken}");
    }
}

#[test]
fn a_session_is_not_a_request_state() {
    let keys = SealingKeys::new(&KEY);
    let session = keys.seal(Purpose::Session, &caller("crm:read"), b"\x00id");
    let as_state = Purpose::RequestState { request: "" };
    assert_eq!(keys.open(as_state, &caller("crm:read"), session.as_bytes()), None);
}

#[cfg(feature = "grpc")]
mod in_grpc {
    use super::*;
    use crate::grpc::{frame::framed, framed_mcp};

    struct Called {
        metadata: HeaderMap,
        message: Option<Bytes>,
        received: Option<(HeaderMap, Bytes)>,
    }

    /// Returns the message in the frame on the wire.
    fn json_of(wire: &[u8]) -> Option<Bytes> {
        let frame = wire.get(5..).filter(|frame| !frame.is_empty())?;
        Some(Bytes::copy_from_slice(framed_mcp::decode(frame).unwrap()))
    }

    async fn call(
        caller: &Principal,
        fields: &[(&'static str, &str)],
        json: &str,
        response: &'static str,
    ) -> Called {
        let (trail, _terminal) = Trail::for_test(&LOG);
        let body = Full::new(framed(&framed_mcp::encode(json.as_bytes())));
        let mut request = Request::post("/token_broker.mcp.v1.Mcp/Call").body(body).unwrap();
        for (name, value) in fields.iter().copied().chain([("content-type", "application/grpc")]) {
            request.headers_mut().append(name, value.parse().unwrap());
        }
        request.extensions_mut().insert(trail);
        request.extensions_mut().insert(caller.clone());
        let received = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&received);
        let inner = service_fn(move |request: Request<RequestBody<Full<Bytes>>>| {
            let seen = Arc::clone(&seen);
            async move {
                let fields = request.headers().clone();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                *seen.lock() = Some((fields, json_of(&body).unwrap()));
                let response = Full::new(framed(&framed_mcp::encode(response.as_bytes())));
                let head = Response::builder().header("content-type", "application/grpc");
                Ok::<_, Infallible>(
                    head.header("mcp-session-id", "upstream-1").body(response).unwrap(),
                )
            }
        });
        let (parts, body) = sealed_for(Protocol::Grpc(crate::limits::GrpcOptions::default()))
            .layer(inner)
            .oneshot(request)
            .await
            .unwrap()
            .into_parts();
        let message = json_of(&body.collect().await.unwrap().to_bytes());
        Called { metadata: parts.headers, message, received: received.lock().take() }
    }

    #[tokio::test]
    async fn a_session_is_sealed_in_metadata() {
        let old = ("mcp-protocol-version", "2025-11-25");
        let initialize =
            r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"capabilities":{}}}"#;
        let begun =
            call(&caller("crm:read"), &[old, ("mcp-method", "initialize")], initialize, RESULT)
                .await;
        let session = begun.metadata["mcp-session-id"].to_str().unwrap().to_owned();
        let fields = [
            old,
            ("mcp-method", "tools/call"),
            ("mcp-name", "get_x"),
            ("mcp-session-id", &session),
        ];
        let called = call(&caller("crm:read"), &fields, CALL, RESULT).await;
        assert_eq!(called.received.unwrap().0["mcp-session-id"], "upstream-1");
        assert_ne!(called.metadata["mcp-session-id"], "upstream-1");
        for stranger in strangers() {
            let refused = call(&stranger, &fields, CALL, RESULT).await;
            assert_eq!(
                (&refused.metadata["grpc-status"], refused.received),
                (&"5".parse().unwrap(), None)
            );
        }
    }

    #[tokio::test]
    async fn a_request_state_is_sealed_in_frames() {
        let fields = [
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", "tools/call"),
            ("mcp-name", "get_x"),
        ];
        let request = call(&caller("crm:read"), &fields, &CALL_2026, INPUT_REQUIRED).await;
        let state = state_in(&request.message.unwrap());
        let again = call_2026("get_x", &format!(r#","requestState":"{state}""#));
        let called = call(&caller("crm:read"), &fields, &again, RESULT).await;
        let restored = call_2026("get_x", r#","requestState":"upstream \"state\" é""#);
        assert_eq!(called.received.unwrap().1, restored);
        for stranger in strangers() {
            let refused = call(&stranger, &fields, &again, RESULT).await;
            assert_eq!(
                (&refused.metadata["grpc-status"], refused.received),
                (&"3".parse().unwrap(), None)
            );
        }
    }
}
