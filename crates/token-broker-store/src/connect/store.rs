//! The trait that a store of connects implements.

use tower_token_broker::{clock::Timestamp, principal::User};

use super::{
    ConnectId, ConnectionUse, PendingConnect, PendingRevocation, RegisteredClient, RevocationId,
};
use crate::{
    Grant, GrantRef, GrantStore, StoreError,
    authority::{LookupHash, SessionId},
};

/// A store of connects, next to the grants that they become.
///
/// Each method is one step that is atomic, and durable when it returns, also where it changes
/// connects and grants together. A step whose future is dropped has either taken effect completely
/// or not at all. Methods fail with [`StoreError::Unreachable`]; further errors are listed at each.
///
/// A connect in progress goes through three steps: [`put_connect`](ConnectStore::put_connect) when
/// the browser leaves, [`claim_connect`](ConnectStore::claim_connect) once when it comes back, and
/// [`finish_connect`](ConnectStore::finish_connect) with the tokens. Whatever ends the user's
/// connection in between also ends the connect, so that it cannot bring the connection back.
pub trait ConnectStore: GrantStore {
    /// Stores a connect that has begun.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if a connect has this hash or this ID; [`StoreError::Invalid`].
    fn put_connect(
        &self,
        state: &LookupHash,
        connect: &PendingConnect,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Claims a connect: once, in the session in which it was begun, and before it expires.
    /// Otherwise nothing changes, and the result is `None`: no difference shows whether there is
    /// one.
    ///
    /// # Errors
    /// [`StoreError::UnreadableRow`]
    fn claim_connect(
        &self,
        state: &LookupHash,
        session: &SessionId,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<PendingConnect>, StoreError>> + Send;

    /// Stores the grant of a claimed connect as [`GrantStore::put`] does, removes the connect, and
    /// returns the grant as stored. `None` if the connect was not claimed, was ended since, or is
    /// for another key: then nothing changes.
    ///
    /// # Errors
    /// [`StoreError::IdTaken`], and [`StoreError::Invalid`] as of [`GrantStore::put`]; the connect
    /// stays then. [`StoreError::UnreadableRow`] if the connect was changed.
    fn finish_connect(
        &self,
        connect: &ConnectId,
        grant: Grant,
    ) -> impl Future<Output = Result<Option<Grant>, StoreError>> + Send;

    /// Removes a connect that failed, and returns whether there was one.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    fn drop_connect(
        &self,
        connect: &ConnectId,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Ends connects in progress, claimed ones included, and returns their number: those of a user
    /// or of all, at one server or at all.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    fn end_connects(
        &self,
        user: Option<&User>,
        server: Option<&str>,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Removes connects that expired before this instant, claimed ones included, at most `limit`,
    /// and returns their number.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    fn remove_connects(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Revokes a grant as [`GrantStore::revoke`] does, ends the connects in progress with its key,
    /// and keeps its tokens as a [`PendingRevocation`] with this ID, all in one step. Returns
    /// whether there is a grant with this key and ID. A grant that is already revoked does not
    /// change, and one without tokens leaves no revocation. The record of its last use is removed.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] if the tokens can't be decrypted; the grant is not revoked then.
    /// [`StoreError::Exists`] if a revocation has this ID, and [`StoreError::Invalid`]; then
    /// nothing changes.
    fn disconnect(
        &self,
        grant: &GrantRef,
        revocation: &RevocationId,
        now: Timestamp,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Keeps tokens that are to be revoked and belong to no grant.
    ///
    /// # Errors
    /// [`StoreError::Exists`], [`StoreError::Invalid`]
    fn put_revocation(
        &self,
        revocation: &PendingRevocation,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns one revocation that is due, if there is one; `attempts` has risen by one, and
    /// `retry_at` is `until`, so that no other process begins an attempt before. Revocations that
    /// can't be read are skipped. The one that has been due for the longest time comes first.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    fn claim_revocation(
        &self,
        now: Timestamp,
        until: Timestamp,
    ) -> impl Future<Output = Result<Option<PendingRevocation>, StoreError>> + Send;

    /// Sets when the next attempt may begin, and returns whether there is such a revocation.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    fn postpone_revocation(
        &self,
        revocation: &RevocationId,
        retry_at: Timestamp,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Removes a revocation whose outcome is recorded, with its tokens, and returns whether there
    /// was one.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    fn finish_revocation(
        &self,
        revocation: &RevocationId,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Keeps a client that the broker registered. It replaces one with this issuer and `client_id`:
    /// a server that returns the same client again may have changed its secret.
    ///
    /// # Errors
    /// [`StoreError::Invalid`]
    fn put_registered_client(
        &self,
        client: &RegisteredClient,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns the newest client at an issuer with this redirect URI.
    ///
    /// # Errors
    /// [`StoreError::UnreadableRow`]
    fn newest_registered_client(
        &self,
        issuer: &str,
        redirect_uri: &str,
    ) -> impl Future<Output = Result<Option<RegisteredClient>, StoreError>> + Send;

    /// Returns the client at an issuer with this `client_id`.
    ///
    /// # Errors
    /// [`StoreError::UnreadableRow`]
    fn registered_client(
        &self,
        issuer: &str,
        client_id: &str,
    ) -> impl Future<Output = Result<Option<RegisteredClient>, StoreError>> + Send;

    /// Records when a client last used a connection. An instant before the stored one changes
    /// nothing. Each call writes: once in some minutes is enough.
    ///
    /// # Errors
    /// [`StoreError::Invalid`]
    fn mark_connection_used(
        &self,
        used: &ConnectionUse,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns the last use of each connection of a user, in the order of server and account: of
    /// each, by the client that used it last.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    fn connection_uses(
        &self,
        user: &User,
    ) -> impl Future<Output = Result<Vec<ConnectionUse>, StoreError>> + Send;
}
