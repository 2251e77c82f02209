//! Steps of a refresh: the lease, the outcome of an attempt, and the new tokens.

use tower_token_broker::{Secret, clock::Timestamp};

use super::{AccessToken, Backoff, Grant, GrantRef, GrantState, RepeatedRefusal};

/// Request for the lease on one version of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseRequest {
    /// Key and ID of the grant.
    pub grant: GrantRef,
    /// Version that is to be refreshed.
    pub version: u64,
    /// Current time. A lease that ends at or before it has expired. It may be later than `until`:
    /// the caller has measured that the lease that is held is over.
    pub now: Timestamp,
    /// End of the lease.
    pub until: Timestamp,
}

impl LeaseRequest {
    /// Requests the lease on this grant at its version, from `now` until `until`.
    pub fn new(grant: &Grant, now: Timestamp, until: Timestamp) -> Self {
        Self { grant: grant.to_ref(), version: grant.version, now, until }
    }
}

/// The right to refresh one version of one grant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// Key and ID of the grant.
    pub grant: GrantRef,
    /// Version of the grant.
    pub version: u64,
    /// Number of the lease; rises with each lease of this grant.
    pub fence: u64,
}

impl Lease {
    /// Creates a lease. Only stores call this.
    pub const fn new(grant: GrantRef, version: u64, fence: u64) -> Self {
        Self { grant, version, fence }
    }
}

/// Outcome of a [`LeaseRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "callers must handle each")]
pub enum LeaseOutcome {
    /// The caller holds the lease.
    Acquired(Lease),
    /// Another caller holds it, at most until this instant.
    Held(Timestamp),
    /// The version is not the current one, or the grant has ended: load it again.
    Stale,
}

/// New tokens from an authorization server, and what its response means for the grant.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Renewal {
    /// The rotated refresh token; `None` keeps the current one.
    pub refresh_token: Option<Secret>,
    /// The new access token; `None` if it must not be used. The store sets its version.
    pub access: Option<AccessToken>,
    /// [`Grant::backoff`] from now on.
    pub backoff: Backoff,
    /// [`Grant::state`] from now on: not active if the response also refused the grant.
    pub state: GrantState,
    /// [`Grant::refused`] from now on.
    pub refused: Option<RepeatedRefusal>,
}

impl Renewal {
    /// Creates a renewal without a backoff and without a refusal. The grant is active.
    pub fn new(refresh_token: Option<Secret>, access: Option<AccessToken>) -> Self {
        let (backoff, state, refused) = (Backoff::default(), GrantState::Active, None);
        Self { refresh_token, access, backoff, state, refused }
    }

    /// Changes a grant as every store must: the version rises, marks are cleared, and backoff,
    /// state and refusal are those of the renewal. A new access token replaces those with the same
    /// requested scopes and those that had expired when it was obtained.
    pub fn apply(&self, grant: &mut Grant) {
        grant.version = grant.version.saturating_add(1);
        grant.state = self.state;
        grant.open_attempts = 0;
        grant.backoff = self.backoff;
        grant.refused = self.refused;
        if let Some(token) = &self.refresh_token {
            grant.refresh_token = Some(token.clone());
        }
        if let Some(token) = &self.access {
            grant.access.retain(|held| {
                held.requested != token.requested && held.expires_at > token.obtained_at
            });
            grant.access.push(AccessToken { version: grant.version, ..token.clone() });
        }
    }
}

/// An attempt to refresh that returned no new tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// Result of the attempt, as far as it is known.
    pub outcome: AttemptOutcome,
    /// [`Grant::backoff`] from now on.
    pub backoff: Backoff,
    /// [`Grant::refused`] from now on.
    pub refused: Option<RepeatedRefusal>,
    /// Whether the grant is [`GrantState::NeedsUser`] from now on.
    pub needs_user: bool,
}

impl Attempt {
    /// Creates the report of an attempt that was not refused.
    pub const fn new(outcome: AttemptOutcome, backoff: Backoff) -> Self {
        Self { outcome, backoff, refused: None, needs_user: false }
    }

    /// Sets the refusal that the authorization server repeats.
    #[must_use = "returns the changed attempt"]
    pub const fn refused(mut self, refused: Option<RepeatedRefusal>) -> Self {
        self.refused = refused;
        self
    }

    /// Sets that the grant needs the user from now on.
    #[must_use = "returns the changed attempt"]
    pub const fn needs_user(mut self) -> Self {
        self.needs_user = true;
        self
    }

    /// Changes a grant as every store must.
    pub const fn apply(&self, grant: &mut Grant) {
        grant.open_attempts = match self.outcome {
            AttemptOutcome::NotSent => grant.open_attempts.saturating_sub(1),
            AttemptOutcome::Responded => 0,
            AttemptOutcome::Unknown => grant.open_attempts,
        };
        grant.backoff = self.backoff;
        grant.refused = self.refused;
        // A grant that has ended meanwhile stays ended.
        if self.needs_user && grant.state.is_usable() {
            grant.state = GrantState::NeedsUser;
        }
    }
}

/// Known result of an attempt that returned no new tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "stores must handle each")]
pub enum AttemptOutcome {
    /// No request was sent: the mark of this attempt, if there is one, is removed.
    NotSent,
    /// The authorization server responded without new tokens: all marks are removed.
    Responded,
    /// The request may have been processed: the marks stay.
    Unknown,
}
