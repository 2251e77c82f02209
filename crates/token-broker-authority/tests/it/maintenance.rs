//! The task that removes what has expired.

use token_broker_store::authority::{
    AuthorityStore, ClientId, ClientStore, CodeStore, FamilyStore, Session, SessionId,
    SessionStore, SigningKeyStore,
};
use tower_token_broker::{
    Secret,
    principal::{Initiator, User},
};

use crate::{faulty_store::Fault, support::*};

/// Stores one row of each kind that expires within three days, and returns the unused client.
async fn fill(server: &Server) -> String {
    let keys = server.store.lookup_key().await.unwrap();
    let now = server.clock.now();
    let user = User::new(ISSUER, "alice");
    let session = Session::new(SessionId::new("s"), user, now, now.plus(minutes(60)));
    let hash = keys.session(&Secret::from_text("cookie".into()));
    server.store.put_session(&hash, &session).await.unwrap();
    server.family().await;
    server.authority.rotate_keys(&Initiator::operator("olga")).await.unwrap();
    server.register(&[REDIRECT]).await
}

/// Returns which kinds of rows are left that expired.
async fn left(server: &Server, client: &str) -> Vec<&'static str> {
    let (store, now) = (&server.store.inner, server.clock.now());
    let client = store.client(&ClientId::new(client)).await.unwrap().is_some();
    let keys = store.signing_keys().await.unwrap().keys;
    let is_old = keys.iter().any(|key| key.times.published_until.is_some_and(|at| at < now));
    let kinds = [
        ("clients", client),
        ("codes", store.remove_codes(now, 1).await.unwrap() > 0),
        ("sessions", store.remove_sessions(now, 1).await.unwrap() > 0),
        ("keys", is_old),
    ];
    kinds.into_iter().filter(|(_, is_left)| *is_left).map(|(kind, _)| kind).collect()
}

/// Lets the task work until there is no row of the last kind that it removes.
async fn until_cleaned(server: &Server) {
    let cleaned = async {
        while server.store.inner.signing_keys().await.unwrap().keys.len() > 1 {
            server.clock.advance(minutes(13));
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), cleaned).await.expect("a clean-up");
}

#[tokio::test]
async fn a_task_removes_what_has_expired() {
    let server = Server::start().await;
    let client = fill(&server).await;
    server.clock.advance(minutes(3 * 24 * 60));
    until_cleaned(&server).await;
    assert_eq!(left(&server, &client).await, Vec::<&str>::new());
}

#[tokio::test]
async fn several_processes_clean_up_at_once() {
    let server = Server::start().await;
    let others = [server.replica().await, server.replica().await];
    let client = fill(&server).await;
    server.clock.advance(minutes(3 * 24 * 60));
    let (one, two, three) = tokio::join!(
        server.authority.clean_up(),
        others[0].authority.clean_up(),
        others[1].authority.clean_up()
    );
    // A client, a code, a session and a key, each removed once.
    assert_eq!(one.unwrap() + two.unwrap() + three.unwrap(), 4);
    assert_eq!(left(&server, &client).await, Vec::<&str>::new());
    // What is in use stays.
    assert_eq!(server.store.inner.signing_keys().await.unwrap().keys.len(), 1);
    let all = token_broker_store::authority::FamilyFilter::all();
    let page = token_broker_store::authority::PageRequest::first();
    assert_eq!(server.store.inner.families(&all, &page).await.unwrap().rows.len(), 1);
}

#[tokio::test]
async fn one_kind_that_fails_keeps_no_other_one() {
    for method in ["remove_unused_clients", "remove_codes", "remove_families", "remove_sessions"] {
        let server = Server::start().await;
        let client = fill(&server).await;
        server.store.fail(method, Fault::Before);
        server.clock.advance(minutes(3 * 24 * 60));
        assert!(server.authority.clean_up().await.is_err(), "{method}");
        let left = left(&server, &client).await;
        let kind = method.trim_start_matches("remove_").trim_start_matches("unused_");
        assert!(left.iter().all(|left| *left == kind), "{method}: {left:?}");
    }
}
