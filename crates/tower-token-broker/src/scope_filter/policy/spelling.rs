//! Texts of names, paths and URIs: decoding them, and splitting them as servers do.

use std::{borrow::Cow, collections::BTreeSet};

use super::{
    authority,
    budget::{Budget, Unbounded},
    call::Call,
    names::Kind,
};
use crate::{
    folding::fold,
    percent::{Decoded, decode_text},
};

/// The most rounds of decoding. A text that still changes has no bounded set of readings.
const ROUNDS: usize = 8;

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
pub(super) fn settle<'a>(
    text: &'a str,
    budget: &mut Budget,
    cut: &mut Vec<String>,
) -> Result<Cow<'a, str>, Unbounded> {
    let mut settled = Cow::Borrowed(text);
    for _ in 0..ROUNDS {
        budget.spend(&settled)?;
        cut_at_controls(&settled, budget, cut)?;
        // The controls that an escape hid are seen in the next round, so they are kept in this one.
        let next = match decode_text(&settled) {
            Decoded::Text(text) => text,
            // Octets that are no text are read in too many ways.
            Decoded::NoText => return Err(Unbounded::Ambiguous),
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
    Err(Unbounded::Ambiguous)
}

/// Adds what is before the first of each control character.
fn cut_at_controls(
    text: &str,
    budget: &mut Budget,
    cut: &mut Vec<String>,
) -> Result<(), Unbounded> {
    let mut ends = BTreeSet::new();
    for (at, control) in text.char_indices().filter(|(_, char)| char.is_control()) {
        if ends.insert(control) {
            let before = text.get(..at).unwrap_or_default();
            budget.spend(before)?;
            cut.push(before.to_owned());
        }
    }
    Ok(())
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

/// Heads in place of a scheme, which no text has: of a URI without a scheme, relative to any; of a
/// web server by an unknown scheme; of a file by an unknown scheme. Patterns have them in addition
/// to their own.
pub(super) const RELATIVE: &str = ":/";
pub(super) const OF_WEB: &str = "::/";
pub(super) const OF_FILE: &str = ":f:";

/// Separates scheme and authority from the segments. The scheme, a colon, a slash and the authority
/// are the head.
pub(super) fn places<'a>(
    text: &'a str,
    kind: TextKind,
    role: Role,
) -> Result<Vec<Place<'a>>, Unbounded> {
    let Some((scheme, rest)) = scheme(text).filter(|_| kind == TextKind::Uri) else {
        return places_without_scheme(text, kind, role);
    };
    let head = format!("{scheme}:");
    let segments: Vec<&str> = rest.trim_start_matches('/').split('/').collect();
    let slashes = rest.len() - rest.trim_start_matches('/').len();
    let is_unknown = role == Role::Text && scheme != "file" && !is_of_web(scheme);
    let has_host = slashes == 2 || is_of_web(scheme);
    let Some((host, path)) = segments.split_first().filter(|_| has_host) else {
        // `netdoc:/a`, `local:///a`: some reader takes it for a file.
        let of_file = (is_unknown && slashes > 0)
            .then(|| Place { head: OF_FILE.to_owned(), segments: segments.clone() });
        return Ok([Place { head, segments }].into_iter().chain(of_file).collect());
    };
    let hosts = authority::forms(host, scheme, role == Role::Text)?;
    let without_host = || Place { head: head.clone(), segments: path.to_vec() };
    if scheme == "file" && hosts.iter().any(|host| authority::is_local(host)) {
        return Ok(vec![without_host()]);
    }
    let with_host =
        |host: &String| Place { head: format!("{head}/{host}"), segments: path.to_vec() };
    let mut places: Vec<_> = hosts.iter().map(with_host).collect();
    // Many readers ignore the host of a file.
    if scheme == "file" && role == Role::Text {
        places.insert(0, without_host());
    }
    // `netdoc://./a`: this machine, so some reader takes it for a file.
    if is_unknown && hosts.iter().any(|host| host.is_empty() || authority::is_local(host)) {
        places.push(Place { head: OF_FILE.to_owned(), segments: path.to_vec() });
    }
    // `feed://a.example/`: some reader takes it for a URL of the web.
    if is_unknown && authority::is_of_network(host) {
        places.extend(places_of_host(OF_WEB, host, path)?);
    }
    Ok(places)
}

/// Returns the places of a host after a head that is no scheme.
fn places_of_host<'a>(
    head: &str,
    host: &str,
    path: &[&'a str],
) -> Result<Vec<Place<'a>>, Unbounded> {
    let hosts = authority::forms(host, "", true)?;
    let place = |host| Place { head: format!("{head}{host}"), segments: path.to_vec() };
    Ok(hosts.into_iter().map(place).collect())
}

/// Returns a text without a scheme as it is, as the path of a file, and, after two slashes,
/// relative to a scheme.
fn places_without_scheme(
    text: &str,
    kind: TextKind,
    role: Role,
) -> Result<Vec<Place<'_>>, Unbounded> {
    let segments: Vec<&str> = text.split('/').collect();
    let is_absolute = text.starts_with('/') || segments.first().is_some_and(|it| is_drive(it));
    let mut places = vec![Place { head: String::new(), segments: segments.clone() }];
    if kind == TextKind::Uri && (role == Role::Text || is_absolute) {
        places.push(Place { head: "file:".to_owned(), segments });
    }
    if kind == TextKind::Uri && role == Role::Text && text.starts_with("//") {
        let rest: Vec<&str> = text.trim_start_matches('/').split('/').collect();
        if let Some((host, path)) = rest.split_first() {
            places.extend(places_of_host(RELATIVE, host, path)?);
            // Of a file, whose host many readers ignore.
            places.push(Place { head: "file:".to_owned(), segments: path.to_vec() });
        }
    }
    Ok(places)
}

/// Whether a scheme is followed by a host, however many slashes are between them.
fn is_of_web(scheme: &str) -> bool {
    matches!(scheme, "http" | "https" | "ws" | "wss" | "ftp")
}

/// Returns the heads by which a pattern is compared in addition to its own: with a host, that of a
/// URI without a scheme, and of a web server that of an unknown scheme; for files that it names,
/// that of an unknown scheme.
pub(super) fn other_heads(head: &str, path: &str) -> Vec<String> {
    match head.split_once(":/") {
        Some((scheme, host)) if !host.trim_matches('*').is_empty() => {
            let mut heads = vec![format!("{RELATIVE}{host}")];
            if is_of_web(scheme) || scheme.contains('*') {
                heads.push(format!("{OF_WEB}{host}"));
            }
            heads
        }
        // A pattern for all files does not name any.
        None if head == "file:" && path.contains(|char| !matches!(char, '/' | '*')) => {
            vec![OF_FILE.to_owned()]
        }
        Some(_) | None => Vec::new(),
    }
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
