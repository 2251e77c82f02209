//! Any bytes as a JWK set: only entries that look like keys of the profile are used, and every
//! unambiguous key is used.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use token_broker_fuzz::{text, theirs};
use tower_token_broker::authenticate::jwt::Keys;

/// RFC 8037, appendix A.2.
const SOUND: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
/// Members of private and symmetric keys.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

fuzz_target!(|bytes: &[u8]| {
    let Ok(keys) = Keys::parse(bytes) else { return };
    assert!(bytes.len() <= Keys::MAX_BYTES);
    let set = theirs(bytes);
    let all = set["keys"].as_array().expect("an array");
    // An entry that cannot be used harms no other one, unless it shows the private key.
    let is_alone = |key: &Value| {
        let id = text(key, "kid");
        let same = |other: &&Value| text(other, "kid") == id && is_plausible(other);
        key.get("kid").is_none() || all.iter().filter(same).count() == 1
    };
    let shows_private = all.iter().any(|key| PRIVATE.iter().any(|name| key.get(name).is_some()));
    assert!(all.len() <= Keys::MAX_KEYS);
    let plausible = all.iter().filter(|key| is_plausible(key)).count();
    let sound = if shows_private {
        0
    } else {
        all.iter().filter(|key| is_beyond_doubt(key) && is_alone(key)).count()
    };
    assert!(
        (sound..=plausible).contains(&keys.len()) && !keys.is_empty(),
        "{sound} {} {plausible}",
        keys.len()
    );
    assert!(keys.problems().iter().all(|(position, _)| *position < all.len()));
});

fn is_plausible(key: &Value) -> bool {
    let is = |name, value| text(key, name) == Some(value);
    let is_curve =
        (is("kty", "EC") && is("crv", "P-256")) || (is("kty", "OKP") && is("crv", "Ed25519"));
    let is_public = PRIVATE.iter().all(|name| key.get(name).is_none());
    let is_for = |name, value| key.get(name).is_none() || is(name, value);
    let verifies = key.get("key_ops").is_none_or(|operations| {
        operations
            .as_array()
            .is_some_and(|operations| operations.iter().any(|operation| operation == "verify"))
    });
    let id =
        key.get("kid").is_none_or(|id| id.as_str().is_some_and(|id| (1..=256).contains(&id.len())));
    is_curve && is_public && is_for("use", "sig") && verifies && id
}

/// Whether the entry has exactly these members.
fn is_beyond_doubt(key: &Value) -> bool {
    let is = |name, value| text(key, name) == Some(value);
    let is_simple = key.as_object().is_some_and(|key| {
        key.keys().all(|name| ["kty", "crv", "x", "kid"].contains(&name.as_str()))
    });
    let id = key.get("kid").is_none_or(|id| {
        id.as_str().is_some_and(|id| {
            (1..=256).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
        })
    });
    is_simple && id && is("kty", "OKP") && is("crv", "Ed25519") && is("x", SOUND)
}
