//! Several processes on the authority's rows of one store: each handle has its own connections.

use std::time::Duration;

use token_broker_sql::SqlStore;
use token_broker_store::authority::{
    AccountStore, AddSigningKey, Advance, AdvanceFamily, AuthorityStore, Client, ClientId,
    ClientStore, CodeStore, CreateFirstAccount, EndFamilies, FamilyEnd, FamilyEndReason,
    FamilyFilter, FamilyId, FamilyStore, FirstAccount, KeyTimes, NewAccount, PageRequest,
    Redemption, RegisterClient, Registration, SessionStore, SigningKey, SigningKeyStore, UserName,
};
use tower_token_broker::tasks::Tasks;

use crate::{
    authority_support::{after, code, family_key, fill, redeem, user, value},
    support::{Place, keys, now, secret},
};

const PROCESSES: usize = 4;

async fn open_all(place: &Place) -> Vec<SqlStore> {
    let keys = keys();
    let mut stores = Vec::new();
    for _ in 0..PROCESSES {
        stores.push(place.open(&keys).await);
    }
    stores
}

/// Runs a step in each process as often, all at once, and returns the outcomes.
async fn in_all<T, F>(
    stores: &[SqlStore],
    count: usize,
    step: impl Fn(SqlStore, usize) -> F,
) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let tasks = Tasks::new();
    let steps: Vec<_> = (0..count)
        .map(|number| tasks.spawn("step", step(stores[number % PROCESSES].clone(), number)))
        .collect();
    let mut outcomes = Vec::new();
    for step in steps {
        outcomes.push(step.await.unwrap());
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_refresh_at_once_get_one_successor() {
    for place in Place::all().await {
        let stores = open_all(&place).await;
        fill(&stores[0], "alice").await;
        for generation in 1..=5 {
            let outcomes = in_all(&stores, 40, |store, number| async move {
                let at = now().plus(Duration::from_millis(number as u64));
                let until = (after(86_400), now().minus(Duration::from_secs(600)));
                let request = AdvanceFamily::new(FamilyId::new("f-alice"), generation, at, until);
                store.advance_family(&request).await.unwrap()
            })
            .await;
            let mut advanced = 0;
            let mut families = Vec::new();
            for outcome in outcomes {
                match outcome {
                    Advance::Advanced(family) => {
                        advanced += 1;
                        families.push(family);
                    }
                    Advance::Stale(family) => families.push(family),
                    other @ (Advance::Ended(_) | Advance::Unknown) => panic!("{other:?}"),
                }
            }
            assert_eq!(advanced, 1, "generation {generation}");
            assert!(families.iter().all(|family| *family == families[0]));
            assert_eq!(families[0].generation, generation + 1);
        }
        // Each process derives the successor with the same key.
        for store in &stores {
            let found = store.family(&FamilyId::new("f-alice")).await.unwrap().unwrap();
            assert!(found.key.unwrap().matches(&family_key("alice")));
            store.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f124_a_code_is_redeemed_by_one_process() {
    for place in Place::all().await {
        let stores = open_all(&place).await;
        for round in 0..5 {
            let name = format!("alice{round}");
            let keys = stores[0].lookup_key().await.unwrap();
            stores[1].put_code(&keys.code(&value(&name)), &code(&name)).await.unwrap();
            let outcomes = in_all(&stores, 40, |store, _| {
                let name = name.clone();
                async move {
                    let keys = store.lookup_key().await.unwrap();
                    let outcome = store.redeem_code(&redeem(&keys, &name)).await.unwrap();
                    let family = FamilyId::new(&format!("f-{name}"));
                    // Each caller that sees the replay finds the family that it ends.
                    (outcome, store.family(&family).await.unwrap().is_some())
                }
            })
            .await;
            let is_first = |outcome: &Redemption| matches!(outcome, Redemption::First(..));
            let first = outcomes.iter().filter(|(outcome, _)| is_first(outcome)).count();
            assert_eq!(first, 1, "F124");
            assert!(outcomes.iter().all(|(_, has_family)| *has_family), "F124");
        }
        for store in stores {
            store.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn first_accounts_keys_and_registrations_are_counted_once() {
    for place in Place::all().await {
        let stores = open_all(&place).await;
        let link = stores[0].lookup_key().await.unwrap().first_account_link(&secret("token"));
        stores[0].put_first_account_link(&link, after(3_600)).await.unwrap();
        let created = in_all(&stores, 40, |store, number| async move {
            let name = UserName::parse(&format!("user{number}")).unwrap();
            let account = NewAccount::new(&format!("a{number}"), name, secret("hash"), now());
            let request = CreateFirstAccount::new(link, account);
            match store.create_first_account(&request).await.unwrap() {
                FirstAccount::Created(_) => 1,
                FirstAccount::LinkInvalid | FirstAccount::NotFirst => 0,
            }
        })
        .await;
        assert_eq!(created.into_iter().sum::<usize>(), 1);
        let accounts = stores[3].accounts(&PageRequest::first()).await.unwrap();
        assert_eq!(accounts.rows.len(), 1);

        let added = in_all(&stores, 40, |store, number| async move {
            let times = KeyTimes::new(now(), now());
            let key = SigningKey::new(&format!("k{number}"), "ES256", secret("key"), times);
            store.add_signing_key(&AddSigningKey::new(0, key)).await.unwrap()
        })
        .await;
        assert_eq!(added.into_iter().filter(|added| *added).count(), 1);
        assert_eq!(stores[3].signing_keys().await.unwrap().keys.len(), 1);

        let registered = in_all(&stores, 40, |store, number| async move {
            let client = Client::new(ClientId::new(&format!("c{number}")), now());
            let outcome = store.register_client(&RegisterClient::new(client, 7)).await.unwrap();
            outcome == Registration::Registered
        })
        .await;
        assert_eq!(registered.into_iter().filter(|registered| *registered).count(), 7);
        assert_eq!(stores[3].clients(&PageRequest::first()).await.unwrap().rows.len(), 7);
        // Removed at once with registrations: the count stays that of the rows.
        in_all(&stores, 40, |store, number| async move {
            if number % 2 == 0 {
                store.remove_unused_clients(after(1), 1).await.unwrap();
                return;
            }
            let client = Client::new(ClientId::new(&format!("d{number}")), now());
            let outcome = store.register_client(&RegisterClient::new(client, 7)).await.unwrap();
            assert!(matches!(outcome, Registration::Registered | Registration::Full));
        })
        .await;
        let rows = place.run("SELECT COUNT(*) FROM clients");
        let counted = place.run("SELECT value FROM authority_counters WHERE name = 'clients'");
        assert_eq!(rows, counted);
        for store in stores {
            store.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_rows_are_ended_from_several_sides_at_once() {
    const FAMILIES: usize = 60;
    for place in Place::all().await {
        let stores = open_all(&place).await;
        let keys = stores[0].lookup_key().await.unwrap();
        for number in 0..FAMILIES {
            // In one order by user, in another one by client.
            let name = format!("{:02}", (number * 37) % FAMILIES);
            let mut code = code(&name);
            code.user = user(&format!("user{}", number % 2));
            code.client = ClientId::new(&format!("client{}", number % 3));
            stores[0].put_code(&keys.code(&value(&name)), &code).await.unwrap();
            drop(stores[0].redeem_code(&redeem(&keys, &name)).await.unwrap());
        }
        let ended = in_all(&stores, 40, |store, number| async move {
            let filter = match number % 6 {
                0 | 1 => FamilyFilter::all().user(user(&format!("user{}", number % 2))),
                2 | 3 => {
                    FamilyFilter::all().client(ClientId::new(&format!("client{}", number % 2)))
                }
                4 => FamilyFilter::all(),
                _ => {
                    store.remove_families(now(), 10).await.unwrap();
                    FamilyFilter::all().user(user("user0"))
                }
            };
            let end = FamilyEnd::new(FamilyEndReason::User, after(9));
            store.end_families(&EndFamilies::new(filter, end)).await.unwrap().len()
        })
        .await;
        // Each was ended by one of them.
        assert_eq!(ended.into_iter().sum::<usize>(), FAMILIES);
        for store in stores {
            store.close().await;
        }
    }
}

#[tokio::test]
async fn hashes_are_found_after_a_restart() {
    for place in Place::all().await {
        let keys = keys();
        let store = place.open(&keys).await;
        fill(&store, "alice").await;
        store.close().await;
        let store = place.open(&keys).await;
        let hashes = store.lookup_key().await.unwrap();
        let session = store.session(&hashes.session(&value("alice")), now()).await.unwrap();
        assert!(session.is_some());
        let client = store.client(&ClientId::new("alice")).await.unwrap().unwrap();
        assert!(client.has_secret(&hashes.client_secret(&client.id, &value("alice"))));
        let outcome = store.redeem_code(&redeem(&hashes, "alice")).await.unwrap();
        assert!(matches!(outcome, Redemption::Again(..)), "{outcome:?}");
        store.close().await;
    }
}

#[tokio::test]
async fn a_store_of_the_second_version_gets_the_new_tables() {
    use token_broker_store::GrantStore as _;

    use crate::support::{grant, key};

    for place in Place::all().await {
        let keys = keys();
        let store = place.open(&keys).await;
        store.put(grant("alice")).await.unwrap();
        store.close().await;
        // As the second version left it.
        for table in [
            "authority_counters",
            "clients",
            "codes",
            "families",
            "sessions",
            "accounts",
            "first_account_link",
            "signing_keys",
            "connects",
            "pending_revocations",
            "registered_clients",
            "connection_uses",
        ] {
            place.run(&format!("DROP TABLE {table}"));
        }
        for column in ["client_id", "connected_at", "upstream", "resource"] {
            place.run(&format!("ALTER TABLE grants DROP COLUMN {column}"));
        }
        place.run("DELETE FROM sealing_keys WHERE purpose = 'lookup'");
        place.run("UPDATE token_broker_schema SET version = 2");

        let store = place.open(&keys).await;
        assert!(store.load(&key("alice")).await.unwrap().is_some());
        fill(&store, "alice").await;
        store.close().await;
        assert_eq!(place.run("SELECT version FROM token_broker_schema"), "4");
    }
}
