//! Stores of the authorization server: clients, codes, token families, browser sessions, local
//! accounts and signing keys.
//!
//! [`AuthorityStore`] is all of them, on one database. [`MemoryAuthority`] is a store in memory.
//! Codes, session cookies, one-time links and client secrets are not stored: a store finds and
//! compares them by a [`LookupHash`].
//!
//! # Example
//! A code is redeemed once, and its token family begins. A second attempt is recognized.
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use std::time::Duration;
//! use token_broker_store::authority::{
//!     AuthorityStore, ClientId, Code, CodeStore, FamilyId, MemoryAuthority, RedeemCode,
//!     Redemption, SessionId,
//! };
//! use tower_token_broker::{Secret, clock::Clock, principal::{Resource, User}};
//!
//! let store = MemoryAuthority::new();
//! let keys = store.lookup_key().await.unwrap();
//! let now = Clock::system().now();
//! let later = |seconds| now.plus(Duration::from_secs(seconds));
//!
//! let value = Secret::from_text("SplxlOBeZQQYbYS6WxSbIA".into()); // 256 random bits
//! let code = Code::new(
//!     User::new("https://broker.example.com", "alice"),
//!     ClientId::new("inspector"),
//!     Resource::parse("https://broker.example.com/crm/mcp").unwrap(),
//!     (SessionId::new("s1"), FamilyId::new("f1")),
//!     (now, later(60)),
//! );
//! store.put_code(&keys.code(&value), &code).await.unwrap();
//!
//! let key = Secret::new(vec![7; 32]); // random, too
//! let ends = (later(30 * 86_400), later(180 * 86_400));
//! let request = RedeemCode::new(keys.code(&value), now, key, ends);
//! let first = store.redeem_code(&request).await.unwrap();
//! assert!(matches!(first, Redemption::First(_, family) if family.generation == 1));
//! let second = store.redeem_code(&request).await.unwrap();
//! assert_eq!(second, Redemption::Again(code, now));
//! # });
//! ```
//!
//! # Limits
//! In bytes: client ID, redirect URI and resource 2 048; issuer and subject of a user 1 024; other
//! IDs 255; scopes 16 KiB; a client's keys 32 KiB; a private key 16 KiB; a password hash 1 KiB. A
//! client has 32 redirect URIs. Longer values and NUL are [`StoreError::Invalid`] where they are
//! to be stored, and find nothing where they are looked up.

mod account;
mod client;
mod code;
mod family;
mod id;
pub(crate) mod limits;
mod lookup;
mod memory;
mod page;
mod session;
mod signing_key;

pub use self::{
    account::{
        AccountCreation, AccountStore, AccountWithPassword, CreateFirstAccount, FirstAccount,
        LinkState, LocalAccount, NewAccount, SetPassword, UserName, UserNameError,
    },
    client::{
        ApplicationType, Client, ClientAuthMethod, ClientKeys, ClientStore, RegisterClient,
        Registration,
    },
    code::{Code, CodeState, CodeStore, RedeemCode, Redemption, StoredCode},
    family::{
        Advance, AdvanceFamily, EndFamilies, Family, FamilyEnd, FamilyEndReason, FamilyFilter,
        FamilyStore, KeyedFamily, Superseded,
    },
    id::{ClientId, FamilyId, SessionId},
    lookup::{LookupHash, LookupKey, StoredHash},
    memory::MemoryAuthority,
    page::{Page, PageRequest},
    session::{Session, SessionStore},
    signing_key::{AddSigningKey, KeyTimes, SigningKey, SigningKeySet, SigningKeyStore},
};
use crate::StoreError;

/// All stores of an authorization server, on one database.
pub trait AuthorityStore:
    ClientStore + CodeStore + FamilyStore + SessionStore + AccountStore + SigningKeyStore
{
    /// Returns the key of the hashes by which codes, sessions, links and client secrets are found.
    /// It is the same in all processes and never changes.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// Reads only.
    fn lookup_key(&self) -> impl Future<Output = Result<LookupKey, StoreError>> + Send;
}
