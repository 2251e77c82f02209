//! Imports of a first program: `use tower_token_broker::prelude::*`.
//!
//! The credential sources and the proxy are in `token_broker_upstream::prelude`.

#[cfg(feature = "jwt")]
#[doc(no_inline)]
pub use crate::authenticate::{
    JwtVerifier,
    jwt::{Keys, RemoteKeys},
};
#[cfg(feature = "grpc")]
#[doc(no_inline)]
pub use crate::limits::GrpcOptions;
#[doc(no_inline)]
pub use crate::{
    Broker, Secret,
    audit::JsonLines,
    authenticate::HostAndOrigin,
    exchange::{ApplyCredentialLayer, CallerHandle, ExchangeLayer, Upstream},
    limits::{Limits, Protocol},
    principal::{GrantId, Initiator, Principal, Resource, Scopes, User},
    refusal::Refused,
    resource_metadata::ResourceMetadata,
    revocation::RevocationTarget,
    scope_filter::{
        Call, Decision, PolicyExt, PolicyHandle, Rules, methods, policy_fn, prompts, resources,
        tools,
    },
};
