//! The readings of a name, URI or path: the texts that some server may take it for.
//!
//! A rule that denies compares all of them. What no server distinguishes, or what one may ignore,
//! has one form in a reading and in a pattern: case, escapes (decoded until nothing changes),
//! compatibility forms and invisible characters of Unicode, repeated slashes, backslashes, blanks
//! and dots at the end of a segment, `.` segments, a trailing slash, user information, default
//! ports, spellings of a host. Where servers differ in the rest that they read, each way is a
//! reading: dot segments, parameters of segments, the end at a query, fragment, control character
//! or template variable, a variable without a value, the host of a `file` URI, a scheme that is
//! missing or unknown, a URI inside the text, delimiters around it, escapes of HTML, JSON and
//! programming languages.
//!
//! Sources: RFC 3986 §6; WHATWG URL "URL parsing"; RFC 8089 appendices B to F; UTS #46; RFC 3492.

use std::{borrow::Cow, collections::BTreeSet};

use super::{
    budget::{Budget, Unbounded},
    call::Call,
    decision::Decision,
    inner,
    pattern::{PathTemplate, Pattern},
    plain::plain,
    spelling::{
        OF_FILE, Role, Step, TextKind, places, push_segment, same_delimiters, settle, step,
        without_parameters,
    },
    wide_patterns::{WidePatterns, WideTemplate},
};
use crate::limits::LONGEST_NAME;

/// The most readings. A text with more has no bounded set.
const MOST: usize = 64;

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
struct Found {
    texts: Vec<String>,
    budget: Budget,
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
                Some(("file" | ":f", path)) => vec![format!("file:///{path}")],
                Some(("" | ":", rest)) => {
                    ["https", "http"].map(|scheme| format!("{scheme}://{rest}")).to_vec()
                }
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
    found_in(text, kind, Budget::of_text()).map(|found| found.texts)
}

fn found_in(text: &str, kind: TextKind, budget: Budget) -> Result<Found, Unbounded> {
    if text.len() > LONGEST_NAME {
        return Err(Unbounded::TooMany);
    }
    let mut found = Found { texts: Vec::new(), budget };
    let (mut waiting, mut seen) = (vec![text.to_owned()], 0);
    while let Some(text) = waiting.pop() {
        seen += 1;
        if seen > MOST {
            return Err(Unbounded::TooMany);
        }
        let settled = settle(&text, &mut found.budget, &mut waiting)?;
        add_readings(&settled, kind, &mut found)?;
        let variables = Some(&settled).filter(|text| kind == TextKind::Uri && text.contains('{'));
        let others = [
            inner::without_escapes(&settled, &mut found.budget)?,
            inner::without_whole_escapes(&settled, &mut found.budget)?,
            variables.map(|text| without_variables(text)),
            variables.and_then(|text| without_inner_variables(text)),
        ];
        for other in others.into_iter().flatten() {
            found.budget.spend(&other)?;
            waiting.push(other);
        }
    }
    Ok(found)
}

impl Found {
    fn add(&mut self, text: String) -> Result<(), Unbounded> {
        self.budget.spend(&text)?;
        if self.texts.contains(&text) {
            return Ok(());
        }
        if self.texts.len() == MOST {
            return Err(Unbounded::TooMany);
        }
        self.texts.push(text);
        Ok(())
    }
}

/// Adds the readings of a settled text, and of the texts inside it.
fn add_readings(text: &str, kind: TextKind, found: &mut Found) -> Result<(), Unbounded> {
    let text = &same_delimiters(text, kind);
    add_with_ends(text, kind, false, found)?;
    if kind == TextKind::Path {
        return Ok(());
    }
    // J421, J422: what is around a name is not part of it for all readers.
    let undelimited = inner::undelimited(text);
    if !undelimited.is_empty() && undelimited != text {
        add_with_ends(undelimited, kind, true, found)?;
    }
    if kind == TextKind::Uri {
        for begin in inner::beginnings(text) {
            add_with_ends(text.get(begin..).unwrap_or_default(), kind, true, found)?;
        }
    }
    Ok(())
}

/// Adds the readings of a text up to each place where some reader ends it. A text inside another
/// may also end at a delimiter.
fn add_with_ends(
    text: &str,
    kind: TextKind,
    is_inner: bool,
    found: &mut Found,
) -> Result<(), Unbounded> {
    let mut ends = vec![text.len()];
    if kind == TextKind::Uri {
        ends.extend(text.match_indices(['?', '#']).map(|(at, _)| at).take(MOST));
        ends.extend(text.find('{'));
    }
    if is_inner {
        ends.extend(inner::ends(text));
    }
    if ends.len() > MOST {
        return Err(Unbounded::TooMany);
    }
    for end in ends {
        let text = text.get(..end).unwrap_or_default();
        let undelimited = Some(inner::undelimited(text)).filter(|it| is_inner && *it != text);
        for text in [Some(text), undelimited].into_iter().flatten() {
            found.budget.spend(text)?;
            add_whole(text, kind, found)?;
            if kind != TextKind::Name && text.contains(';') {
                add_whole(&without_parameters(text), kind, found)?;
            }
        }
    }
    Ok(())
}

/// Removes the variables of a template: without a value, they are empty (RFC 6570 §3.2.1).
fn without_variables(text: &str) -> String {
    let (mut without, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, behind)) = rest.split_once('{') {
        without.push_str(before);
        rest = behind.split_once('}').map_or("", |(_, behind)| behind);
    }
    without.push_str(rest);
    without
}

/// Removes the variables that are inside another one, which no template has, but some reader of
/// `{a{b}}` begins inside.
fn without_inner_variables(text: &str) -> Option<String> {
    let (mut without, mut rest, mut is_nested) = (String::with_capacity(text.len()), text, false);
    while let Some((before, behind)) = rest.split_once('}') {
        match before.rsplit_once('{') {
            Some((outer, _)) => {
                is_nested |= outer.contains('{');
                without.push_str(outer);
            }
            None => without.extend([before, "}"]),
        }
        rest = behind;
    }
    without.push_str(rest);
    is_nested.then_some(without)
}

/// Adds the readings of a text that does not end earlier.
fn add_whole(text: &str, kind: TextKind, found: &mut Found) -> Result<(), Unbounded> {
    for place in places(text, kind, Role::Text)? {
        add_paths(&place.head, &place.segments, kind, found)?;
        // RFC 8089 F: on Windows, a colon begins the name of a stream.
        let is_file = matches!(&*place.head, "" | OF_FILE) || place.head.starts_with("file:");
        if kind == TextKind::Uri && is_file {
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
        return Err(Unbounded::TooMany);
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
            return Err(Unbounded::TooMany);
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
    let readings = match Readings::of(call) {
        Ok(readings) => readings,
        Err(unbounded) => return Some(unbounded.denial(call)),
    };
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
            (TextKind::Uri, "feed://a.example/b"),
            (TextKind::Uri, "https://a.localhost/b"),
            (TextKind::Uri, "https://u@a/b"),
            (TextKind::Uri, "c://a"),
            (TextKind::Uri, "https:///a"),
            (TextKind::Uri, "urn:a"),
        ] {
            assert_eq!(plain(text, kind), None, "{text}");
        }
    }

    #[test]
    fn j429_the_work_for_a_text_is_bounded() {
        let spent = |text: &str, kind| {
            found_in(text, kind, Budget::of_text()).map(|found| found.budget.spent())
        };
        // Usual texts, up to a length that no client sends.
        let long = "segment/".repeat(250);
        for (text, kind) in [
            ("file:///data/Report (final).txt".to_owned(), TextKind::Uri),
            ("https://me@api.example.com:443/v1/a;b=c/../d?e=f&g=h#i".to_owned(), TextKind::Uri),
            ("jar:file:///data/a.jar!/b/{name}{?x}".to_owned(), TextKind::Uri),
            (format!("https://api.example.com/{long}"), TextKind::Uri),
            (
                format!(
                    "https://api.example.com/{}?u=https%3A%2F%2Fb.example",
                    "segment/".repeat(100)
                ),
                TextKind::Uri,
            ),
            ("Get-Item %C3%A9".to_owned(), TextKind::Name),
            (long.clone(), TextKind::Name),
            (format!("/v1/{long}"), TextKind::Path),
        ] {
            let spent = spent(&text, kind).unwrap();
            assert!(spent <= Budget::MOST / 4, "J429 {spent} bytes for {text}");
        }
        let fill = |text: &str| format!("file:///{}{text}", "a".repeat(16_000 - text.len()));
        let controls: String = (1..32).filter_map(char::from_u32).collect();
        for text in [
            fill(&"?".repeat(62)),
            fill(&"?".repeat(10)),
            fill(&"#?".repeat(40)),
            fill(&"{?".repeat(30)),
            fill(&"u:file:/".repeat(40)),
            fill(&controls),
            fill(&format!("/{}", "../".repeat(20))),
            format!("file:///{}", "%25252541".repeat(1_700)),
            format!("file:///{}", "\\u005c".repeat(2_500)),
            format!("file:///{}", "a:b/".repeat(4_000)),
            "ab:".repeat(5_000),
            "?".repeat(16_000),
            "a".repeat(17_000),
        ] {
            for kind in [TextKind::Uri, TextKind::Name, TextKind::Path] {
                match found_in(&text, kind, Budget::of_text()) {
                    Ok(found) => {
                        let bytes: usize = found.texts.iter().map(String::len).sum();
                        assert!(bytes <= found.budget.spent(), "J429");
                    }
                    Err(unbounded) => assert_eq!(unbounded, Unbounded::TooMany, "J429"),
                }
            }
        }
        let hostile = fill(&"?".repeat(62));
        assert_eq!(of_text(&hostile, TextKind::Uri), Err(Unbounded::TooMany), "J429");
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
