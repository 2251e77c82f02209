//! Names of accounts: which of a user's accounts at one server a grant is for.

use std::{fmt, str::FromStr, sync::Arc};

/// Name of an account of a user at one server. Cheap to clone.
///
/// An account name is a segment of a URL path (`/{server}/{account}/mcp`): 1 to 64 bytes of
/// `a-z`, `0-9`, `.`, `_` and `-`, and neither `.` nor `..`. It has no upper case, so that no
/// store can confuse two names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Account(Arc<str>);

impl Account {
    /// Longest name, in bytes.
    pub const MAX_LENGTH: usize = 64;

    const DEFAULT: &'static str = "default";

    /// Parses a name.
    ///
    /// # Errors
    /// [`AccountError`] names the rule that the text breaks.
    pub fn parse(name: &str) -> Result<Self, AccountError> {
        if name.is_empty() {
            return Err(AccountError::Empty);
        }
        if name.len() > Self::MAX_LENGTH {
            return Err(AccountError::TooLong { length: name.len() });
        }
        let allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        if !name.bytes().all(allowed) {
            return Err(AccountError::Character { name: name.into() });
        }
        // A dot segment would be removed from a path (RFC 3986 §5.2.4).
        if matches!(name, "." | "..") {
            return Err(AccountError::DotSegment { name: name.into() });
        }
        Ok(Self(name.into()))
    }

    /// Returns the account of a user that has chosen no name for it: `default`.
    pub fn default_account() -> Self {
        Self(Self::DEFAULT.into())
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Account {
    type Err = AccountError;

    fn from_str(name: &str) -> Result<Self, AccountError> {
        Self::parse(name)
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The reason why a text is not an account name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    /// No text.
    #[error("an account name is empty")]
    Empty,
    /// More than [`Account::MAX_LENGTH`] bytes.
    #[error("an account name has {length} bytes; at most {} are allowed", Account::MAX_LENGTH)]
    TooLong {
        /// Length in bytes.
        length: usize,
    },
    /// A character outside of `a-z`, `0-9`, `.`, `_` and `-`.
    #[error("account name {name:?} has a character other than a-z, 0-9, '.', '_' and '-'")]
    Character {
        /// The text.
        name: Box<str>,
    },
    /// A dot segment of a path.
    #[error("account name {name:?} is a dot segment")]
    DotSegment {
        /// The text.
        name: Box<str>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_segments_are_account_names() {
        let longest = "a".repeat(64);
        for name in ["default", "a", "work-2", "acme.example", "_", "...", "0", longest.as_str()] {
            assert_eq!(
                Account::parse(name).map(|account| account.to_string()),
                Ok(name.to_owned())
            );
        }
        assert_eq!(Account::parse("default"), Ok(Account::default_account()));
    }

    #[test]
    fn other_texts_are_refused_by_name() {
        assert_eq!(Account::parse(""), Err(AccountError::Empty));
        assert_eq!(Account::parse(&"a".repeat(65)), Err(AccountError::TooLong { length: 65 }));
        for name in [".", ".."] {
            assert_eq!(Account::parse(name), Err(AccountError::DotSegment { name: name.into() }));
        }
        for name in ["Work", "a/b", "a%2fb", "a b", "ä", "a\0", "a\n", "a?", "a;b", "\u{212a}"] {
            let error = Account::parse(name).unwrap_err();
            assert_eq!(error, AccountError::Character { name: name.into() });
            assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
        }
    }
}
