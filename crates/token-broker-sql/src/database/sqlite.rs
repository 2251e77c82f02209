//! SQLite: a file with a write-ahead log, or memory.

use std::{fs, io, path::Path, str::FromStr as _, time::Duration};

use sqlx::{
    ConnectOptions as _, Sqlite, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{CopyError, Database, Failure, pool_options};
use crate::{error::OpenError, url::StoreUrl};

const READERS: u32 = 4;
/// How often opening is tried again while another process prepares the file.
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn open_in_memory(url: &StoreUrl) -> Result<Database, OpenError> {
    let options = SqliteConnectOptions::from_str("sqlite::memory:")
        .map_err(|error| OpenError::unreachable(url, &error.into()))?
        .foreign_keys(true)
        .disable_statement_logging();
    // The memory is that of the one connection, which is kept.
    let pool = pool_options::<Sqlite>(1, url.timeout)
        .min_connections(1)
        .connect_with(options)
        .await
        .map_err(|error| OpenError::unreachable(url, &error.into()))?;
    Ok(Database::Sqlite { writer: pool.clone(), readers: pool.clone(), feed: pool })
}

pub(super) async fn open_file(url: &StoreUrl, path: &Path) -> Result<Database, OpenError> {
    let refused = |reason: String| OpenError::File { path: path.into(), reason: reason.into() };
    create_private(path).map_err(|error| {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        refused(if error.kind() == io::ErrorKind::NotFound {
            format!("the folder {} does not exist", folder.unwrap_or(path).display())
        } else {
            format!("{error}; the file and its folder must belong to the broker's user")
        })
    })?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        // A commit is durable before it returns.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(url.timeout)
        // Erased tokens are overwritten in the file.
        .pragma("secure_delete", "ON")
        .disable_statement_logging();
    let pool = |connections| pool_options::<Sqlite>(connections, url.timeout);
    let writer = connect(&pool(1), &options).await.map_err(|failure| match failure {
        Failure::Unreachable(reason) => refused(reason.into()),
        Failure::Taken | Failure::Unreadable | Failure::Deadlock => {
            refused("it is not readable".into())
        }
    })?;
    let feed = pool(1).connect_lazy_with(options.clone());
    Ok(Database::Sqlite { writer, readers: pool(READERS).connect_lazy_with(options), feed })
}

/// Connects. While another process changes the journal mode, SQLite does not wait for it.
async fn connect(
    pool: &SqlitePoolOptions,
    options: &SqliteConnectOptions,
) -> Result<SqlitePool, Failure> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match pool.clone().connect_with(options.clone()).await {
            Err(sqlx::Error::Database(error))
                if attempt < ATTEMPTS && is_busy(error.code().as_deref()) =>
            {
                tokio::time::sleep(PAUSE).await;
            }
            outcome => return Ok(outcome?),
        }
    }
}

/// Whether this is one of SQLite's codes for "busy" or "locked", which are extended by high bits.
fn is_busy(code: Option<&str>) -> bool {
    code.and_then(|code| code.parse::<u32>().ok()).is_some_and(|code| matches!(code & 0xff, 5 | 6))
}

/// Creates the file, if there is none, so that only its owner may use it. SQLite gives the same
/// mode to the files next to it.
#[cfg(unix)]
fn create_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    let tighten = |file: &fs::File| {
        let mode = file.metadata()?.permissions().mode();
        match mode & 0o077 {
            0 => Ok(()),
            _ => file.set_permissions(fs::Permissions::from_mode(0o600)),
        }
    };
    tighten(&file)?;
    for suffix in ["-wal", "-shm"] {
        let mut beside = path.as_os_str().to_owned();
        beside.push(suffix);
        match fs::File::open(&beside) {
            Ok(file) => tighten(&file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn create_private(path: &Path) -> io::Result<()> {
    fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map(drop)
}

/// Writes a consistent copy to a new file, which appears when it is complete.
pub(super) async fn copy_to(readers: &SqlitePool, path: &Path) -> Result<(), CopyError> {
    // SQLite reads an absolute path as it is, and others as a URI or as a name of memory.
    let path = std::path::absolute(path).map_err(CopyError::File)?;
    if path.exists() {
        return Err(CopyError::File(io::ErrorKind::AlreadyExists.into()));
    }
    let mut partial = path.clone().into_os_string();
    partial.push(".partial");
    let partial = Path::new(&partial);
    let text = partial.to_str().ok_or(CopyError::Name)?;
    let mut options = fs::OpenOptions::new();
    // SQLite takes an empty file, so that its mode can be set before.
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(partial).map_err(CopyError::File)?;
    let copied = sqlx::query("VACUUM INTO $1").bind(text).execute(readers).await;
    let moved = copied
        .map_err(|error| CopyError::Store(error.into()))
        .and_then(|_| appear(partial, &path).map_err(CopyError::File));
    fs::remove_file(partial).unwrap_or_default();
    moved
}

/// Gives a complete file its name, durably, unless the name is taken.
fn appear(partial: &Path, path: &Path) -> io::Result<()> {
    let file = fs::OpenOptions::new().read(true).write(true).open(partial)?;
    if file.metadata()?.len() == 0 {
        return Err(io::Error::other("SQLite wrote nothing"));
    }
    file.sync_all()?;
    fs::hard_link(partial, path)?;
    fs::File::open(path.parent().unwrap_or(path))?.sync_all()
}

/// Moves the write-ahead log into the file, if no other process is in the way.
pub(super) async fn checkpoint(writer: &SqlitePool) {
    if let Err(error) = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_all(writer).await {
        tracing::debug!(%error, "the write-ahead log stays until the store is opened again");
    }
}
