//! Sets of OAuth scopes.

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use crate::bad_value::BadValue;

/// A set of OAuth scope tokens (RFC 6749 §3.3), sorted and without duplicates. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scopes(Arc<[Box<str>]>);

impl Scopes {
    /// Returns the empty set.
    pub fn none() -> Self {
        static NONE: LazyLock<Scopes> = LazyLock::new(|| Scopes(Arc::new([])));
        NONE.clone()
    }

    /// Parses a space-delimited list, as in the `scope` parameter and claim (RFC 6749 §3.3).
    ///
    /// # Errors
    /// A token with a character outside of `%x21 / %x23-5B / %x5D-7E`, more than 1 000 tokens, or
    /// more than 16 KiB.
    pub fn parse(text: &str) -> Result<Self, ScopesError> {
        if text.len() > 16 * 1024 || text.split(' ').count() > 1000 {
            return Err(ScopesError::TooLarge { bytes: text.len() });
        }
        let mut tokens = Vec::new();
        for token in text.split(' ').filter(|token| !token.is_empty()) {
            if !token.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e)) {
                return Err(ScopesError::Character { scope: token.into() });
            }
            tokens.push(Box::from(token));
        }
        Ok(Self::of(tokens))
    }

    fn of(mut tokens: Vec<Box<str>>) -> Self {
        tokens.sort_unstable();
        tokens.dedup();
        Self(tokens.into())
    }

    /// Returns whether exactly this token is in the set.
    pub fn contains(&self, token: &str) -> bool {
        self.0.binary_search_by(|held| held.as_ref().cmp(token)).is_ok()
    }

    /// Returns whether all of `needed` is in the set.
    pub fn contains_all(&self, needed: &Self) -> bool {
        needed.iter().all(|token| self.contains(token))
    }

    /// Returns the union of both sets.
    #[must_use = "returns the new value"]
    pub fn union(&self, other: &Self) -> Self {
        if self.contains_all(other) {
            return self.clone();
        }
        Self::of(self.0.iter().chain(other.0.iter()).cloned().collect())
    }

    /// Returns the tokens in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// Returns whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Space-delimited, as on the wire.
impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, token) in self.iter().enumerate() {
            if position > 0 {
                f.write_str(" ")?;
            }
            f.write_str(token)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scopes({self})")
    }
}

/// The reasons why a text is not a list of scopes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScopesError {
    /// A character that RFC 6749 §3.3 does not allow.
    #[error("the scope {scope} has a character that RFC 6749 section 3.3 does not allow")]
    Character {
        /// The scope.
        scope: BadValue,
    },
    /// More than 1 000 scopes, or more than 16 KiB.
    #[error("more than 1000 scopes or 16 KiB of them ({bytes} bytes)")]
    TooLarge {
        /// The length of the text.
        bytes: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_a_set() {
        let scopes = Scopes::parse("b a  b").unwrap();
        assert_eq!(scopes.to_string(), "a b");
        assert!(scopes.contains("a") && !scopes.contains("A"));
        assert_eq!(scopes.union(&Scopes::parse("c").unwrap()).to_string(), "a b c");
        assert_eq!(Scopes::parse("a\"b"), Err(ScopesError::Character { scope: "a\"b".into() }));
        assert_eq!(Scopes::parse("a\tb"), Err(ScopesError::Character { scope: "a\tb".into() }));
        assert_eq!(Scopes::parse(&"a ".repeat(1000)), Err(ScopesError::TooLarge { bytes: 2000 }));
        assert_eq!(
            Scopes::parse(&"a".repeat(16 * 1024 + 1)),
            Err(ScopesError::TooLarge { bytes: 16 * 1024 + 1 })
        );
        assert_eq!(Scopes::parse(&["a"; 1000].join(" ")).unwrap().to_string(), "a");
    }
}
