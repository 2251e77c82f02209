//! Laws of `list`.

use tower_token_broker::principal::{GrantId, User};

use super::{ISSUER, Law, backoff, existing, grant, grant_for, key, of_alice, user};
use crate::{
    Account, Grant, GrantFilter, GrantKey, GrantRef, GrantStore, GrantSummary,
    contract::ContractError,
};

/// Pages of any size have each grant once, in the order of the octets of the IDs.
///
/// # Errors
/// [`ContractError`]
pub async fn list_pages_cover_all_once<S: GrantStore>(store: S) -> Law {
    ensure_eq!(ids(&store, &GrantFilter::all()).await?, [""; 0], "the list of an empty store");
    // In the order of octets, which is not that of most languages.
    let sorted = ["-", "1", "10", "2", "A", "B", "_", "a", "a-b", "aa", "b", "\u{e4}"];
    for (number, id) in sorted.iter().rev().enumerate() {
        store.put(grant_for(id, key(&format!("user {number}"), "crm"))).await?;
    }
    for limit in [0, 1, 2, 3, 4, 6, 11, 12, 13, usize::MAX] {
        let filter = GrantFilter::all().limit(limit);
        ensure_eq!(ids(&store, &filter).await?, sorted, "pages of at most {limit}");
    }
    Ok(())
}

/// Filters select by user and by server, with all accounts and states.
///
/// # Errors
/// [`ContractError`]
pub async fn list_selects_by_user_and_server<S: GrantStore>(store: S) -> Law {
    let work = Account::parse("work").unwrap_or_else(|_| Account::default_account());
    let other_issuer = User::new("https://other.example", "alice");
    for (id, key) in [
        ("g1", key("alice", "crm")),
        ("g2", key("alice", "mail")),
        ("g3", key("bob", "crm")),
        ("g4", GrantKey::new(user("alice"), "crm", work)),
        ("g5", GrantKey::new(other_issuer, "crm", Account::default_account())),
    ] {
        store.put(grant_for(id, key)).await?;
    }
    store.revoke(&of_alice("g1")).await?;
    let of_alice = GrantFilter::all().user(user("alice"));
    for (filter, expected) in [
        (GrantFilter::all(), vec!["g1", "g2", "g3", "g4", "g5"]),
        (of_alice.clone(), vec!["g1", "g2", "g4"]),
        (GrantFilter::all().server("crm"), vec!["g1", "g3", "g4", "g5"]),
        (of_alice.clone().server("crm"), vec!["g1", "g4"]),
        (of_alice.server("calendar"), vec![]),
        (GrantFilter::all().user(user("mallory")), vec![]),
    ] {
        for limit in [1, 100] {
            let filter = filter.clone().limit(limit);
            ensure_eq!(ids(&store, &filter).await?, expected, "{filter:?}");
        }
    }
    Ok(())
}

/// Filters compare octet by octet, and have no wildcards.
///
/// # Errors
/// [`ContractError`]
pub async fn list_compares_octet_by_octet<S: GrantStore>(store: S) -> Law {
    store.put(grant("g1")).await?;
    for subject in ["Alice", "alice ", "al", "%", "alic_", "*", ""] {
        let filter = GrantFilter::all().user(user(subject));
        ensure_eq!(ids(&store, &filter).await?, [""; 0], "user {subject:?}");
    }
    for issuer in ["https://broker.example.com/", "https://Broker.example.com", "%"] {
        let filter = GrantFilter::all().user(User::new(issuer, "alice"));
        ensure_eq!(ids(&store, &filter).await?, [""; 0], "issuer {issuer:?}");
    }
    for server in ["CRM", "crm ", "c%", "cr_", ""] {
        let filter = GrantFilter::all().server(server);
        ensure_eq!(ids(&store, &filter).await?, [""; 0], "server {server:?}");
    }
    let exact = GrantFilter::all().user(User::new(ISSUER, "alice")).server("crm");
    ensure_eq!(ids(&store, &exact).await?, ["g1"], "the exact user and server");
    Ok(())
}

/// A summary has each field of the grant as it is stored, and no secret.
///
/// # Errors
/// [`ContractError`]
pub async fn list_summarizes_without_secrets<S: GrantStore>(store: S) -> Law {
    let mut first = grant("g1");
    (first.version, first.open_attempts, first.backoff) = (7, 2, backoff());
    let first = store.put(first).await?;
    let without_tokens = Grant::new(GrantId::new("g2"), key("bob", "crm"), "https://as.example");
    store.put(without_tokens).await?;
    store.end(&first.to_ref(), first.version).await?;
    for summary in all(&store, &GrantFilter::all()).await? {
        let stored = existing(&store, &summary.to_ref()).await?;
        ensure_eq!(summary, stored.to_summary(), "the summary");
    }
    ensure_eq!(ids(&store, &GrantFilter::all()).await?, ["g1", "g2"], "the list");
    Ok(())
}

/// A grant that exists while pages are read is in exactly one of them, whatever is put and deleted
/// in the meantime.
///
/// # Errors
/// [`ContractError`]
pub async fn list_is_not_disturbed_by_other_changes<S: GrantStore>(store: S) -> Law {
    for id in ["b", "d", "f", "h"] {
        store.put(grant_for(id, key(id, "crm"))).await?;
    }
    let first = store.list(&GrantFilter::all().limit(2)).await?;
    let Some(cursor) = first.next.clone() else {
        return Err(ContractError::Broken { how: "the first of two pages has no cursor".into() });
    };
    // The grant of the cursor is gone, and others are put before it.
    store.delete(&GrantRef::new(key("d", "crm"), GrantId::new("d"))).await?;
    for id in ["a", "aa"] {
        store.put(grant_for(id, key(id, "crm"))).await?;
    }
    let rest = GrantFilter::all().limit(2).after(cursor);
    let first: Vec<_> = first.grants.iter().map(|summary| summary.id.as_str()).collect();
    ensure_eq!(first, ["b", "d"], "the first page");
    ensure_eq!(ids(&store, &rest).await?, ["f", "h"], "the other pages");
    Ok(())
}

/// Reads all pages.
async fn all<S: GrantStore>(
    store: &S,
    filter: &GrantFilter,
) -> Result<Vec<GrantSummary>, ContractError> {
    let (mut filter, mut all) = (filter.clone(), Vec::new());
    for _ in 0..100 {
        let page = store.list(&filter).await?;
        ensure!(page.grants.len() <= filter.page_size(), "a page is larger than its limit");
        all.extend(page.grants);
        match page.next {
            Some(next) => filter = filter.after(next),
            None => return Ok(all),
        }
    }
    Err(ContractError::Broken { how: "the pages do not end".into() })
}

async fn ids<S: GrantStore>(store: &S, filter: &GrantFilter) -> Result<Vec<String>, ContractError> {
    let all = all(store, filter).await?;
    Ok(all.iter().map(|summary| summary.id.as_str().to_owned()).collect())
}
