//! Any bytes as a message of a server: the filtered message is what a filter over serde_json's tree
//! leaves, and filtering it again changes nothing. The trees are compared if the text is strict
//! JSON: content may have lone surrogates and repeated members, which a tree cannot show.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use token_broker_fuzz::{text, theirs_if_strict};
use tower_token_broker::readers;

fuzz_target!(|bytes: &[u8]| {
    let Ok(left) = readers::server_message(bytes, is_visible) else { return };
    if let Some(message) = theirs_if_strict(bytes) {
        let expected = reference(message);
        assert_eq!(left.as_deref().and_then(theirs_if_strict), expected);
    }
    if let Some(left) = left {
        assert_eq!(readers::server_message(&left, is_visible), Ok(Some(left)));
    }
});

/// Whether no other member of an entry may be read as its name.
fn has_one_name(entry: &Value, called_by: &str) -> bool {
    let mut names = entry.as_object().into_iter().flat_map(|entry| entry.keys());
    names.all(|name| name == called_by || !readers::is_same_name(name, called_by))
}

fn is_visible(name: &str) -> bool {
    !name.contains('d')
}

const LISTS: [(&str, &str); 4] = [
    ("tools", "name"),
    ("prompts", "name"),
    ("resources", "uri"),
    ("resourceTemplates", "uriTemplate"),
];

fn reference(mut message: Value) -> Option<Value> {
    let method = text(&message, "method").unwrap_or_default().to_owned();
    if let Some(result) = message.get_mut("result").and_then(Value::as_object_mut) {
        let mut holds_a_list = false;
        for (list, called_by) in LISTS {
            if let Some(entries) = result.get_mut(list).and_then(Value::as_array_mut) {
                holds_a_list = true;
                entries.retain(|entry| {
                    text(entry, called_by).is_some_and(is_visible) && has_one_name(entry, called_by)
                });
            }
        }
        if holds_a_list
            && let Some(scope) = result.get_mut("cacheScope").filter(|scope| scope.is_string())
        {
            *scope = "private".into();
        }
    }
    let params = message.get_mut("params").filter(|params| params.is_object());
    match (method.as_str(), params) {
        ("notifications/resources/updated", params) => {
            // Nothing else of this notification is changed.
            params.and_then(|params| text(params, "uri")).is_some_and(is_visible).then_some(message)
        }
        ("notifications/subscriptions/acknowledged", Some(params)) => {
            let uris = params
                .get_mut("notifications")
                .and_then(|filter| filter.get_mut("resourceSubscriptions"));
            if let Some(uris) = uris.and_then(Value::as_array_mut) {
                uris.retain(|uri| uri.as_str().is_some_and(is_visible));
            }
            Some(message)
        }
        _ => Some(message),
    }
}
