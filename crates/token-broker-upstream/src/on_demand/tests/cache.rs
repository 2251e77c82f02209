//! Tests of the cache: keys, lifetimes, concurrent requests and refused tokens.

use std::{collections::HashSet, task::Poll};

use tower_token_broker::{
    json::{Limits, Value as JsonValue},
    principal::{Actor, Confirmation, GrantId},
};

use super::*;

#[tokio::test]
async fn each_user_keeps_a_token_of_its_own() {
    let broker = Harness::exchange().await;
    for _ in 0..3 {
        assert_eq!(numbers(broker.get_for(&caller("ana"), "").await), Ok(1));
        assert_eq!(numbers(broker.get_for(&caller("bob"), "").await), Ok(2));
    }
    assert_eq!(broker.posts().len(), 2);
    assert!(broker.recall(&caller("ana"), "").is_some(), "at hand without waiting");
    assert!(broker.recall(&caller("eve"), "").is_none());
}

#[tokio::test]
async fn g157_all_parts_of_a_token_are_in_its_key() {
    /// Returns the same token for all callers, so that only the key distinguishes them.
    struct Same;
    impl crate::ProvideToken for Same {
        async fn token(&self, _: &Principal) -> Result<crate::SecurityToken, CredentialError> {
            Ok(crate::SecurityToken::new(crate::TokenType::IdToken, secret("id-token")))
        }
    }
    let at = |issuer: &str, subject: &str, client: &str, path: &str| {
        let resource = Resource::parse(&format!("https://broker.example.com{path}")).unwrap();
        let times = TokenTimes { id: "t", issued_at: now(), expires_at: now().plus(HOUR) };
        Verified::vouch(User::new(issuer, subject), client, resource, times)
    };
    let text = |json: &'static str| JsonValue::parse(json.as_bytes(), &Limits::default()).unwrap();
    let ana = || at("https://i", "ana", "c", "/crm/mcp");
    let actor = |name: &str, before| Actor::new(User::new("https://i", name), before);
    let callers = [
        ana(),
        at("https://ia", "na", "c", "/crm/mcp"),
        at("https://i", "ana", "d", "/crm/mcp"),
        at("https://i", "ana", "c", "/mail/mcp"),
        ana().with_actor(actor("x", None)),
        ana().with_actor(actor("y", None)),
        ana().with_actor(actor("x", Some(actor("y", None)))),
        ana().with_actor(actor("y", Some(actor("x", None)))),
        ana().with_scopes(scopes("x")),
        ana().with_family("x"),
        ana().with_account("x"),
        ana().with_groups(["x"]),
        ana().with_groups(["x", "y"]),
        ana().with_acr("x"),
        ana().with_claim("x", text("1")),
        ana().with_claim("x", text("2")),
        ana().with_claim("y", text("1")),
    ];
    let broker = Harness::exchange_of(Same, |server| server).await;
    let mut grants = HashSet::new();
    for verified in &callers {
        for need in ["", "crm:write", "crm:write x"] {
            let credential = broker.get_for(&Principal::for_test(verified), need).await.unwrap();
            assert!(
                grants.insert(credential.grant().unwrap().0.clone()),
                "G157 {verified:?} {need}"
            );
        }
    }
    assert_eq!(broker.posts().len(), callers.len() * 3, "G157");
    // Another broker token of the same user, client and scopes is served from the cache.
    let times = TokenTimes { id: "another", issued_at: now(), expires_at: now().plus(HOUR * 2) };
    let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
    let again = Verified::vouch(User::new("https://i", "ana"), "c", resource, times);
    let proven = Confirmation::JwkThumbprint("x".into());
    for again in [again.clone(), again.with_confirmation(proven)] {
        broker.get_for(&Principal::for_test(&again), "").await.unwrap();
    }
    assert_eq!(broker.posts().len(), callers.len() * 3);
}

#[tokio::test]
async fn g157_an_assertion_depends_on_user_actors_and_account() {
    let broker = Harness::exchange().await;
    let actor = |name: &str, before| Actor::new(User::new(BROKER, name), before);
    let callers = [
        verified("ana"),
        verified("ana").with_actor(actor("x", None)),
        verified("ana").with_actor(actor("y", None)),
        verified("ana").with_actor(actor("x", Some(actor("y", None)))),
        verified("bob").with_actor(actor("x", None)),
        verified("ana").with_account("work"),
    ];
    for (place, verified) in callers.iter().enumerate() {
        let credential = broker.get_for(&Principal::for_test(verified), "").await;
        assert_eq!(numbers(credential), Ok(place as u64 + 1), "G157 {verified:?}");
        let alike = verified.clone().with_scopes(scopes("x")).with_family("x").with_groups(["x"]);
        let credential = broker.get_for(&Principal::for_test(&alike), "").await;
        assert_eq!(
            numbers(credential),
            Ok(place as u64 + 1),
            "{alike:?}: what the client holds is not sent"
        );
    }
    assert_eq!(broker.posts().len(), callers.len(), "G157");
}

#[tokio::test]
async fn g157_server_resource_audience_and_client_are_in_the_key() {
    let other = ClientAuthentication::public("other");
    let configurations: [fn(AuthorizationServer) -> AuthorizationServer; 5] = [
        |server| server,
        |server| server.resource("x"),
        |server| server.audience("x"),
        |server| server.resource("x").audience("x"),
        |server| server.scopes(scopes("crm:other")),
    ];
    let mut grants = HashSet::new();
    for configure in configurations {
        let broker = Harness::exchange_of(Assertion::of_caller(BROKER, sign), configure).await;
        assert!(grants.insert(broker.get().await.unwrap().grant().unwrap().0.clone()), "G157");
    }
    for (issuer, client) in
        [("https://another.example", ClientAuthentication::public("broker")), (ISSUER, other)]
    {
        let at = move |_| {
            let never = "http://127.0.0.1:1/token".parse().unwrap();
            AuthorizationServer::new(issuer, never, client).scopes(scopes("crm:read"))
        };
        let broker = Harness::exchange_of(Assertion::of_caller(BROKER, sign), at).await;
        let intended = grant_of_the_intent(&broker).await;
        assert!(grants.insert(GrantId::new(&intended)), "G157 {issuer}");
    }
}

/// Returns the grant ID in the intent of a request to a server that does not respond.
async fn grant_of_the_intent(broker: &Harness<TokenExchange>) -> String {
    broker.get().await.unwrap_err();
    let line =
        broker.records.lines().into_iter().find(|line| line.contains("token_request")).unwrap();
    let record: Value = line.parse().unwrap();
    record["grant"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g149_ten_thousand_first_uses_are_one_exchange() {
    let broker = Arc::new(Harness::exchange().await);
    broker.endpoint.close();
    let callers = Tasks::new();
    let (began, mut pending) = tokio::sync::watch::channel(0);
    let began = Arc::new(began);
    let waiting: Vec<_> = (0..10_000)
        .map(|_| {
            let (broker, began) = (Arc::clone(&broker), Arc::clone(&began));
            callers.spawn("caller", async move {
                let mut work = std::pin::pin!(broker.get());
                let first =
                    std::future::poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx).is_pending()))
                        .await;
                assert!(first, "G149: no one can have the token yet");
                began.send_modify(|began| *began += 1);
                numbers(work.await)
            })
        })
        .collect();
    assert_eq!(*pending.wait_for(|pending| *pending == 10_000).await.unwrap(), 10_000, "G149");
    broker.endpoint.open();
    for one in waiting {
        assert_eq!(one.await.unwrap(), Ok(1), "G149");
    }
    assert_eq!(broker.posts().len(), 1, "G149");
}

#[tokio::test]
async fn g152_a_caller_dropped_at_any_poll_costs_nothing() {
    for polls in 1.. {
        let broker = Harness::exchange().await;
        let ended = {
            let (caller, mut polled) = (caller("ana"), 0);
            let mut call = std::pin::pin!(broker.credential(&caller, ""));
            std::future::poll_fn(|cx| {
                polled += 1;
                match call.as_mut().poll(cx) {
                    Poll::Ready(_) => Poll::Ready(true),
                    Poll::Pending if polled == polls => Poll::Ready(false),
                    Poll::Pending => Poll::Pending,
                }
            })
            .await
        };
        broker.all_landed().await;
        assert!(broker.recall(&caller("ana"), "").is_some(), "G152 {polls}");
        assert_eq!(broker.posts().len(), 1, "G152 {polls}");
        if ended {
            assert!(polls > 1, "at least one caller was dropped on its way");
            return;
        }
    }
}

#[tokio::test]
async fn x03_many_first_uses_are_bounded_at_the_endpoint() {
    let broker = Arc::new(Harness::exchange().await);
    broker.endpoint.close();
    let callers = Tasks::new();
    let waiting: Vec<_> = (0..200)
        .map(|number| {
            let broker = Arc::clone(&broker);
            callers.spawn("caller", async move {
                broker.get_for(&caller(&format!("user-{number}")), "").await.is_ok()
            })
        })
        .collect();
    broker.endpoint.until_asked(64).await;
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(broker.posts().len(), 64, "X03");
    broker.endpoint.open();
    for one in waiting {
        assert!(one.await.unwrap(), "X03");
    }
    assert_eq!(broker.posts().len(), 200, "X03");
}

#[tokio::test]
async fn a_token_is_renewed_in_the_background() {
    let broker = Harness::client_credentials().await;
    assert_eq!(numbers(broker.get().await), Ok(1));
    broker.clock.advance(HOUR / 100 * 77);
    assert_eq!(numbers(broker.get().await), Ok(1));
    assert_eq!(broker.posts().len(), 1);
    broker.clock.advance(HOUR / 100 * 6);
    broker.endpoint.close();
    for _ in 0..100 {
        assert_eq!(numbers(broker.get().await), Ok(1), "no one waits");
    }
    broker.endpoint.until_asked(2).await;
    broker.endpoint.open();
    broker.all_landed().await;
    assert_eq!(numbers(broker.get().await), Ok(2));
    assert_eq!(broker.posts().len(), 2);
}

#[tokio::test]
async fn a_token_is_not_given_out_at_its_end() {
    let broker = Harness::exchange().await;
    assert_eq!(numbers(broker.get().await), Ok(1));
    broker.clock.advance(HOUR - Duration::from_secs(10));
    assert!(broker.recall(&caller("ana"), "").is_none());
    assert_eq!(numbers(broker.get().await), Ok(2));
}

#[tokio::test]
async fn a_hundred_refusals_of_one_version_are_one_exchange() {
    let broker = Arc::new(Harness::exchange().await);
    let old = broker.get().await.unwrap();
    let bobs = broker.get_for(&caller("bob"), "").await.unwrap();
    let callers = Tasks::new();
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let (broker, old) = (Arc::clone(&broker), old.clone());
            callers.spawn("caller", async move {
                broker.refuse(&old).await;
                numbers(broker.get().await)
            })
        })
        .collect();
    for one in waiting {
        assert_eq!(one.await.unwrap(), Ok(3));
    }
    broker.refuse(&old).await;
    // After this time another token would be requested, if the current one were refused.
    broker.clock.advance(Duration::from_secs(30));
    assert_eq!(numbers(broker.get().await), Ok(3), "a late refusal ends what it names");
    assert_eq!(
        numbers(broker.get_for(&caller("bob"), "").await),
        Ok(number(&bobs)),
        "and no one else's"
    );
    assert_eq!(broker.posts().len(), 3);
}

#[tokio::test]
async fn an_upstream_that_refuses_every_token_causes_no_storm() {
    let broker = Harness::exchange().await;
    for _ in 0..50 {
        let credential = broker.get().await.unwrap();
        broker.refuse(&credential).await;
    }
    assert_eq!(
        broker.posts().len(),
        2,
        "the second one is returned again, and the caller sees that it is the same"
    );
    broker.clock.advance(Duration::from_secs(30));
    assert_eq!(numbers(broker.get().await), Ok(3), "after a while, another try");
}

#[tokio::test]
async fn a_refusal_of_a_credential_from_elsewhere_ends_nothing() {
    let broker = Harness::exchange().await;
    let credential = broker.get().await.unwrap();
    let elsewhere = Credential::vouch(secret("x"), credential.origin().clone());
    let version = number(&credential);
    for grant in ["g1", "", &"A".repeat(43)] {
        let grant = GrantId::new(grant);
        broker.refuse(&elsewhere.clone().from_grant(grant, version)).await;
    }
    broker.refuse(&elsewhere).await;
    assert_eq!(numbers(broker.get().await), Ok(1));
    assert_eq!(broker.posts().len(), 1);
}
