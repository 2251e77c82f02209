//! Limits on guessing passwords.
//!
//! No limit belongs to an account by itself: a stranger who knows a user name cannot keep its user
//! out. The limits are kept in the memory of each process:
//!
//! - **Account and browser.** A browser in which the user has signed in before has a device cookie
//!   ([`DeviceId`]), which is valid for that user only. Its attempts have this limit only: five,
//!   then one after 30 seconds, and twice that after each further failure, up to 15 minutes. A
//!   sign-in forgets them. So no flood of guesses keeps users out of their usual browsers, also
//!   after a restart.
//! - **Account and address**, for all other browsers, with the same pauses.
//! - **Address**: a tenth of the limit below, and a quarter for 48 bits of IPv6, so that no address
//!   and no site uses up all of it.
//! - **All addresses**: 100 attempts a minute of browsers without a device cookie.
//!
//! A right password, and an attempt that ends without a verdict, count in none of them. An IPv6
//! address counts by its first 64 bits. Without an address, only the last limit holds.
//!
//! # Sources
//! OWASP, "Slow Down Online Guessing Attacks with Device Cookies".

mod bucket;
mod pair;

use std::{collections::HashMap, sync::Arc, time::Duration};

use aws_lc_rs::digest;
use parking_lot::Mutex;
use tower_token_broker::clock::{Clock, Moment};

use self::{bucket::Bucket, pair::Pair};
use super::device::DeviceId;
use crate::limits::Network;

/// Settings of the limits on guessing passwords.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "does nothing unless it is used"]
pub struct ThrottleOptions {
    /// Attempts from one browser or address at one account before the first pause. Default: 5.
    pub free_attempts: u32,
    /// The first pause; each further one is twice as long. Default: 30 seconds.
    pub first_pause: Duration,
    /// The longest pause. Default: 15 minutes.
    pub longest_pause: Duration,
    /// Failed attempts per minute from all browsers in which the user has not signed in before.
    /// Default: 100.
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
    /// Sets how many attempts from one browser or address at one account come before the first
    /// pause.
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

    /// Sets the failed attempts per minute from all browsers in which the user has not signed in
    /// before; at least 10.
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
    networks: HashMap<Network, Bucket>,
    sites: HashMap<Network, Bucket>,
    all: Bucket,
    /// When the limit of all of them was last reported.
    flood_at: Option<Moment>,
}

/// Time between two reports of a flood, in the log and on record.
const BETWEEN_ALARMS: Duration = Duration::from_secs(60);

/// One account, and one browser or network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct PairKey {
    from: From,
    /// Digest of the name, which the visitor chose.
    name: [u8; 32],
}

/// Where an attempt comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum From {
    Device(DeviceId),
    Network(Network),
}

/// An attempt that is under way. It counts as a failure unless [`Attempt::succeeded`] or
/// [`Attempt::withdrawn`] is called.
#[derive(Debug)]
#[must_use = "an attempt that is dropped is a failure"]
pub(crate) struct Attempt {
    throttle: Throttle,
    pair: Option<PairKey>,
    /// Of a browser that is not known.
    stranger: Option<Network>,
    begun: Moment,
}

/// An attempt is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Throttled {
    /// The time after which the next attempt is allowed.
    pub(crate) wait: Duration,
    /// Which limit was reached.
    pub(crate) limit: Limit,
    /// Whether this is the first refusal since the last attempt, or of the limit of all within a
    /// minute. Only the first one is recorded, so that refusals cannot fill the audit log.
    pub(crate) is_first: bool,
}

/// A limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Of one account, from one browser or address.
    Pair,
    /// Of one address, or of all of them.
    Strangers,
}

impl Throttle {
    pub(crate) fn new(options: ThrottleOptions, clock: Clock) -> Self {
        let counts = Counts {
            pairs: HashMap::new(),
            networks: HashMap::new(),
            sites: HashMap::new(),
            all: Bucket::full(clock.moment()),
            flood_at: None,
        };
        Self(Arc::new(Shared { options, clock, counts: Mutex::new(counts) }))
    }

    /// Begins an attempt at the account with this name, whether or not there is one. `device` is
    /// the one whose cookie was valid for this name.
    pub(crate) fn begin(
        &self,
        name: &str,
        network: Network,
        device: Option<DeviceId>,
    ) -> Result<Attempt, Throttled> {
        let (options, now) = (&self.0.options, self.0.clock.moment());
        let (from, stranger) = match device {
            // S525
            Some(device) => (Some(From::Device(device)), None),
            None => (network.is_known().then_some(From::Network(network)), Some(network)),
        };
        let pair = from.map(|from| PairKey { from, name: digest_of(name) });
        let mut counts = self.0.counts.lock();
        if let Some(pair) = pair.as_ref().and_then(|pair| counts.pairs.get_mut(pair)) {
            pair.refusal(now)?;
        }
        if let Some(network) = stranger {
            counts.take(options, network, now)?;
        }
        if let Some(pair) = pair {
            counts.make_place(options, now);
            counts.pairs.entry(pair).or_insert(Pair::new(now)).fail(options, now);
        }
        Ok(Attempt { throttle: self.clone(), pair, stranger, begun: now })
    }
}

impl Attempt {
    /// The password was right: failures are forgotten, and this attempt does not count.
    pub(crate) fn succeeded(self) {
        let mut counts = self.throttle.0.counts.lock();
        if let Some(pair) = &self.pair {
            counts.pairs.remove(pair);
        }
        self.give_back(&mut counts);
    }

    /// There was no verdict, for a reason that is not the visitor's: this attempt does not count.
    // S527
    pub(crate) fn withdrawn(self) {
        let shared = &self.throttle.0;
        let mut counts = shared.counts.lock();
        if let Some(pair) = self.pair.as_ref().and_then(|pair| counts.pairs.get_mut(pair)) {
            pair.withdraw(&shared.options, (self.begun, shared.clock.moment()));
        }
        self.give_back(&mut counts);
    }

    fn give_back(&self, counts: &mut Counts) {
        if let Some(network) = self.stranger {
            counts.give_back(&self.throttle.0.options, network);
        }
    }
}

impl Counts {
    /// Takes an attempt from the limits of browsers that are not known.
    fn take(
        &mut self,
        options: &ThrottleOptions,
        network: Network,
        now: Moment,
    ) -> Result<(), Throttled> {
        let refused = |wait| Throttled { wait, limit: Limit::Strangers, is_first: false };
        let per_minute = per_minute(options);
        // All of them, or none.
        let mut all = self.all;
        if let Err(wait) = all.take(per_minute, now) {
            let is_first = self.flood_at.is_none_or(|at| at.until(now) >= BETWEEN_ALARMS);
            if is_first {
                self.flood_at = Some(now);
            }
            return Err(Throttled { is_first, ..refused(wait) });
        }
        let mut own =
            of(&mut self.networks, Some(network).filter(|network| network.is_known()), now);
        let mut site = of(&mut self.sites, network.site(), now);
        if let Some((_, bucket)) = &mut own {
            bucket.take(per_minute / NETWORKS, now).map_err(refused)?;
        }
        if let Some((_, bucket)) = &mut site {
            bucket.take(per_minute / SITES, now).map_err(refused)?;
        }
        self.all = all;
        self.networks.extend(own);
        self.sites.extend(site);
        Ok(())
    }

    fn give_back(&mut self, options: &ThrottleOptions, network: Network) {
        let per_minute = per_minute(options);
        self.all.give_back(per_minute);
        if let Some(bucket) = self.networks.get_mut(&network) {
            bucket.give_back(per_minute / NETWORKS);
        }
        if let Some(bucket) = network.site().and_then(|site| self.sites.get_mut(&site)) {
            bucket.give_back(per_minute / SITES);
        }
    }

    /// Removes pairs that are not needed, if there are too many.
    // S522: refusals of `take` come long before this table is full of recent failures.
    fn make_place(&mut self, options: &ThrottleOptions, now: Moment) {
        if self.pairs.len() < MOST_ENTRIES {
            return;
        }
        self.pairs.retain(|_, pair| pair.is_recent(options, now));
        while self.pairs.len() >= MOST_ENTRIES {
            let oldest = self.pairs.iter().min_by_key(|(_, pair)| pair.last()).map(|(key, _)| *key);
            match oldest {
                Some(oldest) => self.pairs.remove(&oldest),
                None => break,
            };
        }
    }
}

/// Returns a copy of the bucket of a network.
fn of(
    buckets: &mut HashMap<Network, Bucket>,
    network: Option<Network>,
    now: Moment,
) -> Option<(Network, Bucket)> {
    if buckets.len() >= MOST_ENTRIES {
        buckets.retain(|_, bucket| bucket.is_in_use(now));
    }
    let network = network?;
    Some((network, buckets.get(&network).copied().unwrap_or(Bucket::full(now))))
}

fn per_minute(options: &ThrottleOptions) -> u32 {
    options.attempts_per_minute.max(NETWORKS)
}

fn digest_of(name: &str) -> [u8; 32] {
    let hashed = digest::digest(&digest::SHA256, name.as_bytes());
    hashed.as_ref().try_into().expect("SHA-256 has 32 octets")
}

/// One network may use this part of the limit of all.
const NETWORKS: u32 = 10;
/// One site of IPv6 may use this part of the limit of all.
const SITES: u32 = 4;
const MOST_ENTRIES: usize = 100_000;

#[cfg(test)]
mod tests;
