//! Tests of the requests to the token endpoint.

use tower_token_broker::principal::Actor;

use super::*;
use crate::{ProvideToken, SecurityToken, TokenType};

const TOKEN_ENDPOINT: &str = "https://login.crm.example/token";

#[tokio::test]
async fn an_exchange_sends_the_members_of_rfc_8693() {
    let subject = Assertion::of_caller(BROKER, sign);
    let configure = |server: AuthorizationServer| {
        server.resource("https://mcp.crm.example/mcp").audience("crm")
    };
    let broker = Harness::exchange_of(subject, configure).await;
    let wide =
        Principal::for_test(&verified("ana").with_scopes(scopes("crm:admin crm:everything")));
    let credential = broker.get_for(&wide, "crm:write").await.unwrap();
    assert_eq!(
        (credential.scopes(), credential.expires_at()),
        (&scopes("crm:read crm:write"), Some(now().plus(HOUR)))
    );
    assert_eq!(credential.origin().as_str(), "https://mcp.crm.example:443");
    let post = &broker.posts()[0];
    let sent: Vec<_> = form(post).into_iter().filter(|(name, _)| name != "subject_token").collect();
    let expected = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
        ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("audience", "crm"),
        ("scope", "crm:read crm:write"),
        ("resource", "https://mcp.crm.example/mcp"),
    ];
    assert_eq!(sent, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert!(post.contains("authorization: Basic YnJva2VyOmNsaWVudC1tYXJrZXI="), "{post}");
    assert!(
        !claims(post, "subject_token").to_string().contains("crm:"),
        "the client's scopes here mean nothing at the upstream"
    );
}

#[tokio::test]
async fn an_assertion_identifies_the_user_for_a_minute() {
    let broker = Harness::exchange().await;
    let first = Actor::new(User::new("https://other.example", "first"), None);
    let agent = verified("ana").with_actor(Actor::new(User::new(BROKER, "agent"), Some(first)));
    broker.get_for(&Principal::for_test(&agent), "").await.unwrap();
    broker.get_for(&caller("bob"), "").await.unwrap();
    let posts = broker.posts();
    let mut assertion = claims(&posts[0], "subject_token");
    let id = assertion["jti"].take();
    let seconds = now().unix_seconds();
    let first = serde_json::json!({"iss": "https://other.example", "sub": "first"});
    let expected = serde_json::json!({
        "iss": BROKER, "sub": "ana", "aud": ISSUER, "jti": null,
        "iat": seconds, "exp": seconds + 60,
        "act": {"iss": BROKER, "sub": "agent", "act": first}
    });
    assert_eq!(assertion, expected);
    let bobs = claims(&posts[1], "subject_token");
    assert_eq!((&bobs["sub"], bobs.get("act")), (&"bob".into(), None));
    assert!(id.as_str().is_some_and(|id| id.len() == 22) && id != bobs["jti"], "{id}");
}

#[tokio::test]
async fn a_user_of_another_issuer_is_refused() {
    let broker = Harness::exchange().await;
    let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
    let times = TokenTimes { id: "t", issued_at: now(), expires_at: now().plus(HOUR) };
    let other_issuer =
        Verified::vouch(User::new("https://other.example", "ana"), "client", resource, times);
    let refused = broker.get_for(&Principal::for_test(&other_issuer), "").await.unwrap_err();
    assert_eq!((refused, broker.posts().len()), (CredentialError::RefusedByPolicy, 0));
}

#[tokio::test]
async fn a_configured_actor_token_is_sent() {
    let broker = Harness::of(
        |server| server,
        |made| {
            let subject = Assertion::of_caller(BROKER, sign);
            let actor = Assertion::of_broker(BROKER, sign).audience(TOKEN_ENDPOINT);
            TokenExchange::new(&made.broker, subject, made.upstream, made.server, made.client)
                .actor(actor)
        },
    )
    .await;
    broker.get().await.unwrap();
    let post = &broker.posts()[0];
    let assertion = claims(post, "actor_token");
    assert_eq!((&assertion["sub"], &assertion["aud"]), (&BROKER.into(), &TOKEN_ENDPOINT.into()));
    assert_eq!(
        field(post, "actor_token_type").as_deref(),
        Some("urn:ietf:params:oauth:token-type:jwt")
    );
    assert_eq!(claims(post, "subject_token")["sub"], "ana");
}

/// Has an ID token of ana only.
struct IdTokens;

impl ProvideToken for IdTokens {
    async fn token(&self, caller: &Principal) -> Result<SecurityToken, CredentialError> {
        match caller.subject() {
            "ana" => Ok(SecurityToken::new(TokenType::IdToken, secret("id-token-of-ana"))),
            "slow" => std::future::pending().await,
            _ => Err(CredentialError::ConnectRequired),
        }
    }
}

#[tokio::test]
async fn a_supplied_token_is_sent_with_its_type() {
    let broker = Harness::exchange_of(IdTokens, |server| server).await;
    broker.get().await.unwrap();
    let post = &broker.posts()[0];
    assert_eq!(field(post, "subject_token").as_deref(), Some("id-token-of-ana"));
    assert_eq!(
        field(post, "subject_token_type").as_deref(),
        Some("urn:ietf:params:oauth:token-type:id_token")
    );
    let bob = broker.get_for(&caller("bob"), "").await.unwrap_err();
    assert_eq!((bob, broker.posts().len()), (CredentialError::ConnectRequired, 1));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_is_left() {
    let broker = Harness::exchange_of(IdTokens, |server| server).await;
    let outcome = broker.get_for(&caller("slow"), "").await.unwrap_err();
    assert_eq!(
        (outcome, broker.posts().len()),
        (CredentialError::Unavailable { retry_after: None }, 0)
    );
}

#[tokio::test]
async fn client_credentials_are_the_brokers_own_whoever_calls() {
    let broker = Harness::client_credentials_of(|server| server.audience("crm")).await;
    for verified in [verified("ana"), verified("bob"), verified("ana").with_account("work")] {
        let caller = Principal::for_test(&verified);
        assert_eq!(numbers(broker.get_for(&caller, "").await), Ok(1), "{verified:?}");
    }
    let posts = broker.posts();
    assert_eq!(posts.len(), 1, "one token for all");
    assert!(
        posts[0].ends_with("\r\n\r\ngrant_type=client_credentials&audience=crm&scope=crm%3Aread"),
        "{posts:?}"
    );
    assert!(posts[0].contains("authorization: Basic YnJva2VyOmNsaWVudC1tYXJrZXI="), "{posts:?}");
}

#[tokio::test]
async fn private_key_jwt_is_signed_for_each_request() {
    let by_key = || ClientAuthentication::private_key_jwt("broker", sign);
    let authentications =
        [(by_key(), ISSUER), (by_key().jwt_audience(TOKEN_ENDPOINT), TOKEN_ENDPOINT)];
    for (authentication, audience) in authentications {
        let server = |endpoint: &str| {
            AuthorizationServer::new(ISSUER, endpoint.parse().unwrap(), authentication)
        };
        let endpoint = Endpoint::start(|_| says(200, &tokens(1, ""))).await;
        let (server, clock) = (server(&endpoint.url), Clock::manual(now()));
        let upstream = Upstream::parse("crm", "https://mcp.crm.example/mcp").unwrap();
        let client = GuardedClient::new(&Guard::new().allow_loopback("127.0.0.1")).unwrap();
        let broker = Broker::builder().audit(InMemory::new()).clock(clock.clone());
        let broker = broker.build().unwrap();
        let provider = ClientCredentials::new(&broker, upstream, server, client);
        let (trail, _) = Trail::for_test(broker.audit_log());
        for _ in 0..2 {
            credential_of(&provider, &caller("ana"), "", &trail).await.unwrap();
            clock.advance(HOUR);
        }
        let posts = endpoint.posts();
        let mut assertion = claims(&posts[0], "client_assertion");
        let id = assertion["jti"].take();
        assert_ne!(id, claims(&posts[1], "client_assertion")["jti"]);
        let seconds = now().unix_seconds();
        let expected = serde_json::json!({
            "iss": "broker", "sub": "broker", "aud": audience, "jti": null,
            "iat": seconds, "exp": seconds + 60
        });
        assert_eq!(assertion, expected);
        let kind = field(&posts[0], "client_assertion_type");
        assert_eq!(kind.as_deref(), Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer"));
        assert_eq!(field(&posts[0], "client_id").as_deref(), Some("broker"));
        assert!(
            !posts[0].contains("authorization:") && !posts[0].contains("client_secret"),
            "{posts:?}"
        );
    }
}

#[tokio::test]
async fn without_a_signature_nothing_is_sent() {
    let cannot = |_: &str| Err(SignError);
    let broker = Harness::exchange_of(Assertion::of_caller(BROKER, cannot), |server| server).await;
    assert_eq!(broker.get().await.unwrap_err(), CredentialError::Unavailable { retry_after: None });
    assert_eq!(broker.posts().len(), 0);
}
