//! Laws of `disconnect`.

use tower_token_broker::principal::{GrantId, User};

use super::{
    Law, MILLISECOND, acquire, after, begin, begin_and_claim, claim_all, claim_due, connect,
    connect_for, existing, expect_exists, expect_invalid, expect_no_revocation, expect_same,
    expect_same_revocation, expect_stored, grant, grant_for, has_tokens, is_open, key, now,
    request, revocation, secret, user,
};
use crate::{
    AccessToken, Account, GrantRef, GrantState,
    authority::{ClientId, LookupKey},
    connect::{
        ConnectId, ConnectStore, ConnectionUse, PendingRevocation, RevocationId, RevokedToken,
        RevokedTokenKind,
    },
};

fn r(number: u32) -> RevocationId {
    RevocationId::new(&format!("r{number}"))
}

/// The grant is revoked as by `revoke`, and its tokens are a revocation that is due at once.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn disconnect_keeps_the_tokens_to_be_revoked<S: ConnectStore>(store: S) -> Law {
    let scopes = super::super::grants::scopes("crm:write");
    let second = AccessToken::new(secret("second access"), scopes, now(), after(3_600));
    let grant = grant("g1").client_id("registered").connected_at(now()).access_token(second);
    let grant = store.put(grant).await?;
    let lease = acquire(&store, &request(&grant)).await?;
    ensure!(store.disconnect(&grant.to_ref(), &r(1), after(7)).await?, "no grant is found");
    let revoked = existing(&store, &grant.to_ref()).await?;
    ensure!(revoked.version > grant.version, "{} after {}", revoked.version, grant.version);
    let mut expected = grant.clone();
    (expected.version, expected.state) = (revoked.version, GrantState::Revoked);
    (expected.refresh_token, expected.access) = (None, Vec::new());
    expect_same(&revoked, &expected)?;
    ensure!(store.mark_attempt(&lease).await.is_err(), "the lease is still valid");
    let early = store.claim_revocation(after(7).minus(MILLISECOND), after(60)).await?;
    ensure!(early.is_none(), "it is due before the grant was disconnected");

    let claimed = claim_due(&store, after(7), after(60)).await?;
    let tokens =
        [("refresh g1", RevokedTokenKind::Refresh), ("access g1", RevokedTokenKind::Access)];
    let tokens = tokens.into_iter().chain([("second access", RevokedTokenKind::Access)]);
    let tokens = tokens.map(|(text, kind)| RevokedToken::new(kind, secret(text))).collect();
    let of = (grant.key, grant.id);
    let mut due = PendingRevocation::new(r(1), of, &grant.authorization_server, tokens, after(7))
        .client_id(Some("registered"));
    (due.attempts, due.retry_at) = (1, after(60));
    expect_same_revocation(&claimed, &due)
}

/// A grant that is revoked does not change, and a second disconnect keeps no second revocation.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn disconnect_again_changes_nothing<S: ConnectStore>(store: S) -> Law {
    let grant = store.put(grant("g1")).await?;
    ensure!(store.disconnect(&grant.to_ref(), &r(1), now()).await?, "no grant is found");
    let revoked = existing(&store, &grant.to_ref()).await?;
    for number in [1, 2] {
        let found = store.disconnect(&grant.to_ref(), &r(number), now()).await?;
        ensure!(found, "a retry does not find the grant");
        expect_stored(&store, &revoked).await?;
    }
    let ids: Vec<_> = claim_all(&store).await?.into_iter().map(|due| due.id).collect();
    ensure_eq!(ids, vec![r(1)], "the revocations");
    Ok(())
}

/// A grant without tokens, and one that was revoked before, leave no revocation.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn disconnect_without_tokens_leaves_no_revocation<S: ConnectStore>(store: S) -> Law {
    let mut without = grant("g1");
    (without.refresh_token, without.access) = (None, Vec::new());
    let without = store.put(without).await?;
    let before = store.put(grant_for("g2", key("bob", "crm"))).await?;
    ensure!(store.revoke(&before.to_ref()).await?, "the grant of bob");
    for (number, grant) in (1..).zip([&without, &before]) {
        let found = store.disconnect(&grant.to_ref(), &r(number), now()).await?;
        ensure!(found, "{:?} is not found", grant.id);
        let state = existing(&store, &grant.to_ref()).await?.state;
        ensure_eq!(state, GrantState::Revoked, "the state");
    }
    expect_no_revocation(&store).await?;
    // Ended by its server, it may still have tokens that are valid there.
    let ended = store.put(grant_for("g3", key("carol", "crm"))).await?;
    ensure!(store.end(&ended.to_ref(), ended.version).await?, "the grant of carol");
    ensure!(store.disconnect(&ended.to_ref(), &r(3), now()).await?, "it is not found");
    ensure_eq!(claim_all(&store).await?.len(), 1, "revocations of an ended grant");
    Ok(())
}

/// An ID counts only with its key, octet by octet; otherwise nothing changes.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn disconnect_finds_a_grant_by_key_and_id<S: ConnectStore>(store: S) -> Law {
    let keys = LookupKey::generate();
    let grant = store.put(grant("g1")).await?;
    begin(&store, &keys, &connect("c1")).await?;
    let mut work = key("alice", "crm");
    work.account = Account::parse("work").unwrap_or(work.account);
    let mut elsewhere = key("alice", "crm");
    elsewhere.user = User::new("https://other.example", "alice");
    let of = |key, id: &str| GrantRef::new(key, GrantId::new(id));
    for other in [
        of(key("bob", "crm"), "g1"),
        of(key("Alice", "crm"), "g1"),
        of(key("alice", "CRM"), "g1"),
        of(key("alice", "mail"), "g1"),
        of(work, "g1"),
        of(elsewhere, "g1"),
        of(key("alice", "crm"), "g2"),
        of(key("alice", "crm"), "G1"),
        of(key("alice", "crm"), ""),
        of(key("alice", "\0"), "g1"),
    ] {
        let found = store.disconnect(&other, &r(1), now()).await?;
        ensure!(!found, "{other:?} is disconnected");
    }
    expect_stored(&store, &grant).await?;
    expect_no_revocation(&store).await?;
    ensure!(is_open(&store, &keys, "c1").await?, "a connect has ended");
    Ok(())
}

/// Connects with the key of the grant end, claimed or not, also if it was revoked before, and the
/// last use is forgotten. Connects with other keys stay.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn disconnect_ends_the_connects_of_its_key<S: ConnectStore>(store: S) -> Law {
    let keys = LookupKey::generate();
    let grant = store.put(grant("g1")).await?;
    let mut work = key("alice", "crm");
    work.account = Account::parse("work").unwrap_or(work.account);
    let others = [("c2", work), ("c3", key("alice", "mail")), ("c4", key("bob", "crm"))];
    for (id, key) in others.clone() {
        begin(&store, &keys, &connect_for(id, key)).await?;
    }
    let used = |key| ConnectionUse::new(key, ClientId::new("inspector"), now());
    let of_mail = used(key("alice", "mail"));
    store.mark_connection_used(&of_mail).await?;
    for number in [1, 2] {
        store.mark_connection_used(&used(grant.key.clone())).await?;
        begin(&store, &keys, &connect("c1")).await?;
        begin_and_claim(&store, &connect("c5")).await?;
        ensure!(store.disconnect(&grant.to_ref(), &r(number), now()).await?, "not found");
        for id in ["c1", "c5"] {
            let dropped = store.drop_connect(&ConnectId::new(id)).await?;
            ensure!(!dropped, "{id} is still there after disconnect {number}");
        }
        let uses = store.connection_uses(&user("alice")).await?;
        ensure_eq!(uses, vec![of_mail.clone()], "the uses");
    }
    for (id, key) in others {
        ensure!(is_open(&store, &keys, id).await?, "the connect of {key:?} has ended");
    }
    Ok(())
}

/// An ID of a revocation that is taken or can't be stored changes nothing.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn disconnect_with_a_taken_id_changes_nothing<S: ConnectStore>(store: S) -> Law {
    let keys = LookupKey::generate();
    let grant = store.put(grant("g1")).await?;
    begin(&store, &keys, &connect("c1")).await?;
    store.put_revocation(&revocation("r1")).await?;
    let outcome = store.disconnect(&grant.to_ref(), &r(1), now()).await;
    expect_exists(&outcome, "an ID that is taken")?;
    for text in super::REFUSED {
        let outcome = store.disconnect(&grant.to_ref(), &RevocationId::new(text), now()).await;
        expect_invalid(&outcome, "an ID that can't be stored")?;
    }
    expect_stored(&store, &grant).await?;
    ensure!(has_tokens(&existing(&store, &grant.to_ref()).await?), "tokens are gone");
    ensure!(is_open(&store, &keys, "c1").await?, "a connect has ended");
    ensure_eq!(claim_all(&store).await?.len(), 1, "revocations");
    ensure!(store.disconnect(&grant.to_ref(), &r(2), now()).await?, "another ID");
    Ok(())
}
