//! `token-broker clients`.

use std::collections::BTreeMap;

use token_broker_store::authority::{
    ClientId, ClientStore as _, Family, FamilyFilter, FamilyStore as _, PageRequest,
};
use tower_token_broker::{clock::Timestamp, principal::User};

use super::{CommandError, Session, accounts::families, issuer};
use crate::escaped::escaped;

/// Number of rows that are read at once.
const PAGE: usize = 500;

/// A client, as `clients list` shows it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ShownClient {
    /// Its ID.
    pub id: String,
    /// The name that it claims, or that the operator set.
    pub name: String,
    /// Where it is known from: `configured`, `registered` or `document`.
    pub origin: &'static str,
    /// How many users it has access for.
    pub users: usize,
    /// How many token families it has.
    pub families: usize,
    /// When one of them was last used.
    pub last_used_at: Option<Timestamp>,
}

impl Session<'_> {
    /// Returns all clients: configured ones, registered ones, and those that have access.
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn clients(&self) -> Result<Vec<ShownClient>, CommandError> {
        let login = self.login()?;
        self.note("clients list", None).await?;
        let mut clients = BTreeMap::new();
        for client in &login.clients {
            let id = client.id().to_owned();
            clients.insert(id.clone(), ShownClient::new(id, client.shown_name(), "configured"));
        }
        let mut page = PageRequest::first().limit(PAGE);
        loop {
            let found = self.stores.sql.clients(&page).await?;
            self.leave_out("clients", &found.unreadable);
            for client in found.rows {
                let id = client.id.as_str().to_owned();
                let mut shown = ShownClient::new(id.clone(), &client.name, "registered");
                shown.last_used_at = client.last_used_at;
                clients.entry(id).or_insert(shown);
            }
            match found.next {
                Some(next) => page = PageRequest::after(&next).limit(PAGE),
                None => break,
            }
        }
        let mut users = BTreeMap::<String, Vec<User>>::new();
        for family in self.families(FamilyFilter::all()).await? {
            let id = family.client.as_str().to_owned();
            let origin = if id.contains("://") { "document" } else { "removed" };
            let client = clients
                .entry(id.clone())
                .or_insert_with(|| ShownClient::new(id.clone(), "", origin));
            client.families += 1;
            client.last_used_at = client.last_used_at.max(Some(family.last_used_at));
            let users = users.entry(id).or_default();
            if !users.contains(&family.user) {
                users.push(family.user);
            }
        }
        for (id, users) in users {
            if let Some(client) = clients.get_mut(&id) {
                client.users = users.len();
            }
        }
        Ok(clients.into_values().collect())
    }

    /// Ends the access of a client, for all users or for one: its tokens are refused, and it must
    /// ask its users again. Its registration stays.
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn revoke_client(
        &self,
        id: &str,
        user: Option<&User>,
    ) -> Result<String, CommandError> {
        let login = self.login()?;
        // A log that takes no record delays no end of access.
        let target = match user {
            Some(user) => format!("{id} for {}", user.subject()),
            None => id.to_owned(),
        };
        let noted = self.note("clients revoke", Some(&target)).await;
        let client = ClientId::new(id);
        let filter = FamilyFilter::all().client(client.clone());
        // What cannot be read can be ended.
        let is_known = login.clients.iter().any(|known| known.id() == id)
            || !matches!(self.stores.sql.client(&client).await, Ok(None))
            || !self.families(filter).await?.is_empty()
            || self.left_out().is_some();
        if !is_known {
            let why = format!("no client has the ID {}; `token-broker clients list`", escaped(id));
            return Err(CommandError::Argument(why));
        }
        let ended = self.end_access(user, Some(&client)).await?;
        self.has_revoked().await;
        noted.map_err(CommandError::done_not_recorded)?;
        Ok(format!("revoked: client {}, {}", escaped(id), families(ended)))
    }

    /// Removes the registration of a client, and ends its access. It must register again.
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn remove_client(&self, id: &str) -> Result<String, CommandError> {
        self.login()?;
        let noted = self.note("clients remove", Some(id)).await;
        let client = ClientId::new(id);
        if !self.stores.sql.remove_client(&client).await? {
            let why = format!("no client registered itself with the ID {}", escaped(id));
            return Err(CommandError::Argument(why));
        }
        let ended = self.end_access(None, Some(&client)).await?;
        self.has_revoked().await;
        noted.map_err(CommandError::done_not_recorded)?;
        Ok(format!("removed: client {}, {} ended", escaped(id), families(ended)))
    }

    /// Ends the access of a user, of a client, or of both together: tokens that are in use, and
    /// those that would be refreshed later. Returns the number of token families.
    pub(super) async fn end_access(
        &self,
        user: Option<&User>,
        client: Option<&ClientId>,
    ) -> Result<usize, CommandError> {
        let issuer = issuer(self.configuration);
        let ended = token_broker_authority::end_families(
            &self.broker,
            &issuer,
            &self.stores.sql,
            (user, client),
            &self.initiator,
        );
        ended.await.map_err(|error| CommandError::Revoke(error.to_string()))
    }

    /// Returns the families that have not ended.
    async fn families(&self, filter: FamilyFilter) -> Result<Vec<Family>, CommandError> {
        let filter = filter.active_at(self.broker.clock().now());
        let (mut families, mut page) = (Vec::new(), PageRequest::first().limit(PAGE));
        loop {
            let found = self.stores.sql.families(&filter, &page).await?;
            self.leave_out("token families", &found.unreadable);
            families.extend(found.rows);
            match found.next {
                Some(next) => page = PageRequest::after(&next).limit(PAGE),
                None => return Ok(families),
            }
        }
    }
}

impl ShownClient {
    fn new(id: String, name: &str, origin: &'static str) -> Self {
        let name = name.to_owned();
        Self { id, name, origin, users: 0, families: 0, last_used_at: None }
    }
}
