//! Users, and who acts for them.

use std::sync::Arc;

/// A user: issuer and subject, as octets. Nothing is folded, trimmed or normalised, and an e-mail
/// address is no key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct User {
    issuer: Arc<str>,
    subject: Arc<str>,
}

impl User {
    /// Issuer and subject, as the token has them.
    pub fn new(issuer: impl Into<Arc<str>>, subject: impl Into<Arc<str>>) -> Self {
        Self { issuer: issuer.into(), subject: subject.into() }
    }

    /// Who says so.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Who it is at that issuer.
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

/// Who acts for the user: one link of the chain of RFC 8693 §4.1.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Actor {
    user: User,
    acts_for: Option<Arc<Self>>,
}

impl Actor {
    /// An actor, and the one who acted before it, if any.
    pub fn new(user: User, before: Option<Self>) -> Self {
        Self { user, acts_for: before.map(Arc::new) }
    }

    /// Issuer and subject of the actor.
    pub const fn user(&self) -> &User {
        &self.user
    }

    /// The actor before this one; for information alone (RFC 8693 §4.1).
    pub fn before(&self) -> Option<&Self> {
        self.acts_for.as_deref()
    }
}
