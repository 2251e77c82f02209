//! What is kept, for whom, how long; who waits, and what is asked for again.

use std::{collections::HashSet, task::Poll};

use tower_token_broker::principal::Actor;

use super::*;

#[tokio::test]
async fn each_user_has_a_token_of_its_own_and_keeps_it() {
    let broker = Broker::exchange().await;
    for _ in 0..3 {
        assert_eq!(numbers(broker.get_for(&caller("ana"), "").await), Ok(1));
        assert_eq!(numbers(broker.get_for(&caller("bob"), "").await), Ok(2));
    }
    assert_eq!(broker.posts().len(), 2);
    assert!(broker.provider.recall(&caller("ana"), &Scopes::none()).is_some(), "at hand without waiting");
    assert!(broker.provider.recall(&caller("eve"), &Scopes::none()).is_none());
}

#[tokio::test]
async fn g157_whatever_took_part_in_an_answer_is_in_its_key() {
    /// Gives the same for everyone: only the key can tell them apart.
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
    ];
    let broker = Broker::exchange_of(Same, |server| server).await;
    let mut grants = HashSet::new();
    for verified in &callers {
        for need in ["", "crm:write", "crm:write x"] {
            let given = broker.get_for(&Principal::for_test(verified), need).await.unwrap();
            assert!(grants.insert(given.grant().unwrap().0.clone()), "G157 {verified:?} {need}");
        }
    }
    assert_eq!(broker.posts().len(), callers.len() * 3, "G157");
    // And what took no part is not: another broker token of the same user, client and scopes.
    let times = TokenTimes { id: "another", issued_at: now(), expires_at: now().plus(HOUR * 2) };
    let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
    let again = Verified::vouch(User::new("https://i", "ana"), "c", resource, times);
    broker.get_for(&Principal::for_test(&again), "").await.unwrap();
    assert_eq!(broker.posts().len(), callers.len() * 3);
}

#[tokio::test]
async fn g157_an_assertion_is_for_a_user_and_its_actors_and_nothing_else_is_in_it() {
    let broker = Broker::exchange().await;
    let actor = |name: &str, before| Actor::new(User::new(BROKER, name), before);
    let callers = [
        verified("ana"),
        verified("ana").with_actor(actor("x", None)),
        verified("ana").with_actor(actor("y", None)),
        verified("ana").with_actor(actor("x", Some(actor("y", None)))),
        verified("bob").with_actor(actor("x", None)),
    ];
    for (place, verified) in callers.iter().enumerate() {
        let given = broker.get_for(&Principal::for_test(verified), "").await;
        assert_eq!(numbers(given), Ok(place as u64 + 1), "G157 {verified:?}");
        let alike = verified.clone().with_scopes(scopes("x")).with_family("x");
        let given = broker.get_for(&Principal::for_test(&alike), "").await;
        assert_eq!(numbers(given), Ok(place as u64 + 1), "{alike:?}: what the client holds is not sent");
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
        let broker = Broker::exchange_of(Assertion::of_caller(BROKER, sign), configure).await;
        assert!(grants.insert(broker.get().await.unwrap().grant().unwrap().0.clone()), "G157");
    }
    for (issuer, client) in [("https://another.example", ClientAuthentication::public("broker")), (ISSUER, other)] {
        let at = move |_| {
            let never = "http://127.0.0.1:1/token".parse().unwrap();
            AuthorizationServer::new(issuer, never, client).scopes(scopes("crm:read"))
        };
        let broker = Broker::exchange_of(Assertion::of_caller(BROKER, sign), at).await;
        let intended = grant_of_the_intent(&broker).await;
        assert!(grants.insert(tower_token_broker::principal::GrantId::new(&intended)), "G157 {issuer}");
    }
}

/// Nobody answers there; the audit says under which name it was tried.
async fn grant_of_the_intent(broker: &Broker<TokenExchange>) -> String {
    broker.get().await.unwrap_err();
    let line = broker.records.lines().into_iter().find(|line| line.contains("refresh_intent")).unwrap();
    let record: Value = line.parse().unwrap();
    record["grant"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g149_ten_thousand_first_uses_are_one_exchange() {
    let broker = Arc::new(Broker::exchange().await);
    broker.endpoint.close();
    let callers = Tasks::new();
    let (began, mut pending) = tokio::sync::watch::channel(0);
    let began = Arc::new(began);
    let waiting: Vec<_> = (0..10_000)
        .map(|_| {
            let (broker, began) = (Arc::clone(&broker), Arc::clone(&began));
            callers.spawn("caller", async move {
                let mut work = std::pin::pin!(broker.get());
                let first = std::future::poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx).is_pending())).await;
                assert!(first, "G149: nobody can have the token yet");
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
async fn g152_a_caller_that_hangs_up_at_any_poll_costs_nothing() {
    for polls in 1.. {
        let broker = Broker::exchange().await;
        let ended = {
            let (caller, need, trail, mut polled) = (caller("ana"), Scopes::none(), broker.trail.clone(), 0);
            let mut call = std::pin::pin!(broker.provider.credential(&caller, &need, &trail));
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
        assert!(broker.provider.recall(&caller("ana"), &Scopes::none()).is_some(), "G152 {polls}");
        assert_eq!(broker.posts().len(), 1, "G152 {polls}");
        if ended {
            assert!(polls > 1, "at least one caller was dropped on its way");
            return;
        }
    }
}

#[tokio::test]
async fn x03_many_first_uses_are_a_bounded_crowd_at_the_token_endpoint() {
    let broker = Arc::new(Broker::exchange().await);
    broker.endpoint.close();
    let callers = Tasks::new();
    let waiting: Vec<_> = (0..200)
        .map(|number| {
            let broker = Arc::clone(&broker);
            callers.spawn("caller", async move { broker.get_for(&caller(&format!("user-{number}")), "").await.is_ok() })
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
async fn at_four_fifths_of_its_life_a_token_is_renewed_behind_its_users() {
    let broker = Broker::client_credentials().await;
    assert_eq!(numbers(broker.get().await), Ok(1));
    broker.clock.advance(HOUR / 100 * 77);
    assert_eq!(numbers(broker.get().await), Ok(1));
    assert_eq!(broker.posts().len(), 1);
    broker.clock.advance(HOUR / 100 * 6);
    broker.endpoint.close();
    for _ in 0..100 {
        assert_eq!(numbers(broker.get().await), Ok(1), "nobody waits");
    }
    broker.endpoint.until_asked(2).await;
    broker.endpoint.open();
    broker.all_landed().await;
    assert_eq!(numbers(broker.get().await), Ok(2));
    assert_eq!(broker.posts().len(), 2);
}

#[tokio::test]
async fn a_token_is_not_given_out_at_its_end() {
    let broker = Broker::exchange().await;
    assert_eq!(numbers(broker.get().await), Ok(1));
    broker.clock.advance(HOUR - Duration::from_secs(10));
    assert!(broker.provider.recall(&caller("ana"), &Scopes::none()).is_none());
    assert_eq!(numbers(broker.get().await), Ok(2));
}

#[tokio::test]
async fn a_hundred_refusals_of_one_version_are_one_exchange() {
    let broker = Arc::new(Broker::exchange().await);
    let old = broker.get().await.unwrap();
    let bobs = broker.get_for(&caller("bob"), "").await.unwrap();
    let callers = Tasks::new();
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let (broker, old) = (Arc::clone(&broker), old.clone());
            callers.spawn("caller", async move {
                broker.provider.refused(&old).await;
                numbers(broker.get().await)
            })
        })
        .collect();
    for one in waiting {
        assert_eq!(one.await.unwrap(), Ok(3));
    }
    broker.provider.refused(&old).await;
    // Long enough for another try, if it were the one that was refused.
    broker.clock.advance(Duration::from_secs(30));
    assert_eq!(numbers(broker.get().await), Ok(3), "a late refusal ends what it names");
    assert_eq!(numbers(broker.get_for(&caller("bob"), "").await), Ok(number(&bobs)), "and nobody else's");
    assert_eq!(broker.posts().len(), 3);
}

#[tokio::test]
async fn an_upstream_that_refuses_every_token_is_no_storm_at_the_token_endpoint() {
    let broker = Broker::exchange().await;
    for _ in 0..50 {
        let given = broker.get().await.unwrap();
        broker.provider.refused(&given).await;
    }
    assert_eq!(broker.posts().len(), 2, "the second one is given again, and the caller sees that it is the same");
    broker.clock.advance(Duration::from_secs(30));
    assert_eq!(numbers(broker.get().await), Ok(3), "after a while, another try");
}

#[tokio::test]
async fn a_refusal_of_a_credential_from_elsewhere_ends_nothing() {
    let broker = Broker::exchange().await;
    let given = broker.get().await.unwrap();
    let elsewhere = Credential::vouch(secret("x"), given.origin().clone());
    let version = number(&given);
    for grant in ["g1", "", &"A".repeat(43)] {
        let grant = tower_token_broker::principal::GrantId::new(grant);
        broker.provider.refused(&elsewhere.clone().from_grant(grant, version)).await;
    }
    broker.provider.refused(&elsewhere).await;
    assert_eq!(numbers(broker.get().await), Ok(1));
    assert_eq!(broker.posts().len(), 1);
}
