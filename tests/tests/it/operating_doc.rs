//! Compares the operations guide with the closed lists of reasons and alarms.

use std::{collections::BTreeSet, fs, path::Path};

use tower_token_broker::{
    alarm::Alarm,
    cause::Cause,
    refusal::{Fault, Reason},
};

/// Returns the codes of the tables below a heading, up to the next heading.
fn explained(heading: &str) -> BTreeSet<String> {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operating.md");
    let guide = fs::read_to_string(guide).unwrap();
    let (_, section) = guide.split_once(&format!("\n{heading}\n")).expect(heading);
    let rows = section.lines().take_while(|line| !line.starts_with('#'));
    let mut codes = BTreeSet::new();
    for row in rows.filter(|line| line.starts_with("| `")) {
        let columns: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [names, cause, to_do] = columns[..] else { panic!("{row}") };
        assert!(!cause.is_empty() && !to_do.is_empty(), "{row}");
        for name in names.split(", ") {
            let code = name.trim_matches('`');
            assert!(codes.insert(code.to_owned()), "{code} is explained twice");
        }
    }
    codes
}

#[test]
fn each_reason_is_explained_under_its_fault() {
    for (fault, heading) in [
        (Fault::Caller, "### The caller"),
        (Fault::Operator, "### The operator"),
        (Fault::Upstream, "### The upstream"),
        (Fault::Ours, "### The broker"),
    ] {
        let reasons = Reason::ALL.iter().filter(|reason| reason.fault() == fault);
        let codes: BTreeSet<_> = reasons.map(|reason| reason.code().to_owned()).collect();
        assert_eq!(explained(heading), codes, "{heading}");
    }
}

#[test]
fn each_cause_is_explained() {
    let codes: BTreeSet<_> = Cause::ALL.iter().map(|cause| cause.code().to_owned()).collect();
    assert_eq!(explained("## Causes"), codes);
}

#[test]
fn each_alarm_is_explained() {
    let codes: BTreeSet<_> = Alarm::ALL.iter().map(|alarm| alarm.code().to_owned()).collect();
    assert_eq!(explained("## Alarms"), codes);
}
