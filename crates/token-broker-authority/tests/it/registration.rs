//! Dynamic client registration.

use serde_json::{Value, json};
use token_broker_authority::{AuthoritySettings, Quota};
use token_broker_store::authority::{ClientId, ClientStore};

use crate::support::*;

fn settings(change: impl FnOnce(&mut AuthoritySettings)) -> AuthoritySettings {
    let mut settings = AuthoritySettings::default();
    change(&mut settings);
    settings
}

#[tokio::test]
async fn the_response_has_what_was_registered() {
    let server = Server::start().await;
    let metadata = json!({
        "redirect_uris": ["https://client.example/cb", "com.example.app:/cb"],
        "client_name": "Inspector \u{1f50d}",
        "grant_types": ["authorization_code", "refresh_token", "client_credentials"],
        "response_types": ["code", "token"],
        "scope": "crm:read unknown",
        "software_id": "a", "software_version": "1",
        "client_uri": "https://client.example", "unknown": {"a": [1]},
    });
    let reply = server.post_json("/oauth/register", &metadata).await;
    assert_eq!(
        (reply.status, &reply.headers["cache-control"]),
        (201, &"no-store".parse().unwrap())
    );
    let mut registered = reply.json();
    let id = text(&registered["client_id"]);
    let secret = text(&registered["client_secret"]);
    assert_eq!((id.len(), secret.len()), (22, 43), "128 and 256 bits");
    for name in ["client_id", "client_secret"] {
        registered.as_object_mut().unwrap().remove(name);
    }
    let expected = json!({
        "client_id_issued_at": 1_800_000_000,
        "client_secret_expires_at": 0,
        "client_name": "Inspector \u{1f50d}",
        "redirect_uris": ["https://client.example/cb", "com.example.app:/cb"],
        "token_endpoint_auth_method": "client_secret_basic",
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "application_type": "native",
        "software_id": "a", "software_version": "1",
        "scope": "crm:read",
    });
    assert_eq!(registered, expected);
    // F147: the store has only the keyed hash.
    let stored = server.store.client(&ClientId::new(&id)).await.unwrap().unwrap();
    assert!(stored.secret.is_some() && !format!("{stored:?}").contains(&secret), "F147");
    let records = server.recorded("client_registered").await;
    assert_eq!(records[0]["client"], id);
    assert_eq!(records[0]["redirect_uris"], "https://client.example/cb com.example.app:/cb");
    assert!(records[0]["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
}

#[tokio::test]
async fn f146_metadata_that_cannot_be_used_is_refused() {
    let server = Server::start().await;
    let uris = |uri: &str| json!({"redirect_uris": [uri]});
    for (metadata, error) in [
        (uris("https://*.evil.example/"), "invalid_redirect_uri"),
        (uris("javascript:alert(1)"), "invalid_redirect_uri"),
        (uris("https://client.example/#a"), "invalid_redirect_uri"),
        (uris("http://client.example/"), "invalid_redirect_uri"),
        (uris("https://client.example/\r\nx"), "invalid_client_metadata"),
        (json!({}), "invalid_redirect_uri"),
        (json!({"redirect_uris": []}), "invalid_redirect_uri"),
        (json!([]), "invalid_client_metadata"),
        (
            json!({"redirect_uris": [REDIRECT], "jwks_uri": "https://169.254.169.254/"}),
            "invalid_client_metadata",
        ),
        (json!({"redirect_uris": [REDIRECT], "client_name": "a\u{0}b"}), "invalid_client_metadata"),
        (json!({"redirect_uris": [REDIRECT], "application_type": "web"}), "invalid_redirect_uri"),
        (json!({"redirect_uris": vec!["https://client.example/cb"; 33]}), "invalid_redirect_uri"),
    ] {
        let reply = server.post_json("/oauth/register", &metadata).await;
        assert_eq!((reply.status, &*reply.error()), (400, error), "F146 {metadata}");
    }
    let form = server.post("/oauth/register", &[("redirect_uris", REDIRECT)]).await;
    assert_eq!(form.error(), "invalid_client_metadata");
    let get = server.get("/oauth/register").await;
    assert_eq!(get.status, 405);
    assert_eq!(server.recorded("client_registered").await.len(), 0);
    assert_eq!(server.store.clients(&first_page()).await.unwrap().rows.len(), 0);
}

fn first_page() -> token_broker_store::authority::PageRequest {
    token_broker_store::authority::PageRequest::first()
}

#[tokio::test]
async fn f145_large_metadata_is_refused() {
    let server = Server::start().await;
    let many = vec!["https://client.example/cb"; 10_000];
    for body in [
        json!({"redirect_uris": many}).to_string(),
        json!({"redirect_uris": [REDIRECT], "x": "y".repeat(1024 * 1024)}).to_string(),
    ] {
        let head = format!(
            "POST /oauth/register HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        assert_eq!(server.send(head.as_bytes()).await.status, 413, "F145");
    }
    let deep =
        format!(r#"{{"redirect_uris":["{REDIRECT}"],"x":{}1{}}}"#, "[".repeat(40), "]".repeat(40));
    let fields = [("content-type", "application/json")];
    let reply = server.request("POST", "/oauth/register", &fields, &deep).await;
    assert_eq!(reply.error(), "invalid_client_metadata", "F145");
}

#[tokio::test]
async fn f145_one_address_registers_a_bounded_number_of_clients() {
    let server = Server::start_with(|_, builder| {
        let settings = settings(|settings| {
            settings.registration.per_address = Quota::per_hour(3);
        });
        builder.server(crm()).settings(settings)
    })
    .await;
    let metadata = json!({"redirect_uris": [REDIRECT]});
    for _ in 0..3 {
        assert_eq!(server.post_json("/oauth/register", &metadata).await.status, 201);
        // A mistake costs nothing.
        assert_eq!(server.post_json("/oauth/register", &Value::Null).await.status, 400);
    }
    let reply = server.post_json("/oauth/register", &metadata).await;
    assert_eq!(
        (reply.status, &reply.headers["retry-after"]),
        (429, &"1200".parse().unwrap()),
        "F145"
    );
    server.clock.advance(minutes(20));
    assert_eq!(server.post_json("/oauth/register", &metadata).await.status, 201);
}

#[tokio::test]
async fn f145_unused_clients_make_room() {
    let server = Server::start_with(|_, builder| {
        let settings = settings(|settings| settings.registration.max_clients = 3);
        builder.server(crm()).settings(settings)
    })
    .await;
    let metadata = json!({"redirect_uris": [REDIRECT]});
    let used = server.register(&[REDIRECT]).await;
    let code = server.code(&used).await;
    assert_eq!(server.redeem(&used, &code).await.status, 200);
    for _ in 0..2 {
        assert_eq!(server.post_json("/oauth/register", &metadata).await.status, 201);
    }
    let reply = server.post_json("/oauth/register", &metadata).await;
    assert_eq!((reply.status, reply.headers.contains_key("retry-after")), (503, true), "F145");
    server.clock.advance(minutes(24 * 60) + std::time::Duration::from_secs(1));
    assert_eq!(server.post_json("/oauth/register", &metadata).await.status, 201, "F145");
    let clients = server.store.clients(&first_page()).await.unwrap().rows;
    assert_eq!(clients.len(), 2);
    assert!(clients.iter().any(|client| client.id.as_str() == used), "the used one is kept");
}

#[tokio::test]
async fn f524_a_full_store_makes_room_for_a_new_client() {
    let server = Server::start_with(|_, builder| {
        let settings = settings(|settings| settings.registration.max_clients = 4);
        builder.server(crm()).settings(settings)
    })
    .await;
    let metadata = json!({"redirect_uris": [REDIRECT]}).to_string();
    let register = async |last| server.from(last, "POST", "/oauth/register", &metadata).await;
    let used = server.register(&[REDIRECT]).await;
    let code = server.code(&used).await;
    assert_eq!(server.redeem(&used, &code).await.status, 200);
    let mut unused = Vec::new();
    for last in 2..5 {
        server.clock.advance(minutes(1));
        unused.push(text(&register(last).await.json()["client_id"]));
    }
    // A user may be about to sign in for each of them.
    server.clock.advance(minutes(13));
    let reply = register(5).await;
    assert_eq!((reply.status, reply.headers.contains_key("retry-after")), (503, true), "F524");
    server.clock.advance(minutes(1));
    let new = text(&register(6).await.json()["client_id"]);
    let clients = server.store.clients(&first_page()).await.unwrap().rows;
    let mut left: Vec<_> = clients.iter().map(|client| client.id.to_string()).collect();
    let mut expected = vec![used, unused[1].clone(), unused[2].clone(), new];
    left.sort();
    expected.sort();
    assert_eq!(left, expected, "F524: the oldest unused one made space, and no other");
    assert_eq!(register(7).await.status, 503, "F524: the next one is younger");
}

#[tokio::test]
async fn f524_attempts_are_counted_before_the_body_is_parsed() {
    let server = Server::start_with(|_, builder| {
        let settings = settings(|settings| {
            settings.registration.per_address = Quota::per_hour(3);
        });
        builder.server(crm()).settings(settings)
    })
    .await;
    for _ in 0..30 {
        let reply = server.from(2, "POST", "/oauth/register", "{").await;
        assert_eq!(reply.status, 400);
    }
    for body in ["{", "null", ""] {
        assert_eq!(server.from(2, "POST", "/oauth/register", body).await.status, 429, "F524");
    }
    let metadata = json!({"redirect_uris": [REDIRECT]}).to_string();
    assert_eq!(server.from(3, "POST", "/oauth/register", &metadata).await.status, 201, "F524");
}

#[tokio::test]
async fn registration_can_be_turned_off() {
    let server =
        Server::start_with(|_, builder| builder.server(crm()).without_registration()).await;
    let metadata = server.get("/.well-known/oauth-authorization-server").await.json();
    assert!(metadata.get("registration_endpoint").is_none());
    let reply = server.post_json("/oauth/register", &json!({"redirect_uris": [REDIRECT]})).await;
    assert_eq!(reply.status, 404);
}

#[tokio::test]
async fn q304_ids_of_others_find_nothing() {
    let server = Server::start().await;
    let (client, token) = server.family().await;
    let other = server.register(&[REDIRECT]).await;
    let unknown = server.refresh(&other, "tbr_AAAAAAAAAAAAAAAAAAAAAA.1.AAAA").await;
    let foreign = server.refresh(&other, &token).await;
    assert_eq!((unknown.status, unknown.body), (foreign.status, foreign.body), "Q304");
    assert_eq!(server.refresh(&client, &token).await.status, 200);
}
