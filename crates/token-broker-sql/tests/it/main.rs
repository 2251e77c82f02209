#![cfg(test)]

//! The stores of SQLite and PostgreSQL.

mod at_rest;
mod backup;
mod contract;
mod hostile_text;
mod opening;
mod processes;
mod rotation;
mod support;
mod unreachable;
