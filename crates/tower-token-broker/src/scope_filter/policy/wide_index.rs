//! An index of rules that deny, by the readings of what they name.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use http::Method;

use super::{
    call::Call,
    index::{ByName, Numbers, note},
    names::{Kind, Names},
    readings::Readings,
    rule::Rule,
    wide_patterns::{WidePatterns, WideTemplate},
};

/// The names of rules in the form in which readings are compared, with an index.
#[derive(Debug, Default)]
pub(super) struct WideIndex {
    names: Vec<WideNames>,
    by_name: Vec<(Kind, ByName)>,
    by_first_segment: HashMap<Box<str>, Numbers, RandomState>,
    any_path: Numbers,
}

/// The names that one rule denies.
#[derive(Debug)]
enum WideNames {
    Patterns(WidePatterns),
    #[cfg(feature = "grpc")]
    Rpc(Option<String>, WidePatterns),
    Path(Method, Option<WideTemplate>),
}

impl WideIndex {
    pub(super) fn of(rules: &[Rule]) -> Self {
        let mut index = Self::default();
        for (number, rule) in rules.iter().enumerate() {
            let names = WideNames::of(rule);
            index.add(&names, rule.kind, number);
            index.names.push(names);
        }
        index
    }

    fn add(&mut self, names: &WideNames, kind: Kind, number: usize) {
        match names {
            WideNames::Patterns(patterns) => self.add_patterns(patterns, kind, number),
            // Indexed by method. The service is compared with each rule found.
            #[cfg(feature = "grpc")]
            WideNames::Rpc(_, patterns) => self.add_patterns(patterns, kind, number),
            WideNames::Path(_, template) => match template.as_ref().and_then(WideTemplate::first) {
                Some(segment) => note(&mut self.by_first_segment, segment, number),
                None => self.any_path.push(number),
            },
        }
    }

    fn add_patterns(&mut self, patterns: &WidePatterns, kind: Kind, number: usize) {
        let by_name = match self.by_name.iter_mut().position(|(of, _)| *of == kind) {
            Some(at) => self.by_name.get_mut(at),
            None => {
                self.by_name.push((kind, ByName::default()));
                self.by_name.last_mut()
            }
        };
        if let Some((_, by_name)) = by_name {
            patterns.patterns().iter().for_each(|pattern| by_name.add(pattern, number));
        }
    }

    /// Adds the positions of the rules that name the call in any reading.
    pub(super) fn find(
        &self,
        kind: Kind,
        call: &Call<'_>,
        readings: &Readings<'_>,
        numbers: &mut Numbers,
    ) {
        let names = |number: &usize| {
            self.names.get(*number).is_some_and(|names| names.include(call, readings))
        };
        numbers.extend(self.candidates(kind, readings).into_iter().filter(names));
    }

    fn candidates(&self, kind: Kind, readings: &Readings<'_>) -> Numbers {
        let mut candidates = Numbers::new();
        if kind == Kind::Http {
            candidates.extend(&self.any_path);
            for path in readings.paths() {
                let first = path.split('/').next().unwrap_or_default();
                candidates.extend(self.by_first_segment.get(first).into_iter().flatten());
            }
        } else if let Some((_, by_name)) = self.by_name.iter().find(|(of, _)| *of == kind) {
            for text in readings.texts() {
                candidates.extend(by_name.candidates(text));
            }
        }
        candidates
    }
}

impl WideNames {
    fn of(rule: &Rule) -> Self {
        let texts = |patterns: &[super::pattern::Pattern]| {
            patterns.iter().map(|pattern| pattern.to_text()).collect::<Vec<_>>()
        };
        let wide = |texts: Vec<String>| WidePatterns::of_all(&texts, rule.kind);
        match &rule.names {
            Names::Patterns(patterns) => Self::Patterns(wide(texts(patterns))),
            #[cfg(feature = "grpc")]
            Names::Rpc(service, methods) => {
                Self::Rpc(super::readings::service_form(service), wide(texts(methods)))
            }
            Names::Path(method, template) => Self::Path(method.clone(), WideTemplate::of(template)),
        }
    }

    fn include(&self, call: &Call<'_>, readings: &Readings<'_>) -> bool {
        match (self, call) {
            (Self::Patterns(patterns), _) => patterns.match_any(readings),
            #[cfg(feature = "grpc")]
            (Self::Rpc(service, patterns), _) => {
                service.as_deref() == readings.service() && patterns.match_any(readings)
            }
            (Self::Path(method, template), Call::Http { method: other, .. }) => {
                method.as_str().eq_ignore_ascii_case(other.as_str())
                    && template.as_ref().is_some_and(|template| template.matches_any(readings))
            }
            (Self::Path(..), _) => false,
        }
    }
}
