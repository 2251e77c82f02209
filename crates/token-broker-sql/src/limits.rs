//! Largest lengths, compared before the database driver sees a value.

use token_broker_store::{Grant, GrantKey, StoreError};
use tower_token_broker::Secret;

/// Largest lengths, in bytes. An index of PostgreSQL takes 2 704 bytes for a key.
pub(crate) const ISSUER: usize = 1_024;
pub(crate) const SUBJECT: usize = 1_024;
const SERVER: usize = 255;
const GRANT_ID: usize = 255;
pub(crate) const AUTHORIZATION_SERVER: usize = 2_048;
const GRANTED: usize = 16 * 1_024;
const REFRESH_TOKEN: usize = 16 * 1_024;
const ACCESS_TOKEN: usize = 64 * 1_024;
const ACCESS_TOKENS: usize = 256;
/// Of the ID of a client.
pub(crate) const CLIENT: usize = 2_048;
/// Of other IDs of the authority.
pub(crate) const ID: usize = 255;
/// Of an issuer and of an ID in an entry of the revocations.
pub(crate) const REVOKED: usize = 16 * 1_024;

/// Whether a text can be stored. NUL is refused, because PostgreSQL does not store it.
// O286: a driver that receives a length beyond its protocol's may send another statement
// (RUSTSEC-2024-0363).
pub(crate) fn is_storable(text: &str, limit: usize) -> bool {
    text.len() <= limit && !text.contains('\0')
}

/// Whether there can be a grant with this key.
pub(crate) fn has_storable_key(key: &GrantKey) -> bool {
    check_key(key).is_ok()
}

fn check_key(key: &GrantKey) -> Result<(), StoreError> {
    text("the issuer of the user", key.user.issuer(), ISSUER)?;
    text("the subject of the user", key.user.subject(), SUBJECT)?;
    text("the name of the server", &key.server, SERVER)
}

/// Checks everything that is to be stored of a grant.
pub(crate) fn check(grant: &Grant) -> Result<(), StoreError> {
    check_key(&grant.key)?;
    text("the ID of the grant", grant.id.as_str(), GRANT_ID)?;
    text("the authorization server", &grant.authorization_server, AUTHORIZATION_SERVER)?;
    if let Some(client_id) = &grant.client_id {
        text("the client ID of the grant", client_id, CLIENT)?;
    }
    if let Some(upstream) = &grant.upstream {
        text("the upstream of the grant", upstream, AUTHORIZATION_SERVER)?;
    }
    if let Some(resource) = &grant.resource {
        text("the resource of the grant", resource, AUTHORIZATION_SERVER)?;
    }
    let granted: usize = grant.granted.iter().map(|scope| scope.len() + 1).sum();
    length("the scopes of the grant", granted, GRANTED)?;
    if let Some(token) = &grant.refresh_token {
        length("the refresh token", octets(token), REFRESH_TOKEN)?;
    }
    for token in &grant.access {
        length("an access token", octets(&token.secret), ACCESS_TOKEN)?;
    }
    match grant.access.len() {
        0..=ACCESS_TOKENS => Ok(()),
        _ => Err(StoreError::Invalid { field: "the list of access tokens", limit: ACCESS_TOKENS }),
    }
}

/// Drops access tokens beyond the limits, so that they do not keep a new refresh token from being
/// stored.
pub(crate) fn drop_excess(grant: &mut Grant) {
    grant.access.retain(|token| octets(&token.secret) <= ACCESS_TOKEN);
    let excess = grant.access.len().saturating_sub(ACCESS_TOKENS);
    grant.access.drain(..excess);
}

#[expect(clippy::disallowed_methods, reason = "only its length")]
fn octets(secret: &Secret) -> usize {
    secret.expose().len()
}

fn text(field: &'static str, text: &str, limit: usize) -> Result<(), StoreError> {
    if is_storable(text, limit) { Ok(()) } else { Err(StoreError::Invalid { field, limit }) }
}

const fn length(field: &'static str, length: usize, limit: usize) -> Result<(), StoreError> {
    if length <= limit { Ok(()) } else { Err(StoreError::Invalid { field, limit }) }
}
