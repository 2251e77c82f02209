//! `token-broker grants`.

use std::path::Path;

use aws_lc_rs::rand;
use token_broker_store::{
    Account, Grant, GrantFilter, GrantKey, GrantRef, GrantState, GrantStore as _, GrantSummary,
    StoreError,
    connect::{ConnectStore as _, RevocationId},
};
use tower_token_broker::{
    principal::{GrantId, Scopes, User},
    revocation::RevocationTarget,
};

use super::{CommandError, Session, server, shown};
use crate::configuration::{Credential, secret_of_file};

impl Session<'_> {
    /// Returns all grants that are selected.
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn grants(
        &self,
        user: Option<&User>,
        server: Option<&str>,
    ) -> Result<Vec<GrantSummary>, CommandError> {
        self.note("grants list", user.map(User::subject)).await?;
        self.all_grants(user, server).await
    }

    async fn all_grants(
        &self,
        user: Option<&User>,
        server: Option<&str>,
    ) -> Result<Vec<GrantSummary>, CommandError> {
        let mut filter = GrantFilter::all();
        if let Some(user) = user {
            filter = filter.user(user.clone());
        }
        if let Some(server) = server {
            filter = filter.server(server);
        }
        let mut all = Vec::new();
        loop {
            let page = self.stores.sql.list(&filter).await?;
            all.extend(page.grants);
            match page.next {
                Some(next) => filter = filter.after(next),
                None => return Ok(all),
            }
        }
    }

    /// Ends a grant: no request uses it any longer, and its tokens are erased.
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn revoke_grant(&self, id: &str) -> Result<String, CommandError> {
        let noted = self.note("grants revoke", Some(id)).await;
        let grant = self.stores.sql.find_grant(&GrantId::new(id)).await?;
        let grant = grant.ok_or_else(|| CommandError::NoGrant(id.to_owned()))?;
        self.end_grant(&grant).await?;
        self.has_revoked().await;
        noted.map_err(CommandError::done_not_recorded)?;
        let (user, account) = (shown(&grant.key.user), grant.key.account.as_str());
        Ok(format!("revoked: the grant of {user} for {} ({account})", grant.key.server))
    }

    /// Ends all grants of a user, or for a server, or of a user for a server, and the connects in
    /// progress that could bring them back.
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn revoke_grants(
        &self,
        user: Option<&User>,
        server: Option<&str>,
    ) -> Result<String, CommandError> {
        let noted = self.note("grants revoke", user.map(User::subject).or(server)).await;
        let count = self.end_grants(user, server).await?;
        self.has_revoked().await;
        noted.map_err(CommandError::done_not_recorded)?;
        Ok(format!("revoked: {count} {}", if count == 1 { "grant" } else { "grants" }))
    }

    /// Ends connects in progress, then grants, and returns the number of grants.
    pub(super) async fn end_grants(
        &self,
        user: Option<&User>,
        server: Option<&str>,
    ) -> Result<usize, CommandError> {
        self.stores.sql.end_connects(user, server).await?;
        let mut count = 0;
        for grant in self.all_grants(user, server).await? {
            if grant.state != GrantState::Revoked {
                self.end_grant(&grant.to_ref()).await?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Ends a grant. A running gateway revokes its tokens at their authorization server.
    async fn end_grant(&self, grant: &GrantRef) -> Result<(), CommandError> {
        // First the revocation, which ends its use at once. A log that takes no record delays it
        // not.
        self.revoke(RevocationTarget::Grant(grant.id.clone())).await?;
        let (store, id) = (&self.stores.sql, RevocationId::new(&random_id()));
        match store.disconnect(grant, &id, self.broker.clock().now()).await {
            // Tokens that no one can read cannot be revoked at their server.
            Err(StoreError::Unreadable { .. }) => store.revoke(grant).await?,
            ended => ended?,
        };
        Ok(())
    }

    /// Stores a grant that was obtained elsewhere.
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn add_grant(&self, new: &NewGrant<'_>) -> Result<String, CommandError> {
        let server = server(self.configuration, new.server)?;
        let Credential::OAuth(at) = &server.credential else {
            let why = format!("server {} has no `kind = \"oauth\"` credential", server.name);
            return Err(CommandError::Argument(why));
        };
        let Some(issuer) = at.issuer.as_ref().filter(|_| at.client.is_some()) else {
            let why = format!(
                "server {} has no `issuer` or `client_id`: a token of another client cannot be \
                 refreshed by a client that the gateway registers itself",
                server.name
            );
            return Err(CommandError::Argument(why));
        };
        let argument = |error: &dyn std::fmt::Display| CommandError::Argument(error.to_string());
        let account = match new.account {
            None => Account::default_account(),
            Some(account) => Account::parse(account).map_err(|error| argument(&error))?,
        };
        let scopes = match new.scopes {
            None => at.scopes.clone(),
            Some(scopes) => Scopes::parse(scopes).map_err(|error| argument(&error))?,
        };
        let refresh_token =
            secret_of_file(new.refresh_token_file).map_err(CommandError::Argument)?;
        let key = GrantKey::new(new.user.clone(), &server.name, account);
        let target = format!("{} for {}", server.name, new.user.subject());
        self.note("grants add", Some(&target)).await?;
        let existing = self.stores.sql.load(&key).await?.filter(|grant| grant.state.is_usable());
        if let Some(existing) = existing.as_ref().filter(|_| !new.replace) {
            return Err(CommandError::GrantExists(existing.id.as_str().to_owned()));
        }
        let grant = Grant::new(GrantId::new(&random_id()), key, issuer)
            .granted(scopes)
            .refresh_token(refresh_token);
        let stored = self.stores.sql.put(grant).await?;
        // Gateways have its access token in memory.
        if let Some(replaced) = existing {
            self.revoke(RevocationTarget::Grant(replaced.id)).await?;
            self.has_revoked().await;
        }
        Ok(format!("grant {} for {}", stored.id.as_str(), shown(new.user)))
    }
}

/// A grant to store.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "the arguments of a command")]
pub struct NewGrant<'a> {
    /// The user.
    pub user: &'a User,
    /// The name of the server.
    pub server: &'a str,
    /// The account; `default` if there is none.
    pub account: Option<&'a str>,
    /// The scopes that the user agreed to; those of the configuration if there are none.
    pub scopes: Option<&'a str>,
    /// The file with the refresh token.
    pub refresh_token_file: &'a Path,
    /// Whether it may replace a grant that can be used.
    pub replace: bool,
}

/// Returns a new ID of 128 random bits. As hexadecimal, it never begins with a hyphen, which a
/// command would take for an option.
fn random_id() -> String {
    let mut id = [0; 16];
    rand::fill(&mut id).expect("the system's source of randomness does not fail once it is seeded");
    format!("{:032x}", u128::from_be_bytes(id))
}
