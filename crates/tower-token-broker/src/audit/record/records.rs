//! Batches of records, chained by their hashes.

use super::{
    Head, RecordKind,
    encode::push_number,
    head::{hash_before, sequence_after},
};
use crate::hex;

/// Records that are written together, in the order of their chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    text: Vec<u8>,
    places: Vec<Place>,
    /// The hash of the record before the first one.
    previous: [u8; 32],
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    sequence: u64,
    kind: RecordKind,
    hash: [u8; 32],
    /// The end of its line, after the line break.
    end: usize,
}

/// One record that is being written: its place in the chain, and its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    place: &'a Place,
    line: &'a [u8],
}

/// Records that are written to one file together.
#[derive(Clone, Copy, Debug)]
pub(in crate::audit) struct Run<'a> {
    text: &'a [u8],
    /// Where the text begins in that of the batch.
    from: usize,
    places: &'a [Place],
    previous: [u8; 32],
}

impl<'a> Run<'a> {
    /// Returns all lines, each with its line break.
    pub(in crate::audit) const fn as_json_lines(&self) -> &'a [u8] {
        self.text
    }

    /// Returns the sequence number of the first record.
    pub(in crate::audit) fn first_sequence(&self) -> Option<u64> {
        self.places.first().map(|place| place.sequence)
    }

    /// Returns whether it starts or continues a chain.
    pub(in crate::audit) fn is_marked(&self) -> bool {
        let first = self.places.first().map(|place| place.kind);
        matches!(first, Some(RecordKind::Start | RecordKind::Open))
    }

    /// Returns sequence number and hash of the last record.
    pub(in crate::audit) fn last(&self) -> Option<Head> {
        self.places.last().map(|place| Head { sequence: place.sequence, hash: place.hash })
    }

    /// Returns whether it continues the chain after this record, or starts it.
    pub(in crate::audit) fn follows(&self, last: Option<Head>) -> bool {
        self.first_sequence() == Some(sequence_after(last)) && self.previous == hash_before(last)
    }

    /// Iterates over the records.
    pub(in crate::audit) fn iter(&self) -> impl Iterator<Item = Record<'a>> {
        let mut from = 0;
        let (text, before) = (self.text, self.from);
        self.places.iter().map(move |place| {
            let end = place.end.saturating_sub(before);
            let line = text.get(from..end.saturating_sub(1)).unwrap_or_default();
            from = end;
            Record { place, line }
        })
    }
}

impl<'a> Record<'a> {
    /// Returns the sequence number in the chain, from 0 on, without a gap.
    pub const fn sequence(&self) -> u64 {
        self.place.sequence
    }

    /// Returns the kind.
    pub const fn kind(&self) -> RecordKind {
        self.place.kind
    }

    /// Returns the SHA-256 over the previous record's hash and this line before its `hash` member.
    pub const fn hash(&self) -> &'a [u8; 32] {
        &self.place.hash
    }

    /// Returns the line: one JSON object without line breaks.
    pub const fn line(&self) -> &'a [u8] {
        self.line
    }
}

impl Records {
    /// Returns the number of records.
    pub const fn len(&self) -> usize {
        self.places.len()
    }

    /// Returns whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Returns all lines, each with its line break, as a file takes them.
    pub fn as_json_lines(&self) -> &[u8] {
        &self.text
    }

    /// Returns the sequence number of the last one.
    pub fn last_sequence(&self) -> Option<u64> {
        self.places.last().map(|place| place.sequence)
    }

    /// Returns the sequence number of the first one.
    pub fn first_sequence(&self) -> Option<u64> {
        self.places.first().map(|place| place.sequence)
    }

    /// Returns the hash of the record before the first one; zeros at the start of a chain.
    pub const fn previous_hash(&self) -> &[u8; 32] {
        &self.previous
    }

    /// Returns sequence number and hash of the last one.
    pub(in crate::audit) fn last(&self) -> Option<Head> {
        self.places.last().map(|place| Head { sequence: place.sequence, hash: place.hash })
    }

    /// Returns whether they continue the chain after this record, or start it.
    pub(in crate::audit) fn follow(&self, last: Option<Head>) -> bool {
        let Some(first) = self.first_sequence() else { return true };
        match last {
            Some(last) => last.sequence.checked_add(1) == Some(first) && self.previous == last.hash,
            None => first == 0 && self.previous == [0; 32],
        }
    }

    /// Iterates over the records.
    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        let mut from = 0;
        self.places.iter().map(move |place| {
            let line = self.text.get(from..place.end.saturating_sub(1)).unwrap_or_default();
            from = place.end;
            Record { place, line }
        })
    }

    /// Splits the records before each one that starts or continues a chain (`start`, `open`).
    pub(in crate::audit) fn runs(&self) -> impl Iterator<Item = Run<'_>> {
        let (mut from, mut previous) = (0, self.previous);
        let marks = |place: &Place| matches!(place.kind, RecordKind::Start | RecordKind::Open);
        self.places.chunk_by(move |_, next| !marks(next)).map(move |places| {
            let end = places.last().map_or(from, |place| place.end);
            let run =
                Run { text: self.text.get(from..end).unwrap_or_default(), from, places, previous };
            from = end;
            previous = places.last().map_or(previous, |place| place.hash);
            run
        })
    }

    pub(in crate::audit) fn clear(&mut self) {
        self.text.clear();
        self.places.clear();
    }

    /// Releases buffers that a burst made too large.
    pub(in crate::audit) fn shrink(&mut self) {
        const LARGEST_KEPT: usize = 1 << 20;
        if self.text.capacity() > LARGEST_KEPT {
            *self = Self::default();
        }
    }

    /// Appends a record with these members as the next one of its chain, and returns its hash.
    pub(in crate::audit) fn append(
        &mut self,
        kind: RecordKind,
        members: &[u8],
        sequence: u64,
        previous: &[u8; 32],
    ) -> [u8; 32] {
        let from = self.text.len();
        if self.places.is_empty() {
            self.previous = *previous;
        }
        // The previous hash is written before the line until the line is hashed: one text, hashed
        // in one call.
        self.text.extend_from_slice(previous);
        self.text.extend_from_slice(b"{\"seq\":");
        push_number(&mut self.text, sequence);
        self.text.extend_from_slice(members);
        self.text.extend_from_slice(b",\"prev\":\"");
        hex::push(&mut self.text, previous);
        self.text.push(b'"');
        let mut hash = [0; 32];
        let hashed = self.text.get(from..).unwrap_or_default();
        hash.copy_from_slice(
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, hashed).as_ref(),
        );
        self.text.copy_within(from + previous.len().., from);
        self.text.truncate(self.text.len() - previous.len());
        self.text.extend_from_slice(b",\"hash\":\"");
        hex::push(&mut self.text, &hash);
        self.text.extend_from_slice(b"\"}\n");
        self.places.push(Place { sequence, kind, hash, end: self.text.len() });
        hash
    }

    #[cfg(any(test, feature = "test-util"))]
    pub(in crate::audit) fn extend(&mut self, more: &Self) {
        if self.places.is_empty() {
            self.previous = more.previous;
        }
        let before = self.text.len();
        self.text.extend_from_slice(&more.text);
        self.places.extend(
            more.places.iter().map(|place| Place { end: place.end + before, ..place.clone() }),
        );
    }
}

/// SHA-256 over the previous hash and the line up to (and without) `,"hash":`.
pub(in crate::audit) fn chain_hash(previous: &[u8; 32], head: &[u8]) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(previous);
    context.update(head);
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}
