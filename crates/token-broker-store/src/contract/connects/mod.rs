//! Laws of a [`ConnectStore`]. Each takes an empty store.

mod clients;
mod disconnects;
mod finishes;
mod pending;
mod races;
mod revocations;
mod uses;

use std::time::Duration;

use tower_token_broker::{clock::Timestamp, principal::GrantId};

pub use self::{
    clients::*, disconnects::*, finishes::*, pending::*, races::*, revocations::*, uses::*,
};
use super::{
    ContractError,
    authority::{HOSTILE, at_once, expect_exists, expect_invalid},
    grants::{
        Law, acquire, existing, expect_same, expect_stored, grant, grant_for, key, now, request,
        secret, user,
    },
};
use crate::{
    Grant, GrantKey,
    authority::{LookupHash, LookupKey, SessionId},
    connect::{
        ConnectId, ConnectStore, PendingConnect, PendingRevocation, RevocationId, RevokedToken,
        RevokedTokenKind,
    },
};

const MILLISECOND: Duration = Duration::from_millis(1);
/// Longer than any field may be, and with a character that PostgreSQL does not store.
const REFUSED: [&str; 2] = [LONG, "\0"];
const LONG: &str = match std::str::from_utf8(&[b'x'; 3_000]) {
    Ok(text) => text,
    Err(_) => "",
};

fn after(seconds: u64) -> Timestamp {
    now().plus(Duration::from_secs(seconds))
}

/// The state of a connect whose value is this text.
fn state(keys: &LookupKey, value: &str) -> LookupHash {
    keys.connect_state(&secret(value))
}

fn session(name: &str) -> SessionId {
    SessionId::new(&format!("session of {name}"))
}

/// A connect of alice at `crm`, in her session, that expires after 600 seconds.
fn connect(id: &str) -> PendingConnect {
    connect_for(id, key("alice", "crm"))
}

fn connect_for(id: &str, key: GrantKey) -> PendingConnect {
    let content = secret(&format!("content of {id}"));
    PendingConnect::new((ConnectId::new(id), key), session("alice"), content, (now(), after(600)))
}

/// Stores a connect whose state is its ID.
async fn begin<S: ConnectStore>(store: &S, keys: &LookupKey, connect: &PendingConnect) -> Law {
    Ok(store.put_connect(&state(keys, connect.id.as_str()), connect).await?)
}

/// Stores a connect, and claims it.
async fn begin_and_claim<S: ConnectStore>(store: &S, connect: &PendingConnect) -> Law {
    let keys = LookupKey::generate();
    begin(store, &keys, connect).await?;
    let state = state(&keys, connect.id.as_str());
    let claimed = store.claim_connect(&state, &connect.session, now()).await?;
    ensure!(claimed.is_some(), "{} is not claimed", connect.id);
    Ok(())
}

/// Returns whether a connect in progress is there, by claiming it.
async fn is_open<S: ConnectStore>(
    store: &S,
    keys: &LookupKey,
    id: &str,
) -> Result<bool, ContractError> {
    Ok(store.claim_connect(&state(keys, id), &session("alice"), now()).await?.is_some())
}

fn expect_same_connect(actual: &PendingConnect, expected: &PendingConnect) -> Law {
    let of = |connect: &PendingConnect| {
        let texts = (connect.id.clone(), connect.key.clone(), connect.session.clone());
        (texts, connect.created_at, connect.expires_at)
    };
    ensure_eq!(of(actual), of(expected), "the connect");
    ensure!(actual.content.matches(&expected.content), "another content");
    Ok(())
}

/// A revocation of two tokens of alice at `crm`, due at once.
fn revocation(id: &str) -> PendingRevocation {
    let of = (key("alice", "crm"), GrantId::new("g1"));
    let tokens = vec![
        RevokedToken::new(RevokedTokenKind::Refresh, secret(&format!("refresh of {id}"))),
        RevokedToken::new(RevokedTokenKind::Access, secret(&format!("access of {id}"))),
    ];
    PendingRevocation::new(RevocationId::new(id), of, "https://login.crm.example", tokens, now())
}

/// Claims the revocation that is due, which must exist.
async fn claim_due<S: ConnectStore>(
    store: &S,
    at: Timestamp,
    until: Timestamp,
) -> Result<PendingRevocation, ContractError> {
    store
        .claim_revocation(at, until)
        .await?
        .ok_or_else(|| broken(&format!("no revocation is due at {at}")))
}

/// Claims all revocations that are due, in the order of their IDs.
async fn claim_all<S: ConnectStore>(store: &S) -> Result<Vec<PendingRevocation>, ContractError> {
    let mut claimed = Vec::new();
    while let Some(revocation) = store.claim_revocation(after(60), after(3_600)).await? {
        ensure!(claimed.len() < 1_000, "a claimed revocation is due again");
        claimed.push(revocation);
    }
    claimed.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(claimed)
}

/// Fails unless no revocation is due, now or later.
async fn expect_no_revocation<S: ConnectStore>(store: &S) -> Law {
    let due = store.claim_revocation(after(1_000_000), after(1_000_001)).await?;
    ensure!(due.is_none(), "there is a revocation: {due:?}");
    Ok(())
}

/// Fails if two revocations differ. Access tokens may be in any order.
fn expect_same_revocation(actual: &PendingRevocation, expected: &PendingRevocation) -> Law {
    let of = |revocation: &PendingRevocation| {
        (
            (revocation.id.clone(), revocation.key.clone(), revocation.grant.clone()),
            (revocation.authorization_server.clone(), revocation.client_id.clone()),
            (revocation.created_at, revocation.attempts, revocation.retry_at),
        )
    };
    ensure_eq!(of(actual), of(expected), "the revocation");
    expect_tokens(actual, &expected.tokens)
}

/// Fails unless a revocation has these tokens, with the refresh token first.
fn expect_tokens(actual: &PendingRevocation, expected: &[RevokedToken]) -> Law {
    ensure_eq!(actual.tokens.len(), expected.len(), "the number of tokens");
    for token in expected {
        let same =
            |held: &RevokedToken| held.kind == token.kind && held.secret.matches(&token.secret);
        ensure!(actual.tokens.iter().any(same), "{:?} is missing", token.kind);
    }
    let kinds = actual.tokens.iter().map(|token| token.kind);
    let first = kinds.clone().skip(1).all(|kind| kind == RevokedTokenKind::Access);
    ensure!(first, "the order of the tokens is {:?}", kinds.collect::<Vec<_>>());
    Ok(())
}

/// Returns whether tokens of a grant may still be used.
fn has_tokens(grant: &Grant) -> bool {
    grant.refresh_token.is_some() || !grant.access.is_empty()
}

fn broken(how: &str) -> ContractError {
    ContractError::Broken { how: how.into() }
}
