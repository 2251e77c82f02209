//! The page after signing out.

use bytes::Bytes;
use http::{Response, StatusCode};
use maud::html;

use super::{
    Site,
    headers::{Flow, page},
    layout::layout,
};

/// The extent of signing out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignedOut {
    /// The session of this browser.
    Here,
    /// All sessions and all access.
    Everywhere,
}

/// Renders the page after signing out.
pub(crate) fn signed_out(site: &Site, what: SignedOut) -> Response<Bytes> {
    let body = html! {
        h1 { "You are signed out" }
        p.lead {
            @match what {
                SignedOut::Here => {
                    "Applications that you allowed keep their access. You can close this window."
                },
                SignedOut::Everywhere => {
                    "You are signed out in every browser, and every application must sign in again."
                },
            }
        }
        p { a.button.secondary.wide href=(site.path("/connections")) { "Sign in again" } }
    };
    page(StatusCode::OK, Flow::Own, layout(site, "Signed out", &body))
}
