//! Errors that a client causes on purpose, so that the browser is sent to its page
//! (RFC 9700 §4.11.2).

use serde_json::json;
use token_broker_authority::client::{ConfiguredClient, DocumentLimits};

use crate::{
    client_documents::{CLIENT, Web, document, server},
    support::*,
};

const WEB: &str = "https://client.example/cb";
const APP: &str = "com.example.app:/cb";

/// Parameters with an error, and its code.
const ERRORS: [(&str, &str, &str); 9] = [
    ("scope", "crm:admin", "invalid_scope"),
    ("prompt", "none", "consent_required"),
    ("response_type", "token", "unsupported_response_type"),
    ("response_mode", "form_post", "invalid_request"),
    ("code_challenge", "", "invalid_request"),
    ("resource", "https://broker.example.com/other/mcp", "invalid_target"),
    ("request", "e30.e30.", "request_not_supported"),
    ("request_uri", "https://client.example/r", "request_uri_not_supported"),
    ("state", "a\r\nb", "invalid_request"),
];

/// Requests each error; the browser is sent nowhere, signed in or not.
async fn expect_pages(server: &Server, client: &str, redirect: &str) {
    let query = authorization(client);
    let query = with(&query, "redirect_uri", redirect);
    for (name, value, code) in ERRORS {
        let query = with(&query, name, value);
        let target = format!("/oauth/authorize?{}", encode(&query));
        for reply in [server.authorize_as("alice", &query).await, server.get(&target).await] {
            assert_eq!(reply.location(), None, "D531 {name} {redirect}");
            assert_eq!(reply.status, 400, "D531 {name} {redirect}");
            assert!(!reply.headers.contains_key("refresh"), "D531");
            let page = reply.json();
            assert_eq!(page["refused"], code, "D531 {name} {redirect}");
            let link = text(&page["link"]);
            assert!(link.starts_with(&format!("{redirect}?error={code}")), "D531 {link}");
            assert!(link.contains("&iss=https%3A%2F%2Fbroker.example.com"), "D107 {link}");
        }
    }
}

#[tokio::test]
async fn d531_an_error_of_a_registered_client_is_a_page() {
    let server = Server::start().await;
    let client = server.register(&[WEB, APP, REDIRECT]).await;
    expect_pages(&server, &client, WEB).await;
    expect_pages(&server, &client, APP).await;
    // Twice is an error, too.
    let query = authorization(&client);
    let query = with(&query, "redirect_uri", WEB);
    let target = format!("/oauth/authorize?{}&scope=crm%3Aread", encode(&query));
    assert_eq!(server.get(&target).await.json()["refused"], "invalid_request", "D531");
    // On this computer, the application waits for the response.
    let reply = server.authorize_as("alice", &with(&authorization(&client), "scope", "x")).await;
    assert_eq!(reply.redirected_error(Some("xyz")), "invalid_scope");
}

#[tokio::test]
async fn d531_an_error_of_a_client_with_a_document_is_a_page() {
    let web = Web::default();
    let mut document = document();
    document["redirect_uris"] = json!([WEB, APP, REDIRECT]);
    web.put(CLIENT, 200, "max-age=600", &document);
    let server = server(&web, DocumentLimits::default()).await;
    expect_pages(&server, CLIENT, WEB).await;
    expect_pages(&server, CLIENT, APP).await;
    let reply = server.authorize_as("alice", &with(&authorization(CLIENT), "scope", "x")).await;
    assert_eq!(reply.redirected_error(Some("xyz")), "invalid_scope");
}

#[tokio::test]
async fn a_configured_client_receives_its_errors() {
    let server = Server::start_with(|_, builder| {
        builder.server(crm()).client(ConfiguredClient::new("reports", [WEB, APP]).unwrap())
    })
    .await;
    for redirect in [WEB, APP] {
        let query = authorization("reports");
        let query = with(&query, "redirect_uri", redirect);
        let reply = server.authorize_as("alice", &with(&query, "scope", "x")).await;
        assert_eq!(reply.status, 302, "the operator vouches for it");
        assert!(reply.location().unwrap().starts_with(redirect));
        assert_eq!(reply.redirect_param("error").as_deref(), Some("invalid_scope"));
    }
}

#[tokio::test]
async fn d531_an_error_after_the_sign_in_is_a_page() {
    let server = Server::start().await;
    let client = server.register(&[WEB]).await;
    let query = authorization(&client);
    let target = format!("/oauth/authorize?{}", encode(&with(&query, "redirect_uri", WEB)));
    let sign_in = server.get(&target).await;
    let pending = sign_in.location().unwrap().strip_prefix("/sign-in?continue=").unwrap();
    // The server was removed from the configuration since.
    let (store, clock) = (server.store.clone(), server.clock.clone());
    let later = Server::start_on(store, clock, |_, builder| builder.server(hr())).await;
    let target = format!("/oauth/continue?request={pending}");
    let reply = later.request("GET", &target, &[("cookie", "session=alice")], "").await;
    assert_eq!((reply.status, reply.location()), (400, None), "D531");
    assert_eq!(reply.json()["refused"], "invalid_target", "D531");
}

#[tokio::test]
async fn a_decision_of_the_user_returns_to_the_client() {
    let server = Server::start().await;
    let client = server.register(&[WEB]).await;
    let query = authorization(&client);
    let query = with(&query, "redirect_uri", WEB);
    for (decision, name) in [("allow", "code"), ("deny", "error")] {
        let page = server.authorize_as("alice", &query).await.json();
        let reply = server.decide("alice", &page, decision).await;
        assert_eq!(reply.status, 303);
        assert!(reply.location().unwrap().starts_with(WEB));
        assert!(reply.redirect_param(name).is_some(), "{decision}");
    }
}

#[tokio::test]
async fn d532_continuing_and_deciding_are_limited() {
    let server = Server::start().await;
    let client = server.register(&[REDIRECT]).await;
    for _ in 0..120 {
        let reply = server.get("/oauth/continue?request=x").await;
        assert_eq!(reply.page_error(), "authz.expired");
    }
    let reply = server.get("/oauth/continue?request=x").await;
    assert_eq!((reply.status, &*reply.page_error()), (429, "authz.rate_limited"), "D532");
    let form = [("request", "x")];
    for _ in 0..120 {
        assert_eq!(server.post("/oauth/consent", &form).await.page_error(), "authz.expired");
    }
    let reply = server.post("/oauth/consent", &form).await;
    assert_eq!((reply.status, &*reply.page_error()), (429, "authz.rate_limited"), "D532");
    // Each step has its own quota, and each address.
    assert_eq!(server.authorize_as("alice", &authorization(&client)).await.status, 200, "D532");
    let reply = server.from(2, "GET", "/oauth/continue?request=x", "").await;
    assert_eq!(reply.page_error(), "authz.expired", "D532");
    server.clock.advance(minutes(1));
    assert_eq!(server.get("/oauth/continue?request=x").await.page_error(), "authz.expired");
}
