//! The consent form: from our page, in this session, once.

use serde_json::Value;

use crate::support::*;

async fn page(server: &Server) -> (String, Value) {
    let client = server.register(&[REDIRECT]).await;
    let page = server.authorize_as("alice", &authorization(&client)).await;
    (client, page.json())
}

#[tokio::test]
async fn d097_nothing_is_issued_without_the_form() {
    let server = Server::start().await;
    let (client, page) = page(&server).await;
    for _ in 0..3 {
        let again = server.authorize_as("alice", &authorization(&client)).await;
        assert_eq!((again.status, again.location()), (200, None), "D097 D103: the page, each time");
    }
    assert_eq!(server.recorded("code_issued").await.len(), 0, "D097");
    assert_eq!(page["identity"], "SelfRegistered { since: 0ns }");
    let get = server.request("GET", "/oauth/consent", &[("cookie", "session=alice")], "").await;
    assert_eq!((get.status, get.location()), (405, None));
}

#[tokio::test]
async fn d098_a_form_of_another_session_is_refused() {
    let server = Server::start().await;
    let (_, page) = page(&server).await;
    let sealed = text(&page["sealed"]);
    let form = |csrf: &'static str| {
        [("request", sealed.clone()), ("decision", "allow".into()), ("csrf", csrf.to_owned())]
    };
    let send = async |csrf: &'static str, fields: &[(&str, &str)]| {
        let form = form(csrf);
        let form: Vec<_> = form.iter().map(|(name, value)| (*name, &**value)).collect();
        server.post_with("/oauth/consent", &form, fields).await
    };
    let alice = ("cookie", "session=alice");
    for (csrf, fields, error) in [
        ("", &[alice][..], "consent.csrf"),
        ("csrf-mallory", &[alice], "consent.csrf"),
        ("csrf-alice", &[alice, ("sec-fetch-site", "cross-site")], "consent.csrf"),
        // Another session, of another user and of the same one.
        ("csrf-mallory", &[("cookie", "session=mallory")], "authz.expired"),
        ("csrf-alice-2", &[("cookie", "session=alice-2")], "authz.expired"),
        ("csrf-alice", &[], "authz.expired"),
    ] {
        let reply = send(csrf, fields).await;
        assert_eq!(reply.page_error(), error, "D098 {csrf} {fields:?}");
    }
    assert_eq!(send("csrf-alice", &[alice]).await.status, 303, "D098: the right one");
    assert_eq!(server.recorded("code_issued").await.len(), 1);
}

#[tokio::test]
async fn d501_a_form_is_decided_once() {
    let server = Server::start().await;
    for (first, then) in
        [("allow", "allow"), ("allow", "deny"), ("deny", "allow"), ("deny", "deny")]
    {
        let (client, page) = page(&server).await;
        let reply = server.decide("alice", &page, first).await;
        assert_eq!(reply.status, 303);
        let again = server.decide("alice", &page, then).await;
        assert_eq!(again.page_error(), "consent.replayed", "{first} {then}");
        if first == "deny" {
            assert_eq!(reply.redirect_param("error").as_deref(), Some("access_denied"));
            assert_eq!(reply.redirect_param("code"), None);
            assert_eq!(reply.redirect_param("iss").as_deref(), Some(ISSUER), "D107");
        } else {
            let code = reply.redirect_param("code").unwrap();
            assert_eq!(server.redeem(&client, &code).await.status, 200);
        }
    }
    let outcomes: Vec<_> =
        server.recorded("consent").await.iter().map(|record| text(&record["outcome"])).collect();
    assert_eq!(outcomes, ["allowed", "allowed", "denied", "denied"]);
}

#[tokio::test]
async fn d501_two_browsers_that_send_one_form_obtain_one_code() {
    let server = Server::start().await;
    let (_, page) = page(&server).await;
    let (one, other) = tokio::join!(
        server.decide("alice", &page, "allow"),
        server.decide("alice", &page, "allow")
    );
    let codes = [one, other].iter().filter(|reply| reply.status == 303).count();
    assert_eq!((codes, server.recorded("code_issued").await.len()), (1, 1));
}

#[tokio::test]
async fn d502_a_changed_or_expired_form_is_refused() {
    let server = Server::start().await;
    let (client, page) = page(&server).await;
    let mut changed = page.clone();
    let sealed = text(&page["sealed"]);
    let (tail, other) =
        (sealed.get(sealed.len() - 1..).unwrap(), if sealed.ends_with('A') { "E" } else { "A" });
    changed["sealed"] = format!("{}{other}", sealed.strip_suffix(tail).unwrap()).into();
    assert_eq!(server.decide("alice", &changed, "allow").await.page_error(), "authz.expired");
    // What was sealed for the sign-in is no form.
    let target = format!("/oauth/authorize?{}", encode(&authorization(&client)));
    let reply = server.get(&target).await;
    let pending = reply.location().unwrap().strip_prefix("/sign-in?continue=").unwrap();
    changed["sealed"] = pending.into();
    assert_eq!(server.decide("alice", &changed, "allow").await.page_error(), "authz.expired");
    let as_pending = format!("/oauth/continue?request={sealed}");
    assert_eq!(server.get(&as_pending).await.page_error(), "authz.expired");
    for decision in ["", "maybe", "ALLOW"] {
        assert_eq!(server.decide("alice", &page, decision).await.page_error(), "authz.unreadable");
    }
    server.clock.advance(minutes(15));
    assert_eq!(server.decide("alice", &page, "allow").await.page_error(), "authz.expired");
    let target = format!("/oauth/continue?request={pending}");
    assert_eq!(server.get(&target).await.status, 303, "to the sign-in");
    server.clock.advance(minutes(45));
    assert_eq!(server.get(&target).await.page_error(), "authz.expired");
}

#[tokio::test]
async fn a_client_that_was_removed_obtains_no_code() {
    use token_broker_store::authority::{ClientId, ClientStore};
    let server = Server::start().await;
    let (client, page) = page(&server).await;
    server.store.remove_client(&ClientId::new(&client)).await.unwrap();
    assert_eq!(server.decide("alice", &page, "allow").await.page_error(), "authz.client");
}

#[tokio::test]
async fn a_blocked_user_allows_nothing() {
    use tower_token_broker::principal::{Initiator, User};
    let server = Server::start().await;
    let (_, page) = page(&server).await;
    let alice = User::new(ISSUER, "alice");
    server.broker.block(&alice, &Initiator::operator("olga")).await.unwrap();
    let reply = server.decide("alice", &page, "allow").await;
    assert_eq!(reply.redirect_param("error").as_deref(), Some("access_denied"));
    assert_eq!(server.recorded("code_issued").await.len(), 0);
}

#[tokio::test]
async fn d502_two_users_of_one_client_obtain_their_own_tokens() {
    let server = Server::start().await;
    let client = server.register(&[REDIRECT]).await;
    let pages = [
        server.authorize_as("alice", &authorization(&client)).await.json(),
        server.authorize_as("bob", &authorization(&client)).await.json(),
    ];
    // Each with the other's page.
    assert_eq!(server.decide("alice", &pages[1], "allow").await.page_error(), "authz.expired");
    assert_eq!(server.decide("bob", &pages[0], "allow").await.page_error(), "authz.expired");
    for (user, page) in [("alice", &pages[0]), ("bob", &pages[1])] {
        let reply = server.decide(user, page, "allow").await;
        let code = reply.redirect_param("code").unwrap();
        assert_eq!(server.redeem(&client, &code).await.status, 200);
    }
    let users: Vec<_> = server
        .recorded("token_issued")
        .await
        .iter()
        .map(|issued| text(&issued["subject"]))
        .collect();
    assert_eq!(users, ["alice", "bob"]);
}
