//! Shared code of the targets: another JSON parser, futures that are ready at once, and a law that
//! the tests share.

pub mod grpc_frames;

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use serde_json::Value;

/// Parses JSON by serde_json, without a limit of depth: for texts that our parser has accepted.
///
/// # Panics
/// If serde_json refuses the text.
pub fn theirs(text: &[u8]) -> Value {
    let mut reader = serde_json::Deserializer::from_slice(text);
    reader.disable_recursion_limit();
    let value =
        serde::Deserialize::deserialize(&mut reader).expect("the strict parser accepts only JSON");
    reader.end().expect("the strict parser accepts nothing after it");
    value
}

/// Parses JSON by serde_json, without a limit of depth. Returns `None` if serde_json refuses it, or
/// if it has a member twice, which its tree cannot show.
pub fn theirs_if_strict(text: &[u8]) -> Option<Value> {
    use tower_token_broker::json::{Limits, Value as Strict};

    let mut limits = Limits::default();
    limits.depth = 1000;
    Strict::parse(text, &limits).ok()?;
    Some(theirs(text))
}

/// Returns the text of a member.
pub fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_str()
}

/// Returns the output of a future that is ready at once.
///
/// # Panics
/// If the future is pending.
pub fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the future is pending"),
    }
}
