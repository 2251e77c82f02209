//! What was revoked, and since when. (Being written; the signatures stand.)

use std::sync::Arc;

use crate::{
    clock::{Clock, Timestamp},
    exchange::GrantId,
    principal::{Person, Principal, Resource},
    refusal::Reason,
};

/// The number that rises with each revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub(crate) u64);

/// What can be revoked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Revoked {
    /// One broker token, by issuer and `jti`.
    Token {
        /// `iss`
        issuer: Arc<str>,
        /// `jti`
        id: Arc<str>,
    },
    /// All tokens of one authorization, by issuer and family.
    Family {
        /// `iss`
        issuer: Arc<str>,
        /// The family's id.
        id: Arc<str>,
    },
    /// All tokens of one client, by issuer and `client_id`, that were issued until now.
    Client {
        /// `iss`
        issuer: Arc<str>,
        /// `client_id`
        id: Arc<str>,
    },
    /// All tokens of one person that were issued until now.
    Person(Person),
    /// One grant.
    Grant(GrantId),
    /// All tokens for one server that were issued until now.
    Server(Resource),
    /// All tokens that were issued until now.
    Everything,
}

/// All that is revoked, in one process. Cheap to clone; share one between all stacks of a process.
#[derive(Clone, Debug)]
pub struct Revocations(Arc<Clock>);

impl Revocations {
    /// Nothing is revoked yet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self(Arc::new(clock))
    }

    /// Revokes; when it returns, no request that begins later is let in, and open streams are being cut.
    pub fn revoke(&self, _what: Revoked) -> Epoch {
        todo!()
    }

    /// How often something was revoked.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        todo!()
    }
}

/// How one request stands: whether what it rests on has been revoked since. Found in the extensions, made by the
/// authenticate layer alone.
#[derive(Clone, Debug)]
pub struct Standing(Arc<(Principal, Timestamp)>);

impl Standing {
    /// Asked once more just before the send: token, family, client, person, server, everything, and this grant.
    /// From here on a revoke of the grant cuts the stream, too.
    ///
    /// # Errors
    /// [`Reason::Revoked`], [`Reason::GrantRevoked`], or [`Reason::RevocationStale`].
    pub(crate) fn ask_again(&self, _grant: Option<&GrantId>) -> Result<(), Reason> {
        todo!()
    }
}
