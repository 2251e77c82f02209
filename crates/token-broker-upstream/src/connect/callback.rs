//! The query of a callback (RFC 6749 §4.1.2, RFC 9207 §2).

use tower_token_broker::Secret;
use url::form_urlencoded;

/// Longest query that is read, in bytes.
const MAX_QUERY: usize = 16 * 1024;
/// Longest `state` that is looked up, in bytes.
const MAX_STATE: usize = 256;

/// A callback that can be read in one way only.
pub(super) struct Callback {
    pub(super) state: Secret,
    pub(super) issuer: Issuer,
    pub(super) response: Response,
}

/// The parameter `iss`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Issuer {
    Absent,
    Named(String),
    /// It occurs several times.
    Repeated,
}

/// The response of the authorization server.
pub(super) enum Response {
    Code(Secret),
    /// An error. Its code decides nothing, and its description is not read.
    Denied,
    /// Both, or neither.
    Unreadable,
}

impl Callback {
    /// Reads a query; `None` if it has not exactly one `state`.
    // E110, E117
    pub(super) fn read(query: &str) -> Option<Self> {
        if query.len() > MAX_QUERY {
            return None;
        }
        let (mut states, mut codes, mut issuers) = (Vec::new(), Vec::new(), Vec::new());
        let mut has_error = false;
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "state" => states.push(value.into_owned()),
                "code" => codes.push(value.into_owned()),
                "iss" => issuers.push(value.into_owned()),
                "error" => has_error = true,
                _ => {}
            }
        }
        let state = states.pop().filter(|state| !state.is_empty() && state.len() <= MAX_STATE)?;
        if !states.is_empty() {
            return None;
        }
        let issuer = match (issuers.pop(), issuers.is_empty()) {
            (None, _) => Issuer::Absent,
            (Some(named), true) => Issuer::Named(named),
            (Some(_), false) => Issuer::Repeated,
        };
        let response = match (codes.pop(), codes.is_empty(), has_error) {
            (Some(code), true, false) if !code.is_empty() => {
                Response::Code(Secret::from_text(code))
            }
            (None, _, true) => Response::Denied,
            _ => Response::Unreadable,
        };
        Some(Self { state: Secret::from_text(state), issuer, response })
    }
}

impl Issuer {
    /// Returns whether the response is from this issuer.
    // E113: mix-up.
    pub(super) fn is_of(&self, issuer: &str, must_be_named: bool) -> bool {
        match self {
            Self::Absent => !must_be_named,
            Self::Named(named) => named == issuer,
            Self::Repeated => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e117_a_callback_has_one_reading() {
        let is_code =
            |query: &str| matches!(Callback::read(query).unwrap().response, Response::Code(_));
        assert!(is_code("code=c&state=s"));
        assert!(is_code("state=s&code=c&iss=https%3A%2F%2Fi&session_state=x"));
        for query in ["code=c&code=c&state=s", "code=c&error=e&state=s", "state=s", "code=&state=s"]
        {
            assert!(matches!(Callback::read(query).unwrap().response, Response::Unreadable));
        }
        let denied = Callback::read("error=access_denied&error_description=%3Cb%3E&state=s");
        assert!(matches!(denied.unwrap().response, Response::Denied));
        let long = format!("code=c&state={}", "s".repeat(MAX_STATE + 1));
        let huge = format!("state=s&code={}", "c".repeat(MAX_QUERY));
        for query in ["", "code=c", "code=c&state=", "code=c&state=a&state=a", &long, &huge] {
            assert!(Callback::read(query).is_none(), "E110");
        }
    }

    #[test]
    fn e113_the_issuer_must_be_the_one_that_was_called() {
        let issuer = |query: &str| Callback::read(query).unwrap().issuer;
        let one = "https://one.example";
        let named = issuer("state=s&code=c&iss=https%3A%2F%2Fone.example");
        assert!(named.is_of(one, true) && named.is_of(one, false));
        assert!(!named.is_of("https://two.example", false));
        let absent = issuer("state=s&code=c");
        assert!(absent.is_of(one, false) && !absent.is_of(one, true));
        let twice =
            issuer("state=s&code=c&iss=https%3A%2F%2Fone.example&iss=https%3A%2F%2Fone.example");
        assert!(twice == Issuer::Repeated && !twice.is_of(one, false));
        assert!(!issuer("state=s&code=c&iss=https://one.example/").is_of(one, false));
    }
}
