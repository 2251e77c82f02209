//! `token-broker serve`: the gateway, from its configuration to its last record.

mod activity;
mod client_address;
mod connect;
mod listener;
mod login;
mod logs;
mod marks;
mod peers;
mod policy;
mod reload;
mod routes;
mod servers;
mod stores;
mod tls;
mod tokens;
mod write_timeout;

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use token_broker_store::authority::AuthorityStore as _;
use token_broker_upstream::Connector;
use tokio::{net::TcpListener, task::JoinSet};
use tower_token_broker::{
    Broker,
    audit::{AuditFileError, AuditFolder, Note, WriterName, WriterNameError},
    principal::Initiator,
    stack::BrokerError,
};

use self::{
    listener::Listener,
    login::Login,
    reload::{Reload, Watched},
    routes::Routes,
    servers::Shared,
    tokens::Verifier,
};
use crate::{
    configuration::{self, Configuration, Tokens},
    writers,
};

pub(crate) use self::{
    login::site,
    marks::{Marks, SUFFIX as MARK_SUFFIX},
    servers::scopes_of,
    stores::Stores,
    tokens::origin,
};
pub use self::{logs::start as start_logs, tokens::trial_issuer};

/// The time that open calls have after a signal. Streams that belong to no call end at once.
const GRACE: Duration = Duration::from_secs(10);

/// The reasons why the gateway does not start, or a command does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The audit log cannot be opened.
    #[error("the audit folder: {0}")]
    Audit(#[from] AuditFileError),
    /// Another gateway uses this writer's name.
    #[error(
        "another gateway writes to this audit folder as `{writer}`: stop it, or set another \
         `writer` in `[audit]`"
    )]
    WriterInUse {
        /// The name.
        writer: String,
    },
    /// The name of the process in the audit log is none.
    #[error("[audit] writer: {0}")]
    Writer(#[from] WriterNameError),
    /// The broker cannot be built.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The configuration has errors.
    #[error("{0}")]
    Configuration(String),
    /// The name of the process in the audit log is that of the commands.
    #[error(
        "[audit] writer: names that begin with `{}` are those of the commands; choose another",
        writers::COMMANDS
    )]
    ReservedWriter,
    /// The issuer of the tokens is not usable.
    #[error("[tokens]: {0}")]
    Tokens(String),
    /// Users cannot sign in.
    #[error("[login]: {0}")]
    Login(String),
    /// The signing key of trial tokens cannot be used.
    #[error(
        "the signing key {}: {error}; `token-broker init` in an empty folder writes one",
        file.display()
    )]
    SigningKey {
        /// The file.
        file: PathBuf,
        /// The reason.
        error: Box<str>,
    },
    /// The gateway issues no tokens for trials.
    #[error(
        "this gateway issues no tokens for trials: `tokens issue` needs `[tokens] kind = \
         \"trial\"`; with `[login]`, clients obtain their tokens when their users sign in"
    )]
    NoTrial,
    /// A server cannot be protected.
    #[error("server `{name}`: {error}")]
    Server {
        /// Its name.
        name: String,
        /// The reason.
        error: String,
    },
    /// The store cannot be opened.
    #[error("the store: {0}")]
    Store(String),
    /// The key file is not that of the store.
    #[error("the store: {0}")]
    StoreKey(String),
    /// The store is a restored backup, or another one: revocations may be missing.
    #[error(
        "the store is older than when a gateway or a command used it last, or it is another one: \
         is `url` of `[store]` right, was a backup restored? Revocations and blocks since then are \
         missing. `serve --recovered` ends all broker tokens that were issued until now, and keeps \
         the grants. With `[login]`, each user signs in again in each client. Block or disable \
         again who was since"
    )]
    StoreOutdated,
    /// How far the store has come cannot be noted or read.
    #[error("{}: {error}", path.display())]
    StoreMark {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: Box<str>,
    },
    /// The certificate or its key cannot be used.
    #[error("[tls]: {0}")]
    Tls(String),
    /// The address cannot be used.
    #[error("{address} cannot be listened on: {source}; is another process using the port?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The start could not be recorded.
    #[error("the audit log takes no record; nothing was started or changed")]
    NotRecorded,
    /// The end could not be recorded.
    #[error("the gateway has ended, and its last records could not be written: {0}")]
    NotClosed(String),
}

impl GatewayError {
    /// Whether the configuration must be changed before another try can succeed.
    pub const fn is_of_configuration(&self) -> bool {
        match self {
            Self::Writer(_)
            | Self::Broker(_)
            | Self::Configuration(_)
            | Self::ReservedWriter
            | Self::Tokens(_)
            | Self::SigningKey { .. }
            | Self::NoTrial
            | Self::Server { .. }
            | Self::StoreKey(_)
            | Self::Tls(_) => true,
            Self::Audit(_)
            | Self::WriterInUse { .. }
            | Self::Login(_)
            | Self::Store(_)
            | Self::StoreOutdated
            | Self::StoreMark { .. }
            | Self::Listen { .. }
            | Self::NotRecorded
            | Self::NotClosed(_) => false,
        }
    }
}

/// Opens the audit log, under this writer's name, and the store of a configuration.
pub(crate) async fn open(
    configuration: &Configuration,
    writer: &str,
) -> Result<(Broker, Stores), GatewayError> {
    let folder = AuditFolder::open(&configuration.audit_folder, &WriterName::parse(writer)?);
    let folder = folder.map_err(|error| match matches!(error, AuditFileError::InUse { .. }) {
        true => GatewayError::WriterInUse { writer: writer.to_owned() },
        false => GatewayError::Audit(error),
    })?;
    let stores = Stores::open(configuration).await?;
    let broker = Broker::builder()
        .audit(folder)
        .sealing_keys(stores.sealing_keys.clone())
        .revocation_store(stores.sql.clone())
        .build()?;
    Ok((broker, stores))
}

/// Serves the configuration of this file until a signal arrives, and then until all calls have
/// ended. With `is_recovered`, a store that is older than it was is accepted, and all broker tokens
/// that were issued until now are revoked.
///
/// # Errors
/// The gateway could not be started, or its last records not be written.
pub async fn serve(path: &Path, is_recovered: bool) -> Result<(), GatewayError> {
    let signal = signal();
    // Watched before it is loaded, so that no change is missed.
    let watched = Watched::new(path);
    let configuration = configuration::load(path)
        .map_err(|errors| GatewayError::Configuration(errors.to_string()))?;
    if writers::is_of_commands(&configuration.audit_writer) {
        return Err(GatewayError::ReservedWriter);
    }
    let tls = configuration.tls.as_ref().map(tls::acceptor).transpose()?;
    let (broker, stores) = open(&configuration, &configuration.audit_writer).await?;
    let sql = stores.sql.clone();
    let served = run(watched, &configuration, tls, &broker, stores, (is_recovered, signal)).await;
    let ended = broker.shutdown(GRACE).await;
    sql.close().await;
    served?;
    ended.map_err(|error| GatewayError::NotClosed(error.to_string()))
}

async fn run(
    watched: Watched,
    configuration: &Configuration,
    tls: Option<tokio_rustls::TlsAcceptor>,
    broker: &Broker,
    stores: Stores,
    (is_recovered, signal): (bool, impl Future<Output = ()>),
) -> Result<(), GatewayError> {
    let client = servers::client(configuration)?;
    let sql = stores.sql.clone();
    let lookup = sql.lookup_key().await;
    let lookup = lookup.map_err(|error| GatewayError::Store(error.to_string()))?;
    let connector = Connector::new(broker, sql.clone(), lookup, &origin(&configuration.public_url));
    let login = match &configuration.tokens {
        Tokens::Login(login) => {
            let parts = (&**login, client.clone(), &connector);
            Some(Login::start(broker, &sql, configuration, parts).await?)
        }
        Tokens::Jwt { .. } | Tokens::Introspection { .. } | Tokens::Trial { .. } => None,
    };
    let authority = login.as_ref().map(|login| login.authority.clone());
    let verifier = Verifier::new(broker, configuration, client, authority.as_ref())?;
    let mut shared = Shared {
        broker: broker.clone(),
        grants: stores.sql.clone(),
        verifier: Arc::new(verifier),
        authority,
        connector: connector.clone(),
        policies: HashMap::new(),
    };
    let servers = shared.build(configuration)?;
    shared.apply(&servers);
    let listen = |source| GatewayError::Listen { address: configuration.listen, source };
    let tcp = TcpListener::bind(configuration.listen).await.map_err(listen)?;
    let address = tcp.local_addr().map_err(listen)?;
    // Last, because it may revoke all tokens.
    let marks = Marks::new(configuration, &configuration.audit_writer);
    let system = Initiator::system("token-broker serve");
    if let Some(login) = login.as_ref().filter(|_| is_recovered) {
        // Revocations are kept for a day, refresh tokens for months. Before the store is accepted:
        // if this fails, the next start is refused again.
        login.end_everything(broker.clock().now(), &system).await?;
    }
    marks.check(broker, &sql, is_recovered).await?;
    let note = Note::command("serve", None);
    broker.audit_log().note(&system, note).await.map_err(|_| GatewayError::NotRecorded)?;
    let pages = login.as_ref().map(|login| login.router.clone()).unwrap_or_default();
    let routes = Arc::new(Routes::new(broker, servers.stacks, pages));
    let listener = Listener::new(tcp, tls, configuration, &routes);
    let watched = watched.and_files(&configuration.files);
    let reload = Reload::new(watched, shared, Arc::clone(&routes), servers.resources);
    tracing::info!(
        %address,
        public_url = origin(&configuration.public_url),
        servers = configuration.servers.len(),
        "the gateway is ready"
    );
    if let Some(login) = &login {
        login.offer_first_account(broker.clock().now()).await?;
    }
    // The listener accepts until the broker has ended: meanwhile, `/readyz` and new requests get
    // 503.
    let stop = async {
        signal.await;
        tracing::info!("a signal arrived: the gateway ends");
        // `serve` returns its result.
        broker.shutdown(GRACE).await.unwrap_or_default();
    };
    // They end when this set is dropped.
    let mut beside = JoinSet::new();
    beside.spawn(reload.run());
    beside.spawn(marks.clone().watch(sql.clone()));
    beside.spawn(connect::keep_clean(connector));
    listener.serve(stop).await;
    drop(beside);
    // A revocation of the last second, too. If it fails, the note of before is in effect.
    drop(marks.note(&sql).await);
    Ok(())
}

/// Waits for Ctrl-C or SIGTERM. From this call on, neither ends the process.
///
/// # Cancellation
/// A signal that has arrived is lost.
pub fn signal() -> impl Future<Output = ()> {
    #[cfg(unix)]
    let kinds = {
        use tokio::signal::unix::{SignalKind, signal};
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    };
    async move {
        #[cfg(unix)]
        if let (Ok(mut terminate), Ok(mut interrupt)) = kinds {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            return;
        }
        // Without signals, the process ends when it is killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
