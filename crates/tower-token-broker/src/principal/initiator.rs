//! The initiator of a revocation or a command.

use super::User;

/// The initiator of a revocation, a block, a command, or another event that a
/// [note](crate::audit::Note) records.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Initiator(InitiatorKind);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum InitiatorKind {
    Operator(Box<str>),
    User(User),
    Client(Box<str>),
    System(Box<str>),
    Anonymous,
}

impl Initiator {
    /// Creates the initiator for an operator, by name.
    pub fn operator(name: &str) -> Self {
        Self(InitiatorKind::Operator(name.into()))
    }

    /// Creates the initiator for a user, on a page of the broker or of your own.
    pub fn user(user: &User) -> Self {
        Self(InitiatorKind::User(user.clone()))
    }

    /// Creates the initiator for a client of the authorization server, by its ID.
    pub fn client(id: &str) -> Self {
        Self(InitiatorKind::Client(id.into()))
    }

    /// Creates the initiator for a program, such as a webhook of the identity provider.
    pub fn system(name: &str) -> Self {
        Self(InitiatorKind::System(name.into()))
    }

    /// Creates the initiator for a visitor who has not signed in.
    pub const fn anonymous() -> Self {
        Self(InitiatorKind::Anonymous)
    }

    /// Returns the kind, as in the record: `operator`, `user`, `client`, `system` or
    /// `anonymous`.
    pub const fn kind(&self) -> &'static str {
        match self.0 {
            InitiatorKind::Operator(_) => "operator",
            InitiatorKind::User(_) => "user",
            InitiatorKind::Client(_) => "client",
            InitiatorKind::System(_) => "system",
            InitiatorKind::Anonymous => "anonymous",
        }
    }

    /// Returns the name of an operator or a system, or the ID of a client.
    pub fn name(&self) -> Option<&str> {
        match &self.0 {
            InitiatorKind::Operator(name)
            | InitiatorKind::Client(name)
            | InitiatorKind::System(name) => Some(name),
            InitiatorKind::User(_) | InitiatorKind::Anonymous => None,
        }
    }

    /// Returns the user, if it is one.
    pub const fn as_user(&self) -> Option<&User> {
        match &self.0 {
            InitiatorKind::User(user) => Some(user),
            InitiatorKind::Operator(_)
            | InitiatorKind::Client(_)
            | InitiatorKind::System(_)
            | InitiatorKind::Anonymous => None,
        }
    }
}
