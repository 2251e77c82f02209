//! Steps on the authority's rows whose callers or whose database go away.

use std::{
    future::poll_fn,
    task::{Context, Poll, Waker},
};

use token_broker_store::{
    StoreError,
    authority::{
        AccountStore, AuthorityStore, ClientId, ClientStore, CodeStore, EndFamilies, FamilyEnd,
        FamilyEndReason, FamilyFilter, FamilyId, FamilyStore, PageRequest, SessionStore,
        SigningKeyStore, UserName,
    },
};

use crate::{
    authority_support::{after, code, fill, redeem, user, value},
    support::{Place, keys, now},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_dropped_caller_leaves_a_code_and_its_family_in_step() {
    const CODES: usize = 24;
    for place in Place::all().await {
        let store = place.open(&keys()).await;
        let hashes = store.lookup_key().await.unwrap();
        for number in 0..CODES {
            let name = format!("user{number}");
            store.put_code(&hashes.code(&value(&name)), &code(&name)).await.unwrap();
            let request = redeem(&hashes, &name);
            // Dropped after more and more polls; with none, nothing begins.
            let mut redeeming = Box::pin(store.redeem_code(&request));
            for _ in 0..number % 6 {
                let mut context = Context::from_waker(Waker::noop());
                if redeeming.as_mut().poll(&mut context).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        // Waits for the steps that have begun.
        store.close().await;
        let redeemed = place.run("SELECT COUNT(*) FROM codes WHERE redeemed_at IS NOT NULL");
        let families = place.run(
            "SELECT COUNT(*) FROM families JOIN codes ON codes.family = families.id \
             WHERE codes.redeemed_at IS NOT NULL AND families.family_key IS NOT NULL",
        );
        assert_eq!(redeemed, families);
        assert_eq!(place.run("SELECT COUNT(*) FROM families"), families);
        // A step that was polled once has begun, and so it has ended.
        assert_eq!(redeemed, (CODES - CODES.div_ceil(6)).to_string());
    }
}

#[tokio::test]
async fn steps_on_a_closed_store_are_unreachable() {
    for place in Place::all().await {
        let store = place.open(&keys()).await;
        fill(&store, "alice").await;
        let hashes = store.lookup_key().await.unwrap();
        let (code, session) = (hashes.code(&value("alice")), hashes.session(&value("alice")));
        let (client, family) = (ClientId::new("alice"), FamilyId::new("f-alice"));
        let end = FamilyEnd::new(FamilyEndReason::User, after(1));
        let all = EndFamilies::new(FamilyFilter::all(), end);
        let first = PageRequest::first();
        store.close().await;
        let name = UserName::parse("alice").unwrap();
        for outcome in [
            store.client(&client).await.err(),
            store.mark_client_used(&client, now()).await.err(),
            store.clients(&first).await.err(),
            store.remove_client(&client).await.err(),
            store.remove_unused_clients(now(), 1).await.err(),
            store.code(&code).await.err(),
            store.redeem_code(&redeem(&hashes, "alice-unused")).await.err(),
            store.end_code(&code, now()).await.err(),
            store.remove_codes(now(), 1).await.err(),
            store.family(&family).await.err(),
            store.end_family(&family, end).await.err(),
            store.end_families(&all).await.err(),
            store.families(&FamilyFilter::all(), &first).await.err(),
            store.session(&session, now()).await.err(),
            store.touch_session(&session, now()).await.err(),
            store.end_session(&session, now()).await.err(),
            store.end_sessions(&user("alice"), now()).await.err(),
            store.account("a-alice").await.err(),
            store.account_by_name(&name).await.err(),
            store.disable_account("a-alice").await.err(),
            store.accounts(&first).await.err(),
            store.signing_keys().await.err(),
            store.remove_signing_keys(now()).await.err(),
        ] {
            assert_eq!(outcome, Some(StoreError::Unreachable));
        }
    }
}

#[tokio::test]
async fn a_step_that_is_not_polled_does_not_begin() {
    let place = Place::sqlite();
    let store = place.open(&keys()).await;
    fill(&store, "alice").await;
    let user = user("alice");
    drop(store.end_sessions(&user, now()));
    let hash = store.lookup_key().await.unwrap().session(&value("alice"));
    assert!(store.session(&hash, now()).await.unwrap().is_some());
    // Polled once, it runs to its end.
    let mut ending = Box::pin(store.end_sessions(&user, now()));
    poll_fn(|context| {
        assert!(ending.as_mut().poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
    drop(ending);
    store.close().await;
    assert_eq!(place.run("SELECT COUNT(*) FROM sessions"), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_statement_that_a_deadlock_ended_is_run_again() {
    use sqlx::{Connection as _, PgConnection};

    let Some(place) = Place::postgres().await else { return };
    let Place::Postgres { url, schema } = &place else { return };
    let store = place.open(&keys()).await;
    fill(&store, "alice").await;
    fill(&store, "bob").await;
    let change = |id: &str| {
        let sql = format!("UPDATE {schema}.families SET client = client WHERE id = 'f-{id}'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
    };
    // The statement updates the rows in their order on the disk: alice first.
    let mut other = PgConnection::connect(url).await.unwrap();
    let mut watching = PgConnection::connect(url).await.unwrap();
    let mut changes = other.begin().await.unwrap();
    change("bob").execute(&mut *changes).await.unwrap();
    let end = FamilyEnd::new(FamilyEndReason::User, after(1));
    let request = EndFamilies::new(FamilyFilter::all(), end);
    let ending = store.end_families(&request);
    let closing = async {
        let waits = format!(
            "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
             AND query LIKE 'UPDATE families%' AND pid IN (SELECT pid FROM pg_locks \
             JOIN pg_class ON pg_class.oid = relation \
             WHERE relnamespace = '{schema}'::regnamespace)"
        );
        loop {
            let query = sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(waits.clone()));
            if query.fetch_one(&mut watching).await.unwrap() > 0 {
                break;
            }
            tokio::task::yield_now().await;
        }
        // Both wait for each other, until PostgreSQL ends the one that waited first.
        change("alice").execute(&mut *changes).await.unwrap();
        changes.commit().await.unwrap();
    };
    let (ended, ()) = tokio::join!(ending, closing);
    assert_eq!(ended.unwrap().len(), 2);
    store.close().await;
}
