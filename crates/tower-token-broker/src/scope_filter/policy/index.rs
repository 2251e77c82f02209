//! An index of rules by name. The cost of a lookup grows with the name, not with the number of
//! rules.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::Hash,
    sync::{Arc, OnceLock},
};

use foldhash::fast::RandomState;

use super::{
    budget::Unbounded,
    call::Call,
    names::{Kind, Names, Reading},
    pattern::Pattern,
    readings::Readings,
    rule::Rule,
    wide_index::WideIndex,
};
use crate::percent::decode;

/// Rules in the order in which they were added, with an index.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    rules: Vec<Rule>,
    by_name: Vec<(Kind, ByName)>,
    by_path: ByPath,
    kinds: Vec<Kind>,
    has_conditions: bool,
    /// Built when a call is compared in all its readings for the first time.
    wide: OnceLock<Arc<WideIndex>>,
}

/// Positions of rules, ascending and without duplicates.
pub(super) type Numbers = Vec<usize>;

/// Rules by exact name and by prefix.
#[derive(Clone, Debug, Default)]
pub(super) struct ByName {
    exact: HashMap<Box<str>, Numbers, RandomState>,
    /// By the text before the first `*`.
    prefixed: HashMap<Box<str>, Numbers, RandomState>,
    /// The distinct lengths of these prefixes.
    lengths: Vec<usize>,
}

/// Rules by the first segment of their path.
#[derive(Clone, Debug, Default)]
struct ByPath {
    first: HashMap<Box<[u8]>, Numbers, RandomState>,
    any: Numbers,
}

/// Positions that were found. Nothing is copied if they are in one place.
#[derive(Debug)]
enum Found<'a> {
    InOne(&'a [usize]),
    InSeveral(Numbers),
}

impl<'a> Found<'a> {
    fn add(&mut self, more: Option<&'a Numbers>) {
        let Some(more) = more else { return };
        match self {
            Self::InOne([]) => *self = Self::InOne(more),
            Self::InOne(one) => *self = Self::InSeveral([one, more.as_slice()].concat()),
            Self::InSeveral(several) => several.extend(more),
        }
    }

    /// Returns the positions in ascending order, without duplicates.
    fn sorted(mut self) -> impl Iterator<Item = usize> {
        if let Self::InSeveral(several) = &mut self {
            several.sort_unstable();
            several.dedup();
        }
        (0..).map_while(move |at| match &self {
            Self::InOne(one) => one.get(at).copied(),
            Self::InSeveral(several) => several.get(at).copied(),
        })
    }
}

pub(super) fn note<K, Q>(numbers: &mut HashMap<K, Numbers, RandomState>, key: &Q, number: usize)
where
    K: Borrow<Q> + Eq + Hash + for<'a> From<&'a Q>,
    Q: Eq + Hash + ?Sized,
{
    match numbers.get_mut(key) {
        // A rule with several patterns for this key is listed once.
        Some(known) if known.last() == Some(&number) => {}
        Some(known) => known.push(number),
        None => drop(numbers.insert(key.into(), vec![number])),
    }
}

impl Index {
    /// Adds a rule after the others.
    pub(super) fn add(&mut self, rule: Rule) {
        let number = self.rules.len();
        match &rule.names {
            Names::Patterns(patterns) => {
                patterns.iter().for_each(|pattern| self.add_name(rule.kind, pattern, number));
            }
            // Indexed by method. The service is compared with each rule found.
            #[cfg(feature = "grpc")]
            Names::Rpc(_, methods) => {
                methods.iter().for_each(|method| self.add_name(rule.kind, method, number));
            }
            Names::Path(_, template) => match template.first() {
                Some(segment) => note(&mut self.by_path.first, segment, number),
                None => self.by_path.any.push(number),
            },
        }
        if !self.kinds.contains(&rule.kind) {
            self.kinds.push(rule.kind);
        }
        self.wide = OnceLock::new();
        self.has_conditions |= rule.has_conditions();
        self.rules.push(rule);
    }

    /// Whether any rule has a condition on the caller.
    pub(super) const fn has_conditions(&self) -> bool {
        self.has_conditions
    }

    /// Returns all rules.
    pub(super) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Returns the kinds that have a rule.
    pub(super) fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.by_name.iter().map(|(kind, _)| *kind)
    }

    fn add_name(&mut self, kind: Kind, pattern: &Pattern, number: usize) {
        match self.by_name.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, by_name)) => by_name.add(pattern, number),
            None => {
                let mut by_name = ByName::default();
                by_name.add(pattern, number);
                self.by_name.push((kind, by_name));
            }
        }
    }

    /// Returns the rules that name this call, in the order in which they were added.
    pub(super) fn matching(
        &self,
        kind: Kind,
        call: &Call<'_>,
        reading: Reading,
    ) -> impl Iterator<Item = &Rule> {
        let rules = self.find(kind, call).filter_map(|number| self.rules.get(number));
        rules.filter(move |rule| rule.names(call, reading))
    }

    /// Returns the rules that name this call in any of its readings, in the order in which they
    /// were added. If the readings are unbounded, these are all rules of that kind.
    // J421: what cannot be compared is denied.
    pub(super) fn matching_any(
        &self,
        kind: Kind,
        call: &Call<'_>,
        readings: &Result<Readings<'_>, Unbounded>,
    ) -> impl Iterator<Item = &Rule> {
        let mut numbers = Numbers::new();
        match readings {
            Ok(readings) => self.find_any(kind, call, readings, &mut numbers),
            Err(_) => {
                let all = self.rules.iter().enumerate();
                numbers.extend(all.filter(|(_, rule)| rule.kind == kind).map(|(at, _)| at));
            }
        }
        numbers.into_iter().filter_map(|number| self.rules.get(number))
    }

    fn find_any(&self, kind: Kind, call: &Call<'_>, readings: &Readings<'_>, found: &mut Numbers) {
        // A pattern that matches a plain text as it is written also matches its reading.
        if !readings.is_plain() {
            let names = |rule: &Rule| rule.names(call, Reading::Wide);
            let named = |number: &usize| self.rules.get(*number).is_some_and(names);
            found.extend(self.find(kind, call).filter(named));
        }
        let wide = self.wide.get_or_init(|| Arc::new(WideIndex::of(&self.rules)));
        wide.find(kind, call, readings, found);
        found.sort_unstable();
        found.dedup();
    }

    /// Whether there is a rule of this kind.
    #[inline]
    pub(super) fn has(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    /// Returns the positions of the rules that may name this call as it is written.
    fn find<'a>(&'a self, kind: Kind, call: &Call<'_>) -> impl Iterator<Item = usize> + use<'a> {
        let mut found = Found::InOne(&[]);
        if let Call::Http { path, .. } = call {
            self.by_path.find(path, &mut found);
        } else {
            let by_name = self.by_name.iter().find(|(of, _)| *of == kind);
            if let (Some((_, by_name)), Some(name)) = (by_name, call.name()) {
                by_name.find(name, &mut found);
            }
        }
        found.sorted()
    }
}

impl ByName {
    /// Returns the positions of the rules that may match a name.
    pub(super) fn candidates(&self, name: &str) -> impl Iterator<Item = usize> {
        let mut found = Found::InOne(&[]);
        self.find(name, &mut found);
        found.sorted()
    }

    pub(super) fn add(&mut self, pattern: &Pattern, number: usize) {
        match pattern.as_exact() {
            Some(name) => note(&mut self.exact, name, number),
            None => {
                let prefix = pattern.prefix();
                if let Err(place) = self.lengths.binary_search(&prefix.len()) {
                    self.lengths.insert(place, prefix.len());
                }
                note(&mut self.prefixed, prefix, number);
            }
        }
    }

    fn find<'a>(&'a self, name: &str, found: &mut Found<'a>) {
        found.add(self.exact.get(name));
        // At most as many lookups as the name has bytes.
        for length in self.lengths.iter().take_while(|length| **length <= name.len()) {
            found.add(name.get(..*length).and_then(|prefix| self.prefixed.get(prefix)));
        }
    }
}

impl ByPath {
    fn find<'a>(&'a self, path: &str, found: &mut Found<'a>) {
        let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        found.add(self.first.get(&*decode(first)));
        found.add(Some(&self.any));
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use proptest::prelude::*;

    use super::*;
    use crate::scope_filter::{Arguments, http, tools};

    proptest! {
        #[test]
        fn the_index_finds_the_same_rules_as_a_scan(
            patterns in prop::collection::vec("[ab*]{0,4}", 0..12),
            paths in prop::collection::vec("(/(a|b|\\{x\\})){1,3}(/\\{\\*rest\\})?", 0..6),
            name in "[ab]{0,5}",
            path in "(/(a|b|%61)){1,4}/?",
        ) {
            let mut index = Index::default();
            let mut rules = Vec::new();
            for pattern in &patterns {
                rules.push(tools([pattern.as_str(), "ab"]));
            }
            for path in &paths {
                rules.push(http(Method::GET, path));
            }
            rules.iter().cloned().for_each(|rule| index.add(rule));
            let tool = Call::Tool { name: &name, arguments: Arguments::unknown() };
            let get = Call::Http { method: &Method::GET, path: &path };
            for (kind, call) in [(Kind::Tool, tool), (Kind::Http, get)] {
                for reading in [Reading::Wide, Reading::AsWritten, Reading::Exact] {
                    let text = |rule: &Rule| format!("{rule:?}");
                    let found: Vec<_> = index.matching(kind, &call, reading).map(text).collect();
                    let of_kind = rules.iter().filter(|rule| rule.kind == kind);
                    let scanned = of_kind.filter(|rule| rule.names(&call, reading));
                    prop_assert_eq!(found, scanned.map(text).collect::<Vec<_>>());
                }
            }
        }
    }
}
