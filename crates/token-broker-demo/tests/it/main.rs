//! Every check of the demo holds, and each fails if its place is broken.

#![cfg(test)]

use token_broker_demo::{self as demo, Sabotage};

#[tokio::test(flavor = "multi_thread")]
async fn every_check_holds() {
    let report = demo::run().await.unwrap();
    assert!(report.pass, "{report}");
    assert_eq!(report.exit_code(), 0);
    assert_eq!(report.checks.len(), 14);
    // The text explains its words, and names the checks as the document does.
    let (text, document) = (report.to_string(), include_str!("../../../../docs/demo.md"));
    let names = text.replace('\'', "").replace(' ', "_");
    for check in &report.checks {
        assert!(names.contains(&format!("ok___{}\n", check.name)), "{} in {text}", check.name);
        assert!(document.contains(&format!("| {} |", check.name)), "{}", check.name);
    }
    for part in ["behind the server's back", "the operator's scopes"] {
        assert!(
            text.contains(part.trim_start_matches("the ")) && document.contains(part),
            "{part}"
        );
    }
    for part in ["  dropped: the client closed", "  Secrets in play: tokens that", "\nNext: "] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_check_fails_if_its_place_is_broken() {
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
        // The other check of the revoke still holds.
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
