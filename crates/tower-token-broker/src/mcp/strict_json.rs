//! The one strict reading of foreign JSON: what is accepted here, every parser reads alike.
//!
//! UTF-8 without a byte order mark, the grammar of RFC 8259, no doubled member at any depth after unescaping, no lone
//! surrogate, bounded depth, no trailing bytes. Numbers stay text. Nothing is built: a [`Value`] is a view into the text.

use std::{borrow::Cow, fmt};

/// How much of a text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// How deep arrays and objects may stand in each other.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: 128 }
    }
}

/// Why a text is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// Not UTF-8, or UTF-8 behind a byte order mark.
    #[error("the text is not UTF-8 without a byte order mark")]
    NotUtf8,
    /// Not the grammar of RFC 8259.
    #[error("the text is not JSON")]
    Syntax,
    /// A member twice in one object, after unescaping.
    #[error("a member stands twice in one object")]
    DuplicateMember,
    /// Deeper than the limit.
    #[error("the text is nested too deep")]
    TooDeep,
    /// An escaped surrogate without its other half (RFC 8259 §8.2).
    #[error("the text has a lone surrogate")]
    LoneSurrogate,
}

/// What kind of value it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "RFC 8259 has these six")]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number
    Number,
    /// A string
    String,
    /// An array
    Array,
    /// An object
    Object,
}

/// A value in a text that was read strictly: a view, free to copy.
#[derive(Clone, Copy)]
pub struct Value<'a>(&'a str);

impl<'a> Value<'a> {
    /// Reads the whole text.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn parse(bytes: &'a [u8], limits: &Limits) -> Result<Self, JsonError> {
        let mut reader = Reader::new(bytes, limits)?;
        let raw = reader.skip()?;
        reader.end()?;
        Ok(Self(raw))
    }

    /// A view of a text that this module's reader has already read.
    pub(crate) const fn known(raw: &'a str) -> Self {
        Self(raw)
    }

    /// The value's own text.
    #[must_use]
    pub const fn raw(self) -> &'a str {
        self.0
    }

    /// What kind of value it is.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self.0.as_bytes().first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'n') => Kind::Null,
            _ => Kind::Number,
        }
    }

    /// The text of a string, unescaped.
    #[must_use]
    pub fn as_str(self) -> Option<Cow<'a, str>> {
        self.reader().string().ok()
    }

    /// A number that is written as a non-negative integer and fits: no fraction, no exponent, no sign.
    #[must_use]
    pub fn as_u64(self) -> Option<u64> {
        (self.kind() == Kind::Number && self.0.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| self.0.parse().ok())
            .flatten()
    }

    /// `true` or `false`.
    #[must_use]
    pub fn as_bool(self) -> Option<bool> {
        match self.0 {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// The member of this name.
    #[must_use]
    pub fn get(self, name: &str) -> Option<Self> {
        self.members()?.find(|(found, _)| found == name).map(|(_, value)| value)
    }

    /// The members of an object, in their order.
    #[must_use]
    pub fn members(self) -> Option<impl Iterator<Item = (Cow<'a, str>, Self)>> {
        let mut inside = self.inside(Kind::Object)?;
        Some(std::iter::from_fn(move || {
            let name = inside.next_item(b'}')?.string().ok()?;
            inside.0.expect(b':').ok()?;
            Some((name, Self(inside.0.skip().ok()?)))
        }))
    }

    /// The elements of an array, in their order.
    #[must_use]
    pub fn elements(self) -> Option<impl Iterator<Item = Self>> {
        let mut inside = self.inside(Kind::Array)?;
        Some(std::iter::from_fn(move || Some(Self(inside.next_item(b']')?.skip().ok()?))))
    }

    fn inside(self, kind: Kind) -> Option<Inside<'a>> {
        (self.kind() == kind).then(|| {
            let mut reader = self.reader();
            reader.at = 1;
            Inside(reader, true)
        })
    }

    // What was read once strictly is read again without limits or doubts.
    const fn reader(self) -> Reader<'a> {
        Reader { text: self.0, at: 0, depth: usize::MAX, names: Vec::new(), known: true }
    }
}

struct Inside<'a>(Reader<'a>, bool);

impl<'a> Inside<'a> {
    fn next_item(&mut self, close: u8) -> Option<&mut Reader<'a>> {
        let first = std::mem::replace(&mut self.1, false);
        match self.0.peek()? {
            byte if byte == close => None,
            b',' if !first => {
                self.0.at += 1;
                Some(&mut self.0)
            }
            _ => first.then_some(&mut self.0),
        }
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({:?}, {} bytes)", self.kind(), self.0.len())
    }
}

/// Reads a text from front to back, once.
///
/// A caller walks the members it cares for with [`Reader::object`] and takes or skips each value; everything that is
/// passed over is checked as strictly as what is taken.
#[derive(Debug)]
pub struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    names: Vec<Cow<'a, str>>,
    known: bool,
}

impl<'a> Reader<'a> {
    /// At the beginning of a text.
    ///
    /// # Errors
    /// [`JsonError::NotUtf8`].
    pub fn new(bytes: &'a [u8], limits: &Limits) -> Result<Self, JsonError> {
        let text = std::str::from_utf8(bytes).map_err(|_| JsonError::NotUtf8)?;
        if text.starts_with('\u{feff}') {
            return Err(JsonError::NotUtf8);
        }
        Ok(Self { text, at: 0, depth: limits.depth, names: Vec::new(), known: false })
    }

    /// What kind of value comes next.
    ///
    /// # Errors
    /// [`JsonError::Syntax`] if none does.
    pub fn kind(&mut self) -> Result<Kind, JsonError> {
        match self.peek() {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            _ => Err(JsonError::Syntax),
        }
    }

    /// Where the next value begins, in bytes.
    pub fn position(&mut self) -> usize {
        self.space();
        self.at
    }

    /// Where the last value ended, in bytes.
    #[must_use]
    pub const fn position_behind(&self) -> usize {
        self.at
    }

    /// Reads an object: `member` gets each name, and must read its value.
    ///
    /// # Errors
    /// Why the object is refused, or what `member` says.
    pub fn object<E, F>(&mut self, mut member: F) -> Result<&'a str, E>
    where
        E: From<JsonError>,
        F: FnMut(&mut Self, &Cow<'a, str>) -> Result<(), E>,
    {
        let from = self.position();
        self.expect(b'{')?;
        self.deeper()?;
        let first_name = self.names.len();
        if self.peek() == Some(b'}') {
            self.at += 1;
        } else {
            loop {
                self.space();
                let name = self.string()?;
                self.expect(b':')?;
                member(self, &name)?;
                if !self.known {
                    self.names.push(name);
                }
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b'}') => {
                        self.at += 1;
                        break;
                    }
                    _ => return Err(JsonError::Syntax.into()),
                }
            }
        }
        // J196, B037: two readings of one text begin with a doubled member.
        if has_twins(self.names.get_mut(first_name..).unwrap_or_default()) {
            return Err(JsonError::DuplicateMember.into());
        }
        self.names.truncate(first_name);
        self.depth += 1;
        Ok(self.text.get(from..self.at).unwrap_or_default())
    }

    /// Reads an array: `element` must read one value each time.
    ///
    /// # Errors
    /// Why the array is refused, or what `element` says.
    pub fn array<E, F>(&mut self, mut element: F) -> Result<&'a str, E>
    where
        E: From<JsonError>,
        F: FnMut(&mut Self) -> Result<(), E>,
    {
        let from = self.position();
        self.expect(b'[')?;
        self.deeper()?;
        if self.peek() == Some(b']') {
            self.at += 1;
        } else {
            loop {
                element(self)?;
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b']') => {
                        self.at += 1;
                        break;
                    }
                    _ => return Err(JsonError::Syntax.into()),
                }
            }
        }
        self.depth += 1;
        Ok(self.text.get(from..self.at).unwrap_or_default())
    }

    /// Reads a string, unescaped.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.expect(b'"')?;
        let from = self.at;
        loop {
            match self.text.as_bytes().get(self.at) {
                Some(b'"') => {
                    let plain = self.text.get(from..self.at).ok_or(JsonError::Syntax)?;
                    self.at += 1;
                    return Ok(Cow::Borrowed(plain));
                }
                Some(b'\\') => break,
                Some(0x20..) => self.at += 1,
                _ => return Err(JsonError::Syntax),
            }
        }
        let mut unescaped = self.text.get(from..self.at).ok_or(JsonError::Syntax)?.to_owned();
        loop {
            let from = self.at;
            match self.text.as_bytes().get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(unescaped));
                }
                Some(b'\\') => {
                    self.at += 1;
                    unescaped.push(self.escape()?);
                }
                Some(0x20..) => {
                    while matches!(self.text.as_bytes().get(self.at), Some(0x20..))
                        && !matches!(self.text.as_bytes().get(self.at), Some(b'"' | b'\\'))
                    {
                        self.at += 1;
                    }
                    unescaped.push_str(self.text.get(from..self.at).ok_or(JsonError::Syntax)?);
                }
                _ => return Err(JsonError::Syntax),
            }
        }
    }

    /// Reads one value of any kind, as strictly as any, and gives its text.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn skip(&mut self) -> Result<&'a str, JsonError> {
        let from = self.position();
        match self.kind()? {
            Kind::Object => return self.object(|reader, _| reader.skip().map(drop)),
            Kind::Array => return self.array(|reader| reader.skip().map(drop)),
            Kind::String => drop(self.string()?),
            Kind::Number => self.number()?,
            Kind::Bool if self.peek() == Some(b't') => self.word("true")?,
            Kind::Bool => self.word("false")?,
            Kind::Null => self.word("null")?,
        }
        Ok(self.text.get(from..self.at).unwrap_or_default())
    }

    /// Nothing may follow.
    ///
    /// # Errors
    /// [`JsonError::Syntax`] if something does.
    pub fn end(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(JsonError::Syntax),
        }
    }

    fn deeper(&mut self) -> Result<(), JsonError> {
        self.depth = self.depth.checked_sub(1).ok_or(JsonError::TooDeep)?;
        Ok(())
    }

    fn space(&mut self) {
        while matches!(self.text.as_bytes().get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&mut self) -> Option<u8> {
        self.space();
        self.text.as_bytes().get(self.at).copied()
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.peek() != Some(byte) {
            return Err(JsonError::Syntax);
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<(), JsonError> {
        if !self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return Err(JsonError::Syntax);
        }
        self.at += word.len();
        Ok(())
    }

    /// `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`
    fn number(&mut self) -> Result<(), JsonError> {
        let next = |reader: &Self| reader.text.as_bytes().get(reader.at).copied();
        if next(self) == Some(b'-') {
            self.at += 1;
        }
        match next(self) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(JsonError::Syntax),
        }
        if next(self) == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(next(self), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(next(self), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let from = self.at;
        while matches!(self.text.as_bytes().get(self.at), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == from { Err(JsonError::Syntax) } else { Ok(()) }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let byte = self.text.as_bytes().get(self.at).copied();
        self.at += 1;
        Ok(match byte {
            Some(plain @ (b'"' | b'\\' | b'/')) => char::from(plain),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.four_digits()?;
                match first {
                    0xd800..=0xdbff => {
                        if self.text.as_bytes().get(self.at..self.at + 2) != Some(b"\\u") {
                            return Err(JsonError::LoneSurrogate);
                        }
                        self.at += 2;
                        let second = self.four_digits()?;
                        if !(0xdc00..=0xdfff).contains(&second) {
                            return Err(JsonError::LoneSurrogate);
                        }
                        char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))
                            .ok_or(JsonError::LoneSurrogate)?
                    }
                    other => char::from_u32(other).ok_or(JsonError::LoneSurrogate)?,
                }
            }
            _ => return Err(JsonError::Syntax),
        })
    }

    fn four_digits(&mut self) -> Result<u32, JsonError> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).ok_or(JsonError::Syntax)?;
        let mut value = 0;
        for digit in digits {
            value = value * 16 + char::from(*digit).to_digit(16).ok_or(JsonError::Syntax)?;
        }
        self.at += 4;
        Ok(value)
    }
}

/// Whether a name stands twice: few are compared with each other, many are sorted first.
fn has_twins(names: &mut [Cow<'_, str>]) -> bool {
    if names.len() <= 8 {
        return names.iter().enumerate().any(|(at, name)| names.iter().take(at).any(|other| other == name));
    }
    names.sort_unstable();
    names.windows(2).any(|pair| matches!(pair, [one, other] if one == other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Value<'_>, JsonError> {
        Value::parse(text.as_bytes(), &Limits::default())
    }

    #[test]
    fn a_doubled_member_is_refused_at_any_depth_after_unescaping() {
        for text in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"[{"b":{"a":1,"c":0,"a":2}}]"#,
            r#"{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"i":9,"\u0061":0}"#,
        ] {
            assert_eq!(read(text).err(), Some(JsonError::DuplicateMember), "{text}");
        }
        assert!(read(r#"{"a":{"a":1},"A":[{"a":1},{"a":1}]}"#).is_ok());
    }

    #[test]
    fn depth_is_bounded_and_no_stack_overflows() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(&nested(128)).is_ok());
        assert_eq!(read(&nested(129)).err(), Some(JsonError::TooDeep));
        for text in ["[".repeat(100_000), "[{\"\":".repeat(50_000)] {
            let small = std::thread::Builder::new().stack_size(512 * 1024);
            let read = small.spawn(move || read(&text).err()).unwrap().join().unwrap();
            assert_eq!(read, Some(JsonError::TooDeep));
        }
    }

    #[test]
    fn values_are_views_into_the_text() {
        let value = read(r#" {"a":[1, "x\u00e9\ud83d\ude00", true], "b": -1.5e3 } "#).unwrap();
        let elements: Vec<_> = value.get("a").unwrap().elements().unwrap().collect();
        assert_eq!(elements[0].as_u64(), Some(1));
        assert_eq!(elements[1].as_str().unwrap(), "xé😀");
        assert_eq!(elements[2].as_bool(), Some(true));
        assert_eq!(value.get("b").unwrap().raw(), "-1.5e3");
        assert_eq!(value.get("b").unwrap().as_u64(), None);
        assert_eq!(value.members().unwrap().count(), 2);
        assert!(value.get("c").is_none());
        assert_eq!(read("[]").unwrap().elements().unwrap().count(), 0);
    }

    #[test]
    fn surrogates_come_in_pairs() {
        for text in [r#""\ud800""#, r#""\udc00""#, r#""\ud800\u0041""#, r#""\ud800\ud800""#] {
            assert_eq!(read(text).err(), Some(JsonError::LoneSurrogate), "{text}");
        }
    }
}
