//! Requests to create and change local accounts, and their outcomes.

use tower_token_broker::{Secret, clock::Timestamp};

use super::{LocalAccount, UserName};
use crate::{
    StoreError,
    authority::{LookupHash, limits},
};

/// Request to create a local account.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "does nothing unless it is used"]
pub struct NewAccount {
    /// [`LocalAccount::subject`]
    pub subject: Box<str>,
    /// [`LocalAccount::name`]
    pub name: UserName,
    /// The password hash: PHC text.
    pub password_hash: Secret,
    /// [`LocalAccount::must_change_password`]
    pub must_change_password: bool,
    /// [`LocalAccount::created_at`]
    pub now: Timestamp,
}

impl NewAccount {
    /// Creates the request for an account whose password need not be changed.
    pub fn new(subject: &str, name: UserName, password_hash: Secret, now: Timestamp) -> Self {
        let subject = subject.into();
        Self { subject, name, password_hash, must_change_password: false, now }
    }

    /// Sets that the user must set another password at the next sign-in.
    pub const fn must_change_password(mut self) -> Self {
        self.must_change_password = true;
        self
    }

    /// Checks what every store checks before it stores an account.
    ///
    /// # Errors
    /// [`StoreError::Invalid`]
    pub fn check(&self) -> Result<(), StoreError> {
        limits::id("the subject of the account", &self.subject)?;
        check_hash(&self.password_hash)
    }
}

/// Outcome of a [`NewAccount`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "callers must handle each")]
#[must_use = "the account may not have been created"]
pub enum AccountCreation {
    /// The account was created.
    Created(LocalAccount),
    /// Another account has this name.
    NameTaken,
}

/// Request to create the first account, with the token of a one-time link.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "does nothing unless it is used"]
pub struct CreateFirstAccount {
    /// Hash of the token in the link.
    pub link: LookupHash,
    /// The account. Its field `now` is the current time.
    pub account: NewAccount,
}

impl CreateFirstAccount {
    /// Creates a request.
    pub const fn new(link: LookupHash, account: NewAccount) -> Self {
        Self { link, account }
    }
}

/// Outcome of a [`CreateFirstAccount`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "callers must handle each")]
#[must_use = "the account may not have been created"]
pub enum FirstAccount {
    /// The account was created, and the link was used.
    Created(LocalAccount),
    /// The link was replaced or used, has expired, or never existed.
    LinkInvalid,
    /// There is an account already.
    NotFirst,
}

/// State of a link for the first account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "callers must handle each")]
pub enum LinkState {
    /// The first account can be created with it.
    Valid {
        /// From when on it is invalid.
        expires_at: Timestamp,
    },
    /// The link was replaced or used, has expired, or never existed.
    Invalid,
    /// There is an account already.
    NotFirst,
}

/// Request to set a password.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "does nothing unless it is used"]
pub struct SetPassword {
    /// [`LocalAccount::subject`]
    pub subject: Box<str>,
    /// The password hash: PHC text.
    pub password_hash: Secret,
    /// [`LocalAccount::must_change_password`] from now on.
    pub must_change_password: bool,
    /// The epoch of the account that the caller has read: with another one, the request changes
    /// nothing. `None` for any.
    pub expected_epoch: Option<u64>,
}

impl SetPassword {
    /// Creates a request, whatever the epoch of the account. The password need not be changed.
    pub fn new(subject: &str, password_hash: Secret) -> Self {
        let subject = subject.into();
        Self { subject, password_hash, must_change_password: false, expected_epoch: None }
    }

    /// Sets that the user must set another password at the next sign-in.
    pub const fn must_change_password(mut self) -> Self {
        self.must_change_password = true;
        self
    }

    /// Sets the epoch of the account that the caller has read.
    pub const fn expected_epoch(mut self, epoch: u64) -> Self {
        self.expected_epoch = Some(epoch);
        self
    }

    /// Checks what every store checks before it stores a password hash.
    ///
    /// # Errors
    /// [`StoreError::Invalid`]
    pub fn check(&self) -> Result<(), StoreError> {
        check_hash(&self.password_hash)
    }
}

fn check_hash(hash: &Secret) -> Result<(), StoreError> {
    limits::count("the password hash", limits::octets(hash), 1_024)
}
