//! Differences and intersections of scopes.

use tower_token_broker::{Secret, bad_value::BadValue, principal::Scopes};

/// Returns the scopes of `need` that are not in `held`.
pub(crate) fn missing(need: &Scopes, held: &Scopes) -> Scopes {
    filtered(need, |token| !held.contains(token))
}

/// Returns the text of scopes that a server named, escaped and truncated. A scope that may contain
/// a piece of a secret is replaced by its length.
pub(crate) fn for_log(scopes: &Scopes, secrets: &[&Secret]) -> BadValue {
    let shown: Vec<String> = scopes
        .iter()
        .map(|scope| match may_be_secret(scope, secrets) {
            true => format!("({} octets)", scope.len()),
            false => scope.to_owned(),
        })
        .collect();
    BadValue::new(&shown.join(" "))
}

/// Length of a piece of a secret that is not shown.
const PIECE: usize = 8;
/// Longest word with a digit in it that is shown: an encoded secret is longer.
const WORD: usize = 20;

// I453.
#[expect(clippy::disallowed_methods, reason = "reviewed: a secret is compared, and not shown")]
fn may_be_secret(scope: &str, secrets: &[&Secret]) -> bool {
    let repeats = |secret: &&Secret| {
        secret.expose().windows(PIECE).any(|piece| {
            scope.as_bytes().windows(PIECE).any(|shown| shown.eq_ignore_ascii_case(piece))
        })
    };
    let is_random =
        |word: &str| word.len() > WORD && word.bytes().any(|byte| byte.is_ascii_digit());
    secrets.iter().any(repeats)
        || scope.split(|letter: char| !letter.is_ascii_alphanumeric()).any(is_random)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i453_a_scope_that_repeats_a_secret_is_not_shown() {
        let secret = Secret::from_text("s3cr3t-Access-Token-0123456789".into());
        let shown = |scopes: &str| for_log(&Scopes::parse(scopes).unwrap(), &[&secret]).to_string();
        for scope in
            ["crm:read", "https://www.googleapis.com/auth/drive.readonly", "offline_access"]
        {
            assert!(shown(scope).contains(scope), "{}", shown(scope));
        }
        for scope in [
            "s3cr3t-Access-Token-0123456789",
            "x:S3CR3T-ACCESS-TOKEN",
            "cess-Tok",
            "czNjcjN0LUFjY2Vzcy1Ub2tlbi0wMTIzNDU2Nzg5",
            "7333637233742d4163636573732d546f6b656e",
        ] {
            assert!(!shown(scope).contains(scope), "{}", shown(scope));
            assert!(shown(scope).contains(&format!("({} octets)", scope.len())));
        }
    }
}
