//! Laws of connects in progress, up to their claim.

use std::sync::Arc;

use tower_token_broker::{Secret, principal::User};

use super::{
    HOSTILE, Law, MILLISECOND, REFUSED, after, at_once, begin, begin_and_claim, broken, connect,
    connect_for, expect_exists, expect_invalid, expect_same_connect, is_open, key, now, session,
    state, user,
};
use crate::{
    authority::{LookupKey, SessionId},
    connect::{ConnectId, ConnectStore, PendingConnect},
};

/// A connect is claimed as it was stored, with every field.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn a_connect_keeps_every_field<S: ConnectStore>(store: S) -> Law {
    let keys = LookupKey::generate();
    let contents = [Vec::new(), vec![0xff, 0, 0x80], vec![7; 16 * 1_024]];
    for (text, octets) in HOSTILE.into_iter().zip(contents.into_iter().cycle()) {
        let mut stored = connect(&format!("c{text}"));
        stored.key.user = User::new(text, text);
        stored.key.server = text.into();
        stored.session = SessionId::new(text);
        stored.content = Secret::new(octets);
        let hash = state(&keys, text);
        store.put_connect(&hash, &stored).await?;
        let claimed = store.claim_connect(&hash, &stored.session, now()).await?;
        let claimed = claimed.ok_or_else(|| broken(&format!("{text:?} is not claimed")))?;
        expect_same_connect(&claimed, &stored)?;
    }
    Ok(())
}

/// NUL, long texts and long contents are refused, and find nothing.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn hostile_connects_are_refused<S: ConnectStore>(store: S) -> Law {
    let (keys, hash) = (LookupKey::generate(), state(&LookupKey::generate(), "c1"));
    let changes: [fn(&mut PendingConnect, &str); 5] = [
        |connect, text| connect.id = ConnectId::new(text),
        |connect, text| connect.key.user = User::new(text, "alice"),
        |connect, text| connect.key.user = User::new("https://i.example", text),
        |connect, text| connect.key.server = text.into(),
        |connect, text| connect.session = SessionId::new(text),
    ];
    for text in REFUSED {
        for (field, change) in changes.iter().enumerate() {
            let mut refused = connect("c1");
            change(&mut refused, text);
            let outcome = store.put_connect(&hash, &refused).await;
            expect_invalid(&outcome, &format!("field {field} with {text:.5?}"))?;
        }
        ensure!(!store.drop_connect(&ConnectId::new(text)).await?, "an ID of {text:.5?}");
        let claimed = store.claim_connect(&hash, &SessionId::new(text), now()).await?;
        ensure!(claimed.is_none(), "a session of {text:.5?}");
        for (user, server) in [(User::new(text, text), None), (user("alice"), Some(text))] {
            let ended = store.end_connects(Some(&user), server).await?;
            ensure_eq!(ended, 0, "connects of {text:.5?}");
        }
    }
    let mut refused = connect("c1");
    refused.content = Secret::new(vec![7; 16 * 1_024 + 1]);
    expect_invalid(&store.put_connect(&hash, &refused).await, "a content that is too long")?;
    ensure!(!is_open(&store, &keys, "c1").await?, "a refused connect is stored");
    Ok(())
}

/// A state and an ID are taken until the connect is removed, also after it was claimed.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn a_state_and_an_id_are_taken_once<S: ConnectStore>(store: S) -> Law {
    let keys = LookupKey::generate();
    begin(&store, &keys, &connect("c1")).await?;
    for is_claimed in [false, true] {
        let again = store.put_connect(&state(&keys, "c1"), &connect("c2")).await;
        expect_exists(&again, &format!("the state again, claimed: {is_claimed}"))?;
        let again = store.put_connect(&state(&keys, "c2"), &connect("c1")).await;
        expect_exists(&again, &format!("the ID again, claimed: {is_claimed}"))?;
        ensure!(!is_open(&store, &keys, "c2").await?, "a refused connect is stored");
        ensure_eq!(is_open(&store, &keys, "c1").await?, !is_claimed, "the first");
    }
    ensure!(store.drop_connect(&ConnectId::new("c1")).await?, "the first is not removed");
    begin(&store, &keys, &connect("c1")).await
}

/// A connect is claimed once, by its own state only.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn a_connect_is_claimed_once<S: ConnectStore>(store: S) -> Law {
    let keys = LookupKey::generate();
    begin(&store, &keys, &connect("c1")).await?;
    begin(&store, &keys, &connect("c2")).await?;
    for value in ["", "c", "C1", "c1 "] {
        ensure!(!is_open(&store, &keys, value).await?, "the value {value:?} finds a connect");
    }
    let of_session = keys.session(&super::secret("c1"));
    let claimed = store.claim_connect(&of_session, &session("alice"), now()).await?;
    ensure!(claimed.is_none(), "the hash of a session finds a connect");
    ensure!(is_open(&store, &keys, "c1").await?, "it is not claimed");
    for _ in 0..2 {
        ensure!(!is_open(&store, &keys, "c1").await?, "it is claimed again");
    }
    ensure!(is_open(&store, &keys, "c2").await?, "the other one is not claimed");
    Ok(())
}

/// Of several callers at once, one claims a connect.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn concurrent_claims_yield_one<S: ConnectStore>(store: S) -> Law {
    let (store, keys) = (Arc::new(store), LookupKey::generate());
    for round in 0..8 {
        let id = format!("c{round}");
        begin(&*store, &keys, &connect(&id)).await?;
        let claims = at_once(&store, 16, |store, _| {
            let state = state(&keys, &id);
            async move { store.claim_connect(&state, &session("alice"), now()).await }
        })
        .await?;
        let claimed = claims.iter().flatten().count();
        ensure_eq!(claimed, 1, "claims of {id}");
    }
    Ok(())
}

/// A connect continues only in the session in which it was begun; another one changes nothing.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn a_connect_belongs_to_its_session<S: ConnectStore>(store: S) -> Law {
    let keys = LookupKey::generate();
    begin(&store, &keys, &connect("c1")).await?;
    for other in ["", "session of mallory", "Session of alice", "session of alice ", "%"] {
        let other = SessionId::new(other);
        let claimed = store.claim_connect(&state(&keys, "c1"), &other, now()).await?;
        ensure!(claimed.is_none(), "it is claimed in {other:?}");
    }
    ensure!(is_open(&store, &keys, "c1").await?, "another session has changed it");
    Ok(())
}

/// A connect is claimed until the instant before it expires.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn an_expired_connect_is_not_claimed<S: ConnectStore>(store: S) -> Law {
    let keys = LookupKey::generate();
    begin(&store, &keys, &connect("c1")).await?;
    for at in [after(600), after(601)] {
        let claimed = store.claim_connect(&state(&keys, "c1"), &session("alice"), at).await?;
        ensure!(claimed.is_none(), "it is claimed at {at}");
    }
    let before = after(600).minus(MILLISECOND);
    let claimed = store.claim_connect(&state(&keys, "c1"), &session("alice"), before).await?;
    ensure!(claimed.is_some(), "it is not claimed before its end");
    Ok(())
}

/// A connect that failed is gone, claimed or not, and others stay.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn a_dropped_connect_is_gone<S: ConnectStore>(store: S) -> Law {
    let keys = LookupKey::generate();
    begin(&store, &keys, &connect("c1")).await?;
    begin_and_claim(&store, &connect("c2")).await?;
    begin(&store, &keys, &connect("c3")).await?;
    for id in ["", "c", "C1", "c11", "%"] {
        ensure!(!store.drop_connect(&ConnectId::new(id)).await?, "{id:?} is dropped");
    }
    for id in ["c1", "c2"] {
        ensure!(store.drop_connect(&ConnectId::new(id)).await?, "{id} is not dropped");
        ensure!(!store.drop_connect(&ConnectId::new(id)).await?, "{id} is dropped twice");
    }
    ensure!(!is_open(&store, &keys, "c1").await?, "a dropped connect is claimed");
    ensure!(is_open(&store, &keys, "c3").await?, "another connect is gone");
    Ok(())
}

/// Connects are ended by user and server, octet by octet, claimed or not, and no others.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn connects_are_ended_by_user_and_server<S: ConnectStore>(store: S) -> Law {
    let keys = LookupKey::generate();
    let of = [("c1", "crm"), ("c2", "crm"), ("c3", "mail"), ("c4", "CRM")];
    for (id, server) in of {
        begin(&store, &keys, &connect_for(id, key("alice", server))).await?;
    }
    begin_and_claim(&store, &connect("c5")).await?;
    let mut elsewhere = key("alice", "crm");
    elsewhere.user = User::new("https://other.example", "alice");
    begin(&store, &keys, &connect_for("c6", elsewhere)).await?;
    begin(&store, &keys, &connect_for("c7", key("Alice", "crm"))).await?;
    for server in ["", "c", "crm ", "%"] {
        ensure_eq!(store.end_connects(Some(&user("alice")), Some(server)).await?, 0, "{server:?}");
    }
    ensure_eq!(store.end_connects(Some(&user("alice")), Some("crm")).await?, 3, "at crm");
    ensure_eq!(store.end_connects(Some(&user("alice")), Some("crm")).await?, 0, "again");
    ensure!(!is_open(&store, &keys, "c1").await?, "an ended connect is claimed");
    ensure!(is_open(&store, &keys, "c3").await?, "a connect at another server has ended");
    ensure_eq!(store.end_connects(Some(&user("alice")), None).await?, 2, "at all servers");
    ensure!(!is_open(&store, &keys, "c4").await?, "an ended connect is claimed");
    for id in ["c6", "c7"] {
        ensure!(is_open(&store, &keys, id).await?, "{id} of another user has ended");
    }
    for (id, name) in [("c8", "alice"), ("c9", "bob")] {
        begin(&store, &keys, &connect_for(id, key(name, "mail"))).await?;
    }
    ensure_eq!(store.end_connects(None, Some("mail")).await?, 2, "of all users at mail");
    Ok(())
}

/// Connects that expired before an instant are removed, claimed or not, and no others.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn expired_connects_are_removed_in_pages<S: ConnectStore>(store: S) -> Law {
    let keys = LookupKey::generate();
    begin(&store, &keys, &connect("c1")).await?;
    begin(&store, &keys, &connect("c2")).await?;
    begin_and_claim(&store, &connect("c3")).await?;
    let mut later = connect("c4");
    later.expires_at = after(700);
    begin(&store, &keys, &later).await?;
    ensure_eq!(store.remove_connects(after(600), 10).await?, 0, "at their instant");
    let before = after(600).plus(MILLISECOND);
    ensure_eq!(store.remove_connects(before, 0).await?, 0, "none");
    ensure_eq!(store.remove_connects(before, 2).await?, 2, "two of three");
    ensure_eq!(store.remove_connects(before, 2).await?, 1, "the third");
    ensure_eq!(store.remove_connects(after(700), 2).await?, 0, "no more");
    ensure!(!is_open(&store, &keys, "c1").await?, "a removed connect is claimed");
    ensure!(is_open(&store, &keys, "c4").await?, "the later one is gone");
    Ok(())
}
