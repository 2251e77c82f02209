//! Revocations and blocks in a sequence that all replicas share.

use std::{fmt, pin::Pin, sync::Arc};

use super::RevocationTarget;
use crate::{
    clock::Timestamp,
    principal::{GrantId, Resource, User},
};

/// Place of an entry in the sequence of a [`RevocationStore`]. The first place is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(u64);

impl Sequence {
    /// Place before the first entry.
    pub const START: Self = Self(0);

    /// Creates a place from its number.
    pub const fn new(place: u64) -> Self {
        Self(place)
    }

    /// Returns the number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Returns the place before this one.
    #[must_use = "returns the new value"]
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// Returns the place after this one.
    #[must_use = "returns the new value"]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A change of what is revoked or blocked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RevocationChange {
    /// The target is revoked.
    Revoked(RevocationTarget),
    /// The user is refused, whenever a token was issued, until unblocked.
    Blocked(User),
    /// The user is no longer blocked.
    Unblocked(User),
    /// The grant is no longer revoked.
    GrantRestored(GrantId),
}

impl RevocationChange {
    /// Returns kind, issuer and ID, for stores with columns. Parts that a kind does not have are
    /// empty.
    pub fn to_columns(&self) -> (&'static str, &str, &str) {
        match self {
            Self::Revoked(target) => match target {
                RevocationTarget::Token { issuer, id } => ("token_revoked", issuer, id),
                RevocationTarget::Family { issuer, id } => ("family_revoked", issuer, id),
                RevocationTarget::Client { issuer, id } => ("client_revoked", issuer, id),
                RevocationTarget::User(user) => ("user_revoked", user.issuer(), user.subject()),
                RevocationTarget::Grant(grant) => ("grant_revoked", "", grant.as_str()),
                RevocationTarget::Server(resource) => ("server_revoked", "", resource.as_str()),
                RevocationTarget::Everything => ("everything_revoked", "", ""),
            },
            Self::Blocked(user) => ("user_blocked", user.issuer(), user.subject()),
            Self::Unblocked(user) => ("user_unblocked", user.issuer(), user.subject()),
            Self::GrantRestored(grant) => ("grant_restored", "", grant.as_str()),
        }
    }

    /// Creates the change of which [`RevocationChange::to_columns`] returned these; `None` if none
    /// did.
    pub fn from_columns(kind: &str, issuer: &str, id: &str) -> Option<Self> {
        let user = || User::new(issuer, id);
        let revoked = match kind {
            "token_revoked" => RevocationTarget::Token { issuer: issuer.into(), id: id.into() },
            "family_revoked" => RevocationTarget::Family { issuer: issuer.into(), id: id.into() },
            "client_revoked" => RevocationTarget::Client { issuer: issuer.into(), id: id.into() },
            "user_revoked" => RevocationTarget::User(user()),
            "grant_revoked" => RevocationTarget::Grant(GrantId::new(id)),
            "server_revoked" => RevocationTarget::Server(Resource::parse(id).ok()?),
            "everything_revoked" => RevocationTarget::Everything,
            "user_blocked" => return Some(Self::Blocked(user())),
            "user_unblocked" => return Some(Self::Unblocked(user())),
            "grant_restored" => return Some(Self::GrantRestored(GrantId::new(id))),
            _ => return None,
        };
        Some(Self::Revoked(revoked))
    }
}

/// An entry of the sequence: a change and its time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RevocationEntry {
    /// The change.
    pub change: RevocationChange,
    /// Time of the change, by the clock of the replica that made it.
    pub at: Timestamp,
}

impl RevocationEntry {
    /// Creates an entry.
    pub const fn new(change: RevocationChange, at: Timestamp) -> Self {
        Self { change, at }
    }
}

/// The result of [`RevocationStore::read_after`].
type ReadAfter = Result<Vec<(Sequence, RevocationEntry)>, RevocationStoreError>;

/// A store of revocations and blocks, shared by all replicas.
///
/// # Contract
/// - Places rise in the order in which entries become visible. Once a reader has seen place N, no
///   entry with a place up to N appears later. A SQL store with concurrent commits must ensure
///   this, because numbers of a database sequence become visible in the order of the commits.
/// - Places may have gaps.
/// - An entry may be dropped after the retention
///   ([`Revocations::RETENTION`](super::Revocations::RETENTION) plus three times the leeway), but
///   only if a reader that starts from [`Sequence::START`] still obtains all blocks and everything
///   that still counts: the last change of each user's block and of each grant is kept. The
///   retention is measured since the store appended the entry, by the store's own clock. It is not
///   counted from [`RevocationEntry::at`], because the clock of that replica may be wrong.
///
/// The laws in `token_broker_store::contract` (feature `contract`) check an implementation.
pub trait RevocationStore: Send + Sync + 'static {
    /// Appends an entry, and returns its place. The entry is durable, and visible to all readers,
    /// when it returns.
    ///
    /// # Errors
    /// [`RevocationStoreError`]; the entry may have been appended.
    ///
    /// # Cancellation
    /// The entry is appended or not. A retry may append it twice, which changes nothing.
    fn append(
        &self,
        entry: &RevocationEntry,
    ) -> impl Future<Output = Result<Sequence, RevocationStoreError>> + Send;

    /// Returns at most `limit` entries after the place `after`, in the order of their places. Fewer
    /// than `limit` entries are all entries.
    ///
    /// # Errors
    /// [`RevocationStoreError`]
    ///
    /// # Cancellation
    /// Reads only.
    fn read_after(&self, after: Sequence, limit: usize) -> impl Future<Output = ReadAfter> + Send;
}

/// The reason why a revocation store did not append or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RevocationStoreError {
    /// The store cannot be reached at the moment, or failed.
    #[error("the revocation store cannot be reached")]
    Unreachable,
    /// The entry can't be stored: a text is too long, or contains NUL.
    #[error("a text of the revocation has more than {limit} bytes, or contains NUL")]
    Invalid {
        /// Largest number of bytes.
        limit: usize,
    },
    /// An entry is unreadable: a newer version wrote it, or it is damaged.
    #[error("the revocation store has an unreadable entry at place {place}")]
    Unreadable {
        /// Its place.
        place: Sequence,
    },
}

/// A [`RevocationStore`] of any type, chosen by configuration. Clones share the store.
#[derive(Clone)]
pub struct BoxRevocationStore(Arc<dyn DynRevocationStore>);

impl BoxRevocationStore {
    /// Erases the type of a store.
    pub fn new(store: impl RevocationStore) -> Self {
        Self(Arc::new(store))
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, RevocationStoreError>> + Send + 'a>>;

/// [`RevocationStore`] with boxed futures, so that it can be a trait object.
trait DynRevocationStore: Send + Sync {
    fn append<'a>(&'a self, entry: &'a RevocationEntry) -> BoxFuture<'a, Sequence>;
    fn read_after(
        &self,
        after: Sequence,
        limit: usize,
    ) -> BoxFuture<'_, Vec<(Sequence, RevocationEntry)>>;
}

impl<S: RevocationStore> DynRevocationStore for S {
    fn append<'a>(&'a self, entry: &'a RevocationEntry) -> BoxFuture<'a, Sequence> {
        Box::pin(RevocationStore::append(self, entry))
    }

    fn read_after(
        &self,
        after: Sequence,
        limit: usize,
    ) -> BoxFuture<'_, Vec<(Sequence, RevocationEntry)>> {
        Box::pin(RevocationStore::read_after(self, after, limit))
    }
}

impl RevocationStore for BoxRevocationStore {
    async fn append(&self, entry: &RevocationEntry) -> Result<Sequence, RevocationStoreError> {
        self.0.append(entry).await
    }

    async fn read_after(
        &self,
        after: Sequence,
        limit: usize,
    ) -> Result<Vec<(Sequence, RevocationEntry)>, RevocationStoreError> {
        self.0.read_after(after, limit).await
    }
}

impl fmt::Debug for BoxRevocationStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxRevocationStore").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_keep_each_change() {
        let (issuer, id): (Arc<str>, Arc<str>) = ("https://i.example".into(), "a b\n".into());
        let user = User::new(issuer.clone(), id.clone());
        let grant = GrantId::new("g 1");
        for target in [
            RevocationTarget::Token { issuer: issuer.clone(), id: id.clone() },
            RevocationTarget::Family { issuer: issuer.clone(), id: id.clone() },
            RevocationTarget::Client { issuer, id },
            RevocationTarget::User(user.clone()),
            RevocationTarget::Grant(grant.clone()),
            RevocationTarget::Server(
                Resource::parse("https://broker.example.com/crm/mcp").unwrap(),
            ),
            RevocationTarget::Everything,
        ]
        .map(RevocationChange::Revoked)
        .into_iter()
        .chain([
            RevocationChange::Blocked(user.clone()),
            RevocationChange::Unblocked(user),
            RevocationChange::GrantRestored(grant),
        ]) {
            let (kind, issuer, id) = target.to_columns();
            assert_eq!(RevocationChange::from_columns(kind, issuer, id), Some(target.clone()));
        }
    }

    #[test]
    fn unknown_columns_are_no_change() {
        assert_eq!(RevocationChange::from_columns("user_forgiven", "https://i.example", "a"), None);
        assert_eq!(RevocationChange::from_columns("server_revoked", "", "not a uri"), None);
    }
}
