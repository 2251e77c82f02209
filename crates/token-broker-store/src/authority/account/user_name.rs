//! Names of local accounts.

use std::{fmt, sync::Arc};

use unicode_normalization::UnicodeNormalization as _;

/// Name of a local account, in normalization form C. Cheap to clone.
///
/// Two names are equal if they differ only in case or in normalization: both are brought to form C,
/// then each character to upper case and to lower case, then to form C again
/// ([`UserName::as_key`]). `ß` and `ss` are equal, too. Letters of different scripts that look
/// alike are not.
///
/// ```
/// use token_broker_store::authority::UserName;
///
/// let name = UserName::parse("Zoë").unwrap();
/// assert_eq!(name, UserName::parse("ZOE\u{308}").unwrap());
/// assert_eq!(name.as_str(), "Zoë");
/// assert!(UserName::parse(" zoe").is_err());
/// ```
#[derive(Clone)]
pub struct UserName {
    name: Arc<str>,
    key: Arc<str>,
}

impl UserName {
    /// Largest number of octets of a name in form C.
    pub const MAX_LENGTH: usize = 128;

    /// Parses a name: at least one character, no blanks at its ends, no control characters and none
    /// that are invisible or change the direction of text.
    ///
    /// # Errors
    /// [`UserNameError`]
    pub fn parse(text: &str) -> Result<Self, UserNameError> {
        // Checked first: normalization takes time, and at most triples the length.
        if text.len() > 3 * Self::MAX_LENGTH {
            return Err(UserNameError::Length);
        }
        let name: String = text.nfc().collect();
        if name.is_empty() || name.len() > Self::MAX_LENGTH {
            return Err(UserNameError::Length);
        }
        if name.trim() != name {
            return Err(UserNameError::Blank);
        }
        if name.chars().any(|char| char.is_control() || is_invisible(char)) {
            return Err(UserNameError::Character);
        }
        let key = folded(&name);
        Ok(Self { name: name.into(), key: key.into() })
    }

    /// Returns the name as it was given, in form C.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Returns the text by which names are compared.
    pub fn as_key(&self) -> &str {
        &self.key
    }
}

/// By upper case first, so that letters with several lower cases (`σ` and `ς`) become one.
fn folded(name: &str) -> String {
    let mut folded = name.to_owned();
    // A second time: the result of the first may have letters that only the second one changes.
    for _ in 0..2 {
        let upper = folded.chars().flat_map(char::to_uppercase);
        folded = upper.flat_map(char::to_lowercase).nfc().collect();
    }
    folded
}

/// Characters of the category `Cf`, line separators, and letters without a glyph.
const fn is_invisible(char: char) -> bool {
    matches!(
        char,
        '\u{ad}'
            | '\u{34f}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{890}'..='\u{891}'
            | '\u{8e2}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{110bd}'
            | '\u{110cd}'
            | '\u{13430}'..='\u{1345f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

impl PartialEq for UserName {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for UserName {}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UserName").field(&self.name).finish()
    }
}

/// The reason why a text is no user name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UserNameError {
    /// It is empty or too long.
    #[error("a user name has 1 to {} bytes", UserName::MAX_LENGTH)]
    Length,
    /// It begins or ends with a blank.
    #[error("a user name has no blanks at its ends")]
    Blank,
    /// It has a character that is not visible.
    #[error("a user name has no control characters and no invisible ones")]
    Character,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_in_case_or_form_are_equal() {
        let equal = [
            ("alice", "ALICE"),
            ("Zoë", "zoe\u{308}"),
            ("straße", "STRASSE"),
            ("Σίσυφος", "ΣΊΣΥΦΟΣ"),
            ("Åsa", "\u{212b}sa"),
            ("İnci", "i\u{307}nci"),
            ("ǆ", "ǅ"),
            ("a b", "A B"),
        ];
        for (one, other) in equal {
            let (one, other) = (UserName::parse(one).unwrap(), UserName::parse(other).unwrap());
            assert_eq!(one, other, "{:?} {:?}", one.as_key(), other.as_key());
        }
        for (one, other) in [("alice", "alicе"), ("alice", "alic"), ("a b", "ab"), ("é", "e")] {
            assert_ne!(UserName::parse(one).unwrap(), UserName::parse(other).unwrap());
        }
    }

    #[test]
    fn each_character_has_one_key() {
        let has_cases = |char: &char| {
            let mut cases = char.to_uppercase().chain(char.to_lowercase());
            cases.any(|case| case != *char)
                || !unicode_normalization::is_nfc(char.encode_utf8(&mut [0; 4]))
        };
        for char in (0..=0x10_ffff).filter_map(char::from_u32).filter(has_cases) {
            let Ok(name) = UserName::parse(&format!("a{char}b")) else { continue };
            // The key of a key is itself, and so is that of the other cases.
            let key = folded(name.as_key());
            assert_eq!(key, name.as_key(), "{char:?}");
            let others = [name.as_str().to_uppercase(), name.as_str().to_lowercase()];
            for other in others {
                assert_eq!(folded(&other.nfc().collect::<String>()), key, "{char:?} {other:?}");
            }
        }
    }

    #[test]
    fn hostile_names_are_refused() {
        use UserNameError::{Blank, Character, Length};
        let (long, longest) = ("a".repeat(1 << 20), "a".repeat(128));
        let longer = format!("{longest}a");
        for (text, error) in [
            ("", Length),
            (long.as_str(), Length),
            (longer.as_str(), Length),
            (" a", Blank),
            ("a\u{a0}", Blank),
            ("a\0b", Character),
            ("a\nb", Character),
            ("\u{202e}ecila", Character),
            ("ali\u{200b}ce", Character),
            ("ali\u{ad}ce", Character),
            ("a\u{e0041}", Character),
        ] {
            assert_eq!(UserName::parse(text), Err(error), "{text:.20?}");
        }
        assert!(UserName::parse(&longest).is_ok());
        assert!(UserName::parse("👩 李明 'x'; --").is_ok());
    }
}
