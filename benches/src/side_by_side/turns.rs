//! The variants of a proxy, driven in turns with the same load.

use std::{cell::RefCell, path::Path, rc::Rc, time::Duration};

use token_broker_benches::fixtures::Ask;

use super::{
    Outcome, audited, disk,
    expected::{Expected, Lists},
    load::{Driven, Load, Template, WarmUp, drive},
    options::Options,
    process::{Process, busy_cpu, own_cpu},
    report::{CaseReport, VariantReport},
    statistics::{Spread, percentile},
    tokens::Tokens,
};

/// A load that all variants get.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) ask: Ask,
    pub(crate) connections: usize,
    pub(crate) tokens: TokenUse,
    /// Of each variant in each turn.
    pub(crate) requests: usize,
    /// Whether a quick run has it, too.
    pub(crate) is_quick: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenUse {
    /// So many, over and over, all seen before.
    Seen(usize),
    /// Each once.
    NeverSeen,
}

pub(crate) const CASES: [Case; 9] = {
    const fn case(name: &'static str, ask: Ask, connections: usize, tokens: TokenUse, requests: usize) -> Case {
        Case { name, ask, connections, tokens, requests, is_quick: true }
    }
    let (one, many) = (TokenUse::Seen(1), TokenUse::Seen(10_000));
    [
        case("small-1", Ask::Small, 1, one, 3_000),
        case("small-32", Ask::Small, 32, one, 16_000),
        case("small-128", Ask::Small, 128, one, 16_000),
        case("small-32-tokens-10000", Ask::Small, 32, many, 20_000),
        case("small-32-never-seen", Ask::Small, 32, TokenUse::NeverSeen, 6_000),
        case("large-32", Ask::Large, 32, one, 4_000),
        case("list-20-32", Ask::List(20), 32, one, 10_000),
        case("list-500-32", Ask::List(500), 32, one, 2_000),
        case("events-32", Ask::Events, 32, one, 8_000),
    ]
};

/// The longest time of one variant in one turn.
const LONGEST: Duration = Duration::from_secs(8);

/// A proxy as it is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    Bare,
    Noop,
    Dropped,
    Durable,
}

impl Variant {
    const ALL: [Self; 4] = [Self::Bare, Self::Noop, Self::Dropped, Self::Durable];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Noop => "four-noop-layers",
            Self::Dropped => "stack-sink-drops",
            Self::Durable => "stack-durable",
        }
    }

    const fn lists(self) -> Lists {
        match self {
            Self::Bare | Self::Noop => Lists::Whole,
            Self::Dropped | Self::Durable => Lists::Filtered,
        }
    }

    fn start(self, bench: &Bench<'_>) -> Outcome<Process> {
        let text = |path: &Path| path.to_str().map(str::to_owned).ok_or("the folder's name is not UTF-8");
        let (upstream, threads) = (bench.upstream.address().to_string(), bench.options.threads.to_string());
        let jwks = text(&bench.dir.join("jwks.json"))?;
        let audit = if self == Self::Durable { text(&bench.audit_file())? } else { "dropped".to_owned() };
        let role = match self {
            Self::Bare => "bare",
            Self::Noop => "noop",
            Self::Dropped | Self::Durable => "stack",
        };
        let settings = [("upstream", &upstream), ("threads", &threads), ("jwks", &jwks), ("audit", &audit)];
        Process::start(role, &settings.map(|(name, value)| (name, value.as_str())))
    }
}

/// What all cases of a run stand on.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    pub(crate) options: &'a Options,
    pub(crate) dir: &'a Path,
    pub(crate) tokens: &'a Tokens,
    pub(crate) upstream: Process,
}

impl Bench<'_> {
    fn audit_file(&self) -> std::path::PathBuf {
        self.dir.join("audit.jsonl")
    }

    /// Starts the variants anew, drives them in turns, ends them, and counts.
    pub(crate) fn run(&self, case: &Case) -> Outcome<CaseReport> {
        let mut running = Vec::new();
        for variant in Variant::ALL {
            let process = variant.start(self)?;
            let expected = Rc::new(RefCell::new(Expected::of(case.ask, variant.lists())?));
            running.push(Running { variant, process, expected, sent: 0, turns: Vec::new() });
        }
        let seen = match case.tokens {
            TokenUse::Seen(count) => Some(self.tokens.mint(count)?),
            TokenUse::NeverSeen => None,
        };
        let requests = if self.options.quick { case.requests / 4 } else { case.requests };
        let template = Rc::new(Template::of(case.ask));
        let (mut syncs, others) = (Vec::new(), Others::from_now(&running, &self.upstream)?);
        for turn in 0..self.options.turns {
            let tokens = match &seen {
                Some(seen) => Rc::clone(seen),
                None => self.tokens.mint(requests)?,
            };
            let warm_up = if seen.is_some() { WarmUp::OneEach } else { WarmUp::None };
            let load = Load {
                template: Rc::clone(&template),
                tokens,
                connections: case.connections,
                requests,
                longest: LONGEST,
                warm_up,
            };
            syncs.push(disk::fdatasync(self.dir)?.as_nanos() as f64);
            // Another one begins each turn.
            let count = running.len();
            running.rotate_left(turn % count);
            for proxy in &mut running {
                proxy.take_turn(&load)?;
            }
            running.rotate_right(turn % count);
        }
        let others = others.share(&running, &self.upstream)?;
        let reports = report(&running);
        for proxy in running {
            let (is_durable, sent) = (proxy.variant == Variant::Durable, proxy.sent);
            proxy.process.end()?;
            if is_durable {
                let counted = audited::requests(&self.audit_file())?;
                if counted != sent {
                    return Err(format!("{sent} requests were sent, the audit file has {counted}").into());
                }
                std::fs::remove_file(self.audit_file())?;
            }
        }
        Ok(CaseReport {
            name: case.name.to_owned(),
            connections: case.connections,
            requests,
            turns: self.options.turns,
            fdatasync_us: Spread::of(syncs.iter().map(|nanos| nanos / 1e3)),
            others_busy: others,
            variants: reports,
        })
    }
}

struct Running {
    variant: Variant,
    process: Process,
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
}

impl Running {
    fn take_turn(&mut self, load: &Load) -> Outcome<()> {
        if load.warm_up == WarmUp::OneEach && load.tokens.len() > 1 {
            // A verdict is kept for a minute: each turn begins with all of them known.
            let all = Load { requests: load.tokens.len(), connections: 32, warm_up: WarmUp::None, ..load.clone() };
            let driven = self.drive(&all)?;
            if driven.requests < load.tokens.len() {
                return Err("not all tokens could be shown in time".into());
            }
        }
        let driven = self.drive(load)?;
        self.turns.push(Turn {
            cpu: driven.cpu.as_nanos() as f64 / driven.requests as f64,
            per_second: driven.requests as f64 / driven.elapsed.as_secs_f64(),
            p50: percentile(&driven.latencies, 500),
            p99: percentile(&driven.latencies, 990),
        });
        Ok(())
    }

    fn drive(&mut self, load: &Load) -> Outcome<Driven> {
        let warm = if load.warm_up == WarmUp::OneEach { load.connections } else { 0 };
        let driven =
            drive(load, &self.process, &self.expected).map_err(|error| format!("{}: {error}", self.variant.name()))?;
        self.sent += (driven.requests + warm) as u64;
        Ok(driven)
    }
}

fn report(running: &[Running]) -> Vec<VariantReport> {
    let bare = running.iter().find(|proxy| proxy.variant == Variant::Bare).map_or(&[][..], |bare| &bare.turns);
    let reports = running.iter().map(|proxy| {
        let own = |value: fn(&Turn) -> f64| Spread::of(proxy.turns.iter().map(value));
        let ratio = |value: fn(&Turn) -> f64| {
            Spread::of(proxy.turns.iter().zip(bare).map(|(turn, bare)| value(turn) / value(bare)))
        };
        VariantReport {
            name: proxy.variant.name().to_owned(),
            cpu_us: own(|turn| turn.cpu / 1e3),
            cpu_ratio: ratio(|turn| turn.cpu),
            per_second: own(|turn| turn.per_second),
            per_second_ratio: ratio(|turn| turn.per_second),
            p50_us: own(|turn| turn.p50 / 1e3),
            p50_ratio: ratio(|turn| turn.p50),
            p99_us: own(|turn| turn.p99 / 1e3),
            p99_ratio: ratio(|turn| turn.p99),
        }
    });
    reports.collect()
}

/// The work of the machine that is not ours: it spoils figures.
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

    /// Of the time that processors were busy since then, the share that others had.
    fn share(&self, running: &[Running], upstream: &Process) -> Outcome<f64> {
        let now = Self::from_now(running, upstream)?;
        let (busy, ours) = (now.busy.saturating_sub(self.busy), now.ours.saturating_sub(self.ours));
        Ok(busy.saturating_sub(ours).as_secs_f64() / busy.as_secs_f64())
    }
}
