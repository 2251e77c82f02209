//! Laws of one token family: its generations and its end.

use std::sync::Arc;

use tower_token_broker::clock::Timestamp;

use super::{
    Law, MILLISECOND, after, at_once, begin, broken, code, expect_same_family, family_key, now,
};
use crate::{
    authority::{
        Advance, AdvanceFamily, AuthorityStore, Family, FamilyEnd, FamilyEndReason, FamilyId,
    },
    contract::ContractError,
};

const ALL_REASONS: [FamilyEndReason; 5] = [
    FamilyEndReason::Client,
    FamilyEndReason::User,
    FamilyEndReason::Operator,
    FamilyEndReason::CodeReplay,
    FamilyEndReason::RefreshReplay,
];

/// A request to use this generation, whose predecessors are kept for 600 seconds.
fn advance(id: &str, generation: u64, now: Timestamp) -> AdvanceFamily {
    let keep_since = now.minus(std::time::Duration::from_secs(600));
    AdvanceFamily::new(FamilyId::new(id), generation, now, (after(40 * 86_400), keep_since))
}

async fn advanced<S: AuthorityStore>(
    store: &S,
    request: &AdvanceFamily,
) -> Result<Family, ContractError> {
    match store.advance_family(request).await? {
        Advance::Advanced(family) => Ok(family),
        other @ (Advance::Stale(_) | Advance::Ended(_) | Advance::Unknown) => {
            Err(broken(&format!("{request:?} is {other:?}, expected Advanced")))
        }
    }
}

/// A use of the current generation begins the next one, with all times; its key stays.
///
/// # Errors
/// [`ContractError`]
pub async fn the_current_generation_begins_the_next<S: AuthorityStore>(store: S) -> Law {
    let mut expected = begin(&store, &code("f1")?).await?;
    let other = begin(&store, &code("f2")?).await?;
    for generation in 1..=5 {
        let request = advance("f1", generation, after(10 * generation));
        ensure!(expected.advance(&request), "the expected family does not advance");
        ensure_eq!(advanced(&store, &request).await?, expected, "generation {generation}");
        expect_same_family(&store, &expected, Some(&family_key("f1"))).await?;
        let superseded = expected.superseded_at(generation);
        ensure_eq!(superseded, Some(after(10 * generation)), "generation {generation}");
    }
    ensure_eq!(expected.generation, 6, "the generation");
    expect_same_family(&store, &other, Some(&family_key("f2"))).await
}

/// A generation that is not the current one begins none, and learns which one is current.
///
/// # Errors
/// [`ContractError`]
pub async fn a_stale_generation_begins_none<S: AuthorityStore>(store: S) -> Law {
    begin(&store, &code("f1")?).await?;
    advanced(&store, &advance("f1", 1, after(10))).await?;
    let current = advanced(&store, &advance("f1", 2, after(20))).await?;
    for generation in [0, 1, 2, 4, 5, u64::MAX] {
        let outcome = store.advance_family(&advance("f1", generation, after(30))).await?;
        ensure_eq!(outcome, Advance::Stale(current.clone()), "generation {generation}");
    }
    expect_same_family(&store, &current, Some(&family_key("f1"))).await
}

/// Of several callers at once with one generation, one begins the next; the others learn it.
///
/// # Errors
/// [`ContractError`]
pub async fn concurrent_uses_begin_one_generation<S: AuthorityStore>(store: S) -> Law {
    const CALLERS: usize = 16;
    begin(&store, &code("f1")?).await?;
    let store = Arc::new(store);
    for generation in 1..=8 {
        let outcomes = at_once(&store, CALLERS, |store, number| async move {
            let at = after(10 * generation).plus(MILLISECOND * u32::try_from(number).unwrap_or(0));
            store.advance_family(&advance("f1", generation, at)).await
        })
        .await?;
        let mut families = Vec::new();
        let mut advanced = 0;
        for outcome in outcomes {
            match outcome {
                Advance::Advanced(family) => {
                    advanced += 1;
                    families.push(family);
                }
                Advance::Stale(family) => families.push(family),
                other @ (Advance::Ended(_) | Advance::Unknown) => {
                    return Err(broken(&format!("a use at once is {other:?}")));
                }
            }
        }
        ensure_eq!(advanced, 1, "generations begun by callers with {generation}");
        let same = families.iter().all(|family| families.first() == Some(family));
        ensure!(same, "callers with {generation} learn different families");
        let next = families.first().map(|family| family.generation);
        ensure_eq!(next, Some(generation + 1), "the next generation");
    }
    Ok(())
}

/// A family is used until the instant before its idle end or its absolute end.
///
/// # Errors
/// [`ContractError`]
pub async fn an_expired_family_begins_no_generation<S: AuthorityStore>(store: S) -> Law {
    // Idle after 30 days, over after 180.
    let (idle_until, ends_at) = (after(30 * 86_400), after(180 * 86_400));
    let family = begin(&store, &code("f1")?).await?;
    for at in [idle_until, idle_until.plus(MILLISECOND), ends_at] {
        let outcome = store.advance_family(&advance("f1", 1, at)).await?;
        ensure_eq!(outcome, Advance::Ended(family.clone()), "at {at}");
    }
    expect_same_family(&store, &family, Some(&family_key("f1"))).await?;
    let mut last = advance("f1", 1, idle_until.minus(MILLISECOND));
    last.idle_until = after(300 * 86_400);
    let family = advanced(&store, &last).await?;
    let outcome = store.advance_family(&advance("f1", 2, ends_at)).await?;
    ensure_eq!(outcome, Advance::Ended(family), "at its absolute end");
    advanced(&store, &advance("f1", 2, ends_at.minus(MILLISECOND))).await.map(drop)
}

/// A family that was ended has no key and begins no generation. The first end counts.
///
/// # Errors
/// [`ContractError`]
pub async fn an_ended_family_has_no_key<S: AuthorityStore>(store: S) -> Law {
    for (number, reason) in ALL_REASONS.into_iter().enumerate() {
        let id = format!("f{number}");
        let mut family = begin(&store, &code(&id)?).await?;
        let (id, end) = (FamilyId::new(&id), FamilyEnd::new(reason, after(9)));
        ensure!(store.end_family(&id, end).await?, "a family is not ended");
        family.end = Some(end);
        expect_same_family(&store, &family, None).await?;
        let later = FamilyEnd::new(FamilyEndReason::Operator, after(10));
        ensure!(!store.end_family(&id, later).await?, "a family is ended twice");
        let outcome = store.advance_family(&advance(id.as_str(), 1, after(11))).await?;
        ensure_eq!(outcome, Advance::Ended(family.clone()), "a use after the end");
        expect_same_family(&store, &family, None).await?;
    }
    Ok(())
}

/// An end and a use at once: after the end, no generation begins.
///
/// # Errors
/// [`ContractError`]
pub async fn no_generation_begins_after_the_end<S: AuthorityStore>(store: S) -> Law {
    let store = Arc::new(store);
    for round in 0..16 {
        let id = format!("f{round}");
        begin(&*store, &code(&id)?).await?;
        let outcomes = at_once(&store, 4, |store, number| {
            let id = id.clone();
            async move {
                if number == 0 {
                    let end = FamilyEnd::new(FamilyEndReason::User, after(9));
                    return Ok((store.end_family(&FamilyId::new(&id), end).await?, None));
                }
                let outcome = store.advance_family(&advance(&id, 1, after(9))).await?;
                Ok((false, Some(outcome)))
            }
        })
        .await?;
        ensure!(outcomes.iter().any(|(ended, _)| *ended), "the family is not ended");
        let stored = store.family(&FamilyId::new(&id)).await?;
        let stored = stored.ok_or_else(|| broken("the family is gone"))?;
        ensure!(stored.family.end.is_some() && stored.key.is_none(), "the end was undone");
        let is_advanced = |outcome: &Option<Advance>| matches!(outcome, Some(Advance::Advanced(_)));
        let advanced = outcomes.iter().filter(|(_, outcome)| is_advanced(outcome)).count();
        let expected = stored.family.generation - 1;
        ensure_eq!(advanced as u64, expected, "generations that began in round {round}");
    }
    Ok(())
}

/// An unknown ID is no family.
///
/// # Errors
/// [`ContractError`]
pub async fn an_unknown_family_is_not_found<S: AuthorityStore>(store: S) -> Law {
    let long = "x".repeat(1 << 20);
    for _ in 0..2 {
        for id in ["", "f", "f11", "F1", "f1 ", "f%", "f_", "\0", "f1\0", &long] {
            let unknown = FamilyId::new(id);
            ensure!(store.family(&unknown).await?.is_none(), "the family {id:.5?}");
            let outcome = store.advance_family(&advance(id, 1, after(6))).await?;
            ensure_eq!(outcome, Advance::Unknown, "the family {id:.5?}");
            let end = FamilyEnd::new(FamilyEndReason::User, now());
            ensure!(!store.end_family(&unknown, end).await?, "the family {id:.5?} is ended");
        }
        if store.family(&FamilyId::new("f1")).await?.is_none() {
            begin(&store, &code("f1")?).await?;
        }
    }
    Ok(())
}
