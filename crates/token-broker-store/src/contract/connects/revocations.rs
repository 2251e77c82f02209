//! Laws of pending revocations.

use std::sync::Arc;

use tower_token_broker::{
    Secret,
    principal::{GrantId, User},
};

use super::{
    HOSTILE, Law, MILLISECOND, REFUSED, after, at_once, claim_all, claim_due, expect_exists,
    expect_invalid, expect_no_revocation, expect_same_revocation, now, revocation, secret,
};
use crate::connect::{
    ConnectStore, PendingRevocation, RevocationId, RevokedToken, RevokedTokenKind,
};

/// A revocation is claimed as it was stored, with every field, and its ID is taken.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn a_revocation_keeps_every_field<S: ConnectStore>(store: S) -> Law {
    for text in HOSTILE {
        let mut stored = revocation(&format!("r{text}")).client_id(Some(text));
        stored.key.user = User::new(text, text);
        stored.key.server = text.into();
        stored.grant = GrantId::new(text);
        stored.authorization_server = text.into();
        (stored.attempts, stored.retry_at) = (7, after(9));
        let octets = Secret::new(vec![0xff, 0, 0x80]);
        stored.tokens.push(RevokedToken::new(RevokedTokenKind::Access, octets));
        store.put_revocation(&stored).await?;
        expect_exists(&store.put_revocation(&stored).await, "the ID again")?;
        (stored.attempts, stored.retry_at) = (8, after(60));
        expect_same_revocation(&claim_due(&store, after(9), after(60)).await?, &stored)?;
        ensure!(store.finish_revocation(&stored.id).await?, "{:?} is not found", stored.id);
    }
    let mut without = revocation("r1");
    without.tokens.clear();
    store.put_revocation(&without).await?;
    (without.attempts, without.retry_at) = (1, after(60));
    expect_same_revocation(&claim_due(&store, now(), after(60)).await?, &without)
}

/// NUL, long texts, long tokens and too many of them are refused, and find nothing.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn hostile_revocations_are_refused<S: ConnectStore>(store: S) -> Law {
    let changes: [fn(&mut PendingRevocation, &str); 7] = [
        |revocation, text| revocation.id = RevocationId::new(text),
        |revocation, text| revocation.key.user = User::new(text, "alice"),
        |revocation, text| revocation.key.user = User::new("https://i.example", text),
        |revocation, text| revocation.key.server = text.into(),
        |revocation, text| revocation.grant = GrantId::new(text),
        |revocation, text| revocation.authorization_server = text.into(),
        |revocation, text| revocation.client_id = Some(text.into()),
    ];
    for text in REFUSED {
        for (field, change) in changes.iter().enumerate() {
            let mut refused = revocation("r1");
            change(&mut refused, text);
            let outcome = store.put_revocation(&refused).await;
            expect_invalid(&outcome, &format!("field {field} with {text:.5?}"))?;
        }
        let id = RevocationId::new(text);
        ensure!(!store.postpone_revocation(&id, now()).await?, "an ID of {text:.5?}");
        ensure!(!store.finish_revocation(&id).await?, "an ID of {text:.5?}");
    }
    let token = |length| RevokedToken::new(RevokedTokenKind::Access, Secret::new(vec![7; length]));
    for tokens in [vec![token(64 * 1_024 + 1)], vec![token(1); 258]] {
        let mut refused = revocation("r1");
        refused.tokens = tokens;
        expect_invalid(&store.put_revocation(&refused).await, "tokens beyond the limits")?;
    }
    expect_no_revocation(&store).await?;
    let mut longest = revocation("r1");
    longest.tokens = vec![token(64 * 1_024), token(1)];
    store.put_revocation(&longest).await?;
    let claimed = claim_due(&store, now(), after(60)).await?;
    ensure_eq!(claimed.tokens.len(), 2, "tokens at the limit");
    Ok(())
}

/// A revocation is due from its instant on. A claim moves the instant and counts an attempt.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn a_revocation_is_claimed_when_it_is_due<S: ConnectStore>(store: S) -> Law {
    let mut later = revocation("r1");
    later.retry_at = after(10);
    store.put_revocation(&later).await?;
    let early = store.claim_revocation(after(10).minus(MILLISECOND), after(60)).await?;
    ensure!(early.is_none(), "it is due too early");
    let first = claim_due(&store, after(10), after(60)).await?;
    ensure_eq!((first.attempts, first.retry_at), (1, after(60)), "the first attempt");
    let early = store.claim_revocation(after(60).minus(MILLISECOND), after(90)).await?;
    ensure!(early.is_none(), "it is claimed twice");
    let second = claim_due(&store, after(60), after(90)).await?;
    ensure_eq!((second.attempts, second.created_at), (2, now()), "the second attempt");

    for id in ["", "r", "R1", "%"] {
        let postponed = store.postpone_revocation(&RevocationId::new(id), now()).await?;
        ensure!(!postponed, "{id:?} is postponed");
    }
    let id = RevocationId::new("r1");
    ensure!(store.postpone_revocation(&id, after(80)).await?, "it is not postponed");
    // Of several, the one that has been due for the longest time.
    for (id, due) in [("r0", 81), ("r2", 79)] {
        let mut other = revocation(id);
        other.retry_at = after(due);
        store.put_revocation(&other).await?;
    }
    let mut order = Vec::new();
    while let Some(claimed) = store.claim_revocation(after(85), after(100)).await? {
        order.push((claimed.id.to_string(), claimed.attempts));
    }
    let expected = [("r2", 1), ("r1", 3), ("r0", 1)].map(|(id, count)| (id.to_owned(), count));
    ensure_eq!(order, expected, "the order");
    Ok(())
}

/// Of several processes at once, one claims a revocation.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn concurrent_claims_of_a_revocation_yield_one<S: ConnectStore>(store: S) -> Law {
    let store = Arc::new(store);
    for round in 1..=8 {
        if round == 1 {
            store.put_revocation(&revocation("r1")).await?;
            store.put_revocation(&revocation("r2")).await?;
        }
        let (due, until) = (after(60 * (round - 1)), after(60 * round));
        let claims =
            at_once(&store, 12, |store, _| async move { store.claim_revocation(due, until).await })
                .await?;
        let claimed = claims.into_iter().flatten();
        let mut ids: Vec<_> =
            claimed.map(|claimed| (claimed.id.to_string(), u64::from(claimed.attempts))).collect();
        ids.sort();
        let expected = ["r1", "r2"].map(|id| (id.to_owned(), round));
        ensure_eq!(ids, expected, "claims in round {round}");
    }
    Ok(())
}

/// A finished revocation is gone, and others stay.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn a_finished_revocation_is_gone<S: ConnectStore>(store: S) -> Law {
    store.put_revocation(&revocation("r1")).await?;
    store.put_revocation(&revocation("r2")).await?;
    for id in ["", "r", "R1", "r11", "%"] {
        let finished = store.finish_revocation(&RevocationId::new(id)).await?;
        ensure!(!finished, "{id:?} is finished");
    }
    let id = RevocationId::new("r1");
    ensure!(store.finish_revocation(&id).await?, "it is not found");
    ensure!(!store.finish_revocation(&id).await?, "it is finished twice");
    ensure!(!store.postpone_revocation(&id, now()).await?, "it is postponed");
    let left = claim_all(&store).await?;
    ensure_eq!(left.len(), 1, "what is left");
    let is_other = left
        .iter()
        .flat_map(|due| &due.tokens)
        .any(|token| token.secret.matches(&secret("refresh of r2")));
    ensure!(is_other, "the wrong one is gone");
    Ok(())
}
