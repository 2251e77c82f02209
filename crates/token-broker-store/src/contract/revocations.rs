//! Laws of a [`RevocationStore`]. Each takes an empty store.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Barrier;
use tower_token_broker::{
    clock::Timestamp,
    principal::{GrantId, Resource, User},
    revocation::{RevocationChange, RevocationEntry, RevocationStore, RevocationTarget, Sequence},
    tasks::Tasks,
};

use super::ContractError;

/// The result of a law.
type Law = Result<(), ContractError>;
type Entries = Vec<(Sequence, RevocationEntry)>;

/// An empty store has no entry.
///
/// # Errors
/// [`ContractError`]
pub async fn an_empty_store_reads_nothing<S: RevocationStore>(store: S) -> Law {
    for after in [Sequence::START, Sequence::new(1), Sequence::new(i64::MAX.unsigned_abs())] {
        ensure_eq!(store.read_after(after, 10).await?, [], "entries after {after}");
    }
    Ok(())
}

/// A reader that starts from [`Sequence::START`] reads the first entry.
///
/// # Errors
/// [`ContractError`]
pub async fn the_first_place_is_after_the_start<S: RevocationStore>(store: S) -> Law {
    let place = store.append(&entry(1)).await?;
    ensure!(place > Sequence::START, "the first place is {place}");
    ensure_eq!(store.read_after(Sequence::START, 10).await?, [(place, entry(1))], "the entry");
    Ok(())
}

/// Each kind of change is read as it was appended, with its time in milliseconds.
///
/// # Errors
/// [`ContractError`]
pub async fn entries_keep_every_field<S: RevocationStore>(store: S) -> Law {
    let text = "a 'quoted' \u{e4}/%_\n text";
    let user = User::new("https://i.example", text);
    let grant = GrantId::new(text);
    let mut changes = vec![
        RevocationChange::Revoked(RevocationTarget::Token {
            issuer: "https://i.example".into(),
            id: text.into(),
        }),
        RevocationChange::Revoked(RevocationTarget::Family {
            issuer: "https://i.example".into(),
            id: text.into(),
        }),
        RevocationChange::Revoked(RevocationTarget::Client {
            issuer: "https://i.example".into(),
            id: text.into(),
        }),
        RevocationChange::Revoked(RevocationTarget::User(user.clone())),
        RevocationChange::Revoked(RevocationTarget::Grant(grant.clone())),
        RevocationChange::Revoked(RevocationTarget::Everything),
        RevocationChange::Blocked(user.clone()),
        RevocationChange::Unblocked(user),
        RevocationChange::GrantRestored(grant),
    ];
    if let Ok(resource) = Resource::parse("https://broker.example.com/crm/mcp") {
        changes.push(RevocationChange::Revoked(RevocationTarget::Server(resource)));
    }
    let mut appended = Vec::new();
    for (number, change) in (0_u64..).zip(changes) {
        let at = Timestamp::from_unix_millis(1_800_000_000_123 + number);
        let entry = RevocationEntry::new(change, at);
        appended.push((store.append(&entry).await?, entry));
    }
    ensure_eq!(store.read_after(Sequence::START, 100).await?, appended, "the entries");
    Ok(())
}

/// A reader reads an entry as soon as its append has returned.
///
/// # Errors
/// [`ContractError`]
pub async fn an_append_is_visible_when_it_returns<S: RevocationStore>(store: S) -> Law {
    let mut read_until = Sequence::START;
    for number in 0..20 {
        let place = store.append(&entry(number)).await?;
        ensure_eq!(
            store.read_after(read_until, 10).await?,
            [(place, entry(number))],
            "entries after {read_until}"
        );
        read_until = place;
    }
    Ok(())
}

/// Each append has a higher place than the one before it.
///
/// # Errors
/// [`ContractError`]
pub async fn places_rise_with_each_append<S: RevocationStore>(store: S) -> Law {
    let mut last = Sequence::START;
    for number in 0..20 {
        let place = store.append(&entry(number)).await?;
        ensure!(place > last, "place {place} after place {last}");
        last = place;
    }
    Ok(())
}

/// A read returns entries after its place, and not the one at it.
///
/// # Errors
/// [`ContractError`]
pub async fn a_read_starts_after_its_place<S: RevocationStore>(store: S) -> Law {
    let appended = append_all(&store, 10).await?;
    for (index, (place, _)) in appended.iter().enumerate() {
        let expected = appended.get(index.saturating_add(1)..).unwrap_or_default();
        ensure_eq!(store.read_after(*place, 100).await?, expected, "entries after {place}");
    }
    Ok(())
}

/// A read returns the first entries up to its limit.
///
/// # Errors
/// [`ContractError`]
pub async fn a_read_returns_at_most_its_limit<S: RevocationStore>(store: S) -> Law {
    let appended = append_all(&store, 10).await?;
    for limit in [0, 1, 2, 9, 10, 11, 1_000] {
        let read = store.read_after(Sequence::START, limit).await?;
        let expected = appended.get(..limit.min(10)).unwrap_or_default();
        ensure_eq!(read, expected, "at most {limit} entries");
    }
    Ok(())
}

/// Reads of any size, each after the last place of the one before, return each entry once.
///
/// # Errors
/// [`ContractError`]
pub async fn pages_cover_all_entries_once<S: RevocationStore>(store: S) -> Law {
    let appended = append_all(&store, 12).await?;
    for limit in [1, 2, 3, 5, 12, 13] {
        ensure_eq!(read_all(&store, limit).await?, appended, "pages of {limit}");
    }
    Ok(())
}

/// Entries that are equal are all kept.
///
/// # Errors
/// [`ContractError`]
pub async fn equal_entries_have_places_of_their_own<S: RevocationStore>(store: S) -> Law {
    let (one, other) = (store.append(&entry(1)).await?, store.append(&entry(1)).await?);
    let expected = [(one, entry(1)), (other, entry(1))];
    ensure_eq!(store.read_after(Sequence::START, 10).await?, expected, "two equal entries");
    Ok(())
}

/// A reader that follows many concurrent appenders reads each entry once, at the place that its
/// append returned, in order.
///
/// # Errors
/// [`ContractError`]
pub async fn concurrent_appends_are_read_once_in_order<S: RevocationStore>(store: S) -> Law {
    let (followed, mut appended) = follow_appenders(Arc::new(store)).await?;
    appended.sort_unstable_by_key(|(place, _)| *place);
    let places: HashSet<_> = appended.iter().map(|(place, _)| *place).collect();
    ensure_eq!(places.len(), appended.len(), "places of concurrent appends");
    ensure!(followed.is_sorted_by(|(one, _), (next, _)| one < next), "places do not rise");
    ensure_eq!(followed.len(), appended.len(), "entries that the reader read");
    ensure!(followed == appended, "the reader read other entries than were appended");
    Ok(())
}

/// A reader that starts after the end reads the same entries as one that followed the appenders:
/// none has appeared before a place that was read.
///
/// # Errors
/// [`ContractError`]
pub async fn no_entry_appears_before_a_read_place<S: RevocationStore>(store: S) -> Law {
    let store = Arc::new(store);
    let (followed, _) = follow_appenders(Arc::clone(&store)).await?;
    let afterwards = read_all(&*store, 1_000).await?;
    ensure_eq!(followed.len(), afterwards.len(), "entries that the reader read");
    ensure!(followed == afterwards, "a reader from the start reads other entries");
    Ok(())
}

fn entry(number: u64) -> RevocationEntry {
    let user = User::new("https://i.example", format!("user {number}"));
    let at = Timestamp::from_unix_seconds(1_800_000_000 + number);
    RevocationEntry::new(RevocationChange::Blocked(user), at)
}

async fn append_all<S: RevocationStore>(store: &S, count: u64) -> Result<Entries, ContractError> {
    let mut appended = Vec::new();
    for number in 0..count {
        appended.push((store.append(&entry(number)).await?, entry(number)));
    }
    Ok(appended)
}

/// Reads from the start until a read returns no entry, at most 10 000 times.
async fn read_all<S: RevocationStore>(store: &S, limit: usize) -> Result<Entries, ContractError> {
    let (mut all, mut read_until) = (Entries::new(), Sequence::START);
    for _ in 0..10_000 {
        let read = store.read_after(read_until, limit).await?;
        match read.last() {
            Some((place, _)) => read_until = *place,
            None => return Ok(all),
        }
        all.extend(read);
    }
    Err(ContractError::Broken { how: "the reads do not end".into() })
}

/// Reads until a page is empty that was read after the last append.
async fn read_until_caught_up<S: RevocationStore>(
    store: &S,
    all_appended: &AtomicBool,
) -> Result<Entries, ContractError> {
    let (mut read, mut read_until) = (Entries::new(), Sequence::START);
    loop {
        // Loaded before the read: an empty page after the last append is the end.
        let is_last = all_appended.load(Ordering::Acquire);
        let page = store.read_after(read_until, 7).await?;
        match page.last() {
            Some((place, _)) => read_until = *place,
            None if is_last => return Ok(read),
            None => {}
        }
        read.extend(page);
        ensure!(read.len() < 10_000, "the reads do not end");
        tokio::task::yield_now().await;
    }
}

/// Runs concurrent appenders and a reader. Returns what the reader read until it had caught up with
/// the last append, and what was appended.
async fn follow_appenders<S: RevocationStore>(
    store: Arc<S>,
) -> Result<(Entries, Entries), ContractError> {
    const APPENDERS: u64 = 8;
    const EACH: u64 = 50;
    let tasks = Tasks::new();
    let barrier = Arc::new(Barrier::new(9));
    let appenders: Vec<_> = (0..APPENDERS)
        .map(|appender| {
            let (store, barrier) = (Arc::clone(&store), Arc::clone(&barrier));
            tasks.spawn("appender", async move {
                let mut appended = Entries::new();
                barrier.wait().await;
                for number in 0..EACH {
                    let entry = entry(appender * EACH + number);
                    appended.push((store.append(&entry).await?, entry));
                    tokio::task::yield_now().await;
                }
                Ok::<_, ContractError>(appended)
            })
        })
        .collect();
    let all_appended = Arc::new(AtomicBool::new(false));
    let reader = {
        let all_appended = Arc::clone(&all_appended);
        tasks.spawn("reader", async move {
            barrier.wait().await;
            read_until_caught_up(&*store, &all_appended).await
        })
    };
    let mut appended = Entries::new();
    for appender in appenders {
        appended.extend(appender.await.map_err(|_| ContractError::Panicked)??);
    }
    all_appended.store(true, Ordering::Release);
    let read = reader.await.map_err(|_| ContractError::Panicked)??;
    Ok((read, appended))
}
