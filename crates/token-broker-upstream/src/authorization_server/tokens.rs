//! The members of a token response (RFC 6749 §5.1), as servers write them.

use std::time::Duration;

use tower_token_broker::{Secret, principal::Scopes};
use zeroize::Zeroizing;

use super::json_object::{JsonObject, Member};

/// Tokens that can be used.
#[derive(Debug)]
pub(crate) struct Tokens {
    pub(crate) access_token: Secret,
    pub(crate) lifetime: Duration,
    /// `None` means the requested scopes (RFC 6749 §5.1).
    pub(crate) scopes: Option<Scopes>,
    /// Type of the issued token, if the server names one (RFC 8693 §2.2.1).
    pub(crate) issued_token_type: Option<Box<str>>,
}

/// Assumed lifetime if the server names none, or one that is no number or negative.
const UNKNOWN_LIFETIME: Duration = Duration::from_secs(300);
const LONGEST_LIFETIME: Duration = Duration::from_secs(366 * 24 * 3600);
const LONGEST_TOKEN: usize = 16 * 1024;

/// Returns the refresh token: one text of at most 16 384 bytes, which may be repeated exactly. Any
/// other value is no refresh token, and the current one stays.
pub(super) fn refresh_token(object: &JsonObject<'_>) -> Option<Secret> {
    let token = object.text("refresh_token").filter(|token| token.len() <= LONGEST_TOKEN)?;
    Some(secret(&token))
}

impl Tokens {
    /// Reads the members of a response. A member that is `null` or empty is absent.
    // E119: only the access token can be refused. A refresh token was taken out before.
    pub(super) fn of(object: &JsonObject<'_>, requested: &Scopes) -> Result<Self, &'static str> {
        if !object.present("token_type").all(|kind| names_bearer(&kind)) {
            return Err("the token is not a Bearer token");
        }
        if object.present("access_token").next().is_none() {
            return Err("no access token");
        }
        // In a header, a space, quotation mark or comma would end the token (RFC 9110 §11.2).
        // RFC 6750 §2.1 allows fewer characters than servers use.
        let can_be_sent = |token: &Zeroizing<String>| {
            token.len() <= LONGEST_TOKEN
                && token.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x7e))
        };
        let access_token = object
            .text("access_token")
            .filter(can_be_sent)
            .ok_or("an access token that can't be sent")?;
        let scopes = scopes(object, requested).map_err(|_| "scopes that can't be read")?;
        let issued_token_type = object.text("issued_token_type").map(|kind| kind.as_str().into());
        let (access_token, lifetime) = (secret(&access_token), lifetime(object));
        Ok(Self { access_token, lifetime, scopes, issued_token_type })
    }
}

/// The bytes of the response are out of reach; our copies are zeroized.
fn secret(token: &Zeroizing<String>) -> Secret {
    Secret::new(token.as_bytes().to_vec())
}

/// Returns whether a `token_type` names the Bearer scheme, in any spelling, or no scheme at all. An
/// array may name it, but not arrays in it.
// E119: DPoP and MAC tokens are not sent as Bearer tokens. E510: no recursion, because each level
// of nesting would use the stack.
fn names_bearer(kind: &Member<'_>) -> bool {
    match kind {
        Member::Array(_) => kind.elements().all(|element| is_bearer(&element)),
        Member::Text(_)
        | Member::NotText
        | Member::Null
        | Member::Bool(_)
        | Member::Number(_)
        | Member::Object(_) => is_bearer(kind),
    }
}

fn is_bearer(kind: &Member<'_>) -> bool {
    match kind {
        Member::Text(text) => {
            let letters = text.chars().filter(char::is_ascii_alphanumeric);
            let plain: String = letters.map(|letter| letter.to_ascii_lowercase()).collect();
            matches!(plain.as_str(), "bearer" | "bearertoken")
        }
        Member::NotText | Member::Array(_) => false,
        Member::Null | Member::Bool(_) | Member::Number(_) | Member::Object(_) => true,
    }
}

struct NotScopes;

/// Returns the scopes of the token: of a text or an array of texts, separated by spaces or commas.
/// `None` if the server names none. A repeated member counts with all its values, so that no scope
/// stays unseen.
fn scopes(object: &JsonObject<'_>, requested: &Scopes) -> Result<Option<Scopes>, NotScopes> {
    let mut names = Names { requested, text: String::new(), count: 0 };
    for member in object.present("scope") {
        match &member {
            Member::Text(text) => names.add(text)?,
            Member::Array(_) => {
                for element in member.elements() {
                    match element {
                        Member::Text(text) => names.add(&text)?,
                        Member::Null => {}
                        Member::Bool(_)
                        | Member::Number(_)
                        | Member::NotText
                        | Member::Array(_)
                        | Member::Object(_) => return Err(NotScopes),
                    }
                }
            }
            Member::Null
            | Member::Bool(_)
            | Member::Number(_)
            | Member::NotText
            | Member::Object(_) => return Err(NotScopes),
        }
    }
    if names.text.is_empty() {
        return Ok(None);
    }
    Scopes::parse(&names.text).map(Some).map_err(|_| NotScopes)
}

/// Names of scopes from all members and elements of a response, for one set.
struct Names<'a> {
    requested: &'a Scopes,
    /// The names, separated by spaces.
    text: String,
    count: usize,
}

impl Names<'_> {
    const MOST: usize = 1000;
    const LONGEST: usize = 16 * 1024;

    fn add(&mut self, text: &str) -> Result<(), NotScopes> {
        for name in text.split_ascii_whitespace() {
            // A scope that was requested may contain a comma (RFC 6749 §3.3).
            if self.requested.contains(name) {
                self.push(name)?;
                continue;
            }
            for part in name.split(',').filter(|part| !part.is_empty()) {
                self.push(part)?;
            }
        }
        Ok(())
    }

    // E510: the limits count over the whole response, and the work ends with them.
    fn push(&mut self, name: &str) -> Result<(), NotScopes> {
        self.count = self.count.saturating_add(1);
        let length = self.text.len().saturating_add(name.len()).saturating_add(1);
        if self.count > Self::MOST || length > Self::LONGEST {
            return Err(NotScopes);
        }
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(name);
        Ok(())
    }
}

/// Returns the lifetime: a number, or a text that is one. Of several, the shortest. Zero is a token
/// for one use; more than a year counts as a year.
fn lifetime(object: &JsonObject<'_>) -> Duration {
    let seconds = |member: Member<'_>| -> Option<f64> {
        match member {
            Member::Number(raw) => std::str::from_utf8(raw).ok()?.parse().ok(),
            // Rust also parses names of numbers, such as `inf`.
            Member::Text(text) if !text.trim().bytes().any(is_of_a_name) => {
                text.trim().parse().ok()
            }
            Member::Text(_)
            | Member::Null
            | Member::Bool(_)
            | Member::NotText
            | Member::Array(_)
            | Member::Object(_) => None,
        }
    };
    let lifetime = |seconds: f64| match seconds.floor() {
        whole if whole >= LONGEST_LIFETIME.as_secs_f64() => Some(LONGEST_LIFETIME),
        whole => Duration::try_from_secs_f64(whole).ok(),
    };
    let all = object.present("expires_in").map(|member| seconds(member).and_then(lifetime));
    all.map(|lifetime| lifetime.unwrap_or(UNKNOWN_LIFETIME)).min().unwrap_or(UNKNOWN_LIFETIME)
}

const fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphabetic() && !matches!(byte, b'e' | b'E')
}
