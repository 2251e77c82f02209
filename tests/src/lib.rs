//! Support for the end-to-end tests: raw HTTP, scripted upstreams, and a complete broker on
//! loopback.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code outside of a tests folder"
)]

pub mod account_server;
pub mod flaky_grants;
pub mod grpc;
pub mod harness;
pub mod ledger;
pub mod logs;
pub mod marker_scan;
pub mod person;
pub mod polls;
pub mod token_endpoint;
pub mod upstream;
pub mod wire;
