//! The stores of the broker on SQLite and PostgreSQL, with tokens encrypted at rest.
//!
//! [`SqlStore`] keeps grants, revocations and blocks, the rows of the authorization server, and the
//! keys that seal client-held state. All processes that open one database share them. Tokens are
//! sealed with a data key for each grant, which a key-encryption key wraps: see
//! [`token_broker_store::sealing`]. Keys of token families, password hashes and signing keys are
//! sealed in the same way, and so are the contents of connects, tokens to be revoked, and the
//! secrets of clients that the broker registered. Codes, cookies and secrets of the authority's
//! clients are kept as keyed hashes only.
//!
//! # Example
//! A grant survives a restart, and opens only with the key that sealed it.
//! ```
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
//! use token_broker_sql::{OpenError, SqlStore, StoreUrl};
//! use token_broker_store::{Account, Grant, GrantKey, GrantStore, sealing::KeyRing};
//! use tower_token_broker::principal::{GrantId, User};
//! # #[expect(clippy::disallowed_methods, reason = "new keys of this example")]
//! # fn new_key() -> KeyRing {
//! #     KeyRing::parse(KeyRing::generate_line().expose_text().unwrap()).unwrap()
//! # }
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("broker.db");
//!
//! let url = StoreUrl::parse(&format!("sqlite://{}", path.display())).unwrap();
//! let keys = new_key(); // KeyRing::read_file(Path::new("token-broker.key"))?
//!
//! let store = SqlStore::open(&url, keys.clone()).await.unwrap();
//! let alice = User::new("https://broker.example.com", "alice");
//! let key = GrantKey::new(alice, "crm", Account::default_account());
//! store.put(Grant::new(GrantId::new("7c1f"), key.clone(), "https://crm.example")).await.unwrap();
//! store.close().await;
//!
//! let store = SqlStore::open(&url, keys).await.unwrap();
//! assert!(store.load(&key).await.unwrap().is_some());
//!
//! let refused = SqlStore::open(&url, new_key()).await;
//! assert!(matches!(refused, Err(OpenError::WrongKey { .. })));
//! # });
//! ```
//!
//! # Limits
//! A key of a grant: issuer and subject 1 024 bytes each, server 255. A token: 16 KiB for a refresh
//! token, 64 KiB for an access token. A step that takes longer than the timeout of the
//! [`StoreUrl`] fails as unreachable.
//!
//! # Cancellation
//! Steps that write run in tasks of the store: a future that is dropped does not interrupt them.

mod authority;
mod backup;
mod connect;
mod database;
mod error;
mod file;
mod grants;
mod keys;
mod limits;
mod mark;
mod revocations;
mod rotate;
mod schema;
mod store;
mod url;

pub use backup::BackupError;
pub use error::{OpenError, SqlError};
pub use mark::{MarkState, ParseMarkError, StoreMark};
pub use rotate::{KeyUse, RotateProgress};
pub use store::SqlStore;
pub use url::{StoreUrl, StoreUrlError};
