//! Medians and spreads.

use serde::Serialize;

/// Median, least and most of the values of all turns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
        let (half, last) = (values.len() / 2, values.len().saturating_sub(1));
        let median = if values.len() % 2 == 1 {
            at(half)
        } else {
            f64::midpoint(at(half.saturating_sub(1)), at(half))
        };
        Self { median, least: at(0), most: at(last) }
    }
}

/// Returns a percentile of sorted values, in thousandths (nearest rank).
pub(crate) fn percentile(sorted: &[u64], of_a_thousand: usize) -> f64 {
    let rank = (sorted.len() * of_a_thousand).div_ceil(1000);
    sorted.get(rank.saturating_sub(1)).map_or(f64::NAN, |value| *value as f64)
}
