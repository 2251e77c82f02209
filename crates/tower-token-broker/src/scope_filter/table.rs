//! Rules found by what they name: the work grows with the name that is looked up, not with the number of rules.

use std::collections::HashMap;

use super::{
    pattern::Pattern,
    policy::Call,
    rules::{Kind, Names, Reading, Rule},
};
use crate::percent::decode;

/// Rules in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    rules: Vec<Rule>,
    by_name: HashMap<Kind, ByName>,
    by_path: ByPath,
}

/// The numbers of the rules that are about a name.
#[derive(Clone, Debug, Default)]
struct ByName {
    exact: HashMap<Box<str>, Vec<usize>>,
    /// By what stands before the first star.
    prefixed: HashMap<Box<str>, Vec<usize>>,
    /// The lengths of those prefixes, each once.
    lengths: Vec<usize>,
}

/// The numbers of the rules that are about a path, by its first segment.
#[derive(Clone, Debug, Default)]
struct ByPath {
    first: HashMap<Box<[u8]>, Vec<usize>>,
    any: Vec<usize>,
}

impl Table {
    /// Adds a rule behind the others.
    pub(super) fn add(&mut self, rule: Rule) {
        let number = self.rules.len();
        match &rule.names {
            Names::Patterns(patterns) => {
                let by_name = self.by_name.entry(rule.kind).or_default();
                patterns.iter().for_each(|pattern| by_name.add(pattern, number));
            }
            // The method's name is looked up; the service is compared among what is found.
            #[cfg(feature = "grpc")]
            Names::Rpc(_, methods) => {
                let by_name = self.by_name.entry(rule.kind).or_default();
                methods.iter().for_each(|method| by_name.add(method, number));
            }
            Names::Path(_, template) => match template.first() {
                Some(segment) => self.by_path.first.entry(segment.into()).or_default().push(number),
                None => self.by_path.any.push(number),
            },
        }
        self.rules.push(rule);
    }

    /// The kinds of which there is a rule.
    pub(super) fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.by_name.keys().copied()
    }

    /// The rules that name this call, in the order in which they were given.
    pub(super) fn matching(&self, kind: Kind, call: &Call<'_>, reading: Reading) -> impl Iterator<Item = &Rule> {
        let mut numbers = Vec::new();
        match call {
            Call::Http { path, .. } => self.by_path.find(path, &mut numbers),
            named => {
                if let (Some(by_name), Some(name)) = (self.by_name.get(&kind), named.name()) {
                    by_name.find(name, &mut numbers);
                }
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        numbers.into_iter().filter_map(|number| self.rules.get(number)).filter(move |rule| rule.names(call, reading))
    }
}

impl ByName {
    fn add(&mut self, pattern: &Pattern, number: usize) {
        match pattern.as_exact() {
            Some(name) => self.exact.entry(name.into()).or_default().push(number),
            None => {
                let prefix = pattern.prefix();
                if let Err(place) = self.lengths.binary_search(&prefix.len()) {
                    self.lengths.insert(place, prefix.len());
                }
                self.prefixed.entry(prefix.into()).or_default().push(number);
            }
        }
    }

    fn find(&self, name: &str, numbers: &mut Vec<usize>) {
        numbers.extend(self.exact.get(name).into_iter().flatten());
        // No more look-ups than the name has bytes.
        for length in self.lengths.iter().take_while(|length| **length <= name.len()) {
            let with_prefix = name.get(..*length).and_then(|prefix| self.prefixed.get(prefix));
            numbers.extend(with_prefix.into_iter().flatten());
        }
    }
}

impl ByPath {
    fn find(&self, path: &str, numbers: &mut Vec<usize>) {
        let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        numbers.extend(self.first.get(&*decode(first)).into_iter().flatten());
        numbers.extend(&self.any);
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
        fn what_is_found_is_what_a_walk_over_all_rules_finds(
            patterns in prop::collection::vec("[ab*]{0,4}", 0..12),
            paths in prop::collection::vec("(/(a|b|\\{x\\})){1,3}(/\\{\\*rest\\})?", 0..6),
            name in "[ab]{0,5}",
            path in "(/(a|b|%61)){1,4}/?",
        ) {
            let mut table = Table::default();
            let mut rules = Vec::new();
            for pattern in &patterns {
                rules.push(tools([pattern.as_str(), "ab"]));
            }
            for path in &paths {
                rules.push(http(Method::GET, path));
            }
            rules.iter().cloned().for_each(|rule| table.add(rule));
            let tool = Call::Tool { name: &name, arguments: Arguments::unknown() };
            let get = Call::Http { method: &Method::GET, path: &path };
            for (kind, call) in [(Kind::Tool, tool), (Kind::Http, get)] {
                for reading in [Reading::Wide, Reading::AsWritten, Reading::Exact] {
                    let found: Vec<_> = table.matching(kind, &call, reading).map(|rule| format!("{rule:?}")).collect();
                    let walked = rules.iter().filter(|rule| rule.kind == kind && rule.names(&call, reading));
                    let walked: Vec<_> = walked.map(|rule| format!("{rule:?}")).collect();
                    prop_assert_eq!(found, walked);
                }
            }
        }
    }
}
