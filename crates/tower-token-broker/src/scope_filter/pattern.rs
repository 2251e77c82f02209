//! Patterns of names, and templates of paths.

/// A name in which `*` stands for any run of characters; everything else stands for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(Box<[Box<str>]>);

impl Pattern {
    pub(super) fn parse(text: &str) -> Self {
        Self(text.split('*').map(Box::from).collect())
    }

    /// The name, if it is the only one that matches.
    pub(super) fn as_exact(&self) -> Option<&str> {
        match &*self.0 {
            [exact] => Some(exact),
            _ => None,
        }
    }

    /// In a time that grows with the name, whatever the pattern: between stars the first place that fits is as good as any.
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

/// A path in which `{name}` stands for one segment, and `{*name}` at the end for one or more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathTemplate {
    segments: Box<[Segment]>,
    has_rest: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Is(Box<str>),
    Any,
}

impl PathTemplate {
    pub(super) fn parse(text: &str) -> Self {
        let mut segments: Vec<Segment> = Vec::new();
        let mut has_rest = false;
        for segment in text.trim_start_matches('/').split('/') {
            if segment.starts_with("{*") && segment.ends_with('}') {
                has_rest = true;
                break;
            }
            let is_variable = segment.starts_with('{') && segment.ends_with('}');
            segments.push(if is_variable { Segment::Any } else { Segment::Is(segment.into()) });
        }
        Self { segments: segments.into(), has_rest }
    }

    pub(super) fn matches(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/') else { return false };
        let mut given = path.split('/');
        let all_match = self.segments.iter().all(|segment| match (segment, given.next()) {
            (Segment::Is(text), Some(given)) => **text == *given,
            (Segment::Any, Some(given)) => !given.is_empty(),
            (_, None) => false,
        });
        let mut rest = given.peekable();
        all_match
            && if self.has_rest { rest.peek().is_some_and(|first| !first.is_empty()) } else { rest.peek().is_none() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stars_stand_for_any_run() {
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
                    ([b'*', rest @ ..], _) => plain(rest, name) || (!name.is_empty() && plain(pattern, &name[1..])),
                    ([one, pattern @ ..], [other, name @ ..]) => one == other && plain(pattern, name),
                    _ => false,
                }
            }
            prop_assert_eq!(Pattern::parse(&pattern).matches(&name), plain(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
