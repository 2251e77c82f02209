//! Clients, codes and sessions that an attacker with access to the database has changed.

use token_broker_store::{
    StoreError,
    authority::{
        AccountStore, ClientId, ClientStore, CodeStore, EndFamilies, FamilyEnd, FamilyEndReason,
        FamilyFilter, FamilyId, FamilyStore, PageRequest, Redemption, SessionStore,
    },
};

use crate::{
    authority_at_rest::Attacked,
    authority_support::{redeem, user, value},
    support::now,
};

#[tokio::test]
async fn o272_a_changed_client_is_refused() {
    for change in [
        "name = 'Claude'",
        "redirect_uris = 'https://evil.example/' || char(10)",
        "redirect_uris = redirect_uris || 'https://evil.example/' || char(10)",
        "auth_method = 'client_secret_post'",
        "auth_method = 'unknown'",
        "application_type = 'web'",
        "secret = NULL",
        "secret = x'00'",
        "secret = (SELECT secret FROM clients WHERE id = 'bob')",
        "jwks = '{}'",
        "jwks_uri = 'https://evil.example/jwks'",
        "jwks = '{}', jwks_uri = 'https://evil.example/jwks'",
        "software_id = ''",
        "created_at = created_at + 1",
        "mac = x''",
        "mac = (SELECT mac FROM clients WHERE id = 'bob')",
    ] {
        let mut attacked = Attacked::new().await;
        let alice = ClientId::new("alice");
        assert!(attacked.store.client(&alice).await.unwrap().is_some());
        attacked.run(&format!("UPDATE clients SET {change} WHERE id = 'alice'")).await;
        let refused = attacked.store.client(&alice).await.err();
        let expected = StoreError::unreadable_row("client", "alice");
        assert_eq!(refused, Some(expected), "O272 {change}");
        let bob = attacked.store.client(&ClientId::new("bob")).await.unwrap().unwrap();
        let hash = attacked.keys.client_secret(&bob.id, &value("bob"));
        assert!(bob.has_secret(&hash), "O272 {change}");
        // It can be removed.
        assert!(attacked.store.remove_client(&alice).await.unwrap(), "O272 {change}");
    }
}

#[tokio::test]
async fn o272_a_changed_code_is_not_redeemed() {
    for change in [
        "subject = 'mallory'",
        "issuer = 'https://evil.example'",
        "client = 'evil'",
        "redirect_uri = 'https://evil.example/'",
        "resource = 'https://broker.example.com/mail/mcp'",
        "resource = 'none'",
        "scopes = 'crm:admin'",
        "challenge = 'known'",
        "session = 's-bob'",
        "family = 'f-other'",
        "authenticated_at = authenticated_at + 1",
        "issued_at = issued_at + 1",
        "expires_at = expires_at + 1",
        "mac = (SELECT mac FROM codes WHERE family = 'f-bob-unused')",
        // Another code: its hash is authenticated, too.
        "hash = x'00'",
    ] {
        let mut attacked = Attacked::new().await;
        let request = redeem(&attacked.keys, "alice-unused");
        let sql = format!("UPDATE codes SET {change} WHERE family = 'f-alice-unused'");
        attacked.run(&sql).await;
        let outcome = attacked.store.redeem_code(&request).await;
        if change == "hash = x'00'" {
            assert_eq!(outcome, Ok(Redemption::Unknown), "O272 {change}");
            continue;
        }
        assert!(
            matches!(outcome, Err(StoreError::UnreadableRow { .. })),
            "O272 {change}: {outcome:?}"
        );
        let family = attacked.store.family(&FamilyId::new("f-alice-unused")).await.unwrap();
        assert!(family.is_none(), "O272 {change}");
        assert!(attacked.store.end_code(&request.code, now()).await.unwrap(), "O272 {change}");
    }
    // A row that was copied to the hash of another code is that of no code.
    let mut attacked = Attacked::new().await;
    let known = attacked.keys.session(&value("known to the attacker"));
    let octets: String = known.as_bytes().iter().map(|octet| format!("{octet:02x}")).collect();
    let sql = format!("UPDATE codes SET hash = x'{octets}' WHERE family = 'f-alice-unused'");
    attacked.run(&sql).await;
    let copied = attacked.store.code(&known).await.err();
    let expected = StoreError::unreadable_row("code of family", "f-alice-unused");
    assert_eq!(copied, Some(expected), "O272");
}

#[tokio::test]
async fn o272_a_changed_session_is_refused() {
    for change in [
        "subject = 'mallory'",
        "issuer = 'https://evil.example'",
        "id = 's-other'",
        "account_epoch = 9",
        "authenticated_at = authenticated_at + 1",
        "created_at = created_at + 1",
        "expires_at = expires_at + 1",
        "mac = (SELECT mac FROM sessions WHERE id = 's-bob')",
        "last_seen_at = -1",
    ] {
        let mut attacked = Attacked::new().await;
        let alice = attacked.keys.session(&value("alice"));
        assert!(attacked.store.session(&alice, now()).await.unwrap().is_some());
        attacked.run(&format!("UPDATE sessions SET {change} WHERE id = 's-alice'")).await;
        let outcome = attacked.store.session(&alice, now()).await;
        assert!(
            matches!(outcome, Err(StoreError::UnreadableRow { .. })),
            "O272 {change}: {outcome:?}"
        );
        let bob = attacked.keys.session(&value("bob"));
        assert!(attacked.store.session(&bob, now()).await.unwrap().is_some(), "O272 {change}");
        assert!(attacked.store.end_session(&alice, now()).await.unwrap(), "O272 {change}");
    }
}

#[tokio::test]
async fn o272_a_row_that_cannot_be_read_hides_no_other_one() {
    let mut attacked = Attacked::new().await;
    for (table, id, name) in [
        ("families", "f-alice", "f-bob"),
        ("clients", "alice", "bob"),
        ("accounts", "a-alice", "a-bob"),
    ] {
        let column = if table == "accounts" { "subject" } else { "id" };
        let damage = match table {
            "families" => "scopes = '\"'",
            "clients" => "mac = x''",
            _ => "enabled = 7",
        };
        attacked.run(&format!("UPDATE {table} SET {damage} WHERE {column} = '{id}'")).await;
        // Also when the last row of a page is the damaged one.
        for limit in [1, 100] {
            let (mut page, mut rows, mut unreadable) =
                (PageRequest::first().limit(limit), Vec::new(), Vec::new());
            loop {
                let (ids, next, damaged) = list(&attacked, table, &page).await;
                rows.extend(ids);
                unreadable.extend(damaged);
                let Some(next) = next else { break };
                page = PageRequest::after(&next).limit(limit);
            }
            assert_eq!((rows, unreadable), (vec![name.into()], vec![id.into()]), "O272 {table}");
        }
    }
    // What cannot be read can be ended.
    let end = FamilyEnd::new(FamilyEndReason::User, now());
    let all = EndFamilies::new(FamilyFilter::all().user(user("alice")), end);
    let ended = attacked.store.end_families(&all).await.unwrap();
    assert_eq!(ended, [FamilyId::new("f-alice")], "O272");
}

type Listed = (Vec<Box<str>>, Option<Box<str>>, Vec<Box<str>>);

/// Lists a page of a table: the IDs, the next page, and the IDs of rows that cannot be read.
async fn list(attacked: &Attacked, table: &str, page: &PageRequest) -> Listed {
    let store = &attacked.store;
    match table {
        "families" => {
            let page = store.families(&FamilyFilter::all(), page).await.unwrap();
            let ids = page.rows.iter().map(|family| family.id.as_str().into());
            (ids.collect(), page.next, page.unreadable)
        }
        "clients" => {
            let page = store.clients(page).await.unwrap();
            let ids = page.rows.iter().map(|client| client.id.as_str().into());
            (ids.collect(), page.next, page.unreadable)
        }
        _ => {
            let page = store.accounts(page).await.unwrap();
            let ids = page.rows.iter().map(|account| account.subject.clone());
            (ids.collect(), page.next, page.unreadable)
        }
    }
}
