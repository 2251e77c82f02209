//! Clients that the broker registered at authorization servers.

use token_broker_store::{StoreError, connect::RegisteredClient, sealing::SealingContext};

use tower_token_broker::principal::Scopes;

use crate::{
    authority::{SealedTable, of_row, sealed::Sealed},
    database::{Failure, Row, Value},
    limits,
    store::SqlStore,
};

const KIND: &str = "registered client";

pub(super) const SEALED: SealedTable = SealedTable {
    select_old: "SELECT id, key_id, data_key, issuer, redirect_uri, client_id, auth_method, \
        scopes, created_at, secret_expires_at FROM registered_clients \
        WHERE key_id <> $1 AND (CAST($2 AS TEXT) IS NULL OR id > $2) ORDER BY id LIMIT $3",
    rewrap: "UPDATE registered_clients SET key_id = $1, data_key = $2 \
        WHERE id = $3 AND data_key = $4 RETURNING 1",
    // Only clients with a secret have a data key.
    context: |row| Ok(context(&columns(row, 3)?, HasSecret(true))),
};

const INSERT: &str = "INSERT INTO registered_clients (id, issuer, redirect_uri, client_id, \
    auth_method, scopes, created_at, secret_expires_at, mac, key_id, data_key, secret) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
    ON CONFLICT (id) DO UPDATE SET redirect_uri = excluded.redirect_uri, \
    auth_method = excluded.auth_method, scopes = excluded.scopes, \
    created_at = excluded.created_at, secret_expires_at = excluded.secret_expires_at, \
    mac = excluded.mac, key_id = excluded.key_id, data_key = excluded.data_key, \
    secret = excluded.secret";
const LOAD: &str = "SELECT issuer, redirect_uri, client_id, auth_method, scopes, \
    created_at, secret_expires_at, mac, key_id, data_key, secret FROM registered_clients \
    WHERE id = $1";
/// Of two that are equally old, the same one each time.
const NEWEST: &str = "SELECT issuer, redirect_uri, client_id, auth_method, scopes, \
    created_at, secret_expires_at, mac, key_id, data_key, secret FROM registered_clients \
    WHERE issuer = $1 AND redirect_uri = $2 ORDER BY created_at DESC, client_id DESC LIMIT 1";

#[derive(Clone, Copy)]
struct HasSecret(bool);

impl SqlStore {
    pub(super) async fn put_client(&self, client: &RegisteredClient) -> Result<(), StoreError> {
        let id = self.id_of(&client.issuer, &client.client_id);
        let context = context(client, HasSecret(client.client_secret.is_some()));
        let (mac, scopes) = (self.mac(&context), client.scopes.to_string());
        let secret = match &client.client_secret {
            Some(secret) => Some(self.seal(&context, secret).await?),
            None => None,
        };
        let mut values = vec![
            Value::Text(&id),
            Value::Text(&client.issuer),
            Value::Text(&client.redirect_uri),
            Value::Text(&client.client_id),
            Value::Text(&client.auth_method),
            Value::Text(&scopes),
            Value::from(client.created_at),
            Value::from(client.secret_expires_at),
            Value::Bytes(&mac),
        ];
        let none = [Value::OptionalText(None), Value::OptionalBytes(None)];
        match &secret {
            Some(secret) => values.extend(secret.values()),
            None => values.extend([none[0], none[1], none[1]]),
        }
        self.write(INSERT, &values).await?;
        Ok(())
    }

    pub(super) async fn newest_client(
        &self,
        issuer: &str,
        redirect_uri: &str,
    ) -> Result<Option<RegisteredClient>, StoreError> {
        let texts = [issuer, redirect_uri];
        // What can't be stored was not stored.
        if texts.iter().any(|text| !limits::is_storable(text, limits::AUTHORIZATION_SERVER)) {
            return Ok(None);
        }
        let rows = self.read(NEWEST, &texts.map(Value::Text)).await?;
        self.first_client(&rows).await
    }

    pub(super) async fn client_at(
        &self,
        issuer: &str,
        client_id: &str,
    ) -> Result<Option<RegisteredClient>, StoreError> {
        let id = self.id_of(issuer, client_id);
        let rows = self.read(LOAD, &[Value::Text(&id)]).await?;
        let found = self.first_client(&rows).await?;
        // The row of another client that was given this ID is that of no client.
        let is_of =
            |found: &RegisteredClient| *found.issuer == *issuer && *found.client_id == *client_id;
        match found {
            Some(found) if !is_of(&found) => Err(StoreError::unreadable_row(KIND, client_id)),
            found => Ok(found),
        }
    }

    async fn first_client(&self, rows: &[Row]) -> Result<Option<RegisteredClient>, StoreError> {
        let Some(row) = rows.first() else { return Ok(None) };
        let id = row.text(2)?;
        self.open_client(row).await.map(Some).map_err(of_row(KIND, &id))
    }

    async fn open_client(&self, row: &Row) -> Result<RegisteredClient, Failure> {
        let mut client = columns(row, 0)?;
        let secret = Sealed::read(row, 8)?;
        let context = context(&client, HasSecret(secret.is_some()));
        if !self.is_authentic(&context, &row.bytes(7)?) {
            return Err(Failure::Unreadable);
        }
        if let Some(secret) = secret {
            client.client_secret = Some(self.open_sealed(&context, &secret).await?);
        }
        Ok(client)
    }

    /// Returns the ID of a row: both texts together are longer than a key of an index.
    fn id_of(&self, issuer: &str, client_id: &str) -> String {
        let of = SealingContext::new("ID of a registered client").text(issuer).text(client_id);
        self.mac(&of).iter().map(|octet| format!("{octet:02x}")).collect()
    }
}

/// Reads the columns that never change, of which the first has this position.
fn columns(row: &Row, first: usize) -> Result<RegisteredClient, Failure> {
    let texts = (row.text(first)?, row.text(first + 1)?, row.text(first + 2)?);
    let mut client = RegisteredClient::new(&texts.0, &texts.1, &texts.2, row.time(first + 5)?);
    client.auth_method = row.text(first + 3)?.into();
    client.scopes = Scopes::parse(&row.text(first + 4)?).map_err(|_| Failure::Unreadable)?;
    client.secret_expires_at = row.optional_time(first + 6)?;
    Ok(client)
}

/// The columns that never change.
fn context(client: &RegisteredClient, HasSecret(has_secret): HasSecret) -> SealingContext {
    let context = SealingContext::new("registered client")
        .text(&client.issuer)
        .text(&client.redirect_uri)
        .text(&client.client_id)
        .text(&client.auth_method)
        .text(&client.scopes.to_string())
        .number(client.created_at.unix_millis())
        .number(has_secret.into());
    match client.secret_expires_at {
        Some(at) => context.number(at.unix_millis()),
        None => context,
    }
}
