//! A store in memory whose steps fail on demand, and a store of revocations that does.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use token_broker_store::{StoreError, authority::*};
use tokio::sync::Semaphore;
use tower_token_broker::{
    clock::Timestamp,
    principal::User,
    revocation::{
        RevocationChange, RevocationEntry, RevocationStore, RevocationStoreError, Sequence,
    },
};

/// How a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Without effect.
    Before,
    /// It takes effect, and the response is lost.
    After,
}

/// A store in memory. Clones share it and its faults.
#[derive(Clone, Default)]
pub(crate) struct TestStore {
    pub(crate) inner: MemoryAuthority,
    faults: Arc<Mutex<HashMap<&'static str, Fault>>>,
    gates: Arc<Mutex<HashMap<&'static str, Arc<Gate>>>>,
    /// Families that cannot be read.
    unreadable: Arc<Mutex<Vec<FamilyId>>>,
}

/// Holds a step of the families until it is released.
pub(crate) struct Gate {
    when: Fault,
    entered: Semaphore,
    released: Semaphore,
}

impl Gate {
    /// Waits until a step is held.
    pub(crate) async fn entered(&self) {
        self.entered.acquire().await.unwrap().forget();
    }

    pub(crate) fn release(&self) {
        self.released.add_permits(1);
    }
}

impl TestStore {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Holds the next step of this method, before or after its effect.
    pub(crate) fn hold(&self, method: &'static str, when: Fault) -> Arc<Gate> {
        let gate = Arc::new(Gate { when, entered: Semaphore::new(0), released: Semaphore::new(0) });
        self.gates.lock().insert(method, Arc::clone(&gate));
        gate
    }

    async fn pass(&self, method: &str, when: Fault) {
        let gate = {
            let mut gates = self.gates.lock();
            let is_here = gates.get(method).is_some_and(|gate| gate.when == when);
            if is_here { gates.remove(method) } else { None }
        };
        if let Some(gate) = gate {
            gate.entered.add_permits(1);
            gate.released.acquire().await.unwrap().forget();
        }
    }

    /// Lets all calls of this method fail.
    pub(crate) fn fail(&self, method: &'static str, fault: Fault) {
        self.faults.lock().insert(method, fault);
    }

    pub(crate) fn work(&self) {
        self.faults.lock().clear();
    }

    pub(crate) fn damage(&self, family: &FamilyId) {
        self.unreadable.lock().push(family.clone());
    }

    fn fault(&self, method: &str) -> Option<Fault> {
        self.faults.lock().get(method).copied()
    }
}

fn unreachable() -> StoreError {
    StoreError::Unreachable
}

macro_rules! pass_on {
    ($($trait:ident { $(fn $method:ident($($name:ident: $type:ty),*) -> $result:ty;)+ })+) => {
        $(
            impl $trait for TestStore {
                $(
                    async fn $method(&self, $($name: $type),*) -> Result<$result, StoreError> {
                        let fault = self.fault(stringify!($method));
                        if fault == Some(Fault::Before) {
                            return Err(unreachable());
                        }
                        let done = self.inner.$method($($name),*).await?;
                        match fault {
                            Some(_) => Err(unreachable()),
                            None => Ok(done),
                        }
                    }
                )+
            }
        )+
    };
}

pass_on! {
    AuthorityStore {
        fn lookup_key() -> LookupKey;
    }
    ClientStore {
        fn register_client(request: &RegisterClient) -> Registration;
        fn client(id: &ClientId) -> Option<Client>;
        fn mark_client_used(id: &ClientId, now: Timestamp) -> bool;
        fn clients(page: &PageRequest) -> Page<Client>;
        fn remove_client(id: &ClientId) -> bool;
        fn remove_unused_clients(before: Timestamp, limit: usize) -> usize;
    }
    CodeStore {
        fn put_code(hash: &LookupHash, code: &Code) -> ();
        fn code(hash: &LookupHash) -> Option<StoredCode>;
        fn redeem_code(request: &RedeemCode) -> Redemption;
        fn end_code(hash: &LookupHash, now: Timestamp) -> bool;
        fn remove_codes(before: Timestamp, limit: usize) -> usize;
    }
    SessionStore {
        fn put_session(hash: &LookupHash, session: &Session) -> ();
        fn session(hash: &LookupHash, now: Timestamp) -> Option<Session>;
        fn touch_session(hash: &LookupHash, now: Timestamp) -> bool;
        fn end_session(hash: &LookupHash, now: Timestamp) -> bool;
        fn end_sessions(user: &User, now: Timestamp) -> u64;
        fn remove_sessions(before: Timestamp, limit: usize) -> usize;
    }
    AccountStore {
        fn create_account(account: &NewAccount) -> AccountCreation;
        fn create_first_account(request: &CreateFirstAccount) -> FirstAccount;
        fn put_first_account_link(link: &LookupHash, expires_at: Timestamp) -> ();
        fn first_account_link(link: &LookupHash, now: Timestamp) -> LinkState;
        fn account(subject: &str) -> Option<LocalAccount>;
        fn account_by_name(name: &UserName) -> Option<AccountWithPassword>;
        fn set_password(request: &SetPassword) -> Option<LocalAccount>;
        fn rehash_password(account: &AccountWithPassword) -> bool;
        fn enable_account(subject: &str) -> Option<LocalAccount>;
        fn disable_account(subject: &str) -> Option<LocalAccount>;
        fn accounts(page: &PageRequest) -> Page<LocalAccount>;
    }
    SigningKeyStore {
        fn signing_keys() -> SigningKeySet;
        fn add_signing_key(request: &AddSigningKey) -> bool;
        fn remove_signing_keys(before: Timestamp) -> usize;
    }
}

/// The families, passed on with faults.
#[derive(Clone)]
struct Families<'a>(&'a TestStore);

impl Families<'_> {
    async fn step<T>(
        &self,
        method: &str,
        step: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let fault = self.0.fault(method);
        if fault == Some(Fault::Before) {
            return Err(unreachable());
        }
        self.0.pass(method, Fault::Before).await;
        let done = step.await?;
        self.0.pass(method, Fault::After).await;
        if fault.is_some() { Err(unreachable()) } else { Ok(done) }
    }
}

impl FamilyStore for TestStore {
    async fn family(&self, id: &FamilyId) -> Result<Option<KeyedFamily>, StoreError> {
        if self.unreadable.lock().contains(id) {
            return Err(StoreError::unreadable_row("family", id.as_str()));
        }
        Families(self).step("family", self.inner.family(id)).await
    }

    async fn advance_family(&self, request: &AdvanceFamily) -> Result<Advance, StoreError> {
        Families(self).step("advance_family", self.inner.advance_family(request)).await
    }

    async fn end_family(&self, id: &FamilyId, end: FamilyEnd) -> Result<bool, StoreError> {
        Families(self).step("end_family", self.inner.end_family(id, end)).await
    }

    async fn end_families(&self, request: &EndFamilies) -> Result<Vec<FamilyId>, StoreError> {
        Families(self).step("end_families", self.inner.end_families(request)).await
    }

    async fn families(
        &self,
        filter: &FamilyFilter,
        page: &PageRequest,
    ) -> Result<Page<Family>, StoreError> {
        let listed = self.inner.families(filter, page);
        let mut listed = Families(self).step("families", listed).await?;
        let damaged = self.unreadable.lock().clone();
        let (unreadable, rows): (Vec<_>, Vec<_>) =
            listed.rows.into_iter().partition(|family| damaged.contains(&family.id));
        listed.rows = rows;
        let ids = unreadable.iter().map(|family| family.id.as_str().into()).collect();
        Ok(listed.unreadable(ids))
    }

    async fn remove_families(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        Families(self).step("remove_families", self.inner.remove_families(before, limit)).await
    }
}

/// A store of revocations in memory. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct TestRevocations {
    entries: Arc<Mutex<Vec<RevocationEntry>>>,
    is_down: Arc<AtomicBool>,
    is_silent: Arc<AtomicBool>,
}

impl TestRevocations {
    /// Lets nothing be appended.
    pub(crate) fn fail(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::SeqCst);
    }

    /// Lets nothing be read, so that the feed becomes stale.
    pub(crate) fn silence(&self, is_silent: bool) {
        self.is_silent.store(is_silent, Ordering::SeqCst);
    }

    /// Returns the kinds of the stored revocations.
    pub(crate) fn kinds(&self) -> Vec<&'static str> {
        let entries = self.entries.lock();
        let kinds = entries.iter().map(|entry| match &entry.change {
            RevocationChange::Revoked(target) => target.kind(),
            RevocationChange::Blocked(_)
            | RevocationChange::Unblocked(_)
            | RevocationChange::GrantRestored(_)
            | _ => "other",
        });
        kinds.collect()
    }
}

impl RevocationStore for TestRevocations {
    async fn append(&self, entry: &RevocationEntry) -> Result<Sequence, RevocationStoreError> {
        if self.is_down.load(Ordering::SeqCst) {
            return Err(RevocationStoreError::Unreachable);
        }
        let mut entries = self.entries.lock();
        entries.push(entry.clone());
        Ok(Sequence::new(entries.len() as u64))
    }

    async fn read_after(
        &self,
        after: Sequence,
        limit: usize,
    ) -> Result<Vec<(Sequence, RevocationEntry)>, RevocationStoreError> {
        if self.is_silent.load(Ordering::SeqCst) {
            return Err(RevocationStoreError::Unreachable);
        }
        let entries = self.entries.lock().clone();
        let placed = entries.into_iter().zip(1_u64..);
        let placed = placed.map(|(entry, place)| (Sequence::new(place), entry));
        Ok(placed.filter(|(place, _)| *place > after).take(limit).collect())
    }
}
