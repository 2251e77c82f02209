//! Notes outside of the store how far it has come, and compares it with them at the start: a
//! restored backup lacks revocations.
//!
//! The notes are files in the audit folder, one for each writer, which no restored store replaces.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use token_broker_sql::{SqlStore, StoreMark};
use tower_token_broker::{
    Broker, alarm::Alarm, principal::Initiator, revocation::RevocationTarget,
};

use super::GatewayError;
use crate::configuration::Configuration;

/// The end of the name of a note.
pub(crate) const SUFFIX: &str = ".store-mark";
/// How often the store is compared with the note of this process.
const INTERVAL: Duration = Duration::from_secs(1);
/// After how many comparisons the mark of the store is changed: a backup that is older than this is
/// recognized even if no revocation is missing.
const ADVANCE_EVERY: u32 = 30;

/// The notes of one audit folder.
pub(crate) struct Marks {
    folder: PathBuf,
    file: PathBuf,
}

impl Marks {
    /// Returns the notes of a configuration, of which this writer writes one.
    pub(crate) fn new(configuration: &Configuration, writer: &str) -> Self {
        let folder = configuration.audit_folder.clone();
        let file = folder.join(format!("{writer}{SUFFIX}"));
        Self { folder, file }
    }

    /// Returns an error if the store is older than a note, unless that is accepted. Then all tokens
    /// that were issued until now are revoked first.
    pub(super) async fn check(
        &self,
        broker: &Broker,
        store: &SqlStore,
        is_recovered: bool,
    ) -> Result<(), GatewayError> {
        let failed = |error: &dyn std::fmt::Display| GatewayError::Store(error.to_string());
        let noted = self.all()?;
        let mark = store.mark().await.map_err(|error| failed(&error))?;
        if is_recovered {
            let by = Initiator::operator("serve --recovered");
            let revoked = broker.revoke(RevocationTarget::Everything, &by).await;
            revoked.map_err(|error| failed(&error))?;
            store.accept_older(&noted).await.map_err(|error| failed(&error))?;
            tracing::info!("the store was accepted as it is: all broker tokens are revoked");
        } else if let Some(noted) = noted.iter().find(|noted| mark.is_older_than(noted)) {
            return Err(match mark.is_of_same_store(noted) {
                true => GatewayError::StoreOutdated,
                false => GatewayError::OtherStore,
            });
        }
        // From now on, copies that were made before are older.
        store.advance_mark().await.map_err(|error| failed(&error))?;
        let mark = store.mark().await.map_err(|error| failed(&error))?;
        self.write(&mark).map_err(|error| self.unusable(&error))
    }

    /// Notes how far the store has come, unless it is older than the note. Returns whether it was
    /// noted.
    pub(crate) async fn note(&self, store: &SqlStore) -> Result<bool, GatewayError> {
        let failed = |error: &dyn std::fmt::Display| GatewayError::Store(error.to_string());
        let mark = store.mark().await.map_err(|error| failed(&error))?;
        let noted = self.read(&self.file)?;
        if noted.as_ref() == Some(&mark) {
            return Ok(true);
        }
        if noted.is_some_and(|noted| mark.is_older_than(&noted)) {
            return Ok(false);
        }
        self.write(&mark).map_err(|error| self.unusable(&error))?;
        Ok(true)
    }

    /// Keeps the note up to date for as long as the gateway runs.
    pub(super) async fn keep(self, store: SqlStore) {
        let (mut comparisons, mut has_failed) = (0_u32, false);
        loop {
            tokio::time::sleep(INTERVAL).await;
            comparisons += 1;
            let noted = self.note(&store).await;
            if matches!(noted, Ok(true)) && comparisons >= ADVANCE_EVERY {
                comparisons = 0;
                // The next comparison notes it.
                drop(store.advance_mark().await);
            }
            match noted {
                Ok(true) => has_failed = false,
                // Once, not every second.
                _ if has_failed => {}
                Ok(false) => {
                    has_failed = true;
                    tracing::error!(
                        alarm = Alarm::StoreOutdated.code(),
                        "the store is older than it was: was a backup restored? Restart the \
                         gateway with `serve --recovered`"
                    );
                }
                // The store has alarms of its own.
                Err(GatewayError::Store(_)) => {}
                Err(error) => {
                    has_failed = true;
                    tracing::error!(
                        alarm = Alarm::StoreMarkNotNoted.code(),
                        %error,
                        "how far the store has come is not noted: a restored backup may not be \
                         recognized"
                    );
                }
            }
        }
    }

    fn all(&self) -> Result<Vec<StoreMark>, GatewayError> {
        let mut marks = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(|error| self.unusable(&error))? {
            let path = entry.map_err(|error| self.unusable(&error))?.path();
            if path.to_str().is_some_and(|path| path.ends_with(SUFFIX)) {
                marks.extend(self.read(&path)?);
            }
        }
        Ok(marks)
    }

    fn read(&self, path: &Path) -> Result<Option<StoreMark>, GatewayError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.unusable(&error)),
        };
        let mark = text.parse().map_err(|error| GatewayError::StoreMark {
            path: path.to_owned(),
            error: format!("{error}; remove it, and start once with `serve --recovered`").into(),
        })?;
        Ok(Some(mark))
    }

    /// Replaces the note at once, so that a crash leaves one of the two.
    fn write(&self, mark: &StoreMark) -> io::Result<()> {
        let new = self.file.with_extension("store-mark.new");
        let mut file = fs::File::create(&new)?;
        file.write_all(format!("{mark}\n").as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.file)?;
        fs::File::open(&self.folder)?.sync_all()
    }

    fn unusable(&self, error: &io::Error) -> GatewayError {
        GatewayError::StoreMark { path: self.file.clone(), error: error.to_string().into() }
    }
}
