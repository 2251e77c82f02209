//! Compares the output of the commands with their documents.

#![cfg(test)]

mod absent_endpoints;
mod access_lists;
mod audit_folder;
mod audit_verify;
mod connect;
mod demo;
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

#[test]
fn wrong_use_has_exit_code_2() {
    let run = Command::new(env!("CARGO_BIN_EXE_token-broker")).arg("dmeo").output().unwrap();
    assert_eq!(run.status.code(), Some(2));
}
