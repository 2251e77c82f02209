//! The command line of token-broker.

use std::{
    fmt,
    io::{ErrorKind, IsTerminal as _, Write as _, stderr, stdout},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use token_broker::{audit, audit_folder, audit_removal};
use token_broker_demo as demo;
use tower_token_broker::audit::{WriterName, verify::Head};

/// Long-lived blocks lie between blocks of one request: with glibc's allocator the process kept
/// three times as much memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// MCP clients hold broker tokens, the broker keeps the real ones.
#[derive(Parser)]
#[command(name = "token-broker", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run two upstreams, the broker and a client on loopback, and check what they logged
    Demo {
        /// Print one JSON object (docs/demo.md) instead of text
        #[arg(long)]
        json: bool,
    },
    /// Verify an audit file or folder, or remove old segments
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Verify a file or a folder offline: names the first wrong record of each file and the reason,
    /// and distinguishes the traces of a crash from a manipulation (docs/audit.md)
    Verify {
        /// The file of JSON lines, or the folder of segments
        path: PathBuf,
        /// A head noted elsewhere, which the file or folder must contain; can be repeated
        #[arg(long, value_name = "SEQ:HASH")]
        expect_head: Vec<Head>,
        /// Print one JSON object (docs/audit.md) instead of text
        #[arg(long)]
        json: bool,
        /// Print progress on stderr even if stderr is not a terminal
        #[arg(long)]
        progress: bool,
    },
    /// Remove the segments of one writer that are old enough, after verifying all, and record it
    /// in the folder, as writer `commands` (docs/audit.md)
    Remove {
        /// The folder of segments
        folder: PathBuf,
        /// The writer, as in the names of its segments
        #[arg(long)]
        writer: WriterName,
        /// Remove segments whose last record is older than this many days
        #[arg(long, value_name = "DAYS")]
        older_than_days: u32,
        /// The one who signs off, for the record
        #[arg(long, value_name = "NAME", required_unless_present = "dry_run")]
        operator: Option<String>,
        /// Print the segments that would be removed; change and record nothing
        #[arg(long)]
        dry_run: bool,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("off")),
        )
        .with_writer(std::io::stderr)
        .init();
    match Arguments::parse().command {
        Command::Demo { json } => match demo::run().await {
            Ok(report) => {
                let text = if json {
                    serde_json::to_string_pretty(&report).unwrap_or_default()
                } else {
                    report.to_string()
                };
                finish(&text, report.exit_code())
            }
            Err(error) => {
                complain(&error.to_string());
                ExitCode::FAILURE
            }
        },
        Command::Audit { command: AuditCommand::Verify { path, expect_head, json, progress } } => {
            verify(&path, &expect_head, json, progress)
        }
        Command::Audit {
            command: AuditCommand::Remove { folder, writer, older_than_days, operator, dry_run },
        } => {
            // Without it, this is a dry run.
            let done = match operator.filter(|_| !dry_run) {
                Some(operator) => {
                    let removed =
                        audit_removal::remove(&folder, &writer, older_than_days, &operator);
                    removed.await.map(|removed| removed.to_string())
                }
                None => audit_removal::plan(&folder, &writer, older_than_days)
                    .map(|planned| planned.to_string()),
            };
            match done {
                Ok(text) => finish(&text, 0),
                Err(error) => {
                    complain(&error.to_string());
                    ExitCode::FAILURE
                }
            }
        }
    }
}

fn verify(path: &Path, noted: &[Head], json: bool, progress: bool) -> ExitCode {
    let percents =
        Percents { shown: progress || stderr().is_terminal(), over: stderr().is_terminal() };
    let say = |percent| percents.say(percent);
    let verified = if path.is_dir() {
        audit_folder::verify_folder(path, noted, say).map(|verified| {
            let text = if json { verified.to_json() } else { verified.to_string() };
            (text, verified.exit_code())
        })
    } else {
        audit::verify(path, noted, say).map(|verified| {
            let text = if json { verified.to_json() } else { verified.to_string() };
            (text, verified.exit_code())
        })
    };
    percents.end();
    match verified {
        Ok((text, code)) => finish(&text, code),
        Err(error) => {
            complain(&format!("{} cannot be read: {error}", path.display()));
            ExitCode::FAILURE
        }
    }
}

/// Progress in percent, on stderr.
struct Percents {
    shown: bool,
    /// On a terminal, each line overwrites the last, and none is left.
    over: bool,
}

impl Percents {
    fn say(&self, percent: u64) {
        match (self.shown, self.over) {
            (false, _) => {}
            (true, true) => to_stderr(format_args!("\r{percent} %")),
            (true, false) => to_stderr(format_args!("{percent} %\n")),
        }
    }

    fn end(&self) {
        if self.shown && self.over {
            to_stderr(format_args!("\r\x1b[K"));
        }
    }
}

/// Prints the result, and returns the exit code. A reader that has read enough, as `head` does, is
/// no failure: the code is that of the result. If the output cannot be written otherwise, it is 1.
fn finish(text: &str, code: u8) -> ExitCode {
    let mut output = stdout().lock();
    match writeln!(output, "{text}").and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            complain(&format!("the result cannot be written: {error}"));
            ExitCode::FAILURE
        }
        Ok(()) | Err(_) => ExitCode::from(code),
    }
}

/// Prints one line. It may contain the name of a file.
fn complain(text: &str) {
    let line: String = text.chars().map(visible).collect();
    to_stderr(format_args!("token-broker: {line}\n"));
}

/// Escapes a character that a terminal acts on or does not show.
fn visible(character: char) -> String {
    match character {
        '"' | '\'' | '\\' => character.to_string(),
        _ => character.escape_debug().to_string(),
    }
}

/// Writes to stderr. If that is not possible, there is no one to report it to.
fn to_stderr(text: fmt::Arguments<'_>) {
    stderr().lock().write_fmt(text).unwrap_or_default();
}
