//! Who a broker token speaks for, and for which protected resource.

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
