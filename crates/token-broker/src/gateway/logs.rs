//! The log on stderr: lines for people on a terminal, JSON elsewhere.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::EnvFilter;

use crate::configuration::LogFormat;

/// Starts the log. `RUST_LOG` wins over the filter of the configuration.
pub fn start(format: LogFormat, filter: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter));
    let is_terminal = stderr().is_terminal();
    let is_json = match format {
        LogFormat::Auto => !is_terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    // A second start changes nothing.
    drop(match is_json {
        true => log.json().flatten_event(true).with_current_span(false).try_init(),
        false => log.with_ansi(is_terminal).try_init(),
    });
}
