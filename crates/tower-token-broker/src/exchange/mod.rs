//! Puts in the caller's real upstream credential. (Being written.)

mod credential;
mod provide;

pub use credential::{Credential, GrantId, InvalidUpstream, Origin, Upstream};
pub use provide::{NoCredential, ProvideCredential};
