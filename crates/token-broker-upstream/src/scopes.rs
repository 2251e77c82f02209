//! What is in one set of scopes and not, or also, in another.

use tower_token_broker::principal::Scopes;

/// What of `need` is not in `held`.
pub(crate) fn missing(need: &Scopes, held: &Scopes) -> Scopes {
    filtered(need, |token| !held.contains(token))
}

/// What is in both.
pub(crate) fn common(one: &Scopes, other: &Scopes) -> Scopes {
    filtered(one, |token| other.contains(token))
}

fn filtered(scopes: &Scopes, keep: impl Fn(&str) -> bool) -> Scopes {
    let kept: Vec<&str> = scopes.iter().filter(|token| keep(token)).collect();
    // Tokens that were scopes are scopes.
    Scopes::parse(&kept.join(" ")).unwrap_or_else(|_| Scopes::none())
}
