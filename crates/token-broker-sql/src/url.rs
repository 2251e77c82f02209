//! The URL of a store.

use std::{fmt, path::Path, path::PathBuf, str::FromStr as _, time::Duration};

use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// URL of a store: `sqlite://FILE`, `sqlite::memory:`, or `postgres://…`. `Debug` and `Display` do
/// not print the user and the password.
///
/// A URL of PostgreSQL has the parameters of libpq. A server on another host is reached over TLS
/// with a verified certificate, unless the URL has `sslmode`.
#[derive(Clone)]
#[must_use = "does nothing unless a store is opened"]
pub struct StoreUrl {
    pub(crate) place: Place,
    pub(crate) timeout: Duration,
}

#[derive(Clone)]
pub(crate) enum Place {
    Memory,
    File(PathBuf),
    Postgres(Box<PgConnectOptions>),
}

impl StoreUrl {
    const TIMEOUT: Duration = Duration::from_secs(5);

    /// Parses a URL.
    ///
    /// # Errors
    /// [`StoreUrlError`]; it does not contain the URL, which may have a password.
    pub fn parse(url: &str) -> Result<Self, StoreUrlError> {
        let place = if url == "sqlite::memory:" {
            Place::Memory
        } else if let Some(path) = url.strip_prefix("sqlite://") {
            Place::File(file(path)?)
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Place::Postgres(Box::new(postgres(url)?))
        } else {
            return Err(StoreUrlError::Kind);
        };
        Ok(Self { place, timeout: Self::TIMEOUT })
    }

    /// Sets how long a step may take before it fails as unreachable. The default is 5 seconds.
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Interprets a relative path of a file relative to this folder.
    pub fn relative_to(mut self, folder: &Path) -> Self {
        if let Place::File(path) = &mut self.place {
            *path = folder.join(&*path);
        }
        self
    }

    /// Returns the path of the database file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match &self.place {
            Place::File(path) => Some(path),
            Place::Memory | Place::Postgres(_) => None,
        }
    }

    /// Returns whether the store is in memory, and ends with the process.
    pub const fn is_in_memory(&self) -> bool {
        matches!(self.place, Place::Memory)
    }
}

fn file(path: &str) -> Result<PathBuf, StoreUrlError> {
    if path.is_empty() || path.ends_with('/') {
        return Err(StoreUrlError::NoFile);
    }
    // Neither decoded nor cut off: the text is the path, or it is refused.
    if path.contains(['?', '#', '%', '\0']) {
        return Err(StoreUrlError::FileName);
    }
    Ok(path.into())
}

fn postgres(url: &str) -> Result<PgConnectOptions, StoreUrlError> {
    // sqlx logs a parameter that it does not know, with its value.
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let names = query.split('&').filter(|pair| !pair.is_empty());
    let names = names.map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name));
    if names.into_iter().any(|name| !is_parameter(name)) {
        return Err(StoreUrlError::Parameter);
    }
    let options = PgConnectOptions::from_str(url).map_err(|_| StoreUrlError::Postgres)?;
    let has_mode = url.split_once('?').is_some_and(|(_, query)| {
        query.split('&').any(|pair| pair.starts_with("sslmode=") || pair.starts_with("ssl-mode="))
    });
    if has_mode || is_local(&options) {
        return Ok(options);
    }
    Ok(options.ssl_mode(PgSslMode::VerifyFull))
}

/// Whether sqlx knows a parameter of a URL.
fn is_parameter(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "application_name",
        "dbname",
        "host",
        "hostaddr",
        "options",
        "password",
        "port",
        "ssl-ca",
        "ssl-cert",
        "ssl-key",
        "ssl-mode",
        "ssl-root-cert",
        "sslcert",
        "sslkey",
        "sslmode",
        "sslrootcert",
        "statement-cache-capacity",
        "user",
    ];
    NAMES.contains(&name) || (name.starts_with("options[") && name.ends_with(']'))
}

fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    options.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Memory => f.write_str("sqlite::memory:"),
            Place::File(path) => write!(f, "sqlite://{}", path.display()),
            Place::Postgres(options) => {
                let host = options.get_host();
                let database = options.get_database().unwrap_or_default();
                match options.get_socket() {
                    Some(socket) => write!(f, "postgres:///{database}?host={}", socket.display()),
                    None => write!(f, "postgres://{host}:{}/{database}", options.get_port()),
                }
            }
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

/// The reason why a text is not the URL of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreUrlError {
    /// Another scheme.
    #[error(
        "the URL of a store begins with sqlite:// (for example sqlite://token-broker.db) or \
         postgres://"
    )]
    Kind,
    /// `sqlite://` without a file.
    #[error("the URL names no file; for example sqlite://token-broker.db")]
    NoFile,
    /// A path with a character that has a meaning in URLs.
    #[error("the path of a SQLite file must not contain '?', '#', '%' or NUL")]
    FileName,
    /// A parameter that is not known, or misspelt.
    #[error(
        "the PostgreSQL URL has a parameter that is not known; known are, for example, sslmode, \
         sslrootcert, options, host, port, user, password and dbname"
    )]
    Parameter,
    /// PostgreSQL's URL is malformed.
    #[error(
        "the PostgreSQL URL is malformed; for example postgres://user@host:5432/token_broker \
         (percent-encode special characters in the password)"
    )]
    Postgres,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ssl_mode(url: &str) -> PgSslMode {
        match StoreUrl::parse(url).unwrap().place {
            Place::Postgres(options) => options.get_ssl_mode(),
            Place::Memory | Place::File(_) => panic!("{url}"),
        }
    }

    #[test]
    fn urls_name_files_and_servers() {
        for (url, file) in [
            ("sqlite://token-broker.db", "token-broker.db"),
            ("sqlite:///var/lib/broker/a b.db", "/var/lib/broker/a b.db"),
            ("sqlite://./x.db", "./x.db"),
        ] {
            assert_eq!(StoreUrl::parse(url).unwrap().file(), Some(Path::new(file)), "{url}");
        }
        let url = StoreUrl::parse("sqlite://x.db").unwrap().relative_to(Path::new("/etc"));
        assert_eq!(url.file(), Some(Path::new("/etc/x.db")));
        assert_eq!(StoreUrl::parse("sqlite::memory:").unwrap().file(), None);
    }

    #[test]
    fn other_texts_are_refused() {
        for (url, error) in [
            ("", StoreUrlError::Kind),
            ("token-broker.db", StoreUrlError::Kind),
            ("sqlite:token-broker.db", StoreUrlError::Kind),
            ("mysql://host/x", StoreUrlError::Kind),
            ("sqlite://", StoreUrlError::NoFile),
            ("sqlite:///var/lib/", StoreUrlError::NoFile),
            ("sqlite://x.db?mode=ro", StoreUrlError::FileName),
            ("sqlite://x%2fy.db", StoreUrlError::FileName),
            ("postgres://host:port/x", StoreUrlError::Postgres),
            ("postgres://host/x?sslmode=maybe", StoreUrlError::Postgres),
            ("postgres://host/x?pasword=hunter2", StoreUrlError::Parameter),
            ("postgres://host/x?sslmode=disable&x", StoreUrlError::Parameter),
            ("postgres://host/x?PASSWORD=hunter2", StoreUrlError::Parameter),
        ] {
            assert_eq!(StoreUrl::parse(url).err(), Some(error), "{url}");
        }
    }

    #[test]
    fn another_host_is_verified_unless_configured() {
        for remote in ["postgres://db.example/x", "postgres://10.0.0.7/x", "postgresql://db/x"] {
            assert!(matches!(ssl_mode(remote), PgSslMode::VerifyFull), "{remote}");
        }
        for local in ["postgres://localhost/x", "postgres://127.0.0.1/x", "postgres:///x?host=/run"]
        {
            assert!(matches!(ssl_mode(local), PgSslMode::Prefer), "{local}");
        }
        let chosen = "postgres://db.example/x?sslmode=disable";
        assert!(matches!(ssl_mode(chosen), PgSslMode::Disable));
    }

    #[test]
    fn no_password_is_printed() {
        let url = StoreUrl::parse("postgres://broker:hunter2@db.example/store").unwrap();
        assert_eq!(format!("{url} {url:?}").matches("hunter2").count(), 0);
        assert_eq!(url.to_string(), "postgres://db.example:5432/store");
        let error = StoreUrl::parse("postgres://broker:hunter2@db:port/store").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
