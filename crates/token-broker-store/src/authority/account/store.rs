//! The trait of a store of local accounts.

use tower_token_broker::clock::Timestamp;

use super::{
    AccountCreation, AccountWithPassword, CreateFirstAccount, FirstAccount, LinkState,
    LocalAccount, NewAccount, SetPassword, UserName,
};
use crate::{
    StoreError,
    authority::{LookupHash, Page, PageRequest},
};

/// A store of local accounts, and of the one-time link for the first of them.
///
/// Each method is one step that is atomic, and durable when it returns. A step whose future is
/// dropped has either taken effect completely or not at all. Methods fail with
/// [`StoreError::Unreachable`]; further errors are listed at each.
pub trait AccountStore: Send + Sync + 'static {
    /// Creates an account. Names are compared as [`UserName`] does.
    ///
    /// # Errors
    /// [`StoreError::Invalid`]; [`StoreError::Exists`] if an account has this subject.
    ///
    /// # Cancellation
    /// The account is created or not.
    fn create_account(
        &self,
        account: &NewAccount,
    ) -> impl Future<Output = Result<AccountCreation, StoreError>> + Send;

    /// Creates the first account, if there is none and the link is valid, and marks the link as
    /// used. Of several calls, one creates an account.
    ///
    /// # Errors
    /// [`StoreError::Invalid`]
    ///
    /// # Cancellation
    /// The account is created and the link was used, or neither.
    fn create_first_account(
        &self,
        request: &CreateFirstAccount,
    ) -> impl Future<Output = Result<FirstAccount, StoreError>> + Send;

    /// Sets the link for the first account. It replaces the last one. From `expires_at` on, it is
    /// invalid.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// The link is set or not.
    fn put_first_account_link(
        &self,
        link: &LookupHash,
        expires_at: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns whether the first account can be created with this link, and until when.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// Reads only.
    fn first_account_link(
        &self,
        link: &LookupHash,
        now: Timestamp,
    ) -> impl Future<Output = Result<LinkState, StoreError>> + Send;

    /// Returns the account with this subject.
    ///
    /// # Errors
    /// [`StoreError::UnreadableRow`]
    ///
    /// # Cancellation
    /// Reads only.
    fn account(
        &self,
        subject: &str,
    ) -> impl Future<Output = Result<Option<LocalAccount>, StoreError>> + Send;

    /// Returns the account with this name, with its password hash.
    ///
    /// Sign-in must not show whether there is an account: if a key management service is called to
    /// open a hash, a name without an account takes as many calls.
    ///
    /// # Errors
    /// [`StoreError::UnreadableRow`]
    ///
    /// # Cancellation
    /// Reads only.
    fn account_by_name(
        &self,
        name: &UserName,
    ) -> impl Future<Output = Result<Option<AccountWithPassword>, StoreError>> + Send;

    /// Sets a password, raises the epoch, and returns the account as it is stored; `None` if there
    /// is no account with this subject, or if it has another epoch than the request expects.
    /// Whether the account is enabled does not change.
    ///
    /// # Errors
    /// [`StoreError::Invalid`]; [`StoreError::UnreadableRow`]
    ///
    /// # Cancellation
    /// The password is set or not.
    fn set_password(
        &self,
        request: &SetPassword,
    ) -> impl Future<Output = Result<Option<LocalAccount>, StoreError>> + Send;

    /// Replaces the hash of an unchanged password, for other parameters, if the account still has
    /// this epoch, and returns whether it has. The epoch does not change, and neither does whether
    /// the user must set another password.
    ///
    /// # Errors
    /// [`StoreError::Invalid`]; [`StoreError::UnreadableRow`]
    ///
    /// # Cancellation
    /// The hash is replaced or not.
    fn rehash_password(
        &self,
        account: &AccountWithPassword,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Enables an account, and returns it as it is stored.
    ///
    /// # Errors
    /// [`StoreError::UnreadableRow`]
    ///
    /// # Cancellation
    /// The account is enabled or not; a retry is safe.
    fn enable_account(
        &self,
        subject: &str,
    ) -> impl Future<Output = Result<Option<LocalAccount>, StoreError>> + Send;

    /// Disables an account, and returns it as it is stored. The epoch rises if it was enabled.
    ///
    /// # Errors
    /// [`StoreError::UnreadableRow`]
    ///
    /// # Cancellation
    /// The account is disabled or not; a retry is safe.
    fn disable_account(
        &self,
        subject: &str,
    ) -> impl Future<Output = Result<Option<LocalAccount>, StoreError>> + Send;

    /// Returns one page of the accounts, in the order of the octets of their subjects. An account
    /// that exists while all pages are read is in exactly one of them. One that can't be read is in
    /// [`Page::unreadable`].
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// Reads only.
    fn accounts(
        &self,
        page: &PageRequest,
    ) -> impl Future<Output = Result<Page<LocalAccount>, StoreError>> + Send;
}
