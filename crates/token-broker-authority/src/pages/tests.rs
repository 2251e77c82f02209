//! Each page as the text that a screen reader reads, with ordinary and hostile names.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, header};
use regex::Regex;
use tower_token_broker::{
    clock::Timestamp,
    principal::{Resource, User},
    request_id::RequestId,
};

use super::{sign_in::SignInProblem, *};
use crate::{
    ErrorCode,
    authorize::{
        AuthorizePageError, ClientIdentity, ConsentClient, ConsentRedirect, ConsentRequest,
        ConsentScope, ConsentServer, RedirectTarget, RefusedRequest, SignedIn,
    },
};

fn site() -> Site {
    Site::new("https://broker.example.com")
        .unwrap()
        .server("crm", "https://broker.example.com/crm/mcp")
        .link_command("token-broker users link")
}

fn now() -> Timestamp {
    Timestamp::from_unix_seconds(1_795_500_000)
}

fn ago(seconds: u64) -> Timestamp {
    now().minus(Duration::from_secs(seconds))
}

fn user(name: &str) -> SignedIn {
    SignedIn::new(User::new("https://broker.example.com", "u1"), name, "s1", "csrf-token")
}

fn server(name: &str, title: &str, scopes: &[(&str, Option<&str>)]) -> ConsentServer {
    let resource = Resource::parse(&format!("https://broker.example.com/{name}/mcp")).unwrap();
    let scopes = scopes.iter().map(|(name, text)| ConsentScope::new(name, *text)).collect();
    ConsentServer::new(resource, title, scopes)
}

fn crm(title: &str, text: &str) -> ConsentServer {
    server("crm", title, &[("crm:read", Some(text)), ("crm:write", None)])
}

fn loopback() -> ConsentRedirect {
    let uri = "http://127.0.0.1:33418/callback";
    ConsentRedirect::new(uri, "127.0.0.1:33418", RedirectTarget::Loopback)
}

fn registered(name: Option<&str>) -> ConsentClient {
    let identity = ClientIdentity::SelfRegistered { since: Duration::from_secs(600) };
    ConsentClient::new("b2f1c0d4e5a697887766554433221100", name, identity)
}

fn consent_of(client: ConsentClient, redirect: ConsentRedirect) -> Response<Bytes> {
    let servers = vec![crm("CRM", "read contacts")];
    consent(&site(), &user("alice"), &ConsentRequest::new(client, redirect, servers, "sealed"))
}

fn connections_of(name: &str, scope: &str) -> Response<Bytes> {
    let family = |id: &str, used| {
        ClientFamily::new(id, "CRM", ago(259_200), now().plus(Duration::from_secs(2_592_000)))
            .scopes(vec![scope.into(), "create contacts".into()])
            .last_used(used)
    };
    let url = "https://client.example/oauth/metadata.json";
    let clients = vec![
        ConnectedClient::new(
            "b2f1c0d4e5a697887766554433221100",
            Some(name),
            vec![family("f1", Some(ago(600))), family("f2", None)],
        )
        .identity(ClientIdentity::SelfRegistered { since: Duration::from_secs(259_200) }),
        ConnectedClient::new(url, Some("Inspector"), vec![family("f3", Some(ago(5)))])
            .identity(ClientIdentity::MetadataDocument { host: "client.example".into() }),
    ];
    connections(&site(), &user("alice"), (&ConnectionsView::new(clients), None), None, now())
}

fn sign_in_of(waiting: Option<&str>, problem: Option<SignInProblem>) -> Response<Bytes> {
    let user_name = if problem.is_some() { "alice" } else { "" };
    let pending = waiting.map(|_| "sealed");
    let view = SignInView { waiting, pending, user_name, csrf: "csrf-token", problem };
    sign_in(&site(), &view)
}

fn first_account_of(problem: Option<FirstAccountProblem>) -> Response<Bytes> {
    let (link, csrf, fewest_characters) = ("link", "csrf-token", 15);
    let link_ends = now().plus(Duration::from_secs(3_540));
    let view =
        FirstAccountView { link, user_name: "", link_ends, csrf, fewest_characters, problem };
    first_account(&site(), &view, now())
}

fn password_of(is_required: bool, problem: Option<PasswordProblem>) -> Response<Bytes> {
    let view = PasswordView {
        user_name: "alice",
        pending: None,
        csrf: "csrf-token",
        fewest_characters: 15,
        is_required,
        problem,
    };
    password(&site(), &view)
}

/// Every page once, by name.
fn all() -> Vec<(String, Response<Bytes>)> {
    let custom = ConsentRedirect::new("cursor://cb", "cursor:", RedirectTarget::CustomScheme);
    let web = ConsentRedirect::new("https://c.example/cb", "c.example", RedirectTarget::Web);
    let document = ClientIdentity::MetadataDocument { host: "claude.ai".into() };
    let document = ConsentClient::new("https://claude.ai/oauth/c.json", Some("Claude"), document);
    let configured = ConsentClient::new("ci", Some("CI"), ClientIdentity::Configured);
    let several = vec![crm("CRM", "read contacts"), server("mail", "Mail", &[])];
    let several =
        ConsentRequest::new(registered(Some("Claude Code")), loopback(), several, "sealed");
    let (short, wait) = ("This password is too short.", Duration::from_secs(90));
    let wrong = PasswordProblem::Current(SignInProblem::Wrong);
    let empty = ConnectionsView::new(Vec::new());
    let mut pages = vec![
        ("consent, registered, loopback", consent_of(registered(Some("Claude Code")), loopback())),
        ("consent, no name, custom scheme", consent_of(registered(None), custom)),
        ("consent, document, web", consent_of(document, web.clone())),
        ("consent, configured", consent_of(configured, web)),
        ("consent, several servers", consent(&site(), &user("alice"), &several)),
        ("sign-in", sign_in_of(None, None)),
        ("sign-in, waiting, wrong", sign_in_of(Some("Claude Code"), Some(SignInProblem::Wrong))),
        ("sign-in, throttled", sign_in_of(None, Some(SignInProblem::Throttled(wait)))),
        ("sign-in, busy", sign_in_of(None, Some(SignInProblem::Busy(Duration::from_secs(5))))),
        ("first account", first_account_of(None)),
        ("first account, short", first_account_of(Some(FirstAccountProblem::Password(short)))),
        ("first account, name", first_account_of(Some(FirstAccountProblem::UserName("No.")))),
        ("password, required", password_of(true, None)),
        ("password, wrong", password_of(false, Some(wrong))),
        ("password, short", password_of(false, Some(PasswordProblem::New(short)))),
        ("connections", connections_of("Claude Code", "read contacts")),
        ("connections, empty", connections(&site(), &user("alice"), (&empty, None), None, now())),
        ("connections, unreadable", {
            let view = ConnectionsView::new(Vec::new()).unreadable(1);
            connections(&site(), &user("alice"), (&view, None), None, now())
        }),
        ("connections, ended", {
            let notice = Some(Notice::Ended);
            connections(&site(), &user("alice"), (&empty.clone().and_more(), None), notice, now())
        }),
        ("signed out", signed_out(&site(), SignedOut::Here)),
        ("signed out everywhere", signed_out(&site(), SignedOut::Everywhere)),
    ]
    .into_iter()
    .map(|(name, page)| (name.to_owned(), page))
    .collect::<Vec<_>>();
    let id = RequestId::from_bits([7; 16]);
    for of in PageError::ALL {
        pages.push((format!("error {of:?}"), error(&site(), *of, id)));
    }
    for of in AuthorizePageError::ALL {
        pages.push((format!("error of authorize {of:?}"), authorize_error(&site(), *of, id)));
    }
    pages
}

fn html(page: &Response<Bytes>) -> &str {
    str::from_utf8(page.body()).unwrap()
}

/// The text of a page in reading order: roles, names and states, as a screen reader has them.
fn spoken(page: &Response<Bytes>) -> String {
    let of = |pattern: &str, by: &str, text: &str| {
        Regex::new(pattern).unwrap().replace_all(text, by).into_owned()
    };
    let text = html(page).split_once("<body>").unwrap().1.to_owned();
    let text = of(r"(?s)<svg.*?</svg>|<div[^>]*aria-hidden.*?</div>", "", &text);
    let text = of(r#"<input[^>]*type="hidden"[^>]*>"#, "", &text);
    let text = of(r#"<input[^>]*type="(\w+)"([^>]*)>"#, "[$1]", &text);
    let text =
        of(r#"<button[^>]*aria-label="([^"]*)"[^>]*>.*?</button>"#, "\n(button: $1)\n", &text);
    let text = of(r"<button[^>]*>(.*?)</button>", "\n(button: $1)\n", &text);
    let text = of(r#"<a[^>]*href="([^"]*)"[^>]*>(.*?)</a>"#, "(link: $2)", &text);
    let text = of(r"<h([1-6])[^>]*>", "\n#$1 ", &text);
    let text = of(r#"<p[^>]*role="(\w+)"[^>]*>"#, "\n($1) ", &text);
    let text = of(r"<li[^>]*>", "\n- ", &text);
    let text = of(
        r"</?(p|div|dt|section|form|label|legend|ul|dl|h\d|header|footer|pre)[^>]*>",
        "\n",
        &text,
    );
    let text = of(r"<[^>]*>", "", &text);
    let text = text.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">");
    let lines = text.replace("&amp;", "&");
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn each_page_reads_well() {
    let pages = all();
    let text = pages
        .iter()
        .map(|(name, page)| format!("=== {name} ({})\n{}\n", page.status().as_u16(), spoken(page)));
    insta::assert_snapshot!(text.collect::<Vec<_>>().join("\n"));
}

#[test]
fn a_page_weighs_less_than_20_kib() {
    let style = style_sheet(style::style_path()).unwrap().body().len();
    for (name, page) in all() {
        let weight = page.body().len() + style;
        assert!(weight < 20 * 1024, "{name}: {weight} bytes");
    }
}

#[test]
fn d101_each_page_has_the_headers_that_protect_it() {
    for (name, page) in all() {
        let header = |name: header::HeaderName| page.headers()[name].to_str().unwrap();
        let policy = header(header::CONTENT_SECURITY_POLICY);
        for directive in
            ["default-src 'none'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"]
        {
            assert!(policy.split("; ").any(|found| found == directive), "D101 {name}: {policy}");
        }
        let has_form_action = policy.contains("; form-action 'self'");
        assert_eq!(has_form_action, !name.starts_with("consent"), "D101 {name}: {policy}");
        assert!(!policy.contains("unsafe"), "D101 {name}");
        assert_eq!(header(header::X_FRAME_OPTIONS), "DENY", "D101 {name}");
        assert_eq!(header(header::CACHE_CONTROL), "no-store", "D101 {name}");
        assert_eq!(header(header::REFERRER_POLICY), "same-origin", "D101 {name}");
        assert_eq!(header(header::X_CONTENT_TYPE_OPTIONS), "nosniff", "D101 {name}");
        assert_eq!(header(header::CONTENT_TYPE), "text/html; charset=utf-8", "D101 {name}");
    }
}

#[test]
fn pages_load_the_style_sheet_only() {
    let forbidden = Regex::new(
        r"(?i)<(script|style|img|iframe|object|embed|base)|\son\w+=|\sstyle=|javascript:",
    );
    let (forbidden, loaded) = (forbidden.unwrap(), Regex::new(r#"(src|href)="([^"]*)""#).unwrap());
    for (name, page) in all() {
        assert!(!forbidden.is_match(html(&page)), "{name}");
        for found in loaded.captures_iter(html(&page)) {
            assert!(
                found[2].starts_with('/') && !found[2].starts_with("//"),
                "{name}: {}",
                &found[2]
            );
        }
    }
}

#[test]
fn every_field_has_a_label_and_every_problem_its_field() {
    let input = Regex::new(r#"<input id="(\w+)""#).unwrap();
    let described = Regex::new(r#"aria-describedby="([^"]*)""#).unwrap();
    let mut inputs = 0;
    for (name, page) in all() {
        let html = html(&page);
        for id in input.captures_iter(html) {
            assert!(html.contains(&format!("<label for=\"{}\">", &id[1])), "{name}: {}", &id[1]);
            inputs += 1;
        }
        for ids in described.captures_iter(html) {
            for id in ids[1].split(' ') {
                assert!(html.contains(&format!("id=\"{id}\"")), "{name}: {id}");
            }
        }
        assert_eq!(html.matches("<h1>").count(), 1, "{name}");
        assert_eq!(html.matches("autofocus").count().min(1), html.matches("autofocus").count());
    }
    assert!(inputs > 10);
}

#[test]
fn allow_is_neither_the_default_nor_focused() {
    for (name, page) in all().iter().filter(|(name, _)| name.starts_with("consent")) {
        let form = html(page).split_once("<form class=\"decision\"").unwrap().1;
        let (deny, allow) =
            (form.find("value=\"deny\"").unwrap(), form.find("value=\"allow\"").unwrap());
        // The first button of a form is the one of the return key.
        assert!(deny < allow && !form.contains("autofocus") && !form.contains("checked"), "{name}");
    }
}

const HOSTILE: &[&str] = &[
    "\u{202e}edoC edualC",
    "</title><script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onfocus='alert(1)' autofocus='",
    "&lt;b&gt;",
    "👩\u{200d}💻🏴\u{e0067}\u{e007f}",
    "e\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}",
    "",
    "   ",
    "\0\r\n\t",
    "Claude Code (verified by broker.example.com)",
];

#[test]
fn d522_hostile_names_stay_text() {
    let long = "\u{1f600}<".repeat(5_000);
    let attributes = Regex::new(r#"<[a-z]+(\s+[\w-]+(="[^"]*")?)*\s+on\w+="#).unwrap();
    for name in HOSTILE.iter().copied().chain([&*long]) {
        let request = ConsentRequest::new(
            ConsentClient::new(
                name,
                Some(name),
                ClientIdentity::MetadataDocument { host: name.into() },
            ),
            ConsentRedirect::new(name, name, RedirectTarget::CustomScheme),
            vec![crm(name, name), crm(name, name)],
            "sealed",
        );
        let one = ConsentRequest { servers: vec![crm(name, name)], ..request.clone() };
        for page in [
            consent(&site(), &user(name), &request),
            consent(&site(), &user(name), &one),
            sign_in_of(Some(name), None),
            connections_of(name, name),
        ] {
            let html = html(&page);
            assert_eq!(page.status(), StatusCode::OK);
            for (open, most) in [("<script", 0), ("<img", 0), ("<title>", 1), ("</title>", 1)] {
                assert_eq!(html.matches(open).count(), most, "D522 {name:.40}");
            }
            assert!(!html.contains('\u{202e}') && !html.contains('\0'), "D521 {name:.40}");
            assert!(!attributes.is_match(html), "D522 {name:.40}");
            let weight = html.len();
            assert!(weight < 20 * 1024, "D522: {weight} bytes");
        }
    }
}

fn refused_of(client: ConsentClient, redirect: ConsentRedirect) -> Response<Bytes> {
    let link = format!("{}?error=invalid_scope&state=a%22&iss=x", redirect.uri);
    let refused = RefusedRequest::new(ErrorCode::InvalidScope, client, redirect, &link);
    refused_request(&site(), &refused, RequestId::from_bits([7; 16]))
}

#[test]
fn d531_the_page_of_a_refused_request_shows_where_its_link_leads() {
    let web = ConsentRedirect::new("https://c.example/cb", "c.example", RedirectTarget::Web);
    let page = refused_of(registered(Some("Claude Code")), web);
    assert_eq!(page.status(), StatusCode::BAD_REQUEST, "D531");
    let expected = "token-broker\n#1 That did not work\nAn application that says it is Claude \
         Code sent you here with a request that this broker refuses (invalid_scope).\nIf you came \
         here from it on purpose, go back to it. If you did not expect this page, close this \
         window.\n(link: Go to c.example)";
    assert!(spoken(&page).starts_with(expected), "D531 {}", spoken(&page));
    let href = "href=\"https://c.example/cb?error=invalid_scope&amp;state=a%22&amp;iss=x\"";
    assert!(html(&page).contains(href), "D531 {}", html(&page));
    // Only the user leaves the page.
    assert!(!page.headers().contains_key("refresh") && !html(&page).contains("http-equiv"));
    for name in HOSTILE {
        let redirect = ConsentRedirect::new("app.example:/cb", name, RedirectTarget::CustomScheme);
        let page = refused_of(registered(Some(name)), redirect);
        let html = html(&page);
        assert!(!html.contains("<script") && !html.contains("<img"), "D522 {name}");
        assert!(!html.contains('\u{202e}') && !html.contains('\0'), "D521 {name}");
        assert_eq!(html.matches("<a ").count(), 1, "D531 {name}");
    }
}

#[test]
fn no_markup_is_written_by_hand() {
    // All markup comes from `html!`, which escapes.
    for (name, source) in [
        ("connections", include_str!("connections.rs")),
        ("consent", include_str!("consent.rs")),
        ("error", include_str!("error.rs")),
        ("first_account", include_str!("first_account.rs")),
        ("layout", include_str!("layout.rs")),
        ("password", include_str!("password.rs")),
        ("sign_in", include_str!("sign_in.rs")),
        ("signed_out", include_str!("signed_out.rs")),
        ("times", include_str!("times.rs")),
    ] {
        assert!(!source.contains("PreEscaped"), "{name}");
    }
    assert!(!include_str!("outside.rs").contains("PreEscaped"));
}
