//! Laws of the first account and its one-time link.

use std::sync::Arc;

use super::{
    Law, MILLISECOND,
    accounts::{name, new_account},
    after, at_once, expect_invalid, now, secret,
};
use crate::{
    authority::{
        AccountCreation, AuthorityStore, CreateFirstAccount, FirstAccount, LinkState, LocalAccount,
        LookupHash, PageRequest,
    },
    contract::ContractError,
};

async fn link<S: AuthorityStore>(store: &S, token: &str) -> Result<LookupHash, ContractError> {
    Ok(store.lookup_key().await?.first_account_link(&secret(token)))
}

async fn put<S: AuthorityStore>(store: &S, token: &str) -> Law {
    Ok(store.put_first_account_link(&link(store, token).await?, after(3_600)).await?)
}

async fn create<S: AuthorityStore>(store: &S, token: &str) -> Result<FirstAccount, ContractError> {
    let account = new_account("a1", "alice")?;
    let request = CreateFirstAccount::new(link(store, token).await?, account);
    Ok(store.create_first_account(&request).await?)
}

async fn count<S: AuthorityStore>(store: &S) -> Result<usize, ContractError> {
    Ok(store.accounts(&PageRequest::first()).await?.rows.len())
}

/// The link creates the first account, once.
///
/// # Errors
/// [`ContractError`]
pub async fn the_link_creates_the_first_account_once<S: AuthorityStore>(store: S) -> Law {
    put(&store, "t1").await?;
    let hash = link(&store, "t1").await?;
    ensure_eq!(
        store.first_account_link(&hash, now()).await?,
        LinkState::Valid { expires_at: after(3_600) },
        "the link"
    );
    let expected = LocalAccount::of(&new_account("a1", "alice")?);
    ensure_eq!(create(&store, "t1").await?, FirstAccount::Created(expected), "the account");
    let found = store.account_by_name(&name("alice")?).await?;
    let hash_of_password = new_account("a1", "alice")?.password_hash;
    let same = found.is_some_and(|found| found.password_hash.matches(&hash_of_password));
    ensure!(same, "the account has another password hash");
    ensure_eq!(store.first_account_link(&hash, now()).await?, LinkState::Invalid, "used");
    let other = CreateFirstAccount::new(hash, new_account("a2", "bob")?);
    let again = store.create_first_account(&other).await?;
    ensure_eq!(again, FirstAccount::LinkInvalid, "the link again");
    ensure_eq!(count(&store).await?, 1, "accounts");
    Ok(())
}

/// A link is invalid if it is unknown, was replaced, or has expired.
///
/// # Errors
/// [`ContractError`]
pub async fn an_invalid_link_creates_no_account<S: AuthorityStore>(store: S) -> Law {
    ensure_eq!(create(&store, "t1").await?, FirstAccount::LinkInvalid, "without a link");
    put(&store, "t1").await?;
    put(&store, "t2").await?;
    for token in ["t1", "", "t", "T2", "t2 "] {
        let hash = link(&store, token).await?;
        let state = store.first_account_link(&hash, now()).await?;
        ensure_eq!(state, LinkState::Invalid, "the link {token:?}");
        ensure_eq!(create(&store, token).await?, FirstAccount::LinkInvalid, "{token:?}");
    }
    let of_session = store.lookup_key().await?.session(&secret("t2"));
    let state = store.first_account_link(&of_session, now()).await?;
    ensure_eq!(state, LinkState::Invalid, "the hash of a session");
    let hash = link(&store, "t2").await?;
    for at in [after(3_600), after(3_601)] {
        let state = store.first_account_link(&hash, at).await?;
        ensure_eq!(state, LinkState::Invalid, "at {at}");
        let mut account = new_account("a1", "alice")?;
        account.now = at;
        let outcome = store.create_first_account(&CreateFirstAccount::new(hash, account)).await?;
        ensure_eq!(outcome, FirstAccount::LinkInvalid, "at {at}");
    }
    ensure_eq!(count(&store).await?, 0, "accounts");
    let mut account = new_account("a1", "alice")?;
    account.now = after(3_600).minus(MILLISECOND);
    let outcome = store.create_first_account(&CreateFirstAccount::new(hash, account)).await?;
    ensure!(matches!(outcome, FirstAccount::Created(_)), "before its end it is {outcome:?}");
    Ok(())
}

/// With an account, no link creates a first one. An invalid request uses no link.
///
/// # Errors
/// [`ContractError`]
pub async fn a_link_creates_no_second_account<S: AuthorityStore>(store: S) -> Law {
    put(&store, "t1").await?;
    let hash = link(&store, "t1").await?;
    let refused = CreateFirstAccount::new(hash, new_account(&"x".repeat(1 << 20), "alice")?);
    expect_invalid(&store.create_first_account(&refused).await, "an account")?;
    ensure_eq!(
        store.first_account_link(&hash, now()).await?,
        LinkState::Valid { expires_at: after(3_600) },
        "the link"
    );
    let created = store.create_account(&new_account("a2", "bob")?).await?;
    ensure!(matches!(created, AccountCreation::Created(_)), "another account is {created:?}");
    // A disabled account is one, too.
    store.disable_account("a2").await?;
    ensure_eq!(store.first_account_link(&hash, now()).await?, LinkState::NotFirst, "the link");
    ensure_eq!(create(&store, "t1").await?, FirstAccount::NotFirst, "a second account");
    put(&store, "t2").await?;
    ensure_eq!(create(&store, "t2").await?, FirstAccount::NotFirst, "with a new link");
    ensure_eq!(count(&store).await?, 1, "accounts");
    Ok(())
}

/// Of several callers at once with the link and without, one creates an account.
///
/// # Errors
/// [`ContractError`]
pub async fn concurrent_first_accounts_yield_one<S: AuthorityStore>(store: S) -> Law {
    put(&store, "t1").await?;
    let hash = link(&store, "t1").await?;
    let store = Arc::new(store);
    let mut accounts = Vec::new();
    for number in 0..16 {
        accounts.push(new_account(&format!("a{number}"), &format!("user {number}"))?);
    }
    let accounts = Arc::new(accounts);
    let outcomes = at_once(&store, 16, |store, number| {
        let accounts = Arc::clone(&accounts);
        async move {
            let Some(account) = accounts.get(number).cloned() else {
                return Ok(FirstAccount::NotFirst);
            };
            store.create_first_account(&CreateFirstAccount::new(hash, account)).await
        }
    })
    .await?;
    let is_created = |outcome: &&FirstAccount| matches!(outcome, FirstAccount::Created(_));
    ensure_eq!(outcomes.iter().filter(is_created).count(), 1, "first accounts");
    ensure_eq!(count(&*store).await?, 1, "accounts");
    Ok(())
}
