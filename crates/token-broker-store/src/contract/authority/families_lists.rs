//! Laws of several token families: their lists, their end, and their removal.

use tower_token_broker::principal::User;

use super::{
    Law, MILLISECOND, SORTED, after, begin, code, code_of, expect_pages, expect_same_family,
    family_key, user,
};
use crate::{
    authority::{
        AuthorityStore, ClientId, EndFamilies, Family, FamilyEnd, FamilyEndReason, FamilyFilter,
        FamilyId, PageRequest,
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
        (FamilyFilter::all().client(client("c1")), vec!["f3", "f6"]),
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
