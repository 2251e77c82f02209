//! Footprint of a process: memory per cached pair, idle memory, time to start, and size on disk.

use std::{fs, rc::Rc, time::Duration};

use token_broker_benches::fixtures::Call;

use super::{
    Outcome,
    cases::{Case, TokenUse},
    load::{Load, Template, WarmUp, now},
    proxies::UPSTREAM_TOKEN_BYTES,
    report::{CachedReport, FootprintReport, SizeReport},
    statistics::Spread,
    turns::{Bench, Running},
    variants::Variant,
};

const NAME: &str = "memory";
const STARTS: usize = 9;

pub(crate) fn run(bench: &Bench<'_>) -> Outcome<Option<FootprintReport>> {
    if !bench.options.wants(NAME) {
        return Ok(None);
    }
    let (bare_start, bare_idle) = starts(bench, &Variant::bare())?;
    let (start, idle) = starts(bench, &Variant::durable())?;
    let counts: &[usize] = if bench.options.quick { &[10_000] } else { &[10_000, 100_000] };
    let cached: Outcome<_> = counts.iter().map(|count| cached(bench, *count)).collect();
    Ok(Some(FootprintReport {
        bare_start_ms: bare_start,
        bare_idle_bytes: bare_idle,
        start_ms: start,
        idle_bytes: idle,
        cached: cached?,
        binaries: binaries()?,
    }))
}

/// Returns the milliseconds from the start of the process to its first response, and its memory
/// then.
fn starts(bench: &Bench<'_>, variant: &Variant) -> Outcome<(Spread, Spread)> {
    let load = load(bench.tokens.mint(1)?, 1);
    let (mut took, mut resident) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let started = now();
        let mut proxy = Running::start(bench, &case(variant), variant)?;
        proxy.show(&load)?;
        // The generator waits a little after the last response, which is not the proxy's time.
        took.push(started.elapsed().saturating_sub(super::load::SETTLE).as_secs_f64() * 1e3);
        resident.push(proxy.process().resident_bytes()? as f64);
        proxy.end()?;
    }
    Ok((Spread::of(took), Spread::of(resident)))
}

/// Measures the memory that is added when so many users, whose grants are in the store, have called
/// once.
fn cached(bench: &Bench<'_>, users: usize) -> Outcome<CachedReport> {
    let variant = Variant::dropped().with("users", users);
    let mut proxy = Running::start(bench, &case(&variant), &variant)?;
    let tokens = bench.tokens.mint(users)?;
    // The first request waits until the store is filled, and opens connections.
    let few: Rc<[String]> = tokens.iter().take(64).cloned().collect();
    proxy.show(&load(few, 32))?;
    let before = proxy.process().resident_bytes()?;
    proxy.show(&load(tokens, 32))?;
    let after = proxy.process().resident_bytes()?;
    proxy.end()?;
    let each = after.saturating_sub(before) as f64 / users as f64;
    Ok(CachedReport {
        users,
        resident_before_bytes: before,
        resident_bytes: after,
        bytes_a_pair: each,
        bytes_a_pair_without_token: each - UPSTREAM_TOKEN_BYTES as f64,
    })
}

/// Returns the sizes of the programs next to this one, built by `cargo build --release --bins`.
fn binaries() -> Outcome<Vec<SizeReport>> {
    let own = std::env::current_exe()?;
    let folder = own.parent().ok_or("the program has no folder")?;
    let size = |name: &str| {
        let bytes = fs::metadata(folder.join(name)).ok()?.len();
        Some(SizeReport { name: name.to_owned(), bytes })
    };
    Ok(["token-broker", "hyper_proxy"].iter().filter_map(|name| size(name)).collect())
}

fn case(variant: &Variant) -> Case {
    let (call, tokens, variants) = (Call::Small, TokenUse::Seen(1), vec![variant.clone()]);
    Case { name: NAME, call, connections: 1, tokens, requests: 1, variants }
}

fn load(tokens: Rc<[String]>, connections: usize) -> Load {
    let (template, longest) = (Template::of(Call::Small).into(), Duration::from_secs(60));
    Load { template, requests: tokens.len(), tokens, connections, longest, warm_up: WarmUp::None }
}
