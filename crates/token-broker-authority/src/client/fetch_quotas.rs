//! Quotas of the fetches from clients' hosts.
//!
//! A fetch of a URL that had no good response yet counts for the caller that causes it, and for its
//! host. A caller can only use up its own quota at a host; the quota of the host, which is larger,
//! protects the host from many callers. A URL that had a good response has a reserve of its own, so
//! that no caller keeps a known client from being fetched again.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tower_token_broker::clock::Clock;

use super::{DocumentLimits, host::Host};
use crate::limits::{CallerLimiter, Limiter, NETWORKS_OF_A_SITE, Network, Quota};

/// Fetches of one known URL.
const RESERVE: Quota = Quota::per_minute(6);
/// Fetches of unknown URLs at once, for one caller.
const MOST_OF_CALLER: usize = 16;
/// Fetches of unknown URLs at once, for one site of IPv6.
const MOST_OF_SITE: usize = MOST_OF_CALLER * NETWORKS_OF_A_SITE as usize;
/// Fetches of unknown URLs at once. Beyond it, only callers without any begin one.
const MOST: usize = 256;
/// Fetches of unknown URLs at once, in any case.
const MOST_IN_ANY_CASE: usize = 1024;

/// The quotas of one kind of fetches.
#[derive(Debug)]
pub(super) struct FetchQuotas {
    callers: CallerLimiter<Host>,
    hosts: Limiter<Host>,
    reserves: Limiter<Box<str>>,
    running: Arc<Mutex<Running>>,
}

/// Fetches in progress, by network and by site.
#[derive(Debug, Default)]
struct Running {
    total: usize,
    networks: HashMap<Network, usize>,
    sites: HashMap<Network, usize>,
}

/// A quota is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// The place of a fetch in progress. It is free when this is dropped.
#[derive(Debug)]
#[must_use = "the place is free when it is dropped"]
pub(super) struct Place {
    running: Arc<Mutex<Running>>,
    caller: Network,
}

impl FetchQuotas {
    pub(super) fn new(limits: &DocumentLimits, clock: &Clock) -> Self {
        Self {
            callers: CallerLimiter::new(limits.fetches_per_caller, clock),
            hosts: Limiter::new(limits.fetches_per_host, clock),
            reserves: Limiter::new(RESERVE, clock),
            running: Arc::default(),
        }
    }

    /// Takes one fetch from the quota of a caller at this host.
    // F521
    pub(super) fn take_of_caller(&self, caller: Network, host: &Host) -> Result<(), TooMany> {
        // Callers without a known address would share a quota, and use up that of others.
        if !caller.is_known() {
            return Ok(());
        }
        self.callers.take_for(caller, host).map_err(|_wait| TooMany)
    }

    /// Takes one fetch from the quota of a host.
    pub(super) fn take_of_host(&self, host: &Host) -> Result<(), TooMany> {
        self.hosts.take(host.clone()).map_err(|_wait| TooMany)
    }

    /// Takes one fetch from the reserve of a URL that had a good response.
    pub(super) fn take_of_reserve(&self, url: &str) -> Result<(), TooMany> {
        self.reserves.take(url.into()).map_err(|_wait| TooMany)
    }

    /// Takes a place for a fetch of an unknown URL, which a silent host may occupy until the
    /// timeout.
    // F522
    pub(super) fn place(&self, caller: Network) -> Result<Place, TooMany> {
        let mut running = self.running.lock();
        let own = running.networks.get(&caller).copied().unwrap_or(0);
        let site = caller.site().and_then(|site| running.sites.get(&site).copied()).unwrap_or(0);
        let most = if own.max(site) == 0 { MOST_IN_ANY_CASE } else { MOST };
        let most_of_caller = if caller.is_known() { MOST_OF_CALLER } else { MOST };
        if own >= most_of_caller || site >= MOST_OF_SITE || running.total >= most {
            return Err(TooMany);
        }
        running.total += 1;
        *running.networks.entry(caller).or_default() += 1;
        if let Some(site) = caller.site() {
            *running.sites.entry(site).or_default() += 1;
        }
        drop(running);
        Ok(Place { running: Arc::clone(&self.running), caller })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut running = self.running.lock();
        running.total = running.total.saturating_sub(1);
        release(&mut running.networks, self.caller);
        if let Some(site) = self.caller.site() {
            release(&mut running.sites, site);
        }
    }
}

fn release(counts: &mut HashMap<Network, usize>, network: Network) {
    if let Some(count) = counts.get_mut(&network) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&network);
        }
    }
}

#[cfg(test)]
mod tests {
    use tower_token_broker::clock::Timestamp;

    use super::*;

    fn quotas() -> FetchQuotas {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_800_000_000));
        FetchQuotas::new(&DocumentLimits::default(), &clock)
    }

    fn caller(peer: &str) -> Network {
        Network::of(Some(peer.parse().unwrap()))
    }

    fn host(url: &'static str) -> Host {
        Host::of(&http::Uri::from_static(url)).unwrap()
    }

    #[test]
    fn f521_each_caller_has_a_quota_at_each_host() {
        let quotas = quotas();
        let (one, other) = (host("https://a.example/"), host("https://b.example/"));
        let taken = |peer: &str, host: &Host| {
            (0..50).filter(|_| quotas.take_of_caller(caller(peer), host).is_ok()).count()
        };
        assert_eq!(taken("192.0.2.1:1", &one), 10, "F521");
        assert_eq!(taken("192.0.2.1:2", &one), 0, "F521: another port is the same caller");
        assert_eq!(taken("192.0.2.1:1", &other), 10, "F521: another host");
        assert_eq!(taken("192.0.2.2:1", &one), 10, "F521: another caller");
        let of_site = (0..100).map(|net| taken(&format!("[2001:db8:1:{net:x}::1]:1"), &one));
        assert_eq!(of_site.sum::<usize>(), 40, "F521: a site is not many callers");
        let unknown =
            (0..500).filter(|_| quotas.take_of_caller(Network::of(None), &one).is_ok()).count();
        assert_eq!(unknown, 500, "F521: they have the quota of the host");
    }

    #[test]
    fn f522_fetches_that_hang_leave_places_for_other_callers() {
        let quotas = quotas();
        let take = |peer: String| quotas.place(caller(&peer)).ok();
        let of_one: Vec<_> = (0..50).filter_map(|_| take("192.0.2.1:1".into())).collect();
        assert_eq!(of_one.len(), 16, "F522");
        let of_site: Vec<_> =
            (0..200).filter_map(|net| take(format!("[2001:db8:1:{net:x}::1]:1"))).collect();
        assert_eq!(of_site.len(), 64, "F522");
        let many: Vec<_> = (0..200)
            .flat_map(|last| [last; 4])
            .filter_map(|last| take(format!("198.51.100.{last}:1")))
            .collect();
        // The places are taken: each further address has one.
        assert_eq!(quotas.running.lock().total, 256 + 200 - 44, "F522");
        assert!(take("203.0.113.1:1".into()).is_some(), "F522: a caller without a fetch");
        drop((of_one, of_site, many));
        let running = quotas.running.lock();
        let left = (running.total, running.networks.len(), running.sites.len());
        assert_eq!(left, (0, 0, 0), "F522: all are free again");
    }
}
