//! Authorize endpoint: validates a request, asks the user, and issues the code.

mod consent;
mod interaction;
mod pending;

pub use consent::{
    ClientIdentity, ConsentClient, ConsentRedirect, ConsentRequest, ConsentScope, ConsentServer,
    RedirectTarget,
};
pub use interaction::{AuthorizePageError, Interaction, SessionsUnavailable, SignedIn};
pub use pending::{Pending, PendingRequests};
