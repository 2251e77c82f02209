//! Timing of secret comparisons.
//!
//! The measurement has a control: it must detect a comparison that stops at the first difference.

use std::{hint::black_box, time::Instant};

use tower_token_broker::Secret;

const GUESSES: usize = 100_000;
/// Threshold above which a difference of means is significant (dudect).
const SIGNIFICANT: f64 = 4.5;

/// Returns Welch's t between the times of guesses that differ from the secret in the first byte and
/// of guesses that differ in the last byte.
///
/// Both are measured alternately, without the slowest tenth, which reflects the scheduler.
fn welch_t(mut compare: impl FnMut(&Secret) -> bool, guesses: &[Secret; 2]) -> f64 {
    let mut times = [Vec::with_capacity(GUESSES), Vec::with_capacity(GUESSES)];
    for at in 0..2 * GUESSES {
        let class = (at ^ (at >> 3)) & 1;
        let began = Instant::now();
        for _ in 0..8 {
            black_box(compare(black_box(&guesses[class])));
        }
        times[class].push(began.elapsed().as_nanos() as f64);
    }
    let [(mean, error), (other, other_error)] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times.truncate(times.len() * 9 / 10);
        let count = times.len() as f64;
        let mean = times.iter().sum::<f64>() / count;
        let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count)
    });
    (mean - other) / (error + other_error).sqrt()
}

#[test]
fn s320_comparison_time_reveals_no_prefix() {
    let secret = Secret::new(vec![7; 32]);
    // 0 and 31 equal bytes are the extremes.
    let guess =
        |right: usize| Secret::new((0..32).map(|at| if at < right { 7 } else { 8 }).collect());
    let guesses = [guess(0), guess(31)];
    #[expect(clippy::disallowed_methods, reason = "the control compares insecurely on purpose")]
    let stops_early = |guess: &Secret| {
        secret.expose().iter().zip(guess.expose()).all(|(one, other)| one == other)
    };
    let control = welch_t(stops_early, &guesses).abs();
    assert!(
        control > SIGNIFICANT,
        "S320: the measurement would not find a comparison that stops early: {control}"
    );
    // Other load can affect one measurement; a real leak affects all of them.
    let found =
        std::iter::repeat_with(|| welch_t(|guess| secret.matches(guess), &guesses).abs()).take(5);
    let found: Vec<_> = found.take_while(|t| *t >= SIGNIFICANT).collect();
    assert!(found.len() < 5, "S320: {found:?}");
}
