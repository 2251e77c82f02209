//! Broker tokens of the run, and the keys with which the proxies verify them.

use std::{fs, path::Path, rc::Rc, time::Duration};

use token_broker_authority::issue::{Algorithm, Issuer, Mint, SigningKey, SigningKeys};
use token_broker_benches::fixtures::{ISSUER, SCOPES, resource};
use tower_token_broker::principal::Scopes;

use super::Outcome;

/// The file of the signing key, for the gateway.
pub(crate) const SIGNING_KEY: &str = "signing.key";

#[derive(Debug)]
pub(crate) struct Tokens {
    issuer: Issuer,
}

impl Tokens {
    /// Generates keys, and writes them into this folder.
    #[expect(clippy::disallowed_methods, reason = "the gateway reads the key of this run")]
    pub(crate) fn new(dir: &Path) -> Outcome<Self> {
        let key = SigningKey::generate(Algorithm::Es256)?;
        fs::write(dir.join(SIGNING_KEY), key.pkcs8().expose())?;
        let issuer = Issuer::new(ISSUER, SigningKeys::new(key)?);
        fs::write(dir.join("jwks.json"), issuer.jwks())?;
        Ok(Self { issuer })
    }

    /// Mints so many new tokens, each for another user.
    pub(crate) fn mint(&self, count: usize) -> Outcome<Rc<[String]>> {
        let (resource, scopes) = (resource(), Scopes::parse(SCOPES)?);
        let tokens = (0..count).map(|number| {
            let mint = Mint::for_user(&user(number))
                .client("bench")
                .resource(&resource)
                .scopes(scopes.clone());
            Ok(self.issuer.mint(mint.lifetime(Duration::from_secs(12 * 3600)))?.into_text())
        });
        tokens.collect()
    }
}

/// Returns the subject of the token with this number.
pub(crate) fn user(number: usize) -> String {
    format!("user-{number:06}")
}
