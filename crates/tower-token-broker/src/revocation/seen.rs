//! Identities that this process has seen: a revocation reports whether its target is one of them.

use std::{collections::HashSet, hash::BuildHasher as _, mem};

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use super::RevocationTarget;
use crate::principal::{GrantId, Principal};

/// Identities in one generation; the older of two generations is dropped when the newer is full.
const GENERATION: usize = 250_000;

/// A bounded set of tokens, families, clients, users and grants, each as a keyed hash. A forgotten
/// target is reported as unknown, but revoked all the same.
#[derive(Debug, Default)]
pub(super) struct Seen {
    hasher: RandomState,
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    newer: HashSet<u64, RandomState>,
    older: HashSet<u64, RandomState>,
}

impl Seen {
    /// Notes the identities of a verified token.
    pub(super) fn note(&self, principal: &Principal) {
        let issuer = principal.issuer();
        let mut hashes = [
            Some(self.hash("token", issuer, principal.token_id())),
            principal.family().map(|family| self.hash("family", issuer, family)),
            Some(self.hash("client", issuer, principal.client())),
            Some(self.hash("user", issuer, principal.subject())),
        ];
        let mut generations = self.generations.lock();
        hashes.iter_mut().filter_map(Option::take).for_each(|hash| generations.insert(hash));
        for actor in std::iter::successors(principal.actor(), |actor| actor.before()) {
            let user = actor.user();
            generations.insert(self.hash("user", user.issuer(), user.subject()));
            if let Some(client) = actor.client() {
                generations.insert(self.hash("client", user.issuer(), client));
            }
        }
    }

    /// Notes a grant whose credential was provided.
    pub(super) fn note_grant(&self, grant: &GrantId) {
        let hash = self.hash("grant", "", grant.as_str());
        self.generations.lock().insert(hash);
    }

    /// Returns whether the target was seen. The caller decides about servers, which are known by
    /// their stacks, and about everything, which is always known.
    pub(super) fn knows(&self, target: &RevocationTarget) -> bool {
        let hash = match target {
            RevocationTarget::Token { issuer, id } => self.hash("token", issuer, id),
            RevocationTarget::Family { issuer, id } => self.hash("family", issuer, id),
            RevocationTarget::Client { issuer, id } => self.hash("client", issuer, id),
            RevocationTarget::User(user) => self.hash("user", user.issuer(), user.subject()),
            RevocationTarget::Grant(grant) => self.hash("grant", "", grant.as_str()),
            RevocationTarget::Server(_) => return false,
            RevocationTarget::Everything => return true,
        };
        self.generations.lock().contains(hash)
    }

    fn hash(&self, kind: &str, issuer: &str, id: &str) -> u64 {
        // Hashed as a tuple: a separator follows each text, so different triples have different
        // input.
        self.hasher.hash_one((kind, issuer, id))
    }
}

impl Generations {
    fn contains(&self, hash: u64) -> bool {
        self.newer.contains(&hash) || self.older.contains(&hash)
    }

    fn insert(&mut self, hash: u64) {
        if self.newer.len() >= GENERATION && !self.newer.contains(&hash) {
            self.older = mem::take(&mut self.newer);
        }
        self.newer.insert(hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{principal::User, revocation::tables::tests::principal};

    #[test]
    fn a_verified_token_makes_its_identities_known() {
        let seen = Seen::default();
        let issuer = "https://broker.example.com";
        let targets = |issuer: &'static str| {
            [
                RevocationTarget::Token { issuer: issuer.into(), id: "token-1".into() },
                RevocationTarget::Family { issuer: issuer.into(), id: "family-1".into() },
                RevocationTarget::Client { issuer: issuer.into(), id: "inspector".into() },
                RevocationTarget::User(User::new(issuer, "alice")),
            ]
        };
        assert!(targets(issuer).iter().all(|target| !seen.knows(target)));
        seen.note(&principal(1_000));
        assert!(targets(issuer).iter().all(|target| seen.knows(target)));
        assert!(targets("https://other.example").iter().all(|target| !seen.knows(target)));
        let grant = GrantId::new("g");
        assert!(!seen.knows(&RevocationTarget::Grant(grant.clone())));
        seen.note_grant(&grant);
        assert!(seen.knows(&RevocationTarget::Grant(grant)));
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_the_newest() {
        let mut generations = Generations::default();
        let many = 3 * GENERATION as u64;
        (0..many).for_each(|hash| generations.insert(hash));
        assert!(generations.newer.len() + generations.older.len() <= 2 * GENERATION);
        assert!(generations.contains(many - 1) && !generations.contains(0));
    }
}
