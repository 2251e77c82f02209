//! Several processes on one store: each handle has connections of its own.

use std::{collections::HashSet, time::Duration};

use token_broker_sql::SqlStore;
use token_broker_store::{GrantStore, LeaseOutcome, LeaseRequest, Renewal, sealing::KeyRing};
use tower_token_broker::{
    principal::User,
    revocation::{RevocationChange, RevocationEntry, RevocationStore, Sequence},
    tasks::Tasks,
};

use crate::support::{Place, grant, key, keys, now, secret, text};

const PROCESSES: usize = 4;

async fn open_all(place: &Place, keys: &KeyRing) -> Vec<SqlStore> {
    let mut stores = Vec::new();
    for _ in 0..PROCESSES {
        stores.push(place.open(keys).await);
    }
    stores
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn x02_of_200_leases_one_is_acquired_per_version() {
    for place in Place::all().await {
        let keys = keys();
        let stores = open_all(&place, &keys).await;
        let mut stored = stores[0].put(grant("alice")).await.unwrap();
        let mut fences = HashSet::new();
        for version in 1..=5_usize {
            assert_eq!(stored.version, version as u64);
            let request = LeaseRequest::new(&stored, now(), now().plus(Duration::from_secs(20)));
            let tasks = Tasks::new();
            let leases: Vec<_> = (0..200)
                .map(|number| {
                    let (store, request) = (stores[number % PROCESSES].clone(), request.clone());
                    tasks.spawn("lease", async move { store.lease(&request).await })
                })
                .collect();
            let mut acquired = Vec::new();
            for lease in leases {
                match lease.await.unwrap().unwrap() {
                    LeaseOutcome::Acquired(lease) => acquired.push(lease),
                    LeaseOutcome::Held(until) => assert_eq!(until, request.until),
                    LeaseOutcome::Stale => panic!("X02 the version is the current one"),
                }
            }
            assert_eq!(acquired.len(), 1, "X02 version {version}");
            let lease = acquired.pop().unwrap();
            assert!(fences.insert(lease.fence), "X02 fence {}", lease.fence);
            // Another process ends the refresh than the one that began it.
            let renewal = Renewal::new(Some(secret(&format!("rotated {version}"))), None);
            let other = &stores[version % PROCESSES];
            other.mark_attempt(&lease).await.unwrap();
            stored = other.complete(&lease, &renewal).await.unwrap().unwrap();
        }
        for store in &stores {
            let loaded = store.load(&key("alice")).await.unwrap().unwrap();
            assert_eq!(text(loaded.refresh_token.as_ref().unwrap()), "rotated 5");
            store.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn x02_of_concurrent_completes_one_is_stored() {
    for place in Place::all().await {
        let keys = keys();
        let stores = open_all(&place, &keys).await;
        let stored = stores[0].put(grant("alice")).await.unwrap();
        let request = LeaseRequest::new(&stored, now(), now().plus(Duration::from_secs(20)));
        let LeaseOutcome::Acquired(lease) = stores[1].lease(&request).await.unwrap() else {
            panic!("the lease is free")
        };
        let tasks = Tasks::new();
        let completes: Vec<_> = (0..40)
            .map(|number| {
                let (store, lease) = (stores[number % PROCESSES].clone(), lease.clone());
                tasks.spawn("complete", async move {
                    let token = secret(&format!("rotated {number}"));
                    store.complete(&lease, &Renewal::new(Some(token), None)).await
                })
            })
            .collect();
        let mut stored = Vec::new();
        for complete in completes {
            stored.extend(complete.await.unwrap().unwrap());
        }
        assert_eq!(stored.len(), 1, "X02");
        let loaded = stores[3].load(&key("alice")).await.unwrap().unwrap();
        let token = |grant: &token_broker_store::Grant| {
            text(grant.refresh_token.as_ref().unwrap()).to_owned()
        };
        assert_eq!(token(&loaded), token(&stored[0]), "X02");
        for store in stores {
            store.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn revocations_of_all_processes_are_one_sequence() {
    for place in Place::all().await {
        let keys = keys();
        let stores = open_all(&place, &keys).await;
        let tasks = Tasks::new();
        let appends: Vec<_> = (0..100)
            .map(|number| {
                let store = stores[number % PROCESSES].clone();
                let reader = stores[(number + 1) % PROCESSES].clone();
                tasks.spawn("append", async move {
                    let user = User::new("https://i.example", format!("user {number}"));
                    let change = RevocationChange::Blocked(user);
                    let place = store.append(&RevocationEntry::new(change, now())).await.unwrap();
                    // Visible to another process at once, with all before it.
                    let before = Sequence::new(place.as_u64() - 1);
                    let read = reader.read_after(before, 1).await.unwrap();
                    assert_eq!(read.first().map(|(at, _)| *at), Some(place));
                    let all = reader.read_after(Sequence::START, usize::MAX).await.unwrap();
                    assert!(all.len() as u64 >= place.as_u64(), "a hole before {place}");
                    place
                })
            })
            .collect();
        let mut places = HashSet::new();
        for append in appends {
            places.insert(append.await.unwrap().as_u64());
        }
        assert_eq!(places, (1..=100).collect());
        for store in stores {
            store.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_dropped_caller_does_not_interrupt_a_step() {
    for place in Place::all().await {
        let store = place.open(&keys()).await;
        for number in 0..20 {
            let name = format!("user{number}");
            {
                let mut put = Box::pin(store.put(grant(&name)));
                for _ in 0..number % 4 {
                    let waker = std::task::Waker::noop();
                    let mut context = std::task::Context::from_waker(waker);
                    if put.as_mut().poll(&mut context).is_ready() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
            store.put(grant("other")).await.unwrap();
        }
        store.close().await;
        let orphans = "SELECT COUNT(*) FROM grants WHERE refresh_token IS NULL OR data_key IS NULL";
        assert_eq!(place.run(orphans), "0");
        // A step that was polled once has begun, and so it has ended.
        let begun = "SELECT COUNT(*) FROM grants WHERE id IN ('g-user1', 'g-user2', 'g-user3')";
        assert_eq!(place.run(begun), "3");
    }
}
