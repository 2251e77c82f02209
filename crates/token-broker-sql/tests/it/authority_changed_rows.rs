//! Clients, codes and sessions that an attacker with access to the database has changed.

use token_broker_store::{
    StoreError,
    authority::{
        ClientId, ClientStore, CodeStore, FamilyId, FamilyStore, Redemption, SessionStore,
    },
};

use crate::{
    authority_at_rest::Attacked,
    authority_support::{redeem, value},
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
        assert!(attacked.store.end_session(&alice).await.unwrap(), "O272 {change}");
    }
}
