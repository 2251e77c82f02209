//! Authorize endpoint: validates a request, asks the user, and issues the code.
//!
//! # Order
//! Client and redirect URI are verified first, then all parameters, then the user signs in, then
//! the consent page is shown, and only its form issues a code. Between these steps the browser
//! carries the request in a sealed value, so no table of requests is needed.
//!
//! # Errors
//! Until client and redirect URI are verified, an error is a page ([`AuthorizePageError`]) and
//! there is no redirect. From then on an error has a registered code. It is a redirect for
//! configured clients and for programs on the user's computer. For clients that describe
//! themselves, it is a page with a link ([`RefusedRequest`]), so that no one sends users to any
//! page by an error (RFC 9700 §4.11.2). Each redirect and link has `iss` (RFC 9207).
//!
//! # Limits
//! Query and form ≤ 64 KiB; `state` ≤ 2 KiB, printable ASCII; scopes ≤ 16 KiB. A code lives for a
//! minute, a consent form for 15 minutes, a request that waits for the sign-in for an hour.
//! A user allows 60 requests an hour ([`AuthorizeSettings::allowed_per_user`]).
//!
//! # Sources
//! OAuth 2.1 §4.1, RFC 7636, RFC 8252 §7, RFC 8707 §2.1, RFC 9207, RFC 9700 §4.

mod consent;
mod decision;
mod endpoint;
mod interaction;
mod pending;
mod redirect;
mod refused_request;
mod request;
mod ticket;

/// The parts that `readers` exposes.
#[cfg(feature = "fuzzing")]
pub(crate) mod readers {
    use super::redirect::{Answer, location};
    pub(crate) use super::request::{Refused, Verified, validate};
    use crate::{client::VerifiedRedirect, oauth_error::ErrorCode};

    pub(crate) fn redirect_location(
        to: &VerifiedRedirect,
        code: ErrorCode,
        state: Option<&str>,
    ) -> String {
        location(to, &Answer::Error(code), state, "https://broker.example.com")
    }
}

use std::time::Duration;

pub use self::{
    consent::{
        ClientIdentity, ConsentClient, ConsentRedirect, ConsentRequest, ConsentScope,
        ConsentServer, RedirectTarget,
    },
    interaction::{AuthorizePageError, Interaction, SessionsUnavailable, SignedIn},
    pending::{Pending, PendingRequests},
    refused_request::RefusedRequest,
};
pub(crate) use self::{endpoint::AuthorizeEndpoint, request::without_ignored};
use crate::limits::Quota;

/// Settings of the authorize endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "does nothing unless it is used"]
pub struct AuthorizeSettings {
    /// Lifetime of a code; 60 seconds by default.
    pub code_lifetime: Duration,
    /// Requests of one step (authorize, continue, decide) from one address, or 64 bits of IPv6; 120
    /// per minute by default. Four times as many from 48 bits of IPv6.
    pub per_address: Quota,
    /// Requests that one user may allow; 60 per hour by default. Each is a token family, whose end
    /// is a revocation. A form that is sent again counts once.
    pub allowed_per_user: Quota,
}

impl Default for AuthorizeSettings {
    fn default() -> Self {
        Self {
            code_lifetime: Duration::from_secs(60),
            per_address: Quota::per_minute(120),
            allowed_per_user: Quota::per_hour(60),
        }
    }
}
