//! Laws of the clients that registered themselves.

use std::sync::Arc;

use super::{
    HOSTILE, Law, MILLISECOND, SORTED, after, at_once, expect_exists, expect_invalid, expect_pages,
    now, secret,
};
use crate::authority::{
    ApplicationType, AuthorityStore, Client, ClientAuthMethod, ClientId, ClientKeys, LookupKey,
    RegisterClient, Registration,
};

const MANY: u64 = 1_000;

fn client(id: &str) -> Client {
    Client::new(ClientId::new(id), now())
}

fn full_client(id: &str) -> Client {
    let mut client = client(id);
    client.name = "Claude \u{202e}'; --".into();
    client.redirect_uris =
        vec!["http://127.0.0.1/callback".into(), "com.example.app:/cb?x=1&y=%0A".into()];
    client.software_id = Some("4NRB1-0XZABZI9E6-5SM3R".into());
    client.software_version = Some("".into());
    client
}

async fn register<S: AuthorityStore>(store: &S, client: Client) -> Law {
    let outcome = store.register_client(&RegisterClient::new(client, MANY)).await?;
    ensure_eq!(outcome, Registration::Registered, "a registration");
    Ok(())
}

/// All fields but the secret.
fn fields(client: &Client) -> String {
    format!("{:?}", Client { secret: None, ..client.clone() })
}

/// A client is loaded as it registered, with every field.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn a_client_keeps_every_field<S: AuthorityStore>(store: S) -> Law {
    let mut clients = Vec::new();
    for application_type in [ApplicationType::Web, ApplicationType::Native] {
        for (auth_method, keys) in [
            (ClientAuthMethod::None, None),
            (ClientAuthMethod::ClientSecretBasic, None),
            (ClientAuthMethod::ClientSecretPost, None),
            (ClientAuthMethod::PrivateKeyJwt, Some(ClientKeys::Inline("{\"keys\":[]}".into()))),
            (
                ClientAuthMethod::PrivateKeyJwt,
                Some(ClientKeys::Uri("https://client.example/jwks".into())),
            ),
        ] {
            let mut client = full_client(&format!("c{}", clients.len()));
            (client.application_type, client.auth_method) = (application_type, auth_method);
            client.keys = keys;
            clients.push(client);
        }
    }
    clients.push(client("of few fields"));
    for client in &clients {
        register(&store, client.clone()).await?;
    }
    for client in &clients {
        let found = store.client(&client.id).await?;
        ensure_eq!(found.as_ref().map(fields), Some(fields(client)), "the client");
    }
    Ok(())
}

/// Hostile texts are kept as they are; NUL, long texts and control characters in URIs are refused,
/// and find no client.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn hostile_clients_are_kept_or_refused<S: AuthorityStore>(store: S) -> Law {
    for text in HOSTILE {
        let mut client = client(text);
        client.name = text.into();
        client.software_id = Some(text.into());
        client.keys = Some(ClientKeys::Inline(text.into()));
        register(&store, client.clone()).await?;
        let found = store.client(&client.id).await?;
        ensure_eq!(found.as_ref().map(fields), Some(fields(&client)), "a client {text:?}");
    }
    let long = "x".repeat(1 << 20);
    for text in ["\0", long.as_str()] {
        let changes: [fn(&mut Client, &str); 7] = [
            |client, text| client.id = ClientId::new(text),
            |client, text| client.name = text.into(),
            |client, text| client.redirect_uris = vec![text.into()],
            |client, text| client.keys = Some(ClientKeys::Inline(text.into())),
            |client, text| client.keys = Some(ClientKeys::Uri(text.into())),
            |client, text| client.software_id = Some(text.into()),
            |client, text| client.software_version = Some(text.into()),
        ];
        for (field, change) in changes.into_iter().enumerate() {
            let mut client = client("refused");
            change(&mut client, text);
            let outcome = store.register_client(&RegisterClient::new(client, MANY)).await;
            expect_invalid(&outcome, &format!("field {field} with {text:.5?}"))?;
        }
        let id = ClientId::new(text);
        ensure!(store.client(&id).await?.is_none(), "a client {text:.5?}");
        ensure!(!store.mark_client_used(&id, now()).await?, "a client {text:.5?} is used");
        ensure!(!store.remove_client(&id).await?, "a client {text:.5?} is removed");
    }
    let mut client = client("refused");
    client.redirect_uris = vec!["https://a.example/\nhttps://b.example/".into()];
    let outcome = store.register_client(&RegisterClient::new(client.clone(), MANY)).await;
    expect_invalid(&outcome, "a redirect URI with a line feed")?;
    client.redirect_uris = vec!["https://a.example/".into(); 33];
    let outcome = store.register_client(&RegisterClient::new(client, MANY)).await;
    expect_invalid(&outcome, "33 redirect URIs")?;
    ensure!(store.client(&ClientId::new("refused")).await?.is_none(), "a refused client");
    Ok(())
}

/// A client has the secret of its registration, which is that of no other client.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn a_client_secret_matches_only_its_client<S: AuthorityStore>(store: S) -> Law {
    let keys = store.lookup_key().await?;
    let hash = |keys: &LookupKey, id: &str, text: &str| {
        keys.client_secret(&ClientId::new(id), &secret(text))
    };
    for id in ["c1", "c2"] {
        let request = RegisterClient::new(client(id), MANY).secret(hash(&keys, id, "s3cret"));
        let outcome = store.register_client(&request).await?;
        ensure_eq!(outcome, Registration::Registered, "a client with a secret");
    }
    // The field of the client is not what is stored.
    let mut planted = client("c3");
    planted.secret = Some(hash(&keys, "c3", "s3cret").into());
    register(&store, planted).await?;
    for (id, text, expected) in [
        ("c1", "s3cret", true),
        ("c2", "s3cret", true),
        ("c1", "s3cret ", false),
        ("c1", "", false),
        ("c3", "s3cret", false),
    ] {
        let found = store.client(&ClientId::new(id)).await?;
        let matches = found.is_some_and(|client| client.has_secret(&hash(&keys, id, text)));
        ensure_eq!(matches, expected, "the secret {text:?} of {id}");
    }
    let found = store.client(&ClientId::new("c1")).await?;
    let of_other = found.is_some_and(|client| client.has_secret(&hash(&keys, "c2", "s3cret")));
    ensure!(!of_other, "the secret of another client matches");
    Ok(())
}

/// The ID of a client is taken.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn a_client_id_is_taken_once<S: AuthorityStore>(store: S) -> Law {
    register(&store, full_client("c1")).await?;
    let mut other = client("c1");
    other.name = "another".into();
    let outcome = store.register_client(&RegisterClient::new(other, MANY)).await;
    expect_exists(&outcome, "a second client with this ID")?;
    let found = store.client(&ClientId::new("c1")).await?;
    ensure_eq!(found.as_ref().map(fields), Some(fields(&full_client("c1"))), "the first client");
    // The count is still right.
    let request = RegisterClient::new(client("c2"), 2);
    ensure_eq!(store.register_client(&request).await?, Registration::Registered, "a second one");
    Ok(())
}

/// No more clients register than the limit allows, also at once; a removed one makes place.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn the_number_of_clients_is_bounded<S: AuthorityStore>(store: S) -> Law {
    let store = Arc::new(store);
    let outcomes = at_once(&store, 32, |store, number| async move {
        let request = RegisterClient::new(client(&format!("c{number}")), 5);
        store.register_client(&request).await
    })
    .await?;
    let registered = |outcome: &&Registration| **outcome == Registration::Registered;
    ensure_eq!(outcomes.iter().filter(registered).count(), 5, "registrations at once");
    let page = store.clients(&crate::authority::PageRequest::first()).await?;
    ensure_eq!(page.rows.len(), 5, "clients");
    let request = RegisterClient::new(client("later"), 5);
    ensure_eq!(store.register_client(&request).await?, Registration::Full, "one more");
    for client in page.rows.iter().take(1) {
        ensure!(store.remove_client(&client.id).await?, "a client is not removed");
        ensure!(!store.remove_client(&client.id).await?, "a client is removed twice");
    }
    ensure_eq!(store.register_client(&request).await?, Registration::Registered, "in its place");
    ensure_eq!(store.remove_unused_clients(after(1), 2).await?, 2, "unused clients");
    let request = |id: &str| RegisterClient::new(client(id), 5);
    for id in ["x", "y"] {
        let outcome = store.register_client(&request(id)).await?;
        ensure_eq!(outcome, Registration::Registered, "in the place of an unused one");
    }
    ensure_eq!(store.register_client(&request("z")).await?, Registration::Full, "one more");
    Ok(())
}

/// The instant of the last use rises only.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn the_last_use_of_a_client_rises<S: AuthorityStore>(store: S) -> Law {
    register(&store, full_client("c1")).await?;
    register(&store, full_client("c2")).await?;
    let id = ClientId::new("c1");
    for (at, expected) in [(now(), now()), (after(9), after(9)), (after(3), after(9))] {
        ensure!(store.mark_client_used(&id, at).await?, "the client is unknown");
        let mut client = full_client("c1");
        client.last_used_at = Some(expected);
        let found = store.client(&id).await?;
        ensure_eq!(found.as_ref().map(fields), Some(fields(&client)), "after the use");
    }
    ensure!(!store.mark_client_used(&ClientId::new("c"), now()).await?, "an unknown client");
    let other = store.client(&ClientId::new("c2")).await?;
    ensure_eq!(other.and_then(|client| client.last_used_at), None, "another client");
    Ok(())
}

/// Clients that were never used and registered before an instant are removed, and no others.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn unused_clients_are_removed_after_their_time<S: AuthorityStore>(store: S) -> Law {
    for id in ["c1", "c2", "used"] {
        register(&store, client(id)).await?;
    }
    let mut later = client("later");
    later.created_at = after(10);
    register(&store, later).await?;
    for (id, seconds) in [("a second", 5), ("b first", 4), ("c third", 6)] {
        let mut client = client(id);
        client.created_at = after(seconds);
        register(&store, client).await?;
    }
    store.mark_client_used(&ClientId::new("used"), after(1)).await?;
    ensure_eq!(store.remove_unused_clients(now(), 10).await?, 0, "at their instant");
    let before = now().plus(MILLISECOND);
    ensure_eq!(store.remove_unused_clients(before, 1).await?, 1, "one of two");
    ensure_eq!(store.remove_unused_clients(before, 10).await?, 1, "the other one");
    for (limit, id) in [(1, "b first"), (1, "a second"), (10, "c third")] {
        let id = ClientId::new(id);
        ensure!(store.client(&id).await?.is_some(), "the client {id} is removed too early");
        ensure_eq!(store.remove_unused_clients(after(10), limit).await?, 1, "the oldest one");
        ensure!(store.client(&id).await?.is_none(), "the oldest client {id} is not removed first");
    }
    ensure_eq!(store.remove_unused_clients(after(10), 10).await?, 0, "no more");
    expect_pages(
        &["later", "used"],
        |client: &Client| client.id.to_string(),
        async |page| store.clients(&page).await,
    )
    .await
}

/// Pages of any size have each client once, in the order of the octets of the IDs.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn pages_of_clients_cover_all_once<S: AuthorityStore>(store: S) -> Law {
    let read = async |page| store.clients(&page).await;
    expect_pages(&[], |client: &Client| client.id.to_string(), read).await?;
    for id in SORTED.iter().rev() {
        register(&store, client(id)).await?;
    }
    expect_pages(&SORTED, |client: &Client| client.id.to_string(), read).await
}
