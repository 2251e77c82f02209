//! Sessions: begun, found and ended by the cookie of a browser.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use token_broker_store::{
    StoreError,
    authority::{AuthorityStore, LocalAccount, LookupHash, Session, SessionId},
};
use tower_token_broker::principal::User;

use super::{
    BrowserSecret,
    browser_pages::Shared,
    cookie::{self, CookieKind},
    link::random_id,
};
use crate::authorize::SignedIn;

/// A session is marked as seen at most this often, so that not each request writes.
const TOUCH_EVERY: Duration = Duration::from_secs(5 * 60);

impl<S: AuthorityStore, A> Shared<S, A> {
    /// Returns who is signed in, in the browser that sent these headers.
    pub(super) async fn session(
        &self,
        headers: &HeaderMap,
    ) -> Result<Option<SignedIn>, StoreError> {
        let Some(secret) = cookie::read(&self.site, headers, CookieKind::Session) else {
            return Ok(None);
        };
        let now = self.clock().now();
        let hash = self.session_hash(&secret).await?;
        let Some(session) = self.store.session(&hash, now).await? else { return Ok(None) };
        let Some(account) = self.account_of(&session).await? else { return Ok(None) };
        if session.last_seen_at.until(now) >= TOUCH_EVERY {
            self.store.touch_session(&hash, now).await?;
        }
        let (name, id) = (account.name.as_str(), session.id.as_str());
        let user = SignedIn::new(session.user.clone(), name, id, &secret.form_token());
        Ok(Some(user.authenticated_at(session.authenticated_at)))
    }

    /// Returns the account of a session, if it is enabled and has not changed since.
    // Q521: a disabled account, or one with a new password, has no session from that moment on.
    async fn account_of(&self, session: &Session) -> Result<Option<LocalAccount>, StoreError> {
        if session.user.issuer() != &*self.issuer {
            return Ok(None);
        }
        let account = self.store.account(session.user.subject()).await?;
        let is_current =
            |account: &LocalAccount| account.enabled && account.epoch == session.account_epoch;
        Ok(account.filter(is_current))
    }

    /// Begins the session of a user who has just signed in, ends the one that the browser had, and
    /// returns the cookie.
    // Q522: a new value at each sign-in, so that one that was planted before is worth nothing.
    pub(super) async fn begin_session(
        &self,
        headers: &HeaderMap,
        account: &LocalAccount,
    ) -> Result<Option<HeaderValue>, StoreError> {
        self.end_session(headers).await?;
        let secret = BrowserSecret::generate();
        let now = self.clock().now();
        let user = self.user_of(account);
        let (id, ends) = (SessionId::new(&random_id()), now.plus(self.session_lifetime));
        let session = Session::new(id, user, now, ends).account_epoch(account.epoch);
        self.store.put_session(&self.session_hash(&secret).await?, &session).await?;
        let seconds = self.session_lifetime.as_secs();
        Ok(cookie::set(&self.site, CookieKind::Session, &secret, seconds))
    }

    /// Ends the session of this browser, if it has one.
    pub(super) async fn end_session(&self, headers: &HeaderMap) -> Result<(), StoreError> {
        if let Some(secret) = cookie::read(&self.site, headers, CookieKind::Session) {
            let hash = self.session_hash(&secret).await?;
            self.store.end_session(&hash, self.clock().now()).await?;
        }
        Ok(())
    }

    async fn session_hash(&self, secret: &BrowserSecret) -> Result<LookupHash, StoreError> {
        Ok(self.store.lookup_key().await?.session(&secret.to_secret()))
    }

    pub(super) fn user_of(&self, account: &LocalAccount) -> User {
        User::new(&*self.issuer, &*account.subject)
    }
}

/// The visit of a browser whose user has not signed in: its cookie, and the header that sets it if
/// it is new.
pub(super) struct Visit {
    pub(super) secret: BrowserSecret,
    pub(super) cookie: Option<HeaderValue>,
}

/// Lifetime of the cookie of a visit, in seconds.
const VISIT_SECONDS: u64 = 60 * 60;

impl<S, A> Shared<S, A> {
    /// Returns the visit of a browser, with a new lifetime.
    pub(super) fn visit(&self, headers: &HeaderMap) -> Visit {
        let secret = cookie::read(&self.site, headers, CookieKind::Visit);
        let secret = secret.unwrap_or_else(BrowserSecret::generate);
        let cookie = cookie::set(&self.site, CookieKind::Visit, &secret, VISIT_SECONDS);
        Visit { secret, cookie }
    }

    /// Returns whether a form was sent from our page in this visit.
    pub(super) fn is_form_of_visit(&self, headers: &HeaderMap, token: Option<&str>) -> bool {
        cookie::read(&self.site, headers, CookieKind::Visit).is_some_and(|secret| {
            super::csrf::is_own_form(&self.site, headers, &secret.form_token(), token)
        })
    }
}
