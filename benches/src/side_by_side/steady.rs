//! Latency at a steady rate: requests are sent when they are due, whether or not the earlier ones
//! have responses.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use token_broker_benches::fixtures::Call;

use super::{
    Failure, Outcome,
    cases::{Case, TokenUse},
    disk,
    load::{Client, Load, Template, WarmUp, now},
    process,
    report::SteadyReport,
    statistics::{Spread, percentile},
    turns::{Bench, Running},
    variants::Variant,
};

/// Number of concurrent requests. One more waits, and its wait counts.
const CONNECTIONS: usize = 64;
const NAME: &str = "steady";

/// Measures the durable stack at half of its capacity, and the bare proxy at the same rate.
pub(crate) fn run(bench: &Bench<'_>) -> Outcome<Option<SteadyReport>> {
    if !bench.options.wants(NAME) {
        return Ok(None);
    }
    process::sleep_exactly()?;
    let case = Case {
        name: NAME,
        call: Call::Small,
        connections: CONNECTIONS,
        tokens: TokenUse::Seen(1),
        requests: 0,
        variants: vec![Variant::bare(), Variant::durable()],
    };
    let mut bare = Running::start(bench, &case, &Variant::bare())?;
    let mut durable = Running::start(bench, &case, &Variant::durable())?;
    let load = Load {
        template: Template::of(Call::Small).into(),
        tokens: bench.tokens.mint(1)?,
        connections: CONNECTIONS,
        requests: 100_000,
        longest: Duration::from_secs(if bench.options.quick { 1 } else { 3 }),
        warm_up: WarmUp::OneEach,
    };
    let capacity = durable.drive(&load)?;
    let per_second = capacity.requests as f64 / capacity.elapsed.as_secs_f64();
    let rate = per_second / 2.0;
    let mut turns = Vec::new();
    for _ in 0..bench.options.turns {
        let sync = disk::fdatasync(bench.dir)?.as_nanos() as f64;
        turns.push(Turn {
            sync,
            bare: open_loop(&mut bare, &load, rate)?,
            durable: open_loop(&mut durable, &load, rate)?,
        });
    }
    bare.end()?;
    durable.end()?;
    let spread = |value: fn(&Turn) -> f64| Spread::of(turns.iter().map(value));
    Ok(Some(SteadyReport {
        capacity_per_second: per_second,
        rate_per_second: rate,
        turns: turns.len(),
        fdatasync_us: spread(|turn| turn.sync / 1e3),
        bare_p50_us: spread(|turn| percentile(&turn.bare, 500) / 1e3),
        bare_p99_us: spread(|turn| percentile(&turn.bare, 990) / 1e3),
        durable_p50_us: spread(|turn| percentile(&turn.durable, 500) / 1e3),
        durable_p99_us: spread(|turn| percentile(&turn.durable, 990) / 1e3),
        p50_added_in_fdatasyncs: spread(|turn| turn.added_in_syncs(500)),
        p99_added_in_fdatasyncs: spread(|turn| turn.added_in_syncs(990)),
    }))
}

/// Times in nanoseconds, with sorted latencies.
struct Turn {
    sync: f64,
    bare: Vec<u64>,
    durable: Vec<u64>,
}

impl Turn {
    fn added_in_syncs(&self, of_a_thousand: usize) -> f64 {
        (percentile(&self.durable, of_a_thousand) - percentile(&self.bare, of_a_thousand))
            / self.sync
    }
}

/// Returns the sorted latencies, each from the time when its request was due.
fn open_loop(proxy: &mut Running, load: &Load, rate: f64) -> Outcome<Vec<u64>> {
    let to = proxy.process().address();
    let token = load.tokens.first().ok_or("no token")?;
    let begin = now() + Duration::from_millis(100);
    let end = begin + load.longest;
    let plan = |first: usize| Plan {
        begin: begin + Duration::from_secs_f64(first as f64 / rate),
        every: Duration::from_secs_f64(CONNECTIONS as f64 / rate),
        end,
    };
    let mut all = Vec::new();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|first| {
                scope.spawn(move || plan(first).keep(to, &Template::of(Call::Small), token))
            })
            .collect();
        for thread in threads {
            all.extend(thread.join().map_err(|_| "a connection's thread panicked")??);
        }
        Ok::<_, Failure>(())
    })?;
    proxy.note_sent(all.len() as u64);
    all.sort_unstable();
    Ok(all)
}

/// Times at which one connection sends.
struct Plan {
    begin: Instant,
    every: Duration,
    end: Instant,
}

impl Plan {
    /// Runs on a thread of its own: tokio's timer has a resolution of milliseconds, which is too
    /// coarse.
    fn keep(&self, to: SocketAddr, template: &Template, token: &str) -> Outcome<Vec<u64>> {
        let expected = Call::Small.response();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(async {
            let mut client = Client::connect(to).await?;
            let (mut due, mut latencies) = (self.begin, Vec::new());
            while due < self.end {
                sleep_until(due);
                let response = client.exchange(template, token).await?;
                latencies.push(u64::try_from(due.elapsed().as_nanos())?);
                if !response.is_200() || response.body != expected.as_bytes() {
                    return Err("an unexpected response at the steady rate".into());
                }
                due += self.every;
            }
            Ok(latencies)
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "the thread has nothing else to do")]
fn sleep_until(due: Instant) {
    thread::sleep(due.saturating_duration_since(now()));
}
