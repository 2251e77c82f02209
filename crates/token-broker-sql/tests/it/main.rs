#![cfg(test)]

//! The stores of SQLite and PostgreSQL.

mod account_names;
mod at_rest;
mod authority_at_rest;
mod authority_changed_rows;
mod authority_interrupted;
mod authority_processes;
mod authority_rotation;
mod authority_support;
mod backup;
mod connects;
mod connects_at_rest;
mod contract;
mod hostile_text;
mod opening;
mod processes;
mod rotation;
mod support;
mod unreachable;
