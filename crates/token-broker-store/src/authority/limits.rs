//! Largest lengths of what the authority and the connect flow store, the same in every store.

use tower_token_broker::{
    Secret,
    principal::{Resource, Scopes, User},
};

use crate::{GrantKey, StoreError};

const ISSUER: usize = 1_024;
const SUBJECT: usize = 1_024;
const CLIENT: usize = 2_048;
const URI: usize = 2_048;
const SCOPES: usize = 16 * 1_024;
const ID: usize = 255;
const SERVER: usize = 255;

type Checked = Result<(), StoreError>;

/// Checks a text: its length, and that it has no NUL, which PostgreSQL does not store.
// O286: a driver that receives a length beyond its protocol's may send another statement
// (RUSTSEC-2024-0363).
pub(crate) fn text(field: &'static str, text: &str, limit: usize) -> Checked {
    let is_storable = text.len() <= limit && !text.contains('\0');
    if is_storable { Ok(()) } else { Err(StoreError::Invalid { field, limit }) }
}

/// Checks a URI, which has no control characters.
pub(crate) fn uri(field: &'static str, uri: &str) -> Checked {
    let has_control = uri.chars().any(char::is_control);
    if has_control { Err(StoreError::Invalid { field, limit: URI }) } else { text(field, uri, URI) }
}

pub(crate) fn id(field: &'static str, id: &str) -> Checked {
    text(field, id, ID)
}

pub(crate) fn client(id: &str) -> Checked {
    text("the client ID", id, CLIENT)
}

pub(crate) fn user(user: &User) -> Checked {
    text("the issuer of the user", user.issuer(), ISSUER)?;
    text("the subject of the user", user.subject(), SUBJECT)
}

/// Checks the key of a grant. Names of accounts are short.
pub(crate) fn key(key: &GrantKey) -> Checked {
    user(&key.user)?;
    text("the name of the server", &key.server, SERVER)
}

pub(crate) fn resource(resource: &Resource) -> Checked {
    text("the resource", resource.as_str(), URI)
}

pub(crate) fn scopes(scopes: &Scopes) -> Checked {
    count("the scopes", scopes.iter().map(|scope| scope.len() + 1).sum(), SCOPES)
}

pub(crate) const fn count(field: &'static str, count: usize, limit: usize) -> Checked {
    if count <= limit { Ok(()) } else { Err(StoreError::Invalid { field, limit }) }
}

#[expect(clippy::disallowed_methods, reason = "only its length")]
pub(crate) fn octets(secret: &Secret) -> usize {
    secret.expose().len()
}
