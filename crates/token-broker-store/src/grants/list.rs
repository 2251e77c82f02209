//! Lists of grants, page by page.

use tower_token_broker::principal::{GrantId, User};

use super::{Grant, GrantKey, GrantSummary};

/// Selects grants, and one page of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "does nothing unless it is used"]
pub struct GrantFilter {
    /// Only grants of this user.
    pub user: Option<User>,
    /// Only grants for this server.
    pub server: Option<Box<str>>,
    /// Cursor: only grants with a greater ID. Taken from [`GrantPage::next`].
    pub after: Option<GrantId>,
    /// Largest number of grants in the page. Stores use [`GrantFilter::page_size`].
    pub limit: usize,
}

impl GrantFilter {
    /// Largest number of grants in a page.
    pub const MAX_LIMIT: usize = 1_000;

    const DEFAULT_LIMIT: usize = 100;

    /// Selects all grants.
    pub const fn all() -> Self {
        Self { user: None, server: None, after: None, limit: Self::DEFAULT_LIMIT }
    }

    /// Selects only grants of this user.
    pub fn user(mut self, user: User) -> Self {
        self.user = Some(user);
        self
    }

    /// Selects only grants for this server.
    pub fn server(mut self, server: &str) -> Self {
        self.server = Some(server.into());
        self
    }

    /// Continues after this cursor, from [`GrantPage::next`].
    pub fn after(mut self, cursor: GrantId) -> Self {
        self.after = Some(cursor);
        self
    }

    /// Sets the largest number of grants in the page.
    pub const fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Returns the limit, between 1 and [`GrantFilter::MAX_LIMIT`].
    pub fn page_size(&self) -> usize {
        self.limit.clamp(1, Self::MAX_LIMIT)
    }

    /// Returns whether a grant with this ID and key is selected, apart from the limit.
    pub fn selects(&self, id: &GrantId, key: &GrantKey) -> bool {
        self.user.as_ref().is_none_or(|user| *user == key.user)
            && self.server.as_ref().is_none_or(|server| *server == key.server)
            && self.after.as_ref().is_none_or(|after| id.as_str() > after.as_str())
    }

    /// Creates the page of these grants, which need no order.
    pub(super) fn page_of<'a>(&self, grants: impl Iterator<Item = &'a Grant>) -> GrantPage {
        let mut selected: Vec<_> =
            grants.filter(|grant| self.selects(&grant.id, &grant.key)).collect();
        selected.sort_unstable_by(|one, other| one.id.as_str().cmp(other.id.as_str()));
        let has_more = selected.len() > self.page_size();
        selected.truncate(self.page_size());
        let next = selected.last().filter(|_| has_more).map(|last| last.id.clone());
        GrantPage { grants: selected.into_iter().map(Grant::to_summary).collect(), next }
    }
}

/// One page of a list of grants.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GrantPage {
    /// The grants, in the order of the octets of their IDs.
    pub grants: Vec<GrantSummary>,
    /// Cursor of the next page; `None` after the last one.
    pub next: Option<GrantId>,
}

impl GrantPage {
    /// Creates a page. Only stores call this.
    pub const fn new(grants: Vec<GrantSummary>, next: Option<GrantId>) -> Self {
        Self { grants, next }
    }
}
