//! What a first program imports: `use tower_token_broker::prelude::*`.
//!
//! The credential sources and the proxy are in `token_broker_upstream::prelude`.

#[cfg(feature = "jwt")]
pub use crate::authenticate::{JwtVerifier, jwt::Keys};
#[doc(no_inline)]
pub use crate::{
    Broker, Secret,
    audit::JsonLines,
    authenticate::HostAndOrigin,
    exchange::{CallerHandle, Upstream},
    limits::{Limits, Protocol},
    principal::{Initiator, Principal, Resource, Scopes, User},
    refusal::Refused,
    resource_metadata::ResourceMetadata,
    revocation::RevocationTarget,
    scope_filter::{PolicyExt, PolicyHandle, Rules, methods, prompts, resources, tools},
};
