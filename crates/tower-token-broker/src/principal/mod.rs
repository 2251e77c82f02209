//! Callers of a broker: users, scopes, and the protected resource of their token.

mod caller;
mod grant_id;
mod initiator;
mod resource;
mod scopes;
mod user;
mod verified;

pub use caller::Principal;
pub use grant_id::GrantId;
pub use initiator::Initiator;
pub use resource::{Resource, ResourceError};
pub use scopes::{Scopes, ScopesError};
pub use user::{Actor, User};
pub use verified::{Confirmation, TokenTimes, Verified};
