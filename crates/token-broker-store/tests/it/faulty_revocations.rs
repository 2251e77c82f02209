//! Stores of revocations with one planted fault each: the law named with it notices.

use parking_lot::Mutex;
use token_broker_store::{
    MemoryRevocations,
    contract::{ContractError, revocations},
};
use tower_token_broker::{
    clock::Timestamp,
    revocation::{
        RevocationChange, RevocationEntry, RevocationStore, RevocationStoreError, RevocationTarget,
        Sequence,
    },
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    HasAnEntry,
    StartsAtZero,
    LosesMilliseconds,
    VisibleWithTheNext,
    SamePlace,
    ReadsItsPlaceAgain,
    IgnoresLimit,
    ReadsTheLastFirst,
    DropsEqualEntries,
    VisibleOutOfOrder,
}

macro_rules! noticed {
    ($($law:ident: $fault:ident,)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $law() {
                let noticed = revocations::$law(Faulty::new(Fault::$fault)).await;
                assert!(noticed.is_err(), "{:?} is not noticed", Fault::$fault);
                assert_ne!(noticed, Err(ContractError::Panicked));
            }
        )+
    };
}

noticed! {
    an_empty_store_reads_nothing: HasAnEntry,
    the_first_place_is_after_the_start: StartsAtZero,
    entries_keep_every_field: LosesMilliseconds,
    an_append_is_visible_when_it_returns: VisibleWithTheNext,
    places_rise_with_each_append: SamePlace,
    a_read_starts_after_its_place: ReadsItsPlaceAgain,
    a_read_returns_at_most_its_limit: IgnoresLimit,
    pages_cover_all_entries_once: ReadsTheLastFirst,
    equal_entries_have_places_of_their_own: DropsEqualEntries,
    concurrent_appends_are_read_once_in_order: VisibleOutOfOrder,
    no_entry_appears_before_a_read_place: VisibleOutOfOrder,
}

type Entries = Vec<(Sequence, RevocationEntry)>;

struct Faulty {
    log: MemoryRevocations,
    fault: Fault,
    /// Places that were assigned and are not visible, as of transactions that are not committed.
    hidden: Mutex<Vec<Sequence>>,
    /// Last place that a reader has read.
    read_until: Mutex<Sequence>,
}

impl Faulty {
    fn new(fault: Fault) -> Self {
        let read_until = Mutex::new(Sequence::START);
        Self { log: MemoryRevocations::new(), fault, hidden: Mutex::default(), read_until }
    }
}

fn before(place: Sequence) -> Sequence {
    Sequence::new(place.as_u64().saturating_sub(1))
}

impl RevocationStore for Faulty {
    async fn append(&self, entry: &RevocationEntry) -> Result<Sequence, RevocationStoreError> {
        let mut entry = entry.clone();
        match self.fault {
            Fault::LosesMilliseconds => {
                entry.at = Timestamp::from_unix_seconds(entry.at.unix_seconds());
            }
            Fault::DropsEqualEntries => {
                let all = self.log.read_after(Sequence::START, usize::MAX).await?;
                if let Some((place, _)) = all.into_iter().find(|(_, held)| *held == entry) {
                    return Ok(place);
                }
            }
            Fault::VisibleOutOfOrder => {
                // A database sequence assigns the place; the commit comes later.
                let place = {
                    let mut hidden = self.hidden.lock();
                    let place = self.log.append(&entry);
                    let place = now_or_never(place)?;
                    hidden.push(place);
                    place
                };
                // The first commit comes after a reader has read a later place.
                while place == Sequence::new(1) && *self.read_until.lock() <= place {
                    tokio::task::yield_now().await;
                }
                self.hidden.lock().retain(|hidden| *hidden != place);
                return Ok(place);
            }
            _ => {}
        }
        let place = self.log.append(&entry).await?;
        Ok(match self.fault {
            Fault::StartsAtZero => before(place),
            Fault::SamePlace => Sequence::new(1),
            _ => place,
        })
    }

    async fn read_after(
        &self,
        after: Sequence,
        limit: usize,
    ) -> Result<Entries, RevocationStoreError> {
        match self.fault {
            Fault::HasAnEntry => {
                let change = RevocationChange::Revoked(RevocationTarget::Everything);
                let at = Timestamp::from_unix_seconds(1);
                Ok(vec![(Sequence::new(1), RevocationEntry::new(change, at))])
            }
            Fault::ReadsItsPlaceAgain => self.log.read_after(before(after), limit).await,
            Fault::IgnoresLimit => self.log.read_after(after, usize::MAX).await,
            Fault::VisibleWithTheNext => {
                let mut read = self.log.read_after(after, limit).await?;
                read.pop();
                Ok(read)
            }
            Fault::ReadsTheLastFirst => {
                let mut read = self.log.read_after(after, usize::MAX).await?;
                read.reverse();
                read.truncate(limit);
                Ok(read)
            }
            Fault::VisibleOutOfOrder => {
                let (hidden, mut read) = {
                    let hidden = self.hidden.lock();
                    let read = now_or_never(self.log.read_after(after, usize::MAX))?;
                    (hidden.clone(), read)
                };
                read.retain(|(place, _)| !hidden.contains(place));
                read.truncate(limit);
                if let Some((place, _)) = read.last() {
                    *self.read_until.lock() = *place;
                }
                Ok(read)
            }
            _ => self.log.read_after(after, limit).await,
        }
    }
}

/// The result of a future that the store in memory completes at once.
fn now_or_never<T>(
    work: impl Future<Output = Result<T, RevocationStoreError>>,
) -> Result<T, RevocationStoreError> {
    let mut work = std::pin::pin!(work);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match work.as_mut().poll(&mut context) {
        std::task::Poll::Ready(result) => result,
        std::task::Poll::Pending => Err(RevocationStoreError::Unreachable),
    }
}
