//! The authority's pages over real sockets, as a proxy that ends TLS sends requests to them.

use std::net::SocketAddr;

use axum::Router;
use token_broker_authority::{
    authorize::PendingRequests,
    pages::{ConnectionsView, Site},
    sign_in::{
        AccessUnavailable, BrowserPages, BrowserPagesOptions, ClientAccess, HashCost, Password,
        Passwords, PasswordsOptions, new_subject,
    },
};
use token_broker_store::authority::{AccountStore, MemoryAuthority, NewAccount, UserName};
use token_broker_tests::wire::{self, RawResponse};
use tokio::net::TcpListener;
use tower_token_broker::{
    Broker, Secret, audit::InMemory, principal::User, sealing::SealingKeys, tasks::Tasks,
};

pub(crate) const HOST: &str = "broker.example.com";
pub(crate) const PASSWORD: &str = "correct horse battery";
const SESSION: &str = "__Host-token-broker-session";
const VISIT: &str = "__Host-token-broker-visit";

struct NoAccess;

impl ClientAccess for NoAccess {
    async fn clients(&self, _: &User) -> Result<ConnectionsView, AccessUnavailable> {
        Ok(ConnectionsView::new(Vec::new()))
    }

    async fn end(&self, _: &User, _: &str) -> Result<bool, AccessUnavailable> {
        Ok(false)
    }

    async fn end_all(&self, _: &User) -> Result<(), AccessUnavailable> {
        Ok(())
    }
}

/// Returns the routes of the pages, with the account `alice`.
pub(crate) async fn pages(broker: &Broker) -> Router {
    let (store, issuer) = (MemoryAuthority::new(), format!("https://{HOST}"));
    let cost = PasswordsOptions::default().cost(HashCost::cheap_for_tests());
    let password = Password::parse(PASSWORD).unwrap();
    let hash = Secret::from_text(Passwords::new(cost).hash(&password).await.unwrap());
    let name = UserName::parse("alice").unwrap();
    let account = NewAccount::new(&new_subject(), name, hash, broker.clock().now());
    store.create_account(&account).await.map(drop).unwrap();
    let pending =
        PendingRequests::new(SealingKeys::generate(), broker.clock().clone(), &issuer, "");
    let pages = BrowserPages::new(
        broker,
        (Site::new(&issuer).unwrap(), &issuer),
        (store, NoAccess),
        pending,
        BrowserPagesOptions::default().passwords(cost),
    );
    pages.router()
}

async fn start() -> SocketAddr {
    let broker = Broker::builder().audit(InMemory::new()).build().unwrap();
    let app = pages(&broker).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(Tasks::new().spawn("pages", async { axum::serve(listener, app).await.unwrap() }));
    address
}

async fn get(to: SocketAddr, path: &str, cookies: &[&str]) -> RawResponse {
    let mut request = format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n");
    for cookie in cookies {
        request.push_str(&format!("cookie: {cookie}\r\n"));
    }
    request.push_str("\r\n");
    wire::send(to, request.as_bytes()).await
}

/// Sends the sign-in form with these fields of the head and this body.
pub(crate) async fn post(to: SocketAddr, fields: &[(&str, &str)], body: &str) -> RawResponse {
    let form = ("content-type", "application/x-www-form-urlencoded");
    let fields: Vec<_> = [form].iter().chain(fields).copied().collect();
    wire::send(to, &wire::post("/sign-in", HOST, &fields, body)).await
}

/// Returns the value of the cookie that a response sets.
fn cookie(response: &RawResponse, name: &str) -> String {
    let mut values = response.headers.iter().filter(|(field, _)| field == "set-cookie");
    let value = values.find_map(|(_, value)| value.strip_prefix(&format!("{name}=")));
    value.unwrap().split(';').next().unwrap().to_owned()
}

/// Opens the sign-in page, and returns the cookie of the visit and the body of the form.
pub(crate) async fn form(to: SocketAddr) -> (String, String) {
    let page = get(to, "/sign-in", &[]).await;
    assert_eq!(page.status, 200);
    let (_, token) = page.text().split_once("name=\"csrf\" value=\"").unwrap();
    let token = token.split('"').next().unwrap();
    let visit = format!("{VISIT}={}", cookie(&page, VISIT));
    (visit, format!("user=alice&password=correct+horse+battery&csrf={token}"))
}

pub(crate) const OWN: (&str, &str) = ("origin", "https://broker.example.com");

#[tokio::test]
async fn a_sign_in_sets_a_cookie_for_this_host_only() {
    let to = start().await;
    let (visit, body) = form(to).await;
    let response = post(to, &[OWN, ("cookie", &visit)], &body).await;
    assert_eq!((response.status, response.header("location")), (303, Some("/connections")));
    let set = response.headers.iter().find(|(_, value)| value.starts_with(SESSION));
    let attributes = set.unwrap().1.split_once("; ").unwrap().1;
    assert_eq!(attributes, "Path=/; Max-Age=43200; Secure; HttpOnly; SameSite=Lax");
    let session = format!("{SESSION}={}", cookie(&response, SESSION));
    assert_eq!(get(to, "/connections", &[&session]).await.status, 200);
    // HTTP/2 splits the cookies into several fields.
    assert_eq!(get(to, "/connections", &["a=b", &session]).await.status, 200);
}

#[tokio::test]
async fn d523_two_session_cookies_are_none() {
    let to = start().await;
    let (visit, body) = form(to).await;
    let response = post(to, &[OWN, ("cookie", &visit)], &body).await;
    let session = format!("{SESSION}={}", cookie(&response, SESSION));
    let other = format!("{SESSION}={}", "A".repeat(43));
    let both = format!("{session}; {other}");
    let bare = session.replace("__Host-", "");
    for cookies in [&[&*session, &*other][..], &[&*both], &[&*bare]] {
        assert_eq!(get(to, "/connections", cookies).await.status, 303, "D523 {cookies:?}");
    }
}

#[tokio::test]
async fn d098_forged_requests_on_the_wire_are_refused() {
    let to = start().await;
    let (visit, body) = form(to).await;
    let cookie = ("cookie", &*visit);
    let evil = ("origin", "https://evil.example");
    for fields in [
        &[cookie][..],
        &[cookie, evil],
        &[cookie, OWN, evil],
        &[cookie, OWN, OWN],
        &[cookie, ("origin", "null")],
        &[cookie, ("origin", "https://BROKER.example.com")],
        &[cookie, OWN, ("sec-fetch-site", "cross-site")],
        &[cookie, ("sec-fetch-site", "same-origin"), ("sec-fetch-site", "same-origin")],
        &[OWN],
    ] {
        let response = post(to, fields, &body).await;
        assert_eq!(response.status, 403, "D098 {fields:?}");
        assert!(!response.headers.iter().any(|(_, value)| value.starts_with(SESSION)), "D098");
    }
    // Control: `null` from our own page.
    let fields = [cookie, ("origin", "null"), ("sec-fetch-site", "same-origin")];
    assert_eq!(post(to, &fields, &body).await.status, 303);
}

#[tokio::test]
async fn d524_ambiguous_forms_on_the_wire_are_refused() {
    let to = start().await;
    let (visit, body) = form(to).await;
    let head = [OWN, ("cookie", &*visit)];
    for (body, status) in [
        (format!("{body}&user=mallory"), 400),
        (format!("{body}&%75ser=mallory"), 400),
        (format!("{body}&x=%"), 400),
        (format!("{body}&x=%00"), 400),
        (format!("{body}&x={}", "x".repeat(40_000)), 413),
    ] {
        assert_eq!(post(to, &head, &body).await.status, status, "D524 {body:.60}");
    }
    let plain = [OWN, ("cookie", &*visit), ("content-type", "text/plain")];
    let response = wire::send(to, &wire::post("/sign-in", HOST, &plain, &body)).await;
    assert_eq!(response.status, 400, "D524");
    assert_eq!(post(to, &head, &body).await.status, 303, "control");
}

#[tokio::test]
async fn the_style_sheet_of_a_page_is_kept_for_ever() {
    let to = start().await;
    let page = get(to, "/sign-in", &[]).await;
    let (_, path) = page.text().split_once("rel=\"stylesheet\" href=\"").unwrap();
    let path = path.split('"').next().unwrap();
    let style = get(to, path, &[]).await;
    assert_eq!(style.status, 200);
    assert_eq!(style.header("cache-control"), Some("public, max-age=31536000, immutable"));
    assert!(page.text().len() + style.text().len() < 20 * 1024);
}
