//! Tests of `init`.

use std::collections::HashSet;

use super::*;
use crate::configuration::{self, Tokens};

#[test]
fn the_files_are_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("broker");
    let trial = folder.join("trial");
    for (folder, tokens) in [(&folder, TokensFrom::Login), (&trial, TokensFrom::Trial)] {
        let steps = run(folder, tokens).unwrap();
        let is_trial = tokens == TokensFrom::Trial;
        for (file, is_written) in
            [(CONFIGURATION, true), (STORE_KEY, true), (SIGNING_KEY, is_trial)]
        {
            let path = folder.join(file);
            assert_eq!(path.exists(), is_written, "{file}");
            assert_eq!(steps.contains(&path.display().to_string()), is_written, "{steps}");
        }
        let loaded = configuration::read(&folder.join(CONFIGURATION), []);
        let configuration = loaded.map_err(|error| error.to_string()).unwrap().configuration;
        match tokens {
            TokensFrom::Login => assert!(matches!(configuration.tokens, Tokens::Login(_))),
            TokensFrom::Trial => assert!(matches!(configuration.tokens, Tokens::Trial { .. })),
        }
        assert_eq!(configuration.servers.len(), 0);
    }
}

#[test]
fn keys_are_random_and_private() {
    let mut keys = HashSet::new();
    for _ in 0..4 {
        let folder = tempfile::tempdir().unwrap();
        let steps = run(folder.path(), TokensFrom::Trial).unwrap();
        let line = fs::read_to_string(folder.path().join(STORE_KEY)).unwrap();
        let octets = line.clone().into_bytes();
        assert_eq!(KeyRing::parse(&line).unwrap().key_ids().count(), 1);
        assert!(!steps.contains(line.trim()));
        let document = fs::read(folder.path().join(SIGNING_KEY)).unwrap();
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &document).unwrap();
        assert!(keys.insert(octets) && keys.insert(document));
        #[cfg(unix)]
        for key in [STORE_KEY, SIGNING_KEY] {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(folder.path().join(key)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "O283 {key}");
        }
    }
}

/// Each of the files, existing as a file, a folder or a dangling link, stops everything.
#[test]
fn an_existing_file_is_never_overwritten() {
    type Make = fn(&Path);
    let makes: [(&str, Make); 3] = [
        ("file", |path| fs::write(path, "kept").unwrap()),
        ("folder", |path| fs::create_dir(path).unwrap()),
        ("link", |path| std::os::unix::fs::symlink("nowhere", path).unwrap()),
    ];
    for name in [CONFIGURATION, STORE_KEY, SIGNING_KEY] {
        for (kind, make) in makes {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(name);
            make(&path);
            let error = run(folder.path(), TokensFrom::Trial).unwrap_err();
            assert!(matches!(&error, InitError::Exists { path: of } if *of == path), "{kind}");
            assert!(error.to_string().contains(name), "{error}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{kind} {name}");
            if kind == "file" {
                assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
            }
        }
    }
    // A second run is refused by the files of the first.
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), TokensFrom::Trial).unwrap();
    let key = fs::read(folder.path().join(STORE_KEY)).unwrap();
    assert!(run(folder.path(), TokensFrom::Trial).is_err());
    assert_eq!(fs::read(folder.path().join(STORE_KEY)).unwrap(), key);
}

#[test]
fn a_folder_that_cannot_be_created_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), folder.path().join("a/b")] {
        let error = run(&path, TokensFrom::Trial).unwrap_err();
        assert!(matches!(error, InitError::NotCreated { .. }), "{error}");
    }
}

fn uncommented(text: &str) -> String {
    text.lines()
        .map(|line| line.trim_start_matches("# ").trim_start_matches('#'))
        .fold(String::new(), |text, line| format!("{text}{line}\n"))
}

/// The commented parts of the template are right, too.
#[test]
fn the_samples_of_the_template_load() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), TokensFrom::Login).unwrap();
    let path = folder.path().join(CONFIGURATION);
    let template = fs::read_to_string(&path).unwrap();
    let mut with_servers = template.clone();
    for sample in template.split("# [[server]]\n").skip(1) {
        let sample = sample.split("\n\n").next().unwrap();
        with_servers.push_str(&format!("\n[[server]]\n{}", uncommented(sample)));
    }
    fs::write(&path, with_servers).unwrap();
    for secret in ["search.secret", "notes.secret"] {
        let secret = folder.path().join(secret);
        create(&secret, &Secret::from_text("kept-in-a-file".to_owned()), 0o600).unwrap();
    }
    let loaded = configuration::read(&path, []).map_err(|error| error.to_string()).unwrap();
    let upstreams: Vec<_> =
        loaded.configuration.servers.iter().map(|server| server.upstream.to_string()).collect();
    assert_eq!(upstreams, ["https://mcp.search.example/mcp", "http://127.0.0.1:9000/mcp"]);

    let (before, rest) = template.split_once("[login]\n").unwrap();
    let (_, jwt) = rest.split_once("# [tokens]\n").unwrap();
    let (jwt, _) = jwt.split_once("\n\n").unwrap();
    fs::write(&path, format!("{before}[tokens]\n{}", uncommented(jwt))).unwrap();
    let loaded = configuration::read(&path, []).map_err(|error| error.to_string()).unwrap();
    assert!(matches!(loaded.configuration.tokens, Tokens::Jwt { .. }));
}
