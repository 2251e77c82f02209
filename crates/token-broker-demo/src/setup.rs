//! Starts two upstreams, the broker in front of them, and a relay that records what clients send.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use token_broker_sql::SqlStore;
use tokio::{net::TcpListener, sync::Mutex};
use tower_token_broker::{Broker, principal::User, revocation::RevocationTarget, tasks::Tasks};

use crate::{
    DemoError, Sabotage, broker,
    browser::{Account, Browser},
    sign_in::{Login, redeem},
    upstream::{CRM, TICKETS, Upstream},
    wiretap::{Wiretap, requests},
};

pub(crate) struct Setup {
    pub(crate) crm: Upstream,
    pub(crate) tickets: Upstream,
    pub(crate) wire: Wiretap,
    pub(crate) broker: Broker,
    /// Servers next to the broker, which end with the runtime.
    pub(crate) tasks: Tasks,
    pub(crate) store: SqlStore,
    alice: User,
    pub(crate) browser: Mutex<Browser>,
    /// The listener of the broker.
    inside: SocketAddr,
    folder: TempDir,
}

/// Longest time until the records of a step are written.
const SETTLED_WITHIN: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(10);

/// Time that open calls have at the end.
const GRACE: Duration = Duration::from_secs(1);

impl Setup {
    /// Starts all parts. Clients connect to `listen`; port 0 is a free one.
    pub(crate) async fn start(
        listen: SocketAddr,
        sabotage: Option<Sabotage>,
    ) -> Result<Self, DemoError> {
        // First of all: the port may be taken.
        let public = TcpListener::bind(listen).await.map_err(|error| {
            DemoError::new(format!(
                "{listen} cannot be listened on: {error}; choose another port by `--listen`"
            ))
        })?;
        let tasks = Tasks::new();
        let crm = Upstream::start(CRM, &tasks).await?;
        let tickets = Upstream::start(TICKETS, &tasks).await?;
        if sabotage == Some(Sabotage::CloseTheBackDoor) {
            crm.close_the_api();
        }
        let folder = tempfile::tempdir()?;
        let store = broker::open_store(folder.path()).await?;
        let broker = broker::build(&store, &audit_file(folder.path())).await?;

        // Clients connect to the relay, which connects to the broker.
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let inside = listener.local_addr()?;
        let origin = format!("http://{}", public.local_addr()?);
        let wire = Wiretap::start(public, inside, &tasks)?;

        let login = Login::create(&store, "alice").await?;
        let alice = User::new(&*origin, &*login.subject);
        let router = broker::router((&broker, &store), &origin, [&crm, &tickets], sabotage).await?;
        drop(tasks.spawn("demo-broker", async move { axum::serve(listener, router).await }));
        let browser = Mutex::new(Browser::new(inside, origin, login));
        Ok(Self { crm, tickets, wire, broker, tasks, store, alice, browser, inside, folder })
    }

    /// Lets alice allow the client these scopes at one server, and returns its broker token.
    pub(crate) async fn token(
        &self,
        server: &Upstream,
        scopes: &str,
        account: Account,
    ) -> Result<String, DemoError> {
        let mut browser = self.browser.lock().await;
        let code = browser.allow((&self.url(server), scopes), account).await?;
        redeem(self.wire.address(), &code).await
    }

    /// Creates a user who has connected no account, and a broker token for the CRM.
    pub(crate) async fn newcomer(&self, user: &'static str) -> Result<(Login, String), DemoError> {
        let login = Login::create(&self.store, user).await?;
        let mut browser = Browser::new(self.inside, self.origin(), login.clone());
        let (url, scopes) = (self.url(&self.crm), "crm:read crm:write");
        let code = browser.allow((&url, scopes), Account::Later).await?;
        Ok((login, redeem(self.wire.address(), &code).await?))
    }

    /// Returns the public origin of the broker.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.wire.address())
    }

    /// Returns the URL of a server for clients.
    pub(crate) fn url(&self, server: &Upstream) -> String {
        format!("{}/{}/mcp", self.origin(), server.name())
    }

    /// Returns the contents of the audit file, once all records of requests so far are in it.
    pub(crate) async fn settled_audit(&self) -> Result<String, DemoError> {
        let mut waited = Duration::ZERO;
        loop {
            self.broker.audit_log().flush().await?;
            let audit = self.audit()?;
            let is_whole = counted(&audit) >= requests(&self.wire.sent());
            if is_whole || waited >= SETTLED_WITHIN {
                return Ok(audit);
            }
            tokio::time::sleep(PAUSE).await;
            waited += PAUSE;
        }
    }

    /// Waits until the audit file has a record of this kind, but not for long.
    pub(crate) async fn until_recorded(&self, kind: &str) -> Result<(), DemoError> {
        let mut waited = Duration::ZERO;
        let member = format!("\"kind\":\"{kind}\"");
        while waited < SETTLED_WITHIN && !self.settled_audit().await?.contains(&member) {
            tokio::time::sleep(PAUSE).await;
            waited += PAUSE;
        }
        Ok(())
    }

    /// Returns the contents of the audit file.
    pub(crate) fn audit(&self) -> Result<String, DemoError> {
        Ok(fs::read_to_string(audit_file(self.folder.path()))?)
    }

    /// Returns the contents of the files of the store.
    pub(crate) fn store_files(&self) -> Result<Vec<Vec<u8>>, DemoError> {
        let mut files = Vec::new();
        for entry in fs::read_dir(self.folder.path())? {
            let path = entry?.path();
            if path.is_file() && path != audit_file(self.folder.path()) {
                files.push(fs::read(path)?);
            }
        }
        Ok(files)
    }

    /// Returns alice as a revocation target.
    pub(crate) fn alice(&self) -> RevocationTarget {
        RevocationTarget::User(self.alice.clone())
    }

    /// Returns all tokens for one server as a revocation target.
    pub(crate) fn server(&self, server: &Upstream) -> Result<RevocationTarget, DemoError> {
        Ok(RevocationTarget::Server(broker::resource(server, &self.origin())?))
    }

    /// Ends the broker: open calls, then the last records.
    pub(crate) async fn shutdown(&self) -> Result<(), DemoError> {
        let ended = self.broker.shutdown(GRACE).await;
        self.store.close().await;
        ended.map_err(DemoError::new)
    }
}

fn audit_file(folder: &Path) -> PathBuf {
    folder.join("audit.jsonl")
}

/// Returns how many requests the audit counts.
fn counted(audit: &str) -> u64 {
    let records = audit.lines().filter_map(|line| line.parse::<Value>().ok());
    records.filter_map(|record| record.get("count")?.as_u64()).sum()
}
