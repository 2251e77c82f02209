//! Responses of a token endpoint, read once and tolerantly.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use token_broker_outbound::{FetchError, Fetched, GuardedClient};
use tower_token_broker::{Secret, clock::Clock, principal::Scopes};

use super::{
    denial::{self, Codes, Denial, Place},
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
    Denied { denial: Denial, problem: Problem, retry_after: Option<Duration> },
    /// Any other response: an outage, a limit, or nonsense.
    Failed { problem: Problem, may_be_refusal: bool, retry_after: Option<Duration> },
    /// A success that could not be read to its end: the server may have issued tokens.
    Unknown { problem: Problem },
}

impl NoTokens {
    /// Returns whether the server may have refused this grant, so that it counts if it lasts: any
    /// response of the token endpoint, unless the server is failing or busy, or does not accept the
    /// broker as a client.
    // G518: a dead grant has no code of its own at some servers, or several in turn.
    pub(crate) const fn may_be_refusal(&self) -> bool {
        match self {
            Self::Denied { denial, .. } => !matches!(denial, Denial::Client),
            Self::Failed { may_be_refusal, .. } => *may_be_refusal,
            Self::Unknown { .. } => false,
        }
    }
}

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
        let Fetched { response, incomplete, .. } = client.fetch_within(request, timeout).await?;
        // X23: lifetimes are counted from here, and other replicas use the resulting times.
        clock.compare_with_response(response.headers(), uri.host().unwrap_or_default());
        let read = Self::of(&response, incomplete.is_none(), requested, codes);
        match incomplete {
            // X08: where the whole object arrived, it may be the only copy of a rotated token,
            // whatever was to follow it.
            Some(error) if response.status().is_success() && !read.has_tokens() => Err(error),
            Some(_) | None => Ok(read),
        }
    }

    fn has_tokens(&self) -> bool {
        self.refresh_token.is_some() || self.tokens.is_ok()
    }

    /// Returns the refresh token, which must be kept first, and the other tokens.
    pub(crate) fn into_parts(self) -> (Option<Secret>, Result<Tokens, NoTokens>) {
        (self.refresh_token, self.tokens)
    }

    /// Reads a response. Nothing of its text is logged.
    fn of(
        response: &Response<Bytes>,
        is_whole: bool,
        requested: &Scopes,
        codes: Codes<'_>,
    ) -> Self {
        let status = response.status();
        let retry_after = retry_after(response);
        let failed = |cause, may_be_refusal| {
            let problem = Problem::because(cause).of_response(status, "");
            NoTokens::Failed { problem, may_be_refusal, retry_after }
        };
        // X511: of a failure that is not whole, the status counts, and nothing in the body.
        let object = match is_whole || status.is_success() {
            true => JsonObject::read(response.body()),
            false => Err(NotAnObject::Incomplete),
        };
        let is_page = !is_whole || is_page(response);
        let of_code = |code: Code| code.meaning(status, codes, retry_after);
        if status.is_success() {
            return match object {
                Ok(object) => Self {
                    refresh_token: tokens::refresh_token(&object),
                    tokens: match Code::of(&object, status) {
                        Some(code) => Err(of_code(code)),
                        None => Tokens::of(&object, requested).map_err(|cause| failed(cause, true)),
                    },
                },
                Err(NotAnObject::Other) => {
                    Self::without_token(failed("not a JSON object", !is_page))
                }
                Err(NotAnObject::Empty)
                    if status == StatusCode::NO_CONTENT || status == StatusCode::RESET_CONTENT =>
                {
                    Self::without_token(failed("no content", true))
                }
                // X08: a rotated token may be in the part that is missing.
                Err(NotAnObject::Empty | NotAnObject::Incomplete) => {
                    let problem = Problem::because("an incomplete token response");
                    let problem = problem.of_response(status, "");
                    Self::without_token(NoTokens::Unknown { problem })
                }
            };
        }
        let code = object.as_ref().ok().and_then(|object| Code::of(object, status));
        Self::without_token(match status.as_u16() {
            429 => failed("too many requests", false),
            // G517: of a proxy, or about the connection.
            407 | 408 | 421 | 425 | 431 => {
                failed("an error that is not of a token endpoint", false)
            }
            500..=599 => {
                // G518: an outage, but it may be how the server fails over a dead grant.
                let denial = code.and_then(|code| code.denial(codes));
                let is_of_grant = matches!(denial, Some(Denial::Grant | Denial::User));
                failed("the authorization server failed", is_of_grant)
            }
            400..=499 if object.is_ok() => of_code(code.unwrap_or(Code::Unknown)),
            400..=499 => failed("an error without a JSON object", !is_page),
            _ => failed("an unexpected status", false),
        })
    }

    const fn without_token(reason: NoTokens) -> Self {
        Self { refresh_token: None, tokens: Err(reason) }
    }
}

/// The error code of a response.
enum Code {
    Known(String, Place),
    /// There is an error, but no code, or several.
    Unknown,
}

impl Code {
    /// Finds the error code, wherever the status puts it: RFC 6749 §5.2 requires 400, and servers
    /// use others for the same errors.
    fn of(object: &JsonObject<'_>, status: StatusCode) -> Option<Self> {
        let of_error = match status {
            status if status.is_success() => Place::InSuccess,
            StatusCode::BAD_REQUEST => Place::InBadRequest,
            _ => Place::Elsewhere,
        };
        let mut found = None;
        for member in object.present("error") {
            let code = match &member {
                Member::Bool(false) => continue,
                Member::Number(number) if is_zero(number) => continue,
                Member::Text(code) => Some((code.to_string(), of_error)),
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
                    .map(|code| (code.to_string(), Place::Elsewhere)),
            };
            let code = code.map_or(Self::Unknown, |(code, place)| Self::Known(code, place));
            found = match (found, code) {
                (None, code) => Some(code),
                (Some(Self::Known(one, place)), Self::Known(other, _)) if one == other => {
                    Some(Self::Known(one, place))
                }
                (Some(_), _) => Some(Self::Unknown),
            };
        }
        // Some servers name it differently in an error of theirs.
        let elsewhere = || {
            let names = ["status", "code", "error_code", "errorCode"];
            let code = names.iter().find_map(|name| object.text(name))?;
            Some(Self::Known(code.to_string(), Place::Elsewhere))
        };
        found.or_else(|| if status.is_success() { None } else { elsewhere() })
    }

    fn denial(&self, codes: Codes<'_>) -> Option<Denial> {
        match self {
            Self::Known(code, place) => codes.denial(code, *place),
            Self::Unknown => None,
        }
    }

    fn meaning(
        self,
        status: StatusCode,
        codes: Codes<'_>,
        retry_after: Option<Duration>,
    ) -> NoTokens {
        let denial = self.denial(codes);
        let code = match &self {
            Self::Known(code, _) => code.as_str(),
            Self::Unknown => "",
        };
        let cause = denial.map_or("an error that is not about the grant", Denial::what);
        let problem = Problem::because(cause).of_response(status, code);
        match denial {
            Some(denial) => NoTokens::Denied { denial, problem, retry_after },
            None => {
                NoTokens::Failed { problem, may_be_refusal: !denial::is_outage(code), retry_after }
            }
        }
    }
}

/// Returns whether a response is a page, as proxies and firewalls respond: it names HTML, or begins
/// as HTML and XML do.
fn is_page(response: &Response<Bytes>) -> bool {
    let media = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let body = response.body();
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    media.is_some_and(|media| media.to_ascii_lowercase().starts_with(b"text/html"))
        || text.trim_ascii_start().starts_with(b"<")
}

/// Returns whether a number is zero, as it is written.
fn is_zero(number: &[u8]) -> bool {
    let mantissa = number.iter().take_while(|byte| !matches!(byte, b'e' | b'E'));
    mantissa.into_iter().all(|byte| matches!(byte, b'-' | b'.' | b'0'))
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
