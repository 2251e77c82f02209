//! Rotation of the key-encryption key.

use std::{future::poll_fn, task::Poll};

use token_broker_sql::SqlStore;
use token_broker_store::{
    GrantStore, StoreError,
    sealing::{KeyRing, KeyWrap as _},
};
use tower_token_broker::tasks::Tasks;

use crate::support::{Place, grant, key, key_line, now, secret, text};

/// An old and a new key, as three key files: before, during and after a rotation.
struct Rings {
    before: KeyRing,
    during: KeyRing,
    after: KeyRing,
}

fn rings() -> Rings {
    let (old, new) = (key_line(), key_line());
    let ring = |lines: &[&str]| KeyRing::parse(&lines.join("\n")).unwrap();
    Rings { before: ring(&[&old]), during: ring(&[&new, &old]), after: ring(&[&new]) }
}

async fn fill(place: &Place, keys: &KeyRing, count: usize) {
    let store = place.open(keys).await;
    for number in 0..count {
        store.put(grant(&format!("user{number}"))).await.unwrap();
    }
    store.close().await;
}

async fn expect_readable(store: &SqlStore, count: usize) {
    for number in 0..count {
        let name = format!("user{number}");
        let loaded = store.load(&key(&name)).await.unwrap().unwrap();
        assert_eq!(text(loaded.refresh_token.as_ref().unwrap()), format!("refresh {name}"));
        assert_eq!(text(&loaded.access[0].secret), format!("access {name}"));
    }
}

#[tokio::test]
async fn rotation_ends_with_no_use_of_the_old_key() {
    for place in Place::all().await {
        let rings = rings();
        fill(&place, &rings.before, 250).await;
        let store = place.open(&rings.during).await;
        let mut left = Vec::new();
        let result = store.rotate(|progress| left.push(progress.left)).await.unwrap();
        assert_eq!((result.rewrapped, result.left, result.unreadable), (252, 0, 0));
        assert_eq!(result.old_keys, []);
        assert_eq!(left.first(), Some(&252));
        assert!(left.is_sorted_by(|one, next| one >= next) && left.len() > 3, "{left:?}");
        let used = store.keys_in_use().await.unwrap();
        assert_eq!(used.len(), 1);
        assert_eq!((&used[0].key_id, used[0].count), (&rings.after.current(), 252));
        // Again: nothing is left to do.
        assert_eq!(store.rotate(|_| {}).await.unwrap().rewrapped, 0);
        store.close().await;

        let store = place.open(&rings.after).await;
        expect_readable(&store, 250).await;
        store.close().await;
        assert!(SqlStore::open(&place.url(), rings.before).await.is_err());
    }
}

#[tokio::test]
async fn x20_a_rotation_that_is_killed_anywhere_continues() {
    const GRANTS: usize = 12;
    for place in Place::all().await {
        let rings = rings();
        fill(&place, &rings.before, GRANTS).await;
        let store = place.open(&rings.during).await;
        let mut completed = false;
        for polls in 0..1_000 {
            let mut rotation = Box::pin(store.rotate(|_| {}));
            let mut left = polls;
            let killed_after = poll_fn(|context| match left {
                0 => Poll::Ready(None),
                _ => {
                    left -= 1;
                    rotation.as_mut().poll(context).map(Some)
                }
            });
            completed = killed_after.await.is_some_and(|result| result.unwrap().left == 0);
            drop(rotation);
            expect_readable(&store, GRANTS).await;
            if completed {
                break;
            }
        }
        assert!(completed, "X20: the last of them was not killed");
        store.close().await;
        let store = place.open(&rings.after).await;
        expect_readable(&store, GRANTS).await;
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn x20_two_rotations_under_load_lose_no_row() {
    const GRANTS: usize = 60;
    for place in Place::all().await {
        let rings = rings();
        fill(&place, &rings.before, GRANTS).await;
        let tasks = Tasks::new();
        let (one, other) = (place.open(&rings.during).await, place.open(&rings.during).await);
        // A process that has not been restarted yet wraps with the old key.
        let late = place.open(&rings.during).await;
        let rotations = [one.clone(), other.clone()].map(|store| {
            tasks.spawn("rotation", async move { store.rotate(|_| {}).await.unwrap() })
        });
        let writing = {
            let late = late.clone();
            tasks.spawn("refreshes", async move {
                for number in 0..GRANTS {
                    let stored = late.load(&key(&format!("user{number}"))).await.unwrap().unwrap();
                    let until = now().plus(std::time::Duration::from_secs(20));
                    let request = token_broker_store::LeaseRequest::new(&stored, now(), until);
                    let outcome = late.lease(&request).await.unwrap();
                    let token_broker_store::LeaseOutcome::Acquired(lease) = outcome else {
                        panic!("{outcome:?}")
                    };
                    let token = secret(&format!("rotated {number}"));
                    let renewal = token_broker_store::Renewal::new(Some(token), None);
                    assert!(late.complete(&lease, &renewal).await.unwrap().is_some());
                }
            })
        };
        let mut rewrapped = 0;
        for rotation in rotations {
            rewrapped += rotation.await.unwrap().rewrapped;
        }
        writing.await.unwrap();
        let last = one.rotate(|_| {}).await.unwrap();
        assert_eq!((last.left, last.unreadable), (0, 0), "X20");
        assert_eq!(rewrapped + last.rewrapped, GRANTS as u64 + 2, "X20 each once");
        for store in [one, other, late] {
            store.close().await;
        }
        let store = place.open(&rings.after).await;
        for number in 0..GRANTS {
            let loaded = store.load(&key(&format!("user{number}"))).await.unwrap().unwrap();
            let token = text(loaded.refresh_token.as_ref().unwrap()).to_owned();
            assert_eq!(token, format!("rotated {number}"), "X20");
        }
        store.close().await;
    }
}

#[tokio::test]
async fn o281_an_old_key_that_is_gone_is_an_error_of_its_grants() {
    for place in Place::all().await {
        let rings = rings();
        fill(&place, &rings.before, 3).await;
        let store = place.open(&rings.during).await;
        store.put(grant("new")).await.unwrap();
        store.close().await;
        // The operator removes the old key: the store does not open.
        assert!(SqlStore::open(&place.url(), rings.after.clone()).await.is_err(), "O281");
        // Forced: the shared keys are wrapped again, and three grants are not.
        let store = place.open(&rings.during).await;
        store.rotate(|_| {}).await.unwrap();
        store.close().await;
        let lost = place.run("SELECT COUNT(*) FROM grants");
        assert_eq!(lost, "4");
        let lost_key = rings.before.current();
        place.run(&format!("UPDATE grants SET key_id = '{lost_key}' WHERE id = 'g-user1'"));
        let store = place.open(&rings.after).await;
        let result = store.rotate(|_| {}).await.unwrap();
        assert_eq!((result.rewrapped, result.left, result.unreadable), (0, 1, 1), "O281");
        assert_eq!(result.old_keys[0].key_id, lost_key, "O281");
        let unreadable = StoreError::Unreadable { grant: grant("user1").id };
        assert_eq!(store.load(&key("user1")).await.err(), Some(unreadable.clone()), "O281");
        assert!(!unreadable.is_retryable());
        for other in ["user0", "user2", "new"] {
            assert!(store.load(&key(other)).await.unwrap().is_some(), "O281 {other}");
        }
        // The user connects again, or the grant is revoked: the key is not needed any more.
        store.put(grant("user1")).await.unwrap();
        assert_eq!(store.rotate(|_| {}).await.unwrap().left, 0, "O281");
        assert!(store.load(&key("user1")).await.unwrap().is_some(), "O281");
        store.close().await;
    }
}
