//! Token responses that deviate: the rotated refresh token is kept, whatever the rest states.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};

use super::*;

/// A response with a body of any bytes, whose headers state its length.
fn reply(status: &str, headers: &str, body: &[u8]) -> Reply {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n");
    Reply::Raw([head.as_bytes(), body].concat())
}

/// The members of an ordinary response.
fn members(number: usize) -> Vec<(&'static str, String)> {
    vec![
        ("access_token", format!("\"at-{number}\"")),
        ("token_type", "\"Bearer\"".to_owned()),
        ("expires_in", "3600".to_owned()),
        ("refresh_token", format!("\"rt-{number}\"")),
        ("scope", "\"crm:read\"".to_owned()),
    ]
}

fn object(members: &[(&str, String)]) -> String {
    let members: Vec<_> =
        members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

/// Returns the body of an ordinary response in which one member has another value, or is missing.
fn deviating(number: usize, member: &'static str, value: Option<&str>) -> String {
    let mut all = members(number);
    all.retain(|(name, _)| *name != member);
    // In front, so that a reader that stops at it sees none of the others.
    if let Some(value) = value {
        all.insert(0, (member, value.to_owned()));
    }
    object(&all)
}

async fn rotating_into(reply: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Harness {
    let broker = Harness::with(grant(HOUR * 2)).await;
    broker.server.next(Mode::RotatesInto(Box::new(reply)));
    broker
}

fn held(broker: &Harness) -> Secret {
    broker.grant().refresh_token.unwrap()
}

/// Asserts that the next refresh succeeds with the refresh token of the last response.
async fn expect_continued(broker: &Harness, case: &str) {
    broker.clock.advance(HOUR * 2);
    let next = broker.get().await.map(|credential| number(&credential));
    assert_eq!(next, Ok(2), "{case}: the rotated token was lost");
    let posts = broker.server.posts();
    assert_eq!(posts.len(), 2, "{case}");
    assert_eq!(form_value(&posts[1], "refresh_token"), Some("rt-1"), "{case}");
}

#[tokio::test]
async fn e119_no_deviating_member_loses_a_refresh_token() {
    let long = format!("\"{}\"", "a".repeat(64 * 1024));
    let values: [(&str, Option<&str>); 12] = [
        ("missing", None),
        ("null", Some("null")),
        ("empty", Some("\"\"")),
        ("text", Some("\"text\"")),
        ("number", Some("7")),
        ("negative", Some("-1.5e9")),
        ("boolean", Some("true")),
        ("array", Some("[\"a\"]")),
        ("object", Some("{\"a\":[1]}")),
        ("64 KiB", Some(&long)),
        ("surrogate", Some("\"\\ud800\"")),
        ("twice inside", Some("{\"a\":1,\"a\":2}")),
    ];
    let mut tried = 0;
    for member in ["access_token", "token_type", "expires_in", "scope", "id_token", "error", "x"] {
        for (kind, value) in values {
            let case = format!("E119 {member} {kind}");
            let value = value.map(str::to_owned);
            let broker = rotating_into(move |number| {
                reply("200 OK", "", deviating(number, member, value.as_deref()).as_bytes())
            })
            .await;
            let outcome = broker.get().await.map(|credential| number(&credential));
            let is_usable = match (member, kind) {
                ("access_token", "text") => true,
                ("access_token", _) => false,
                // The name of another scheme, and what is no text in place of one.
                ("token_type", "text" | "array" | "64 KiB" | "surrogate") => false,
                ("scope" | "error", "missing" | "null" | "empty") => true,
                // Scopes that exceed the requested ones, or that cannot be read; errors.
                ("scope" | "error", _) => false,
                _ => true,
            };
            assert_eq!(outcome.is_ok(), is_usable, "{case}: {outcome:?}");
            assert!(held(&broker).matches(&secret("rt-1")), "{case}");
            assert_eq!(broker.grant().state, GrantState::Active, "{case}");
            expect_continued(&broker, &case).await;
            tried += 1;
        }
    }
    assert_eq!(tried, 84);
}

#[tokio::test]
async fn e119_a_refresh_token_counts_as_one_text() {
    let longest = "r".repeat(16 * 1024);
    let (fits, too_long) = (format!("\"{longest}\""), format!("\"{longest}r\""));
    for (value, kept) in [
        (None, "rt-0"),
        (Some("null"), "rt-0"),
        (Some("\"\""), "rt-0"),
        (Some("7"), "rt-0"),
        (Some("[\"rt-9\"]"), "rt-0"),
        (Some("{\"rt\":\"rt-9\"}"), "rt-0"),
        (Some("\"\\ud800\""), "rt-0"),
        (Some(too_long.as_str()), "rt-0"),
        (Some("\"rt-8\",\"refresh_token\":\"rt-9\""), "rt-0"),
        (Some("\"rt-8\",\"refresh\\u005ftoken\":\"rt-9\""), "rt-0"),
        (Some("\"rt-8\",\"refresh_token\":7"), "rt-0"),
        (Some("\"rt-8\",\"refresh_token\":null"), "rt-8"),
        (Some("\"rt-8\",\"refresh_token\":\"rt-8\""), "rt-8"),
        (Some("\"r\""), "r"),
        (Some("\"r t \\u00e9\\n\\ud83d\\ude00\""), "r t é\n😀"),
        (Some(fits.as_str()), longest.as_str()),
        (Some("\"rt-8\",\"Refresh_Token\":\"rt-9\""), "rt-8"),
    ] {
        let body = value.map(str::to_owned);
        let broker = rotating_into(move |number| {
            reply("200 OK", "", deviating(number, "refresh_token", body.as_deref()).as_bytes())
        })
        .await;
        let case = format!("E119 {:.60}", value.unwrap_or("missing"));
        assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(1), "{case}");
        assert!(held(&broker).matches(&secret(kept)), "{case}");
    }
}

#[tokio::test]
async fn e119_tokens_in_any_visible_form_are_used() {
    for (access_token, is_sent) in [
        ("u:g:s", true),
        ("00D!AR8AQ", true),
        ("1!Dgs_|x", true),
        ("a{b}[c](d)<e>'f'\\\\g/h?i=j&k%l#m@n$o^p*q+r~s;t`u", true),
        ("a b", false),
        ("a,b", false),
        ("a\\\"b", false),
        ("a\\tb", false),
        ("a\\u00e9", false),
        ("a\\u007f", false),
        ("a\\r\\nx: y", false),
    ] {
        let value = format!("\"{access_token}\"");
        let broker = rotating_into(move |number| {
            reply("200 OK", "", deviating(number, "access_token", Some(&value)).as_bytes())
        })
        .await;
        assert_eq!(broker.get().await.is_ok(), is_sent, "E119 {access_token}");
        assert!(held(&broker).matches(&secret("rt-1")), "E119 {access_token}");
        expect_continued(&broker, access_token).await;
    }
}

#[tokio::test]
async fn e119_spellings_of_bearer_count_and_other_schemes_do_not() {
    for (kind, is_used) in [
        ("\"bearer\"", true),
        ("\"BEARER\"", true),
        ("\" Bearer \"", true),
        ("\"BearerToken\"", true),
        ("\"bearer_token\"", true),
        ("[\"Bearer\"]", true),
        ("\"Bearer\",\"token_type\":\"bearer\"", true),
        ("\"DPoP\"", false),
        ("\"dpop\"", false),
        ("\"mac\"", false),
        ("\"MAC\"", false),
        ("\"N_A\"", false),
        ("\"pop\"", false),
        ("\"Bearer DPoP\"", false),
        ("[\"Bearer\",\"DPoP\"]", false),
        ("\"Bearer\",\"token_type\":\"DPoP\"", false),
        ("\"ｂearer\"", false),
    ] {
        let broker = rotating_into(move |number| {
            reply("200 OK", "", deviating(number, "token_type", Some(kind)).as_bytes())
        })
        .await;
        assert_eq!(broker.get().await.is_ok(), is_used, "E119 {kind}");
        expect_continued(&broker, kind).await;
    }
}

#[tokio::test]
async fn e510_a_deeply_nested_member_costs_no_stack() {
    let nested =
        |open: &str, close: &str, depth| format!("{}1{}", open.repeat(depth), close.repeat(depth));
    for member in
        ["token_type", "scope", "error", "expires_in", "access_token", "issued_token_type", "x"]
    {
        for (open, close) in
            [("[", "]"), ("[\"Bearer\",", "]"), ("{\"code\":", "}"), ("[{\"a\":", "}]")]
        {
            for depth in [2, 100_000 / open.len()] {
                let value = nested(open, close, depth);
                let broker = rotating_into(move |number| {
                    reply("200 OK", "", deviating(number, member, Some(&value)).as_bytes())
                })
                .await;
                let is_used = match member {
                    "token_type" => open.starts_with('{') || open == "[{\"a\":",
                    "scope" | "error" | "access_token" => false,
                    _ => true,
                };
                assert_eq!(broker.get().await.is_ok(), is_used, "E510 {member} {open} {depth}");
                assert!(held(&broker).matches(&secret("rt-1")), "E510 {member} {open} {depth}");
            }
        }
    }
}

#[tokio::test]
async fn e510_scopes_are_counted_over_the_whole_response() {
    let list =
        |names: usize| -> Vec<String> { (0..names).map(|name| format!("s{name}")).collect() };
    let array = |names: &[String]| format!("[\"{}\"]", names.join("\",\""));
    let members = |names: &[String]| {
        names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(",\"scope\":")
    };
    let halves = |names: &[String]| {
        let (one, other) = names.split_at(names.len() / 2);
        format!("{},\"scope\":{}", array(one), array(other))
    };
    let text = |names: &[String], separator: &str| format!("\"{}\"", names.join(separator));
    let long = "l".repeat(8 * 1024);
    let mut cases = Vec::new();
    for (names, is_read) in [(1000, true), (1001, false), (90_000, false)] {
        let all = list(names);
        cases.push(("array", array(&all), is_read));
        cases.push(("two arrays", halves(&all), is_read));
        cases.push(("text", text(&all, " "), is_read));
        cases.push(("commas", text(&all, ","), is_read));
    }
    cases.push(("members", members(&list(1000)), true));
    cases.push(("members", members(&list(40_000)), false));
    cases.push(("long names", array(&[long.clone(), format!("{long}x")]), false));
    cases.push(("the same name", array(&vec!["a".to_owned(); 1001]), false));
    cases.push(("no name", array(&vec![String::new(); 100_000]), true));
    for (case, value, is_read) in cases {
        let length = value.len();
        let broker = rotating_into(move |number| {
            reply("200 OK", "", deviating(number, "scope", Some(&value)).as_bytes())
        })
        .await;
        // Scopes that are read are wider than those that were requested.
        let outcome = broker.get().await;
        assert_eq!(is_unavailable(&outcome), !is_read, "E510 {case} {length}: {outcome:?}");
        assert!(held(&broker).matches(&secret("rt-1")), "E510 {case} {length}");
    }
}

#[tokio::test]
async fn e119_scopes_are_read_in_each_form() {
    let wide = |scope: &'static str| async move {
        let broker = Harness::with(grant(HOUR * 2)).await;
        broker.server.next(Mode::RotatesInto(Box::new(move |number| {
            reply("200 OK", "", deviating(number, "scope", Some(scope)).as_bytes())
        })));
        let outcome = broker.needing("crm:write").await;
        let outcome = outcome.map(|credential| credential.scopes().clone());
        assert!(held(&broker).matches(&secret("rt-1")), "E119 {scope}");
        outcome
    };
    for scope in [
        "\"crm:read crm:write\"",
        "\"crm:read,crm:write\"",
        "\" crm:read , crm:write \"",
        "[\"crm:read\",\"crm:write\"]",
        "[\"crm:read crm:write\"]",
        "[null,\"crm:read\",\"\",\"crm:write\"]",
        "\"crm:read\",\"scope\":\"crm:write\"",
        "\",\"",
        "null",
    ] {
        assert_eq!(wide(scope).await, Ok(scopes("crm:read crm:write")), "E119 {scope}");
    }
    let missing = CredentialError::ScopeRequired { missing: scopes("crm:write") };
    assert_eq!(wide("\"crm:read\"").await, Err(missing));
    for wider in [
        "\"crm:read,crm:write,crm:admin\"",
        "[\"crm:read\",\"crm:admin\"]",
        "\"crm:read\",\"scope\":\"crm:admin\"",
    ] {
        assert_eq!(wide(wider).await, Err(CredentialError::RefusedByPolicy), "E119 {wider}");
    }
    for unreadable in ["7", "{\"crm:read\":true}", "[\"crm:read\",7]", "[[\"crm:read\"]]"] {
        assert!(is_unavailable(&wide(unreadable).await), "E119 {unreadable}");
    }
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn e119_each_success_and_coding_is_read() {
    let body = |number| object(&members(number)).into_bytes();
    let with = |status: &'static str, headers: &'static str, coded: fn(&[u8]) -> Vec<u8>| {
        move |number| reply(status, headers, &coded(&body(number)))
    };
    let plain: fn(&[u8]) -> Vec<u8> = <[u8]>::to_vec;
    let gzip: fn(&[u8]) -> Vec<u8> = gzip;
    for (case, reply) in [
        ("201", with("201 Created", "", plain)),
        ("202", with("202 Accepted", "", plain)),
        ("203", with("203 Non-Authoritative Information", "", plain)),
        ("299", with("299 x", "", plain)),
        ("text/html", with("200 OK", "content-type: text/html\r\n", plain)),
        ("gzip", with("200 OK", "content-encoding: gzip\r\n", gzip)),
        ("x-gzip", with("200 OK", "content-encoding: x-gzip\r\n", gzip)),
        ("gzip without a field", with("200 OK", "", gzip)),
        ("gzip that is none", with("200 OK", "content-encoding: gzip\r\n", plain)),
        ("byte order mark", with("200 OK", "", |body| [b"\xef\xbb\xbf", body].concat())),
        ("white space", with("200 OK", "", |body| [b"\r\n ", body, b"\n\n"].concat())),
        ("NUL at the end", with("200 OK", "", |body| [body, b"\n\0"].concat())),
        ("in an array", with("200 OK", "", |body| [b"[", body, b"]"].concat())),
        (
            "latin-1",
            with("200 OK", "", |body| [b"{\"name\":\"Jos\xe9\",", body.get(1..).unwrap()].concat()),
        ),
    ] {
        let broker = rotating_into(reply).await;
        assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(1), "E119 {case}");
        expect_continued(&broker, case).await;
    }
}

#[tokio::test]
async fn x08_a_whole_object_counts_however_the_body_ends() {
    let whole = |number| object(&members(number)).into_bytes();
    let raw = |fields: &str, body: &[u8]| {
        [format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{fields}\r\n").as_bytes(), body].concat()
    };
    let chunk =
        |body: &[u8]| [format!("{:x}\r\n", body.len()).as_bytes(), body, &b"\r\n"[..]].concat();
    let length = |body: &[u8], more: usize| format!("content-length: {}\r\n", body.len() + more);
    let cut = |coded: Vec<u8>| coded[..coded.len() - 1].to_vec();
    type Body = Box<dyn Fn(Vec<u8>) -> Vec<u8> + Send + Sync>;
    let cases: [(&str, Body); 6] = [
        ("a length of one more", Box::new(move |body| raw(&length(&body, 1), &body))),
        (
            "no last chunk",
            Box::new(move |body| raw("transfer-encoding: chunked\r\n", &chunk(&body))),
        ),
        (
            "a broken chunk",
            Box::new(move |body| {
                raw("transfer-encoding: chunked\r\n", &[chunk(&body), b"zz\r\n".to_vec()].concat())
            }),
        ),
        (
            "gzip that is cut",
            Box::new(move |body| {
                let coded = cut(gzip(&body));
                raw(&format!("content-encoding: gzip\r\n{}", length(&coded, 0)), &coded)
            }),
        ),
        (
            "gzip and a length of one more",
            Box::new(move |body| {
                let coded = gzip(&body);
                raw(&format!("content-encoding: gzip\r\n{}", length(&coded, 1)), &coded)
            }),
        ),
        (
            "spaces to follow",
            Box::new(move |body| {
                raw(&length(&body, 500), &[body.clone(), b"  ".to_vec()].concat())
            }),
        ),
    ];
    for (case, of_body) in cases {
        for stalls in [false, true] {
            let of_body = &of_body;
            let raw = of_body(whole(1));
            let broker = impatient().await;
            broker.server.next(Mode::RotatesInto(Box::new(move |_| match stalls {
                true => Reply::Stalls(raw.clone()),
                false => Reply::Raw(raw.clone()),
            })));
            let token = broker.get().await.map(|credential| number(&credential));
            assert_eq!(token, Ok(1), "X08 {case} {stalls}");
            expect_continued(&broker, case).await;
        }
    }
}

#[tokio::test]
async fn x08_a_success_that_is_not_whole_has_an_unknown_outcome() {
    let whole = object(&members(1));
    let (half, _) = whole.split_at(whole.len() / 2);
    let two = format!("{whole}{whole}");
    let closed = format!("HTTP/1.1 200 OK\r\n\r\n{half}");
    let coded = gzip(whole.as_bytes());
    let long = format!("{}{whole}", " ".repeat(2 << 20));
    let field = "content-encoding: gzip\r\n";
    let bytes = |reply: Reply| {
        let Reply::Raw(bytes) = reply else { unreachable!() };
        bytes
    };
    for (case, raw) in [
        ("half an object", bytes(reply("200 OK", "", half.as_bytes()))),
        ("half of it, ended by closing", closed.into_bytes()),
        ("two objects", bytes(reply("200 OK", "", two.as_bytes()))),
        ("an object and text", bytes(reply("200 OK", "", format!("{whole}x").as_bytes()))),
        ("no byte", bytes(reply("200 OK", "", b""))),
        ("half of gzip", bytes(reply("200 OK", field, &coded[..coded.len() / 2]))),
        ("another coding", bytes(reply("200 OK", "content-encoding: br\r\n", &coded))),
        ("201, half an object", bytes(reply("201 Created", "", half.as_bytes()))),
        // X10: more than is read.
        ("2 MiB", bytes(reply("200 OK", "", &vec![b' '; 2 << 20]))),
        ("2 MiB of an object", bytes(reply("200 OK", "", long.as_bytes()))),
        ("2 MiB, ended by closing", format!("HTTP/1.1 200 OK\r\n\r\n{long}").into_bytes()),
        ("201, 2 MiB", bytes(reply("201 Created", "", long.as_bytes()))),
        ("2 MiB in gzip", bytes(reply("200 OK", field, &gzip(long.as_bytes())))),
        ("a bomb", bytes(reply("200 OK", field, &gzip(&vec![b' '; 64 << 20])))),
    ] {
        let broker = rotating_into(move |_| Reply::Raw(raw.clone())).await;
        let wait = CredentialError::Unavailable { retry_after: Some(Duration::from_secs(30)) };
        assert_eq!(broker.get().await.unwrap_err(), wait, "X08 {case}");
        let kept = broker.grant();
        assert_eq!((kept.state, kept.open_attempts), (GrantState::Active, 1), "X08 {case}");
        assert!(held(&broker).matches(&secret("rt-0")), "X08 {case}");
        broker.clock.advance(Duration::from_secs(29));
        assert!(is_unavailable(&broker.get().await), "X08 {case}");
        assert_eq!(broker.server.posts().len(), 1, "X08 {case}: not sent again at once");
        assert_eq!(broker.refreshes().await, ["intent", "unknown"], "X08 {case}");
    }
}

#[tokio::test]
async fn x511_a_failure_that_cannot_be_read_keeps_the_grant() {
    let coded = "content-encoding: br\r\n";
    for (status, headers, body) in [
        ("503 x", coded, &b"\x0b\x02{}"[..]),
        ("500 x", "content-encoding: gzip\r\n", &b"\x1f\x8b{}"[..]),
        ("502 x", "transfer-encoding: chunked\r\n", &b"5\r\n01"[..]),
        ("429 x", coded, &b"{}"[..]),
        ("400 x", coded, &br#"{"error":"invalid_grant"}"#[..]),
        ("401 x", "content-encoding: zstd\r\n", &br#"{"error":"invalid_grant"}"#[..]),
    ] {
        let broker = Harness::with(grant(HOUR * 2)).await;
        let case = format!("X511 {status} {headers}");
        for failures in 1..=4_u32 {
            let raw = [format!("HTTP/1.1 {status}\r\n{headers}\r\n").as_bytes(), body].concat();
            broker.server.next(Mode::Raw(raw));
            assert!(is_unavailable(&broker.get().await), "{case}");
            let kept = broker.grant();
            assert_eq!((kept.state, kept.open_attempts), (GrantState::Active, 0), "{case}");
            assert_eq!(kept.backoff.failures, failures, "{case}");
            broker.clock.advance(Duration::from_secs(60));
        }
        assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(1), "{case}");
    }
}

/// A grant at a server whose requests end this soon, long before the client's own limit.
async fn impatient() -> Harness {
    let soon = Duration::from_secs(2);
    Harness::over(grant(HOUR * 2), |grants| grants, |server| server.with_timeout(soon)).await
}

#[tokio::test]
async fn x511_a_failure_whose_body_stalls_keeps_the_grant() {
    let tasks = Tasks::new();
    let stalled: Vec<_> = [
        ("503 x", "content-length: 10\r\n", "{"),
        ("500 x", "transfer-encoding: chunked\r\n", "2\r\n{ "),
        ("502 x", "", "<html>"),
        ("429 x", "content-length: 10\r\n", ""),
        ("408 x", "content-length: 10\r\n", "{"),
        ("400 x", "content-length: 99\r\n", r#"{"error":"invalid_grant"}"#),
    ]
    .into_iter()
    .map(|(status, headers, body)| {
        tasks.spawn("case", async move {
            let (broker, case) = (impatient().await, format!("X511 {status} {headers}"));
            // Two unknown outcomes would end the use of the grant.
            for failures in 1..=2_u32 {
                let raw = format!("HTTP/1.1 {status}\r\n{headers}\r\n{body}");
                broker.server.next(Mode::Stalls(raw.into_bytes()));
                assert!(is_unavailable(&broker.get().await), "{case}");
                let kept = broker.grant();
                assert_eq!((kept.state, kept.open_attempts), (GrantState::Active, 0), "{case}");
                assert_eq!(kept.backoff.failures, failures, "{case}");
                broker.clock.advance(Duration::from_secs(60));
            }
            assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(1), "{case}");
        })
    })
    .collect();
    for case in stalled {
        case.await.unwrap();
    }
}

#[tokio::test]
async fn x511_a_success_whose_body_stalls_has_an_unknown_outcome() {
    let tasks = Tasks::new();
    let stalled: Vec<_> = [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{",
        "HTTP/1.1 201 x\r\ncontent-length: 10\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n{}",
        "HTTP/1.1 503",
    ]
    .into_iter()
    .map(|raw| {
        tasks.spawn("case", async move {
            let broker = impatient().await;
            for attempts in 1..=2_u32 {
                broker.server.next(Mode::Stalls(raw.into()));
                let outcome = broker.get().await;
                match attempts {
                    1 => assert!(is_unavailable(&outcome), "X511 {raw}"),
                    _ => assert_eq!(outcome.unwrap_err(), connect_required(), "X511 {raw}"),
                }
                assert_eq!(broker.grant().open_attempts, attempts, "X511 {raw}");
                broker.clock.advance(Duration::from_secs(60));
            }
            assert_eq!(broker.get().await.unwrap_err(), connect_required(), "X511 {raw}");
            assert_eq!(broker.grant().state, GrantState::NeedsUser, "X511 {raw}");
        })
    })
    .collect();
    for case in stalled {
        case.await.unwrap();
    }
}

#[tokio::test]
async fn x10_a_bomb_costs_no_memory_and_no_grant() {
    let bomb = gzip(&vec![b' '; 64 << 20]);
    let broker = rotating_into(move |_| reply("200 OK", "content-encoding: gzip\r\n", &bomb)).await;
    assert!(is_unavailable(&broker.get().await), "X10");
    assert_eq!(broker.grant().state, GrantState::Active, "X10");
    assert_eq!(broker.refreshes().await, ["intent", "unknown"], "X10: it may contain tokens");
}

#[tokio::test]
async fn e119_an_error_with_tokens_is_an_error_after_they_are_kept() {
    for (status, error, outcome) in [
        ("200 OK", "\"server_error\"", None),
        ("200 OK", "{\"code\":7}", None),
        ("201 Created", "\"invalid_client\"", None),
        ("200 OK", "1", None),
        ("200 OK", "0.1", None),
        ("200 OK", "-7", None),
        ("200 OK", "true", None),
        ("200 OK", "\"0\"", None),
        ("200 OK", "[0]", None),
        ("200 OK", "0,\"error\":\"server_error\"", None),
        ("200 OK", "0", Some(1)),
        ("200 OK", "-0", Some(1)),
        ("200 OK", "0.0", Some(1)),
        ("200 OK", "0e9", Some(1)),
        ("200 OK", "0,\"error\":false", Some(1)),
        ("200 OK", "false", Some(1)),
        ("200 OK", "null", Some(1)),
    ] {
        let broker = rotating_into(move |number| {
            reply(status, "", deviating(number, "error", Some(error)).as_bytes())
        })
        .await;
        let got = broker.get().await.ok().map(|credential| number(&credential));
        assert_eq!(got, outcome, "E119 {error}");
        assert!(held(&broker).matches(&secret("rt-1")), "E119 {error}");
        assert_eq!(broker.grant().state, GrantState::Active, "E119 {error}");
        expect_continued(&broker, error).await;
    }
}

#[tokio::test]
async fn e119_an_error_of_zero_is_none_where_another_member_names_it() {
    for (status, body) in [
        ("400 x", r#"{"error":0,"code":"invalid_grant"}"#),
        ("401 x", r#"{"error":false,"errorCode":"invalid_grant"}"#),
        ("400 x", r#"{"error":0.0,"status":"invalid_grant"}"#),
    ] {
        let broker = Harness::with(grant(HOUR * 2)).await;
        let Reply::Raw(raw) = reply(status, "", body.as_bytes()) else { unreachable!() };
        broker.server.next(Mode::Raw(raw));
        assert_eq!(broker.get().await.unwrap_err(), revoked(), "E119 {body}");
    }
    // Without tokens, it is no success either.
    let broker = rotating_into(|_| reply("200 OK", "", br#"{"error":0}"#)).await;
    assert!(is_unavailable(&broker.get().await), "E119");
}

#[tokio::test]
async fn e119_a_token_that_has_ended_costs_one_post() {
    for (expires_in, token_of_call) in [("0", [1, 2, 3]), ("1", [1, 1, 1])] {
        let broker = Harness::with(grant(HOUR * 2)).await;
        for (call, expected) in token_of_call.into_iter().enumerate() {
            broker.server.next(Mode::RotatesInto(Box::new(move |number| {
                reply("200 OK", "", deviating(number, "expires_in", Some(expires_in)).as_bytes())
            })));
            let got = broker.get().await.map(|credential| number(&credential));
            assert_eq!(got, Ok(expected), "E119 {expires_in} {call}");
            // A renewal in the background would begin here.
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
        }
        let last = usize::try_from(token_of_call[2]).unwrap();
        let issued: Vec<_> = (0..last).flat_map(|_| ["intent", "issued"]).collect();
        assert_eq!(broker.refreshes().await, issued, "E119 {expires_in}");
        assert_eq!(broker.server.posts().len(), last, "E119 {expires_in}");
    }
}

#[tokio::test]
async fn e512_an_error_next_to_a_refresh_token_has_its_full_effect() {
    let with_error = |code: &'static str| {
        move |number| {
            reply("200 OK", "", deviating(number, "error", Some(&format!("\"{code}\""))).as_bytes())
        }
    };
    for (code, error, state) in [
        ("invalid_grant", revoked(), GrantState::EndedByServer),
        ("token_revoked", revoked(), GrantState::EndedByServer),
        ("login_required", connect_required(), GrantState::NeedsUser),
        ("consent_required", connect_required(), GrantState::NeedsUser),
    ] {
        let broker = rotating_into(with_error(code)).await;
        assert_eq!(broker.get().await.unwrap_err(), error, "E512 {code}");
        assert_eq!((broker.grant().state, broker.grant().version), (state, 2), "E512 {code}");
        assert!(held(&broker).matches(&secret("rt-1")), "E512 {code}: it is stored first");
        assert_eq!(broker.get().await.unwrap_err(), error, "E512 {code}: and stays so");
        assert_eq!(broker.server.posts().len(), 1, "E512 {code}");
    }
    let outcome = |code| async move {
        let broker = rotating_into(with_error(code)).await;
        drop(broker.get().await);
        broker.refreshes().await
    };
    assert_eq!(outcome("invalid_grant").await, ["intent", "grant_ended"], "E512");
    assert_eq!(outcome("login_required").await, ["intent", "failed"], "E512");
}

#[tokio::test]
async fn e512_a_refusal_that_rotates_each_time_needs_the_user() {
    let broker = Harness::with(grant(HOUR * 2)).await;
    for turn in 0..=72 {
        let error = Some("\"unauthorized_client\"");
        broker.server.next(Mode::RotatesInto(Box::new(move |number| {
            reply("200 OK", "", deviating(number, "error", error).as_bytes())
        })));
        assert!(broker.get().await.is_err(), "E512 {turn}");
        let state = if turn < 72 { GrantState::Active } else { GrantState::NeedsUser };
        assert_eq!(broker.grant().state, state, "E512 after {turn} h");
        assert!(held(&broker).matches(&secret(&format!("rt-{}", turn + 1))), "E512 {turn}");
        broker.clock.advance(HOUR);
    }
    assert!(broker.get().await.is_ok(), "E512: a success revives it");
    assert_eq!((broker.grant().state, broker.grant().refused), (GrantState::Active, None));
}

#[tokio::test]
async fn e512_a_grant_that_needs_the_user_is_not_revived_by_a_failure() {
    let broker = Harness::with(grant(HOUR * 2)).await;
    broker.server.next(Mode::Says(400, r#"{"error":"login_required"}"#, ""));
    assert_eq!(broker.get().await.unwrap_err(), connect_required());
    broker.clock.advance(HOUR);
    broker.server.next(Mode::RotatesInto(Box::new(|number| {
        reply("200 OK", "", deviating(number, "access_token", None).as_bytes())
    })));
    assert_eq!(broker.get().await.unwrap_err(), connect_required(), "E512");
    assert_eq!((broker.grant().state, broker.grant().version), (GrantState::NeedsUser, 2));
}
