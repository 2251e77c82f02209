//! Our readings beside the readings of others, over bodies that were made of real ones by a
//! generator with a seed.
//!
//! `TOKEN_BROKER_DIFFERENTIAL_BODIES` says how many bodies; a failure prints the one it was.

#![cfg(test)]

mod events;
mod messages;
mod mutations;
mod parsers;
mod processes;
mod random;

/// How many bodies: a few seconds' worth, if nothing else is said.
#[expect(clippy::disallowed_methods, reason = "a test asks its environment how long it may run")]
fn bodies() -> usize {
    let value = std::env::var("TOKEN_BROKER_DIFFERENTIAL_BODIES").ok();
    value.map_or(20_000, |value| {
        value.replace('_', "").parse().expect("TOKEN_BROKER_DIFFERENTIAL_BODIES is a number")
    })
}

/// What a run counted, where the test harness keeps nothing to itself.
fn print_line(text: &str) {
    use std::io::Write as _;

    writeln!(std::io::stderr(), "{text}").unwrap();
}
