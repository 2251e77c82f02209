//! Configurations that are accepted, and what becomes of them.

use std::path::Path;

use tower_token_broker::{authenticate::jwt::Algorithm, principal::Scopes};

use super::{
    super::model::{Configuration, Credential, LogFormat, Profile, Rule, Tokens},
    fixture::{BASE, Fixture, SECRET, with},
};

fn load(fixture: &Fixture, text: &str) -> Configuration {
    fixture.load(text).map(|loaded| loaded.configuration).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_base_has_the_documented_defaults() {
    let fixture = Fixture::new();
    let configuration = load(&fixture, BASE);
    assert_eq!(configuration.public_url, "https://broker.example.com");
    assert_eq!(configuration.listen.to_string(), "127.0.0.1:8080");
    assert!(configuration.tls.is_none() && configuration.trusted_proxies.is_empty());
    assert_eq!(configuration.folder, fixture.path());
    assert_eq!(configuration.store.keys.key_ids().count(), 1);
    assert_eq!(configuration.audit_folder, fixture.path().join("audit"));
    assert_eq!(configuration.audit_writer, "broker-1");
    assert_eq!((configuration.log_format, &*configuration.log_filter), (LogFormat::Auto, "info"));
    let Tokens::Jwt { issuer, profile, key_set, algorithms } = &configuration.tokens else {
        panic!()
    };
    assert_eq!((issuer.as_str(), key_set), ("https://idp.example.com", &None));
    assert_eq!(profile, &Profile::Rfc9068 { audience: None });
    assert_eq!(algorithms, &[Algorithm::Es256, Algorithm::EdDsa]);
    let [server] = configuration.servers.as_slice() else { panic!() };
    assert_eq!(server.resource.as_str(), "https://broker.example.com/github/mcp");
    assert_eq!(server.upstream, "https://mcp.github.example/mcp");
    assert_eq!(server.network, Default::default());
    let read = Rule {
        tools: vec!["get_*".to_owned()],
        scope: Some("github:read".to_owned()),
        ..Rule::default()
    };
    assert_eq!((&server.allow, &server.deny), (&vec![read], &vec![]));
    let Credential::OAuth(at) = &server.credential else { panic!() };
    assert_eq!(at.scopes, Scopes::parse("repo:read").unwrap());
    let client = at.client.as_ref().unwrap();
    assert!(!client.secret_in_form && !at.omit_scope_on_refresh);
    #[expect(clippy::disallowed_methods, reason = "a test compares the secret")]
    let secret = client.secret.as_ref().unwrap().expose_text();
    assert_eq!(secret, Some(SECRET), "without the line break");
}

#[test]
fn profiles_have_their_algorithms() {
    let fixture = Fixture::new();
    for (keys, profile, algorithm) in [
        ("profile = \"entra\"\naudience = \"a\"", Profile::Entra("a".into()), Algorithm::Rs256),
        ("profile = \"okta\"\naudience = \"a\"", Profile::Okta("a".into()), Algorithm::Rs256),
        ("profile = \"auth0\"\naudience = \"a\"", Profile::Auth0("a".into()), Algorithm::Rs256),
        (
            "profile = \"keycloak\"\naudience = \"a\"",
            Profile::Keycloak("a".into()),
            Algorithm::Rs256,
        ),
        (
            "profile = \"cognito\"\nclients = [\"c\"]",
            Profile::Cognito(vec!["c".into()]),
            Algorithm::Rs256,
        ),
        (
            "audience = \"a\"\nalgorithms = [\"PS256\"]",
            Profile::Rfc9068 { audience: Some("a".into()) },
            Algorithm::Ps256,
        ),
    ] {
        let text = with("kind = \"jwt\"", &format!("kind = \"jwt\"\n{keys}"));
        let Tokens::Jwt { profile: of, algorithms, .. } = load(&fixture, &text).tokens else {
            panic!()
        };
        assert_eq!((of, algorithms), (profile, vec![algorithm]), "{keys}");
    }
}

#[test]
fn introspection_and_trial_are_read() {
    let fixture = Fixture::new();
    let introspection = "kind = \"introspection\"\nendpoint = \"http://127.0.0.1:9000/introspect\"
        loopback_hosts = [\"127.0.0.1:9000\"]\nclient_id = \"us\"
        client_secret_file = \"group.secret\"\nclients = [\"a\", \"b\"]";
    let configuration = load(&fixture, &with("kind = \"jwt\"", introspection));
    assert_eq!(configuration.tokens_network.loopback_hosts, ["127.0.0.1:9000"]);
    let Tokens::Introspection { endpoint, clients, audience, .. } = configuration.tokens else {
        panic!()
    };
    assert_eq!((endpoint.path(), clients.len(), audience), ("/introspect", 2, None));

    let trial = "kind = \"trial\"\nsigning_key_file = \"signing.key\"\n";
    let text = with("kind = \"jwt\"\nissuer = \"https://idp.example.com\"\n", trial);
    let Tokens::Trial { signing_key_file } = load(&fixture, &text).tokens else { panic!() };
    assert_eq!(signing_key_file, fixture.path().join("signing.key"));
    // With tokens of the gateway, it can also exchange them.
    let text = text.replace("\"oauth\"", "\"token_exchange\"");
    let credential = load(&fixture, &text).servers.remove(0).credential;
    assert!(matches!(credential, Credential::TokenExchange(_)));
}

#[test]
fn each_way_to_listen_is_accepted() {
    let fixture = Fixture::new();
    let tls = "tls = { certificate_file = \"chain.pem\", key_file = \"tls.key\" }";
    for (listen, more) in [
        ("127.0.0.1:0", ""),
        ("127.8.8.8:8080", ""),
        ("[::1]:8080", ""),
        ("[::ffff:127.0.0.1]:8080", ""),
        ("0.0.0.0:8443", tls),
        ("[::]:8080", "trusted_proxies = [\"10.0.0.5\", \"fd00::/8\"]"),
    ] {
        let to = format!("listen = {listen:?}\n{more}");
        let configuration = load(&fixture, &with("listen = \"127.0.0.1:8080\"", &to));
        assert_eq!(configuration.tls.is_some(), !more.is_empty() && more == tls, "{listen}");
    }
    for url in ["https://broker.example.com/", "https://b.example:8443", "http://localhost:8080"] {
        let configuration = load(&fixture, &with("https://broker.example.com", url));
        assert_eq!(configuration.public_url.path(), "/", "{url}");
        let resource = configuration.servers[0].resource.as_str().to_owned();
        assert_eq!(resource, format!("{}/github/mcp", url.trim_end_matches('/')));
    }
}

#[test]
fn hosts_that_are_named_may_be_reached() {
    let fixture = Fixture::new();
    for (upstream, network) in [
        ("http://127.0.0.1:9000/mcp", "loopback_hosts = [\"127.0.0.1:9000\"]"),
        ("https://localhost:9000/mcp", "loopback_hosts = [\"localhost\"]"),
        ("https://10.1.2.3/mcp", "private_hosts = [\"10.1.2.3\"]"),
        ("https://mcp.corp.example/mcp", "private_hosts = [\"mcp.corp.example:443\"]"),
        ("http://crm:8080/mcp", "plain_http = [\"crm:8080\"]"),
        ("http://crm/mcp", "plain_http = [\"CRM:80\"]"),
        ("http://10.1.2.3:8080/mcp", "plain_http = [\"10.1.2.3:8080\"]"),
        ("https://mcp.corp.example/mcp?tenant=a", "trusted_roots = [\"chain.pem\"]"),
    ] {
        let to = format!("upstream = {upstream:?}\n{network}");
        let text = with("upstream = \"https://mcp.github.example/mcp\"", &to);
        assert_eq!(load(&fixture, &text).servers[0].upstream, *upstream, "{network}");
    }
    // The entry is for another port, or another host.
    for (upstream, network) in [
        ("http://crm:8081/mcp", "plain_http = [\"crm:8080\"]"),
        ("http://crm.example/mcp", "plain_http = [\"crm:80\"]"),
        ("http://127.0.0.1:80/mcp", "plain_http = [\"127.0.0.1:80\"]"),
        ("http://169.254.169.254/mcp", "plain_http = [\"169.254.169.254:80\"]"),
        ("http://93.184.215.14/mcp", "plain_http = [\"93.184.215.14:80\"]"),
        ("http://10.1.2.3/mcp", "private_hosts = [\"10.1.2.3\"]"),
    ] {
        let to = format!("upstream = {upstream:?}\n{network}");
        let text = with("upstream = \"https://mcp.github.example/mcp\"", &to);
        assert!(fixture.load(&text).is_err(), "{upstream} {network}");
    }
}

#[test]
fn rules_and_names_are_read() {
    let fixture = Fixture::new();
    let text = format!(
        "{BASE}id = \"read\"\nupstream_scopes = [\"b\", \"a\"]\ngroups = [\"x\", \"y\"]
        resources = [\"file:///*\"]\nprompts = [\"*\"]\nmethods = [\"logging/setLevel\"]
        [[server.deny]]\ntools = [\"get_salary\"]
        [[server]]\nname = \"{}\"\nprevious_names = [\"a\", \"0-\"]\ntitle = \"Ein Übermittler\"
        upstream = \"https://mcp.mail.example/mcp\"
        credential = {{ kind = \"static\", secret_file = \"group.secret\", header = \"X-Key\" }}",
        "x".repeat(64)
    );
    let servers = load(&fixture, &text).servers;
    let [github, mail] = servers.as_slice() else { panic!() };
    assert_eq!(github.allow[0].upstream_scopes.as_deref(), Some("a b"));
    assert_eq!((github.allow[0].groups.len(), github.deny[0].tools.len()), (2, 1));
    assert_eq!((mail.name.len(), mail.previous_names.len(), mail.allow.len()), (64, 2, 0));
    assert_eq!(mail.title.as_deref(), Some("Ein Übermittler"));
    let Credential::Static { header, .. } = &mail.credential else { panic!() };
    assert_eq!(header.as_ref().unwrap(), "x-key");
}

/// The path of the file may be relative, as on the command line.
#[test]
fn a_file_in_the_current_folder_is_read() {
    let loaded = super::super::read::parse(BASE, "token-broker.toml", Path::new(""), []);
    let error = loaded.err().unwrap().to_string();
    let folder = "which is relative to the folder of token-broker.toml";
    assert!(error.contains(folder) && !error.contains("current folder"), "{error}");
}
