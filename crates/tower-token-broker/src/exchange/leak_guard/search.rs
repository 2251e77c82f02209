//! Search for one secret in every form that an echo may have.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// Number of bytes that are searched for, at the end of a longer secret: JWTs differ at their end,
/// not at their beginning.
const TAIL: usize = 64;
/// A shorter secret is searched for too, but its forms are not shorter than this.
const SHORTEST_FORM: usize = 8;
/// Longest escape of one byte: `\u0074`.
const LONGEST_ESCAPE: usize = 6;
/// Number of starting positions that are checked together. With it, work grows linearly with a
/// response that echoes endlessly in one run of characters, not quadratically.
const WINDOW: usize = if cfg!(test) { 16 } else { 4096 };

/// How JSON writers and URLs escape the two characters of base64 that they escape.
const ESCAPED_BASE64: [(&str, &str); 3] = [("+", "\\/"), ("\\u002B", "/"), ("%2B", "%2F")];

/// The forms of one secret. Small, because one is kept for each credential in memory.
///
/// Each form is a run of characters of one small alphabet, at least as long as the tail, and most
/// texts contain no such run. So a text is probed once per that length, and the forms are computed
/// only where a run is long enough.
pub(crate) struct SecretForms {
    tail: Zeroizing<Box<[u8]>>,
    /// The alphabet of all forms, one bit per byte value.
    alphabet: [u64; 4],
    /// Length of the shortest form.
    shortest: usize,
    /// Length of the longest form, however it is escaped.
    longest: usize,
}

/// The forms of a whole secret: plain, base64 and hexadecimal.
type Literals = Zeroizing<Vec<Vec<u8>>>;

impl SecretForms {
    /// Returns the forms; `None` if the secret is empty, and so must not be sent.
    #[expect(clippy::disallowed_methods, reason = "the guard must know what it looks for")]
    pub(crate) fn of(secret: &Secret) -> Option<Self> {
        let bytes = without_scheme(secret.expose());
        let tail = bytes.get(bytes.len().saturating_sub(TAIL)..).unwrap_or(bytes);
        if tail.is_empty() {
            return None;
        }
        let mut alphabet = [0; 4];
        let of_escapes_and_codings =
            (0..=u8::MAX).filter(|byte| byte.is_ascii_alphanumeric() || b"+/-_%\\".contains(byte));
        for byte in of_escapes_and_codings.chain(tail.iter().copied()) {
            if let Some(word) = alphabet.get_mut(usize::from(byte >> 6)) {
                *word |= 1_u64 << (byte & 63);
            }
        }
        let mut forms =
            Self { tail: Zeroizing::new(tail.into()), alphabet, shortest: 0, longest: 0 };
        let literals = forms.literals();
        let lengths = || literals.iter().map(Vec::len);
        forms.shortest = lengths().chain([forms.tail.len()]).min()?;
        forms.longest = lengths().chain([forms.tail.len() * LONGEST_ESCAPE]).max()?;
        Some(forms)
    }

    fn literals(&self) -> Literals {
        let mut literals = vec![self.tail.to_vec()];
        for skip in 0..3 {
            let standard = base64_core(&self.tail, skip, &general_purpose::STANDARD_NO_PAD);
            for (plus, slash) in ESCAPED_BASE64 {
                literals.push(standard.replace('+', plus).replace('/', slash).into_bytes());
            }
            literals.push(standard.into_bytes());
            literals.push(
                base64_core(&self.tail, skip, &general_purpose::URL_SAFE_NO_PAD).into_bytes(),
            );
        }
        let hex: String = self.tail.iter().map(|byte| format!("{byte:02x}")).collect();
        literals.push(hex.to_ascii_uppercase().into_bytes());
        literals.push(hex.into_bytes());
        literals.sort_unstable();
        literals.dedup();
        literals.retain(|form| form.len() >= SHORTEST_FORM || **form == **self.tail);
        Zeroizing::new(literals)
    }

    #[inline]
    fn is_of_alphabet(&self, byte: u8) -> bool {
        self.alphabet.get(usize::from(byte >> 6)).is_some_and(|word| word >> (byte & 63) & 1 == 1)
    }

    /// Returns the next run of the alphabet at or after `from` that is long enough to be a form. Of
    /// a longer run it returns a window, and as many bytes after it as a form may have.
    fn run(&self, text: &[u8], mut from: usize) -> Option<(usize, usize)> {
        loop {
            // A form that begins at or after `from` covers this position, or begins after it.
            let probe = from + self.shortest - 1;
            if !self.is_of_alphabet(*text.get(probe)?) {
                from = probe + 1;
                continue;
            }
            let before = text
                .get(from..probe)?
                .iter()
                .rev()
                .take_while(|byte| self.is_of_alphabet(**byte))
                .count();
            let most = WINDOW + self.longest - before;
            let rest = text.get(probe..)?.iter().take(most);
            let behind = rest.take_while(|byte| self.is_of_alphabet(**byte)).count();
            if before + behind >= self.shortest {
                return Some((probe - before, probe + behind));
            }
            from = probe + behind;
        }
    }

    /// Returns start and end of the first form at or after `from`; the longest of those that begin
    /// there.
    pub(super) fn find(&self, text: &[u8], mut from: usize) -> Option<(usize, usize)> {
        let mut known = None;
        while let Some((begins, ends)) = self.run(text, from) {
            let literals = known.get_or_insert_with(|| self.literals());
            let run = text.get(begins..ends)?;
            let literal = literals
                .iter()
                .filter_map(|form| {
                    memchr::memmem::find(run, form)
                        .map(|at| (begins + at, begins + at + form.len()))
                })
                .min_by_key(|(at, end)| (*at, usize::MAX - end));
            let found = match (literal, self.find_escaped(text, begins, ends)) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
            // A form that begins in the window ends in the bytes after it. A form that begins after
            // the window is found in the next round.
            let next = if ends - begins == WINDOW + self.longest { begins + WINDOW } else { ends };
            if let Some(found) = found.filter(|(at, _)| *at < next) {
                return Some(found);
            }
            from = next;
        }
        None
    }

    /// Returns the first position in this run at which the tail begins with some of its bytes
    /// escaped. The bytes after the run decide whether its last `%` begins an escape.
    ///
    /// The search starts from the first of these escapes: the bytes before it are the plain
    /// beginning of the tail. So the work grows with the number of escapes of the tail's bytes, and
    /// a form that is found by a later escape begins later.
    fn find_escaped(&self, text: &[u8], from: usize, to: usize) -> Option<(usize, usize)> {
        memchr::memchr2_iter(b'%', b'\\', text.get(from..to)?).find_map(|offset| {
            let at = from + offset;
            let Unescaped::Byte(byte, 2..) = unescape(text.get(at..)?) else { return None };
            memchr::memrchr_iter(byte, &self.tail).find_map(|before| {
                let start = at.checked_sub(before).filter(|start| *start >= from)?;
                if text.get(start..at)? != self.tail.get(..before)? {
                    return None;
                }
                match self.escaped_at(text, start) {
                    Escaped::Whole(end) => Some((start, end)),
                    Escaped::Part | Escaped::No => None,
                }
            })
        })
    }

    /// Returns the number of bytes at the end of `text` that may be the beginning of a form.
    pub(super) fn unfinished(&self, text: &[u8]) -> usize {
        let run = text
            .iter()
            .rev()
            .take(self.longest)
            .take_while(|byte| self.is_of_alphabet(**byte))
            .count();
        if run == 0 {
            return 0;
        }
        let literals = self.literals();
        let may_begin = |at: &usize| {
            let rest = text.get(*at..).unwrap_or_default();
            literals.iter().any(|form| rest.len() < form.len() && form.starts_with(rest))
                || matches!(self.escaped_at(text, *at), Escaped::Part)
        };
        (text.len() - run..text.len()).find(may_begin).map_or(0, |at| text.len() - at)
    }

    /// Checks whether the tail begins at `at`, each byte plain or escaped.
    fn escaped_at(&self, text: &[u8], mut at: usize) -> Escaped {
        for wanted in self.tail.iter() {
            match unescape(text.get(at..).unwrap_or_default()) {
                Unescaped::Byte(byte, length) if byte == *wanted => at += length,
                Unescaped::Byte(..) => return Escaped::No,
                Unescaped::Part => return Escaped::Part,
            }
        }
        Escaped::Whole(at)
    }
}

/// Returns the secret itself out of a whole header value: an echo may omit the scheme (`token
/// ghp_…`).
fn without_scheme(value: &[u8]) -> &[u8] {
    let last = value.rsplit(|byte| *byte == b' ').next().unwrap_or(value);
    if last.len() < SHORTEST_FORM { value } else { last }
}

impl fmt::Debug for SecretForms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretForms")
    }
}

enum Escaped {
    Whole(usize),
    Part,
    No,
}

enum Unescaped {
    Byte(u8, usize),
    Part,
}

/// Reads one byte, plain or escaped as `%74`, `\u0074` or `\/`; or the beginning of an escape.
fn unescape(text: &[u8]) -> Unescaped {
    let hex = |digits: &[u8]| {
        digits
            .iter()
            .try_fold(0_u32, |value, digit| Some(value * 16 + char::from(*digit).to_digit(16)?))
    };
    match text {
        [] => Unescaped::Part,
        [b'%', high, low, ..] => {
            match hex(&[*high, *low]).and_then(|value| u8::try_from(value).ok()) {
                Some(byte) => Unescaped::Byte(byte, 3),
                None => Unescaped::Byte(b'%', 1),
            }
        }
        [b'%', digits @ ..] if digits.iter().all(u8::is_ascii_hexdigit) && digits.len() < 2 => {
            Unescaped::Part
        }
        [b'\\', b'u', digits @ ..] => match digits.get(..4) {
            Some(digits) => match hex(digits).and_then(|value| u8::try_from(value).ok()) {
                Some(byte) => Unescaped::Byte(byte, LONGEST_ESCAPE),
                None => Unescaped::Byte(b'\\', 1),
            },
            None if digits.iter().all(u8::is_ascii_hexdigit) => Unescaped::Part,
            None => Unescaped::Byte(b'\\', 1),
        },
        [b'\\', escaped @ (b'/' | b'\\' | b'"'), ..] => Unescaped::Byte(*escaped, 2),
        [b'\\'] => Unescaped::Part,
        [byte, ..] => Unescaped::Byte(*byte, 1),
    }
}

/// Returns the characters that encode `tail` in base64 if `skip` bytes precede it in its group of
/// three, without those that depend on neighbours.
fn base64_core(tail: &[u8], skip: usize, engine: &general_purpose::GeneralPurpose) -> String {
    let mut padded = Zeroizing::new(vec![0; skip]);
    padded.extend_from_slice(tail);
    let encoded = Zeroizing::new(engine.encode(&*padded));
    let first = (skip * 8).div_ceil(6);
    let whole = padded.len() * 8 / 6;
    encoded.get(first..whole).unwrap_or_default().to_owned()
}

/// Overwrites every form in `text`; returns their number.
pub(super) fn mask(all: &[Arc<SecretForms>], text: &mut [u8]) -> u64 {
    let mut masked = 0;
    for forms in all {
        let mut from = 0;
        while let Some((start, end)) = forms.find(text, from) {
            if let Some(found) = text.get_mut(start..end) {
                found.fill(b'*');
            }
            masked += 1;
            from = end;
        }
    }
    masked
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOKEN: &str = "tbm-9fK2+xQ/7aLw_3nZ-pR8sVtYb1cDeGhJ";

    fn forms(secret: &str) -> Vec<Arc<SecretForms>> {
        vec![Arc::new(SecretForms::of(&Secret::from_text(secret.to_owned())).unwrap())]
    }

    fn percent(text: &str) -> String {
        text.bytes().map(|byte| format!("%{byte:02X}")).collect()
    }

    fn json(text: &str) -> String {
        text.bytes().map(|byte| format!("\\u{:04x}", u32::from(byte))).collect()
    }

    fn echoes() -> Vec<String> {
        let mut all = vec![
            TOKEN.to_owned(),
            percent(TOKEN),
            percent(TOKEN).to_lowercase(),
            json(TOKEN),
            TOKEN.replace('/', "\\/"),
            TOKEN.replace('+', "%2B").replace('/', "%2F"),
            TOKEN.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ];
        for before in ["", "a", "ab", "Bearer "] {
            for engine in [&general_purpose::STANDARD, &general_purpose::URL_SAFE_NO_PAD] {
                all.push(engine.encode(format!("{before}{TOKEN}!")));
            }
        }
        all
    }

    #[test]
    fn each_form_is_masked_at_equal_length() {
        let forms = forms(TOKEN);
        for echo in echoes() {
            let mut text = format!("{{\"echo\":\"{echo}\"}}").into_bytes();
            let length = text.len();
            assert_eq!(mask(&forms, &mut text), 1, "{echo}");
            assert_eq!(text.len(), length);
            assert!(text.starts_with(b"{\"echo\":\"") && text.ends_with(b"\"}"));
        }
    }

    #[test]
    fn base64_is_masked_as_json_and_urls_escape_it() {
        // These three alignments contain `+` and `/`.
        let secret = "~~~?>>>?~~>?>~?~?>>~~?>??>~";
        let forms = forms(secret);
        for before in ["", "a", "ab"] {
            let coded = general_purpose::STANDARD.encode(format!("{before}{secret}!"));
            assert!(coded.contains('+') && coded.contains('/'), "{coded}");
            for (plus, slash) in ESCAPED_BASE64 {
                let mut text = coded.replace('/', slash).replace('+', plus).into_bytes();
                assert_eq!(mask(&forms, &mut text), 1, "{coded} {plus} {slash}");
            }
        }
    }

    #[test]
    fn a_token_is_found_without_its_scheme() {
        for value in [format!("token {TOKEN}"), format!("Key  {TOKEN}")] {
            let mut echo = format!("you are {TOKEN}").into_bytes();
            assert_eq!(mask(&forms(&value), &mut echo), 1);
            assert!(
                echo.ends_with(b"***")
                    && !echo.windows(8).any(|window| window == &TOKEN.as_bytes()[..8])
            );
        }
        // The part after the last space is too short to be a secret.
        let mut echo = b"the 7 of us; open sesame 7".to_vec();
        assert_eq!(mask(&forms("open sesame 7"), &mut echo), 1);
        assert!(echo.starts_with(b"the 7 of us; ***"));
    }

    #[test]
    fn a_percent_sign_may_be_no_escape() {
        let mut echo = br#"a\/%" b"#.to_vec();
        assert_eq!(mask(&forms("/%"), &mut echo), 1);
        assert_eq!(echo, br#"a***" b"#);
    }

    #[test]
    fn an_empty_secret_has_no_forms() {
        assert!(SecretForms::of(&Secret::from_text(String::new())).is_none());
    }

    #[test]
    fn other_texts_pass_unchanged() {
        let forms = forms(TOKEN);
        for innocent in ["", "tbm-", "tbm-9fK2+xQ", "100 % of \\ all", "eyJhbGciOiJFUzI1NiJ9"] {
            let mut text = innocent.as_bytes().to_vec();
            assert_eq!(mask(&forms, &mut text), 0);
            assert_eq!(text, innocent.as_bytes());
        }
    }

    #[test]
    fn a_long_secret_is_found_by_its_tail() {
        let head = "eyJhbGciOiJFUzI1NiJ9.".repeat(20);
        let forms = forms(&format!("{head}{TOKEN}{TOKEN}"));
        let mut other = format!("{head}another tail").into_bytes();
        assert_eq!(mask(&forms, &mut other), 0);
        let mut echo = format!("{head}{TOKEN}{TOKEN}").into_bytes();
        assert_eq!(mask(&forms, &mut echo), 1);
    }

    proptest! {
        #[test]
        fn no_form_passes_in_any_chunks(
            which in 0..15_usize,
            cuts in prop::collection::vec(1..40_usize, 0..40),
        ) {
            let echo = echoes()[which].clone();
            let text = format!("before {echo} after").into_bytes();
            let forms = &forms(TOKEN)[..];
            // The steps of the guard, without a body around them.
            let (mut held, mut out, mut rest) = (Vec::new(), Vec::new(), text.as_slice());
            let mut cuts = cuts.into_iter();
            while !rest.is_empty() {
                let cut = cuts.next().unwrap_or(rest.len()).min(rest.len());
                let (chunk, later) = rest.split_at(cut);
                rest = later;
                held.extend_from_slice(chunk);
                mask(forms, &mut held);
                let unfinished = forms.iter().map(|forms| forms.unfinished(&held)).max().unwrap();
                out.extend(held.drain(..held.len() - unfinished));
            }
            out.extend(held);
            prop_assert_eq!(out.len(), text.len());
            prop_assert!(out.starts_with(b"before ") && out.ends_with(b" after"));
            prop_assert!(forms[0].find(&out, 0).is_none());
            let masked = out.iter().filter(|byte| **byte == b'*').count();
            prop_assert!(masked >= TOKEN.len(), "{}", String::from_utf8(out).unwrap());
        }
    }

    /// The definition of [`SecretForms::find`] and [`SecretForms::unfinished`], evaluated at every
    /// position and for every length.
    mod plainly {
        use super::*;

        pub(super) fn find(
            forms: &SecretForms,
            text: &[u8],
            from: usize,
        ) -> Option<(usize, usize)> {
            let literals = forms.literals();
            let literal = (from..text.len()).find_map(|at| {
                let here = literals
                    .iter()
                    .filter(|form| text[at..].starts_with(form))
                    .map(|form| at + form.len());
                here.max().map(|end| (at, end))
            });
            let escaped = (from..text.len()).find_map(|at| match forms.escaped_at(text, at) {
                Escaped::Whole(end) => Some((at, end)),
                Escaped::Part | Escaped::No => None,
            });
            match (literal, escaped) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            }
        }

        pub(super) fn unfinished(forms: &SecretForms, text: &[u8]) -> usize {
            let literals = forms.literals();
            let prefixes =
                literals.iter().flat_map(|form| (1..form.len()).map(move |length| &form[..length]));
            let literal = prefixes.filter(|prefix| text.ends_with(prefix)).map(<[u8]>::len).max();
            let escaped =
                (0..text.len()).find(|at| matches!(forms.escaped_at(text, *at), Escaped::Part));
            literal.unwrap_or(0).max(escaped.map_or(0, |at| text.len() - at))
        }
    }

    /// A secret of few characters, many of which begin or end an escape.
    fn tricky_secret() -> impl Strategy<Value = String> {
        prop_oneof!["[a/%]{1,12}", r#"[%\\u04125a/"+]{1,12}"#, "[a-z0-9/+]{20,80}"]
    }

    /// Pieces of the secret: plain, escaped and in base64, among similar characters.
    fn tricky_text(secret: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
        let secret = secret.as_bytes().to_vec();
        let piece = (0..secret.len(), 0..=secret.len(), 0..6_usize, r#"[%\\u04125a/"+]{0,3}"#);
        let piece = piece.prop_map(move |(from, length, how, between)| {
            let piece = &secret[from..(from + length).min(secret.len())];
            let escaped =
                |write: fn(u8) -> String| piece.iter().map(|byte| write(*byte)).collect::<String>();
            let text = match how {
                0 => String::from_utf8(piece.to_vec()).unwrap(),
                1 => escaped(|byte| format!("%{byte:02X}")),
                2 => escaped(|byte| format!("\\u{byte:04x}")),
                3 => escaped(|byte| {
                    if b"/\\\"".contains(&byte) {
                        format!("\\{}", char::from(byte))
                    } else {
                        char::from(byte).into()
                    }
                }),
                4 => general_purpose::STANDARD.encode(piece),
                _ => String::new(),
            };
            text + &between
        });
        prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        #[test]
        fn the_fast_search_finds_what_the_plain_one_finds(
            (secret, mut text) in tricky_secret()
                .prop_flat_map(|secret| (Just(secret.clone()), tricky_text(&secret))),
            cut in 0..6_usize,
        ) {
            let forms = &forms(&secret)[0];
            text.truncate(text.len().saturating_sub(cut));
            prop_assert_eq!(forms.unfinished(&text), plainly::unfinished(forms, &text));
            for from in 0..=text.len() {
                let found = forms.find(&text, from);
                prop_assert_eq!(found, plainly::find(forms, &text, from), "from {}", from);
            }
        }
    }
}
