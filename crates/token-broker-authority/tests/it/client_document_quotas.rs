//! Callers that request many documents and key sets, and those whose documents they concern.

use serde_json::{Value, json};
use token_broker_authority::{
    client::DocumentLimits,
    issue::{Algorithm, SigningKey, SigningKeys},
};
use tower_token_broker::clock::Clock;

use crate::{
    client_documents::{CLIENT, Web, document, server},
    support::*,
};

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The document of the client at this URL.
fn document_of(url: &str) -> Value {
    let mut document = document();
    document["client_id"] = url.into();
    document["redirect_uris"] = json!([REDIRECT]);
    document
}

#[tokio::test]
async fn f521_a_stranger_does_not_stop_the_fetch_of_a_document() {
    let web = Web::default();
    web.put(CLIENT, 200, "max-age=60", &document());
    let server = server(&web, DocumentLimits::default()).await;
    for number in 0..60 {
        let client = format!("https://client.example/{number}");
        let reply = server.authorize_from(2, &authorization(&client)).await;
        assert_eq!(reply.page_error(), "authz.client_document");
    }
    assert_eq!(web.fetches(), 10, "F521: the quota of the stranger");
    assert_eq!(server.authorize_as("alice", &authorization(CLIENT)).await.status, 200, "F521");
}

#[tokio::test]
async fn f521_one_host_has_one_quota_in_every_spelling() {
    let web = Web::default();
    let server = server(&web, DocumentLimits::default()).await;
    let hosts = [
        "client.example",
        "CLIENT.example",
        "Client.Example",
        "client.example.",
        "client.example:443",
        "client.EXAMPLE.:443",
        "client.example:0443",
    ];
    for number in 0..30 {
        for host in hosts {
            let client = format!("https://{host}/{number}");
            server.authorize_from(2, &authorization(&client)).await;
        }
        server.clock.advance(std::time::Duration::from_millis(1));
    }
    assert_eq!(web.fetches(), 10, "F521");
    for host in ["client.example:", "client.example:0", "client.example..", ".client.example"] {
        let client = format!("https://{host}/c");
        let reply = server.authorize_from(3, &authorization(&client)).await;
        assert_eq!(reply.page_error(), "authz.client", "F521 {host}");
    }
    assert_eq!(web.fetches(), 10, "F521");
}

#[tokio::test]
async fn f521_a_known_document_is_fetched_again_whatever_strangers_do() {
    let web = Web::default();
    web.put(CLIENT, 200, "max-age=60", &document());
    let server = server(&web, DocumentLimits::default()).await;
    assert_eq!(server.authorize_as("alice", &authorization(CLIENT)).await.status, 200);
    server.clock.advance(minutes(2));
    // All fetches of the host, from many addresses.
    for last in 10..60 {
        for number in 0..10 {
            let client = format!("https://client.example/{last}/{number}");
            server.authorize_from(last, &authorization(&client)).await;
        }
    }
    assert_eq!(web.fetches(), 301, "F521: the quota of the host");
    let mut changed = document();
    changed["client_name"] = "Claude Code 2".into();
    web.put(CLIENT, 200, "max-age=60", &changed);
    let page = server.authorize_as("alice", &authorization(CLIENT)).await.json();
    assert_eq!(page["claimed_name"], "Claude Code 2", "F521: its own reserve");
    let other = "https://other.example/c";
    web.put(other, 200, "", &document_of(other));
    assert_eq!(server.authorize_as("alice", &authorization(other)).await.status, 200, "F521");
}

#[tokio::test]
async fn f521_the_reserve_of_a_document_is_bounded() {
    let web = Web::default();
    web.put(CLIENT, 200, "max-age=60", &document());
    let server = server(&web, DocumentLimits::default()).await;
    assert_eq!(server.authorize_as("alice", &authorization(CLIENT)).await.status, 200);
    server.clock.advance(minutes(2));
    web.put(CLIENT, 503, "", &json!("later"));
    for _ in 0..50 {
        let reply = server.authorize_as("alice", &authorization(CLIENT)).await;
        assert_eq!(reply.status, 200, "F521: the last document is used");
    }
    assert_eq!(web.fetches(), 7, "F521");
}

#[tokio::test]
async fn f522_documents_of_strangers_evict_no_client_in_use() {
    let web = Web::default();
    web.put(CLIENT, 200, "max-age=60", &document());
    let mut limits = DocumentLimits::default();
    limits.capacity = 3;
    let server = server(&web, limits).await;
    let code = server.code(CLIENT).await;
    let token = text(&server.redeem(CLIENT, &code).await.json()["refresh_token"]);
    for number in 0..10 {
        server.clock.advance(minutes(1));
        let client = format!("https://c{number}.evil.example/c");
        web.put(&client, 200, "max-age=86400", &document_of(&client));
        assert_eq!(server.authorize_from(2, &authorization(&client)).await.status, 303);
    }
    web.put(CLIENT, 503, "", &json!("later"));
    server.clock.advance(minutes(24 * 60));
    assert_eq!(server.refresh(CLIENT, &token).await.status, 200, "F522: the copy is kept");
}

#[tokio::test]
async fn f522_fetches_that_hang_take_no_place_of_a_document() {
    let web = Web::default();
    web.put(CLIENT, 200, "max-age=3600", &document());
    let mut limits = DocumentLimits::default();
    limits.capacity = 2;
    let server = server(&web, limits).await;
    assert_eq!(server.authorize_as("alice", &authorization(CLIENT)).await.status, 200);
    let targets: Vec<_> = (0..40)
        .map(|number| {
            let client = format!("https://c{number}.evil.example/hangs");
            format!("/oauth/authorize?{}", encode(&authorization(&client)))
        })
        .collect();
    let hanging = futures_of(&server, &targets);
    let good = async {
        while web.fetches_of("hangs") < 16 {
            tokio::task::yield_now().await;
        }
        let page = server.authorize_as("alice", &authorization(CLIENT)).await;
        assert_eq!((page.status, web.fetches_of("client.example")), (200, 1), "F522");
        let other = "https://other.example/c";
        web.put(other, 200, "", &document_of(other));
        assert_eq!(server.authorize_as("bob", &authorization(other)).await.status, 200, "F522");
    };
    tokio::select! {
        // Only the second one ends.
        () = hanging => panic!("they hang"),
        () = good => {}
    }
    assert_eq!(web.fetches_of("hangs"), 16, "F522: at once from one address");
}

/// Requests all targets at once, from one address, and waits for responses that do not come.
async fn futures_of(server: &Server, targets: &[String]) {
    let mut tasks = tokio::task::JoinSet::new();
    for target in targets {
        let address = server.address;
        let request = format!("GET {target} HTTP/1.1\r\nhost: h\r\n\r\n");
        tasks.spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
            let mut socket = socket.connect(address).await.unwrap();
            socket.write_all(request.as_bytes()).await.unwrap();
            let mut response = Vec::new();
            // Refused ones keep their connection.
            socket.read_to_end(&mut response).await.unwrap();
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// A client whose keys are at this URL, and its key.
fn keyed_document(web: &Web, client: &str, jwks_uri: &str) {
    let mut document = document_of(client);
    document["token_endpoint_auth_method"] = "private_key_jwt".into();
    document["jwks_uri"] = jwks_uri.into();
    web.put(client, 200, "max-age=86400", &document);
}

fn jwks(key: &SigningKey) -> Value {
    let key = SigningKey::from_pkcs8(key.algorithm(), key.pkcs8().clone()).unwrap();
    SigningKeys::new(key).unwrap().jwks(Clock::system().read()).parse().unwrap()
}

fn assertion(server: &Server, key: &SigningKey, client: &str, id: &str) -> String {
    let now = server.clock.now().unix_seconds();
    let claims = json!({"iss": client, "sub": client, "aud": ISSUER, "jti": id,
        "iat": now, "exp": now + 60});
    let assertion = key.sign_jwt(&claims.to_string()).unwrap();
    #[expect(clippy::disallowed_methods, reason = "sent by the client of the test")]
    let assertion = assertion.expose_text().unwrap().to_owned();
    assertion
}

/// Revokes a token that does not exist, as the client; returns the status.
async fn authenticate(server: &Server, key: &SigningKey, client: &str, id: &str) -> u16 {
    let assertion = assertion(server, key, client, id);
    let form = [
        ("token", "x"),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", &*assertion),
    ];
    server.post("/oauth/revoke", &form).await.status
}

#[tokio::test]
async fn f523_the_key_set_in_use_stays_when_others_come() {
    let web = Web::default();
    let mut limits = DocumentLimits::default();
    limits.capacity = 4;
    let server = server(&web, limits).await;
    let key = SigningKey::generate(Algorithm::Es256).unwrap();
    keyed_document(&web, CLIENT, "https://client.example/jwks");
    web.put("https://client.example/jwks", 200, "", &jwks(&key));
    assert_eq!(authenticate(&server, &key, CLIENT, "1").await, 200);
    for number in 0..8 {
        let client = format!("https://c{number}.evil.example/c");
        keyed_document(&web, &client, &format!("https://c{number}.evil.example/jwks"));
        assert_eq!(authenticate(&server, &key, &client, "1").await, 503);
        let id = format!("again {number}");
        assert_eq!(authenticate(&server, &key, CLIENT, &id).await, 200, "F523");
    }
    assert_eq!(web.fetches_of("client.example/jwks"), 1, "F523");
}

#[tokio::test]
async fn f523_key_sets_of_strangers_evict_no_client_in_use() {
    let web = Web::default();
    let mut limits = DocumentLimits::default();
    limits.capacity = 3;
    let server = server(&web, limits).await;
    let key = SigningKey::generate(Algorithm::Es256).unwrap();
    keyed_document(&web, CLIENT, "https://client.example/jwks");
    web.put("https://client.example/jwks", 200, "", &jwks(&key));
    let code = server.code(CLIENT).await;
    let assertion = assertion(&server, &key, CLIENT, "redeem");
    let mut form = redemption(CLIENT, &code);
    form.extend([("client_assertion_type", ASSERTION_TYPE), ("client_assertion", &*assertion)]);
    assert_eq!(server.post("/oauth/token", &form).await.status, 200);
    for number in 0..8 {
        let client = format!("https://c{number}.evil.example/c");
        let keys = format!("https://c{number}.evil.example/jwks");
        keyed_document(&web, &client, &keys);
        web.put(&keys, 200, "", &jwks(&key));
        assert_eq!(authenticate(&server, &key, &client, "1").await, 200);
    }
    assert_eq!(authenticate(&server, &key, CLIENT, "again").await, 200);
    assert_eq!(web.fetches_of("client.example/jwks"), 1, "F523");
}

#[tokio::test]
async fn f523_key_sets_of_one_host_are_fetched_within_its_quota() {
    let web = Web::default();
    let mut limits = DocumentLimits::default();
    limits.fetches_per_caller = token_broker_authority::Quota::per_minute(20);
    limits.fetches_per_host = token_broker_authority::Quota::per_minute(30);
    let server = server(&web, limits).await;
    let key = SigningKey::generate(Algorithm::Es256).unwrap();
    let spellings = ["victim.example", "VICTIM.example", "victim.example:443"];
    for number in 0..50 {
        let client = format!("https://c{number}.evil.example/c");
        let host = spellings[number % spellings.len()];
        keyed_document(&web, &client, &format!("https://{host}/{number}"));
        for again in 0..2 {
            let status = authenticate(&server, &key, &client, &format!("{again}")).await;
            assert!(matches!(status, 401 | 503), "{status}");
            server.clock.advance(std::time::Duration::from_millis(1));
        }
    }
    let fetched = web.fetches_of("victim") + web.fetches_of("VICTIM");
    assert!((1..=20).contains(&fetched), "F523: {fetched}");
}
