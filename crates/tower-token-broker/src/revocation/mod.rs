//! Revokes tokens and grants at once: by token, family, client, user, grant or server, or all.
//!
//! # Example
//! ```
//! # #[cfg(feature = "test-util")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use tower_token_broker::{Broker, audit::InMemory};
//! use tower_token_broker::{
//!     principal::{Initiator, User},
//!     revocation::RevocationTarget,
//! };
//!
//! # let broker = Broker::builder().audit(InMemory::new()).build()?;
//! let olga = Initiator::operator("olga");
//! let alice = User::new("https://broker.example.com", "alice");
//! // From now on alice's tokens are refused (`authn.revoked`), and her open streams are cut.
//! broker.revoke(RevocationTarget::User(alice.clone()), &olga).await?;
//! // New tokens of hers are refused, too, until she is unblocked (`authn.blocked`).
//! broker.block(&alice, &olga).await?;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "test-util"))]
//! # fn main() {}
//! ```
//!
//! # Order
//! The authenticate layer checks before it accepts a request, the exchange layer just before the
//! request is sent (through the [`Standing`] in the extensions), and each response while it is
//! open.
//!
//! # What a revoke covers
//! A revoked token is refused until it expires, and a family as long as its entry is kept (see
//! below): end the family at its issuer, too. For a client, a user, a server and everything, the
//! tokens that were issued until now are revoked; tokens that are issued later are accepted. `iat`
//! has whole seconds, so a token of the second of the revocation counts as revoked. This compares
//! the issuer's clock with ours: if the issuer's is ahead, tokens that it issued within the
//! difference survive; revoke these by family. A grant is revoked until
//! [`Broker::restore_grant`](crate::Broker::restore_grant). An account that is connected again has
//! a new [`GrantId`](crate::principal::GrantId), so nothing must be restored.
//!
//! An agent that acts for others (RFC 8693 §4.1) is a user, too: revoking or blocking it ends every
//! token in whose actor chain it is, and revoking a client ends those in whose chain it is the
//! `client_id` of an actor.
//!
//! A blocked user is refused until unblocked, whenever the token was issued (`authn.blocked`).
//! Blocks have their own table: they do not expire, and are not part of "everything until now".
//!
//! # Limits
//! An entry is kept for the longest lifetime of a token ([`Revocations::RETENTION`], and three
//! times the leeway), measured by the monotonic clock since it was last reported. After that, every
//! token that existed at the revocation has expired. A token with a longer lifetime is refused
//! (`jwt.lifetime`), whatever verifies it. More entries than [`Revocations::CAPACITY`] become one,
//! "everything until now", so memory is bounded and what was revoked stays revoked. Revoked grants
//! are kept until they are restored or the process ends; there are never more than the store has
//! grants.
//!
//! # Several replicas
//! The [`Broker`](crate::Broker) reads a [`RevocationFeed`] in an owned task. If the feed is silent
//! for [`Revocations::STALE_AFTER`], new requests are refused (`revocation.stale`, 503). Open
//! streams continue, and are cut as soon as the feed reports a revocation that concerns them.
//! Without a feed, nothing can be stale.
//!
//! A [`RevocationStore`] keeps revocations and blocks in a sequence that all replicas share;
//! [`StoreFeed`] is its feed. A broker with a store
//! ([`revocation_store`](crate::stack::BrokerBuilder::revocation_store)) appends to it and reads
//! it.
//!
//! # Shutdown
//! A broker that shuts down refuses new requests. It ends idle streams at once, and calls after the
//! grace period.
//!
//! # Cancellation
//! A revocation that has begun is completed, even if its caller is dropped.
//!
//! # Sources
//! RFC 7009 §2.1 (tokens that are revoked with another), RFC 9068 §2.2 (`iat`, `jti`).

mod feed;
mod observers;
mod placed;
mod revocations;
mod seen;
mod standing;
mod store;
mod store_feed;
pub(crate) mod tables;

pub use feed::{BoxRevocationFeed, FeedError, FeedEvent, RevocationFeed};
pub use revocations::{Epoch, RevocationTarget, Revocations};
pub use standing::Standing;
pub use store::{
    BoxRevocationStore, RevocationChange, RevocationEntry, RevocationStore, RevocationStoreError,
    Sequence,
};
pub use store_feed::StoreFeed;

pub(crate) use observers::{Observer, Registered};
pub(crate) use revocations::Phase;
pub(crate) use standing::StandingWatch;
