//! Laws of last uses.

use tower_token_broker::principal::User;

use super::{HOSTILE, Law, MILLISECOND, REFUSED, after, expect_invalid, key, now, user};
use crate::{
    Account, GrantKey,
    authority::ClientId,
    connect::{ConnectStore, ConnectionUse},
};

fn used(key: GrantKey, client: &str) -> ConnectionUse {
    ConnectionUse::new(key, ClientId::new(client), now())
}

/// The last use of a connection is that of the client that used it last.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn the_last_use_of_a_connection_rises<S: ConnectStore>(store: S) -> Law {
    let at = |client: &str, at| {
        let mut used = used(key("alice", "crm"), client);
        used.last_used_at = at;
        used
    };
    let (first, later) = (at("inspector", now()), at("claude", after(60)));
    let before = after(60).minus(MILLISECOND);
    for (mark, expected) in [
        (&first, &first),
        (&later, &later),
        (&first, &later),
        (&at("inspector", before), &later),
        (&at("claude", before), &later),
        (&at("inspector", after(61)), &at("inspector", after(61))),
    ] {
        store.mark_connection_used(mark).await?;
        let uses = store.connection_uses(&user("alice")).await?;
        ensure_eq!(uses, vec![expected.clone()], "after {mark:?}");
    }
    Ok(())
}

/// The uses of a user are listed in the order of server and account, and no others.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn uses_are_listed_by_user<S: ConnectStore>(store: S) -> Law {
    let with_account = |server: &str, account: &str| {
        let mut key = key("alice", server);
        key.account = Account::parse(account).unwrap_or(key.account);
        used(key, "inspector")
    };
    // In the order of octets.
    let sorted = [
        with_account("CRM", "default"),
        with_account("crm", "b"),
        with_account("crm", "default"),
        with_account("crm-2", "a"),
        with_account("mail", "default"),
    ];
    for used in sorted.iter().rev() {
        store.mark_connection_used(used).await?;
    }
    let elsewhere = GrantKey { user: User::new("https://i.example", "alice"), ..key("", "crm") };
    for other in [key("Alice", "crm"), key("bob", "crm"), elsewhere] {
        store.mark_connection_used(&used(other, "inspector")).await?;
    }
    ensure_eq!(store.connection_uses(&user("alice")).await?, sorted, "the uses of alice");
    ensure_eq!(store.connection_uses(&user("alic")).await?, Vec::new(), "of no user");
    Ok(())
}

/// Texts are kept as they are; NUL and long texts are refused, and find nothing.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn hostile_uses_are_refused<S: ConnectStore>(store: S) -> Law {
    for text in HOSTILE {
        let mut kept = used(key("alice", text), text);
        kept.key.user = User::new(text, text);
        store.mark_connection_used(&kept).await?;
        ensure_eq!(store.connection_uses(&kept.key.user).await?, vec![kept], "{text:?}");
    }
    for text in REFUSED {
        let changes: [fn(&mut ConnectionUse, &str); 4] = [
            |used, text| used.key.user = User::new(text, "alice"),
            |used, text| used.key.user = User::new("https://i.example", text),
            |used, text| used.key.server = text.into(),
            |used, text| used.client = ClientId::new(text),
        ];
        for (field, change) in changes.into_iter().enumerate() {
            let mut refused = used(key("alice", "crm"), "inspector");
            change(&mut refused, text);
            let outcome = store.mark_connection_used(&refused).await;
            expect_invalid(&outcome, &format!("field {field} with {text:.5?}"))?;
        }
        let found = store.connection_uses(&User::new(text, text)).await?;
        ensure!(found.is_empty(), "uses of {text:.5?}");
    }
    ensure_eq!(store.connection_uses(&user("alice")).await?, Vec::new(), "refused uses");
    Ok(())
}
