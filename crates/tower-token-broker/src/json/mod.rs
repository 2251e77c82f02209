//! JSON: a strict reader of untrusted text, and a writer of strings.

mod strict;
mod write;

pub(crate) use strict::Watch;
pub use strict::{JsonError, Kind, Limits, Reader, Value};
pub(crate) use write::{push_ascii_json_string, push_json_string};
