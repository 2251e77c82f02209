//! No response contains a live credential of any user, in any form that clients decode.

use std::{convert::Infallible, sync::Arc};

use axum::{Router, response::IntoResponse as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Empty, StreamBody};
use parking_lot::Mutex;
use token_broker_authority::issue::Mint;
use token_broker_outbound::Proxy;
use token_broker_tests::{
    harness::{Broker, CALL, ISSUER, SECRET, Stack, proxy, serve},
    upstream::{ScriptedBody, ScriptedServer, frames, full, json},
    wire::{self, RawResponse},
};
use token_broker_upstream::StaticSecret;
use tower::{ServiceExt as _, service_fn};
use tower_token_broker::{
    Secret,
    authenticate::JwtVerifier,
    body::RequestBody,
    exchange::{
        CallerHandle, Credential, CredentialError, CredentialRequest, ExchangeLayer,
        ProvideCredential, Upstream, UpstreamRefusal,
    },
    principal::{Resource, Scopes},
    scope_filter::{Rules, tools},
};

const ALICES: &str = "tbm-alice.9fK2xQ7aLw3nZpR8sVtYb1cDeGhJ";
const BOBS: &str = "tbm-bob.Hn3vTc6yRb9mWk4pLd7sQx2fJg5z";
const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;
const ANOTHER_USERS: &str = r#"alarm="exchange.credential_of_another_user""#;

/// One credential for each user, which is the field value as it is sent.
struct Personal {
    upstream: Upstream,
    values: Arc<Mutex<Vec<(&'static str, String)>>>,
}

impl ProvideCredential for Personal {
    fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    async fn credential(
        &self,
        request: &CredentialRequest<'_>,
    ) -> Result<Credential, CredentialError> {
        let subject = request.caller.user().subject();
        let values = self.values.lock();
        let value = values.iter().find(|(user, _)| *user == subject).map(|(_, value)| value);
        let secret = Secret::from_text(value.ok_or(CredentialError::ConnectRequired)?.clone());
        let origin = self.upstream.origin().clone();
        Ok(Credential::vouch(secret, origin).in_header(http::header::AUTHORIZATION))
    }

    async fn refused(&self, _: &UpstreamRefusal<'_>) {}
}

/// A broker whose upstream responds as the test sets.
struct Items {
    broker: Broker,
    reply: Arc<Mutex<Option<Response<ScriptedBody>>>>,
    values: Arc<Mutex<Vec<(&'static str, String)>>>,
}

impl Items {
    async fn start(values: &[(&'static str, &str)]) -> Self {
        let (upstream, reply) = upstream().await;
        let values: Vec<_> =
            values.iter().map(|(user, value)| (*user, (*value).to_owned())).collect();
        let values = Arc::new(Mutex::new(values));
        let of_users = Arc::clone(&values);
        let url = upstream.url("/mcp");
        let broker = Broker::in_front_of(&upstream)
            .start_with(move |_| Personal {
                upstream: Upstream::parse("items", &url).unwrap(),
                values: of_users,
            })
            .await;
        Self { broker, reply, values }
    }

    /// Two users, who have used their credentials.
    async fn of_two_users() -> Self {
        let (alices, bobs) = (format!("Bearer {ALICES}"), format!("Bearer {BOBS}"));
        let items = Self::start(&[("alice", &alices), ("bob", &bobs)]).await;
        items.broker.ledger().secret("alice's token", ALICES);
        items.broker.ledger().secret("bob's token", BOBS);
        for user in ["alice", "bob"] {
            assert_eq!(items.call(user, json(RESULT)).await.text(), RESULT);
        }
        items
    }

    async fn call(&self, user: &str, reply: Response<ScriptedBody>) -> RawResponse {
        *self.reply.lock() = Some(reply);
        let bearer = format!("Bearer {}", token(&self.broker, user, self.broker.resource()));
        let fields = [("authorization", bearer.as_str())];
        self.broker.send(&wire::post("/mcp", self.broker.host(), &fields, CALL)).await
    }

    fn logs(&self) -> String {
        String::from_utf8(self.broker.ledger().logs()).unwrap()
    }

    /// Returns how many echoes the last record counts.
    async fn echoes(&self) -> u64 {
        let records = self.broker.records().await;
        let last = records.iter().rfind(|record| record["count"].is_u64()).unwrap();
        last["echo_masked"].as_u64().unwrap()
    }
}

async fn upstream() -> (ScriptedServer, Arc<Mutex<Option<Response<ScriptedBody>>>>) {
    let reply = Arc::new(Mutex::new(None));
    let next: Arc<Mutex<Option<Response<ScriptedBody>>>> = Arc::clone(&reply);
    let upstream =
        ScriptedServer::start(move |_| next.lock().take().unwrap_or_else(|| json(RESULT))).await;
    (upstream, reply)
}

fn token(broker: &Broker, user: &str, resource: &Resource) -> String {
    let scopes = Scopes::parse("items:read").unwrap();
    let mint = Mint::for_user(user).client("test-client").resource(resource).scopes(scopes);
    let token = broker.issuer().mint(mint).unwrap().into_text();
    broker.ledger().token(&token);
    token
}

fn text(body: &str) -> Response<ScriptedBody> {
    Response::builder().header("content-type", "text/plain").body(full(body.to_owned())).unwrap()
}

fn event_stream(chunks: Vec<String>) -> Response<ScriptedBody> {
    let body = StreamBody::new(frames(chunks)).boxed_unsync();
    Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
}

fn with_text(text: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":[{{"type":"text","text":"{text}"}}]}}}}"#
    )
}

fn each(text: &str, write: impl Fn(u8) -> String) -> String {
    text.bytes().map(write).collect()
}

fn wrapped(text: &str, width: usize, line_end: &str) -> String {
    let lines: Vec<_> =
        text.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
    lines.join(line_end)
}

#[tokio::test]
async fn i440_another_users_credential_is_masked() {
    let items = Items::of_two_users().await;
    let response = items.call("alice", json(&with_text(BOBS))).await;
    assert_eq!(response.text(), with_text(&"*".repeat(BOBS.len())), "I440");
    assert_eq!(items.echoes().await, 1, "I440");
    // I441: an incident of its own.
    assert!(items.logs().contains(ANOTHER_USERS), "I441");
    items.broker.done().await;
}

#[tokio::test]
async fn i441_an_echo_of_ones_own_is_no_incident() {
    let items = Items::of_two_users().await;
    let response = items.call("alice", json(&with_text(ALICES))).await;
    assert_eq!(response.text(), with_text(&"*".repeat(ALICES.len())), "I441");
    let logs = items.logs();
    assert!(logs.contains(r#"alarm="exchange.upstream_echo""#) && !logs.contains(ANOTHER_USERS));
    items.broker.done().await;
}

#[tokio::test]
async fn i440_base64_in_lines_is_masked() {
    let items = Items::of_two_users().await;
    for (user, secret) in [("alice", ALICES), ("alice", BOBS)] {
        for before in ["", "a", "ab"] {
            let page = STANDARD.encode(format!("{before}{}{secret}, 200 OK", "-".repeat(70)));
            for width in [60, 64, 76] {
                for line_end in ["\r\n", "\n", "\n  ", "\\r\\n"] {
                    let sent = wrapped(&page, width, line_end);
                    let response = match line_end {
                        "\\r\\n" => items.call(user, json(&with_text(&sent))).await,
                        _ => items.call(user, with_status(400, text(&sent))).await,
                    };
                    assert_eq!(items.echoes().await, 1, "I440 {before} {width} {line_end:?}");
                    let joined: String =
                        response.text().replace("\\r\\n", "").split_whitespace().collect();
                    // A page of the upstream passes only as its status.
                    let expected = match line_end {
                        "\\r\\n" => "*".repeat(secret.len()),
                        _ => "theserverrespondedwithstatus400".to_owned(),
                    };
                    assert!(joined.contains(&expected), "I440 {width} {line_end:?} {joined}");
                }
            }
        }
    }
    items.broker.done().await;
}

fn with_status(status: u16, mut response: Response<ScriptedBody>) -> Response<ScriptedBody> {
    *response.status_mut() = status.try_into().unwrap();
    response
}

#[tokio::test]
async fn i442_the_password_of_basic_is_masked() {
    let password = "pa55-W0rd.of.alice";
    let value = STANDARD.encode(format!("alice:{password}"));
    let items = Items::start(&[("alice", &format!("Basic {value}")), ("bob", BOBS)]).await;
    items.broker.ledger().secret("the value as sent", &value);
    for (user, echo, echoes) in [
        ("alice", password.to_owned(), 1),
        ("alice", value.clone(), 1),
        ("alice", STANDARD.encode(format!("login with {password}")), 1),
        ("alice", "alice".to_owned(), 0),
        // In a response to another user, too.
        ("bob", password.to_owned(), 1),
        ("bob", value.clone(), 1),
    ] {
        let response = items.call(user, json(&with_text(&echo))).await;
        assert_eq!(items.echoes().await, echoes, "I442 {user} {echo}");
        assert!(!response.text().contains(password), "I442 {user} {echo}");
        assert_eq!(response.text().contains(&echo), echoes == 0, "I442 {user} {echo}");
    }
    items.broker.done().await;
}

#[tokio::test]
async fn i444_a_field_with_a_credential_in_its_name_is_removed() {
    let items = Items::of_two_users().await;
    let hex = each(BOBS, |byte| format!("{byte:02x}"));
    for name in
        [format!("x-{ALICES}"), format!("x-{BOBS}"), format!("{}-after", BOBS.to_lowercase()), hex]
    {
        let mut reply = json(RESULT);
        let field = HeaderName::from_bytes(name.as_bytes()).unwrap();
        reply.headers_mut().insert(field, HeaderValue::from_static("1"));
        let response = items.call("alice", reply).await;
        assert_eq!(response.header(&name), None, "I444 {name}");
        assert_eq!((response.text(), items.echoes().await), (RESULT, 1), "I444 {name}");
    }
    items.broker.done().await;
}

#[tokio::test]
async fn i440_another_users_credential_is_masked_in_each_form() {
    let items = Items::of_two_users().await;
    let coded = STANDARD.encode(BOBS);
    for form in [
        each(BOBS, |byte| format!("{byte:02x}")),
        each(BOBS, |byte| format!("{byte:02X}")),
        each(BOBS, |byte| format!("%{byte:02X}")),
        each(BOBS, |byte| format!("\\u{byte:04x}")),
        each(BOBS, |byte| format!("={byte:02X}")),
        each(BOBS, |byte| format!("&#{byte};")),
        STANDARD.encode(&coded),
        each(&coded, |byte| format!("%{byte:02X}")),
        BOBS.to_uppercase(),
        BOBS.replace('b', "\\u0062"),
        // Without its ends.
        BOBS.get(2..BOBS.len() - 2).unwrap().to_owned(),
    ] {
        let mut reply = json(&with_text(&form));
        let field = form.replace("\\u0062", "b");
        reply.headers_mut().insert("x-echo", field.parse().unwrap());
        let response = items.call("alice", reply).await;
        assert_eq!(items.echoes().await, 2, "I440 {form}");
        assert!(!response.text().contains(&form), "I440 {form}");
        assert!(response.header("x-echo").unwrap().ends_with("***"), "I440 {form}");
        assert_eq!(response.body.len(), with_text(&form).len(), "I440 {form}");
    }
    items.broker.done().await;
}

#[tokio::test]
async fn i440_another_users_credential_is_masked_at_each_cut() {
    let items = Items::of_two_users().await;
    let event = |text: &str| format!("data: {}\n\n", with_text(text));
    let coded = STANDARD.encode(format!("a{BOBS}"));
    for form in [BOBS, &coded] {
        let (before, after) = event("?").split_once('?').map(|(a, b)| (a.len(), b.len())).unwrap();
        let whole = event(form);
        for at in before + 1..whole.len() - after {
            let (first, second) = whole.split_at(at);
            let chunks = vec![event("first"), first.to_owned(), second.to_owned(), event("last")];
            let response = items.call("alice", event_stream(chunks)).await;
            let text = response.text();
            assert!(text.starts_with(&event("first")) && text.ends_with(&event("last")), "{text}");
            assert!(!text.contains(form.get(form.len() - 12..).unwrap()), "I440 {at} {text}");
            assert_eq!(items.echoes().await, 1, "I440 {at} {text}");
        }
    }
    items.broker.done().await;
}

#[tokio::test]
async fn i440_a_credential_of_another_server_is_masked() {
    // One broker, two servers. The secret of the second is live; the first has it, too.
    let (first, reply) = upstream().await;
    let second = ScriptedServer::start(|_| json(RESULT)).await;
    let (listener, stack, broker): (_, Stack<_>, _) = Broker::in_front_of(&first).prepare().await;
    let uri = format!("http://{}/other", broker.address());
    let upstream = Upstream::parse("other", &second.url("/mcp")).unwrap();
    let others = broker
        .handle()
        .protect(&uri)
        .authenticate(JwtVerifier::new(ISSUER, broker.issuer().keys()))
        .scope_filter(Rules::new().allow(tools(["get_*"])))
        .exchange(StaticSecret::new(Secret::from_text(BOBS.to_owned()), upstream).unwrap())
        .build()
        .unwrap();
    let routes = Router::new()
        .route_service("/mcp", stack.layer(proxy()))
        .route_service("/other", others.layer(proxy()));
    serve(listener, routes);
    let bearer = format!("Bearer {}", token(&broker, "bob", &Resource::parse(&uri).unwrap()));
    let call = wire::post("/other", broker.host(), &[("authorization", &bearer)], CALL);
    assert_eq!(broker.send(&call).await.text(), RESULT);
    assert_eq!(second.received()[0].values("authorization"), [format!("Bearer {BOBS}")]);

    *reply.lock() = Some(json(&with_text(&format!("{BOBS} {SECRET}"))));
    let response = broker.call_with(&[], CALL).await;
    let masked = format!("{} {}", "*".repeat(BOBS.len()), "*".repeat(SECRET.len()));
    assert_eq!(response.text(), with_text(&masked), "I440");
    let logs = String::from_utf8(broker.ledger().logs()).unwrap();
    assert!(logs.contains(ANOTHER_USERS), "I441");
    broker.done().await;
}

#[tokio::test]
async fn i440_a_credential_is_masked_after_its_refresh() {
    let items = Items::of_two_users().await;
    let fresh = "tbm-alice.Zq8wLr2VxKd0aHs7NfYc4TgUeJ1PoB";
    items.broker.ledger().secret("alice's next token", fresh);
    items.values.lock()[0].1 = format!("Bearer {fresh}");
    let response = items.call("alice", json(&with_text(&format!("{ALICES} {fresh}")))).await;
    let masked = format!("{} {}", "*".repeat(ALICES.len()), "*".repeat(fresh.len()));
    assert_eq!((response.text(), items.echoes().await), (with_text(&masked).as_str(), 2), "I440");
    assert!(!items.logs().contains(ANOTHER_USERS), "I441: both are alice's");
    items.broker.done().await;
}

#[tokio::test]
async fn i440_another_users_credential_in_a_trailer_is_masked() {
    let upstream = ScriptedServer::raw(|_| {
        let event = format!("data: {RESULT}\n\n");
        let (length, coded) = (event.len(), STANDARD.encode(BOBS));
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
             transfer-encoding: chunked\r\ntrailer: x-echo, x-after\r\n\r\n\
             {length:x}\r\n{event}\r\n0\r\nx-echo: {coded}\r\nx-{BOBS}: 1\r\nx-after: 7\r\n\r\n"
        )
    })
    .await;
    let url = upstream.url("/mcp");
    let values = vec![("alice", format!("Bearer {ALICES}")), ("bob", format!("Bearer {BOBS}"))];
    let (listener, stack, broker) = Broker::in_front_of(&upstream)
        .prepare_with(move |_| Personal {
            upstream: Upstream::parse("items", &url).unwrap(),
            values: Arc::new(Mutex::new(values)),
        })
        .await;
    serve(listener, Router::new().fallback_service(stack.layer(proxy())));
    broker.ledger().secret("alice's token", ALICES);
    broker.ledger().secret("bob's token", BOBS);
    let bearer = format!("Bearer {}", token(&broker, "bob", broker.resource()));
    let call = wire::post("/mcp", broker.host(), &[("authorization", &bearer)], CALL);
    assert_eq!(broker.send(&call).await.status, 200);
    let response = broker.call_http_2(CALL).await;
    let came = std::str::from_utf8(&response.raw).unwrap();
    let stars = "*".repeat(STANDARD.encode(BOBS).trim_end_matches('=').len());
    assert!(came.contains("x-after: 7") && came.contains(&format!("x-echo: {stars}")), "{came}");
    assert!(!came.to_lowercase().contains(&BOBS.to_lowercase()), "I444 {came}");
    broker.done().await;
}

#[tokio::test]
async fn i440_a_handlers_response_has_no_credential_of_others() {
    let (upstream, reply) = upstream().await;
    let url = upstream.url("/v1/items/7");
    let (listener, stack, _, broker) = Broker::in_front_of(&upstream).prepare_for_handler().await;
    let values = vec![("alice", format!("Bearer {SECRET}")), ("bob", format!("Bearer {BOBS}"))];
    let source = Personal {
        upstream: Upstream::parse("items", &upstream.url("/")).unwrap(),
        values: Arc::new(Mutex::new(values)),
    };
    broker.ledger().secret("bob's token", BOBS);
    let api = ExchangeLayer::for_handler(broker.handle(), source).layer(proxy());
    let handler = service_fn(move |request: Request<RequestBody<axum::body::Body>>| {
        let caller = request.extensions().get::<CallerHandle>().expect("a caller").clone();
        let (api, url) = (api.clone(), url.clone());
        async move { Ok::<_, Infallible>(relay(api, caller, &url).await) }
    });
    serve(listener, Router::new().route_service("/mcp", stack.layer(handler)));
    for user in ["bob", "alice"] {
        *reply.lock() = Some(json(&with_text(BOBS)));
        let bearer = format!("Bearer {}", token(&broker, user, broker.resource()));
        let call = wire::post("/mcp", broker.host(), &[("authorization", &bearer)], CALL);
        let response = broker.send(&call).await;
        let masked = "*".repeat(BOBS.len());
        assert_eq!(response.text(), with_text(&masked), "I440 {user}");
        // The handler has reversed what it must not see, which no search finds.
        assert_eq!(response.header("x-seen"), Some(masked.as_str()), "I440 {user}");
    }
    broker.done().await;
}

async fn relay(
    api: tower_token_broker::exchange::Exchange<Proxy, Personal>,
    caller: CallerHandle,
    url: &str,
) -> axum::response::Response {
    let mut request = Request::get(url).body(Empty::<Bytes>::new()).unwrap();
    caller.stamp(&mut request);
    let response = api.oneshot(request).await.unwrap();
    let text = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(text.to_vec()).unwrap();
    let seen: String = text.split('"').rfind(|part| part.len() == BOBS.len()).unwrap().to_owned();
    let seen: String = seen.chars().rev().collect();
    let mut response = text.into_response();
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    response.headers_mut().insert("x-seen", seen.parse().unwrap());
    response
}

#[tokio::test]
async fn i447_data_of_others_passes_unchanged() {
    let items = Items::of_two_users().await;
    // A JWT of another party, an image, a digest.
    let jwt = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.\
               tyh-VfuzIxCyGYDlkBA7DfyjrqmSHu6pQ2hoZuFqUSLPNY2N\
               0mpHb3nk5K17HWP_3cYHBw7AhHale5wky6-sVA";
    let image: Vec<u8> = (0..6000_u32)
        .map(|at| u8::try_from(at.wrapping_mul(2_654_435_761).rotate_left(9) & 0xff).unwrap())
        .collect();
    let image = STANDARD.encode(image);
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    for text in [jwt, &image, &wrapped(&image, 76, "\\n"), digest, "tbm-bob.", "100 %25 \\\\ done"]
    {
        let response = items.call("alice", json(&with_text(text))).await;
        assert_eq!(response.text(), with_text(text), "I447");
        assert_eq!(items.echoes().await, 0, "I447");
    }
    items.broker.done().await;
}

#[tokio::test]
async fn i449_parts_that_are_no_secret_pass_unchanged() {
    let tenant = "3f2504e0-4f89-41d3-9a0c-0305e82c3301";
    let host = "tools.eu-west-1.example.com";
    let header = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";
    let signature = "Hn3vTc6yRb9mWk4pLd7sQx2f";
    for (bobs, parts) in [
        (format!("{BOBS}.{tenant}"), vec![tenant]),
        (format!("{BOBS}.{host}"), vec![host]),
        (format!("{BOBS}{}", "0".repeat(30)), vec!["000000000000000000000000000000000000000000"]),
        (format!("{header}.e30.{signature}"), vec![header, "structuredContent.inputSchema"]),
        (BOBS.to_owned(), vec!["Hn3vTc6yRb9mWk4p"]),
    ] {
        let items = Items::start(&[
            ("alice", &format!("Bearer {ALICES}")),
            ("bob", &format!("Bearer {bobs}")),
        ])
        .await;
        items.broker.ledger().secret("alice's token", ALICES);
        items.broker.ledger().secret("bob's token", &bobs);
        assert_eq!(items.call("bob", json(RESULT)).await.text(), RESULT);
        for part in parts {
            let response = items.call("alice", json(&with_text(part))).await;
            assert_eq!(response.text(), with_text(part), "I449 {bobs}");
            assert_eq!(items.echoes().await, 0, "I449 {bobs}");
        }
        let response = items.call("alice", json(&with_text(&bobs))).await;
        let stars = "*".repeat(bobs.len().min(64));
        assert!(response.text().contains(&stars), "I449 {bobs}: {}", response.text());
        items.broker.done().await;
    }
}

#[tokio::test]
async fn i450_a_suffix_of_all_tokens_passes() {
    let suffix = "-7Kp2Lm9Qr4Tz8Wv3Xb6Nc1Hd";
    let (alices, bobs) = (format!("{ALICES}{suffix}"), format!("{BOBS}{suffix}"));
    let items =
        Items::start(&[("alice", &format!("Bearer {alices}")), ("bob", &format!("Bearer {bobs}"))])
            .await;
    items.broker.ledger().secret("alice's token", &alices);
    items.broker.ledger().secret("bob's token", &bobs);
    for user in ["bob", "alice", "bob"] {
        assert_eq!(items.call(user, json(RESULT)).await.text(), RESULT);
    }
    let response = items.call("alice", json(&with_text(&format!("{suffix} {bobs}")))).await;
    let expected = format!("{suffix} {}", "*".repeat(bobs.len()));
    assert_eq!(response.text(), with_text(&expected), "I450");
    items.broker.done().await;
}

#[tokio::test]
async fn i452_other_encodings_are_masked() {
    let items = Items::of_two_users().await;
    for token in [ALICES, BOBS] {
        for form in [
            each(token, |byte| format!("&#{byte:09};")),
            each(token, |byte| format!("&#x{byte:07x};")),
            each(token, |byte| format!("{byte:02x}:")),
            each(token, |byte| format!("{byte:02X} ")),
            each(token, |byte| format!("{byte}, ")),
            each(token, |byte| format!("\\u{byte:04x}\\u0000")),
            STANDARD.encode(each(token, |byte| format!("{}\0", char::from(byte)))),
        ] {
            let response = items.call("alice", json(&with_text(&form))).await;
            let text = response.text();
            let stars = text.matches('*').count();
            assert!(stars + 6 >= form.len() && text.len() == with_text(&form).len(), "I452 {text}");
            assert_eq!(items.echoes().await, 1, "I452 {form}");
        }
    }
    items.broker.done().await;
}
