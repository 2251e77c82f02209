//! The end of token families.

use tower_token_broker::{
    clock::Timestamp,
    principal::{Resource, User},
};

use super::Family;
use crate::authority::{ClientId, Code, limits};

/// Why and when a family was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct FamilyEnd {
    /// The reason.
    pub reason: FamilyEndReason,
    /// The instant.
    pub at: Timestamp,
}

impl FamilyEnd {
    /// Creates an end.
    pub const fn new(reason: FamilyEndReason, at: Timestamp) -> Self {
        Self { reason, at }
    }
}

/// Why a family was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FamilyEndReason {
    /// The client revoked a token (RFC 7009).
    Client,
    /// The user ended it, or all of them.
    User,
    /// The operator revoked the family, the client or the user.
    Operator,
    /// The authorization code was presented again.
    CodeReplay,
    /// A refresh token was presented again after it had been superseded.
    RefreshReplay,
}

impl FamilyEndReason {
    const ALL: [Self; 5] =
        [Self::Client, Self::User, Self::Operator, Self::CodeReplay, Self::RefreshReplay];

    /// Returns the name, as a store writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::User => "user",
            Self::Operator => "operator",
            Self::CodeReplay => "code_replay",
            Self::RefreshReplay => "refresh_replay",
        }
    }

    /// Returns the reason of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

/// Selects token families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "does nothing unless it is used"]
pub struct FamilyFilter {
    /// Only families of this user.
    pub user: Option<User>,
    /// Only families of this client.
    pub client: Option<ClientId>,
    /// Only families whose tokens are for this resource.
    pub resource: Option<Resource>,
    /// Only families that have neither been ended nor expired at this instant.
    pub active_at: Option<Timestamp>,
}

impl FamilyFilter {
    /// Selects all families.
    pub const fn all() -> Self {
        Self { user: None, client: None, resource: None, active_at: None }
    }

    /// Selects only families of this user.
    pub fn user(mut self, user: User) -> Self {
        self.user = Some(user);
        self
    }

    /// Selects only families of this client.
    pub fn client(mut self, client: ClientId) -> Self {
        self.client = Some(client);
        self
    }

    /// Selects only families whose tokens are for this resource.
    pub fn resource(mut self, resource: Resource) -> Self {
        self.resource = Some(resource);
        self
    }

    /// Selects only families that have neither been ended nor expired at this instant.
    pub const fn active_at(mut self, now: Timestamp) -> Self {
        self.active_at = Some(now);
        self
    }

    /// Returns whether a family is selected.
    pub fn selects(&self, family: &Family) -> bool {
        self.user.as_ref().is_none_or(|user| *user == family.user)
            && self.client.as_ref().is_none_or(|client| *client == family.client)
            && self.resource.as_ref().is_none_or(|resource| *resource == family.resource)
            && self.active_at.is_none_or(|now| !family.has_ended(now))
    }

    /// Returns whether the family that begins with this code is selected.
    pub fn selects_code(&self, code: &Code) -> bool {
        self.user.as_ref().is_none_or(|user| *user == code.user)
            && self.client.as_ref().is_none_or(|client| *client == code.client)
            && self.resource.as_ref().is_none_or(|resource| *resource == code.resource)
            && self.active_at.is_none_or(|now| now < code.expires_at)
    }

    /// Returns whether a store can have families of this user and this client.
    pub fn is_storable(&self) -> bool {
        self.user.as_ref().is_none_or(|user| limits::user(user).is_ok())
            && self.client.as_ref().is_none_or(|client| limits::client(client.as_str()).is_ok())
    }
}

/// Request to end families.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "does nothing unless it is used"]
pub struct EndFamilies {
    /// The families.
    pub filter: FamilyFilter,
    /// Why and when they are ended.
    pub end: FamilyEnd,
}

impl EndFamilies {
    /// Requests the end of all selected families.
    pub const fn new(filter: FamilyFilter, end: FamilyEnd) -> Self {
        Self { filter, end }
    }
}
