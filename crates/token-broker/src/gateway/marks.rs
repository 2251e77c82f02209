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

use token_broker_sql::{MarkState, SqlError, SqlStore, StoreMark};
use tower_token_broker::{
    Broker, alarm::Alarm, principal::Initiator, revocation::RevocationTarget, stack::RevokeError,
};

use super::{GatewayError, Stores};
use crate::configuration::Configuration;

/// The end of the name of a note.
pub(crate) const SUFFIX: &str = ".store-mark";
/// How often the store is compared with the note of this process.
const INTERVAL: Duration = Duration::from_secs(1);
/// After how many comparisons a new note is made although nothing was revoked: a backup that is
/// older than this is recognized in any case.
const NOTE_EVERY: u32 = 30;

/// The notes of one audit folder.
#[derive(Clone, Debug)]
pub(crate) struct Marks {
    folder: PathBuf,
    file: PathBuf,
    /// A store in memory is new at each start.
    is_in_memory: bool,
}

impl Marks {
    /// Returns the notes of a configuration, of which this writer makes one.
    pub(crate) fn new(configuration: &Configuration, writer: &str) -> Self {
        let folder = configuration.audit_folder.clone();
        let file = folder.join(format!("{writer}{SUFFIX}"));
        Self { folder, file, is_in_memory: Stores::are_in_memory(configuration) }
    }

    /// Returns whether the store lacks something that was noted.
    pub(crate) async fn is_outdated(&self, store: &SqlStore) -> Result<bool, GatewayError> {
        if self.is_in_memory {
            return Ok(false);
        }
        for (_, noted) in self.all().await? {
            if store.compare(&noted).await.map_err(|error| store_error(&error))? == MarkState::Older
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns an error if the store lacks something that was noted, unless that is accepted: then
    /// all tokens that were issued until now are revoked.
    pub(super) async fn check(
        &self,
        broker: &Broker,
        store: &SqlStore,
        is_recovered: bool,
    ) -> Result<(), GatewayError> {
        if self.is_in_memory {
            return Ok(());
        }
        if is_recovered {
            self.accept(broker, store).await?;
        } else if self.is_outdated(store).await? {
            return Err(GatewayError::StoreOutdated);
        }
        // From now on, copies that were made before are older.
        match self.note(store).await? {
            true => Ok(()),
            false => Err(GatewayError::StoreOutdated),
        }
    }

    async fn accept(&self, broker: &Broker, store: &SqlStore) -> Result<(), GatewayError> {
        let by = Initiator::operator("serve --recovered");
        match broker.revoke(RevocationTarget::Everything, &by).await {
            Ok(_) => {}
            // Recorded as soon as that is possible; until then, no request passes.
            Err(RevokeError::NotRecorded { .. }) => {}
            Err(error) => return Err(GatewayError::Store(error.to_string())),
        }
        let noted = self.all().await?;
        let marks: Vec<_> = noted.iter().map(|(_, mark)| mark.clone()).collect();
        store.accept_older(&marks).await.map_err(|error| store_error(&error))?;
        // After a crash before this, the start is refused again.
        for (path, _) in noted {
            in_background(move || remove(&path)).await?;
        }
        tracing::info!("the store was accepted as it is: all broker tokens are revoked");
        Ok(())
    }

    /// Notes how far the store has come. Returns whether it was noted: an older store is not.
    pub(crate) async fn note(&self, store: &SqlStore) -> Result<bool, GatewayError> {
        if self.is_in_memory {
            return Ok(true);
        }
        let mut begun = self.own().await?.unwrap_or_default().begin();
        match store.compare(&begun).await.map_err(|error| store_error(&error))? {
            MarkState::Whole { .. } => {}
            // By another host: what this one noted before counts no longer.
            MarkState::Accepted => begun = StoreMark::new().begin(),
            MarkState::Older | _ => return Ok(false),
        }
        self.keep(&begun).await?;
        let Some(noted) = store.witness(&begun).await.map_err(|error| store_error(&error))? else {
            return Ok(false);
        };
        self.keep(&noted).await?;
        Ok(true)
    }

    /// Notes each revocation, and each half minute, for as long as the gateway runs.
    pub(super) async fn watch(self, store: SqlStore) {
        let mut comparisons = 0;
        let mut raised = None;
        loop {
            tokio::time::sleep(INTERVAL).await;
            comparisons += 1;
            let trouble = match self.look(&store, comparisons >= NOTE_EVERY).await {
                Ok(Look::NothingNew) => None,
                Ok(Look::Noted) => {
                    comparisons = 0;
                    None
                }
                Ok(Look::Outdated) => Some(Trouble::Outdated),
                // The store has alarms of its own.
                Err(GatewayError::Store(_)) => raised.clone(),
                Err(error) => Some(Trouble::NotNoted(error.to_string())),
            };
            // Once, not each second.
            if trouble != raised {
                trouble.iter().for_each(Trouble::raise);
            }
            raised = trouble;
        }
    }

    async fn look(&self, store: &SqlStore, is_due: bool) -> Result<Look, GatewayError> {
        if self.is_in_memory {
            return Ok(Look::NothingNew);
        }
        let Some(own) = self.own().await? else {
            return self.note(store).await.map(Look::of);
        };
        match store.compare(&own).await.map_err(|error| store_error(&error))? {
            MarkState::Whole { is_latest: true } if !is_due => Ok(Look::NothingNew),
            MarkState::Whole { .. } => self.note(store).await.map(Look::of),
            // Accepted by another host: this process has all revocations that it has seen.
            MarkState::Older | MarkState::Accepted | _ => Ok(Look::Outdated),
        }
    }

    async fn own(&self) -> Result<Option<StoreMark>, GatewayError> {
        let path = self.file.clone();
        in_background(move || read(&path)).await
    }

    async fn all(&self) -> Result<Vec<(PathBuf, StoreMark)>, GatewayError> {
        let folder = self.folder.clone();
        in_background(move || {
            let unusable = |error: io::Error| unusable(&folder, &error);
            let mut marks = Vec::new();
            for entry in fs::read_dir(&folder).map_err(unusable)? {
                let path = entry.map_err(unusable)?.path();
                if path.to_str().is_some_and(|path| path.ends_with(SUFFIX)) {
                    marks.extend(read(&path)?.map(|mark| (path, mark)));
                }
            }
            Ok(marks)
        })
        .await
    }

    async fn keep(&self, mark: &StoreMark) -> Result<(), GatewayError> {
        let (path, text) = (self.file.clone(), format!("{mark}\n"));
        in_background(move || write(&path, &text).map_err(|error| unusable(&path, &error))).await
    }
}

enum Look {
    NothingNew,
    Noted,
    Outdated,
}

impl Look {
    const fn of(was_noted: bool) -> Self {
        if was_noted { Self::Noted } else { Self::Outdated }
    }
}

/// Why a restored store may not be recognized at the next start, or was restored meanwhile.
#[derive(Clone, PartialEq, Eq)]
enum Trouble {
    Outdated,
    NotNoted(String),
}

impl Trouble {
    fn raise(&self) {
        match self {
            Self::Outdated => tracing::error!(
                alarm = Alarm::StoreOutdated.code(),
                "the store is older than it was: was a backup restored while the gateway ran? \
                 Restart it with `serve --recovered`"
            ),
            Self::NotNoted(error) => tracing::error!(
                alarm = Alarm::StoreMarkNotNoted.code(),
                error,
                "how far the store has come is not noted: a restored backup may not be recognized"
            ),
        }
    }
}

fn store_error(error: &SqlError) -> GatewayError {
    GatewayError::Store(error.to_string())
}

/// Runs a step on files, which may take its time, outside of the tasks that serve requests.
async fn in_background<T: Send + 'static>(
    step: impl FnOnce() -> Result<T, GatewayError> + Send + 'static,
) -> Result<T, GatewayError> {
    let ended = |_| GatewayError::Store("a step on its notes did not end".to_owned());
    tokio::task::spawn_blocking(step).await.map_err(ended)?
}

fn read(path: &Path) -> Result<Option<StoreMark>, GatewayError> {
    let is_file = |metadata: fs::Metadata| metadata.is_file();
    // Opening a pipe would wait for a writer.
    match fs::symlink_metadata(path).map(is_file) {
        Ok(true) => {}
        Ok(false) => return Err(unusable(path, &io::Error::other("it is no regular file"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(path, &error)),
    }
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(path, &error)),
    };
    let mark = text.parse().map_err(|error| GatewayError::StoreMark {
        path: path.to_owned(),
        error: format!("{error}; remove it, and start once with `serve --recovered`").into(),
    })?;
    Ok(Some(mark))
}

/// Replaces a note at once, so that a crash leaves one of the two.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("store-mark.new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut options = fs::OpenOptions::new();
    // A link that appears meanwhile is not followed.
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    fs::File::open(path.parent().unwrap_or(path))?.sync_all()
}

fn remove(path: &Path) -> Result<(), GatewayError> {
    fs::remove_file(path).map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &io::Error) -> GatewayError {
    GatewayError::StoreMark { path: path.to_owned(), error: error.to_string().into() }
}
