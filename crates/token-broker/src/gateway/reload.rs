//! Reads the configuration again when its file changes: servers and rules, all or nothing.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tower_token_broker::{
    alarm::Alarm,
    audit::{Note, Reloaded},
    principal::{Initiator, Resource},
};

use super::{routes::Routes, servers::Shared};
use crate::configuration::{self, Configuration};

/// How often the file is compared.
const INTERVAL: Duration = Duration::from_secs(1);

/// The file of the configuration, as it was read last.
pub(super) struct Watched {
    path: PathBuf,
    content: Option<Vec<u8>>,
}

impl Watched {
    /// Begins to watch the file, before it is used.
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), content: fs::read(path).ok() }
    }

    /// Returns whether the file has changed. A file that cannot be read has not: an editor may be
    /// about to replace it.
    fn has_changed(&mut self) -> bool {
        match fs::read(&self.path) {
            Ok(content) if self.content.as_ref() != Some(&content) => {
                self.content = Some(content);
                true
            }
            Ok(_) | Err(_) => false,
        }
    }
}

/// Replaces the routes when the file changes.
pub(super) struct Reload {
    watched: Watched,
    shared: Shared,
    routes: Arc<Routes>,
    /// The resources that are served.
    resources: BTreeSet<Box<str>>,
}

impl Reload {
    pub(super) const fn new(
        watched: Watched,
        shared: Shared,
        routes: Arc<Routes>,
        resources: BTreeSet<Box<str>>,
    ) -> Self {
        Self { watched, shared, routes, resources }
    }

    pub(super) async fn run(mut self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            if self.watched.has_changed() {
                self.reload().await;
            }
        }
    }

    // T328: a file with an error changes nothing.
    async fn reload(&mut self) {
        let loaded = configuration::load(&self.watched.path).map_err(|error| error.to_string());
        let built = loaded.and_then(|new: Configuration| {
            self.shared.build(&new).map_err(|error| error.to_string())
        });
        let system = Initiator::system("token-broker serve");
        let audit = self.shared.broker.audit_log();
        let servers = match built {
            Ok(servers) => servers,
            Err(error) => {
                tracing::error!(
                    alarm = Alarm::ReloadRefused.code(),
                    error,
                    "the changed configuration has an error; the last one stays in effect"
                );
                let note = Note::reload_refused(Reloaded::Servers);
                // Nothing was changed, whether it is recorded or not.
                audit.note(&system, note).await.unwrap_or_default();
                return;
            }
        };
        if audit.note(&system, Note::reloaded(Reloaded::Servers, None)).await.is_err() {
            tracing::error!(
                alarm = Alarm::ReloadRefused.code(),
                "the changed configuration could not be recorded; the last one stays in effect"
            );
            // Tried again.
            self.watched.content = None;
            return;
        }
        self.shared.apply(&servers);
        self.routes.replace(&self.shared.broker, servers.router);
        for gone in self.resources.difference(&servers.resources) {
            if let Ok(resource) = Resource::parse(gone) {
                self.shared.broker.remove_metadata(&resource);
            }
        }
        self.resources = servers.resources;
        tracing::info!(
            servers = self.resources.len(),
            "servers and rules were read again; other changes need a restart"
        );
    }
}
