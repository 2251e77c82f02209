//! The operators' guide has each reason that a record can have, and no other.

use std::{collections::BTreeSet, fs, path::Path};

use tower_token_broker::refusal::Reason;

#[test]
fn each_reason_stands_in_the_operators_guide_with_what_to_do() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operating.md");
    let guide = fs::read_to_string(guide).unwrap();
    let mut explained = BTreeSet::new();
    for row in guide.lines().filter(|line| line.starts_with("| `")) {
        let columns: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [reasons, happened, to_do] = columns[..] else { panic!("{row}") };
        assert!(!happened.is_empty() && !to_do.is_empty(), "{row}");
        for reason in reasons.split(", ") {
            let code = reason.trim_matches('`');
            assert!(explained.insert(code.to_owned()), "{code} stands twice");
        }
    }
    let all: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.code().to_owned()).collect();
    assert_eq!(explained, all);
}
