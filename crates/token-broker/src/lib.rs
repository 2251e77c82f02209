//! The token-broker gateway: one binary in front of MCP servers, its configuration, the commands on
//! its store, the demo, and the commands for audit files and folders.
//!
//! The layers are in `tower-token-broker`, the stores in `token-broker-sql`, the demo in
//! `token-broker-demo`. Sign-in of users comes with later releases.

pub mod audit;
pub mod audit_folder;
pub mod audit_removal;
pub mod check;
pub mod commands;
pub mod configuration;
mod escaped;
pub mod gateway;
pub mod init;
mod writers;
