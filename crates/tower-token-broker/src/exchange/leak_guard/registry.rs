//! The live credentials of all users, as keyed hashes: an upstream must return none of them.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::RwLock;

use super::{
    alphabet::Alphabet,
    common::Common,
    entry::{Candidate, Entry, Use, bits},
    evidence::Evidence,
    hashes::{Filter, Key},
    search::Span,
    tails::{Registered, SecretTails, Tail},
};
use crate::{
    alarm::Alarm,
    clock::{Clock, LEEWAY, Moment, Timestamp},
    exchange::credential::Origin,
    principal::User,
};

/// Length of a window: a piece by which a secret is found. A shorter secret is not registered.
pub(super) const WINDOW: usize = 15;
/// Length of the pieces of a window by which it is found. A text is probed once per so many bytes,
/// so that each window has one probe that lies in it as a whole.
pub(super) const GRAM: usize = 8;
/// Number of windows of one secret, from its end.
pub(super) const WINDOWS: usize = 4;
/// An entry without expiry is kept for so long after its last use.
pub(super) const RETENTION: Duration = Duration::from_secs(3600);
/// Most secrets that are known for one window. It bounds the work for a text with that window.
const ALIKE: usize = 8;
/// Number of entries up to which nothing is removed.
const FEW: usize = 64;

/// The live credentials of all users of a broker.
///
/// It contains no secret: of each it keeps keyed hashes, with a key of this process, of the windows
/// at its end. Up to four of these are searched for, and a filter without a lock excludes nearly
/// all texts that have none of them. The others show how much of the credential is there. Letters
/// are compared without their case. A revoked credential stays until it expires, because its
/// upstream may still accept it.
pub(crate) struct Registry {
    /// Distinguishes the registries of a process.
    number: u64,
    key: Key,
    clock: Clock,
    capacity: usize,
    entries: RwLock<Entries>,
    /// Number of entries.
    count: AtomicUsize,
    filter: ArcSwap<Filter>,
}

#[derive(Default)]
struct Entries {
    credentials: HashMap<u64, Arc<Entry>>,
    /// The secrets with this window; several only if they end alike.
    windows: HashMap<u64, Vec<Found>>,
    common: Common,
    sweep_at: usize,
}

/// A window that was found.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) entry: Arc<Entry>,
    /// Its first byte in the secret's tail.
    pub(super) start: usize,
}

impl Registry {
    pub(crate) fn new(capacity: usize, clock: Clock) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        Self {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            key: Key::generate(),
            clock,
            capacity,
            entries: RwLock::new(Entries { sweep_at: FEW.min(capacity), ..Entries::default() }),
            count: AtomicUsize::new(0),
            filter: ArcSwap::from_pointee(Filter::for_entries(FEW)),
        }
    }

    /// Returns a hash of the user.
    pub(super) fn owner(&self, user: &User) -> u64 {
        let issuer = self.key.digest(user.issuer().as_bytes());
        (issuer.rotate_left(1) ^ self.key.digest(user.subject().as_bytes())).max(1)
    }

    /// Registers a credential that is about to be used, or notes its use. Tails that are too short
    /// are not registered.
    pub(super) fn register(&self, tails: &SecretTails, expires_at: Option<Timestamp>, owner: u64) {
        if self.capacity == 0 {
            return;
        }
        let is_noted = tails.registered(|known| {
            let is_current = known.registry == self.number
                && known.expires_at == expires_at
                && known.entries.iter().all(|entry| entry.is_current());
            if is_current && !known.entries.is_empty() {
                let now = self.clock.moment();
                known.entries.iter().for_each(|entry| entry.used_again(owner, now));
            }
            is_current
        });
        if is_noted == Some(true) {
            return;
        }
        let now = self.clock.moment();
        let lifetime = expires_at.map(|at| self.clock.cautious_now().until(at) + LEEWAY);
        let by = Use {
            owner,
            server: tails.server().map(|server| self.server(server)),
            now,
            expires_at: lifetime.map(|lifetime| now.plus(lifetime)),
        };
        let mut entries = self.entries.write();
        let mut all: Vec<Arc<Entry>> = Vec::new();
        for (tail, evidence) in tails.parts() {
            let entry = self.enter(&mut entries, tail, evidence, by);
            all.extend(entry.filter(|entry| all.iter().all(|one| !Arc::ptr_eq(one, entry))));
        }
        self.count.store(entries.credentials.len(), Ordering::Release);
        drop(entries);
        tails.set_registered(Registered { registry: self.number, expires_at, entries: all });
    }

    /// Returns a hash of the server.
    fn server(&self, server: &Origin) -> u64 {
        self.key.digest(server.as_str().as_bytes()).max(1)
    }

    fn enter(
        &self,
        entries: &mut Entries,
        tail: &Tail,
        evidence: Evidence,
        by: Use,
    ) -> Option<Arc<Entry>> {
        let mut candidate = Candidate::of(tail, evidence, &self.key);
        let known = entries.credentials.get(&candidate.digest).cloned();
        if let Some(entry) = known.as_ref().filter(|entry| entry.is_current()) {
            entry.used(by);
            return known;
        }
        if let Some(earlier) = &known {
            entries.remove(earlier);
        } else if entries.credentials.len() >= entries.sweep_at {
            self.sweep(entries, by.now);
        }
        entries.find_common(&mut candidate);
        // No text is searched for a window that is no run.
        let tokens = Alphabet::default();
        let is_searched = |window: &[u8]| window.iter().all(|byte| tokens.contains(*byte));
        let entry = Arc::new(Entry::new(&candidate, tail, &self.key, is_searched, by)?);
        if let Some(earlier) = known {
            entry.continues(&earlier);
        }
        entries.insert(&entry, &self.filter.load());
        Some(entry)
    }

    /// Removes expired entries, and the oldest if there are too many, and builds the filter again.
    fn sweep(&self, entries: &mut Entries, now: Moment) {
        let now = millis(now);
        let (mut live, expired): (Vec<_>, Vec<_>) =
            entries.credentials.drain().map(|(_, entry)| entry).partition(|one| one.until() > now);
        expired.iter().for_each(|entry| entry.set_outdated());
        // I448: a bound, and an alarm.
        let most = self.capacity - (self.capacity / 16).max(1);
        if live.len() > most {
            live.sort_by_cached_key(|entry| std::cmp::Reverse(entry.last_used()));
            tracing::error!(
                alarm = Alarm::CredentialRegistryFull.code(),
                removed = live.len() - most,
                capacity = self.capacity,
                "more credentials are in use than the leak guard remembers; responses to other \
                 users are not searched for the oldest of them"
            );
            live.drain(most..).for_each(|entry| entry.set_outdated());
        }
        entries.windows.clear();
        entries.sweep_at = (live.len() * 2).clamp(FEW.min(self.capacity), self.capacity);
        let filter = Filter::for_entries(entries.sweep_at.max(FEW));
        for entry in &live {
            entries.insert(entry, &filter);
        }
        self.filter.store(Arc::new(filter));
    }

    /// Returns the filter of this moment, for one text; `None` if there is no credential to search
    /// for but those that are used for the response itself, each of which has one entry.
    pub(super) fn view(&self, used: &SecretTails) -> Option<View<'_>> {
        let count = self.count.load(Ordering::Acquire);
        let is_known = |known: &Registered| {
            known.registry == self.number
                && known.entries.len() == count
                && known.entries.iter().all(|entry| entry.is_current())
        };
        if count == 0 || used.registered(is_known) == Some(true) {
            return None;
        }
        self.view_of_all()
    }

    /// Returns the filter of this moment, for one text; `None` if the registry is empty.
    pub(super) fn view_of_all(&self) -> Option<View<'_>> {
        let is_empty = self.count.load(Ordering::Acquire) == 0;
        (!is_empty).then(|| View { registry: self, filter: self.filter.load() })
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.read().credentials.len()
    }
}

impl Entries {
    fn insert(&mut self, entry: &Arc<Entry>, filter: &Filter) {
        for window in entry.searched() {
            for (offset, gram) in window.grams.iter().enumerate() {
                filter.set(filter.gram(*gram));
                filter.set(filter.gram_at(*gram, offset));
            }
            filter.window(window.hash).into_iter().for_each(|bit| filter.set(bit));
            let same = self.windows.entry(window.hash).or_default();
            if same.len() < ALIKE {
                // Nearly all windows have one secret.
                same.reserve_exact(1);
                same.push(Found { entry: Arc::clone(entry), start: window.start });
            }
        }
        self.credentials.insert(entry.digest, Arc::clone(entry));
    }

    fn remove(&mut self, entry: &Entry) {
        self.credentials.remove(&entry.digest);
        for window in &entry.windows {
            if let Some(same) = self.windows.get_mut(&window.hash) {
                same.retain(|found| found.entry.digest != entry.digest);
                if same.is_empty() {
                    self.windows.remove(&window.hash);
                }
            }
        }
    }

    /// Finds what a new tail has in common with others: it is no evidence for any of them.
    ///
    /// A suffix that all tokens of a product have, or the claims of JWTs: one credential is
    /// not enough to know. With the second it is known, and remembered from then on.
    fn find_common(&mut self, candidate: &mut Candidate) {
        let tags: Vec<u16> = candidate.tags().collect();
        let mut outdated: Vec<Arc<Entry>> = Vec::new();
        for (at, hash) in candidate.hashes.iter().enumerate() {
            if self.common.contains(*hash) {
                candidate.common |= bits(at, at + WINDOW);
            }
            for found in self.windows.get(hash).into_iter().flatten() {
                let ((first, end), (start, last)) = found.entry.common_with(&tags, at, found.start);
                candidate.common |= bits(first, end);
                // I450: not even if the other one expires.
                let windows = (first..=end - WINDOW).step_by(WINDOW / 2).chain([end - WINDOW]);
                windows
                    .filter_map(|at| candidate.hashes.get(at))
                    .for_each(|hash| self.common.add(*hash));
                if found.entry.shares(bits(start, last)) {
                    outdated.push(Arc::clone(&found.entry));
                }
            }
        }
        for entry in outdated {
            // Its other windows still are searched for; the next use finds better ones.
            entry.set_outdated();
            let searched: Vec<u64> = entry.searched().map(|window| window.hash).collect();
            for window in entry.windows.iter().filter(|one| !searched.contains(&one.hash)) {
                if let Some(same) = self.windows.get_mut(&window.hash) {
                    same.retain(|found| found.entry.digest != entry.digest);
                }
            }
        }
    }
}

/// The registry at the moment when a text is searched.
pub(super) struct View<'a> {
    registry: &'a Registry,
    filter: arc_swap::Guard<Arc<Filter>>,
}

impl View<'_> {
    /// Returns the windows that contain the gram at `at`, with their positions.
    ///
    /// A gram of other credentials costs at most one look at each offset in the filter; only a
    /// window that the filter knows is looked up.
    #[inline]
    pub(super) fn probe(&self, text: &[u8], at: usize, mut found: impl FnMut(usize, &Found)) {
        let Some(gram) = self.registry.key.gram(text, at) else { return };
        if !self.filter.has(self.filter.gram(gram)) {
            return;
        }
        for offset in (0..GRAM).filter(|offset| *offset <= at) {
            if self.filter.has(self.filter.gram_at(gram, offset)) {
                let start = at - offset;
                self.find(text, start).iter().for_each(|window| found(start, window));
            }
        }
    }

    #[cold]
    fn find(&self, text: &[u8], start: usize) -> Vec<Found> {
        let key = &self.registry.key;
        let window = text.get(start..start + WINDOW).and_then(|window| key.window(window));
        window
            .filter(|hash| self.filter.window(*hash).into_iter().all(|bit| self.filter.has(bit)))
            .and_then(|hash| self.registry.entries.read().windows.get(&hash).cloned())
            .unwrap_or_default()
    }

    /// Returns the part of a credential that the text has around a window: where it begins in the
    /// text, and which bytes of the tail it is.
    pub(super) fn extent(&self, text: &[u8], at: usize, found: &Found) -> (usize, Span) {
        found.entry.extent(&self.registry.key, text, at, found.start)
    }

    /// Returns whether this hash is that of the server.
    pub(super) fn is_server(&self, hash: u64, server: &Origin) -> bool {
        self.registry.server(server) == hash
    }
}

pub(super) fn millis(moment: Moment) -> u64 {
    u64::try_from(moment.since_start().as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}
