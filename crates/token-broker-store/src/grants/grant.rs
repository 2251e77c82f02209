//! Grants: what a user allowed the broker to hold for one account at one server.

use std::time::Duration;

use tower_token_broker::{
    Secret,
    clock::Timestamp,
    principal::{GrantId, Scopes, User},
};

use super::Account;

/// Key of a grant: user, server and account. Each part is compared octet by octet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct GrantKey {
    /// The user that connected the account.
    pub user: User,
    /// Name of the server.
    pub server: Box<str>,
    /// Account of the user at this server.
    pub account: Account,
}

impl GrantKey {
    /// Creates a key.
    pub fn new(user: User, server: &str, account: Account) -> Self {
        Self { user, server: server.into(), account }
    }
}

/// One grant: its key and its ID. Each method of a store that changes a grant takes both, so that
/// an ID that belongs to another user, server or account finds nothing.
///
/// An ID by itself names no grant:
/// ```compile_fail,E0308
/// # use token_broker_store::{GrantStore, MemoryGrants};
/// # use tower_token_broker::principal::GrantId;
/// # async fn revoke(store: MemoryGrants, id: GrantId) {
/// store.revoke(&id).await.unwrap();
/// # }
/// ```
///
/// ```
/// # use token_broker_store::{Grant, GrantStore, MemoryGrants};
/// # async fn revoke(store: MemoryGrants, grant: Grant) {
/// store.revoke(&grant.to_ref()).await.unwrap();
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct GrantRef {
    /// User, server and account.
    pub key: GrantKey,
    /// ID of the grant.
    pub id: GrantId,
}

impl GrantRef {
    /// Creates a reference to the grant with this key, if it has this ID.
    pub const fn new(key: GrantKey, id: GrantId) -> Self {
        Self { key, id }
    }
}

/// A grant with its tokens. `Debug` does not print them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Grant {
    /// ID, unique in a store. A new connection gets a new ID, and an ID that was deleted is not
    /// used again.
    pub id: GrantId,
    /// User, server and account.
    pub key: GrantKey,
    /// Issuer of the authorization server that granted it. Its tokens are sent to no other.
    pub authorization_server: Box<str>,
    /// The client that obtained it (`client_id`), if it is not the configured one: one that the
    /// broker registered, or its metadata document. The grant stays bound to it.
    pub client_id: Option<Box<str>>,
    /// When the user connected the account; `None` if it is not known.
    pub connected_at: Option<Timestamp>,
    /// Origin of the server for which the user connected it; `None` if it is not known.
    pub upstream: Option<Box<str>>,
    /// The parameter `resource` of its token requests (RFC 8707), if the server named it.
    pub resource: Option<Box<str>>,
    /// Scopes that the user agreed to.
    pub granted: Scopes,
    /// Refresh token. Without one, the user must connect again when the access token expires.
    pub refresh_token: Option<Secret>,
    /// Access tokens, at most one for each set of requested scopes.
    pub access: Vec<AccessToken>,
    /// Version; rises with each change of the tokens.
    pub version: u64,
    /// Whether the tokens may be used.
    pub state: GrantState,
    /// Number of times that this refresh token was sent without a known response.
    pub open_attempts: u32,
    /// Failed refreshes in a row, and when the next may start.
    pub backoff: Backoff,
    /// Since when the authorization server refuses the grant, without a success in between.
    pub refused: Option<RepeatedRefusal>,
}

impl Grant {
    /// Creates an active grant without scopes and tokens.
    pub fn new(id: GrantId, key: GrantKey, authorization_server: &str) -> Self {
        Self {
            id,
            key,
            authorization_server: authorization_server.into(),
            client_id: None,
            connected_at: None,
            upstream: None,
            resource: None,
            granted: Scopes::none(),
            refresh_token: None,
            access: Vec::new(),
            version: 1,
            state: GrantState::Active,
            open_attempts: 0,
            backoff: Backoff::default(),
            refused: None,
        }
    }

    /// Sets the client that obtained it, if it is not the configured one.
    #[must_use = "returns the changed grant"]
    pub fn client_id(mut self, client_id: &str) -> Self {
        self.client_id = Some(client_id.into());
        self
    }

    /// Sets when the user connected the account.
    #[must_use = "returns the changed grant"]
    pub const fn connected_at(mut self, at: Timestamp) -> Self {
        self.connected_at = Some(at);
        self
    }

    /// Sets the origin of the server for which the user connected the account.
    #[must_use = "returns the changed grant"]
    pub fn upstream(mut self, origin: &str) -> Self {
        self.upstream = Some(origin.into());
        self
    }

    /// Sets the scopes that the user agreed to.
    #[must_use = "returns the changed grant"]
    pub fn granted(mut self, scopes: Scopes) -> Self {
        self.granted = scopes;
        self
    }

    /// Sets the refresh token.
    #[must_use = "returns the changed grant"]
    pub fn refresh_token(mut self, token: Secret) -> Self {
        self.refresh_token = Some(token);
        self
    }

    /// Adds an access token of the current version. It replaces one with the same requested scopes.
    #[must_use = "returns the changed grant"]
    pub fn access_token(mut self, token: AccessToken) -> Self {
        self.access.retain(|held| held.requested != token.requested);
        self.access.push(AccessToken { version: self.version, ..token });
        self
    }

    /// Returns its key and ID.
    pub fn to_ref(&self) -> GrantRef {
        GrantRef::new(self.key.clone(), self.id.clone())
    }

    /// Returns the grant without its secrets.
    pub fn to_summary(&self) -> GrantSummary {
        GrantSummary {
            id: self.id.clone(),
            key: self.key.clone(),
            authorization_server: self.authorization_server.clone(),
            client_id: self.client_id.clone(),
            connected_at: self.connected_at,
            upstream: self.upstream.clone(),
            granted: self.granted.clone(),
            has_refresh_token: self.refresh_token.is_some(),
            access_expires_at: self.access.iter().map(|token| token.expires_at).max(),
            version: self.version,
            state: self.state,
            open_attempts: self.open_attempts,
            backoff: self.backoff,
            refused: self.refused,
        }
    }
}

/// A grant without its secrets, for pages and commands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GrantSummary {
    /// [`Grant::id`]
    pub id: GrantId,
    /// [`Grant::key`]
    pub key: GrantKey,
    /// [`Grant::authorization_server`]
    pub authorization_server: Box<str>,
    /// [`Grant::client_id`]
    pub client_id: Option<Box<str>>,
    /// [`Grant::connected_at`]
    pub connected_at: Option<Timestamp>,
    /// [`Grant::upstream`]
    pub upstream: Option<Box<str>>,
    /// [`Grant::granted`]
    pub granted: Scopes,
    /// Whether the grant has a refresh token.
    pub has_refresh_token: bool,
    /// When the last of the access tokens expires.
    pub access_expires_at: Option<Timestamp>,
    /// [`Grant::version`]
    pub version: u64,
    /// [`Grant::state`]
    pub state: GrantState,
    /// [`Grant::open_attempts`]
    pub open_attempts: u32,
    /// [`Grant::backoff`]
    pub backoff: Backoff,
    /// [`Grant::refused`]
    pub refused: Option<RepeatedRefusal>,
}

impl GrantSummary {
    /// Returns the key and the ID of the grant.
    pub fn to_ref(&self) -> GrantRef {
        GrantRef::new(self.key.clone(), self.id.clone())
    }

    /// Creates the summary of an active grant without scopes and tokens. Only stores call this.
    pub fn new(id: GrantId, key: GrantKey, authorization_server: &str) -> Self {
        Grant::new(id, key, authorization_server).to_summary()
    }
}

/// An upstream access token. `Debug` does not print it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AccessToken {
    /// The token.
    pub secret: Secret,
    /// Scopes that were requested for it.
    pub requested: Scopes,
    /// Scopes that it carries.
    pub scopes: Scopes,
    /// When it was obtained.
    pub obtained_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
    /// Version of the grant that it came with; set by the store.
    pub version: u64,
    /// Whether it was obtained because the upstream had refused the one before it.
    pub forced: bool,
}

impl AccessToken {
    /// Creates a token that carries the requested scopes.
    pub fn new(
        secret: Secret,
        scopes: Scopes,
        obtained_at: Timestamp,
        expires_at: Timestamp,
    ) -> Self {
        let requested = scopes.clone();
        Self { secret, requested, scopes, obtained_at, expires_at, version: 1, forced: false }
    }
}

/// State of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GrantState {
    /// The tokens may be used.
    Active,
    /// The authorization server refuses the refresh token until the user has acted, or has refused
    /// it for so long that the user should connect again, or did not respond to the last attempt
    /// that is safe. The tokens are kept and may be used: a refresh that succeeds makes the grant
    /// active.
    NeedsUser,
    /// The authorization server responded `invalid_grant` for the current version.
    EndedByServer,
    /// The user or the operator revoked it.
    Revoked,
}

impl GrantState {
    /// Returns the name, as a store writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::NeedsUser => "needs_user",
            Self::EndedByServer => "ended_by_server",
            Self::Revoked => "revoked",
        }
    }

    /// Returns whether the tokens may be used and refreshed.
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Active | Self::NeedsUser)
    }

    /// Returns the state of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Active, Self::NeedsUser, Self::EndedByServer, Self::Revoked]
            .into_iter()
            .find(|state| state.as_str() == name)
    }
}

/// Failed refreshes in a row, and when the next may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
#[must_use = "does nothing unless it is used"]
pub struct Backoff {
    /// Number of failures in a row.
    pub failures: u32,
    /// No refresh starts before this instant.
    pub retry_at: Option<Timestamp>,
}

impl Backoff {
    /// Creates a backoff after this many failures.
    pub const fn new(failures: u32, retry_at: Option<Timestamp>) -> Self {
        Self { failures, retry_at }
    }

    /// Returns the backoff after one more failure.
    pub const fn after_failure(self, retry_at: Timestamp) -> Self {
        Self { failures: self.failures.saturating_add(1), retry_at: Some(retry_at) }
    }
}

/// Refusals by the authorization server in refreshes that follow one another, whatever their codes.
/// Refusals that are far apart are not one row: what happened between them is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RepeatedRefusal {
    /// First refusal of a row without a gap of more than a day.
    pub since: Timestamp,
    /// First refusal of a row without a gap of more than ten minutes.
    pub steady_since: Timestamp,
    /// Last refusal.
    pub last: Timestamp,
}

impl RepeatedRefusal {
    /// Longest gap in the row from [`RepeatedRefusal::since`] on.
    const LONG_GAP: Duration = Duration::from_secs(24 * 3600);
    /// Longest gap in the row from [`RepeatedRefusal::steady_since`] on.
    const SHORT_GAP: Duration = Duration::from_secs(600);

    /// Creates the record of a first refusal.
    pub const fn new(at: Timestamp) -> Self {
        Self { since: at, steady_since: at, last: at }
    }

    /// Returns the record after another refusal at this instant. A row with too long a gap before
    /// it begins again.
    // G513: two refusals do not show what the server did between them.
    #[must_use = "returns the changed record"]
    pub fn repeated(self, at: Timestamp) -> Self {
        let gap = self.last.until(at);
        Self {
            since: if gap > Self::LONG_GAP { at } else { self.since },
            steady_since: if gap > Self::SHORT_GAP { at } else { self.steady_since },
            last: at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g513_a_gap_begins_a_row_of_refusals_again() {
        let at = |seconds: u64| Timestamp::from_unix_seconds(1_800_000_000 + seconds);
        let first = RepeatedRefusal::new(at(0));
        for (gap, since, steady_since) in [
            (0, 0, 0),
            (600, 0, 0),
            (601, 0, 601),
            (24 * 3600, 0, 24 * 3600),
            (24 * 3600 + 1, 24 * 3600 + 1, 24 * 3600 + 1),
        ] {
            let next = first.repeated(at(gap));
            let row = (next.since, next.steady_since, next.last);
            assert_eq!(row, (at(since), at(steady_since), at(gap)), "G513 {gap}");
        }
        // Each gap is counted from the refusal before it, also by a clock that went back.
        let steady = first.repeated(at(600)).repeated(at(1200));
        assert_eq!((steady.steady_since, steady.last), (at(0), at(1200)), "G513");
        let before = at(0).minus(Duration::from_secs(5));
        assert_eq!(first.repeated(before).since, at(0), "G513");
    }
}
