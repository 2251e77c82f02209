//! Lookup tables: one per kind of target, and the order in which entries expire.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::RevocationTarget;
use crate::{
    alarm::Alarm,
    clock::Timestamp,
    principal::{GrantId, Principal, Resource, User},
};

/// Pairs of names, looked up without an allocation.
#[derive(Debug, Default)]
struct ByIssuer(HashMap<Arc<str>, HashMap<Arc<str>, Timestamp>>);

impl ByIssuer {
    fn get(&self, issuer: &str, id: &str) -> Option<Timestamp> {
        self.0.get(issuer)?.get(id).copied()
    }

    /// Inserts an entry; returns whether it is new.
    fn insert(&mut self, issuer: &Arc<str>, id: &Arc<str>, at: Timestamp) -> bool {
        let of_issuer = self.0.entry(Arc::clone(issuer)).or_default();
        let entry = of_issuer.get_mut(id.as_ref());
        match entry {
            Some(until) => {
                *until = at.max(*until);
                false
            }
            None => of_issuer.insert(Arc::clone(id), at).is_none(),
        }
    }

    fn remove(&mut self, issuer: &str, id: &str) {
        if let Some(of_issuer) = self.0.get_mut(issuer) {
            of_issuer.remove(id);
            if of_issuer.is_empty() {
                self.0.remove(issuer);
            }
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Tables {
    tokens: ByIssuer,
    families: ByIssuer,
    clients: ByIssuer,
    users: ByIssuer,
    servers: HashMap<Resource, Timestamp>,
    everything: Option<Timestamp>,
    grants: HashSet<GrantId>,
    /// Blocked users. They do not expire and are not counted.
    blocked: HashSet<User>,
    /// In insertion order, each with the time of its next check.
    dying: VecDeque<(Timestamp, RevocationTarget)>,
}

impl Tables {
    /// Notes a revocation that happened `at` and is reported `now`. It may be forgotten after
    /// `life`.
    pub(super) fn insert(
        &mut self,
        what: RevocationTarget,
        at: Timestamp,
        now: Timestamp,
        life: Duration,
        capacity: usize,
    ) {
        if let RevocationTarget::Grant(grant) = what {
            self.grants.insert(grant);
            return;
        }
        if self.dying.len() >= capacity {
            // N269: bounded without forgetting. What was revoked until now is part of everything
            // until now, or until a later time where another clock is ahead. `at` may be long ago.
            let known = self.dying.iter().filter_map(|(_, what)| self.revoked_at(what));
            let until = known.fold(at.max(now), Timestamp::max);
            let (grants, blocked) =
                (std::mem::take(&mut self.grants), std::mem::take(&mut self.blocked));
            *self = Self { everything: Some(until), grants, blocked, ..Self::default() };
            self.dying.push_back((until.plus(life), RevocationTarget::Everything));
            tracing::error!(
                alarm = Alarm::RevocationTableFull.code(),
                capacity,
                "too many revocations to keep apart: all tokens issued until now are revoked"
            );
            return;
        }
        let is_new = match &what {
            RevocationTarget::Token { issuer, id } => self.tokens.insert(issuer, id, at),
            RevocationTarget::Family { issuer, id } => self.families.insert(issuer, id, at),
            RevocationTarget::Client { issuer, id } => self.clients.insert(issuer, id, at),
            RevocationTarget::User(user) => {
                self.users.insert(&Arc::from(user.issuer()), &Arc::from(user.subject()), at)
            }
            RevocationTarget::Server(resource) => {
                let before = self.servers.get(resource).copied();
                self.servers.insert(resource.clone(), before.map_or(at, |before| before.max(at)));
                before.is_none()
            }
            RevocationTarget::Everything => {
                let before = self.everything;
                self.everything = Some(before.map_or(at, |before| before.max(at)));
                before.is_none()
            }
            RevocationTarget::Grant(_) => false,
        };
        if is_new {
            self.dying.push_back((at.plus(life), what));
        }
    }

    pub(super) fn lift(&mut self, grant: &GrantId) -> bool {
        self.grants.remove(grant)
    }

    pub(super) fn block(&mut self, user: User) {
        self.blocked.insert(user);
    }

    pub(super) fn unblock(&mut self, user: &User) {
        self.blocked.remove(user);
    }

    pub(super) fn is_blocked(&self, user: &User) -> bool {
        self.blocked.contains(user)
    }

    /// Removes entries that no longer stop a valid token. `life` is the retention of an entry.
    pub(super) fn collect(&mut self, now: Timestamp, life: Duration) {
        while self.dying.front().is_some_and(|(dies_at, _)| *dies_at <= now) {
            let Some((_, what)) = self.dying.pop_front() else { return };
            // If it was revoked again, its newer time counts.
            let dies_at = self.revoked_at(&what).map(|at| at.plus(life));
            match dies_at {
                Some(dies_at) if dies_at > now => self.dying.push_back((dies_at, what)),
                Some(_) | None => self.remove(&what),
            }
        }
    }

    pub(super) fn is_revoked(&self, principal: &Principal) -> bool {
        let issuer = principal.issuer();
        // Whole seconds: a token of the second of the revocation counts as revoked.
        let issued = principal.issued_at().unix_seconds();
        let until_now =
            |revoked: Option<Timestamp>| revoked.is_some_and(|at| issued <= at.unix_seconds());
        self.tokens.get(issuer, principal.token_id()).is_some()
            // N267: by the ID of the family, for any access token.
            || principal.family().is_some_and(|family| self.families.get(issuer, family).is_some())
            || until_now(self.clients.get(issuer, principal.client()))
            || until_now(self.users.get(issuer, principal.subject()))
            || until_now(self.servers.get(principal.resource()).copied())
            || until_now(self.everything)
    }

    pub(super) fn is_grant_revoked(&self, grant: &GrantId) -> bool {
        self.grants.contains(grant)
    }

    /// Returns the number of entries, without grants.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.dying.len()
    }

    fn revoked_at(&self, what: &RevocationTarget) -> Option<Timestamp> {
        match what {
            RevocationTarget::Token { issuer, id } => self.tokens.get(issuer, id),
            RevocationTarget::Family { issuer, id } => self.families.get(issuer, id),
            RevocationTarget::Client { issuer, id } => self.clients.get(issuer, id),
            RevocationTarget::User(user) => self.users.get(user.issuer(), user.subject()),
            RevocationTarget::Server(resource) => self.servers.get(resource).copied(),
            RevocationTarget::Everything => self.everything,
            RevocationTarget::Grant(_) => None,
        }
    }

    fn remove(&mut self, what: &RevocationTarget) {
        match what {
            RevocationTarget::Token { issuer, id } => self.tokens.remove(issuer, id),
            RevocationTarget::Family { issuer, id } => self.families.remove(issuer, id),
            RevocationTarget::Client { issuer, id } => self.clients.remove(issuer, id),
            RevocationTarget::User(user) => self.users.remove(user.issuer(), user.subject()),
            RevocationTarget::Server(resource) => {
                self.servers.remove(resource);
            }
            RevocationTarget::Everything => self.everything = None,
            RevocationTarget::Grant(_) => {}
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::principal::{TokenTimes, Verified};

    const LIFE: Duration = Duration::from_secs(60);

    pub(in crate::revocation) fn principal(issued_at: u64) -> Principal {
        let times = TokenTimes {
            id: "token-1",
            issued_at: Timestamp::from_unix_seconds(issued_at),
            expires_at: Timestamp::from_unix_seconds(issued_at + 600),
        };
        let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
        let user = User::new("https://broker.example.com", "alice");
        Principal::of(&Verified::vouch(user, "inspector", resource, times).with_family("family-1"))
    }

    fn each_kind() -> Vec<(RevocationTarget, bool)> {
        let issuer: Arc<str> = "https://broker.example.com".into();
        let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
        vec![
            (RevocationTarget::Token { issuer: issuer.clone(), id: "token-1".into() }, true),
            (RevocationTarget::Family { issuer: issuer.clone(), id: "family-1".into() }, true),
            (RevocationTarget::Client { issuer: issuer.clone(), id: "inspector".into() }, false),
            (RevocationTarget::User(User::new(issuer, "alice")), false),
            (RevocationTarget::Server(resource), false),
            (RevocationTarget::Everything, false),
        ]
    }

    #[test]
    fn each_kind_stops_the_tokens_that_it_names() {
        let at = Timestamp::from_unix_millis(1_000_500);
        for (what, for_good) in each_kind() {
            let mut tables = Tables::default();
            assert!(!tables.is_revoked(&principal(1_000)));
            tables.insert(what.clone(), at, at, LIFE, 10);
            assert!(tables.is_revoked(&principal(1_000)), "{what:?}: the same second");
            assert_eq!(tables.is_revoked(&principal(1_001)), for_good, "{what:?}: a later token");
        }
    }

    #[test]
    fn other_issuers_are_not_affected() {
        let at = Timestamp::from_unix_seconds(1_000);
        let other: Arc<str> = "https://other.example".into();
        let mut tables = Tables::default();
        for what in [
            RevocationTarget::Token { issuer: other.clone(), id: "token-1".into() },
            RevocationTarget::Family { issuer: other.clone(), id: "family-1".into() },
            RevocationTarget::Client { issuer: other.clone(), id: "inspector".into() },
            RevocationTarget::User(User::new(other, "alice")),
            RevocationTarget::Server(Resource::parse("https://broker.example.com/crm").unwrap()),
        ] {
            tables.insert(what, at, at, LIFE, 10);
        }
        assert!(!tables.is_revoked(&principal(1_000)));
    }

    #[test]
    fn entries_are_collected_when_they_expire() {
        let at = Timestamp::from_unix_seconds(1_000);
        for (what, _) in each_kind() {
            let mut tables = Tables::default();
            tables.insert(what.clone(), at, at, LIFE, 10);
            let again = at.plus(Duration::from_secs(30));
            tables.insert(what.clone(), again, again, LIFE, 10);
            tables.collect(at.plus(LIFE), LIFE);
            assert!(tables.is_revoked(&principal(1_000)), "{what:?}: revoked again since");
            tables.collect(again.plus(LIFE), LIFE);
            assert!(!tables.is_revoked(&principal(1_000)), "{what:?}");
            assert_eq!(tables.len(), 0, "{what:?}");
            assert!(
                tables.tokens.0.is_empty()
                    && tables.users.0.is_empty()
                    && tables.servers.is_empty()
            );
        }
    }

    #[test]
    fn too_many_revocations_become_everything() {
        let at = Timestamp::from_unix_seconds(1_000);
        let mut tables = Tables::default();
        let (victim, _) = each_kind().remove(0);
        tables.insert(victim, at, at, LIFE, 3);
        tables.insert(RevocationTarget::Grant(GrantId::new("g")), at, at, LIFE, 3);
        for number in 0..100_u32 {
            let what =
                RevocationTarget::Token { issuer: "i".into(), id: number.to_string().into() };
            tables.insert(what, at, at, LIFE, 3);
            assert!(tables.len() <= 3, "N269");
            assert!(
                tables.is_revoked(&principal(1_000)),
                "N269: still revoked after {number} more"
            );
        }
        assert!(tables.is_grant_revoked(&GrantId::new("g")));
        assert!(!tables.is_revoked(&principal(1_001)));
    }

    #[test]
    fn old_revocations_of_a_feed_are_kept() {
        let now = Timestamp::from_unix_seconds(1_000);
        let mut tables = Tables::default();
        let (victim, _) = each_kind().remove(3);
        tables.insert(victim, now, now, LIFE, 3);
        let ahead = Timestamp::from_unix_seconds(1_005);
        tables.insert(
            RevocationTarget::User(User::new("https://other.example", "bob")),
            ahead,
            now,
            LIFE,
            3,
        );
        for number in 0..2_u32 {
            let what =
                RevocationTarget::Token { issuer: "i".into(), id: number.to_string().into() };
            tables.insert(what, Timestamp::from_unix_seconds(950), now, LIFE, 3);
        }
        assert_eq!(tables.len(), 1);
        assert!(tables.is_revoked(&principal(1_000)), "N269: later than the one that was too many");
        assert!(tables.is_revoked(&principal(1_005)), "N269: by the clock of whoever revoked it");
        assert!(!tables.is_revoked(&principal(1_006)));
    }
}
