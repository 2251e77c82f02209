//! Tests of `check`.

use std::{ffi::OsString, fs, path::Path};

use super::*;
use crate::init;

/// The configuration of `init`, with a part replaced.
fn checked_with(replacements: &[(&str, &str)], variables: &[(&str, &str)]) -> (String, u8) {
    let folder = tempfile::tempdir().unwrap();
    init::run(folder.path(), init::TokensFrom::Trial).unwrap();
    let path = folder.path().join("token-broker.toml");
    let mut text = fs::read_to_string(&path).unwrap();
    for (from, to) in replacements {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    fs::write(&path, text).unwrap();
    write_private(&folder.path().join("search.secret"), "Zq7-a-secret-in-a-file\n");
    write_private(&folder.path().join("store.url"), "postgres://broker:Zq7-password@db/broker");
    let variables =
        variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let before = entries(folder.path());
    let checked = checked(&path, variables);
    assert_eq!(entries(folder.path()), before, "nothing is written");
    let folder = folder.path().display().to_string();
    (checked.to_string().replace(&folder, "FOLDER"), checked.exit_code())
}

fn entries(folder: &Path) -> Vec<OsString> {
    let mut entries: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    entries.sort();
    entries
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn the_configuration_of_init_is_that_of_a_trial() {
    let (text, code) = checked_with(&[], &[]);
    assert_eq!(code, 0);
    assert_eq!(
        text,
        "FOLDER/token-broker.toml: no errors; no servers, no rules
2 weakened defaults
FOLDER/token-broker.toml:7:14: plain http in `public_url`
  only clients on this machine can use the gateway
FOLDER/token-broker.toml:23:8: tokens for trials
  all who can read the signing key can issue tokens for any user; use the tokens of an identity
  provider in production"
    );
}

#[test]
fn errors_have_the_exit_code_of_a_wrong_configuration() {
    let (text, code) = checked_with(&[("[store]", "[stores]")], &[]);
    assert_eq!(code, 78);
    assert!(text.starts_with("FOLDER/token-broker.toml:14:2: unknown key `stores`"), "{text}");
    assert_eq!(run(Path::new("/missing/token-broker.toml")).exit_code(), 78);
}

const SERVER: &str = r#"
[[server]]
name = "search"
upstream = "https://mcp.search.example/mcp"
[server.credential]
kind = "static"
secret_file = "search.secret"
scopes = ["a"]
[[server.allow]]
tools = ["search_*"]
"#;
/// The end of the file, where a server can follow.
const END: &str = "# tools = [\"search_*\"]\n";
const OAUTH: &str = r#"kind = "oauth"
issuer = "https://a.example"
token_endpoint = "https://a.example/token"
client_id = "c"
client_secret_file = "search.secret""#;

/// Each weakened default has its line, and no secret is shown.
#[test]
fn each_weakened_default_is_reported() {
    let server = |from: &str, to: &str| format!("{END}{}", SERVER.replacen(from, to, 1));
    let (upstream, of_static) = (
        "upstream = \"https://mcp.search.example/mcp\"",
        "kind = \"static\"\nsecret_file = \"search.secret\"",
    );
    let with = |more: &str| server(upstream, &format!("{upstream}\n{more}"));
    let jwt = |more: &str| format!("kind = \"jwt\"\nissuer = \"https://i.example\"\n{more}");
    let trial = "kind = \"trial\"\nsigning_key_file = \"trial-signing.key\"";
    let (listen, url) = ("listen = \"127.0.0.1:8080\"", "url = \"sqlite://token-broker.db\"");
    let rows: Vec<(&str, String, &str)> = vec![
        (listen, "listen = \"127.0.0.1:9090\"".into(), "`public_url` has another port"),
        (
            listen,
            format!("{listen}\ntrusted_proxies = [\"10.0.0.1\"]"),
            "plain connections from `trusted_proxies`",
        ),
        (
            listen,
            format!("{listen}\ntrusted_proxies = [\"::/0\"]"),
            "every address is a trusted proxy",
        ),
        (url, "url = \"sqlite::memory:\"".into(), "a store in memory"),
        (
            url,
            "url = \"postgres://u@db/b?sslmode=require\"".into(),
            "the database is not authenticated",
        ),
        (
            url,
            "url = \"postgres://u:Zq7-pass@db/b?sslmode=verify-full\"".into(),
            "a password in the URL of the store",
        ),
        ("[audit]", "[log]\nfilter = \"debug\"\n[audit]".into(), "log lines for developers"),
        (trial, jwt("audience = \"a\""), "one `audience` for all servers"),
        (trial, jwt("profile = \"cognito\"\nclients = [\"c\"]"), "tokens without an audience"),
        (trial, jwt("private_hosts = [\"i.example\"]"), "tokens: `private_hosts`"),
        (END, server("", ""), "search: one static secret for all users"),
        (END, server("scopes = [\"a\"]", ""), "search: no `scopes`"),
        (
            END,
            server("[[server.allow]]\ntools = [\"search_*\"]\n", ""),
            "search: no rule allows anything",
        ),
        (END, server("\"search_*\"", "\"a\", \"*\""), "search: all tools (`*`)"),
        (
            END,
            server("tools = [\"search_*\"]", "resources = [\"**\"]"),
            "search: all resources (`*`)",
        ),
        (END, with("loopback_hosts = [\"localhost\"]"), "search: `loopback_hosts`"),
        (END, with("private_hosts = [\"h\"]"), "search: `private_hosts`"),
        (END, with("plain_http = [\"h:80\"]"), "search: `plain_http`"),
        (END, server("example/mcp\"", "example/mcp?key=Zq7\""), "search: `upstream` has a query"),
        (
            END,
            server(of_static, &OAUTH.replace("oauth", "client_credentials")),
            "search: one token for all users",
        ),
        (
            END,
            server(of_static, &format!("{OAUTH}\nomit_scope_on_refresh = true")),
            "search: refreshes without `scope`",
        ),
        (
            END,
            server(
                of_static,
                &OAUTH.replace(
                    "client_secret_file = \"search.secret\"",
                    "client_authentication = \"none\"",
                ),
            ),
            "search: a client without a secret",
        ),
    ];
    for (from, to, finding) in rows {
        let (text, code) = checked_with(&[(from, &to)], &[]);
        assert_eq!(code, 0, "{finding}: {text}");
        let line = text.lines().find(|line| line.ends_with(finding));
        let line = line.unwrap_or_else(|| panic!("{finding}: {text}"));
        assert!(line.starts_with("FOLDER/token-broker.toml:"), "{line}");
        assert!(!text.contains("Zq7"), "{text}");
        // The setting that it replaces is not reported.
        let (before, _) = checked_with(&[], &[]);
        assert!(!before.contains(finding), "{finding}");
    }
}

#[test]
fn a_strict_configuration_has_nothing_to_report() {
    let oauth = SERVER.replace("kind = \"static\"\nsecret_file = \"search.secret\"", OAUTH);
    let (text, code) = checked_with(
        &[
            ("http://127.0.0.1:8080", "https://broker.example.com"),
            (
                "kind = \"trial\"\nsigning_key_file = \"trial-signing.key\"",
                "kind = \"jwt\"\nissuer = \"https://i.example\"",
            ),
            (END, &format!("{END}{oauth}")),
        ],
        &[],
    );
    assert_eq!(code, 0);
    assert_eq!(text, "FOLDER/token-broker.toml: no errors; 1 server, 1 rule\nno weakened defaults");
}

/// A password in a variable is not in the file.
#[test]
fn a_variable_is_named_in_place_of_a_line() {
    let url = "postgres://u:Zq7-pass@db/b?sslmode=disable";
    let (text, _) = checked_with(&[], &[("TOKEN_BROKER__STORE__URL", url)]);
    assert!(
        text.contains("\nTOKEN_BROKER__STORE__URL: the database is not authenticated"),
        "{text}"
    );
    assert!(!text.contains("a password in the URL") && !text.contains("Zq7"), "{text}");
}
