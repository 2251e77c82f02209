//! Responses of a token endpoint, read once and tolerantly.

use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use token_broker_outbound::{FetchError, GuardedClient};
use tower_token_broker::{Secret, clock::Clock, principal::Scopes};

use super::{
    denial::{self, Codes, Denial},
    json_object::{JsonObject, Member, NotAnObject},
    problem::Problem,
    tokens::{self, Tokens},
};

/// Timeout of a request to a token endpoint, to the last byte of its response.
pub(crate) const TOKEN_ENDPOINT_TIMEOUT: Duration = Duration::from_secs(8);

/// Response of a token endpoint. Its refresh token and its other tokens are available only
/// together: the refresh token is kept first, whatever the rest of the response states.
#[derive(Debug)]
#[must_use = "it may contain the only copy of a rotated refresh token"]
pub(crate) struct TokenResponse {
    refresh_token: Option<Secret>,
    tokens: Result<Tokens, NoTokens>,
}

/// The reasons why a response has no tokens that can be used, apart from its refresh token.
#[derive(Debug)]
pub(crate) enum NoTokens {
    /// A known error code: the server refuses.
    Denied {
        denial: Denial,
        problem: Problem,
        refusal: Option<Refusal>,
        retry_after: Option<Duration>,
    },
    /// Any other response: an outage, a limit, or nonsense. It does not concern the caller.
    Failed { problem: Problem, refusal: Option<Refusal>, retry_after: Option<Duration> },
    /// A success that could not be read to its end: the server may have issued tokens.
    Unknown { problem: Problem },
}

/// Identifies a refusal by its status and error code, so that the next one can be compared with
/// it. Only responses of the token endpoint itself have one: a JSON object, of a server that is
/// neither failing nor busy, and that accepts the broker as a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal(pub(crate) u64);

impl TokenResponse {
    /// Sends the request once, within `timeout`. `requested` are its scopes.
    // X08: never a second time by itself.
    pub(crate) async fn to(
        request: Request<Bytes>,
        requested: &Scopes,
        codes: Codes<'_>,
        (client, timeout): (&GuardedClient, Duration),
        clock: &Clock,
    ) -> Result<Self, FetchError> {
        let uri = request.uri().clone();
        // X511: the client's own timeout, which keeps the status if only the body is late.
        let response = client.fetch_within(request, timeout).await?;
        // X23: lifetimes are counted from here, and other replicas use the resulting times.
        clock.compare_with_response(response.headers(), uri.host().unwrap_or_default());
        Ok(Self::of(&response, requested, codes))
    }

    /// Returns the refresh token, which must be kept first, and the other tokens.
    pub(crate) fn into_parts(self) -> (Option<Secret>, Result<Tokens, NoTokens>) {
        (self.refresh_token, self.tokens)
    }

    /// Reads a response. Nothing of its text is logged.
    fn of(response: &Response<Bytes>, requested: &Scopes, codes: Codes<'_>) -> Self {
        let status = response.status();
        let retry_after = retry_after(response);
        let failed = |cause| {
            let problem = Problem::because(cause).of_response(status, "");
            NoTokens::Failed { problem, refusal: None, retry_after }
        };
        let object = JsonObject::read(response.body());
        if status.is_success() {
            return match object {
                Ok(object) => Self {
                    refresh_token: tokens::refresh_token(&object),
                    tokens: match Code::of(&object, status) {
                        Some(code) => Err(code.meaning(status, codes, retry_after)),
                        None => Tokens::of(&object, requested).map_err(failed),
                    },
                },
                Err(NotAnObject::Other) => Self::without_token(failed("not a JSON object")),
                Err(NotAnObject::Empty)
                    if status == StatusCode::NO_CONTENT || status == StatusCode::RESET_CONTENT =>
                {
                    Self::without_token(failed("no content"))
                }
                // X08: a rotated token may be in the part that is missing.
                Err(NotAnObject::Empty | NotAnObject::Incomplete) => {
                    let problem = Problem::because("an incomplete token response");
                    let problem = problem.of_response(status, "");
                    Self::without_token(NoTokens::Unknown { problem })
                }
            };
        }
        Self::without_token(match status.as_u16() {
            429 => failed("too many requests"),
            500..=599 => failed("the authorization server failed"),
            400..=499 => match object {
                Ok(object) => {
                    let code = Code::of(&object, status).unwrap_or(Code::Unknown);
                    code.meaning(status, codes, retry_after)
                }
                Err(_) => failed("an error without a JSON object"),
            },
            _ => failed("an unexpected status"),
        })
    }

    const fn without_token(reason: NoTokens) -> Self {
        Self { refresh_token: None, tokens: Err(reason) }
    }
}

/// The error code of a response.
enum Code {
    Known(String),
    /// There is an error, but no code, or several.
    Unknown,
}

impl Code {
    /// Finds the error code, wherever the status puts it: RFC 6749 §5.2 requires 400, and servers
    /// use others for the same errors.
    fn of(object: &JsonObject<'_>, status: StatusCode) -> Option<Self> {
        let mut found = None;
        for member in object.present("error") {
            let code = match &member {
                Member::Bool(false) => continue,
                Member::Number(number) if is_zero(number) => continue,
                Member::Text(code) => Some(code.to_string()),
                // Of an error with parts, its code.
                Member::Null
                | Member::Bool(true)
                | Member::Number(_)
                | Member::NotText
                | Member::Array(_)
                | Member::Object(_) => member
                    .object()
                    .and_then(|object| {
                        ["code", "type", "status"].iter().find_map(|name| object.text(name))
                    })
                    .map(|code| code.to_string()),
            };
            let code = code.map_or(Self::Unknown, Self::Known);
            found = match (found, code) {
                (None, code) => Some(code),
                (Some(Self::Known(one)), Self::Known(other)) if one == other => {
                    Some(Self::Known(one))
                }
                (Some(_), _) => Some(Self::Unknown),
            };
        }
        // Some servers name it differently in an error of theirs.
        let elsewhere = || {
            let names = ["status", "code", "error_code", "errorCode"];
            let code = names.iter().find_map(|name| object.text(name))?;
            Some(Self::Known(code.to_string()))
        };
        found.or_else(|| if status.is_success() { None } else { elsewhere() })
    }

    fn meaning(
        self,
        status: StatusCode,
        codes: Codes<'_>,
        retry_after: Option<Duration>,
    ) -> NoTokens {
        let code = match &self {
            Self::Known(code) => code.as_str(),
            Self::Unknown => "",
        };
        let is_outage = denial::is_outage(code) || status == StatusCode::REQUEST_TIMEOUT;
        let refusal = (!is_outage).then(|| Refusal::of(status, code));
        let denial = codes.denial(code);
        let cause = denial.map_or("an error that is not about the grant", Denial::what);
        let problem = Problem::because(cause).of_response(status, code);
        match denial {
            Some(denial) => {
                let refusal = refusal.filter(|_| denial != Denial::Client);
                NoTokens::Denied { denial, problem, refusal, retry_after }
            }
            None => NoTokens::Failed { problem, refusal, retry_after },
        }
    }
}

/// Returns whether a number is zero, as it is written.
fn is_zero(number: &[u8]) -> bool {
    let mantissa = number.iter().take_while(|byte| !matches!(byte, b'e' | b'E'));
    mantissa.into_iter().all(|byte| matches!(byte, b'-' | b'.' | b'0'))
}

impl Refusal {
    /// The code is text of the server, which is not stored.
    fn of(status: StatusCode, code: &str) -> Self {
        let text = format!("{} {code}", status.as_u16());
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        let first = hash.as_ref().first_chunk().copied().unwrap_or_default();
        Self(u64::from_be_bytes(first))
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
