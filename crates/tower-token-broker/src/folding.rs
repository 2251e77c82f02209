//! Folds names, so that names which some reader takes for the same have the same form.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization as _;

/// Passes after which no text of Unicode changes any more, and one to notice it.
const PASSES: usize = 4;

/// Returns the text in NFKD, without case, and without characters that are not displayed. Dashes,
/// slashes and blanks that some reader converts to ASCII are ASCII.
pub(crate) fn fold(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        let is_folded = |byte: u8| !byte.is_ascii_uppercase() && !byte.is_ascii_control();
        return if text.bytes().all(is_folded) {
            Cow::Borrowed(text)
        } else {
            let kept = text.chars().filter(|char| !char.is_ascii_control());
            Cow::Owned(kept.map(|char| char.to_ascii_lowercase()).collect())
        };
    }
    let mut folded = once(text);
    for _ in 1..PASSES {
        let again = once(&folded);
        if again == folded {
            break;
        }
        folded = again;
    }
    Cow::Owned(folded)
}

fn once(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for char in text.nfkd().filter(|char| !is_ignored(*char)).map(as_ascii) {
        // Both ways: `ſ` and `K` have an upper case in ASCII, and `ß` is `ss`.
        for lower in char.to_uppercase().flat_map(char::to_lowercase) {
            // `İ` in lower case is `i` and a dot, except in Turkish.
            if lower != '\u{307}' || !folded.ends_with('i') {
                folded.push(lower);
            }
        }
    }
    folded
}

/// Whether a character is not displayed: `Default_Ignorable_Code_Point` (UAX #44), controls, format
/// characters, and separators of lines.
fn is_ignored(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffc}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{600}'..='\u{605}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Returns the character of ASCII that a reader may replace this one with ("best fit" of Windows
/// code pages; UTS #46 for `。`).
fn as_ascii(char: char) -> char {
    match char {
        '\u{2044}' | '\u{2215}' | '\u{29f8}' => '/',
        '\u{2216}' | '\u{29f5}' | '\u{29f9}' | '\u{a5}' | '\u{20a9}' => '\\',
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{2043}' => '-',
        '\u{3002}' => '.',
        '\u{2236}' | '\u{a789}' => ':',
        '\u{2800}' => ' ',
        char if char.is_whitespace() => ' ',
        char => char,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_a_name_have_one_form() {
        for (text, folded) in [
            ("Get_Item", "get_item"),
            ("ſalary", "salary"),
            ("\u{212a}ey", "key"),
            ("ıd", "id"),
            ("İd", "id"),
            ("i\u{307}d", "id"),
            ("STRASSE", "strasse"),
            ("Straße", "strasse"),
            ("STRAẞE", "strasse"),
            ("caf\u{e9}", "cafe\u{301}"),
            ("ｓｅｃｒｅｔ", "secret"),
            ("se\u{200b}cr\u{ad}et\u{fe0f}", "secret"),
            ("ﬁle", "file"),
            ("ΟΔΟΣ", "οδοσ"),
            ("οδος", "οδοσ"),
            ("a／b＼c．d", "a/b\\c.d"),
            ("a∕b⧵c", "a/b\\c"),
            ("a\u{a0}b\u{3000}c\u{2800}d", "a b c d"),
            ("a–b", "a-b"),
            ("a\0b\r\n", "ab"),
        ] {
            assert_eq!(fold(text), folded, "{text}");
        }
        for other in ["salaries", "sélary", "s alary", "salary2"] {
            assert_ne!(fold(other), "salary", "{other}");
        }
    }

    proptest! {
        #[test]
        fn folding_again_changes_nothing(text in "\\PC{0,12}") {
            let folded = fold(&text).into_owned();
            prop_assert_eq!(fold(&folded), folded.as_str());
        }

        #[test]
        fn case_makes_no_difference(text in "\\PC{0,12}") {
            // Its upper case is a letter, which stays where it is among other marks.
            prop_assume!(!text.nfkd().any(|char| char == '\u{345}'));
            let forms: [String; 3] =
                [text.to_uppercase(), text.nfc().collect(), text.nfkc().collect()];
            for form in &forms {
                prop_assert_eq!(fold(form), fold(&text), "{:?}", form);
            }
        }
    }
}
