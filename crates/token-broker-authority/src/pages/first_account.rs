//! The page that creates the first account.

use bytes::Bytes;
use http::{Response, StatusCode};
use maud::{Markup, html};
use tower_token_broker::clock::Timestamp;

use super::{
    Site,
    headers::{Flow, page},
    layout::{hidden, layout, problem},
    password::hint,
    times::from_now,
};

/// The content of the page of the first account.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FirstAccountView<'a> {
    /// The secret of the one-time link.
    pub(crate) link: &'a str,
    /// The user name that was sent before.
    pub(crate) user_name: &'a str,
    /// From when on the link is invalid.
    pub(crate) link_ends: Timestamp,
    /// The token against forged forms.
    pub(crate) csrf: &'a str,
    /// Fewest characters of a password.
    pub(crate) fewest_characters: usize,
    /// Why the last attempt failed.
    pub(crate) problem: Option<FirstAccountProblem>,
}

/// The reasons why no account was created.
#[derive(Clone, Debug, PartialEq, Eq, Copy)]
pub(crate) enum FirstAccountProblem {
    /// The user name cannot be used; the text is a sentence.
    UserName(&'static str),
    /// The password cannot be used; the text is a sentence.
    Password(&'static str),
}

/// Renders the page of the first account.
pub(crate) fn first_account(
    site: &Site,
    view: &FirstAccountView<'_>,
    now: Timestamp,
) -> Response<Bytes> {
    let (status, title) = match view.problem {
        None => (StatusCode::OK, "Create the first account"),
        Some(_) => (StatusCode::BAD_REQUEST, "Error: Create the first account"),
    };
    let body = html! {
        h1 { "Create the first account" }
        p.lead {
            "Who will administer " strong { (site.name()) } " at " strong { (site.host()) } "?"
        }
        form method="post" action=(site.path("/first-account")) { (fields(view)) }
        p.muted { "This link works once, and ends " (from_now(now, view.link_ends)) "." }
    };
    page(status, Flow::Own, layout(site, title, &body))
}

fn fields(view: &FirstAccountView<'_>) -> Markup {
    let (name, password) = match view.problem {
        None => (None, None),
        Some(FirstAccountProblem::UserName(text)) => (Some(text), None),
        Some(FirstAccountProblem::Password(text)) => (None, Some(text)),
    };
    html! {
        (hidden("csrf", view.csrf))
        (hidden("link", view.link))
        label for="user" { "User name" }
        @if let Some(text) = name { (problem("user-problem", &html! { (text) })) }
        input #user name="user" type="text" autocomplete="username" autocapitalize="none"
            spellcheck="false" maxlength="64" value=(view.user_name) required
            aria-invalid=[name.map(|_| "true")] aria-describedby=[name.map(|_| "user-problem")]
            autofocus[password.is_none()];
        label for="password" { "Password" }
        @if let Some(text) = password { (problem("password-problem", &html! { (text) })) }
        (hint(view.fewest_characters))
        input #password name="password" type="password" autocomplete="new-password"
            minlength=(view.fewest_characters) maxlength="1024" required
            aria-invalid=[password.map(|_| "true")]
            aria-describedby=(if password.is_some() { "password-problem hint" } else { "hint" })
            autofocus[password.is_some()];
        button.primary.wide type="submit" { "Create account" }
    }
}
