//! The readings of a name, URI or path: the texts that some server may take it for.
//!
//! A rule that denies compares all of them. What no server distinguishes, or what one may ignore,
//! has one form in a reading and in a pattern: case, escapes (decoded until nothing changes),
//! compatibility forms and invisible characters of Unicode, repeated slashes, backslashes, blanks
//! and dots at the end of a segment, `.` segments, a trailing slash, user information, default
//! ports, spellings of a host. Where servers differ in the rest that they read, each way is a
//! reading: dot segments, parameters of segments, the end at a query, fragment, control character
//! or template variable, the host of a `file` URI, a scheme that is missing.
//!
//! Sources: RFC 3986 §6; WHATWG URL "URL parsing"; RFC 8089 appendices B to F; UTS #46; RFC 3492.

use std::{borrow::Cow, collections::BTreeSet};

use super::{
    call::Call,
    decision::Decision,
    pattern::{PathTemplate, Pattern},
    plain::plain,
    spelling::{
        Role, Step, TextKind, Unbounded, places, push_segment, same_delimiters, settle, step,
        without_parameters,
    },
    wide_patterns::{WidePatterns, WideTemplate},
};

/// The most readings, and their bytes. A text with more has no bounded set.
const MOST: usize = 64;
const MOST_BYTES: usize = 1 << 20;
/// The longest text that is read. No name is as long.
const LONGEST: usize = 16 << 10;

/// The readings of a call's name, URI or path.
#[derive(Debug)]
pub(super) struct Readings<'a> {
    kind: TextKind,
    texts: Texts<'a>,
    /// The service of a gRPC call, in the form in which it is compared.
    service: Option<String>,
}

#[derive(Debug)]
enum Texts<'a> {
    /// The only reading of a text that all servers read alike.
    Plain(Cow<'a, str>),
    Several(Vec<String>),
}

/// Texts found so far, within the bounds.
#[derive(Default)]
struct Found {
    texts: Vec<String>,
    bytes: usize,
}

impl<'a> Readings<'a> {
    /// Returns the readings of what the call names.
    // J421, J422: a denial compares all of them.
    pub(super) fn of(call: &Call<'a>) -> Result<Self, Unbounded> {
        let kind = TextKind::of(call);
        let text = call.name().or_else(|| call.path()).unwrap_or_default();
        let service = match *call {
            Call::Rpc { service, .. } => Some(of_text(service, kind)?.swap_remove(0)),
            Call::Tool { .. }
            | Call::Resource { .. }
            | Call::Prompt { .. }
            | Call::List { .. }
            | Call::Protocol { .. }
            | Call::Response
            | Call::Method { .. }
            | Call::Http { .. } => None,
        };
        let texts = match plain(text, kind) {
            Some(text) => Texts::Plain(text),
            None => Texts::Several(of_text(text, kind)?),
        };
        Ok(Self { kind, texts, service })
    }

    /// Whether all servers read the text alike, except for its case.
    pub(super) const fn is_plain(&self) -> bool {
        matches!(self.texts, Texts::Plain(_))
    }

    /// Returns the readings.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        let (plain, several) = match &self.texts {
            Texts::Plain(text) => (Some(&**text), &[][..]),
            Texts::Several(texts) => (None, texts.as_slice()),
        };
        plain.into_iter().chain(several.iter().map(String::as_str))
    }

    /// Returns the paths, without the slash at the beginning.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.texts().map(|text| text.strip_prefix('/').unwrap_or(text))
    }

    /// Returns the service of a gRPC call.
    pub(super) fn service(&self) -> Option<&str> {
        self.service.as_deref()
    }

    /// Returns the readings as a server would write them.
    pub(super) fn written(&self) -> impl Iterator<Item = String> {
        self.texts().flat_map(|text| match self.kind {
            TextKind::Name => vec![text.to_owned()],
            TextKind::Path => vec![text.to_owned(), format!("{text}/")],
            TextKind::Uri => match text.split_once(":/") {
                Some(("file", path)) => vec![format!("file:///{path}")],
                Some((scheme, rest)) => {
                    ["://", ":/", ":"].map(|between| format!("{scheme}{between}{rest}")).to_vec()
                }
                None => vec![text.to_owned(), text.trim_start_matches('/').to_owned()],
            },
        })
    }
}

/// Returns the readings of a method of JSON-RPC.
pub(super) fn of_method(method: &str) -> Result<Vec<String>, Unbounded> {
    of_text(method, TextKind::Name)
}

/// Returns the form in which a service is compared.
#[cfg(feature = "grpc")]
pub(super) fn service_form(service: &str) -> Option<String> {
    of_text(service, TextKind::Name).ok().map(|mut forms| forms.swap_remove(0))
}

fn of_text(text: &str, kind: TextKind) -> Result<Vec<String>, Unbounded> {
    if text.len() > LONGEST {
        return Err(Unbounded);
    }
    let mut found = Found::default();
    let (mut waiting, mut seen) = (vec![text.to_owned()], 0);
    while let Some(text) = waiting.pop() {
        seen += 1;
        if seen > MOST {
            return Err(Unbounded);
        }
        let settled = settle(&text, &mut waiting)?;
        add_readings(&settled, kind, &mut found)?;
    }
    Ok(found.texts)
}

impl Found {
    fn add(&mut self, text: String) -> Result<(), Unbounded> {
        if self.texts.contains(&text) {
            return Ok(());
        }
        self.bytes = self.bytes.saturating_add(text.len());
        if self.texts.len() == MOST || self.bytes > MOST_BYTES {
            return Err(Unbounded);
        }
        self.texts.push(text);
        Ok(())
    }
}

/// Adds the readings of a settled text.
fn add_readings(text: &str, kind: TextKind, found: &mut Found) -> Result<(), Unbounded> {
    let text = same_delimiters(text, kind);
    let mut ends = vec![text.len()];
    if kind == TextKind::Uri {
        ends.extend(text.match_indices(['?', '#']).map(|(at, _)| at));
        ends.extend(text.find('{'));
    }
    if ends.len() > MOST {
        return Err(Unbounded);
    }
    for end in ends {
        let text = text.get(..end).unwrap_or_default();
        add_whole(text, kind, found)?;
        if kind != TextKind::Name && text.contains(';') {
            add_whole(&without_parameters(text), kind, found)?;
        }
    }
    Ok(())
}

/// Adds the readings of a text that does not end earlier.
fn add_whole(text: &str, kind: TextKind, found: &mut Found) -> Result<(), Unbounded> {
    for place in places(text, kind, Role::Text)? {
        add_paths(&place.head, &place.segments, kind, found)?;
        // RFC 8089 F: on Windows, a colon begins the name of a stream.
        if kind == TextKind::Uri && (place.head.is_empty() || place.head.starts_with("file:")) {
            let has_stream = |segment: &&str| stream(segment).is_some();
            if place.segments.iter().any(has_stream) {
                let of_file = |segment| stream(segment).unwrap_or(segment);
                let segments: Vec<&str> = place.segments.iter().copied().map(of_file).collect();
                add_paths(&place.head, &segments, kind, found)?;
            }
        }
    }
    Ok(())
}

/// Returns the name of a file before the name of one of its streams.
fn stream(segment: &str) -> Option<&str> {
    let (file, _) = segment.split_once(':')?;
    // One letter is a drive.
    (file.len() != 1).then_some(file)
}

/// Adds the readings of the segments after a head.
fn add_paths(
    head: &str,
    segments: &[&str],
    kind: TextKind,
    found: &mut Found,
) -> Result<(), Unbounded> {
    let path: Vec<&str> = segments.iter().filter_map(|segment| kept(segment)).collect();
    found.add(joined(head, &path, kind))?;
    if kind == TextKind::Name && path.len() < segments.len() {
        add_outer_slashes(&joined(head, &path, kind), segments, found)?;
    }
    // As it is written, except for empty segments.
    let written: Vec<&str> =
        segments.iter().copied().filter(|segment| !matches!(*segment, "" | ".")).collect();
    if written != path {
        found.add(joined(head, &written, kind))?;
    }
    if path.contains(&"..") {
        // A reader that resolves `..` before it decodes may leave more than one segment.
        for path in resolved(&path)? {
            found.add(joined(head, &path, kind))?;
        }
    }
    Ok(())
}

/// Returns what is left of a segment.
fn kept(segment: &str) -> Option<&str> {
    match step(segment) {
        Step::Stays => None,
        Step::Up => Some(".."),
        Step::Name(name) => Some(name),
    }
}

/// Adds a name with the slashes at its ends, which may belong to it.
fn add_outer_slashes(name: &str, segments: &[&str], found: &mut Found) -> Result<(), Unbounded> {
    let slash = |segment: Option<&&str>| match segment {
        Some(segment) if kept(segment).is_none() => "/",
        Some(_) | None => "",
    };
    let (before, behind) = (slash(segments.first()), slash(segments.last()));
    for (before, behind) in [(before, behind), (before, ""), ("", behind)] {
        found.add(format!("{before}{name}{behind}"))?;
    }
    Ok(())
}

/// Returns the paths that dot segments may lead to: each `..` leaves any number of segments.
fn resolved<'a>(segments: &[&'a str]) -> Result<BTreeSet<Vec<&'a str>>, Unbounded> {
    let ups = segments.iter().filter(|segment| **segment == "..").count();
    if segments.len() - ups > MOST || ups > MOST {
        return Err(Unbounded);
    }
    let mut paths = BTreeSet::from([Vec::new()]);
    for segment in segments {
        paths = match *segment {
            ".." => {
                paths.iter().flat_map(|path| (0..=path.len()).map(|end| begin(path, end))).collect()
            }
            name => paths.into_iter().map(|path| [path, vec![name]].concat()).collect(),
        };
        if paths.len() > MOST {
            return Err(Unbounded);
        }
    }
    Ok(paths)
}

fn begin<'a>(path: &[&'a str], end: usize) -> Vec<&'a str> {
    path.iter().take(end).copied().collect()
}

fn joined(head: &str, segments: &[&str], kind: TextKind) -> String {
    let mut text = String::from(head);
    for (at, segment) in segments.iter().enumerate() {
        if at > 0 || kind != TextKind::Name {
            text.push('/');
        }
        push_segment(&mut text, segment, kind);
    }
    if segments.is_empty() && kind != TextKind::Name && !head.contains('/') {
        text.push('/');
    }
    text
}

/// Decides on the call in each of its readings, until there is a decision. A call without a bounded
/// set of readings is denied.
pub(super) fn in_any_reading(
    call: &Call<'_>,
    mut decide: impl FnMut(&Call<'_>) -> Option<Decision>,
) -> Option<Decision> {
    let Ok(readings) = Readings::of(call) else { return Some(Decision::deny(call)) };
    let slash = call.path().map(|path| match path.strip_suffix('/') {
        Some(without) => without.to_owned(),
        None => format!("{path}/"),
    });
    let mut texts = slash.into_iter().chain(readings.written());
    texts.find_map(|text| {
        renamed(call, &text, readings.service()).iter().flatten().find_map(&mut decide)
    })
}

/// Returns the call by another name, and a gRPC call also with another service. `None` for a call
/// without a name.
fn renamed<'a>(call: &Call<'a>, text: &'a str, service: Option<&'a str>) -> [Option<Call<'a>>; 2] {
    let one = |call| [Some(call), None];
    match *call {
        Call::Tool { arguments, .. } => one(Call::Tool { name: text, arguments }),
        Call::Prompt { arguments, .. } => one(Call::Prompt { name: text, arguments }),
        Call::Resource { .. } => one(Call::Resource { uri: text }),
        Call::Method { .. } => one(Call::Method { method: text }),
        Call::Http { method, .. } => one(Call::Http { method, path: text }),
        Call::Rpc { service: as_sent, .. } => [
            Some(Call::Rpc { service: as_sent, method: text }),
            service.map(|service| Call::Rpc { service, method: text }),
        ],
        Call::List { .. } | Call::Protocol { .. } | Call::Response => [None, None],
    }
}

impl Call<'_> {
    /// Whether what the call names is, in any spelling that a server may read, matched by this
    /// pattern: a name or URI in which `*` matches any sequence of characters, `service/method` of
    /// a gRPC call, or a path template. Use it in a closure that denies; it compares as
    /// [`Rules::deny`](super::Rules::deny) does.
    ///
    /// A call whose text has no bounded set of readings may name anything: the result is true. So
    /// it is for a text that is no path template, if the call is an HTTP request. A call without a
    /// name (a list, `ping`) names nothing: the result is false. The pattern is parsed by each
    /// call of this function.
    ///
    /// ```
    /// use tower_token_broker::scope_filter::{Arguments, Call};
    ///
    /// let call = |uri| Call::Resource { uri };
    /// assert!(call("file:///data/secret%2Fplan").may_name("file:///data/secret/*"));
    /// assert!(call("FILE:/data//Secret./plan").may_name("file:///data/secret/*"));
    /// assert!(!call("file:///data/secrets").may_name("file:///data/secret/*"));
    /// ```
    pub fn may_name(&self, pattern: &str) -> bool {
        let kind = match self {
            Call::List { .. } | Call::Protocol { .. } | Call::Response => return false,
            Call::Http { path, .. } => return self.may_be_path(path, pattern),
            Call::Resource { .. } => TextKind::Uri,
            Call::Tool { .. } | Call::Prompt { .. } | Call::Method { .. } | Call::Rpc { .. } => {
                TextKind::Name
            }
        };
        let name = self.name().unwrap_or_default();
        let name = if let Call::Rpc { service, .. } = self {
            Cow::Owned(format!("{service}/{name}"))
        } else {
            Cow::Borrowed(name)
        };
        Pattern::parse(pattern).matches(&name)
            || of_text(&name, kind).map_or(true, |texts| {
                let readings = Readings { kind, texts: Texts::Several(texts), service: None };
                WidePatterns::parse(pattern, kind).match_any(&readings)
            })
    }
    fn may_be_path(&self, path: &str, template: &str) -> bool {
        let Some(template) = PathTemplate::parse(template) else { return true };
        template.matches_but_for_a_slash(path)
            || Readings::of(self).map_or(true, |readings| {
                WideTemplate::of(&template).is_some_and(|wide| wide.matches_any(&readings))
            })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_usual_text_is_plain() {
        for (kind, text, reading) in [
            (TextKind::Name, "get_item", "get_item"),
            (TextKind::Name, "Get-Item2", "get_item2"),
            (TextKind::Name, "crm.get", "crm.get"),
            (TextKind::Path, "/v1/Items/7.json", "/v1/items/7.json"),
            (TextKind::Uri, "items://private/A", "items:/private/a"),
            (TextKind::Uri, "file:///data/a.txt", "file:/data/a.txt"),
            (TextKind::Uri, "https://a.example", "https:/a.example"),
        ] {
            assert_eq!(plain(text, kind).as_deref(), Some(reading), "{text}");
        }
        for (kind, text) in [
            (TextKind::Name, "a."),
            (TextKind::Name, "a b"),
            (TextKind::Name, "a/b"),
            (TextKind::Path, "/a/"),
            (TextKind::Path, "//a"),
            (TextKind::Path, "/a./b"),
            (TextKind::Path, "/a/./b"),
            (TextKind::Path, "a"),
            (TextKind::Uri, "file://a/b"),
            (TextKind::Uri, "https://1/b"),
            (TextKind::Uri, "https://xn--a/b"),
            (TextKind::Uri, "https://a.xn--a/b"),
            (TextKind::Uri, "https://a:1/b"),
            (TextKind::Uri, "https://u@a/b"),
            (TextKind::Uri, "c://a"),
            (TextKind::Uri, "https:///a"),
            (TextKind::Uri, "urn:a"),
        ] {
            assert_eq!(plain(text, kind), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_plain_text_has_one_reading(
            name in "[a-zA-Z0-9._-]{0,9}",
            path in "(/[aZ0._~-]{0,4}){0,4}",
            uri in "(https|file|repo|FILE|x)://(/|a\\.b|xn--a|1\\.2|A)?(/[aZ0._~-]{0,4}){0,3}",
        ) {
            let texts =
                [(name, TextKind::Name), (path, TextKind::Path), (uri, TextKind::Uri)];
            for (text, kind) in &texts {
                if let Some(plain) = plain(text, *kind) {
                    prop_assert_eq!(of_text(text, *kind), Ok(vec![plain.into_owned()]), "{}", text);
                }
            }
        }
    }
}
