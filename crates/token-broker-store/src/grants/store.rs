//! Where grants live: the trait that a store implements, in memory or in SQL.

use tower_token_broker::{Secret, clock::Timestamp, principal::GrantId, principal::User};

use super::grant::{AccessToken, Grant};

/// Keeps grants, and sees to it that one refresh at a time is made of each, over all processes that share the store.
///
/// Each method is one step that is durable when it returns. A version rises when tokens change; a fence rises with each
/// lease. **The fence guards the beginning, the version guards the end**: who was overtaken may not begin to send, but what the
/// authorization server has given is stored even by a holder whose lease has run out, as long as no newer version is there.
///
/// # Cancellation
/// The refresh calls these from an owned task and never drops one halfway.
pub trait GrantStore: Send + Sync + 'static {
    /// The grant of this user for the upstream of this name, ended or not.
    ///
    /// # Errors
    /// The store can't be asked.
    fn load(&self, user: &User, upstream: &str) -> impl Future<Output = Result<Option<Grant>, StoreError>> + Send;

    /// Takes the lease on this version, if it is the current one, the grant stands and no other lease runs at `now`.
    ///
    /// # Errors
    /// The store can't be asked.
    fn lease(
        &self,
        id: &GrantId,
        version: u64,
        now: Timestamp,
        until: Timestamp,
    ) -> impl Future<Output = Result<LeaseOutcome, StoreError>> + Send;

    /// Marks that the refresh token is about to be sent: [`Grant::open_attempts`] rises by one.
    ///
    /// # Errors
    /// [`StoreError::Overtaken`] if the lease is no longer the last one of the current version, or the store can't be asked.
    fn mark_attempt(&self, lease: &Lease) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Stores new tokens if the version is still the lease's: the version rises by one, the marks are cleared, the lease
    /// ends. A grant that the *authorization server* ended at this version stands again: it has just shown that it does. Gives the
    /// grant as it is stored, or `None` if another version is there or the grant was revoked.
    ///
    /// # Errors
    /// The store can't be asked.
    fn complete(
        &self,
        lease: &Lease,
        renewal: &Renewal,
    ) -> impl Future<Output = Result<Option<Grant>, StoreError>> + Send;

    /// Gives the lease back without new tokens, if it is still the last one.
    ///
    /// # Errors
    /// The store can't be asked.
    fn release(&self, lease: &Lease, tried: AttemptOutcome) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Ends the grant for the authorization server's `invalid_grant`, if this version is the current one; says whether it was.
    /// The version stays, the tokens of a grant that has ended are never used.
    ///
    /// # Errors
    /// The store can't be asked.
    fn end(&self, id: &GrantId, version: u64) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// The right to refresh one version of one grant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// Of which grant.
    pub grant: GrantId,
    /// Of which version.
    pub version: u64,
    /// Which lease of this grant it is: they are counted.
    pub fence: u64,
}

impl Lease {
    /// As a store gives it.
    #[must_use]
    pub const fn new(grant: GrantId, version: u64, fence: u64) -> Self {
        Self { grant, version, fence }
    }
}

/// What came of asking for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the callers of the trait must answer each")]
pub enum LeaseOutcome {
    /// It is given.
    Acquired(Lease),
    /// Another holds it, until then at most.
    Held(Timestamp),
    /// The version is not the current one, or the grant has ended: load it again.
    Stale,
}

/// New tokens, as an authorization server gave them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Renewal {
    /// The rotated refresh token; `None` keeps the one that is there.
    pub refresh_token: Option<Secret>,
    /// The new access token; `None` if the answer's must not be used. Its version is set by the store.
    pub access: Option<AccessToken>,
    /// [`Grant::failures`] from now on.
    pub failures: u32,
    /// [`Grant::retry_at`] from now on.
    pub retry_at: Option<Timestamp>,
}

impl Renewal {
    /// A rotated refresh token, if there is one, and a new access token.
    #[must_use]
    pub const fn new(refresh_token: Option<Secret>, access: Option<AccessToken>) -> Self {
        Self { refresh_token, access, failures: 0, retry_at: None }
    }

    /// What becomes of a grant by it: the one reading for all stores.
    pub fn apply(&self, grant: &mut Grant, now: Timestamp) {
        grant.version += 1;
        grant.state = super::grant::GrantState::Active;
        grant.open_attempts = 0;
        grant.failures = self.failures;
        grant.retry_at = self.retry_at;
        if let Some(token) = &self.refresh_token {
            grant.refresh_token = Some(token.clone());
        }
        if let Some(token) = &self.access {
            grant.access.retain(|held| held.asked != token.asked && held.expires_at > now);
            grant.access.push(AccessToken { version: grant.version, ..token.clone() });
        }
    }
}

/// What is known of a try that gave no new tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "stores must answer each")]
pub enum AttemptOutcome {
    /// Nothing was sent: the mark of this try, if there is one, is taken back.
    NotSent {
        /// [`Grant::failures`] from now on.
        failures: u32,
        /// [`Grant::retry_at`] from now on.
        retry_at: Option<Timestamp>,
    },
    /// The authorization server answered, and it was no new token: no mark stays open.
    Answered {
        /// [`Grant::failures`] from now on.
        failures: u32,
        /// [`Grant::retry_at`] from now on.
        retry_at: Option<Timestamp>,
    },
    /// It may have arrived and been acted upon: the mark stays open.
    Unknown {
        /// [`Grant::failures`] from now on.
        failures: u32,
        /// [`Grant::retry_at`] from now on.
        retry_at: Option<Timestamp>,
    },
}

/// Why a store did not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It can't be asked at the moment.
    #[error("the store of the grants can't be reached")]
    Unreachable,
    /// The lease is not the last one, or its version not the current one.
    #[error("the lease was overtaken")]
    Overtaken,
}
