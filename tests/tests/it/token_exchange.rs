//! The stack with token exchange: each user has their own upstream token, which names the user and
//! the acting broker.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::Response;
use serde_json::{Value, json};
use token_broker_authority::issue::{Algorithm, Mint, SigningKey};
use token_broker_tests::{
    harness::{Broker, CALL, ISSUER, base64url},
    token_endpoint::{CLIENT_SECRET, guarded, target},
    upstream::{Received, ScriptedBody, ScriptedServer, full, json as says},
    wire::{self, RawResponse},
};
use token_broker_upstream::{
    Assertion, AuthorizationServer, ClientAuthentication, SignError, TokenExchange,
};
use tower_token_broker::{
    Broker as Handle, Secret,
    principal::{Actor, GrantId, Scopes, User},
    revocation::RevocationTarget,
};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;

/// Returns the claims of a JWT.
fn claims(jwt: &str) -> Value {
    let claims = URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1).expect("claims")).unwrap();
    std::str::from_utf8(&claims).unwrap().parse().unwrap()
}

/// An authorization server that issues tokens with the `sub` and `act` of the subject token.
async fn authorization_server() -> ScriptedServer {
    ScriptedServer::start(|request| {
        let form = std::str::from_utf8(&request.body).unwrap();
        let subject =
            form.split('&').find_map(|field| field.strip_prefix("subject_token=")).unwrap();
        says(&response(&token(&claims(subject))))
    })
    .await
}

fn token(subject: &Value) -> String {
    let claims = json!({"sub": subject["sub"], "act": subject["act"], "for": subject["jti"]});
    let mark = subject["jti"].as_str().unwrap();
    format!(
        "e30.{}.{}",
        base64url(claims.to_string().as_bytes()),
        base64url(format!("signature-{mark}").as_bytes())
    )
}

fn response(token: &str) -> String {
    let response = json!({
        "access_token": token, "token_type": "Bearer", "expires_in": 3600, "scope": "crm:read",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"
    });
    response.to_string()
}

fn exchange(handle: &Handle, server: &ScriptedServer, upstream: &ScriptedServer) -> TokenExchange {
    let key = SigningKey::generate(Algorithm::Es256).unwrap();
    let sign = move |claims: &str| key.sign_jwt(claims).map_err(|_| SignError);
    let client = ClientAuthentication::basic("broker", Secret::from_text(CLIENT_SECRET.into()));
    let at =
        AuthorizationServer::new(&server.url(""), server.url("/token").parse().unwrap(), client)
            .scopes(Scopes::parse("crm:read").unwrap());
    let subject = Assertion::of_caller(ISSUER, sign);
    TokenExchange::new(handle, subject, target(upstream), at, guarded())
}

fn token_of(broker: &Broker, mint: Mint) -> String {
    let mint = mint.client("test-client").resource(broker.resource());
    let token = broker.issuer().mint(mint).unwrap().into_text();
    broker.ledger().token(&token);
    token
}

async fn call(broker: &Broker, token: &str) -> RawResponse {
    let bearer = format!("Bearer {token}");
    broker.send(&wire::post("/mcp", broker.host(), &[("authorization", &bearer)], CALL)).await
}

/// Returns the tokens that the upstream received.
fn sent_to(upstream: &ScriptedServer) -> Vec<String> {
    let values =
        upstream.received().into_iter().flat_map(|received| received.values("authorization"));
    values.map(|value| value.strip_prefix("Bearer ").unwrap().to_owned()).collect()
}

/// Settles the ledger: everything sent to or by the authorization server is secret, and contains no
/// broker token.
async fn done(
    broker: &Broker,
    server: &ScriptedServer,
    upstream: &ScriptedServer,
    broker_tokens: &[&str],
) {
    broker.ledger().secret("the broker's client secret", CLIENT_SECRET);
    for token in sent_to(upstream) {
        broker.ledger().secret("an upstream token", &token);
    }
    for received in server.received() {
        let form = String::from_utf8(received.body.to_vec()).unwrap();
        let assertion =
            form.split('&').find_map(|field| field.strip_prefix("subject_token=")).unwrap();
        broker.ledger().secret("an assertion", assertion);
        let bytes = String::from_utf8(received.to_bytes()).unwrap();
        assert!(
            broker_tokens.iter().all(|token| !bytes.contains(token)),
            "a broker token went to another server"
        );
        broker.ledger().in_use(bytes.as_bytes());
    }
    broker.done().await;
}

#[tokio::test]
async fn two_users_receive_two_tokens() {
    let upstream = ScriptedServer::start(|_| says(RESULT)).await;
    let server = authorization_server().await;
    let broker = Broker::in_front_of(&upstream)
        .start_with(|handle| exchange(handle, &server, &upstream))
        .await;
    let agent = Actor::new(User::new(ISSUER, "agent"), None);
    let alice = token_of(
        &broker,
        Mint::for_user("alice").scopes(Scopes::parse("items:everything").unwrap()),
    );
    let bob = token_of(&broker, Mint::for_user("bob").actor(agent));
    for token in [&alice, &bob, &alice, &bob] {
        assert_eq!(call(&broker, token).await.text(), RESULT);
    }
    let tokens = sent_to(&upstream);
    let of: Vec<_> = tokens.iter().map(|token| claims(token)).collect();
    assert_eq!((&of[0]["sub"], &of[0]["act"]), (&json!("alice"), &Value::Null));
    assert_eq!(
        (&of[1]["sub"], &of[1]["act"]),
        (&json!("bob"), &json!({"iss": ISSUER, "sub": "agent"}))
    );
    assert_eq!((&tokens[0], &tokens[1]), (&tokens[2], &tokens[3]), "each keeps its own");
    let received = server.received();
    assert_eq!(received.len(), 2, "one exchange for each");
    let forms: Vec<_> =
        received.iter().map(|one| String::from_utf8(one.body.to_vec()).unwrap()).collect();
    assert!(
        forms.iter().all(|form| form.contains("&scope=crm%3Aread") && !form.contains("items")),
        "{forms:?}"
    );
    let records = broker.records().await;
    let kinds: Vec<_> = records.iter().filter_map(|record| record["kind"].as_str()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "token_request").count(), 2, "{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| **kind == "intent").count(), 4, "{kinds:?}");
    done(&broker, &server, &upstream, &[&alice, &bob]).await;
}

#[tokio::test]
async fn exchanged_grants_are_revoked_by_their_audit_id() {
    let upstream = ScriptedServer::start(|_| says(RESULT)).await;
    let server = authorization_server().await;
    let broker = Broker::in_front_of(&upstream)
        .start_with(|handle| exchange(handle, &server, &upstream))
        .await;
    let (alice, bob) =
        (token_of(&broker, Mint::for_user("alice")), token_of(&broker, Mint::for_user("bob")));
    for token in [&alice, &bob] {
        assert_eq!(call(&broker, token).await.status, 200);
    }
    let records = broker.records().await;
    let of_alice = records
        .iter()
        .find(|record| record["kind"] == "intent" && record["subject"] == "alice")
        .unwrap();
    let grant = GrantId::new(of_alice["grant"].as_str().unwrap());
    assert!(broker.revoke(RevocationTarget::Grant(grant)).await.was_known());
    assert_ne!(call(&broker, &alice).await.text(), RESULT);
    assert_eq!(call(&broker, &bob).await.text(), RESULT, "bob's remains valid");
    assert_eq!(sent_to(&upstream).len(), 3);
    done(&broker, &server, &upstream, &[&alice, &bob]).await;
}

#[tokio::test]
async fn i183_a_refused_exchanged_token_is_replaced_once() {
    let refused = Arc::new(parking_lot::Mutex::new(None::<String>));
    let first = Arc::clone(&refused);
    let upstream = ScriptedServer::start(move |request: &Received| -> Response<ScriptedBody> {
        let sent = request.values("authorization").concat();
        if *first.lock().get_or_insert_with(|| sent.clone()) == sent {
            return Response::builder().status(401).body(full("")).unwrap();
        }
        says(RESULT)
    })
    .await;
    let server = authorization_server().await;
    let broker = Broker::in_front_of(&upstream)
        .start_with(|handle| exchange(handle, &server, &upstream))
        .await;
    let alice = token_of(&broker, Mint::for_user("alice"));
    assert_eq!(call(&broker, &alice).await.text(), RESULT, "I183");
    assert_eq!(call(&broker, &alice).await.text(), RESULT, "I183");
    let tokens = sent_to(&upstream);
    assert_eq!((tokens.len(), server.received().len()), (3, 2), "I183");
    assert!(tokens[0] != tokens[1] && tokens[1] == tokens[2], "I183");
    done(&broker, &server, &upstream, &[&alice]).await;
}
