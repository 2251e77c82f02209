//! Any bytes as header fields (one per line, after a line with the query): one token or a refusal,
//! and no credential is left.

#![no_main]

use http::{HeaderName, HeaderValue, Request};
use libfuzzer_sys::fuzz_target;
use tower_token_broker::readers;

const CREDENTIALS: [&str; 7] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "authorization-bin",
    "cookie-bin",
    "proxy-authorization-bin",
    "grpc-metadata-authorization",
];

fuzz_target!(|text: &[u8]| {
    let mut lines = text.split(|byte| *byte == b'\n');
    let query = lines.next().unwrap_or_default();
    let Ok(uri) = http::Uri::try_from([b"/mcp?", query].concat()) else { return };
    let mut request = Request::post(uri).body(()).expect("a path and a query");
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return };
        let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(&line[colon + 1..]))
        else {
            return;
        };
        if request.headers_mut().try_append(name, value).is_err() {
            return;
        }
    }
    let before = request.clone();
    let taken = readers::credential(&mut request);

    let fields = request.headers();
    assert!(CREDENTIALS.iter().all(|name| !fields.contains_key(*name)), "a credential is left");
    let expected = reference(&before);
    match &taken {
        Ok(token) => {
            assert_eq!(Some(token), expected.as_ref());
            let holds_it = |text: &[u8]| {
                token.len() >= 16 && text.windows(token.len()).any(|part| part == token)
            };
            assert!(fields.values().all(|value| !holds_it(value.as_bytes())), "a copy is left");
        }
        Err(_) => assert_eq!(expected, None),
    }
    for (name, value) in fields {
        assert!(
            before.headers().get_all(name).iter().any(|was| was == value),
            "a field was changed"
        );
    }
});

/// Returns the token of a request that has exactly one, in `Authorization`.
fn reference(request: &Request<()>) -> Option<Vec<u8>> {
    let mut values = request.headers().get_all("authorization").iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let value = value.as_bytes();
    let end = value.iter().rposition(|byte| *byte != b' ' && *byte != b'\t').map_or(0, |at| at + 1);
    let (scheme, token) = value[..end].split_at_checked(7)?;
    let is_token =
        !token.is_empty() && token.len() <= 16 * 1024 && token.iter().all(u8::is_ascii_graphic);
    if !scheme.eq_ignore_ascii_case(b"bearer ") || !is_token {
        return None;
    }
    let query = request.uri().query().unwrap_or_default();
    let is_named = query.split(['&', ';']).any(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        unescaped(name.as_bytes()).eq_ignore_ascii_case(b"access_token")
    });
    let is_copied =
        token.len() >= 16 && query.as_bytes().windows(token.len()).any(|part| part == token);
    (!is_named && !is_copied).then(|| token.to_vec())
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    match text {
        [] => Vec::new(),
        [b'%', high, low, rest @ ..] if digit(*high).is_some() && digit(*low).is_some() => {
            let octet = digit(*high).unwrap_or_default() * 16 + digit(*low).unwrap_or_default();
            [vec![octet as u8], unescaped(rest)].concat()
        }
        [byte, rest @ ..] => [vec![*byte], unescaped(rest)].concat(),
    }
}
