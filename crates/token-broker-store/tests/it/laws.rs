//! Each law is run for each store, and has a fault that it notices.

use std::{fs, path::Path};

fn source(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn laws(path: &str) -> Vec<String> {
    let named = |line: &str| {
        let name = line.strip_prefix("pub async fn ")?.split('<').next()?;
        Some(name.to_owned())
    };
    source(path).lines().filter_map(named).collect()
}

#[test]
fn each_law_is_listed_and_has_a_fault() {
    let listed = source("src/contract/mod.rs");
    let mut count = 0;
    for (path, faults) in [
        ("src/contract/authority/accounts.rs", "tests/it/faulty_authority/mod.rs"),
        ("src/contract/authority/clients.rs", "tests/it/faulty_authority/mod.rs"),
        ("src/contract/authority/codes.rs", "tests/it/faulty_authority/mod.rs"),
        ("src/contract/authority/families.rs", "tests/it/faulty_authority/mod.rs"),
        ("src/contract/authority/families_lists.rs", "tests/it/faulty_authority/mod.rs"),
        ("src/contract/authority/first_account.rs", "tests/it/faulty_authority/mod.rs"),
        ("src/contract/authority/sessions.rs", "tests/it/faulty_authority/mod.rs"),
        ("src/contract/authority/signing_keys.rs", "tests/it/faulty_authority/mod.rs"),
        ("src/contract/connects/clients.rs", "tests/it/faulty_connects.rs"),
        ("src/contract/connects/disconnects.rs", "tests/it/faulty_connects.rs"),
        ("src/contract/connects/finishes.rs", "tests/it/faulty_connects.rs"),
        ("src/contract/connects/pending.rs", "tests/it/faulty_connects.rs"),
        ("src/contract/connects/races.rs", "tests/it/faulty_connects.rs"),
        ("src/contract/connects/revocations.rs", "tests/it/faulty_connects.rs"),
        ("src/contract/connects/uses.rs", "tests/it/faulty_connects.rs"),
        ("src/contract/grants/keys.rs", "tests/it/faulty_grants.rs"),
        ("src/contract/grants/leases.rs", "tests/it/faulty_grants.rs"),
        ("src/contract/grants/tokens.rs", "tests/it/faulty_grants.rs"),
        ("src/contract/grants/endings.rs", "tests/it/faulty_grants.rs"),
        ("src/contract/grants/lists.rs", "tests/it/faulty_grants.rs"),
        ("src/contract/revocations.rs", "tests/it/faulty_revocations.rs"),
    ] {
        let faults = source(faults);
        for law in laws(path) {
            assert!(listed.contains(&format!("            {law},\n")), "{law} is not listed");
            assert!(faults.contains(&format!("    {law}: ")), "{law} has no fault");
            count += 1;
        }
    }
    assert!(count >= 145, "{count} laws");
}
