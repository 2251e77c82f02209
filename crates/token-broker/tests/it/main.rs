//! The demo proves what it says: each check was seen false. What the other commands print is what
//! their documents say.

#![cfg(test)]

mod audit_verify;

use std::process::Command;

use token_broker::demo::{self, Sabotage};
use token_broker_tests::marker_scan::Scan;

#[tokio::test(flavor = "multi_thread")]
async fn every_check_holds() {
    let report = demo::run().await.unwrap();
    assert!(report.pass, "{report}");
    assert_eq!(report.exit_code(), 0);
    assert_eq!(report.checks.len(), 14);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_check_turns_false_where_its_place_is_broken() {
    for (sabotage, check) in [
        (Sabotage::CloseTheBackDoor, "raw_token_works_behind_the_servers_back"),
        (Sabotage::ShowEveryTool, "hidden_tool_is_not_listed"),
        (Sabotage::RefuseEveryCall, "allowed_call_reaches_the_upstream"),
        (Sabotage::AllowEveryTool, "denied_call_never_reaches_the_upstream"),
        (Sabotage::AskForNoScope, "missing_scope_is_asked_for_and_then_enough"),
        (Sabotage::ForwardEveryScope, "upstream_sees_the_operators_scopes"),
        (Sabotage::RefreshFromElsewhere, "hundred_calls_are_one_refresh"),
        (Sabotage::OneAudienceForAll, "broker_token_is_good_for_one_server_alone"),
        (Sabotage::RevokeNobody, "revoke_ends_the_open_stream"),
        (Sabotage::RevokeAtOneServer, "revoke_shuts_both_servers"),
        (Sabotage::LeaveARouteUnwatched, "requests_equal_terminal_records"),
        (Sabotage::EditTheAudit, "audit_chain_holds"),
        (Sabotage::UseTheTokenUnseen, "every_use_had_an_intent"),
        (Sabotage::LeakTheToken, "no_upstream_token_came_back"),
    ] {
        let report = demo::run_with(Some(sabotage)).await.unwrap();
        let broken = report.checks.iter().find(|found| found.name == check).unwrap();
        assert!(!broken.pass, "{sabotage:?} and {check}: {}", broken.found);
        assert!(!report.pass);
        assert_eq!(report.exit_code(), 1);
        // Of the two checks of one revoke, the other one holds here.
        if sabotage == Sabotage::RevokeAtOneServer {
            let stream = report
                .checks
                .iter()
                .find(|found| found.name == "revoke_ends_the_open_stream")
                .unwrap();
            assert!(stream.pass, "{}", stream.found);
        }
    }
}

/// What the command prints has no form of any secret, in plain words or as an object, not even
/// where everybody logs all they know.
#[test]
fn nothing_that_the_command_prints_holds_a_secret() {
    for arguments in [&["demo"][..], &["demo", "--json"]] {
        for log in ["off", "trace"] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_token-broker"));
            let run = command.args(arguments).env("RUST_LOG", log).output().unwrap();
            assert!(run.status.success(), "{arguments:?} {log}");
            let printed = std::str::from_utf8(&run.stdout).unwrap();
            assert!(
                printed.contains("secrets in play; found on the client's wire or in the audit: 0"),
                "{printed}"
            );
            assert_eq!(run.stderr.is_empty(), log == "off", "{arguments:?} {log}");
            let mut scan = Scan::new();
            // Each secret has the marker, and that secrets were in play is what the command itself
            // has just said.
            scan.secret("a secret of the demo", demo::upstream::MARKER)
                .received(demo::upstream::MARKER.as_bytes());
            scan.source(format!("stdout of {arguments:?}"), run.stdout)
                .source(format!("stderr at {log}"), run.stderr);
            assert_eq!(scan.run(), Ok(()), "{arguments:?} {log}");
        }
    }
}

#[test]
fn the_command_prints_one_object_and_says_by_its_exit_code_whether_all_holds() {
    let run =
        Command::new(env!("CARGO_BIN_EXE_token-broker")).args(["demo", "--json"]).output().unwrap();
    assert!(run.status.success());
    let text = std::str::from_utf8(&run.stdout).unwrap();
    let report: serde_json::Value = text.parse().unwrap();
    assert_eq!(report["pass"], true);
    // Each member that is documented is there, and each that is there is documented.
    let document = include_str!("../../../../docs/demo.md");
    for member in report.as_object().unwrap().keys() {
        assert!(document.contains(&format!("`{member}`")), "{member}");
    }
    for check in report["checks"].as_array().unwrap() {
        assert!(document.contains(check["name"].as_str().unwrap()), "{check}");
    }
}

#[test]
fn wrong_use_is_said_with_exit_code_2() {
    let run = Command::new(env!("CARGO_BIN_EXE_token-broker")).arg("dmeo").output().unwrap();
    assert_eq!(run.status.code(), Some(2));
}

/// Doc tests compile what the guides show. They have hidden lines beside, which a guide could not
/// hide.
#[test]
fn the_guides_show_what_doc_tests_compile() {
    let sources = [include_str!("../../src/lib.rs"), include_str!("../../src/guides.rs")];
    let compiled: Vec<String> =
        sources.iter().flat_map(|source| blocks(source, "```no_run\n")).collect();
    let guides = [
        include_str!("../../../../README.md"),
        include_str!("../../../../docs/audit.md"),
        include_str!("../../../../docs/credentials.md"),
        include_str!("../../../../docs/embedding.md"),
        include_str!("../../../../docs/operating.md"),
    ];
    let mut shown = 0;
    for block in guides.iter().flat_map(|guide| blocks(guide, "```rust\n")) {
        assert!(compiled.contains(&block), "no doc test compiles this:\n{block}");
        shown += 1;
    }
    assert_eq!(shown, compiled.len(), "a doc test compiles what no guide shows");
}

fn blocks(text: &str, opening: &str) -> Vec<String> {
    let visible = |block: &str| {
        let lines = block.split("```").next().unwrap_or_default().lines();
        let lines = lines.map(|line| {
            line.strip_prefix("//!").map_or(line, |line| line.strip_prefix(' ').unwrap_or(line))
        });
        lines
            .filter(|line| !line.starts_with("# ") && !line.is_empty())
            .map(|line| format!("{line}\n"))
            .collect()
    };
    text.split(opening).skip(1).map(visible).collect()
}
