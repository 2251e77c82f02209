//! A strict reader of untrusted JSON, which accepts only text that all parsers read alike.
//!
//! The text must be UTF-8 without a byte order mark and follow the grammar of RFC 8259, with no
//! duplicate member at any depth after unescaping, no lone surrogate, bounded depth, and no
//! trailing bytes. Numbers remain text. No tree is built: a [`Value`] is a view into the text.

use std::{borrow::Cow, cmp, fmt};

use super::{content, watch::Watch};

/// The limits for a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The maximum nesting of arrays and objects.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: 128 }
    }
}

/// The reason why a text is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// The text is not UTF-8, or begins with a byte order mark.
    #[error("the text is not UTF-8 without a byte order mark")]
    NotUtf8,
    /// The text does not follow the grammar of RFC 8259.
    #[error("the text is not JSON")]
    Syntax,
    /// A member occurs twice in one object, after unescaping.
    #[error("a member occurs twice in one object")]
    DuplicateMember,
    /// The nesting exceeds the limit.
    #[error("the text is nested too deeply")]
    TooDeep,
    /// An escaped surrogate lacks its other half (RFC 8259 §8.2).
    #[error("the text has a lone surrogate")]
    LoneSurrogate,
}

/// The kind of a value.
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

/// A value in a text that was parsed strictly: a view, free to copy.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    raw: &'a str,
    watch: Option<&'a Watch>,
}

impl<'a> Value<'a> {
    /// Parses a whole text.
    ///
    /// # Errors
    /// If the text is not strict JSON.
    pub fn parse(bytes: &'a [u8], limits: &Limits) -> Result<Self, JsonError> {
        let mut reader = Reader::new(bytes, limits)?;
        let raw = reader.skip()?;
        reader.end()?;
        Ok(Self::known(raw))
    }

    /// Creates a view of text that this module's reader has parsed.
    pub(crate) const fn known(raw: &'a str) -> Self {
        Self { raw, watch: None }
    }

    /// Creates a view that notes which objects are read.
    pub(crate) const fn watched(raw: &'a str, watch: &'a Watch) -> Self {
        Self { raw, watch: Some(watch) }
    }

    /// Returns the value without its watch.
    pub(super) const fn unwatched(self) -> Self {
        Self::known(self.raw)
    }

    const fn inner(self, raw: &'a str) -> Self {
        Self { raw, watch: self.watch }
    }

    /// Returns the text of the value.
    pub fn raw(self) -> &'a str {
        if let Some(watch) = self.watch {
            watch.read_whole(self.raw);
        }
        self.raw
    }

    /// Returns the kind of the value.
    pub fn kind(self) -> Kind {
        match self.raw.as_bytes().first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'n') => Kind::Null,
            _ => Kind::Number,
        }
    }

    /// Returns the text of a string, unescaped.
    pub fn as_str(self) -> Option<Cow<'a, str>> {
        self.reader().string().ok()
    }

    /// Returns a number that is written as a non-negative integer and fits: without fraction,
    /// exponent or sign.
    pub fn as_u64(self) -> Option<u64> {
        (self.kind() == Kind::Number && self.raw.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| self.raw.parse().ok())
            .flatten()
    }

    /// Returns `true` or `false`.
    pub fn as_bool(self) -> Option<bool> {
        match self.raw {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// Returns the member with this name.
    pub fn get(self, name: &str) -> Option<Self> {
        if let Some(watch) = self.watch {
            watch.read_name(self, name);
        }
        self.all_members()?.find(|(found, _)| found == name).map(|(_, value)| value)
    }

    /// Returns an optional member: `null` counts as absent.
    pub(crate) fn optional(self, name: &str) -> Option<Self> {
        self.get(name).filter(|value| value.kind() != Kind::Null)
    }

    /// Returns the members of an object, in order.
    pub fn members(self) -> Option<impl Iterator<Item = (Cow<'a, str>, Self)>> {
        if let Some(watch) = self.watch {
            watch.read_names(self);
        }
        self.all_members()
    }

    fn all_members(self) -> Option<impl Iterator<Item = (Cow<'a, str>, Self)>> {
        let mut inside = self.inside(Kind::Object)?;
        Some(std::iter::from_fn(move || {
            let name = inside.next_item(b'}')?.string().ok()?;
            inside.0.expect(b':').ok()?;
            Some((name, self.inner(inside.0.skip().ok()?)))
        }))
    }

    /// Returns the elements of an array, in order.
    pub fn elements(self) -> Option<impl Iterator<Item = Self>> {
        let mut inside = self.inside(Kind::Array)?;
        Some(std::iter::from_fn(move || Some(self.inner(inside.next_item(b']')?.skip().ok()?))))
    }

    fn inside(self, kind: Kind) -> Option<Inside<'a>> {
        (self.kind() == kind).then(|| {
            let mut reader = self.reader();
            reader.at = 1;
            Inside(reader, true)
        })
    }

    // The text was parsed strictly once, so it is read again without limits and checks.
    pub(super) const fn reader(self) -> Reader<'a> {
        Reader { text: self.raw, at: 0, depth: usize::MAX, names: Vec::new(), known: true }
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
        write!(f, "Value({:?}, {} bytes)", self.kind(), self.raw.len())
    }
}

/// Reads a text once, from front to back.
///
/// A caller walks the members with [`Reader::object`] and reads or skips each value. A value that
/// is skipped is checked as strictly as one that is read.
#[derive(Debug)]
pub struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    /// The positions of the names in the enclosing objects.
    names: Vec<u32>,
    known: bool,
}

impl<'a> Reader<'a> {
    /// Creates a reader at the beginning of a text.
    ///
    /// # Errors
    /// [`JsonError::NotUtf8`] if the text is not UTF-8, or begins with a byte order mark.
    pub fn new(bytes: &'a [u8], limits: &Limits) -> Result<Self, JsonError> {
        let text = std::str::from_utf8(bytes).map_err(|_| JsonError::NotUtf8)?;
        if text.starts_with('\u{feff}') {
            return Err(JsonError::NotUtf8);
        }
        Ok(Self { text, at: 0, depth: limits.depth, names: Vec::with_capacity(ROOM), known: false })
    }

    /// Creates a reader of content whose grammar was checked. Its objects are read as content.
    pub(crate) const fn of_content(text: &'a str) -> Self {
        Self { text, at: 0, depth: 1, names: Vec::new(), known: false }
    }

    /// Returns the kind of the next value.
    ///
    /// # Errors
    /// [`JsonError::Syntax`] if there is none.
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

    /// Returns the position of the next value, in bytes.
    pub fn position(&mut self) -> usize {
        self.at = behind_space(self.text.as_bytes(), self.at);
        self.at
    }

    /// Returns the end of the last value, in bytes.
    pub const fn position_behind(&self) -> usize {
        self.at
    }

    /// Reads an object. Calls `member` with each name; it must read the value.
    ///
    /// # Errors
    /// If the object is not strict JSON, or if `member` fails.
    pub fn object<E, F>(&mut self, mut member: F) -> Result<&'a str, E>
    where
        E: From<JsonError>,
        F: FnMut(&mut Self, &Cow<'a, str>) -> Result<(), E>,
    {
        let from = self.position();
        self.at = self.members(from, |reader, name, at| {
            let name = reader.unescaped(name)?;
            reader.at = at;
            member(reader, &name)?;
            Ok::<usize, E>(reader.at)
        })?;
        Ok(self.text.get(from..self.at).unwrap_or_default())
    }

    /// Reads an array. Calls `element` for each element; it must read one value.
    ///
    /// # Errors
    /// If the array is not strict JSON, or if `element` fails.
    pub fn array<E, F>(&mut self, mut element: F) -> Result<&'a str, E>
    where
        E: From<JsonError>,
        F: FnMut(&mut Self) -> Result<(), E>,
    {
        let from = self.position();
        self.at = self.elements(from, |reader, at| {
            reader.at = at;
            element(reader)?;
            Ok::<usize, E>(reader.at)
        })?;
        Ok(self.text.get(from..self.at).unwrap_or_default())
    }

    /// Reads a string and unescapes it.
    ///
    /// # Errors
    /// If the string is not strict JSON.
    pub fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.expect(b'"')?;
        let from = self.at;
        let (ends, is_escaped) = end_of_string(self.text.as_bytes(), from)?;
        self.at = ends;
        let raw = self.text.get(from..ends - 1).ok_or(JsonError::Syntax)?;
        if is_escaped { unescape(raw).map(Cow::Owned) } else { Ok(Cow::Borrowed(raw)) }
    }

    /// Reads one value of any kind, with all checks, and returns its text.
    ///
    /// # Errors
    /// If the value is not strict JSON.
    pub fn skip(&mut self) -> Result<&'a str, JsonError> {
        let from = self.position();
        self.at = self.pass(from)?;
        Ok(self.text.get(from..self.at).unwrap_or_default())
    }

    /// Reads one value that decides nothing and returns its text. Only the grammar is checked: it
    /// may contain lone surrogates and repeated members, and has any depth.
    pub(crate) fn skip_content(&mut self) -> Result<&'a str, JsonError> {
        let from = self.position();
        self.at = content::end_of_content(self.text.as_bytes(), from)?;
        Ok(self.text.get(from..self.at).unwrap_or_default())
    }

    /// Reads an object of which only some members decide. Calls `member` with each name; it must
    /// read the value, and notice a name that occurs twice. Half a surrogate pair in a name becomes
    /// U+FFFD.
    pub(crate) fn object_of_content<E, F>(&mut self, mut member: F) -> Result<(), E>
    where
        E: From<JsonError>,
        F: FnMut(&mut Self, &str) -> Result<(), E>,
    {
        self.expect(b'{')?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.expect(b'"')?;
            let (ends, is_escaped) = content::end_of_string(self.text.as_bytes(), self.at)?;
            let raw = self.text.get(self.at..ends - 1).ok_or(JsonError::Syntax)?;
            self.at = ends;
            self.expect(b':')?;
            if is_escaped {
                member(self, &content::unescape(raw)?)?;
            } else {
                member(self, raw)?;
            }
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(JsonError::Syntax.into()),
            }
        }
        self.at += 1;
        Ok(())
    }

    /// Returns the kind of the next value, or reads it and returns `None` if it is `null`: an
    /// optional member that is `null` counts as absent.
    pub(crate) fn kind_unless_null(&mut self) -> Result<Option<Kind>, JsonError> {
        let kind = self.kind()?;
        if kind == Kind::Null {
            self.skip()?;
            return Ok(None);
        }
        Ok(Some(kind))
    }

    /// Checks that the text ends here.
    ///
    /// # Errors
    /// [`JsonError::Syntax`] if it does not.
    pub fn end(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(JsonError::Syntax),
        }
    }

    fn peek(&mut self) -> Option<u8> {
        self.text.as_bytes().get(self.position()).copied()
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.peek() != Some(byte) {
            return Err(JsonError::Syntax);
        }
        self.at += 1;
        Ok(())
    }

    /// Reads the value that begins at `at` and returns its end. Most text is read here, so the
    /// position is passed on and not stored.
    fn pass(&mut self, at: usize) -> Result<usize, JsonError> {
        let text = self.text.as_bytes();
        match text.get(at) {
            Some(b'"') => end_of_string(text, at + 1).map(|(ends, _)| ends),
            Some(b'{') => self.members(at, |reader, _, at| reader.pass(at)),
            Some(b'[') => self.elements(at, Self::pass),
            Some(b'-' | b'0'..=b'9') => end_of_number(text, at),
            Some(b't') => end_of_word(text, at, b"true"),
            Some(b'f') => end_of_word(text, at, b"false"),
            Some(b'n') => end_of_word(text, at, b"null"),
            _ => Err(JsonError::Syntax),
        }
    }

    /// Reads the object that begins at `at` and returns its end. `value` receives a name and the
    /// position of its value, and returns the value's end.
    #[inline]
    fn members<E, F>(&mut self, at: usize, mut value: F) -> Result<usize, E>
    where
        E: From<JsonError>,
        F: FnMut(&mut Self, Name, usize) -> Result<usize, E>,
    {
        let text = self.text.as_bytes();
        let mut at = behind_space(text, behind(text, at, b'{')?);
        self.depth = self.depth.checked_sub(1).ok_or(JsonError::TooDeep)?;
        let mut names = Names::behind(self.names.len());
        if text.get(at) == Some(&b'}') {
            self.depth += 1;
            return Ok(at + 1);
        }
        loop {
            let begins = behind(text, at, b'"')?;
            let (ends, is_escaped) = end_of_string(text, begins)?;
            let name = Name { begins, ends: ends - 1, is_escaped };
            if !self.known {
                self.keep(&mut names, name)?;
            }
            at = behind_space(text, behind(text, behind_space(text, ends), b':')?);
            at = behind_space(text, value(self, name, at)?);
            match text.get(at) {
                Some(b',') => at = behind_space(text, at + 1),
                Some(b'}') => break,
                _ => return Err(JsonError::Syntax.into()),
            }
        }
        // J196, B037: parsers disagree on a duplicate member.
        if self.has_twins(&names) {
            return Err(JsonError::DuplicateMember.into());
        }
        self.names.truncate(names.first);
        self.depth += 1;
        Ok(at + 1)
    }

    /// Reads the array that begins at `at` and returns its end. `element` receives the position of
    /// an element and returns its end.
    #[inline]
    fn elements<E, F>(&mut self, at: usize, mut element: F) -> Result<usize, E>
    where
        E: From<JsonError>,
        F: FnMut(&mut Self, usize) -> Result<usize, E>,
    {
        let text = self.text.as_bytes();
        let mut at = behind_space(text, behind(text, at, b'[')?);
        self.depth = self.depth.checked_sub(1).ok_or(JsonError::TooDeep)?;
        if text.get(at) != Some(&b']') {
            loop {
                at = behind_space(text, element(self, at)?);
                match text.get(at) {
                    Some(b',') => at = behind_space(text, at + 1),
                    Some(b']') => break,
                    _ => return Err(JsonError::Syntax.into()),
                }
            }
        }
        self.depth += 1;
        Ok(at + 1)
    }

    fn unescaped(&self, name: Name) -> Result<Cow<'a, str>, JsonError> {
        let raw = self.text.get(name.begins..name.ends).ok_or(JsonError::Syntax)?;
        if name.is_escaped { unescape(raw).map(Cow::Owned) } else { Ok(Cow::Borrowed(raw)) }
    }

    /// Records the position of a name.
    #[inline]
    fn keep(&mut self, names: &mut Names, name: Name) -> Result<(), JsonError> {
        if self.names.len() - names.first < FEW {
            let bit = name.bit(self.text.as_bytes());
            names.has_twins |= names.bits & bit != 0 && self.is_known(names, name);
            names.bits |= bit;
        }
        names.any_escaped |= name.is_escaped;
        // A position beyond 4 GiB is refused; no message is that long.
        self.names.push(u32::try_from(name.begins).map_err(|_| JsonError::Syntax)?);
        Ok(())
    }

    /// Whether the object already has this name, in the same spelling.
    #[cold]
    fn is_known(&self, names: &Names, name: Name) -> bool {
        // Includes the closing quotation mark, which no name contains.
        let wanted = self.text.as_bytes().get(name.begins..=name.ends).unwrap_or_default();
        let known = self.names.get(names.first..).unwrap_or_default().iter();
        known
            .filter_map(|begins| self.text.as_bytes().get(*begins as usize..))
            .any(|known| known.starts_with(wanted))
    }

    /// Whether a name occurs twice. A few names were compared as they were read. Many names, or
    /// escaped ones, are sorted first.
    #[inline]
    fn has_twins(&mut self, names: &Names) -> bool {
        let count = self.names.len() - names.first;
        if count <= FEW && !names.any_escaped {
            names.has_twins
        } else {
            self.has_twins_sorted(names)
        }
    }

    #[cold]
    fn has_twins_sorted(&mut self, names: &Names) -> bool {
        let text = self.text;
        let order = if names.any_escaped { order_unescaped } else { order_plain };
        let many = self.names.get_mut(names.first..).unwrap_or_default();
        many.sort_unstable_by(|one, other| order(text, *one, *other));
        many.windows(2)
            .any(|pair| matches!(pair, [one, other] if order(text, *one, *other).is_eq()))
    }
}

/// The position of a name between its quotation marks.
#[derive(Clone, Copy)]
struct Name {
    begins: usize,
    ends: usize,
    is_escaped: bool,
}

impl Name {
    /// Returns one of 64 bits, from the length and both ends. Names with different bits differ.
    #[inline]
    fn bit(self, text: &[u8]) -> u64 {
        // For an empty name, the ends are its quotation marks.
        let end = |at: usize| usize::from(text.get(at).copied().unwrap_or_default());
        let length = self.ends - self.begins;
        1 << ((length * 7 + end(self.begins) * 3 + end(self.ends - 1) * 17) % 64)
    }
}

/// The state of the names in one object. The reader stores their positions, in four bytes each, so
/// that they take no more memory than the text.
struct Names {
    /// The index of the first one in the reader's list.
    first: usize,
    /// The bits of the first [`FEW`] names.
    bits: u64,
    /// Whether two of the first [`FEW`] names have the same spelling.
    has_twins: bool,
    any_escaped: bool,
}

impl Names {
    const fn behind(first: usize) -> Self {
        Self { first, bits: 0, has_twins: false, any_escaped: false }
    }
}

/// The number of names that are compared with each other as they are read.
const FEW: usize = 16;
/// The number of names in the enclosing objects of most messages.
const ROOM: usize = 32;

/// Returns the position after a required byte.
#[inline]
pub(super) fn behind(text: &[u8], at: usize, byte: u8) -> Result<usize, JsonError> {
    if text.get(at) == Some(&byte) { Ok(at + 1) } else { Err(JsonError::Syntax) }
}

#[inline]
pub(super) fn behind_space(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// Returns the position after the closing quotation mark of the string whose content begins at
/// `at`, and whether it contains an escape.
#[inline]
fn end_of_string(text: &[u8], mut at: usize) -> Result<(usize, bool), JsonError> {
    let mut is_escaped = false;
    loop {
        at += run_length(text.get(at..).unwrap_or_default());
        match text.get(at) {
            Some(b'"') => return Ok((at + 1, is_escaped)),
            // Most escapes need not be decoded.
            Some(b'\\') => match text.get(at + 1) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => at += 2,
                _ => (_, at) = escape(text, at)?,
            },
            _ => return Err(JsonError::Syntax),
        }
        is_escaped = true;
    }
}

/// Decodes the content of a string (escapes of RFC 8259 §7).
fn unescape(raw: &str) -> Result<String, JsonError> {
    let (mut unescaped, mut at) = (String::with_capacity(raw.len()), 0);
    while let Some(length) = memchr::memchr(b'\\', raw.as_bytes().get(at..).unwrap_or_default()) {
        unescaped.push_str(raw.get(at..at + length).unwrap_or_default());
        let (character, behind) = escape(raw.as_bytes(), at + length)?;
        unescaped.push(character);
        at = behind;
    }
    unescaped.push_str(raw.get(at..).unwrap_or_default());
    Ok(unescaped)
}

/// Decodes the escape whose backslash is at `at`. Returns the character and the end of the escape.
pub(super) fn escape(text: &[u8], at: usize) -> Result<(char, usize), JsonError> {
    let short = |character| Ok((character, at + 2));
    match text.get(at + 1) {
        Some(plain @ (b'"' | b'\\' | b'/')) => short(char::from(*plain)),
        Some(b'b') => short('\u{8}'),
        Some(b'f') => short('\u{c}'),
        Some(b'n') => short('\n'),
        Some(b'r') => short('\r'),
        Some(b't') => short('\t'),
        Some(b'u') => {
            let first = four_digits(text, at + 2)?;
            if !(0xd800..=0xdbff).contains(&first) {
                return char::from_u32(first)
                    .map(|character| (character, at + 6))
                    .ok_or(JsonError::LoneSurrogate);
            }
            if text.get(at + 6..at + 8) != Some(b"\\u") {
                return Err(JsonError::LoneSurrogate);
            }
            let second = four_digits(text, at + 8)?;
            if !(0xdc00..=0xdfff).contains(&second) {
                return Err(JsonError::LoneSurrogate);
            }
            let both = char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00));
            both.map(|character| (character, at + 12)).ok_or(JsonError::LoneSurrogate)
        }
        _ => Err(JsonError::Syntax),
    }
}

pub(super) fn four_digits(text: &[u8], at: usize) -> Result<u32, JsonError> {
    let digits = text.get(at..at + 4).ok_or(JsonError::Syntax)?;
    digits.iter().try_fold(0, |value, digit| {
        Ok(value * 16 + char::from(*digit).to_digit(16).ok_or(JsonError::Syntax)?)
    })
}

pub(super) fn end_of_word(text: &[u8], at: usize, word: &[u8]) -> Result<usize, JsonError> {
    let is_there = text.get(at..).is_some_and(|rest| rest.starts_with(word));
    if is_there { Ok(at + word.len()) } else { Err(JsonError::Syntax) }
}

/// `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`
pub(super) fn end_of_number(text: &[u8], mut at: usize) -> Result<usize, JsonError> {
    if text.get(at) == Some(&b'-') {
        at += 1;
    }
    at = match text.get(at) {
        Some(b'0') => at + 1,
        Some(b'1'..=b'9') => end_of_digits(text, at)?,
        _ => return Err(JsonError::Syntax),
    };
    if text.get(at) == Some(&b'.') {
        at = end_of_digits(text, at + 1)?;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        at += 1;
        if matches!(text.get(at), Some(b'+' | b'-')) {
            at += 1;
        }
        at = end_of_digits(text, at)?;
    }
    Ok(at)
}

fn end_of_digits(text: &[u8], from: usize) -> Result<usize, JsonError> {
    let mut at = from;
    while matches!(text.get(at), Some(b'0'..=b'9')) {
        at += 1;
    }
    if at == from { Err(JsonError::Syntax) } else { Ok(at) }
}

/// Orders two names without escapes that begin at these positions.
fn order_plain(text: &str, one: u32, other: u32) -> cmp::Ordering {
    let octets = |begins: u32| {
        text.as_bytes()
            .get(begins as usize..)
            .unwrap_or_default()
            .iter()
            .take_while(|octet| **octet != b'"')
    };
    octets(one).cmp(octets(other))
}

/// Orders two names that begin at these positions, after unescaping.
fn order_unescaped(text: &str, one: u32, other: u32) -> cmp::Ordering {
    let characters = |begins: u32| {
        let mut at = begins as usize;
        std::iter::from_fn(move || match text.as_bytes().get(at)? {
            b'"' => None,
            b'\\' => {
                let (character, ends) = escape(text.as_bytes(), at).ok()?;
                at = ends;
                Some(character)
            }
            _ => {
                let character = text.get(at..)?.chars().next()?;
                at += character.len_utf8();
                Some(character)
            }
        })
    };
    characters(one).cmp(characters(other))
}

/// Returns the number of bytes before the first quotation mark, backslash or control character.
///
/// Most strings are short, so the first bytes are checked eight at a time. In a longer string, a
/// vectorized search finds the end, and a second one looks for a control character before it.
#[inline]
pub(super) fn run_length(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH_BITS: u64 = u64::from_le_bytes([0x80; 8]);
    const SHORT: usize = 48;
    // Sets the high bit of each byte that ends the run. Bits after the first such byte may be
    // wrong; bits before it are not. For bytes below 0x80, subtracting the limit (or 1, after an
    // equal byte became zero) sets the high bit exactly then, and no borrow comes from an earlier
    // byte.
    let marks = |word: u64| {
        let of = |byte: u8| (word ^ (ONES * u64::from(byte))).wrapping_sub(ONES);
        (word.wrapping_sub(ONES * 0x20) | of(b'"') | of(b'\\')) & !word & HIGH_BITS
    };
    let mut length = 0;
    let (words, rest) = bytes.get(..SHORT).unwrap_or(bytes).as_chunks();
    for word in words {
        let ends = marks(u64::from_le_bytes(*word));
        if ends != 0 {
            // The lowest mark belongs to the first such byte, and is correct.
            return length + ends.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    let is_control = |byte: &u8| *byte < 0x20;
    let rest = if length == SHORT { bytes.get(SHORT..).unwrap_or_default() } else { rest };
    let run =
        rest.get(..memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len())).unwrap_or_default();
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
    fn a_duplicate_member_is_refused_at_any_depth() {
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

    /// Returns the bytes allocated for positions while the list grows.
    fn kept<T>(names: &Vec<T>) -> usize {
        names.capacity() * size_of::<T>() * 3 / 2
    }

    #[test]
    fn positions_take_less_than_twice_the_text() {
        let distinct =
            (0..120_000).map(|number| format!(r#""{number:x}":0"#)).collect::<Vec<_>>().join(",");
        let escaped =
            (0..80_000).map(|number| format!(r#""\n{number:x}":0"#)).collect::<Vec<_>>().join(",");
        let twins = vec![r#""":0"#; 200_000].join(",");
        for members in [distinct, escaped, twins] {
            let text = format!("{{{members}}}");
            let mut reader = Reader::new(text.as_bytes(), &Limits::default()).unwrap();
            let is_read = reader.skip().is_ok();
            assert_eq!(is_read, !text.starts_with(r#"{"":0"#));
            assert!(
                kept(&reader.names) <= 2 * text.len(),
                "{} of {}",
                kept(&reader.names),
                text.len()
            );
        }
    }

    #[test]
    fn only_names_of_open_objects_are_stored() {
        let objects = vec![r#"{"a":[{}],"\u0062":0,"c":{"d":1}}"#; 1000];
        let text = format!("[{}]", objects.join(","));
        let mut reader = Reader::new(text.as_bytes(), &Limits::default()).unwrap();
        assert!(reader.skip().is_ok());
        assert_eq!(reader.names.capacity(), ROOM, "it never grew");
    }

    /// Bytes that end a run, and their neighbours.
    const SPECIAL: &[u8] = b"\"\\\x00\x1f\x20\x21\x7f\x80\xa2\xdc";

    proptest! {
        #[test]
        fn a_run_ends_at_the_first_special_byte(
            bytes in prop::collection::vec(
                prop_oneof![4 => 0x20..=0xff_u8, 1 => prop::sample::select(SPECIAL)],
                0..80,
            ),
        ) {
            let plain = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
            prop_assert_eq!(run_length(&bytes), plain.unwrap_or(bytes.len()));
        }

        #[test]
        fn all_duplicates_are_found(
            names in prop::collection::vec(("[a-dé😀\"]{0,3}", any::<bool>()), 0..40),
        ) {
            let escape = |name: &str| -> String {
                name.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect()
            };
            let members: Vec<_> = names
                .iter()
                .map(|(name, is_escaped)| match *is_escaped || name.contains('"') {
                    true => escape(name),
                    false => name.clone(),
                })
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
        assert_eq!(
            (read("false").unwrap().as_bool(), read("0").unwrap().as_bool()),
            (Some(false), None)
        );
        assert_eq!(
            read(r#""\b\f\n\r\t\/\\\"""#).unwrap().as_str().unwrap(),
            "\u{8}\u{c}\n\r\t/\\\""
        );
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
