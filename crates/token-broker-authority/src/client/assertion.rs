//! Client authentication by `private_key_jwt` (RFC 7523 §3, OpenID Connect Core §9).

use std::time::Duration;

use parking_lot::Mutex;
use tower_token_broker::{
    Secret,
    authenticate::{
        PresentedToken,
        jwt::{Algorithm, Algorithms, KeySource, SignedJwt},
    },
    clock::{Clock, LEEWAY, Timestamp},
    json::{Kind, Value},
};

use super::used_assertions::{Use, UsedAssertions};

/// Value of `client_assertion_type`.
pub(crate) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Longest time for which an assertion may still be valid. An assertion is made for one request,
/// and is remembered until it ends.
const MAX_LIFETIME: Duration = Duration::from_secs(5 * 60);

/// The algorithms that a client may sign with.
pub(crate) fn algorithms() -> Algorithms {
    Algorithms::of([
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::EdDsa,
        Algorithm::Rs256,
        Algorithm::Ps256,
    ])
}

/// The reasons why an assertion does not authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AssertionError {
    /// It is not valid.
    Invalid,
    /// The client's keys are not available.
    Unavailable,
}

/// Verifies assertions, and accepts each of them once.
#[derive(Debug)]
pub(crate) struct Assertions {
    clock: Clock,
    /// The issuer and the token endpoint: the audiences that name us.
    audiences: [Box<str>; 2],
    used: Mutex<UsedAssertions>,
}

/// Returns the client that an assertion claims to be of, before anything is verified.
pub(crate) fn claimed_client(assertion: &str) -> Option<Box<str>> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let claims = URL_SAFE_NO_PAD.decode(assertion.split('.').nth(1)?).ok()?;
    let claims = Value::parse(&claims, &tower_token_broker::json::Limits::default()).ok()?;
    Some(claims.get("sub")?.as_str()?.as_ref().into())
}

impl Assertions {
    pub(crate) fn new(clock: &Clock, issuer: &str, token_endpoint: &str) -> Self {
        let audiences = [issuer.into(), token_endpoint.into()];
        Self { clock: clock.clone(), audiences, used: Mutex::default() }
    }

    /// Verifies an assertion of this client.
    pub(crate) async fn verify(
        &self,
        client: &str,
        keys: &KeySource,
        assertion: &str,
    ) -> Result<(), AssertionError> {
        let token = PresentedToken::new(Secret::from_text(assertion.to_owned()));
        let verified = keys.verify(&token, &self.clock).await;
        let verified = verified.map_err(|error| {
            if error.reason().fault() == tower_token_broker::refusal::Fault::Caller {
                AssertionError::Invalid
            } else {
                AssertionError::Unavailable
            }
        })?;
        let (id, until) = self.check(client, &verified).ok_or(AssertionError::Invalid)?;
        // F504. In each process for itself: what an assertion obtains is bound to a code or a
        // refresh token, and those are used once over all processes.
        let now = self.clock.now();
        let used = self.used.lock().insert(client, &id, (until, now));
        match used {
            Use::First => Ok(()),
            Use::Again => Err(AssertionError::Invalid),
            Use::NoSpace => Err(AssertionError::Unavailable),
        }
    }

    /// Returns the ID and the end of an assertion for this server.
    fn check(&self, client: &str, verified: &SignedJwt) -> Option<(String, Timestamp)> {
        let (header, claims) = (verified.header(), verified.claims());
        // Another kind of JWT is no assertion: not an access token, and not an ID token.
        let media_type = header.get("typ").map(|media_type| media_type.as_str());
        let is_assertion = match media_type {
            None => true,
            Some(media_type) => matches!(
                media_type?.to_ascii_lowercase().as_str(),
                "jwt" | "client-authentication+jwt"
            ),
        };
        let text = |name| claims.get(name).and_then(Value::as_str);
        let is_from_client = text("iss")? == client && text("sub")? == client;
        // One audience: an assertion for several servers could be replayed by each of them.
        let audience = claims.get("aud")?;
        let audience = if audience.kind() == Kind::Array {
            let mut audiences = audience.elements()?;
            let first = audiences.next()?;
            if audiences.next().is_some() {
                return None;
            }
            first.as_str()?
        } else {
            audience.as_str()?
        };
        let is_for_us = self.audiences.iter().any(|ours| **ours == *audience);
        let now = self.clock.now();
        let time =
            |name| claims.get(name).map(|value| value.as_u64().map(Timestamp::from_unix_seconds));
        let expires = time("exp")??;
        let begins = [time("nbf"), time("iat")].into_iter().flatten();
        for begin in begins {
            if begin? > now.plus(LEEWAY) {
                return None;
            }
        }
        let is_in_time = now < expires.plus(LEEWAY) && expires <= now.plus(MAX_LIFETIME + LEEWAY);
        let id = text("jti").filter(|id| !id.is_empty() && id.len() <= 255)?;
        if !is_assertion || !is_from_client || !is_for_us || !is_in_time {
            return None;
        }
        Some((id.to_string(), expires.plus(LEEWAY)))
    }
}
