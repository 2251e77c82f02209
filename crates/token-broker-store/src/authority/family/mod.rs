//! Token families: all tokens from one authorization.

mod end;
mod store;
mod superseded;

use tower_token_broker::{
    Secret,
    clock::Timestamp,
    principal::{Resource, Scopes, User},
};

pub use self::{
    end::{EndFamilies, FamilyEnd, FamilyEndReason, FamilyFilter},
    store::{Advance, AdvanceFamily, FamilyStore},
    superseded::Superseded,
};
use super::{ClientId, Code, FamilyId, RedeemCode};

/// A token family: all tokens from one authorization. Refresh tokens are not stored: each is
/// derived from the ID of the family, its generation, and the key of the family.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Family {
    /// ID, unique in a store.
    pub id: FamilyId,
    /// The user that consented.
    pub user: User,
    /// The client.
    pub client: ClientId,
    /// The resource of its access tokens.
    pub resource: Resource,
    /// Scopes that the user allowed.
    pub scopes: Scopes,
    /// Generation of the current refresh token, which was not used yet: its use begins the next
    /// generation. The first one is 1.
    pub generation: u64,
    /// When the current generation was issued, and its predecessor superseded.
    pub issued_at: Timestamp,
    /// When earlier generations were superseded.
    pub superseded: Superseded,
    /// When the family began.
    pub created_at: Timestamp,
    /// When a refresh token was last used; at first, when the family began.
    pub last_used_at: Timestamp,
    /// End of the family unless it is used before.
    pub idle_until: Timestamp,
    /// End of the family in any case.
    pub ends_at: Timestamp,
    /// Why and when it was ended, if it was.
    pub end: Option<FamilyEnd>,
}

/// A family with its key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeyedFamily {
    /// The family.
    pub family: Family,
    /// Key of which its refresh tokens are derived, 32 octets. `None` if the family was ended: the
    /// key is erased.
    pub key: Option<Secret>,
}

impl KeyedFamily {
    /// Creates a family with its key. Only stores call this.
    pub const fn new(family: Family, key: Option<Secret>) -> Self {
        Self { family, key }
    }
}

impl Family {
    /// Number of octets of a key.
    pub const KEY_LENGTH: usize = 32;

    /// Creates a family without scopes, which is used until its absolute end. Only stores call
    /// this.
    pub fn new(
        id: FamilyId,
        user: User,
        client: ClientId,
        resource: Resource,
        (created_at, ends_at): (Timestamp, Timestamp),
    ) -> Self {
        Self {
            id,
            user,
            client,
            resource,
            scopes: Scopes::none(),
            generation: 1,
            issued_at: created_at,
            superseded: Superseded::default(),
            created_at,
            last_used_at: created_at,
            idle_until: ends_at,
            ends_at,
            end: None,
        }
    }

    /// Returns the family that begins when this code is redeemed. Only stores call this.
    pub fn begin(code: &Code, request: &RedeemCode) -> Self {
        let (user, client) = (code.user.clone(), code.client.clone());
        let times = (request.now, request.ends_at);
        let mut family = Self::new(code.family.clone(), user, client, code.resource.clone(), times);
        family.scopes = code.scopes.clone();
        family.idle_until = request.idle_until;
        family
    }

    /// Returns whether no refresh token is accepted any more: it was ended, or has expired.
    pub fn has_ended(&self, now: Timestamp) -> bool {
        self.end.is_some() || self.has_expired(now)
    }

    /// Returns whether it has expired.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        now >= self.idle_until || now >= self.ends_at
    }

    /// Returns when a generation was superseded; `None` for the current one and for later ones.
    pub fn superseded_at(&self, generation: u64) -> Option<Timestamp> {
        self.superseded.at(generation)
    }

    /// Decides on a request as every store must, and changes the family if it advances.
    pub fn advance(&mut self, request: &AdvanceFamily) -> bool {
        let is_current = self.generation == request.generation;
        if self.has_ended(request.now) || !is_current || self.generation == u64::MAX {
            return false;
        }
        self.superseded.add(self.generation, request.now, request.keep_since);
        self.generation += 1;
        self.issued_at = request.now;
        self.last_used_at = request.now;
        self.idle_until = request.idle_until;
        true
    }
}
