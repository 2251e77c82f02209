//! JSON: the one strict reader of untrusted text, and the writer of strings.

mod strict;
mod write;

pub use strict::{JsonError, Kind, Limits, Reader, Value};
pub(crate) use write::{push_ascii_json_string, push_json_string};
