//! Laws of `put` and `load`, and of the keys and IDs that find a grant.

use std::time::Duration;

use tower_token_broker::{
    Secret,
    principal::{GrantId, User},
};

use super::{
    Law, TERM, access_token, acquire, backoff, existing, expect_same, expect_stored, grant,
    grant_for, key, now, of_alice, request, scopes, user,
};
use crate::{
    Account, Attempt, AttemptOutcome, Grant, GrantKey, GrantRef, GrantState, GrantStore, Lease,
    LeaseOutcome, Renewal, RepeatedRefusal, StoreError,
};

/// A grant is loaded as it was put, with every field.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn put_and_load_keep_every_field<S: GrantStore>(store: S) -> Law {
    let mut grant = grant("g1");
    grant.key.account = account("work-2");
    // A refresh token of the largest size, with each value of a byte.
    grant.refresh_token = Some(Secret::new((0..=u8::MAX).cycle().take(16 * 1024).collect()));
    let mut forced = access_token("forced", "crm:write", Duration::from_secs(60));
    forced.forced = true;
    forced.scopes = scopes("crm:read crm:write");
    forced.requested = scopes("");
    grant = grant.access_token(forced);
    grant.version = 41;
    grant.open_attempts = 2;
    grant.backoff = backoff();
    grant.refused = Some(RepeatedRefusal::new(now()));
    for state in
        [GrantState::Active, GrantState::NeedsUser, GrantState::EndedByServer, GrantState::Revoked]
    {
        grant.state = state;
        let stored = store.put(grant.clone()).await?;
        grant.version = stored.version;
        for token in &mut grant.access {
            token.version = stored.version;
        }
        expect_same(&stored, &grant)?;
        expect_stored(&store, &grant).await?;
    }
    Ok(())
}

/// Keys of no grant find none, and neither do IDs.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn an_unknown_key_or_id_finds_nothing<S: GrantStore>(store: S) -> Law {
    for _ in 0..2 {
        for (subject, server) in [("bob", "crm"), ("ali", "crm"), ("alice1", "crm"), ("alice", "c")]
        {
            let found = store.load(&key(subject, server)).await?;
            ensure!(found.is_none(), "an unknown key {subject} {server}");
        }
        for id in ["", "g", "g11", "G1", "g1 "] {
            let mut unknown = request(&grant("g1"));
            unknown.grant = of_alice(id);
            ensure_eq!(store.lease(&unknown).await?, LeaseOutcome::Stale, "an unknown ID {id:?}");
        }
        store.put(grant("g1")).await?;
    }
    existing(&store, &of_alice("g1")).await.map(drop)
}

/// A grant that replaces another has a higher version, and so have its access tokens.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn put_replaces_with_a_higher_version<S: GrantStore>(store: S) -> Law {
    let mut last = store.put(grant("g1")).await?;
    for id in ["g1", "g2", "g2"] {
        let stored = store.put(grant(id)).await?;
        ensure!(stored.version > last.version, "{} after {}", stored.version, last.version);
        let of_version = stored.access.iter().all(|token| token.version == stored.version);
        ensure!(of_version, "an access token has another version than its grant");
        expect_stored(&store, &stored).await?;
        last = stored;
    }
    Ok(())
}

/// A lease on a grant ends when the grant is replaced.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn put_overtakes_the_lease_of_what_it_replaces<S: GrantStore>(store: S) -> Law {
    let old = store.put(grant("g1")).await?;
    let overtaken = acquire(&store, &request(&old)).await?;
    let new = store.put(grant("g1")).await?;
    ensure_eq!(
        store.mark_attempt(&overtaken).await,
        Err(StoreError::overtaken(&overtaken)),
        "mark_attempt with the lease of the replaced grant"
    );
    ensure_eq!(store.lease(&request(&old)).await?, LeaseOutcome::Stale, "the old version");
    let lease = acquire(&store, &request(&new)).await?;
    ensure!(lease.fence > overtaken.fence, "fence {} after {}", lease.fence, overtaken.fence);
    Ok(())
}

/// The ID of a grant that was replaced by one with another ID is unknown.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn put_forgets_the_id_that_it_replaces<S: GrantStore>(store: S) -> Law {
    let old = store.put(grant("g1")).await?;
    let new = store.put(grant("g2")).await?;
    ensure!(!store.revoke(&old.to_ref()).await?, "the replaced ID is revoked");
    expect_stored(&store, &new).await?;
    // The ID is free, also for another key.
    let reused = store.put(grant_for("g1", key("bob", "crm"))).await?;
    expect_stored(&store, &reused).await?;
    expect_stored(&store, &new).await
}

/// An ID of another user's grant is refused, and no grant changes.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn an_id_of_another_key_is_refused<S: GrantStore>(store: S) -> Law {
    let alice = store.put(grant("g1")).await?;
    let bob = store.put(grant_for("g2", key("bob", "crm"))).await?;
    for key in [key("bob", "crm"), key("mallory", "crm")] {
        expect_id_taken(&store, grant_for("g1", key)).await?;
    }
    expect_stored(&store, &alice).await?;
    expect_stored(&store, &bob).await?;
    ensure!(store.load(&key("mallory", "crm")).await?.is_none(), "the refused grant is stored");
    Ok(())
}

/// An ID of the same user's grant for another server or account is refused.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn an_id_of_another_account_is_refused<S: GrantStore>(store: S) -> Law {
    let first = store.put(grant("g1")).await?;
    let mut other_account = grant("g1");
    other_account.key.account = account("work");
    expect_id_taken(&store, other_account).await?;
    expect_id_taken(&store, grant_for("g1", key("alice", "mail"))).await?;
    expect_stored(&store, &first).await
}

/// The ID of a grant with the key of another user, issuer, server or account is an unknown one: no
/// method finds the grant.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn an_id_counts_only_with_its_key<S: GrantStore>(store: S) -> Law {
    let alice = store.put(grant("g1")).await?;
    let lease = acquire(&store, &request(&alice)).await?;
    let of_issuer = User::new("https://other.example", "alice");
    let bob = store.put(grant_for("g2", key("bob", "crm"))).await?;
    for key in [
        // One with a grant of its own, the others without.
        bob.key.clone(),
        key("mallory", "crm"),
        key("alice", "mail"),
        GrantKey::new(user("alice"), "crm", account("work")),
        GrantKey::new(of_issuer, "crm", Account::default_account()),
    ] {
        let wrong = GrantRef::new(key, alice.id.clone());
        ensure!(!store.revoke(&wrong).await?, "{wrong:?} is revoked");
        ensure!(!store.delete(&wrong).await?, "{wrong:?} is deleted");
        ensure!(!store.end(&wrong, alice.version).await?, "{wrong:?} ends");
        let mut asked = request(&alice);
        (asked.grant, asked.now) = (wrong.clone(), now().plus(TERM));
        ensure_eq!(store.lease(&asked).await?, LeaseOutcome::Stale, "the lease of {wrong:?}");
        let forged = Lease::new(wrong.clone(), lease.version, lease.fence);
        ensure_eq!(
            store.mark_attempt(&forged).await,
            Err(StoreError::overtaken(&forged)),
            "mark_attempt of {wrong:?}"
        );
        let stored = store.complete(&forged, &Renewal::new(None, None)).await?;
        ensure!(stored.is_none(), "tokens of {wrong:?} are stored");
        let attempt = Attempt::new(AttemptOutcome::Responded, backoff());
        store.release(&forged, &attempt).await?;
        expect_stored(&store, &alice).await?;
        expect_stored(&store, &bob).await?;
    }
    // The lease of alice is still valid.
    store.mark_attempt(&lease).await?;
    Ok(())
}

/// Grants of two accounts of one user at one server do not affect each other.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn two_accounts_of_one_user_are_apart<S: GrantStore>(store: S) -> Law {
    let work = GrantKey::new(user("alice"), "crm", account("work"));
    expect_apart(&store, key("alice", "crm"), work).await
}

/// Grants of one user at two servers do not affect each other.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn two_servers_of_one_user_are_apart<S: GrantStore>(store: S) -> Law {
    expect_apart(&store, key("alice", "crm"), key("alice", "mail")).await
}

/// Grants of users with the same subject at two issuers do not affect each other.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn one_subject_at_two_issuers_is_apart<S: GrantStore>(store: S) -> Law {
    let other = User::new("https://other.example", "alice");
    let other = GrantKey::new(other, "crm", Account::default_account());
    expect_apart(&store, key("alice", "crm"), other).await
}

/// Texts that differ only in case, blanks, Unicode normalization or in where a part ends are
/// different keys.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn keys_are_compared_octet_by_octet<S: GrantStore>(store: S) -> Law {
    let account = Account::default_account;
    let keys = [
        GrantKey::new(User::new("https://i.example", "ana"), "crm", account()),
        GrantKey::new(User::new("https://i.example/", "ana"), "crm", account()),
        GrantKey::new(User::new("https://I.example", "ana"), "crm", account()),
        GrantKey::new(User::new("https://i.example", "Ana"), "crm", account()),
        GrantKey::new(User::new("https://i.example", "ana "), "crm", account()),
        GrantKey::new(User::new("https://i.example", " ana"), "crm", account()),
        GrantKey::new(User::new("https://i.example", "an\u{e1}"), "crm", account()),
        GrantKey::new(User::new("https://i.example", "ana\u{301}"), "crm", account()),
        GrantKey::new(User::new("https://i.example", "an_"), "crm", account()),
        GrantKey::new(User::new("https://i.example", "%"), "crm", account()),
        GrantKey::new(User::new("https://i.example", "anac"), "rm", account()),
        GrantKey::new(User::new("https://i.examplea", "na"), "crm", account()),
        GrantKey::new(User::new("https://i.example", "ana"), "CRM", account()),
        GrantKey::new(User::new("https://i.example", "ana"), "crm ", account()),
        GrantKey::new(User::new("https://i.example", ""), "crm", account()),
        GrantKey::new(User::new("https://i.example", "'; --"), "crm", account()),
    ];
    for (number, key) in keys.iter().enumerate() {
        ensure!(store.load(key).await?.is_none(), "{key:?} finds another grant");
        store.put(grant_for(&format!("g{number}"), key.clone())).await?;
    }
    for (number, key) in keys.iter().enumerate() {
        let found = store.load(key).await?.map(|grant| grant.id);
        ensure_eq!(found, Some(GrantId::new(&format!("g{number}"))), "the grant of {key:?}");
    }
    Ok(())
}

fn account(name: &str) -> Account {
    Account::parse(name).unwrap_or_else(|_| Account::default_account())
}

async fn expect_id_taken<S: GrantStore>(store: &S, grant: Grant) -> Law {
    let (id, key) = (grant.id.clone(), grant.key.clone());
    let refused = store.put(grant).await.map(|stored| stored.key);
    ensure_eq!(refused, Err(StoreError::IdTaken { id }), "put of a taken ID for {key:?}");
    Ok(())
}

/// Fails if a change of a grant with one key changes, or is kept from, one with the other.
async fn expect_apart<S: GrantStore>(store: &S, one: GrantKey, other: GrantKey) -> Law {
    let one = store.put(grant_for("g1", one)).await?;
    ensure!(store.load(&other).await?.is_none(), "the other key finds the first grant");
    let other = store.put(grant_for("g2", other)).await?;
    expect_stored(store, &one).await?;
    acquire(store, &request(&one)).await?;
    let lease = acquire(store, &request(&other)).await?;
    store.mark_attempt(&lease).await?;
    expect_stored(store, &one).await?;
    ensure!(store.revoke(&other.to_ref()).await?, "the other grant is not found");
    expect_stored(store, &one).await?;
    ensure!(store.end(&one.to_ref(), one.version).await?, "the first grant is not at its version");
    let other = existing(store, &other.to_ref()).await?;
    ensure_eq!(other.state, GrantState::Revoked, "the other grant's state");
    Ok(())
}
