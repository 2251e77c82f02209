//! Shared code of the examples: an upstream, grants, a policy, and the shutdown of a server.

pub mod grants;
#[cfg(doctest)]
mod guides;
pub mod policy;
pub mod server;
pub mod shutdown;
pub mod upstream;
