//! When the generations of a token family were superseded.

use tower_token_broker::clock::Timestamp;

/// When generations of a token family were superseded by the next one.
///
/// Only recent instants are kept, see [`Superseded::add`]. A generation that has none counts as
/// superseded when the next one that has an instant was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Superseded(Vec<(u64, Timestamp)>);

impl Superseded {
    /// Largest number of instants. Beyond it, every second one of the older half is dropped, so
    /// that a generation counts as superseded somewhat later than it was, never earlier.
    pub const MAX: usize = 256;

    /// Creates the list from its entries, which must rise. Only stores call this.
    pub fn from_entries(entries: impl IntoIterator<Item = (u64, Timestamp)>) -> Option<Self> {
        let entries: Vec<_> = entries.into_iter().collect();
        let rise = entries.is_sorted_by(|one, next| one.0 < next.0 && one.1 <= next.1);
        rise.then_some(Self(entries))
    }

    /// Returns the entries: a generation, and when it was superseded.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (u64, Timestamp)> {
        self.0.iter().copied()
    }

    /// Returns when a generation was superseded; `None` if it was not.
    pub fn at(&self, generation: u64) -> Option<Timestamp> {
        let place = self.0.partition_point(|(superseded, _)| *superseded < generation);
        self.0.get(place).map(|(_, at)| *at)
    }

    /// Adds that a generation was superseded at this instant. Of the generations that were
    /// superseded before `keep_since`, only the last one keeps its instant: older ones count as
    /// superseded then.
    pub fn add(&mut self, generation: u64, at: Timestamp, keep_since: Timestamp) {
        // A clock that went back does not change the order.
        let at = self.0.last().map_or(at, |(_, last)| at.max(*last));
        self.0.push((generation, at));
        let old = self.0.partition_point(|(_, at)| *at < keep_since);
        self.0.drain(..old.saturating_sub(1));
        if self.0.len() > Self::MAX {
            let mut place = 0;
            self.0.retain(|_| {
                place += 1;
                // The first one stays: it is that of all older generations.
                place % 2 == 1 || place > Self::MAX / 2
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_seconds(1_800_000_000 + seconds)
    }

    #[test]
    fn each_generation_in_the_window_has_its_instant() {
        let mut superseded = Superseded::default();
        for generation in 1..=50 {
            let now = at(generation * 60);
            superseded.add(generation, now, now.minus(Duration::from_secs(600)));
        }
        assert_eq!(superseded.at(51), None);
        for generation in 40..=50 {
            assert_eq!(superseded.at(generation), Some(at(generation * 60)));
        }
        // All that were superseded before the window count as superseded before it.
        for generation in 0..40 {
            assert_eq!(superseded.at(generation), Some(at(39 * 60)), "{generation}");
        }
        assert_eq!(superseded.entries().len(), 12);
    }

    #[test]
    fn many_generations_in_the_window_are_thinned() {
        let mut superseded = Superseded::default();
        superseded.add(1, at(0), at(0));
        for generation in 2..=20_000 {
            // The first one is before the window, all others are in it.
            superseded.add(generation, at(1_000 + generation), at(1_000));
            assert!(superseded.entries().len() <= Superseded::MAX);
        }
        assert_eq!(superseded.at(1), Some(at(0)));
        let mut last = at(0);
        for generation in 1..=20_000 {
            let found = superseded.at(generation).unwrap();
            assert!(found >= last, "{generation}");
            // Never earlier than it was.
            assert!(generation == 1 || found >= at(1_000 + generation), "{generation}");
            last = found;
        }
        assert_eq!(superseded.at(20_000), Some(at(21_000)));
    }

    #[test]
    fn a_clock_that_went_back_keeps_the_order() {
        let mut superseded = Superseded::default();
        superseded.add(1, at(100), at(0));
        superseded.add(2, at(50), at(0));
        assert_eq!((superseded.at(1), superseded.at(2)), (Some(at(100)), Some(at(100))));
        let read = Superseded::from_entries(superseded.entries());
        assert_eq!(read, Some(superseded));
        assert_eq!(Superseded::from_entries([(2, at(0)), (1, at(1))]), None);
        assert_eq!(Superseded::from_entries([(1, at(1)), (2, at(0))]), None);
    }
}
