//! The first account, and other passwords.

use std::time::Duration;

use http::StatusCode;
use token_broker_store::authority::{
    AccountStore, AuthorityStore, ClientId, Code, CodeState, CodeStore, FamilyId, SessionId,
};
use tower_token_broker::{
    Secret,
    principal::{Resource, User},
};

use crate::sign_in::{
    BrowserPages, BrowserPagesOptions, first_account_link,
    test_pages::{Browser, PASSWORD, TestPages, exposed, location, text},
};

#[tokio::test]
async fn the_first_account_is_created_once() {
    let test = TestPages::new();
    let link = first_account_link(&test.store, &test.site, test.clock.now()).await.unwrap();
    let link = exposed(&link);
    let path = link.strip_prefix("https://broker.example.com").unwrap().to_owned();
    let token = path.split_once("?link=").unwrap().1.to_owned();
    let mut browser = test.browser();
    let page = browser.get(&path).await;
    assert!(text(&page).contains("Create the first account"));
    assert!(text(&page).contains(">in 1 hour</time>"));
    test.clock.advance(Duration::from_secs(17 * 60));
    assert!(text(&browser.get(&path).await).contains(">in 43 minutes</time>"));
    let send = async |browser: &mut Browser<'_>, user: &str, password: &str| {
        let fields = [("link", &*token), ("user", user), ("password", password)];
        browser.post("/first-account", &fields).await
    };
    for (user, password, id) in [
        ("", PASSWORD, "user-problem"),
        ("a\u{200b}b", PASSWORD, "user-problem"),
        ("olga", "short", "password-problem"),
        ("olga", "olgaolgaolgaolga", "password-problem"),
    ] {
        let page = send(&mut browser, user, password).await;
        assert_eq!(page.status(), StatusCode::BAD_REQUEST);
        assert!(text(&page).contains(&format!("aria-describedby=\"{id}")), "{user} {password}");
    }
    assert_eq!(test.recorded(&["first_account"]).len(), 0);
    assert_eq!(location(&send(&mut browser, " olga ", PASSWORD).await), "/connections");
    assert!(browser.is_signed_in().await);
    // A second use, in another browser.
    let mut other = test.browser();
    assert_eq!(other.get(&path).await.status(), StatusCode::GONE);
    other.get("/sign-in").await;
    let page = send(&mut other, "mallory", PASSWORD).await;
    assert_eq!(page.status(), StatusCode::GONE);
    let kinds: Vec<_> = test
        .recorded(&["first_account", "sign_in"])
        .iter()
        .map(|record| record["kind"].clone())
        .collect();
    assert_eq!(kinds, ["first_account", "sign_in"]);
    assert_eq!(test.recorded(&["first_account"])[0]["initiator"], "anonymous");
}

#[tokio::test]
async fn an_old_link_names_the_command_for_a_new_one() {
    let test = TestPages::new();
    let now = test.clock.now();
    let old = first_account_link(&test.store, &test.site, now).await.unwrap();
    let new = first_account_link(&test.store, &test.site, now).await.unwrap();
    let path = |link: &Secret| {
        exposed(link).strip_prefix("https://broker.example.com").unwrap().to_owned()
    };
    let mut browser = test.browser();
    assert_eq!(browser.get(&path(&new)).await.status(), StatusCode::OK);
    for gone in [path(&old), "/first-account".into(), "/first-account?link=x".into()] {
        let page = browser.get(&gone).await;
        assert_eq!(page.status(), StatusCode::GONE);
        assert!(text(&page).contains("<code>token-broker users link</code>"));
    }
    test.clock.advance(Duration::from_secs(3_600));
    assert_eq!(browser.get(&path(&new)).await.status(), StatusCode::GONE);
}

#[tokio::test]
async fn a_password_of_someone_else_is_replaced_before_the_sign_in() {
    let test = TestPages::new();
    test.create("alice", true).await;
    let pending = test.pending("Claude Code");
    let mut browser = test.browser();
    browser.get(&format!("/sign-in?continue={pending}")).await;
    let fields = [("user", "alice"), ("password", PASSWORD), ("continue", &*pending)];
    let page = browser.post("/sign-in", &fields).await;
    assert!(text(&page).contains("Choose a new password"));
    assert!(!browser.is_signed_in().await, "the right password is not enough");
    let send = async |browser: &mut Browser<'_>, old: &str, new: &str| {
        let fields =
            [("user", "alice"), ("password", old), ("new-password", new), ("continue", &*pending)];
        browser.post("/password", &fields).await
    };
    let new = "five other random words";
    for (old, replaced, status) in [
        (PASSWORD, PASSWORD, StatusCode::BAD_REQUEST),
        (PASSWORD, "short", StatusCode::BAD_REQUEST),
        ("wrong", new, StatusCode::UNAUTHORIZED),
    ] {
        assert_eq!(send(&mut browser, old, replaced).await.status(), status, "{old} {replaced}");
    }
    let expected = format!("/oauth/continue?request={pending}");
    assert!(test.recorded(&["password_changed"]).is_empty());
    assert_eq!(location(&send(&mut browser, PASSWORD, new).await), expected);
    assert!(browser.is_signed_in().await);
    let records = test.recorded(&["password_changed", "sign_in"]);
    let [.., changed, signed_in] = &records[..] else { panic!("{records:?}") };
    assert_eq!(
        (&changed["kind"], &changed["outcome"]),
        (&"password_changed".into(), &"succeeded".into())
    );
    assert_eq!(signed_in["outcome"], "succeeded", "the session has its own record");
    assert_eq!(changed["initiator"], "user");
    assert_eq!(changed["initiator_subject"], changed["subject"]);
    // The old one is of no use any more.
    let mut other = test.browser();
    assert_eq!(other.sign_in("alice").await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn d504_another_password_ends_the_other_sessions_and_their_codes() {
    let test = TestPages::new();
    let alice = test.account("alice").await;
    let keys = test.store.lookup_key().await.unwrap();
    let state = async |value: &str, user: &User| {
        let hash = keys.code(&Secret::from_text(value.to_owned()));
        if test.store.code(&hash).await.unwrap().is_none() {
            let (now, ids) = (test.clock.now(), (SessionId::new("s"), FamilyId::new(value)));
            let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
            let times = (now, now.plus(Duration::from_secs(60)));
            let code = Code::new(user.clone(), ClientId::new("c"), resource, ids, times);
            test.store.put_code(&hash, &code).await.unwrap();
        }
        test.store.code(&hash).await.unwrap().unwrap().state
    };
    let bob = User::new(alice.issuer(), "bob");
    assert_eq!(state("of alice", &alice).await, CodeState::Unused);
    assert_eq!(state("of bob", &bob).await, CodeState::Unused);
    let (mut one, mut two) = (test.browser(), test.browser());
    one.sign_in("alice").await;
    two.sign_in("alice").await;
    one.get("/password").await;
    let fields = [("user", "alice"), ("password", PASSWORD), ("new-password", "another long one")];
    assert_eq!(location(&one.post("/password", &fields).await), "/connections");
    assert!(one.is_signed_in().await && !two.is_signed_in().await);
    assert_eq!(state("of alice", &alice).await, CodeState::Ended(test.clock.now()), "D504");
    assert_eq!(state("of bob", &bob).await, CodeState::Unused);
}

#[tokio::test]
async fn a_cheap_hash_is_replaced_at_the_sign_in() {
    let test = TestPages::new();
    let user = test.account("alice").await;
    let name = token_broker_store::authority::UserName::parse("alice").unwrap();
    let hash = async || {
        let account = test.store.account_by_name(&name).await.unwrap().unwrap();
        exposed(&account.password_hash)
    };
    assert!(hash().await.contains("$m=8,t=1,"));
    let broker = tower_token_broker::Broker::builder().audit(test.records.clone());
    let broker = broker.clock(test.clock.clone()).build().unwrap();
    let pending = test.pages.shared().pending.clone();
    let dear = BrowserPages::new(
        &broker,
        (test.site.clone(), user.issuer()),
        (test.store.clone(), test.access.clone()),
        pending,
        BrowserPagesOptions::default(),
    );
    let dear = TestPages { pages: dear, ..test };
    dear.browser().sign_in("alice").await;
    let account = dear.store.account_by_name(&name).await.unwrap().unwrap();
    let replaced = exposed(&account.password_hash);
    assert!(replaced.contains("$m=19456,t=2,"), "{replaced}");
    assert_eq!(account.account.epoch, 1, "sessions stay");
}
