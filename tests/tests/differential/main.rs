//! Compares our parsers with others, over inputs that a seeded generator derives from real
//! messages.
//!
//! `TOKEN_BROKER_DIFFERENTIAL_BODIES` sets the number of inputs. A failure prints the input.

#![cfg(test)]

mod events;
mod grpc_frames;
mod messages;
mod mutations;
mod parsers;
mod processes;
mod random;

/// Returns the number of inputs; the default takes a few seconds.
#[expect(clippy::disallowed_methods, reason = "the environment sets the duration of the test")]
fn bodies() -> usize {
    let value = std::env::var("TOKEN_BROKER_DIFFERENTIAL_BODIES").ok();
    value.map_or(20_000, |value| {
        value.replace('_', "").parse().expect("TOKEN_BROKER_DIFFERENTIAL_BODIES is a number")
    })
}

/// Prints the counts of a run to stderr, which the test harness does not capture.
fn print_line(text: &str) {
    use std::io::Write as _;

    writeln!(std::io::stderr(), "{text}").unwrap();
}
