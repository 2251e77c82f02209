//! Laws of `lease` and `mark_attempt`.

use std::{sync::Arc, time::Duration};

use tokio::sync::Barrier;
use tower_token_broker::tasks::Tasks;

use super::{
    Law, TERM, acquire, acquire_later, existing, expect_same, expect_stored, grant, now, of_alice,
    request, secret,
};
use crate::{
    Attempt, AttemptOutcome, Backoff, GrantFilter, GrantStore, Lease, LeaseOutcome, LeaseRequest,
    Renewal, StoreError, contract::ContractError,
};

/// While a lease is valid, other callers learn until when it is held.
///
/// # Errors
/// [`ContractError`]
pub async fn a_lease_is_given_once<S: GrantStore>(store: S) -> Law {
    let grant = store.put(grant("g1")).await?;
    let lease = acquire(&store, &request(&grant)).await?;
    ensure_eq!((&lease.grant, lease.version), (&grant.to_ref(), grant.version), "the lease");
    for _ in 0..2 {
        let held = store.lease(&request(&grant)).await?;
        ensure_eq!(held, LeaseOutcome::Held(now().plus(TERM)), "a second lease");
    }
    Ok(())
}

/// A lease is held until its end, to the millisecond, and the next one has a higher fence.
///
/// # Errors
/// [`ContractError`]
pub async fn a_lease_is_held_until_its_end<S: GrantStore>(store: S) -> Law {
    let grant = store.put(grant("g1")).await?;
    let first = acquire(&store, &request(&grant)).await?;
    let end = now().plus(TERM);
    let before = end.minus(Duration::from_millis(1));
    let held = store.lease(&LeaseRequest::new(&grant, before, before.plus(TERM))).await?;
    ensure_eq!(held, LeaseOutcome::Held(end), "a lease 1 ms before the end of another");
    let second = acquire(&store, &LeaseRequest::new(&grant, end, end.plus(TERM))).await?;
    ensure!(second.fence > first.fence, "fence {} after {}", second.fence, first.fence);
    Ok(())
}

/// There is no lease on a version that is not the current one, or on an unknown grant.
///
/// # Errors
/// [`ContractError`]
pub async fn a_stale_version_has_no_lease<S: GrantStore>(store: S) -> Law {
    let mut first = grant("g1");
    first.version = 5;
    let grant = store.put(first).await?;
    for version in [0, grant.version.saturating_sub(1), grant.version.saturating_add(1)] {
        let mut request = request(&grant);
        request.version = version;
        ensure_eq!(store.lease(&request).await?, LeaseOutcome::Stale, "version {version}");
    }
    let mut unknown = request(&grant);
    unknown.grant = of_alice("unknown");
    ensure_eq!(store.lease(&unknown).await?, LeaseOutcome::Stale, "an unknown grant");
    acquire(&store, &request(&grant)).await.map(drop)
}

/// There is no lease on a grant that the server has ended or that was revoked.
///
/// # Errors
/// [`ContractError`]
pub async fn a_grant_that_ended_has_no_lease<S: GrantStore>(store: S) -> Law {
    let grant = store.put(grant("g1")).await?;
    store.end(&grant.to_ref(), grant.version).await?;
    ensure_eq!(store.lease(&request(&grant)).await?, LeaseOutcome::Stale, "ended by the server");
    store.revoke(&grant.to_ref()).await?;
    let revoked = existing(&store, &grant.to_ref()).await?;
    ensure_eq!(store.lease(&request(&revoked)).await?, LeaseOutcome::Stale, "revoked");
    Ok(())
}

/// Of many callers at once, exactly one acquires the lease.
///
/// # Errors
/// [`ContractError`]
pub async fn concurrent_leases_yield_one<S: GrantStore>(store: S) -> Law {
    const CALLERS: usize = 32;
    let store = Arc::new(store);
    let mut grant = store.put(grant("g1")).await?;
    for round in 0..8 {
        let (tasks, barrier) = (Tasks::new(), Arc::new(Barrier::new(CALLERS)));
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (store, barrier) = (Arc::clone(&store), Arc::clone(&barrier));
                let request = request(&grant);
                tasks.spawn("caller", async move {
                    barrier.wait().await;
                    store.lease(&request).await
                })
            })
            .collect();
        let mut acquired = Vec::new();
        for caller in callers {
            match caller.await.map_err(|_| ContractError::Panicked)?? {
                LeaseOutcome::Acquired(lease) => acquired.push(lease),
                LeaseOutcome::Held(until) => {
                    ensure_eq!(until, now().plus(TERM), "the end of the lease");
                }
                LeaseOutcome::Stale => ensure!(false, "the current version is stale"),
            }
        }
        ensure_eq!(acquired.len(), 1, "leases in round {round}");
        for lease in acquired {
            if let Some(renewed) = store.complete(&lease, &Renewal::new(None, None)).await? {
                grant = renewed;
            }
        }
    }
    Ok(())
}

/// Each mark raises the number of open attempts by one, and changes no other field.
///
/// # Errors
/// [`ContractError`]
pub async fn marks_count_open_attempts<S: GrantStore>(store: S) -> Law {
    let mut grant = store.put(grant("g1")).await?;
    store.mark_attempt(&acquire(&store, &request(&grant)).await?).await?;
    grant.open_attempts = 1;
    expect_stored(&store, &grant).await?;
    store.mark_attempt(&acquire_later(&store, &grant).await?).await?;
    grant.open_attempts = 2;
    expect_stored(&store, &grant).await
}

/// A lease that was overtaken may not begin to send.
///
/// # Errors
/// [`ContractError`]
pub async fn the_fence_guards_mark_attempt<S: GrantStore>(store: S) -> Law {
    let grant = store.put(grant("g1")).await?;
    let first = acquire(&store, &request(&grant)).await?;
    let second = acquire_later(&store, &grant).await?;
    expect_overtaken(&store, &first).await?;
    expect_stored(&store, &grant).await?;
    let ahead = Lease::new(grant.to_ref(), grant.version, second.fence.saturating_add(1));
    expect_overtaken(&store, &ahead).await?;
    store.mark_attempt(&second).await?;
    Ok(())
}

/// A lease on an old version may not begin to send, and neither may one on an unknown grant.
///
/// # Errors
/// [`ContractError`]
pub async fn the_version_guards_mark_attempt<S: GrantStore>(store: S) -> Law {
    let grant = store.put(grant("g1")).await?;
    let lease = acquire(&store, &request(&grant)).await?;
    store.complete(&lease, &Renewal::new(None, None)).await?;
    expect_overtaken(&store, &lease).await?;
    let unknown = Lease::new(of_alice("unknown"), lease.version, lease.fence);
    expect_overtaken(&store, &unknown).await
}

async fn expect_overtaken<S: GrantStore>(store: &S, lease: &Lease) -> Law {
    let marked = store.mark_attempt(lease).await;
    ensure_eq!(marked, Err(StoreError::overtaken(lease)), "mark_attempt with {lease:?}");
    Ok(())
}

/// The client and the time of connection stay with a grant, whatever changes its tokens.
///
/// # Errors
/// [`ContractError`]
pub async fn a_grant_keeps_its_client_and_time<S: GrantStore>(store: S) -> Law {
    let with =
        grant("g1").client_id("https://broker.example.com/client#\u{e4}").connected_at(now());
    let with = with.upstream("https://mcp.example:8443");
    let replaced = grant("g2").connected_at(now().plus(TERM));
    for put in [with, grant("g3").client_id(""), replaced, grant("g4")] {
        let mut expected = store.put(put.clone()).await?;
        ensure_eq!(expected.client_id, put.client_id, "the client of {:?}", put.id);
        ensure_eq!(expected.connected_at, put.connected_at, "the time of {:?}", put.id);
        ensure_eq!(expected.upstream, put.upstream, "the server of {:?}", put.id);
        ensure_eq!(expected.resource, put.resource, "the resource of {:?}", put.id);
        expect_stored(&store, &expected).await?;
        let listed = store.list(&GrantFilter::all()).await?.grants;
        ensure_eq!(listed, vec![expected.to_summary()], "the list");
        let lease = acquire(&store, &request(&expected)).await?;
        let attempt = Attempt::new(AttemptOutcome::NotSent, Backoff::default());
        store.release(&lease, &attempt).await?;
        expect_stored(&store, &expected).await?;
        let lease = acquire(&store, &request(&expected)).await?;
        let renewal = Renewal::new(Some(secret("rotated")), None);
        let Some(completed) = store.complete(&lease, &renewal).await? else {
            return Err(ContractError::Broken { how: "the lease is not the last one".into() });
        };
        renewal.apply(&mut expected);
        expect_same(&completed, &expected)?;
        expect_stored(&store, &expected).await?;
    }
    Ok(())
}
