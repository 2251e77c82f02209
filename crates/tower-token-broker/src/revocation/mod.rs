//! Ends tokens and grants at once: by token, family, client, user, grant, server, or all of them.
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
//! // From the next request on alice's tokens are refused (`authn.revoked`), and her open streams are cut; bob's go on.
//! broker.revoke(RevocationTarget::User(alice.clone()), &olga).await?;
//! // Nor may she sign in again, until she is unblocked (`authn.blocked`).
//! broker.block(&alice, &olga).await?;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "test-util"))]
//! # fn main() {}
//! ```
//!
//! # Order
//! Asked by the authenticate layer before it lets a request in, by the exchange layer just before
//! the send (through the [`Standing`] in the extensions), and by each answer that is still under
//! way.
//!
//! # What a revoke covers
//! A token and a family are over for good. A client, a user, a server and everything are over for
//! the tokens that were issued until now: whoever signs in afterwards gets in. `iat` has whole
//! seconds, so a token that was issued in the very second of the revoke counts as revoked. That
//! compares the issuer's clock with ours: where the issuer's is ahead, what it issued in the
//! difference survives; revoke such tokens by family. A grant is over until
//! [`Broker::restore_grant`](crate::Broker::restore_grant): connect an account anew under a new
//! [`GrantId`](crate::principal::GrantId), and nothing need be lifted.
//!
//! A blocked user is refused whenever a token was issued (`authn.blocked`), until unblocked. Blocks
//! have a table of their own: they do not expire, and are not part of "everything until now".
//!
//! # Limits
//! An entry is kept for the longest life of a token ([`Revocations::RETENTION`], and twice the
//! leeway), then it is collected: nothing that it stopped is valid by then. More entries than
//! [`Revocations::CAPACITY`] become one, "everything until now": memory is bounded, and what was
//! revoked stays revoked. Revoked grants are kept as long as the process, or until lifted; there
//! are never more than the store has seen.
//!
//! # Several replicas
//! The [`Broker`](crate::Broker) reads a [`RevocationFeed`] in an owned task. A feed that was not
//! heard from for [`Revocations::STALE_AFTER`] closes the door: `revocation.stale`, 503. Streams
//! that are open then stay open, and are cut as soon as the feed tells what was missed. Without a
//! feed, nothing can be stale.
//!
//! A [`RevocationStore`] keeps revocations and blocks in a sequence that all replicas share;
//! [`StoreFeed`] is its feed. A broker that is given one
//! ([`revocation_store`](crate::stack::BrokerBuilder::revocation_store)) appends to it and reads
//! it.
//!
//! # Shutdown
//! A broker that shuts down lets nothing in. Streams without a call end at once, calls after the
//! grace.
//!
//! # Cancellation
//! A revoke that has begun runs to its end, whoever waits for it.
//!
//! # Sources
//! RFC 7009 §2.1 (what a revoked token takes along), RFC 9068 §2.2 (`iat`, `jti`).

mod feed;
mod placed;
mod revocations;
mod seen;
mod standing;
mod store;
mod store_feed;
mod tables;

pub use feed::{BoxRevocationFeed, FeedError, FeedEvent, RevocationFeed};
pub use revocations::{Epoch, RevocationTarget, Revocations};
pub use standing::Standing;
pub use store::{
    BoxRevocationStore, RevocationChange, RevocationEntry, RevocationStore, RevocationStoreError,
    Sequence,
};
pub use store_feed::StoreFeed;

pub(crate) use revocations::Phase;
pub(crate) use standing::StandingWatch;
