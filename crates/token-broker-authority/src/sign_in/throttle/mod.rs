//! Limits on guessing passwords.
//!
//! No limit belongs to an account by itself: a stranger who knows a user name cannot keep its user
//! out. There are three limits, kept in the memory of each process:
//!
//! - **Account and address.** Five attempts, then one after 30 seconds, and twice that after each
//!   further failure, up to 15 minutes. A sign-in forgets them.
//! - **Address.** A quarter of the limit below, so that one address does not use up all of it.
//! - **All addresses** from which the account has not signed in lately: 100 attempts a minute. An
//!   address from which it has is known, and only has the first limit, so a flood of guesses does
//!   not keep users at their usual places out.
//!
//! An IPv6 address counts by its first 64 bits. Without an address, only the last limit holds.

mod bucket;

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use aws_lc_rs::digest;
use parking_lot::Mutex;
use tower_token_broker::clock::{Clock, Moment};

use self::bucket::Bucket;

/// Settings of the limits on guessing passwords.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "does nothing unless it is used"]
pub struct ThrottleOptions {
    /// Attempts from one address at one account before the first pause. Default: 5.
    pub free_attempts: u32,
    /// The first pause; each further one is twice as long. Default: 30 seconds.
    pub first_pause: Duration,
    /// The longest pause. Default: 15 minutes.
    pub longest_pause: Duration,
    /// Attempts per minute from all addresses that are not known. Default: 100.
    pub attempts_per_minute: u32,
}

impl Default for ThrottleOptions {
    fn default() -> Self {
        Self {
            free_attempts: 5,
            first_pause: Duration::from_secs(30),
            longest_pause: Duration::from_secs(15 * 60),
            attempts_per_minute: 100,
        }
    }
}

impl ThrottleOptions {
    /// Sets how many attempts from one address at one account come before the first pause.
    pub const fn free_attempts(mut self, count: u32) -> Self {
        self.free_attempts = count;
        self
    }

    /// Sets the first pause and the longest one.
    pub const fn pauses(mut self, first: Duration, longest: Duration) -> Self {
        self.first_pause = first;
        self.longest_pause = longest;
        self
    }

    /// Sets the attempts per minute from all addresses that are not known; at least 4.
    pub const fn attempts_per_minute(mut self, count: u32) -> Self {
        self.attempts_per_minute = count;
        self
    }
}

/// The limits and what is counted for them. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Throttle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: ThrottleOptions,
    clock: Clock,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    pairs: HashMap<PairKey, Pair>,
    addresses: HashMap<AddressKey, Bucket>,
    all: Bucket,
}

type PairKey = [u8; 32];

/// The part of an address by which it counts.
type AddressKey = [u8; 16];

/// One account and one address.
#[derive(Clone, Copy, Debug)]
struct Pair {
    failures: u32,
    /// From then on, an attempt is allowed.
    open_at: Moment,
    last: Moment,
    /// Whether a user signed in.
    is_known: bool,
    /// Whether a refusal since the last attempt was reported.
    is_reported: bool,
}

/// An attempt that is under way. It counts as a failure unless [`Attempt::succeeded`] is called.
#[derive(Debug)]
#[must_use = "an attempt that is dropped is a failure"]
pub(crate) struct Attempt {
    throttle: Throttle,
    pair: Option<PairKey>,
}

/// An attempt is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Throttled {
    /// The time after which the next attempt is allowed.
    pub(crate) wait: Duration,
    /// Which limit was reached.
    pub(crate) limit: Limit,
    /// Whether this is the first refusal since the last attempt. Only the first one is recorded, so
    /// that refusals cannot fill the audit log.
    pub(crate) is_first: bool,
}

/// A limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Of one account from one address.
    Pair,
    /// Of one address, or of all of them.
    Strangers,
}

impl Throttle {
    pub(crate) fn new(options: ThrottleOptions, clock: Clock) -> Self {
        let all = Bucket::full(clock.moment());
        let counts = Counts { pairs: HashMap::new(), addresses: HashMap::new(), all };
        Self(Arc::new(Shared { options, clock, counts: Mutex::new(counts) }))
    }

    /// Begins an attempt at the account with this name, whether or not there is one.
    pub(crate) fn begin(&self, name: &str, address: Option<IpAddr>) -> Result<Attempt, Throttled> {
        let now = self.0.clock.moment();
        let address = address.map(address_key);
        let pair = address.map(|address| pair_key(name, &address));
        let mut counts = self.0.counts.lock();
        let is_known = match pair.as_ref().and_then(|pair| counts.pairs.get_mut(pair)) {
            Some(pair) => {
                pair.refusal(now)?;
                pair.is_known
            }
            None => false,
        };
        if !is_known {
            counts.stranger(&self.0.options, address, now)?;
        }
        if let Some(pair) = pair {
            counts.make_place(&self.0.options, now);
            let new = Pair { failures: 0, open_at: now, last: now, is_known, is_reported: false };
            counts.pairs.entry(pair).or_insert(new).fail(&self.0.options, now);
        }
        Ok(Attempt { throttle: self.clone(), pair })
    }
}

impl Attempt {
    /// The password was right: failures from this address are forgotten, and it is known.
    pub(crate) fn succeeded(self) {
        let now = self.throttle.0.clock.moment();
        let mut counts = self.throttle.0.counts.lock();
        if let Some(pair) = self.pair.and_then(|pair| counts.pairs.get_mut(&pair)) {
            *pair =
                Pair { failures: 0, open_at: now, last: now, is_known: true, is_reported: false };
        }
    }
}

impl Counts {
    /// Takes an attempt from the limits of an address that is not known.
    fn stranger(
        &mut self,
        options: &ThrottleOptions,
        address: Option<AddressKey>,
        now: Moment,
    ) -> Result<(), Throttled> {
        let per_minute = options.attempts_per_minute.max(SHARES);
        let refused = |wait| Throttled { wait, limit: Limit::Strangers, is_first: false };
        let mut all = self.all;
        all.take(per_minute, now).map_err(refused)?;
        if let Some(address) = address {
            if self.addresses.len() >= MOST_ENTRIES {
                self.addresses.retain(|_, bucket| bucket.is_in_use(now));
            }
            let bucket = self.addresses.entry(address).or_insert(Bucket::full(now));
            bucket.take(per_minute / SHARES, now).map_err(refused)?;
        }
        self.all = all;
        Ok(())
    }

    /// Removes pairs that are not needed, if there are too many.
    // S522: refusals of `stranger` come long before this table is full of recent failures.
    fn make_place(&mut self, options: &ThrottleOptions, now: Moment) {
        if self.pairs.len() < MOST_ENTRIES {
            return;
        }
        self.pairs.retain(|_, pair| pair.is_known || pair.is_recent(options, now));
        while self.pairs.len() >= MOST_ENTRIES {
            let oldest = self.pairs.iter().min_by_key(|(_, pair)| pair.last).map(|(key, _)| *key);
            match oldest {
                Some(oldest) => self.pairs.remove(&oldest),
                None => break,
            };
        }
    }
}

impl Pair {
    fn refusal(&mut self, now: Moment) -> Result<(), Throttled> {
        let wait = now.until(self.open_at);
        if wait.is_zero() {
            return Ok(());
        }
        let is_first = !self.is_reported;
        self.is_reported = true;
        Err(Throttled { wait, limit: Limit::Pair, is_first })
    }

    /// Counts an attempt as a failure, before it is known: attempts at the same time count.
    fn fail(&mut self, options: &ThrottleOptions, now: Moment) {
        if !self.is_recent(options, now) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        self.last = now;
        self.is_reported = false;
        if let Some(over) = self.failures.checked_sub(options.free_attempts.max(1)) {
            let pause = options.first_pause.saturating_mul(1 << over.min(16));
            self.open_at = now.plus(pause.min(options.longest_pause));
        }
    }

    /// Whether failures still count.
    const fn is_recent(&self, options: &ThrottleOptions, now: Moment) -> bool {
        let kept = options.longest_pause.saturating_mul(4);
        self.last.until(now).as_millis() < kept.as_millis()
    }
}

fn address_key(address: IpAddr) -> AddressKey {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => {
            let mut octets = address.octets();
            octets.iter_mut().skip(8).for_each(|octet| *octet = 0);
            octets
        }
    }
}

fn pair_key(name: &str, address: &AddressKey) -> PairKey {
    let hashed = digest::digest(&digest::SHA256, &[address.as_slice(), name.as_bytes()].concat());
    hashed.as_ref().try_into().expect("SHA-256 has 32 octets")
}

/// One address may use this part of the limit of all.
const SHARES: u32 = 4;
const MOST_ENTRIES: usize = 100_000;

#[cfg(test)]
mod tests;
