//! Stores that respond late, refuse, or have grants under other names.

use super::*;

#[tokio::test]
async fn x06_a_store_that_responds_late_costs_no_connection() {
    let mail = AccountServer::start().await;
    let here = server("mail", &mail);
    let story = Story::with([here.clone()]);
    story.store.fail("finish_connect", Failure::Late, 2);
    story.connect("mail", &mail).await.unwrap();
    assert_eq!(story.state("mail").await, ConnectionState::Connected, "X06");
    // The refresh: its step is repeated, and finds its lease used.
    let grants = story.grants(&here, &mail.server.url("/mcp"));
    story.clock.advance(Duration::from_secs(4000));
    story.store.fail("complete", Failure::Late, 1);
    drop(story.credential(&grants).await);
    assert!(story.credential(&grants).await.is_ok(), "X06");
    assert_eq!(story.state("mail").await, ConnectionState::Connected, "X06");
    story.later();
    story.connector.revoke_due().await.unwrap();
    assert_eq!((revoked(&mail), story.outcomes().len()), (0, 0), "X06");
}

#[tokio::test]
async fn x06_tokens_that_a_store_refuses_are_revoked() {
    let mail = AccountServer::start().await;
    let story = Story::with([server("mail", &mail)]);
    let invalid = StoreError::Invalid { field: "the refresh token", limit: 16 };
    story.store.fail("finish_connect", Failure::Refused(invalid), 1);
    // Also if the store fails again when they are to be kept for that.
    story.store.fail("put_revocation", Failure::Late, 2);
    let refused = story.connect("mail", &mail).await.unwrap_err();
    assert_eq!(refused, ConnectError::Unavailable, "X06");
    until("X06", || revoked(&mail) == 2).await;
    assert_eq!(story.state("mail").await, ConnectionState::None, "X06");
}

#[tokio::test]
async fn x06_a_store_that_cannot_be_read_uses_up_no_code() {
    let mail = AccountServer::start().await;
    let story = Story::with([server("mail", &mail)]);
    let location = story.begin("mail").await.unwrap();
    let callback = mail.agree(&location);
    story.store.fail("list", Failure::Refused(StoreError::Unreachable), 1);
    let refused = story.come_back("mail", &callback).await.unwrap_err();
    assert_eq!(refused, ConnectError::Unavailable, "X06");
    assert!(!mail.log().iter().any(|line| line.starts_with("code")), "X06");
}

#[tokio::test]
async fn a_new_connection_ends_those_under_former_names() {
    let mail = AccountServer::start().await;
    let story = Story::with([server("post", &mail)]);
    story.connect("post", &mail).await.unwrap();
    let before = story.store.load(&key("post")).await.unwrap().unwrap();
    story.connector.replace_servers([server("mail", &mail).former_name("post")]);
    story.connect("mail", &mail).await.unwrap();
    let grants: Vec<Grant> = vec![
        story.store.load(&key("post")).await.unwrap().unwrap(),
        story.store.load(&key("mail")).await.unwrap().unwrap(),
    ];
    assert!(!grants[0].state.is_usable() && grants[1].state.is_usable(), "{grants:?}");
    assert!(story.broker.is_grant_revoked(&before.id));
    assert!(!story.broker.is_grant_revoked(&grants[1].id));
    let shown = story.connector.connections(&alice()).await.unwrap();
    assert_eq!(shown.len(), 1, "{shown:?}");
}

#[tokio::test]
async fn two_connects_that_finish_at_once_leave_one_grant() {
    let mail = AccountServer::start().await;
    let here = server("mail", &mail);
    let story = Story::with([here.clone()]);
    let (first, second) = (story.begin("mail").await.unwrap(), story.begin("mail").await.unwrap());
    let (first, second) = (mail.agree(&first), mail.agree(&second));
    let both = tokio::join!(story.come_back("mail", &first), story.come_back("mail", &second));
    assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
    let current = story.store.load(&key("mail")).await.unwrap().unwrap();
    assert!(current.state.is_usable() && !story.broker.is_grant_revoked(&current.id));
    let grants = story.grants(&here, &mail.server.url("/mcp"));
    assert!(story.credential(&grants).await.is_ok());
}
