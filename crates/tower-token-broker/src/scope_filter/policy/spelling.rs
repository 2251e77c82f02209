//! Texts of names, paths and URIs: decoding them, and splitting them as servers do.

use std::{borrow::Cow, collections::BTreeSet};

use super::{authority, call::Call, names::Kind};
use crate::{
    folding::fold,
    percent::{Decoded, decode_text},
};

/// The most rounds of decoding. A text that still changes has no bounded set of readings.
const ROUNDS: usize = 8;

/// A text without a bounded set of readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unbounded;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextKind {
    Name,
    Uri,
    Path,
}

/// Whether a text is that of a call or that of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Text,
    Pattern,
}

/// One segment of a path.
pub(super) enum Step<'a> {
    /// Empty, or the same directory.
    Stays,
    /// The parent directory.
    Up,
    Name(&'a str),
}

/// A text without its path: what stays in front of it, and the segments after it.
pub(super) struct Place<'a> {
    pub(super) head: String,
    pub(super) segments: Vec<&'a str>,
}

impl TextKind {
    pub(super) fn of(call: &Call<'_>) -> Self {
        match call {
            Call::Resource { .. } => Self::Uri,
            Call::Http { .. } => Self::Path,
            Call::Tool { .. }
            | Call::Prompt { .. }
            | Call::List { .. }
            | Call::Protocol { .. }
            | Call::Response
            | Call::Method { .. }
            | Call::Rpc { .. } => Self::Name,
        }
    }

    pub(super) fn of_rules(kind: Kind) -> Self {
        match kind {
            Kind::Resource => Self::Uri,
            Kind::Http => Self::Path,
            Kind::Tool | Kind::Prompt | Kind::Method | Kind::Rpc => Self::Name,
        }
    }
}

/// Decodes and folds until nothing changes. A text may also end at a control character: what is
/// before it is a text of its own.
pub(super) fn settle<'a>(text: &'a str, cut: &mut Vec<String>) -> Result<Cow<'a, str>, Unbounded> {
    let mut settled = Cow::Borrowed(text);
    for _ in 0..ROUNDS {
        cut_at_controls(&settled, cut);
        // The controls that an escape hid are seen in the next round, so they are kept in this one.
        let next = match decode_text(&settled) {
            Decoded::Text(text) => text,
            // Octets that are no text are read in too many ways.
            Decoded::NoText => return Err(Unbounded),
            Decoded::Unchanged => match fold(&settled) {
                Cow::Borrowed(_) => return Ok(settled),
                Cow::Owned(folded) => folded,
            },
        };
        if next == *settled {
            return Ok(settled);
        }
        settled = Cow::Owned(next);
    }
    Err(Unbounded)
}

/// Adds what is before the first of each control character.
fn cut_at_controls(text: &str, cut: &mut Vec<String>) {
    let mut ends = BTreeSet::new();
    for (at, control) in text.char_indices().filter(|(_, char)| char.is_control()) {
        if ends.insert(control) {
            cut.push(text.get(..at).unwrap_or_default().to_owned());
        }
    }
}

/// Converts backslashes, and blanks of forms.
pub(super) fn same_delimiters(text: &str, kind: TextKind) -> String {
    let text = text.trim_start_matches(' ');
    text.chars()
        .map(|char| match char {
            '\\' => '/',
            '+' if kind != TextKind::Name => ' ',
            char => char,
        })
        .collect()
}

/// Removes the parameters of each segment, except in a segment of a pattern with a star.
pub(super) fn without_parameters(text: &str) -> String {
    let without = |segment| match str::split_once(segment, ';') {
        Some((name, _)) if !segment.contains('*') => name,
        Some(_) | None => segment,
    };
    text.split('/').map(without).collect::<Vec<_>>().join("/")
}

/// Separates scheme and authority from the segments. The scheme, a colon, a slash and the authority
/// are the head.
pub(super) fn places<'a>(
    text: &'a str,
    kind: TextKind,
    role: Role,
) -> Result<Vec<Place<'a>>, Unbounded> {
    let Some((scheme, rest)) = scheme(text).filter(|_| kind == TextKind::Uri) else {
        return Ok(places_without_scheme(text, kind, role));
    };
    let head = format!("{scheme}:");
    let segments: Vec<&str> = rest.trim_start_matches('/').split('/').collect();
    let slashes = rest.len() - rest.trim_start_matches('/').len();
    let has_host = slashes == 2 || matches!(scheme, "http" | "https" | "ws" | "wss" | "ftp");
    let Some((host, path)) = segments.split_first().filter(|_| has_host) else {
        return Ok(vec![Place { head, segments }]);
    };
    let hosts = authority::forms(host, scheme, role == Role::Text)?;
    let without_host = || Place { head: head.clone(), segments: path.to_vec() };
    if scheme == "file" && hosts.iter().any(|host| authority::is_local(host)) {
        return Ok(vec![without_host()]);
    }
    // Many readers ignore the host of a file.
    let is_ignored = scheme == "file" && role == Role::Text;
    let with_host =
        |host: &String| Place { head: format!("{head}/{host}"), segments: path.to_vec() };
    Ok(is_ignored.then(without_host).into_iter().chain(hosts.iter().map(with_host)).collect())
}

/// Returns a text without a scheme as it is, and as the path of a file.
fn places_without_scheme(text: &str, kind: TextKind, role: Role) -> Vec<Place<'_>> {
    let segments: Vec<&str> = text.split('/').collect();
    let is_absolute = text.starts_with('/') || segments.first().is_some_and(|it| is_drive(it));
    let of_file = (kind == TextKind::Uri && (role == Role::Text || is_absolute))
        .then(|| Place { head: "file:".to_owned(), segments: segments.clone() });
    [Place { head: String::new(), segments }].into_iter().chain(of_file).collect()
}

/// Splits a scheme from the rest. A letter is a drive and no scheme. The scheme of a pattern may
/// contain stars.
fn scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let scheme = scheme.trim_matches(' ');
    let is_of_scheme = |char: char| char.is_ascii_alphanumeric() || "+-. *".contains(char);
    let is_scheme = scheme.chars().all(is_of_scheme)
        && !scheme.starts_with(|char: char| char.is_ascii_digit())
        && (scheme.len() > 1 || scheme == "*");
    is_scheme.then_some((scheme, rest))
}

fn is_drive(segment: &str) -> bool {
    matches!(segment.as_bytes(), [letter, b':' | b'|'] if letter.is_ascii_alphabetic())
}

pub(super) fn step(segment: &str) -> Step<'_> {
    match segment.trim_matches(' ') {
        "" | "." => Step::Stays,
        dots if dots.bytes().all(|byte| matches!(byte, b'.' | b' ')) => Step::Up,
        _ => Step::Name(segment.trim_end_matches([' ', '.'])),
    }
}

/// Appends a segment. In a name, blanks and hyphens are underscores.
pub(super) fn push_segment(text: &mut String, segment: &str, kind: TextKind) {
    text.extend(segment.chars().map(|char| match char {
        ' ' | '-' if kind == TextKind::Name => '_',
        '|' if kind == TextKind::Uri && is_drive(segment) => ':',
        char => char,
    }));
}
