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
    acts_for: Option<Arc<Self>>,
}

impl Actor {
    /// Creates an actor; `before` is the previous actor, if any.
    pub fn new(user: User, before: Option<Self>) -> Self {
        Self { user, acts_for: before.map(Arc::new) }
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
