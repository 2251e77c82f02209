//! Masks echoes of a credential in a response, also across the boundaries of its chunks.
//!
//! The guard searches for the last bytes of the token in these forms: plain, base64 (both
//! alphabets, every alignment, with `+` and `/` also as JSON and URLs escape them), hexadecimal,
//! percent-encoded and JSON-escaped (also if only some characters are). It overwrites each with as
//! many `*`, so lengths and JSON syntax stay valid. Of a stream it holds back only the longest
//! suffix that may begin such a form.
//!
//! It cannot stop an upstream that transforms the token otherwise, such as by encryption or
//! compression.

mod body;
mod search;
mod watched;

pub use body::LeakGuardBody;

pub(crate) use search::SecretForms;
pub(crate) use watched::Watched;
