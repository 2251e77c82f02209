//! Reads the configuration again when its file changes: servers and rules, all or nothing.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tower_token_broker::{
    alarm::Alarm,
    audit::{Note, Reloaded},
    principal::{Initiator, Resource},
};

use super::{
    routes::Routes,
    servers::{Servers, Shared},
};
use crate::configuration::{self, Configuration};

/// How often the file is compared.
const INTERVAL: Duration = Duration::from_secs(1);

/// The file of the configuration, as it was read last, and the files that it names.
pub(super) struct Watched {
    path: PathBuf,
    content: Option<Vec<u8>>,
    /// Secrets, keys and certificates.
    files: Vec<PathBuf>,
    states: Vec<Option<FileState>>,
    /// The settings that need a restart: all but servers, clients and the words for scopes.
    fixed: Option<toml::Table>,
}

/// Length and time of a file: one of them changes when it is written or replaced.
type FileState = (u64, Option<SystemTime>);

impl Watched {
    /// Begins to watch the file, before it is loaded.
    pub(super) fn new(path: &Path) -> Self {
        let content = fs::read(path).ok();
        let fixed = content.as_deref().and_then(without_servers);
        Self { path: path.to_owned(), content, files: Vec::new(), states: Vec::new(), fixed }
    }

    /// Watches the files that the configuration names, too.
    pub(super) fn and_files(mut self, files: &[PathBuf]) -> Self {
        self.files = files.to_vec();
        self.states = states_of(&self.files);
        self
    }

    /// Returns whether the file, or one that it names, has changed. A configuration that cannot be
    /// read has not: an editor may be about to replace it.
    async fn has_changed(&mut self) -> bool {
        let (path, files) = (self.path.clone(), self.files.clone());
        let read = move || (fs::read(path).ok(), states_of(&files));
        let Ok((content, states)) = tokio::task::spawn_blocking(read).await else { return false };
        let has_new_secret = std::mem::replace(&mut self.states, states) != self.states;
        match content {
            Some(content) if self.content.as_ref() != Some(&content) => {
                self.content = Some(content);
                true
            }
            Some(_) | None => has_new_secret,
        }
    }

    /// Returns whether settings outside of the servers are those of the start.
    fn is_fixed_as_before(&self) -> bool {
        self.content.as_deref().and_then(without_servers) == self.fixed
    }
}

fn states_of(files: &[PathBuf]) -> Vec<Option<FileState>> {
    let state = |file: &PathBuf| {
        let metadata = fs::metadata(file).ok()?;
        Some((metadata.len(), metadata.modified().ok()))
    };
    files.iter().map(state).collect()
}

fn without_servers(content: &[u8]) -> Option<toml::Table> {
    let mut table: toml::Table = std::str::from_utf8(content).ok()?.parse().ok()?;
    table.remove("server");
    table.remove("scope");
    table.remove("client");
    Some(table)
}

/// Replaces the routes when the file changes.
pub(super) struct Reload {
    watched: Watched,
    /// Taken while it builds.
    shared: Option<Shared>,
    routes: Arc<Routes>,
    /// The resources that are served.
    resources: BTreeSet<Box<str>>,
    /// The error for which the file was refused last.
    refused: Option<String>,
}

impl Reload {
    pub(super) const fn new(
        watched: Watched,
        shared: Shared,
        routes: Arc<Routes>,
        resources: BTreeSet<Box<str>>,
    ) -> Self {
        Self { watched, shared: Some(shared), routes, resources, refused: None }
    }

    pub(super) async fn run(mut self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            if self.watched.has_changed().await {
                self.reload().await;
            }
        }
    }

    // T328: a file with an error changes nothing.
    async fn reload(&mut self) {
        if !self.watched.is_fixed_as_before() && self.refused.as_deref() == Some(NEEDS_RESTART) {
            // Reported. Until it is undone or the gateway is restarted, nothing is built.
            self.watched.content = None;
            return;
        }
        let path = self.watched.path.clone();
        let Some(mut shared) = self.shared.take() else { return };
        // It reads files and certificates: meanwhile, requests are served.
        let step = tokio::task::spawn_blocking(move || {
            let loaded = configuration::load(&path).map_err(|error| error.to_string());
            let built = loaded.and_then(|new: Configuration| {
                let built = shared.build(&new).map_err(|error| error.to_string());
                built.map(|servers| (servers, new.files))
            });
            (shared, built)
        });
        let system = Initiator::system("token-broker serve");
        let Ok((shared, built)) = step.await else {
            return self.refuse(BROKEN.to_owned(), &system).await;
        };
        let shared = self.shared.insert(shared);
        if self.watched.has_changed().await {
            // Another text was loaded than the one that is compared: the next look decides.
            self.watched.content = None;
            return;
        }
        let built = match self.watched.is_fixed_as_before() {
            true => built,
            // Half of a configuration would be in effect.
            false => Err(built.err().unwrap_or_else(|| NEEDS_RESTART.to_owned())),
        };
        match built {
            Err(error) => self.refuse(error, &system).await,
            Ok((servers, files)) => {
                let note = Note::reloaded(Reloaded::Servers, None);
                match shared.broker.audit_log().note(&system, note).await {
                    Ok(()) => self.apply(servers, files),
                    Err(_) => self.refuse("it could not be recorded".to_owned(), &system).await,
                }
            }
        }
    }

    fn apply(&mut self, servers: Servers, files: Vec<PathBuf>) {
        self.refused = None;
        // Their states are those of the next look: if one of them changed meanwhile, it is read.
        self.watched.files = files;
        let Some(shared) = &self.shared else { return };
        shared.apply(&servers);
        self.routes.replace(&shared.broker, servers.stacks);
        for gone in self.resources.difference(&servers.resources) {
            if let Ok(resource) = Resource::parse(gone) {
                shared.broker.remove_metadata(&resource);
            }
        }
        self.resources = servers.resources;
        tracing::info!(servers = self.resources.len(), "servers and rules were read again");
    }

    /// Keeps the last configuration, and tries again: a secret file may be corrected. Each error is
    /// reported once.
    async fn refuse(&mut self, error: String, system: &Initiator) {
        self.watched.content = None;
        if self.refused.as_ref() == Some(&error) {
            return;
        }
        tracing::error!(
            alarm = Alarm::ReloadRefused.code(),
            error,
            "the changed configuration is not in effect; the last one stays"
        );
        self.refused = Some(error);
        let note = Note::reload_refused(Reloaded::Servers);
        // Nothing was changed, whether it is recorded or not.
        let Some(shared) = &self.shared else { return };
        shared.broker.audit_log().note(system, note).await.unwrap_or_default();
    }
}

const BROKEN: &str = "a defect of this program interrupted it: restart the gateway";
const NEEDS_RESTART: &str =
    "a setting outside of [[server]], [[scope]] and [[client]] has changed: restart the gateway";
