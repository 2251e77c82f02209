//! Laws of the local accounts.

use std::sync::Arc;

use tower_token_broker::Secret;

use super::{
    HOSTILE, Law, SORTED, at_once, broken, expect_exists, expect_invalid, expect_pages, now, secret,
};
use crate::{
    authority::{
        AccountCreation, AccountWithPassword, AuthorityStore, LocalAccount, NewAccount,
        PageRequest, SetPassword, UserName,
    },
    contract::ContractError,
};

const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA";

pub(super) fn name(text: &str) -> Result<UserName, ContractError> {
    UserName::parse(text).map_err(|_| broken("no user name"))
}

pub(super) fn new_account(subject: &str, text: &str) -> Result<NewAccount, ContractError> {
    Ok(NewAccount::new(subject, name(text)?, secret(&format!("{HASH} {subject}")), now()))
}

async fn create<S: AuthorityStore>(
    store: &S,
    subject: &str,
    name: &str,
) -> Result<LocalAccount, ContractError> {
    match store.create_account(&new_account(subject, name)?).await? {
        AccountCreation::Created(account) => Ok(account),
        AccountCreation::NameTaken => Err(broken("the name of a new account is taken")),
    }
}

/// All fields, with the name octet by octet.
fn fields(account: &LocalAccount) -> String {
    format!("{account:?}")
}

/// Fails if the store has another account under this subject or this name, or another hash.
async fn expect_account<S: AuthorityStore>(
    store: &S,
    expected: &LocalAccount,
    hash: &Secret,
) -> Law {
    let found = store.account(&expected.subject).await?;
    ensure_eq!(found.as_ref().map(fields), Some(fields(expected)), "the account");
    let Some(found) = store.account_by_name(&expected.name).await? else {
        return Err(broken(&format!("no account has the name {:?}", expected.name)));
    };
    ensure_eq!(fields(&found.account), fields(expected), "the account by its name");
    ensure!(found.password_hash.matches(hash), "the account has another password hash");
    Ok(())
}

/// An account is loaded as it was created, with every field.
///
/// # Errors
/// [`ContractError`]
pub async fn an_account_keeps_every_field<S: AuthorityStore>(store: S) -> Law {
    let names = ["Zoë", "'; drop", "$1", "%", "\\", "👩 李明", "a b", "x"];
    for (subject, text) in HOSTILE.into_iter().zip(names) {
        let mut new = new_account(subject, text)?;
        if subject.len() % 2 == 0 {
            new = new.must_change_password();
        }
        let created = store.create_account(&new).await?;
        let expected = LocalAccount::of(&new);
        ensure_eq!(created, AccountCreation::Created(expected.clone()), "a new account");
        ensure!(expected.enabled && expected.epoch == 1, "{expected:?}");
        expect_account(&store, &expected, &new.password_hash).await?;
    }
    let long = "x".repeat(1 << 20);
    for subject in ["\0", long.as_str()] {
        let refused = store.create_account(&new_account(subject, "refused")?).await;
        expect_invalid(&refused, "an account")?;
        ensure!(store.account(subject).await?.is_none(), "an account {subject:.5?}");
        let set = SetPassword::new(subject, secret(HASH));
        ensure!(store.set_password(&set).await?.is_none(), "a password of {subject:.5?}");
        ensure!(store.enable_account(subject).await?.is_none(), "{subject:.5?} is enabled");
        ensure!(store.disable_account(subject).await?.is_none(), "{subject:.5?} is disabled");
    }
    let mut refused = new_account("a1", "refused")?;
    refused.password_hash = secret(&long);
    expect_invalid(&store.create_account(&refused).await, "a long password hash")?;
    let found = store.account_by_name(&name("refused")?).await?;
    ensure!(found.is_none(), "a refused account");
    Ok(())
}

/// A name is taken in each case and each normalization; so is a subject.
///
/// # Errors
/// [`ContractError`]
pub async fn a_user_name_is_taken_in_each_case<S: AuthorityStore>(store: S) -> Law {
    let account = create(&store, "a1", "Zoë").await?;
    for text in ["Zoë", "zoë", "ZOE\u{308}", "zOe\u{308}"] {
        let outcome = store.create_account(&new_account("a2", text)?).await?;
        ensure_eq!(outcome, AccountCreation::NameTaken, "the name {text:?}");
        let found = store.account_by_name(&name(text)?).await?;
        let found = found.map(|found| found.account.subject);
        ensure_eq!(found.as_deref(), Some("a1"), "the account of {text:?}");
    }
    for text in ["zoe", "zo", "z%", "zoë1"] {
        let found = store.account_by_name(&name(text)?).await?;
        ensure!(found.is_none(), "an account of {text:?}");
    }
    let outcome = store.create_account(&new_account("a1", "other")?).await;
    expect_exists(&outcome, "a second account with this subject")?;
    expect_account(&store, &account, &new_account("a1", "Zoë")?.password_hash).await
}

/// Of several accounts with one name that are created at once, one is.
///
/// # Errors
/// [`ContractError`]
pub async fn concurrent_accounts_of_one_name_yield_one<S: AuthorityStore>(store: S) -> Law {
    let store = Arc::new(store);
    for round in 0..4 {
        let mut accounts = Vec::new();
        for number in 0..16 {
            let text = if number % 2 == 0 { "alice" } else { "ALICE" };
            accounts.push(new_account(&format!("{round}-{number}"), &format!("{text}{round}"))?);
        }
        let accounts = Arc::new(accounts);
        let outcomes = at_once(&store, 16, |store, number| {
            let accounts = Arc::clone(&accounts);
            async move {
                match accounts.get(number) {
                    Some(account) => store.create_account(account).await,
                    None => Ok(AccountCreation::NameTaken),
                }
            }
        })
        .await?;
        let is_created =
            |outcome: &&AccountCreation| matches!(outcome, AccountCreation::Created(_));
        let created = outcomes.iter().filter(is_created).count();
        ensure_eq!(created, 1, "accounts of one name");
        let page = store.accounts(&PageRequest::first()).await?;
        ensure_eq!(page.rows.len(), round + 1, "accounts");
    }
    Ok(())
}

/// A new password raises the epoch, and is set only at the epoch that its caller expects.
///
/// # Errors
/// [`ContractError`]
pub async fn a_new_password_raises_the_epoch<S: AuthorityStore>(store: S) -> Law {
    let mut account = create(&store, "a1", "alice").await?;
    let other = create(&store, "a2", "bob").await?;
    let first = SetPassword::new("a1", secret("hash 1")).must_change_password();
    for (epoch, request, hash) in [
        (2, first, "hash 1"),
        (3, SetPassword::new("a1", secret("hash 2")), "hash 2"),
        (4, SetPassword::new("a1", secret("hash 3")).expected_epoch(3), "hash 3"),
    ] {
        account.epoch = epoch;
        account.must_change_password = request.must_change_password;
        let set = store.set_password(&request).await?;
        ensure_eq!(set.as_ref().map(fields), Some(fields(&account)), "the account of {hash}");
        expect_account(&store, &account, &secret(hash)).await?;
    }
    for epoch in [0, 3, 5] {
        let late = SetPassword::new("a1", secret("late")).expected_epoch(epoch);
        ensure_eq!(store.set_password(&late).await?, None, "at epoch {epoch}");
    }
    let unknown = SetPassword::new("a", secret("unknown"));
    ensure_eq!(store.set_password(&unknown).await?, None, "of an unknown account");
    let long = SetPassword::new("a1", secret(&"x".repeat(1 << 20)));
    expect_invalid(&store.set_password(&long).await, "a long password hash")?;
    expect_account(&store, &account, &secret("hash 3")).await?;
    expect_account(&store, &other, &new_account("a2", "bob")?.password_hash).await
}

/// Other parameters of a hash change nothing else, and overwrite no new password.
///
/// # Errors
/// [`ContractError`]
pub async fn a_rehash_overwrites_no_new_password<S: AuthorityStore>(store: S) -> Law {
    let mut account = create(&store, "a1", "alice").await?;
    let rehash = |account: &LocalAccount, hash: &str| {
        AccountWithPassword::new(account.clone(), secret(hash))
    };
    ensure!(store.rehash_password(&rehash(&account, "rehash 1")).await?, "no rehash");
    expect_account(&store, &account, &secret("rehash 1")).await?;
    let late = rehash(&account, "rehash 2");
    let set = SetPassword::new("a1", secret("new")).must_change_password();
    ensure!(store.set_password(&set).await?.is_some(), "no new password");
    ensure!(!store.rehash_password(&late).await?, "a late rehash");
    (account.epoch, account.must_change_password) = (2, true);
    expect_account(&store, &account, &secret("new")).await?;
    ensure!(store.rehash_password(&rehash(&account, "rehash 3")).await?, "no rehash again");
    expect_account(&store, &account, &secret("rehash 3")).await?;
    let long = rehash(&account, &"x".repeat(1 << 20));
    expect_invalid(&store.rehash_password(&long).await, "a long password hash")?;
    account.subject = "a".into();
    ensure!(!store.rehash_password(&rehash(&account, "x")).await?, "of an unknown account");
    Ok(())
}

/// To disable an account raises its epoch once; to enable it does not lower it.
///
/// # Errors
/// [`ContractError`]
pub async fn disabling_raises_the_epoch<S: AuthorityStore>(store: S) -> Law {
    let mut account = create(&store, "a1", "alice").await?;
    let other = create(&store, "a2", "bob").await?;
    let hash = new_account("a1", "alice")?.password_hash;
    for (epoch, enabled) in [(2, false), (2, false), (2, true), (2, true), (3, false)] {
        (account.epoch, account.enabled) = (epoch, enabled);
        let stored = if enabled {
            store.enable_account("a1").await?
        } else {
            store.disable_account("a1").await?
        };
        ensure_eq!(stored.as_ref().map(fields), Some(fields(&account)), "{enabled}");
        expect_account(&store, &account, &hash).await?;
    }
    // A new password does not enable it.
    (account.epoch, account.enabled) = (4, false);
    let set = store.set_password(&SetPassword::new("a1", secret("new"))).await?;
    ensure_eq!(set.as_ref().map(fields), Some(fields(&account)), "a disabled account");
    for subject in ["", "a", "A1"] {
        ensure_eq!(store.enable_account(subject).await?, None, "unknown {subject:?}");
        ensure_eq!(store.disable_account(subject).await?, None, "unknown {subject:?}");
    }
    expect_account(&store, &other, &new_account("a2", "bob")?.password_hash).await
}

/// Pages of any size have each account once, in the order of the octets of the subjects.
///
/// # Errors
/// [`ContractError`]
pub async fn pages_of_accounts_cover_all_once<S: AuthorityStore>(store: S) -> Law {
    for (number, subject) in SORTED.iter().rev().enumerate() {
        create(&store, subject, &format!("user {number}")).await?;
    }
    store.disable_account("aa").await?;
    expect_pages(
        &SORTED,
        |account: &LocalAccount| account.subject.to_string(),
        async |page| store.accounts(&page).await,
    )
    .await
}
