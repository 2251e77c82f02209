//! Backup, restore and rotation of keys, by commands, while a gateway runs.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::Stdio,
};

use serde_json::Value;
use token_broker_sql::{SqlStore, StoreUrl};
use token_broker_store::{Account, Grant, GrantKey, GrantStore as _, sealing::KeyRing};
use token_broker_tests::marker_scan::Scan;
use tower_token_broker::{
    Secret,
    principal::{GrantId, User},
};

use crate::{
    gateway::items,
    setup::{Serving, Setup, protect, text},
};

/// Restores a backup, as docs/store.md describes it.
fn restore(setup: &Setup, backup: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        match fs::remove_file(setup.path(&format!("token-broker.db{suffix}"))) {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
        }
    }
    fs::copy(backup, setup.path("token-broker.db")).unwrap();
}

/// Runs `serve`, which must not start, and returns its error.
fn refused(setup: &Setup) -> String {
    let output = setup.run(&["serve"]);
    assert_eq!(output.status.code(), Some(1));
    text(&output.stderr)
}

/// Issues tokens until one is accepted: those of the second of a revocation are not.
async fn accepted_token(setup: &Setup, user: &str) -> String {
    for _ in 0..100 {
        let token = setup.token(user);
        if setup.call(&token).await.status == 200 {
            return token;
        }
    }
    panic!("no token is accepted");
}

#[tokio::test]
async fn x33_a_restored_backup_brings_no_revoked_token_back() {
    let setup = Setup::new(items().await).await;
    setup.configure("get_*", &setup.mail("https://login.mail.example/token"));
    let serving = setup.serve();
    let (alice, bob) = (setup.token("alice"), setup.token("bob"));
    let grant = setup.add_grant("alice");
    let backup = setup.path("backup.db");
    setup.done(&["backup", "backup.db"]);
    assert_eq!(setup.call(&alice).await.status, 200);
    setup.done(&["tokens", "revoke", "--user", "alice"]);
    setup.until_status(&alice, 401).await;
    serving.stop();

    restore(&setup, &backup);
    let why = refused(&setup);
    assert!(why.contains("--recovered") && why.contains("older"), "X33 {why}");
    // Commands are run with a warning, and change nothing in that.
    for _ in 0..2 {
        let block = setup.run(&["users", "block", "mallory"]);
        assert!(block.status.success(), "X33");
        assert!(text(&block.stderr).contains("--recovered"), "X33 {}", text(&block.stderr));
    }
    assert!(refused(&setup).contains("--recovered"), "X33");
    // A start that fails later has accepted nothing.
    let port = std::net::TcpListener::bind(setup.address).unwrap();
    let failed = setup.run(&["serve", "--recovered"]);
    assert!(text(&failed.stderr).contains("another process"), "X33 {}", text(&failed.stderr));
    drop(port);
    assert!(refused(&setup).contains("--recovered"), "X33");
    let serving = Serving::start(&mut setup.command(&["serve", "--recovered"]));
    // All tokens have ended, also those that no one had revoked.
    for token in [&alice, &bob] {
        assert_eq!(setup.call(token).await.status, 401, "X33");
    }
    assert!(setup.done(&["grants", "list", "--user", "alice"]).contains(&grant), "X33");
    let later = accepted_token(&setup, "alice").await;
    serving.stop();
    // From now on, the store is the newest one.
    let serving = setup.serve();
    assert_eq!(setup.call(&later).await.status, 200, "X33");
    serving.stop();
    // The same backup again.
    restore(&setup, &backup);
    assert!(refused(&setup).contains("--recovered"), "X33");
    let records = setup.done(&["audit", "verify", "audit"]);
    assert!(records.contains("whole") && !records.contains("store-mark"), "{records}");
}

#[tokio::test]
async fn a_backup_taken_at_shutdown_signs_no_one_out() {
    let setup = Setup::new(items().await).await;
    let serving = setup.serve();
    let (alice, bob) = (setup.token("alice"), setup.token("bob"));
    setup.done(&["tokens", "revoke", "--user", "bob"]);
    setup.until_status(&bob, 401).await;
    serving.stop();
    setup.done(&["backup", "backup.db"]);
    restore(&setup, &setup.path("backup.db"));
    let serving = setup.serve();
    assert_eq!(setup.call(&alice).await.status, 200);
    assert_eq!(setup.call(&bob).await.status, 401);
    serving.stop();
}

#[tokio::test]
async fn another_store_is_not_used_by_mistake() {
    let mut setup = Setup::new(items().await).await;
    setup.serve().stop();
    setup.store = "sqlite://another.db".to_owned();
    setup.configure("get_*", "");
    let why = refused(&setup);
    assert!(why.contains("another one") && why.contains("--recovered"), "X33 {why}");
    // It was no mistake: what other writers of the folder have noted counts no longer.
    setup.done(&["users", "block", "mallory"]);
    Serving::start(&mut setup.command(&["serve", "--recovered"])).stop();
    setup.serve().stop();
    setup.done(&["users", "block", "eve"]);
    setup.serve().stop();
    // Back: it is older than what was noted since.
    setup.store = "sqlite://token-broker.db".to_owned();
    setup.configure("get_*", "");
    assert!(refused(&setup).contains("--recovered"), "X33");
}

#[tokio::test]
async fn x33_what_one_host_accepted_the_other_hosts_accept() {
    let setup = Setup::new(items().await).await;
    // A second host has an audit folder of its own.
    let other = || {
        let mut command = setup.command(&["serve"]);
        command.env("TOKEN_BROKER__AUDIT__FOLDER", "audit-of-other");
        command
    };
    setup.serve().stop();
    Serving::start(&mut other()).stop();
    setup.done(&["backup", "backup.db"]);
    setup.serve().stop();
    Serving::start(&mut other()).stop();
    restore(&setup, &setup.path("backup.db"));
    assert!(refused(&setup).contains("--recovered"), "X33");
    let refused_there = other().output().unwrap();
    assert!(text(&refused_there.stderr).contains("--recovered"), "X33");
    Serving::start(&mut setup.command(&["serve", "--recovered"])).stop();
    Serving::start(&mut other()).stop();
    // The same backup again is older for both.
    restore(&setup, &setup.path("backup.db"));
    assert!(refused(&setup).contains("--recovered"), "X33");
    let refused_there = other().output().unwrap();
    assert!(text(&refused_there.stderr).contains("--recovered"), "X33");
}

#[tokio::test]
async fn x33_a_store_that_was_replaced_under_a_gateway_lets_no_request_in() {
    let setup = Setup::new(items().await).await;
    let mut serving = setup.serve();
    let token = setup.token("alice");
    assert_eq!(setup.call(&token).await.status, 200, "X33");
    setup.done(&["backup", "backup.db"]);
    fs::rename(setup.path("backup.db"), setup.path("token-broker.db")).unwrap();
    // It does not read what commands write from now on.
    setup.until_status(&token, 503).await;
    serving.until("revocation.feed_failed");
    serving.stop();
}

#[tokio::test]
async fn a_long_command_delays_no_block() {
    let setup = Setup::new(items().await).await;
    let serving = setup.serve();
    let alice = setup.token("alice");
    // It is stopped in its midst, with the first name of the commands.
    let folder = tower_token_broker::audit::AuditFolder::open(
        setup.path("audit"),
        &tower_token_broker::audit::WriterName::parse("commands").unwrap(),
    )
    .unwrap();
    setup.done(&["users", "block", "alice"]);
    setup.until_status(&alice, 401).await;
    drop(folder);
    serving.stop();
    assert!(setup.done(&["audit", "verify", "audit"]).contains("commands-2"));
    let reserved = setup
        .command(&["serve"])
        .env("TOKEN_BROKER__AUDIT__WRITER", "commands-2")
        .output()
        .unwrap();
    assert_eq!(reserved.status.code(), Some(78));
}

#[tokio::test]
async fn o276_a_backup_has_no_secret() {
    let setup = Setup::new(items().await).await;
    setup.configure("get_*", &setup.mail("https://login.mail.example/token"));
    let refresh_token = "rt-9d1c27aa0b6e4f1382c4";
    fs::write(setup.path("rt"), refresh_token).unwrap();
    protect(&setup.path("rt"));
    let add =
        ["grants", "add", "--user", "alice", "--server", "mail", "--refresh-token-file", "rt"];
    let added = setup.done(&add);
    let written = setup.done(&["backup", "backup.db"]);
    let backup = fs::read(setup.path("backup.db")).unwrap();
    assert!(backup.windows(5).any(|part| part == b"alice"), "O276: the grant is in the backup");
    let key = fs::read_to_string(setup.path("token-broker.key")).unwrap();
    let mut scan = Scan::new();
    scan.secret("the refresh token", refresh_token).received(refresh_token.as_bytes());
    scan.secret("the key", key.trim()).received(key.as_bytes());
    scan.source("the backup", backup).source("what commands print", format!("{added}{written}"));
    assert_eq!(scan.run(), Ok(()), "O276");
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(setup.path("backup.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "O276");
    // No file is overwritten.
    let again = setup.run(&["backup", "backup.db"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("backup.db"), "{}", text(&again.stderr));
}

/// Puts a second key into the key file: as the first line, or as the last one.
fn add_key(setup: &Setup, is_first: bool) -> (String, String) {
    #[expect(clippy::disallowed_methods, reason = "a new key of this test")]
    let new = KeyRing::generate_line().expose_text().unwrap().to_owned();
    let file = setup.path("token-broker.key");
    let old = fs::read_to_string(&file).unwrap();
    let both = if is_first { format!("{new}\n{old}") } else { format!("{old}{new}\n") };
    fs::write(&file, both).unwrap();
    (old, new)
}

#[tokio::test]
async fn keys_are_rotated_while_a_gateway_runs() {
    let setup = Setup::new(items().await).await;
    setup.configure("get_*", &setup.mail("https://login.mail.example/token"));
    setup.add_grant("alice");
    let (old, new) = add_key(&setup, true);
    let serving = setup.serve();
    let token = setup.token("alice");
    let listed: Value = setup.done(&["keys", "list", "--json"]).parse().unwrap();
    assert_eq!((&listed[0]["is_current"], &listed[0]["uses"]), (&true.into(), &0.into()));
    assert_eq!(listed[1]["is_current"], false);
    assert!(setup.done(&["keys", "list"]).contains("keys rotate"));
    let rotated = setup.run(&["keys", "rotate", "--progress"]);
    assert!(rotated.status.success(), "{}", text(&rotated.stderr));
    assert!(text(&rotated.stderr).contains("100 %"), "{}", text(&rotated.stderr));
    let listed: Value = setup.done(&["keys", "list", "--json"]).parse().unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    assert_eq!(listed[0]["is_current"], true);
    assert_eq!(listed[1]["uses"], 0);
    assert_eq!(setup.call(&token).await.status, 200);
    serving.stop();
    // The old key is needed no longer.
    let file = setup.path("token-broker.key");
    fs::write(&file, format!("{new}\n")).unwrap();
    let serving = setup.serve();
    assert_eq!(setup.call(&token).await.status, 200);
    serving.stop();
    // With only the old key, nothing starts, and the error names the key that is missing.
    fs::write(&file, &old).unwrap();
    let wrong = setup.run(&["serve"]);
    assert_eq!(wrong.status.code(), Some(78));
    let why = text(&wrong.stderr);
    assert!(why.contains(listed[0]["id"].as_str().unwrap()), "{why}");
}

#[tokio::test]
async fn x20_a_rotation_that_is_killed_is_continued_by_the_next() {
    const GRANTS: u32 = 400;
    let setup = Setup::new(items().await).await;
    let keys = KeyRing::read_file(&setup.path("token-broker.key")).unwrap();
    let url = format!("sqlite://{}", setup.path("token-broker.db").display());
    let store = SqlStore::open(&StoreUrl::parse(&url).unwrap(), keys).await.unwrap();
    for number in 0..GRANTS {
        let user = User::new("https://issuer.example", format!("user-{number}"));
        let key = GrantKey::new(user, "mail", Account::default_account());
        let grant = Grant::new(GrantId::new(&format!("g{number}")), key, "https://login.example")
            .refresh_token(Secret::from_text(format!("refresh-{number}")));
        store.put(grant).await.unwrap();
    }
    store.close().await;
    add_key(&setup, true);
    // Killed after more and more of its progress.
    for lines in 0..4 {
        let mut command = setup.command(&["keys", "rotate", "--progress"]);
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut progress = BufReader::new(child.stderr.take().unwrap()).lines();
        for _ in 0..lines {
            drop(progress.next());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // Each row is readable with both keys.
        assert!(setup.done(&["grants", "list"]).lines().count() > GRANTS as usize, "X20");
    }
    setup.done(&["keys", "rotate"]);
    let listed: Value = setup.done(&["keys", "list", "--json"]).parse().unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 2, "X20 {listed}");
    assert_eq!(listed[1]["uses"], 0, "X20 {listed}");
    // One key for each grant, that of client-held state, and that of the hashes.
    assert_eq!(listed[0]["uses"], GRANTS + 2, "X20 {listed}");
    let new = fs::read_to_string(setup.path("token-broker.key")).unwrap();
    let keys = KeyRing::parse(new.lines().next().unwrap()).unwrap();
    let store = SqlStore::open(&StoreUrl::parse(&url).unwrap(), keys).await.unwrap();
    for number in 0..GRANTS {
        let user = User::new("https://issuer.example", format!("user-{number}"));
        let key = GrantKey::new(user, "mail", Account::default_account());
        let grant = store.load(&key).await.unwrap().unwrap();
        #[expect(clippy::disallowed_methods, reason = "compared with what was stored")]
        let token = grant.refresh_token.as_ref().unwrap().expose_text().unwrap();
        assert_eq!(token, format!("refresh-{number}"), "X20");
    }
    store.close().await;
    let verified = setup.done(&["audit", "verify", "audit"]);
    assert!(verified.contains("whole"), "X20 {verified}");
}
