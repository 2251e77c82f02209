//! Connects of several processes, of callers that go away, and of a rotation.

use std::task::{Context, Waker};

use token_broker_sql::SqlStore;
use token_broker_store::{
    Grant, GrantState, GrantStore, StoreError,
    authority::{AuthorityStore, ClientId, SessionId},
    connect::{
        ConnectId, ConnectStore, ConnectionUse, PendingConnect, PendingRevocation,
        RegisteredClient, RevocationId, RevokedToken, RevokedTokenKind,
    },
    sealing::{KeyRing, KeyWrap as _},
};
use tower_token_broker::{principal::GrantId, tasks::Tasks};

use crate::{
    authority_support::{after, user, value},
    support::{Place, grant, key, key_line, keys, now, secret, text},
};

pub(crate) const ISSUER: &str = "https://login.crm.example";
pub(crate) const REDIRECT: &str = "https://broker.example.com/connect/crm/callback";

pub(crate) fn session(name: &str) -> SessionId {
    SessionId::new(&format!("s-{name}"))
}

pub(crate) fn connect(name: &str) -> PendingConnect {
    let content = secret(&format!("content of {name}"));
    let id = ConnectId::new(&format!("c-{name}"));
    PendingConnect::new((id, key(name)), session(name), content, (now(), after(600)))
}

pub(crate) async fn begin(store: &SqlStore, name: &str) {
    let state = store.lookup_key().await.unwrap().connect_state(&value(name));
    store.put_connect(&state, &connect(name)).await.unwrap();
}

pub(crate) async fn claim(
    store: &SqlStore,
    name: &str,
) -> Result<Option<PendingConnect>, StoreError> {
    let state = store.lookup_key().await.unwrap().connect_state(&value(name));
    store.claim_connect(&state, &session(name), now()).await
}

pub(crate) fn revocation(name: &str) -> PendingRevocation {
    let token = RevokedToken::new(RevokedTokenKind::Refresh, secret(&format!("old of {name}")));
    let of = (key(name), GrantId::new(&format!("g-{name}")));
    let id = RevocationId::new(&format!("r-{name}"));
    PendingRevocation::new(id, of, ISSUER, vec![token], now()).client_id(Some("registered"))
}

pub(crate) fn client(name: &str) -> RegisteredClient {
    let secret = secret(&format!("client secret of {name}"));
    RegisteredClient::new(ISSUER, REDIRECT, &format!("client of {name}"), now()).secret(
        secret,
        "client_secret_basic",
        None,
    )
}

pub(crate) fn connected(name: &str) -> Grant {
    let mut grant = grant(name).client_id("registered").connected_at(now());
    grant.resource = Some("https://mcp.example/mcp".into());
    grant.upstream("https://mcp.example")
}

/// Stores one row of each kind for this user: four sealed values, and a last use.
pub(crate) async fn fill(store: &SqlStore, name: &str) {
    begin(store, name).await;
    store.put(connected(name)).await.unwrap();
    store.put_revocation(&revocation(name)).await.unwrap();
    store.put_registered_client(&client(name)).await.unwrap();
    let used = ConnectionUse::new(key(name), ClientId::new("inspector"), now());
    store.mark_connection_used(&used).await.unwrap();
}

/// Key files before, during and after a rotation.
fn rings() -> [KeyRing; 3] {
    let (old, new) = (key_line(), key_line());
    [old.clone(), format!("{new}\n{old}"), new].map(|lines| KeyRing::parse(&lines).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn x20_rotation_covers_connects_revocations_and_clients() {
    const USERS: u64 = 5;
    // Four for each user, and the two shared ones. A public and a claimed row have none.
    const KEYS: u64 = 4 * USERS + 2;
    let names: Vec<_> = (0..USERS).map(|number| format!("user{number}")).collect();
    for place in Place::all().await {
        let [before, during, last] = rings();
        let store = place.open(&before).await;
        for name in &names {
            fill(&store, name).await;
        }
        begin(&store, "claimed").await;
        assert!(claim(&store, "claimed").await.unwrap().is_some());
        let public = RegisteredClient::new(ISSUER, REDIRECT, "public", now());
        store.put_registered_client(&public).await.unwrap();
        store.close().await;

        let stores = [place.open(&during).await, place.open(&during).await];
        assert_eq!(stores[0].keys_in_use().await.unwrap()[0].count, KEYS, "X20");
        let tasks = Tasks::new();
        let rotations = stores.clone().map(|store| {
            tasks.spawn("rotation", async move { store.rotate(|_| {}).await.unwrap() })
        });
        let mut rewrapped = 0;
        for rotation in rotations {
            rewrapped += rotation.await.unwrap().rewrapped;
        }
        let rest = stores[1].rotate(|_| {}).await.unwrap();
        let result = (rewrapped + rest.rewrapped, rest.left, rest.unreadable);
        assert_eq!(result, (KEYS, 0, 0), "X20");
        let used = stores[0].keys_in_use().await.unwrap();
        assert_eq!((used.len(), &used[0].key_id), (1, &last.current()), "X20");
        for store in stores {
            store.close().await;
        }

        let store = place.open(&last).await;
        let mut revoked = 0;
        for name in &names {
            let claimed = claim(&store, name).await.unwrap().unwrap();
            assert_eq!(text(&claimed.content), format!("content of {name}"), "X20");
            let loaded = store.load(&key(name)).await.unwrap().unwrap();
            assert_eq!(text(loaded.refresh_token.as_ref().unwrap()), format!("refresh {name}"));
            let found = store.registered_client(ISSUER, &format!("client of {name}")).await;
            let found = found.unwrap().unwrap().client_secret.unwrap();
            assert_eq!(text(&found), format!("client secret of {name}"), "X20");
            let due = store.claim_revocation(now(), after(60)).await.unwrap().unwrap();
            revoked += due.tokens.iter().filter(|due| text(&due.secret).starts_with("old")).count();
        }
        assert_eq!(revoked, names.len(), "X20");
        // A connect that was claimed before the rotation is finished after it.
        let finished = store.finish_connect(&connect("claimed").id, connected("claimed")).await;
        assert!(finished.unwrap().is_some(), "X20");
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_finish_and_a_disconnect_in_two_processes_no_token_is_left() {
    const ROUNDS: usize = 24;
    for place in Place::all().await {
        let keys = keys();
        let [one, other] = [place.open(&keys).await, place.open(&keys).await];
        let tasks = Tasks::new();
        for round in 0..ROUNDS {
            let name = format!("user{round}");
            one.put(connected(&name)).await.unwrap();
            begin(&one, &name).await;
            assert!(claim(&other, &name).await.unwrap().is_some());
            assert!(claim(&one, &name).await.unwrap().is_none(), "claimed by another process");
            let id = RevocationId::new(&name);
            let (finisher, of) = (one.clone(), name.clone());
            let finishing = tasks.spawn("finish", async move {
                let new = connected(&of).refresh_token(secret("new"));
                finisher.finish_connect(&connect(&of).id, new).await.unwrap().is_some()
            });
            let (ender, of) = (other.clone(), connected(&name).to_ref());
            let ending =
                tasks.spawn("disconnect", async move { ender.disconnect(&of, &id, now()).await });
            let (finished, ended) = (finishing.await.unwrap(), ending.await.unwrap());
            assert_eq!(ended, Ok(true), "round {round}");
            let left = one.load(&key(&name)).await.unwrap().unwrap();
            assert_eq!(left.state, GrantState::Revoked, "round {round}");
            assert!(left.refresh_token.is_none() && left.access.is_empty(), "round {round}");
            let due = one.claim_revocation(now(), after(60)).await.unwrap().unwrap();
            assert_eq!(due.client_id.as_deref(), Some("registered"));
            let expected = if finished { "new".to_owned() } else { format!("refresh {name}") };
            assert_eq!(text(&due.tokens[0].secret), expected, "round {round}: {finished}");
            let again = other.claim_revocation(now(), after(60)).await.unwrap();
            assert!(again.is_none(), "round {round}: claimed by another process");
        }
        assert_eq!(place.run("SELECT COUNT(*) FROM connects"), "0");
        one.close().await;
        other.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_dropped_caller_leaves_connect_grant_and_revocation_in_step() {
    const USERS: usize = 24;
    for place in Place::all().await {
        let store = place.open(&keys()).await;
        for number in 0..USERS {
            let name = format!("user{number}");
            begin(&store, &name).await;
            assert!(claim(&store, &name).await.unwrap().is_some());
            let id = connect(&name).id;
            poll(store.finish_connect(&id, connected(&name)), number % 6).await;
            let ended = format!("ended{number}");
            store.put(connected(&ended)).await.unwrap();
            let (of, id) = (connected(&ended).to_ref(), RevocationId::new(&ended));
            poll(store.disconnect(&of, &id, now()), number % 6).await;
        }
        // Waits for the steps that have begun: those that were polled once.
        store.close().await;
        let begun = (USERS - USERS.div_ceil(6)).to_string();
        let left = USERS.div_ceil(6).to_string();
        let count = |sql: &str| place.run(&format!("SELECT COUNT(*) FROM {sql}"));
        assert_eq!(count("connects"), left);
        assert_eq!(count("grants WHERE subject LIKE 'user%'"), begun);
        assert_eq!(count("grants WHERE subject LIKE 'ended%' AND refresh_token IS NULL"), begun);
        assert_eq!(count("pending_revocations"), begun);
        let both = "grants, connects WHERE grants.subject = connects.subject";
        assert_eq!(count(both), "0");
    }
}

/// Polls a step some times, and drops it.
async fn poll<T>(step: impl Future<Output = T>, polls: usize) {
    let mut step = Box::pin(step);
    for _ in 0..polls {
        let mut context = Context::from_waker(Waker::noop());
        if step.as_mut().poll(&mut context).is_ready() {
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn steps_on_connects_of_a_closed_store_are_unreachable() {
    for place in Place::all().await {
        let store = place.open(&keys()).await;
        fill(&store, "alice").await;
        let state = store.lookup_key().await.unwrap().connect_state(&value("alice"));
        store.close().await;
        let (id, due) = (connect("alice").id, revocation("alice").id);
        let used = ConnectionUse::new(key("alice"), ClientId::new("inspector"), now());
        for outcome in [
            store.put_connect(&state, &connect("bob")).await.err(),
            claim(&store, "alice").await.err(),
            store.finish_connect(&id, connected("alice")).await.err(),
            store.drop_connect(&id).await.err(),
            store.end_connects(Some(&user("alice")), None).await.err(),
            store.remove_connects(now(), 1).await.err(),
            store.disconnect(&connected("alice").to_ref(), &due, now()).await.err(),
            store.put_revocation(&revocation("bob")).await.err(),
            store.claim_revocation(now(), now()).await.err(),
            store.postpone_revocation(&due, now()).await.err(),
            store.finish_revocation(&due).await.err(),
            store.put_registered_client(&client("bob")).await.err(),
            store.newest_registered_client(ISSUER, REDIRECT).await.err(),
            store.registered_client(ISSUER, "client of alice").await.err(),
            store.mark_connection_used(&used).await.err(),
            store.connection_uses(&user("alice")).await.err(),
        ] {
            assert_eq!(outcome, Some(StoreError::Unreachable));
        }
    }
}
