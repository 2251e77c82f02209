//! Scopes of rules, and clients that are registered for them.

use super::*;

#[tokio::test]
async fn a_secret_that_ends_soon_is_used_in_the_first_half_of_its_life() {
    let mail = AccountServer::start().await;
    let story = Story::with([server("mail", &mail)]);
    mail.change(|mail| {
        mail.secret_expires_at = now().plus(Duration::from_secs(3600)).unix_seconds()
    });
    let registered = || mail.log().iter().filter(|line| *line == "register").count();
    story.connect("mail", &mail).await.unwrap();
    story.clock.advance(Duration::from_secs(1700));
    story.begin("mail").await.unwrap();
    assert_eq!(registered(), 1);
    story.clock.advance(Duration::from_secs(200));
    story.begin("mail").await.unwrap();
    assert_eq!(registered(), 2);
}

#[tokio::test]
async fn i535_a_rule_that_needs_more_has_a_link_with_its_scopes() {
    let mail = AccountServer::start().await;
    let scopes = |text: &str| Scopes::parse(text).unwrap();
    let here = server("mail", &mail).step_up_scopes(scopes("mail:send mail:delete"));
    let story = Story::with([here.clone()]);
    story.connect("mail", &mail).await.unwrap();
    let grants = story.grants(&here, &mail.server.url("/mcp"));
    let value = |need: &str| {
        let url = grants.step_up_url(&story.caller(), &scopes(need)).unwrap();
        url.split_once("?for=").unwrap().1.to_owned()
    };
    let read = |value: &str| story.connector.scopes_of_link(&alice(), "mail", value);
    assert_eq!(read(&value("mail:send mail:read")), Some(scopes("mail:send")), "I535");
    assert_eq!(read(&value("mail:read")), Some(Scopes::none()), "I535");
    let plain = ProvideCredential::connect_url(&grants, &story.caller());
    assert_eq!(plain, grants.step_up_url(&story.caller(), &scopes("mail:read")));
    // No one changes it: another user, another server, other scopes.
    let (sends, deletes) = (value("mail:send"), value("mail:delete"));
    let (hash, of_delete) = (sends.split_once('.').unwrap().0, deletes.split_once('.').unwrap().1);
    for changed in [
        format!("{hash}.{of_delete}"),
        hash.to_owned(),
        format!("{hash}."),
        format!("{sends}."),
        format!("{sends}.{of_delete}"),
        String::new(),
        ".".to_owned(),
    ] {
        assert_eq!(read(&changed), None, "I535 {changed}");
    }
    let bob = User::new("https://broker.example", "bob");
    assert_eq!(story.connector.scopes_of_link(&bob, "mail", &sends), None, "I535");
    assert_eq!(story.connector.scopes_of_link(&alice(), "crm", &sends), None, "I535");
    // The scopes that were given stay; those that no rule has any more are not requested.
    let requested = async |more: &str| {
        let (user, account) = (alice(), Account::default_account());
        let mut begin = BeginConnect::new(&user, "mail", &account, &story.session);
        begin.scopes = scopes(more);
        let location = story.connector.begin(&begin).await.unwrap();
        let requested = AuthorizeRequest::of(&location).get("scope").to_owned();
        story.come_back("mail", &mail.agree(&location)).await.unwrap();
        requested
    };
    assert_eq!(requested("mail:send everything").await, "mail:read mail:send", "I535");
    assert_eq!(requested("mail:delete").await, "mail:delete mail:read mail:send", "I535");
    let fewer = server("mail", &mail).step_up_scopes(scopes("mail:send"));
    story.connector.replace_servers([fewer]);
    assert_eq!(requested("mail:delete").await, "mail:read mail:send", "I535");
}

#[tokio::test]
async fn a_client_is_registered_again_for_scopes_that_it_does_not_have() {
    let mail = AccountServer::start().await;
    let scopes = |text: &str| Scopes::parse(text).unwrap();
    let registered = || mail.log().iter().filter(|line| *line == "register").count();
    let story = Story::with([server("mail", &mail)]);
    story.connect("mail", &mail).await.unwrap();
    story.connector.replace_servers([server("mail", &mail).scopes(scopes("mail:read mail:send"))]);
    story.connect("mail", &mail).await.unwrap();
    assert_eq!(registered(), 2);
    let rule = server("mail", &mail).step_up_scopes(scopes("mail:delete"));
    story.connector.replace_servers([rule]);
    story.begin("mail").await.unwrap();
    assert_eq!(registered(), 3);
    // Fewer scopes need no other client.
    story.connector.replace_servers([server("mail", &mail).step_up_scopes(scopes("mail:delete"))]);
    story.begin("mail").await.unwrap();
    assert_eq!(registered(), 3);
}
