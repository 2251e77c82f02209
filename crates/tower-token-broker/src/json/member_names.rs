//! Names of members that some reader takes for the same.
//!
//! Sources: Go `encoding/json` ignores case (with `ſ` and `K`), and its version 2 also `-` and `_`
//! (`case:ignore`); protobuf's JSON mapping and the Python SDK of MCP read `requestState` and
//! `request_state`. A reader in C may end a name at its first NUL. PHP, Rack and `qs` read
//! `owner[]` and `filter[owner]`, and many readers of settings `filter.owner`, as paths. Columns of
//! databases ignore blanks at the end, and with many collations accents.

use unicode_normalization::char::is_combining_mark;

use crate::folding::fold;

/// The longest name, in bytes, that is compared if it is no word.
const LONGEST: usize = 1024;
/// The most parts of a name that are compared as a path.
const MOST_PARTS: usize = 8;
/// Characters that separate the parts of a path in a name.
const SEPARATORS: [char; 6] = ['.', '[', '/', '\\', ':', '>'];
/// Characters that readers remove at the end of a name.
const ENDS: [char; 9] = ['=', ';', ',', '?', '!', '*', '~', '|', '&'];

/// Whether some reader takes two names for the same member, or one for a part of the other: they
/// differ at most in case, compatibility forms, accents, and characters that are invisible or
/// separate words, or one is a path that begins with the other.
pub(crate) fn is_same_member(one: &str, other: &str) -> bool {
    if is_word(one) && is_word(other) {
        let significant = |name| str::bytes(name).filter(|byte| !matches!(byte, b'-' | b'_'));
        let lower = |byte: u8| byte.to_ascii_lowercase();
        return significant(one).map(lower).eq(significant(other).map(lower));
    }
    let (one, other) = (MemberName::of(one), MemberName::of(other));
    one.begins(&other) || other.begins(&one)
}

/// Whether [`is_same_member`] holds for this name and one of `known`. The name is folded once. A
/// name of more than 1 KiB that is no word is taken for any of them.
pub(crate) fn is_same_as_any(name: &str, known: &[&str]) -> bool {
    if is_word(name) {
        return known.iter().any(|known| is_same_member(known, name));
    }
    // J434: folding makes a name up to eleven times as long.
    if name.len() > LONGEST {
        return true;
    }
    let name = MemberName::of(name);
    known.iter().any(|known| match is_word(known) {
        true => name.has_beginning(known),
        false => {
            let known = MemberName::of(known);
            name.begins(&known) || known.begins(&name)
        }
    })
}

fn is_word(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// A name in the form in which it is compared.
#[derive(Debug)]
pub(crate) struct MemberName {
    /// The folded text up to the end of each part, ascending. Never empty.
    beginnings: Vec<String>,
}

impl MemberName {
    pub(crate) fn of(name: &str) -> Self {
        #[cfg(test)]
        tests::READ.set(tests::READ.get() + 1);
        let mut beginnings: Vec<String> = Vec::new();
        let mut whole = String::new();
        // What is before a control character may be the name.
        for part in name.split(char::is_control) {
            for part in fold(part).split(SEPARATORS) {
                let before = whole.len();
                whole.extend(part.chars().filter(|char| is_significant(*char)));
                if whole.len() > before && beginnings.len() < MOST_PARTS {
                    beginnings.push(whole.trim_end_matches(ENDS).to_owned());
                }
            }
        }
        let whole = match whole.trim_end_matches(ENDS) {
            // Nothing of it is significant, so its characters are.
            "" => fold(name).into_owned(),
            whole => whole.to_owned(),
        };
        if beginnings.last() != Some(&whole) {
            beginnings.push(whole);
        }
        Self { beginnings }
    }

    /// Returns the whole name.
    pub(crate) fn whole(&self) -> &str {
        self.beginnings.last().map_or("", String::as_str)
    }

    /// Returns the names that this one, as a path, begins with, and itself.
    pub(crate) fn beginnings(&self) -> impl Iterator<Item = &str> {
        self.beginnings.iter().map(String::as_str)
    }

    /// Whether this name, as a path, begins with a word, or is it.
    fn has_beginning(&self, word: &str) -> bool {
        let significant = word.bytes().filter(|byte| !matches!(byte, b'-' | b'_'));
        let folded = significant.map(|byte| byte.to_ascii_lowercase());
        self.beginnings().any(|beginning| beginning.bytes().eq(folded.clone()))
    }

    fn begins(&self, other: &Self) -> bool {
        other.beginnings().any(|beginning| beginning == self.whole())
    }
}

/// Whether a character of a folded name distinguishes it from others for all readers.
fn is_significant(char: char) -> bool {
    const IGNORED: &str = "-_ ()[]{}<>\"'`";
    !IGNORED.contains(char) && !is_combining_mark(char)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// Number of names that were read.
        pub(super) static READ: Cell<usize> = const { Cell::new(0) };
    }

    impl MemberName {
        pub(crate) fn count_from_zero() {
            READ.set(0);
        }

        pub(crate) fn counted() -> usize {
            READ.get()
        }
    }

    #[test]
    fn j420_members_are_the_same_in_any_spelling() {
        for same in [
            "Owner",
            "OWNER",
            "o_wner",
            "own-er",
            "ownEr",
            "ｏwner",
            "own\u{200d}er",
            "owner\0",
            "owner\0x",
            "own\ner",
            "_owner",
            "owner ",
            " owner",
            "own er",
            "owner\u{a0}",
            "own.er",
            ".owner",
            "owner.",
            "owner[]",
            "[owner]",
            "owner[0]",
            "\"owner\"",
            "'owner'",
            "owner\u{301}",
            "öwner",
            "owner\u{fe0f}",
            "owner\u{2060}",
            "owner\u{e0020}",
            "ow\u{34f}ner",
            "owner.id",
            "owner[id]",
            "owner/id",
            "owner->id",
            "owner:id",
            "owner{}",
            "owner()",
            "/owner",
            "owner=",
            "owner?",
            "owner\u{2800}",
            "ⓞwner",
        ] {
            assert!(is_same_member("owner", same), "J420 {same:?}");
            assert!(is_same_member(same, "owner"), "J420 {same:?}");
        }
        for (one, other) in [
            ("status", "ſtatuſ"),
            ("key", "\u{212a}ey"),
            ("id", "ıd"),
            ("id", "İD"),
            ("filter", "filter.owner"),
            ("filter.owner", "filter"),
            ("a.b", "a.b.c"),
            ("a.b", "a[b][c]"),
            ("ownerId", "owner id"),
        ] {
            assert!(is_same_member(one, other), "J420 {other:?}");
        }
        for other in ["owners", "owne", "", "a\0owner", "x.owner", "id.owner", "-", "own", "$owner"]
        {
            assert!(!is_same_member("owner", other), "{other:?}");
        }
        for (one, other) in [("", "[]"), ("<", ">"), ("c", "c++"), ("c", "c#"), ("$id", "id")] {
            assert!(!is_same_member(one, other), "{one:?} {other:?}");
        }
    }

    #[test]
    fn a_name_of_many_parts_has_few_forms() {
        let name = "a.".repeat(100_000);
        let bytes: usize = MemberName::of(&name).beginnings().map(str::len).sum();
        assert!(bytes <= name.len() + MOST_PARTS * MOST_PARTS, "{bytes}");
    }

    #[test]
    fn j434_a_name_is_folded_once_for_all_that_it_may_be() {
        let known = ["name", "arguments", "uri", "requestState", "_meta", "cursor"];
        for name in ["na me", "n\u{e4}me", "$0", "request.State", "uri[]", "_META ", "\u{fb01}"] {
            MemberName::count_from_zero();
            let any = is_same_as_any(name, &known);
            assert_eq!(MemberName::counted(), 1, "J434 {name}");
            assert_eq!(any, known.iter().any(|known| is_same_member(known, name)), "{name}");
        }
        let long = "\u{fdfa}".repeat(LONGEST);
        MemberName::count_from_zero();
        assert!(is_same_as_any(&long, &known), "J434");
        assert!(!is_same_as_any(&"a".repeat(LONGEST * 2), &known), "a word");
        assert_eq!(MemberName::counted(), 0, "J434");
    }
}
