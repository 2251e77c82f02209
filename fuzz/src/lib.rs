//! What several targets need: another reading of JSON, and work that never waits.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use serde_json::Value;

/// By serde_json, without a limit of depth: for texts that our own reading has bounded.
///
/// # Panics
/// If it refuses what ours has let through.
pub fn theirs(text: &[u8]) -> Value {
    let mut reader = serde_json::Deserializer::from_slice(text);
    reader.disable_recursion_limit();
    let value = serde::Deserialize::deserialize(&mut reader)
        .expect("what the strict reading lets through is JSON");
    reader.end().expect("and nothing behind it");
    value
}

/// The text of a member.
pub fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_str()
}

/// What is ready at once.
///
/// # Panics
/// If it is not.
pub fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}
