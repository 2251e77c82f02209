//! Laws of rules that deny: no respelling of a denied name, URI or path passes, and without a
//! denial an allowed one passes in its canonical text only.

use http::Method;
use proptest::{prelude::*, sample::Index};

use super::{Arguments, Call, Policy, PolicyExt, PolicyHandle, Rule, Rules, methods, prompts};
use super::{http as path_rule, policy_fn, resources, tools};
use crate::scope_filter::{Decision, tests::caller};

mod completions;
mod members;

/// A text, of which a respelling changes one part.
#[derive(Clone, Debug)]
struct Spelled {
    scheme: String,
    /// Between the scheme and the path: `://` and an authority.
    authority: String,
    path: String,
    /// The text after the place where some reader ends the path.
    end: String,
}

impl Spelled {
    fn text(&self) -> String {
        let Self { scheme, authority, path, end } = self;
        format!("{scheme}{authority}{path}{end}")
    }

    fn is_file(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("file")
    }

    fn has_host(&self) -> bool {
        self.authority.len() > "://".len() && !self.is_file()
    }
}

/// The places of a character that `is_place` selects; one of them is replaced.
fn replace_one(
    text: &str,
    at: Index,
    is_place: impl Fn(char) -> bool,
    with: impl Fn(char) -> String,
) -> Option<String> {
    let escaped = |place: usize| {
        (1..=2).any(|back| place.checked_sub(back).and_then(|at| text.get(at..=at)) == Some("%"))
    };
    let places: Vec<_> =
        text.char_indices().filter(|(at, char)| is_place(*char) && !escaped(*at)).collect();
    let (place, char) = *places.get(at.index(places.len().max(1)))?;
    let (before, behind) = (text.get(..place)?, text.get(place + char.len_utf8()..)?);
    Some(format!("{before}{}{behind}", with(char)))
}

fn in_path(
    spelled: &Spelled,
    at: Index,
    is_place: impl Fn(char) -> bool,
    with: impl Fn(char) -> String,
) -> Option<Spelled> {
    let path = replace_one(&spelled.path, at, is_place, with)?;
    Some(Spelled { path, ..spelled.clone() })
}

fn with_authority(spelled: &Spelled, change: impl Fn(&str) -> String) -> Option<Spelled> {
    let host = spelled.authority.strip_prefix("://").filter(|_| spelled.has_host())?;
    Some(Spelled { authority: format!("://{}", change(host)), ..spelled.clone() })
}

fn with_end(spelled: &Spelled, end: &str) -> Option<Spelled> {
    Some(Spelled { end: format!("{}{end}", spelled.end), ..spelled.clone() })
}

fn escape(char: char) -> String {
    let mut bytes = [0; 4];
    char.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn full_width(char: char) -> String {
    char::from_u32(u32::from(char) + 0xfee0).unwrap().to_string()
}

fn is_letter(char: char) -> bool {
    char.is_ascii_alphabetic()
}

fn is_slash(char: char) -> bool {
    char == '/'
}

/// Puts a text before and after the whole.
fn between(spelled: &Spelled, before: &str, behind: &str) -> Option<Spelled> {
    Some(Spelled {
        scheme: format!("{before}{}", spelled.scheme),
        end: format!("{}{behind}", spelled.end),
        ..spelled.clone()
    })
}

/// Puts a text before the scheme.
fn before_scheme(spelled: &Spelled, before: &str) -> Option<Spelled> {
    spelled.scheme.ends_with(is_letter).then(|| between(spelled, before, ""))?
}

fn with_scheme(spelled: &Spelled, from: &str, to: &str) -> Option<Spelled> {
    spelled
        .scheme
        .eq_ignore_ascii_case(from)
        .then(|| Spelled { scheme: to.into(), ..spelled.clone() })
}

/// Spellings of an address.
const ADDRESSES: &[&str] = &[
    "[::ffff:10.0.0.1]",
    "[::ffff:a00:1]",
    "[::10.0.0.1]",
    "[64:ff9b::a00:1]",
    "[2002:a00:1::]",
    "10.1",
    "167772161",
    "0xa.0.0.1",
    "012.0.0.1",
    "010.0.0.1",
];

/// One way to respell a text, at a place. `None` if there is no such place.
type Respelling = fn(&Spelled, Index) -> Option<Spelled>;

/// Respellings that RFC 3986 §6.2.2 resolves.
const SYNTAX: &[(&str, Respelling)] = &[
    ("an escape that is not needed", |text, at| in_path(text, at, is_letter, escape)),
    ("a dot escaped", |text, at| in_path(text, at, |char| char == '.', escape)),
    ("the same directory", |text, at| in_path(text, at, is_slash, |_| "/./".into())),
    ("a directory and back", |text, at| in_path(text, at, is_slash, |_| "/x/../".into())),
    ("back with escapes", |text, at| in_path(text, at, is_slash, |_| "/x/%2E%2E/".into())),
    ("upper-case scheme", |text, _| {
        let scheme = text.scheme.to_uppercase();
        (!scheme.is_empty()).then(|| Spelled { scheme, ..text.clone() })
    }),
    ("upper-case host", |text, _| with_authority(text, str::to_uppercase)),
    ("lower-case escapes", |text, _| {
        let path = text.path.replace("%2F", "%2f").replace("%C3", "%c3").replace("%2E", "%2e");
        (path != text.path).then(|| Spelled { path, ..text.clone() })
    }),
];

/// Other respellings of names, paths and URIs.
const OF_NAMES: &[(&str, Respelling)] = &[
    ("another case", |text, at| {
        in_path(text, at, is_letter, |char| char.to_ascii_uppercase().into())
    }),
    ("upper case", |text, _| {
        let path = text.path.to_uppercase().replace("%U", "%u");
        Some(Spelled { path, ..text.clone() })
    }),
    ("escaped", |text, at| in_path(text, at, is_letter, escape)),
    ("escaped twice", |text, at| {
        in_path(text, at, is_letter, |char| escape(char).replace('%', "%25"))
    }),
    ("escaped three times", |text, at| {
        in_path(text, at, is_letter, |char| escape(char).replace('%', "%2525"))
    }),
    ("escaped for IIS", |text, at| {
        in_path(text, at, is_letter, |char| format!("%u{:04x}", u32::from(char)))
    }),
    ("full width", |text, at| in_path(text, at, is_letter, full_width)),
    ("full width, escaped", |text, at| {
        in_path(text, at, is_letter, |char| full_width(char).chars().map(escape).collect())
    }),
    ("long s", |text, at| in_path(text, at, |char| char == 's', |_| "ſ".into())),
    ("Kelvin", |text, at| in_path(text, at, |char| char == 'k', |_| "\u{212a}".into())),
    ("dotless i", |text, at| in_path(text, at, |char| char == 'i', |_| "ı".into())),
    ("dotted I", |text, at| in_path(text, at, |char| char == 'i', |_| "İ".into())),
    ("a zero-width space", |text, at| {
        in_path(text, at, is_letter, |char| format!("{char}\u{200b}"))
    }),
    ("a soft hyphen, escaped", |text, at| {
        in_path(text, at, is_letter, |char| format!("{char}%C2%AD"))
    }),
    ("a variation selector", |text, at| {
        in_path(text, at, is_letter, |char| format!("{char}\u{fe0f}"))
    }),
    ("a byte order mark", |text, _| {
        (text.scheme.is_empty())
            .then(|| Spelled { path: format!("\u{feff}{}", text.path), ..text.clone() })
    }),
    ("a line break", |text, at| in_path(text, at, is_letter, |char| format!("{char}\n"))),
    ("a tab, escaped", |text, at| in_path(text, at, is_letter, |char| format!("{char}%09"))),
    ("an end at NUL", |text, _| with_end(text, "\0.txt")),
    ("an end at an escaped NUL", |text, _| with_end(text, "%00.txt")),
    ("an end at a line break", |text, _| with_end(text, "\r\nx")),
    ("a blank at the end", |text, _| with_end(text, " ")),
    ("an escaped blank at the end", |text, _| with_end(text, "%20")),
    ("dots at the end", |text, _| with_end(text, "..")),
    ("a slash at the end", |text, _| with_end(text, "/")),
    ("decomposed", |text, at| in_path(text, at, |char| char == 'é', |_| "e\u{301}".into())),
    ("the reserved slash", |text, at| in_path(text, at, is_slash, |_| "%2F".into())),
    ("a slash escaped twice", |text, at| in_path(text, at, is_slash, |_| "%252f".into())),
    ("a full-width slash", |text, at| in_path(text, at, is_slash, |_| "／".into())),
    ("a division slash", |text, at| in_path(text, at, is_slash, |_| "\u{2215}".into())),
    ("a backslash", |text, at| in_path(text, at, is_slash, |_| "\\".into())),
    ("an escaped backslash", |text, at| in_path(text, at, is_slash, |_| "%5C".into())),
    ("a yen sign", |text, at| in_path(text, at, is_slash, |_| "¥".into())),
    ("two slashes", |text, at| in_path(text, at, is_slash, |_| "//".into())),
    ("a dot before a slash", |text, at| in_path(text, at, is_slash, |_| "./".into())),
    ("a blank before a slash", |text, at| in_path(text, at, is_slash, |_| "%20/".into())),
    ("escaped for HTML", |text, at| {
        in_path(text, at, is_letter, |char| format!("&#{};", u32::from(char)))
    }),
    ("escaped for HTML in hexadecimal", |text, at| {
        in_path(text, at, is_letter, |char| format!("&#x{:X};", u32::from(char)))
    }),
    ("escaped for JSON", |text, at| {
        in_path(text, at, is_letter, |char| format!("\\u{:04x}", u32::from(char)))
    }),
    ("escaped for C", |text, at| {
        in_path(text, at, is_letter, |char| format!("\\x{:02x}", u32::from(char)))
    }),
    ("a format character", |text, at| {
        in_path(text, at, is_letter, |char| format!("{char}\u{2064}"))
    }),
];

/// Respellings of names and URIs: delimiters around them.
const DELIMITED: &[(&str, Respelling)] = &[
    ("between angle brackets", |text, _| between(text, "<", ">")),
    ("between quotation marks", |text, _| between(text, "\"", "\"")),
    ("between apostrophes", |text, _| between(text, "'", "'")),
    ("between printed quotation marks", |text, _| between(text, "“", "”")),
    ("between parentheses", |text, _| between(text, "(", ")")),
    ("between corner brackets", |text, _| between(text, "「", "」")),
    ("between escaped quotation marks", |text, _| between(text, "%22", "%22")),
];

/// Respellings of tools, prompts and methods only.
const SEPARATORS: &[(&str, Respelling)] = &[
    ("with a comma", |text, _| between(text, "", ",")),
    ("with parentheses", |text, _| between(text, "", "()")),
    ("a hyphen", |text, at| in_path(text, at, |char| char == '_', |_| "-".into())),
    ("a blank", |text, at| in_path(text, at, |char| char == '_', |_| " ".into())),
    ("an en dash", |text, at| in_path(text, at, |char| char == '_', |_| "–".into())),
    ("a blank before", |text, _| Some(Spelled { path: format!(" {}", text.path), ..text.clone() })),
];

/// Respellings of paths and URIs only.
const OF_PATHS: &[(&str, Respelling)] = &[
    ("parameters", |text, at| in_path(text, at, is_slash, |_| ";v=1/".into())),
    ("parameters of the last", |text, _| with_end(text, ";jsessionid=1")),
    ("back with parameters", |text, at| in_path(text, at, is_slash, |_| "/x/..;/".into())),
    ("back with full-width dots", |text, at| in_path(text, at, is_slash, |_| "/x/．．/".into())),
    ("back with escaped slashes", |text, at| in_path(text, at, is_slash, |_| "/x%2F..%2F".into())),
    ("back with two escapes", |text, at| in_path(text, at, is_slash, |_| "/x/%252e%252e/".into())),
    ("back twice", |text, at| in_path(text, at, is_slash, |_| "/x/y/../../".into())),
    ("back, as a reader that does not decode", |text, at| {
        in_path(text, at, is_slash, |_| "/x%2Fy/../".into())
    }),
];

/// Respellings of URIs only.
const OF_URIS: &[(&str, Respelling)] = &[
    ("a query", |text, _| with_end(text, "?a=1")),
    ("a fragment", |text, _| with_end(text, "#a")),
    ("an escaped fragment", |text, _| with_end(text, "%23a")),
    ("a full-width query", |text, _| with_end(text, "？a")),
    ("a template", |text, _| with_end(text, "{?x}")),
    ("user information", |text, _| with_authority(text, |host| format!("me:1@{host}"))),
    ("the default port", |text, _| {
        (text.scheme.eq_ignore_ascii_case("https") && !text.authority.ends_with("443"))
            .then(|| with_authority(text, |host| format!("{host}:443")))?
    }),
    ("a dot after the host", |text, _| {
        (!text.authority.ends_with("443"))
            .then(|| with_authority(text, |host| format!("{host}.")))?
    }),
    ("an ideographic dot in the host", |text, _| {
        with_authority(text, |host| host.replacen('.', "。", 1))
    }),
    ("one slash", |text, _| {
        (text.is_file() && text.authority == "://")
            .then(|| Spelled { authority: ":".into(), ..text.clone() })
    }),
    ("no host by name", |text, _| {
        (text.is_file() && text.authority == "://")
            .then(|| Spelled { authority: "://localhost".into(), ..text.clone() })
    }),
    ("no host by address", |text, _| {
        (text.is_file() && text.authority == "://")
            .then(|| Spelled { authority: "://127.1".into(), ..text.clone() })
    }),
    ("a host that is ignored", |text, _| {
        (text.is_file() && text.authority == "://")
            .then(|| Spelled { authority: "://other".into(), ..text.clone() })
    }),
    ("no scheme", |text, _| {
        (text.is_file() && text.authority == "://").then(|| Spelled {
            scheme: String::new(),
            authority: String::new(),
            ..text.clone()
        })
    }),
    ("a stream", |text, _| text.is_file().then(|| with_end(text, "::$DATA"))?),
    ("backslashes after the scheme", |text, _| {
        (text.authority.contains("//"))
            .then(|| Spelled { authority: text.authority.replace('/', "\\"), ..text.clone() })
    }),
    ("an escaped colon", |text, _| {
        (text.authority.starts_with(':'))
            .then(|| Spelled { authority: text.authority.replacen(':', "%3A", 1), ..text.clone() })
    }),
    ("a blank before", |text, _| {
        Some(Spelled { scheme: format!(" {}", text.scheme), ..text.clone() })
    }),
    ("after URL:", |text, _| before_scheme(text, "URL:")),
    ("after a scheme for archives", |text, _| between(&before_scheme(text, "jar:")?, "", "!/x")),
    ("after a scheme for views", |text, _| before_scheme(text, "view-source:")),
    ("after an unknown scheme", |text, _| before_scheme(text, "x-a.b:")),
    ("after an unknown scheme and slashes", |text, _| before_scheme(text, "x://")),
    ("after a word and a line", |text, _| before_scheme(text, "local_")),
    ("after a word and a plus", |text, _| before_scheme(text, "git+")),
    ("in a query", |text, _| before_scheme(text, "https://other.example/?u=")),
    ("in a function", |text, _| between(&before_scheme(text, "url(")?, "", ")")),
    ("a file by another scheme", |text, _| {
        (text.authority == "://").then(|| with_scheme(text, "file", "netdoc"))?
    }),
    ("a web server by another scheme", |text, _| with_scheme(text, "https", "feed")),
    ("relative to a scheme", |text, _| {
        let authority = text.authority.strip_prefix(':').filter(|_| text.has_host())?;
        let has_one_scheme = !text.scheme.is_empty() && text.scheme.chars().all(is_letter);
        has_one_scheme.then(|| Spelled {
            scheme: String::new(),
            authority: authority.into(),
            ..text.clone()
        })
    }),
    ("an address in another form", |text, at| {
        let host = text.authority.contains("10.0.0.1").then_some("10.0.0.1")?;
        let other = ADDRESSES[at.index(ADDRESSES.len())];
        (text.authority.matches([':', '@', '[']).count() == 1)
            .then(|| with_authority(text, |authority| authority.replace(host, other)))?
    }),
    ("a variable without a value", |text, at| {
        in_path(text, at, is_letter, |char| format!("{char}{{+x}}"))
    }),
    ("form blanks", |text, _| {
        let path = text.path.replace("%20", "+");
        (path != text.path).then(|| Spelled { path, ..text.clone() })
    }),
];

const SEGMENTS: &[&str] = &["data", "secret", "plan.txt", "disks", "café", "a%20b", "v1", "kiosk"];
const WORDS: &[&str] =
    &["get_salary", "delete_user", "risk", "café_list", "fs/delete", "k8s.apply"];

fn path() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(SEGMENTS), 1..5)
}

fn places() -> impl Strategy<Value = Vec<(Index, Index)>> {
    prop::collection::vec(any::<(Index, Index)>(), 1..4)
}

/// Composes respellings of these tables.
fn respelled(
    text: &Spelled,
    tables: &[&[(&'static str, Respelling)]],
    places: &[(Index, Index)],
) -> (Spelled, Vec<&'static str>) {
    let all = tables.concat();
    let (mut text, mut kinds) = (text.clone(), Vec::new());
    for (which, at) in places {
        let (kind, respell) = all[which.index(all.len())];
        if let Some(respelled) = respell(&text, *at) {
            text = respelled;
            kinds.push(kind);
        }
    }
    (text, kinds)
}

/// Every way in which a policy can deny what a rule names.
fn denying(all: &Rules, rule: &Rule, patterns: &[String]) -> Vec<(&'static str, Box<dyn Policy>)> {
    let exception = || Rules::new().allow(rule.clone());
    let patterns = patterns.to_vec();
    let closure = policy_fn(move |_, call: &Call<'_>| {
        let is_denied = patterns.iter().any(|pattern| call.may_name(pattern));
        if is_denied { Decision::deny(call) } else { Decision::allow() }
    });
    let inner = |call: &Call<'_>| {
        if matches!(call, Call::List { .. }) { Decision::allow() } else { Decision::deny(call) }
    };
    let nothing = policy_fn(move |_, call: &Call<'_>| inner(call));
    vec![
        ("deny", Box::new(all.clone().deny(rule.clone()))),
        ("unless", Box::new(all.clone().unless(exception()))),
        ("and", Box::new(all.clone().and(all.clone().deny(rule.clone())))),
        ("or", Box::new(all.clone().deny(rule.clone()).or(nothing))),
        ("handle", Box::new(PolicyHandle::new(all.clone()).unless(PolicyHandle::new(exception())))),
        ("unless or", Box::new(all.clone().unless(Rules::new().or(exception())))),
        ("unless and", Box::new(all.clone().unless(exception().and(all.clone())))),
        (
            "unless unless",
            Box::new(all.clone().unless(all.clone().unless(all.clone().deny(rule.clone())))),
        ),
        ("closure", Box::new(closure)),
    ]
}

fn expect_denied(
    all: &Rules,
    rule: &Rule,
    patterns: &[String],
    call: &Call<'_>,
    kinds: &[&str],
) -> Result<(), TestCaseError> {
    for (how, policy) in denying(all, rule, patterns) {
        let decision = policy.decide(&caller(""), call);
        prop_assert!(decision.is_denied(), "{how} {patterns:?} {call:?} {kinds:?}");
    }
    Ok(())
}

fn is_ascii_text(text: &str) -> String {
    text.replace('é', "%C3%A9")
}

proptest! {
    #[test]
    fn j421_no_respelling_of_a_denied_uri_passes(
        (scheme, authority) in prop::sample::select(&[
            ("file", "://"),
            ("https", "://api.example.com"),
            ("https", "://bücher.example"),
            ("repo", "://acme"),
            ("ui", "://widget"),
            ("https", "://10.0.0.1"),
        ][..]),
        segments in path(),
        star in prop::option::of(any::<Index>()),
        places in places(),
    ) {
        let path = format!("/{}", segments.join("/"));
        let canonical = Spelled {
            scheme: scheme.into(),
            authority: authority.into(),
            path,
            end: String::new(),
        };
        // The rule names the URI, or what is below or around one of its segments.
        let pattern = match star.map(|star| star.index(segments.len())) {
            None => canonical.text(),
            Some(0) => format!("{scheme}{authority}/{}*", segments[0]),
            Some(at) if at % 2 == 0 => {
                format!("{scheme}{authority}/{}/*", segments[..at].join("/"))
            }
            Some(at) => {
                let mut segments = segments.clone();
                segments[at - 1] = "*";
                format!("{scheme}{authority}/{}", segments.join("/"))
            }
        };
        let rule = resources([pattern.as_str()]);
        let (text, kinds) =
            respelled(&canonical, &[SYNTAX, OF_NAMES, OF_PATHS, OF_URIS, DELIMITED], &places);
        let uri = text.text();
        // Rules name an ambiguous URI exactly, so that only the denial can refuse it.
        let all = Rules::new().allow(resources(["*", uri.as_str()]));
        let call = Call::Resource { uri: &uri };
        expect_denied(&all, &rule, std::slice::from_ref(&pattern), &call, &kinds)?;
    }

    #[test]
    fn j422_no_respelling_of_a_denied_name_passes(
        word in prop::sample::select(WORDS),
        stars in any::<Option<bool>>(),
        places in places(),
    ) {
        let canonical = Spelled {
            scheme: String::new(),
            authority: String::new(),
            path: word.into(),
            end: String::new(),
        };
        let pattern = match stars {
            None => word.to_owned(),
            Some(true) => format!("{}*", word.get(..3).unwrap()),
            Some(false) => format!("*{}", word.get(1..).unwrap()),
        };
        let (text, kinds) = respelled(&canonical, &[OF_NAMES, SEPARATORS, DELIMITED], &places);
        let name = text.text();
        let all = Rules::new().allow(tools(["*"])).allow(prompts(["*"])).allow(methods(["*"]));
        let arguments = Arguments::unknown();
        let patterns = [pattern.clone()];
        for (rule, call) in [
            (tools([pattern.as_str()]), Call::Tool { name: &name, arguments }),
            (prompts([pattern.as_str()]), Call::Prompt { name: &name, arguments }),
            (methods([pattern.as_str()]), Call::Method { method: &name }),
        ] {
            expect_denied(&all, &rule, &patterns, &call, &kinds)?;
        }
    }

    #[test]
    fn j424_no_respelling_of_a_denied_path_passes(
        segments in path(),
        any in prop::option::of(any::<Index>()),
        has_rest in any::<bool>(),
        places in places(),
    ) {
        let path = format!("/{}", segments.join("/"));
        let canonical =
            Spelled { scheme: String::new(), authority: String::new(), path, end: String::new() };
        let mut template: Vec<_> = segments.iter().map(|it| is_ascii_text(it)).collect();
        if let Some(at) = any {
            template[at.index(segments.len())] = "{id}".into();
        }
        if has_rest && segments.len() > 1 {
            *template.last_mut().unwrap() = "{*rest}".into();
        }
        let template = format!("/{}", template.join("/"));
        let rule = path_rule(Method::GET, &template);
        let (text, kinds) = respelled(&canonical, &[SYNTAX, OF_NAMES, OF_PATHS], &places);
        let path = text.text();
        let all = Rules::new().allow(path_rule(Method::GET, "/{*rest}"));
        let call = Call::Http { method: &Method::GET, path: &path };
        expect_denied(&all, &rule, &[template], &call, &kinds)?;
    }

    #[test]
    fn an_allowed_uri_passes_in_its_canonical_text_only(
        (scheme, authority) in prop::sample::select(&[
            ("file", "://"),
            ("https", "://api.example.com"),
        ][..]),
        segments in path(),
        places in places(),
    ) {
        let path = format!("/{}", is_ascii_text(&segments.join("/")));
        let (scheme, authority) = (scheme.into(), authority.into());
        let canonical = Spelled { scheme, authority, path, end: String::new() };
        let uri = canonical.text();
        let allows = |rules: &Rules, uri: &str| {
            rules.decide(&caller(""), &Call::Resource { uri }).is_allowed()
        };
        let exact = Rules::new().allow(resources([uri.as_str()]));
        let all = Rules::new().allow(resources(["*"]));
        prop_assert!(allows(&exact, &uri) && allows(&all, &uri), "{}", uri);
        let (text, kinds) = respelled(&canonical, &[SYNTAX, OF_NAMES, OF_PATHS, OF_URIS], &places);
        let other = text.text();
        prop_assert_eq!(allows(&exact, &other), other == uri, "{} {:?}", other, kinds);
        let (text, kinds) = respelled(&canonical, &[SYNTAX], &places);
        let other = text.text();
        prop_assert_eq!(allows(&all, &other), other == uri, "{} {:?}", other, kinds);
    }
}

#[test]
fn there_are_more_than_thirty_respellings_of_each() {
    assert!(OF_NAMES.len() + SEPARATORS.len() > 30);
    assert!(SYNTAX.len() + OF_NAMES.len() + OF_PATHS.len() > 30);
}

#[test]
fn other_names_are_not_denied() {
    let denied = Rules::new()
        .allow(resources(["*"]))
        .allow(tools(["*"]))
        .allow(path_rule(Method::GET, "/{*rest}"))
        .deny(resources(["file:///data/secret/*", "https://a.example:8443/*", "repo://x/*/key"]))
        .deny(tools(["get_salary", "drop_*"]))
        .deny(path_rule(Method::GET, "/v1/admin/{id}"));
    let passes = |call: &Call<'_>| denied.decide(&caller(""), call).is_allowed();
    for uri in [
        "file:///data/secrets/x",
        "file:///data/secre",
        "file:///data/public",
        "file:///secret/x",
        "https://a.example/x",
        "https://a.example:8080/x",
        "https://b.example:8443/x",
        "repo://x/key/a",
        "ui://widget",
        "file:///data/a%2520b",
        "note:///secret/x",
        "crm://data/secret/x",
        "erp://a.example/x",
        "//b.example:8443/x",
        "https://b.example/?u=https://a.example/x",
        "jar:file:///data/a.jar!/secret/x",
        "\"file:///data/secrets/x\"",
        "urn:data:secret:x",
    ] {
        let is_written_once = !uri.contains("%25");
        assert_eq!(passes(&Call::Resource { uri }), is_written_once, "{uri}");
    }
    for name in [
        "\"get_salaries\"",
        "(get)",
        "salary()",
        "get_salaries",
        "get_salar",
        "salary",
        "dropped",
        "drop",
        "get.salary",
    ] {
        assert!(passes(&Call::Tool { name, arguments: Arguments::unknown() }), "{name}");
    }
    for path in ["/v1/admin", "/v1/administrators/7", "/v1/admin/7/notes", "/v2/admin/7"] {
        assert!(passes(&Call::Http { method: &Method::GET, path }), "{path}");
    }
}

#[test]
fn j426_a_text_without_bounded_readings_is_denied() {
    let all = || Rules::new().allow(tools(["*"])).allow(resources(["*", "a%FF", "u@v@w:"]));
    let nested = format!("a%25{}41", "25".repeat(20));
    let ends = "?".repeat(100);
    for uri in ["file:///a%FF", "file:///%C0%AF", &nested, &ends, "https://a@b@c/"] {
        let exact = all().allow(resources([uri]));
        let decide =
            |rules: &Rules| rules.decide(&caller(""), &Call::Resource { uri }).is_allowed();
        assert!(decide(&exact), "{uri}");
        let unrelated = exact.clone().deny(resources(["repo:*"]));
        assert!(!decide(&unrelated), "J426 {uri}");
        let of_another_kind = exact.clone().deny(tools(["x"]));
        assert!(decide(&of_another_kind), "{uri}");
        let for_others = exact.clone().deny(resources(["repo:*"]).for_group("guests"));
        assert!(decide(&for_others), "{uri}");
        let call = Call::Resource { uri };
        assert!(call.may_name("repo:*"), "J426 {uri}");
        let unless = exact.unless(Rules::new().allow(resources(["repo:*"])));
        assert!(unless.decide(&caller(""), &call).is_denied(), "J426 {uri}");
    }
}

#[test]
fn j425_what_an_exception_leaves_out_is_compared_as_written() {
    let all = || Rules::new().allow(tools(["*"]));
    let exception = || Rules::new().allow(tools(["fs_*"])).deny(tools(["fs_read"]));
    for policy in [
        all().unless(exception()),
        all().unless(Rules::new().allow(tools(["fs_*"])).deny(tools(["fs_read"]))),
    ] {
        let is_allowed = |name| {
            let call = Call::Tool { name, arguments: Arguments::unknown() };
            policy.decide(&caller(""), &call).is_allowed()
        };
        assert!(is_allowed("fs_read"));
        for name in ["fs_write", "FS_write", "FS_READ", "fs_read ", "fs-read"] {
            assert!(!is_allowed(name), "J425 {name}");
        }
    }
}

#[test]
fn j421_a_file_of_this_machine_by_an_unknown_scheme_is_denied() {
    let rule = resources(["file:///data/*"]);
    let denied = |uri: &str| {
        let all = Rules::new().allow(resources(["*", uri]));
        let policy = all.deny(rule.clone());
        policy.decide(&caller(""), &Call::Resource { uri }).is_denied()
    };
    for host in [".", "", "localhost", "127.0.0.1", "[::1]", "a@", "%2E", "a.localhost", "."] {
        let uri = format!("netdoc://{host}/data/plan.txt");
        assert!(denied(&uri), "J421 {uri}");
    }
    // Of another host or another path, it is another resource.
    for uri in ["repo://acme/data/plan.txt", "repo://./other/plan.txt", "repo://localhost/other"] {
        assert!(!denied(uri), "J421 {uri}");
    }
}
