//! Tests of redirect URIs: which may be registered, and which match.

use proptest::prelude::*;

use super::redirect_uri::*;
use crate::authorize::RedirectTarget;

fn registered(uri: &str) -> RedirectUris {
    RedirectUris::parse([uri]).unwrap()
}

#[test]
fn d085_only_the_registered_octets_match() {
    let uris = registered("https://client.example/cb?x=1");
    assert!(uris.verify("https://client.example/cb?x=1").is_some());
    for other in [
        "",
        "https://client.example/cb",
        "https://client.example/cb?x=1&y=2",
        "https://client.example/cb?x=2",
        "https://client.example/cb/?x=1",
        "https://client.example/CB?x=1",
        "https://client.example/a/../cb?x=1",
        "https://client.example/%63b?x=1",
        "https://client.example/%2e/cb?x=1",
        "https://client.example./cb?x=1",
        "https://CLIENT.example/cb?x=1",
        "https://client.example:443/cb?x=1",
        "https://client.example:8443/cb?x=1",
        "https://client.example.evil/cb?x=1",
        "https://client.example@evil/cb?x=1",
        "https://evil/https://client.example/cb?x=1",
        "http://client.example/cb?x=1",
        "https://client.example/cb?x=1#",
        " https://client.example/cb?x=1",
        "https://client.example/cb?x=1\n",
    ] {
        assert_eq!(uris.verify(other), None, "D085 {other:?}");
    }
}

#[test]
fn d087_the_port_of_a_loopback_host_is_free() {
    for host in LOOPBACK_HOSTS {
        for uri in [format!("http://{host}/cb"), format!("http://{host}:4711/cb")] {
            let uris = registered(&uri);
            for matching in [
                format!("http://{host}/cb"),
                format!("http://{host}:1/cb"),
                format!("http://{host}:65535/cb"),
            ] {
                let verified = uris.verify(&matching).expect(&matching);
                assert_eq!(verified.as_str(), matching);
                assert_eq!(verified.target(), RedirectTarget::Loopback);
            }
            for other in [
                format!("http://{host}:0/cb"),
                format!("http://{host}:080/cb"),
                format!("http://{host}:65536/cb"),
                format!("http://{host}:/cb"),
                format!("http://{host}:+1/cb"),
                format!("http://{host}:1/cb/"),
                format!("http://{host}:1/cb?x"),
                format!("http://{host}:1/CB"),
                format!("http://{host}:1@evil/cb"),
                format!("http://{host}.evil:1/cb"),
                format!("https://{host}:1/cb"),
                format!("http://x@{host}:1/cb"),
                format!("http://{host}:1/cb#"),
            ] {
                assert_eq!(uris.verify(&other), None, "D087 {other}");
            }
        }
    }
    let uris = registered("http://127.0.0.1/cb");
    for other in [
        "http://localhost:1/cb",
        "http://[::1]:1/cb",
        "http://127.0.0.2:1/cb",
        "http://127.1:1/cb",
        "http://2130706433:1/cb",
        "http://[::ffff:127.0.0.1]:1/cb",
        "http://LOCALHOST:1/cb",
    ] {
        assert_eq!(uris.verify(other), None, "D087 {other}");
    }
}

#[test]
fn f146_d090_what_a_browser_would_run_or_read_otherwise_is_refused() {
    use RedirectUriError as Error;
    for (uri, error) in [
        ("", Error::Characters),
        ("https://a.example/\u{e9}", Error::Characters),
        ("https://a.example/ b", Error::Characters),
        ("https://a.example/\r\nx", Error::Characters),
        ("/cb", Error::NotAbsolute),
        ("cb", Error::NotAbsolute),
        ("https:", Error::NotAbsolute),
        ("https:///cb", Error::NotAbsolute),
        ("https://:443/cb", Error::NotAbsolute),
        ("https://a.example:/cb", Error::NotAbsolute),
        ("https://a.example:0/cb", Error::NotAbsolute),
        ("https://a..example/cb", Error::NotAbsolute),
        ("javascript:alert(1)", Error::NotAbsolute),
        ("javascript://a/%0aalert(1)", Error::Scheme),
        ("JavaScript://a/cb", Error::Scheme),
        ("data:text/html,x", Error::NotAbsolute),
        ("data://x/", Error::Scheme),
        ("vbscript://x/", Error::Scheme),
        ("file:///etc/passwd", Error::Scheme),
        ("blob://x/", Error::Scheme),
        ("intent://x/", Error::Scheme),
        ("ms-msdt:/id", Error::Scheme),
        ("urn:ietf:wg:oauth:2.0:oob", Error::NotAbsolute),
        ("HTTPS://a.example/cb", Error::Scheme),
        ("http://a.example/cb", Error::Scheme),
        ("http://127.0.0.1.evil/cb", Error::Scheme),
        ("http://127.0.0.1@evil/cb", Error::Scheme),
        ("http://10.0.0.1/cb", Error::Scheme),
        ("https://*.evil/cb", Error::Part),
        ("https://a.example/*", Error::Part),
        ("https://a.example/cb#x", Error::Part),
        ("https://u@a.example/cb", Error::Part),
        ("https://u:p@a.example/cb", Error::Part),
        ("app://u@x/cb", Error::Part),
        ("https://a.example/../cb", Error::Path),
        ("https://a.example/%2E%2e/cb", Error::Path),
        ("https://a.example/a%2f..%2fcb", Error::Path),
        ("https://a.example\\@evil/cb", Error::Path),
        ("https://a.example/cb?code=1", Error::Query),
        ("https://a.example/cb?x=1&%63ode=1", Error::Query),
        ("https://a.example/cb?x;iss=1", Error::Query),
        ("https://a.example/cb?state", Error::Query),
    ] {
        assert_eq!(RedirectUri::parse(uri).err(), Some(error), "F146 D090 {uri}");
    }
    let long = format!("https://a.example/{}", "x".repeat(2048));
    assert_eq!(RedirectUri::parse(&long).err(), Some(Error::Characters));
}

#[test]
fn what_real_clients_register_is_accepted() {
    for (uri, target, host) in [
        ("http://localhost:33418/callback", RedirectTarget::Loopback, "localhost:33418"),
        ("http://127.0.0.1:6276/oauth/callback", RedirectTarget::Loopback, "127.0.0.1:6276"),
        ("http://127.0.0.1/", RedirectTarget::Loopback, "127.0.0.1"),
        ("http://[::1]:1/cb", RedirectTarget::Loopback, "[::1]:1"),
        ("https://claude.ai/api/mcp/auth_callback", RedirectTarget::Web, "claude.ai"),
        ("https://vscode.dev/redirect", RedirectTarget::Web, "vscode.dev"),
        ("https://a.example:8443/cb?x=1", RedirectTarget::Web, "a.example:8443"),
        (
            "cursor://anysphere.cursor-retrieval/oauth/user-x/callback",
            RedirectTarget::CustomScheme,
            "cursor:",
        ),
        ("com.example.app:/oauth2redirect", RedirectTarget::CustomScheme, "com.example.app:"),
    ] {
        let uris = registered(uri);
        let verified = uris.verify(uri).unwrap();
        assert_eq!((verified.target(), verified.host()), (target, host), "{uri}");
    }
}

#[test]
fn the_number_is_bounded() {
    let many = vec!["https://a.example/cb"; 10_000];
    assert_eq!(RedirectUris::parse(many).err(), Some(RedirectUriError::Count));
    assert_eq!(RedirectUris::parse([]).err(), Some(RedirectUriError::Count));
}

proptest! {
    #[test]
    fn no_text_matches_but_the_registered_one_and_its_ports(
        at in any::<prop::sample::Index>(),
        with in "[ -~]{0,3}",
        uri in prop::sample::select(vec![
            "https://client.example/cb?x=1",
            "http://127.0.0.1:80/cb",
            "app.example:/cb",
        ]),
    ) {
        let uris = registered(uri);
        let at = at.index(uri.len());
        let changed = [uri.get(..at).unwrap(), &with, uri.get(at + 1..).unwrap()].concat();
        let has_other_port = |text: &str| {
            let port = text.strip_prefix("http://127.0.0.1");
            let port = port.and_then(|rest| rest.strip_suffix("/cb"));
            port.is_some_and(|port| port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
        };
        if uris.verify(&changed).is_some() {
            prop_assert!(changed == uri || has_other_port(&changed), "{changed}");
        }
    }
}
