//! Laws of the signing keys.

use std::sync::Arc;

use super::{HOSTILE, Law, MILLISECOND, after, at_once, expect_exists, expect_invalid, now};
use crate::authority::{AddSigningKey, AuthorityStore, KeyTimes, SigningKey};

fn times() -> KeyTimes {
    KeyTimes::new(now(), after(3_600))
}

fn key(id: &str) -> SigningKey {
    // Octets that are no text, and another number of them for each ID.
    let octets = (0..=u8::MAX).cycle().take(100 + id.len()).collect();
    SigningKey::new(id, "ES256", tower_token_broker::Secret::new(octets), times())
}

/// Fails if the store has other keys than these.
async fn expect_keys<S: AuthorityStore>(
    store: &S,
    generation: u64,
    expected: &[SigningKey],
) -> Law {
    let set = store.signing_keys().await?;
    ensure_eq!(set.generation, generation, "the generation");
    let none: [Box<str>; 0] = [];
    ensure_eq!(*set.unreadable, none, "unreadable keys");
    let fields = |key: &SigningKey| (key.id.clone(), key.algorithm.clone(), key.times);
    let found: Vec<_> = set.keys.iter().map(fields).collect();
    let wanted: Vec<_> = expected.iter().map(fields).collect();
    ensure_eq!(found, wanted, "the keys");
    for (found, expected) in set.keys.iter().zip(expected) {
        let same = found.private_key.matches(&expected.private_key);
        ensure!(same, "the private key of {} is another one", found.id);
    }
    Ok(())
}

async fn add<S: AuthorityStore>(store: &S, request: &AddSigningKey) -> Law {
    let added = store.add_signing_key(request).await?;
    ensure!(added, "{request:?} adds no key");
    Ok(())
}

/// Keys are loaded as they were added, with every field, in the order of their IDs.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn signing_keys_keep_every_field<S: AuthorityStore>(store: S) -> Law {
    expect_keys(&store, 0, &[]).await?;
    let mut expected = Vec::new();
    for (generation, id) in (0..).zip(HOSTILE) {
        let mut key = key(id);
        key.algorithm = id.into();
        if generation % 2 == 1 {
            key.times = key.times.until(after(7_200), after(9_000));
        }
        add(&store, &AddSigningKey::new(generation, key.clone())).await?;
        expected.push(key);
        expected.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        expect_keys(&store, generation + 1, &expected).await?;
    }
    Ok(())
}

/// NUL and long texts are refused.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn hostile_signing_keys_are_refused<S: AuthorityStore>(store: S) -> Law {
    let long = "x".repeat(1 << 20);
    for text in ["\0", long.as_str()] {
        let mut refused = key("k");
        refused.algorithm = text.into();
        for refused in [key(text), refused] {
            let outcome = store.add_signing_key(&AddSigningKey::new(0, refused)).await;
            expect_invalid(&outcome, "a signing key")?;
        }
    }
    let mut refused = key("k");
    refused.private_key = tower_token_broker::Secret::new(vec![1; 1 << 20]);
    expect_invalid(&store.add_signing_key(&AddSigningKey::new(0, refused)).await, "a long key")?;
    expect_keys(&store, 0, &[]).await
}

/// A key is added only at the generation that its caller has read.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn a_signing_key_is_added_at_its_generation<S: AuthorityStore>(store: S) -> Law {
    add(&store, &AddSigningKey::new(0, key("k1"))).await?;
    for generation in [0, 2, u64::MAX] {
        let late =
            AddSigningKey::new(generation, key("k2")).times("k1", times().until(now(), now()));
        ensure!(!store.add_signing_key(&late).await?, "a key is added at {generation}");
        expect_keys(&store, 1, &[key("k1")]).await?;
    }
    let outcome = store.add_signing_key(&AddSigningKey::new(1, key("k1"))).await;
    expect_exists(&outcome, "a second key with this ID")?;
    expect_keys(&store, 1, &[key("k1")]).await?;
    add(&store, &AddSigningKey::new(1, key("k2"))).await?;
    expect_keys(&store, 2, &[key("k1"), key("k2")]).await
}

/// With a new key, the times of others change.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn times_of_other_keys_change_with_a_new_one<S: AuthorityStore>(store: S) -> Law {
    add(&store, &AddSigningKey::new(0, key("k1"))).await?;
    add(&store, &AddSigningKey::new(1, key("k2"))).await?;
    let until = times().until(after(10), after(20));
    let request = AddSigningKey::new(2, key("k3")).times("k1", until).times("unknown", until);
    add(&store, &request.times("\0", until)).await?;
    let mut changed = key("k1");
    changed.times = until;
    expect_keys(&store, 3, &[changed, key("k2"), key("k3")]).await
}

/// Of several processes that rotate at once, one adds its key.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn concurrent_rotations_add_one_key<S: AuthorityStore>(store: S) -> Law {
    const CALLERS: usize = 16;
    let store = Arc::new(store);
    for generation in 0..8 {
        let outcomes = at_once(&store, CALLERS, |store, number| async move {
            let key = key(&format!("k{generation}-{number}"));
            store.add_signing_key(&AddSigningKey::new(generation, key)).await
        })
        .await?;
        let added = outcomes.into_iter().filter(|added| *added).count();
        ensure_eq!(added, 1, "keys that were added at generation {generation}");
        let set = store.signing_keys().await?;
        ensure_eq!(set.keys.len() as u64, generation + 1, "keys");
        ensure_eq!(set.generation, generation + 1, "the generation");
    }
    Ok(())
}

/// Keys that were published until before an instant are removed, and no others.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn signing_keys_are_removed_after_their_time<S: AuthorityStore>(store: S) -> Law {
    let mut old = key("k1");
    old.times = times().until(after(10), after(20));
    add(&store, &AddSigningKey::new(0, old.clone())).await?;
    add(&store, &AddSigningKey::new(1, key("k2"))).await?;
    ensure_eq!(store.remove_signing_keys(after(20)).await?, 0, "at its instant");
    expect_keys(&store, 2, &[old, key("k2")]).await?;
    let removed = store.remove_signing_keys(after(20).plus(MILLISECOND)).await?;
    ensure_eq!(removed, 1, "after its instant");
    expect_keys(&store, 2, &[key("k2")]).await?;
    add(&store, &AddSigningKey::new(2, key("k3"))).await?;
    expect_keys(&store, 3, &[key("k2"), key("k3")]).await
}
