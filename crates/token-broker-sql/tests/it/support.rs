//! Empty stores, keys and grants for the tests.

use std::{
    io::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

use tempfile::TempDir;
use token_broker_sql::{SqlStore, StoreUrl};
use token_broker_store::{AccessToken, Account, Grant, GrantKey, sealing::KeyRing};
use tower_token_broker::{
    Secret,
    clock::Timestamp,
    principal::{GrantId, Scopes, User},
};

/// The databases that a test runs on.
pub(crate) enum Place {
    Sqlite(TempDir),
    Postgres { url: String, schema: String },
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    /// An empty schema of the PostgreSQL that `TOKEN_BROKER_POSTGRES` names, if it is set.
    pub(crate) async fn postgres() -> Option<Self> {
        #[expect(clippy::disallowed_methods, reason = "the tests' only setting")]
        let Ok(url) = std::env::var("TOKEN_BROKER_POSTGRES") else {
            // `eprintln!` would be captured by the test harness if the test passes.
            let mut stderr = std::io::stderr();
            writeln!(stderr, "NOT RUN on PostgreSQL: TOKEN_BROKER_POSTGRES is not set").unwrap();
            return None;
        };
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let schema = format!("t{}_{number}", std::process::id());
        let place = Self::Postgres { url, schema };
        place.run(&format!("DROP SCHEMA IF EXISTS {0} CASCADE; CREATE SCHEMA {0}", place.schema()));
        Some(place)
    }

    /// Both databases, or only SQLite.
    pub(crate) async fn all() -> Vec<Self> {
        [Some(Self::sqlite()), Self::postgres().await].into_iter().flatten().collect()
    }

    fn schema(&self) -> &str {
        match self {
            Self::Sqlite(_) => "main",
            Self::Postgres { schema, .. } => schema,
        }
    }

    pub(crate) fn url(&self) -> StoreUrl {
        StoreUrl::parse(&self.url_text()).unwrap()
    }

    pub(crate) fn url_text(&self) -> String {
        match self {
            Self::Sqlite(folder) => format!("sqlite://{}", folder.path().join("b.db").display()),
            Self::Postgres { url, schema } => {
                let separator = if url.contains('?') { '&' } else { '?' };
                format!("{url}{separator}options=-csearch_path%3D{schema}")
            }
        }
    }

    /// The file of SQLite.
    pub(crate) fn file(&self) -> std::path::PathBuf {
        self.url().file().unwrap().to_owned()
    }

    pub(crate) async fn open(&self, keys: &KeyRing) -> SqlStore {
        SqlStore::open(&self.url(), keys.clone()).await.unwrap()
    }

    /// Runs statements by the database's own shell.
    pub(crate) fn run(&self, sql: &str) -> String {
        let mut command = match self {
            Self::Sqlite(folder) => {
                let mut command = std::process::Command::new("python3");
                let script = "import sqlite3,sys\nc=sqlite3.connect(sys.argv[1],timeout=20)\n\
                    for s in sys.argv[2].split(';'):\n  for r in c.execute(s): print(*r,sep='|')\n\
                    c.commit()";
                command.args(["-c", script]).arg(folder.path().join("b.db"));
                command.arg(sql);
                command
            }
            Self::Postgres { url, schema } => {
                let mut command = std::process::Command::new("psql");
                command.env(
                    "PGOPTIONS",
                    format!("-c search_path={schema} -c client_min_messages=error"),
                );
                command.args(["-qAtX", "-v", "ON_ERROR_STOP=1", url, "-c", sql]);
                command
            }
        };
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{sql}: {text} {:?}", String::from_utf8(output.stderr));
        text.trim().to_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Self::Postgres { schema, .. } = &*self
            && !std::thread::panicking()
        {
            self.run(&format!("DROP SCHEMA {schema} CASCADE"));
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a new key of a test")]
pub(crate) fn key_line() -> String {
    KeyRing::generate_line().expose_text().unwrap().to_owned()
}

pub(crate) fn keys() -> KeyRing {
    KeyRing::parse(&key_line()).unwrap()
}

pub(crate) fn key(subject: &str) -> GrantKey {
    let user = User::new("https://broker.example.com", subject);
    GrantKey::new(user, "crm", Account::default_account())
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from_unix_seconds(1_800_000_000)
}

pub(crate) fn secret(text: &str) -> Secret {
    Secret::from_text(text.to_owned())
}

/// A grant of this user, whose ID is made of the name.
pub(crate) fn grant(subject: &str) -> Grant {
    let scopes = Scopes::parse("crm:read").unwrap();
    let expires_at = now().plus(std::time::Duration::from_secs(3_600));
    let access = AccessToken::new(secret(&format!("access {subject}")), scopes, now(), expires_at);
    Grant::new(GrantId::new(&format!("g-{subject}")), key(subject), "https://login.crm.example")
        .granted(Scopes::parse("crm:read crm:write").unwrap())
        .refresh_token(secret(&format!("refresh {subject}")))
        .access_token(access)
}

#[expect(clippy::disallowed_methods, reason = "compared with what was stored")]
pub(crate) fn text(secret: &Secret) -> &str {
    secret.expose_text().unwrap()
}
