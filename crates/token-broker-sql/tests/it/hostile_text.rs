//! Texts that a driver, a statement or a comparison may misread.

use token_broker_store::{Account, Grant, GrantFilter, GrantKey, GrantRef, GrantStore, StoreError};
use tower_token_broker::{
    Secret,
    principal::{GrantId, User},
    revocation::{
        RevocationChange, RevocationEntry, RevocationStore, RevocationStoreError, Sequence,
    },
};

use crate::support::{Place, grant, keys, now};

fn grant_of(id: &str, user: User) -> Grant {
    let key = GrantKey::new(user, "crm", Account::default_account());
    Grant::new(GrantId::new(id), key, "https://login.crm.example")
}

#[tokio::test]
async fn o286_statements_in_values_are_values() {
    for place in Place::all().await {
        let store = place.open(&keys()).await;
        let texts = [
            "'; DROP TABLE grants; --",
            "\"; DROP TABLE grants; --",
            "$1",
            "?1",
            ":id",
            "%",
            "_",
            "\\",
            "\\'; DELETE FROM grants; --",
            "E'\\x41'",
            "\u{2019}",
            "\u{10ffff}",
            "\r\n\t",
        ];
        for (number, text) in texts.iter().enumerate() {
            let user = User::new(*text, *text);
            let key = GrantKey::new(user.clone(), text, Account::default_account());
            let id = format!("{number}{text}");
            let mut grant = Grant::new(GrantId::new(&id), key.clone(), text);
            grant.refresh_token = Some(Secret::from_text((*text).to_owned()));
            store.put(grant.clone()).await.unwrap();
            let loaded = store.load(&key).await.unwrap().unwrap();
            assert_eq!((&loaded.id, &loaded.key), (&grant.id, &key), "O286 {text:?}");
            let listed = GrantFilter::all().user(user.clone()).server(text);
            assert_eq!(store.list(&listed).await.unwrap().grants.len(), 1, "O286 {text:?}");
            let entry = RevocationEntry::new(RevocationChange::Blocked(user), now());
            let appended = store.append(&entry).await.unwrap();
            let before = Sequence::new(appended.as_u64() - 1);
            assert_eq!(store.read_after(before, 1).await.unwrap(), [(appended, entry)]);
        }
        assert_eq!(place.run("SELECT COUNT(*) FROM grants"), texts.len().to_string(), "O286");
        store.close().await;
    }
}

#[tokio::test]
async fn o286_long_texts_and_nul_never_reach_the_driver() {
    const LIMIT: usize = 1_024;
    for place in Place::all().await {
        let store = place.open(&keys()).await;
        let user = |subject: &str| User::new("https://i.example", subject);
        let longest = "s".repeat(LIMIT);
        let stored = store.put(grant_of("longest", user(&longest))).await.unwrap();
        assert!(store.load(&stored.key).await.unwrap().is_some(), "O286");
        for subject in ["s".repeat(LIMIT + 1), "s".repeat(64 << 20), "ali\0ce".into(), "\0".into()]
        {
            let refused = grant_of("refused", user(&subject));
            let field = "the subject of the user";
            let expected = StoreError::Invalid { field, limit: LIMIT };
            assert_eq!(store.put(refused.clone()).await.err(), Some(expected), "O286");
            // What can't be stored is not found.
            assert!(store.load(&refused.key).await.unwrap().is_none(), "O286");
            let reference = GrantRef::new(refused.key.clone(), stored.id.clone());
            assert!(!store.revoke(&reference).await.unwrap(), "O286");
            assert!(!store.delete(&reference).await.unwrap(), "O286");
            let listed = store.list(&GrantFilter::all().user(user(&subject))).await.unwrap();
            assert!(listed.grants.is_empty(), "O286");
        }
        let long = |length: usize| "x".repeat(length);
        let mut cases = vec![
            ("the issuer of the user", grant_of("i", User::new(long(1_025), "s"))),
            ("the ID of the grant", grant_of(&long(256), user("s"))),
            ("the ID of the grant", grant_of("a\0b", user("s"))),
        ];
        let mut with_server = grant_of("g", user("s"));
        with_server.key.server = long(256).into();
        cases.push(("the name of the server", with_server));
        let mut with_issuer = grant_of("g", user("s"));
        with_issuer.authorization_server = long(2_049).into();
        cases.push(("the authorization server", with_issuer));
        let mut with_token = grant_of("g", user("s"));
        with_token.refresh_token = Some(Secret::new(vec![7; 16 * 1_024 + 1]));
        cases.push(("the refresh token", with_token));
        let mut with_access = grant("s");
        with_access.access[0].secret = Secret::new(vec![7; 64 * 1_024 + 1]);
        cases.push(("an access token", with_access));
        for (expected, refused) in cases {
            let error = store.put(refused).await.err();
            let Some(StoreError::Invalid { field, .. }) = error else {
                panic!("O286 {expected}: {error:?}")
            };
            assert_eq!(field, expected, "O286");
        }
        for subject in [long(16 * 1_024 + 1), "a\0".into()] {
            let entry = RevocationEntry::new(RevocationChange::Blocked(user(&subject)), now());
            let refused = store.append(&entry).await;
            assert_eq!(refused, Err(RevocationStoreError::Invalid { limit: 16 * 1_024 }), "O286");
        }
        assert_eq!(store.read_after(Sequence::START, 9).await.unwrap(), [], "O286");
        assert_eq!(place.run("SELECT COUNT(*) FROM grants"), "1", "O286");
        store.close().await;
    }
}

#[tokio::test]
async fn q301_subjects_that_look_alike_are_distinct() {
    for place in Place::all().await {
        let store = place.open(&keys()).await;
        let subjects = [
            "Bob",
            "bob",
            "BOB",
            "bob ",
            " bob",
            "bob\t",
            "\u{ff42}ob",
            "b\u{043e}b",
            "bo\u{200b}b",
            "b\u{f6}b",
            "bo\u{308}b",
            "stra\u{df}e",
            "strasse",
            "\u{131}",
            "i",
            "I",
            "1",
            "01",
            "1.0",
        ];
        let user = |subject: &str| User::new("https://i.example", subject);
        for (number, subject) in subjects.iter().enumerate() {
            let grant = grant_of(&format!("g{number}"), user(subject));
            assert!(store.load(&grant.key).await.unwrap().is_none(), "Q301 {subject:?}");
            store.put(grant).await.unwrap();
        }
        for (number, subject) in subjects.iter().enumerate() {
            let found = store.list(&GrantFilter::all().user(user(subject))).await.unwrap();
            let ids: Vec<_> = found.grants.iter().map(|grant| grant.id.as_str()).collect();
            assert_eq!(ids, [format!("g{number}")], "Q301 {subject:?}");
        }
        // A name that an IDN has in two forms.
        for issuer in ["https://b\u{fc}cher.example", "https://xn--bcher-kva.example"] {
            let key = GrantKey::new(User::new(issuer, "bob"), "crm", Account::default_account());
            assert!(store.load(&key).await.unwrap().is_none(), "Q301 {issuer}");
            store.put(Grant::new(GrantId::new(issuer), key, "https://as.example")).await.unwrap();
        }
        store.close().await;
    }
}
