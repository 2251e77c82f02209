//! Notes which objects someone reads, and whether other readers may read them differently.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU8, Ordering},
};

use super::{
    member_names::{MemberName, is_same_member},
    strict::{JsonError, Kind, Reader, Value},
};

/// Notes on the members of a text that were read. Shared by all values that are taken from it.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    noted: AtomicU8,
    part: Option<Part>,
}

/// A text of which only a part is known.
#[derive(Debug)]
struct Part {
    /// The member whose value is not final.
    unfinished: Option<Box<str>>,
}

/// Members differ only in their spelling.
const VARIANTS: u8 = 1;
/// Some member was read.
const READ: u8 = 2;
/// A member was read that is not known yet.
const UNKNOWN: u8 = 4;
/// A member was read whose value is not final.
const UNFINISHED: u8 = 8;

impl Watch {
    /// Creates a watch for an object of which only some members are known, and of one of them only
    /// the beginning of its value.
    pub(crate) fn of_part(unfinished: Option<&str>) -> Self {
        let part = Some(Part { unfinished: unfinished.map(Box::from) });
        Self { noted: AtomicU8::default(), part }
    }

    /// Whether an object was read that other readers may read differently.
    pub(crate) fn is_tripped(&self) -> bool {
        self.has(VARIANTS)
    }

    /// Whether any member was read.
    pub(crate) fn has_read(&self) -> bool {
        self.has(READ)
    }

    /// Whether a member was read that is not known.
    pub(crate) fn has_read_unknown(&self) -> bool {
        self.has(UNKNOWN)
    }

    /// Whether a member was read whose value is not final.
    pub(crate) fn has_read_unfinished(&self) -> bool {
        self.has(UNFINISHED)
    }

    /// Notes that something was requested that is not known.
    pub(crate) fn note_unknown(&self) {
        self.note(UNKNOWN);
    }

    fn has(&self, flag: u8) -> bool {
        self.noted.load(Ordering::Relaxed) & flag != 0
    }

    fn note(&self, flag: u8) {
        self.noted.fetch_or(flag, Ordering::Relaxed);
    }

    /// Notes that the whole text of a value is read.
    // J420: it is not known which members are looked at, so all are.
    pub(crate) fn read_whole(&self, raw: &str) {
        if self.walk(&mut Value::known(raw).reader()).is_err() || changes_prototypes(raw) {
            self.note(VARIANTS);
        }
    }

    fn walk(&self, reader: &mut Reader<'_>) -> Result<(), JsonError> {
        match reader.kind()? {
            Kind::Object => {
                self.read_all_names();
                let mut seen = Seen::default();
                reader.object(|reader, name| {
                    self.see(name, &mut seen);
                    self.walk(reader)
                })?;
            }
            Kind::Array => {
                reader.array(|reader| self.walk(reader))?;
            }
            Kind::Null | Kind::Bool | Kind::Number | Kind::String => {
                reader.skip()?;
            }
        }
        Ok(())
    }

    fn see(&self, name: &str, seen: &mut Seen) {
        if !seen.add(name) {
            self.note(VARIANTS);
        }
    }

    fn read_all_names(&self) {
        self.note(READ);
        if let Some(part) = &self.part {
            // J427: any other member may be added.
            self.note(UNKNOWN);
            if part.unfinished.is_some() {
                self.note(UNFINISHED);
            }
        }
    }

    /// Notes that all members of an object are read.
    pub(super) fn read_names(&self, object: Value<'_>) {
        self.read_all_names();
        let mut seen = Seen::default();
        for (name, _) in object.unwatched().members().into_iter().flatten() {
            self.see(&name, &mut seen);
        }
    }

    /// Notes that one member of an object is read.
    pub(super) fn read_name(&self, object: Value<'_>, read: &str) {
        self.note(READ);
        let mut is_known = false;
        for (name, _) in object.unwatched().members().into_iter().flatten() {
            if name == read {
                is_known = true;
            } else if is_same_member(&name, read) {
                self.note(VARIANTS);
            }
        }
        if let Some(part) = &self.part {
            if !is_known {
                // J427
                self.note(UNKNOWN);
            }
            if part.unfinished.as_deref() == Some(read) {
                self.note(UNFINISHED);
            }
        }
    }
}

/// The names of an object that were seen.
#[derive(Default)]
struct Seen {
    whole: HashSet<String>,
    beginnings: HashSet<String>,
}

impl Seen {
    /// Adds a name. Returns false if a reader may take it for another one.
    fn add(&mut self, name: &str) -> bool {
        let name = MemberName::of(name);
        let is_new = !self.beginnings.contains(name.whole())
            && !name.beginnings().any(|beginning| self.whole.contains(beginning));
        self.whole.insert(name.whole().to_owned());
        self.beginnings.extend(name.beginnings().map(str::to_owned));
        is_new
    }
}

/// Whether a reader in JavaScript that merges the members into an object of its own may change what
/// all objects inherit: `__proto__`, or `prototype` in `constructor`, at any depth.
// J420: what a rule finds absent may then be there.
pub(crate) fn changes_prototypes(raw: &str) -> bool {
    let text = raw.as_bytes();
    // An escape may hide the name.
    (memchr::memmem::find(text, b"proto").is_some() || memchr::memmem::find(text, b"\\u").is_some())
        && names_prototype(&mut Value::known(raw).reader(), false).unwrap_or(true)
}

fn names_prototype(reader: &mut Reader<'_>, in_constructor: bool) -> Result<bool, JsonError> {
    let mut found = false;
    match reader.kind()? {
        Kind::Object => {
            reader.object(|reader, name| {
                let is_constructor = name.contains("constructor");
                found |= name.contains("__proto__")
                    || ((in_constructor || is_constructor) && name.contains("prototype"));
                found |= names_prototype(reader, is_constructor)?;
                Ok::<(), JsonError>(())
            })?;
        }
        Kind::Array => {
            reader.array(|reader| {
                found |= names_prototype(reader, false)?;
                Ok::<(), JsonError>(())
            })?;
        }
        Kind::Null | Kind::Bool | Kind::Number | Kind::String => {
            reader.skip()?;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j420_members_that_change_prototypes_are_found() {
        for json in [
            r#"{"__proto__":{"owner":"ceo"}}"#,
            r#"{"owner":"me","__proto__":1}"#,
            r#"{"a":[{"b":{"__proto__":{}}}]}"#,
            r#"{"\u005f_proto__":{}}"#,
            r#"{"\u005f\u005fpr\u006fto__":{}}"#,
            r#"{"a.__proto__.owner":"ceo"}"#,
            r#"{"__proto__[owner]":"ceo"}"#,
            r#"{"constructor":{"prototype":{"owner":"ceo"}}}"#,
            r#"{"a":{"constructor":{"prototype":{}}}}"#,
            r#"{"constructor.prototype.owner":"ceo"}"#,
        ] {
            assert!(changes_prototypes(json), "J420 {json}");
        }
        for json in [
            r#"{"proto":"tcp","constructor":"ferrari"}"#,
            r#"{"text":"__proto__"}"#,
            r#"{"prototype":{"owner":"x"},"constructor":{"a":1}}"#,
            r#"{"constructor":"a prototype"}"#,
            "{}",
        ] {
            assert!(!changes_prototypes(json), "{json}");
        }
    }

    #[test]
    fn j427_what_is_not_known_is_noted() {
        let json = r#"{"owner":"me","name":"x"}"#;
        let read = |names: &[&str]| {
            let watch = Watch::of_part(Some("name"));
            for name in names {
                let _: Option<Value<'_>> = Value::watched(json, &watch).get(name);
            }
            (watch.has_read_unknown(), watch.has_read_unfinished())
        };
        assert_eq!(read(&[]), (false, false));
        assert_eq!(read(&["owner"]), (false, false));
        assert_eq!(read(&["name"]), (false, true), "J427");
        assert_eq!(read(&["owner", "other"]), (true, false), "J427");
        let watch = Watch::of_part(None);
        Value::watched(json, &watch).raw();
        assert!(watch.has_read_unknown() && !watch.has_read_unfinished(), "J427");
        let watch = Watch::default();
        Value::watched(json, &watch).get("other");
        assert!(!watch.has_read_unknown() && watch.has_read());
    }
}
