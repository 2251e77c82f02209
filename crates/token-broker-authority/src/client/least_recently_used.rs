//! A table of bounded size, by URL. The row that was not used for the longest time makes space.

use std::{collections::HashMap, fmt};

/// A table of bounded size, by URL.
///
/// Rows of a lower rank ([`Rank`]) make space first.
pub(super) struct LeastRecentlyUsed<T> {
    capacity: usize,
    rows: HashMap<Box<str>, Row<T>>,
    /// Number of uses so far.
    uses: u64,
}

struct Row<T> {
    value: T,
    /// Number of the last use.
    used: u64,
}

/// How long a row is kept while others need space.
pub(super) trait Rank {
    fn rank(&self) -> u8;
}

impl<T: Rank> LeastRecentlyUsed<T> {
    /// Creates a table of at least one row.
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), rows: HashMap::new(), uses: 0 }
    }

    /// Returns a row, and notes its use.
    pub(super) fn get(&mut self, url: &str) -> Option<&mut T> {
        let row = self.rows.get_mut(url)?;
        self.uses += 1;
        row.used = self.uses;
        Some(&mut row.value)
    }

    /// Adds or replaces a row.
    // F522
    pub(super) fn insert(&mut self, url: &str, value: T) {
        while self.rows.len() >= self.capacity && !self.rows.contains_key(url) {
            let first = self.rows.iter().min_by_key(|(_, row)| (row.value.rank(), row.used));
            let Some(first) = first.map(|(url, _)| url.clone()) else { break };
            self.rows.remove(&first);
        }
        self.uses += 1;
        self.rows.insert(url.into(), Row { value, used: self.uses });
    }

    pub(super) fn remove(&mut self, url: &str) {
        self.rows.remove(url);
    }
}

impl<T> fmt::Debug for LeastRecentlyUsed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeastRecentlyUsed").field("rows", &self.rows.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Rank for bool {
        fn rank(&self) -> u8 {
            u8::from(*self)
        }
    }

    fn urls(table: &LeastRecentlyUsed<bool>) -> Vec<&str> {
        let mut urls: Vec<_> = table.rows.keys().map(|url| &**url).collect();
        urls.sort_unstable();
        urls
    }

    #[test]
    fn the_row_without_use_for_longest_makes_room() {
        let mut table = LeastRecentlyUsed::new(3);
        for url in ["a", "b", "c"] {
            table.insert(url, false);
        }
        assert_eq!(table.get("a"), Some(&mut false));
        table.insert("d", false);
        assert_eq!(urls(&table), ["a", "c", "d"]);
        // A row that is replaced needs no space.
        table.insert("c", true);
        assert_eq!(urls(&table), ["a", "c", "d"]);
        table.remove("a");
        assert_eq!(table.get("a"), None);
        assert_eq!(urls(&table), ["c", "d"]);
    }

    #[test]
    fn f522_rows_of_a_higher_rank_make_space_last() {
        let mut table = LeastRecentlyUsed::new(3);
        table.insert("kept", true);
        for number in 0..100 {
            table.insert(&number.to_string(), false);
        }
        assert_eq!(urls(&table), ["98", "99", "kept"], "F522");
        for number in 0..10 {
            table.insert(&format!("kept {number}"), true);
        }
        assert_eq!(urls(&table), ["kept 7", "kept 8", "kept 9"], "F522: bounded");
        let mut one = LeastRecentlyUsed::new(0);
        one.insert("a", true);
        one.insert("b", false);
        assert_eq!(urls(&one), ["b"]);
    }
}
