//! Laws of `end`, `revoke` and `delete`.

use super::{
    Law, acquire, backoff, existing, expect_same, expect_stored, grant, grant_for, key, now,
    of_alice, request,
};
use crate::{
    Attempt, AttemptOutcome, Backoff, GrantState, GrantStore, LeaseOutcome, Renewal,
    RepeatedRefusal,
};

/// `invalid_grant` ends a grant only at its current version, once, and keeps the version.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn end_counts_only_at_the_current_version<S: GrantStore>(store: S) -> Law {
    let mut first = grant("g1");
    first.version = 5;
    let mut grant = store.put(first).await?;
    for version in [0, 4, 6] {
        ensure!(!store.end(&grant.to_ref(), version).await?, "version {version} ends version 5");
    }
    ensure!(!store.end(&of_alice("unknown"), 5).await?, "an unknown grant ends");
    expect_stored(&store, &grant).await?;
    ensure!(store.end(&grant.to_ref(), 5).await?, "the current version does not end");
    grant.state = GrantState::EndedByServer;
    expect_stored(&store, &grant).await?;
    ensure!(!store.end(&grant.to_ref(), 5).await?, "a grant ends twice");
    expect_stored(&store, &grant).await
}

/// A grant that needs the user keeps its tokens and version. It can be leased, new tokens make it
/// active, and `invalid_grant` ends it.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn a_grant_that_needs_the_user_is_kept<S: GrantStore>(store: S) -> Law {
    let mut grant = store.put(grant("g1")).await?;
    for _ in 0..2 {
        let lease = acquire(&store, &request(&grant)).await?;
        store.mark_attempt(&lease).await?;
        let refused = Some(RepeatedRefusal::new(now()));
        let attempt = Attempt::new(AttemptOutcome::Responded, backoff());
        store.release(&lease, &attempt.refused(refused).needs_user()).await?;
        (grant.state, grant.backoff, grant.refused) = (GrantState::NeedsUser, backoff(), refused);
        expect_stored(&store, &grant).await?;
    }
    // A failure that does not concern the user leaves the state as it is.
    let lease = acquire(&store, &request(&grant)).await?;
    store.release(&lease, &Attempt::new(AttemptOutcome::NotSent, backoff())).await?;
    grant.refused = None;
    expect_stored(&store, &grant).await?;
    let lease = acquire(&store, &request(&grant)).await?;
    let stored = store.complete(&lease, &Renewal::new(None, None)).await?;
    ensure!(stored.is_some_and(|stored| stored.state == GrantState::Active), "it is not active");
    let mut needs_user = existing(&store, &grant.to_ref()).await?;
    needs_user.state = GrantState::NeedsUser;
    let needs_user = store.put(needs_user).await?;
    ensure!(store.end(&needs_user.to_ref(), needs_user.version).await?, "it does not end");
    Ok(())
}

/// A grant that has ended meanwhile does not need the user instead.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn needing_the_user_revives_no_ended_grant<S: GrantStore>(store: S) -> Law {
    let grant = store.put(grant("g1")).await?;
    let lease = acquire(&store, &request(&grant)).await?;
    ensure!(store.end(&grant.to_ref(), grant.version).await?, "the grant does not end");
    let attempt = Attempt::new(AttemptOutcome::Responded, backoff()).needs_user();
    store.release(&lease, &attempt).await?;
    let ended = existing(&store, &grant.to_ref()).await?;
    ensure_eq!(ended.state, GrantState::EndedByServer, "the state");
    Ok(())
}

/// A grant that was revoked stays revoked, whatever the authorization server responds later.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn end_keeps_a_revoked_grant_revoked<S: GrantStore>(store: S) -> Law {
    let grant = store.put(grant("g1")).await?;
    store.revoke(&grant.to_ref()).await?;
    let revoked = existing(&store, &grant.to_ref()).await?;
    for version in [grant.version, revoked.version] {
        ensure!(!store.end(&grant.to_ref(), version).await?, "a revoked grant ends at {version}");
    }
    ensure_eq!(revoked.state, GrantState::Revoked, "the state");
    expect_stored(&store, &revoked).await
}

/// A revoked grant has no token, a higher version and no lease.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn revoke_erases_tokens_and_raises_the_version<S: GrantStore>(store: S) -> Law {
    let grant = store.put(grant("g1")).await?;
    let lease = acquire(&store, &request(&grant)).await?;
    ensure!(store.revoke(&grant.to_ref()).await?, "the grant is not found");
    let revoked = existing(&store, &grant.to_ref()).await?;
    ensure!(revoked.version > grant.version, "{} after {}", revoked.version, grant.version);
    let mut expected = grant;
    (expected.version, expected.state) = (revoked.version, GrantState::Revoked);
    (expected.refresh_token, expected.access) = (None, Vec::new());
    expect_same(&revoked, &expected)?;
    ensure!(store.mark_attempt(&lease).await.is_err(), "the lease is still valid");
    let untouched = Attempt::new(AttemptOutcome::Unknown, Backoff::default());
    store.release(&lease, &untouched).await?;
    expect_stored(&store, &expected).await
}

/// A second revocation returns true and changes no field.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn revoke_again_changes_nothing<S: GrantStore>(store: S) -> Law {
    let grant = store.put(grant("g1")).await?;
    store.revoke(&grant.to_ref()).await?;
    let revoked = existing(&store, &grant.to_ref()).await?;
    ensure_eq!(revoked.state, GrantState::Revoked, "the state");
    ensure!(store.revoke(&grant.to_ref()).await?, "a retry does not find the grant");
    expect_stored(&store, &revoked).await
}

/// Both return false for an unknown ID of a known key, and affect no other grant.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn revoke_and_delete_return_whether_the_id_exists<S: GrantStore>(store: S) -> Law {
    let grant = store.put(grant("g1")).await?;
    for id in ["", "g", "g11", "G1", "%"] {
        let id = of_alice(id);
        ensure!(!store.revoke(&id).await?, "{id:?} is revoked");
        ensure!(!store.delete(&id).await?, "{id:?} is deleted");
    }
    expect_stored(&store, &grant).await?;
    ensure!(store.delete(&grant.to_ref()).await?, "the grant is not deleted");
    ensure!(!store.delete(&grant.to_ref()).await?, "the grant is deleted twice");
    ensure!(!store.revoke(&grant.to_ref()).await?, "a deleted grant is revoked");
    Ok(())
}

/// A deleted grant is found neither by ID nor by key, and other grants stay.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn delete_removes_one_grant<S: GrantStore>(store: S) -> Law {
    let alice = store.put(grant("g1")).await?;
    let bob = store.put(grant_for("g2", key("bob", "crm"))).await?;
    store.delete(&alice.to_ref()).await?;
    ensure!(store.load(&alice.key).await?.is_none(), "a deleted grant is found by its key");
    ensure!(!store.revoke(&alice.to_ref()).await?, "a deleted grant is found by its ID");
    expect_stored(&store, &bob).await?;
    let again = store.put(grant("g3")).await?;
    expect_stored(&store, &again).await
}

/// A refresh that is under way when its grant is deleted stores no token.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn a_deleted_grant_can_not_be_completed<S: GrantStore>(store: S) -> Law {
    let grant = store.put(grant("g1")).await?;
    let lease = acquire(&store, &request(&grant)).await?;
    store.delete(&grant.to_ref()).await?;
    ensure!(store.mark_attempt(&lease).await.is_err(), "the lease is still valid");
    let stored = store.complete(&lease, &Renewal::new(None, None)).await?;
    ensure!(stored.is_none(), "tokens of a deleted grant are stored");
    store.release(&lease, &Attempt::new(AttemptOutcome::Unknown, Backoff::default())).await?;
    ensure!(!store.end(&grant.to_ref(), grant.version).await?, "a deleted grant ends");
    ensure_eq!(store.lease(&request(&grant)).await?, LeaseOutcome::Stale, "the lease");
    ensure!(store.load(&grant.key).await?.is_none(), "the grant is back");
    Ok(())
}
