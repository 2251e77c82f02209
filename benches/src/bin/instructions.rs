//! Counts the instructions of the pieces of a request's path, by callgrind, and compares them with
//! the expected counts.
//!
//! Run:   cargo run --release --bin instructions
//! Bless: cargo run --release --bin instructions -- --bless
//!
//! The first compares, and fails if a piece takes over 5 % more. The second writes the counts as
//! the ones that are expected from now on.
//!
//! Each piece runs in two processes, N times in one and not at all in the other: the difference
//! divided by N is one run, without set-up. All threads are counted, the audit log's too; the
//! kernel is not, and neither is the seed of the random number generator.

use std::{
    collections::HashMap,
    env, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use token_broker_benches::pieces::{PIECES, Piece};

type Failure = Box<dyn std::error::Error>;

/// Percentage by which a piece may exceed the expected count.
const TOLERANCE: f64 = 5.0;
/// Threads interleave differently each time, and caches evict by the clock, which only adds
/// instructions. A piece over the limit is counted again, and the lowest count is used.
const MOST_TRIES: usize = 3;
/// Runs before those that are counted, for what is created at the first use.
const RUNS_BEFORE: usize = 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["run", name, times, most] => run(name, times, most),
        ["--bless"] => most().and_then(|counted| bless(&counted)),
        ["--only", name] => count(Some(name)).map(drop),
        [] => count(None).and_then(|counted| compare(&counted)),
        _ => Err("unknown arguments: use none, --bless, or --only PIECE".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("FAILED: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs in the process that is counted.
fn run(name: &str, times: &str, most: &str) -> Result<(), Failure> {
    let piece = PIECES.iter().find(|piece| piece.name == name).ok_or("there is no such piece")?;
    let (times, most): (usize, usize) = (times.parse()?, most.parse()?);
    let mut run = piece.prepare(RUNS_BEFORE + most);
    (0..RUNS_BEFORE + times).for_each(&mut run);
    Ok(())
}

struct Counted {
    name: &'static str,
    instructions: u64,
}

fn count(only: Option<&str>) -> Result<Vec<Counted>, Failure> {
    let mut counted: Vec<Counted> = Vec::new();
    for piece in PIECES.iter().filter(|piece| only.is_none_or(|only| piece.name.starts_with(only)))
    {
        let instructions = one_run(piece)?;
        let within = counted.iter().find(|other| Some(other.name) == piece.within);
        let own = within.map_or(String::new(), |within| {
            format!(
                ", {} without {}",
                i128::from(instructions) - i128::from(within.instructions),
                within.name
            )
        });
        say(&format!("{:30} {instructions:>10} instructions{own}", piece.name));
        counted.push(Counted { name: piece.name, instructions });
    }
    Ok(counted)
}

fn one_run(piece: &Piece) -> Result<u64, Failure> {
    let (none, all) = (callgrind(piece, 0)?, callgrind(piece, piece.times)?);
    Ok(all.saturating_sub(none) / piece.times as u64)
}

fn callgrind(piece: &Piece, times: usize) -> Result<u64, Failure> {
    let most = piece.times.to_string();
    let profile = env::temp_dir().join(format!("instructions-{}.callgrind", std::process::id()));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--fair-sched=yes"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(env::current_exe()?)
        .args(["run", piece.name, &times.to_string(), &most])
        .output()
        .map_err(|error| {
            format!("valgrind cannot be started ({error}): apt-get install valgrind")
        })?;
    if !output.status.success() {
        let printed = String::from_utf8(output.stderr)?;
        return Err(format!(
            "{} ended with {} under valgrind: {printed}",
            piece.name, output.status
        )
        .into());
    }
    let counted = instructions_in(&fs::read_to_string(&profile)?);
    fs::remove_file(&profile)?;
    counted.ok_or_else(|| "callgrind counted nothing".into())
}

/// Adds up the instructions of a profile in callgrind's format, without those of the random number
/// generator's seed: it collects timing jitter, with another number of instructions each time.
fn instructions_in(profile: &str) -> Option<u64> {
    let mut is_jitter = HashMap::new();
    let (mut counts, mut is_of_callee, mut total) = (true, false, 0_u64);
    for line in profile.lines() {
        let function = line.strip_prefix("fn=").or_else(|| line.strip_prefix("cfn="));
        if let Some(function) = function {
            // A name is written once, with its number in front; afterwards only the number is.
            let (number, name) = function.split_once(' ').unwrap_or((function, ""));
            if !name.is_empty() {
                is_jitter.insert(number, JITTER.iter().any(|part| name.contains(part)));
            }
            if line.starts_with("fn=") {
                counts = !*is_jitter.get(number)?;
            }
        } else if line.starts_with("calls=") {
            // The next line is the cost of the call, which its own function has, too.
            is_of_callee = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first))
            && !std::mem::take(&mut is_of_callee)
            && counts
        {
            total += line.split_once(' ')?.1.trim().parse::<u64>().ok()?;
        }
    }
    (total > 0).then_some(total)
}

/// Parts of the names of functions that collect timing jitter (AWS-LC's `jitterentropy`).
const JITTER: [&str; 7] = [
    "jent_",
    "rol64",
    "xoshiro128starstar",
    "uint32rotl",
    "ptr_to_le",
    "le32_to_ptr",
    "le64_to_ptr",
];

fn expected_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.txt")
}

/// Returns what the counts depend on: the compiler, and the processor, by which libc and the
/// cryptography choose their code.
fn environment() -> Result<String, Failure> {
    let output =
        Command::new("rustc").arg("-V").current_dir(env!("CARGO_MANIFEST_DIR")).output()?;
    let rustc = String::from_utf8(output.stdout)?;
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("an unknown processor", |(_, model)| model.trim());
    Ok(format!("{}; {model}", rustc.trim()))
}

/// Returns the highest of several counts of each piece. It is compared with the lowest of several
/// counts, so that variation between runs is not a regression.
fn most() -> Result<Vec<Counted>, Failure> {
    let mut most = count(None)?;
    for _ in 1..MOST_TRIES {
        for (most, again) in most.iter_mut().zip(count(None)?) {
            most.instructions = most.instructions.max(again.instructions);
        }
    }
    Ok(most)
}

fn bless(counted: &[Counted]) -> Result<(), Failure> {
    let mut text = format!(
        "# Instructions a run, by callgrind. Written by `instructions --bless`.\n{}\n",
        environment()?
    );
    for Counted { name, instructions } in counted {
        text.push_str(&format!("{name} {instructions}\n"));
    }
    fs::write(expected_file(), text)?;
    say("blessed: benches/instructions.txt");
    Ok(())
}

fn compare(counted: &[Counted]) -> Result<(), Failure> {
    let text = fs::read_to_string(expected_file())?;
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let (blessed_with, ours) = (lines.next().unwrap_or_default(), environment()?);
    if blessed_with != ours {
        say(&format!(
            "!!! NOT COMPARED: counted with {ours}, expected with {blessed_with}; counts depend on \
             both.\n\
             !!! Check the figures above, then: cargo run --release --bin instructions -- --bless"
        ));
        return Ok(());
    }
    let expected: Vec<(&str, u64)> = lines
        .map(|line| {
            line.split_once(' ').and_then(|(name, count)| Some((name, count.parse().ok()?)))
        })
        .collect::<Option<_>>()
        .ok_or("benches/instructions.txt has a line that is no piece and its count")?;
    let mut slower = 0;
    for Counted { name, instructions } in counted {
        let before =
            expected.iter().find(|(expected, _)| expected == name).map(|(_, count)| *count);
        let before =
            before.ok_or_else(|| format!("{name} is not in benches/instructions.txt: --bless"))?;
        let percent = |instructions: u64| (instructions as f64 / before as f64 - 1.0) * 100.0;
        let mut instructions = *instructions;
        let mut tries = 1;
        while percent(instructions) > TOLERANCE && tries < MOST_TRIES {
            let piece =
                PIECES.iter().find(|piece| piece.name == *name).ok_or("there is no such piece")?;
            instructions = instructions.min(one_run(piece)?);
            tries += 1;
        }
        let percent = percent(instructions);
        if percent > TOLERANCE {
            slower += 1;
        }
        if percent.abs() > TOLERANCE {
            let what = if percent > 0.0 { "!!! MORE" } else { "fewer: bless them" };
            say(&format!(
                "{name}: {instructions} instructions, {before} expected, {percent:+.1} %  {what}"
            ));
        }
    }
    match slower {
        0 => Ok(()),
        _ => Err(format!("{slower} pieces take over {TOLERANCE} % more instructions").into()),
    }
}

fn say(text: &str) {
    drop(writeln!(io::stdout(), "{text}"));
}
