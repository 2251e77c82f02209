//! Texts that a record truncates: two requests that differ only after the end stay different.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Empty, Full};
use serde_json::{Value, json};
use token_broker_upstream::StaticSecret;
use tower::{ServiceExt as _, service_fn};
use tower_token_broker::{
    Broker, Secret,
    audit::InMemory,
    authenticate::{VerifyError, VerifyRequest, VerifyToken},
    exchange::Upstream,
    limits::Protocol,
    principal::{Scopes, TokenTimes, User, Verified},
    resource_metadata::ResourceMetadata,
    scope_filter::{Call, Decision},
};

/// Vouches for a caller, one text of whom is long and ends in `end`.
#[derive(Clone, Copy)]
struct Long {
    member: &'static str,
    end: char,
}

impl Long {
    fn text(self, member: &str, short: &str) -> String {
        if self.member == member { long(self.end) } else { short.to_owned() }
    }
}

/// A text that is different only after many slashes.
fn long(end: char) -> String {
    format!("{}{end}", "/".repeat(256))
}

impl VerifyToken for Long {
    async fn verify(&self, request: &VerifyRequest<'_>) -> Result<Verified, VerifyError> {
        let user = User::new(
            self.text("issuer", "https://issuer.example.com"),
            self.text("subject", "alice"),
        );
        let id = self.text("token", "token-1");
        let now = request.clock.now();
        let expires_at = now.plus(Duration::from_secs(60));
        let times = TokenTimes { id: &id, issued_at: now, expires_at };
        let client = self.text("client", "client-1");
        Ok(Verified::vouch(user, &client, request.resource.clone(), times)
            .with_scopes(Scopes::parse("read").expect("scopes"))
            .with_family(&self.text("family", "family-1")))
    }
}

/// Sends one request through the stack, and returns its records without what always differs.
async fn records_of(protocol: Protocol, caller: Long, request: Request<Full<Bytes>>) -> Vec<Value> {
    let records = InMemory::new();
    let broker = Broker::builder().audit(records.clone()).build().unwrap();
    let upstream = Upstream::parse("items", "http://127.0.0.1:1/").unwrap();
    let secret = Secret::from_text("unused-0123456789abcdef".to_owned());
    let stack = broker
        .protect("https://broker.example.com/mcp")
        .protocol(protocol)
        .metadata(ResourceMetadata::new().authorization_server("https://issuer.example.com"))
        .authenticate(caller)
        .scope_filter(|_: &_, _: &Call<'_>| Decision::allow())
        .exchange(StaticSecret::new(secret, upstream).unwrap())
        .build()
        .unwrap();
    let service = stack
        .layer(service_fn(async |_| Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))));
    drop(service.oneshot(request).await.unwrap().into_body().collect().await);
    broker.audit_log().flush().await.unwrap();
    let parsed = records.lines().into_iter().map(|line| line.parse::<Value>().unwrap());
    let of_request = parsed.filter(|record| record["request"].is_string());
    let mut found: Vec<Value> = of_request.collect();
    for record in &mut found {
        let members = record.as_object_mut().unwrap();
        for own in ["seq", "time", "started", "request", "prev", "hash"] {
            members.remove(own);
        }
    }
    found
}

fn message(message: &Value) -> Request<Full<Bytes>> {
    Request::post("/mcp")
        .header(header::HOST, "broker.example.com")
        .header(header::AUTHORIZATION, "Bearer opaque")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, text/event-stream")
        .header("mcp-protocol-version", "2025-11-25")
        .body(Full::from(message.to_string()))
        .unwrap()
}

fn call(method: &str, params: &Value) -> Request<Full<Bytes>> {
    message(&json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
}

#[tokio::test]
async fn p381_callers_that_differ_at_the_end_stay_different() {
    for member in ["issuer", "subject", "client", "token", "family"] {
        let records = async |end| {
            let request = call("tools/call", &json!({"name": "get_item", "arguments": {}}));
            records_of(Protocol::Mcp, Long { member, end }, request).await
        };
        let (one, other) = (records('1').await, records('2').await);
        // The intent and the result.
        assert_eq!((one.len(), other.len()), (2, 2), "{member}: {one:#?}");
        for (one, other) in one.iter().zip(&other) {
            assert_eq!(one[member], other[member], "{member} is truncated");
            let hash = format!("{member}_sha256");
            assert!(one[&hash].is_string(), "{member}: {one}");
            assert_ne!(one[&hash], other[&hash], "{member}");
        }
        assert_eq!(one, records('1').await, "nothing else differs");
    }
}

#[tokio::test]
async fn p381_items_that_differ_at_the_end_stay_different() {
    type Ask = fn(char) -> Request<Full<Bytes>>;
    let asked: [(&str, &str, Protocol, Ask); 5] = [
        ("name", "a tool", Protocol::Mcp, |end| {
            call("tools/call", &json!({"name": long(end), "arguments": {}}))
        }),
        ("name", "a prompt", Protocol::Mcp, |end| call("prompts/get", &json!({"name": long(end)}))),
        ("name", "a resource", Protocol::Mcp, |end| {
            call("resources/read", &json!({"uri": format!("file:{}", long(end))}))
        }),
        ("method", "a method", Protocol::Mcp, |end| {
            call(&format!("x{}", "y".repeat(256) + &end.to_string()), &json!({}))
        }),
        ("name", "a path", Protocol::Http, |end| {
            let path = format!("/mcp/{}{end}", "a".repeat(300));
            let mut request = call("", &json!({}));
            *request.uri_mut() = path.parse().unwrap();
            request
        }),
    ];
    let caller = Long { member: "", end: ' ' };
    for (member, what, protocol, ask) in asked {
        let records = async |end| records_of(protocol, caller, ask(end)).await;
        let (one, other) = (records('1').await, records('2').await);
        let (one, other) = (one.last().unwrap(), other.last().unwrap());
        assert_eq!(one[member], other[member], "{what}: it is truncated");
        let hash = format!("{member}_sha256");
        assert!(one[&hash].is_string(), "{what}: {one}");
        assert_ne!(one[&hash], other[&hash], "{what}");
    }
}
