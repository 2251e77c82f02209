//! Users connect their own accounts at servers, by the binary: the first consent, the signal, the
//! refresh, and the end.

use std::{fs, time::Duration};

use serde_json::json;
use token_broker_tests::{
    account_server::{AccountServer, AuthorizeRequest, Behaviour},
    marker_scan::Scan,
    person::{App, Browser, Page, Tokens},
    wire::{self, RawResponse},
};

use crate::{
    gateway::items,
    login::{PASSWORD, add},
    setup::{Serving, Setup},
};

/// A gateway with a server `mail`, which needs an account of its user, and the user alice.
struct Story {
    setup: Setup,
    mail: AccountServer,
    serving: Serving,
    app: App,
}

impl Story {
    async fn begin() -> Self {
        Self::with("scopes = [\"mail:read\"]").await
    }

    async fn with(credential: &str) -> Self {
        let mail = AccountServer::start().await;
        let setup = Setup::new(items().await).await.with_login("");
        setup.configure("get_*", &section("mail", &mail, credential));
        add(&setup, "alice");
        let serving = setup.serve();
        let app = App::register(setup.address, "Editor").await;
        Self { setup, mail, serving, app }
    }

    fn browser(&self) -> Browser {
        Browser::at(self.setup.address)
    }

    /// Signs alice in, allows access to `mail`, and returns the page that follows.
    async fn allow(&self, browser: &mut Browser) -> Page {
        let page = browser.sign_in(&self.app.authorization("mail"), "alice", PASSWORD).await;
        browser.submit(&page, &[("decision", "allow")]).await
    }

    /// Leaves a connect page, agrees there, and comes back.
    async fn agree(&self, browser: &mut Browser, page: &Page) -> Page {
        let leaving = browser.submit(page, &[("action", "connect")]).await;
        let location = leaving.location.unwrap_or_else(|| panic!("{:?}", leaving.response));
        browser.open_from_elsewhere(&self.mail.agree(&location)).await
    }

    /// Takes the whole way of the first consent.
    async fn connect(&self, browser: &mut Browser) -> Tokens {
        let page = self.allow(browser).await;
        let back = self.agree(browser, &page).await;
        self.app.redeem(&back.location.unwrap_or_else(|| panic!("{:?}", back.response))).await
    }

    async fn call(&self, tokens: &Tokens) -> RawResponse {
        wire::send(self.setup.address, &self.setup.request_to("mail", &tokens.access)).await
    }

    /// Waits for so many requests to revoke what another process left, and returns their number.
    /// The gateway looks for it each half minute.
    async fn revocations_of_another_process(&self, expected: usize) -> usize {
        let count = || self.mail.log().iter().filter(|line| line.starts_with("revoke")).count();
        for _ in 0..120 {
            if count() >= expected {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        count()
    }

    async fn disconnect(&self, browser: &mut Browser) -> Page {
        let page = browser.open("/connections").await;
        browser.submit_form(&page, "Disconnect", &[("action", "disconnect")]).await
    }
}

fn section(name: &str, mail: &AccountServer, credential: &str) -> String {
    section_with(name, mail, credential, "")
}

/// Returns the section of a server whose rule has these lines more.
fn section_with(name: &str, mail: &AccountServer, credential: &str, rule: &str) -> String {
    format!(
        r#"
[[server]]
name = "{name}"
title = "Mail"
upstream = "{}"
loopback_hosts = ["127.0.0.1"]
  [server.credential]
  kind = "oauth"
  {credential}
  [[server.allow]]
  tools = ["*"]
  scope = "{name}:use"
  {rule}
"#,
        mail.server.url("/mcp")
    )
}

/// Returns the link of a "please connect" response.
fn link_of(response: &RawResponse) -> String {
    let text = response.text();
    let (_, rest) = text.split_once("/connect/mail?for=").unwrap_or_else(|| panic!("{text}"));
    let value: String = rest
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        .collect();
    format!("/connect/mail?for={value}")
}

#[tokio::test]
async fn the_first_consent_leads_to_the_users_own_account() {
    let story = Story::begin().await;
    let mut browser = story.browser();
    let page = browser.sign_in(&story.app.authorization("mail"), "alice", PASSWORD).await;
    assert!(page.has("Next: connect your <bdi>Mail</bdi> account"), "{}", page.text());
    let page = browser.submit(&page, &[("decision", "allow")]).await;
    assert!(page.has("Connect your Mail account") && page.has("mail:read"), "{}", page.text());
    let leaving = browser.submit(&page, &[("action", "connect")]).await;
    let location = leaving.location.unwrap();
    let request = AuthorizeRequest::of(&location);
    // The operator's scopes, whatever the server advertises.
    assert_eq!(request.get("scope"), "mail:read");
    assert_eq!(request.get("resource"), story.mail.server.url("/mcp"));
    assert_eq!(request.get("code_challenge_method"), "S256");
    assert!(request.get("client_id").starts_with("registered-"));
    let back = browser.open_from_elsewhere(&story.mail.agree(&location)).await;
    let tokens = story.app.redeem(&back.location.unwrap()).await;
    assert_eq!(story.call(&tokens).await.status, 200);
    assert_eq!(story.mail.log(), ["register", "authorize mail:read", "code mail:read"]);
    let page = browser.open("/connections").await;
    assert!(page.has("Your accounts") && page.has("Disconnect"), "{}", page.text());
    let log = story.serving.stop();
    // No upstream token is anywhere but in the store, encrypted.
    let mut scan = Scan::new();
    for (number, token) in story.mail.issued().iter().enumerate() {
        scan.secret(&format!("token {number}"), token).received(token.as_bytes());
    }
    scan.source("the log", log).source("the page", page.text().to_owned());
    for folder in [story.setup.path("audit"), story.setup.folder.path().to_owned()] {
        for file in fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
            if file.is_file() {
                scan.source(file.display().to_string(), fs::read(&file).unwrap());
            }
        }
    }
    assert_eq!(scan.run(), Ok(()));
    story.setup.done(&["audit", "verify", "audit"]);
}

#[tokio::test]
async fn without_connecting_the_call_asks_for_it_and_goes_through_later() {
    let story = Story::begin().await;
    let mut browser = story.browser();
    let page = story.allow(&mut browser).await;
    assert!(page.has("Continue without connecting"), "{}", page.text());
    let ticket = page.text().split_once("/oauth/allowed?ticket=").unwrap().1;
    let ticket = ticket.split_once('"').unwrap().0;
    let onward = format!("/oauth/allowed?ticket={ticket}");
    let back = browser.open(&onward).await;
    let tokens = story.app.redeem(&back.location.unwrap()).await;
    let refused = story.call(&tokens).await;
    assert_eq!(refused.status, 200, "{}", refused.text());
    let link = link_of(&refused);
    // Another user opens the link: nothing is connected.
    add(&story.setup, "bob");
    let mut other = story.browser();
    let page = other.sign_in("/sign-in", "bob", PASSWORD).await;
    assert_eq!(page.response.status, 200);
    let page = other.open(&link).await;
    assert_eq!(page.response.status, 403, "{}", page.text());
    assert!(page.has("made for another user"), "{}", page.text());
    assert!(story.mail.log().is_empty());
    // Alice opens it in another browser: sign in, connect, and the same token is enough.
    let mut second = story.browser();
    let page = second.sign_in(&link, "alice", PASSWORD).await;
    let done = story.agree(&mut second, &page).await;
    assert!(done.has("Your account is connected"), "{}", done.text());
    assert_eq!(
        story.call(&tokens).await.text(),
        r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#
    );
    // The ticket was used: it leads to no second code.
    let again = browser.open(&onward).await;
    assert_eq!((again.response.status, again.location), (400, None));
}

#[tokio::test]
async fn e110_e111_a_return_is_bound_to_its_browser_and_used_once() {
    let story = Story::begin().await;
    let mut browser = story.browser();
    let page = story.allow(&mut browser).await;
    let leaving = browser.submit(&page, &[("action", "connect")]).await;
    let callback = story.mail.agree(&leaving.location.unwrap());
    // A browser without a session, and one of another user.
    let mut stranger = story.browser();
    assert_eq!(stranger.open_from_elsewhere(&callback).await.response.status, 400, "E111");
    add(&story.setup, "bob");
    stranger.sign_in("/sign-in", "bob", PASSWORD).await;
    assert_eq!(stranger.open_from_elsewhere(&callback).await.response.status, 400, "E111");
    // Another session of the same user.
    let mut second = story.browser();
    second.sign_in("/sign-in", "alice", PASSWORD).await;
    assert_eq!(second.open_from_elsewhere(&callback).await.response.status, 400, "E111");
    assert_eq!(story.mail.log(), ["register", "authorize mail:read"], "no code was sent");
    // None of them cost alice her connect.
    let back = browser.open_from_elsewhere(&callback).await;
    assert!(back.location.is_some(), "{}", back.text());
    let again = browser.open_from_elsewhere(&callback).await;
    assert_eq!(again.response.status, 400, "E110: it was used");
    for query in ["", "?code=c", "?state=unknown&code=c", "?state=a&state=b&code=c"] {
        let page = browser.open_from_elsewhere(&format!("/connect/mail/callback{query}")).await;
        assert_eq!(page.response.status, 400, "E110 {query}");
    }
}

#[tokio::test]
async fn e113_another_issuer_gets_no_code() {
    let story = Story::begin().await;
    for change in [
        |callback: &str| callback.replace("&iss=", "&iss=https%3A%2F%2Fother.example&x="),
        |callback: &str| callback.replace("&iss=", "&x="),
        |callback: &str| format!("{callback}&iss=https%3A%2F%2Fother.example"),
    ] {
        let mut browser = story.browser();
        let page = story.allow(&mut browser).await;
        let leaving = browser.submit(&page, &[("action", "connect")]).await;
        let callback = story.mail.agree(&leaving.location.unwrap());
        let page = browser.open_from_elsewhere(&change(&callback)).await;
        assert_eq!(page.response.status, 400, "E113 {}", page.text());
        assert!(page.has("another server"), "E113 {}", page.text());
    }
    assert!(!story.mail.log().iter().any(|line| line.starts_with("code")), "E113");
}

#[tokio::test]
async fn e115_a_declined_connect_shows_no_text_of_the_server() {
    let story = Story::begin().await;
    let mut browser = story.browser();
    let page = story.allow(&mut browser).await;
    let leaving = browser.submit(&page, &[("action", "connect")]).await;
    let callback = story.mail.decline(&leaving.location.unwrap());
    let page = browser.open_from_elsewhere(&callback).await;
    assert!(page.has("declined there") && !page.has("alert(1)"), "E115 {}", page.text());
    assert!(page.has("Continue without connecting") && page.has("Try again"), "{}", page.text());
}

#[tokio::test]
async fn wider_access_than_configured_is_refused_and_given_back() {
    let story = Story::begin().await;
    story.mail.change(|mail| mail.grants = Some("mail:read mail:send".to_owned()));
    let mut browser = story.browser();
    let page = story.allow(&mut browser).await;
    let page = story.agree(&mut browser, &page).await;
    assert_eq!(page.response.status, 502, "{}", page.text());
    assert!(page.has("more access than this broker may hold"), "{}", page.text());
    until(|| story.mail.log().iter().filter(|line| line.starts_with("revoke")).count() == 2).await;
    let page = browser.open("/connections").await;
    assert!(page.has("Not connected"), "{}", page.text());
    // Less than configured is connected, and the page names the rest.
    story.mail.change(|mail| mail.grants = Some(String::new()));
}

#[tokio::test]
async fn a_token_among_the_scopes_of_a_response_is_in_no_page_log_or_record() {
    let story = Story::begin().await;
    let mut browser = story.browser();
    let page = story.allow(&mut browser).await;
    // The tokens of the next response: number 1 is the client, number 2 the code.
    let tokens = [
        "up-at-0003-b1946ac92492d2347c6235b4d2611184",
        "up-rt-0003-591785b794601e212b260e25925636fd",
    ];
    story.mail.change(|mail| mail.grants = Some(format!("mail:read {}", tokens.join(" "))));
    let page = story.agree(&mut browser, &page).await;
    assert_eq!(page.response.status, 502, "{}", page.text());
    assert_eq!(story.mail.issued()[4..], tokens, "the tokens are those of the response");
    let (records, page) = (records(&story.setup), page.text().to_owned());
    let log = story.serving.stop();
    assert!(log.contains("upstream.wider_scopes"), "{log}");
    for token in tokens {
        for (name, text) in [("page", &page), ("log", &log), ("records", &records)] {
            assert!(!text.contains(token), "{name}: {text}");
        }
    }
}

#[tokio::test]
async fn fifty_refreshes_have_the_operators_scopes() {
    let story = Story::begin().await;
    story.mail.change(|mail| mail.lifetime = 0);
    let tokens = story.connect(&mut story.browser()).await;
    for turn in 0..50 {
        let response = story.call(&tokens).await;
        assert!(response.text().contains("content"), "{turn}: {}", response.text());
    }
    let log = story.mail.log();
    let refreshes = log.iter().filter(|line| *line == "refresh mail:read").count();
    assert!(refreshes >= 50, "{log:?}");
    assert_eq!(log.iter().filter(|line| line.starts_with("refresh")).count(), refreshes);
}

#[tokio::test]
async fn i535_the_link_of_a_rule_asks_for_its_scopes_and_ends() {
    let mut story = Story::begin().await;
    let mut browser = story.browser();
    let tokens = story.connect(&mut browser).await;
    assert_eq!(story.call(&tokens).await.status, 200, "I535");
    story.serving.stop();
    let scopes = "scopes = [\"mail:read\"]";
    let rule = "upstream_scopes = [\"mail:send\"]";
    story.setup.configure("get_*", &section_with("mail", &story.mail, scopes, rule));
    story.serving = story.setup.serve();
    let refused = story.call(&tokens).await;
    assert!(refused.text().contains("/connect/mail?for="), "I535 {}", refused.text());
    let mut browser = story.browser();
    browser.sign_in("/sign-in", "alice", PASSWORD).await;
    let page = browser.open(&link_of(&refused)).await;
    assert!(page.has("mail:send") && page.has("without some of the access"), "{}", page.text());
    let done = story.agree(&mut browser, &page).await;
    assert!(done.has("Your account is connected"), "{}", done.text());
    let log = story.mail.log();
    assert!(log.contains(&"authorize mail:read mail:send".to_owned()), "I535 {log:?}");
    assert!(story.call(&tokens).await.text().contains("content"), "I535");
    // The server wants more than any rule has: connecting again would change nothing.
    story.mail.change(|mail| mail.requires_more_scopes = true);
    let refused = story.call(&tokens).await;
    assert!(!refused.text().contains("/connect/"), "I535 {}", refused.text());
    story.serving.stop();
    assert!(records(&story.setup).contains("exchange.credential_refused"), "I535");
}

#[tokio::test]
async fn a_disconnected_account_ends_here_at_once_and_there_with_retries() {
    let story = Story::begin().await;
    let mut browser = story.browser();
    let tokens = story.connect(&mut browser).await;
    assert_eq!(story.call(&tokens).await.status, 200);
    let page = story.disconnect(&mut browser).await;
    assert!(page.has("disconnected here"), "{}", page.text());
    let refused = story.call(&tokens).await;
    assert!(refused.text().contains("/connect/mail?for="), "{}", refused.text());
    until(|| story.mail.log().iter().filter(|line| line.starts_with("revoke")).count() == 2).await;
    assert!(story.mail.log().contains(&"revoke refresh_token".to_owned()));
    // Connect again by the link: no new sign-in of the application.
    let page = browser.open(&link_of(&refused)).await;
    let done = story.agree(&mut browser, &page).await;
    assert!(done.has("Your account is connected"), "{}", done.text());
    assert!(story.call(&tokens).await.text().contains("content"));
    // The same client of the broker: it is registered once.
    assert_eq!(story.mail.log().iter().filter(|line| *line == "register").count(), 1);
    story.serving.stop();
    let records = records(&story.setup);
    for kind in ["\"connected\"", "\"disconnected\"", "\"upstream_revocation\""] {
        assert!(records.contains(kind), "{kind}");
    }
    assert!(records.contains("\"outcome\":\"revoked\""));
}

#[tokio::test]
async fn a_user_who_leaves_is_disconnected_by_one_command() {
    let story = Story::begin().await;
    let mut browser = story.browser();
    let tokens = story.connect(&mut browser).await;
    // A connect in progress does not bring the account back.
    let page = browser.open("/connect/mail").await;
    let leaving = browser.submit(&page, &[("action", "connect")]).await;
    let callback = story.mail.agree(&leaving.location.unwrap());
    let done = story.setup.done(&["users", "disable", "alice", "--disconnect"]);
    assert!(done.ends_with("1 token family and 1 connected account ended"), "{done}");
    let page = browser.open_from_elsewhere(&callback).await;
    assert_eq!(page.response.status, 400, "{}", page.text());
    assert_eq!(story.setup.done(&["grants", "revoke", "--user", "alice"]), "revoked: 0 grants");
    assert_eq!(story.revocations_of_another_process(2).await, 2);
    assert_eq!(story.call(&tokens).await.status, 401);
}

#[tokio::test]
async fn a_client_that_the_server_forgot_is_registered_again() {
    let story = Story::begin().await;
    story.mail.change(|mail| mail.lifetime = 0);
    let mut browser = story.browser();
    let tokens = story.connect(&mut browser).await;
    let forgotten = r#"{"error":"invalid_client"}"#.to_owned();
    story.mail.change(|mail| mail.token_response = Some((401, forgotten)));
    story.call(&tokens).await;
    story.mail.change(|mail| mail.token_response = None);
    let page = browser.open("/connect/mail").await;
    let done = story.agree(&mut browser, &page).await;
    assert!(done.has("Your account is connected"), "{}", done.text());
    assert_eq!(story.mail.log().iter().filter(|line| *line == "register").count(), 2);
    assert!(story.call(&tokens).await.text().contains("content"));
}

#[tokio::test]
async fn a_disconnect_ends_a_connect_in_progress() {
    let story = Story::begin().await;
    let mut browser = story.browser();
    let tokens = story.connect(&mut browser).await;
    let page = browser.open("/connect/mail").await;
    let leaving = browser.submit(&page, &[("action", "connect")]).await;
    let callback = story.mail.agree(&leaving.location.unwrap());
    story.disconnect(&mut browser).await;
    let page = browser.open_from_elsewhere(&callback).await;
    assert_eq!(page.response.status, 400, "{}", page.text());
    assert!(story.call(&tokens).await.text().contains("/connect/mail?for="));
}

#[tokio::test]
async fn nobody_connects_again_after_a_restart_or_a_new_name() {
    let mut story = Story::begin().await;
    let tokens = story.connect(&mut story.browser()).await;
    story.serving.stop();
    let more = section("post", &story.mail, "scopes = [\"mail:read\"]")
        .replace("title = \"Mail\"", "previous_names = [\"mail\"]")
        .replace("post:use", "mail:use");
    story.setup.configure("get_*", &more);
    story.serving = story.setup.serve();
    assert!(story.call(&tokens).await.text().contains("content"), "the former URL");
    let mut browser = story.browser();
    browser.sign_in("/sign-in", "alice", PASSWORD).await;
    let page = browser.open("/connections").await;
    assert!(page.has("post") && page.has("Disconnect"), "{}", page.text());
    // Another scope: only those who lack it must connect again.
    let more = more.replace("[\"mail:read\"]", "[\"mail:read\", \"mail:send\"]");
    story.setup.configure("get_*", &more);
    until_page(&mut browser, "/connections", "mail:send").await;
    assert!(story.call(&tokens).await.text().contains("content"));
    story.disconnect(&mut browser).await;
    assert!(story.call(&tokens).await.text().contains("/connect/"));
}

#[tokio::test]
async fn c072_c073_c084_e118_endpoints_that_cannot_be_trusted_are_refused() {
    for (metadata, reason) in [
        (json!({"issuer": "https://other.example"}), "as.issuer_mismatch"),
        (json!({"token_endpoint": "https://evil.example/token"}), "as.endpoint_origin"),
        (json!({"registration_endpoint": "https://evil.example/reg"}), "as.endpoint_origin"),
        (json!({"code_challenge_methods_supported": ["plain"]}), "as.pkce"),
        (json!({"authorization_endpoint": "javascript:alert(1)"}), "fetch."),
        (json!({"authorization_endpoint": "https://x.example/$(calc)\r\nset-cookie: a"}), "fetch."),
        (json!({"token_endpoint": "http://169.254.169.254/token"}), "fetch."),
    ] {
        is_refused(|mail| mail.metadata = metadata, reason).await;
    }
}

#[tokio::test]
async fn c075_c076_metadata_of_another_server_is_refused() {
    let metadata_service = "http://169.254.169.254/latest/meta-data";
    is_refused(
        |mail| mail.resource = json!({"resource": "https://other.example/mcp"}),
        "prm.resource_mismatch",
    )
    .await;
    is_refused(|mail| mail.challenge = Some(metadata_service.to_owned()), "fetch.").await;
    let internal = json!({"authorization_servers": ["http://169.254.169.254"]});
    is_refused(|mail| mail.resource = internal, "fetch.").await;
}

/// Connects to a server that announces what cannot be used: nothing is sent there.
async fn is_refused(change: impl FnOnce(&mut Behaviour), reason: &str) {
    let story = Story::begin().await;
    story.mail.change(change);
    let mut browser = story.browser();
    let page = story.allow(&mut browser).await;
    let page = browser.submit(&page, &[("action", "connect")]).await;
    assert_eq!((page.response.status, page.location.clone()), (502, None), "{reason}");
    assert!(page.has("cannot be connected"), "{}", page.text());
    assert!(story.mail.log().is_empty(), "{:?}", story.mail.log());
    let log = story.serving.stop();
    assert!(log.contains(reason), "{reason}: {log}");
}

#[tokio::test]
async fn e119_a_token_response_without_an_access_token_keeps_its_refresh_token() {
    let story = Story::begin().await;
    for (status, body) in [
        (200, "<html>"),
        (200, r#"{"token_type":"mac","access_token":"a"}"#),
        (500, ""),
        (400, r#"{"error":"invalid_grant"}"#),
    ] {
        story.mail.change(|mail| mail.token_response = Some((status, body.to_owned())));
        let mut browser = story.browser();
        let page = story.allow(&mut browser).await;
        let page = story.agree(&mut browser, &page).await;
        assert_eq!(page.response.status, 502, "E119 {body}");
        assert!(page.has("Nothing was connected"), "{}", page.text());
    }
    // Connected: the first call refreshes.
    let body = r#"{"refresh_token":"up-rt-0000-591785b794601e212b260e25925636fd","expires_in":-1}"#;
    story.mail.change(|mail| mail.token_response = Some((200, body.to_owned())));
    let mut browser = story.browser();
    let page = story.allow(&mut browser).await;
    let back = story.agree(&mut browser, &page).await;
    assert!(back.location.is_some(), "E119 {}", back.text());
    let page = browser.open("/connections").await;
    assert!(page.has("Disconnect"), "E119 {}", page.text());
}

#[tokio::test]
async fn e117_only_a_get_with_one_code_is_a_return() {
    let story = Story::begin().await;
    let mut browser = story.browser();
    let page = story.allow(&mut browser).await;
    let leaving = browser.submit(&page, &[("action", "connect")]).await;
    let callback = story.mail.agree(&leaving.location.unwrap());
    let host = story.setup.address.to_string();
    let posted = wire::send(story.setup.address, &wire::post(&callback, &host, &[], "")).await;
    assert_eq!(posted.status, 405, "E117");
    let twice = format!("{callback}&code=another");
    assert_eq!(browser.open_from_elsewhere(&twice).await.response.status, 400, "E117");
    assert!(!story.mail.log().iter().any(|line| line.starts_with("code")), "E117");
}

#[tokio::test]
async fn n265_a_revocation_waits_for_a_server_that_is_down() {
    let story = Story::begin().await;
    let mut browser = story.browser();
    let tokens = story.connect(&mut browser).await;
    story.mail.change(|mail| mail.revocation = 503);
    // By the command of an operator, in another process.
    assert_eq!(story.setup.done(&["grants", "revoke", "--user", "alice"]), "revoked: 1 grant");
    for _ in 0..100 {
        if story.call(&tokens).await.text().contains("/connect/mail?for=") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(story.call(&tokens).await.text().contains("/connect/mail?for="), "N265");
    assert!(story.revocations_of_another_process(1).await >= 1, "N265");
    assert!(!records(&story.setup).contains("upstream_revocation"), "N265: no outcome yet");
}

fn records(setup: &Setup) -> String {
    let files = fs::read_dir(setup.path("audit")).unwrap().map(|file| file.unwrap().path());
    files.filter_map(|path| fs::read_to_string(path).ok()).collect()
}

async fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it does not hold after 10 s");
}

async fn until_page(browser: &mut Browser, target: &str, text: &str) {
    for _ in 0..200 {
        if browser.open(target).await.has(text) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{target} does not show {text:?}");
}
