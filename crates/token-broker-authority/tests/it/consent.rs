//! The consent form: from our page, in this session, once.

use serde_json::Value;
use token_broker_authority::{AuthorityBuilder, AuthoritySettings, ProtectedServer, Quota};
use tower_token_broker::{
    Broker, Secret,
    principal::{Resource, Scopes, User},
};

use crate::{faulty_store::TestStore, support::*};

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
        if first == then {
            // A double click: the browser may have received only the second response.
            assert_eq!(again.location(), reply.location(), "D501 {first}");
        } else {
            assert_eq!(again.page_error(), "consent.replayed", "D501 {first} {then}");
        }
        if first == "deny" {
            assert_eq!(reply.redirect_param("error").as_deref(), Some("access_denied"));
            assert_eq!(reply.redirect_param("code"), None);
            assert_eq!(reply.redirect_param("iss").as_deref(), Some(ISSUER), "D107");
        } else {
            let code = reply.redirect_param("code").unwrap();
            assert_eq!(server.redeem(&client, &code).await.status, 200);
            assert_eq!(server.redeem(&client, &code).await.error(), "invalid_grant", "D501");
            // The application has its access: the code is not shown to it again.
            for decision in ["allow", "deny"] {
                let late = server.decide("alice", &page, decision).await;
                assert_eq!(late.page_error(), "consent.replayed", "D501 {decision}");
            }
        }
    }
    let outcomes: Vec<_> =
        server.recorded("consent").await.iter().map(|record| text(&record["outcome"])).collect();
    // Of the allowed one that was sent twice, too: the first record may be missing.
    assert_eq!(outcomes, ["allowed", "allowed", "allowed", "denied", "denied"]);
    let codes = server.recorded("code_issued").await;
    let families: std::collections::HashSet<_> =
        codes.iter().map(|record| text(&record["family"])).collect();
    assert_eq!((codes.len(), families.len()), (3, 2), "each response is recorded");
}

#[tokio::test]
async fn d501_two_browsers_that_send_one_form_obtain_one_code() {
    let server = Server::start().await;
    for _ in 0..10 {
        let (client, page) = page(&server).await;
        let (one, other) = tokio::join!(
            server.decide("alice", &page, "allow"),
            server.decide("alice", &page, "allow")
        );
        let code = one.redirect_param("code").unwrap();
        assert_eq!(other.redirect_param("code").unwrap(), code, "D501: the same one");
        assert_eq!(server.redeem(&client, &code).await.status, 200);
    }
    let families = server.recorded("token_issued").await;
    assert_eq!(families.len(), 10);
}

#[tokio::test]
async fn d501_of_allow_and_deny_at_once_one_counts() {
    let server = Server::start().await;
    for _ in 0..20 {
        let (client, page) = page(&server).await;
        let (allowed, denied) = tokio::join!(
            server.decide("alice", &page, "allow"),
            server.decide("alice", &page, "deny")
        );
        let code = (allowed.status == 303).then(|| allowed.redirect_param("code")).flatten();
        match code {
            Some(code) => {
                assert_eq!(denied.page_error(), "consent.replayed", "D501");
                assert_eq!(server.redeem(&client, &code).await.status, 200, "D501");
            }
            None => {
                assert_eq!(denied.redirect_param("error").as_deref(), Some("access_denied"));
                assert_eq!(allowed.page_error(), "consent.replayed", "D501");
            }
        }
    }
}

#[tokio::test]
async fn d501_a_form_that_is_sent_again_later_issues_nothing() {
    let server = Server::start().await;
    let (client, page) = page(&server).await;
    let code = server.decide("alice", &page, "allow").await.redirect_param("code").unwrap();
    server.clock.advance(minutes(1));
    let late = server.decide("alice", &page, "allow").await;
    assert_eq!(late.page_error(), "consent.replayed", "D501: its code has expired");
    assert_eq!(server.redeem(&client, &code).await.error(), "invalid_grant");
    let denied = server.decide("alice", &page, "deny").await;
    assert_eq!(denied.page_error(), "consent.replayed", "D501");
}

/// The server with these scopes, which are all its default ones.
fn crm_with(scopes: &str) -> ProtectedServer {
    ProtectedServer::new(Resource::parse(CRM).unwrap(), "CRM", Scopes::parse(scopes).unwrap())
}

#[tokio::test]
async fn d503_no_more_is_granted_than_the_page_showed() {
    // Shown by one process, and decided by another one with a changed configuration.
    for (before, after, requested, granted) in [
        ("crm:read", "crm:read crm:admin", "", Some("crm:read")),
        ("crm:read crm:write", "crm:read", "", Some("crm:read")),
        ("crm:read crm:write", "crm:read crm:admin", "crm:read crm:write", Some("crm:read")),
        ("crm:read", "crm:admin", "", None),
        ("", "crm:admin", "", Some("")),
    ] {
        let shown = Server::start_with(|_, builder| builder.server(crm_with(before))).await;
        let (store, clock) = (shown.store.clone(), shown.clock.clone());
        let decided = async {
            Server::start_on(store, clock, |_, builder| builder.server(crm_with(after))).await
        };
        let decided = decided.await;
        let client = shown.register(&[REDIRECT]).await;
        let query = with(&authorization(&client), "scope", requested);
        let query = if requested.is_empty() { with(&query, "scope", "") } else { query };
        let page = shown.authorize_as("alice", &query).await.json();
        let reply = decided.decide("alice", &page, "allow").await;
        let Some(granted) = granted else {
            assert_eq!(reply.page_error(), "authz.expired", "D503 {before} {after}");
            continue;
        };
        let code = reply.redirect_param("code").unwrap();
        let tokens = decided.redeem(&client, &code).await.json();
        assert_eq!(tokens["scope"], granted, "D503 {before} {after}");
    }
}

#[tokio::test]
async fn d503_a_server_that_the_page_did_not_offer_is_not_chosen() {
    let shown = Server::start_with(|_, builder| builder.server(crm())).await;
    let (store, clock) = (shown.store.clone(), shown.clock.clone());
    let both =
        |_: &Broker, builder: AuthorityBuilder<TestStore>| builder.server(crm()).server(hr());
    let decided = Server::start_on(store.clone(), clock.clone(), both).await;
    let removed = Server::start_on(store, clock, |_, builder| builder.server(hr())).await;
    let client = shown.register(&[REDIRECT]).await;
    let query = with(&with(&authorization(&client), "resource", ""), "scope", "");
    let page = shown.authorize_as("alice", &query).await.json();
    let sealed = text(&page["sealed"]);
    let send = async |server: &Server, resource: &str| {
        let form = [
            ("request", &*sealed),
            ("decision", "allow"),
            ("csrf", "csrf-alice"),
            ("resource", resource),
        ];
        server.post_with("/oauth/consent", &form, &[("cookie", "session=alice")]).await
    };
    assert_eq!(send(&decided, HR).await.page_error(), "authz.unreadable", "D503");
    assert_eq!(send(&removed, CRM).await.page_error(), "authz.expired", "D503");
    assert_eq!(send(&decided, CRM).await.status, 303);
}

#[tokio::test]
async fn another_user_signs_in_and_comes_back_to_the_request() {
    let server = Server::start().await;
    let (client, page) = page(&server).await;
    let pending = server.authority.pending().open(&text(&page["pending"])).unwrap();
    assert_eq!(pending.client(), client);
    let shown = server.request("GET", pending.location(), &[("cookie", "session=bob")], "").await;
    assert_eq!(shown.json()["user"], "bob");
    let reply = server.decide("bob", &shown.json(), "allow").await;
    let code = reply.redirect_param("code").unwrap();
    assert_eq!(server.redeem(&client, &code).await.status, 200);
    assert_eq!(reply.redirect_param("state").as_deref(), Some("xyz"));
}

#[tokio::test]
async fn d504_a_code_ends_with_its_session() {
    use token_broker_store::authority::{AuthorityStore, Session, SessionId, SessionStore};
    let server = Server::start().await;
    let keys = server.store.lookup_key().await.unwrap();
    let alice = User::new(ISSUER, "alice");
    let now = server.clock.now();
    for all in [false, true] {
        let hash = keys.session(&Secret::from_text(format!("cookie {all}")));
        let id = SessionId::new("session of alice");
        let session = Session::new(id, alice.clone(), now, now.plus(minutes(60)));
        server.store.put_session(&hash, &session).await.unwrap();
        let client = server.register(&[REDIRECT]).await;
        let (code, page) = (server.code(&client).await, {
            server.authorize_as("alice", &authorization(&client)).await.json()
        });
        match all {
            true => assert_eq!(server.store.end_sessions(&alice, now).await, Ok(1)),
            false => assert_eq!(server.store.end_session(&hash, now).await, Ok(true)),
        }
        assert_eq!(server.redeem(&client, &code).await.error(), "invalid_grant", "D504");
        drop(page);
    }
    assert_eq!(server.recorded("token_issued").await.len(), 0, "D504");
}

#[tokio::test]
async fn d504_a_session_that_ends_meanwhile_issues_no_code() {
    let server = Server::start().await;
    let (client, page) = page(&server).await;
    // Signed in when the form arrives, and not any more when its code was stored.
    let (sealed, csrf) = (text(&page["sealed"]), "csrf-alice");
    let form = [("request", &*sealed), ("decision", "allow"), ("csrf", csrf)];
    let fields = [("cookie", "session=alice"), ("x-signed-in", "once")];
    let reply = server.post_with("/oauth/consent", &form, &fields).await;
    assert_eq!(reply.page_error(), "authz.expired", "D504");
    let again = server.decide("alice", &page, "allow").await;
    assert_eq!(again.page_error(), "consent.replayed", "D504: its code has ended");
    drop(client);
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
    use tower_token_broker::principal::Initiator;
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

#[tokio::test]
async fn f511_a_user_allows_so_many_requests_an_hour() {
    let server = Server::start_with(|_, builder| {
        let mut settings = AuthoritySettings::default();
        settings.authorize.per_address = Quota::per_minute(10_000);
        builder.server(crm()).settings(settings)
    })
    .await;
    let client = server.register(&[REDIRECT]).await;
    let form = async |user| server.authorize_as(user, &authorization(&client)).await.json();
    let mut last = None;
    for _ in 0..60 {
        let page = form("alice").await;
        assert_eq!(server.decide("alice", &page, "allow").await.status, 303);
        // A form that is sent again is the same consent.
        let again = server.decide("alice", &page, "allow").await;
        assert_eq!(again.status, 303, "F511");
        // A denial is none.
        assert_eq!(server.decide("alice", &form("alice").await, "deny").await.status, 303);
        last = Some((page, again));
    }
    let refused = form("alice").await;
    for _ in 0..3 {
        let reply = server.decide("alice", &refused, "allow").await;
        assert_eq!((reply.status, &*reply.page_error()), (429, "authz.rate_limited"), "F511");
    }
    assert_eq!(server.recorded("code_issued").await.len(), 120, "F511: each with its two records");
    let (page, reply) = last.unwrap();
    let again = server.decide("alice", &page, "allow").await;
    assert_eq!(again.location(), reply.location(), "F511: the last one's double click");
    assert_eq!(server.decide("bob", &form("bob").await, "allow").await.status, 303, "F511");
    server.clock.advance(minutes(1));
    let page = form("alice").await;
    assert_eq!(server.decide("alice", &page, "allow").await.status, 303, "F511");
    assert_eq!(server.decide("alice", &form("alice").await, "allow").await.status, 429, "F511");
}
