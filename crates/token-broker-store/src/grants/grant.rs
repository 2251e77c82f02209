//! What a user allowed the broker to hold for one upstream.

use tower_token_broker::{
    Secret,
    clock::Timestamp,
    principal::GrantId,
    principal::{Scopes, User},
};

/// A grant: whose it is, where it came from, and the tokens. A store keeps it; nobody prints it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Grant {
    /// As the store names it.
    pub id: GrantId,
    /// Whose it is.
    pub user: User,
    /// For which upstream, by its name.
    pub upstream: Box<str>,
    /// The authorization server it came from, by its issuer: its tokens are sent to no other.
    pub authorization_server: Box<str>,
    /// All that the user agreed to.
    pub granted: Scopes,
    /// The refresh token; without one the user must connect again when the access token ends.
    pub refresh_token: Option<Secret>,
    /// Access tokens, at most one for each set of scopes that was asked for.
    pub access: Vec<AccessToken>,
    /// Rises with each change of the tokens.
    pub version: u64,
    /// Whether it still stands.
    pub state: GrantState,
    /// How often this refresh token was sent without an answer that we know of. Zero again with each answer.
    pub open_attempts: u32,
    /// How many tries in a row have failed.
    pub failures: u32,
    /// Not tried again before then.
    pub retry_at: Option<Timestamp>,
}

impl Grant {
    /// A grant as it comes from the connect flow, without tokens yet.
    #[must_use]
    pub fn new(id: GrantId, user: User, upstream: &str, authorization_server: &str, granted: Scopes) -> Self {
        Self {
            id,
            user,
            upstream: upstream.into(),
            authorization_server: authorization_server.into(),
            granted,
            refresh_token: None,
            access: Vec::new(),
            version: 1,
            state: GrantState::Active,
            open_attempts: 0,
            failures: 0,
            retry_at: None,
        }
    }

    /// With this refresh token.
    #[must_use]
    pub fn refresh_token(mut self, token: Secret) -> Self {
        self.refresh_token = Some(token);
        self
    }

    /// With this access token, of the grant's present version.
    #[must_use]
    pub fn access_token(mut self, token: AccessToken) -> Self {
        self.access.retain(|held| held.asked != token.asked);
        self.access.push(AccessToken { version: self.version, ..token });
        self
    }
}

/// An access token, and what is known of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AccessToken {
    /// The token.
    pub secret: Secret,
    /// Which scopes were asked for when it was got.
    pub asked: Scopes,
    /// Which scopes it carries.
    pub scopes: Scopes,
    /// When it was got.
    pub obtained_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// The grant's version that it came with.
    pub version: u64,
    /// Whether it was got because the upstream had refused the one before it.
    pub forced: bool,
}

impl AccessToken {
    /// A token that carries what was asked for.
    #[must_use]
    pub fn new(secret: Secret, scopes: Scopes, obtained_at: Timestamp, expires_at: Timestamp) -> Self {
        Self { secret, asked: scopes.clone(), scopes, obtained_at, expires_at, version: 1, forced: false }
    }
}

/// Whether a grant still stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GrantState {
    /// It does.
    Active,
    /// The authorization server said `invalid_grant` for the current version.
    EndedByServer,
    /// The user or the operator ended it.
    Revoked,
}
