//! Puts in the caller's real upstream credential. (Being written.)

mod credential;
mod headers;
mod leak_guard;
mod provide;

pub use credential::{Credential, GrantId, InvalidUpstream, Origin, Upstream};
pub use leak_guard::LeakGuardBody;
pub use provide::{NoCredential, ProvideCredential};
