//! Laws of `finish_connect`.

use tower_token_broker::{
    clock::Timestamp,
    principal::{GrantId, User},
};

use super::{
    Law, acquire, after, begin, begin_and_claim, broken, connect, connect_for, existing,
    expect_same, expect_stored, grant, grant_for, is_open, key, now, request, user,
};
use crate::{
    Account, Grant, GrantRef, StoreError,
    authority::LookupKey,
    connect::{ConnectId, ConnectStore, RevocationId},
    contract::ContractError,
};

fn c1() -> ConnectId {
    ConnectId::new("c1")
}

/// Finishes a connect, which must be possible.
async fn finish<S: ConnectStore>(store: &S, grant: Grant) -> Result<Grant, ContractError> {
    store.finish_connect(&c1(), grant).await?.ok_or_else(|| broken("c1 is not finished"))
}

/// The grant is stored as it was given, and the connect is gone.
///
/// # Errors
/// [`ContractError`]
pub async fn finish_stores_the_grant_once<S: ConnectStore>(store: S) -> Law {
    begin_and_claim(&store, &connect("c1")).await?;
    begin_and_claim(&store, &connect("c2")).await?;
    let grant = grant("g1").client_id("registered").connected_at(now());
    let stored = finish(&store, grant.clone()).await?;
    expect_same(&stored, &grant)?;
    expect_stored(&store, &grant).await?;
    let again = store.finish_connect(&c1(), super::grant("g2")).await?;
    ensure!(again.is_none(), "a connect is finished twice");
    ensure!(!store.drop_connect(&c1()).await?, "a finished connect is still there");
    expect_stored(&store, &grant).await?;
    ensure!(store.drop_connect(&ConnectId::new("c2")).await?, "another connect is gone");
    Ok(())
}

/// A connect that is unknown or was not claimed stores no grant, and can be claimed after it.
///
/// # Errors
/// [`ContractError`]
pub async fn only_a_claimed_connect_is_finished<S: ConnectStore>(store: S) -> Law {
    let keys = LookupKey::generate();
    begin(&store, &keys, &connect("c1")).await?;
    for id in ["c1", "", "C1", "c11", "\0"] {
        let finished = store.finish_connect(&ConnectId::new(id), grant("g1")).await?;
        ensure!(finished.is_none(), "{id:?} is finished");
    }
    ensure!(store.load(&key("alice", "crm")).await?.is_none(), "a grant is stored");
    ensure!(is_open(&store, &keys, "c1").await?, "it can't be claimed any more");
    finish(&store, grant("g1")).await.map(drop)
}

/// A connect stores no grant of another user, server or account.
///
/// # Errors
/// [`ContractError`]
pub async fn finish_of_another_key_changes_nothing<S: ConnectStore>(store: S) -> Law {
    begin_and_claim(&store, &connect("c1")).await?;
    let mut work = key("alice", "crm");
    work.account = Account::parse("work").unwrap_or(work.account);
    let others = [work, key("alice", "mail"), key("Alice", "crm"), key("bob", "crm")];
    let mut elsewhere = key("alice", "crm");
    elsewhere.user = User::new("https://other.example", "alice");
    for other in others.into_iter().chain([elsewhere]) {
        let finished = store.finish_connect(&c1(), grant_for("g1", other.clone())).await?;
        ensure!(finished.is_none(), "it is finished for {other:?}");
        ensure!(store.load(&other).await?.is_none(), "a grant of {other:?} is stored");
    }
    finish(&store, grant("g1")).await.map(drop)
}

/// A finished connect replaces the grant with the same key: the version rises, its leases are
/// overtaken, and its ID is unknown.
///
/// # Errors
/// [`ContractError`]
pub async fn finish_replaces_as_put_does<S: ConnectStore>(store: S) -> Law {
    let mut old = grant("g1");
    old.version = 5;
    let old = store.put(old).await?;
    let lease = acquire(&store, &request(&old)).await?;
    begin_and_claim(&store, &connect("c1")).await?;
    let stored = finish(&store, grant("g2")).await?;
    ensure!(stored.version > old.version, "{} after {}", stored.version, old.version);
    let mut expected = grant("g2");
    expected.version = stored.version;
    for token in &mut expected.access {
        token.version = stored.version;
    }
    expect_stored(&store, &expected).await?;
    let marked = store.mark_attempt(&lease).await;
    ensure!(matches!(marked, Err(StoreError::Overtaken { .. })), "the old lease: {marked:?}");
    ensure!(!store.revoke(&old.to_ref()).await?, "the old ID is found");
    expect_stored(&store, &expected).await
}

/// An ID of another grant is refused, and the connect can be finished with another one.
///
/// # Errors
/// [`ContractError`]
pub async fn finish_with_a_taken_id_changes_nothing<S: ConnectStore>(store: S) -> Law {
    let of_bob = store.put(grant_for("g1", key("bob", "crm"))).await?;
    begin_and_claim(&store, &connect("c1")).await?;
    let outcome = store.finish_connect(&c1(), grant("g1")).await;
    let expected = StoreError::IdTaken { id: GrantId::new("g1") };
    ensure_eq!(outcome.err(), Some(expected), "an ID of another grant");
    expect_stored(&store, &of_bob).await?;
    ensure!(store.load(&key("alice", "crm")).await?.is_none(), "a grant is stored");
    finish(&store, grant("g2")).await.map(drop)
}

/// A claimed connect that was ended meanwhile stores no grant, whatever ended it.
///
/// # Errors
/// [`ContractError`]
pub async fn an_ended_connect_is_not_finished<S: ConnectStore>(store: S) -> Law {
    for end in 0..5 {
        let old = store.put(grant("g1")).await?;
        begin_and_claim(&store, &connect("c1")).await?;
        end_by(&store, end, &old.to_ref()).await?;
        let before = existing(&store, &old.to_ref()).await?;
        let finished = store.finish_connect(&c1(), grant("g2")).await?;
        ensure!(finished.is_none(), "end {end} is undone");
        expect_stored(&store, &before).await?;
    }
    // Also where there is no grant yet.
    begin_and_claim(&store, &connect_for("c1", key("bob", "crm"))).await?;
    ensure_eq!(store.end_connects(Some(&user("bob")), None).await?, 1, "connects of bob");
    let finished = store.finish_connect(&c1(), grant_for("g3", key("bob", "crm"))).await?;
    ensure!(finished.is_none(), "a first connection is made after its end");
    ensure!(store.load(&key("bob", "crm")).await?.is_none(), "a grant is stored");
    Ok(())
}

async fn end_by<S: ConnectStore>(store: &S, end: u32, grant: &GrantRef) -> Law {
    let later: Timestamp = after(601);
    let ended = match end {
        0 => store.end_connects(Some(&user("alice")), None).await? == 1,
        1 => store.end_connects(Some(&user("alice")), Some("crm")).await? == 1,
        2 => store.drop_connect(&c1()).await?,
        3 => store.remove_connects(later, 10).await? == 1,
        _ => store.disconnect(grant, &RevocationId::new("r1"), now()).await?,
    };
    ensure!(ended, "end {end} finds no connect");
    Ok(())
}
