//! Every check of the demo holds, and each fails if its place is broken; and the demo that stays.

#![cfg(test)]

mod serve;

use token_broker_demo::{self as demo, Report, Sabotage};

#[tokio::test(flavor = "multi_thread")]
async fn every_check_holds() {
    let report = demo::run().await.unwrap();
    assert!(report.pass, "{report}");
    assert_eq!(report.exit_code(), 0);
    assert_eq!(report.checks.len(), 17);
    let (text, document) = (report.to_string(), include_str!("../../../../docs/demo.md"));
    for check in &report.checks {
        assert!(text.contains(&format!("  ok    {}\n", check.title)), "{} in {text}", check.title);
        assert!(document.contains(&format!("| {} |", check.name)), "{}", check.name);
        assert!(document.contains(check.title), "{}", check.title);
    }
    each_line_is_for_people(&text);
    each_number_that_looks_odd_is_explained(&report, &text);
    let last = text.lines().rev().find(|line| line.starts_with("Next: "));
    assert!(last.is_some_and(|line| line.contains("demo --serve")), "{text}");
}

fn each_line_is_for_people(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{line}");
        assert_eq!(line.trim_end(), line, "{line:?}");
    }
    // Each row has its step: what the client, a server and the audit have of it.
    let rows = |title: &str| text.lines().filter(|line| line.starts_with(title)).count();
    assert_eq!(rows("      client    "), rows("      audit     "), "{text}");
    for jargon in ["terminal", "intent", "x10", "[]", "door"] {
        assert!(!text.contains(jargon), "{jargon} in {text}");
    }
}

fn each_number_that_looks_odd_is_explained(report: &Report, text: &str) {
    let late = report.crm.iter().filter(|seen| {
        seen.status == 401 && seen.what == "tools/call get_contact" && seen.scopes.is_empty()
    });
    // One of them is the stolen broker token.
    let late = late.count() - 1;
    assert_eq!(text.contains(&format!("- 401 for {late} of the 100 calls")), late > 0, "{text}");
    let is_shown =
        text.lines().any(|line| line.contains(" dropped") && !line.contains("- dropped"));
    assert_eq!(text.contains("- dropped: "), is_shown, "{text}");
    for part in ["- Secrets in play: ", "- A request without a token, refused with 401"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let cells: Vec<_> = report.comparison.iter().map(|row| (&*row.before, &*row.after)).collect();
    assert_eq!(cells[0], ("6", "4"));
    assert_eq!(cells[1], ("contacts:read contacts:write export", "contacts:read contacts:write"));
    assert_eq!(cells[2], ("works", "refused (401)"));
    let (known, sent) = cells[3].1.split_once(" of ").unwrap();
    assert_eq!((cells[3].0, known), ("0 of 2", sent));
}

/// The whole story is in the logs of the servers: alice connects, and what she ends is ended there.
#[tokio::test(flavor = "multi_thread")]
async fn the_servers_saw_the_whole_story() {
    let report = demo::run().await.unwrap();
    let doors = |log: &[demo::Seen]| -> Vec<String> {
        let others = log.iter().filter(|seen| !matches!(seen.door, "mcp" | "api" | "metadata"));
        others.map(|seen| format!("{} {} {}", seen.door, seen.what, seen.scopes)).collect()
    };
    let scopes = "contacts:read contacts:write";
    let crm: Vec<_> = doors(&report.crm);
    let expected = [
        "register client ".to_owned(),
        format!("authorize page {scopes}"),
        format!("authorize allow {scopes}"),
        format!("token authorization_code {scopes}"),
        format!("token refresh_token {scopes}"),
    ];
    assert_eq!(crm, expected);
    let scopes = "tickets:read tickets:write";
    assert_eq!(
        doors(&report.tickets),
        [
            "register client ".to_owned(),
            format!("authorize page {scopes}"),
            format!("authorize allow {scopes}"),
            format!("token authorization_code {scopes}"),
            "revoke refresh_token ".to_owned(),
            "revoke access_token ".to_owned(),
        ]
    );
    // Each entry of the logs is in one step.
    let after = report.steps.iter().map(|step| step.crm.len()).sum::<usize>();
    assert_eq!(after, report.crm.len());
    let after = report.steps.iter().map(|step| step.tickets.len()).sum::<usize>();
    assert_eq!(after, report.tickets.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_check_fails_if_its_place_is_broken() {
    for (sabotage, check) in [
        (Sabotage::CloseTheBackDoor, "raw_token_works_behind_the_servers_back"),
        (Sabotage::ConnectUnseen, "account_is_connected_through_the_broker"),
        (Sabotage::ShowEveryTool, "hidden_tool_is_not_listed"),
        (Sabotage::RefuseEveryCall, "allowed_call_reaches_the_upstream"),
        (Sabotage::AllowEveryTool, "denied_call_never_reaches_the_upstream"),
        (Sabotage::AskForNoScope, "missing_scope_is_asked_for_and_then_enough"),
        (Sabotage::ForwardEveryScope, "upstream_sees_the_operators_scopes"),
        (Sabotage::RefreshFromElsewhere, "hundred_calls_are_one_refresh"),
        (Sabotage::OneAudienceForAll, "broker_token_is_good_for_one_server_alone"),
        (Sabotage::FollowNoLink, "missing_account_is_asked_for_and_then_enough"),
        (Sabotage::DisconnectNothing, "disconnect_ends_the_account_at_the_upstream"),
        (Sabotage::RevokeNobody, "revoke_ends_the_open_stream"),
        (Sabotage::RevokeAtOneServer, "revoke_shuts_both_servers"),
        (Sabotage::LeaveARouteUnwatched, "requests_equal_terminal_records"),
        (Sabotage::EditTheAudit, "audit_chain_holds"),
        (Sabotage::UseTheTokenUnseen, "every_use_had_an_intent"),
        (Sabotage::LeakTheToken, "no_upstream_token_came_back"),
    ] {
        let report = demo::run_with(Some(sabotage)).await;
        let report = report.unwrap_or_else(|error| panic!("{sabotage:?}: {error}"));
        let broken = report.checks.iter().find(|found| found.name == check).unwrap();
        assert!(!broken.pass, "{sabotage:?} and {check}: {}", broken.found);
        assert!(!report.pass);
        assert_eq!(report.exit_code(), 1);
        assert!(report.to_string().contains(&format!("  FAIL  {}\n", broken.title)));
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
