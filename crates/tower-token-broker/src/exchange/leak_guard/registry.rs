//! The live credentials of all users, as keyed hashes: an upstream must return none of them.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;

use super::{
    alphabet::Alphabet,
    tails::{SecretTails, Tail, looks_random},
};
use crate::{
    alarm::Alarm,
    clock::{Clock, LEEWAY, Moment, Timestamp},
    principal::User,
};

/// Length of a window: the shortest piece of a secret that is found. A shorter secret is not
/// registered.
pub(super) const WINDOW: usize = 15;
/// Length of the pieces of a window by which it is found. A text is probed once per so many bytes,
/// so that each window has one probe that lies in it as a whole.
pub(super) const GRAM: usize = 8;
/// Number of windows of one secret, from its end.
const WINDOWS: usize = 4;
/// Largest distance of two windows: a longer piece than a window and this contains one.
const STEP: usize = 8;
/// An entry without expiry is kept for so long after its last use.
const RETENTION: Duration = Duration::from_secs(3600);
/// Most secrets that are known for one window. It bounds the work for a text with that window.
const ALIKE: usize = 8;
/// Number of entries up to which nothing is removed.
const FEW: usize = 64;
/// Bits of the filter for each window: one for each gram, one for each gram with its offset, two
/// for the window. At most an eighth of the bits are set.
const BITS: usize = WINDOWS * (2 * GRAM + 2) * 8;

/// The live credentials of all users of a broker.
///
/// It contains no secret: of each it keeps keyed hashes, with a key of this process, of up to four
/// windows at its end. A filter without a lock excludes nearly all other texts. Letters are
/// compared without their case. A revoked credential stays until it expires, because its upstream
/// may still accept it.
pub(crate) struct Registry {
    /// Distinguishes the registries of a process.
    number: u64,
    key: Key,
    clock: Clock,
    capacity: usize,
    entries: RwLock<Entries>,
    filter: RwLock<Arc<Filter>>,
}

#[derive(Default)]
struct Entries {
    credentials: HashMap<u64, Arc<Entry>>,
    /// The secrets with this window; several only if they end alike.
    windows: HashMap<u64, Vec<Found>>,
    sweep_at: usize,
}

/// One live credential.
pub(crate) struct Entry {
    digest: u64,
    windows: Box<[Window]>,
    /// Hash of the user, or [`SHARED`].
    owner: AtomicU64,
    /// Milliseconds of the monotonic clock, or [`NO_EXPIRY`]. If the wall clock is set to a wrong
    /// time for a moment, nothing expires.
    expires_at: u64,
    last_used: AtomicU64,
    is_registered: AtomicBool,
}

/// Owner of a credential that several users share.
const SHARED: u64 = 0;
const NO_EXPIRY: u64 = u64::MAX;

struct Window {
    hash: u64,
    grams: [u32; GRAM],
    /// Number of bytes of the secret's tail before and after the window.
    before: u8,
    after: u8,
    /// Hash of the whole tail, if only the window may occur in a text by chance.
    whole: Option<u64>,
}

/// A window that was found.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) entry: Arc<Entry>,
    pub(super) before: usize,
    pub(super) after: usize,
    whole: Option<u64>,
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
            filter: RwLock::new(Arc::new(Filter::for_entries(FEW))),
        }
    }

    /// Returns a hash of the user.
    pub(super) fn owner(&self, user: &User) -> u64 {
        let issuer = self.key.digest(user.issuer().as_bytes());
        (issuer.rotate_left(1) ^ self.key.digest(user.subject().as_bytes())).max(1)
    }

    /// Registers a credential that is about to be used, or notes its use. `None` if it is too short
    /// or the registry is turned off.
    pub(super) fn register(
        &self,
        tails: &SecretTails,
        expires_at: Option<Timestamp>,
        owner: u64,
    ) -> Option<Arc<Entry>> {
        if let Some(entry) = tails.entry_in(self.number)
            && entry.is_registered.load(Ordering::Acquire)
        {
            entry.used_by(owner, &self.clock);
            return Some(Arc::clone(entry));
        }
        if self.capacity == 0 {
            return None;
        }
        let windows: Box<[Window]> =
            tails.tails().iter().flat_map(|tail| self.windows(tail)).collect();
        if windows.is_empty() {
            return None;
        }
        let digest = tails
            .tails()
            .iter()
            .fold(0_u64, |digest, tail| digest.rotate_left(1) ^ self.key.digest(tail));
        let now = self.clock.moment();
        let lifetime = expires_at.map(|at| self.clock.cautious_now().until(at) + LEEWAY);
        let mut entries = self.entries.write();
        let known = entries.credentials.get(&digest).cloned();
        let entry = known.unwrap_or_else(|| {
            let entry = Arc::new(Entry {
                digest,
                windows,
                owner: AtomicU64::new(owner),
                expires_at: lifetime.map_or(NO_EXPIRY, |lifetime| millis(now.plus(lifetime))),
                last_used: AtomicU64::new(millis(now)),
                is_registered: AtomicBool::new(true),
            });
            if entries.credentials.len() >= entries.sweep_at {
                self.sweep(&mut entries, now);
            }
            let filter = Arc::clone(&self.filter.read());
            entries.insert(&entry, &filter);
            entry
        });
        drop(entries);
        entry.used_by(owner, &self.clock);
        tails.set_entry(self.number, &entry);
        Some(entry)
    }

    /// Removes expired entries, and the oldest if there are too many, and builds the filter again.
    fn sweep(&self, entries: &mut Entries, now: Moment) {
        let now = millis(now);
        let retention = u64::try_from(RETENTION.as_millis()).unwrap_or(u64::MAX);
        let mut live: Vec<Arc<Entry>> = Vec::with_capacity(entries.credentials.len());
        for (_, entry) in entries.credentials.drain() {
            let last_used = entry.last_used.load(Ordering::Relaxed);
            let until = match entry.expires_at {
                NO_EXPIRY => last_used.saturating_add(retention),
                expires_at => expires_at,
            };
            if until > now {
                live.push(entry);
            } else {
                entry.is_registered.store(false, Ordering::Release);
            }
        }
        // I448: a bound, and an alarm.
        let most = self.capacity - (self.capacity / 16).max(1);
        if live.len() > most {
            live.sort_by_cached_key(|entry| {
                std::cmp::Reverse(entry.last_used.load(Ordering::Relaxed))
            });
            tracing::error!(
                alarm = Alarm::CredentialRegistryFull.code(),
                removed = live.len() - most,
                capacity = self.capacity,
                "more credentials are in use than the leak guard remembers; responses to other \
                 users are not searched for the oldest of them"
            );
            for entry in live.drain(most..) {
                entry.is_registered.store(false, Ordering::Release);
            }
        }
        entries.windows.clear();
        entries.sweep_at = (live.len() * 2).clamp(FEW.min(self.capacity), self.capacity);
        let filter = Filter::for_entries(entries.sweep_at.max(FEW));
        for entry in &live {
            entries.insert(entry, &filter);
        }
        *self.filter.write() = Arc::new(filter);
    }

    /// Returns the windows of a secret. Only windows that look random are used if there is one;
    /// words may occur in any text, so of a secret that consists of words the whole tail counts.
    fn windows(&self, tail: &Tail) -> Vec<Window> {
        let Some(last) = tail.len().checked_sub(WINDOW) else { return Vec::new() };
        let step = last.div_ceil(WINDOWS - 1).clamp(1, STEP);
        let mut starts: Vec<usize> =
            (0..WINDOWS).map(|count| last.saturating_sub(count * step)).collect();
        starts.dedup();
        let at = |start: usize| tail.get(start..start + WINDOW).unwrap_or_default();
        // No text is searched for a window that is no run.
        let tokens = Alphabet::default();
        starts.retain(|start| at(*start).iter().all(|byte| tokens.contains(*byte)));
        // I447: words pass, also if a secret contains them.
        let is_random = starts.iter().any(|start| looks_random(at(*start)));
        starts.retain(|start| looks_random(at(*start)) == is_random);
        let whole = (!is_random).then(|| self.key.digest(tail));
        if !is_random {
            starts.truncate(1);
        }
        let byte = |length: usize| u8::try_from(length).unwrap_or(u8::MAX);
        let windows = starts.into_iter().filter_map(|start| {
            let window = tail.get(start..start + WINDOW)?;
            let mut grams = [0; GRAM];
            for (offset, gram) in grams.iter_mut().enumerate() {
                *gram = self.key.gram(window, offset)?;
            }
            Some(Window {
                hash: self.key.window(window)?,
                grams,
                before: byte(start),
                after: byte(tail.len() - start - WINDOW),
                whole,
            })
        });
        windows.collect()
    }

    /// Returns the filter of this moment, for one text; `None` if the registry is turned off.
    pub(super) fn view(&self) -> Option<View<'_>> {
        (self.capacity > 0)
            .then(|| View { registry: self, filter: Arc::clone(&self.filter.read()) })
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.read().credentials.len()
    }
}

impl Entries {
    fn insert(&mut self, entry: &Arc<Entry>, filter: &Filter) {
        for window in &entry.windows {
            for (offset, gram) in window.grams.iter().enumerate() {
                filter.set(filter.gram(*gram));
                filter.set(filter.gram_at(*gram, offset));
            }
            filter.window(window.hash).into_iter().for_each(|bit| filter.set(bit));
            let same = self.windows.entry(window.hash).or_default();
            if same.len() < ALIKE {
                // Nearly all windows have one secret.
                same.reserve_exact(1);
                same.push(Found {
                    entry: Arc::clone(entry),
                    before: window.before.into(),
                    after: window.after.into(),
                    whole: window.whole,
                });
            }
        }
        self.credentials.insert(entry.digest, Arc::clone(entry));
    }
}

impl Entry {
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// Returns whether the credential is that of this user, or of several users.
    pub(super) fn is_of(&self, user: u64) -> bool {
        let owner = self.owner.load(Ordering::Relaxed);
        owner == SHARED || owner == user
    }

    fn used_by(&self, owner: u64, clock: &Clock) {
        if !self.is_of(owner) {
            self.owner.store(SHARED, Ordering::Relaxed);
        }
        if self.expires_at == NO_EXPIRY {
            self.last_used.store(millis(clock.moment()), Ordering::Relaxed);
        }
    }
}

/// The registry at the moment when a text is searched.
pub(super) struct View<'a> {
    registry: &'a Registry,
    filter: Arc<Filter>,
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

    fn find(&self, text: &[u8], start: usize) -> Vec<Found> {
        let key = &self.registry.key;
        let window = text.get(start..start + WINDOW).and_then(|window| key.window(window));
        let Some(hash) = window
            .filter(|hash| self.filter.window(*hash).into_iter().all(|bit| self.filter.has(bit)))
        else {
            return Vec::new();
        };
        let mut found =
            self.registry.entries.read().windows.get(&hash).cloned().unwrap_or_default();
        found.retain(|found| {
            found.whole.is_none_or(|whole| {
                let begins = start.checked_sub(found.before);
                let tail = begins
                    .and_then(|begins| text.get(begins..start + WINDOW + found.after))
                    .unwrap_or_default();
                key.digest(tail) == whole
            })
        });
        found
    }
}

fn millis(moment: Moment) -> u64 {
    u64::try_from(moment.since_start().as_millis()).unwrap_or(u64::MAX)
}

/// Excludes texts that contain no window, without a lock. It is only added to, and built again with
/// each sweep.
struct Filter {
    words: Box<[AtomicU64]>,
    shift: u32,
}

impl Filter {
    fn for_entries(entries: usize) -> Self {
        let bits = entries.saturating_mul(BITS).next_power_of_two();
        let words = (0..bits / 64).map(|_| AtomicU64::new(0)).collect();
        Self { words, shift: 64 - bits.trailing_zeros() }
    }

    #[inline]
    fn bit(&self, hash: u64, salt: u64) -> usize {
        usize::try_from(hash.wrapping_mul(salt) >> self.shift).unwrap_or(0)
    }

    #[inline]
    fn gram(&self, gram: u32) -> usize {
        self.bit(gram.into(), SALTS[0])
    }

    #[inline]
    fn gram_at(&self, gram: u32, offset: usize) -> usize {
        self.bit((u64::from(gram) << 4) + offset as u64, SALTS[1])
    }

    #[inline]
    fn window(&self, hash: u64) -> [usize; 2] {
        [self.bit(hash, SALTS[2]), self.bit(hash, SALTS[3])]
    }

    #[inline]
    fn has(&self, bit: usize) -> bool {
        self.words
            .get(bit / 64)
            .is_some_and(|word| word.load(Ordering::Relaxed) >> (bit % 64) & 1 == 1)
    }

    fn set(&self, bit: usize) {
        if let Some(word) = self.words.get(bit / 64) {
            word.fetch_or(1 << (bit % 64), Ordering::Relaxed);
        }
    }
}

/// Odd numbers, so that a product has no two equal results.
const SALTS: [u64; 4] =
    [0x9E37_79B9_7F4A_7C15, 0xC2B2_AE3D_27D4_EB4F, 0x1656_67B1_9E37_79F9, 0xD6E8_FEB8_6659_FD93];

/// The bit by which the cases of a letter differ, in each byte. It is set before hashing.
const FOLDED: u64 = 0x2020_2020_2020_2020;

/// The key of the hashes, random for each registry.
struct Key([u64; 4]);

impl Key {
    fn generate() -> Self {
        let mut key = [0; 4];
        for part in &mut key {
            let mut bytes = [0; 8];
            // Without randomness, texts could be made that cost more, but none that pass.
            if aws_lc_rs::rand::fill(&mut bytes).is_ok() {
                *part = u64::from_le_bytes(bytes);
            }
        }
        Self(key)
    }

    #[inline]
    fn gram(&self, text: &[u8], at: usize) -> Option<u32> {
        let [one, other, ..] = self.0;
        let hash = fold(load(text, at)? ^ one, other | 1);
        Some(u32::try_from(hash >> 32).unwrap_or(0))
    }

    #[inline]
    fn window(&self, window: &[u8]) -> Option<u64> {
        let [one, other, third, fourth] = self.0;
        let (first, last) = (load(window, 0)?, load(window, WINDOW - 8)?);
        let hash = fold(first ^ third, one | 1) ^ fold(last ^ fourth, other | 1).rotate_left(32);
        Some(fold(hash ^ third, fourth | 1))
    }

    fn digest(&self, text: &[u8]) -> u64 {
        let [one, other, third, fourth] = self.0;
        let mut hash = third ^ text.len() as u64;
        for chunk in text.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            let word = u64::from_le_bytes(word) | FOLDED;
            hash = fold(hash ^ word ^ one, other | 1).wrapping_add(fourth ^ word);
        }
        fold(hash ^ fourth, third | 1)
    }
}

#[inline]
fn load(text: &[u8], at: usize) -> Option<u64> {
    let bytes = text.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes) | FOLDED)
}

#[inline]
fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    let low = u64::try_from(product & u128::from(u64::MAX)).unwrap_or(0);
    let high = u64::try_from(product >> 64).unwrap_or(0);
    low ^ high
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entry")
    }
}
