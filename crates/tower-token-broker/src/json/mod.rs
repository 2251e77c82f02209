//! JSON: a strict reader of untrusted text, and a writer of strings.

mod content;
mod member_names;
mod strict;
mod watch;
mod write;

pub(crate) use member_names::{MemberName, is_same_as_any};
pub use strict::{JsonError, Kind, Limits, Reader, Value};
pub(crate) use watch::{Watch, changes_prototypes};
pub(crate) use write::{push_ascii_json_string, push_json_string};
