//! The token-broker gateway. So far: the demo, and the commands for audit files and folders.
//!
//! The layers are in `tower-token-broker`, the demo is in `token-broker-demo`. The gateway with its
//! configuration, its authorization server and its store comes with later releases.

pub mod audit;
pub mod audit_folder;
pub mod audit_removal;
pub mod check;
pub mod configuration;
mod escaped;
pub mod init;
