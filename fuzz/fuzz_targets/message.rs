//! Any bytes as a message of a client: serde_json reads an accepted message in the same way, and so
//! it reads the message that is forwarded in its place.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use token_broker_fuzz::{text, theirs};
use tower_token_broker::readers::{self, Message};

fuzz_target!(|bytes: &[u8]| {
    let Ok(ours) = readers::message(bytes) else { return };
    let whole = theirs(bytes);
    assert_eq!(ours, reference(&whole, &ours));

    if let Some(first) = readers::first_request(bytes) {
        let mut expected = whole.clone();
        if let Some(params) = expected.get_mut("params").and_then(Value::as_object_mut) {
            params.remove("requestState");
            params.remove("inputResponses");
        }
        assert_eq!(theirs(&first), expected);
        assert_eq!(readers::message(&first), Ok(with_state(&ours, None)));
        assert_eq!(readers::first_request(&first), Some(first), "the second pass changes it");
    }
    let state = "\"\\ \u{1}\u{e9}\u{2028}\u{1f600}";
    if let Some(other) = readers::with_request_state(bytes, state) {
        let mut expected = whole;
        expected["params"]["requestState"] = state.into();
        assert_eq!(theirs(&other), expected);
        assert_eq!(readers::message(&other), Ok(with_state(&ours, Some(state))));
    }
});

fn with_state(message: &Message, state: Option<&str>) -> Message {
    let mut other = message.clone();
    other.request_state = state.map(str::to_owned);
    other
}

/// Returns what serde_json reads. Two texts can be the same ID: then it has ours.
fn reference(whole: &Value, ours: &Message) -> Message {
    let params = whole.get("params").unwrap_or(&Value::Null);
    let of_params = |name| text(params, name).map(str::to_owned);
    let mut read = Message::default();
    read.id = whole.get("id").map(Value::to_string);
    if ours.id.as_deref().map(|id| theirs(id.as_bytes())).as_ref() == whole.get("id") {
        read.id.clone_from(&ours.id);
    }
    read.method = text(whole, "method").map(str::to_owned);
    (read.name, read.uri, read.request_state) =
        (of_params("name"), of_params("uri"), of_params("requestState"));
    read
}
