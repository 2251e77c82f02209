//! Counts of refusals that have no record of their own, and how many may have one.
//!
//! Anyone can send requests without a verified user, so their refusals must not fill the disk. In
//! each minute, so many of one network and so many in all have a record each. The others are
//! counted exactly, and share a record for each outcome and reason.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use parking_lot::Mutex;

use crate::{
    alarm::Alarm,
    audit::record::{Event, Outcome},
    clock::{Moment, Reading, Timestamp},
    refusal::Reason,
};

/// Refusals of one network that have a record each, in a minute.
const PER_NETWORK: u32 = 600;
/// Refusals of all networks that have a record each, in a minute. This also bounds the networks
/// that are remembered.
const IN_ALL: u32 = 6_000;
/// The longest time for which refusals are counted before their record is written. A record for
/// each batch would fill the disk, too.
pub(super) const LONGEST_COUNT: Duration = Duration::from_secs(5);
const MINUTE: Duration = Duration::from_secs(60);

/// Refusals without a record of their own.
#[derive(Default)]
pub(super) struct Flood(Mutex<State>);

#[derive(Default)]
struct State {
    minute: Option<Minute>,
    counts: BTreeMap<Counted, (u64, Timestamp)>,
    /// The moment of the first refusal in `counts`.
    counted_since: Option<Moment>,
    /// The moment of the last alarm.
    alarmed: Option<Moment>,
}

/// The records of one minute.
struct Minute {
    begun: Moment,
    in_all: u32,
    by_network: HashMap<IpAddr, u32>,
}

/// How a request ended that shares its record. Those that end alike share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::audit) enum Counted {
    /// It was refused for this reason.
    Refused(Reason),
    /// Its client disconnected before there was a response.
    Dropped,
}

impl Counted {
    const fn outcome(self) -> (Outcome, Option<Reason>) {
        match self {
            Self::Refused(reason) => (Outcome::Refused, Some(reason)),
            Self::Dropped => (Outcome::Dropped, None),
        }
    }
}

/// Whether the count is the first one since the last were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    First,
    Further,
}

/// Which counts are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Take {
    /// All of them.
    All,
    /// Those that were counted for [`LONGEST_COUNT`].
    Due,
}

impl Flood {
    /// Returns whether the end of a request without a verified user may have its own record, and
    /// counts this record.
    // M257.
    pub(super) fn may_record(&self, peer: Option<SocketAddr>, now: Moment) -> bool {
        self.0.lock().minute(now).may_record(peer)
    }

    /// Raises the alarm that requests are counted, once a minute.
    pub(super) fn alarm(&self, now: Moment) {
        let is_due = self.0.lock().is_alarm_due(now);
        if is_due {
            tracing::warn!(
                alarm = Alarm::RefusalsCounted.code(),
                per_network = PER_NETWORK,
                in_all = IN_ALL,
                "too many requests without a verified user are refused: they are counted, and \
                 share their records"
            );
        }
    }

    pub(super) fn count(&self, counted: Counted, now: Reading) -> Count {
        let mut state = self.0.lock();
        state.counts.entry(counted).or_insert((0, now.wall)).0 += 1;
        match state.counted_since {
            Some(_) => Count::Further,
            None => {
                state.counted_since = Some(now.moment);
                Count::First
            }
        }
    }

    /// Returns whether there are counts to take.
    pub(super) fn is_due(&self, take: Take, now: Moment) -> bool {
        let since = self.0.lock().counted_since;
        let is_due = |since: Moment| take == Take::All || since.until(now) >= LONGEST_COUNT;
        since.is_some_and(is_due)
    }

    /// Takes the counts, as the content of their records.
    pub(super) fn take(&self) -> impl Iterator<Item = Event<'static>> + use<> {
        let counts = {
            let mut state = self.0.lock();
            state.counted_since = None;
            mem::take(&mut state.counts)
        };
        counts.into_iter().map(|(counted, (count, since))| {
            let (outcome, reason) = counted.outcome();
            Event::Counted { outcome, reason, count, since }
        })
    }
}

impl State {
    fn minute(&mut self, now: Moment) -> &mut Minute {
        let current = self.minute.take().filter(|minute| minute.begun.until(now) < MINUTE);
        self.minute.insert(current.unwrap_or_else(|| Minute {
            begun: now,
            in_all: 0,
            by_network: HashMap::new(),
        }))
    }

    fn is_alarm_due(&mut self, now: Moment) -> bool {
        let is_due = self.alarmed.is_none_or(|last| last.until(now) >= MINUTE);
        if is_due {
            self.alarmed = Some(now);
        }
        is_due
    }
}

impl Minute {
    fn may_record(&mut self, peer: Option<SocketAddr>) -> bool {
        if self.in_all >= IN_ALL {
            return false;
        }
        // Without an address, only the limit of all of them holds.
        if let Some(peer) = peer {
            let of_network = self.by_network.entry(network(peer.ip())).or_default();
            if *of_network >= PER_NETWORK {
                return false;
            }
            *of_network += 1;
        }
        self.in_all += 1;
        true
    }
}

/// Returns the network of an address. One subscriber has a /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn peer(address: &str) -> Option<SocketAddr> {
        Some(SocketAddr::new(address.parse().unwrap(), 4711))
    }

    fn clock() -> Clock {
        Clock::manual(Timestamp::from_unix_seconds(1_800_000_000))
    }

    fn recorded(flood: &Flood, clock: &Clock, address: &str, times: u32) -> u32 {
        let may_record = |_: &u32| flood.may_record(peer(address), clock.moment());
        u32::try_from((0..times).filter(may_record).count()).unwrap()
    }

    #[test]
    fn m257_each_network_has_its_own_records() {
        let (flood, clock) = (Flood::default(), clock());
        assert_eq!(recorded(&flood, &clock, "192.0.2.7", 1_000), PER_NETWORK);
        // The same address in the form of IPv6, and two addresses of one subscriber.
        assert_eq!(recorded(&flood, &clock, "::ffff:192.0.2.7", 1), 0);
        assert_eq!(recorded(&flood, &clock, "2001:db8::1", 400), 400);
        assert_eq!(recorded(&flood, &clock, "2001:db8::ffff:2", 400), 200);
        assert_eq!(recorded(&flood, &clock, "2001:db8:0:1::1", 400), 400);
        clock.advance(MINUTE);
        assert_eq!(recorded(&flood, &clock, "192.0.2.7", 1_000), PER_NETWORK);
    }

    #[test]
    fn m257_all_networks_together_have_a_limit() {
        let (flood, clock) = (Flood::default(), clock());
        let each = |network: u32| {
            let address = Ipv6Addr::from_bits(u128::from(network) << 64).to_string();
            recorded(&flood, &clock, &address, 1)
        };
        assert_eq!((0..10_000).map(each).sum::<u32>(), IN_ALL);
        assert!(!flood.may_record(None, clock.moment()));
        let networks = flood.0.lock().minute.as_ref().map_or(0, |minute| minute.by_network.len());
        assert_eq!(networks, IN_ALL as usize, "M257: and so have the networks that are remembered");
    }

    #[test]
    fn m257_the_alarm_is_raised_once_a_minute() {
        let (flood, clock) = (Flood::default(), clock());
        let is_due = || flood.0.lock().is_alarm_due(clock.moment());
        assert!(is_due() && !is_due());
        clock.advance(Duration::from_secs(59));
        assert!(!is_due());
        clock.advance(Duration::from_secs(1));
        assert!(is_due() && !is_due());
    }

    #[test]
    fn m257_counts_are_due_after_some_seconds() {
        let (flood, clock) = (Flood::default(), clock());
        let counted = Counted::Refused(Reason::Missing);
        assert_eq!(flood.count(counted, clock.read()), Count::First);
        clock.advance(Duration::from_secs(4));
        assert_eq!(flood.count(counted, clock.read()), Count::Further);
        assert!(!flood.is_due(Take::Due, clock.moment()));
        assert!(flood.is_due(Take::All, clock.moment()), "a flush or the end of the log");
        clock.advance(Duration::from_secs(1));
        assert!(flood.is_due(Take::Due, clock.moment()));
        assert_eq!(flood.take().count(), 1);
        assert!(!flood.is_due(Take::All, clock.moment()));
        assert_eq!(flood.count(Counted::Dropped, clock.read()), Count::First);
    }
}
