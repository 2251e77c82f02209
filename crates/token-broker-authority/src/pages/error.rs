//! Error pages: what happened, what to do, and the ID of the request.

use bytes::Bytes;
use http::{Response, StatusCode};
use maud::{Markup, html};
use tower_token_broker::request_id::RequestId;

use super::{
    Site,
    headers::{Flow, page},
    layout::layout,
    outside::{Outside, OutsideHost},
};
use crate::authorize::{AuthorizePageError, RefusedRequest};

/// The reasons why a page of a user's own account is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageError {
    /// The form cannot be read.
    FormUnreadable,
    /// The form did not come from our page, or the browser sent no cookie.
    Forged,
    /// The request of the waiting application has expired, or was changed.
    PendingExpired,
    /// The one-time link was used or replaced, or has expired.
    LinkInvalid,
    /// There is an account already.
    NotFirst,
    /// The broker cannot process the request now.
    Unavailable,
    /// Ending access failed in part.
    NotEnded,
}

impl PageError {
    #[cfg(test)]
    pub(crate) const ALL: &'static [Self] = &[
        Self::FormUnreadable,
        Self::Forged,
        Self::PendingExpired,
        Self::LinkInvalid,
        Self::NotFirst,
        Self::Unavailable,
        Self::NotEnded,
    ];

    const fn status(self) -> StatusCode {
        match self {
            Self::FormUnreadable | Self::PendingExpired => StatusCode::BAD_REQUEST,
            Self::Forged => StatusCode::FORBIDDEN,
            Self::LinkInvalid | Self::NotFirst => StatusCode::GONE,
            Self::Unavailable | Self::NotEnded => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    const fn what_happened(self) -> &'static str {
        match self {
            Self::FormUnreadable => "The form could not be read.",
            Self::Forged => {
                "The form was not sent from this site's page, or your browser did not send its \
                 cookie."
            }
            Self::PendingExpired => "The request of your application has expired.",
            Self::LinkInvalid => "This link was used or replaced, or its hour is over.",
            Self::NotFirst => "There is an account already, so this link is of no use any more.",
            Self::Unavailable => "The broker cannot process your request at the moment.",
            Self::NotEnded => "Not all access could be ended.",
        }
    }

    const fn what_to_do(self) -> &'static str {
        match self {
            Self::FormUnreadable => "Go back, load the page again, and send the form once more.",
            Self::Forged => {
                "Allow cookies for this site, then open the page again and send the form."
            }
            Self::PendingExpired => "Close this window and sign in again from your application.",
            Self::LinkInvalid => "A new link is made on the computer that runs the broker:",
            Self::NotFirst => "Sign in, or ask the people who run this broker for an account.",
            Self::Unavailable => "Wait a minute, then try again.",
            Self::NotEnded => {
                "Open the list of connections and try again until it is empty. If it stays, ask \
                 the people who run this broker to end your access."
            }
        }
    }

    const fn link(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::FormUnreadable | Self::Forged | Self::Unavailable | Self::NotFirst => {
                Some(("/sign-in", "Go to the sign-in page"))
            }
            Self::PendingExpired => Some(("/connections", "Go to your connections")),
            Self::NotEnded => Some(("/connections", "Open the list of connections")),
            Self::LinkInvalid => None,
        }
    }
}

/// Renders the error page of a user's own account.
pub(crate) fn error(site: &Site, error: PageError, request: RequestId) -> Response<Bytes> {
    let is_link = error == PageError::LinkInvalid;
    let command = site.command_for_links().filter(|_| is_link);
    let what_to_do = match (is_link, command) {
        (true, None) => "Ask the people who run this broker for a new link.",
        (true, Some(_)) | (false, _) => error.what_to_do(),
    };
    render(
        site,
        &View {
            status: error.status(),
            what_happened: error.what_happened(),
            what_to_do,
            command,
            link: error.link(),
            request,
        },
        None,
    )
}

/// Renders the error page of an authorization request.
pub(crate) fn authorize_error(
    site: &Site,
    error: AuthorizePageError,
    request: RequestId,
) -> Response<Bytes> {
    let (status, what_happened) = (error.status(), error.what_happened());
    let what_to_do = error.what_to_do();
    let view = View { status, what_happened, what_to_do, command: None, link: None, request };
    render(site, &view, None)
}

/// Renders the error page of a request that is refused, with a link to the client.
pub(crate) fn refused_request(
    site: &Site,
    refused: &RefusedRequest,
    request: RequestId,
) -> Response<Bytes> {
    let name = refused.client.claimed_name.as_deref().unwrap_or("An application without a name");
    let host = OutsideHost(&refused.redirect.host);
    let body = html! {
        h1 { "That did not work" }
        p.lead {
            "An application that says it is " strong { (Outside(name)) }
            " sent you here with a request that this broker refuses ("
            code { (refused.code.as_str()) } ")."
        }
        p {
            "If you came here from it on purpose, go back to it. If you did not expect this page, \
             close this window."
        }
        p { a.button.secondary.wide href=(refused.link) rel="noreferrer" { "Go to " (host) } }
        (request_id(request))
    };
    page(RefusedRequest::STATUS, Flow::FromApplication, layout(site, "Error", &body))
}

/// Renders the ID of a request.
fn request_id(request: RequestId) -> Markup {
    html! {
        p.muted.small {
            "If it happens again, report this request to the people who run this broker: "
            code { (request.to_string()) }
        }
    }
}

/// The content of an error page.
pub(super) struct View<'a> {
    pub(super) status: StatusCode,
    /// A sentence.
    pub(super) what_happened: &'a str,
    /// A sentence.
    pub(super) what_to_do: &'a str,
    /// A command that the user may run, after [`View::what_to_do`].
    pub(super) command: Option<&'a str>,
    /// A link to continue: path and label.
    pub(super) link: Option<(&'a str, &'a str)>,
    pub(super) request: RequestId,
}

/// Renders an error page, with a second way to continue if there is one.
pub(super) fn render(site: &Site, view: &View<'_>, other: Option<(&str, &str)>) -> Response<Bytes> {
    let body = html! {
        h1 { "That did not work" }
        p.lead { (view.what_happened) }
        p { (view.what_to_do) }
        @if let Some(command) = view.command { pre tabindex="0" { code { (command) } } }
        @if let Some((path, label)) = view.link {
            p { a.button.secondary.wide href=(site.path(path)) { (label) } }
        }
        @if let Some((path, label)) = other { p { a href=(site.path(path)) { (label) } } }
        (request_id(view.request))
    };
    page(view.status, Flow::FromApplication, layout(site, "Error", &body))
}
