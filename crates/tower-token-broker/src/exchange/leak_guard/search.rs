//! Search for secrets in a text and in its other readings, in a time linear to the text.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, RandomState},
};

use memchr::memmem;

pub(super) use super::readings::Span;
use super::{
    alphabet::{Alphabet, first_end, joins, last_end, line_break},
    coded::{Coded, Coding},
    lists::{self, Base, is_of_list, list_at_end},
    readings::{Escapes, Origin, unescaped, unfolded},
    registry::{Found, GRAM, View, WINDOW},
    tails::{Registered, SecretTails},
};

/// Encodings that are resolved within each other: three, in a JSON string.
const LEVELS: usize = 4;
/// Longest form of a secret that is found across chunks. As many bytes are held back at most, or
/// twice as many where each chunk is smaller.
pub(super) const LONGEST_FORM: usize = 2048;
/// Number of starting positions that are checked together in a long run, so that memory does not
/// grow with the response.
const TOGETHER: usize = if cfg!(test) { 4096 } else { 16 * 1024 };
/// Number of bytes of other readings that are searched for each byte of a run, at most. Encodings
/// shorten, and what was read before is not read again, so only a text that is made to be expensive
/// reaches it.
const DECODED_PER_BYTE: usize = 6;
const DECODED_AT_LEAST: usize = 1024;

/// Secrets to search for, and where.
pub(super) struct Search<'a> {
    /// The credentials of the response itself: complete tails are searched for.
    own: &'a [Own],
    /// Those of all users.
    registry: Option<View<'a>>,
    alphabet: &'a [bool; 256],
    /// Length of the shortest secret, and so of the shortest run that can contain one.
    shortest: usize,
}

/// A credential of the response.
#[derive(Clone, Debug)]
pub(super) struct Own {
    pub(super) tails: std::sync::Arc<SecretTails>,
}

/// A place at which the text contains a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hit {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) owner: Owner,
}

/// The user whose secret was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    /// That of the response, or one that has the same user or several.
    Caller,
    /// That of another user.
    Another,
    /// The run could not be searched completely.
    Unknown,
}

/// The places that were found, and the rest of the budget.
#[derive(Default)]
struct Work {
    hits: Vec<Hit>,
    /// Number of bytes that may still be decoded for this run.
    budget: usize,
    is_exceeded: bool,
    /// Parts of readings that were searched, and the level at which they were. The same text is
    /// reached on several ways: by the escapes of one kind, then of the other, and the reverse.
    read: HashMap<Part, usize, RandomState>,
    #[cfg(test)]
    steps: usize,
}

/// A part of a reading: its origin, the keyed hash of its text, and the least length of a secret.
type Part = (Span, u64, usize);

impl Work {
    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "counted in tests"))]
    #[cfg_attr(not(test), expect(unused_variables, reason = "counted in tests"))]
    #[inline]
    fn count(&mut self, bytes: usize) {
        #[cfg(test)]
        {
            self.steps += bytes;
        }
    }

    /// Returns whether a part of a reading is to be searched, and takes its bytes from the budget.
    fn may_read_part(&mut self, part: &[u8], span: Span, least: usize, level: usize) -> bool {
        let hash = self.read.hasher().hash_one(part);
        match self.read.entry((span, hash, least)) {
            // It was read as deeply as it would be now.
            Entry::Occupied(before) if *before.get() <= level => return false,
            Entry::Occupied(mut before) => {
                before.insert(level);
            }
            Entry::Vacant(first) => {
                first.insert(level);
            }
        }
        self.take(part)
    }

    /// Takes the bytes of another reading from the budget.
    fn may_read(&mut self, bytes: &[u8]) -> bool {
        self.count(bytes.len());
        self.take(bytes)
    }

    fn take(&mut self, bytes: &[u8]) -> bool {
        match self.budget.checked_sub(bytes.len()) {
            Some(rest) => self.budget = rest,
            None => self.is_exceeded = true,
        }
        !self.is_exceeded
    }
}

impl<'a> Search<'a> {
    pub(super) fn new(own: &'a [Own], registry: Option<View<'a>>, alphabet: &'a Alphabet) -> Self {
        let tails = own.iter().flat_map(|own| own.tails.tails()).map(|tail| tail.len());
        let shortest = tails.chain(registry.as_ref().map(|_| WINDOW)).min();
        let shortest = shortest.unwrap_or(usize::MAX);
        Self { own, registry, alphabet: alphabet.set(), shortest }
    }

    /// Returns whether the byte at this position continues a run.
    pub(super) fn joins(&self, text: &[u8], at: usize) -> bool {
        joins(self.alphabet, text, at)
    }

    /// Returns all places that contain a secret, sorted. `user` is the hash of the user whose
    /// response it is.
    pub(super) fn hits(&self, text: &[u8], user: u64) -> Vec<Hit> {
        let mut work = Work::default();
        self.search(text, user, &mut work);
        work.hits.sort_unstable();
        work.hits
    }

    #[cfg(test)]
    pub(super) fn shortest(&self) -> usize {
        self.shortest
    }

    /// Returns the number of bytes that are read, in all readings.
    #[cfg(test)]
    pub(super) fn steps(&self, text: &[u8], user: u64) -> usize {
        let mut work = Work::default();
        self.search(text, user, &mut work);
        work.steps
    }

    fn search(&self, text: &[u8], user: u64, work: &mut Work) {
        if text.len() < self.shortest {
            return;
        }
        let scope = Scope { search: self, user, least: 0 };
        let mut from = 0;
        while let Some((start, end)) = self.run(text, from, TOGETHER + LONGEST_FORM) {
            let run = text.get(start..end).unwrap_or_default();
            work.budget = DECODED_AT_LEAST + DECODED_PER_BYTE * run.len();
            work.read.clear();
            scope.run(run, Origin::Text(start), 0, work);
            if std::mem::take(&mut work.is_exceeded) {
                // I446: what cannot be searched does not pass.
                work.hits.push(Hit { start, end, owner: Owner::Unknown });
            }
            // A form that begins in the first part ends within this run; a later one is found from
            // there on.
            from = if run.len() == TOGETHER + LONGEST_FORM { start + TOGETHER } else { end };
        }
        self.search_lists(text, scope, work);
    }

    /// Searches lists of numbers, which are no runs.
    fn search_lists(&self, text: &[u8], scope: Scope<'_>, work: &mut Work) {
        let needed = self.shortest.max(lists::SHORTEST_SECRET);
        let scope = Scope { least: needed.min(lists::SHORTEST_SECRET), ..scope };
        let Some(chars) = needed.checked_mul(lists::CHARS) else { return };
        let last = |from: usize, to: usize| {
            text.get(from..to)?.iter().rposition(|byte| !is_of_list(*byte)).map(|at| from + at)
        };
        let first = |from: usize, to: usize| {
            text.get(from..to)?.iter().position(|byte| !is_of_list(*byte)).map(|at| from + at)
        };
        let most = TOGETHER + LONGEST_FORM;
        let mut from = 0;
        while let Some((start, end)) = run(from, text.len(), chars - 1, most, last, first) {
            let list = text.get(start..end).unwrap_or_default();
            work.budget = DECODED_AT_LEAST + DECODED_PER_BYTE * list.len();
            work.read.clear();
            // I452: no run contains the bytes between the numbers.
            for base in [Base::Hex, Base::Decimal] {
                let reading = lists::numbers(list, Origin::Text(start), base);
                work.count(reading.bytes.len());
                scope.runs(&reading.bytes, reading.origin(), 1, work);
            }
            if std::mem::take(&mut work.is_exceeded) {
                work.hits.push(Hit { start, end, owner: Owner::Unknown });
            }
            from = if list.len() == most { start + TOGETHER } else { end };
        }
    }

    /// Returns the next run of the alphabet at or after `from` that is long enough, up to `most`
    /// bytes of it.
    fn run(&self, text: &[u8], from: usize, most: usize) -> Option<Span> {
        let last = |from: usize, to: usize| last_end(self.alphabet, text, from, to);
        let first = |from: usize, to: usize| first_end(self.alphabet, text, from, to);
        run(from, text.len(), self.shortest, most, last, first)
    }

    /// Returns the number of bytes at the end of `text` that may be the beginning of a form: its
    /// last run, without line breaks at its beginning, or its last list of numbers.
    pub(super) fn unfinished(&self, text: &[u8]) -> usize {
        let first = text.len().saturating_sub(LONGEST_FORM);
        self.unfinished_run(text).max(list_at_end(text.get(first..).unwrap_or_default()))
    }

    fn unfinished_run(&self, text: &[u8]) -> usize {
        let first = text.len().saturating_sub(LONGEST_FORM);
        let run = (first..text.len()).rev().take_while(|at| self.joins(text, *at)).count();
        let begins = text.len() - run;
        let rest = text.get(begins..).unwrap_or_default();
        // Before the run is no character of a token, so a break there separates nothing.
        let is_whole = begins > first || first == 0;
        if is_whole { run - line_break(rest) } else { run }
    }
}

/// The search in one reading.
#[derive(Clone, Copy)]
struct Scope<'s> {
    search: &'s Search<'s>,
    user: u64,
    /// Own secrets shorter than this occur in the reading by chance.
    least: usize,
}

impl Scope<'_> {
    /// Searches a run in all its readings.
    fn run(self, run: &[u8], origin: Origin<'_>, level: usize, work: &mut Work) {
        self.plain(run, origin, work);
        match unfolded(run, origin) {
            Some(reading) if work.may_read(&reading.bytes) => {
                self.plain(&reading.bytes, reading.origin(), work);
                self.decoded(&reading.bytes, reading.origin(), level, work);
            }
            Some(_) => {}
            None => self.decoded(run, origin, level, work),
        }
    }

    fn plain(self, run: &[u8], origin: Origin<'_>, work: &mut Work) {
        self.own(run, origin, work);
        self.registered(run, origin, work);
    }

    /// Searches for the complete tails of the credentials of the response.
    fn own(self, text: &[u8], origin: Origin<'_>, work: &mut Work) {
        for tail in self.search.own.iter().flat_map(|own| own.tails.tails()) {
            if tail.len() < self.least || tail.len() > text.len() {
                continue;
            }
            work.count(text.len());
            for at in memmem::find_iter(text, &***tail) {
                let (start, end) = origin.span(at, at + tail.len());
                work.hits.push(Hit { start, end, owner: Owner::Caller });
            }
        }
    }

    /// Searches for windows of registered credentials.
    fn registered(self, run: &[u8], origin: Origin<'_>, work: &mut Work) {
        let Some(view) = &self.search.registry else { return };
        // The credential that was compared last, and where its part of the text ends.
        let mut last = (0, 0);
        let mut at = 0;
        while at + GRAM <= run.len() {
            work.count(1);
            view.probe(run, at, |start, found| {
                if last.0 == found.entry.digest && start + WINDOW <= last.1 {
                    return;
                }
                let (start, part) = view.extent(run, start, found);
                let length = part.1 - part.0;
                work.count(length + 2 - WINDOW);
                last = (found.entry.digest, start + length);
                // I449: a piece that other data may contain is no proof.
                if found.entry.is_proof(part) && self.is_looked_for(view, found) {
                    let (start, end) = origin.span(start, start + length);
                    work.hits.push(Hit { start, end, owner: self.owner_of(found) });
                }
            });
            at += GRAM;
        }
    }

    /// Returns whether the credential is looked for in this response.
    fn is_looked_for(self, view: &View<'_>, found: &Found) -> bool {
        found.entry.is_looked_for_at(|server| {
            let mut servers = self.search.own.iter().filter_map(|own| own.tails.server());
            servers.any(|own| view.is_server(server, own))
        })
    }

    fn owner_of(self, found: &Found) -> Owner {
        let is_same = |own: &Own| {
            let is_same = |known: &Registered| {
                known.entries.iter().any(|entry| std::sync::Arc::ptr_eq(entry, &found.entry))
            };
            own.tails.registered(is_same) == Some(true)
        };
        let is_own = self.search.own.iter().any(is_same);
        if is_own || found.entry.is_of(self.user) { Owner::Caller } else { Owner::Another }
    }

    /// Searches each run of a reading that was not searched before.
    fn runs(self, text: &[u8], origin: Origin<'_>, level: usize, work: &mut Work) {
        let mut from = 0;
        while let Some((start, end)) = self.search.run(text, from, usize::MAX) {
            from = end;
            let run = text.get(start..end).unwrap_or_default();
            let span = origin.span(start, end);
            // With one byte of the response for each of its own, it is a part of the run that was
            // searched first, and so was everything that is encoded in it.
            let is_unchanged = span.1 - span.0 == run.len();
            if !is_unchanged && work.may_read_part(run, span, self.least, level) {
                self.run(run, origin.part(start, end), level, work);
            }
            if work.is_exceeded {
                return;
            }
        }
    }

    /// Searches the readings of a run, decoded and without its escapes.
    fn decoded(self, run: &[u8], origin: Origin<'_>, level: usize, work: &mut Work) {
        if level == LEVELS {
            return;
        }
        // Before the escapes: what they leave unchanged is not decoded again. One copy of the code
        // for each coding.
        self.coded(run, origin, Coding::Base64, level, work);
        self.coded(run, origin, Coding::Hex, level, work);
        for escapes in [Escapes::UrlJsonHtml, Escapes::QuotedPrintable] {
            if work.is_exceeded {
                return;
            }
            if let Some(reading) = unescaped(run, origin, escapes) {
                work.count(reading.bytes.len());
                self.runs(&reading.bytes, reading.origin(), level + 1, work);
            }
        }
    }

    /// Decodes the parts of a run that may be encoded secrets. Each starting position within a
    /// group is tried, because the characters before the encoded text may be of its alphabet.
    fn coded(self, run: &[u8], origin: Origin<'_>, coding: Coding, level: usize, work: &mut Work) {
        let least = self.least.max(coding.shortest_secret());
        let needed = self.search.shortest.max(least);
        let chars = coding.chars_for(needed);
        let mut from = 0;
        let other = |char: &u8| !coding.has(*char);
        let last =
            |from: usize, to: usize| run.get(from..to)?.iter().rposition(other).map(|at| from + at);
        let first =
            |from: usize, to: usize| run.get(from..to)?.iter().position(other).map(|at| from + at);
        while let Some((start, end)) = self::run(from, run.len(), chars, usize::MAX, last, first) {
            from = end;
            for skipped in 0..coding.group() {
                let begins = start + skipped;
                let coded = Coded::new(run.get(begins..end).unwrap_or_default(), coding);
                let chars = origin.part(begins, end);
                self.decoded_runs(coded, needed, work, |(from, to), work| {
                    let bytes = coded.part(from, to);
                    let origin = Origin::Coded { chars: &chars, coding, first: from };
                    let span = origin.span(0, bytes.len());
                    work.count(bytes.len());
                    if work.may_read_part(&bytes, span, least, level + 1) {
                        Self { least, ..self }.run(&bytes, origin, level + 1, work);
                    }
                });
                if work.is_exceeded {
                    return;
                }
            }
        }
    }

    /// Calls back with each run of the decoded text that is long enough. Only some bytes are
    /// decoded to find them.
    #[inline(always)]
    fn decoded_runs(
        self,
        coded: Coded<'_>,
        needed: usize,
        work: &mut Work,
        mut found: impl FnMut(Span, &mut Work),
    ) {
        let set = self.search.alphabet;
        let ends = |at: &usize| !set.get(usize::from(coded.byte(*at))).is_some_and(|is_of| *is_of);
        let last = |from: usize, to: usize| (from..to).rev().find(ends);
        let first = |from: usize, to: usize| (from..to).find(ends);
        let mut from = 0;
        while let Some((start, end)) = run(from, coded.len(), needed, usize::MAX, last, first) {
            work.count(end - from);
            found((start, end), work);
            from = end;
        }
        work.count(coded.len().saturating_sub(from).div_ceil(needed));
    }
}

/// Returns the next run at or after `from`, in a text of so many bytes, that has at least `least`
/// bytes, up to `most` of it.
///
/// A run that begins at or after `from` covers the position at that distance, or begins after it.
/// So most texts are looked at once per `least` bytes, and each byte at most once per half of it.
#[inline(always)]
fn run(
    mut from: usize,
    length: usize,
    least: usize,
    most: usize,
    last_end: impl Fn(usize, usize) -> Option<usize>,
    first_end: impl Fn(usize, usize) -> Option<usize>,
) -> Option<Span> {
    loop {
        let end = from.checked_add(least).filter(|end| *end <= length)?;
        match last_end(from, end) {
            Some(between) => from = between + 1,
            None => {
                let most = from.saturating_add(most).clamp(end, length);
                return Some((from, first_end(end, most).unwrap_or(most)));
            }
        }
    }
}
