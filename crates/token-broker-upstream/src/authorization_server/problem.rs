//! Why a request to a token endpoint failed, as the log names it.

use http::{StatusCode, Uri};
use token_broker_outbound::FetchError;

/// Why a request to a token endpoint failed, for the log. It contains no text of the server: an
/// error code is one of ours, which the server's was compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    cause: &'static str,
    status: Option<StatusCode>,
    error_code: Option<&'static str>,
    fetch: Option<FetchError>,
}

impl Problem {
    /// Creates a problem that is not about a response.
    pub(crate) const fn because(cause: &'static str) -> Self {
        Self { cause, status: None, error_code: None, fetch: None }
    }

    /// Creates the problem of a request without a response.
    pub(crate) const fn fetch(error: FetchError) -> Self {
        Self { cause: error.code(), status: None, error_code: None, fetch: Some(error) }
    }

    /// Adds the status and the error code of the response. A code that is not registered is left
    /// out.
    pub(super) fn of_response(mut self, status: StatusCode, code: &str) -> Self {
        self.status = Some(status);
        let is = |known: &&&str| known.eq_ignore_ascii_case(code);
        self.error_code = REGISTERED.iter().find(is).copied();
        self
    }

    pub(crate) const fn cause(&self) -> &'static str {
        self.cause
    }

    pub(crate) fn status(&self) -> Option<u16> {
        self.status.map(|status| status.as_u16())
    }

    pub(crate) const fn error_code(&self) -> Option<&'static str> {
        self.error_code
    }

    /// Returns the error of the fetch, for the log.
    pub(crate) fn error(&self) -> Option<String> {
        self.fetch.map(|error| error.to_string())
    }

    /// Returns the call that would allow the request, if the guard blocked it.
    pub(crate) fn remedy(&self, endpoint: &Uri) -> Option<String> {
        self.fetch.and_then(|error| error.remedy(endpoint))
    }
}

// R499
/// Error codes that may be in the log: those of the IANA registry "OAuth Extensions Error", of RFC
/// 6749 §5.2, RFC 8628 §3.5 and OpenID Connect Core §3.1.2.6, and those that providers are known to
/// use (see `denial.rs`).
const REGISTERED: &[&str] = &[
    "access_denied",
    "account_selection_required",
    "authorization_pending",
    "consent_required",
    "expired_token",
    "insufficient_scope",
    "insufficient_user_authentication",
    "interaction_required",
    "invalid_authorization_details",
    "invalid_client",
    "invalid_client_metadata",
    "invalid_dpop_proof",
    "invalid_grant",
    "invalid_request",
    "invalid_request_object",
    "invalid_request_uri",
    "invalid_scope",
    "invalid_target",
    "invalid_token",
    "login_required",
    "need_info",
    "request_denied",
    "request_not_supported",
    "request_submitted",
    "request_uri_not_supported",
    "server_error",
    "slow_down",
    "temporarily_unavailable",
    "unauthorized_client",
    "unmet_authentication_requirements",
    "unsupported_grant_type",
    "unsupported_token_type",
    "use_dpop_nonce",
    "bad_refresh_token",
    "invalid_code",
    "invalid_refresh_token",
    "ratelimited",
    "token_expired",
    "token_revoked",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r499_only_registered_codes_are_shown() {
        for (code, shown) in [
            ("invalid_grant", Some("invalid_grant")),
            ("INVALID_SCOPE", Some("invalid_scope")),
            ("use_dpop_nonce", Some("use_dpop_nonce")),
            ("BAD_REFRESH_TOKEN", Some("bad_refresh_token")),
            // Text of the server: it may contain a token, or lines of a forged log.
            ("", None),
            ("invalid_grant ", None),
            ("invalid_grant\nERROR forged", None),
            ("invalid_grant: rt-4f2a", None),
            ("rt-4f2a", None),
            ("invalid\u{5f}gra\u{200b}nt", None),
        ] {
            let problem = Problem::because("a cause").of_response(StatusCode::BAD_REQUEST, code);
            assert_eq!(problem.error_code(), shown, "R499 {code:?}");
            assert_eq!(problem.status(), Some(400), "R499 {code:?}");
        }
    }
}
