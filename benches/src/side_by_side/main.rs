//! Measures the cost of the layers as ratios to a bare proxy. Each variant is a process of its own
//! on loopback; they are driven in turns.
//!
//! Run: cargo run --release --bin side-by-side -- --quick

#[cfg(not(target_os = "linux"))]
compile_error!("run times are read from Linux's /proc");

mod audited;
mod cases;
mod chart;
mod disk;
mod expected;
mod footprint;
mod gateway;
mod haproxy;
mod load;
mod markdown;
mod noop;
mod options;
mod process;
mod proxies;
mod report;
mod role;
mod statistics;
mod steady;
mod tokens;
mod turns;
mod upstream;
mod variants;
mod wire;

use std::{
    env, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// The allocator of the binary `token-broker`. All variants have it, the bare proxy too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use self::{
    options::Options,
    process::Process,
    report::{Machine, Report},
    tokens::Tokens,
    turns::Bench,
};

/// No one matches on the kind: a failed run reports the error and ends.
type Failure = Box<dyn std::error::Error + Send + Sync>;
type Outcome<T> = Result<T, Failure>;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let done = match arguments.as_slice() {
        [word, name, settings @ ..] if word == role::WORD => {
            role::play(name, &role::Setting::of(settings))
        }
        [help] if help == "--help" => print(options::USAGE),
        _ => Options::read(&arguments).and_then(|options| run(&options)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(&format!("FAILED: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Outcome<()> {
    let scratch = Scratch::new(options.dir.as_deref())?;
    let tokens = Tokens::new(&scratch.0)?;
    let upstream = Process::start("upstream", &[])?;
    let bench = Bench { options, dir: &scratch.0, tokens: &tokens, upstream };
    if haproxy::program().is_none() {
        note("HAProxy is not installed: it is not compared (apt-get install haproxy)\n");
    }
    if gateway::program().is_none() {
        note("the gateway is not compared (cargo build --release --bin token-broker)\n");
    }
    let mut report = Report {
        schema: 1,
        quick: options.quick,
        machine: Machine::this()?,
        threads_a_proxy: options.threads,
        cases: Vec::new(),
        steady: None,
        footprint: None,
    };
    let all = cases::side_by_side().into_iter().chain(cases::growth(options));
    for case in all.filter(|case| options.wants(case.name)) {
        let case = bench.run(&case).map_err(|error| format!("{}: {error}", case.name))?;
        note(&case.to_text());
        report.cases.push(case);
    }
    if let Some(steady) = steady::run(&bench)? {
        note(&steady.to_text());
        report.steady = Some(steady);
    }
    if let Some(footprint) = footprint::run(&bench)? {
        note(&footprint.to_text());
        report.footprint = Some(footprint);
    }
    if report.cases.is_empty() && report.steady.is_none() && report.footprint.is_none() {
        return Err("no case has this name".into());
    }
    if let Some(file) = &options.svg {
        fs::write(file, chart::svg(&report))?;
    }
    if options.markdown {
        print(&markdown::tables(&report))?;
    }
    if options.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?;
    }
    Ok(())
}

/// The folder of this run. It is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(within: Option<&Path>) -> Outcome<Self> {
        let program = env::current_exe()?;
        let within = within.or(program.parent()).ok_or("the program has no folder")?;
        let dir = within.join(format!("side-by-side-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A folder that cannot be removed is left.
        drop(fs::remove_dir_all(&self.0));
    }
}

fn print(text: &str) -> Outcome<()> {
    Ok(io::stdout().write_all(text.as_bytes())?)
}

/// Prints progress: standard output has only the report.
fn note(text: &str) {
    drop(io::stderr().write_all(text.as_bytes()));
}
