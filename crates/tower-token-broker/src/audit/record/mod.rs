//! Records: their kinds and members, how they are written and how they are chained.
//!
//! All of it is closed and typed. There is no member for a body, an argument's value or a secret.

mod authority;
mod encode;
mod event;
mod head;
mod kind;
mod member;
mod note;
mod open_work;
mod operation;
mod outcome;
mod policy_digest;
mod records;

pub use authority::{
    EndedFamily, FamilyEndCause, IssuedCode, PublishedKey, RegisteredClient, TokenGrant,
};
pub use encode::MAX_TEXT;
pub(super) use event::{Event, RequestResult, SegmentOf, Work};
pub use head::{Head, HeadError};
pub(super) use head::{hash_before, sequence_after};
pub use kind::{RecordKind, SCHEMA_VERSION};
pub use member::Member;
pub(super) use member::SHA256_SUFFIX;
pub(super) use note::RemovedSegments;
pub use note::{
    Connection, Consent, IssuedToken, Note, Reloaded, SignInFailure, SignOutExtent,
    UpstreamRevocation, UpstreamRevocationOutcome,
};
pub use open_work::OpenWork;
pub use operation::{Intent, Operation};
pub use outcome::{GrantType, Outcome, TokenOutcome};
pub use policy_digest::PolicyDigest;
pub(super) use records::Run;
pub(super) use records::chain_hash;
pub use records::{Record, Records};
