//! Laws of registered clients.

use tower_token_broker::principal::Scopes;

use super::{HOSTILE, Law, MILLISECOND, REFUSED, after, broken, expect_invalid, now, secret};
use crate::connect::{ConnectStore, RegisteredClient};

const ISSUER: &str = "https://login.crm.example";
const REDIRECT: &str = "https://broker.example.com/connect/crm/callback";

fn client(id: &str) -> RegisteredClient {
    RegisteredClient::new(ISSUER, REDIRECT, id, now())
}

fn confidential(id: &str) -> RegisteredClient {
    let secret = secret(&format!("secret of {id}"));
    let client = client(id).scopes(Scopes::parse("b a").unwrap_or(Scopes::none()));
    client.secret(secret, "client_secret_basic", Some(after(90)))
}

/// Fails unless the store has this client.
async fn expect_client<S: ConnectStore>(store: &S, expected: &RegisteredClient) -> Law {
    let found = store.registered_client(&expected.issuer, &expected.client_id).await?;
    let found = found.ok_or_else(|| broken(&format!("no client {:?}", expected.client_id)))?;
    expect_same_client(&found, expected)
}

fn expect_same_client(actual: &RegisteredClient, expected: &RegisteredClient) -> Law {
    let of = |client: &RegisteredClient| {
        let texts = [&client.issuer, &client.redirect_uri, &client.client_id, &client.auth_method];
        let times = (client.created_at, client.secret_expires_at);
        (texts.map(Clone::clone), client.scopes.to_string(), times)
    };
    ensure_eq!(of(actual), of(expected), "the client");
    let same = match (&actual.client_secret, &expected.client_secret) {
        (Some(actual), Some(expected)) => actual.matches(expected),
        (None, None) => true,
        _ => false,
    };
    ensure!(same, "another secret of {:?}", expected.client_id);
    Ok(())
}

/// A client is found as it was stored, with every field, by issuer and ID, octet by octet.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn a_registered_client_keeps_every_field<S: ConnectStore>(store: S) -> Law {
    let mut all = vec![client("public"), confidential("confidential"), confidential("PUBLIC")];
    for text in HOSTILE {
        // No control character is in any of them.
        let mut hostile = RegisteredClient::new(text, text, text, after(1));
        hostile.auth_method = text.into();
        all.push(hostile.clone());
        hostile.issuer = ISSUER.into();
        all.push(hostile.secret(secret(text), text, None));
    }
    for client in &all {
        store.put_registered_client(client).await?;
    }
    for client in &all {
        expect_client(&store, client).await?;
    }
    for (issuer, id) in
        [(ISSUER, "Public"), (ISSUER, "publi"), ("https://LOGIN.crm.example", "public")]
    {
        let found = store.registered_client(issuer, id).await?;
        ensure!(found.is_none(), "{issuer} {id} is found");
    }
    Ok(())
}

/// NUL, long texts and control characters in URIs are refused, and find nothing.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn hostile_registered_clients_are_refused<S: ConnectStore>(store: S) -> Law {
    let changes: [fn(&mut RegisteredClient, &str); 4] = [
        |client, text| client.issuer = text.into(),
        |client, text| client.redirect_uri = text.into(),
        |client, text| client.client_id = text.into(),
        |client, text| client.auth_method = text.into(),
    ];
    for text in REFUSED {
        for (field, change) in changes.iter().enumerate() {
            let mut refused = client("c1");
            change(&mut refused, text);
            let outcome = store.put_registered_client(&refused).await;
            expect_invalid(&outcome, &format!("field {field} with {text:.5?}"))?;
        }
        for (issuer, other) in [(text, "c1"), (ISSUER, text)] {
            let found = store.registered_client(issuer, other).await?;
            ensure!(found.is_none(), "a client of {text:.5?}");
            let found = store.newest_registered_client(issuer, other).await?;
            ensure!(found.is_none(), "a newest client of {text:.5?}");
        }
    }
    for change in changes.iter().take(2) {
        let mut refused = client("c1");
        change(&mut refused, "https://i.example/\r\nx");
        let outcome = store.put_registered_client(&refused).await;
        expect_invalid(&outcome, "a URI with a line feed")?;
    }
    let long = tower_token_broker::Secret::new(vec![7; 16 * 1_024 + 1]);
    let refused = client("c1").secret(long, "client_secret_basic", None);
    expect_invalid(&store.put_registered_client(&refused).await, "a long secret")?;
    ensure!(store.registered_client(ISSUER, "c1").await?.is_none(), "it is stored");
    Ok(())
}

/// Of one issuer and client ID, the last client is kept. Another issuer has its own.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn a_client_that_is_registered_again_is_replaced<S: ConnectStore>(store: S) -> Law {
    store.put_registered_client(&confidential("c1")).await?;
    let mut second = client("c1").secret(secret("another"), "client_secret_post", None);
    (second.created_at, second.redirect_uri) = (after(1), "https://other.example".into());
    store.put_registered_client(&second).await?;
    expect_client(&store, &second).await?;
    let newest = store.newest_registered_client(ISSUER, REDIRECT).await?;
    ensure!(newest.is_none(), "the first one is stored, too");
    // A public one has no secret any more; one of another issuer is another one.
    store.put_registered_client(&client("c1")).await?;
    expect_client(&store, &client("c1")).await?;
    second.issuer = "https://login.mail.example".into();
    store.put_registered_client(&second).await?;
    expect_client(&store, &second).await?;
    expect_client(&store, &client("c1")).await
}

/// The newest client is that of the issuer and the redirect URI, octet by octet.
///
/// # Errors
/// [`ContractError`](crate::contract::ContractError)
pub async fn the_newest_registered_client_is_found<S: ConnectStore>(store: S) -> Law {
    let none = store.newest_registered_client(ISSUER, REDIRECT).await?;
    ensure!(none.is_none(), "an empty store has a client");
    let mut newest = confidential("a");
    newest.created_at = now().plus(MILLISECOND);
    let mut older = client("c");
    older.created_at = now().minus(MILLISECOND);
    let mut of_issuer = client("d");
    (of_issuer.created_at, of_issuer.issuer) = (after(9), "https://LOGIN.crm.example".into());
    let mut of_uri = client("e");
    (of_uri.created_at, of_uri.redirect_uri) = (after(9), REDIRECT.to_uppercase().into());
    for client in [&client("b"), &newest, &older, &of_issuer, &of_uri] {
        store.put_registered_client(client).await?;
    }
    for expected in [&newest, &of_issuer, &of_uri] {
        let found =
            store.newest_registered_client(&expected.issuer, &expected.redirect_uri).await?;
        expect_same_client(&found.ok_or_else(|| broken("no client"))?, expected)?;
    }
    Ok(())
}
