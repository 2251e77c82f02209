//! Measures how long entries have existed, and drops those that no longer count.
//!
//! No wall clock can be trusted with this: one that is ahead would drop revocations while the
//! tokens are still valid. Each process measures with a clock that only counts, and writes for how
//! long it knows that the entries up to a place exist. A process that starts continues from there.
//! So the age of an entry is never more than the time that has passed.

use std::time::Duration;

use parking_lot::Mutex;
use tower_token_broker::clock::{Clock, Moment};

use crate::{
    database::{Failure, Value},
    store::SqlStore,
};

/// How often a process writes what it has measured.
const EVERY: Duration = Duration::from_secs(600);
/// How far apart places are whose ages are measured.
const APART: Duration = Duration::from_secs(3_600);

/// Ages that this process has measured.
#[derive(Debug)]
pub(crate) struct Ages {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the ages were last written.
    written: Moment,
    /// Places with the age that was known when this process first read it, and that moment.
    known: Vec<Known>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    place: u64,
    age: Duration,
    at: Moment,
}

const READ: &str = "SELECT place, age_millis FROM revocation_ages ORDER BY place";
const LAST: &str = "SELECT last FROM revocation_sequence";
const ADD: &str = "INSERT INTO revocation_ages (place, age_millis) VALUES ($1, 0) \
    ON CONFLICT DO NOTHING";
const RAISE: &str = "UPDATE revocation_ages SET age_millis = $2 \
    WHERE place = $1 AND age_millis < $2";
const FORGET: &str = "DELETE FROM revocation_ages WHERE place < $1";
/// Entries whose kind this program does not know are kept, and the last one: it is where readers
/// continue.
const DROP: &str = "DELETE FROM revocations WHERE place <= $1 \
    AND place < (SELECT last FROM revocation_sequence) AND (\
    (about IS NULL AND kind IN ('token_revoked', 'family_revoked', 'client_revoked', \
    'user_revoked', 'server_revoked', 'everything_revoked')) \
    OR (kind IN ('grant_revoked', 'grant_restored', 'user_blocked', 'user_unblocked') \
    AND EXISTS (SELECT 1 FROM revocations AS later \
    WHERE later.about = revocations.about AND later.place > revocations.place)))";

impl Ages {
    pub(crate) fn new(clock: &Clock) -> Self {
        Self { state: Mutex::new(State { written: clock.moment(), known: Vec::new() }) }
    }

    /// Returns whether it is time to write, to one caller each time.
    fn is_due(&self, now: Moment) -> bool {
        let mut state = self.state.lock();
        // The first time at once: this process begins to measure.
        let due = state.known.is_empty() || state.written.plus(EVERY) <= now;
        if due {
            state.written = now;
            if state.known.is_empty() {
                state.known.push(Known { place: 0, age: Duration::ZERO, at: now });
            }
        }
        due
    }

    /// Notes what the store knows about a place, and returns the age that is known now.
    fn measure(&self, place: u64, stored: Duration, now: Moment) -> Duration {
        let mut state = self.state.lock();
        let measured = match state.known.iter_mut().find(|known| known.place == place) {
            Some(known) => known.age.saturating_add(known.at.until(now)),
            None => {
                state.known.push(Known { place, age: stored, at: now });
                stored
            }
        };
        measured.max(stored)
    }

    fn forget_before(&self, place: u64) {
        self.state.lock().known.retain(|known| known.place == 0 || known.place >= place);
    }
}

impl SqlStore {
    /// Writes the ages and drops what no longer counts, from time to time, in a task.
    pub(super) fn count_ages(&self) {
        let now = self.clock.moment();
        if self.ages.is_due(now) {
            let store = self.clone();
            self.in_background("ages of revocations", async move {
                if let Err(failure) = store.write_ages().await {
                    tracing::debug!(%failure, "old revocations are kept for now");
                }
            });
        }
    }

    async fn write_ages(&self) -> Result<(), Failure> {
        let last = self.within(self.database.read(LAST, &[])).await?;
        let last = last.first().ok_or(Failure::Unreadable)?.number(0)?;
        let rows = self.within(self.database.read(READ, &[])).await?;
        // After the reads: all of it exists already.
        let now = self.clock.moment();
        let (mut youngest, mut newest, mut expired) = (Duration::MAX, 0, None);
        for row in &rows {
            let place = row.number(0)?;
            let stored = Duration::from_millis(row.number(1)?);
            let age = self.ages.measure(place, stored, now);
            (youngest, newest) = (age, place);
            if age >= self.retention {
                expired = Some(place);
            }
            if age > stored {
                let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
                let values = [Value::from(place), Value::from(millis)];
                self.within(self.database.write(RAISE, &values)).await?;
            }
        }
        if last > newest && youngest >= APART {
            self.within(self.database.write(ADD, &[Value::from(last)])).await?;
            self.ages.measure(last, Duration::ZERO, now);
        }
        if let Some(place) = expired {
            // N400: measured, whatever the clock of any process shows.
            self.within(self.database.write(DROP, &[Value::from(place)])).await?;
            self.within(self.database.write(FORGET, &[Value::from(place)])).await?;
            self.ages.forget_before(place);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use token_broker_store::sealing::KeyRing;
    use tower_token_broker::{
        clock::{LEEWAY, Timestamp},
        principal::{GrantId, User},
        revocation::{
            RevocationChange, RevocationEntry, RevocationStore as _, RevocationTarget, Revocations,
            Sequence,
        },
    };

    use super::*;
    use crate::StoreUrl;

    const RETENTION: Duration = Revocations::RETENTION.saturating_add(LEEWAY.saturating_mul(3));

    fn start() -> Timestamp {
        Timestamp::from_unix_seconds(1_800_000_000)
    }

    #[expect(clippy::disallowed_methods, reason = "a new key of a test")]
    fn keys() -> KeyRing {
        KeyRing::parse(KeyRing::generate_line().expose_text().unwrap()).unwrap()
    }

    /// Processes that share a store, each with a clock of its own that starts with it.
    struct Processes {
        url: StoreUrl,
        keys: KeyRing,
        _folder: tempfile::TempDir,
    }

    impl Processes {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let url = format!("sqlite://{}", folder.path().join("b.db").display());
            Self { url: StoreUrl::parse(&url).unwrap(), keys: keys(), _folder: folder }
        }

        async fn start(&self) -> (SqlStore, Clock) {
            let clock = Clock::manual(start());
            let store = SqlStore::open(&self.url, self.keys.clone()).await.unwrap();
            (store.with_clock(clock.clone()), clock)
        }
    }

    fn user(name: &str) -> User {
        User::new("https://i.example", name)
    }

    fn entry(change: RevocationChange) -> RevocationEntry {
        RevocationEntry::new(change, start())
    }

    async fn kept(store: &SqlStore) -> Vec<RevocationChange> {
        let entries = store.read_after(Sequence::START, usize::MAX).await.unwrap();
        entries.into_iter().map(|(_, entry)| entry.change).collect()
    }

    #[tokio::test]
    async fn what_still_counts_survives_the_retention() {
        let processes = Processes::new();
        let (store, clock) = processes.start().await;
        let grant = |id: &str| GrantId::new(id);
        let revoked = |id: &str| RevocationChange::Revoked(RevocationTarget::Grant(grant(id)));
        let counting = [
            revoked("over"),
            RevocationChange::Blocked(user("mallory")),
            RevocationChange::Unblocked(user("bob")),
            RevocationChange::GrantRestored(grant("again")),
        ];
        let superseded = [
            RevocationChange::Blocked(user("bob")),
            revoked("again"),
            RevocationChange::Unblocked(user("mallory")),
            RevocationChange::Revoked(RevocationTarget::User(user("carol"))),
            RevocationChange::Revoked(RevocationTarget::Everything),
        ];
        for change in superseded.into_iter().chain(counting.clone()) {
            store.append(&entry(change)).await.unwrap();
        }
        store.write_ages().await.unwrap();
        clock.advance(RETENTION - Duration::from_millis(1));
        store.write_ages().await.unwrap();
        assert_eq!(kept(&store).await.len(), 9, "nothing is dropped before the retention");
        clock.advance(Duration::from_millis(1));
        store.write_ages().await.unwrap();
        assert_eq!(kept(&store).await, counting);
        // New places are after those that were dropped.
        assert_eq!(store.append(&entry(counting[0].clone())).await.unwrap().as_u64(), 10);
    }

    #[tokio::test]
    async fn n400_no_wrong_clock_drops_an_entry() {
        let processes = Processes::new();
        let (store, clock) = processes.start().await;
        let everything = || RevocationChange::Revoked(RevocationTarget::Everything);
        store.append(&entry(everything())).await.unwrap();
        store.write_ages().await.unwrap();
        let days = Duration::from_secs(24 * 3_600) * 400;
        clock.set_wall_clock(start().plus(days));
        store.write_ages().await.unwrap();
        let (other, ahead) = processes.start().await;
        ahead.set_wall_clock(start().plus(days));
        other.write_ages().await.unwrap();
        assert_eq!(kept(&other).await.len(), 1, "N400");
    }

    /// An entry that stays, because readers continue at it.
    fn last() -> RevocationChange {
        RevocationChange::Blocked(User::new("https://i.example", "last"))
    }

    #[tokio::test]
    async fn n400_restarted_processes_count_on_and_never_twice() {
        let processes = Processes::new();
        let (store, _) = processes.start().await;
        let everything = || RevocationChange::Revoked(RevocationTarget::Everything);
        store.append(&entry(everything())).await.unwrap();
        store.append(&entry(last())).await.unwrap();
        store.write_ages().await.unwrap();
        // Two processes at a time, each of which lives for a third of the retention.
        for generation in 0..3 {
            assert_eq!(kept(&store).await.len(), 2, "N400 generation {generation}");
            let (one, other) = (processes.start().await, processes.start().await);
            for (store, _) in [&one, &other] {
                store.write_ages().await.unwrap();
            }
            for (store, clock) in [&one, &other] {
                clock.advance(RETENTION / 3);
                store.write_ages().await.unwrap();
            }
        }
        // An entry that was appended later has an age of its own.
        assert_eq!(kept(&store).await, [last()], "N400");
        store.append(&entry(everything())).await.unwrap();
        store.append(&entry(last())).await.unwrap();
        let (other, clock) = processes.start().await;
        other.write_ages().await.unwrap();
        clock.advance(RETENTION - Duration::from_millis(1));
        other.write_ages().await.unwrap();
        assert_eq!(kept(&other).await.len(), 2, "N400");
        clock.advance(Duration::from_millis(1));
        other.write_ages().await.unwrap();
        assert_eq!(kept(&other).await, [last()], "N400");
    }

    #[tokio::test]
    async fn reading_measures_from_time_to_time() {
        let processes = Processes::new();
        let (store, clock) = processes.start().await;
        store
            .append(&entry(RevocationChange::Revoked(RevocationTarget::Everything)))
            .await
            .unwrap();
        store.append(&entry(last())).await.unwrap();
        for _ in 0..200 {
            kept(&store).await;
            store.settled().await;
            clock.advance(EVERY);
        }
        assert_eq!(
            kept(&store).await,
            [last()],
            "200 times ten minutes are more than the retention"
        );
        let rows = store.database.read(READ, &[]).await.unwrap();
        assert!(rows.len() < 40, "{}", rows.len());
    }
}
