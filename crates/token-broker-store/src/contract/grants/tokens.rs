//! Laws of `complete` and `release`.

use std::{sync::Arc, time::Duration};

use tokio::sync::Barrier;
use tower_token_broker::tasks::Tasks;

use super::{
    Law, access_token, acquire, acquire_later, backoff, existing, expect_same, expect_stored,
    grant, now, request, secret,
};
use crate::{
    Attempt, AttemptOutcome, Backoff, Grant, GrantState, GrantStore, Renewal, RepeatedRefusal,
    contract::ContractError,
};

/// New tokens are stored, the version rises by one, and marks and backoff are those of the renewal.
///
/// # Errors
/// [`ContractError`]
pub async fn complete_stores_the_new_tokens<S: GrantStore>(store: S) -> Law {
    let mut first = grant("g1");
    (first.open_attempts, first.backoff) = (1, backoff());
    let before = store.put(first).await?;
    let lease = acquire(&store, &request(&before)).await?;
    store.mark_attempt(&lease).await?;
    let renewal = renewal("second");
    let mut expected = before.clone();
    expected.version = before.version.saturating_add(1);
    (expected.open_attempts, expected.backoff) = (0, Backoff::default());
    expected.refresh_token.clone_from(&renewal.refresh_token);
    expected.access = Vec::new();
    expected = expected.access_token(access_token("access second", "crm:read", Duration::ZERO));
    let stored = completed(store.complete(&lease, &renewal).await?)?;
    expect_same(&stored, &expected)?;
    expect_stored(&store, &expected).await
}

/// After new tokens, the lease on the new version is free.
///
/// # Errors
/// [`ContractError`]
pub async fn complete_ends_the_lease<S: GrantStore>(store: S) -> Law {
    let grant = store.put(grant("g1")).await?;
    let lease = acquire(&store, &request(&grant)).await?;
    let stored = completed(store.complete(&lease, &renewal("second")).await?)?;
    let next = acquire(&store, &request(&stored)).await?;
    ensure!(next.fence > lease.fence, "fence {} after {}", next.fence, lease.fence);
    Ok(())
}

/// Without a rotated refresh token the current one stays; access tokens for other scopes stay
/// until they expire.
///
/// # Errors
/// [`ContractError`]
pub async fn complete_keeps_what_was_not_renewed<S: GrantStore>(store: S) -> Law {
    let other = access_token("other", "crm:write", Duration::from_secs(3_599));
    let expired = access_token("expired", "crm:admin", Duration::from_secs(3_600));
    let grant = store.put(grant("g1").access_token(other.clone()).access_token(expired)).await?;
    let lease = acquire(&store, &request(&grant)).await?;
    let mut renewal = renewal("second");
    renewal.refresh_token = None;
    renewal.backoff = backoff();
    let stored = completed(store.complete(&lease, &renewal).await?)?;
    let mut expected = grant.clone();
    expected.access = Vec::new();
    // Its version is that with which it came.
    expected = expected.access_token(other);
    (expected.version, expected.backoff) = (stored.version, backoff());
    expected = expected.access_token(access_token("access second", "crm:read", Duration::ZERO));
    expect_same(&stored, &expected)?;
    expect_stored(&store, &expected).await?;

    let lease = acquire(&store, &request(&stored)).await?;
    let stored = completed(store.complete(&lease, &Renewal::new(None, None)).await?)?;
    (expected.version, expected.backoff) = (stored.version, Backoff::default());
    expect_stored(&store, &expected).await
}

/// New tokens may come with a refusal: state and refusal are those of the renewal, and a grant that
/// needs the user, or has ended, keeps its tokens.
///
/// # Errors
/// [`ContractError`]
pub async fn complete_sets_state_and_refusal<S: GrantStore>(store: S) -> Law {
    let mut expected = store.put(grant("g1")).await?;
    let refused = Some(RepeatedRefusal::new(now()));
    for state in [GrantState::NeedsUser, GrantState::Active, GrantState::EndedByServer] {
        let lease = acquire(&store, &request(&expected)).await?;
        let mut renewal = Renewal::new(Some(secret(state.as_str())), None);
        (renewal.state, renewal.refused) = (state, refused);
        let stored = completed(store.complete(&lease, &renewal).await?)?;
        (expected.version, expected.state) = (stored.version, state);
        expected.refresh_token.clone_from(&renewal.refresh_token);
        (expected.refused, expected.backoff) = (refused, Backoff::default());
        expect_same(&stored, &expected)?;
        expect_stored(&store, &expected).await?;
    }
    Ok(())
}

/// Tokens that were issued are stored even after the lease has expired and another was taken.
///
/// # Errors
/// [`ContractError`]
pub async fn complete_counts_after_the_lease_expired<S: GrantStore>(store: S) -> Law {
    let grant = store.put(grant("g1")).await?;
    let expired = acquire(&store, &request(&grant)).await?;
    acquire_later(&store, &grant).await?;
    let stored = completed(store.complete(&expired, &renewal("second")).await?)?;
    ensure_eq!(stored.version, grant.version.saturating_add(1), "the version");
    expect_stored(&store, &stored).await
}

/// Tokens of an old version are not stored.
///
/// # Errors
/// [`ContractError`]
pub async fn the_version_guards_complete<S: GrantStore>(store: S) -> Law {
    let grant = store.put(grant("g1")).await?;
    let first = acquire(&store, &request(&grant)).await?;
    let second = acquire_later(&store, &grant).await?;
    let stored = completed(store.complete(&second, &renewal("second")).await?)?;
    for lease in [&first, &second] {
        let late = store.complete(lease, &renewal("third")).await?;
        ensure!(late.is_none(), "tokens of version {} are stored twice", lease.version);
        expect_stored(&store, &stored).await?;
    }
    let replaced = store.put(super::grant("g1")).await?;
    let mut stale = second;
    stale.version = stored.version;
    ensure!(store.complete(&stale, &renewal("third")).await?.is_none(), "a replaced grant");
    expect_stored(&store, &replaced).await
}

/// Of many completions of one version at once, exactly one is stored.
///
/// # Errors
/// [`ContractError`]
pub async fn concurrent_completes_store_one<S: GrantStore>(store: S) -> Law {
    const CALLERS: usize = 16;
    let store = Arc::new(store);
    let mut grant = store.put(grant("g1")).await?;
    for round in 0..8 {
        let lease = acquire(&*store, &request(&grant)).await?;
        let (tasks, barrier) = (Tasks::new(), Arc::new(Barrier::new(CALLERS)));
        let callers: Vec<_> = (0..CALLERS)
            .map(|number| {
                let (store, barrier) = (Arc::clone(&store), Arc::clone(&barrier));
                let (lease, renewal) = (lease.clone(), renewal(&format!("{round} {number}")));
                tasks.spawn("caller", async move {
                    barrier.wait().await;
                    store.complete(&lease, &renewal).await
                })
            })
            .collect();
        let mut stored = Vec::new();
        for caller in callers {
            stored.extend(caller.await.map_err(|_| ContractError::Panicked)??);
        }
        ensure_eq!(stored.len(), 1, "completions in round {round}");
        for one in stored {
            expect_stored(&*store, &one).await?;
            grant = one;
        }
    }
    Ok(())
}

/// Tokens that were issued revive a grant that `invalid_grant` ended at the same version.
// X11: one replica receives `invalid_grant` while another receives new tokens.
///
/// # Errors
/// [`ContractError`]
pub async fn complete_revives_a_grant_ended_by_server<S: GrantStore>(store: S) -> Law {
    let grant = store.put(grant("g1")).await?;
    let lease = acquire(&store, &request(&grant)).await?;
    ensure!(store.end(&grant.to_ref(), grant.version).await?, "the grant is at its version");
    let stored = completed(store.complete(&lease, &renewal("second")).await?)?;
    ensure_eq!(stored.state, GrantState::Active, "the state");
    expect_stored(&store, &stored).await
}

/// No tokens revive a grant that was revoked, whatever version their lease has.
///
/// # Errors
/// [`ContractError`]
pub async fn complete_never_revives_a_revoked_grant<S: GrantStore>(store: S) -> Law {
    let grant = store.put(grant("g1")).await?;
    let mut lease = acquire(&store, &request(&grant)).await?;
    store.revoke(&grant.to_ref()).await?;
    let revoked = existing(&store, &grant.to_ref()).await?;
    for version in [grant.version, revoked.version] {
        lease.version = version;
        let late = store.complete(&lease, &renewal("second")).await?;
        ensure!(late.is_none(), "a lease on version {version} revives a revoked grant");
        expect_stored(&store, &revoked).await?;
    }
    Ok(())
}

/// If no request was sent, one mark is removed and the lease is free.
///
/// # Errors
/// [`ContractError`]
pub async fn release_after_nothing_was_sent_removes_one_mark<S: GrantStore>(store: S) -> Law {
    expect_marks_after(&store, AttemptOutcome::NotSent, 1).await
}

/// After a response, no mark is left and the lease is free.
///
/// # Errors
/// [`ContractError`]
pub async fn release_after_a_response_removes_all_marks<S: GrantStore>(store: S) -> Law {
    expect_marks_after(&store, AttemptOutcome::Responded, 0).await
}

/// If the outcome is unknown, all marks stay and the lease is free.
///
/// # Errors
/// [`ContractError`]
pub async fn release_after_an_unknown_outcome_keeps_marks<S: GrantStore>(store: S) -> Law {
    expect_marks_after(&store, AttemptOutcome::Unknown, 2).await
}

/// The release of a lease that was overtaken changes no grant and ends no other lease.
///
/// # Errors
/// [`ContractError`]
pub async fn release_of_a_stale_lease_changes_nothing<S: GrantStore>(store: S) -> Law {
    let mut grant = store.put(grant("g1")).await?;
    let first = acquire(&store, &request(&grant)).await?;
    let second = acquire_later(&store, &grant).await?;
    store.mark_attempt(&second).await?;
    grant.open_attempts = 1;
    for outcome in [AttemptOutcome::NotSent, AttemptOutcome::Responded, AttemptOutcome::Unknown] {
        store.release(&first, &Attempt::new(outcome, backoff())).await?;
        expect_stored(&store, &grant).await?;
    }
    // The second lease is still the last one.
    store.mark_attempt(&second).await?;
    let stored = completed(store.complete(&second, &renewal("second")).await?)?;
    store.release(&second, &Attempt::new(AttemptOutcome::Unknown, backoff())).await?;
    expect_stored(&store, &stored).await
}

fn renewal(text: &str) -> Renewal {
    let access = access_token(&format!("access {text}"), "crm:read", Duration::ZERO);
    Renewal::new(Some(secret(&format!("refresh {text}"))), Some(access))
}

fn completed(stored: Option<Grant>) -> Result<Grant, ContractError> {
    stored.ok_or_else(|| ContractError::Broken { how: "the tokens were not stored".into() })
}

/// Fails if a release with this outcome does not leave so many of two marks.
async fn expect_marks_after<S: GrantStore>(store: &S, outcome: AttemptOutcome, marks: u32) -> Law {
    let mut first = grant("g1");
    first.open_attempts = 1;
    let mut grant = store.put(first).await?;
    let lease = acquire(store, &request(&grant)).await?;
    store.mark_attempt(&lease).await?;
    store.release(&lease, &Attempt::new(outcome, backoff())).await?;
    (grant.open_attempts, grant.backoff) = (marks, backoff());
    expect_stored(store, &grant).await?;
    let next = acquire(store, &request(&grant)).await?;
    ensure!(next.fence > lease.fence, "fence {} after {}", next.fence, lease.fence);
    Ok(())
}
