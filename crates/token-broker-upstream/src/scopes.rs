//! Differences and intersections of scopes.

use tower_token_broker::{bad_value::BadValue, principal::Scopes};

/// Returns the scopes of `need` that are not in `held`.
pub(crate) fn missing(need: &Scopes, held: &Scopes) -> Scopes {
    filtered(need, |token| !held.contains(token))
}

/// Returns the text of scopes that a server named, escaped and truncated.
pub(crate) fn for_log(scopes: &Scopes) -> BadValue {
    BadValue::new(&scopes.to_string())
}

/// Returns the scopes that are in both.
pub(crate) fn common(one: &Scopes, other: &Scopes) -> Scopes {
    filtered(one, |token| other.contains(token))
}

fn filtered(scopes: &Scopes, keep: impl Fn(&str) -> bool) -> Scopes {
    let kept: Vec<&str> = scopes.iter().filter(|token| keep(token)).collect();
    // Each token was parsed as a scope before.
    Scopes::parse(&kept.join(" ")).unwrap_or_else(|_| Scopes::none())
}
