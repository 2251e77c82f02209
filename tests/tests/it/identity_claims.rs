//! A user is an issuer and a subject, and neither an email address nor a tenant.

use axum::Router;
use serde_json::{Value, json};
use token_broker_store::Account;
use token_broker_tests::{
    harness::{Broker, CALL, ISSUER, proxy, serve},
    token_endpoint::target,
    upstream::{ScriptedServer, json as json_response},
    wire::{self, RawResponse},
};
use token_broker_upstream::UserSecrets;
use tower_token_broker::{
    Secret,
    principal::{Initiator, User},
};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;
const ALICES: &str = "tbm-id-alice-Kw8Zr2VxLd0aHs7NfYc4TgUeJ1PoB";
const MALLORYS: &str = "tbm-id-mallory-Qp3Xs6VbNm1tRy9LkJh5GfDsAz2W";

/// A broker whose upstream needs a secret of each user's own.
struct OwnSecrets {
    broker: Broker,
    upstream: ScriptedServer,
}

impl OwnSecrets {
    async fn start() -> Self {
        let upstream = ScriptedServer::start(|_| json_response(RESULT)).await;
        let secrets = UserSecrets::new(target(&upstream)).connect_url(|_| "https://b/c".into());
        for (user, secret) in [("alice", ALICES), ("mallory", MALLORYS)] {
            let secret = Secret::from_text(secret.to_owned());
            let user = User::new(ISSUER, user);
            secrets.set(&user, &Account::default_account(), secret).unwrap();
        }
        let broker = Broker::in_front_of(&upstream);
        let (listener, stack, broker) = broker.prepare_with(|_| secrets).await;
        // At all paths: the stack itself refuses those that are not its own.
        serve(listener, Router::new().fallback_service(stack.layer(proxy())));
        broker.ledger().secret("alice's secret", ALICES);
        broker.ledger().secret("mallory's secret", MALLORYS);
        Self { broker, upstream }
    }

    /// Calls as this subject, with more claims in the token and more fields in the request.
    async fn call(
        &self,
        subject: &str,
        claims: &Value,
        (target, fields): (&str, &[(&str, &str)]),
    ) -> RawResponse {
        let token = self.broker.token_of("alice", "items:read");
        let part = |at: usize| -> Value {
            use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
            let part = URL_SAFE_NO_PAD.decode(token.split('.').nth(at).unwrap()).unwrap();
            str::from_utf8(&part).unwrap().parse().unwrap()
        };
        let (header, mut all) = (part(0), part(1));
        all["sub"] = subject.into();
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        let token = self.broker.sign(&header.to_string(), &all.to_string());
        let bearer = format!("Bearer {token}");
        let fields = [&[("authorization", &*bearer)], fields].concat();
        self.broker.send(&wire::post(target, self.broker.host(), &fields, CALL)).await
    }

    /// Returns the credential of the upstream's last request.
    fn used(&self) -> String {
        let received = self.upstream.received();
        received.last().unwrap().values("authorization").remove(0)
    }
}

const PLAIN: (&str, &[(&str, &str)]) = ("/mcp", &[]);

#[tokio::test]
async fn q302_users_with_one_email_address_are_two_users() {
    let own = OwnSecrets::start().await;
    let emails = [
        json!({"email": "alice@example.com", "email_verified": true}),
        json!({"email": "alice@example.com", "email_verified": false}),
        json!({"email": "alice@example.com"}),
        json!({"email": "Alice@Example.com", "preferred_username": "alice", "name": "alice"}),
        json!({"email": "alice@corp@example.com", "upn": "alice@example.com"}),
        json!({"email": ["alice@example.com"], "emails": ["alice@example.com"]}),
        json!({"email": 7, "username": "alice", "unique_name": "alice"}),
    ];
    for claims in &emails {
        let response = own.call("mallory", claims, PLAIN).await;
        assert_eq!(response.status, 200, "Q302 {claims}: {}", response.text());
        assert_eq!(own.used(), format!("Bearer {MALLORYS}"), "Q302 {claims}");
        let response = own.call("alice", claims, PLAIN).await;
        assert_eq!((response.status, own.used()), (200, format!("Bearer {ALICES}")), "Q302");
    }
    // An email address as the subject is a third user, who has no secret.
    for subject in ["alice@example.com", "alice@corp@example.com", "alice@"] {
        let claims = json!({"email": "alice@example.com", "email_verified": true});
        let response = own.call(subject, &claims, PLAIN).await;
        assert_eq!(response.json()["error"]["code"], -32001, "Q302 {}", response.text());
    }
    // A block is of the user: it does not follow the address, and a new address does not lift it.
    let (alice, olga) = (User::new(ISSUER, "alice"), Initiator::operator("olga"));
    own.broker.handle().block(&alice, &olga).await.unwrap();
    for claims in &emails {
        assert_eq!(own.call("mallory", claims, PLAIN).await.status, 200, "Q302 {claims}");
        assert_eq!(own.call("alice", claims, PLAIN).await.status, 401, "Q302 {claims}");
    }
    let moved = json!({"email": "new@example.com", "email_verified": true});
    assert_eq!(own.call("alice", &moved, PLAIN).await.status, 401, "Q302");
    // The records name users by issuer and subject, and no address.
    let records = own.broker.records().await;
    let text = records.iter().map(Value::to_string).collect::<String>();
    assert!(text.contains("mallory") && !text.contains("new@example.com"), "Q302");
    own.broker.done().await;
}

#[tokio::test]
async fn q303_no_tenant_of_header_path_or_token_changes_the_user() {
    let own = OwnSecrets::start().await;
    let tenants = [
        json!({}),
        json!({"tid": "a", "tenant": "a", "tenant_id": "a", "org_id": "a", "hd": "a"}),
        json!({"tid": "b", "realm": "b", "organization": {"id": "b"}}),
    ];
    let fields: &[(&str, &str)] = &[
        ("x-tenant", "b"),
        ("x-tenant-id", "b"),
        ("x-organization", "b"),
        ("x-user", "mallory"),
        ("x-forwarded-user", "mallory"),
        ("x-ms-client-principal-id", "mallory"),
    ];
    for claims in &tenants {
        for (target, fields) in [("/mcp", &[][..]), ("/mcp", fields), ("/mcp?tenant=b", fields)] {
            let response = own.call("alice", claims, (target, fields)).await;
            assert_eq!(response.status, 200, "Q303 {claims} {target}: {}", response.text());
            assert_eq!(own.used(), format!("Bearer {ALICES}"), "Q303 {claims} {target}");
            let received = own.upstream.received().pop().unwrap();
            assert_eq!(received.target, "/mcp", "Q303");
            for (name, _) in fields {
                assert!(!received.headers.contains_key(*name), "Q303 {name}");
            }
        }
    }
    // A tenant in the path is another resource, and there is none.
    let sent = own.upstream.received().len();
    for target in ["/b/mcp", "/mcp/b", "/mcp;tenant=b", "/tenants/b/mcp"] {
        let response = own.call("alice", &json!({"tid": "b"}), (target, &[])).await;
        assert_eq!(response.status, 404, "Q303 {target}");
    }
    assert_eq!(own.upstream.received().len(), sent, "Q303");
    // Control: the subject does change it.
    assert_eq!(own.call("mallory", &json!({}), PLAIN).await.status, 200, "Q303");
    assert_eq!(own.used(), format!("Bearer {MALLORYS}"), "Q303");
    own.broker.done().await;
}
