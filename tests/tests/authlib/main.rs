//! Interoperability with Authlib as the authorization server: token exchange and client
//! credentials, with each client authentication method.
//!
//! `tests/interop/authlib/run` installs Authlib and runs these tests. Without
//! `TOKEN_BROKER_AUTHLIB` they are skipped with a message.

#![cfg(test)]

mod server;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use token_broker_authority::issue::Mint;
use token_broker_tests::{
    harness::{Broker, CALL, ISSUER},
    token_endpoint::{CLIENT_SECRET, guarded, target},
    upstream::{ScriptedServer, json as says},
    wire::{self, RawResponse},
};
use token_broker_upstream::{
    Assertion, AuthorizationServer, ClientAuthentication, ClientCredentials, TokenExchange,
};
use tower_token_broker::{
    Broker as Handle, Secret,
    principal::{Actor, Scopes, User},
};

use server::Authlib;

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;
const RESOURCE: &str = "https://mcp.crm.example/mcp";
const METHODS: [&str; 3] = ["client_secret_basic", "client_secret_post", "private_key_jwt"];

/// Each of Authlib's clients is named after its only authentication method.
fn authentication(authlib: &Authlib, method: &str) -> ClientAuthentication {
    let secret = Secret::from_text(CLIENT_SECRET.into());
    match method {
        "client_secret_basic" => ClientAuthentication::basic(method, secret),
        "client_secret_post" => ClientAuthentication::post(method, secret),
        _ => ClientAuthentication::private_key_jwt(method, authlib.client_signer()),
    }
}

fn basic(secret: &str) -> ClientAuthentication {
    ClientAuthentication::basic("client_secret_basic", Secret::from_text(secret.into()))
}

fn post(secret: &str) -> ClientAuthentication {
    ClientAuthentication::post("client_secret_basic", Secret::from_text(secret.into()))
}

fn at(authlib: &Authlib, client: ClientAuthentication) -> AuthorizationServer {
    AuthorizationServer::new(server::ISSUER, authlib.token_endpoint(), client)
        .scopes(Scopes::parse("crm:read").unwrap())
        .resource(RESOURCE)
}

fn exchange(
    handle: &Handle,
    authlib: &Authlib,
    server: AuthorizationServer,
    upstream: &ScriptedServer,
) -> TokenExchange {
    let subject = Assertion::of_caller(ISSUER, authlib.broker_signer());
    TokenExchange::new(handle, subject, target(upstream), server, guarded())
}

async fn call(broker: &Broker, mint: Mint) -> RawResponse {
    let token = broker
        .issuer()
        .mint(mint.client("test-client").resource(broker.resource()))
        .unwrap()
        .into_text();
    broker.ledger().token(&token);
    let bearer = format!("Bearer {token}");
    broker.send(&wire::post("/mcp", broker.host(), &[("authorization", &bearer)], CALL)).await
}

/// Returns the claims of the tokens that the upstream received.
fn sent_to(upstream: &ScriptedServer) -> Vec<Value> {
    let values =
        upstream.received().into_iter().flat_map(|received| received.values("authorization"));
    let claims =
        values.map(|value| URL_SAFE_NO_PAD.decode(value.split('.').nth(1).unwrap()).unwrap());
    claims.map(|claims| std::str::from_utf8(&claims).unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn two_users_receive_two_tokens_with_each_authentication() {
    for method in METHODS {
        let Some(authlib) = Authlib::start() else { return };
        let upstream = ScriptedServer::start(|_| says(RESULT)).await;
        let server = at(&authlib, authentication(&authlib, method));
        let broker = Broker::in_front_of(&upstream)
            .start_with(|handle| exchange(handle, &authlib, server, &upstream))
            .await;
        let alice = || Mint::for_user("alice").scopes(Scopes::parse("items:everything").unwrap());
        let bob = || Mint::for_user("bob").actor(Actor::new(User::new(ISSUER, "agent"), None));
        for mint in [alice(), bob(), alice(), bob()] {
            assert_eq!(call(&broker, mint).await.text(), RESULT, "{method}");
        }
        let sent = sent_to(&upstream);
        let whose = |token: &Value| {
            [&token["sub"], &token["act"], &token["scope"], &token["client_id"]].map(Clone::clone)
        };
        assert_eq!(
            whose(&sent[0]),
            [json!("alice"), Value::Null, json!("crm:read"), json!(method)]
        );
        let agent = json!({"iss": ISSUER, "sub": "agent"});
        assert_eq!(whose(&sent[1]), [json!("bob"), agent, json!("crm:read"), json!(method)]);
        assert_eq!((&sent[0], &sent[1]), (&sent[2], &sent[3]), "{method}: each keeps its own");
        assert_eq!((authlib.asked(), authlib.gave()), (2, 2), "{method}");
        authlib.report_to(broker.ledger());
        broker.done().await;
    }
}

#[tokio::test]
async fn an_actor_token_names_the_broker() {
    let Some(authlib) = Authlib::start() else { return };
    let upstream = ScriptedServer::start(|_| says(RESULT)).await;
    let server = at(&authlib, authentication(&authlib, "private_key_jwt"));
    let actor = Assertion::of_broker(ISSUER, authlib.broker_signer());
    let broker = Broker::in_front_of(&upstream)
        .start_with(|handle| exchange(handle, &authlib, server, &upstream).actor(actor))
        .await;
    let agent = Actor::new(User::new(ISSUER, "agent"), None);
    assert_eq!(call(&broker, Mint::for_user("bob").actor(agent)).await.text(), RESULT);
    let act = json!({"iss": ISSUER, "sub": ISSUER, "act": {"iss": ISSUER, "sub": "agent"}});
    assert_eq!(sent_to(&upstream)[0]["act"], act);
    authlib.report_to(broker.ledger());
    broker.done().await;
}

#[tokio::test]
async fn client_credentials_work_with_each_authentication() {
    for method in METHODS {
        let Some(authlib) = Authlib::start() else { return };
        let upstream = ScriptedServer::start(|_| says(RESULT)).await;
        let server = at(&authlib, authentication(&authlib, method));
        let broker = Broker::in_front_of(&upstream)
            .start_with(|handle| {
                ClientCredentials::new(handle, target(&upstream), server, guarded())
            })
            .await;
        for user in ["alice", "bob"] {
            assert_eq!(call(&broker, Mint::for_user(user)).await.text(), RESULT, "{method}");
        }
        let sent = sent_to(&upstream);
        assert_eq!((&sent[0]["sub"], &sent[0]["scope"]), (&json!(method), &json!("crm:read")));
        assert_eq!((&sent[0], authlib.asked()), (&sent[1], 1), "{method}: one for all");
        authlib.report_to(broker.ledger());
        broker.done().await;
    }
}

#[tokio::test]
async fn authlib_refusals_are_reported_and_not_retried() {
    type Change = fn(&Authlib, AuthorizationServer) -> AuthorizationServer;
    let policy = "exchange.authorization_server_policy";
    let cases: [(&str, &str, Change, &str); 5] = [
        ("access_denied", "mallory", |_, server| server, policy),
        ("invalid_target", "alice", |_, server| server.resource("https://other.example"), policy),
        (
            "invalid_scope",
            "alice",
            |_, server| server.scopes(Scopes::parse("crm:nothing").unwrap()),
            policy,
        ),
        // A wrong secret, and a client with another authentication method than its own.
        (
            "invalid_client",
            "alice",
            |authlib, _| at(authlib, basic("wrong")),
            "exchange.unavailable",
        ),
        (
            "invalid_client",
            "alice",
            |authlib, _| at(authlib, post(CLIENT_SECRET)),
            "exchange.unavailable",
        ),
    ];
    for (case, user, change, reason) in cases {
        let Some(authlib) = Authlib::start() else { return };
        let upstream = ScriptedServer::start(|_| says(RESULT)).await;
        let server =
            change(&authlib, at(&authlib, authentication(&authlib, "client_secret_basic")));
        let broker = Broker::in_front_of(&upstream)
            .start_with(|handle| exchange(handle, &authlib, server, &upstream))
            .await;
        for _ in 0..2 {
            let response = call(&broker, Mint::for_user(user)).await;
            assert_ne!(response.text(), RESULT, "{case}");
        }
        let records = broker.records().await;
        let reasons: Vec<_> =
            records.iter().filter_map(|record| record["reason"].as_str()).collect();
        assert_eq!(reasons, [reason, reason], "{case}");
        assert_eq!(
            (authlib.refused(), authlib.gave()),
            (vec![case.to_owned()], 0),
            "{case}: and asked once"
        );
        broker.done_unsent().await;
    }
}

#[tokio::test]
async fn an_assertion_by_another_key_is_refused() {
    let (Some(authlib), Some(other)) = (Authlib::start(), Authlib::start()) else { return };
    let upstream = ScriptedServer::start(|_| says(RESULT)).await;
    let server = at(&authlib, authentication(&authlib, "client_secret_basic"));
    let forged = Assertion::of_caller(ISSUER, other.broker_signer());
    let broker = Broker::in_front_of(&upstream)
        .start_with(|handle| {
            TokenExchange::new(handle, forged, target(&upstream), server, guarded())
        })
        .await;
    assert_ne!(call(&broker, Mint::for_user("alice")).await.text(), RESULT);
    assert_eq!((authlib.refused(), authlib.gave()), (vec!["invalid_request".to_owned()], 0));
    broker.done_unsent().await;
}
