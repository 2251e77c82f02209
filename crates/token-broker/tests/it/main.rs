//! The demo proves what it says: each check was seen false.

#![cfg(test)]

use std::process::Command;

use token_broker::demo::{self, Sabotage};

#[tokio::test(flavor = "multi_thread")]
async fn every_check_holds() {
    let report = demo::run().await.unwrap();
    assert!(report.pass, "{report}");
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
        (Sabotage::RevokeNobody, "revoke_shuts_both_servers"),
        (Sabotage::LeaveARouteUnwatched, "requests_equal_terminal_records"),
        (Sabotage::EditTheAudit, "audit_chain_holds"),
        (Sabotage::UseTheTokenUnseen, "every_use_had_an_intent"),
        (Sabotage::LeakTheToken, "no_upstream_token_came_back"),
    ] {
        let report = demo::run_with(Some(sabotage)).await.unwrap();
        let broken = report.checks.iter().find(|found| found.name == check).unwrap();
        assert!(!broken.pass, "{sabotage:?} and {check}: {}", broken.found);
        assert!(!report.pass);
    }
}

#[test]
fn the_command_prints_one_object_and_says_by_its_exit_code_whether_all_holds() {
    let run = Command::new(env!("CARGO_BIN_EXE_token-broker")).args(["demo", "--json"]).output().unwrap();
    assert!(run.status.success());
    let text = std::str::from_utf8(&run.stdout).unwrap();
    assert!(!text.contains(demo::upstream::MARKER), "what the demo prints holds no secret");
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
