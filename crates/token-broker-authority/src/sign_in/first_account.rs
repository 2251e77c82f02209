//! The page of the first account, and its form.

use bytes::Bytes;
use http::Response;
use token_broker_store::{
    StoreError,
    authority::{
        AuthorityStore, CreateFirstAccount, FirstAccount, LinkState, LookupHash, NewAccount,
        UserName, UserNameError,
    },
};
use tower_token_broker::{Secret, audit::Note, clock::Timestamp, principal::User};

use super::{
    BrowserRequest, BrowserSecret, Busy, Password,
    browser_pages::Shared,
    form::Form,
    link::random_id,
    request::{with_cookie, with_retry_after},
};
use crate::pages::{self, FirstAccountProblem, FirstAccountView, PageError};

/// A link with which the first account can be created.
struct ValidLink {
    hash: LookupHash,
    expires_at: Timestamp,
}

impl<S: AuthorityStore, A> Shared<S, A> {
    /// Shows the page of the first account, if the link is valid.
    pub(super) async fn first_account_page(&self, request: &BrowserRequest<'_>) -> Response<Bytes> {
        let link = request.query("link").unwrap_or_default();
        match self.link_of(&link).await {
            Ok(link_is) => self.first_account_form(request, (&link, &link_is), "", None),
            Err(error) => self.error(request, error),
        }
    }

    /// Creates the first account, and signs its user in.
    pub(super) async fn create_first_account(
        &self,
        request: &BrowserRequest<'_>,
        form: &Form,
    ) -> Response<Bytes> {
        if !self.is_form_of_visit(request.headers, form.get("csrf")) {
            return self.error(request, PageError::Forged);
        }
        let link = form.get("link").unwrap_or_default();
        let link_is = match self.link_of(link).await {
            Ok(link_is) => link_is,
            Err(error) => return self.error(request, error),
        };
        let text = form.get("user").unwrap_or_default();
        let refused =
            |problem| self.first_account_form(request, (link, &link_is), text, Some(problem));
        let name = match UserName::parse(text.trim()) {
            Ok(name) => name,
            Err(error) => return refused(FirstAccountProblem::UserName(sentence(error))),
        };
        let password = form.get("password").unwrap_or_default();
        let password = match Password::new(password, name.as_str()) {
            Ok(password) => password,
            Err(error) => return refused(FirstAccountProblem::Password(error.sentence())),
        };
        let Ok(password) = self.passwords.hash(&password).await else {
            let response = self.error(request, PageError::Unavailable);
            return with_retry_after(response, Some(Busy::RETRY_AFTER));
        };
        let subject = random_id();
        let password = Secret::from_text(password);
        let account = NewAccount::new(&subject, name, password, self.clock().now());
        self.create(request, CreateFirstAccount::new(link_is.hash, account)).await
    }

    async fn create(
        &self,
        request: &BrowserRequest<'_>,
        create: CreateFirstAccount,
    ) -> Response<Bytes> {
        let user = User::new(&*self.issuer, &*create.account.subject);
        // The record comes first: there is no account without one.
        if self.note(request, None, Note::first_account(&user)).await.is_err() {
            return self.error(request, PageError::Unavailable);
        }
        let error = match self.store.create_first_account(&create).await {
            Ok(FirstAccount::Created(account)) => {
                return self.enter(request, &account, &self.site.path("/connections")).await;
            }
            Ok(FirstAccount::LinkInvalid) => PageError::LinkInvalid,
            Ok(FirstAccount::NotFirst) => PageError::NotFirst,
            Err(_) => PageError::Unavailable,
        };
        // If this record fails, the first one names an account that does not exist.
        let failed = Note::first_account_failed(&user);
        match self.note(request, None, failed).await {
            Ok(()) => self.error(request, error),
            Err(_) => self.error(request, PageError::Unavailable),
        }
    }

    /// Returns the facts of a link that is valid.
    async fn link_of(&self, link: &str) -> Result<ValidLink, PageError> {
        // Anything else was made by no one: it need not be looked up.
        let link = BrowserSecret::parse(link).ok_or(PageError::LinkInvalid)?;
        let unavailable = |_: StoreError| PageError::Unavailable;
        let keys = self.store.lookup_key().await.map_err(unavailable)?;
        let hash = keys.first_account_link(&link.to_secret());
        let now = self.clock().now();
        match self.store.first_account_link(&hash, now).await.map_err(unavailable)? {
            LinkState::Valid { expires_at } => Ok(ValidLink { hash, expires_at }),
            LinkState::Invalid => Err(PageError::LinkInvalid),
            LinkState::NotFirst => Err(PageError::NotFirst),
        }
    }

    fn first_account_form(
        &self,
        request: &BrowserRequest<'_>,
        (link, link_is): (&str, &ValidLink),
        user_name: &str,
        problem: Option<FirstAccountProblem>,
    ) -> Response<Bytes> {
        let visit = self.visit(request.headers);
        let view = FirstAccountView {
            link,
            user_name,
            link_ends: link_is.expires_at,
            csrf: &visit.secret.form_token(),
            fewest_characters: Password::MIN_CHARACTERS,
            problem,
        };
        let page = pages::first_account(&self.site, &view, self.clock().now());
        with_cookie(page, visit.cookie)
    }
}

fn sentence(error: UserNameError) -> &'static str {
    match error {
        UserNameError::Length => "A user name has at least one and at most 128 characters.",
        UserNameError::Blank => "A user name has no blanks at its ends.",
        UserNameError::Character | _ => "A user name has no invisible characters.",
    }
}
