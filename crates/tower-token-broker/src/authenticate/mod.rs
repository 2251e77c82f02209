//! Lets a request in only with a broker token made for this resource, and takes the token off it.

mod body;
mod event_border;
mod future;
#[cfg(feature = "jwt")]
pub mod jwt;
mod layer;
mod metadata;
mod presented;
mod service;
#[cfg(test)]
mod tests;
mod verdicts;
mod verify;
mod visitors;

pub use body::CutBody;
pub use future::ResponseFuture;
pub use layer::AuthenticateLayer;
pub use metadata::{InvalidMetadata, ProtectedResourceMetadata};
pub use service::Authenticate;
pub use verify::{LEEWAY, PresentedToken, TokenRejected, VerifyToken};
pub use visitors::InvalidVisitor;
