//! Text from outside: truncated, isolated from its surroundings, and without hidden characters.

use std::fmt::Write as _;

use maud::{Escaper, Markup, Render, html};
use unicode_normalization::char::is_combining_mark;

/// Longest text from outside on a page, in characters.
pub(super) const MOST_CHARACTERS: usize = 80;

/// Most combining marks on one character. More would cover the lines above and below.
const MOST_MARKS: usize = 3;

/// Text that another party chose.
///
/// It renders as `<bdi>`, so that its direction does not change the text around it. Characters
/// that are invisible, or that change the order of text, are replaced with their code points.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outside<'a>(pub(super) &'a str);

/// Name of a host that another party chose. Its end is its owner's name, so that it is never
/// truncated: a name has at most 253 characters (RFC 1035 §2.3.4), and one that is longer is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutsideHost<'a>(pub(super) &'a str);

impl Render for OutsideHost<'_> {
    fn render_to(&self, page: &mut String) {
        const MOST: usize = 512;
        page.push_str("<bdi>");
        let shown = Outside(self.0).up_to(MOST);
        let _infallible = Escaper::new(page).write_str(&shown);
        page.push_str("</bdi>");
    }
}

impl Outside<'_> {
    /// Returns the text for a title or an attribute, which is not markup yet.
    pub(super) fn to_text(self) -> String {
        self.up_to(MOST_CHARACTERS)
    }

    fn up_to(self, most: usize) -> String {
        let mut shown = String::new();
        let mut characters = self.0.trim().chars().peekable();
        let (mut count, mut marks) = (0, 0);
        let mut before = ' ';
        while let Some(character) = characters.next() {
            if count == most {
                shown.push('…');
                break;
            }
            count += 1;
            marks = if is_combining_mark(character) { marks + 1 } else { 0 };
            let joins = is_joiner(character)
                && is_joined(before)
                && characters.peek().copied().is_some_and(is_joined);
            if marks > MOST_MARKS || (is_hidden(character) && !joins) {
                // Writing to a string does not fail.
                let _infallible = write!(shown, "⟨U+{:04X}⟩", u32::from(character));
            } else {
                shown.push(character);
            }
            before = character;
        }
        shown
    }
}

impl Render for Outside<'_> {
    fn render_to(&self, page: &mut String) {
        page.push_str("<bdi>");
        let _infallible = Escaper::new(page).write_str(&self.to_text());
        page.push_str("</bdi>");
    }
}

/// Renders an ID: a long one is cut in the middle, and has its whole text in the title.
pub(super) fn id(text: &str) -> Markup {
    const KEPT: usize = 12;
    let length = text.chars().count();
    if length <= 2 * KEPT + 1 {
        return html! { code { (Outside(text)) } };
    }
    let start: String = text.chars().take(KEPT).collect();
    let end: String = text.chars().skip(length - KEPT).collect();
    html! {
        code title=(Outside(text).to_text()) { (Outside(&format!("{start}…{end}"))) }
    }
}

/// Whether a character is invisible or changes the order of text. A font may draw none of these,
/// or draw other characters elsewhere because of them.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(u32::from(character),
            // Soft hyphen, joiners without a glyph, Arabic letter mark, Hangul fillers
            0xad | 0x34f | 0x61c | 0x115f..=0x1160 | 0x17b4..=0x17b5 | 0x3164 | 0xffa0
            // Mongolian selectors
            | 0x180b..=0x180f
            // Zero width, direction marks
            | 0x200b..=0x200f
            // Line and paragraph separators, embeddings and overrides
            | 0x2028..=0x202e
            // Word joiner, invisible operators, isolates, deprecated format characters
            | 0x2060..=0x206f
            // Braille blank, byte order mark, interlinear annotation, noncharacters of the BMP
            | 0x2800 | 0xfeff | 0xfdd0..=0xfdef | 0xfff0..=0xfffb | 0xfffe..=0xffff
            // Private use
            | 0xe000..=0xf8ff | 0xf_0000..=0x10_ffff
            // Musical format characters, shorthand format controls
            | 0x1_d173..=0x1_d17a | 0x1_bca0..=0x1_bca3
            // Tags, and the selectors that can carry a hidden message
            | 0xe_0000..=0xe_0fff)
}

/// Whether a character joins its neighbours: in emoji, and in the scripts that need it.
const fn is_joiner(character: char) -> bool {
    matches!(character, '\u{200c}' | '\u{200d}')
}

/// Whether a joiner next to this character has a purpose.
fn is_joined(character: char) -> bool {
    !character.is_ascii() && !is_hidden(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d533_the_end_of_a_host_is_shown() {
        let host = format!("claude.ai.{}.{}.evil.example:8443", "a".repeat(60), "b".repeat(60));
        let shown = html! { (OutsideHost(&host)) }.into_string();
        assert!(shown.contains("evil.example:8443") && !shown.contains('…'), "D533 {shown}");
    }

    #[test]
    fn ordinary_names_are_unchanged() {
        for name in [
            "Claude Code",
            "Überbrücker",
            "名前",
            "تطبيق",
            "e\u{301}",
            "👩\u{200d}💻 Studio",
            "می\u{200c}خواهم",
            "❤\u{fe0f}",
        ] {
            assert_eq!(Outside(name).to_text(), name);
        }
    }

    #[test]
    fn d521_hidden_characters_are_shown() {
        for (hostile, shown) in [
            ("a\u{202e}b", "a⟨U+202E⟩b"),
            ("a\u{2066}b\u{2069}", "a⟨U+2066⟩b⟨U+2069⟩"),
            ("a\0b", "a⟨U+0000⟩b"),
            ("a\r\nb", "a⟨U+000D⟩⟨U+000A⟩b"),
            ("Claude\u{200b}Code", "Claude⟨U+200B⟩Code"),
            // A joiner within ASCII only hides.
            ("Cl\u{200d}aude", "Cl⟨U+200D⟩aude"),
            ("x\u{e0041}", "x⟨U+E0041⟩"),
            ("\u{3164}", "⟨U+3164⟩"),
            ("\u{feff}a", "⟨U+FEFF⟩a"),
            ("e\u{301}\u{301}\u{301}\u{301}", "e\u{301}\u{301}\u{301}⟨U+0301⟩"),
        ] {
            assert_eq!(Outside(hostile).to_text(), shown, "D521 {hostile:?}");
        }
    }

    #[test]
    fn d522_text_is_cut_and_escaped() {
        let long = "é".repeat(10_000);
        assert_eq!(Outside(&long).to_text(), format!("{}…", "é".repeat(80)), "D522");
        let just = "é".repeat(80);
        assert_eq!(Outside(&just).to_text(), just, "D522");
        let markup = Outside("</bdi><script>alert(\"1\")</script>&").render().into_string();
        assert_eq!(
            markup, "<bdi>&lt;/bdi&gt;&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;</bdi>",
            "D522"
        );
    }

    #[test]
    fn a_long_id_is_cut_in_the_middle() {
        assert_eq!(id("inspector").into_string(), "<code><bdi>inspector</bdi></code>");
        let url = "https://client.example/oauth/metadata.json";
        assert_eq!(
            id(url).into_string(),
            format!("<code title=\"{url}\"><bdi>https://clie…etadata.json</bdi></code>")
        );
    }
}
