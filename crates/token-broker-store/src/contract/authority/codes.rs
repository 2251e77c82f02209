//! Laws of the authorization codes.

use std::sync::Arc;

use tower_token_broker::{Secret, principal::User};

use super::{
    HOSTILE, Law, MILLISECOND, after, at_once, broken, code, code_of, expect_exists,
    expect_invalid, family_key, now, redeem, resource, secret,
};
use crate::{
    authority::{
        AuthorityStore, ClientId, Code, CodeState, Family, FamilyEnd, FamilyEndReason, FamilyId,
        RedeemCode, Redemption, SessionId, StoredCode,
    },
    contract::ContractError,
};

async fn put<S: AuthorityStore>(store: &S, value: &str, code: &Code) -> Law {
    let keys = store.lookup_key().await?;
    Ok(store.put_code(&keys.code(&secret(value)), code).await?)
}

async fn find<S: AuthorityStore>(
    store: &S,
    value: &str,
) -> Result<Option<StoredCode>, ContractError> {
    Ok(store.code(&store.lookup_key().await?.code(&secret(value))).await?)
}

async fn redeem_first<S: AuthorityStore>(store: &S, value: &str) -> Law {
    let outcome = store.redeem_code(&redeem(&store.lookup_key().await?, value)).await?;
    ensure!(matches!(outcome, Redemption::First(..)), "the code {value} is {outcome:?}");
    Ok(())
}

fn unused(code: &Code) -> Option<StoredCode> {
    Some(StoredCode::new(code.clone(), CodeState::Unused))
}

/// A code is loaded as it was stored, with every field.
///
/// # Errors
/// [`ContractError`]
pub async fn a_code_keeps_every_field<S: AuthorityStore>(store: S) -> Law {
    for (number, text) in HOSTILE.into_iter().enumerate() {
        let mut stored = code(&format!("f{number}"))?;
        stored.user = User::new(text, text);
        stored.client = ClientId::new(text);
        stored.redirect_uri = text.into();
        stored.challenge = text.into();
        stored.session = SessionId::new(text);
        stored.resource = resource(&format!("r{number}"))?;
        put(&store, text, &stored).await?;
        ensure_eq!(find(&store, text).await?, unused(&stored), "a code of {text:?}");
    }
    Ok(())
}

/// NUL, long texts and control characters in URIs are refused.
///
/// # Errors
/// [`ContractError`]
pub async fn hostile_codes_are_refused<S: AuthorityStore>(store: S) -> Law {
    let long = "x".repeat(1 << 20);
    for text in ["\0", long.as_str()] {
        let changes: [fn(&mut Code, &str); 7] = [
            |code, text| code.user = User::new(text, "alice"),
            |code, text| code.user = User::new("https://i.example", text),
            |code, text| code.client = ClientId::new(text),
            |code, text| code.redirect_uri = text.into(),
            |code, text| code.challenge = text.into(),
            |code, text| code.session = SessionId::new(text),
            |code, text| code.family = FamilyId::new(text),
        ];
        for (field, change) in changes.into_iter().enumerate() {
            let mut refused = code("f1")?;
            change(&mut refused, text);
            let keys = store.lookup_key().await?;
            let outcome = store.put_code(&keys.code(&secret("v")), &refused).await;
            expect_invalid(&outcome, &format!("field {field} with {text:.5?}"))?;
        }
    }
    let keys = store.lookup_key().await?;
    let refused = code("f1")?.redirect_uri("http://127.0.0.1/\r\nx");
    let outcome = store.put_code(&keys.code(&secret("v")), &refused).await;
    expect_invalid(&outcome, "a redirect URI with a line feed")?;
    ensure_eq!(find(&store, "v").await?, None, "a refused code");
    Ok(())
}

/// A code is found by its own value only, and its value and its family are taken.
///
/// # Errors
/// [`ContractError`]
pub async fn a_code_is_found_by_its_value_only<S: AuthorityStore>(store: S) -> Law {
    put(&store, "v1", &code("f1")?).await?;
    let keys = store.lookup_key().await?;
    for value in ["", "v", "v2", "V1", "v1 "] {
        ensure_eq!(find(&store, value).await?, None, "the value {value:?}");
        let outcome = store.redeem_code(&redeem(&keys, value)).await?;
        ensure_eq!(outcome, Redemption::Unknown, "the value {value:?}");
        let ended = store.end_code(&keys.code(&secret(value)), now()).await?;
        ensure!(!ended, "the value {value:?} is ended");
    }
    let of_session = keys.session(&secret("v1"));
    ensure_eq!(store.code(&of_session).await?, None, "the hash of a session");
    let again = store.put_code(&keys.code(&secret("v1")), &code_of("bob", "c", "f2")?).await;
    expect_exists(&again, "a second code with this value")?;
    let again = store.put_code(&keys.code(&secret("v2")), &code_of("bob", "c", "f1")?).await;
    expect_exists(&again, "a second code with this family")?;
    ensure_eq!(find(&store, "v1").await?, unused(&code("f1")?), "the first code");
    Ok(())
}

/// The first to redeem a code begins its family. Later ones learn when it was redeemed.
///
/// # Errors
/// [`ContractError`]
pub async fn a_code_is_redeemed_once<S: AuthorityStore>(store: S) -> Law {
    put(&store, "v1", &code("f1")?).await?;
    let keys = store.lookup_key().await?;
    let request = redeem(&keys, "v1");
    let expected = Family::begin(&code("f1")?, &request);
    ensure_eq!(store.family(&FamilyId::new("f1")).await?.is_some(), false, "before");
    let first = store.redeem_code(&request).await?;
    ensure_eq!(first, Redemption::First(code("f1")?, expected.clone()), "the first");
    let Some(family) = store.family(&FamilyId::new("f1")).await? else {
        return Err(broken("no family has begun"));
    };
    ensure_eq!(family.family, expected, "the family");
    let key = family.key.ok_or_else(|| broken("the family has no key"))?;
    ensure!(key.matches(&family_key("v1")), "the family has another key");
    let later = RedeemCode::new(request.code, after(90), family_key("x"), (after(91), after(92)));
    for _ in 0..2 {
        let again = store.redeem_code(&later).await?;
        ensure_eq!(again, Redemption::Again(code("f1")?, after(5)), "again");
    }
    let stored = find(&store, "v1").await?.map(|stored| stored.state);
    ensure_eq!(stored, Some(CodeState::Redeemed(after(5))), "the state");
    let family = store.family(&FamilyId::new("f1")).await?.map(|keyed| keyed.family);
    ensure_eq!(family, Some(expected), "the family after the replay");
    Ok(())
}

/// Of several callers at once, one redeems a code, and each of the others can end its family.
///
/// # Errors
/// [`ContractError`]
pub async fn concurrent_redemptions_yield_one<S: AuthorityStore>(store: S) -> Law {
    const CALLERS: usize = 16;
    let store = Arc::new(store);
    let keys = store.lookup_key().await?;
    for round in 0..8 {
        let (value, family) = (format!("v{round}"), format!("f{round}"));
        put(&*store, &value, &code(&family)?).await?;
        let outcomes = at_once(&store, CALLERS, |store, number| {
            let mut request = redeem(&keys, &value);
            request.key = family_key(&number.to_string());
            let family = FamilyId::new(&family);
            async move {
                let outcome = store.redeem_code(&request).await?;
                let has_family = store.family(&family).await?.is_some();
                Ok((outcome, has_family, number))
            }
        })
        .await?;
        let mut first = Vec::new();
        for (outcome, has_family, number) in outcomes {
            ensure!(has_family, "no family after {outcome:?}");
            match outcome {
                Redemption::First(..) => first.push(number),
                Redemption::Again(_, at) => ensure_eq!(at, after(5), "the first redemption"),
                other @ (Redemption::Ended(_) | Redemption::Expired(_) | Redemption::Unknown) => {
                    return Err(broken(&format!("a redemption at once is {other:?}")));
                }
            }
        }
        ensure_eq!(first.len(), 1, "redemptions in round {round}");
        let key = store.family(&FamilyId::new(&family)).await?.and_then(|keyed| keyed.key);
        let expected = first.first().map(|number| family_key(&number.to_string()));
        let same = key.zip(expected).is_some_and(|(key, expected)| key.matches(&expected));
        ensure!(same, "the key of the family is that of another caller");
    }
    Ok(())
}

/// A code is redeemed until the instant before it expires.
///
/// # Errors
/// [`ContractError`]
pub async fn an_expired_code_is_not_redeemed<S: AuthorityStore>(store: S) -> Law {
    let keys = store.lookup_key().await?;
    put(&store, "v1", &code("f1")?).await?;
    put(&store, "v2", &code("f2")?).await?;
    let mut request = redeem(&keys, "v1");
    for at in [after(60), after(61)] {
        request.now = at;
        let outcome = store.redeem_code(&request).await?;
        ensure_eq!(outcome, Redemption::Expired(code("f1")?), "at {at}");
    }
    ensure!(store.family(&FamilyId::new("f1")).await?.is_none(), "a family of an expired code");
    ensure_eq!(find(&store, "v1").await?, unused(&code("f1")?), "the expired code");
    let mut request = redeem(&keys, "v2");
    request.now = after(60).minus(MILLISECOND);
    let outcome = store.redeem_code(&request).await?;
    ensure!(matches!(outcome, Redemption::First(..)), "before its end it is {outcome:?}");
    Ok(())
}

/// A code that was ended is not redeemed; one that was redeemed is not ended.
///
/// # Errors
/// [`ContractError`]
pub async fn an_ended_code_is_not_redeemed<S: AuthorityStore>(store: S) -> Law {
    let keys = store.lookup_key().await?;
    let hash = |value: &str| keys.code(&secret(value));
    put(&store, "v1", &code("f1")?).await?;
    ensure!(store.end_code(&hash("v1"), after(1)).await?, "an unused code is not ended");
    ensure!(!store.end_code(&hash("v1"), after(2)).await?, "a code is ended twice");
    let outcome = store.redeem_code(&redeem(&keys, "v1")).await?;
    ensure_eq!(outcome, Redemption::Ended(code("f1")?), "an ended code");
    ensure!(store.family(&FamilyId::new("f1")).await?.is_none(), "a family of an ended code");
    let ended = find(&store, "v1").await?.map(|stored| stored.state);
    ensure_eq!(ended, Some(CodeState::Ended(after(1))), "the state of the ended code");
    put(&store, "v2", &code("f2")?).await?;
    redeem_first(&store, "v2").await?;
    ensure!(!store.end_code(&hash("v2"), after(6)).await?, "a redeemed code is ended");
    let state = find(&store, "v2").await?.map(|stored| stored.state);
    ensure_eq!(state, Some(CodeState::Redeemed(after(5))), "the state of the redeemed code");
    Ok(())
}

/// A code begins no family with an ID that is taken or a key of another length, and stays unused.
///
/// # Errors
/// [`ContractError`]
pub async fn a_refused_redemption_leaves_the_code_unused<S: AuthorityStore>(store: S) -> Law {
    let keys = store.lookup_key().await?;
    put(&store, "v1", &code("f1")?).await?;
    for length in [0, Family::KEY_LENGTH - 1, Family::KEY_LENGTH + 1] {
        let mut request = redeem(&keys, "v1");
        request.key = Secret::new(vec![1; length]);
        expect_invalid(&store.redeem_code(&request).await, "a key of another length")?;
    }
    ensure_eq!(find(&store, "v1").await?, unused(&code("f1")?), "after an invalid key");
    redeem_first(&store, "v1").await?;
    // The code is removed, and its family stays.
    ensure_eq!(store.remove_codes(after(61), 10).await?, 1, "the redeemed code");
    put(&store, "v2", &code("f1")?).await?;
    expect_exists(&store.redeem_code(&redeem(&keys, "v2")).await, "a family that exists")?;
    ensure_eq!(find(&store, "v2").await?, unused(&code("f1")?), "after the family was found");
    let end = FamilyEnd::new(FamilyEndReason::User, after(6));
    ensure!(store.end_family(&FamilyId::new("f1"), end).await?, "the family of the first code");
    Ok(())
}

/// Codes that expired before an instant are removed, and no others.
///
/// # Errors
/// [`ContractError`]
pub async fn expired_codes_are_removed_in_pages<S: AuthorityStore>(store: S) -> Law {
    for number in 0..3 {
        put(&store, &format!("v{number}"), &code(&format!("f{number}"))?).await?;
    }
    redeem_first(&store, "v0").await?;
    let mut later = code("f3")?;
    later.expires_at = after(100);
    put(&store, "v3", &later).await?;
    ensure_eq!(store.remove_codes(after(60), 10).await?, 0, "at their instant");
    let before = after(60).plus(MILLISECOND);
    ensure_eq!(store.remove_codes(before, 2).await?, 2, "two of three");
    ensure_eq!(store.remove_codes(before, 2).await?, 1, "the third");
    ensure_eq!(store.remove_codes(after(100), 2).await?, 0, "no more");
    for value in ["v0", "v1", "v2"] {
        ensure_eq!(find(&store, value).await?, None, "a removed code");
    }
    ensure_eq!(find(&store, "v3").await?, unused(&later), "the later code");
    ensure!(store.family(&FamilyId::new("f0")).await?.is_some(), "the family of a removed code");
    Ok(())
}
