//! The trait of a store of token families.

use tower_token_broker::clock::Timestamp;

use super::{EndFamilies, Family, FamilyEnd, FamilyFilter, KeyedFamily};
use crate::{
    StoreError,
    authority::{FamilyId, Page, PageRequest},
};

/// Request to begin the next generation of a family, because the refresh token of the current one
/// was used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "does nothing unless it is used"]
pub struct AdvanceFamily {
    /// ID of the family.
    pub id: FamilyId,
    /// The generation that was used.
    pub generation: u64,
    /// Current time.
    pub now: Timestamp,
    /// [`Family::idle_until`] from now on.
    pub idle_until: Timestamp,
    /// The instants of generations that were superseded since then are kept
    /// ([`Family::superseded_at`]).
    pub keep_since: Timestamp,
}

impl AdvanceFamily {
    /// Creates a request.
    pub const fn new(
        id: FamilyId,
        generation: u64,
        now: Timestamp,
        (idle_until, keep_since): (Timestamp, Timestamp),
    ) -> Self {
        Self { id, generation, now, idle_until, keep_since }
    }
}

/// Outcome of an [`AdvanceFamily`], with the family as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "callers must handle each")]
#[must_use = "the family may not have advanced"]
pub enum Advance {
    /// The next generation is the current one now.
    Advanced(Family),
    /// Another generation than the one in the request is the current one: another caller was
    /// first, or the request named one that was superseded or never issued.
    Stale(Family),
    /// The family was ended, or has expired.
    Ended(Family),
    /// There is no such family.
    Unknown,
}

/// A store of token families. A family begins when its code is redeemed
/// ([`CodeStore::redeem_code`](super::super::CodeStore::redeem_code)).
///
/// Each method is one step that is atomic, and durable when it returns. A step whose future is
/// dropped has either taken effect completely or not at all. Methods fail with
/// [`StoreError::Unreachable`]; further errors are listed at each. An ID that no store keeps (with
/// NUL, or too long) is an unknown one.
pub trait FamilyStore: Send + Sync + 'static {
    /// Returns the family with this ID, in any state, with its key.
    ///
    /// # Errors
    /// [`StoreError::UnreadableRow`]
    ///
    /// # Cancellation
    /// Reads only.
    fn family(
        &self,
        id: &FamilyId,
    ) -> impl Future<Output = Result<Option<KeyedFamily>, StoreError>> + Send;

    /// Begins the next generation, if the one in the request is the current one
    /// ([`Family::advance`]). Of several calls with one generation, one advances; the others return
    /// the family that it stored.
    ///
    /// # Errors
    /// [`StoreError::UnreadableRow`]
    ///
    /// # Cancellation
    /// The family has advanced or not: the same request is then [`Advance::Stale`], with the
    /// generation that it began.
    fn advance_family(
        &self,
        request: &AdvanceFamily,
    ) -> impl Future<Output = Result<Advance, StoreError>> + Send;

    /// Ends a family and erases its key, and returns whether it did: `false` if it was ended before
    /// or is unknown. An expired family is ended, too.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// The family is ended or not; a retry is safe.
    fn end_family(
        &self,
        id: &FamilyId,
        end: FamilyEnd,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Ends all selected families in one step, and returns the IDs of those that were not ended
    /// before. In the same step, it ends the unused codes with which selected families would begin:
    /// of a code that is redeemed at the same time, either the code is ended or its family.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// All of them are ended, or none; a retry is safe.
    fn end_families(
        &self,
        request: &EndFamilies,
    ) -> impl Future<Output = Result<Vec<FamilyId>, StoreError>> + Send;

    /// Returns one page of the selected families, in the order of the octets of their IDs. A family
    /// that exists and is selected while all pages are read is in exactly one of them. One that
    /// can't be read is in [`Page::unreadable`].
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// Reads only.
    fn families(
        &self,
        filter: &FamilyFilter,
        page: &PageRequest,
    ) -> impl Future<Output = Result<Page<Family>, StoreError>> + Send;

    /// Removes families that were ended or expired before this instant, at most `limit`, and
    /// returns their number.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// Each family is removed or not; a retry is safe.
    fn remove_families(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;
}
