//! Users, and actors for them.

use std::sync::Arc;

/// A user: issuer and subject, as octets. Nothing is folded, trimmed or normalized, and an e-mail
/// address is no key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct User {
    issuer: Arc<str>,
    subject: Arc<str>,
}

impl User {
    /// Creates a user from issuer and subject, as in the token.
    pub fn new(issuer: impl Into<Arc<str>>, subject: impl Into<Arc<str>>) -> Self {
        Self { issuer: issuer.into(), subject: subject.into() }
    }

    /// Returns the issuer.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the subject at that issuer.
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

/// An actor for the user: one link of the chain of RFC 8693 §4.1.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Actor {
    user: User,
    client: Option<Arc<str>>,
    acts_for: Option<Arc<Self>>,
}

impl Actor {
    /// The longest chain of actors that is accepted.
    pub const MAX_CHAIN: usize = 8;

    /// Creates an actor; `before` is the previous actor, if any.
    pub fn new(user: User, before: Option<Self>) -> Self {
        Self { user, client: None, acts_for: before.map(Arc::new) }
    }

    /// Sets the client by which the actor acts, if the token names it (`client_id` in `act`). It is
    /// a client of the actor's issuer, and its revocation ends the token.
    #[must_use = "returns the changed actor"]
    pub fn with_client(mut self, client: &str) -> Self {
        self.client = Some(client.into());
        self
    }

    /// Returns the client by which the actor acts, if it is known.
    pub fn client(&self) -> Option<&str> {
        self.client.as_deref()
    }

    /// Returns issuer and subject of the actor.
    pub const fn user(&self) -> &User {
        &self.user
    }

    /// Returns the previous actor, which is only informative (RFC 8693 §4.1).
    pub fn before(&self) -> Option<&Self> {
        self.acts_for.as_deref()
    }
}
