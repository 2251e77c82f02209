//! The sign-in page.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use maud::{Markup, html};

use super::{
    Site,
    headers::{Flow, page},
    layout::{hidden, layout, problem},
    outside::Outside,
    times::words_at_least,
};

/// The content of the sign-in page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SignInView<'a> {
    /// The name that the waiting application claims.
    pub(crate) waiting: Option<&'a str>,
    /// The sealed authorization request, if there is one.
    pub(crate) pending: Option<&'a str>,
    /// The user name that was sent before.
    pub(crate) user_name: &'a str,
    /// The token against forged forms.
    pub(crate) csrf: &'a str,
    /// Why the last attempt failed.
    pub(crate) problem: Option<SignInProblem>,
}

/// The reasons that a visitor learns. None of them shows whether a user exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignInProblem {
    /// The combination of user name and password is wrong.
    Wrong,
    /// Too many attempts.
    Throttled(Duration),
    /// The broker cannot check passwords at the moment.
    Busy(Duration),
}

impl SignInProblem {
    /// Returns the status of the page.
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::Wrong => StatusCode::UNAUTHORIZED,
            Self::Throttled(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Returns the time after which a retry may succeed.
    pub(crate) const fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Wrong => None,
            Self::Throttled(wait) | Self::Busy(wait) => Some(wait),
        }
    }

    pub(super) fn text(self) -> Markup {
        html! {
            @match self {
                Self::Wrong => "User name or password is wrong.",
                Self::Throttled(wait) => {
                    "Too many attempts. Try again in " (words_at_least(wait)) "."
                },
                Self::Busy(wait) => {
                    "Too many people are signing in. Try again in " (words_at_least(wait)) "."
                },
            }
        }
    }
}

/// Renders the sign-in page.
pub(crate) fn sign_in(site: &Site, view: &SignInView<'_>) -> Response<Bytes> {
    let status = view.problem.map_or(StatusCode::OK, SignInProblem::status);
    let title = if view.problem.is_some() { "Error: Sign in" } else { "Sign in" };
    let body = html! {
        h1 { "Sign in" }
        p.lead {
            @match view.waiting {
                Some(name) => { "to continue to " strong { (Outside(name)) } },
                None => { "to " strong { (site.name()) } },
            }
        }
        @if let Some(problem_) = view.problem { (problem("problem", &problem_.text())) }
        form method="post" action=(site.path("/sign-in")) { (fields(view)) }
    };
    page(status, Flow::FromApplication, layout(site, title, &body))
}

fn fields(view: &SignInView<'_>) -> Markup {
    let is_wrong = view.problem == Some(SignInProblem::Wrong);
    let described = view.problem.map(|_| "problem");
    let invalid = is_wrong.then_some("true");
    html! {
        (hidden("csrf", view.csrf))
        @if let Some(pending) = view.pending { (hidden("continue", pending)) }
        label for="user" { "User name" }
        input #user name="user" type="text" autocomplete="username" autocapitalize="none"
            spellcheck="false" maxlength="256" value=(view.user_name) required
            aria-invalid=[invalid] aria-describedby=[described]
            autofocus[view.user_name.is_empty()];
        label for="password" { "Password" }
        input #password name="password" type="password" autocomplete="current-password"
            maxlength="1024" required aria-invalid=[invalid] aria-describedby=[described]
            autofocus[!view.user_name.is_empty()];
        button.primary.wide type="submit" { "Sign in" }
    }
}
