//! Laws of a disconnect at the same time as other steps.

use std::sync::Arc;

use super::{
    Law, acquire, after, at_once, begin_and_claim, broken, claim_all, connect, existing, grant,
    has_tokens, now, request, secret,
};
use crate::{
    GrantState, Renewal,
    connect::{ConnectId, ConnectStore, RevocationId, RevokedTokenKind},
};

const ROUNDS: u32 = 24;

/// Of a finish and a disconnect at once, either comes first: a connect that was ended stores no
/// grant, and the tokens of a disconnected grant are all to be revoked.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn concurrent_finish_and_disconnect_leave_no_token<S: ConnectStore>(store: S) -> Law {
    let store = Arc::new(store);
    for round in 0..ROUNDS {
        // The finished grant keeps the ID: a disconnect after it finds it.
        let old = store.put(grant("g1")).await?;
        begin_and_claim(&*store, &connect("c1")).await?;
        let (of, id) = (old.to_ref(), RevocationId::new(&format!("r{round}")));
        let outcomes = at_once(&store, 2, |store, number| {
            let (of, id) = (of.clone(), id.clone());
            async move {
                if number == 0 {
                    let new = grant("g1").refresh_token(secret("new"));
                    let finished = store.finish_connect(&ConnectId::new("c1"), new).await?;
                    return Ok(finished.is_some());
                }
                store.disconnect(&of, &id, now()).await
            }
        })
        .await?;
        let [finished, disconnected] = outcomes[..] else { return Err(broken("two steps")) };
        ensure!(disconnected, "round {round}: no grant is disconnected");
        let left = existing(&*store, &of).await?;
        ensure_eq!(left.state, GrantState::Revoked, "round {round}: the state");
        ensure!(!has_tokens(&left), "round {round}: tokens are left");
        let revoked = claim_all(&*store).await?;
        ensure_eq!(revoked.len(), 1, "round {round}: revocations");
        // The old tokens if the disconnect came first, the new ones if the finish did.
        let expected = secret(if finished { "new" } else { "refresh g1" });
        let is_revoked = revoked.iter().flat_map(|due| &due.tokens).any(|token| {
            token.kind == RevokedTokenKind::Refresh && token.secret.matches(&expected)
        });
        ensure!(is_revoked, "round {round}: finished {finished}, and other tokens are revoked");
        let remains = store.drop_connect(&ConnectId::new("c1")).await?;
        ensure!(!remains, "round {round}: the connect is still there");
        ensure!(store.finish_revocation(&id).await?, "round {round}: the revocation");
    }
    Ok(())
}

/// Of a refresh and a disconnect at once, either comes first: a token that the refresh has stored
/// is to be revoked.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn concurrent_refresh_and_disconnect_leave_no_token<S: ConnectStore>(store: S) -> Law {
    let store = Arc::new(store);
    for round in 0..ROUNDS {
        let grant = store.put(grant("g1")).await?;
        let lease = acquire(&*store, &request(&grant)).await?;
        let (of, id) = (grant.to_ref(), RevocationId::new(&format!("r{round}")));
        let outcomes = at_once(&store, 2, |store, number| {
            let (of, id, lease) = (of.clone(), id.clone(), lease.clone());
            async move {
                if number == 0 {
                    let renewal = Renewal::new(Some(secret("rotated")), None);
                    return Ok(store.complete(&lease, &renewal).await?.is_some());
                }
                store.disconnect(&of, &id, after(1)).await
            }
        })
        .await?;
        let [completed, disconnected] = outcomes[..] else { return Err(broken("two steps")) };
        ensure!(disconnected, "round {round}: no grant is disconnected");
        let left = existing(&*store, &of).await?;
        ensure!(!has_tokens(&left), "round {round}: tokens are left");
        let expected = secret(if completed { "rotated" } else { "refresh g1" });
        let revoked = claim_all(&*store).await?;
        let is_revoked =
            revoked.iter().flat_map(|due| &due.tokens).any(|token| token.secret.matches(&expected));
        ensure!(is_revoked, "round {round}: completed {completed}, and it is not revoked");
        ensure!(store.finish_revocation(&id).await?, "round {round}: the revocation");
    }
    Ok(())
}
