//! Connects: how a user's own account at a server becomes a grant, and how it ends there.
//!
//! - [`ConnectStore`] keeps what must survive a restart: connects in progress, clients that the
//!   broker registered, revocations that an authorization server has not confirmed yet, and when
//!   each connection was last used.
//! - [`Connections`] is what the pages of the authority show and change. `token-broker-upstream`
//!   implements it.

mod connections;
mod pending;
mod registered;
mod revocation;
mod store;
mod usage;

pub use connections::{
    BeginConnect, BoxConnections, ConnectError, Connected, Connection, ConnectionState,
    Connections, ConnectionsUnavailable, FinishConnect,
};
pub use pending::{ConnectId, PendingConnect};
pub use registered::RegisteredClient;
pub use revocation::{PendingRevocation, RevocationId, RevokedToken, RevokedTokenKind};
pub use store::ConnectStore;
pub use usage::ConnectionUse;
