//! Imports for a first program, in addition to `tower_token_broker::prelude`: credential
//! providers, an in-memory store of grants, and the guarded outbound client and proxy.

#[doc(no_inline)]
pub use token_broker_outbound::{Guard, GuardedClient, Proxy};
#[doc(no_inline)]
pub use token_broker_store::{Account, Grant, GrantKey, GrantStore, MemoryGrants};

#[doc(no_inline)]
pub use crate::{
    Assertion, AuthorizationServer, ClientAuthentication, ClientCredentials, SignError,
    StaticSecret, StoredGrants, TokenExchange, UserSecrets,
};
