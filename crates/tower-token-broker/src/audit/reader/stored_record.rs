//! One record, read from its line.

use std::borrow::Cow;

use crate::{
    audit::record::{
        Head, Member, OpenWork, RecordKind, SHA256_SUFFIX, chain_hash, hash_before, sequence_after,
    },
    clock::Timestamp,
    hex,
    json::{JsonError, Kind, Limits, Reader, Value},
    principal::User,
};

/// The bytes between the hashed part of a line and its hash, and after the hash.
const BEFORE_HASH: &[u8] = b",\"hash\":\"";
const AFTER_HASH: &[u8] = b"\"}";
const HEX_DIGITS: usize = 64;

/// The reason why a line is not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::audit) enum Unreadable {
    NotJson(JsonError),
    NotARecord,
}

impl From<JsonError> for Unreadable {
    fn from(error: JsonError) -> Self {
        Self::NotJson(error)
    }
}

/// A record, as its line has it. Members of newer schemas that this version does not know are
/// hashed, and cannot be read.
#[derive(Clone, Debug)]
pub struct StoredRecord<'a> {
    line: &'a [u8],
    head: Head,
    previous: [u8; 32],
    time: Timestamp,
    kind: Box<str>,
    members: Vec<(Member, Value<'a>)>,
    /// The SHA-256 members of truncated texts.
    hashes: Vec<(Member, [u8; 32])>,
}

impl<'a> StoredRecord<'a> {
    /// Returns the sequence number in the chain, from 0 on.
    pub const fn sequence(&self) -> u64 {
        self.head.sequence
    }

    /// Returns sequence number and hash.
    pub const fn head(&self) -> Head {
        self.head
    }

    /// Returns the time of the record; of a `result`, the time when the request ended.
    pub const fn time(&self) -> Timestamp {
        self.time
    }

    /// Returns the kind; `None` for a kind of a newer schema.
    pub fn kind(&self) -> Option<RecordKind> {
        RecordKind::from_word(&self.kind)
    }

    /// Returns the word of the kind.
    pub fn kind_word(&self) -> &str {
        &self.kind
    }

    /// Returns the line, without its line break.
    pub const fn line(&self) -> &'a [u8] {
        self.line
    }

    /// Returns a text, word, time or hexadecimal member.
    pub fn text(&self, member: Member) -> Option<Cow<'a, str>> {
        self.value(member)?.as_str()
    }

    /// Returns a number.
    pub fn number(&self, member: Member) -> Option<u64> {
        self.value(member)?.as_u64()
    }

    /// Returns whether a flag is set.
    pub fn flag(&self, member: Member) -> bool {
        self.value(member).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Returns the time in a member.
    pub fn timestamp(&self, member: Member) -> Option<Timestamp> {
        Timestamp::from_rfc_3339(&self.text(member)?)
    }

    /// Returns the SHA-256 of the whole text (or array of actors) if the record has only its
    /// beginning.
    pub fn sha256_of_whole(&self, member: Member) -> Option<[u8; 32]> {
        self.hashes.iter().find(|(of, _)| *of == member).map(|(_, hash)| *hash)
    }

    /// Returns the user for whom the request, job or note was: `issuer` and `subject`.
    pub fn user(&self) -> Option<User> {
        let (issuer, subject) = (self.text(Member::Issuer)?, self.text(Member::Subject)?);
        Some(User::new(&*issuer, &*subject))
    }

    /// Returns the actors, the nearest one first: at most 16 of `actor_links`.
    pub fn actors(&self) -> Vec<User> {
        let actor = |actor: Value<'a>| {
            let text = |name| actor.get(name)?.as_str();
            Some(User::new(&*text("issuer")?, &*text("subject")?))
        };
        let actors = self.value(Member::Actors).and_then(Value::elements);
        actors.into_iter().flatten().filter_map(actor).collect()
    }

    /// Returns the request or job that the record belongs to.
    pub fn work(&self) -> Option<OpenWork> {
        let text = |member| self.text(member).map(Box::from);
        text(Member::Request)
            .map(OpenWork::Request)
            .or_else(|| text(Member::Job).map(OpenWork::Job))
    }

    fn value(&self, member: Member) -> Option<Value<'a>> {
        self.members.iter().find(|(of, _)| *of == member).map(|(_, value)| *value)
    }

    pub(in crate::audit) fn read(line: &'a [u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader::new(line, &Limits::default())?;
        let (mut members, mut hashes) = (Vec::with_capacity(24), Vec::new());
        if reader.kind()? == Kind::Object {
            reader.object::<JsonError, _>(|reader, name| {
                let value = Value::known(reader.skip()?);
                if let Some(member) = Member::from_name(name) {
                    members.push((member, value));
                } else if let Some(of) = name.strip_suffix(SHA256_SUFFIX)
                    && let Some(of) = Member::from_name(of)
                    && let Some(hash) = value.as_str().and_then(|hex| hex::decode(hex.as_bytes()))
                {
                    hashes.push((of, hash));
                }
                Ok(())
            })?;
        } else {
            reader.skip()?;
        }
        reader.end()?;
        Self::from_members(line, members, hashes).ok_or(Unreadable::NotARecord)
    }

    fn from_members(
        line: &'a [u8],
        members: Vec<(Member, Value<'a>)>,
        hashes: Vec<(Member, [u8; 32])>,
    ) -> Option<Self> {
        let value = |member| members.iter().find(|(of, _)| *of == member).map(|(_, value)| *value);
        let text = |member| value(member)?.as_str();
        let sequence = value(Member::Seq)?.as_u64()?;
        let previous = hex::decode(text(Member::Prev)?.as_bytes())?;
        let kind = text(Member::Kind)?.into();
        let time = Timestamp::from_rfc_3339(&text(Member::Time)?)?;
        // The hash is outside of what is hashed, so its place and form are fixed: no byte of the
        // line may be left uncovered.
        let (hashed, digits) = line.strip_suffix(AFTER_HASH)?.split_last_chunk::<HEX_DIGITS>()?;
        let hash = hex::decode(digits)?;
        hashed.ends_with(BEFORE_HASH).then_some(Self {
            line,
            head: Head { sequence, hash },
            previous,
            time,
            kind,
            members,
            hashes,
        })
    }

    pub(in crate::audit) const fn previous_hash(&self) -> &[u8; 32] {
        &self.previous
    }

    /// Returns whether the hash is that of the bytes.
    pub(in crate::audit) fn is_whole(&self) -> bool {
        let after = BEFORE_HASH.len() + HEX_DIGITS + AFTER_HASH.len();
        let hashed = self.line.len().checked_sub(after).and_then(|end| self.line.get(..end));
        hashed.is_some_and(|hashed| chain_hash(&self.previous, hashed) == self.head.hash)
    }

    /// Returns whether it is the record after `last`, unchanged.
    // P291.
    pub(in crate::audit) fn follows(&self, last: Option<Head>) -> bool {
        self.head.sequence == sequence_after(last)
            && self.previous == hash_before(last)
            && self.is_whole()
    }
}
