//! The grant of one user: a substitute for the page where users connect their accounts.

use std::{error::Error, time::Duration};

use token_broker_store::{AccessToken, Account, Grant, GrantKey};
use token_broker_upstream::prelude::*;
use tower_token_broker::{prelude::*, principal::GrantId};

const LOGIN: &str = "https://login.upstream.example";
const SCOPE: &str = "read";

/// Returns a credential source in which alice has a grant, with a token that is valid for an hour.
/// Every other user must connect an account first.
///
/// # Errors
/// The configuration is invalid.
pub fn of_alice(
    broker: &Broker,
    issuer: &str,
    token: String,
    upstream: Upstream,
    guard: &Guard,
) -> Result<StoredGrants<MemoryGrants>, Box<dyn Error>> {
    let scopes = Scopes::parse(SCOPE)?;
    let now = broker.clock().now();
    let expires_at = now.plus(Duration::from_secs(3600));
    let token = AccessToken::new(Secret::from_text(token), scopes.clone(), now, expires_at);
    let alice = User::new(issuer, "alice");
    let key = GrantKey::new(alice, upstream.name(), Account::default_account());
    let grant = Grant::new(GrantId::new("alice-1"), key, LOGIN).granted(scopes.clone());
    let grants = MemoryGrants::new();
    grants.insert(grant.access_token(token))?;

    // Refreshes the token when it expires.
    let client = ClientAuthentication::basic("broker", Secret::from_text("from a file".into()));
    let endpoint = format!("{LOGIN}/token").parse()?;
    let server = AuthorizationServer::new(LOGIN, endpoint, client).scopes(scopes);
    let connect = format!("https://broker.example.com/connect/{}", upstream.name());
    let client = GuardedClient::new(guard)?;
    let credentials = StoredGrants::new(broker, grants, upstream, server, client);
    Ok(credentials.connect_url(move |_| connect.as_str().into()))
}
