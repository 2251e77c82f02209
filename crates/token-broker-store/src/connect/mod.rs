//! Connects: how a user's own account at a server becomes a grant, and how it ends there.
//!
//! - [`ConnectStore`] keeps what must survive a restart: connects in progress, clients that the
//!   broker registered, revocations that an authorization server has not confirmed yet, and when
//!   each connection was last used.
//! - [`Connections`] is what the pages of the authority show and change. `token-broker-upstream`
//!   implements it.
//!
//! # Limits
//! In bytes: content of a connect 16 KiB; IDs of connects and revocations 255; issuer of an
//! authorization server, redirect URI and client ID 2 048; a client secret 16 KiB; a token to be
//! revoked 64 KiB, and at most 257 of them at once. User and server as in a [`GrantKey`]. Longer
//! values and NUL are [`StoreError::Invalid`] where they are to be stored, and find nothing where
//! they are looked up.
//!
//! [`GrantKey`]: crate::GrantKey
//! [`StoreError::Invalid`]: crate::StoreError::Invalid

mod connections;
mod memory;
mod pending;
mod registered;
mod revocation;
mod store;
mod usage;

pub use connections::{
    BeginConnect, BoxConnections, ConnectError, Connected, Connection, ConnectionState,
    Connections, ConnectionsUnavailable, FinishConnect,
};
pub(crate) use memory::ConnectRows;
pub use pending::{ConnectId, PendingConnect};
pub use registered::RegisteredClient;
pub use revocation::{PendingRevocation, RevocationId, RevokedToken, RevokedTokenKind};
pub use store::ConnectStore;
pub use usage::ConnectionUse;
