//! Discovery, registration, sign-in, consent, code, token, refresh, replay, revocation.

use serde_json::json;
use tower_token_broker::{
    Secret,
    authenticate::{JwtVerifier, PresentedToken, VerifyRequest, VerifyToken},
    principal::{Principal, Resource},
};

use crate::support::*;

async fn principal(server: &Server, token: &str) -> Principal {
    let verifier = JwtVerifier::new(ISSUER, server.authority.keys());
    let token = PresentedToken::new(Secret::from_text(token.to_owned()));
    let resource = Resource::parse(CRM).unwrap();
    let request = VerifyRequest::new(&token, &resource, &server.clock);
    Principal::for_test(&verifier.verify(&request).await.unwrap())
}

#[tokio::test]
async fn a_client_finds_its_way_from_discovery_to_revocation() {
    let server = Server::start().await;
    // Discovery.
    let metadata = server.get("/.well-known/oauth-authorization-server").await;
    assert_eq!(metadata.status, 200);
    assert_eq!(metadata.json()["issuer"], ISSUER);
    assert_eq!(server.get("/.well-known/openid-configuration").await.body, metadata.body);
    let path = |name: &str| {
        text(&metadata.json()[name]).strip_prefix(ISSUER).expect("on this server").to_owned()
    };
    // Registration.
    let registered = server
        .post_json(
            &path("registration_endpoint"),
            &json!({"redirect_uris": ["http://127.0.0.1/callback"], "client_name": "Inspector",
                "token_endpoint_auth_method": "none", "application_type": "native",
                "scope": "crm:read other"}),
        )
        .await;
    assert_eq!((registered.status, registered.json()["scope"].as_str()), (201, Some("crm:read")));
    let client = text(&registered.json()["client_id"]);
    // Sign-in: the browser has no session yet.
    let target = format!("{}?{}", path("authorization_endpoint"), encode(&authorization(&client)));
    let reply = server.get(&target).await;
    let pending = reply.location().unwrap().strip_prefix("/sign-in?continue=").unwrap();
    let pending = server.authority.pending().open(pending).unwrap();
    assert_eq!((pending.client(), pending.claimed_name()), (&*client, Some("Inspector")));
    // Consent.
    let cookie = [("cookie", "session=alice")];
    let page = server.request("GET", pending.location(), &cookie, "").await.json();
    assert_eq!(page["claimed_name"], "Inspector");
    assert_eq!(page["redirect_host"], "127.0.0.1:4711");
    assert_eq!(page["target"], "Loopback");
    assert_eq!(page["servers"][0]["title"], "CRM");
    assert_eq!(
        page["servers"][0]["scopes"],
        json!([{"name": "crm:read", "text": "Read contacts"}])
    );
    assert_eq!(page["days"], json!([30, 180]));
    let reply = server.decide("alice", &page, "allow").await;
    assert_eq!(reply.status, 303);
    assert_eq!(reply.redirect_param("iss").as_deref(), Some(ISSUER), "D107");
    assert_eq!(reply.redirect_param("state").as_deref(), Some("xyz"));
    let code = reply.redirect_param("code").unwrap();
    // Token.
    let tokens = server.post(&path("token_endpoint"), &redemption(&client, &code)).await;
    assert_eq!(tokens.status, 200, "{}", tokens.body);
    let (first, tokens) = (tokens.clone(), tokens.json());
    assert_eq!(first.headers["cache-control"], "no-store", "F139");
    assert_eq!(tokens["token_type"], "Bearer");
    assert_eq!(
        (tokens["expires_in"].as_u64(), tokens["scope"].as_str()),
        (Some(600), Some("crm:read"))
    );
    let caller = principal(&server, &text(&tokens["access_token"])).await;
    assert_eq!((caller.subject(), caller.client()), ("alice", &*client));
    assert!(caller.family().is_some());
    // Refresh, again and again.
    let mut refresh_token = text(&tokens["refresh_token"]);
    let oldest = refresh_token.clone();
    for _ in 0..5 {
        server.clock.advance(minutes(9));
        let reply = server.refresh(&client, &refresh_token).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        let next = text(&reply.json()["refresh_token"]);
        assert_ne!(next, refresh_token);
        let again = principal(&server, &text(&reply.json()["access_token"])).await;
        assert_eq!(again.family(), caller.family());
        refresh_token = next;
    }
    // Replay.
    assert_eq!(server.refresh(&client, &oldest).await.error(), "invalid_grant", "F131");
    assert_eq!(server.refresh(&client, &refresh_token).await.error(), "invalid_grant");
    // Start over, and revoke.
    let code = server.code(&client).await;
    let tokens = server.redeem(&client, &code).await.json();
    let refresh_token = text(&tokens["refresh_token"]);
    let form = [("token", &*refresh_token), ("client_id", &client)];
    let revoked = server.post(&path("revocation_endpoint"), &form).await;
    assert_eq!((revoked.status, &*revoked.body), (200, ""));
    assert_eq!(server.refresh(&client, &refresh_token).await.error(), "invalid_grant");
    let kinds: Vec<_> = server
        .records
        .lines()
        .iter()
        .map(|line| text(&line.parse::<serde_json::Value>().unwrap()["kind"]))
        .filter(|kind| kind != "start")
        .collect();
    let mut expected = vec!["key_published", "client_registered", "consent", "code_issued"];
    expected.extend(["token_issued"; 6]);
    expected.extend(["family_ended", "revoked", "consent", "code_issued", "token_issued"]);
    expected.extend(["family_ended", "revoked"]);
    let sorted = |mut kinds: Vec<String>| {
        kinds.sort_unstable();
        kinds
    };
    assert_eq!(sorted(kinds), sorted(expected.into_iter().map(str::to_owned).collect()));
}

#[tokio::test]
async fn a_page_of_any_origin_may_read_the_protocol_and_no_page_its_cookies() {
    let server = Server::start().await;
    for path in [
        "/.well-known/oauth-authorization-server",
        "/oauth/jwks",
        "/oauth/token",
        "/oauth/register",
    ] {
        let fields = [
            ("origin", "https://client.example"),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "mcp-protocol-version"),
        ];
        let reply = server.request("OPTIONS", path, &fields, "").await;
        assert_eq!(reply.status, 204, "{path}");
        assert_eq!(reply.headers["access-control-allow-origin"], "*");
        assert!(!reply.headers.contains_key("access-control-allow-credentials"), "F139 {path}");
    }
    let reply = server.request("OPTIONS", "/oauth/consent", &[], "").await;
    assert!(!reply.headers.contains_key("access-control-allow-origin"));
}
