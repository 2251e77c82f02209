//! Drives the variants of a proxy in turns with the same load.

use std::{cell::RefCell, path::Path, rc::Rc, time::Duration};

use super::{
    Outcome, audited,
    cases::{Case, TokenUse},
    disk,
    expected::Expected,
    load::{Driven, Load, Template, WarmUp, drive},
    options::Options,
    process::{Process, busy_cpu, own_cpu},
    report::{CaseReport, VariantReport},
    statistics::{Spread, percentile},
    tokens::Tokens,
    variants::{Audit, Variant},
};

/// The longest time of one variant in one turn.
const LONGEST: Duration = Duration::from_secs(8);

/// Common parts of all cases of a run.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    pub(crate) options: &'a Options,
    pub(crate) dir: &'a Path,
    pub(crate) tokens: &'a Tokens,
    pub(crate) upstream: Process,
}

impl Bench<'_> {
    /// Starts the variants, drives them in turns, ends them, and returns the results.
    pub(crate) fn run(&self, case: &Case) -> Outcome<CaseReport> {
        let mut running = Vec::new();
        for variant in &case.variants {
            running.push(Running::start(self, case, variant)?);
        }
        let seen_before =
            case.variants.iter().map(|variant| variant.seen_before).max().unwrap_or_default();
        let all = self.tokens.mint(seen_before.max(case.tokens.seen()))?;
        let template = Rc::new(Template::of(case.call));
        let load = Load {
            template,
            tokens: all.iter().take(case.tokens.seen()).cloned().collect(),
            connections: case.connections,
            requests: if self.options.quick { case.requests / 4 } else { case.requests },
            longest: LONGEST,
            warm_up: if case.tokens == TokenUse::NeverSeen {
                WarmUp::None
            } else {
                WarmUp::OneEach
            },
        };
        for proxy in &mut running {
            let tokens = all.iter().take(proxy.variant.seen_before).cloned().collect();
            proxy.show(&Load { tokens, ..load.clone() })?;
        }
        let (mut syncs, others) = (Vec::new(), Others::from_now(&running, &self.upstream)?);
        for turn in 0..self.options.turns {
            let load = match case.tokens {
                TokenUse::Seen(_) => load.clone(),
                TokenUse::NeverSeen => {
                    Load { tokens: self.tokens.mint(load.requests)?, ..load.clone() }
                }
            };
            let sync = disk::fdatasync(self.dir)?.as_nanos() as f64;
            syncs.push(sync);
            // Each turn begins with another variant.
            let count = running.len();
            running.rotate_left(turn % count);
            for proxy in &mut running {
                proxy.take_turn(&load, sync)?;
            }
            running.rotate_right(turn % count);
        }
        let others = others.share(&running, &self.upstream)?;
        let variants = report(&running);
        for proxy in running {
            proxy.end()?;
        }
        Ok(CaseReport {
            name: case.name.to_owned(),
            connections: case.connections,
            requests: load.requests,
            turns: self.options.turns,
            fdatasync_us: Spread::of(syncs.iter().map(|nanos| nanos / 1e3)),
            others_busy: others,
            variants,
        })
    }
}

/// A running variant, with its results so far.
pub(crate) struct Running {
    variant: Variant,
    process: Process,
    audit_file: std::path::PathBuf,
    expected: Rc<RefCell<Expected>>,
    sent: u64,
    turns: Vec<Turn>,
}

/// One variant in one turn. Times in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Turn {
    cpu: f64,
    per_second: f64,
    p50: f64,
    p99: f64,
    sync: f64,
}

impl Running {
    pub(crate) fn start(bench: &Bench<'_>, case: &Case, variant: &Variant) -> Outcome<Self> {
        Ok(Self {
            variant: variant.clone(),
            process: variant.start(bench)?,
            audit_file: variant.audit_file(bench.dir),
            expected: Rc::new(RefCell::new(Expected::of(case.call, variant.lists)?)),
            sent: 0,
            turns: Vec::new(),
        })
    }

    pub(crate) const fn process(&self) -> &Process {
        &self.process
    }

    /// Shows it each token once.
    pub(crate) fn show(&mut self, load: &Load) -> Outcome<()> {
        if load.tokens.is_empty() {
            return Ok(());
        }
        let requests = load.tokens.len();
        let longest = Duration::from_secs(300);
        let all = Load {
            requests,
            longest,
            connections: requests.min(32),
            warm_up: WarmUp::None,
            ..load.clone()
        };
        if self.drive(&all)?.requests < requests {
            return Err("not all tokens could be shown in time".into());
        }
        Ok(())
    }

    fn take_turn(&mut self, load: &Load, sync: f64) -> Outcome<()> {
        if load.warm_up == WarmUp::OneEach && load.tokens.len() > 1 {
            // A verdict is cached for a minute, so each turn begins with all of them cached.
            self.show(load)?;
        }
        let driven = self.drive(load)?;
        self.turns.push(Turn {
            cpu: driven.cpu.as_nanos() as f64 / driven.requests as f64,
            per_second: driven.requests as f64 / driven.elapsed.as_secs_f64(),
            p50: percentile(&driven.latencies, 500),
            p99: percentile(&driven.latencies, 990),
            sync,
        });
        Ok(())
    }

    pub(crate) fn drive(&mut self, load: &Load) -> Outcome<Driven> {
        let warm = if load.warm_up == WarmUp::OneEach { load.connections } else { 0 };
        let driven = drive(load, &self.process, &self.expected)
            .map_err(|error| format!("{}: {error}", self.variant.name))?;
        self.sent += (driven.requests + warm) as u64;
        Ok(driven)
    }

    /// Counts requests that were sent in another way.
    pub(crate) const fn note_sent(&mut self, requests: u64) {
        self.sent += requests;
    }

    /// Ends the process. Its audit file must have as many requests as were sent.
    pub(crate) fn end(self) -> Outcome<()> {
        self.process.end()?;
        if self.variant.audit == Audit::Durable {
            let counted = audited::requests(&self.audit_file)?;
            std::fs::remove_file(&self.audit_file)?;
            if counted != self.sent {
                return Err(format!(
                    "{} requests were sent, the audit file has {counted}",
                    self.sent
                )
                .into());
            }
        }
        Ok(())
    }
}

/// Returns the results. Ratios are to the first variant, in the same turn.
fn report(running: &[Running]) -> Vec<VariantReport> {
    let base = running.first().map_or(&[][..], |base| &base.turns);
    let reports = running.iter().map(|proxy| {
        let own = |value: fn(&Turn) -> f64| Spread::of(proxy.turns.iter().map(value));
        let pairs = || proxy.turns.iter().zip(base);
        let ratio = |value: fn(&Turn) -> f64| {
            Spread::of(pairs().map(|(turn, base)| value(turn) / value(base)))
        };
        let in_syncs = |value: fn(&Turn) -> f64| {
            let added = pairs().map(|(turn, base)| (value(turn) - value(base)) / turn.sync);
            (proxy.variant.audit == Audit::Durable).then(|| Spread::of(added))
        };
        VariantReport {
            name: proxy.variant.name.clone(),
            cpu_us: own(|turn| turn.cpu / 1e3),
            cpu_ratio: ratio(|turn| turn.cpu),
            per_second: own(|turn| turn.per_second),
            per_second_ratio: ratio(|turn| turn.per_second),
            p50_us: own(|turn| turn.p50 / 1e3),
            p50_ratio: ratio(|turn| turn.p50),
            p50_added_in_fdatasyncs: in_syncs(|turn| turn.p50),
            p99_us: own(|turn| turn.p99 / 1e3),
            p99_ratio: ratio(|turn| turn.p99),
            p99_added_in_fdatasyncs: in_syncs(|turn| turn.p99),
        }
    });
    reports.collect()
}

/// Work of other processes on the machine, which distorts figures.
struct Others {
    busy: Duration,
    ours: Duration,
}

impl Others {
    fn from_now(running: &[Running], upstream: &Process) -> Outcome<Self> {
        let mut ours = own_cpu()? + upstream.cpu()?;
        for proxy in running {
            ours += proxy.process.cpu()?;
        }
        Ok(Self { busy: busy_cpu()?, ours })
    }

    /// Returns the share of the busy time since then that other processes had.
    fn share(&self, running: &[Running], upstream: &Process) -> Outcome<f64> {
        let now = Self::from_now(running, upstream)?;
        let (busy, ours) = (now.busy.saturating_sub(self.busy), now.ours.saturating_sub(self.ours));
        Ok(busy.saturating_sub(ours).as_secs_f64() / busy.as_secs_f64())
    }
}
