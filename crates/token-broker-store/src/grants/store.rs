//! The trait that a store of grants implements.

use tower_token_broker::principal::GrantId;

use super::{
    Attempt, Grant, GrantFilter, GrantKey, GrantPage, GrantRef, Lease, LeaseOutcome, LeaseRequest,
    Renewal,
};

/// A store of grants. All processes that share it refresh each grant one at a time.
///
/// Each method is one step that is atomic, and durable when it returns. A grant's version rises
/// when its tokens change; its fence rises with each lease. The fence guards the start of a
/// refresh, and the version guards its end: a caller whose lease was overtaken may not send the
/// refresh token, but tokens that the authorization server has issued are stored even after the
/// lease has expired, as long as there is no newer version.
///
/// A grant is found only by its whole key. An ID is compared in addition, and by itself finds
/// nothing: an ID of another user, server or account is treated as an unknown one.
///
/// The laws in `token_broker_store::contract` (feature `contract`) check an implementation.
///
/// # Cancellation
/// A step whose future is dropped has either taken effect completely or not at all.
pub trait GrantStore: Send + Sync + 'static {
    /// Returns the grant with this key, in any state.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// Reads only.
    fn load(
        &self,
        key: &GrantKey,
    ) -> impl Future<Output = Result<Option<Grant>, StoreError>> + Send;

    /// Returns one page of the selected grants, without secrets, in the order of the octets of
    /// their IDs. A grant that exists while all pages are read is in exactly one of them.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// Reads only.
    fn list(
        &self,
        filter: &GrantFilter,
    ) -> impl Future<Output = Result<GrantPage, StoreError>> + Send;

    /// Stores the grant of a user that has connected an account, and returns it as stored.
    ///
    /// It replaces the grant with the same key, whatever its ID and state: the version is higher
    /// than that of the replaced grant, its leases are overtaken, and its ID is unknown from now
    /// on if the new one differs. Access tokens get the version of the grant.
    ///
    /// # Errors
    /// [`StoreError::IdTaken`] if the ID belongs to a grant with another key; no grant changes.
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// The grant is stored or not.
    fn put(&self, grant: Grant) -> impl Future<Output = Result<Grant, StoreError>> + Send;

    /// Revokes a grant for the user or the operator, and returns whether there is one with this
    /// key and ID. The version rises, refresh token and access tokens are erased, and the lease
    /// ends. A grant that is already revoked does not change.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// The grant is revoked or not; a retry is safe.
    fn revoke(&self, grant: &GrantRef) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Deletes a grant, and returns whether there was one with this key and ID.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// The grant is deleted or not; a retry is safe.
    fn delete(&self, grant: &GrantRef) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Takes the lease on a version, if it is the current one, the grant may be used
    /// ([`GrantState::is_usable`](super::GrantState::is_usable)) and no other lease is valid.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// The lease may have been taken; it expires.
    fn lease(
        &self,
        request: &LeaseRequest,
    ) -> impl Future<Output = Result<LeaseOutcome, StoreError>> + Send;

    /// Marks that the refresh token is about to be sent: [`Grant::open_attempts`] rises by one.
    ///
    /// # Errors
    /// [`StoreError::Overtaken`] if the lease is not the last one of the current version.
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// The mark may be set; the refresh token must not be sent.
    fn mark_attempt(&self, lease: &Lease) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Stores new tokens ([`Renewal::apply`]) and ends the lease, if the version is still that of
    /// the lease. Returns the grant as stored, or `None` if there is another version, or if the
    /// grant was revoked.
    ///
    /// A grant that the authorization server ended at this version is active again: the server
    /// has just issued tokens for it.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// The tokens are stored or not.
    fn complete(
        &self,
        lease: &Lease,
        renewal: &Renewal,
    ) -> impl Future<Output = Result<Option<Grant>, StoreError>> + Send;

    /// Ends the lease without new tokens ([`Attempt::apply`]). A lease that was overtaken changes
    /// no grant.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// The lease has ended or not; it expires.
    fn release(
        &self,
        lease: &Lease,
        attempt: &Attempt,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Ends a usable grant for the authorization server's `invalid_grant`, if this version is the
    /// current one, and returns whether it did. The version does not change.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// The grant has ended or not.
    fn end(
        &self,
        grant: &GrantRef,
        version: u64,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// The reason why a store did not do what a caller requested.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store can't be reached at the moment, or failed.
    #[error("the store can't be reached")]
    Unreachable,
    /// The lease is not the last one, or its version is not the current one.
    #[error("the lease on version {version} of grant {} was overtaken", grant.as_str())]
    Overtaken {
        /// ID of the grant.
        grant: GrantId,
        /// Version of the lease.
        version: u64,
    },
    /// The tokens of a grant can't be decrypted: the key that is needed was removed, or the row was
    /// changed. Other grants are not affected.
    #[error("grant {} can't be decrypted: its key is missing, or it was changed", grant.as_str())]
    Unreadable {
        /// ID of the grant.
        grant: GrantId,
    },
    /// A row of the authority can't be decrypted, or is not as it was written: the key that is
    /// needed was removed, or the row was changed. Other rows are not affected.
    #[error("{kind} {id} can't be read: its key is missing, or it was changed")]
    UnreadableRow {
        /// Kind of the row.
        kind: &'static str,
        /// ID of the row, which is no secret.
        id: Box<str>,
    },
    /// There is a row of the authority with this ID already.
    #[error("there is a {kind} {id} already")]
    Exists {
        /// Kind of the row.
        kind: &'static str,
        /// ID of the row, which is no secret.
        id: Box<str>,
    },
    /// A field is longer than a store keeps, or contains NUL, or a URI a control character.
    #[error("{field} has more than {limit} bytes, or contains characters that are not allowed")]
    Invalid {
        /// Name of the field.
        field: &'static str,
        /// Largest number of bytes.
        limit: usize,
    },
    /// The ID belongs to a grant with another user, server or account.
    #[error("grant ID {} belongs to another user, server or account", id.as_str())]
    IdTaken {
        /// The ID.
        id: GrantId,
    },
}

impl StoreError {
    /// Creates the error of a row that is not readable. Only stores call this.
    pub fn unreadable_row(kind: &'static str, id: &str) -> Self {
        Self::UnreadableRow { kind, id: id.into() }
    }

    /// Creates the error of an ID that belongs to another row. Only stores call this.
    pub fn exists(kind: &'static str, id: &str) -> Self {
        Self::Exists { kind, id: id.into() }
    }

    /// Creates the error of a lease that was overtaken.
    pub fn overtaken(lease: &Lease) -> Self {
        Self::Overtaken { grant: lease.grant.id.clone(), version: lease.version }
    }

    /// Returns whether the same call may succeed later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable)
    }
}
