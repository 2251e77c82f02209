//! Differences and intersections of scopes.

use std::collections::HashMap;

use tower_token_broker::{Secret, bad_value::BadValue, principal::Scopes};

/// Returns the scopes of `need` that are not in `held`.
pub(crate) fn missing(need: &Scopes, held: &Scopes) -> Scopes {
    filtered(need, |token| !held.contains(token))
}

/// Returns the text of scopes that a server named, escaped and truncated. A scope that may contain
/// a piece of a secret is replaced by its length.
pub(crate) fn for_log(scopes: &Scopes, secrets: &[&Secret]) -> BadValue {
    // Each takes two bytes at least: further ones are not shown.
    let scopes: Vec<&str> = scopes.iter().take(MOST_SHOWN / 2 + 1).collect();
    let mut shown = String::new();
    for (scope, may_be_secret) in scopes.iter().zip(may_be_secret(&scopes, secrets)) {
        if !shown.is_empty() {
            shown.push(' ');
        }
        match may_be_secret {
            true => shown.push_str(&format!("({} octets)", scope.len())),
            false => shown.push_str(scope),
        }
        if shown.len() > MOST_SHOWN {
            break;
        }
    }
    BadValue::new(&shown)
}

/// Longest text that is shown, in bytes.
const MOST_SHOWN: usize = 256;
/// Longest scope that is shown, in bytes.
const LONGEST: usize = 128;
/// Length of a piece of a secret that is not shown.
const PIECE: usize = 8;
/// Longest word with a digit in it that is shown: an encoded secret is longer.
const WORD: usize = 20;

/// Returns for each scope whether it may contain a piece of a secret. The pieces of the scopes are
/// collected first, and each piece of a secret is looked up once, so that the work does not grow
/// with the product of their lengths.
// I453.
#[expect(clippy::disallowed_methods, reason = "reviewed: a secret is compared, and not shown")]
fn may_be_secret(scopes: &[&str], secrets: &[&Secret]) -> Vec<bool> {
    let is_random =
        |word: &str| word.len() > WORD && word.bytes().any(|byte| byte.is_ascii_digit());
    let mut pieces: HashMap<[u8; PIECE], Vec<usize>> = HashMap::new();
    let mut found = Vec::new();
    for (index, scope) in scopes.iter().enumerate() {
        let is_hidden = scope.len() > LONGEST
            || scope.split(|letter: char| !letter.is_ascii_alphanumeric()).any(is_random);
        found.push(is_hidden);
        if !is_hidden {
            for piece in scope.as_bytes().windows(PIECE) {
                pieces.entry(folded(piece)).or_default().push(index);
            }
        }
    }
    for secret in secrets {
        for piece in secret.expose().windows(PIECE) {
            for index in pieces.remove(&folded(piece)).unwrap_or_default() {
                if let Some(is_hidden) = found.get_mut(index) {
                    *is_hidden = true;
                }
            }
        }
    }
    found
}

fn folded(piece: &[u8]) -> [u8; PIECE] {
    let mut folded = piece.first_chunk().copied().unwrap_or_default();
    folded.make_ascii_lowercase();
    folded
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
    #[test]
    fn i453_every_secret_and_every_piece_of_it_counts() {
        let secrets = ["Access-Token-of-Ana", "refresh.token.of.ana", "client/secret"];
        let secrets: Vec<_> =
            secrets.iter().map(|text| Secret::from_text((*text).to_owned())).collect();
        let secrets: Vec<&Secret> = secrets.iter().collect();
        for (scopes, shown) in [
            ("Access-Token-of-Ana crm:read crm:write", "(19 octets) crm:read crm:write"),
            ("refresh.token.of.ana", "(20 octets)"),
            ("crm:read x-REFRESH.TOKEN", "crm:read (15 octets)"),
            ("token.of", "(8 octets)"),
            ("oken.of token.o", "oken.of token.o"),
            // The same piece in several scopes, and in several secrets.
            ("a-token-of b-token-of c-token.of", "(10 octets) (10 octets) (10 octets)"),
            ("client/s nt/secre", "(8 octets) (8 octets)"),
            ("tneilc/terces", "tneilc/terces"),
        ] {
            let text = for_log(&Scopes::parse(scopes).unwrap(), &secrets).to_string();
            assert_eq!(text, format!("\"{shown}\""), "I453 {scopes}");
        }
    }

    #[test]
    fn i453_long_scopes_are_hidden_and_long_lists_are_cut() {
        let secret = Secret::from_text("s".repeat(16 * 1024));
        let shown =
            |scopes: String| for_log(&Scopes::parse(&scopes).unwrap(), &[&secret]).to_string();
        assert_eq!(shown("a".repeat(128)), format!("\"{}\"", "a".repeat(128)), "I453");
        assert_eq!(shown("a".repeat(129)), "\"(129 octets)\"", "I453");
        assert_eq!(shown("a".repeat(16 * 1024)), "\"(16384 octets)\"", "I453");
        let many = |length: usize| {
            (0..900_usize).map(|number| format!("{number:t>length$}")).collect::<Vec<_>>()
        };
        for length in [3, 8, 16] {
            let scopes = Scopes::parse(&many(length).join(" ")).unwrap().to_string();
            let text = shown(scopes.clone());
            let whole = format!("\"{}…\"", scopes.get(..256).unwrap());
            assert_eq!(text, whole, "I453");
        }
        let whole = Scopes::parse(&many(3).get(..64).unwrap().join(" ")).unwrap().to_string();
        assert_eq!(shown(whole.clone()), format!("\"{whole}\""), "I453");
        // After many short ones.
        let mut scopes: Vec<String> = ('a'..='z').map(String::from).collect();
        scopes.extend(["z0".to_owned(), format!("z1{}", "s".repeat(8))]);
        assert!(shown(scopes.join(" ")).ends_with(" z z0 (10 octets)\""), "I453");
    }
}
