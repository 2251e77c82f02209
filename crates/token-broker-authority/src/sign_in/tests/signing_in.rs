//! Sign-in: who is let in, and where the browser continues.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use token_broker_store::authority::AccountStore;

use crate::{
    authorize::{
        ClientIdentity, ConsentClient, ConsentRedirect, ConsentRequest, Interaction,
        RedirectTarget, SignedIn,
    },
    sign_in::{
        BrowserRequest,
        test_pages::{Browser, PASSWORD, TestPages, field, location, text},
    },
};

const WRONG: &str = "User name or password is wrong.";

#[tokio::test]
async fn a_user_signs_in_and_out() {
    let test = TestPages::new();
    let user = test.account("alice").await;
    let mut browser = test.browser();
    assert_eq!(location(&browser.get("/connections").await), "/sign-in");
    assert_eq!(location(&browser.sign_in("Alice").await), "/connections");
    let page = browser.get("/connections").await;
    assert!(text(&page).contains("Signed in as <strong><bdi>alice</bdi></strong>"));
    assert_eq!(location(&browser.get("/sign-in").await), "/connections");
    let page = browser.post("/sign-out", &[]).await;
    assert!(text(&page).contains("You are signed out"));
    assert!(!browser.is_signed_in().await);
    let records = test.recorded(&["sign_in", "sign_out"]);
    let subject = |at: usize| records[at]["subject"].as_str();
    assert_eq!((subject(0), subject(1)), (Some(user.subject()), Some(user.subject())));
    assert_eq!(
        (&records[0]["outcome"], &records[0]["initiator"]),
        (&"succeeded".into(), &"user".into())
    );
    assert_eq!(
        (&records[1]["what"], &records[0]["peer"]),
        (&"session".into(), &"192.0.2.1:50000".into())
    );
}

#[tokio::test]
async fn s321_no_response_shows_whether_a_user_exists() {
    let test = TestPages::new();
    test.account("alice").await;
    let disabled = test.account("bob").await;
    test.store.disable_account(disabled.subject()).await.unwrap().unwrap();
    let mut pages = Vec::new();
    for (user, password) in [
        ("alice", "wrong"),
        ("nobody", "wrong"),
        ("bob", PASSWORD),
        ("alice", ""),
        ("", PASSWORD),
        ("a\u{202e}b", PASSWORD),
    ] {
        let mut browser = test.browser();
        browser.get("/sign-in").await;
        let page = browser.post("/sign-in", &[("user", user), ("password", password)]).await;
        assert_eq!(page.status(), StatusCode::UNAUTHORIZED, "S321 {user}");
        let text = text(&page);
        assert!(text.contains(WRONG) && !text.contains(PASSWORD), "S321 {user}: {text}");
        // The same bytes, but for the token and what was typed.
        let token = field(&text, "csrf").unwrap();
        let typed = format!("value=\"{user}\"");
        let text = text.replace(&token, "TOKEN").replace(&typed, "value=\"TYPED\"");
        pages.push(text.replace(" autofocus", ""));
    }
    pages.dedup();
    assert_eq!(pages.len(), 1, "S321 {pages:#?}");
    let records = test.recorded(&["sign_in"]);
    let reasons: Vec<_> = records.iter().map(|record| record["reason"].as_str().unwrap()).collect();
    assert_eq!(
        reasons,
        [
            "sign_in.wrong_password",
            "sign_in.unknown_account",
            "sign_in.disabled",
            "sign_in.wrong_password",
            "sign_in.unknown_account",
            "sign_in.unknown_account",
        ]
    );
    assert_eq!(records.iter().filter(|record| record["subject"].is_string()).count(), 3);
    // What was typed as a name may be a password.
    assert!(records.iter().all(|record| !record.to_string().contains("nobody")));
}

#[tokio::test]
async fn s523_guessing_is_slowed_down_and_recorded_once() {
    let test = TestPages::new();
    test.account("alice").await;
    let mut browser = test.browser();
    browser.get("/sign-in").await;
    for _ in 0..5 {
        let page = browser.post("/sign-in", &[("user", "alice"), ("password", "wrong")]).await;
        assert_eq!(page.status(), StatusCode::UNAUTHORIZED);
    }
    for _ in 0..3 {
        // Also the right password.
        let page = browser.post("/sign-in", &[("user", "ALICE"), ("password", PASSWORD)]).await;
        assert_eq!(page.status(), StatusCode::TOO_MANY_REQUESTS, "S523");
        assert_eq!(page.headers()[header::RETRY_AFTER], "30", "S523");
        assert!(text(&page).contains("Too many attempts. Try again in 30 seconds."));
    }
    let reasons = test.recorded(&["sign_in"]);
    let throttled = |record: &&serde_json::Value| record["reason"] == "sign_in.throttled";
    assert_eq!((reasons.len(), reasons.iter().filter(throttled).count()), (6, 1), "S523");
    // The user's own place is not affected.
    let mut own = test.browser();
    own.last = 2;
    assert_eq!(location(&own.sign_in("alice").await), "/connections", "S524");
    test.clock.advance(Duration::from_secs(30));
    let page = browser.post("/sign-in", &[("user", "alice"), ("password", PASSWORD)]).await;
    assert_eq!(location(&page), "/connections");
}

/// Uses up the attempts of all browsers that are not known.
async fn flood(test: &TestPages) {
    for last in 10..30 {
        let mut stranger = test.browser();
        stranger.last = last;
        stranger.get("/sign-in").await;
        for _ in 0..6 {
            stranger.post("/sign-in", &[("user", "alice"), ("password", "wrong")]).await;
        }
    }
}

#[tokio::test]
async fn s525_a_flood_keeps_no_user_out_of_a_known_browser() {
    let test = TestPages::new();
    test.account("alice").await;
    let mut own = test.browser();
    own.sign_in("alice").await;
    own.get("/connections").await;
    own.post("/sign-out", &[]).await;
    flood(&test).await;
    let mut other = test.browser();
    assert_eq!(other.sign_in("alice").await.status(), StatusCode::TOO_MANY_REQUESTS, "S525");
    // At any address, and after a restart: the cookie is all that is kept.
    own.last = 77;
    assert_eq!(location(&own.sign_in("alice").await), "/connections", "S525");
    let restarted = test.restarted();
    flood(&restarted).await;
    let mut again = restarted.browser();
    again.cookies = own.cookies.clone();
    again.cookies.retain(|name, _| name.contains("device"));
    assert_eq!(location(&again.sign_in("alice").await), "/connections", "S525");
}

#[tokio::test]
async fn s525_a_device_cookie_is_of_one_user_and_ends() {
    const COOKIE: &str = "__Host-token-broker-device";
    let test = TestPages::new();
    test.account("alice").await;
    test.account("mallory").await;
    let cookie_of = async |user: &str| {
        let mut browser = test.browser();
        browser.sign_in(user).await;
        browser.cookies[COOKIE].clone()
    };
    let (alice, mallory) = (cookie_of("alice").await, cookie_of("mallory").await);
    assert_ne!(cookie_of("alice").await, alice, "S525: a new one at each sign-in");
    flood(&test).await;
    let status = async |cookie: &str, user: &str| {
        let mut browser = test.browser();
        browser.cookies.insert(COOKIE.into(), cookie.into());
        browser.sign_in(user).await.status()
    };
    let changed = alice.chars().rev().collect::<String>();
    let shorter = alice.strip_suffix(|_: char| true).unwrap();
    let pending = test.pending("Claude Code");
    for cookie in [&*mallory, &changed, shorter, "", "A", &pending, &"A".repeat(4_000)] {
        let refused = status(cookie, "alice").await;
        assert_eq!(refused, StatusCode::TOO_MANY_REQUESTS, "S525 {cookie:.20}");
    }
    assert_eq!(status(&alice, "ALICE").await, StatusCode::SEE_OTHER, "S525: any case of the name");
    test.clock.advance(Duration::from_secs(180 * 24 * 60 * 60));
    flood(&test).await;
    assert_eq!(status(&alice, "alice").await, StatusCode::TOO_MANY_REQUESTS, "S525: it has ended");
}

#[tokio::test]
async fn s525_a_known_browser_has_its_own_pauses() {
    let test = TestPages::new();
    test.account("alice").await;
    let mut own = test.browser();
    own.sign_in("alice").await;
    own.get("/connections").await;
    own.post("/sign-out", &[]).await;
    own.get("/sign-in").await;
    for _ in 0..5 {
        let page = own.post("/sign-in", &[("user", "alice"), ("password", "wrong")]).await;
        assert_eq!(page.status(), StatusCode::UNAUTHORIZED);
    }
    let page = own.post("/sign-in", &[("user", "alice"), ("password", PASSWORD)]).await;
    assert_eq!(page.status(), StatusCode::TOO_MANY_REQUESTS, "S525: a stolen cookie is no key");
}

#[tokio::test]
async fn s527_a_full_pool_is_no_failure_of_the_user() {
    let test = TestPages::new();
    test.account("alice").await;
    let mut browser = test.browser();
    browser.get("/sign-in").await;
    let passwords = &test.pages.shared().passwords;
    let places: Vec<_> =
        (0..).map_while(|other| passwords.place(&format!("user-{other}")).ok()).collect();
    for _ in 0..50 {
        let page = browser.post("/sign-in", &[("user", "alice"), ("password", PASSWORD)]).await;
        assert_eq!(page.status(), StatusCode::SERVICE_UNAVAILABLE, "S527");
    }
    drop(places);
    assert_eq!(location(&browser.sign_in("alice").await), "/connections", "S527");
    assert_eq!(test.recorded(&["sign_in"]).len(), 1, "S527");
}

#[tokio::test]
async fn s528_a_busy_account_keeps_no_other_out() {
    let test = TestPages::new();
    test.account("alice").await;
    test.account("bob").await;
    // What sixty threads with the passwords of one account hold, and as much of an unknown name.
    let passwords = &test.pages.shared().passwords;
    let busy = ["alice", "mallory"]
        .map(|name| std::iter::from_fn(|| passwords.place(name).ok()).take(60).collect::<Vec<_>>());
    for name in ["alice", "ALICE", "mallory"] {
        let mut browser = test.browser();
        browser.get("/sign-in").await;
        let page = browser.post("/sign-in", &[("user", name), ("password", PASSWORD)]).await;
        assert_eq!(page.status(), StatusCode::SERVICE_UNAVAILABLE, "S528 {name}");
    }
    assert_eq!(location(&test.browser().sign_in("bob").await), "/connections", "S528");
    drop(busy);
    assert_eq!(location(&test.browser().sign_in("alice").await), "/connections", "S528");
}

#[tokio::test]
async fn the_waiting_application_continues_after_the_sign_in() {
    let test = TestPages::new();
    test.account("alice").await;
    let pending = test.pending("Claude Code");
    let response = test.pages.sign_in(&pending);
    let mut browser = test.browser();
    let page = browser.get(location(&response)).await;
    assert!(text(&page).contains("to continue to <strong><bdi>Claude Code</bdi></strong>"));
    assert_eq!(field(&text(&page), "continue").as_deref(), Some(&*pending));
    let fields = [("user", "alice"), ("password", PASSWORD), ("continue", &*pending)];
    let expected = format!("/oauth/continue?request={pending}");
    assert_eq!(location(&browser.post("/sign-in", &fields).await), expected);
    // Signed in already.
    assert_eq!(location(&browser.get(&format!("/sign-in?continue={pending}")).await), expected);
}

#[tokio::test]
async fn d525_only_a_sealed_request_is_continued() {
    let test = TestPages::new();
    test.account("alice").await;
    let pending = test.pending("Claude Code");
    let changed = pending.chars().rev().collect::<String>();
    let shorter = pending.strip_suffix(|_: char| true).unwrap();
    let long = "A".repeat(20_000);
    for hostile in [
        "https://evil.example",
        "//evil.example",
        "/connections",
        "javascript:alert(1)",
        "",
        &changed,
        shorter,
        &long,
    ] {
        let mut browser = test.browser();
        let encoded = hostile.replace('/', "%2F").replace(':', "%3A");
        let page = browser.get(&format!("/sign-in?continue={encoded}")).await;
        assert_eq!(page.status(), StatusCode::BAD_REQUEST, "D525 {hostile:.40}");
        browser.get("/sign-in").await;
        let fields = [("user", "alice"), ("password", PASSWORD), ("continue", hostile)];
        let page = browser.post("/sign-in", &fields).await;
        assert_eq!(page.status(), StatusCode::BAD_REQUEST, "D525 {hostile:.40}");
        assert!(!browser.is_signed_in().await, "D525");
    }
    test.clock.advance(Duration::from_secs(3_600));
    let page = test.browser().get(&format!("/sign-in?continue={pending}")).await;
    assert_eq!(page.status(), StatusCode::BAD_REQUEST, "D525: expired");
    assert!(text(&page).contains("sign in again from your application"));
}

#[tokio::test]
async fn nothing_happens_without_a_record() {
    let test = TestPages::new();
    test.account("alice").await;
    let mut browser = test.browser();
    browser.get("/sign-in").await;
    test.records.fail();
    let fields = [("user", "alice"), ("password", PASSWORD)];
    let page = browser.post("/sign-in", &fields).await;
    assert_eq!(page.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(!browser.is_signed_in().await);
}

#[tokio::test]
async fn other_methods_and_paths_are_no_page() {
    let test = TestPages::new();
    let request = |method: http::Method, path: &str| {
        http::Request::builder().method(method).uri(path).body(()).unwrap().into_parts().0
    };
    let respond = async |method, path| {
        let (parts, body) = (request(method, path), bytes::Bytes::new());
        let id = tower_token_broker::request_id::RequestId::from_bits([7; 16]);
        let response = test.pages.respond(&BrowserRequest::new(&parts, &body, id)).await;
        response.map(|response| response.status().as_u16())
    };
    use http::Method;
    assert_eq!(respond(Method::GET, "/crm/mcp").await, None);
    assert_eq!(respond(Method::GET, "/sign-in/").await, None);
    assert_eq!(respond(Method::DELETE, "/connections").await, Some(405));
    assert_eq!(respond(Method::PUT, "/sign-out").await, Some(405));
    assert_eq!(respond(Method::HEAD, "/sign-in").await, Some(200));
    assert_eq!(respond(Method::GET, "/sign-out").await, Some(303));
    assert_eq!(respond(Method::POST, "/sign-in").await, Some(400), "no media type");
}

#[tokio::test]
async fn another_user_comes_back_to_the_request_from_its_consent_page() {
    let test = TestPages::new();
    test.account("alice").await;
    test.account("bob").await;
    let pending = test.pending("Claude Code");
    let mut browser = test.browser();
    browser.sign_in("alice").await;
    // The page of the authorize endpoint.
    let user = signed_in(&test, &browser).await.unwrap();
    let page = test.pages.consent(&user, &consent_request(&pending));
    let carried = field(&text(&page), "continue").unwrap();
    assert_eq!(carried, pending);
    browser.csrf = field(&text(&page), "csrf").unwrap();
    let left = browser.post("/sign-out", &[("continue", &carried)]).await;
    let sign_in = location(&left).to_owned();
    assert_eq!(sign_in, format!("/sign-in?continue={pending}"));
    assert!(!browser.is_signed_in().await);
    browser.get(&sign_in).await;
    let fields = [("user", "bob"), ("password", PASSWORD), ("continue", &*carried)];
    let back = browser.post("/sign-in", &fields).await;
    assert_eq!(location(&back), format!("/oauth/continue?request={pending}"));
    assert_eq!(&*signed_in(&test, &browser).await.unwrap().display_name, "bob");
}

async fn signed_in(test: &TestPages, browser: &Browser<'_>) -> Option<SignedIn> {
    let pairs = browser.cookies.iter().map(|(name, value)| format!("{name}={value}"));
    let mut headers = HeaderMap::new();
    headers.insert(header::COOKIE, pairs.collect::<Vec<_>>().join("; ").parse().unwrap());
    test.pages.signed_in(&headers).await.unwrap()
}

fn consent_request(pending: &str) -> ConsentRequest {
    let client = ConsentClient::new("client-1", Some("Claude Code"), ClientIdentity::Configured);
    let uri = "http://127.0.0.1/cb";
    let redirect = ConsentRedirect::new(uri, "127.0.0.1", RedirectTarget::Loopback);
    ConsentRequest::new(client, redirect, Vec::new(), "sealed").pending(pending)
}
