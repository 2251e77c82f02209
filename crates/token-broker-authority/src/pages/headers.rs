//! The headers of every page.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use maud::Markup;

/// The flow that a page is part of, which decides two of its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// A page that a user opens for its own sake.
    Own,
    /// A page on the way from an application and back to it.
    ///
    /// It has no opener policy: applications open it in a popup, and read the result through
    /// `window.opener` when the popup is back at their own page. A policy here would cut that.
    FromApplication,
    /// The consent page, whose form leads back to the application. It has no `form-action`.
    ///
    /// Chromium applies `form-action` to each redirect that follows the submission of a form (tried
    /// with version 148): with `'self'` it does not return to the application, and with the
    /// application's origin in addition, a further redirect of the application is blocked. Those
    /// are not known here: a page at `https://vscode.dev` redirects to `vscode:`. The directive is
    /// a second line of defence against markup injected into the page, and all text is escaped.
    Consent,
}

/// Creates the response of a page.
pub(super) fn page(status: StatusCode, flow: Flow, page: Markup) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(page.into_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    // D101: both, for browsers that know only the second.
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy(flow)));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    if flow == Flow::Own {
        headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    }
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    harden(headers);
    response
}

/// Adds the headers that each response of the authority to a browser has.
pub(crate) fn harden(headers: &mut http::HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Not `no-referrer`: with it, browsers send `Origin: null` with a form.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
}

const fn policy(flow: Flow) -> &'static str {
    match flow {
        Flow::Own | Flow::FromApplication => {
            "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; \
             base-uri 'none'"
        }
        Flow::Consent => {
            "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'"
        }
    }
}

const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
