//! Laws of the browser sessions.

use tower_token_broker::principal::User;

use super::{
    HOSTILE, Law, MILLISECOND, after, code_of, expect_exists, expect_invalid, now, redeem, secret,
    user,
};
use crate::{
    authority::{AuthorityStore, CodeState, FamilyId, Redemption, Session, SessionId},
    contract::ContractError,
};

fn session_of(subject: &str, id: &str) -> Session {
    let mut session = Session::new(SessionId::new(id), user(subject), now(), after(12 * 3_600));
    session.account_epoch = 3;
    session.created_at = after(1);
    session.last_seen_at = after(2);
    session
}

async fn put<S: AuthorityStore>(store: &S, value: &str, session: &Session) -> Law {
    let keys = store.lookup_key().await?;
    Ok(store.put_session(&keys.session(&secret(value)), session).await?)
}

async fn find<S: AuthorityStore>(store: &S, value: &str) -> Result<Option<Session>, ContractError> {
    let keys = store.lookup_key().await?;
    Ok(store.session(&keys.session(&secret(value)), after(3)).await?)
}

/// A session is loaded as it was stored, with every field; NUL and long texts are refused.
///
/// # Errors
/// [`ContractError`]
pub async fn a_session_keeps_every_field<S: AuthorityStore>(store: S) -> Law {
    for text in HOSTILE {
        let mut session = session_of("alice", text);
        session.user = User::new(text, text);
        put(&store, text, &session).await?;
        ensure_eq!(find(&store, text).await?, Some(session), "a session of {text:?}");
    }
    let keys = store.lookup_key().await?;
    let long = "x".repeat(1 << 20);
    for text in ["\0", long.as_str()] {
        let mut refused = [session_of(text, "s"), session_of("a", text), session_of("a", "s")];
        if let Some(last) = refused.last_mut() {
            last.user = User::new(text, "a");
        }
        for session in refused {
            let outcome = store.put_session(&keys.session(&secret("v")), &session).await;
            expect_invalid(&outcome, "a session")?;
        }
        let ended = store.end_sessions(&user(text), after(8)).await?;
        ensure_eq!(ended, 0, "sessions of a user that no store keeps");
    }
    ensure_eq!(find(&store, "v").await?, None, "a refused session");
    Ok(())
}

/// A session is found by its own value only, and its value and its ID are taken.
///
/// # Errors
/// [`ContractError`]
pub async fn a_session_is_found_by_its_value_only<S: AuthorityStore>(store: S) -> Law {
    put(&store, "v1", &session_of("alice", "s1")).await?;
    let keys = store.lookup_key().await?;
    for value in ["", "v", "V1", "v1 ", "s1"] {
        let hash = keys.session(&secret(value));
        ensure_eq!(find(&store, value).await?, None, "the value {value:?}");
        ensure!(!store.touch_session(&hash, after(9)).await?, "{value:?} is touched");
        ensure!(!store.end_session(&hash, after(8)).await?, "{value:?} is ended");
    }
    let of_code = keys.code(&secret("v1"));
    ensure_eq!(store.session(&of_code, now()).await?, None, "the hash of a code");
    let hash = |value| keys.session(&secret(value));
    let outcome = store.put_session(&hash("v1"), &session_of("bob", "s2")).await;
    expect_exists(&outcome, "a second session with this value")?;
    let outcome = store.put_session(&hash("v2"), &session_of("bob", "s1")).await;
    expect_exists(&outcome, "a second session with this ID")?;
    ensure_eq!(find(&store, "v1").await?, Some(session_of("alice", "s1")), "the first session");
    Ok(())
}

/// A session is found until the instant before it expires, however often it is seen.
///
/// # Errors
/// [`ContractError`]
pub async fn an_expired_session_is_not_found<S: AuthorityStore>(store: S) -> Law {
    let session = session_of("alice", "s1");
    put(&store, "v1", &session).await?;
    let hash = store.lookup_key().await?.session(&secret("v1"));
    store.touch_session(&hash, after(2)).await?;
    let end = session.expires_at;
    let found = store.session(&hash, end.minus(MILLISECOND)).await?;
    ensure_eq!(found, Some(session), "just before its end");
    for at in [end, end.plus(MILLISECOND)] {
        ensure_eq!(store.session(&hash, at).await?, None, "at {at}");
    }
    Ok(())
}

/// The instant when a browser was last seen rises only.
///
/// # Errors
/// [`ContractError`]
pub async fn the_last_sight_of_a_session_rises<S: AuthorityStore>(store: S) -> Law {
    put(&store, "v1", &session_of("alice", "s1")).await?;
    put(&store, "v2", &session_of("alice", "s2")).await?;
    let hash = store.lookup_key().await?.session(&secret("v1"));
    for (at, expected) in [(after(9), after(9)), (after(4), after(9)), (after(10), after(10))] {
        ensure!(store.touch_session(&hash, at).await?, "the session is unknown");
        let mut session = session_of("alice", "s1");
        session.last_seen_at = expected;
        ensure_eq!(find(&store, "v1").await?, Some(session), "after it was seen");
    }
    ensure_eq!(find(&store, "v2").await?, Some(session_of("alice", "s2")), "another session");
    Ok(())
}

/// A session that was ended is not found, and others stay.
///
/// # Errors
/// [`ContractError`]
pub async fn a_session_is_ended_once<S: AuthorityStore>(store: S) -> Law {
    put(&store, "v1", &session_of("alice", "s1")).await?;
    put(&store, "v2", &session_of("alice", "s2")).await?;
    let hash = store.lookup_key().await?.session(&secret("v1"));
    ensure!(store.end_session(&hash, after(8)).await?, "a session is not ended");
    ensure!(!store.end_session(&hash, after(8)).await?, "a session is ended twice");
    ensure_eq!(find(&store, "v1").await?, None, "the ended session");
    ensure!(!store.touch_session(&hash, after(9)).await?, "the ended session is seen");
    ensure_eq!(find(&store, "v2").await?, Some(session_of("alice", "s2")), "the other one");
    Ok(())
}

/// All sessions of a user are ended, and none of another user or issuer.
///
/// # Errors
/// [`ContractError`]
pub async fn all_sessions_of_a_user_are_ended<S: AuthorityStore>(store: S) -> Law {
    for (value, subject) in [("v1", "alice"), ("v2", "alice"), ("v3", "Alice"), ("v4", "bob")] {
        put(&store, value, &session_of(subject, value)).await?;
    }
    let mut elsewhere = session_of("alice", "v5");
    elsewhere.user = User::new("https://other.example", "alice");
    put(&store, "v5", &elsewhere).await?;
    ensure_eq!(store.end_sessions(&user("al%"), after(8)).await?, 0, "sessions of no user");
    ensure_eq!(store.end_sessions(&user("alice"), after(8)).await?, 2, "sessions of alice");
    ensure_eq!(store.end_sessions(&user("alice"), after(8)).await?, 0, "sessions of alice, again");
    for (value, expected) in
        [("v1", false), ("v2", false), ("v3", true), ("v4", true), ("v5", true)]
    {
        ensure_eq!(find(&store, value).await?.is_some(), expected, "session {value}");
    }
    Ok(())
}

/// The end of a session ends the unused codes that were issued in it, and the end of all sessions
/// of a user all unused codes of the user.
///
/// # Errors
/// [`ContractError`]
pub async fn the_end_of_a_session_ends_its_codes<S: AuthorityStore>(store: S) -> Law {
    let keys = store.lookup_key().await?;
    for (value, id) in [("v1", "s1"), ("v2", "s2")] {
        put(&store, value, &session_of("alice", id)).await?;
    }
    for (subject, session, family) in
        [("alice", "s1", "f1"), ("alice", "s1", "f2"), ("alice", "s2", "f3"), ("bob", "s3", "f4")]
    {
        let mut code = code_of(subject, "inspector", family)?;
        code.session = SessionId::new(session);
        store.put_code(&keys.code(&secret(family)), &code).await?;
    }
    let first = store.redeem_code(&redeem(&keys, "f1")).await?;
    ensure!(matches!(first, Redemption::First(..)), "a code of a session is {first:?}");
    ensure!(store.end_session(&keys.session(&secret("v1")), after(7)).await?, "the session");
    for (family, expected) in [
        ("f1", CodeState::Redeemed(after(5))),
        ("f2", CodeState::Ended(after(7))),
        ("f3", CodeState::Unused),
        ("f4", CodeState::Unused),
    ] {
        let state = store.code(&keys.code(&secret(family))).await?.map(|stored| stored.state);
        ensure_eq!(state, Some(expected), "the code of {family}");
    }
    let outcome = store.redeem_code(&redeem(&keys, "f2")).await?;
    ensure!(matches!(outcome, Redemption::Ended(_)), "the code of an ended session is {outcome:?}");
    ensure_eq!(store.end_sessions(&user("alice"), after(8)).await?, 1, "the other session");
    for (family, expected) in [("f3", CodeState::Ended(after(8))), ("f4", CodeState::Unused)] {
        let state = store.code(&keys.code(&secret(family))).await?.map(|stored| stored.state);
        ensure_eq!(state, Some(expected), "the code of {family}, at the end of all sessions");
    }
    let of_f1 = store.family(&FamilyId::new("f1")).await?;
    ensure!(
        of_f1.is_some_and(|keyed| keyed.family.end.is_none()),
        "a family ends with its session"
    );
    Ok(())
}

/// Sessions that expired before an instant are removed, and no others.
///
/// # Errors
/// [`ContractError`]
pub async fn expired_sessions_are_removed_in_pages<S: AuthorityStore>(store: S) -> Law {
    for value in ["v1", "v2", "v3"] {
        put(&store, value, &session_of("alice", value)).await?;
    }
    let mut later = session_of("alice", "v4");
    later.expires_at = after(13 * 3_600);
    put(&store, "v4", &later).await?;
    let end = after(12 * 3_600);
    ensure_eq!(store.remove_sessions(end, 10).await?, 0, "at their instant");
    ensure_eq!(store.remove_sessions(end.plus(MILLISECOND), 2).await?, 2, "two of three");
    ensure_eq!(store.remove_sessions(end.plus(MILLISECOND), 2).await?, 1, "the third");
    ensure_eq!(find(&store, "v4").await?, Some(later), "the later one");
    Ok(())
}
