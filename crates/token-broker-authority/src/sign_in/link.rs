//! Parts of operators' commands: the one-time link for the first account, and new subjects.

use std::time::Duration;

use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use token_broker_store::{StoreError, authority::AuthorityStore};
use tower_token_broker::{Secret, clock::Timestamp};

use super::BrowserSecret;
use crate::pages::Site;

/// Lifetime of a link for the first account.
const LINK_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// Makes the one-time link for the first account, and returns its URL. It replaces the last one,
/// works once, and ends after an hour. Print it to the operator's terminal; never log it.
///
/// # Errors
/// [`StoreError`]: there is no link.
///
/// # Cancellation
/// The last link may have been replaced.
pub async fn first_account_link<S: AuthorityStore>(
    store: &S,
    site: &Site,
    now: Timestamp,
) -> Result<Secret, StoreError> {
    let secret = BrowserSecret::generate();
    let hash = store.lookup_key().await?.first_account_link(&secret.to_secret());
    store.put_first_account_link(&hash, now.plus(LINK_LIFETIME)).await?;
    let path = site.path("/first-account");
    Ok(Secret::from_text(format!("{}{path}?link={}", site.origin(), secret.as_str())))
}

/// Returns the subject of a new account: 128 random bits, in base64url.
///
/// # Panics
/// The system's random number generator fails.
pub fn new_subject() -> Box<str> {
    random_id().into()
}

/// Returns 128 random bits: the subject of an account, or the ID of a session.
pub(super) fn random_id() -> String {
    let mut octets = [0; 16];
    rand::fill(&mut octets)
        .expect("the system's source of randomness does not fail once it is seeded");
    URL_SAFE_NO_PAD.encode(octets)
}
