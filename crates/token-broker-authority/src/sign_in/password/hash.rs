//! Argon2id (RFC 9106).

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::{constant_time, rand};

use super::{Password, phc::Phc};

/// The cost of a password hash.
///
/// The default is the first choice of OWASP's Password Storage Cheat Sheet: 19 MiB, two passes, one
/// lane. When it rises, each account's hash is replaced at its next sign-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashCost {
    memory: u32,
    passes: u32,
}

impl HashCost {
    /// Largest memory that a stored hash may require, in KiB: 256 MiB. A hash with more is refused,
    /// so that a changed row cannot exhaust the memory.
    pub const MAX_MEMORY: u32 = 256 * 1024;
    /// Most passes that a stored hash may require.
    pub const MAX_PASSES: u32 = 16;

    /// Creates a cost of this memory in KiB and this number of passes.
    ///
    /// # Errors
    /// The cost is below OWASP's minimum (7 MiB with five passes, 19 MiB with two), or above
    /// [`HashCost::MAX_MEMORY`] and [`HashCost::MAX_PASSES`].
    pub const fn new(memory: u32, passes: u32) -> Result<Self, HashCostError> {
        let is_enough = matches!(
            (memory, passes),
            (19_456.., 2..) | (12_288.., 3..) | (9_216.., 4..) | (7_168.., 5..) | (47_104.., 1..)
        );
        if is_enough && memory <= Self::MAX_MEMORY && passes <= Self::MAX_PASSES {
            Ok(Self { memory, passes })
        } else {
            Err(HashCostError)
        }
    }

    /// Returns the work of a hash: the blocks that are computed.
    pub(super) const fn work(self) -> u64 {
        self.memory as u64 * self.passes as u64
    }

    /// Creates a cost below the minimum, for tests.
    #[cfg(any(test, feature = "test-util"))]
    pub const fn cheap_for_tests() -> Self {
        Self { memory: 8, passes: 1 }
    }
}

impl Default for HashCost {
    fn default() -> Self {
        Self { memory: 19_456, passes: 2 }
    }
}

/// The cost is below the minimum or above the maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the cost of password hashes is too low or too high; at least 19456 KiB with 2 passes, at most \
     {} KiB and {} passes",
    HashCost::MAX_MEMORY,
    HashCost::MAX_PASSES
)]
#[non_exhaustive]
pub struct HashCostError;

/// Hashes a password. `None` if there is no memory.
pub(super) fn hash(password: &Password, cost: HashCost) -> Option<String> {
    let mut phc = empty(cost);
    phc.hash = computed(password, &phc)?;
    Some(phc.to_text())
}

/// Returns a hash of this cost that no password has, for accounts that do not exist.
pub(super) fn no_password(cost: HashCost) -> String {
    let mut phc = empty(cost);
    fill(&mut phc.hash);
    phc.to_text()
}

/// The outcome of [`verify_within`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verified {
    /// `None` if the text is no hash that can be computed, or there is no memory.
    pub(super) is_right: Option<bool>,
    /// The work that was done.
    pub(super) work: u64,
}

/// Returns whether a password has this hash, and does this much work in all. The time does not
/// depend on the outcome.
pub(super) fn verify_within(password: &Password, text: &str, work: u64) -> Verified {
    let Some(phc) = readable(text) else { return Verified { is_right: None, work: 0 } };
    let is_right = computed(password, &phc)
        .map(|computed| constant_time::verify_slices_are_equal(&computed, &phc.hash).is_ok());
    let mut done = phc.work();
    if let Some(padding) = padding(work.saturating_sub(done), phc.passes) {
        // Its result is not needed. Without memory for it, the check was the dearer one.
        done += padding.work();
        drop(std::hint::black_box(computed(password, &padding)));
    }
    Verified { is_right, work: done }
}

/// Returns the work of computing a hash; `None` if it is none that is computed.
pub(super) fn work_of(text: &str) -> Option<u64> {
    readable(text).map(|phc| phc.work())
}

fn readable(text: &str) -> Option<Phc> {
    Phc::parse(text).filter(|phc| {
        phc.memory <= HashCost::MAX_MEMORY && phc.passes <= HashCost::MAX_PASSES && phc.lanes <= 4
    })
}

/// Returns the parameters of a hash that takes this work, with as many passes if that is possible.
fn padding(work: u64, passes: u32) -> Option<Phc> {
    let passes = u64::from(passes).max(work.div_ceil(HashCost::MAX_MEMORY.into())).max(1);
    let (memory, passes) = (u32::try_from(work / passes).ok()?, u32::try_from(passes).ok()?);
    // Less than the smallest hash takes no time.
    (memory >= Params::MIN_M_COST).then(|| empty(HashCost { memory, passes }))
}

/// Returns whether a hash is cheaper than this cost.
pub(super) fn is_outdated(text: &str, cost: HashCost) -> bool {
    Phc::parse(text).is_some_and(|phc| phc.work() < cost.work())
}

fn empty(cost: HashCost) -> Phc {
    let mut salt = vec![0; 16];
    fill(&mut salt);
    Phc { memory: cost.memory, passes: cost.passes, lanes: 1, salt, hash: vec![0; 32] }
}

fn fill(octets: &mut [u8]) {
    rand::fill(octets).expect("the system's source of randomness does not fail once it is seeded");
}

fn computed(password: &Password, phc: &Phc) -> Option<Vec<u8>> {
    let params = Params::new(phc.memory, phc.passes, phc.lanes, Some(phc.hash.len())).ok()?;
    let mut hash = vec![0; phc.hash.len()];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.as_bytes(), &phc.salt, &mut hash)
        .ok()?;
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::parse(text).unwrap()
    }

    fn verify(password: &Password, text: &str) -> Option<bool> {
        verify_within(password, text, 0).is_right
    }

    #[test]
    fn s526_each_check_does_the_same_work() {
        let costs = [(8, 1), (8, 3), (64, 1), (100, 2), (1_000, 3)]
            .map(|(memory, passes)| HashCost { memory, passes });
        let most = 3_000;
        for cost in costs {
            let stored = hash(&password("a"), cost).unwrap();
            let nothing = no_password(cost);
            for (password, text) in [("a", &stored), ("b", &stored), ("a", &nothing)] {
                let verified = verify_within(&self::password(password), text, most);
                let is_right = password == "a" && *text == stored;
                assert_eq!(verified.is_right, Some(is_right), "S526 {cost:?}");
                // Less than the smallest hash is left.
                assert!((most - 24..=most).contains(&verified.work), "S526 {cost:?} {verified:?}");
            }
        }
        let stored = hash(&password("a"), costs[4]).unwrap();
        for less in [0, 1, 2_999, 3_000, 3_007] {
            assert_eq!(verify_within(&password("a"), &stored, less).work, 3_000, "S526: no more");
        }
        assert_eq!(padding(u64::from(HashCost::MAX_MEMORY) * 16, 1).unwrap().passes, 16);
    }

    #[test]
    fn the_reference_implementation_computes_the_same() {
        // From the reference implementation's tests (github.com/P-H-C/phc-winner-argon2, test.c).
        let text = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$\
                    nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        assert_eq!(verify(&password("password"), text), Some(true));
        assert_eq!(verify(&password("Password"), text), Some(false));
    }

    #[test]
    fn a_hash_is_salted_and_has_the_cost() {
        let cost = HashCost::cheap_for_tests();
        let (one, other) = (hash(&password("a"), cost), hash(&password("a"), cost));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_ne!(one, other);
        assert_eq!(verify(&password("a"), &one), Some(true));
        assert_eq!(verify(&password("b"), &one), Some(false));
        assert_eq!(verify(&password("a"), &no_password(cost)), Some(false));
        assert!(is_outdated(&one, HashCost::default()));
        assert!(!is_outdated(&one, cost));
    }

    #[test]
    fn s520_a_changed_row_does_not_exhaust_the_memory() {
        for text in [
            "$argon2id$v=19$m=4294967295,t=2,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=256,t=4294967295,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=256,t=2,p=255$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
            "",
            "plain",
        ] {
            assert_eq!(verify(&password("a"), text), None, "S520 {text}");
        }
    }

    #[test]
    fn costs_are_at_least_the_recommended_ones() {
        let default = HashCost::default();
        assert_eq!(HashCost::new(19_456, 2), Ok(default));
        for cost in [(8, 1), (19_455, 2), (7_168, 4), (300 * 1024, 2), (19_456, 17)] {
            assert_eq!(HashCost::new(cost.0, cost.1), Err(HashCostError), "{cost:?}");
        }
    }
}
