//! The interface to the protocol endpoints: the access of clients, as the account page shows and
//! ends it.

use tower_token_broker::principal::User;

use crate::pages::ConnectionsView;

/// The access that users gave to clients. The protocol endpoints implement it.
pub trait ClientAccess: Send + Sync + 'static {
    /// Returns the clients that have access for this user.
    ///
    /// # Errors
    /// [`AccessUnavailable`]
    ///
    /// # Cancellation
    /// Reads only.
    fn clients(
        &self,
        user: &User,
    ) -> impl Future<Output = Result<ConnectionsView, AccessUnavailable>> + Send;

    /// Ends one token family of this user, and returns whether there was one. A family of another
    /// user is treated as an unknown one.
    ///
    /// # Errors
    /// [`AccessUnavailable`]: the family may still have access, or has lost it without a record.
    ///
    /// # Cancellation
    /// The family has ended or not; a retry is safe.
    fn end(
        &self,
        user: &User,
        family: &str,
    ) -> impl Future<Output = Result<bool, AccessUnavailable>> + Send;

    /// Ends all access of all clients for this user.
    ///
    /// # Errors
    /// [`AccessUnavailable`]: some access may remain.
    ///
    /// # Cancellation
    /// Any part of the access may have ended; a retry is safe.
    fn end_all(&self, user: &User) -> impl Future<Output = Result<(), AccessUnavailable>> + Send;
}

/// The access of clients cannot be read or ended at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("the access of clients can't be read or ended at the moment; try again")]
#[expect(clippy::exhaustive_structs, reason = "implementors create it")]
pub struct AccessUnavailable;
