//! Pages of lists.

/// Selects one page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "does nothing unless it is used"]
pub struct PageRequest {
    /// Cursor: only rows after it. Taken from [`Page::next`].
    pub after: Option<Box<str>>,
    /// Largest number of rows in the page. Stores use [`PageRequest::size`].
    pub limit: usize,
}

impl PageRequest {
    /// Largest number of rows in a page.
    pub const MAX_LIMIT: usize = 1_000;

    const DEFAULT_LIMIT: usize = 100;

    /// Selects the first page.
    pub const fn first() -> Self {
        Self { after: None, limit: Self::DEFAULT_LIMIT }
    }

    /// Selects the page after this cursor, from [`Page::next`].
    pub fn after(cursor: &str) -> Self {
        Self { after: Some(cursor.into()), limit: Self::DEFAULT_LIMIT }
    }

    /// Sets the largest number of rows in the page.
    pub const fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Returns the limit, between 1 and [`PageRequest::MAX_LIMIT`].
    pub fn size(&self) -> usize {
        self.limit.clamp(1, Self::MAX_LIMIT)
    }

    /// Creates the page of these rows, which need no order.
    pub(super) fn page_of<T>(
        &self,
        rows: impl Iterator<Item = T>,
        id: impl Fn(&T) -> &str,
    ) -> Page<T> {
        let is_after = |row: &T| self.after.as_deref().is_none_or(|after| id(row) > after);
        let mut rows: Vec<_> = rows.filter(is_after).collect();
        rows.sort_unstable_by(|one, other| id(one).cmp(id(other)));
        let has_more = rows.len() > self.size();
        rows.truncate(self.size());
        let next = rows.last().filter(|_| has_more).map(|last| id(last).into());
        Page::new(rows, next)
    }
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page<T> {
    /// The rows, in the order of the octets of their IDs.
    pub rows: Vec<T>,
    /// Cursor of the next page; `None` after the last one.
    pub next: Option<Box<str>>,
    /// IDs of rows that can't be read: they were damaged or changed. They do not keep the others
    /// from being listed.
    pub unreadable: Vec<Box<str>>,
}

impl<T> Page<T> {
    /// Creates a page. Only stores call this.
    pub const fn new(rows: Vec<T>, next: Option<Box<str>>) -> Self {
        Self { rows, next, unreadable: Vec::new() }
    }

    /// Returns whether the page has no row, readable or not.
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.unreadable.is_empty()
    }

    /// Sets the IDs of rows that can't be read. Only stores call this.
    #[must_use = "returns the changed page"]
    pub fn unreadable(mut self, ids: Vec<Box<str>>) -> Self {
        self.unreadable = ids;
        self
    }
}
