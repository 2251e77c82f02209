//! Hostile cases T324, T325 and O283 where they concern the configuration and its files. The
//! messages are in `wrong_files.txt`.

use std::{fs, os::unix::fs::symlink};

use super::{
    super::read::read,
    fixture::{BASE, Fixture, server, with},
};

/// No other spelling of a key is read as the key, at any level.
#[test]
fn t325_unknown_keys_are_refused_everywhere() {
    let fixture = Fixture::new();
    for (from, to) in [
        ("[store]", "requre_pkce = true\n[store]"),
        ("[store]", "[store]\nrequre_pkce = true"),
        ("[audit]", "[audit]\nFolder = \"audit\""),
        ("[tokens]", "[tokens]\n\"\" = 1"),
        ("[[server]]", "[[server]]\nname2 = \"x\""),
        ("[server.credential]", "[server.credential]\nclient_id_ = \"x\""),
        ("[[server.allow]]", "[[server.allow]]\ntool = [\"*\"]"),
        ("[[server.allow]]", "[[server.allows]]\ntools = [\"*\"]\n[[server.allow]]"),
        ("[store]", "[store.options]\na = 1\n[store]"),
        ("[audit]", "[unknown]\n[audit]"),
        ("[audit]", "[tls]\nkey_fil = \"tls.key\"\n[audit]"),
        ("[audit]", "[log]\nlevel = \"debug\"\n[audit]"),
    ] {
        let error = fixture.load(&with(from, to)).err().unwrap_or_else(|| panic!("T325 {to}"));
        assert!(error.contains("unknown key"), "T325 {to}: {error}");
    }
    assert!(fixture.load(BASE).is_ok());
}

/// An error of a value is found in a table with a misspelt key, and under its misspelt header.
#[test]
fn t325_all_errors_are_reported_at_once() {
    let fixture = Fixture::new();
    let text = BASE
        .replace("[audit]", "[Audit]")
        .replace("folder = \"audit\"", "folder = \"a-file\"")
        .replace("upstream =", "up_steam =")
        .replace("https://mcp.github", "http://mcp.github")
        .replace("tools =", "tool =")
        .replace("\"get_*\"", "\"\"");
    let error = fixture.load(&text).err().unwrap();
    let lines: Vec<_> = error.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(lines.len(), 6, "T325 {error}");
}

#[test]
fn t324_a_start_without_safety_is_refused() {
    let fixture = Fixture::new();
    for (text, problem) in [
        (with("https://idp.example.com", "http://idp.example.com"), "`issuer` must be https"),
        (with("https://login.github.example\"", "http://a.example\""), "`issuer` must be https"),
        (with("https://broker.example.com", "http://broker.example.com"), "must be https"),
        (with("127.0.0.1:8080", "0.0.0.0:8080"), "in plain text from other machines"),
        (with("key_file = \"token-broker.key\"", ""), "`key_file` is missing"),
        (with("\"token-broker.key\"", "\"empty.secret\""), "is empty"),
        (with("\"audit\"", "\"a-file\""), "cannot be a folder"),
        (with("\"audit\"", "\"a-file/audit\""), "cannot be a folder"),
        (with("\"audit\"", "\"missing/audit\""), "nor the folder above it exists"),
        (format!("{BASE}{}", server()), "the name `github` occurs twice"),
        (
            format!(
                "{BASE}{}",
                server().replace("\"github\"", "\"x\"\nprevious_names = [\"github\"]")
            ),
            "the name `github` occurs twice",
        ),
    ] {
        let error = fixture.load(&text).err().unwrap_or_else(|| panic!("T324 {problem}"));
        assert!(error.contains(problem), "T324 {problem}: {error}");
    }
}

#[test]
fn t324_a_default_secret_is_refused_wherever_it_is() {
    let fixture = Fixture::new();
    for secret in ["changeme", "secret", "Password1", "<client-secret>", "xxxxxxxxxxxxxxxxxxxxxxxx"]
    {
        fixture.write("github.secret", secret, 0o600);
        let error = fixture.load(BASE).err().unwrap();
        assert!(error.contains("`client_secret` is a placeholder"), "T324 {error}");
        assert!(!error.contains(secret) || secret == "secret", "T324 {error}");
    }
}

#[test]
fn o283_a_file_that_others_may_read_is_refused() {
    let fixture = Fixture::new();
    let key = fs::read_to_string(fixture.path().join("token-broker.key")).unwrap();
    for mode in [0o644, 0o604, 0o602, 0o620, 0o660, 0o666, 0o777, 0o444, 0o601] {
        fixture.write("token-broker.key", &key, mode);
        let error = fixture.load(BASE).err().unwrap();
        assert!(error.contains("others may read or change"), "O283 {mode:o}: {error}");
        assert!(!error.contains(key.trim()), "O283 {error}");
    }
    for mode in [0o600, 0o400, 0o640, 0o440] {
        fixture.write("token-broker.key", &key, mode);
        assert!(fixture.load(BASE).is_ok(), "O283 {mode:o}");
    }
}

/// By file or variable, and without a part of the key.
#[test]
fn o283_a_key_that_can_be_guessed_is_refused() {
    let fixture = Fixture::new();
    let variable = "TOKEN_BROKER__STORE__KEY";
    let good = fs::read_to_string(fixture.path().join("token-broker.key")).unwrap();
    for key in [
        "",
        "\n",
        "changeme",
        // 32 zeros, 16 octets, a text, one octet again and again.
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "f4Ck3q9aS0mYx2v1Zk7hTw",
        "dGhpcyBpcyBhIHRleHQgb2YgdGhpcnR5LXR3byBvY3Q",
        "paWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaU",
        &format!("{good}{good}"),
        &format!("{good}changeme\n"),
    ] {
        fixture.write("token-broker.key", key, 0o600);
        for loaded in [fixture.load(BASE), fixture.load_with(BASE, &[(variable, key)])] {
            let error = loaded.err().unwrap_or_else(|| panic!("O283 {key}"));
            let is_of_key = error.contains("the keys of the store cannot be used")
                || error.contains("token-broker.key is empty");
            assert!(is_of_key, "O283 {key}: {error}");
            assert!(
                key.lines().all(|line| line.is_empty() || !error.contains(line)),
                "O283 {error}"
            );
        }
    }
    assert!(fixture.load_with(BASE, &[(variable, &good)]).is_ok(), "O283");
}

/// The mode is that of the file itself, and one file is one file by whatever name.
#[test]
fn o283_links_are_followed() {
    let fixture = Fixture::new();
    let at = |name: &str| fixture.path().join(name);
    symlink(at("open.secret"), at("open.link")).unwrap();
    symlink(at("github.secret"), at("same.link")).unwrap();
    fs::hard_link(at("github.secret"), at("same.hard")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    for (name, problem) in [
        ("open.link", "others may read"),
        ("same.link", "names the same file as"),
        ("same.hard", "names the same file as"),
        ("./a-folder/../github.secret", "names the same file as"),
        ("dangling", "does not exist"),
    ] {
        let error = fixture.load(&with("token-broker.key", name)).err().unwrap();
        assert!(error.contains(problem), "O283 {name}: {error}");
    }
}

/// A pipe would block the start, and a device never ends.
#[test]
fn o283_only_regular_files_are_read() {
    let fixture = Fixture::new();
    for name in ["/dev/zero", "/dev/null", "a-folder", "/"] {
        let error = fixture.load(&with("token-broker.key", name)).err().unwrap();
        assert!(error.contains("is no regular file"), "O283 {name}: {error}");
    }
    let large = "x".repeat(1024 * 1024 + 1);
    fixture.write("token-broker.key", &large, 0o600);
    let error = fixture.load(BASE).err().unwrap();
    assert!(error.contains("larger than 1 MiB"), "O283 {error}");
}

/// A secret in place of its path is not printed.
#[test]
fn o283_a_missing_file_is_not_named() {
    let fixture = Fixture::new();
    let long = "Zq7".repeat(500);
    for path in ["Zq7-key", "Zq7/key+/=", "github.secret/Zq7", &long, "Zq7\\u0000"] {
        let error = fixture.load(&with("token-broker.key", path)).err().unwrap();
        assert!(error.contains("the file of `key_file` does not exist"), "O283 {error}");
        assert!(!error.contains("Zq7"), "O283 {error}");
    }
}

#[test]
fn the_file_itself_may_be_unreadable() {
    let fixture = Fixture::new();
    fs::write(fixture.path().join("octets.toml"), [0xff, 0xfe]).unwrap();
    for (name, problem) in [
        ("missing.toml", "cannot be read"),
        ("a-folder", "cannot be read"),
        ("octets.toml", "is not UTF-8"),
        ("/dev/zero", "is larger than 4 MiB"),
    ] {
        let error = read(&fixture.path().join(name), []).err().unwrap().to_string();
        assert!(error.contains(problem), "{error}");
    }
    assert!(
        read(&fixture.path().join("missing.toml"), [])
            .err()
            .unwrap()
            .to_string()
            .contains("token-broker init")
    );
}

/// A file of errors is reported in bounded time and length.
#[test]
fn many_errors_are_cut() {
    let fixture = Fixture::new();
    let keys: String = (0..500).map(|key| format!("x{key} = 1\n")).collect();
    let error = fixture.load(&format!("{keys}{BASE}")).err().unwrap();
    assert_eq!(error.lines().count(), 201, "{error}");
    assert!(error.ends_with("\nand 400 more errors"), "{error}");
}
