//! Compares the output of the commands with their documents.

#![cfg(test)]

mod absent_endpoints;
mod access_lists;
mod audit_folder;
mod audit_verify;
mod connect;
mod documents;
mod gateway;
mod login;
mod overload;
mod postgres;
mod processes;
#[cfg(target_os = "linux")]
mod secrets_of_the_process;
mod setup;
mod store;

use std::process::Command;

use token_broker_tests::marker_scan::Scan;

/// The output has no form of any secret, as text or as JSON, even with every log event.
#[test]
fn the_output_of_the_demo_has_no_secret() {
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
            // Each secret has the marker. The output above states that secrets were used.
            scan.secret("a secret of the demo", token_broker_demo::MARKER)
                .received(token_broker_demo::MARKER.as_bytes());
            scan.source(format!("stdout of {arguments:?}"), run.stdout)
                .source(format!("stderr at {log}"), run.stderr);
            assert_eq!(scan.run(), Ok(()), "{arguments:?} {log}");
        }
    }
}

#[test]
fn the_demo_prints_one_object_as_documented() {
    let run =
        Command::new(env!("CARGO_BIN_EXE_token-broker")).args(["demo", "--json"]).output().unwrap();
    assert!(run.status.success());
    let text = std::str::from_utf8(&run.stdout).unwrap();
    let report: serde_json::Value = text.parse().unwrap();
    assert_eq!(report["pass"], true);
    // Each member and each check is documented.
    let document = include_str!("../../../../docs/demo.md");
    for member in report.as_object().unwrap().keys() {
        assert!(document.contains(&format!("`{member}`")), "{member}");
    }
    for check in report["checks"].as_array().unwrap() {
        assert!(document.contains(check["name"].as_str().unwrap()), "{check}");
    }
}

#[test]
fn wrong_use_has_exit_code_2() {
    let run = Command::new(env!("CARGO_BIN_EXE_token-broker")).arg("dmeo").output().unwrap();
    assert_eq!(run.status.code(), Some(2));
}
