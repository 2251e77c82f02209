//! Patterns and path templates in the form in which readings are compared with them.

use std::collections::BTreeSet;

use super::{
    budget::{Budget, Unbounded},
    names::Kind,
    pattern::{PathTemplate, Pattern},
    readings::Readings,
    spelling::{
        Place, Role, Step, TextKind, other_heads, places, push_segment, same_delimiters, settle,
        step, without_parameters,
    },
};

/// The most patterns into which one pattern is expanded.
const MOST_PATTERNS: usize = 32;

/// A pattern in the form in which readings are compared with it.
#[derive(Clone, Debug)]
pub(super) struct WidePatterns(Vec<Pattern>);

/// A path template in that form: `None` for a segment that matches any.
#[derive(Clone, Debug)]
pub(super) struct WideTemplate {
    segments: Vec<Option<String>>,
    has_rest: bool,
}

impl WidePatterns {
    /// Converts patterns. Each reading of a text that one matches, in any spelling, matches the
    /// result.
    pub(super) fn of_all(patterns: &[String], kind: Kind) -> Self {
        let of_one = |pattern: &String| Self::parse(pattern, TextKind::of_rules(kind)).0;
        Self(patterns.iter().flat_map(of_one).collect())
    }

    pub(super) fn parse(pattern: &str, kind: TextKind) -> Self {
        let parts: Result<Vec<_>, Unbounded> = pattern.split('*').map(settled).collect();
        // A text that matches a pattern without a bounded form has none either.
        let Ok(parts) = parts else { return Self(Vec::new()) };
        let text = same_delimiters(&parts.join("*"), kind);
        let mut texts = BTreeSet::new();
        if kind != TextKind::Name {
            add_texts(&without_parameters(&text), kind, &mut texts);
        }
        add_texts(&text, kind, &mut texts);
        Self(texts.iter().map(|text| Pattern::parse(text)).collect())
    }

    /// Returns the patterns.
    pub(super) fn patterns(&self) -> &[Pattern] {
        &self.0
    }

    /// Whether any of the readings matches.
    pub(super) fn match_any(&self, readings: &Readings<'_>) -> bool {
        readings.texts().any(|text| self.0.iter().any(|pattern| pattern.matches(text)))
    }
}

/// Settles a text of a rule.
fn settled(text: &str) -> Result<std::borrow::Cow<'_, str>, Unbounded> {
    settle(text, &mut Budget::of_rule(), &mut Vec::new())
}

/// Adds the forms of a settled pattern.
fn add_texts(text: &str, kind: TextKind, texts: &mut BTreeSet<String>) {
    // Without a scheme, a star may stand for one.
    let begins_inside = text.starts_with('*') || !text.starts_with(['/', ' ']);
    for Place { head, segments } in places(text, kind, Role::Pattern).unwrap_or_default() {
        for path in pattern_paths(&segments) {
            let mut path = path.iter().map(|segment| {
                let mut text = String::new();
                push_segment(&mut text, segment, kind);
                text
            });
            let path = path.by_ref().collect::<Vec<_>>().join("/");
            let has_scheme = !head.is_empty();
            if kind == TextKind::Name || (!has_scheme && begins_inside && path.contains('*')) {
                texts.insert(path.clone());
            }
            if kind != TextKind::Name {
                texts.extend(with_head(&head, &path));
                for head in other_heads(&head, &path) {
                    texts.extend(with_head(&head, &path));
                }
            }
        }
    }
}

/// Returns a path after its head, and the directory that it is in, if it is any path in there: the
/// slash at the end of a directory makes no difference.
fn with_head(head: &str, path: &str) -> Vec<String> {
    let has_host = head.contains('/');
    let mut texts = Vec::new();
    if has_host && matches!(path, "" | "*") {
        texts.push(head.to_owned());
    }
    if let Some(directory) = path.strip_suffix("/*").filter(|it| !it.ends_with('*')) {
        texts.push(format!("{head}/{directory}"));
    }
    if !has_host || !path.is_empty() {
        texts.push(format!("{head}/{path}"));
    }
    texts
}

/// Returns the segments of a pattern, in each form that a text which it matches can have.
fn pattern_paths<'a>(segments: &[&'a str]) -> Vec<Vec<&'a str>> {
    let mut paths: Vec<Vec<&str>> = vec![Vec::new()];
    for (at, segment) in segments.iter().enumerate() {
        let forms = segment_forms(segment, at + 1 == segments.len());
        if paths.len().saturating_mul(forms.len()) > MOST_PATTERNS {
            // More than is compared: everything below.
            paths.iter_mut().for_each(|path| path.push("*"));
            return paths;
        }
        let longer = |path: &Vec<&'a str>| {
            forms.iter().map(|form| [path.as_slice(), form].concat()).collect::<Vec<_>>()
        };
        paths = paths.iter().flat_map(longer).collect();
    }
    let resolved: Vec<_> = paths.iter().filter_map(|path| plainly_resolved(path)).collect();
    paths.extend(resolved);
    paths
}

fn segment_forms(segment: &str, is_last: bool) -> Vec<Vec<&str>> {
    match step(segment) {
        _ if segment.contains('*') => star_forms(segment, is_last),
        Step::Stays => vec![vec![]],
        Step::Up => vec![vec![".."]],
        Step::Name(name) => vec![vec![name]],
    }
}

/// Returns the forms of a segment with stars. The text that a star matches may vanish in a reading,
/// with the dots and blanks before it.
fn star_forms(segment: &str, is_last: bool) -> Vec<Vec<&str>> {
    let whole = segment.trim_end_matches([' ', '.']);
    let mut forms = vec![vec![whole]];
    if !is_last && whole.bytes().all(|byte| byte == b'*') {
        forms.push(Vec::new());
    }
    for (star, _) in segment.match_indices('*') {
        let (before, rest) = segment.split_at(star);
        let trimmed = before.trim_end_matches([' ', '.']);
        if trimmed.len() < before.len() && !trimmed.is_empty() && !trimmed.ends_with('*') {
            forms.push(vec![trimmed, rest]);
        }
    }
    forms
}

/// Resolves the dot segments of a pattern, unless they leave one with a star.
fn plainly_resolved<'a>(path: &[&'a str]) -> Option<Vec<&'a str>> {
    let mut resolved: Vec<&str> = Vec::new();
    for segment in path {
        match *segment {
            ".." => match resolved.pop() {
                Some(left) if left.contains('*') => return None,
                Some(_) | None => {}
            },
            name => resolved.push(name),
        }
    }
    Some(resolved)
}

impl WideTemplate {
    /// Converts a template. `None` if a segment has no bounded form; then no path that matches has.
    pub(super) fn of(template: &PathTemplate) -> Option<Self> {
        let mut segments = Vec::new();
        for segment in template.texts() {
            let Some(text) = segment else {
                segments.push(None);
                continue;
            };
            let text = settled(std::str::from_utf8(text).ok()?).ok()?;
            let text = same_delimiters(&text, TextKind::Path);
            for part in text.split('/') {
                if let Step::Name(name) = step(part) {
                    segments.push(Some(name.to_owned()));
                }
            }
        }
        Some(Self { segments, has_rest: template.has_rest() })
    }

    /// Returns the first segment, if it is fixed.
    pub(super) fn first(&self) -> Option<&str> {
        self.segments.first()?.as_deref()
    }

    /// Whether any of the readings matches.
    pub(super) fn matches_any(&self, readings: &Readings<'_>) -> bool {
        readings.paths().any(|path| {
            let mut given = path.split('/').filter(|segment| !segment.is_empty());
            let all_match = self.segments.iter().all(|segment| match (segment, given.next()) {
                (Some(text), Some(given)) => text == given,
                (None, Some(_)) => true,
                (_, None) => false,
            });
            all_match && given.next().is_some() == self.has_rest
        })
    }
}
