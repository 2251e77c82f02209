//! An authorization request that is refused on a page.

use http::StatusCode;

use super::{ConsentClient, ConsentRedirect};
use crate::oauth_error::ErrorCode;

/// The facts of the error page of a request whose client chose its own redirect URI.
///
/// The client may have caused the error on purpose, so that users see its page
/// (RFC 9700 §4.11.2). Show where the link leads, and let the user follow it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RefusedRequest {
    /// The registered code of the error.
    pub code: ErrorCode,
    /// The client. Its name is a claim: render it escaped and truncated.
    pub client: ConsentClient,
    /// Where the link leads.
    pub redirect: ConsentRedirect,
    /// The redirect URI with the error, `state` and `iss`. Its scheme is `https`, or one of the
    /// application's own.
    pub link: Box<str>,
}

impl RefusedRequest {
    /// The status of the page.
    pub const STATUS: StatusCode = StatusCode::BAD_REQUEST;

    pub(crate) fn new(
        code: ErrorCode,
        client: ConsentClient,
        redirect: ConsentRedirect,
        link: &str,
    ) -> Self {
        Self { code, client, redirect, link: link.into() }
    }
}
