//! Responses of a token endpoint, parsed strictly and once.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use token_broker_outbound::{FetchError, GuardedClient, Sent};
use tower_token_broker::{
    Secret,
    clock::Clock,
    json::{Limits, Value},
    principal::Scopes,
};
use zeroize::Zeroizing;

/// Timeout of a request to a token endpoint.
pub(crate) const TOKEN_ENDPOINT_TIMEOUT: Duration = Duration::from_secs(8);

/// Response of a token endpoint.
#[derive(Debug)]
pub(crate) enum TokenResponse {
    Tokens(Tokens),
    /// An error of RFC 6749 §5.2 or of one of its extensions: the server refuses.
    Denied {
        denial: Denial,
        retry_after: Option<Duration>,
    },
    /// Any other response: an outage, a limit, or nonsense. It does not concern the caller.
    Failed {
        what: &'static str,
        retry_after: Option<Duration>,
    },
}

/// Kind of a refusal by the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    /// `invalid_grant`: the grant or token of the user has ended, or is not accepted.
    Grant,
    /// `invalid_client`: the server does not accept the broker's authentication.
    Client,
    /// `invalid_scope`: the server does not grant these scopes.
    Scopes,
    /// The user must act at the server first (OpenID Connect Core §3.1.2.6).
    User,
    /// The server's policy forbids this target, client or grant type.
    Policy,
}

impl Denial {
    fn of(error: &str) -> Option<Self> {
        Some(match error {
            "invalid_grant" => Self::Grant,
            "invalid_client" => Self::Client,
            "invalid_scope" => Self::Scopes,
            "interaction_required"
            | "login_required"
            | "consent_required"
            | "account_selection_required" => Self::User,
            // RFC 8693 §2.2.2: `invalid_request` also means an unacceptable subject or actor token.
            "invalid_request"
            | "invalid_target"
            | "unauthorized_client"
            | "unsupported_grant_type"
            | "access_denied" => Self::Policy,
            _ => return None,
        })
    }

    pub(crate) const fn what(self) -> &'static str {
        match self {
            Self::Grant => "the authorization server does not accept the grant",
            Self::Client => "the authorization server does not accept the broker as a client",
            Self::Scopes => "the authorization server does not accept the scopes",
            Self::User => "the authorization server wants the user to act first",
            Self::Policy => "the authorization server's policy forbids it",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Tokens {
    pub(crate) access_token: Secret,
    pub(crate) refresh_token: Option<Secret>,
    pub(crate) lifetime: Duration,
    /// `None` means the requested scopes (RFC 6749 §5.1).
    pub(crate) scopes: Option<Scopes>,
    /// Type of the issued token, if the server names one (RFC 8693 §2.2.1).
    pub(crate) issued_token_type: Option<Box<str>>,
}

/// Assumed lifetime if the server names none, or an impossible one.
const UNKNOWN_LIFETIME: Duration = Duration::from_secs(300);
const LONGEST_LIFETIME: u64 = 366 * 24 * 3600;
const LONGEST_TOKEN: usize = 16 * 1024;

impl TokenResponse {
    /// Sends the request once, with a timeout.
    // X08: never a second time by itself.
    pub(crate) async fn to(
        request: Request<Bytes>,
        client: &GuardedClient,
        clock: &Clock,
    ) -> Result<Self, FetchError> {
        let uri = request.uri().clone();
        let response = tokio::time::timeout(TOKEN_ENDPOINT_TIMEOUT, client.fetch(request)).await;
        let response = response.unwrap_or(Err(FetchError::Timeout(Sent::Maybe)))?;
        // X23: lifetimes are counted from here, and other replicas use the resulting times.
        clock.compare_with_response(response.headers(), uri.host().unwrap_or_default());
        Ok(Self::of(&response))
    }

    /// Parses a response. Nothing of its text is logged.
    fn of(response: &Response<Bytes>) -> Self {
        let retry_after = retry_after(response);
        let failed = |what| Self::Failed { what, retry_after };
        match response.status().as_u16() {
            200 => {
                let Ok(value) = Value::parse(response.body(), &Limits::default()) else {
                    return failed("not strict JSON");
                };
                Tokens::of(value).map_or_else(failed, Self::Tokens)
            }
            // RFC 6749 §5.2 requires 400; servers use 401 and 403 for the same errors.
            400 | 401 | 403 => {
                let Ok(value) = Value::parse(response.body(), &Limits::default()) else {
                    return failed("an error without strict JSON");
                };
                match value.get("error").and_then(Value::as_str).as_deref().and_then(Denial::of) {
                    Some(denial) => Self::Denied { denial, retry_after },
                    None => failed("an error that is not about the grant"),
                }
            }
            429 => failed("too many requests"),
            500..=599 => failed("the authorization server failed"),
            _ => failed("an unexpected status"),
        }
    }
}

impl Tokens {
    // E119: a response that does not follow RFC 6749 §5.1 is a failure.
    fn of(value: Value<'_>) -> Result<Self, &'static str> {
        let text = |name| match value.get(name) {
            None => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or("a member of the wrong type"),
        };
        // Our copies of a token are zeroized; the bytes of the response are out of reach.
        let token =
            |name| text(name).map(|found| found.map(|text| Zeroizing::new(text.into_owned())));
        if !text("token_type")?.is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) {
            return Err("the token is not a Bearer token");
        }
        let access_token = token("access_token")?.ok_or("no access token")?;
        // RFC 6750 §2.1: the characters of a Bearer token.
        let is_b64_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if access_token.is_empty()
            || access_token.len() > LONGEST_TOKEN
            || !access_token.bytes().all(is_b64_token)
        {
            return Err("an access token that can't be sent");
        }
        let refresh_token = token("refresh_token")?;
        if refresh_token.as_ref().is_some_and(|token| {
            token.is_empty()
                || token.len() > LONGEST_TOKEN
                || !token.bytes().all(|byte| matches!(byte, 0x20..=0x7e))
        }) {
            return Err("a refresh token that can't be sent");
        }
        let scopes = text("scope")?
            .map(|text| Scopes::parse(&text))
            .transpose()
            .map_err(|_| "scopes that can't be read")?;
        let seconds = value.get("expires_in").and_then(Value::as_u64);
        let lifetime = seconds
            .filter(|seconds| (1..=LONGEST_LIFETIME).contains(seconds))
            .map_or(UNKNOWN_LIFETIME, Duration::from_secs);
        let issued_token_type = text("issued_token_type")?.map(|kind| kind.into());
        let secret = |token: Zeroizing<String>| Secret::new(token.as_bytes().to_vec());
        let (access_token, refresh_token) = (secret(access_token), refresh_token.map(secret));
        Ok(Self { access_token, refresh_token, lifetime, scopes, issued_token_type })
    }
}

/// Parses seconds only: a date would depend on the peer's clock.
fn retry_after(response: &Response<Bytes>) -> Option<Duration> {
    let text = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    text.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_after_without_seconds_is_ignored() {
        for (text, wait) in [
            ("7", Some(7)),
            ("0", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ] {
            let response =
                Response::builder().header("retry-after", text).body(Bytes::new()).unwrap();
            assert_eq!(retry_after(&response), wait.map(Duration::from_secs), "{text}");
        }
    }
}
