//! The contract of the stores: kept by ours, and noticed where it is broken.
#![cfg(test)]

#[expect(clippy::wildcard_enum_match_arm, reason = "each method has only some of the faults")]
mod faulty_authority;
mod faulty_connects;
#[expect(clippy::wildcard_enum_match_arm, reason = "each method has only some of the faults")]
mod faulty_grants;
#[expect(clippy::wildcard_enum_match_arm, reason = "each method has only some of the faults")]
mod faulty_revocations;
mod laws;
mod meeting;
mod stores;
