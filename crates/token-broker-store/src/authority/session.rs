//! Sessions of browsers.

use tower_token_broker::{clock::Timestamp, principal::User};

use super::{LookupHash, SessionId, limits};
use crate::StoreError;

/// A session of a browser. The value of its cookie is not stored, only its [`LookupHash`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Session {
    /// ID, which is not the value of the cookie.
    pub id: SessionId,
    /// The user that signed in.
    pub user: User,
    /// [`LocalAccount::epoch`](super::LocalAccount::epoch) when the user signed in. The session is
    /// over when the account has another one. 0 for users without a local account.
    pub account_epoch: u64,
    /// When the user signed in.
    pub authenticated_at: Timestamp,
    /// When the session began.
    pub created_at: Timestamp,
    /// When the browser was last seen.
    pub last_seen_at: Timestamp,
    /// When it expires: from this instant on, it is not found.
    pub expires_at: Timestamp,
}

impl Session {
    /// Creates a session of a user that has just signed in.
    pub const fn new(id: SessionId, user: User, now: Timestamp, expires_at: Timestamp) -> Self {
        Self {
            id,
            user,
            account_epoch: 0,
            authenticated_at: now,
            created_at: now,
            last_seen_at: now,
            expires_at,
        }
    }

    /// Sets the epoch of the local account.
    #[must_use = "returns the changed session"]
    pub const fn account_epoch(mut self, epoch: u64) -> Self {
        self.account_epoch = epoch;
        self
    }

    /// Checks what every store checks before it stores a session.
    ///
    /// # Errors
    /// [`StoreError::Invalid`]
    pub fn check(&self) -> Result<(), StoreError> {
        limits::id("the session ID", self.id.as_str())?;
        limits::user(&self.user)
    }
}

/// A store of browser sessions.
///
/// Each method is one step that is atomic, and durable when it returns. A step whose future is
/// dropped has either taken effect completely or not at all. Methods fail with
/// [`StoreError::Unreachable`]; further errors are listed at each.
pub trait SessionStore: Send + Sync + 'static {
    /// Stores a session.
    ///
    /// # Errors
    /// [`StoreError::Invalid`]; [`StoreError::Exists`] if a session has this hash or this ID.
    ///
    /// # Cancellation
    /// The session is stored or not.
    fn put_session(
        &self,
        hash: &LookupHash,
        session: &Session,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns a session that has not expired.
    ///
    /// # Errors
    /// [`StoreError::UnreadableRow`]
    ///
    /// # Cancellation
    /// Reads only.
    fn session(
        &self,
        hash: &LookupHash,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<Session>, StoreError>> + Send;

    /// Sets when the browser was last seen, and returns whether there is such a session. An instant
    /// before the stored one changes nothing. The expiry does not change. Each call writes: once in
    /// a minute is enough.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// The instant is set or not.
    fn touch_session(
        &self,
        hash: &LookupHash,
        now: Timestamp,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Ends a session, and returns whether there was one. In the same step, it ends the unused
    /// codes that were issued in the session.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// The session is ended or not; a retry is safe.
    fn end_session(
        &self,
        hash: &LookupHash,
        now: Timestamp,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Ends all sessions of a user in one step, and returns their number. In the same step, it ends
    /// all unused codes of the user.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// All of them are ended, or none; a retry is safe.
    fn end_sessions(
        &self,
        user: &User,
        now: Timestamp,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Removes sessions that expired before this instant, at most `limit`, and returns their
    /// number.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// Each session is removed or not; a retry is safe.
    fn remove_sessions(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;
}
