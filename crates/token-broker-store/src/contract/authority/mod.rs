//! Laws of an [`AuthorityStore`]. Each takes an empty store.

mod accounts;
mod clients;
mod codes;
mod families;
mod families_lists;
mod first_account;
mod sessions;
mod signing_keys;

use std::{fmt::Debug, sync::Arc, time::Duration};

use tokio::sync::Barrier;
use tower_token_broker::{
    Secret,
    clock::Timestamp,
    principal::{Resource, Scopes, User},
    tasks::Tasks,
};

pub use self::{
    accounts::*, clients::*, codes::*, families::*, families_lists::*, first_account::*,
    sessions::*, signing_keys::*,
};
use super::ContractError;
use crate::{
    StoreError,
    authority::{
        AuthorityStore, ClientId, Code, Family, FamilyId, LookupKey, Page, PageRequest, RedeemCode,
        Redemption, SessionId,
    },
};

const ISSUER: &str = "https://broker.example.com";
const MILLISECOND: Duration = Duration::from_millis(1);
/// Texts that a driver, a statement or a comparison may misread.
pub(super) const HOSTILE: [&str; 8] =
    ["'; DROP TABLE x; --", "$1", "?1", "%", "\\", "\u{10ffff}", "a\u{308}\u{202e}b", ""];
/// In the order of octets, which is not that of most languages.
const SORTED: [&str; 9] = ["-", "1", "10", "2", "A", "_", "a", "aa", "\u{e4}"];

/// The result of a law.
type Law = Result<(), ContractError>;

fn now() -> Timestamp {
    // Milliseconds that are no whole second.
    Timestamp::from_unix_millis(1_800_000_000_123)
}

fn after(seconds: u64) -> Timestamp {
    now().plus(Duration::from_secs(seconds))
}

fn user(subject: &str) -> User {
    User::new(ISSUER, subject)
}

fn secret(text: &str) -> Secret {
    Secret::from_text(text.to_owned())
}

/// Key of a family, with octets that are no text.
fn family_key(id: &str) -> Secret {
    let mut octets = vec![0xff; Family::KEY_LENGTH];
    for (octet, of_id) in octets.iter_mut().zip(id.as_bytes()) {
        *octet = *of_id;
    }
    Secret::new(octets)
}

fn broken(how: &str) -> ContractError {
    ContractError::Broken { how: how.into() }
}

fn resource(path: &str) -> Result<Resource, ContractError> {
    Resource::parse(&format!("{ISSUER}/{path}/mcp")).map_err(|_| broken("no resource"))
}

/// A code of alice for a client, with every field set.
fn code_of(subject: &str, client: &str, family: &str) -> Result<Code, ContractError> {
    let ids = (SessionId::new(&format!("session of {subject}")), FamilyId::new(family));
    let times = (now(), after(60));
    let code = Code::new(user(subject), ClientId::new(client), resource("crm")?, ids, times)
        .redirect_uri("http://127.0.0.1:4711/callback?x=%2e%2E&y=1#")
        .scopes(Scopes::parse("crm:read crm:write").unwrap_or_else(|_| Scopes::none()))
        .challenge("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")
        .authenticated_at(now().minus(Duration::from_secs(7)));
    Ok(code)
}

fn code(family: &str) -> Result<Code, ContractError> {
    code_of("alice", "inspector", family)
}

/// A request to redeem the code with this value, 5 seconds after it was issued.
fn redeem(keys: &LookupKey, value: &str) -> RedeemCode {
    let ends = (after(30 * 86_400), after(180 * 86_400));
    RedeemCode::new(keys.code(&secret(value)), after(5), family_key(value), ends)
}

/// Stores a code whose value is the ID of its family, and redeems it.
async fn begin<S: AuthorityStore>(store: &S, code: &Code) -> Result<Family, ContractError> {
    let keys = store.lookup_key().await?;
    let value = code.family.as_str();
    store.put_code(&keys.code(&secret(value)), code).await?;
    let outcome = store.redeem_code(&redeem(&keys, value)).await?;
    let Redemption::First(_, family) = outcome else {
        return Err(broken(&format!("a new code is redeemed as {outcome:?}, expected First")));
    };
    Ok(family)
}

/// Fails if the store has another family under this ID, or another key.
async fn expect_same_family<S: AuthorityStore>(
    store: &S,
    expected: &Family,
    key: Option<&Secret>,
) -> Law {
    let Some(found) = store.family(&expected.id).await? else {
        return Err(broken(&format!("no family {}", expected.id)));
    };
    ensure_eq!(found.family, *expected, "the family");
    let same = match (&found.key, key) {
        (None, None) => true,
        (Some(found), Some(key)) => found.matches(key),
        _ => false,
    };
    ensure!(same, "the key of family {} is {:?}", expected.id, found.key);
    Ok(())
}

/// Runs steps that begin at the same time, and returns their outcomes.
pub(super) async fn at_once<S, T, F>(
    store: &Arc<S>,
    count: usize,
    step: impl Fn(Arc<S>, usize) -> F,
) -> Result<Vec<T>, ContractError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, StoreError>> + Send + 'static,
{
    let (tasks, barrier) = (Tasks::new(), Arc::new(Barrier::new(count)));
    let steps: Vec<_> = (0..count)
        .map(|number| {
            let (step, barrier) = (step(Arc::clone(store), number), Arc::clone(&barrier));
            tasks.spawn("caller", async move {
                barrier.wait().await;
                step.await
            })
        })
        .collect();
    let mut outcomes = Vec::with_capacity(count);
    for step in steps {
        outcomes.push(step.await.map_err(|_| ContractError::Panicked)??);
    }
    Ok(outcomes)
}

/// Fails unless a step is refused because of a field.
pub(super) fn expect_invalid<T: Debug>(outcome: &Result<T, StoreError>, what: &str) -> Law {
    ensure!(
        matches!(outcome, Err(StoreError::Invalid { .. })),
        "{what} is {outcome:?}, expected Invalid"
    );
    Ok(())
}

/// Fails unless a step is refused because an ID is taken.
pub(super) fn expect_exists<T: Debug>(outcome: &Result<T, StoreError>, what: &str) -> Law {
    ensure!(
        matches!(outcome, Err(StoreError::Exists { .. })),
        "{what} is {outcome:?}, expected Exists"
    );
    Ok(())
}

/// Fails unless the pages of any size have all of these IDs, each once and in order.
async fn expect_pages<T>(
    sorted: &[&str],
    id: impl Fn(&T) -> String,
    read: impl AsyncFn(PageRequest) -> Result<Page<T>, StoreError>,
) -> Law {
    for limit in [0, 1, 2, 3, sorted.len(), sorted.len() + 1, usize::MAX] {
        let mut ids = Vec::new();
        let mut request = PageRequest::first().limit(limit);
        loop {
            let page = read(request.clone()).await?;
            ensure!(page.rows.len() <= request.size(), "{} rows, {limit}", page.rows.len());
            ids.extend(page.rows.iter().map(&id));
            let Some(next) = page.next else { break };
            ensure!(ids.len() < 1_000, "pages of at most {limit} do not end");
            request = PageRequest::after(&next).limit(limit);
        }
        ensure_eq!(ids, sorted, "pages of at most {limit}");
    }
    for cursor in ["\0", &"x".repeat(1 << 20)] {
        ensure!(read(PageRequest::after(cursor)).await.is_ok(), "a cursor of no page");
    }
    Ok(())
}
