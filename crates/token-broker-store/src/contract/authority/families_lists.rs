//! Laws of several token families: their lists, their end, and their removal.

use std::sync::Arc;

use tower_token_broker::principal::User;

use super::{
    Law, MILLISECOND, SORTED, after, at_once, begin, broken, code, code_of, expect_pages,
    expect_same_family, family_key, redeem, resource, secret, user,
};
use crate::{
    authority::{
        AuthorityStore, ClientId, CodeState, EndFamilies, Family, FamilyEnd, FamilyEndReason,
        FamilyFilter, FamilyId, PageRequest, Redemption,
    },
    contract::ContractError,
};

/// Families of two users, two issuers and two clients.
async fn fill<S: AuthorityStore>(store: &S) -> Result<Vec<Family>, ContractError> {
    let mut families = Vec::new();
    for (id, subject, client) in [
        ("f1", "alice", "c1"),
        ("f2", "alice", "c2"),
        ("f3", "bob", "c1"),
        ("f4", "bob", "c2"),
        ("f5", "alice", "c1"),
    ] {
        families.push(begin(store, &code_of(subject, client, id)?).await?);
    }
    let mut elsewhere = code_of("alice", "c1", "f6")?;
    elsewhere.user = User::new("https://other.example", "alice");
    families.push(begin(store, &elsewhere).await?);
    Ok(families)
}

fn client(id: &str) -> ClientId {
    ClientId::new(id)
}

async fn ids<S: AuthorityStore>(
    store: &S,
    filter: &FamilyFilter,
) -> Result<Vec<String>, ContractError> {
    let page = store.families(filter, &PageRequest::first()).await?;
    Ok(page.rows.iter().map(|family| family.id.to_string()).collect())
}

fn end() -> FamilyEnd {
    FamilyEnd::new(FamilyEndReason::Operator, after(50))
}

/// Filters select by user, by client, by both, and by whether a family is active.
///
/// # Errors
/// [`ContractError`]
pub async fn families_are_listed_by_user_and_client<S: AuthorityStore>(store: S) -> Law {
    let families = fill(&store).await?;
    store.end_family(&FamilyId::new("f5"), end()).await?;
    let of_alice = FamilyFilter::all().user(user("alice"));
    let idle = after(30 * 86_400);
    for (filter, expected) in [
        (FamilyFilter::all(), vec!["f1", "f2", "f3", "f4", "f5", "f6"]),
        (of_alice.clone(), vec!["f1", "f2", "f5"]),
        (FamilyFilter::all().client(client("c1")), vec!["f1", "f3", "f5", "f6"]),
        (of_alice.clone().client(client("c1")), vec!["f1", "f5"]),
        (of_alice.clone().active_at(after(60)), vec!["f1", "f2"]),
        (of_alice.clone().active_at(idle.minus(MILLISECOND)), vec!["f1", "f2"]),
        (of_alice.active_at(idle), vec![]),
        (FamilyFilter::all().active_at(after(60)), vec!["f1", "f2", "f3", "f4", "f6"]),
        (FamilyFilter::all().user(user("Alice")), vec![]),
        (FamilyFilter::all().user(User::new("%", "alice")), vec![]),
        (FamilyFilter::all().client(client("c%")), vec![]),
        (FamilyFilter::all().client(client("\0")), vec![]),
        (FamilyFilter::all().user(user(&"x".repeat(1 << 20))), vec![]),
    ] {
        ensure_eq!(ids(&store, &filter).await?, expected, "{filter:.100?}");
    }
    let page = store.families(&FamilyFilter::all(), &PageRequest::first()).await?;
    for (listed, mut family) in page.rows.into_iter().zip(families) {
        family.end = (family.id.as_str() == "f5").then(end);
        ensure_eq!(listed, family, "a listed family");
    }
    Ok(())
}

/// Pages of any size have each family once, in the order of the octets of the IDs.
///
/// # Errors
/// [`ContractError`]
pub async fn pages_of_families_cover_all_once<S: AuthorityStore>(store: S) -> Law {
    for id in SORTED.iter().rev() {
        begin(&store, &code(id)?).await?;
    }
    begin(&store, &code_of("bob", "inspector", "3")?).await?;
    let filter = FamilyFilter::all().user(user("alice"));
    expect_pages(
        &SORTED,
        |family: &Family| family.id.to_string(),
        async |page| store.families(&filter, &page).await,
    )
    .await
}

/// All selected families are ended, and those that were not ended before are returned.
///
/// # Errors
/// [`ContractError`]
pub async fn all_selected_families_are_ended<S: AuthorityStore>(store: S) -> Law {
    let families = fill(&store).await?;
    let of_alice = FamilyFilter::all().user(user("alice"));
    for (filter, expected) in [
        (FamilyFilter::all().user(user("mallory")), vec![]),
        (FamilyFilter::all().client(client("\0")), vec![]),
        (of_alice.clone().client(client("c1")), vec!["f1", "f5"]),
        (of_alice.clone(), vec!["f2"]),
        (of_alice, vec![]),
        (FamilyFilter::all().resource(resource("hr")?), vec![]),
        (FamilyFilter::all().client(client("c1")).resource(resource("crm")?), vec!["f3", "f6"]),
    ] {
        let request = EndFamilies::new(filter, end());
        let ended = store.end_families(&request).await?;
        let mut ended: Vec<_> = ended.iter().map(FamilyId::as_str).collect();
        ended.sort_unstable();
        ensure_eq!(ended, expected, "{request:?}");
    }
    for mut family in families {
        let (id, key) = (family.id.clone(), family_key(family.id.as_str()));
        let is_ended = id.as_str() != "f4";
        family.end = is_ended.then(end);
        expect_same_family(&store, &family, (!is_ended).then_some(&key)).await?;
    }
    Ok(())
}

/// The unused codes of selected families are ended in the same step, and no others.
///
/// # Errors
/// [`ContractError`]
pub async fn the_end_of_families_ends_their_codes<S: AuthorityStore>(store: S) -> Law {
    let keys = store.lookup_key().await?;
    let mut elsewhere = code_of("alice", "c1", "c5")?;
    elsewhere.user = User::new("https://other.example", "alice");
    let mut of_hr = code_of("bob", "c2", "c6")?;
    of_hr.resource = resource("hr")?;
    let codes = [
        code_of("alice", "c1", "c1")?,
        code_of("alice", "c2", "c2")?,
        code_of("bob", "c1", "c3")?,
        code_of("bob", "c2", "c4")?,
        elsewhere,
        of_hr,
    ];
    for code in &codes {
        store.put_code(&keys.code(&secret(code.family.as_str())), code).await?;
    }
    let all = FamilyFilter::all;
    for (filter, ended) in [
        (all().user(user("mallory")), vec![]),
        (all().active_at(after(60)), vec![]),
        (all().user(user("alice")).client(client("c1")), vec!["c1"]),
        (all().resource(resource("hr")?), vec!["c1", "c6"]),
        (all().client(client("c2")).active_at(after(50)), vec!["c1", "c2", "c4", "c6"]),
        (all().user(user("bob")), vec!["c1", "c2", "c3", "c4", "c6"]),
        (all(), vec!["c1", "c2", "c3", "c4", "c5", "c6"]),
    ] {
        let request = EndFamilies::new(filter, end());
        ensure_eq!(store.end_families(&request).await?, vec![], "families of {request:?}");
        for code in &codes {
            let id = code.family.as_str();
            let found = store.code(&keys.code(&secret(id))).await?.map(|stored| stored.state);
            let is_ended = ended.contains(&id);
            let expected = if is_ended { CodeState::Ended(end().at) } else { CodeState::Unused };
            ensure_eq!(found, Some(expected), "code {id} after {request:?}");
        }
    }
    let outcome = store.redeem_code(&redeem(&keys, "c1")).await?;
    ensure!(matches!(outcome, Redemption::Ended(_)), "an ended code is {outcome:?}");
    Ok(())
}

/// Of a code that is redeemed while families are ended, either the code is ended or its family.
///
/// # Errors
/// [`ContractError`]
pub async fn no_family_survives_an_end_at_once<S: AuthorityStore>(store: S) -> Law {
    let store = Arc::new(store);
    let keys = store.lookup_key().await?;
    let of_alice = EndFamilies::new(FamilyFilter::all().user(user("alice")), end());
    for round in 0..16 {
        let id = format!("f{round}");
        store.put_code(&keys.code(&secret(&id)), &code(&id)?).await?;
        if round == 0 {
            store.end_families(&of_alice).await?;
        }
        let (redeem, of_alice) = (redeem(&keys, &id), &of_alice);
        let outcomes = at_once(&store, 2, |store, number| {
            let (redeem, of_alice) = (redeem.clone(), of_alice.clone());
            async move {
                if number == 0 {
                    return store.redeem_code(&redeem).await.map(Some);
                }
                store.end_families(&of_alice).await.map(|_| None)
            }
        })
        .await?;
        let has_begun =
            outcomes.iter().any(|outcome| matches!(outcome, Some(Redemption::First(..))));
        let family = store.family(&FamilyId::new(&id)).await?;
        match family {
            None => ensure!(!has_begun, "the family {id} has begun, and is not stored"),
            Some(keyed) => {
                ensure!(keyed.family.end.is_some(), "the family {id} survives an end at once");
            }
        }
    }
    let after_all = store.families(&FamilyFilter::all(), &PageRequest::first()).await?;
    if after_all.rows.iter().any(|family| family.end.is_none()) {
        return Err(broken("a family is not ended"));
    }
    Ok(())
}

/// Families that were ended or expired before an instant are removed, and no others.
///
/// # Errors
/// [`ContractError`]
pub async fn ended_families_are_removed_in_pages<S: AuthorityStore>(store: S) -> Law {
    fill(&store).await?;
    for id in ["f1", "f2", "f3"] {
        ensure!(store.end_family(&FamilyId::new(id), end()).await?, "a family is not ended");
    }
    ensure_eq!(store.remove_families(after(50), 10).await?, 0, "at their instant");
    let before = after(50).plus(MILLISECOND);
    ensure_eq!(store.remove_families(before, 2).await?, 2, "two of three");
    ensure_eq!(store.remove_families(before, 2).await?, 1, "the third");
    ensure_eq!(ids(&store, &FamilyFilter::all()).await?, ["f4", "f5", "f6"], "the others");
    let idle = after(30 * 86_400);
    ensure_eq!(store.remove_families(idle, 10).await?, 0, "at the instant of their expiry");
    ensure_eq!(store.remove_families(idle.plus(MILLISECOND), 10).await?, 3, "the expired ones");
    Ok(())
}
