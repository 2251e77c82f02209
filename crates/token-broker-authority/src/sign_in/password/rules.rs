//! Rules for passwords.
//!
//! # Sources
//! NIST SP 800-63B-4 §3.1.1.2 (length, no composition rules, common ones refused); RFC 8265 §4.2
//! (OpaqueString: how Unicode is compared).

use std::fmt;

use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

/// A password as it is compared: NFC, and with each blank as U+0020 (RFC 8265 §4.2.2). It is
/// zeroized on drop, and never printed.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Longest password, in bytes after normalization.
    pub const MAX_BYTES: usize = 1024;
    /// Fewest characters of a new password (NIST SP 800-63B-4 §3.1.1.2, where it is the only
    /// factor).
    pub const MIN_CHARACTERS: usize = 15;

    /// Prepares a password for comparison; `None` if no account can have it.
    pub fn parse(text: &str) -> Option<Self> {
        // Normalization to NFC makes text at most three times as long.
        if text.is_empty() || text.len() > Self::MAX_BYTES || text.chars().any(char::is_control) {
            return None;
        }
        let mut prepared = Zeroizing::new(String::with_capacity(text.len() * 3));
        prepared.extend(text.chars().map(plain_blank).nfc());
        (prepared.len() <= Self::MAX_BYTES).then_some(Self(prepared))
    }

    /// Checks a new password for an account with this name.
    ///
    /// # Errors
    /// [`NewPasswordError`] names the rule that it breaks.
    pub fn new(text: &str, user_name: &str) -> Result<Self, NewPasswordError> {
        if text.chars().any(char::is_control) {
            return Err(NewPasswordError::ControlCharacter);
        }
        if text.chars().count() < Self::MIN_CHARACTERS {
            return Err(NewPasswordError::TooShort);
        }
        let password = Self::parse(text).ok_or(NewPasswordError::TooLong)?;
        if password.0.chars().count() < Self::MIN_CHARACTERS {
            return Err(NewPasswordError::TooShort);
        }
        if is_guessable(&password.0, user_name) {
            Err(NewPasswordError::Guessable)
        } else {
            Ok(password)
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

fn plain_blank(character: char) -> char {
    if character.is_whitespace() { ' ' } else { character }
}

/// Whether little more than a name, a row of keys or a repetition is left to guess.
fn is_guessable(password: &str, user_name: &str) -> bool {
    let folded: String = password.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect();
    let mut distinct: Vec<char> = folded.chars().collect();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() < FEWEST_DISTINCT {
        return true;
    }
    let mut rest = folded;
    let name = user_name.to_lowercase();
    for part in [&*name, "tokenbroker", "password", "passwort"] {
        if !part.is_empty() {
            rest = rest.replace(part, "");
        }
    }
    for row in ROWS {
        let reversed: String = row.chars().rev().collect();
        for row in [(*row).to_owned(), reversed] {
            rest = without_runs(&rest, &row);
        }
    }
    rest.chars().count() < FEWEST_OTHER
}

/// Removes the longest pieces of a row of keys that have at least four characters.
fn without_runs(text: &str, row: &str) -> String {
    let doubled: Vec<char> = row.chars().chain(row.chars()).collect();
    let mut rest = text.to_owned();
    for length in (4..=row.chars().count()).rev() {
        for piece in doubled.windows(length) {
            let piece: String = piece.iter().collect();
            rest = rest.replace(&piece, "");
        }
    }
    rest
}

const FEWEST_DISTINCT: usize = 5;
const FEWEST_OTHER: usize = 5;
const ROWS: &[&str] = &[
    "1234567890",
    "0123456789",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
];

/// The reasons why a password cannot be used for an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NewPasswordError {
    /// Fewer than [`Password::MIN_CHARACTERS`].
    #[error("a password has at least {} characters", Password::MIN_CHARACTERS)]
    TooShort,
    /// More than [`Password::MAX_BYTES`].
    #[error("a password has at most {} bytes", Password::MAX_BYTES)]
    TooLong,
    /// A control character.
    #[error("a password has no control characters")]
    ControlCharacter,
    /// A repetition, a row of keys, or little more than the user name.
    #[error("a password is no repetition, row of keys or user name; use several random words")]
    Guessable,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_passwords_are_compared_alike() {
        let same = |one: &str, other: &str| {
            Password::parse(one).unwrap().as_bytes() == Password::parse(other).unwrap().as_bytes()
        };
        assert!(same("e\u{301}", "\u{e9}"));
        assert!(same("a\u{a0}b", "a b"));
        // Neither case nor compatibility characters are folded.
        assert!(!same("A", "a"));
        assert!(!same("\u{ff21}", "A"));
        assert!(!same("a ", "a"));
        for none in ["", "a\0", "a\n", &"x".repeat(1025), &"\u{1d160}".repeat(256)] {
            assert!(Password::parse(none).is_none(), "{none:?}");
        }
    }

    #[test]
    fn new_passwords_are_long_and_not_guessable() {
        for (text, error) in [
            ("correct horse", NewPasswordError::TooShort),
            ("e\u{301}e\u{301}e\u{301}e\u{301}abcdefz", NewPasswordError::TooShort),
            (&*"correct horse".repeat(100), NewPasswordError::TooLong),
            ("correct horse\nbattery", NewPasswordError::ControlCharacter),
            ("aaaaaaaaaaaaaaaaaaaa", NewPasswordError::Guessable),
            ("abababababababababab", NewPasswordError::Guessable),
            ("123456789012345", NewPasswordError::Guessable),
            ("987654321098765", NewPasswordError::Guessable),
            ("qwertyuiop123456", NewPasswordError::Guessable),
            ("alice.alice.alice", NewPasswordError::Guessable),
            ("Alice-Password-1", NewPasswordError::Guessable),
        ] {
            assert_eq!(Password::new(text, "alice").map(|_| ()), Err(error), "{text:.30}");
        }
        for text in ["correct horse battery", "пароль из слов", "alice likes horses"] {
            assert!(Password::new(text, "alice").is_ok() || text.chars().count() < 15, "{text}");
        }
        assert_eq!(format!("{:?}", Password::parse("hunter2")), "Some(Password)");
    }
}
