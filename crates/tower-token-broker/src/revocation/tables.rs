//! Lookup tables: one per kind of target, and the order in which entries expire.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::RevocationTarget;
use crate::{
    alarm::Alarm,
    clock::{LEEWAY, Moment, Reading, Timestamp},
    principal::{Actor, GrantId, Principal, Resource, User},
};

/// The time of a revocation, by the clock of the process that revoked, and within what this process
/// measured. Differences of clocks up to the leeway are tolerated.
#[derive(Clone, Copy, Debug)]
pub(super) struct RevokedAt {
    at: Timestamp,
    /// It was not earlier, if that is known.
    earliest: Option<Moment>,
    /// It was not later: when this process learned of it.
    latest: Moment,
}

impl RevokedAt {
    /// The time of a revocation by this process.
    pub(super) const fn now(at: Timestamp, now: Reading) -> Self {
        Self { at, earliest: Some(now.moment), latest: now.moment }
    }

    /// The time of a revocation by another process, after `earliest` if that is known.
    pub(super) const fn elsewhere(at: Timestamp, earliest: Option<Moment>, now: Reading) -> Self {
        Self { at, earliest, latest: now.moment }
    }

    /// Returns the time to compare with `iat`.
    // N401: a clock that was slow or ahead when the time was noted neither lets tokens survive
    // nor revokes tokens that are still to be issued.
    fn time(self, now: Reading) -> Timestamp {
        let date_of = |moment: Moment| now.wall.minus(moment.until(now.moment));
        let at = match self.earliest.map(date_of) {
            Some(earliest) if earliest > self.at.plus(LEEWAY) => earliest,
            Some(_) | None => self.at,
        };
        at.min(date_of(self.latest).plus(LEEWAY))
    }
}

/// An entry of a table.
#[derive(Clone, Copy, Debug)]
struct Entry {
    revoked: RevokedAt,
    /// When it was last reported: it is kept for the retention from then on.
    reported: Moment,
}

impl Entry {
    const fn new(revoked: RevokedAt, now: Reading) -> Self {
        Self { revoked, reported: now.moment }
    }

    /// Notes another revocation of the same target.
    fn again(&mut self, revoked: RevokedAt, now: Reading) {
        if revoked.time(now) >= self.revoked.time(now) {
            self.revoked = revoked;
        }
        self.reported = now.moment;
    }
}

/// Pairs of names, looked up without an allocation.
#[derive(Debug, Default)]
struct ByIssuer(HashMap<Arc<str>, HashMap<Arc<str>, Entry>>);

impl ByIssuer {
    fn get(&self, issuer: &str, id: &str) -> Option<&Entry> {
        self.0.get(issuer)?.get(id)
    }

    /// Inserts an entry; returns whether it is new.
    fn insert(&mut self, issuer: &Arc<str>, id: &Arc<str>, at: RevokedAt, now: Reading) -> bool {
        let of_issuer = self.0.entry(Arc::clone(issuer)).or_default();
        match of_issuer.get_mut(id.as_ref()) {
            Some(entry) => {
                entry.again(at, now);
                false
            }
            None => of_issuer.insert(Arc::clone(id), Entry::new(at, now)).is_none(),
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
    servers: HashMap<Resource, Entry>,
    everything: Option<Entry>,
    grants: HashSet<GrantId>,
    /// Blocked users. They do not expire and are not counted.
    blocked: HashSet<User>,
    /// In insertion order, each with the moment at which it was reported.
    dying: VecDeque<(Moment, RevocationTarget)>,
}

impl Tables {
    /// Notes a revocation that happened `at` and is reported `now`.
    pub(super) fn insert(
        &mut self,
        what: RevocationTarget,
        at: RevokedAt,
        now: Reading,
        capacity: usize,
    ) {
        if let RevocationTarget::Grant(grant) = what {
            self.grants.insert(grant);
            return;
        }
        if self.dying.len() >= capacity {
            // N269: bounded without forgetting. What was revoked until now is part of everything
            // until now, or until a later time where another clock is ahead. `at` may be long ago.
            let known = self.dying.iter().filter_map(|(_, what)| self.entry(what));
            let known = known.map(|entry| entry.revoked.time(now));
            let until = known.fold(at.time(now).max(now.wall), Timestamp::max);
            let (grants, blocked) =
                (std::mem::take(&mut self.grants), std::mem::take(&mut self.blocked));
            let everything = Some(Entry::new(RevokedAt::now(until, now), now));
            *self = Self { everything, grants, blocked, ..Self::default() };
            self.dying.push_back((now.moment, RevocationTarget::Everything));
            tracing::error!(
                alarm = Alarm::RevocationTableFull.code(),
                capacity,
                "too many revocations to keep apart: all tokens issued until now are revoked"
            );
            return;
        }
        let is_new = match &what {
            RevocationTarget::Token { issuer, id } => self.tokens.insert(issuer, id, at, now),
            RevocationTarget::Family { issuer, id } => self.families.insert(issuer, id, at, now),
            RevocationTarget::Client { issuer, id } => self.clients.insert(issuer, id, at, now),
            RevocationTarget::User(user) => {
                let (issuer, subject) = (Arc::from(user.issuer()), Arc::from(user.subject()));
                self.users.insert(&issuer, &subject, at, now)
            }
            RevocationTarget::Server(resource) => match self.servers.get_mut(resource) {
                Some(entry) => {
                    entry.again(at, now);
                    false
                }
                None => self.servers.insert(resource.clone(), Entry::new(at, now)).is_none(),
            },
            RevocationTarget::Everything => match &mut self.everything {
                Some(entry) => {
                    entry.again(at, now);
                    false
                }
                everything @ None => everything.replace(Entry::new(at, now)).is_none(),
            },
            RevocationTarget::Grant(_) => false,
        };
        if is_new {
            self.dying.push_back((now.moment, what));
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

    /// Returns whether the user or an actor of this principal is blocked.
    // N402: an agent is refused for every user.
    pub(super) fn blocks(&self, principal: &Principal) -> bool {
        self.is_blocked(principal.user())
            || chain_of(principal).any(|actor| self.is_blocked(actor.user()))
    }

    /// Removes entries that no longer stop a valid token: those that were last reported `life` ago.
    // N400: measured, so that no step of the wall clock removes an entry.
    pub(super) fn collect(&mut self, now: Moment, life: Duration) {
        while self.dying.front().is_some_and(|(reported, _)| reported.plus(life) <= now) {
            let Some((_, what)) = self.dying.pop_front() else { return };
            // If it was revoked again, its newer time counts.
            match self.entry(&what).map(|entry| entry.reported) {
                Some(reported) if reported.plus(life) > now => {
                    self.dying.push_back((reported, what));
                }
                Some(_) | None => self.remove(&what),
            }
        }
    }

    /// Returns whether a token of this principal was revoked: by itself, or by any member of its
    /// actor chain.
    pub(super) fn is_revoked(&self, principal: &Principal, now: Reading) -> bool {
        let issuer = principal.issuer();
        // Whole seconds: a token of the second of the revocation counts as revoked.
        let issued = principal.issued_at().unix_seconds();
        let until_now = |entry: Option<&Entry>| {
            entry.is_some_and(|entry| issued <= entry.revoked.time(now).unix_seconds())
        };
        let acts_by = |actor: &Actor| {
            let user = actor.user();
            until_now(self.users.get(user.issuer(), user.subject()))
                || actor.client().is_some_and(|id| until_now(self.clients.get(user.issuer(), id)))
        };
        self.tokens.get(issuer, principal.token_id()).is_some()
            // N267: by the ID of the family, for any access token.
            || principal.family().is_some_and(|family| self.families.get(issuer, family).is_some())
            || until_now(self.clients.get(issuer, principal.client()))
            || until_now(self.users.get(issuer, principal.subject()))
            || until_now(self.servers.get(principal.resource()))
            || until_now(self.everything.as_ref())
            // N402
            || chain_of(principal).any(acts_by)
    }

    pub(super) fn is_grant_revoked(&self, grant: &GrantId) -> bool {
        self.grants.contains(grant)
    }

    /// Returns the number of entries, without grants.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.dying.len()
    }

    fn entry(&self, what: &RevocationTarget) -> Option<&Entry> {
        match what {
            RevocationTarget::Token { issuer, id } => self.tokens.get(issuer, id),
            RevocationTarget::Family { issuer, id } => self.families.get(issuer, id),
            RevocationTarget::Client { issuer, id } => self.clients.get(issuer, id),
            RevocationTarget::User(user) => self.users.get(user.issuer(), user.subject()),
            RevocationTarget::Server(resource) => self.servers.get(resource),
            RevocationTarget::Everything => self.everything.as_ref(),
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

/// Returns the actors of a principal, from the one that acts now to the first one.
fn chain_of(principal: &Principal) -> impl Iterator<Item = &Actor> {
    std::iter::successors(principal.actor(), |actor| actor.before())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        clock::Clock,
        principal::{TokenTimes, Verified},
    };

    const LIFE: Duration = Duration::from_secs(60);

    pub(crate) fn principal(issued_at: u64) -> Principal {
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

    fn reading(clock: &Clock, at: Timestamp) -> (RevokedAt, Reading) {
        let now = clock.read();
        (RevokedAt::elsewhere(at, None, now), now)
    }

    fn clock_at(seconds: u64) -> Clock {
        Clock::manual(Timestamp::from_unix_seconds(seconds))
    }

    #[test]
    fn each_kind_stops_the_tokens_that_it_names() {
        let clock = Clock::manual(Timestamp::from_unix_millis(1_000_500));
        let (at, now) = reading(&clock, clock.now());
        for (what, for_good) in each_kind() {
            let mut tables = Tables::default();
            assert!(!tables.is_revoked(&principal(1_000), now));
            tables.insert(what.clone(), at, now, 10);
            assert!(tables.is_revoked(&principal(1_000), now), "{what:?}: the same second");
            assert_eq!(
                tables.is_revoked(&principal(1_001), now),
                for_good,
                "{what:?}: a later token"
            );
        }
    }

    #[test]
    fn other_issuers_are_not_affected() {
        let clock = clock_at(1_000);
        let (at, now) = reading(&clock, clock.now());
        let other: Arc<str> = "https://other.example".into();
        let mut tables = Tables::default();
        for what in [
            RevocationTarget::Token { issuer: other.clone(), id: "token-1".into() },
            RevocationTarget::Family { issuer: other.clone(), id: "family-1".into() },
            RevocationTarget::Client { issuer: other.clone(), id: "inspector".into() },
            RevocationTarget::User(User::new(other, "alice")),
            RevocationTarget::Server(Resource::parse("https://broker.example.com/crm").unwrap()),
        ] {
            tables.insert(what, at, now, 10);
        }
        assert!(!tables.is_revoked(&principal(1_000), now));
    }

    #[test]
    fn entries_are_collected_when_they_expire() {
        for (what, _) in each_kind() {
            let (mut tables, clock) = (Tables::default(), clock_at(1_000));
            let (at, now) = reading(&clock, clock.now());
            tables.insert(what.clone(), at, now, 10);
            clock.advance(LIFE / 2);
            let (at, now) = reading(&clock, clock.now());
            tables.insert(what.clone(), at, now, 10);
            clock.advance(LIFE / 2);
            tables.collect(clock.moment(), LIFE);
            let now = clock.read();
            assert!(tables.is_revoked(&principal(1_000), now), "{what:?}: revoked again since");
            clock.advance(LIFE / 2);
            tables.collect(clock.moment(), LIFE);
            assert!(!tables.is_revoked(&principal(1_000), clock.read()), "{what:?}");
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
        let clock = clock_at(1_000);
        let (at, now) = reading(&clock, clock.now());
        let mut tables = Tables::default();
        let (victim, _) = each_kind().remove(0);
        tables.insert(victim, at, now, 3);
        tables.insert(RevocationTarget::Grant(GrantId::new("g")), at, now, 3);
        for number in 0..100_u32 {
            let what =
                RevocationTarget::Token { issuer: "i".into(), id: number.to_string().into() };
            tables.insert(what, at, now, 3);
            assert!(tables.len() <= 3, "N269");
            assert!(
                tables.is_revoked(&principal(1_000), now),
                "N269: still revoked after {number} more"
            );
        }
        assert!(tables.is_grant_revoked(&GrantId::new("g")));
        assert!(!tables.is_revoked(&principal(1_001), now));
    }

    #[test]
    fn old_revocations_of_a_feed_are_kept() {
        let clock = clock_at(1_000);
        let (at, now) = reading(&clock, clock.now());
        let mut tables = Tables::default();
        let (victim, _) = each_kind().remove(3);
        tables.insert(victim, at, now, 3);
        let (ahead, _) = reading(&clock, Timestamp::from_unix_seconds(1_005));
        let bob = RevocationTarget::User(User::new("https://other.example", "bob"));
        tables.insert(bob, ahead, now, 3);
        for number in 0..2_u32 {
            let what =
                RevocationTarget::Token { issuer: "i".into(), id: number.to_string().into() };
            let (before, _) = reading(&clock, Timestamp::from_unix_seconds(950));
            tables.insert(what, before, now, 3);
        }
        assert_eq!(tables.len(), 1);
        assert!(
            tables.is_revoked(&principal(1_000), now),
            "N269: later than the one that was too many"
        );
        assert!(
            tables.is_revoked(&principal(1_005), now),
            "N269: by the clock of whoever revoked it"
        );
        assert!(!tables.is_revoked(&principal(1_006), now));
    }

    #[test]
    fn n400_no_step_of_the_wall_clock_removes_an_entry() {
        let (start, day) =
            (Timestamp::from_unix_seconds(1_000_000), Duration::from_secs(24 * 3600));
        // Ahead then back, back then ahead, ahead for good, back for good.
        for steps in [
            [start.plus(day), start],
            [start.minus(day), start.plus(day)],
            [start.plus(day), start.plus(day)],
            [start.minus(day), start.minus(day)],
        ] {
            for (what, _) in each_kind() {
                let (mut tables, clock) = (Tables::default(), Clock::manual(start));
                let (at, now) = reading(&clock, clock.now());
                tables.insert(what.clone(), at, now, 10);
                for step in steps {
                    clock.set_wall_clock(step);
                    clock.read();
                    tables.collect(clock.moment(), LIFE);
                    clock.advance(LIFE / 4);
                    tables.collect(clock.moment(), LIFE);
                }
                assert_eq!(tables.len(), 1, "N400 {what:?} {steps:?}");
                clock.advance(LIFE / 2);
                tables.collect(clock.moment(), LIFE);
                assert_eq!(tables.len(), 0, "N400 {what:?}: still bounded");
            }
        }
    }

    #[test]
    fn n401_a_revocation_under_a_wrong_clock_is_corrected_with_it() {
        let day = Duration::from_secs(24 * 3600);
        let (start, alice) = (Timestamp::from_unix_seconds(1_000_000), each_kind().remove(3).0);
        // The clock of this process was a day slow when it revoked, and is right again.
        let (mut tables, clock) = (Tables::default(), Clock::manual(start.minus(day)));
        let now = clock.read();
        tables.insert(alice.clone(), RevokedAt::now(now.wall, now), now, 10);
        clock.set_wall_clock(start);
        let now = clock.read();
        assert!(tables.is_revoked(&principal(1_000_000), now), "N401: issued before the revoke");
        assert!(!tables.is_revoked(&principal(1_000_031), now), "N401: issued after it");
        // It was a day ahead for a moment.
        let (mut tables, clock) = (Tables::default(), Clock::manual(start));
        clock.set_wall_clock(start.plus(day));
        let now = clock.read();
        tables.insert(alice.clone(), RevokedAt::now(now.wall, now), now, 10);
        clock.set_wall_clock(start);
        let now = clock.read();
        assert!(tables.is_revoked(&principal(1_000_000), now), "N401");
        assert!(!tables.is_revoked(&principal(1_000_031), now), "N401: not for a day");
        // The clock of another replica is a day slow, or ahead.
        for (at, earliest) in [(start.minus(day), Some(clock.moment())), (start.plus(day), None)] {
            let (mut tables, now) = (Tables::default(), clock.read());
            tables.insert(alice.clone(), RevokedAt::elsewhere(at, earliest, now), now, 10);
            assert!(tables.is_revoked(&principal(1_000_000), now), "N401 {at}");
            assert!(!tables.is_revoked(&principal(1_000_031), now), "N401 {at}");
        }
    }

    fn chain(members: &[(&str, &str, Option<&str>)]) -> Principal {
        let actor = members.iter().rev().fold(None, |before, (issuer, subject, client)| {
            let actor = Actor::new(User::new(*issuer, *subject), before);
            Some(match client {
                Some(client) => actor.with_client(client),
                None => actor,
            })
        });
        let times = TokenTimes {
            id: "token-1",
            issued_at: Timestamp::from_unix_seconds(1_000),
            expires_at: Timestamp::from_unix_seconds(1_600),
        };
        let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
        let alice = User::new(BROKER, "alice");
        let verified = Verified::vouch(alice, "inspector", resource, times);
        Principal::of(&verified.with_actor(actor.unwrap()))
    }

    const BROKER: &str = "https://broker.example.com";
    const OTHER: &str = "https://other.example";

    #[test]
    fn n402_each_member_of_the_chain_is_looked_up() {
        let clock = clock_at(1_000);
        let (at, now) = reading(&clock, clock.now());
        let chain = chain(&[
            (BROKER, "agent", None),
            (OTHER, "planner", Some("planner-app")),
            (BROKER, "scheduler", None),
        ]);
        let user = |issuer, subject| RevocationTarget::User(User::new(issuer, subject));
        let client = |issuer: &str, id: &str| RevocationTarget::Client {
            issuer: issuer.into(),
            id: id.into(),
        };
        for (what, ends) in [
            (user(BROKER, "agent"), true),
            (user(OTHER, "planner"), true),
            (user(BROKER, "scheduler"), true),
            (client(OTHER, "planner-app"), true),
            (user(OTHER, "agent"), false),
            (user(BROKER, "planner"), false),
            (client(BROKER, "planner-app"), false),
            (client(OTHER, "planner"), false),
            (client(BROKER, "agent"), false),
        ] {
            let mut tables = Tables::default();
            tables.insert(what.clone(), at, now, 10);
            assert_eq!(tables.is_revoked(&chain, now), ends, "N402 {what:?}");
        }
        for (issuer, subject, blocks) in [
            (BROKER, "agent", true),
            (OTHER, "planner", true),
            (BROKER, "scheduler", true),
            (OTHER, "scheduler", false),
        ] {
            let mut tables = Tables::default();
            let member = User::new(issuer, subject);
            tables.block(member.clone());
            assert_eq!(tables.blocks(&chain), blocks, "N402 {issuer} {subject}");
            tables.unblock(&member);
            assert!(!tables.blocks(&chain), "N402: unblocked");
        }
    }

    #[test]
    fn n402_an_actor_that_is_its_own_subject_is_revoked_once() {
        let clock = clock_at(1_000);
        let (at, now) = reading(&clock, clock.now());
        let own = chain(&[(BROKER, "alice", None)]);
        let mut tables = Tables::default();
        tables.insert(each_kind().remove(3).0, at, now, 10);
        assert!(tables.is_revoked(&own, now), "N402");
        assert_eq!(tables.len(), 1);
        // A token that the agent obtained later is accepted, as any other.
        let (before, _) = reading(&clock, Timestamp::from_unix_seconds(900));
        let mut tables = Tables::default();
        let agent = RevocationTarget::User(User::new(BROKER, "agent"));
        tables.insert(agent, before, now, 10);
        assert!(!tables.is_revoked(&chain(&[(BROKER, "agent", None)]), now), "N402");
    }
}
