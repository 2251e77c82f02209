//! The accounts of users at the broker, and the client's token request.

use std::net::SocketAddr;

use serde_json::Value;
use token_broker_authority::sign_in::{Password, Passwords, PasswordsOptions, new_subject};
use token_broker_sql::SqlStore;
use token_broker_store::authority::{AccountCreation, AccountStore as _, NewAccount, UserName};
use tower_token_broker::{Secret, clock::Clock};

use crate::{DemoError, form, raw_http::exchange, upstream::random};

/// The ID of the client.
pub(crate) const CLIENT_ID: &str = "demo-client";
/// The redirect URI of the client. No one listens there: the demo reads where it leads.
pub(crate) const REDIRECT_URI: &str = "http://127.0.0.1/callback";
/// The proof that the one who redeems a code is the one who requested it (RFC 7636).
pub(crate) const VERIFIER: &str = "the-demo-keeps-no-secret-so-this-one-is-fixed";

/// A user who signs in.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) user: &'static str,
    pub(crate) password: String,
    /// The subject in tokens and records.
    pub(crate) subject: Box<str>,
}

impl Login {
    /// Creates the account of a user, with a random password.
    pub(crate) async fn create(store: &SqlStore, user: &'static str) -> Result<Self, DemoError> {
        let text = random(8);
        let parts = [text.get(..4), text.get(4..8), text.get(8..12), text.get(12..)];
        let text = parts.map(Option::unwrap_or_default).join("-");
        let name = UserName::parse(user).map_err(DemoError::new)?;
        let password = Password::new(&text, user).map_err(DemoError::new)?;
        let hash = Passwords::new(PasswordsOptions::default()).hash(&password).await;
        let hash = Secret::from_text(hash.map_err(DemoError::new)?);
        let account = NewAccount::new(&new_subject(), name, hash, Clock::system().now());
        match store.create_account(&account).await.map_err(DemoError::new)? {
            AccountCreation::Created(account) => {
                Ok(Self { user, password: text, subject: account.subject })
            }
            AccountCreation::NameTaken => Err(DemoError::new("the user has an account already")),
        }
    }
}

/// Redeems a code at the token endpoint, as the client does, for its broker token.
pub(crate) async fn redeem(to: SocketAddr, code: &str) -> Result<String, DemoError> {
    let body = form::encode(&[
        ("grant_type", "authorization_code"),
        ("client_id", CLIENT_ID),
        ("code", code),
        ("redirect_uri", REDIRECT_URI),
        ("code_verifier", VERIFIER),
    ]);
    let response = exchange(to, "/oauth/token", &[], Some(&body)).await?;
    let body: Option<Value> = response.body().parse().ok();
    let token = body.and_then(|body| Some(body.get("access_token")?.as_str()?.to_owned()));
    token.ok_or_else(|| DemoError::new(format!("no token came back, but {}", response.status)))
}
