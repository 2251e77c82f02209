//! Clients that are described by a metadata document at the URL that is their ID.

use std::{
    collections::HashMap,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use token_broker_authority::client::{ClientDocuments, DocumentLimits};
use tower_service::Service;

use crate::support::*;

pub(crate) const CLIENT: &str = "https://client.example/oauth/client.json";

/// Status, `Cache-Control` and body.
type Page = (u16, String, String);

/// The web, as the outbound client sees it.
#[derive(Clone, Default)]
pub(crate) struct Web {
    pages: Arc<Mutex<HashMap<String, Page>>>,
    fetched: Arc<Mutex<Vec<String>>>,
}

impl Web {
    pub(crate) fn put(&self, url: &str, status: u16, cache_control: &str, body: &Value) {
        let page = (status, cache_control.to_owned(), body.to_string());
        self.pages.lock().insert(url.to_owned(), page);
    }

    pub(crate) fn fetches(&self) -> usize {
        self.fetched.lock().len()
    }

    /// Returns the number of fetches whose URL contains this text.
    pub(crate) fn fetches_of(&self, part: &str) -> usize {
        self.fetched.lock().iter().filter(|url| url.contains(part)).count()
    }
}

impl Service<Request<Bytes>> for Web {
    type Response = Response<Bytes>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Bytes>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        self.fetched.lock().push(request.uri().to_string());
        if request.uri().path().contains("hangs") {
            return Box::pin(std::future::pending());
        }
        let pages = self.pages.lock();
        let (status, cache, body) =
            pages.get(&request.uri().to_string()).cloned().unwrap_or((404, "".into(), "".into()));
        let response = Response::builder()
            .status(status)
            .header("content-type", "application/json")
            .header("cache-control", cache)
            .body(Bytes::from(body));
        Box::pin(std::future::ready(Ok(response.unwrap())))
    }
}

pub(crate) fn document() -> Value {
    json!({
        "client_id": CLIENT, "client_name": "Claude Code",
        "redirect_uris": ["http://127.0.0.1/callback", "https://client.example/cb"],
        "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"],
    })
}

pub(crate) async fn server(web: &Web, limits: DocumentLimits) -> Server {
    let web = web.clone();
    Server::start_with(|broker, builder| {
        builder.server(crm()).client_documents(ClientDocuments::new(broker, web, limits))
    })
    .await
}

#[tokio::test]
async fn a_client_is_known_by_its_document() {
    let web = Web::default();
    web.put(CLIENT, 200, "max-age=600", &document());
    let server = server(&web, DocumentLimits::default()).await;
    let metadata = server.get("/.well-known/oauth-authorization-server").await.json();
    assert_eq!(metadata["client_id_metadata_document_supported"], true);
    let page = server.authorize_as("alice", &authorization(CLIENT)).await.json();
    assert_eq!((&page["client"], &page["claimed_name"]), (&CLIENT.into(), &"Claude Code".into()));
    assert_eq!(page["identity"], r#"MetadataDocument { host: "client.example" }"#);
    let reply = server.decide("alice", &page, "allow").await;
    let code = reply.redirect_param("code").unwrap();
    let tokens = server.redeem(CLIENT, &code).await.json();
    assert_eq!(server.refresh(CLIENT, &text(&tokens["refresh_token"])).await.status, 200);
    assert_eq!(web.fetches(), 1, "cached");
    let evil = with(&authorization(CLIENT), "redirect_uri", "https://evil.example/cb").clone();
    assert_eq!(
        server.authorize_as("alice", &evil).await.page_error(),
        "authz.redirect_uri",
        "D085"
    );
}

#[tokio::test]
async fn c079_a_document_must_name_its_url_and_have_no_secret() {
    let web = Web::default();
    let limits = {
        let mut limits = DocumentLimits::default();
        limits.fetches_per_caller = token_broker_authority::Quota::per_minute(100);
        limits
    };
    let server = server(&web, limits).await;
    let change = |name: &str, value: Value| {
        let mut document = document();
        document[name] = value;
        document
    };
    for (status, document) in [
        (200, change("client_id", json!("https://client.example/oauth/client.json/"))),
        (200, change("client_id", json!("https://CLIENT.example/oauth/client.json"))),
        (200, change("client_id", json!("https://other.example/c"))),
        (200, change("client_id", Value::Null)),
        (200, change("client_secret", json!("x"))),
        (200, change("client_secret_expires_at", json!(0))),
        (200, change("token_endpoint_auth_method", json!("client_secret_basic"))),
        (200, change("token_endpoint_auth_method", json!("private_key_jwt"))),
        (200, change("redirect_uris", json!([]))),
        (200, change("redirect_uris", json!(["https://other.example/cb"]))),
        (200, change("redirect_uris", json!(["https://client.example.evil.example/cb"]))),
        (200, change("redirect_uris", json!(["javascript:alert(1)"]))),
        (200, change("client_name", json!("a\u{202}b\u{0}"))),
        (200, change("x", json!("y".repeat(16 * 1024)))),
        (200, json!([])),
        (201, document()),
        (302, document()),
        (404, document()),
        (500, document()),
    ] {
        web.put(CLIENT, status, "max-age=600", &document);
        let reply = server.authorize_as("alice", &authorization(CLIENT)).await;
        assert_eq!(reply.page_error(), "authz.client_document", "{status} {document}");
        let reply = server.refresh(CLIENT, "tbr_x.1.y").await;
        assert!(matches!(reply.status, 401 | 503), "{status} {document}");
    }
    // Nothing of it is kept.
    web.put(CLIENT, 200, "", &document());
    assert_eq!(server.authorize_as("alice", &authorization(CLIENT)).await.status, 200);
}

#[tokio::test]
async fn c079_a_host_vouches_for_its_own_pages() {
    let web = Web::default();
    let mut document = document();
    document["redirect_uris"] = json!([REDIRECT, "https://other.example/cb", "app.example:/cb"]);
    web.put(CLIENT, 200, "max-age=600", &document);
    let server = server(&web, DocumentLimits::default()).await;
    let query = authorization(CLIENT);
    for (uri, status) in
        [(REDIRECT, 200), ("app.example:/cb", 200), ("https://other.example/cb", 400)]
    {
        let reply = server.authorize_as("alice", &with(&query, "redirect_uri", uri)).await;
        assert_eq!((reply.status, reply.location()), (status, None), "C079 {uri}");
    }
}

#[tokio::test]
async fn a_document_is_cached_within_bounds() {
    let minute = minutes(1);
    for (cache_control, fresh_for) in [
        ("no-store", minute),
        ("no-cache, max-age=600", minute),
        ("max-age=0", minute),
        ("max-age=300", minute * 5),
        ("public, max-age=\"300\"", minute * 5),
        ("", minute * 10),
        ("max-age=99999999", minute * 24 * 60),
        ("max-age=-1", minute),
        ("max-age=999999999999999999999", minute),
    ] {
        let web = Web::default();
        web.put(CLIENT, 200, cache_control, &document());
        let server = server(&web, DocumentLimits::default()).await;
        let ask = async || server.authorize_as("alice", &authorization(CLIENT)).await.status;
        assert_eq!(ask().await, 200);
        server.clock.advance(fresh_for - Duration::from_secs(1));
        assert_eq!((ask().await, web.fetches()), (200, 1), "{cache_control}");
        server.clock.advance(Duration::from_secs(1));
        assert_eq!((ask().await, web.fetches()), (200, 2), "{cache_control}");
    }
}

#[tokio::test]
async fn a_host_in_trouble_signs_nobody_out() {
    let web = Web::default();
    web.put(CLIENT, 200, "max-age=60", &document());
    let server = server(&web, DocumentLimits::default()).await;
    let code = server.code(CLIENT).await;
    let mut token = text(&server.redeem(CLIENT, &code).await.json()["refresh_token"]);
    web.put(CLIENT, 503, "", &json!("later"));
    for _ in 0..6 {
        server.clock.advance(minutes(24 * 60));
        let reply = server.refresh(CLIENT, &token).await;
        assert_eq!(reply.status, 200, "the last document is used");
        token = text(&reply.json()["refresh_token"]);
    }
    server.clock.advance(minutes(24 * 60));
    let reply = server.refresh(CLIENT, &token).await;
    assert_eq!((reply.status, reply.headers.contains_key("retry-after")), (503, true));
    web.put(CLIENT, 200, "max-age=60", &document());
    assert_eq!(server.refresh(CLIENT, &token).await.status, 200, "nothing was consumed");
    // A host that states that there is no such client is believed.
    web.put(CLIENT, 404, "", &json!("gone"));
    server.clock.advance(minutes(2));
    assert_eq!(server.refresh(CLIENT, &token).await.error(), "invalid_client");
}

#[tokio::test]
async fn the_fetches_of_one_host_are_bounded() {
    let web = Web::default();
    let server = server(&web, DocumentLimits::default()).await;
    for number in 0..60 {
        let client = format!("https://client.example/{number}");
        let reply = server.authorize_as("alice", &authorization(&client)).await;
        assert_eq!(reply.page_error(), "authz.client_document");
    }
    assert_eq!(web.fetches(), 10);
    let other = "https://other.example/c";
    server.authorize_as("alice", &authorization(other)).await;
    assert_eq!(web.fetches(), 11, "another host");
}

#[tokio::test]
async fn the_number_of_documents_is_bounded() {
    let web = Web::default();
    let mut limits = DocumentLimits::default();
    limits.capacity = 3;
    let server = server(&web, limits).await;
    let ask = async |host: u32| {
        let client = format!("https://c{host}.example/c");
        let mut document = document();
        document["client_id"] = client.clone().into();
        web.put(&client, 200, "max-age=3600", &document);
        server.authorize_as("alice", &authorization(&client)).await.status
    };
    for host in 0..10 {
        assert_eq!(ask(host).await, 200);
        server.clock.advance(Duration::from_secs(1));
    }
    assert_eq!((ask(9).await, ask(8).await, ask(7).await, web.fetches()), (200, 200, 200, 10));
    assert_eq!((ask(0).await, web.fetches()), (200, 11), "the oldest are removed");
}

#[tokio::test]
async fn many_requests_share_one_fetch() {
    let web = Web::default();
    web.put(CLIENT, 200, "", &document());
    let server = server(&web, DocumentLimits::default()).await;
    let query = authorization(CLIENT);
    let ask = || server.authorize_as("alice", &query);
    let (a, b, c, d) = tokio::join!(ask(), ask(), ask(), ask());
    assert_eq!([a, b, c, d].map(|reply| reply.status), [200; 4]);
    assert_eq!(web.fetches(), 1);
}

#[tokio::test]
async fn without_a_client_no_url_is_fetched() {
    let server = Server::start().await;
    let metadata = server.get("/.well-known/oauth-authorization-server").await.json();
    assert_eq!(metadata["client_id_metadata_document_supported"], false);
    let reply = server.authorize_as("alice", &authorization(CLIENT)).await;
    assert_eq!(reply.page_error(), "authz.client");
}
