//! Laws of a [`GrantStore`]. Each takes an empty store.

mod endings;
mod keys;
mod leases;
mod lists;
mod tokens;

use std::time::Duration;

use tower_token_broker::{
    Secret,
    clock::Timestamp,
    principal::{GrantId, Scopes, User},
};

pub use self::{endings::*, keys::*, leases::*, lists::*, tokens::*};
use super::ContractError;
use crate::{
    AccessToken, Account, Backoff, Grant, GrantKey, GrantRef, GrantStore, Lease, LeaseOutcome,
    LeaseRequest,
};

const ISSUER: &str = "https://broker.example.com";
const TERM: Duration = Duration::from_secs(20);

/// The result of a law.
pub(super) type Law = Result<(), ContractError>;

pub(super) fn now() -> Timestamp {
    // Milliseconds that are no whole second.
    Timestamp::from_unix_millis(1_800_000_000_123)
}

pub(super) fn user(subject: &str) -> User {
    User::new(ISSUER, subject)
}

pub(super) fn key(subject: &str, server: &str) -> GrantKey {
    GrantKey::new(user(subject), server, Account::default_account())
}

pub(super) fn secret(text: &str) -> Secret {
    Secret::from_text(text.to_owned())
}

pub(super) fn scopes(text: &str) -> Scopes {
    Scopes::parse(text).unwrap_or_else(|_| Scopes::none())
}

pub(super) fn access_token(text: &str, requested: &str, age: Duration) -> AccessToken {
    let obtained_at = now().minus(age);
    let expires_at = obtained_at.plus(Duration::from_secs(3_600));
    AccessToken::new(secret(text), scopes(requested), obtained_at, expires_at)
}

/// A grant of alice at the server `crm`, with a refresh token and one access token.
pub(super) fn grant(id: &str) -> Grant {
    grant_for(id, key("alice", "crm"))
}

pub(super) fn grant_for(id: &str, key: GrantKey) -> Grant {
    Grant::new(GrantId::new(id), key, "https://login.crm.example")
        .granted(scopes("crm:read crm:write"))
        .refresh_token(secret(&format!("refresh {id}")))
        .access_token(access_token(&format!("access {id}"), "crm:read", Duration::ZERO))
}

/// A backoff after three failures.
fn backoff() -> Backoff {
    Backoff::new(3, Some(now().plus(Duration::from_millis(60_007))))
}

pub(super) fn request(grant: &Grant) -> LeaseRequest {
    LeaseRequest::new(grant, now(), now().plus(TERM))
}

/// Takes the lease, which must be free.
pub(super) async fn acquire<S: GrantStore>(
    store: &S,
    request: &LeaseRequest,
) -> Result<Lease, ContractError> {
    match store.lease(request).await? {
        LeaseOutcome::Acquired(lease) => Ok(lease),
        other @ (LeaseOutcome::Held(_) | LeaseOutcome::Stale) => {
            let how = format!("the lease of {request:?} is {other:?}, expected Acquired").into();
            Err(ContractError::Broken { how })
        }
    }
}

/// Takes the lease after `request` has expired, which must be free.
async fn acquire_later<S: GrantStore>(store: &S, grant: &Grant) -> Result<Lease, ContractError> {
    let later = now().plus(TERM);
    acquire(store, &LeaseRequest::new(grant, later, later.plus(TERM))).await
}

/// Loads a grant, which must exist.
pub(super) async fn existing<S: GrantStore>(
    store: &S,
    grant: &GrantRef,
) -> Result<Grant, ContractError> {
    let Some(found) = store.load(&grant.key).await? else {
        let how = format!("no grant is found by the key {:?}", grant.key).into();
        return Err(ContractError::Broken { how });
    };
    ensure_eq!(found.id, grant.id, "the ID of the grant of {:?}", grant.key);
    Ok(found)
}

/// Returns a reference to a grant of alice at the server `crm`, by this ID.
fn of_alice(id: &str) -> GrantRef {
    GrantRef::new(key("alice", "crm"), GrantId::new(id))
}

/// Fails if the store has another grant than this one under its key.
pub(super) async fn expect_stored<S: GrantStore>(store: &S, expected: &Grant) -> Law {
    expect_same(&existing(store, &expected.to_ref()).await?, expected)
}

/// Fails if two grants differ. Access tokens may be in any order.
pub(super) fn expect_same(actual: &Grant, expected: &Grant) -> Law {
    // Summaries have all fields but the tokens.
    ensure_eq!(actual.to_summary(), expected.to_summary(), "the grant");
    let secrets = actual.refresh_token.iter().zip(&expected.refresh_token);
    ensure!(secrets.into_iter().all(|(one, other)| one.matches(other)), "another refresh token");
    ensure_eq!(actual.access.len(), expected.access.len(), "the number of access tokens");
    for token in &expected.access {
        let held = actual.access.iter().find(|held| held.requested == token.requested);
        let same = |held: &AccessToken| {
            held.secret.matches(&token.secret)
                && held.scopes == token.scopes
                && held.obtained_at == token.obtained_at
                && held.expires_at == token.expires_at
                && held.version == token.version
                && held.forced == token.forced
        };
        ensure!(held.is_some_and(same), "expected access token {token:?}, found {held:?}");
    }
    Ok(())
}
