//! Masks any echo of a credential in an answer, over the borders of its chunks.
//!
//! It looks for the token's high-entropy tail as it is, in base64 (both alphabets, every alignment,
//! `+` and `/` also as JSON and URLs escape them), in hexadecimal, percent-encoded and JSON-escaped
//! (also where just some of its characters are), and overwrites what it finds with as many `*`:
//! lengths stay true, and JSON stays JSON. Of a stream it holds back only the longest suffix that
//! may begin such a form.
//!
//! It stops an echo. It cannot stop an upstream that re-encodes at will: encryption, compression or
//! a cipher of its own hide a token from any guard.

mod body;
mod search;
mod watched;

pub use body::LeakGuardBody;

pub(crate) use search::SecretForms;
pub(crate) use watched::Watched;
