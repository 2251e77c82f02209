//! The commands that read or change what the gateway stores. Each is recorded in the audit folder,
//! in the chain of the writer `commands`, with who ran it. A running gateway learns of a change
//! from the store, within a quarter of a second.

use std::{fs, path::Path, time::Duration};

use aws_lc_rs::rand;
use serde_json::{Value, json};
use token_broker_authority::issue::Mint;
use token_broker_store::{
    Account, Grant, GrantFilter, GrantKey, GrantRef, GrantStore as _, GrantSummary, StoreError,
};
use tower_token_broker::{
    Broker, Secret,
    audit::{AuditError, AuditFileError, IssuedToken, Note},
    clock::Timestamp,
    principal::{GrantId, Initiator, Resource, Scopes, User},
    revocation::RevocationTarget,
};

use crate::{
    configuration::{Configuration, Credential, Server, Tokens},
    escaped::escaped,
    gateway::{self, GatewayError, Stores, origin, scopes_of, trial_issuer},
};

/// The writer of the chain in which commands record what they do.
pub(crate) const WRITER: &str = "commands";
/// How long a command waits for another one.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the last record may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(20);

/// The reasons why a command did not do what it was run for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The configuration, the audit folder or the store cannot be used.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The command cannot be recorded. Nothing was changed.
    #[error("the audit log takes no record: nothing was changed")]
    NotRecorded(#[from] AuditError),
    /// The store failed.
    #[error("{0}; run the command again, because it may have changed only a part")]
    Store(#[from] StoreError),
    /// The revocation did not become durable.
    #[error("{0}; run the command again")]
    Revoke(String),
    /// It was done, and the command is not on the record; what it changed may be.
    #[error("done; but the audit log took no record of the command: check its disk")]
    DoneNotRecorded,
    /// There is no store, so that no gateway can learn of a change.
    #[error(
        "there is no store, so no gateway uses it: run the command with the same configuration \
         and the same TOKEN_BROKER__… variables as the gateway"
    )]
    NoStore,
    /// There is a grant already.
    #[error("there is a grant already, {0}; to replace it, add --replace")]
    GrantExists(String),
    /// There is no such grant.
    #[error("no grant has the ID {0}; `token-broker grants list` shows them")]
    NoGrant(String),
    /// There is no such server.
    #[error("no server has the name {name}; the configuration has {known}")]
    NoServer {
        /// The name.
        name: String,
        /// The names of all servers.
        known: String,
    },
    /// An argument is invalid.
    #[error("{0}")]
    Argument(String),
}

impl CommandError {
    fn done_not_recorded(_: Self) -> Self {
        Self::DoneNotRecorded
    }
}

/// Returns a user for people.
fn shown(user: &User) -> String {
    format!("{} of {}", escaped(user.subject()), escaped(user.issuer()))
}

/// One run of a command: who runs it, and what it works on.
#[derive(Debug)]
pub struct Session<'a> {
    configuration: &'a Configuration,
    broker: Broker,
    stores: Stores,
    initiator: Initiator,
}

/// Whether a command may create the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third case")]
pub enum Store {
    /// The command prepares a gateway that is started later.
    MayBeNew,
    /// The command is about what a gateway has stored, or must learn of: without a store, it would
    /// report a success that has no effect.
    MustExist,
}

impl<'a> Session<'a> {
    /// Opens the store and the chain of commands.
    ///
    /// # Errors
    /// One of them cannot be opened, the store does not exist although it must, or another command
    /// takes too long.
    pub async fn open(
        configuration: &'a Configuration,
        operator: &str,
        store: Store,
    ) -> Result<Self, CommandError> {
        if store == Store::MustExist && !Stores::exist(configuration) {
            return Err(CommandError::NoStore);
        }
        let until = tokio::time::Instant::now() + PATIENCE;
        let (broker, stores) = loop {
            match gateway::open(configuration, WRITER).await {
                // Another command is at work.
                Err(GatewayError::Audit(AuditFileError::InUse { .. }))
                    if tokio::time::Instant::now() < until =>
                {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                opened => break opened?,
            }
        };
        let initiator = Initiator::operator(operator);
        Ok(Self { configuration, broker, stores, initiator })
    }

    /// Writes the last record.
    ///
    /// # Errors
    /// It could not be written.
    pub async fn close(self) -> Result<(), CommandError> {
        let closed = self.broker.audit_log().close(CLOSE_TIMEOUT).await;
        self.stores.sql.close().await;
        Ok(closed?)
    }

    async fn note(&self, name: &'static str, target: Option<&str>) -> Result<(), CommandError> {
        let note = Note::command(name, target);
        Ok(self.broker.audit_log().note(&self.initiator, note).await?)
    }

    /// Refuses all requests of a user until [`Session::unblock`].
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn block(&self, user: &User) -> Result<String, CommandError> {
        // A log that takes no record delays no block.
        let noted = self.note("users block", Some(user.subject())).await;
        let blocked = self.broker.block(user, &self.initiator).await;
        blocked.map_err(|error| CommandError::Revoke(error.to_string()))?;
        noted.map_err(CommandError::done_not_recorded)?;
        Ok(format!("{} is blocked", shown(user)))
    }

    /// Lets a blocked user in again.
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn unblock(&self, user: &User) -> Result<String, CommandError> {
        self.note("users unblock", Some(user.subject())).await?;
        let unblocked = self.broker.unblock(user, &self.initiator).await;
        unblocked.map_err(|error| CommandError::Revoke(error.to_string()))?;
        Ok(format!("{} is not blocked", shown(user)))
    }

    /// Ends broker tokens.
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn revoke_tokens(
        &self,
        target: RevocationTarget,
        shown: &str,
    ) -> Result<String, CommandError> {
        let noted = self.note("tokens revoke", Some(shown)).await;
        let revoked = self.broker.revoke(target, &self.initiator).await;
        revoked.map_err(|error| CommandError::Revoke(error.to_string()))?;
        noted.map_err(CommandError::done_not_recorded)?;
        Ok(format!("revoked: {}, issuer {}", escaped(shown), issuer(self.configuration)))
    }

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
        self.note("grants revoke", Some(id)).await?;
        let all = self.all_grants(None, None).await?;
        let found = all.iter().find(|grant| grant.id.as_str() == id);
        let grant = found.ok_or_else(|| CommandError::NoGrant(id.to_owned()))?;
        // First the revocation, which ends its use at once.
        let target = RevocationTarget::Grant(GrantId::new(id));
        let revoked = self.broker.revoke(target, &self.initiator).await;
        revoked.map_err(|error| CommandError::Revoke(error.to_string()))?;
        self.stores.sql.revoke(&GrantRef::new(grant.key.clone(), grant.id.clone())).await?;
        let (user, account) = (shown(&grant.key.user), grant.key.account.as_str());
        Ok(format!("revoked: the grant of {user} for {} ({account})", grant.key.server))
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
        let argument = |error: &dyn std::fmt::Display| CommandError::Argument(error.to_string());
        let account = match new.account {
            None => Account::default_account(),
            Some(account) => Account::parse(account).map_err(|error| argument(&error))?,
        };
        let scopes = match new.scopes {
            None => at.scopes.clone(),
            Some(scopes) => Scopes::parse(scopes).map_err(|error| argument(&error))?,
        };
        let refresh_token = secret_of_file(new.refresh_token_file)?;
        let key = GrantKey::new(new.user.clone(), &server.name, account);
        let existing = self.stores.sql.load(&key).await?.filter(|grant| grant.state.is_usable());
        if let Some(existing) = existing.filter(|_| !new.replace) {
            return Err(CommandError::GrantExists(existing.id.as_str().to_owned()));
        }
        let target = format!("{} for {}", server.name, new.user.subject());
        self.note("grants add", Some(&target)).await?;
        let grant = Grant::new(new_grant_id(), key, &at.issuer)
            .granted(scopes)
            .refresh_token(refresh_token);
        let stored = self.stores.sql.put(grant).await?;
        Ok(format!("grant {} for {}", stored.id.as_str(), shown(new.user)))
    }

    /// Issues a broker token for trials.
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn issue(&self, new: &NewToken<'_>) -> Result<Issued, CommandError> {
        let server = server(self.configuration, new.server)?;
        let issuer = trial_issuer(self.configuration)?;
        let scopes = match new.scopes {
            Some(scopes) => {
                Scopes::parse(scopes).map_err(|error| CommandError::Argument(error.to_string()))?
            }
            None => scopes_of(server),
        };
        let mint = Mint::for_user(new.user)
            .client("trial")
            .resource(&server.resource)
            .scopes(scopes.clone())
            .lifetime(new.lifetime);
        let token = issuer.mint(mint).map_err(|error| CommandError::Argument(error.to_string()))?;
        let user = User::new(issuer.name(), new.user);
        let issued = IssuedToken {
            user: &user,
            client: "trial",
            resource: &server.resource,
            scopes: &scopes,
            token: token.id(),
            family: None,
            expires: token.expires_at(),
        };
        self.broker.audit_log().note(&self.initiator, Note::token_issued(issued)).await?;
        let (id, resource) = (token.id().to_owned(), server.resource.clone());
        let expires_at = token.expires_at();
        Ok(Issued { token: token.into_text(), id, resource, scopes, expires_at })
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

/// A broker token to issue.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "the arguments of a command")]
pub struct NewToken<'a> {
    /// The subject of the user.
    pub user: &'a str,
    /// The name of the server.
    pub server: &'a str,
    /// The scopes; all that the server's rules name if there are none.
    pub scopes: Option<&'a str>,
    /// The lifetime.
    pub lifetime: Duration,
}

/// An issued broker token.
#[non_exhaustive]
pub struct Issued {
    /// The token.
    pub token: String,
    /// Its ID.
    pub id: String,
    /// The resource that it is valid for.
    pub resource: Resource,
    /// Its scopes.
    pub scopes: Scopes,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// Does not print the token.
impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Returns the issuer of the users: that of the tokens that clients show.
pub fn issuer(configuration: &Configuration) -> String {
    match &configuration.tokens {
        Tokens::Jwt { issuer, .. } | Tokens::Introspection { issuer, .. } => issuer.clone(),
        Tokens::Trial { .. } => origin(&configuration.public_url),
    }
}

fn server<'a>(configuration: &'a Configuration, name: &str) -> Result<&'a Server, CommandError> {
    configuration.servers.iter().find(|server| server.name == name).ok_or_else(|| {
        let names: Vec<_> = configuration.servers.iter().map(|server| &*server.name).collect();
        let known = if names.is_empty() { "no server".to_owned() } else { names.join(", ") };
        CommandError::NoServer { name: name.to_owned(), known }
    })
}

/// Returns a new ID of 128 random bits. As hexadecimal, it never begins with a hyphen, which a
/// command would take for an option.
fn new_grant_id() -> GrantId {
    let mut id = [0; 16];
    rand::fill(&mut id).expect("the system's source of randomness does not fail once it is seeded");
    GrantId::new(&format!("{:032x}", u128::from_be_bytes(id)))
}

fn secret_of_file(file: &Path) -> Result<Secret, CommandError> {
    let argument = |error: &str| CommandError::Argument(format!("{}: {error}", file.display()));
    let text = fs::read_to_string(file).map_err(|error| argument(&error.to_string()))?;
    let token = text.trim_end_matches(['\r', '\n']);
    match token.is_empty() {
        true => Err(argument("the file is empty")),
        false => Ok(Secret::from_text(token.to_owned())),
    }
}

/// Returns grants as text, a line each, or as JSON.
pub fn show_grants(grants: &[GrantSummary], as_json: bool) -> String {
    if as_json {
        let all: Vec<Value> = grants.iter().map(grant_as_json).collect();
        return serde_json::to_string_pretty(&all).unwrap_or_default();
    }
    let line = |id: &str, user: &str, server: &str, account: &str, state: &str| {
        format!("{id:<24} {user:<24} {server:<16} {account:<12} {state}")
    };
    let mut lines = vec![line("GRANT", "USER", "SERVER", "ACCOUNT", "STATE")];
    lines.extend(grants.iter().map(|grant| {
        let key = &grant.key;
        let (user, account) = (escaped(key.user.subject()), key.account.as_str());
        line(grant.id.as_str(), &user, &key.server, account, grant.state.as_str())
    }));
    lines.join("\n")
}

fn grant_as_json(grant: &GrantSummary) -> Value {
    json!({
        "id": grant.id.as_str(),
        "user": { "issuer": grant.key.user.issuer(), "subject": grant.key.user.subject() },
        "server": &*grant.key.server,
        "account": grant.key.account.as_str(),
        "authorization_server": &*grant.authorization_server,
        "scopes": grant.granted.to_string(),
        "state": grant.state.as_str(),
        "version": grant.version,
        "has_refresh_token": grant.has_refresh_token,
        "failed_refreshes": grant.backoff.failures,
    })
}

/// Returns the servers as text, a line each, or as JSON.
pub fn show_servers(configuration: &Configuration, as_json: bool) -> String {
    let kind = |server: &Server| match &server.credential {
        Credential::Static { .. } => "static",
        Credential::OAuth(_) => "oauth",
        Credential::ClientCredentials(_) => "client_credentials",
        Credential::TokenExchange(_) => "token_exchange",
    };
    if as_json {
        let of = |server: &Server| {
            json!({
                "name": server.name,
                "url": server.resource.as_str(),
                "upstream": server.upstream.to_string(),
                "credential": kind(server),
            })
        };
        let all: Vec<Value> = configuration.servers.iter().map(of).collect();
        return serde_json::to_string_pretty(&all).unwrap_or_default();
    }
    let line = |name: &str, kind: &str, url: &str| format!("{name:<24} {kind:<20} {url}");
    let mut lines = vec![line("SERVER", "CREDENTIAL", "URL")];
    lines.extend(
        configuration
            .servers
            .iter()
            .map(|server| line(&server.name, kind(server), server.resource.as_str())),
    );
    lines.join("\n")
}
