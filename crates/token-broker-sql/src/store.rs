//! The store: an open database and its keys.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use token_broker_store::{
    GrantRef,
    authority::LookupKey,
    sealing::{BoxKeyWrap, KeyWrap},
};
use tower_token_broker::{
    clock::{Clock, LEEWAY},
    principal::GrantId,
    revocation::Revocations,
    sealing::SealingKeys,
    tasks::Tasks,
};

use crate::{
    authority::Decoys,
    backup::{self, BackupError},
    database::{Database, Failure, within},
    error::{OpenError, SqlError},
    file::StoreFile,
    keys,
    mark::{self, MarkState, StoreMark},
    revocations::Ages,
    rotate::{self, KeyUse, RotateProgress},
    schema,
    url::StoreUrl,
};

/// A store of grants, connects, revocations and the authority's rows in a database. Cheap to clone;
/// clones share the connections.
///
/// It implements [`GrantStore`](token_broker_store::GrantStore),
/// [`ConnectStore`](token_broker_store::connect::ConnectStore),
/// [`AuthorityStore`](token_broker_store::authority::AuthorityStore) and
/// [`RevocationStore`](tower_token_broker::revocation::RevocationStore).
#[derive(Clone)]
#[must_use = "does nothing unless it is used"]
pub struct SqlStore {
    pub(crate) database: Database,
    pub(crate) keys: BoxKeyWrap,
    pub(crate) lookup_key: LookupKey,
    pub(crate) clock: Clock,
    pub(crate) ages: Arc<Ages>,
    pub(crate) decoys: Decoys,
    pub(crate) timeout: Duration,
    /// How long a revocation counts.
    pub(crate) retention: Duration,
    file: Option<StoreFile>,
    tasks: Tasks,
}

impl SqlStore {
    /// Opens a store: creates the file if there is none, and brings the tables to the version of
    /// this program. Several processes may do so at the same time.
    ///
    /// # Errors
    /// [`OpenError`] states what to do.
    ///
    /// # Cancellation
    /// Safe: the tables are changed completely or not at all.
    pub async fn open(url: &StoreUrl, keys: impl KeyWrap) -> Result<Self, OpenError> {
        let database = Database::open(url).await?;
        let file = url.file().and_then(StoreFile::of);
        schema::migrate(url, &database).await?;
        let clock = Clock::system();
        let mut store = Self {
            database,
            keys: BoxKeyWrap::new(keys),
            // Replaced below, before the store is returned.
            lookup_key: LookupKey::generate(),
            ages: Arc::new(Ages::new(&clock)),
            decoys: Decoys::default(),
            clock,
            timeout: url.timeout,
            retention: counted(Revocations::RETENTION),
            file,
            tasks: Tasks::new(),
        };
        store.lookup_key = keys::prepare(&store, url).await?;
        Ok(store)
    }

    /// Sets the clock. Only for tests, before the store is used or cloned.
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.ages = Arc::new(Ages::new(&clock));
        self.clock = clock;
        self
    }

    /// Sets the longest lifetime of a token that verifiers accept, if it is longer than
    /// [`Revocations::RETENTION`]. All processes must set the same.
    pub fn retention(mut self, longest_lifetime: Duration) -> Self {
        self.retention = counted(longest_lifetime.max(Revocations::RETENTION));
        self
    }

    /// Returns the keys that seal client-held state, for the builder of the broker. They are the
    /// same in all processes.
    ///
    /// # Errors
    /// [`SqlError`]
    ///
    /// # Cancellation
    /// Reads only.
    pub async fn sealing_keys(&self) -> Result<SealingKeys, SqlError> {
        keys::sealing_keys(self).await
    }

    /// Wraps all data keys with the first key of the key file, while the store is in use. It stops
    /// at any point without harm, and is continued by another call; several may run at once.
    /// `progress` is called after each page.
    ///
    /// Older keys may be removed from the key file when the result has nothing left, no process
    /// still has an older key in the first line, and no backup that may be restored needs it.
    ///
    /// # Errors
    /// [`SqlError`]; what was wrapped stays.
    ///
    /// # Cancellation
    /// Safe: the rest is wrapped by another call.
    pub async fn rotate(
        &self,
        progress: impl FnMut(&RotateProgress) + Send,
    ) -> Result<RotateProgress, SqlError> {
        rotate::rotate(self, progress).await
    }

    /// Returns the key-encryption keys that the store needs, with the number of keys that each has
    /// wrapped.
    ///
    /// # Errors
    /// [`SqlError`]
    ///
    /// # Cancellation
    /// Reads only.
    pub async fn keys_in_use(&self) -> Result<Vec<KeyUse>, SqlError> {
        rotate::keys_in_use(self).await
    }

    /// Compares the store with a mark that was made before.
    ///
    /// # Errors
    /// [`SqlError`]
    ///
    /// # Cancellation
    /// Reads only.
    pub async fn compare(&self, mark: &StoreMark) -> Result<MarkState, SqlError> {
        mark::compare(self, mark).await
    }

    /// Makes a note that was [begun](StoreMark::begin), and returns the mark to keep. None if the
    /// store is older than the mark: then keep what was kept before.
    ///
    /// # Errors
    /// [`SqlError`]; keep the mark that was begun.
    ///
    /// # Cancellation
    /// The note is made or not; the mark that was begun counts in both cases.
    pub async fn witness(&self, mark: &StoreMark) -> Result<Option<StoreMark>, SqlError> {
        mark::witness(self, mark).await
    }

    /// Accepts the store although it is older than these marks. Before, revoke
    /// [everything](tower_token_broker::revocation::RevocationTarget::Everything), because
    /// revocations may be missing; afterwards, remove the marks. Marks of other witnesses are
    /// [`MarkState::Accepted`] from now on.
    ///
    /// # Errors
    /// [`SqlError`]
    ///
    /// # Cancellation
    /// The store is accepted or not.
    pub async fn accept_older(&self, noted: &[StoreMark]) -> Result<(), SqlError> {
        mark::accept(self, noted).await
    }

    /// Writes a consistent copy of a SQLite store to a new file that only its owner may read, while
    /// the store is in use.
    ///
    /// # Errors
    /// [`BackupError`]. No file is overwritten.
    ///
    /// # Cancellation
    /// The file may be incomplete: remove it.
    pub async fn back_up(&self, to: &Path) -> Result<(), BackupError> {
        backup::sqlite(self, to).await
    }

    /// Finds a grant by its ID, whatever else is in its row.
    ///
    /// # Errors
    /// [`SqlError`]
    ///
    /// # Cancellation
    /// Reads only.
    pub async fn find_grant(&self, id: &GrantId) -> Result<Option<GrantRef>, SqlError> {
        crate::grants::find(self, id).await
    }

    /// Completes the steps that were begun, and closes all connections. Later steps fail as
    /// unreachable.
    ///
    /// # Cancellation
    /// The connections are closed or not.
    pub async fn close(&self) {
        if !self.tasks.shutdown(self.timeout).await {
            tracing::debug!("a step of the store did not end in time");
        }
        self.database.close().await;
    }

    /// Returns an error if another file is at the path of a SQLite store: what other processes
    /// write to it does not arrive here.
    pub(crate) async fn is_in_place(&self) -> Result<(), Failure> {
        let Some(file) = self.file.clone() else { return Ok(()) };
        let in_place = tokio::task::spawn_blocking(move || file.is_in_place());
        match in_place.await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Failure::Unreachable(
                "another file is at its path: restart, to use that one".into(),
            )),
        }
    }

    /// Runs a step that writes to its end, even if its caller is dropped. The step begins at once,
    /// and is no part of the future that waits for it, which is small.
    pub(crate) fn owned<T, E>(
        &self,
        step: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> impl Future<Output = Result<T, E>> + Send
    where
        T: Send + 'static,
        E: From<Failure> + Send + 'static,
    {
        let task = self.tasks.spawn("store step", step);
        async move {
            match task.await {
                Ok(outcome) => outcome,
                Err(_) => Err(Failure::Unreachable("the step did not end".into()).into()),
            }
        }
    }

    /// Runs a step that no caller waits for.
    pub(crate) fn in_background(
        &self,
        name: &'static str,
        step: impl Future<Output = ()> + Send + 'static,
    ) {
        drop(self.tasks.spawn(name, step));
    }

    /// Waits until the steps in the background have ended.
    #[cfg(test)]
    pub(crate) async fn settled(&self) {
        assert!(self.tasks.shutdown(self.timeout).await);
    }

    /// Bounds one access to the database.
    pub(crate) async fn within<T>(
        &self,
        step: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        within(self.timeout, step).await
    }
}

/// Returns how long a revocation counts: `iat` may be a leeway ahead of the clock, a token is
/// accepted for a leeway after its end, and the wall clock may be set back a little.
fn counted(longest_lifetime: Duration) -> Duration {
    longest_lifetime.saturating_add(LEEWAY * 3)
}

impl fmt::Debug for SqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlStore").finish_non_exhaustive()
    }
}
