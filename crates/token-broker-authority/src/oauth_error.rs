//! Error responses: the registered codes, and the channel of each.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;

/// A registered error code (RFC 6749 §4.1.2.1 and 5.2, RFC 7591 §3.2.2, RFC 8707 §2, OpenID Connect
/// Core §3.1.2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// A parameter is missing, repeated, malformed or not supported.
    InvalidRequest,
    /// The client is unknown, or did not authenticate.
    InvalidClient,
    /// The code or refresh token is not valid, or not this client's.
    InvalidGrant,
    /// The client may not use this grant type.
    UnauthorizedClient,
    /// The grant type is not supported.
    UnsupportedGrantType,
    /// The response type is not supported.
    UnsupportedResponseType,
    /// A scope is unknown, or was not granted.
    InvalidScope,
    /// The resource is unknown, or another one than granted.
    InvalidTarget,
    /// The user denied access.
    AccessDenied,
    /// The client wants no page, and there is no access without one.
    ConsentRequired,
    /// Request objects are not supported.
    RequestNotSupported,
    /// References to request objects are not supported.
    RequestUriNotSupported,
    /// A redirect URI cannot be registered.
    InvalidRedirectUri,
    /// The metadata of a client cannot be registered.
    InvalidClientMetadata,
    /// The server cannot process the request now.
    TemporarilyUnavailable,
    /// The server failed.
    ServerError,
}

impl ErrorCode {
    /// Returns the code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::UnsupportedResponseType => "unsupported_response_type",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::AccessDenied => "access_denied",
            Self::ConsentRequired => "consent_required",
            Self::RequestNotSupported => "request_not_supported",
            Self::RequestUriNotSupported => "request_uri_not_supported",
            Self::InvalidRedirectUri => "invalid_redirect_uri",
            Self::InvalidClientMetadata => "invalid_client_metadata",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
            Self::ServerError => "server_error",
        }
    }
}

/// An error response with a JSON body, of the token, revocation and registration endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndpointError {
    pub(crate) code: ErrorCode,
    /// A fixed text: what is wrong. It repeats nothing from the request.
    pub(crate) description: &'static str,
    status: StatusCode,
    retry_after: Option<Duration>,
}

impl EndpointError {
    /// The caller's mistake: 400.
    pub(crate) const fn new(code: ErrorCode, description: &'static str) -> Self {
        Self { code, description, status: StatusCode::BAD_REQUEST, retry_after: None }
    }

    /// The client did not authenticate: 401.
    pub(crate) const fn invalid_client(description: &'static str) -> Self {
        let error = Self::new(ErrorCode::InvalidClient, description);
        Self { status: StatusCode::UNAUTHORIZED, ..error }
    }

    /// Too many requests: 429.
    pub(crate) const fn too_many(wait: Duration) -> Self {
        let description = "too many requests; try again later";
        let error = Self::new(ErrorCode::TemporarilyUnavailable, description);
        Self { status: StatusCode::TOO_MANY_REQUESTS, retry_after: Some(wait), ..error }
    }

    /// The store, the audit log or a client's document is not available: 503.
    pub(crate) const fn unavailable(description: &'static str) -> Self {
        let error = Self::new(ErrorCode::TemporarilyUnavailable, description);
        let retry_after = Some(Duration::from_secs(5));
        Self { status: StatusCode::SERVICE_UNAVAILABLE, retry_after, ..error }
    }

    /// Another status of the same error, such as 405 and 413.
    pub(crate) const fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    pub(crate) fn response(self) -> Response<Bytes> {
        let body = json!({
            "error": self.code.as_str(),
            "error_description": self.description,
        });
        let mut response = json_response(self.status, &body);
        let headers = response.headers_mut();
        // F136: RFC 6749 §5.2.
        if self.code == ErrorCode::InvalidClient {
            let challenge = HeaderValue::from_static("Basic realm=\"token-broker\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        // RFC 9110 §15.5.6.
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        response
    }
}

/// Returns the seconds of `Retry-After`: rounded up, at least one.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// Returns a JSON response that is never stored (RFC 6749 §5.1).
// F139
pub(crate) fn json_response(status: StatusCode, body: &serde_json::Value) -> Response<Bytes> {
    no_store_json(status, Bytes::from(body.to_string()))
}

pub(crate) fn no_store_json(status: StatusCode, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
