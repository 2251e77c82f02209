//! The command line of token-broker.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use token_broker::demo;

/// What is kept for a person lies between blocks that live for one request: glibc's allocator left three times as much memory behind.
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
    /// Tell the whole story on loopback, in one process, with nothing to install and nothing to set
    Demo {
        /// Print one JSON object (docs/demo.md) instead of the story
        #[arg(long)]
        json: bool,
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
    }
}

#[expect(clippy::print_stdout, reason = "the command line speaks here and nowhere else")]
fn print(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "the command line speaks here and nowhere else")]
fn complain(text: &str) {
    eprintln!("token-broker: {text}");
}
