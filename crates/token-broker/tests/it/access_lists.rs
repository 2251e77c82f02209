//! Servers whose name a user knows, and whose rules do not admit the user.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::{Value, json};
use token_broker_tests::{
    harness::base64url,
    person::{App, Browser},
    upstream::{ScriptedServer, json as json_response},
    wire::{self, RawResponse},
};
use tower_token_broker::clock::Clock;

use crate::{
    gateway::items,
    login::{PASSWORD, add},
    setup::{CALL, RESULT, Setup},
};

/// Lists and calls of MCP, each as JSON-RPC.
fn requests() -> Vec<(&'static str, String)> {
    let requests = [
        ("tools/call", r#"{"name":"get_item"}"#),
        ("tools/call", r#"{"name":"get_item","arguments":{"groups":["staff"]}}"#),
        ("resources/read", r#"{"uri":"crm://items/1"}"#),
        ("prompts/get", r#"{"name":"get_item"}"#),
    ];
    let text = |method: &str, params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#)
    };
    requests.into_iter().map(|(method, params)| (method, text(method, params))).collect()
}

async fn send(setup: &Setup, token: &str, fields: &[(&str, &str)], body: &str) -> RawResponse {
    let bearer = format!("Bearer {token}");
    let fields = [&[("authorization", &*bearer)], fields].concat();
    wire::send(setup.address, &wire::post("/crm/mcp", &setup.address.to_string(), &fields, body))
        .await
}

/// The same as a call of a tool that no one may use.
fn is_refused(response: &RawResponse) -> bool {
    response.status == 200 && response.json()["error"]["code"] == -32602
}

/// A local account is in no group, so a rule for a group admits none.
#[tokio::test]
async fn q305_a_rule_for_a_group_admits_no_local_account() {
    let setup = Setup::new(items().await).await.with_login("");
    setup.configure("get_*", "  groups = [\"staff\"]");
    add(&setup, "alice");
    let serving = setup.serve();
    let app = App::register(setup.address, "Editor").await;
    let mut browser = Browser::at(setup.address);
    let tokens = app.connect(&mut browser, "crm", ("alice", PASSWORD)).await;
    for (method, body) in requests() {
        for fields in [
            &[][..],
            &[("x-groups", "staff")],
            &[("x-forwarded-groups", "staff"), ("x-auth-request-groups", "staff")],
        ] {
            let response = send(&setup, &tokens.access, fields, &body).await;
            assert!(is_refused(&response), "Q305 {method}: {}", response.text());
        }
    }
    assert_eq!(setup.upstream.received().len(), 0, "Q305: the gateway refuses it by itself");
    serving.stop();
}

const IDP: &str = "https://idp.example.com";

/// An identity provider: its key, and the key set that it publishes.
struct IdentityProvider {
    key: EcdsaKeyPair,
    key_set: ScriptedServer,
}

impl IdentityProvider {
    async fn start() -> Self {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref()).unwrap();
        let point = key.public_key().as_ref();
        let (x, y) = (base64url(&point[1..33]), base64url(&point[33..]));
        let key_of = json!({"kty": "EC", "crv": "P-256", "kid": "one", "x": x, "y": y});
        let set = json!({ "keys": [key_of] }).to_string();
        Self { key, key_set: ScriptedServer::start(move |_| json_response(&set)).await }
    }

    /// Issues a token for alice with these groups.
    fn token(&self, audience: &str, groups: &Value, scope: &str) -> String {
        let now = Clock::system().now().unix_seconds();
        let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": "one"}).to_string();
        let claims = json!({
            "iss": IDP, "aud": audience, "sub": "alice", "client_id": "editor", "jti": "t",
            "iat": now, "exp": now + 600, "scope": scope, "groups": groups,
        });
        let claims = claims.to_string();
        let message = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", base64url(signature.as_ref()))
    }
}

/// The issuer decides who is in a group, not its token's holder.
#[tokio::test]
async fn q305_a_member_is_served_and_no_one_else() {
    let idp = IdentityProvider::start().await;
    let list = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"get_item"}]}}"#;
    let upstream = ScriptedServer::start(move |request| {
        let is_list = request.body.windows(10).any(|text| text == b"tools/list");
        json_response(if is_list { list } else { RESULT })
    });
    let mut setup = Setup::new(upstream.await).await;
    setup.issuer = format!(
        "[tokens]\nkind = \"jwt\"\nissuer = \"{IDP}\"\nkey_set = \"{}\"\n\
         loopback_hosts = [\"127.0.0.1\"]",
        idp.key_set.url("/jwks")
    );
    setup.configure("get_*", "  groups = [\"staff\", \"sales\"]");
    let serving = setup.serve();
    let audience = format!("http://{}/crm/mcp", setup.address);
    let token = |groups: &[&str], scope: &str| idp.token(&audience, &json!(groups), scope);
    let list = CALL.replace("tools/call", "tools/list").replace("\"name\":\"get_item\"", "");
    for groups in [&["staff"][..], &["sales"], &["other", "staff"]] {
        let member = token(groups, "crm:read");
        let response = send(&setup, &member, &[], CALL).await;
        assert_eq!((response.status, response.text()), (200, RESULT), "Q305 {groups:?}");
        let listed = send(&setup, &member, &[], &list).await;
        assert!(listed.text().contains("get_item"), "Q305 {groups:?}: {}", listed.text());
    }
    let served = setup.upstream.received().len();
    assert_eq!(served, 6);
    for groups in
        [&[][..], &["Staff"], &["staff "], &["staff,sales"], &["staf"], &["*"], &["/staff"]]
    {
        let other = token(groups, "crm:read");
        for (method, body) in requests() {
            let response = send(&setup, &other, &[("x-groups", "staff")], &body).await;
            assert!(is_refused(&response), "Q305 {groups:?} {method}: {}", response.text());
        }
        assert_eq!(setup.upstream.received().len(), served, "Q305 {groups:?}");
    }
    // The list is empty for those who are in no group: it hides what is refused as well.
    let listed = send(&setup, &token(&["other"], "crm:read"), &[], &list).await;
    assert!(!listed.text().contains("get_item"), "Q305 {}", listed.text());
    // A member still needs the scope.
    let response = send(&setup, &token(&["staff"], "crm:write"), &[], CALL).await;
    assert_eq!(response.status, 403, "Q305");
    assert!(response.header("www-authenticate").unwrap().contains("insufficient_scope"), "Q305");
    serving.stop();
}
