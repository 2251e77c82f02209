//! The commands that read or change what the gateway stores. Each is recorded in the audit folder,
//! in the chain of the writer `commands`, with who ran it. A running gateway learns of a change
//! from the store, within a quarter of a second.

mod accounts;
mod backup;
mod clients;
mod grants;
mod keys;
mod show;
mod tokens;
mod users;

use std::time::Duration;

use parking_lot::Mutex;
use token_broker_sql::{BackupError, SqlError};
use token_broker_store::StoreError;
use tower_token_broker::{
    Broker,
    audit::{AuditError, Note},
    principal::{Initiator, User},
    revocation::RevocationTarget,
    stack::RevokeError,
};

pub use self::{
    accounts::ShownUser,
    clients::ShownClient,
    grants::NewGrant,
    show::{show_clients, show_grants, show_keys, show_servers, show_users},
    tokens::{Issued, NewToken},
};
use crate::{
    configuration::{Configuration, Server, Tokens},
    escaped::escaped,
    gateway::{self, GatewayError, Marks, Stores, origin},
    writers,
};

/// How long a command waits for others, if there are too many.
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
    /// The store failed, or a row of it is not readable.
    #[error("{0}; run the command again")]
    Sql(#[from] SqlError),
    /// No backup was written.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// Too many commands run.
    #[error("too many other commands run at the moment; run the command again")]
    Busy,
    /// Old keys are still in use.
    #[error(
        "{left} keys of the store are still wrapped by {old}, {unreadable} of them unreadable: \
         is that key in the key file? Otherwise run the command again"
    )]
    KeysLeft {
        /// How many are left.
        left: u64,
        /// How many of them cannot be unwrapped.
        unreadable: u64,
        /// The IDs of the keys that wrap them.
        old: String,
    },
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
    marks: Marks,
    /// The command whose end is to be recorded, with its target.
    begun: Mutex<Option<(&'static str, Option<String>)>>,
    /// Rows that cannot be read, and so are not listed: their kind, number and first ID.
    unreadable: Mutex<Vec<(&'static str, usize, Box<str>)>>,
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
        let (broker, stores, writer) = 'opened: loop {
            for writer in writers::of_commands() {
                match gateway::open(configuration, &writer).await {
                    // Another command is at work.
                    Err(GatewayError::WriterInUse { .. }) => {}
                    opened => {
                        let (broker, stores) = opened?;
                        break 'opened (broker, stores, writer);
                    }
                }
            }
            if tokio::time::Instant::now() >= until {
                return Err(CommandError::Busy);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let initiator = Initiator::operator(operator);
        let marks = Marks::new(configuration, &writer);
        let (begun, unreadable) = (Mutex::new(None), Mutex::default());
        Ok(Self { configuration, broker, stores, initiator, marks, begun, unreadable })
    }

    /// Returns which rows could not be read, so that the output is not complete.
    pub fn left_out(&self) -> Option<String> {
        let unreadable = self.unreadable.lock();
        let rows: Vec<_> = unreadable
            .iter()
            .map(|(kind, count, first)| format!("{count} {kind} (the first: {})", escaped(first)))
            .collect();
        (!rows.is_empty()).then(|| {
            let rows = rows.join(", ");
            format!("not listed, because the store cannot read them: {rows}; docs/store.md")
        })
    }

    /// Notes rows that cannot be read.
    fn leave_out(&self, kind: &'static str, ids: &[Box<str>]) {
        if let Some(first) = ids.first() {
            self.unreadable.lock().push((kind, ids.len(), first.clone()));
        }
    }

    /// Returns whether the store lacks what was noted before: a backup was restored, and no gateway
    /// was started with `--recovered` since.
    ///
    /// # Errors
    /// The notes or the store cannot be read.
    pub async fn is_outdated(&self) -> Result<bool, CommandError> {
        Ok(self.marks.is_outdated(&self.stores.sql).await?)
    }

    /// Notes outside of the store how far it has come, so that a backup without this revocation is
    /// recognized. If that fails, a running gateway does so.
    async fn has_revoked(&self) {
        drop(self.marks.note(&self.stores.sql).await);
    }

    /// Records how the command ended, and writes the last record.
    ///
    /// # Errors
    /// [`CommandError::DoneNotRecorded`]
    pub async fn close(self, has_succeeded: bool) -> Result<(), CommandError> {
        let begun = self.begun.lock().take();
        if let Some((name, target)) = begun {
            let target = target.as_deref();
            let note = match has_succeeded {
                true => Note::command(name, target),
                false => Note::command_failed(name, target),
            };
            // `close` reports a log that takes no record.
            self.broker.audit_log().note(&self.initiator, note).await.unwrap_or_default();
        }
        let closed = self.broker.audit_log().close(CLOSE_TIMEOUT).await;
        self.stores.sql.close().await;
        // What was done is done.
        closed.map_err(|_| CommandError::DoneNotRecorded)
    }

    async fn note(&self, name: &'static str, target: Option<&str>) -> Result<(), CommandError> {
        *self.begun.lock() = Some((name, target.map(str::to_owned)));
        let note = Note::command_begun(name, target);
        Ok(self.broker.audit_log().note(&self.initiator, note).await?)
    }

    /// Ends what the target names. What takes effect without a record is done, too: the command
    /// continues, and reports it at its end.
    async fn revoke(&self, target: RevocationTarget) -> Result<(), CommandError> {
        let revoked = self.broker.revoke(target, &self.initiator).await;
        match revoked {
            Ok(_) | Err(RevokeError::NotRecorded { .. }) => Ok(()),
            Err(error) => Err(CommandError::Revoke(error.to_string())),
        }
    }
}

/// Returns the issuer of the users: that of the tokens that clients show.
pub fn issuer(configuration: &Configuration) -> String {
    match &configuration.tokens {
        Tokens::Jwt { issuer, .. } | Tokens::Introspection { issuer, .. } => issuer.clone(),
        Tokens::Trial { .. } | Tokens::Login(_) => origin(&configuration.public_url),
    }
}

fn server<'a>(configuration: &'a Configuration, name: &str) -> Result<&'a Server, CommandError> {
    configuration.servers.iter().find(|server| server.name == name).ok_or_else(|| {
        let names: Vec<_> = configuration.servers.iter().map(|server| &*server.name).collect();
        let known = if names.is_empty() { "no server".to_owned() } else { names.join(", ") };
        CommandError::NoServer { name: name.to_owned(), known }
    })
}
