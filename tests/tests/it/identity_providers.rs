//! Tokens of an identity provider on loopback: found by its metadata, or introspected, with the
//! whole stack.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeySize, PublicKeyComponents},
    signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair},
};
use axum::Router;
use parking_lot::Mutex;
use serde_json::{Value, json};
use token_broker_outbound::{Guard, GuardedClient};
use token_broker_tests::{
    harness::{Broker, CALL, base64url, proxy, serve},
    upstream::{ScriptedServer, full, json as json_response},
    wire,
};
use tower::ServiceBuilder;
use tower_token_broker::{
    Secret,
    audit::AuditLayer,
    authenticate::{
        AuthenticateLayer, JwtVerifier, VerifyToken,
        introspection::{Introspection, IntrospectionClient},
        jwt::{Algorithm, RemoteKeys, TokenProfile},
    },
    clock::{Clock, Timestamp},
    exchange::ExchangeLayer,
    scope_filter::{Rules, ScopeFilterLayer, tools},
    stack::{Broker as Handle, StackConfig},
};

use crate::hostile_case::{Case, run};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;

/// A realm of an identity provider, in the form of Keycloak: an RSA key, metadata, and an
/// introspection endpoint that responds as configured.
struct Provider {
    server: ScriptedServer,
    key: Rsa,
    /// The key set, or `None` for an outage.
    published: Arc<Mutex<Option<Value>>>,
    introspected: Arc<Mutex<(u16, String)>>,
}

/// An RSA key and its name.
struct Rsa(&'static str, RsaKeyPair);

impl Rsa {
    fn new(kid: &'static str) -> Self {
        Self(kid, RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    fn jwk(&self, purpose: &str, algorithm: &str) -> Value {
        let public: PublicKeyComponents<Vec<u8>> = self.1.public_key().into();
        json!({
            "kty": "RSA", "kid": self.0, "use": purpose, "alg": algorithm,
            "n": base64url(&public.n), "e": base64url(&public.e),
        })
    }

    /// Signs under the name of a key.
    fn sign_as(&self, kid: &str, claims: &Value) -> String {
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": kid}).to_string();
        let claims = claims.to_string();
        let message = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
        let mut signature = vec![0; self.1.public_modulus_len()];
        let random = SystemRandom::new();
        self.1.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).unwrap();
        format!("{message}.{}", base64url(&signature))
    }
}

impl Provider {
    async fn start() -> Self {
        let key = Rsa::new("r");
        // Its signing key, and one for encryption under the same name.
        let keys = json!({"keys": [key.jwk("enc", "RSA-OAEP"), key.jwk("sig", "RS256")]});
        let published = Arc::new(Mutex::new(Some(keys)));
        let introspected = Arc::new(Mutex::new((200, String::new())));
        let (keys, configured) = (Arc::clone(&published), Arc::clone(&introspected));
        let server = ScriptedServer::start(move |request| {
            let origin = format!("http://{}", request.headers["host"].to_str().unwrap());
            let status = |status: u16, body: String| {
                http::Response::builder().status(status).body(full(body)).unwrap()
            };
            let Some(keys) = keys.lock().clone() else { return status(503, "out of order".into()) };
            match &*request.target {
                "/realms/staff/.well-known/openid-configuration" => json_response(
                    &json!({
                        "issuer": format!("{origin}/realms/staff"),
                        "jwks_uri": format!("{origin}/realms/staff/certs"),
                    })
                    .to_string(),
                ),
                "/realms/staff/certs" => json_response(&keys.to_string()),
                "/introspect" => {
                    let (code, body) = configured.lock().clone();
                    status(code, body)
                }
                _ => status(404, String::new()),
            }
        })
        .await;
        Self { server, key, published, introspected }
    }

    fn issuer(&self) -> String {
        self.server.url("/realms/staff")
    }

    fn access_token(&self, now: u64) -> Value {
        json!({
            "iss": self.issuer(), "sub": "alice", "aud": ["crm-api", "account"], "azp": "inspector",
            "typ": "Bearer", "jti": "1", "iat": now, "exp": now + 300, "scope": "openid items:read",
            "realm_access": {"roles": ["staff"]},
        })
    }

    fn sign(&self, claims: &Value) -> String {
        self.key.sign_as("r", claims)
    }

    fn requests_to(&self, target: &str) -> usize {
        self.server.received().iter().filter(|request| request.target == target).count()
    }
}

fn client() -> GuardedClient {
    GuardedClient::new(&Guard::new().allow_loopback("127.0.0.1")).unwrap()
}

/// Mounts a stack with this verifier. Tools need the role `staff`.
async fn mount<V: VerifyToken>(
    clock: &Clock,
    upstream: &ScriptedServer,
    role: (&str, &str),
    verifier: impl FnOnce(&Handle) -> V,
) -> Broker {
    let (listener, _, secret, broker) =
        Broker::in_front_of(upstream).with_clock(clock.clone()).prepare_for_handler().await;
    let (handle, config) = (broker.handle(), StackConfig::new(broker.resource().as_str()).unwrap());
    let rules = Rules::new().allow(tools(["*"]).with_scope("items:read").for_claim(role.0, role.1));
    let service = ServiceBuilder::new()
        .layer(AuditLayer::new(handle, &config))
        .layer(AuthenticateLayer::new(handle, &config, verifier(handle)).unwrap())
        .layer(ScopeFilterLayer::new(handle, &config, rules))
        .layer(ExchangeLayer::new(handle, &config, secret).unwrap())
        .service(proxy());
    serve(listener, Router::new().route_service("/mcp", service));
    broker
}

fn call(broker: &Broker, token: &str) -> Vec<u8> {
    let bearer = format!("Bearer {token}");
    wire::post("/mcp", broker.host(), &[("authorization", &bearer)], CALL)
}

fn fixed_clock() -> (Clock, u64) {
    let now = Clock::system().now().unix_seconds();
    (Clock::manual(Timestamp::from_unix_seconds(now)), now)
}

fn with(mut object: Value, name: &str, value: impl Into<Value>) -> Value {
    object[name] = value.into();
    object
}

#[tokio::test]
async fn b493_a_provider_found_by_its_metadata() {
    let (clock, now) = fixed_clock();
    let provider = Provider::start().await;
    let upstream = ScriptedServer::start(|_| json_response(RESULT)).await;
    let issuer = provider.issuer();
    let broker = mount(&clock, &upstream, ("realm_access.roles", "staff"), |handle| {
        let keys = RemoteKeys::discover(handle, client(), &issuer).unwrap();
        JwtVerifier::new(&issuer, keys.algorithms(Algorithm::Rs256))
            .profile(TokenProfile::keycloak("crm-api"))
    })
    .await;
    let access = provider.access_token(now);
    let token = provider.sign(&access);
    let roleless =
        provider.sign(&with(access.clone(), "realm_access", json!({"roles": ["guest"]})));
    let id = with(with(access.clone(), "typ", "ID"), "nonce", "n");
    let marked = with(access.clone(), "at_hash", "fPlsvVszI29LU2UhDyJ9vg");
    let (head, _) = token.rsplit_once('.').unwrap();
    run(
        &broker,
        &upstream,
        [
            Case::passes("the role", call(&broker, &token)),
            Case::refused("B493", call(&broker, &provider.sign(&id)), 401, "jwt.typ"),
            Case::refused("B493", call(&broker, &provider.sign(&marked)), 401, "jwt.typ"),
            Case::refused("B026", call(&broker, &format!("{head}.")), 401, "jwt.signature"),
            Case::refused(
                "aud",
                call(&broker, &provider.sign(&with(access.clone(), "aud", "mail-api"))),
                401,
                "authn.resource",
            ),
            Case::refused(
                "iss",
                call(&broker, &provider.sign(&with(access, "iss", format!("{issuer}/")))),
                401,
                "jwt.iss",
            ),
            Case::refused("no role", call(&broker, &roleless), 200, "filter.tool_denied"),
        ],
    )
    .await;
    assert_eq!(provider.requests_to("/realms/staff/certs"), 1);
    broker.done().await;
}

#[tokio::test]
async fn an_outage_of_an_hour_and_a_rotation() {
    let (clock, _) = fixed_clock();
    let provider = Provider::start().await;
    let upstream = ScriptedServer::start(|_| json_response(RESULT)).await;
    let issuer = provider.issuer();
    let broker = mount(&clock, &upstream, ("realm_access.roles", "staff"), |handle| {
        let keys = RemoteKeys::discover(handle, client(), &issuer).unwrap();
        JwtVerifier::new(&issuer, keys.algorithms(Algorithm::Rs256))
            .profile(TokenProfile::keycloak("crm-api"))
    })
    .await;
    let next = Rsa::new("next");
    let access = || provider.access_token(clock.now().unix_seconds());
    let valid = |case, token: &str| Case::passes(case, call(&broker, token));
    run(&broker, &upstream, [valid("before", &provider.sign(&access()))]).await;
    let published = provider.published.lock().take();
    for _ in 0..60 {
        clock.advance(Duration::from_secs(60));
        let forged = next.sign_as("r", &access());
        let rows = [
            valid("during", &provider.sign(&access())),
            Case::refused("forged", call(&broker, &forged), 401, "jwt.signature"),
        ];
        run(&broker, &upstream, rows).await;
    }
    // A new key, published since: 503 until the set can be fetched.
    let by_next = next.sign_as("next", &access());
    let unknown = Case::refused("B492", call(&broker, &by_next), 503, "authn.keys_unavailable");
    run(&broker, &upstream, [unknown]).await;
    let mut keys = published.unwrap();
    keys["keys"].as_array_mut().unwrap().push(next.jwk("sig", "RS256"));
    *provider.published.lock() = Some(keys);
    clock.advance(Duration::from_secs(60));
    let rows = [valid("the new key", &by_next), valid("the old one", &provider.sign(&access()))];
    run(&broker, &upstream, rows).await;
    *provider.published.lock() = Some(json!({"keys": [next.jwk("sig", "RS256")]}));
    clock.advance(Duration::from_secs(3600));
    let retired = provider.sign(&access());
    let rows = [
        valid("the new key", &next.sign_as("next", &access())),
        Case::refused("the old one", call(&broker, &retired), 401, "jwt.key_retired"),
    ];
    run(&broker, &upstream, rows).await;
    broker.done().await;
}

#[tokio::test]
async fn b495_b496_an_introspected_token() {
    let (clock, now) = fixed_clock();
    let provider = Provider::start().await;
    let upstream = ScriptedServer::start(|_| json_response(RESULT)).await;
    let issuer = provider.issuer();
    let broker = mount(&clock, &upstream, ("department", "crm"), |handle| {
        let us = IntrospectionClient::basic("broker", Secret::from_text("our secret".into()));
        let endpoint = provider.server.url("/introspect");
        Introspection::new(handle, client(), &issuer, &endpoint, us)
            .unwrap()
            .keep_claims(["department"])
    })
    .await;
    let active = json!({
        "active": true, "sub": "alice", "client_id": "inspector", "aud": broker.resource().as_str(),
        "scope": "items:read", "iat": now, "exp": now + 600, "token_type": "Bearer",
        "department": "crm",
    });
    let respond =
        |status: u16, body: &Value| *provider.introspected.lock() = (status, body.to_string());
    for (case, token, status, body, expected) in [
        ("it passes", "opaque-access-token-1", 200, active.clone(), (200, None)),
        (
            "B495 a refresh token",
            "opaque-2",
            200,
            with(active.clone(), "token_type", "refresh_token"),
            (401, Some("jwt.typ")),
        ),
        (
            "B495 another audience",
            "opaque-3",
            200,
            with(active.clone(), "aud", "https://other.example"),
            (401, Some("authn.resource")),
        ),
        ("inactive", "opaque-4", 200, json!({"active": false}), (401, Some("authn.unknown"))),
        (
            "B496 an error",
            "opaque-5",
            500,
            active.clone(),
            (503, Some("authn.introspection_unavailable")),
        ),
        (
            "B496 our own credentials",
            "opaque-6",
            401,
            json!({}),
            (503, Some("authn.introspection_unavailable")),
        ),
        (
            "B496 active as text",
            "opaque-7",
            200,
            with(active.clone(), "active", "true"),
            (503, Some("authn.introspection_unavailable")),
        ),
    ] {
        respond(status, &body);
        let bytes = call(&broker, token);
        let row = match expected {
            (_, None) => Case::passes(case, bytes),
            (status, Some(reason)) => Case::refused(case, bytes, status, reason),
        };
        run(&broker, &upstream, [row]).await;
    }
    // From the cache, also during an outage.
    respond(500, &json!({}));
    let first = call(&broker, "opaque-access-token-1");
    run(&broker, &upstream, [Case::passes("cached", first)]).await;
    assert_eq!(provider.requests_to("/introspect"), 7);
    let logs = String::from_utf8(broker.ledger().logs()).unwrap();
    assert_eq!(logs.matches("a token could not be introspected").count(), 1, "once per 30 s");
    assert!(!logs.contains("opaque-") && !logs.contains("our secret"), "no token is logged");
    broker.done().await;
}
