//! Places of records, and how many of them each share has.
//!
//! A record that must be written has its place before the work begins. The place is released when
//! the writer takes the record, or when it is dropped without one. So places bound the work in
//! flight and the records in the queue. No share takes a place of another one.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;

use super::{error::AuditError, options::Capacity};
use crate::principal::User;

const SHARDS: usize = 16;

/// All places of one log.
pub(super) struct Places {
    /// The places that are taken, of all shares.
    taken: AtomicUsize,
    unidentified: Pool,
    users: Pool,
    per_user: Bounds,
    all_users: Bounds,
    background: Pool,
    revocations: Pool,
    /// Users that have places. Entering and leaving take one lock of several.
    by_user: [Mutex<HashMap<User, Arc<UserPlaces>>>; SHARDS],
    hasher: RandomState,
}

/// The places of one share or user.
struct Pool {
    taken: AtomicUsize,
    limit: usize,
}

/// The limits of users. Open requests leave places for intents, so that a request that was let in
/// is not refused because of those that wait.
#[derive(Clone, Copy)]
struct Bounds {
    open: usize,
    all: usize,
}

/// The record that a place of a user is for.
#[derive(Clone, Copy)]
enum For {
    Result,
    Intent,
}

impl Bounds {
    const fn new(all: usize) -> Self {
        Self { open: all - all / 4, all }
    }

    const fn limit(self, record: For) -> usize {
        match record {
            For::Result => self.open,
            For::Intent => self.all,
        }
    }
}

/// The places of one user. Listed while it has any.
struct UserPlaces {
    user: User,
    shard: usize,
    own: Pool,
}

/// A place for one record. Dropping it releases it.
#[must_use = "dropping it releases the place"]
pub(in crate::audit) struct Place {
    places: Arc<Places>,
    share: Share,
}

/// The share that a place belongs to.
enum Share {
    /// None: for a known user, while the share of requests without a verified user is full. It must
    /// become the user's before the request waits for anything.
    Passing,
    /// Requests without a verified user.
    Unidentified,
    /// Requests of this user.
    User(Arc<UserPlaces>),
    /// Jobs, token requests and notes.
    Background,
    /// Notes that must be written: revocations.
    Revocation,
}

/// The reason why a user gets no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::audit) enum NoPlace {
    /// This user has as many as one user may have.
    Quota,
    /// All users together have all places of their share.
    Full,
}

impl From<NoPlace> for AuditError {
    fn from(_: NoPlace) -> Self {
        Self
    }
}

impl Pool {
    const fn new(limit: usize) -> Self {
        Self { taken: AtomicUsize::new(0), limit }
    }

    fn take(&self) -> bool {
        self.take_below(self.limit)
    }

    fn take_below(&self, limit: usize) -> bool {
        let below = |taken| (taken < limit).then_some(taken + 1);
        self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, below).is_ok()
    }

    /// Releases a place, and returns whether it was the last one.
    fn release(&self) -> bool {
        self.taken.fetch_sub(1, Ordering::SeqCst) == 1
    }

    fn is_empty(&self) -> bool {
        self.taken.load(Ordering::SeqCst) == 0
    }
}

impl Places {
    pub(super) fn new(capacity: Capacity) -> Arc<Self> {
        Arc::new(Self {
            taken: AtomicUsize::new(0),
            unidentified: Pool::new(capacity.unidentified()),
            users: Pool::new(capacity.users()),
            per_user: Bounds::new(capacity.per_user()),
            all_users: Bounds::new(capacity.users()),
            background: Pool::new(capacity.background()),
            revocations: Pool::new(capacity.revocations()),
            by_user: Default::default(),
            hasher: RandomState::new(),
        })
    }

    /// Returns the number of taken places: queued records and reserved places.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    /// Takes a place for a request without a verified user. If these have none left, the place is
    /// [passing](Place::is_passing).
    pub(super) fn for_request(self: &Arc<Self>) -> Place {
        self.with(if self.unidentified.take() { Share::Unidentified } else { Share::Passing })
    }

    pub(super) fn for_background(self: &Arc<Self>) -> Result<Place, AuditError> {
        self.background.take().then(|| self.with(Share::Background)).ok_or(AuditError)
    }

    // P384: these places are taken by nothing else.
    pub(super) fn for_revocation(self: &Arc<Self>) -> Result<Place, AuditError> {
        self.revocations.take().then(|| self.with(Share::Revocation)).ok_or(AuditError)
    }

    /// Takes a place for an intent of this user.
    pub(super) fn for_user(self: &Arc<Self>, user: &User) -> Result<Place, NoPlace> {
        self.enter(user, For::Intent).map(|of_user| self.with(Share::User(of_user)))
    }

    /// A share was taken for it before.
    fn with(self: &Arc<Self>, share: Share) -> Place {
        self.taken.fetch_add(1, Ordering::SeqCst);
        Place { places: Arc::clone(self), share }
    }

    /// Takes a place of the users' share for this user.
    // P382: one user's places are bounded by its quota, and those of all by their share.
    fn enter(&self, user: &User, record: For) -> Result<Arc<UserPlaces>, NoPlace> {
        if !self.users.take_below(self.all_users.limit(record)) {
            return Err(NoPlace::Full);
        }
        let shard = usize::try_from(self.hasher.hash_one(user) % SHARDS as u64).unwrap_or_default();
        let entered = self.by_user.get(shard).and_then(|users| {
            let mut users = users.lock();
            let of_user = match users.entry(user.clone()) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => {
                    let (user, own) = (user.clone(), Pool::new(self.per_user.all));
                    place.insert(Arc::new(UserPlaces { user, shard, own }))
                }
            };
            of_user.own.take_below(self.per_user.limit(record)).then(|| Arc::clone(of_user))
        });
        if entered.is_none() {
            self.users.release();
        }
        entered.ok_or(NoPlace::Quota)
    }

    fn leave(&self, of_user: &UserPlaces) {
        self.users.release();
        if !of_user.own.release() {
            return;
        }
        let Some(users) = self.by_user.get(of_user.shard) else { return };
        let mut users = users.lock();
        // Under this lock, no one enters. Another place may have been taken before it.
        if users.get(&of_user.user).is_some_and(|listed| listed.own.is_empty()) {
            users.remove(&of_user.user);
        }
    }

    fn release(&self, share: &Share) {
        match share {
            Share::Passing => {}
            Share::Unidentified => drop(self.unidentified.release()),
            Share::User(of_user) => self.leave(of_user),
            Share::Background => drop(self.background.release()),
            Share::Revocation => drop(self.revocations.release()),
        }
    }

    /// Returns whether no share has a taken place, and no user is listed.
    #[cfg(test)]
    pub(super) fn are_all_free(&self) -> bool {
        let pools = [&self.unidentified, &self.users, &self.background, &self.revocations];
        self.taken() == 0
            && pools.iter().all(|pool| pool.is_empty())
            && self.by_user.iter().all(|users| users.lock().is_empty())
    }
}

impl Place {
    /// Moves the place of a request into the quota of its verified user.
    pub(in crate::audit) fn identify(&mut self, user: &User) -> Result<(), NoPlace> {
        match &self.share {
            Share::User(known) if known.user == *user => return Ok(()),
            Share::User(_) | Share::Passing | Share::Unidentified => {}
            Share::Background | Share::Revocation => return Ok(()),
        }
        let of_user = self.places.enter(user, For::Result)?;
        let before = std::mem::replace(&mut self.share, Share::User(of_user));
        self.places.release(&before);
        Ok(())
    }

    /// Takes another place of the same share.
    pub(in crate::audit) fn another(&self) -> Result<Self, AuditError> {
        match &self.share {
            Share::Passing => Err(AuditError),
            Share::Unidentified => {
                let place = self.places.for_request();
                if place.is_passing() { Err(AuditError) } else { Ok(place) }
            }
            Share::User(of_user) => Ok(self.places.for_user(&of_user.user)?),
            Share::Background => self.places.for_background(),
            Share::Revocation => self.places.for_revocation(),
        }
    }

    /// Returns whether the place belongs to no share. No record may be written to it.
    pub(in crate::audit) const fn is_passing(&self) -> bool {
        matches!(self.share, Share::Passing)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.release(&self.share);
        self.places.taken.fetch_sub(1, Ordering::SeqCst);
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = match &self.share {
            Share::Passing => "passing",
            Share::Unidentified => "unidentified",
            Share::User(_) => "user",
            Share::Background => "background",
            Share::Revocation => "revocation",
        };
        f.debug_tuple("Place").field(&share).finish()
    }
}
