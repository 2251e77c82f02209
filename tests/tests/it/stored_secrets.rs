//! Database files contain no secret, in any form.

use std::path::Path;

use token_broker_sql::{SqlStore, StoreUrl};
use token_broker_store::{
    AccessToken, Account, Grant, GrantKey, GrantStore, LeaseOutcome, LeaseRequest, Renewal,
    authority::{
        AccountStore, AddSigningKey, AuthorityStore, Client, ClientId, ClientStore, Code,
        CodeStore, CreateFirstAccount, FamilyId, FamilyStore, KeyTimes, NewAccount, RedeemCode,
        Redemption, RegisterClient, Registration, Session, SessionId, SessionStore, SetPassword,
        SigningKey, SigningKeyStore, UserName,
    },
    sealing::KeyRing,
};
use token_broker_tests::marker_scan::Scan;
use tower_token_broker::{
    Secret,
    clock::Timestamp,
    principal::{GrantId, Resource, Scopes, User},
    revocation::{RevocationChange, RevocationEntry, RevocationStore, RevocationTarget},
};

fn now() -> Timestamp {
    Timestamp::from_unix_seconds(1_800_000_000)
}

fn marker(name: &str, number: usize) -> String {
    format!("tbm-{name}-{number}-vK2sQ9xLr7Wd0aHs4NfYc8TgUe")
}

fn secret(name: &str, number: usize) -> Secret {
    Secret::from_text(marker(name, number))
}

fn access(name: &str, number: usize) -> AccessToken {
    let scopes = Scopes::parse("crm:read").unwrap();
    let expires_at = now().plus(std::time::Duration::from_secs(3_600));
    AccessToken::new(secret(name, number), scopes, now(), expires_at)
}

fn key_line() -> String {
    KeyRing::generate_line().expose_text().unwrap().to_owned()
}

fn key(number: usize) -> GrantKey {
    let user = User::new("https://broker.example.com", format!("user{number}"));
    GrantKey::new(user, "crm", Account::default_account())
}

/// Puts, refreshes, revokes, deletes and rotates, and reads each token back for the scan.
async fn use_store(store: &SqlStore, scan: &mut Scan) {
    const GRANTS: usize = 20;
    for number in 0..GRANTS {
        for name in ["refresh", "access", "rotated", "renewed"] {
            scan.secret(&format!("{name} {number}"), &marker(name, number));
        }
        let id = GrantId::new(&format!("g{number}"));
        let grant = Grant::new(id, key(number), "https://login.crm.example")
            .refresh_token(secret("refresh", number))
            .access_token(access("access", number));
        let stored = store.put(grant).await.unwrap();
        receive(&stored, scan);
        let until = now().plus(std::time::Duration::from_secs(20));
        let request = LeaseRequest::new(&stored, now(), until);
        let LeaseOutcome::Acquired(lease) = store.lease(&request).await.unwrap() else {
            panic!("the lease is free")
        };
        store.mark_attempt(&lease).await.unwrap();
        let renewal =
            Renewal::new(Some(secret("rotated", number)), Some(access("renewed", number)));
        store.complete(&lease, &renewal).await.unwrap().unwrap();
        receive(&store.load(&key(number)).await.unwrap().unwrap(), scan);
        match number % 4 {
            0 => assert!(store.revoke(&stored.to_ref()).await.unwrap()),
            1 => assert!(store.delete(&stored.to_ref()).await.unwrap()),
            _ => {}
        }
    }
    let target = RevocationTarget::Grant(GrantId::new("g0"));
    let entry = RevocationEntry::new(RevocationChange::Revoked(target), now());
    store.append(&entry).await.unwrap();
    let rotated = store.rotate(|_| {}).await.unwrap();
    assert_eq!(rotated.left, 0);
}

/// Stores rows of the authority with each kind of secret, and reads back what can be read.
async fn use_authority(store: &SqlStore, scan: &mut Scan) {
    let keys = store.lookup_key().await.unwrap();
    let later = now().plus(std::time::Duration::from_secs(3_600));
    let names = ["code", "cookie", "link", "client", "password", "password2", "private"];
    for (number, name) in names.into_iter().enumerate() {
        let text = marker(name, number);
        scan.secret(name, &text).received(text.as_bytes());
    }
    let family_key: Vec<u8> = marker("family", 9).into_bytes().into_iter().take(32).collect();
    scan.secret("family", std::str::from_utf8(&family_key).unwrap()).received(&family_key);

    let id = ClientId::new("inspector");
    let registration = RegisterClient::new(Client::new(id.clone(), now()), 9)
        .secret(keys.client_secret(&id, &secret("client", 3)));
    let registered = store.register_client(&registration).await.unwrap();
    assert_eq!(registered, Registration::Registered);

    let user = User::new("https://broker.example.com", "alice");
    let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
    let ids = (SessionId::new("s1"), FamilyId::new("f1"));
    let code = Code::new(user.clone(), id, resource, ids, (now(), later));
    let hash = keys.code(&secret("code", 0));
    store.put_code(&hash, &code).await.unwrap();
    let request = RedeemCode::new(hash, now(), Secret::new(family_key.clone()), (later, later));
    let outcome = store.redeem_code(&request).await.unwrap();
    assert!(matches!(outcome, Redemption::First(..)), "{outcome:?}");
    let family = store.family(&FamilyId::new("f1")).await.unwrap().unwrap();
    assert_eq!(family.key.unwrap().expose(), family_key);

    let session = Session::new(SessionId::new("s1"), user, now(), later);
    store.put_session(&keys.session(&secret("cookie", 1)), &session).await.unwrap();

    let link = keys.first_account_link(&secret("link", 2));
    store.put_first_account_link(&link, later).await.unwrap();
    let name = UserName::parse("alice").unwrap();
    let account = NewAccount::new("a1", name, secret("password", 4), now());
    let request = CreateFirstAccount::new(link, account);
    drop(store.create_first_account(&request).await.unwrap());
    let set = SetPassword::new("a1", secret("password2", 5));
    assert!(store.set_password(&set).await.unwrap().is_some());

    let times = KeyTimes::new(now(), now());
    let key = SigningKey::new("k1", "ES256", secret("private", 6), times);
    assert!(store.add_signing_key(&AddSigningKey::new(0, key)).await.unwrap());
}

fn receive(grant: &Grant, scan: &mut Scan) {
    let tokens = grant.access.iter().map(|token| &token.secret).chain(&grant.refresh_token);
    for token in tokens {
        scan.received(token.expose());
    }
}

fn add_files(folder: &Path, scan: &mut Scan) -> usize {
    let mut files = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        scan.source(path.display().to_string(), std::fs::read(&path).unwrap());
        files += 1;
    }
    files
}

#[tokio::test]
async fn o277_o284_database_and_log_contain_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broker.db");
    let url = StoreUrl::parse(&format!("sqlite://{}", path.display())).unwrap();
    let (old, new) = (key_line(), key_line());
    let mut scan = Scan::new();
    let before = KeyRing::parse(&old).unwrap();
    drop(SqlStore::open(&url, before).await.unwrap());
    let during = KeyRing::parse(&format!("{new}\n{old}")).unwrap();
    let store = SqlStore::open(&url, during).await.unwrap();
    // O284: codes, cookies, links and client secrets are found, and not stored.
    use_authority(&store, &mut scan).await;
    use_store(&store, &mut scan).await;
    // With the write-ahead log, as it is while the store is in use.
    assert!(add_files(folder.path(), &mut scan) >= 3, "O277 the log is searched, too");
    store.close().await;
    add_files(folder.path(), &mut scan);
    for (name, line) in [("old key", &old), ("new key", &new)] {
        scan.secret(name, line).received(line.as_bytes());
    }
    assert_eq!(scan.run(), Ok(()), "O277");
    // The scan finds what is there: an ID is no secret.
    scan.secret("an ID", "https://login.crm.example").received(b"https://login.crm.example");
    assert!(scan.run().is_err(), "O277");
}
