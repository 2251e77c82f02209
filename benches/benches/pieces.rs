//! Times the pieces of a request's path. Run: cargo bench -p token-broker-benches

use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use token_broker_benches::pieces::PIECES;

fn pieces(criterion: &mut Criterion) {
    for piece in PIECES {
        criterion.bench_function(piece.name, |bencher| {
            bencher.iter_custom(|times| {
                let times = usize::try_from(times).unwrap_or(usize::MAX);
                // Tokens that are used once are created before, one for each run.
                let mut run = piece.prepare(times);
                let started = now();
                (0..times).for_each(&mut run);
                started.elapsed()
            });
        });
    }
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch")]
fn now() -> Instant {
    Instant::now()
}

criterion_group!(benches, pieces);
criterion_main!(benches);
