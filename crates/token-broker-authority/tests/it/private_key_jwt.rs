//! Client authentication by `private_key_jwt`.

use serde_json::{Value, json};
use token_broker_authority::issue::{Algorithm, SigningKey, SigningKeys};
use tower_token_broker::clock::Clock;

use crate::support::*;

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

fn jwks(key: &SigningKey) -> Value {
    let key = SigningKey::from_pkcs8(key.algorithm(), key.pkcs8().clone()).unwrap();
    SigningKeys::new(key).unwrap().jwks(Clock::system().read()).parse().unwrap()
}

#[tokio::test]
async fn f504_an_assertion_authenticates_its_client_once() {
    let server = Server::start().await;
    let key = SigningKey::generate(Algorithm::Es256).unwrap();
    let metadata = json!({
        "redirect_uris": [REDIRECT], "token_endpoint_auth_method": "private_key_jwt",
        "jwks": jwks(&key),
    });
    let registered = server.post_json("/oauth/register", &metadata).await;
    assert_eq!(registered.status, 201, "{}", registered.body);
    assert!(registered.json().get("client_secret").is_none());
    let client = text(&registered.json()["client_id"]);
    let code = server.code(&client).await;
    let now = server.clock.now().unix_seconds();
    let claims = |id: &str| {
        json!({"iss": client, "sub": client, "aud": ISSUER, "jti": id,
            "iat": now, "exp": now + 300})
    };
    let other_key = SigningKey::generate(Algorithm::Es256).unwrap();
    let send = async |key: &SigningKey, claims: &Value, client: &str| {
        let assertion = key.sign_jwt(&claims.to_string()).unwrap();
        #[expect(clippy::disallowed_methods, reason = "sent by the client of the test")]
        let assertion = assertion.expose_text().unwrap().to_owned();
        let form = redemption(client, &code);
        let mut form = if client.is_empty() { with(&form, "client_id", "") } else { form };
        form.extend([("client_assertion_type", ASSERTION_TYPE), ("client_assertion", &*assertion)]);
        server.post("/oauth/token", &form).await
    };
    let change = |name: &str, value: Value| {
        let mut claims = claims(&format!("{name}{value}"));
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value;
        }
        claims
    };
    for claims in [
        change("iss", json!("other")),
        change("sub", json!("other")),
        change("aud", json!("https://other.example")),
        change("aud", json!([ISSUER, "https://other.example"])),
        change("aud", json!([])),
        change("aud", Value::Null),
        change("exp", json!(now - 31)),
        change("exp", json!(now + 331)),
        change("exp", json!(now + 3600)),
        change("exp", json!("x")),
        change("exp", Value::Null),
        change("nbf", json!(now + 31)),
        change("iat", json!(now + 31)),
        change("jti", Value::Null),
        change("jti", json!("")),
        change("jti", json!("x".repeat(256))),
    ] {
        let reply = send(&key, &claims, &client).await;
        assert_eq!((reply.status, &*reply.error()), (401, "invalid_client"), "{claims}");
    }
    let reply = send(&other_key, &claims("1"), &client).await;
    assert_eq!(reply.error(), "invalid_client", "another key");
    let without = server.redeem(&client, &code).await;
    assert_eq!(without.error(), "invalid_client", "no assertion");
    // The token endpoint is an audience, too, and the client is named by the assertion.
    let mut good = claims("2");
    good["aud"] = json!([format!("{ISSUER}/oauth/token")]);
    let reply = send(&key, &good, "").await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(send(&key, &good, &client).await.error(), "invalid_client", "used before");
    // A new one of the same client: the code was redeemed, the client is authentic.
    assert_eq!(send(&key, &claims("3"), &client).await.error(), "invalid_grant");
}

#[tokio::test]
async fn f504_a_broker_token_is_no_assertion() {
    let server = Server::start().await;
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let metadata = json!({
        "redirect_uris": [REDIRECT], "token_endpoint_auth_method": "private_key_jwt",
        "jwks": jwks(&key),
    });
    let client = text(&server.post_json("/oauth/register", &metadata).await.json()["client_id"]);
    let other = server.register(&[REDIRECT]).await;
    let code = server.code(&other).await;
    let token = text(&server.redeem(&other, &code).await.json()["access_token"]);
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", "x"),
        ("client_id", &*client),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", &*token),
    ];
    assert_eq!(server.post("/oauth/token", &form).await.error(), "invalid_client");
}
