//! The page on which a user chooses another password, and its form.

use bytes::Bytes;
use http::Response;
use token_broker_store::authority::{AuthorityStore, LocalAccount, SetPassword};
use tower_token_broker::{Secret, audit::Note};

use super::{
    BrowserRequest, Busy, NewPasswordError, Password,
    browser_pages::Shared,
    form::Form,
    local_accounts::{SignInError, SignInOutcome},
    request::{see_other, with_cookie, with_retry_after},
    sign_in_form::Waiting,
};
use crate::pages::{self, PageError, PasswordProblem, PasswordView, SignInProblem};

/// A form whose origin was checked.
struct Change<'f> {
    user_name: &'f str,
    waiting: Option<Waiting>,
    /// Whether a user without a session sent it, after the sign-in with a password of someone else.
    is_required: bool,
}

impl<S: AuthorityStore, A> Shared<S, A> {
    /// Shows the page to a user who is signed in.
    pub(super) async fn password_page(&self, request: &BrowserRequest<'_>) -> Response<Bytes> {
        match self.session(request.headers).await {
            Ok(Some(user)) => {
                let (user_name, waiting) = (&*user.display_name, None);
                let change = Change { user_name, waiting, is_required: false };
                self.password_form(request, &change, None)
            }
            Ok(None) => see_other(&self.site.path("/sign-in")),
            Err(_) => self.error(request, PageError::Unavailable),
        }
    }

    /// Sets another password, if the current one is right, and signs the user in again: all other
    /// sessions are over, because the epoch of the account rises.
    pub(super) async fn change_password(
        &self,
        request: &BrowserRequest<'_>,
        form: &Form,
    ) -> Response<Bytes> {
        if !self.is_form_of_visit(request.headers, form.get("csrf")) {
            return self.error(request, PageError::Forged);
        }
        let Ok(waiting) = self.waiting(form.get("continue")) else {
            return self.error(request, PageError::PendingExpired);
        };
        let Ok(session) = self.session(request.headers).await else {
            return self.error(request, PageError::Unavailable);
        };
        let user_name = form.get("user").unwrap_or_default();
        let change = Change { user_name, waiting, is_required: session.is_none() };
        let new = form.get("new-password").unwrap_or_default();
        let password = match Password::new(new, user_name) {
            Ok(password) if form.get("password") != Some(new) => password,
            Ok(_) => return self.refuse(request, &change, PasswordProblem::New(SAME)),
            Err(error) => {
                return self.refuse(request, &change, PasswordProblem::New(error.sentence()));
            }
        };
        match self.set_password(request, &change, form, &password).await {
            Ok(Ok(account)) => {
                self.enter(request, &account, &self.next(change.waiting.as_ref())).await
            }
            Ok(Err(problem)) => self.refuse(request, &change, PasswordProblem::Current(problem)),
            Err(_) => self.error(request, PageError::Unavailable),
        }
    }

    async fn set_password(
        &self,
        request: &BrowserRequest<'_>,
        change: &Change<'_>,
        form: &Form,
        new: &Password,
    ) -> Result<Result<LocalAccount, SignInProblem>, SignInError> {
        let current = form.get("password").unwrap_or_default();
        let account = match self.authenticate(request, change.user_name, current).await {
            Ok(SignInOutcome::Right(account)) => account,
            Ok(SignInOutcome::Wrong) => return Ok(Err(SignInProblem::Wrong)),
            Ok(SignInOutcome::Throttled(wait)) => return Ok(Err(SignInProblem::Throttled(wait))),
            Err(SignInError::Busy) => return Ok(Err(SignInProblem::Busy(Busy::RETRY_AFTER))),
            Err(error) => return Err(error),
        };
        // S528
        let hashed = async {
            let place = self.passwords.place(account.name.as_key())?;
            self.passwords.hash_in(place, new).await
        };
        let Ok(hash) = hashed.await else {
            return Ok(Err(SignInProblem::Busy(Busy::RETRY_AFTER)));
        };
        // The password may have been set by an operator since, or the account disabled.
        let set = SetPassword::new(&account.subject, Secret::from_text(hash))
            .expected_epoch(account.epoch);
        let user = self.user_of(&account);
        // The record comes first: no password is set without one.
        self.note(request, Some(&user), Note::password_changed(&user)).await?;
        let changed = self.store.set_password(&set).await?;
        if changed.is_none() {
            let failed = Note::password_change_failed(&user);
            self.note(request, Some(&user), failed).await?;
        }
        if let Some(account) = &changed {
            // The sessions are over, and with them end the codes that were issued in them.
            self.store.end_sessions(&self.user_of(account), self.clock().now()).await?;
        }
        Ok(changed.filter(|account| account.enabled).ok_or(SignInProblem::Wrong))
    }

    fn refuse(
        &self,
        request: &BrowserRequest<'_>,
        change: &Change<'_>,
        problem: PasswordProblem,
    ) -> Response<Bytes> {
        let wait = match problem {
            PasswordProblem::Current(problem) => problem.retry_after(),
            PasswordProblem::New(_) => None,
        };
        with_retry_after(self.password_form(request, change, Some(problem)), wait)
    }

    fn password_form(
        &self,
        request: &BrowserRequest<'_>,
        change: &Change<'_>,
        problem: Option<PasswordProblem>,
    ) -> Response<Bytes> {
        let visit = self.visit(request.headers);
        let view = PasswordView {
            user_name: change.user_name,
            pending: change.waiting.as_ref().map(|waiting| &*waiting.sealed),
            csrf: &visit.secret.form_token(),
            fewest_characters: Password::MIN_CHARACTERS,
            is_required: change.is_required,
            problem,
        };
        with_cookie(pages::password(&self.site, &view), visit.cookie)
    }
}

const SAME: &str = "The new password is the current one. Choose another one.";

impl NewPasswordError {
    /// Returns what is wrong, as a sentence for users.
    pub(super) const fn sentence(self) -> &'static str {
        match self {
            Self::TooShort => "This password is too short. Use at least 15 characters.",
            Self::TooLong => "This password is too long. Use at most 1024 bytes.",
            Self::ControlCharacter => {
                "This password has a line break or another control character."
            }
            Self::Guessable => {
                "This password is easy to guess. Use several random words, without your user name."
            }
        }
    }
}
