//! Local accounts: whether a user name and a password are right.

use std::time::Duration;

use token_broker_store::{
    StoreError,
    authority::{AccountWithPassword, AuthorityStore, LocalAccount, UserName},
};
use tower_token_broker::{
    Secret,
    alarm::Alarm,
    audit::{AuditError, Note, SignInFailure},
    principal::User,
};

use super::{
    BrowserRequest, Busy, Password,
    browser_pages::Shared,
    password::{Check, CheckError, Place},
    throttle::{Limit, Throttled},
};
use crate::limits::Network;

/// The outcome of an attempt to sign in. Each one that is refused for a password has its record.
#[derive(Debug)]
pub(super) enum SignInOutcome {
    /// User name and password are right, and the account is enabled.
    Right(LocalAccount),
    /// They are not, or it is not. The user does not learn which.
    Wrong,
    /// Too many attempts.
    Throttled(Duration),
}

/// The reasons why an attempt has no outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SignInError {
    /// Too many passwords are being checked.
    Busy,
    /// The store is not available.
    Store(StoreError),
    /// The audit log is not available.
    Audit(AuditError),
}

impl<S: AuthorityStore, A> Shared<S, A> {
    /// Checks a user name and a password.
    pub(super) async fn authenticate(
        &self,
        request: &BrowserRequest<'_>,
        user_name: &str,
        password: &str,
    ) -> Result<SignInOutcome, SignInError> {
        let name = UserName::parse(user_name).ok();
        let key = name.as_ref().map_or(user_name, UserName::as_key);
        let device = name.as_ref().and_then(|name| self.device(request.headers, name));
        // S527: before it counts as an attempt, and before anything is looked up.
        let place = self.passwords.place(key)?;
        let attempt = match self.throttle.begin(key, Network::of(request.peer), device) {
            Ok(attempt) => attempt,
            Err(throttled) => {
                drop(place);
                return self.throttled(request, name.as_ref(), throttled).await;
            }
        };
        // A client that disconnects drops the attempt, which is then a failure.
        let (stored, check) = match self.verdict(name.as_ref(), password, place).await {
            Ok(verdict) => verdict,
            Err(error) => {
                attempt.withdrawn();
                return Err(error);
            }
        };
        let user = stored.as_ref().map(|stored| self.user_of(&stored.account));
        let failure = match (check, stored) {
            (Check::Right { is_outdated }, Some(stored)) if stored.account.enabled => {
                attempt.succeeded();
                if is_outdated {
                    self.replace_hash(&stored, password).await;
                }
                return Ok(SignInOutcome::Right(stored.account));
            }
            (Check::Right { .. }, _) => SignInFailure::Disabled,
            (Check::Wrong, None) => SignInFailure::UnknownAccount,
            (Check::Wrong, Some(_)) => SignInFailure::WrongPassword,
        };
        self.note(request, None, Note::sign_in_failed(user.as_ref(), failure)).await?;
        Ok(SignInOutcome::Wrong)
    }

    /// Looks the account up, and checks the password: the same work for each name.
    async fn verdict(
        &self,
        name: Option<&UserName>,
        password: &str,
        place: Place,
    ) -> Result<(Option<AccountWithPassword>, Check), SignInError> {
        let stored = match name {
            Some(name) => self.store.account_by_name(name).await?,
            None => None,
        };
        // No account has a password that cannot be prepared: no work, whether or not there is one.
        let Some(password) = Password::parse(password) else { return Ok((stored, Check::Wrong)) };
        #[expect(clippy::disallowed_methods, reason = "compared with the password, by argon2")]
        let hash = stored.as_ref().and_then(|stored| stored.password_hash.expose_text());
        match self.passwords.check(place, &password, hash).await {
            Ok(check) => Ok((stored, check)),
            Err(CheckError::Busy) => Err(SignInError::Busy),
            Err(CheckError::Unreadable) => Err(SignInError::Store(StoreError::Unreachable)),
        }
    }

    /// Stores a hash of a higher cost. If that fails, the next sign-in does it.
    async fn replace_hash(&self, stored: &AccountWithPassword, password: &str) {
        let Some(password) = Password::parse(password) else { return };
        let Ok(place) = self.passwords.place(stored.account.name.as_key()) else { return };
        let Ok(rehashed) = self.passwords.hash_in(place, &password).await else { return };
        let hash = Secret::from_text(rehashed);
        let account = AccountWithPassword::new(stored.account.clone(), hash);
        if let Err(error) = self.store.rehash_password(&account).await {
            tracing::debug!(%error, "a password hash was not replaced");
        }
    }

    /// Returns the user with this name, for the record.
    async fn user_named(&self, name: &UserName) -> Result<Option<User>, StoreError> {
        let stored = self.store.account_by_name(name).await?;
        Ok(stored.map(|stored| self.user_of(&stored.account)))
    }

    async fn throttled(
        &self,
        request: &BrowserRequest<'_>,
        name: Option<&UserName>,
        throttled: Throttled,
    ) -> Result<SignInOutcome, SignInError> {
        if throttled.limit == Limit::Strangers && throttled.is_first {
            tracing::warn!(
                alarm = Alarm::SignInFlood.code(),
                request.id = %request.id,
                "too many attempts to sign in from browsers that are not known; more are refused"
            );
        }
        if throttled.is_first {
            let user = match name {
                Some(name) => self.user_named(name).await?,
                None => None,
            };
            let note = Note::sign_in_failed(user.as_ref(), SignInFailure::Throttled);
            self.note(request, None, note).await?;
        }
        Ok(SignInOutcome::Throttled(throttled.wait))
    }
}

impl From<Busy> for SignInError {
    fn from(_: Busy) -> Self {
        Self::Busy
    }
}

impl From<StoreError> for SignInError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<AuditError> for SignInError {
    fn from(error: AuditError) -> Self {
        Self::Audit(error)
    }
}
