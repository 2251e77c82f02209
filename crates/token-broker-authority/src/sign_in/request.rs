//! A request of a browser, and the responses that are no page.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use tower_token_broker::request_id::RequestId;

use crate::pages::harden;

/// A request of a browser to the pages, with its whole body.
///
/// Read at most [`BrowserRequest::MAX_BODY`] bytes of a body; refuse a longer one with 413.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct BrowserRequest<'r> {
    /// The method.
    pub method: &'r Method,
    /// The URI, as the client sent it.
    pub uri: &'r Uri,
    /// The headers.
    pub headers: &'r HeaderMap,
    /// The body.
    pub body: &'r Bytes,
    /// The address of the browser: of the first hop that is no trusted proxy. Limits on guessing
    /// passwords need it.
    pub peer: Option<SocketAddr>,
    /// The ID of the request, which error pages show.
    pub id: RequestId,
}

impl<'r> BrowserRequest<'r> {
    /// Most bytes of a body.
    pub const MAX_BODY: usize = super::form::MAX_FORM;

    /// Creates the request from its parts. The address of the browser is a [`SocketAddr`] in its
    /// extensions.
    pub fn new(request: &'r http::request::Parts, body: &'r Bytes, id: RequestId) -> Self {
        Self {
            method: &request.method,
            uri: &request.uri,
            headers: &request.headers,
            body,
            peer: request.extensions.get().copied(),
            id,
        }
    }

    /// Sets the address of the browser.
    #[must_use = "returns the new value"]
    pub const fn peer(mut self, peer: Option<SocketAddr>) -> Self {
        self.peer = peer;
        self
    }

    pub(super) fn query(&self, name: &str) -> Option<String> {
        super::form::query_parameter(self.uri.query(), name)
    }
}

/// Creates a redirect to a path of this site, by GET (303).
// D525: the location is one of our own paths, or one that a sealed request was opened to.
pub(super) fn see_other(location: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SEE_OTHER;
    // Our own paths and base64url are valid header values.
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    harden(response.headers_mut());
    response
}

/// Creates a redirect to an authorization server, by GET (303). Its URL has a `state`, and no
/// referrer follows it.
pub(super) fn see_other_site(location: &str) -> Response<Bytes> {
    let mut response = see_other(location);
    let headers = response.headers_mut();
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Adds a cookie to a response.
pub(super) fn with_cookie(
    mut response: Response<Bytes>,
    cookie: Option<HeaderValue>,
) -> Response<Bytes> {
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// Adds `Retry-After` to a response, in whole seconds, rounded up.
pub(super) fn with_retry_after(
    mut response: Response<Bytes>,
    wait: Option<Duration>,
) -> Response<Bytes> {
    if let Some(wait) = wait {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// Creates the response to another method.
pub(super) fn method_not_allowed(allowed: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    harden(response.headers_mut());
    response
}
