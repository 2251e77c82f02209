//! Rate limits, by address of the caller or by another key.
//!
//! The algorithm is GCRA, as in the `governor` crate. Unlike there, the time is that of the
//! broker's [`Clock`], and the number of keys is bounded: callers can invent any number of them.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use parking_lot::Mutex;
use tower_token_broker::clock::{Clock, Moment};

/// A number of requests in a period. The whole number may come at once; the period then refills it
/// evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quota {
    /// Number of requests; 0 refuses all.
    pub requests: u32,
    /// The period.
    pub period: Duration,
}

impl Quota {
    /// Creates a quota.
    pub const fn new(requests: u32, period: Duration) -> Self {
        Self { requests, period }
    }

    /// Creates a quota per minute.
    pub const fn per_minute(requests: u32) -> Self {
        Self::new(requests, Duration::from_secs(60))
    }

    /// Creates a quota per hour.
    pub const fn per_hour(requests: u32) -> Self {
        Self::new(requests, Duration::from_secs(60 * 60))
    }

    /// Returns a quota of this many times the requests, in the same period.
    pub(crate) const fn times(self, factor: u32) -> Self {
        Self { requests: self.requests.saturating_mul(factor), period: self.period }
    }

    fn interval(self) -> Duration {
        self.period.checked_div(self.requests).unwrap_or(self.period)
    }
}

/// Limits the requests of each key.
#[derive(Debug)]
pub(crate) struct Limiter<K> {
    quota: Quota,
    clock: Clock,
    /// By key, when its quota is whole again. Without an entry it is whole.
    whole_at: Mutex<HashMap<K, Moment>>,
}

/// Largest number of keys with a quota in use. Beyond it, requests of other keys are refused until
/// the quotas of some are whole again.
const MAX_KEYS: usize = 100_000;

impl<K: Eq + Hash> Limiter<K> {
    pub(crate) fn new(quota: Quota, clock: &Clock) -> Self {
        Self { quota, clock: clock.clone(), whole_at: Mutex::default() }
    }

    /// Takes one request of the quota.
    ///
    /// # Errors
    /// The time after which a request is in the quota again.
    pub(crate) fn take(&self, key: K) -> Result<(), Duration> {
        if self.quota.requests == 0 {
            return Err(self.quota.period);
        }
        let now = self.clock.moment();
        let interval = self.quota.interval();
        let mut whole_at = self.whole_at.lock();
        // F145: bounded. Collecting is rare, because each collected key must be used again first.
        if whole_at.len() >= MAX_KEYS && !whole_at.contains_key(&key) {
            whole_at.retain(|_, whole| *whole > now);
            if whole_at.len() >= MAX_KEYS {
                return Err(interval);
            }
        }
        let entry = whole_at.entry(key).or_insert(now);
        let used = now.until(*entry).saturating_add(interval);
        if used > self.quota.period {
            return Err(used.saturating_sub(self.quota.period));
        }
        *entry = now.plus(used);
        Ok(())
    }

    /// Returns a request to the quota that [`Limiter::take`] took for nothing.
    pub(crate) fn give_back(&self, key: &K) {
        let now = self.clock.moment();
        let mut whole_at = self.whole_at.lock();
        if let Some(entry) = whole_at.get_mut(key) {
            *entry = now.plus(now.until(*entry).saturating_sub(self.quota.interval()));
        }
    }
}

/// Limits the requests of each caller, for each `T` by itself.
///
/// A caller is a [`Network`]. All networks of one site (IPv6: 48 bits) together have
/// [`NETWORKS_OF_A_SITE`] times the quota, because one customer of a provider has up to 65 536 of
/// them.
#[derive(Debug)]
pub(crate) struct CallerLimiter<T = ()> {
    networks: Limiter<(Network, T)>,
    sites: Limiter<(Network, T)>,
}

/// A site has the quota of this many networks.
pub(crate) const NETWORKS_OF_A_SITE: u32 = 4;

impl<T: Eq + Hash + Clone> CallerLimiter<T> {
    pub(crate) fn new(quota: Quota, clock: &Clock) -> Self {
        let networks = Limiter::new(quota, clock);
        Self { networks, sites: Limiter::new(quota.times(NETWORKS_OF_A_SITE), clock) }
    }

    /// Takes one request for `what` of a caller's quota.
    ///
    /// # Errors
    /// The time after which a request is in the quota again.
    pub(crate) fn take_for(&self, caller: Network, what: &T) -> Result<(), Duration> {
        // The network first: one whose quota is used up takes nothing from its site.
        self.networks.take((caller, what.clone()))?;
        match caller.site() {
            Some(site) => self.sites.take((site, what.clone())),
            None => Ok(()),
        }
    }
}

impl CallerLimiter {
    /// Takes one request of a caller's quota.
    ///
    /// # Errors
    /// The time after which a request is in the quota again.
    pub(crate) fn take(&self, caller: Network) -> Result<(), Duration> {
        self.take_for(caller, &())
    }
}

/// The network of an address: of IPv4 the address, of IPv6 its first 64 bits, of which one host has
/// the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Network(Option<IpAddr>);

impl Network {
    /// Returns the network of a peer. All callers without a known address share one.
    pub(crate) fn of(peer: Option<SocketAddr>) -> Self {
        Self(peer.map(|peer| match peer.ip().to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                let network = address.to_bits() & (u128::MAX << 64);
                IpAddr::V6(network.into())
            }
        }))
    }

    pub(crate) const fn is_known(self) -> bool {
        self.0.is_some()
    }

    /// Returns the site of a network of IPv6: its first 48 bits.
    pub(crate) fn site(self) -> Option<Self> {
        match self.0? {
            IpAddr::V4(_) => None,
            IpAddr::V6(network) => {
                let site = network.to_bits() & (u128::MAX << 80);
                Some(Self(Some(IpAddr::V6(site.into()))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tower_token_broker::clock::Timestamp;

    use super::*;

    fn limiter(requests: u32) -> (Limiter<u32>, Clock) {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_800_000_000));
        (Limiter::new(Quota::per_hour(requests), &clock), clock)
    }

    #[test]
    fn f145_a_quota_is_refilled_evenly() {
        let (limiter, clock) = limiter(4);
        let quarter = Duration::from_secs(15 * 60);
        for _ in 0..4 {
            assert_eq!(limiter.take(1), Ok(()));
        }
        assert_eq!(limiter.take(1), Err(quarter));
        assert_eq!(limiter.take(2), Ok(()), "another key");
        clock.advance(quarter - Duration::from_secs(1));
        assert_eq!(limiter.take(1), Err(Duration::from_secs(1)));
        clock.advance(Duration::from_secs(1));
        assert_eq!((limiter.take(1), limiter.take(1)), (Ok(()), Err(quarter)));
        clock.advance(Duration::from_secs(24 * 60 * 60));
        for _ in 0..4 {
            assert_eq!(limiter.take(1), Ok(()));
        }
        assert_eq!(limiter.take(1), Err(quarter), "never more than the quota at once");
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let (limiter, clock) = limiter(2);
        for _ in 0..5 {
            assert_eq!(limiter.take(1), Ok(()));
            limiter.give_back(&1);
        }
        assert_eq!((limiter.take(1), limiter.take(1)), (Ok(()), Ok(())));
        assert!(limiter.take(1).is_err());
        clock.advance(Duration::from_secs(24 * 60 * 60));
        limiter.give_back(&1);
        limiter.give_back(&2);
        assert_eq!((limiter.take(1), limiter.take(1)), (Ok(()), Ok(())));
        assert!(limiter.take(1).is_err(), "never more than the quota at once");
    }

    #[test]
    fn a_step_of_the_wall_clock_refills_nothing() {
        let (limiter, clock) = limiter(1);
        assert_eq!(limiter.take(1), Ok(()));
        clock.set_wall_clock(Timestamp::from_unix_seconds(1_900_000_000));
        assert!(limiter.take(1).is_err());
    }

    #[test]
    fn f145_the_number_of_keys_is_bounded() {
        let (limiter, clock) = limiter(2);
        for key in 0..u32::try_from(MAX_KEYS).unwrap() {
            assert_eq!(limiter.take(key), Ok(()));
        }
        assert!(limiter.take(u32::MAX).is_err());
        assert_eq!(limiter.take(1), Ok(()), "a known key keeps its quota");
        clock.advance(Duration::from_secs(60 * 60));
        assert_eq!(limiter.take(u32::MAX), Ok(()));
        assert_eq!(limiter.whole_at.lock().len(), 1);
    }

    #[test]
    fn f145_the_networks_of_one_site_share_a_quota() {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_800_000_000));
        let limiter = CallerLimiter::new(Quota::per_hour(2), &clock);
        let take = |peer: &str| limiter.take(Network::of(Some(peer.parse().unwrap()))).is_ok();
        let of_site = (0..100).filter(|network| take(&format!("[2001:db8:1:{network:x}::1]:1")));
        assert_eq!(of_site.count(), 8, "F145: four times the quota");
        assert!(take("[2001:db8:2::1]:1"), "F145: another site");
        // A network that has used up its own quota takes nothing from its site.
        let one = (0..100).filter(|_| take("[2001:db8:3::1]:1")).count();
        assert_eq!((one, take("[2001:db8:3:1::1]:1")), (2, true), "F145");
        let v4 = (0..20).filter(|last| take(&format!("192.0.2.{last}:1"))).count();
        assert_eq!(v4, 20, "F145: each address of IPv4 is a caller");
    }

    #[test]
    fn a_quota_of_none_refuses_all() {
        let (limiter, _) = limiter(0);
        assert_eq!(limiter.take(1), Err(Duration::from_secs(60 * 60)));
    }

    #[test]
    fn one_host_of_ipv6_is_one_caller() {
        let network = |peer: &str| Network::of(Some(peer.parse().unwrap()));
        assert_eq!(network("[2001:db8:1:2::1]:1"), network("[2001:db8:1:2:ffff::2]:2"));
        assert_ne!(network("[2001:db8:1:2::1]:1"), network("[2001:db8:1:3::1]:1"));
        assert_eq!(network("[::ffff:192.0.2.1]:1"), network("192.0.2.1:2"));
        assert_ne!(network("192.0.2.1:1"), network("192.0.2.2:1"));
        assert_ne!(network("192.0.2.1:1"), Network::of(None));
    }
}
