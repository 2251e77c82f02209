//! The handle of a deployment, and the four layers in their only valid order.
//!
//! [`Broker`] owns what all stacks of a process share. [`Broker::protect`] builds the stack of one
//! protected resource. [`BrokerLayer`] wraps a service. Each layer can also be built separately
//! from a [`StackConfig`].

mod broker;
mod builder;
mod config;
#[cfg(test)]
mod hostile_tests;
mod layer;
mod layers;
mod metadata;
mod revoke;
mod shutdown;
#[cfg(test)]
pub(crate) mod tests;

pub use broker::{Broker, BrokerBuilder, BrokerError};
pub use builder::{
    BrokerStack, BuildError, ByHandler, ByProxy, Complete, NeedsCredential, NeedsPolicy,
    NeedsVerifier,
};
pub use config::StackConfig;
pub use layer::{BrokerLayer, Flatten};
pub use metadata::Metadata;
pub use revoke::{Applied, RestoreError, RevokeError};
pub use shutdown::ShutdownError;
