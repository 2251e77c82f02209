//! The command line of token-broker.

use std::{
    io::{IsTerminal as _, stderr},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use token_broker::audit;
use token_broker_demo as demo;
use tower_token_broker::audit::verify::Head;

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
    /// Verify an audit file
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Verify a file offline: names the first wrong record and the reason, and distinguishes the
    /// traces of a crash from a manipulation (docs/audit.md)
    Verify {
        /// The file of JSON lines
        file: PathBuf,
        /// A head noted elsewhere, which the file must contain; can be repeated
        #[arg(long, value_name = "SEQ:HASH")]
        expect_head: Vec<Head>,
        /// Print one JSON object (docs/audit.md) instead of text
        #[arg(long)]
        json: bool,
        /// Print progress on stderr even if stderr is not a terminal
        #[arg(long)]
        progress: bool,
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
                print(&if json {
                    serde_json::to_string_pretty(&report).unwrap_or_default()
                } else {
                    report.to_string()
                });
                ExitCode::from(report.exit_code())
            }
            Err(error) => {
                complain(&error.to_string());
                ExitCode::FAILURE
            }
        },
        Command::Audit { command: AuditCommand::Verify { file, expect_head, json, progress } } => {
            verify(&file, &expect_head, json, progress)
        }
    }
}

fn verify(file: &Path, noted: &[Head], json: bool, progress: bool) -> ExitCode {
    let percents =
        Percents { shown: progress || stderr().is_terminal(), over: stderr().is_terminal() };
    let verified = audit::verify(file, noted, |percent| percents.say(percent));
    percents.end();
    match verified {
        Ok(verified) => {
            print(&if json { verified.to_json() } else { verified.to_string() });
            ExitCode::from(verified.exit_code())
        }
        Err(error) => {
            complain(&format!("{} cannot be read: {error}", file.display()));
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

#[expect(clippy::print_stderr, reason = "all output of the command line is printed here")]
impl Percents {
    fn say(&self, percent: u64) {
        match (self.shown, self.over) {
            (false, _) => {}
            (true, true) => eprint!("\r{percent} %"),
            (true, false) => eprintln!("{percent} %"),
        }
    }

    fn end(&self) {
        if self.shown && self.over {
            eprint!("\r\x1b[K");
        }
    }
}

#[expect(clippy::print_stdout, reason = "all output of the command line is printed here")]
fn print(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "all output of the command line is printed here")]
fn complain(text: &str) {
    eprintln!("token-broker: {text}");
}
