//! A tolerant reader of the JSON object in a token response.
//!
//! The server has acted before it responds: its response may contain the only copy of a rotated
//! refresh token. Therefore members that are repeated, or that a strict reader refuses (lone
//! surrogates, octets that are not UTF-8), make only themselves unreadable. Whether the object is
//! complete, and the only value, is checked by the grammar of RFC 8259. Nesting is not limited,
//! because no recursion and no tree is needed: a member is a view into the text. Readers of members
//! look at the elements of an array, and not into them.

use zeroize::Zeroizing;

/// One complete JSON object.
pub(crate) struct JsonObject<'a>(Vec<Pair<'a>>);

/// A name, if it is text, and its value as it is written.
type Pair<'a> = (Option<Zeroizing<String>>, &'a [u8]);

/// The reason why a body is not one complete JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAnObject {
    /// No text at all.
    Empty,
    /// An object that is truncated or malformed, or that other text follows.
    Incomplete,
    /// Another value, or no JSON.
    Other,
}

/// The value of a member. A copy of a text is zeroized on drop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Member<'a> {
    Null,
    Bool(bool),
    /// As it is written.
    Number(&'a [u8]),
    Text(Zeroizing<String>),
    /// A string that is not text: a lone surrogate, or octets that are not UTF-8.
    NotText,
    Array(&'a [u8]),
    Object(&'a [u8]),
}

impl<'a> JsonObject<'a> {
    /// Reads a whole body. A byte order mark before it, NULs after it, and an array around it that
    /// contains nothing else are ignored.
    ///
    /// # Errors
    /// [`NotAnObject`]
    pub(crate) fn read(body: &'a [u8]) -> Result<Self, NotAnObject> {
        let mut text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        while let Some(before) = text.strip_suffix(b"\0") {
            text = before;
        }
        if text.is_empty() && body.ends_with(b"\0") {
            return Err(NotAnObject::Other);
        }
        let mut scanner = Scanner { text, at: 0 };
        scanner.space();
        let is_in_array = scanner.eat(b'[');
        scanner.space();
        match scanner.peek() {
            None if is_in_array => return Err(NotAnObject::Incomplete),
            None => return Err(NotAnObject::Empty),
            Some(b'{') => {}
            Some(_) => return Err(NotAnObject::Other),
        }
        let object = Self(scanner.members().ok_or(NotAnObject::Incomplete)?);
        scanner.space();
        if is_in_array {
            if scanner.peek() == Some(b',') && !object.has_tokens() {
                return Err(NotAnObject::Other);
            }
            scanner.expect(b']').ok_or(NotAnObject::Incomplete)?;
            scanner.space();
        }
        // X08: of two values it is not known which one the server means.
        if scanner.peek().is_some() {
            return Err(NotAnObject::Incomplete);
        }
        Ok(object)
    }

    fn has_tokens(&self) -> bool {
        ["access_token", "refresh_token"].iter().any(|name| self.present(name).next().is_some())
    }

    /// Returns the values of all members with this name, in order.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = Member<'a>> {
        let named = move |(found, _): &&Pair<'a>| {
            found.as_ref().is_some_and(|found| found.as_str() == name)
        };
        self.0.iter().filter(named).map(|(_, raw)| Member::of(raw))
    }

    /// Returns the values of all members with this name that are not empty: neither `null` nor an
    /// empty text, array or object.
    pub(crate) fn present(&self, name: &str) -> impl Iterator<Item = Member<'a>> {
        self.all(name).filter(|member| !member.is_empty())
    }

    /// Returns the text of the members with this name, if there is one and no other.
    pub(crate) fn text(&self, name: &str) -> Option<Zeroizing<String>> {
        let mut members = self.present(name);
        let Member::Text(text) = members.next()? else { return None };
        // An exact repetition can be read in one way only.
        members.all(|other| matches!(other, Member::Text(other) if other == text)).then_some(text)
    }
}

impl<'a> Member<'a> {
    /// Reads a value that the scanner has passed.
    fn of(raw: &'a [u8]) -> Self {
        match raw.first() {
            Some(b'{') => Self::Object(raw),
            Some(b'[') => Self::Array(raw),
            Some(b'n') => Self::Null,
            Some(b't') => Self::Bool(true),
            Some(b'f') => Self::Bool(false),
            Some(b'"') => {
                let inside = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
                unescaped(inside).map_or(Self::NotText, Self::Text)
            }
            _ => Self::Number(raw),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Text(text) => text.trim().is_empty(),
            Self::Array(raw) | Self::Object(raw) => {
                // Only brackets and white space.
                raw.iter().filter(|byte| !byte.is_ascii_whitespace()).count() == 2
            }
            Self::Bool(_) | Self::Number(_) | Self::NotText => false,
        }
    }

    /// Returns the elements of an array, each when it is needed; none for any other value.
    pub(crate) fn elements(&self) -> impl Iterator<Item = Self> {
        let text = match self {
            Self::Array(raw) => raw,
            Self::Null
            | Self::Bool(_)
            | Self::Number(_)
            | Self::Text(_)
            | Self::NotText
            | Self::Object(_) => &[][..],
        };
        let mut scanner = Scanner { text, at: 0 };
        std::iter::from_fn(move || {
            scanner.next().filter(|byte| matches!(byte, b'[' | b','))?;
            scanner.space();
            let element = Member::of(scanner.value()?);
            scanner.space();
            Some(element)
        })
    }

    /// Returns the members of an object; none for any other value.
    pub(crate) fn object(&self) -> Option<JsonObject<'a>> {
        let Self::Object(raw) = self else { return None };
        JsonObject::read(raw).ok()
    }
}

/// Reads text from front to back. `None` means that it is not JSON.
struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at = self.at.saturating_add(1);
        Some(byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn eat(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at = self.at.saturating_add(usize::from(is_next));
        is_next
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at = self.at.saturating_add(1);
        }
    }

    /// Reads the members of an object.
    fn members(&mut self) -> Option<Vec<Pair<'a>>> {
        let mut members = Vec::new();
        self.expect(b'{')?;
        self.space();
        if self.eat(b'}') {
            return Some(members);
        }
        loop {
            let name = unescaped(self.name()?);
            members.push((name, self.value()?));
            self.space();
            match self.next()? {
                b',' => self.space(),
                b'}' => return Some(members),
                _ => return None,
            }
        }
    }

    /// Reads a name with its colon, and returns it as it is written.
    fn name(&mut self) -> Option<&'a [u8]> {
        let name = self.string()?;
        self.space();
        self.expect(b':')?;
        self.space();
        Some(name)
    }

    /// Reads one value of any kind and depth.
    fn value(&mut self) -> Option<&'a [u8]> {
        let from = self.at;
        let mut open = Vec::new();
        loop {
            match self.peek()? {
                b'{' => {
                    self.at = self.at.saturating_add(1);
                    self.space();
                    if !self.eat(b'}') {
                        open.push(b'}');
                        self.name()?;
                        continue;
                    }
                }
                b'[' => {
                    self.at = self.at.saturating_add(1);
                    self.space();
                    if !self.eat(b']') {
                        open.push(b']');
                        continue;
                    }
                }
                b'"' => drop(self.string()?),
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                _ => self.number()?,
            }
            // After a value: close what ends here, until another value follows.
            loop {
                let Some(&close) = open.last() else { return self.text.get(from..self.at) };
                self.space();
                match self.next()? {
                    b',' => {
                        self.space();
                        if close == b'}' {
                            self.name()?;
                        }
                        break;
                    }
                    byte if byte == close => drop(open.pop()),
                    _ => return None,
                }
            }
        }
    }

    /// Reads a string, and returns the text between its quotation marks.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let from = self.at;
        loop {
            match self.next()? {
                b'"' => return self.text.get(from..self.at.saturating_sub(1)),
                b'\\' => match self.next()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => {
                        for _ in 0..4 {
                            self.next().filter(u8::is_ascii_hexdigit)?;
                        }
                    }
                    _ => return None,
                },
                0..=0x1f => return None,
                _ => {}
            }
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        word.iter().try_for_each(|byte| self.expect(*byte))
    }

    fn number(&mut self) -> Option<()> {
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let from = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at = self.at.saturating_add(1);
        }
        (self.at > from).then_some(())
    }
}

/// Unescapes a string that the scanner has passed. `None` if it is not text.
fn unescaped(raw: &[u8]) -> Option<Zeroizing<String>> {
    // Never longer than the escaped text, so that it does not grow and leave a copy.
    let mut text = Zeroizing::new(String::with_capacity(raw.len()));
    let mut rest = std::str::from_utf8(raw).ok()?;
    while let Some((before, escape)) = rest.split_once('\\') {
        text.push_str(before);
        let mut chars = escape.chars();
        match chars.next()? {
            'b' => text.push('\u{8}'),
            'f' => text.push('\u{c}'),
            'n' => text.push('\n'),
            'r' => text.push('\r'),
            't' => text.push('\t'),
            'u' => {
                let unit = unit(&mut chars)?;
                let low = match unit {
                    0xd800..0xdc00 => {
                        chars.next().filter(|next| *next == '\\')?;
                        chars.next().filter(|next| *next == 'u')?;
                        Some(self::unit(&mut chars)?)
                    }
                    _ => None,
                };
                let mut decoded = char::decode_utf16([unit].into_iter().chain(low));
                text.push(decoded.next()?.ok()?);
            }
            other => text.push(other),
        }
        rest = chars.as_str();
    }
    text.push_str(rest);
    Some(text)
}

/// Reads the four digits of an escaped UTF-16 unit.
fn unit(chars: &mut std::str::Chars<'_>) -> Option<u16> {
    let digit = |digit: char| digit.to_digit(16).and_then(|digit| u16::try_from(digit).ok());
    (0..4).try_fold(0_u16, |unit, _| Some(unit << 4 | digit(chars.next()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(body: &str, name: &str) -> Option<String> {
        JsonObject::read(body.as_bytes()).unwrap().text(name).map(|text| text.to_string())
    }

    #[test]
    fn one_unreadable_member_hides_no_other() {
        for other in [
            r#""a":1,"a":2"#,
            r#""a":{"b":1,"b":[{"c":null}]}"#,
            r#""a":"\ud800""#,
            r#""\udc00":1"#,
            &format!(r#""a":{}{}"#, "[".repeat(100_000), "]".repeat(100_000)),
            r#""a":-0.5e+7,"b":true,"c":[],"d":{}"#,
        ] {
            let body =
                format!("\u{feff} {{{other},\n\"refresh\\u005ftoken\":\"r\\ud83d\\ude00\"}}");
            assert_eq!(text(&body, "refresh_token").as_deref(), Some("r😀"), "{other:.60}");
        }
        let body = b"{\"name\":\"Jos\xe9\",\"refresh_token\":\"rt\"}";
        let read = JsonObject::read(body).unwrap();
        assert_eq!(read.text("refresh_token").unwrap().as_str(), "rt");
        assert_eq!(read.all("name").collect::<Vec<_>>(), [Member::NotText]);
    }

    #[test]
    fn an_incomplete_object_is_told_from_other_text() {
        let whole = r#"{"a":[1,{"b":"c\n\u00e9"},true],"refresh_token":"rt","d":-1.5E3}"#;
        assert!(JsonObject::read(whole.as_bytes()).is_ok());
        for length in 1..whole.len() {
            let read = JsonObject::read(&whole.as_bytes()[..length]);
            assert_eq!(read.err(), Some(NotAnObject::Incomplete), "{length}");
        }
        for text in [
            r#"{"a":1}{"a":1}"#,
            r#"{"a":1}x"#,
            r#"{"a":1,}"#,
            r#"{"a" 1}"#,
            r#"{"a":[1 2]}"#,
            r#"{"a":[1}"#,
            r#"{"a":01}"#,
            r#"{"a":1.}"#,
            r#"{"a":"\x"}"#,
            "{\"a\":\"\n\"}",
            r#"{a:1}"#,
            r#"{"a":nul}"#,
        ] {
            let read = JsonObject::read(text.as_bytes());
            assert_eq!(read.err(), Some(NotAnObject::Incomplete), "{text}");
        }
        for text in ["[", "[{}", r#"[{"access_token":"a"},{}]"#, "[{}]]", "[{}]x", "{}\0x"] {
            let read = JsonObject::read(text.as_bytes());
            assert_eq!(read.err(), Some(NotAnObject::Incomplete), "{text:?}");
        }
        for text in ["[{}]", "[ {} ]\n", "{}\0", "{}\n\0\0"] {
            assert!(JsonObject::read(text.as_bytes()).is_ok(), "{text:?}");
        }
        for text in [
            "<html>",
            "\0",
            "[{},{}]",
            "[1]",
            "[[{}]]",
            "null",
            "\"{}\"",
            "access_token=a&refresh_token=b",
        ] {
            assert_eq!(JsonObject::read(text.as_bytes()).err(), Some(NotAnObject::Other), "{text}");
        }
        for text in ["", " \r\n", "\u{feff}"] {
            assert_eq!(JsonObject::read(text.as_bytes()).err(), Some(NotAnObject::Empty));
        }
    }

    #[test]
    fn a_text_counts_if_all_its_repetitions_agree() {
        assert_eq!(text(r#"{"a":"x","a":"x"}"#, "a").as_deref(), Some("x"));
        assert_eq!(text(r#"{"a":"x","a":null,"a":""}"#, "a").as_deref(), Some("x"));
        assert_eq!(text(r#"{"a":"x","a":"y"}"#, "a"), None);
        assert_eq!(text(r#"{"a":"x","a":1}"#, "a"), None);
        assert_eq!(text(r#"{"A":"x"}"#, "a"), None);
    }

    #[test]
    fn elements_are_those_of_the_array() {
        let count = |value: &str| {
            let body = format!("{{\"a\":{value}}}");
            let read = JsonObject::read(body.as_bytes()).unwrap();
            let member = read.all("a").next().unwrap();
            member.elements().count()
        };
        for (value, elements) in [
            ("[]", 0),
            ("[ ]", 0),
            ("[1]", 1),
            (r#"[ "a" , {"b":[1,2]} , [3,[4]] , null ]"#, 4),
            (r#"{"a":[1]}"#, 0),
            (r#""[1,2]""#, 0),
            ("7", 0),
        ] {
            assert_eq!(count(value), elements, "{value}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(count(&deep), 1);
    }

    #[test]
    fn whatever_serde_json_reads_is_read_alike() {
        for body in [
            r#"{"a":"\"\\\/\b\f\n\r\té\u00e9\ud83d\ude00"}"#,
            r#"{"b":1,"a":"x y"}"#,
            r#"{"a":""}"#,
            r#"{"a":"😀"}"#,
        ] {
            let value: serde_json::Value = body.parse().unwrap();
            let read = JsonObject::read(body.as_bytes()).unwrap();
            let all: Vec<_> = read.all("a").collect();
            let expected = value["a"].as_str().unwrap().to_owned();
            assert_eq!(all, [Member::Text(Zeroizing::new(expected))], "{body}");
        }
    }
}
