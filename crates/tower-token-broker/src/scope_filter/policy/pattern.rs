//! Patterns for names and templates for paths.

use super::{canonical::is_canonical_path, digest::Encoder};
use crate::percent::decode;

/// A name in which `*` matches any sequence of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(Box<[Box<str>]>);

impl Pattern {
    pub(super) fn parse(text: &str) -> Self {
        Self(text.split('*').map(Box::from).collect())
    }

    /// Returns the text that was parsed.
    pub(super) fn to_text(&self) -> String {
        self.0.join("*")
    }

    /// Returns the name, if no other name matches.
    pub(super) fn as_exact(&self) -> Option<&str> {
        match &*self.0 {
            [exact] => Some(exact),
            _ => None,
        }
    }

    /// Whether every name matches.
    pub(super) fn is_star(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|part| part.is_empty()) && self.0.len() > 1
    }

    /// Returns the text before the first `*`.
    pub(super) fn prefix(&self) -> &str {
        self.0.first().map_or("", AsRef::as_ref)
    }

    /// Whether the name matches. The time is linear in the name, whatever the pattern: between two
    /// stars, the first match is as good as any.
    pub(super) fn matches(&self, name: &str) -> bool {
        match &*self.0 {
            [] => false,
            [exact] => **exact == *name,
            [first, between @ .., last] => {
                let Some(mut rest) = name.strip_prefix(&**first) else { return false };
                for part in between {
                    match rest.find(&**part).and_then(|at| rest.get(at + part.len()..)) {
                        Some(behind) => rest = behind,
                        None => return false,
                    }
                }
                rest.ends_with(&**last)
            }
        }
    }
}

/// A path in which `{name}` matches one segment, and `{*name}` at the end one or more. Escapes are
/// decoded before they are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathTemplate {
    segments: Box<[Segment]>,
    has_rest: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// These octets, decoded.
    Is(Box<[u8]>),
    Any,
}

impl PathTemplate {
    /// Parses a template. Returns `None` for text that would match something other than it appears
    /// to, or nothing.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if !is_canonical_path(text) || text.contains(['?', '#']) {
            return None;
        }
        let mut segments: Vec<Segment> = Vec::new();
        let mut has_rest = false;
        for segment in text.strip_prefix('/')?.split('/') {
            let inside = segment.strip_prefix('{').and_then(|inside| inside.strip_suffix('}'));
            let name = inside.map(|inside| inside.strip_prefix('*').unwrap_or(inside));
            if has_rest || name == Some("") || name.unwrap_or(segment).contains(['{', '}', '*']) {
                return None;
            }
            match inside {
                Some(inside) if inside.starts_with('*') => has_rest = true,
                Some(_) => segments.push(Segment::Any),
                None => segments.push(Segment::Is(decode(segment).into())),
            }
        }
        Some(Self { segments: segments.into(), has_rest })
    }

    pub(super) fn encode(&self, encoder: &mut Encoder) {
        encoder.count(self.segments.len());
        for segment in &self.segments {
            match segment {
                Segment::Is(text) => {
                    encoder.count(0);
                    encoder.bytes(text);
                }
                Segment::Any => encoder.count(1),
            }
        }
        encoder.count(usize::from(self.has_rest));
    }

    /// Returns the decoded octets of each segment, `None` for one that matches any.
    pub(super) fn texts(&self) -> impl Iterator<Item = Option<&[u8]>> {
        self.segments.iter().map(|segment| match segment {
            Segment::Is(text) => Some(&**text),
            Segment::Any => None,
        })
    }

    /// Whether any segments may follow.
    pub(super) const fn has_rest(&self) -> bool {
        self.has_rest
    }

    /// Returns the first segment, if it is fixed.
    pub(super) fn first(&self) -> Option<&[u8]> {
        match self.segments.first() {
            Some(Segment::Is(text)) => Some(text),
            Some(Segment::Any) | None => None,
        }
    }

    pub(super) fn matches(&self, path: &str) -> bool {
        path.strip_prefix('/').is_some_and(|path| self.fits(&self.segments, path.split('/')))
    }

    /// Like [`Self::matches`], but ignores a trailing slash of either, because many servers do.
    pub(super) fn matches_but_for_a_slash(&self, path: &str) -> bool {
        let segments = match &*self.segments {
            [segments @ .., Segment::Is(last)] if last.is_empty() => segments,
            segments => segments,
        };
        let path = path.trim_matches('/');
        self.fits(segments, path.split('/').filter(|_| !path.is_empty()))
    }

    fn fits<'p>(&self, segments: &[Segment], mut given: impl Iterator<Item = &'p str>) -> bool {
        let all_match = segments.iter().all(|segment| match (segment, given.next()) {
            (Segment::Is(text), Some(given)) => **text == *decode(given),
            (Segment::Any, Some(given)) => !given.is_empty(),
            (_, None) => false,
        });
        let next = given.next();
        all_match
            && if self.has_rest {
                next.is_some_and(|first| !first.is_empty())
            } else {
                next.is_none()
            }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_matches_any_sequence() {
        for (pattern, name, matches) in [
            ("get_*", "get_", true),
            ("get_*", "get", false),
            ("*_item", "get_item", true),
            ("*", "", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("get", "get", true),
            ("get", "Get", false),
            ("", "", true),
        ] {
            assert_eq!(Pattern::parse(pattern).matches(name), matches, "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_plain_definition(pattern in "[ab*]{0,8}", name in "[ab]{0,8}") {
            fn plain(pattern: &[u8], name: &[u8]) -> bool {
                match (pattern, name) {
                    ([], []) => true,
                    ([b'*', rest @ ..], _) => {
                        plain(rest, name) || (!name.is_empty() && plain(pattern, &name[1..]))
                    }
                    ([one, pattern @ ..], [other, name @ ..]) => {
                        one == other && plain(pattern, name)
                    }
                    _ => false,
                }
            }
            let expected = plain(pattern.as_bytes(), name.as_bytes());
            prop_assert_eq!(Pattern::parse(&pattern).matches(&name), expected);
        }
    }
}
