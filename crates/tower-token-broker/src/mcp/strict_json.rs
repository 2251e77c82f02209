//! The one strict reading of foreign JSON: what is accepted here, every parser reads alike.
//!
//! UTF-8 without a byte order mark, the grammar of RFC 8259, no doubled member at any depth after unescaping, no lone
//! surrogate, bounded depth, no trailing bytes. Numbers stay text. Nothing is built: a [`Value`] is a view into the text.

use std::{borrow::Cow, cmp::Ordering, fmt, ops::Range};

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
    /// Where the names begin of those objects around this place that have many.
    names: Vec<u32>,
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
        self.members(|reader, name| {
            let text = reader.unescaped(name)?;
            member(reader, &text)
        })?;
        Ok(self.text.get(from..self.at).unwrap_or_default())
    }

    /// Reads an object: `value` gets to know where each name stands, and must read its value.
    fn members<E, F>(&mut self, mut value: F) -> Result<(), E>
    where
        E: From<JsonError>,
        F: FnMut(&mut Self, Name) -> Result<(), E>,
    {
        self.expect(b'{')?;
        self.deeper()?;
        let mut names = Names::behind(self.names.len());
        if self.peek() == Some(b'}') {
            self.at += 1;
        } else {
            loop {
                self.space();
                let name = self.name()?;
                if !self.known {
                    self.keep(&mut names, name);
                }
                self.expect(b':')?;
                value(self, name)?;
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
        if self.has_twins(&names) {
            return Err(JsonError::DuplicateMember.into());
        }
        self.names.truncate(names.first_of_many);
        self.depth += 1;
        Ok(())
    }

    /// Reads the name of a member.
    fn name(&mut self) -> Result<Name, JsonError> {
        // Nobody's message has 4 GiB; what lies behind is not read.
        let place = |at: usize| u32::try_from(at).map_err(|_| JsonError::Syntax);
        let begins = place(self.at + 1)?;
        let is_escaped = self.skip_string()?;
        Ok(Name { begins, ends: place(self.at - 1)?, is_escaped })
    }

    fn unescaped(&self, name: Name) -> Result<Cow<'a, str>, JsonError> {
        if name.is_escaped {
            return Reader { at: name.begins as usize - 1, ..Value(self.text).reader() }.string();
        }
        self.text.get(name.place()).map(Cow::Borrowed).ok_or(JsonError::Syntax)
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
        let plain = self.run()?;
        if self.ends()? {
            return Ok(Cow::Borrowed(plain));
        }
        let mut unescaped = plain.to_owned();
        loop {
            unescaped.push(self.escape()?);
            unescaped.push_str(self.run()?);
            if self.ends()? {
                return Ok(Cow::Owned(unescaped));
            }
        }
    }

    /// Reads a string, and keeps nothing of it but whether any of it is escaped.
    fn skip_string(&mut self) -> Result<bool, JsonError> {
        self.expect(b'"')?;
        let mut is_escaped = false;
        loop {
            self.at += run_length(self.text.as_bytes().get(self.at..).unwrap_or_default());
            if self.ends()? {
                return Ok(is_escaped);
            }
            self.escape()?;
            is_escaped = true;
        }
    }

    /// What stands for itself in a string, from here on.
    fn run(&mut self) -> Result<&'a str, JsonError> {
        let from = self.at;
        self.at += run_length(self.text.as_bytes().get(from..).unwrap_or_default());
        self.text.get(from..self.at).ok_or(JsonError::Syntax)
    }

    /// Whether the string ends here, rather than going on with an escape.
    fn ends(&mut self) -> Result<bool, JsonError> {
        let ends = match self.text.as_bytes().get(self.at) {
            Some(b'"') => true,
            Some(b'\\') => false,
            _ => return Err(JsonError::Syntax),
        };
        self.at += 1;
        Ok(ends)
    }

    /// Reads one value of any kind, as strictly as any, and gives its text.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn skip(&mut self) -> Result<&'a str, JsonError> {
        let from = self.position();
        self.pass()?;
        Ok(self.text.get(from..self.at).unwrap_or_default())
    }

    fn pass(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'"') => self.skip_string().map(drop),
            Some(b'{') => self.members(|reader, _| reader.pass()),
            Some(b'[') => self.array(Self::pass).map(drop),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => Err(JsonError::Syntax),
        }
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

    /// Keeps where the name stands that was just read.
    fn keep(&mut self, names: &mut Names, name: Name) {
        names.any_escaped |= name.is_escaped;
        match (names.few.get_mut(names.count), names.heads.get_mut(names.count)) {
            (Some(few), Some(head)) => {
                *few = (name.begins, name.ends);
                *head = head_of(self.text.as_bytes().get(name.place()).unwrap_or_default());
            }
            _ => {
                if names.count == FEW {
                    self.names.extend(names.few.iter().map(|(begins, _)| begins));
                }
                self.names.push(name.begins);
            }
        }
        names.count += 1;
    }

    /// Whether a name stands twice: few are compared with each other, many are sorted first.
    fn has_twins(&mut self, names: &Names) -> bool {
        let text = self.text;
        let order = if names.any_escaped { order_unescaped } else { order_plain };
        if let (Some(few), Some(heads)) = (names.few.get(..names.count), names.heads.get(..names.count)) {
            let are_same = |one: usize, other: usize| match (few.get(one), few.get(other)) {
                (Some(one), Some(other)) => order(text, one.0, other.0).is_eq(),
                _ => false,
            };
            return (1..few.len()).any(|one| {
                let (before, head) = (heads.iter().take(one), heads.get(one));
                // Names whose heads differ differ, unless they are escaped.
                let alike = |other: &u64| names.any_escaped || Some(other) == head;
                before.enumerate().any(|(other, of_other)| alike(of_other) && are_same(one, other))
            });
        }
        let many = self.names.get_mut(names.first_of_many..).unwrap_or_default();
        many.sort_unstable_by(|one, other| order(text, *one, *other));
        many.windows(2).any(|pair| matches!(pair, [one, other] if order(text, *one, *other).is_eq()))
    }

    fn deeper(&mut self) -> Result<(), JsonError> {
        self.depth = self.depth.checked_sub(1).ok_or(JsonError::TooDeep)?;
        Ok(())
    }

    #[inline]
    fn space(&mut self) {
        while matches!(self.text.as_bytes().get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    #[inline]
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
        if !self.text.as_bytes().get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes())) {
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

/// A name: it stands from behind the first quotation mark to the second.
#[derive(Clone, Copy)]
struct Name {
    begins: u32,
    ends: u32,
    is_escaped: bool,
}

impl Name {
    const fn place(self) -> Range<usize> {
        self.begins as usize..self.ends as usize
    }
}

/// The first eight bytes of a name and its length: two names that differ in it are not the same.
fn head_of(name: &[u8]) -> u64 {
    let mut head = [0; 8];
    match name.first_chunk() {
        Some(first) => head = *first,
        None => head.iter_mut().zip(name).for_each(|(head, byte)| *head = *byte),
    }
    u64::from_le_bytes(head).wrapping_add((name.len() as u64).rotate_right(5))
}

/// The names of one object so far: four bytes each where there are many, so that no text takes more than its own length.
struct Names {
    few: [(u32, u32); FEW],
    /// What they begin with: nearly always enough to tell them apart.
    heads: [u64; FEW],
    count: usize,
    /// From there on the reader keeps this object's names, if they are more than a few.
    first_of_many: usize,
    any_escaped: bool,
}

impl Names {
    const fn behind(first_of_many: usize) -> Self {
        Self { few: [(0, 0); FEW], heads: [0; FEW], count: 0, first_of_many, any_escaped: false }
    }
}

/// So many names are compared with each other where they stand, without a place of their own.
const FEW: usize = 16;

/// How two names without escapes are ordered that begin there.
fn order_plain(text: &str, one: u32, other: u32) -> Ordering {
    let octets = |begins: u32| {
        text.as_bytes().get(begins as usize..).unwrap_or_default().iter().take_while(|octet| **octet != b'"')
    };
    octets(one).cmp(octets(other))
}

/// How two names are ordered that begin there, after unescaping.
fn order_unescaped(text: &str, one: u32, other: u32) -> Ordering {
    let characters = |begins: u32| {
        let mut reader = Reader { text, at: begins as usize, depth: 0, names: Vec::new(), known: true };
        std::iter::from_fn(move || match reader.text.as_bytes().get(reader.at)? {
            b'"' => None,
            b'\\' => {
                reader.at += 1;
                reader.escape().ok()
            }
            _ => {
                let character = reader.text.get(reader.at..)?.chars().next()?;
                reader.at += character.len_utf8();
                Some(character)
            }
        })
    };
    characters(one).cmp(characters(other))
}

/// How many bytes stand before the first quotation mark, backslash or control character.
///
/// Most strings are short: the first bytes are looked at eight at a time. Of a longer one the end is searched first, and then
/// whether there is a control character before it, both in as many bytes at a time as the processor can.
fn run_length(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH_BITS: u64 = u64::from_le_bytes([0x80; 8]);
    const SHORT: usize = 48;
    // The high bit of each byte of `word` that is less than `least`; above the first such byte others may be marked, too.
    let less = |word: u64, least: u64| word.wrapping_sub(ONES * least) & !word & HIGH_BITS;
    let mut length = 0;
    let (words, rest) = bytes.get(..SHORT).unwrap_or(bytes).as_chunks();
    for word in words {
        let word = u64::from_le_bytes(*word);
        let ends =
            less(word, 0x20) | less(word ^ (ONES * u64::from(b'"')), 1) | less(word ^ (ONES * u64::from(b'\\')), 1);
        if ends != 0 {
            // The lowest mark is the first byte's, and true.
            return length + ends.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    let is_control = |byte: &u8| *byte < 0x20;
    let rest = if length == SHORT { bytes.get(SHORT..).unwrap_or_default() } else { rest };
    let run = rest.get(..memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len())).unwrap_or_default();
    if run.iter().fold(u8::MAX, |least, byte| least.min(*byte)) >= 0x20 {
        return length + run.len();
    }
    length + run.iter().position(is_control).unwrap_or(run.len())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

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

    /// The bytes that are kept to find twins, at the moment of their growth.
    fn kept<T>(names: &Vec<T>) -> usize {
        names.capacity() * size_of::<T>() * 3 / 2
    }

    #[test]
    fn names_are_kept_in_less_than_twice_the_text() {
        let distinct = (0..120_000).map(|number| format!(r#""{number:x}":0"#)).collect::<Vec<_>>().join(",");
        let escaped = (0..80_000).map(|number| format!(r#""\n{number:x}":0"#)).collect::<Vec<_>>().join(",");
        let twins = vec![r#""":0"#; 200_000].join(",");
        for members in [distinct, escaped, twins] {
            let text = format!("{{{members}}}");
            let mut reader = Reader::new(text.as_bytes(), &Limits::default()).unwrap();
            let is_read = reader.skip().is_ok();
            assert_eq!(is_read, !text.starts_with(r#"{"":0"#));
            assert!(kept(&reader.names) <= 2 * text.len(), "{} of {}", kept(&reader.names), text.len());
        }
    }

    #[test]
    fn few_names_are_compared_where_they_stand() {
        let members = (0..16).map(|number| format!(r#""\u006e{number}":{{"a":[{{}}],"b":0}}"#)).collect::<Vec<_>>();
        let text = format!("{{{}}}", members.join(","));
        let mut reader = Reader::new(text.as_bytes(), &Limits::default()).unwrap();
        assert!(reader.skip().is_ok());
        assert_eq!(kept(&reader.names), 0);
    }

    proptest! {
        #[test]
        fn a_run_ends_at_the_first_byte_that_means_something(
            bytes in prop::collection::vec(prop_oneof![4 => 0x20..=0xff_u8, 1 => prop::sample::select(&b"\"\\\x00\x1f\x20\x21\x7f\x80\xa2\xdc"[..])], 0..40),
        ) {
            let plain = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
            prop_assert_eq!(run_length(&bytes), plain.unwrap_or(bytes.len()));
        }

        #[test]
        fn twins_are_found_however_many_there_are_and_however_they_are_written(
            names in prop::collection::vec(("[a-dé😀\"]{0,3}", any::<bool>()), 0..40),
        ) {
            let escape = |name: &str| -> String {
                name.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect()
            };
            let members: Vec<_> = names
                .iter()
                .map(|(name, escaped)| if *escaped || name.contains('"') { escape(name) } else { name.clone() })
                .map(|name| format!(r#""{name}":{{"in":0}}"#))
                .collect();
            let text = format!("{{{}}}", members.join(" , "));
            let distinct: HashSet<_> = names.iter().map(|(name, _)| name).collect();
            let twins = distinct.len() < names.len();
            prop_assert_eq!(read(&text).err(), twins.then_some(JsonError::DuplicateMember));
        }
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
