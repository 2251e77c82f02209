//! Puts in the caller's real upstream credential, and keeps it from coming back. (Docs follow.)

mod credential;
mod handler;
mod headers;
mod layer;
mod leak_guard;
mod provide;
mod service;

pub use credential::{Credential, GrantId, InvalidUpstream, Origin, Upstream};
pub use handler::{Caller, CallerFuture, CallerLayer, WithCaller};
pub use layer::{ExchangeLayer, NeverForwarded};
pub use leak_guard::LeakGuardBody;
pub use provide::{NoCredential, ProvideCredential};
pub use service::{Exchange, ResponseFuture};
