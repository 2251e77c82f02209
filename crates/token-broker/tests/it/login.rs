//! Users sign in at the gateway: accounts, consent, tokens, and the end of access, by the binary.

use std::{fs, path::Path, time::Duration};

use token_broker_tests::{
    marker_scan::Scan,
    person::{App, Browser, Tokens},
    upstream::ScriptedServer,
    wire,
};

use crate::{
    gateway::items,
    postgres,
    setup::{SECRET, Serving, Setup, protect, text},
};

pub(crate) const PASSWORD: &str = "seven blue lamps on a wall";

/// A gateway with the account `alice`, a browser and an application.
struct Story {
    setup: Setup,
    serving: Serving,
    app: App,
}

impl Story {
    async fn begin() -> Self {
        Self::with("", items().await).await
    }

    async fn with(keys: &str, upstream: ScriptedServer) -> Self {
        let setup = Setup::new(upstream).await.with_login(keys);
        add(&setup, "alice");
        let serving = setup.serve();
        let app = App::register(setup.address, "Editor").await;
        Self { setup, serving, app }
    }

    fn browser(&self) -> Browser {
        Browser::at(self.setup.address)
    }

    async fn connect(&self) -> Tokens {
        self.app.connect(&mut self.browser(), "crm", ("alice", PASSWORD)).await
    }

    /// Returns the status of a call.
    async fn call(&self, token: &str) -> u16 {
        self.setup.call(token).await.status
    }

    /// Stops the gateway, changes something, and starts it again.
    fn restart(mut self, change: impl FnOnce(&Setup)) -> Self {
        self.serving.stop();
        change(&self.setup);
        self.serving = self.setup.serve();
        self
    }
}

pub(crate) fn add(setup: &Setup, name: &str) {
    let file = setup.path("password");
    fs::write(&file, PASSWORD).unwrap();
    protect(&file);
    setup.done(&["users", "add", name, "--password-file", "password"]);
}

#[tokio::test]
async fn a_client_finds_its_way_and_ends_its_access() {
    let story = Story::begin().await;
    let setup = &story.setup;
    // Discovery begins with the refusal.
    let refused = wire::send(setup.address, &setup.request("none")).await;
    assert_eq!(refused.status, 401);
    let tokens = story.connect().await;
    assert_eq!(story.call(&tokens.access).await, 200);
    let tokens = story.app.refresh(&tokens.refresh).await.ok().unwrap();
    assert_eq!(story.call(&tokens.access).await, 200);
    let listed = setup.done(&["clients", "list"]);
    assert!(listed.contains("Editor") && listed.contains("registered"), "{listed}");
    // RFC 7009: the access tokens end with the refresh token.
    story.app.revoke(&tokens.refresh).await;
    assert_eq!(story.call(&tokens.access).await, 401);
    assert_eq!(story.app.refresh(&tokens.refresh).await.err().as_deref(), Some("invalid_grant"));
    // Start over: the browser is signed in still.
    let again = story.connect().await;
    assert_eq!(story.call(&again.access).await, 200);
    let log = story.serving.stop();
    // No credential, password or token is in the log or on record.
    let mut scan = Scan::new();
    for (what, secret) in [
        ("the secret", SECRET),
        ("the password", PASSWORD),
        ("the access token", &tokens.access),
        ("the refresh token", &tokens.refresh),
    ] {
        scan.secret(what, secret).received(secret.as_bytes());
    }
    scan.source("the log", log);
    for file in fs::read_dir(setup.path("audit")).unwrap() {
        let path = file.unwrap().path();
        scan.source(path.display().to_string(), fs::read(&path).unwrap());
    }
    assert_eq!(scan.run(), Ok(()));
    let kinds = kinds(&setup.path("audit"));
    for kind in ["client_registered", "sign_in", "consent", "code_issued", "token_issued"] {
        assert!(kinds.contains(kind), "{kind} in {kinds}");
    }
    for kind in ["family_ended", "key_published", "command"] {
        assert!(kinds.contains(kind), "{kind} in {kinds}");
    }
    setup.done(&["audit", "verify", "audit"]);
}

fn kinds(folder: &Path) -> String {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files.filter_map(|path| fs::read_to_string(path).ok()).collect()
}

#[tokio::test]
async fn a_disabled_user_is_out_until_enabled_and_asked_again() {
    let story = Story::begin().await;
    let mut browser = story.browser();
    let tokens = story.app.connect(&mut browser, "crm", ("alice", PASSWORD)).await;
    assert_eq!(story.call(&tokens.access).await, 200);
    story.setup.done(&["users", "disable", "alice"]);
    story.setup.until_status(&tokens.access, 401).await;
    assert_eq!(story.app.refresh(&tokens.refresh).await.err().as_deref(), Some("invalid_grant"));
    // Neither the session nor the password lets her in.
    let target = story.app.authorization("crm");
    for browser in [&mut browser, &mut story.browser()] {
        let page = browser.sign_in(&target, "alice", PASSWORD).await;
        assert!(!page.has("value=\"allow\""), "{}", page.text());
    }
    let listed = story.setup.done(&["users", "list"]);
    assert!(listed.contains("disabled"), "{listed}");
    story.setup.done(&["users", "enable", "alice"]);
    assert_eq!(story.app.refresh(&tokens.refresh).await.err().as_deref(), Some("invalid_grant"));
    let again = story.connect().await;
    story.setup.until_status(&again.access, 200).await;
    assert_eq!(story.call(&tokens.access).await, 401, "revoked tokens stay revoked");
    story.serving.stop();
}

#[tokio::test]
async fn a_revoked_client_must_ask_again_and_others_need_not() {
    let story = Story::begin().await;
    let other = App::register(story.setup.address, "Other").await;
    let tokens = story.connect().await;
    let of_other = other.connect(&mut story.browser(), "crm", ("alice", PASSWORD)).await;
    story.setup.done(&["clients", "revoke", &story.app.client_id]);
    story.setup.until_status(&tokens.access, 401).await;
    assert_eq!(story.app.refresh(&tokens.refresh).await.err().as_deref(), Some("invalid_grant"));
    assert_eq!(story.call(&of_other.access).await, 200);
    assert!(other.refresh(&of_other.refresh).await.is_ok());
    // The registration stays. What is issued in the second of the revocation is refused, too.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let again = story.connect().await;
    story.setup.until_status(&again.access, 200).await;
    let unknown = story.setup.run(&["clients", "revoke", "nobody"]);
    assert!(text(&unknown.stderr).contains("no client has the ID nobody"));
    story.serving.stop();
}

#[tokio::test]
async fn only_one_users_access_by_a_client_can_be_revoked() {
    let story = Story::begin().await;
    add(&story.setup, "bob");
    let alice = story.connect().await;
    let bob = story.app.connect(&mut story.browser(), "crm", ("bob", PASSWORD)).await;
    story.setup.done(&["clients", "revoke", &story.app.client_id, "--user", "alice"]);
    story.setup.until_status(&alice.access, 401).await;
    assert_eq!(story.call(&bob.access).await, 200);
    assert!(story.app.refresh(&bob.refresh).await.is_ok());
    story.setup.done(&["tokens", "revoke", "--user", "bob"]);
    story.setup.until_status(&bob.access, 401).await;
    assert_eq!(story.app.refresh(&bob.refresh).await.err().as_deref(), Some("invalid_grant"));
    story.serving.stop();
}

/// A new password signs browsers out, and one that was set for a person must be replaced.
#[tokio::test]
async fn a_password_from_a_command_is_replaced_at_the_first_sign_in() {
    let story = Story::begin().await;
    let added = story.setup.done(&["users", "add", "carol"]);
    let (_, once) = added.rsplit_once(' ').unwrap();
    let mut browser = story.browser();
    let page = browser.sign_in(&story.app.authorization("crm"), "carol", once).await;
    assert!(page.has("name=\"new-password\""), "{}", page.text());
    let values = [("user", "carol"), ("password", once), ("new-password", PASSWORD)];
    let page = browser.submit(&page, &values).await;
    assert!(page.has("value=\"allow\""), "{}", page.text());
    let set = story.setup.done(&["users", "passwd", "carol"]);
    let log = story.serving.stop();
    let (_, second) = set.rsplit_once(' ').unwrap();
    assert!(!log.contains(once) && !log.contains(second));
    // By the user, and by the operator.
    let records = kinds(&story.setup.path("audit"));
    let changed: Vec<_> =
        records.lines().filter(|line| line.contains("\"kind\":\"password_changed\"")).collect();
    for initiator in ["\"initiator\":\"user\"", "\"initiator\":\"operator\""] {
        assert_eq!(changed.iter().filter(|line| line.contains(initiator)).count(), 1, "{records}");
    }
    assert!(!records.contains(once) && !records.contains(second));
}

/// The first account is created by its link, once.
#[tokio::test]
async fn the_link_for_the_first_account_works_once() {
    let setup = Setup::new(items().await).await.with_login("");
    let mut serving = setup.serve();
    serving.until("no account exists yet");
    let link = setup.done(&["users", "link"]);
    let target = link.strip_prefix(&format!("http://{}", setup.address)).unwrap();
    let mut browser = Browser::at(setup.address);
    let page = browser.open(target).await;
    let values = [("user", "root"), ("password", PASSWORD)];
    let page = browser.submit(&page, &values).await;
    assert_eq!(page.response.status, 200, "{}", page.text());
    let page = Browser::at(setup.address).open(target).await;
    assert!(!page.has("name=\"password\"") && page.has("token-broker users"), "{}", page.text());
    let refused = setup.run(&["users", "link"]);
    assert!(text(&refused.stderr).contains("there is an account already"));
    let log = serving.stop();
    let (_, secret) = link.split_once("link=").unwrap();
    assert!(!log.contains(secret));
}

#[tokio::test]
async fn nobody_signs_in_again_after_a_restart_new_keys_or_a_restored_backup() {
    let mut story = Story::begin().await;
    let mut browser = story.browser();
    let mut tokens = story.app.connect(&mut browser, "crm", ("alice", PASSWORD)).await;
    type Change<'a> = (&'a str, &'a dyn Fn(&Setup));
    let changes: [Change<'_>; 4] = [
        ("restart", &|_| {}),
        ("new key of the store", &|setup| {
            let old = fs::read_to_string(setup.path("token-broker.key")).unwrap();
            fs::remove_file(setup.path("token-broker.key")).unwrap();
            setup.done(&["init", "other"]);
            let new = fs::read_to_string(setup.path("other/token-broker.key")).unwrap();
            fs::write(setup.path("token-broker.key"), format!("{new}{old}")).unwrap();
            protect(&setup.path("token-broker.key"));
            setup.done(&["keys", "rotate"]);
        }),
        ("backup at shutdown", &|setup| {
            setup.done(&["backup", "backup.db"]);
            for name in ["token-broker.db-wal", "token-broker.db-shm"] {
                fs::remove_file(setup.path(name)).unwrap_or_default();
            }
            fs::rename(setup.path("backup.db"), setup.path("token-broker.db")).unwrap();
            protect(&setup.path("token-broker.db"));
        }),
        ("other scopes", &|setup| {
            setup.configure("get_*", "  [[server.allow]]\n  tools = [\"x\"]\n  scope = \"crm:x\"");
        }),
    ];
    for (what, change) in changes {
        story = story.restart(change);
        // The access token that it holds, the refresh token, and the browser's session.
        assert_eq!(story.call(&tokens.access).await, 200, "{what}");
        tokens = story.app.refresh(&tokens.refresh).await.unwrap_or_else(|error| {
            panic!("{what}: {error}");
        });
        assert_eq!(story.call(&tokens.access).await, 200, "{what}");
        let page = browser.open(&story.app.authorization("crm")).await;
        assert!(page.has("value=\"allow\""), "{what}: {}", page.text());
    }
    story.serving.stop();
}

/// Tokens that were issued since a backup are unknown to it, so all of them end.
#[tokio::test]
async fn an_older_backup_ends_all_access_and_keeps_accounts() {
    let story = Story::begin().await;
    let tokens = story.connect().await;
    story.setup.done(&["backup", "backup.db"]);
    story.setup.done(&["clients", "revoke", &story.app.client_id]);
    let Story { setup, serving, app } = story;
    serving.stop();
    for name in ["token-broker.db-wal", "token-broker.db-shm"] {
        fs::remove_file(setup.path(name)).unwrap_or_default();
    }
    fs::rename(setup.path("backup.db"), setup.path("token-broker.db")).unwrap();
    protect(&setup.path("token-broker.db"));
    let refused = setup.run(&["serve"]);
    assert!(!refused.status.success());
    let serving = Serving::start(&mut setup.command(&["serve", "--recovered"]));
    assert_eq!(setup.call(&tokens.access).await.status, 401);
    assert_eq!(app.refresh(&tokens.refresh).await.err().as_deref(), Some("invalid_grant"));
    // What is issued in the second in which everything was revoked is refused, too.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let again = app.connect(&mut Browser::at(setup.address), "crm", ("alice", PASSWORD)).await;
    setup.until_status(&again.access, 200).await;
    serving.stop();
}

/// A reload changes what a client may request, in the metadata and on the page.
#[tokio::test]
async fn a_reload_changes_servers_and_scopes_of_the_authority() {
    let mut story = Story::begin().await;
    let more = "  [[server.allow]]\n  tools = [\"put_*\"]\n  scope = \"crm:write\"\n\
                [[scope]]\nname = \"crm:write\"\ntext = \"change your contacts\"";
    story.setup.configure("get_*", more);
    story.serving.until("servers and rules were read again");
    let request = "GET /.well-known/oauth-authorization-server HTTP/1.1\r\nhost: h\r\n\
                   connection: close\r\n\r\n";
    let metadata = wire::send(story.setup.address, request.as_bytes()).await.json();
    assert_eq!(metadata["scopes_supported"], serde_json::json!(["crm:read", "crm:write"]));
    let target = story.app.authorization("crm");
    let page = story.browser().sign_in(&target, "alice", PASSWORD).await;
    assert!(page.has("change your contacts"), "{}", page.text());
    story.serving.stop();
}

#[tokio::test]
async fn two_browsers_of_two_users_never_cross() {
    let story = Story::begin().await;
    add(&story.setup, "bob");
    let (mut of_alice, mut of_bob) = (story.browser(), story.browser());
    let target = story.app.authorization("crm");
    let page = of_alice.sign_in(&target, "alice", PASSWORD).await;
    let for_bob = of_bob.sign_in(&target, "bob", PASSWORD).await;
    assert!(page.has("alice") && for_bob.has("bob"));
    // Bob's browser sends the form of Alice's page.
    let crossed = of_bob.submit(&page, &[("decision", "allow")]).await;
    assert_eq!((crossed.response.status, crossed.location), (403, None));
    let sent = of_alice.submit(&page, &[("decision", "allow")]).await;
    let tokens = story.app.redeem(&sent.location.unwrap()).await;
    assert_eq!(story.call(&tokens.access).await, 200);
    // The form was used: it gives no second code.
    let replayed = of_alice.submit(&page, &[("decision", "allow")]).await;
    let code = replayed.location.filter(|location| location.contains("code="));
    assert!(code.is_none(), "{code:?}");
    story.serving.stop();
}

#[tokio::test]
async fn two_processes_of_one_client_refresh_at_once() {
    let story = Story::with("access_token_lifetime = \"5s\"", items().await).await;
    let mut tokens = story.connect().await;
    for _ in 0..10 {
        let (one, other) =
            tokio::join!(story.app.refresh(&tokens.refresh), story.app.refresh(&tokens.refresh));
        let (one, other) = (one.ok().unwrap(), other.ok().unwrap());
        assert_eq!(story.call(&one.access).await, 200);
        assert_eq!(story.call(&other.access).await, 200);
        tokens = other;
    }
    story.serving.stop();
}

/// A replay after the window ends the family, and the record names it.
#[tokio::test]
async fn f131_a_late_replay_of_a_refresh_token_ends_the_family() {
    let story = Story::with("refresh_reuse_window = \"1s\"", items().await).await;
    let first = story.connect().await;
    let second = story.app.refresh(&first.refresh).await.ok().unwrap();
    let third = story.app.refresh(&second.refresh).await.ok().unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let replayed = story.app.refresh(&first.refresh).await.err();
    assert_eq!(replayed.as_deref(), Some("invalid_grant"), "F131");
    let error = story.app.refresh(&third.refresh).await.err();
    assert_eq!(error.as_deref(), Some("invalid_grant"), "F131");
    assert_eq!(story.call(&third.access).await, 401, "F131");
    let log = story.serving.stop();
    assert!(log.contains("refresh_replay"), "F131 {log}");
    assert!(kinds(&story.setup.path("audit")).contains("refresh_replay"), "F131");
}

/// A request that came through a proxy is counted and recorded by the client's address.
#[tokio::test]
async fn a_trusted_proxy_passes_the_address_of_the_client() {
    let upstream = items().await;
    let setup = Setup::new(upstream).await.with_login("");
    let file = setup.path("token-broker.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("trusted_proxies = [\"127.0.0.1\"]\n{text}")).unwrap();
    let serving = setup.serve();
    let body = r#"{"client_name":"A","redirect_uris":["http://127.0.0.1/cb"]}"#;
    let fields = [("x-forwarded-for", "198.51.100.1, 192.0.2.77")];
    let request = wire::post("/oauth/register", &setup.address.to_string(), &fields, body);
    assert_eq!(wire::send(setup.address, &request).await.status, 201);
    serving.stop();
    let records = kinds(&setup.path("audit"));
    assert!(records.contains("192.0.2.77") && !records.contains("198.51.100.1"), "{records}");
}

#[tokio::test]
async fn the_flow_on_postgresql() {
    let Some((url, schema)) = postgres::empty_schema() else { return };
    let setup = Setup::on(&postgres::within(&url, &schema), items().await).await.with_login("");
    add(&setup, "alice");
    let serving = setup.serve();
    let app = App::register(setup.address, "Editor").await;
    let tokens = app.connect(&mut Browser::at(setup.address), "crm", ("alice", PASSWORD)).await;
    assert_eq!(setup.call(&tokens.access).await.status, 200);
    let tokens = app.refresh(&tokens.refresh).await.ok().unwrap();
    assert_eq!(setup.call(&tokens.access).await.status, 200);
    setup.done(&["users", "disable", "alice"]);
    setup.until_status(&tokens.access, 401).await;
    assert_eq!(app.refresh(&tokens.refresh).await.err().as_deref(), Some("invalid_grant"));
    serving.stop();
}
