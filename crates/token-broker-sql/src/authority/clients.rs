//! Clients that registered themselves.

use token_broker_store::{
    StoreError,
    authority::{
        ApplicationType, Client, ClientAuthMethod, ClientId, ClientKeys, ClientStore, LookupHash,
        Page, PageRequest, RegisterClient, Registration, StoredHash,
    },
    sealing::SealingContext,
};
use tower_token_broker::clock::Timestamp;

use super::{count, of_row, page_of};
use crate::{
    database::{Failure, Row, Value},
    limits,
    store::SqlStore,
};

const KIND: &str = "client";
const COUNTER: &str = "clients";

const INSERT: &str = "INSERT INTO clients (id, name, redirect_uris, application_type, \
    auth_method, secret, jwks, jwks_uri, software_id, software_version, created_at, last_used_at, \
    mac) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
    ON CONFLICT DO NOTHING RETURNING 1";
const LOAD: &str = "SELECT id, name, redirect_uris, application_type, auth_method, secret, jwks, \
    jwks_uri, software_id, software_version, created_at, last_used_at, mac \
    FROM clients WHERE id = $1";
const LIST: &str = "SELECT id, name, redirect_uris, application_type, auth_method, secret, jwks, \
    jwks_uri, software_id, software_version, created_at, last_used_at, mac \
    FROM clients WHERE (CAST($1 AS TEXT) IS NULL OR id > $1) ORDER BY id LIMIT $2";
const MARK_USED: &str = "UPDATE clients SET last_used_at = \
    CASE WHEN last_used_at > $2 THEN last_used_at ELSE $2 END WHERE id = $1 RETURNING 1";
const REMOVE: &str = "DELETE FROM clients WHERE id = $1 RETURNING 1";
const REMOVE_UNUSED: &str = "DELETE FROM clients WHERE last_used_at IS NULL AND id IN (\
    SELECT id FROM clients WHERE last_used_at IS NULL AND created_at < $1 \
    ORDER BY created_at LIMIT $2) RETURNING 1";

impl ClientStore for SqlStore {
    async fn register_client(&self, request: &RegisterClient) -> Result<Registration, StoreError> {
        request.client.check()?;
        let (store, request) = (self.clone(), request.clone());
        self.owned(async move {
            let outcome = store.within(store.register(&request)).await?;
            match outcome {
                Some(registration) => Ok(registration),
                None => Err(StoreError::exists(KIND, request.client.id.as_str())),
            }
        })
        .await
    }

    async fn client(&self, id: &ClientId) -> Result<Option<Client>, StoreError> {
        if !limits::is_storable(id.as_str(), limits::CLIENT) {
            return Ok(None);
        }
        let rows = self.read(LOAD, &[Value::Text(id.as_str())]).await?;
        rows.first().map(|row| self.read_client(row)).transpose()
    }

    async fn mark_client_used(&self, id: &ClientId, now: Timestamp) -> Result<bool, StoreError> {
        if !limits::is_storable(id.as_str(), limits::CLIENT) {
            return Ok(false);
        }
        let (store, id) = (self.clone(), id.clone());
        self.owned(async move {
            let values = [Value::Text(id.as_str()), Value::from(now)];
            Ok(!store.write(MARK_USED, &values).await?.is_empty())
        })
        .await
    }

    async fn clients(&self, page: &PageRequest) -> Result<Page<Client>, StoreError> {
        let after = page.after.as_deref();
        if after.is_some_and(|after| !limits::is_storable(after, limits::CLIENT)) {
            return Ok(Page::new(Vec::new(), None));
        }
        let size = page.size();
        let values = [Value::OptionalText(after), Value::from(size as u64 + 1)];
        let rows = self.read(LIST, &values).await?;
        page_of(&rows, size, |row| self.read_client(row))
    }

    async fn remove_client(&self, id: &ClientId) -> Result<bool, StoreError> {
        if !limits::is_storable(id.as_str(), limits::CLIENT) {
            return Ok(false);
        }
        let (store, id) = (self.clone(), id.clone());
        self.owned(async move {
            let values = [Value::Text(id.as_str())];
            Ok(store.within(store.remove_and_count(REMOVE, &values)).await? > 0)
        })
        .await
    }

    async fn remove_unused_clients(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let store = self.clone();
        self.owned(async move {
            let values = [Value::from(before), Value::from(limit as u64)];
            Ok(store.within(store.remove_and_count(REMOVE_UNUSED, &values)).await?)
        })
        .await
    }
}

impl SqlStore {
    /// Registers a client; `None` if its ID is taken.
    async fn register(&self, request: &RegisterClient) -> Result<Option<Registration>, Failure> {
        let client = &request.client;
        let redirect_uris = lines(&client.redirect_uris);
        let (jwks, jwks_uri) = match &client.keys {
            Some(ClientKeys::Inline(jwks)) => (Some(&**jwks), None),
            Some(ClientKeys::Uri(uri)) => (None, Some(&**uri)),
            None => (None, None),
        };
        let secret = request.secret.as_ref().map(LookupHash::as_bytes);
        let mac = self.mac(&context(client, secret.map(<[u8; 32]>::as_slice)));
        let values = [
            Value::Text(client.id.as_str()),
            Value::Text(&client.name),
            Value::Text(&redirect_uris),
            Value::Text(client.application_type.as_str()),
            Value::Text(client.auth_method.as_str()),
            Value::OptionalBytes(secret.map(<[u8; 32]>::as_slice)),
            Value::OptionalText(jwks),
            Value::OptionalText(jwks_uri),
            Value::OptionalText(client.software_id.as_deref()),
            Value::OptionalText(client.software_version.as_deref()),
            Value::from(client.created_at),
            Value::from(client.last_used_at),
            Value::Bytes(&mac),
        ];
        // Dropped without a commit, it changes nothing.
        let mut changes = self.database.begin().await?;
        let clients = count(&mut changes, COUNTER, 1).await?;
        if changes.run(INSERT, &values).await?.is_empty() {
            return Ok(None);
        }
        if clients > request.max_clients {
            return Ok(Some(Registration::Full));
        }
        changes.commit().await?;
        Ok(Some(Registration::Registered))
    }

    /// Removes clients, and returns their number.
    async fn remove_and_count(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<usize, Failure> {
        let mut changes = self.database.begin().await?;
        // Locked first, as by a registration.
        count(&mut changes, COUNTER, 0).await?;
        let removed = changes.run(sql, values).await?.len();
        let by = i64::try_from(removed).map_err(|_| Failure::Unreadable)?;
        count(&mut changes, COUNTER, -by).await?;
        changes.commit().await?;
        Ok(removed)
    }

    fn read_client(&self, row: &Row) -> Result<Client, StoreError> {
        let id = row.text(0)?;
        self.parse_client(row, &id).map_err(of_row(KIND, &id))
    }

    fn parse_client(&self, row: &Row, id: &str) -> Result<Client, Failure> {
        let mut client = Client::new(ClientId::new(id), row.time(10)?);
        client.name = row.text(1)?.into();
        let redirect_uris = row.text(2)?;
        client.redirect_uris = redirect_uris.split_terminator('\n').map(Box::from).collect();
        client.application_type =
            ApplicationType::from_name(&row.text(3)?).ok_or(Failure::Unreadable)?;
        client.auth_method =
            ClientAuthMethod::from_name(&row.text(4)?).ok_or(Failure::Unreadable)?;
        let secret = row.optional_bytes(5)?;
        client.keys = match (row.optional_text(6)?, row.optional_text(7)?) {
            (Some(jwks), None) => Some(ClientKeys::Inline(jwks.into())),
            (None, Some(uri)) => Some(ClientKeys::Uri(uri.into())),
            (None, None) => None,
            (Some(_), Some(_)) => return Err(Failure::Unreadable),
        };
        client.software_id = row.optional_text(8)?.map(String::into_boxed_str);
        client.software_version = row.optional_text(9)?.map(String::into_boxed_str);
        client.last_used_at = row.optional_time(11)?;
        if !self.is_authentic(&context(&client, secret.as_deref()), &row.bytes(12)?) {
            return Err(Failure::Unreadable);
        }
        client.secret = match secret {
            Some(secret) => {
                Some(StoredHash::new(secret.try_into().map_err(|_| Failure::Unreadable)?))
            }
            None => None,
        };
        Ok(client)
    }
}

/// Each text with a line feed at its end. None of them has one within.
fn lines(texts: &[Box<str>]) -> String {
    texts.iter().flat_map(|text| [text, "\n"]).collect()
}

/// The columns that never change.
fn context(client: &Client, secret: Option<&[u8]>) -> SealingContext {
    let optional = |context: SealingContext, part: Option<&[u8]>| match part {
        Some(part) => context.number(1).part(part),
        None => context.number(0),
    };
    let text = |text: &Option<Box<str>>| text.as_deref().map(str::as_bytes).map(<[u8]>::to_vec);
    let context = SealingContext::new(KIND)
        .text(client.id.as_str())
        .text(&client.name)
        .text(&lines(&client.redirect_uris))
        .text(client.application_type.as_str())
        .text(client.auth_method.as_str());
    let context = match &client.keys {
        Some(ClientKeys::Inline(jwks)) => context.text("jwks").text(jwks),
        Some(ClientKeys::Uri(uri)) => context.text("jwks_uri").text(uri),
        None => context.text("none"),
    };
    let context = optional(context, secret);
    let context = optional(context, text(&client.software_id).as_deref());
    let context = optional(context, text(&client.software_version).as_deref());
    context.number(client.created_at.unix_millis())
}
