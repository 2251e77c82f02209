//! One live credential, as keyed hashes, and when a piece of it is proof.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{
    evidence::Evidence,
    hashes::Key,
    registry::{GRAM, RETENTION, WINDOW, WINDOWS, millis},
    search::Span,
};
use crate::clock::Moment;

/// Number of random bytes that are proof of a longer credential.
const PROOF: u32 = 24;
/// A credential with fewer random bytes is found only as a whole.
const FEWEST_RANDOM: u32 = 16;
/// A window with fewer random bytes is not searched for, if there is another one.
const RANDOM_IN_WINDOW: u32 = 8;
/// Largest distance of two windows: a longer piece than a window and this contains one.
const STEP: usize = 8;

/// Owner of a credential that several users share, and its server if several receive it.
const SHARED: u64 = 0;

/// One live credential, or a part of one: the end that is searched for.
pub(super) struct Entry {
    /// Hash of the tail.
    pub(super) digest: u64,
    /// Short hashes of all windows of the tail, in their order.
    tags: Box<[u16]>,
    pub(super) windows: Box<[Window]>,
    /// The random bytes of the tail, without those that other credentials share.
    random: AtomicU64,
    /// Whether the whole tail may occur in other data by chance.
    is_plain: bool,
    /// Hash of the user, or [`SHARED`].
    owner: AtomicU64,
    /// Hash of the server's origin, or [`SHARED`].
    server: AtomicU64,
    /// Milliseconds of the monotonic clock. If the wall clock is set to a wrong time for a moment,
    /// nothing expires.
    expires_at: AtomicU64,
    /// Whether it was used without a known time of expiry.
    is_open: AtomicBool,
    last_used: AtomicU64,
    is_current: AtomicBool,
}

/// A window that is searched for.
pub(super) struct Window {
    pub(super) hash: u64,
    pub(super) grams: [u32; GRAM],
    /// Its first byte in the tail.
    pub(super) start: usize,
}

/// A secret's tail before it is registered.
pub(super) struct Candidate {
    pub(super) digest: u64,
    /// Hashes of all windows of the tail.
    pub(super) hashes: Vec<u64>,
    pub(super) evidence: Evidence,
    /// Bytes that other credentials share.
    pub(super) common: u64,
}

impl Candidate {
    pub(super) fn of(tail: &[u8], evidence: Evidence, key: &Key) -> Self {
        let hashes = tail.windows(WINDOW).filter_map(|window| key.window(window)).collect();
        Self { digest: key.digest(tail), hashes, evidence, common: 0 }
    }

    pub(super) fn tags(&self) -> impl Iterator<Item = u16> {
        self.hashes.iter().copied().map(tag)
    }
}

/// A use of a credential.
#[derive(Clone, Copy)]
pub(super) struct Use {
    /// Hash of the user.
    pub(super) owner: u64,
    /// Hash of the server's origin, if it is known.
    pub(super) server: Option<u64>,
    pub(super) now: Moment,
    /// When the credential expires, if that is known.
    pub(super) expires_at: Option<Moment>,
}

impl Entry {
    /// Creates an entry; `None` if no window of it can be found in a text.
    pub(super) fn new(
        candidate: &Candidate,
        tail: &[u8],
        key: &Key,
        is_searched: impl Fn(&[u8]) -> bool,
        first: Use,
    ) -> Option<Self> {
        let Evidence { random, identifying } = candidate.evidence;
        let random = random & !candidate.common;
        let at = |start: usize| tail.get(start..start + WINDOW).unwrap_or_default();
        let mut starts: Vec<usize> = candidates_for_windows(tail.len(), random)
            .filter(|start| is_searched(at(*start)))
            .collect();
        if random.count_ones() < FEWEST_RANDOM || starts.is_empty() {
            // One is enough to find the whole tail: the one that others have least.
            let worth = |start: &usize| {
                let of = bits(*start, *start + WINDOW);
                let (own, identifying) = (of & random, of & identifying & !candidate.common);
                (own.count_ones(), identifying.count_ones(), (of & !candidate.common).count_ones())
            };
            let all = 0..=tail.len().checked_sub(WINDOW)?;
            starts =
                all.filter(|start| is_searched(at(*start))).max_by_key(worth).into_iter().collect();
        }
        let windows: Box<[Window]> = starts
            .into_iter()
            .filter_map(|start| {
                let mut grams = [0; GRAM];
                for (offset, gram) in grams.iter_mut().enumerate() {
                    *gram = key.gram(at(start), offset)?;
                }
                Some(Window { hash: *candidate.hashes.get(start)?, grams, start })
            })
            .collect();
        if windows.is_empty() {
            return None;
        }
        let entry = Self {
            digest: candidate.digest,
            tags: candidate.tags().collect(),
            windows,
            random: AtomicU64::new(random),
            is_plain: (candidate.evidence.random | identifying).count_ones() < RANDOM_IN_WINDOW,
            owner: AtomicU64::new(first.owner),
            server: AtomicU64::new(first.server.unwrap_or(SHARED)),
            expires_at: AtomicU64::new(0),
            is_open: AtomicBool::new(false),
            last_used: AtomicU64::new(0),
            is_current: AtomicBool::new(true),
        };
        entry.used(first);
        Some(entry)
    }

    /// Notes a use of a credential that was obtained again: by another user, at another server,
    /// with another expiry.
    pub(super) fn used(&self, by: Use) {
        if by.server.is_some_and(|server| server != self.server.load(Ordering::Relaxed)) {
            self.server.store(SHARED, Ordering::Relaxed);
        }
        match by.expires_at {
            // I448: the same secret may get a later expiry.
            Some(at) => {
                self.expires_at.fetch_max(millis(at), Ordering::Relaxed);
            }
            None => self.is_open.store(true, Ordering::Relaxed),
        }
        self.used_again(by.owner, by.now);
    }

    /// Notes a use.
    pub(super) fn used_again(&self, owner: u64, now: Moment) {
        if !self.is_of(owner) {
            self.owner.store(SHARED, Ordering::Relaxed);
        }
        let now = millis(now);
        if self.last_used.load(Ordering::Relaxed) < now {
            self.last_used.store(now, Ordering::Relaxed);
        }
    }

    /// Takes over what is known of an entry for the same tail.
    pub(super) fn continues(&self, earlier: &Self) {
        let load = |from: &AtomicU64| from.load(Ordering::Relaxed);
        self.random.fetch_and(load(&earlier.random), Ordering::Relaxed);
        self.expires_at.fetch_max(load(&earlier.expires_at), Ordering::Relaxed);
        self.is_open.fetch_or(earlier.is_open.load(Ordering::Relaxed), Ordering::Relaxed);
        for (own, earlier) in [(&self.owner, &earlier.owner), (&self.server, &earlier.server)] {
            if load(own) != load(earlier) {
                own.store(SHARED, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn random(&self) -> u64 {
        self.random.load(Ordering::Relaxed)
    }

    /// Returns until when it is live, in milliseconds of the monotonic clock.
    pub(super) fn until(&self) -> u64 {
        let retention = u64::try_from(RETENTION.as_millis()).unwrap_or(u64::MAX);
        let expires_at = self.expires_at.load(Ordering::Relaxed);
        if self.is_open.load(Ordering::Relaxed) {
            expires_at.max(self.last_used().saturating_add(retention))
        } else {
            expires_at
        }
    }

    pub(super) fn last_used(&self) -> u64 {
        self.last_used.load(Ordering::Relaxed)
    }

    /// Returns whether it is registered with the windows that suit it best.
    pub(super) fn is_current(&self) -> bool {
        self.is_current.load(Ordering::Acquire)
    }

    /// Makes the next use register it again.
    pub(super) fn set_outdated(&self) {
        self.is_current.store(false, Ordering::Release);
    }

    /// Returns whether the credential is that of this user, or of several users.
    pub(super) fn is_of(&self, user: u64) -> bool {
        let owner = self.owner.load(Ordering::Relaxed);
        owner == SHARED || owner == user
    }

    /// Returns whether the credential is looked for in a response of this server.
    ///
    /// An upstream chooses its tokens. One that is no more than words is looked for only in its own
    /// responses, so that it cannot have those of others masked.
    pub(super) fn is_looked_for_at(&self, mut is_server: impl FnMut(u64) -> bool) -> bool {
        let own = self.server.load(Ordering::Relaxed);
        // I451: words mask nothing at another server.
        !self.is_plain || own == SHARED || is_server(own)
    }

    /// Returns the windows that are worth searching for.
    pub(super) fn searched(&self) -> impl Iterator<Item = &Window> {
        let random = self.random();
        let is_worth = move |window: &Window| {
            (random & bits(window.start, window.start + WINDOW)).count_ones() >= RANDOM_IN_WINDOW
        };
        // Without one, the whole tail is still found, by the first window.
        let has_one = self.windows.iter().any(is_worth);
        let last = self.windows.len() - 1;
        self.windows
            .iter()
            .enumerate()
            .filter(move |(at, window)| if has_one { is_worth(window) } else { *at == last })
            .map(|(_, window)| window)
    }

    /// Returns the bytes of the tail around a window that the text contains, and where they begin
    /// in the text.
    pub(super) fn extent(&self, key: &Key, text: &[u8], at: usize, start: usize) -> (usize, Span) {
        let is_same = |at: usize, start: usize| {
            let window = text.get(at..at + WINDOW).and_then(|window| key.window(window));
            window.map(tag).is_some_and(|tag| self.tags.get(start) == Some(&tag))
        };
        let (before, after) = alike_around(at, start, is_same);
        (at - before, (start - before, start + WINDOW + after))
    }

    /// Returns whether these bytes of the tail prove that a text contains the credential.
    pub(super) fn is_proof(&self, (start, end): Span) -> bool {
        if start == 0 && end == self.tags.len() + WINDOW - 1 {
            return true;
        }
        let random = self.random();
        let needed = match random.count_ones() {
            ..FEWEST_RANDOM => return false,
            // The first or last bytes of a short secret may be missing.
            all @ ..23 => all - 2,
            all => PROOF.min(all - 3),
        };
        (random & bits(start, end)).count_ones() >= needed
    }

    /// Notes that another credential has these windows in common with this one. Returns whether
    /// that was not known.
    pub(super) fn shares(&self, bytes: u64) -> bool {
        self.random.fetch_and(!bytes, Ordering::Relaxed) & bytes != 0
    }

    /// Returns the common bytes of two tails that have one window in common, for each tail.
    pub(super) fn common_with(&self, tags: &[u16], at: usize, start: usize) -> (Span, Span) {
        let is_same = |at: usize, start: usize| {
            tags.get(at).zip(self.tags.get(start)).is_some_and(|(one, other)| one == other)
        };
        let (before, after) = alike_around(at, start, is_same);
        let of = |at: usize| (at - before, at + after + WINDOW);
        (of(at), of(start))
    }
}

/// Returns the places for windows, from the end on: in the random part of the tail, close enough
/// that any proof contains one.
fn candidates_for_windows(length: usize, random: u64) -> impl Iterator<Item = usize> {
    let first = usize::try_from(random.trailing_zeros()).unwrap_or(0).min(length);
    let end = usize::try_from(u64::BITS - random.leading_zeros()).unwrap_or(0);
    // The random part may be shorter than a window.
    let first = first.min(length.saturating_sub(WINDOW));
    let last = end.max(first + WINDOW).min(length).saturating_sub(WINDOW);
    let step = (last - first.min(last)).div_ceil(WINDOWS - 1).clamp(1, STEP);
    let all = (0..=length / step).map_while(move |count| {
        let start = last.saturating_sub(count * step).max(first);
        (count == 0 || last.saturating_sub((count - 1) * step) > first).then_some(start)
    });
    let is_worth = move |start: &usize| {
        (random & bits(*start, *start + WINDOW)).count_ones() >= RANDOM_IN_WINDOW
    };
    all.filter(is_worth).take(WINDOWS)
}

/// Returns how many windows before and after these two are the same, one after another.
fn alike_around(at: usize, start: usize, is_same: impl Fn(usize, usize) -> bool) -> (usize, usize) {
    let is_before = |count: &usize| is_same(at - count, start - count);
    let is_after = |count: &usize| is_same(at + count, start + count);
    let before = (1..=at.min(start)).take_while(is_before).count();
    (before, (1..).take_while(is_after).count())
}

/// Returns these bits set.
pub(super) fn bits(start: usize, end: usize) -> u64 {
    let below = |end: usize| {
        u32::try_from(end)
            .ok()
            .and_then(|end| 1_u64.checked_shl(end))
            .map_or(u64::MAX, |bit| bit - 1)
    };
    below(end) & !below(start)
}

/// Returns a short hash of a window.
fn tag(hash: u64) -> u16 {
    u16::try_from(hash >> 48).unwrap_or(0)
}
