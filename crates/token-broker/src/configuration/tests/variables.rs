//! Variables in place of keys.

use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};

use super::{
    super::{
        model::{Credential, LogFormat, Tokens},
        read::parse,
    },
    fixture::{BASE, Fixture, server, with},
};

#[expect(clippy::disallowed_methods, reason = "a test compares the secret")]
fn text(secret: &tower_token_broker::Secret) -> String {
    secret.expose_text().unwrap().to_owned()
}

#[test]
fn a_variable_overrides_a_key() {
    let fixture = Fixture::new();
    let loaded = fixture.load_with(
        BASE,
        &[
            ("TOKEN_BROKER__LISTEN", "0.0.0.0:9090"),
            ("TOKEN_BROKER__TRUSTED_PROXIES", r#"["10.0.0.5", '10.1.0.0/24']"#),
            ("TOKEN_BROKER__LOG__FORMAT", "json"),
            ("TOKEN_BROKER__TOKENS__ISSUER", "https://other.example.com"),
            ("TOKEN_BROKER__SERVER__GITHUB__UPSTREAM", "https://mcp.other.example/mcp"),
            ("TOKEN_BROKER__SERVER__GITHUB__CREDENTIAL__OMIT_SCOPE_ON_REFRESH", "true"),
            ("TOKEN_BROKER_VECTORS", "of something else"),
            ("PATH", "/bin"),
        ],
    );
    let configuration = loaded.map(|loaded| loaded.configuration).unwrap();
    assert_eq!(configuration.listen.to_string(), "0.0.0.0:9090");
    assert_eq!(configuration.trusted_proxies.len(), 2);
    assert_eq!(configuration.log_format, LogFormat::Json);
    let Tokens::Jwt { issuer, .. } = &configuration.tokens else { panic!() };
    assert_eq!(issuer, "https://other.example.com");
    let [server] = configuration.servers.as_slice() else { panic!() };
    assert_eq!(server.upstream, "https://mcp.other.example/mcp");
    let Credential::OAuth(at) = &server.credential else { panic!() };
    assert!(at.omit_scope_on_refresh);
}

#[test]
fn a_secret_in_a_variable_replaces_its_file() {
    let fixture = Fixture::new();
    let secret = "TOKEN_BROKER__SERVER__GIT_HUB_2__CREDENTIAL__CLIENT_SECRET";
    // The file of the key does not matter any more.
    for file in ["github.secret", "open.secret", "missing"] {
        let text_of_file =
            with("\"github.secret\"", &format!("{file:?}")).replace("\"github\"", "\"git-hub-2\"");
        let loaded = fixture.load_with(&text_of_file, &[(secret, "Zq7-from-variable\n")]);
        assert!(loaded.is_err(), "a line break is part of a variable");
        let loaded = fixture.load_with(&text_of_file, &[(secret, "Zq7-from-variable")]).unwrap();
        let Credential::OAuth(at) = &loaded.configuration.servers[0].credential else { panic!() };
        assert_eq!(text(at.client.as_ref().unwrap().secret.as_ref().unwrap()), "Zq7-from-variable");
    }
}

#[test]
fn the_url_of_the_store_comes_from_either() {
    let fixture = Fixture::new();
    let password = "postgres://broker:Zq7-password@db/broker";
    let of = |text_of_file: &str, variables: &[(&str, &str)]| {
        text(&fixture.load_with(text_of_file, variables).unwrap().configuration.store.url)
    };
    let from_file = with("url = \"sqlite://token-broker.db\"", "url_file = \"store.url\"");
    assert_eq!(of(BASE, &[]), "sqlite://token-broker.db");
    assert_eq!(of(&from_file, &[]), password);
    for file in [BASE, &from_file] {
        assert_eq!(of(file, &[("TOKEN_BROKER__STORE__URL", password)]), password);
        assert_eq!(of(file, &[("TOKEN_BROKER__STORE__URL_FILE", "store.url")]), password);
    }
}

/// A whole section may come from variables.
#[test]
fn variables_create_sections() {
    let fixture = Fixture::new();
    let without = with("[audit]\nfolder = \"audit\"\nwriter = \"broker-1\"\n", "");
    let variables = [("TOKEN_BROKER__AUDIT__FOLDER", "a-folder")];
    let loaded = fixture.load_with(&without, &variables).unwrap();
    assert_eq!(loaded.configuration.audit_folder, fixture.path().join("a-folder"));
    assert!(!loaded.configuration.audit_writer.is_empty(), "the name of this host");
}

#[test]
fn t325_variables_that_name_no_key_are_refused() {
    let fixture = Fixture::new();
    for name in [
        "TOKEN_BROKER__",
        "TOKEN_BROKER__STORE",
        "TOKEN_BROKER__STORE__",
        "TOKEN_BROKER__STORE__URL__",
        "TOKEN_BROKER__STORE_URL",
        "TOKEN_BROKER___STORE__URL",
        "TOKENBROKER__STORE__URL",
        "Token_Broker__Store__Url",
        "TOKEN_BROKER__SERVER",
        "TOKEN_BROKER__SERVER__0__UPSTREAM",
        "TOKEN_BROKER__SERVER__UPSTREAM",
        "TOKEN_BROKER__SERVER__GITHUB__ALLOW__TOOLS",
        "TOKEN_BROKER__SERVER__GITHUB__CREDENTIAL__PASSWORD",
        "TOKEN_BROKER__REQURE_PKCE",
    ] {
        let error = fixture.load_with(BASE, &[(name, "Zq7-value")]).err().unwrap();
        assert!(error.starts_with(&format!("{name}: the variable names no key")), "T325 {error}");
        assert!(!error.contains("Zq7"), "T325 {error}");
    }
}

#[test]
fn a_value_that_is_not_utf8_is_refused() {
    let fixture = Fixture::new();
    let octets = OsString::from_vec(vec![0xff, b'a']);
    for (name, value) in [
        (OsString::from("TOKEN_BROKER__LISTEN"), octets.clone()),
        (OsString::from_vec(b"TOKEN_BROKER__LISTEN\xff".to_vec()), OsString::from("a")),
    ] {
        let loaded = parse(BASE, "file", fixture.path(), [(name, value)]);
        let error = loaded.err().unwrap().to_string();
        assert!(error.starts_with("TOKEN_BROKER__LISTEN"), "{error}");
    }
    // Others' variables are ignored, whatever they contain.
    assert!(parse(BASE, "file", fixture.path(), [(octets.clone(), octets)]).is_ok());
}

/// Two servers of one name are an error of their own.
#[test]
fn a_variable_of_two_servers_is_refused() {
    let fixture = Fixture::new();
    let twice = format!("{BASE}{}", server());
    let variable = ("TOKEN_BROKER__SERVER__GITHUB__TITLE", "GitHub");
    let error = fixture.load_with(&twice, &[variable]).err().unwrap();
    assert!(error.contains("TITLE: the variable names a key of two servers"), "{error}");
    assert!(error.contains("the name `github` occurs twice"), "{error}");
}
