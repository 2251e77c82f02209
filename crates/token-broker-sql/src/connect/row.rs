//! The columns of a connect in progress.

use token_broker_store::{
    Account, GrantKey,
    authority::{LookupHash, SessionId},
    connect::{ConnectId, PendingConnect},
    sealing::SealingContext,
};
use tower_token_broker::{Secret, principal::User};

use crate::{
    authority::{SealedTable, sealed::Sealed},
    database::{Failure, Row},
    store::SqlStore,
};

pub(super) const SEALED: SealedTable = SealedTable {
    select_old: "SELECT id, key_id, data_key, hash, issuer, subject, server, account, session, \
        created_at, expires_at FROM connects \
        WHERE key_id <> $1 AND (CAST($2 AS TEXT) IS NULL OR id > $2) ORDER BY id LIMIT $3",
    rewrap: "UPDATE connects SET key_id = $1, data_key = $2 WHERE id = $3 AND data_key = $4 \
        RETURNING 1",
    context: old_context,
};

/// A row. Its content is sealed, and that of `connect` is empty until it is opened.
pub(super) struct ConnectRow {
    pub(super) connect: PendingConnect,
    pub(super) mac: Vec<u8>,
    /// `None` once it is claimed.
    pub(super) content: Option<Sealed>,
    pub(super) context: SealingContext,
}

impl ConnectRow {
    /// Reads the columns id, hash, issuer, subject, server, account, session, `created_at`,
    /// `expires_at`, mac, `key_id`, `data_key` and content.
    pub(super) fn read(store: &SqlStore, row: &Row) -> Result<Self, Failure> {
        let (hash, key) = (row.bytes(1)?, key(row, 2)?);
        let connect = PendingConnect::new(
            (ConnectId::new(&row.text(0)?), key),
            SessionId::new(&row.text(6)?),
            Secret::new(Vec::new()),
            (row.time(7)?, row.time(8)?),
        );
        let (context, mac) = (context_of(&hash, &connect), row.bytes(9)?);
        if !store.is_authentic(&context, &mac) {
            return Err(Failure::Unreadable);
        }
        Ok(Self { connect, mac, content: Sealed::read(row, 10)?, context })
    }
}

/// Reads the columns of a [`GrantKey`], of which the first has this position.
pub(super) fn key(row: &Row, first: usize) -> Result<GrantKey, Failure> {
    let user = User::new(row.text(first)?, row.text(first + 1)?);
    let account = Account::parse(&row.text(first + 3)?).map_err(|_| Failure::Unreadable)?;
    Ok(GrantKey::new(user, &row.text(first + 2)?, account))
}

/// The columns that never change.
pub(super) fn context(hash: &LookupHash, connect: &PendingConnect) -> SealingContext {
    context_of(hash.as_bytes(), connect)
}

fn context_of(hash: &[u8], connect: &PendingConnect) -> SealingContext {
    with_key(SealingContext::new("connect").text(connect.id.as_str()).part(hash), &connect.key)
        .text(connect.session.as_str())
        .number(connect.created_at.unix_millis())
        .number(connect.expires_at.unix_millis())
}

/// Adds the parts of a key.
pub(super) fn with_key(context: SealingContext, key: &GrantKey) -> SealingContext {
    context
        .text(key.user.issuer())
        .text(key.user.subject())
        .text(&key.server)
        .text(key.account.as_str())
}

/// The context of a row whose data key is wrapped again.
fn old_context(row: &Row) -> Result<SealingContext, Failure> {
    let connect = PendingConnect::new(
        (ConnectId::new(&row.text(0)?), key(row, 4)?),
        SessionId::new(&row.text(8)?),
        Secret::new(Vec::new()),
        (row.time(9)?, row.time(10)?),
    );
    Ok(context_of(&row.bytes(3)?, &connect))
}
