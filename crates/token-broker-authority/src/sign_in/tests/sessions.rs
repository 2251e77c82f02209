//! Sessions and access: forged forms, and what ends them.

use std::time::Duration;

use http::StatusCode;
use token_broker_store::authority::{AccountStore, SetPassword};
use tower_token_broker::Secret;

use crate::sign_in::test_pages::{PASSWORD, TestPages, location, text};

#[tokio::test]
async fn d098_forged_forms_change_nothing() {
    let test = TestPages::new();
    let alice = test.account("alice").await;
    test.account("mallory").await;
    test.access.families.lock().push((alice.clone(), "inspector", "f1"));
    let (mut victim, mut attacker) = (test.browser(), test.browser());
    victim.sign_in("alice").await;
    victim.get("/connections").await;
    attacker.sign_in("mallory").await;
    attacker.get("/connections").await;
    let (own, other) = (victim.csrf.clone(), attacker.csrf.clone());
    let same = ("sec-fetch-site", "same-origin");
    let site = ("origin", "https://broker.example.com");
    for (token, headers) in [
        ("", &[same][..]),
        (&*other, &[same]),
        (&*own, &[("sec-fetch-site", "cross-site")]),
        (&*own, &[("sec-fetch-site", "same-site"), site]),
        (&*own, &[("origin", "https://evil.example")]),
        (&*own, &[("origin", "null")]),
        (&*own, &[]),
    ] {
        for (path, fields) in [
            ("/connections", &[("action", "end"), ("family", "f1"), ("csrf", token)][..]),
            ("/connections", &[("action", "end-all"), ("csrf", token)]),
            ("/sign-out", &[("csrf", token)]),
        ] {
            let page = victim.post_from(path, fields, headers).await;
            assert_eq!(page.status(), StatusCode::FORBIDDEN, "D098 {path} {token} {headers:?}");
        }
    }
    assert!(victim.is_signed_in().await, "D098");
    assert_eq!(test.access.families.lock().len(), 1, "D098");
    // Control: the same form from our own page.
    victim.post("/connections", &[("action", "end"), ("family", "f1")]).await;
    assert_eq!(test.access.families.lock().len(), 0);
}

/// A form of another site arrives without the cookie of the session: the browser keeps it.
#[tokio::test]
async fn d534_another_site_cannot_sign_a_browser_out() {
    let test = TestPages::new();
    test.account("alice").await;
    let mut stranger = test.browser();
    for headers in [&[("sec-fetch-site", "cross-site")][..], &[("origin", "https://evil.example")]]
    {
        let page = stranger.post_from("/sign-out", &[("csrf", "x")], headers).await;
        assert!(page.headers().get("set-cookie").is_none(), "D534 {:?}", page.headers());
    }
    // Control: a browser that signs out loses its cookie.
    let mut browser = test.browser();
    browser.sign_in("alice").await;
    browser.get("/connections").await;
    let page = browser.post("/sign-out", &[]).await;
    assert!(page.headers().get("set-cookie").is_some());
    assert!(!browser.is_signed_in().await);
}

/// Two applications ask at once: the sign-in form of the second tab is not that of the session.
#[tokio::test]
async fn the_form_of_a_second_tab_continues_after_the_sign_in_of_the_first() {
    let test = TestPages::new();
    test.account("alice").await;
    let (first, second) = (test.pending("editor"), test.pending("terminal"));
    let mut browser = test.browser();
    let open = |sealed: &str| format!("/sign-in?continue={sealed}");
    browser.get(&open(&first)).await;
    let old = browser.csrf.clone();
    browser.get(&open(&second)).await;
    browser
        .post("/sign-in", &[("user", "alice"), ("password", PASSWORD), ("continue", &first)])
        .await;
    let fields =
        [("user", "alice"), ("password", PASSWORD), ("continue", &*second), ("csrf", &*old)];
    let page = browser.post_from("/sign-in", &fields, &[("sec-fetch-site", "same-origin")]).await;
    assert_eq!(page.status(), StatusCode::SEE_OTHER, "{}", text(&page));
    assert!(location(&page).starts_with("/oauth/continue?"), "{}", location(&page));
    // From another site, it leads nowhere.
    let page = browser.post_from("/sign-in", &fields, &[("sec-fetch-site", "cross-site")]).await;
    assert_eq!(page.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn d098_another_site_cannot_sign_a_browser_in() {
    let test = TestPages::new();
    test.account("mallory").await;
    let mut attacker = test.browser();
    attacker.get("/sign-in").await;
    let token = attacker.csrf.clone();
    let mut victim = test.browser();
    let fields = [("user", "mallory"), ("password", PASSWORD), ("csrf", &*token)];
    let own = [("origin", "https://broker.example.com")];
    for headers in [&own[..], &[("origin", "https://evil.example")]] {
        // Without a visit, with one, and with the token of the attacker's visit.
        let page = victim.post_from("/sign-in", &fields, headers).await;
        assert_eq!(page.status(), StatusCode::FORBIDDEN, "D098");
        victim.get("/sign-in").await;
        let page = victim.post_from("/sign-in", &fields, headers).await;
        assert_eq!(page.status(), StatusCode::FORBIDDEN, "D098");
    }
    assert!(!victim.is_signed_in().await);
    assert_eq!(test.recorded(&["sign_in"]).len(), 0, "D098: no password was looked at");
}

#[tokio::test]
async fn q522_a_planted_session_is_not_kept() {
    let test = TestPages::new();
    test.account("alice").await;
    test.account("mallory").await;
    let name = "__Host-token-broker-session";
    let mut attacker = test.browser();
    attacker.sign_in("mallory").await;
    let planted = attacker.cookies[name].clone();
    let mut victim = test.browser();
    victim.cookies.insert(name.to_owned(), planted.clone());
    // The planted session is signed in: the victim signs out of it and signs in.
    victim.get("/connections").await;
    victim.post("/sign-out", &[]).await;
    victim.sign_in("alice").await;
    assert_ne!(victim.cookies[name], planted, "Q522");
    assert!(!attacker.is_signed_in().await, "Q522");
    // A value that the attacker made up is never a session.
    let mut other = test.browser();
    other.cookies.insert(name.to_owned(), "A".repeat(43));
    assert!(!other.is_signed_in().await, "Q522");
    other.sign_in("alice").await;
    assert_ne!(other.cookies[name], "A".repeat(43), "Q522");
    let first = other.cookies[name].clone();
    other.cookies.insert("x".into(), "y".into());
    assert!(other.is_signed_in().await && victim.is_signed_in().await);
    assert_ne!(first, victim.cookies[name]);
}

#[tokio::test]
async fn q521_a_session_ends_with_the_account_and_its_password() {
    let test = TestPages::new();
    let user = test.account("alice").await;
    let mut browser = test.browser();
    browser.sign_in("alice").await;
    assert!(browser.is_signed_in().await);
    test.store.disable_account(user.subject()).await.unwrap().unwrap();
    assert!(!browser.is_signed_in().await, "Q521");
    test.store.enable_account(user.subject()).await.unwrap().unwrap();
    assert!(!browser.is_signed_in().await, "Q521: enabling gives no session back");
    browser.sign_in("alice").await;
    assert!(browser.is_signed_in().await);
    let set = SetPassword::new(user.subject(), Secret::from_text("x".into()));
    test.store.set_password(&set).await.unwrap().unwrap();
    assert!(!browser.is_signed_in().await, "Q521");
}

#[tokio::test]
async fn a_session_ends_after_twelve_hours() {
    let test = TestPages::new();
    test.account("alice").await;
    let mut browser = test.browser();
    browser.sign_in("alice").await;
    for _ in 0..12 {
        test.clock.advance(Duration::from_secs(3_599));
        assert!(browser.is_signed_in().await);
    }
    test.clock.advance(Duration::from_secs(12));
    assert!(!browser.is_signed_in().await, "use does not make it longer");
}

#[tokio::test]
async fn signing_out_everywhere_ends_sessions_and_access_of_this_user_only() {
    let test = TestPages::new();
    let (alice, bob) = (test.account("alice").await, test.account("bob").await);
    test.access.families.lock().extend([(alice, "inspector", "f1"), (bob, "inspector", "f2")]);
    let (mut one, mut two, mut other) = (test.browser(), test.browser(), test.browser());
    one.sign_in("alice").await;
    two.sign_in("alice").await;
    other.sign_in("bob").await;
    // While access cannot be ended, the user can try again.
    *test.access.is_down.lock() = true;
    one.get("/connections").await;
    let page = one.post("/connections", &[("action", "end-all")]).await;
    assert_eq!(page.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(one.is_signed_in().await && test.recorded(&["sign_out"]).is_empty());
    *test.access.is_down.lock() = false;
    let page = one.post("/connections", &[("action", "end-all")]).await;
    assert!(text(&page).contains("You are signed out in every browser"));
    assert!(!one.is_signed_in().await && !two.is_signed_in().await);
    assert!(other.is_signed_in().await);
    let left: Vec<_> = test.access.families.lock().iter().map(|(.., family)| *family).collect();
    assert_eq!(left, ["f2"]);
    assert_eq!(test.recorded(&["sign_out"])[0]["what"], "everywhere");
}

#[tokio::test]
async fn q304_a_family_of_another_user_is_an_unknown_one() {
    let test = TestPages::new();
    let (alice, _) = (test.account("alice").await, test.account("mallory").await);
    test.access.families.lock().push((alice, "inspector", "f1"));
    let mut browser = test.browser();
    browser.sign_in("mallory").await;
    let page = browser.get("/connections").await;
    assert!(!text(&page).contains("inspector"), "Q304");
    let mut responses = Vec::new();
    for family in ["f1", "f9"] {
        let response = browser.post("/connections", &[("action", "end"), ("family", family)]).await;
        responses.push((response.status(), location(&response).to_owned(), text(&response)));
    }
    assert_eq!(responses[0], responses[1], "Q304");
    assert_eq!(test.access.families.lock().len(), 1, "Q304");
}
