//! Local accounts: users with a password in the store.

mod requests;
mod store;
mod user_name;

use tower_token_broker::{Secret, clock::Timestamp};

pub use self::{
    requests::{
        AccountCreation, CreateFirstAccount, FirstAccount, LinkState, NewAccount, SetPassword,
    },
    store::AccountStore,
    user_name::{UserName, UserNameError},
};

/// A local account, without its password hash. The issuer of its user is the broker itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalAccount {
    /// Subject: a random ID, unique in a store, which never changes.
    pub subject: Box<str>,
    /// Name with which the user signs in, unique in a store.
    pub name: UserName,
    /// Whether the user may sign in.
    pub enabled: bool,
    /// Whether the user must set another password at the next sign-in.
    pub must_change_password: bool,
    /// Rises when the account is disabled and when its password is set; at first 1. A session with
    /// another epoch is over.
    pub epoch: u64,
    /// When it was created.
    pub created_at: Timestamp,
}

impl LocalAccount {
    /// Creates an enabled account of the first epoch. Only stores call this.
    pub fn new(subject: &str, name: UserName, created_at: Timestamp) -> Self {
        let (subject, enabled, must_change_password) = (subject.into(), true, false);
        Self { subject, name, enabled, must_change_password, epoch: 1, created_at }
    }

    /// Returns the account that is created by this request. Only stores call this.
    pub fn of(new: &NewAccount) -> Self {
        let mut account = Self::new(&new.subject, new.name.clone(), new.now);
        account.must_change_password = new.must_change_password;
        account
    }
}

/// A local account with its password hash.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AccountWithPassword {
    /// The account.
    pub account: LocalAccount,
    /// The password hash: PHC text.
    pub password_hash: Secret,
}

impl AccountWithPassword {
    /// Creates an account with its password hash. Only stores call this.
    pub const fn new(account: LocalAccount, password_hash: Secret) -> Self {
        Self { account, password_hash }
    }
}
