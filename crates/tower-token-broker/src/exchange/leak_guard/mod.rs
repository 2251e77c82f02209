//! Masks credentials in a response, also across the boundaries of its chunks.
//!
//! Two searches share one pass. The credentials that were used for the response are searched for
//! by the last bytes of each ([`tails`]). Those of all other users are known by keyed hashes
//! ([`registry`]). A piece of these is masked if it is proof: the whole end, or enough random bytes
//! ([`evidence`]); what a credential has in common with other data is none. A value for `Basic` is
//! searched for as it is sent and as the password in it.
//!
//! Both look at a text as it is and as its readers may decode it ([`readings`]): base64 (both
//! alphabets, wherever it begins), hexadecimal, percent-encoded, with escapes of JSON, C, HTML or
//! quoted-printable, as UTF-16, wrapped in lines of any width, and up to four of these within each
//! other; and as a list of numbers ([`lists`]). A secret is overwritten with as many `*`, so
//! lengths and JSON syntax stay valid, except that of a list; a field whose name contains one is
//! removed.
//!
//! Most texts contain no run of characters that is as long as a secret. A text is probed once per
//! that length, and only runs are searched and decoded ([`search`]). A run that would cost more
//! than a fixed number of bytes for each of its own is masked as a whole.
//!
//! Of a stream, the guard holds back the run at its end, at most 4 KiB, until the run ends. It
//! holds nothing back at the end of an event or gRPC message ([`framing`]).
//!
//! It cannot stop an upstream that transforms the token otherwise, such as by encryption,
//! compression, reversal, or by other characters in between.

mod alphabet;
mod body;
mod coded;
mod common;
mod entry;
mod evidence;
mod framing;
mod hashes;
mod lists;
mod mask;
mod readings;
mod registry;
mod search;
mod tails;
#[cfg(test)]
mod tests;
mod watched;

pub use body::LeakGuardBody;

pub(crate) use framing::Framing;
pub(crate) use registry::Registry;
pub(crate) use tails::SecretTails;
pub(crate) use watched::Watched;
