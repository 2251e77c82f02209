//! The authority's stores in the memory of one process.

mod accounts;
mod clients;
mod codes;
mod families;
mod sessions;
mod signing_keys;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use parking_lot::Mutex;
use tower_token_broker::clock::Timestamp;

use super::{
    AccountWithPassword, AuthorityStore, Client, ClientId, FamilyId, KeyedFamily, LookupHash,
    LookupKey, Session, SigningKeySet, StoredCode,
};
use crate::StoreError;

/// An [`AuthorityStore`] in the memory of one process, for tests and embedders. Clones share it.
#[derive(Clone)]
pub struct MemoryAuthority {
    lookup_key: LookupKey,
    rows: Arc<Mutex<Rows>>,
}

#[derive(Default)]
struct Rows {
    clients: BTreeMap<ClientId, Client>,
    codes: HashMap<LookupHash, StoredCode>,
    families: BTreeMap<FamilyId, KeyedFamily>,
    sessions: HashMap<LookupHash, Session>,
    /// By subject.
    accounts: BTreeMap<Box<str>, AccountWithPassword>,
    first_account_link: Option<Link>,
    signing_keys: SigningKeySet,
}

struct Link {
    hash: LookupHash,
    expires_at: Timestamp,
}

impl MemoryAuthority {
    /// Creates an empty store.
    pub fn new() -> Self {
        Self { lookup_key: LookupKey::generate(), rows: Arc::default() }
    }
}

impl Default for MemoryAuthority {
    fn default() -> Self {
        Self::new()
    }
}

impl AuthorityStore for MemoryAuthority {
    async fn lookup_key(&self) -> Result<LookupKey, StoreError> {
        Ok(self.lookup_key.clone())
    }
}

impl fmt::Debug for MemoryAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryAuthority").finish_non_exhaustive()
    }
}

/// Removes at most `limit` rows, and returns their number.
fn remove_some<K: Clone + Eq + std::hash::Hash, V>(
    rows: &mut HashMap<K, V>,
    limit: usize,
    is_old: impl Fn(&V) -> bool,
) -> usize {
    let old = rows.iter().filter(|(_, row)| is_old(row)).map(|(key, _)| key.clone());
    let old: Vec<_> = old.take(limit).collect();
    for key in &old {
        rows.remove(key);
    }
    old.len()
}

/// The same for rows in order.
fn remove_first<K: Clone + Ord, V>(
    rows: &mut BTreeMap<K, V>,
    limit: usize,
    is_old: impl Fn(&V) -> bool,
) -> usize {
    let old = rows.iter().filter(|(_, row)| is_old(row)).map(|(key, _)| key.clone());
    let old: Vec<_> = old.take(limit).collect();
    for key in &old {
        rows.remove(key);
    }
    old.len()
}
