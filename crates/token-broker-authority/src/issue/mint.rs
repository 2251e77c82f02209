//! Mints one broker token.

use std::{borrow::Borrow, fmt, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use tower_token_broker::{
    Secret,
    authenticate::jwt::Keys,
    clock::{Clock, Timestamp},
    principal::{Actor, Resource, Scopes},
    revocation::Revocations,
};

use super::{KeyError, SigningKey, SigningKeys};

/// Issuer of broker tokens, with one name and one set of keys.
#[derive(Debug)]
#[must_use = "does nothing unless it is used"]
pub struct Issuer {
    name: Box<str>,
    keys: SigningKeys,
    clock: Clock,
}

impl Issuer {
    /// Default lifetime of a token.
    pub const LIFETIME: Duration = Duration::from_secs(10 * 60);

    /// Creates an issuer. `name` is the `iss` of its tokens.
    pub fn new(name: &str, keys: SigningKeys) -> Self {
        Self { name: name.into(), keys, clock: Clock::system() }
    }

    /// Replaces the clock of the system.
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Returns the `iss` of the tokens.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the public keys for verifiers in this process. Clones follow each rotation.
    pub const fn keys(&self) -> &Keys {
        self.keys.keys()
    }

    /// Returns the public keys as a JWK set for verifiers in other processes. It has each formerly
    /// active key until its grace ends.
    pub fn jwks(&self) -> String {
        self.keys.jwks(self.clock.read())
    }

    /// Makes this key the active one. Tokens signed with the old one remain valid for `grace`.
    ///
    /// # Errors
    /// As [`SigningKeys::rotate`].
    pub fn rotate(&mut self, next: SigningKey, grace: Duration) -> Result<(), KeyError> {
        self.keys.rotate(next, self.clock.read(), grace)
    }

    /// Signs a JWT of these claims with the active key. See [`SigningKey::sign_jwt`].
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn sign_jwt(&self, claims: &str) -> Result<Secret, KeyError> {
        self.keys.active().sign_jwt(claims)
    }

    /// Mints a token.
    ///
    /// # Errors
    /// A required claim is missing, or the lifetime is not allowed.
    pub fn mint(&self, mint: impl Borrow<Mint>) -> Result<BrokerToken, MintError> {
        mint.borrow().sign(&self.name, self.keys.active(), self.clock.now())
    }
}

impl Mint {
    /// Mints the token with this key, at this time.
    pub(crate) fn sign(
        &self,
        issuer: &str,
        key: &SigningKey,
        now: Timestamp,
    ) -> Result<BrokerToken, MintError> {
        let mint = self;
        let required = |name: &'static str, value: Option<&str>| match value {
            Some(value) if !value.is_empty() => Ok(Value::from(value)),
            _ => Err(MintError::Missing(name)),
        };
        if mint.lifetime.as_secs() == 0 || mint.lifetime > Revocations::RETENTION {
            return Err(MintError::Lifetime);
        }
        let mut random = [0; 16];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| KeyError::Random)?;
        let id = URL_SAFE_NO_PAD.encode(random);
        let issued = now.unix_seconds();
        let expires = issued.saturating_add(mint.lifetime.as_secs());
        let mut claims = Map::new();
        claims.insert("iss".into(), issuer.into());
        claims.insert(
            "aud".into(),
            required("resource", mint.resource.as_ref().map(Resource::as_str))?,
        );
        claims.insert("sub".into(), required("user", Some(&mint.subject))?);
        claims.insert("client_id".into(), required("client", mint.client.as_deref())?);
        claims.insert("jti".into(), id.as_str().into());
        claims.insert("iat".into(), issued.into());
        claims.insert("nbf".into(), issued.into());
        claims.insert("exp".into(), expires.into());
        if !mint.scopes.is_empty() {
            claims.insert("scope".into(), mint.scopes.to_string().into());
        }
        if let Some(family) = &mint.family {
            claims.insert("token_family".into(), required("family", Some(family))?);
        }
        if let Some(actor) = &mint.actor {
            claims.insert("act".into(), act(actor));
        }
        let secret = key.sign_typed("at+jwt", &Value::Object(claims).to_string())?;
        Ok(BrokerToken { secret, id: id.into(), expires_at: Timestamp::from_unix_seconds(expires) })
    }
}

fn act(actor: &Actor) -> Value {
    let mut object = json!({"iss": actor.user().issuer(), "sub": actor.user().subject()});
    if let (Some(client), Some(members)) = (actor.client(), object.as_object_mut()) {
        members.insert("client_id".into(), client.into());
    }
    if let (Some(before), Some(members)) = (actor.before(), object.as_object_mut()) {
        members.insert("act".into(), act(before));
    }
    object
}

/// Claims of a token to mint.
#[derive(Clone, Debug)]
#[must_use = "nothing is minted before `Issuer::mint`"]
pub struct Mint {
    subject: Box<str>,
    client: Option<Box<str>>,
    resource: Option<Resource>,
    scopes: Scopes,
    lifetime: Duration,
    family: Option<Box<str>>,
    actor: Option<Actor>,
}

impl Mint {
    /// Begins a token for this user (`sub`).
    pub fn for_user(subject: &str) -> Self {
        Self {
            subject: subject.into(),
            client: None,
            resource: None,
            scopes: Scopes::none(),
            lifetime: Issuer::LIFETIME,
            family: None,
            actor: None,
        }
    }

    /// Sets the client that holds the token (`client_id`).
    pub fn client(mut self, client: &str) -> Self {
        self.client = Some(client.into());
        self
    }

    /// Sets the resource for which the token is valid (`aud`).
    pub fn resource(mut self, resource: &Resource) -> Self {
        self.resource = Some(resource.clone());
        self
    }

    /// Sets the scopes (`scope`).
    pub fn scopes(mut self, scopes: Scopes) -> Self {
        self.scopes = scopes;
        self
    }

    /// Sets the lifetime, in whole seconds.
    pub const fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Sets the family: all tokens of one authorization, which are revoked together
    /// (`token_family`).
    pub fn family(mut self, family: &str) -> Self {
        self.family = Some(family.into());
        self
    }

    /// Sets the actor that acts for the user (`act`).
    pub fn actor(mut self, actor: Actor) -> Self {
        self.actor = Some(actor);
        self
    }
}

/// Minted token, with its ID and the time when it ends.
#[must_use = "a token is of use only to its client"]
pub struct BrokerToken {
    secret: Secret,
    id: Box<str>,
    expires_at: Timestamp,
}

impl BrokerToken {
    /// Returns the token.
    pub const fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Returns the token for its client.
    pub fn into_secret(self) -> Secret {
        self.secret
    }

    /// Returns the token as text for its client. This copy is not zeroized.
    pub fn into_text(self) -> String {
        #[expect(clippy::disallowed_methods, reason = "a minted token is returned to its client")]
        self.secret.expose_text().unwrap_or_default().into()
    }

    /// Returns the `jti`, which revokes the token.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns when the token ends.
    pub const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
}

impl fmt::Debug for BrokerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerToken").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The reasons why no token was minted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MintError {
    /// A required claim is missing.
    #[error("a broker token must name its {0}")]
    Missing(&'static str),
    /// The lifetime is less than a second, or longer than a revocation is kept.
    #[error("a broker token lives for at least one second and at most 24 hours")]
    Lifetime,
    /// The key cannot sign.
    #[error(transparent)]
    Key(#[from] KeyError),
}

#[cfg(test)]
mod tests {
    use tower_token_broker::{
        authenticate::{JwtVerifier, PresentedToken, VerifyRequest, VerifyToken},
        principal::{Principal, User},
        refusal::Reason,
    };

    use super::*;
    use crate::issue::Algorithm;

    const ISSUER: &str = "https://broker.example.com";

    fn crm() -> Resource {
        Resource::parse("https://broker.example.com/crm/mcp").unwrap()
    }

    fn clock() -> Clock {
        Clock::manual(Timestamp::from_unix_seconds(1_800_000_000))
    }

    /// The token of a thief.
    fn copy(key: &SigningKey) -> SigningKey {
        SigningKey::from_pkcs8(key.algorithm(), key.pkcs8().clone()).unwrap()
    }

    /// A verifier and the clock of its broker.
    struct Checker {
        verifier: JwtVerifier,
        clock: Clock,
    }

    impl Checker {
        fn new(keys: &Keys, clock: &Clock) -> Self {
            Self { verifier: JwtVerifier::new(ISSUER, keys), clock: clock.clone() }
        }

        async fn verify(&self, token: BrokerToken) -> Result<Principal, Reason> {
            self.verify_text(token.into_secret()).await
        }

        async fn verify_text(&self, token: Secret) -> Result<Principal, Reason> {
            let (token, resource) = (PresentedToken::new(token), crm());
            let request = VerifyRequest::new(&token, &resource, &self.clock);
            let verified = self.verifier.verify(&request).await;
            verified.map(|verified| Principal::for_test(&verified)).map_err(|error| error.reason())
        }
    }

    #[tokio::test]
    async fn the_verifier_reads_back_what_was_minted() {
        for algorithm in [Algorithm::Es256, Algorithm::EdDsa] {
            let clock = clock();
            let issuer = Issuer::new(ISSUER, SigningKeys::generate(algorithm).unwrap())
                .with_clock(clock.clone());
            let published = Keys::parse(issuer.jwks().as_bytes()).unwrap();
            let checker = Checker::new(&published, &clock);
            let first = Actor::new(User::new("https://other.example", "first"), None);
            let actor = Actor::new(User::new(ISSUER, "agent"), Some(first)).with_client("agents");
            let scopes = Scopes::parse("crm:read crm:write").unwrap();
            let mint =
                Mint::for_user("alice").client("inspector").resource(&crm()).scopes(scopes.clone());
            let token = issuer.mint(mint.family("family-1").actor(actor.clone())).unwrap();
            let (id, expires_at) = (token.id().to_owned(), token.expires_at());
            let principal = checker.verify(token).await.unwrap();
            assert_eq!((principal.subject(), principal.client()), ("alice", "inspector"));
            assert_eq!((principal.token_id(), principal.family()), (id.as_str(), Some("family-1")));
            assert_eq!((principal.scopes(), principal.actor()), (&scopes, Some(&actor)));
            assert_eq!(principal.expires_at(), expires_at);
            assert_eq!(
                principal.issued_at().until(expires_at),
                Duration::from_secs(600),
                "ten minutes by default"
            );
        }
    }

    #[tokio::test]
    async fn what_is_signed_for_elsewhere_is_no_broker_token() {
        let issuer = Issuer::new(ISSUER, SigningKeys::generate(Algorithm::Es256).unwrap());
        let checker = Checker::new(issuer.keys(), &Clock::system());
        let minted = issuer
            .mint(Mint::for_user("alice").client("inspector").resource(&crm()))
            .unwrap()
            .into_text();
        let claims = URL_SAFE_NO_PAD.decode(minted.split('.').nth(1).unwrap()).unwrap();
        let elsewhere = issuer.sign_jwt(std::str::from_utf8(&claims).unwrap()).unwrap();
        let refused = checker.verify_text(elsewhere).await.err();
        assert_eq!(refused, Some(Reason::JwtType), "the same claims, another type");
    }

    #[tokio::test]
    async fn a_rotated_key_remains_valid_for_its_grace() {
        let clock = clock();
        let mut issuer = Issuer::new(ISSUER, SigningKeys::generate(Algorithm::Es256).unwrap())
            .with_clock(clock.clone());
        let checker = Checker::new(issuer.keys(), &clock);
        let mint = Mint::for_user("alice").client("inspector").resource(&crm());
        let (old, old_later) = (issuer.mint(&mint).unwrap(), issuer.mint(&mint).unwrap());
        assert_ne!(old.id(), old_later.id());
        issuer
            .rotate(SigningKey::generate(Algorithm::EdDsa).unwrap(), Duration::from_secs(60))
            .unwrap();
        assert!(checker.verify(issuer.mint(&mint).unwrap()).await.is_ok());
        assert!(checker.verify(old).await.is_ok());
        clock.advance(Duration::from_secs(60));
        assert_eq!(checker.verify(old_later).await.err(), Some(Reason::JwtKeyRetired), "B061");
        assert!(checker.verify(issuer.mint(&mint).unwrap()).await.is_ok());
    }

    #[tokio::test]
    async fn b061_a_retired_key_stays_retired_over_later_rotations() {
        let clock = clock();
        let first = SigningKey::generate(Algorithm::EdDsa).unwrap();
        let mut issuer =
            Issuer::new(ISSUER, SigningKeys::new(copy(&first)).unwrap()).with_clock(clock.clone());
        let checker = Checker::new(issuer.keys(), &clock);
        let mint = Mint::for_user("alice").client("inspector").resource(&crm());
        let rotate = |issuer: &mut Issuer| {
            issuer
                .rotate(SigningKey::generate(Algorithm::EdDsa).unwrap(), Duration::from_secs(60))
                .unwrap();
        };
        let stolen =
            Issuer::new(ISSUER, SigningKeys::new(copy(&first)).unwrap()).with_clock(clock.clone());
        rotate(&mut issuer);
        assert!(issuer.jwks().contains(first.id()), "within its grace");
        clock.advance(Duration::from_secs(60));
        assert!(!issuer.jwks().contains(first.id()), "published no longer than its grace");
        for rotation in 2..=Keys::MAX_KEYS + 2 {
            rotate(&mut issuer);
            clock.advance(Duration::from_secs(60));
            if rotation % 40 == 2 {
                let token = stolen.mint(&mint).unwrap();
                assert_eq!(
                    checker.verify(token).await.err(),
                    Some(Reason::JwtKeyRetired),
                    "{rotation} rotations"
                );
            }
        }
        assert_eq!(
            issuer.keys().len(),
            2,
            "the active one, and the last, which the next rotation takes out"
        );
    }

    #[test]
    fn a_key_that_was_retired_does_not_sign_again() {
        let first = SigningKey::generate(Algorithm::EdDsa).unwrap();
        let mut issuer =
            Issuer::new(ISSUER, SigningKeys::new(copy(&first)).unwrap()).with_clock(clock());
        issuer
            .rotate(SigningKey::generate(Algorithm::EdDsa).unwrap(), Duration::from_secs(60))
            .unwrap();
        assert_eq!(issuer.rotate(first, Duration::from_secs(60)), Err(KeyError::Retired));
    }

    #[test]
    fn what_the_verifier_would_refuse_is_not_minted() {
        let issuer = Issuer::new(ISSUER, SigningKeys::generate(Algorithm::EdDsa).unwrap());
        let whole = || Mint::for_user("alice").client("inspector").resource(&crm());
        for (mint, error) in [
            (Mint::for_user("alice").client("inspector"), MintError::Missing("resource")),
            (Mint::for_user("alice").resource(&crm()), MintError::Missing("client")),
            (Mint::for_user("").client("inspector").resource(&crm()), MintError::Missing("user")),
            (whole().family(""), MintError::Missing("family")),
            (whole().lifetime(Duration::from_millis(999)), MintError::Lifetime),
            (whole().lifetime(Duration::from_secs(24 * 3600 + 1)), MintError::Lifetime),
        ] {
            assert_eq!(issuer.mint(&mint).err(), Some(error));
        }
    }
}
