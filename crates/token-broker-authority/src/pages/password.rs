//! The page on which a user chooses another password.

use bytes::Bytes;
use http::{Response, StatusCode};
use maud::{Markup, html};

use super::{
    Site,
    headers::{Flow, page},
    layout::{hidden, layout, problem},
    sign_in::SignInProblem,
};

/// The content of the page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PasswordView<'a> {
    /// The user name.
    pub(crate) user_name: &'a str,
    /// The sealed authorization request, if there is one.
    pub(crate) pending: Option<&'a str>,
    /// The token against forged forms.
    pub(crate) csrf: &'a str,
    /// Fewest characters of a password.
    pub(crate) fewest_characters: usize,
    /// Whether the user must choose another password to sign in.
    pub(crate) is_required: bool,
    /// Why the last attempt failed.
    pub(crate) problem: Option<PasswordProblem>,
}

/// The reasons why the password was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PasswordProblem {
    /// The current password is wrong, or cannot be checked.
    Current(SignInProblem),
    /// The new password cannot be used; the text is a sentence.
    New(&'static str),
}

impl PasswordProblem {
    const fn status(self) -> StatusCode {
        match self {
            Self::Current(problem) => problem.status(),
            Self::New(_) => StatusCode::BAD_REQUEST,
        }
    }
}

/// Renders the page.
pub(crate) fn password(site: &Site, view: &PasswordView<'_>) -> Response<Bytes> {
    let status = view.problem.map_or(StatusCode::OK, PasswordProblem::status);
    let title = match view.problem {
        Some(_) => "Error: Choose a new password",
        None => "Choose a new password",
    };
    let body = html! {
        h1 { "Choose a new password" }
        p.lead {
            @if view.is_required { "The current one was set by someone else, so only you will know \
                                    the new one." }
            @else { "Your other browsers are signed out then; applications keep their access." }
        }
        form method="post" action=(site.path("/password")) { (fields(view)) }
    };
    page(status, Flow::FromApplication, layout(site, title, &body))
}

fn fields(view: &PasswordView<'_>) -> Markup {
    let (current, new) = match view.problem {
        None => (None, None),
        Some(PasswordProblem::Current(SignInProblem::Wrong)) => {
            (Some(html! { "The current password is wrong." }), None)
        }
        Some(PasswordProblem::Current(problem)) => (Some(problem.text()), None),
        Some(PasswordProblem::New(text)) => (None, Some(html! { (text) })),
    };
    let invalid = |is_wrong: bool| is_wrong.then_some("true");
    html! {
        (hidden("csrf", view.csrf))
        @if let Some(pending) = view.pending { (hidden("continue", pending)) }
        label for="user" { "User name" }
        input #user name="user" type="text" autocomplete="username" value=(view.user_name) readonly;
        label for="current" { "Current password" }
        @if let Some(text) = &current { (problem("current-problem", text)) }
        input #current name="password" type="password" autocomplete="current-password"
            maxlength="1024" required aria-invalid=[invalid(current.is_some())]
            aria-describedby=[current.as_ref().map(|_| "current-problem")]
            autofocus[new.is_none()];
        label for="new" { "New password" }
        @if let Some(text) = &new { (problem("new-problem", text)) }
        (hint(view.fewest_characters))
        input #new name="new-password" type="password" autocomplete="new-password"
            minlength=(view.fewest_characters) maxlength="1024" required
            aria-invalid=[invalid(new.is_some())]
            aria-describedby=(if new.is_some() { "new-problem hint" } else { "hint" })
            autofocus[new.is_some()];
        button.primary.wide type="submit" { "Set password" }
    }
}

/// Renders the hint for a strong password, whose ID is `hint`.
pub(super) fn hint(fewest_characters: usize) -> Markup {
    html! {
        p #hint .hint {
            "At least " (fewest_characters) " characters. Four or five random words are strong and \
             easy to remember; a password manager makes even better ones."
        }
    }
}
