//! The work of reading an account, for names that no account has.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Arc,
};

use parking_lot::Mutex;
use token_broker_store::{StoreError, sealing::SealingContext};
use tower_token_broker::Secret;

use super::sealed::Sealed;
use crate::{database::Failure, store::SqlStore};

/// Sealed values in place of the password hashes of accounts that do not exist.
///
/// Opening a hash takes a call to the key management service, if there is one, unless
/// [`KeptKeys`](token_broker_store::sealing::KeptKeys) has kept the key. A name without an account
/// takes the same: a call at first, and then for as long as the value is here what it takes to open
/// it again. So the time of a sign-in does not show whether there is an account. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Decoys(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    by_name: HashMap<Box<str>, Arc<Sealed>>,
    /// In the order in which they were added.
    order: VecDeque<Box<str>>,
}

/// Most names. The oldest make space.
const MOST: usize = 1_000;

impl Decoys {
    fn get(&self, name: &str) -> Option<Arc<Sealed>> {
        self.0.lock().by_name.get(name).cloned()
    }

    fn put(&self, name: &str, sealed: Sealed) {
        let mut kept = self.0.lock();
        while kept.order.len() >= MOST
            && let Some(first) = kept.order.pop_front()
        {
            kept.by_name.remove(&first);
        }
        if kept.by_name.insert(name.into(), Arc::new(sealed)).is_none() {
            kept.order.push_back(name.into());
        }
    }
}

impl SqlStore {
    /// Does the work of opening the password hash of an account with this name.
    // S526: one call to the key management service at most, as for an account.
    pub(super) async fn open_decoy(&self, name: &str) -> Result<(), StoreError> {
        let context = SealingContext::new("account").text("no account").text(name);
        if let Some(sealed) = self.decoys.get(name) {
            match self.open_sealed(&context, &sealed).await {
                Ok(_) => return Ok(()),
                // Sealed with a key that was removed since.
                Err(Failure::Unreadable) => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        let hash = Secret::from_text("x".repeat(HASH_LENGTH));
        let sealed = self.seal(&context, &hash).await?;
        self.decoys.put(name, sealed);
        Ok(())
    }
}

/// Number of octets of a password hash as text, about.
const HASH_LENGTH: usize = 96;

impl fmt::Debug for Decoys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoys").finish_non_exhaustive()
    }
}
