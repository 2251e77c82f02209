//! Any bytes at the endpoints of the authorization server: no redirect to a URI that is not
//! registered, no redirect URI that a browser gives another meaning, and one reading of each form.

#![no_main]

use libfuzzer_sys::fuzz_target;
use token_broker_authority::readers::{self, Outcome};

const REGISTERED: [&str; 3] =
    ["http://127.0.0.1/cb", "https://client.example/cb?x=1", "app.example:/cb"];

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, input)) = bytes.split_first() else { return };
    match kind {
        b'a' => authorization(input),
        b'm' => metadata(input),
        b'c' => credentials(input),
        _ => parameters(input),
    }
});

fn authorization(query: &[u8]) {
    match readers::authorization(query, &REGISTERED) {
        Outcome::Page => {}
        Outcome::Asked(uri) => assert!(is_registered(&uri), "{uri}"),
        Outcome::Redirect(uri, location) => {
            assert!(is_registered(&uri), "{uri}");
            let result = location.strip_prefix(&uri).expect("the verified URI, and nothing before");
            let separator = if uri.contains('?') { '&' } else { '?' };
            assert!(result.starts_with(separator), "{location}");
            let values = result.split(['?', '&']).skip(1);
            let names: Vec<_> = values.filter_map(|pair| pair.split('=').next()).collect();
            assert!(
                names == ["error", "iss"] || names == ["error", "state", "iss"],
                "one result, and no parameter of the client's: {location}"
            );
            assert!(location.bytes().all(|byte| byte.is_ascii_graphic()), "{location:?}");
        }
    }
}

/// Another reading than the parser's: without the port, the text is the registered one.
fn is_registered(uri: &str) -> bool {
    let loopback = uri.strip_prefix("http://127.0.0.1:").and_then(|rest| rest.split_once('/'));
    let has_port =
        loopback.is_some_and(|(port, path)| port.parse::<u16>().is_ok_and(|_| path == "cb"));
    has_port || REGISTERED.contains(&uri)
}

fn metadata(text: &[u8]) {
    let Some(uris) = readers::client_metadata(text) else { return };
    assert!((1..=32).contains(&uris.len()));
    for uri in uris {
        assert!(uri.bytes().all(|byte| byte.is_ascii_graphic()), "{uri:?}");
        let (scheme, rest) = uri.split_once(':').expect("absolute");
        let scheme = scheme.to_ascii_lowercase();
        let never = ["javascript", "data", "vbscript", "file", "blob", "about", "ws", "ftp"];
        assert!(!never.contains(&scheme.as_str()), "{uri}");
        assert!(rest.starts_with('/') && !uri.contains(['#', '*', '\\']), "{uri}");
        if scheme == "http" {
            let host = rest.trim_start_matches('/');
            let is_loopback =
                ["127.0.0.1", "[::1]", "localhost"].iter().any(|name| host.starts_with(name));
            let authority = host.split(['/', '?']).next().unwrap_or_default();
            assert!(is_loopback && !authority.contains('@'), "{uri}");
        }
    }
}

fn credentials(input: &[u8]) {
    let mut parts = input.splitn(2, |byte| *byte == b'\n');
    let (header, body) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let header = Some(header).filter(|header| !header.is_empty());
    if let Some(client) = readers::credentials(header, body) {
        assert!(!client.is_empty());
    }
}

fn parameters(text: &[u8]) {
    let Some(written) = readers::parameters(text) else { return };
    // Written and read again, it is the same.
    assert_eq!(readers::parameters(written.as_bytes()).as_deref(), Some(written.as_str()));
}
