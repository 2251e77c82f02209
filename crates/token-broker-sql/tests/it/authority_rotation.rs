//! Rotation of the key-encryption key with rows of the authority.

use token_broker_sql::SqlStore;
use token_broker_store::{
    authority::{
        AccountStore, AuthorityStore, CodeStore, FamilyEnd, FamilyEndReason, FamilyId, FamilyStore,
        Redemption, SessionStore, SigningKeyStore, UserName,
    },
    sealing::{KeyRing, KeyWrap as _},
};
use tower_token_broker::tasks::Tasks;

use crate::{
    authority_support::{after, family_key, fill, redeem, value},
    support::{Place, key_line, now, text},
};

const USERS: usize = 6;
/// Keys of a family, an account and a signing key for each user, and two shared ones.
const KEYS: u64 = 3 * USERS as u64 + 2;

/// Key files before, during and after a rotation.
fn rings() -> [KeyRing; 3] {
    let (old, new) = (key_line(), key_line());
    [old.clone(), format!("{new}\n{old}"), new].map(|lines| KeyRing::parse(&lines).unwrap())
}

fn name(number: usize) -> String {
    format!("user{number}")
}

async fn expect_readable(store: &SqlStore) {
    let keys = store.lookup_key().await.unwrap();
    let set = store.signing_keys().await.unwrap();
    assert_eq!((set.generation, set.keys.len(), set.unreadable.len()), (USERS as u64, USERS, 0));
    for number in 0..USERS {
        let name = name(number);
        let family = store.family(&FamilyId::new(&format!("f-{name}"))).await.unwrap().unwrap();
        assert!(family.key.unwrap().matches(&family_key(&name)), "{name}");
        let account = store.account_by_name(&UserName::parse(&name).unwrap()).await.unwrap();
        let hash = account.unwrap().password_hash;
        assert_eq!(text(&hash), format!("password hash of {name}"));
        assert_eq!(text(&set.keys[number].private_key), format!("private key of {name}"));
        // Rows that are found by the lookup key.
        let session = store.session(&keys.session(&value(&name)), now()).await.unwrap();
        assert!(session.is_some(), "{name}");
    }
}

#[tokio::test]
async fn rotation_covers_every_sealed_value_of_the_authority() {
    for place in Place::all().await {
        let [before, during, last] = rings();
        let store = place.open(&before).await;
        for number in 0..USERS {
            fill(&store, &name(number)).await;
        }
        store.close().await;

        let store = place.open(&during).await;
        expect_readable(&store).await;
        let mut left = Vec::new();
        let result = store.rotate(|progress| left.push(progress.left)).await.unwrap();
        assert_eq!((result.rewrapped, result.left, result.unreadable), (KEYS, 0, 0));
        assert_eq!(left.first(), Some(&KEYS));
        let used = store.keys_in_use().await.unwrap();
        assert_eq!(used.len(), 1);
        assert_eq!((&used[0].key_id, used[0].count), (&last.current(), KEYS));
        assert_eq!(store.rotate(|_| {}).await.unwrap().rewrapped, 0);
        store.close().await;

        let store = place.open(&last).await;
        expect_readable(&store).await;
        // Codes of before the rotation are redeemed after it.
        let keys = store.lookup_key().await.unwrap();
        let unused = redeem(&keys, "user0-unused");
        let outcome = store.redeem_code(&unused).await.unwrap();
        assert!(matches!(outcome, Redemption::First(..)), "{outcome:?}");
        store.close().await;
        assert!(SqlStore::open(&place.url(), before).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn x20_two_rotations_at_once_wrap_each_key_once() {
    for place in Place::all().await {
        let [before, during, last] = rings();
        let store = place.open(&before).await;
        for number in 0..USERS {
            fill(&store, &name(number)).await;
        }
        // An ended family needs no key, also while it is rotated.
        fill(&store, "ended").await;
        store.close().await;

        let stores = [place.open(&during).await, place.open(&during).await];
        let tasks = Tasks::new();
        let rotations = stores.clone().map(|store| {
            tasks.spawn("rotation", async move { store.rotate(|_| {}).await.unwrap() })
        });
        let end = FamilyEnd::new(FamilyEndReason::User, after(9));
        assert!(stores[0].end_family(&FamilyId::new("f-ended"), end).await.unwrap());
        let mut rewrapped = 0;
        for rotation in rotations {
            rewrapped += rotation.await.unwrap().rewrapped;
        }
        let rest = stores[1].rotate(|_| {}).await.unwrap();
        rewrapped += rest.rewrapped;
        assert_eq!((rest.left, rest.unreadable), (0, 0), "X20");
        // The family may have been wrapped before it ended.
        assert!((KEYS + 2..=KEYS + 3).contains(&rewrapped), "X20 {rewrapped}");
        for store in stores {
            store.close().await;
        }
        let store = place.open(&last).await;
        assert!(store.family(&FamilyId::new("f-ended")).await.unwrap().unwrap().key.is_none());
        store.close().await;
    }
}

#[tokio::test]
async fn o281_a_row_of_a_key_that_is_gone_is_unreadable_by_itself() {
    for place in Place::all().await {
        let [before, during, last] = rings();
        let store = place.open(&during).await;
        fill(&store, "alice").await;
        fill(&store, "bob").await;
        store.close().await;
        let lost = before.current();
        for row in [
            "families SET key_id = '{}' WHERE id = 'f-alice'",
            "accounts SET key_id = '{}' WHERE subject = 'a-alice'",
            "signing_keys SET key_id = '{}' WHERE id = 'k-alice'",
        ] {
            place.run(&format!("UPDATE {}", row.replace("{}", lost.as_str())));
        }
        let store = place.open(&last).await;
        let result = store.rotate(|_| {}).await.unwrap();
        assert_eq!((result.rewrapped, result.left, result.unreadable), (0, 3, 3), "O281");
        assert_eq!(result.old_keys[0].key_id, lost, "O281");
        assert!(store.family(&FamilyId::new("f-alice")).await.is_err(), "O281");
        let alice = UserName::parse("alice").unwrap();
        assert!(store.account_by_name(&alice).await.is_err(), "O281");
        assert_eq!(store.signing_keys().await.unwrap().unreadable, ["k-alice".into()], "O281");
        assert!(store.family(&FamilyId::new("f-bob")).await.unwrap().is_some(), "O281");
        store.close().await;
    }
}
