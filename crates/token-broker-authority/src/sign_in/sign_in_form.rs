//! The sign-in page and its form.

use bytes::Bytes;
use http::Response;
use token_broker_store::authority::{AuthorityStore, LocalAccount};
use tower_token_broker::audit::{Note, SignInFailure};

use super::{
    BrowserRequest, Busy, Password,
    browser_pages::Shared,
    cookie::{self, CookieKind},
    form::Form,
    local_accounts::{SignInError, SignInOutcome},
    request::{see_other, with_cookie, with_retry_after},
};
use crate::{
    authorize::Pending,
    pages::{self, PageError, PasswordView, SignInProblem, SignInView},
};

/// The request or page that waits for a sign-in, as the browser carries it.
pub(super) struct Waiting {
    pub(super) sealed: String,
    /// Where the browser continues, on this site.
    location: String,
    /// The name that the waiting application claims; `None` if a page waits.
    application: Option<String>,
}

impl<S: AuthorityStore, A> Shared<S, A> {
    /// Shows the sign-in page; a user who is signed in continues.
    pub(super) async fn sign_in_page(&self, request: &BrowserRequest<'_>) -> Response<Bytes> {
        let Ok(waiting) = self.waiting(request.query("continue").as_deref()) else {
            return self.error(request, PageError::PendingExpired);
        };
        match self.session(request.headers).await {
            Ok(Some(_)) => see_other(&self.next(waiting.as_ref())),
            Ok(None) => self.sign_in_form(request, waiting.as_ref(), "", None),
            Err(_) => self.error(request, PageError::Unavailable),
        }
    }

    /// Signs a user in.
    pub(super) async fn sign_in(
        &self,
        request: &BrowserRequest<'_>,
        form: &Form,
    ) -> Response<Bytes> {
        // D098: before the password is looked at, so that another site learns nothing of it.
        if !self.is_form_of_visit(request.headers, form.get("csrf")) {
            // The form of a second tab, after the sign-in in the first one: the page continues, or
            // has a new form. Nothing of this one is used but the request that waits.
            let waiting = self.waiting(form.get("continue")).ok().flatten();
            let same_site = ["same-origin", "none"];
            let site = request.headers.get("sec-fetch-site").and_then(|site| site.to_str().ok());
            return match waiting.filter(|_| site.is_some_and(|site| same_site.contains(&site))) {
                Some(waiting) => see_other(&self.next(Some(&waiting))),
                None => self.error(request, PageError::Forged),
            };
        }
        let Ok(waiting) = self.waiting(form.get("continue")) else {
            return self.error(request, PageError::PendingExpired);
        };
        let user_name = form.get("user").unwrap_or_default();
        let password = form.get("password").unwrap_or_default();
        let problem = match self.authenticate(request, user_name, password).await {
            Ok(SignInOutcome::Right(account)) => {
                return self.signed_in(request, &account, waiting.as_ref()).await;
            }
            Ok(SignInOutcome::Wrong) => SignInProblem::Wrong,
            Ok(SignInOutcome::Throttled(wait)) => SignInProblem::Throttled(wait),
            Err(SignInError::Busy) => SignInProblem::Busy(Busy::RETRY_AFTER),
            Err(SignInError::Store(_) | SignInError::Audit(_)) => {
                return self.error(request, PageError::Unavailable);
            }
        };
        self.sign_in_form(request, waiting.as_ref(), user_name, Some(problem))
    }

    /// Continues after the right password: to a new one, or with a session.
    async fn signed_in(
        &self,
        request: &BrowserRequest<'_>,
        account: &LocalAccount,
        waiting: Option<&Waiting>,
    ) -> Response<Bytes> {
        if !account.must_change_password {
            return self.enter(request, account, &self.next(waiting)).await;
        }
        let user = self.user_of(account);
        let note = Note::sign_in_failed(Some(&user), SignInFailure::MustChangePassword);
        if self.note(request, None, note).await.is_err() {
            return self.error(request, PageError::Unavailable);
        }
        let visit = self.visit(request.headers);
        let view = PasswordView {
            user_name: account.name.as_str(),
            pending: waiting.map(|waiting| &*waiting.sealed),
            csrf: &visit.secret.form_token(),
            fewest_characters: Password::MIN_CHARACTERS,
            is_required: true,
            problem: None,
        };
        with_cookie(pages::password(&self.site, &view), visit.cookie)
    }

    /// Records the sign-in, begins the session, and redirects.
    pub(super) async fn enter(
        &self,
        request: &BrowserRequest<'_>,
        account: &LocalAccount,
        location: &str,
    ) -> Response<Bytes> {
        let user = self.user_of(account);
        // Without a record, there is no session.
        if self.note(request, Some(&user), Note::signed_in(&user)).await.is_err() {
            return self.error(request, PageError::Unavailable);
        }
        let Ok(cookie) = self.begin_session(request.headers, account).await else {
            return self.error(request, PageError::Unavailable);
        };
        let response = with_cookie(see_other(location), cookie);
        let response = with_cookie(response, self.device_cookie(account));
        with_cookie(response, cookie::remove(&self.site, CookieKind::Visit))
    }

    fn sign_in_form(
        &self,
        request: &BrowserRequest<'_>,
        waiting: Option<&Waiting>,
        user_name: &str,
        problem: Option<SignInProblem>,
    ) -> Response<Bytes> {
        let visit = self.visit(request.headers);
        let view = SignInView {
            waiting: waiting.and_then(|waiting| waiting.application.as_deref()),
            pending: waiting.map(|waiting| &*waiting.sealed),
            user_name,
            csrf: &visit.secret.form_token(),
            problem,
        };
        let response = with_cookie(pages::sign_in(&self.site, &view), visit.cookie);
        with_retry_after(response, problem.and_then(SignInProblem::retry_after))
    }
}

fn name_of(pending: &Pending) -> &str {
    pending.claimed_name().unwrap_or("an application without a name")
}

/// The sealed authorization request was changed, or has expired.
pub(super) struct NotWaiting;

impl<S, A> Shared<S, A> {
    /// Opens the sealed authorization request that a browser carries, if it carries one.
    // D525: only what the authorize endpoint or a page sealed is opened, and the next location is
    // in it.
    pub(super) fn waiting(&self, sealed: Option<&str>) -> Result<Option<Waiting>, NotWaiting> {
        let Some(sealed) = sealed else { return Ok(None) };
        let waiting = match self.pending.open(sealed) {
            Some(pending) => Waiting {
                sealed: sealed.to_owned(),
                location: pending.location().to_owned(),
                application: Some(name_of(&pending).to_owned()),
            },
            None => {
                let path = self.pending.open_page(sealed).ok_or(NotWaiting)?;
                let location = self.site.path(&path);
                Waiting { sealed: sealed.to_owned(), location, application: None }
            }
        };
        Ok(Some(waiting))
    }

    /// Returns where the browser continues after the sign-in.
    pub(super) fn next(&self, waiting: Option<&Waiting>) -> String {
        match waiting {
            Some(waiting) => waiting.location.clone(),
            None => self.site.path("/connections"),
        }
    }
}
