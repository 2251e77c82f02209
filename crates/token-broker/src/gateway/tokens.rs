//! The verifier of the tokens that clients show, as configured.

use std::fs;

use http::Uri;
use token_broker_authority::{
    Authority,
    issue::{Algorithm, Issuer, SigningKey, SigningKeys},
};
use token_broker_outbound::GuardedClient;
use token_broker_sql::SqlStore;
use tower_token_broker::{
    Broker, Secret,
    authenticate::{
        VerifyError, VerifyRequest, VerifyToken,
        introspection::{Introspection, IntrospectionClient},
        jwt::{Algorithms, EndpointError, JwtVerifier, RemoteKeys, TokenProfile},
    },
    principal::Verified,
};

use super::GatewayError;
use crate::configuration::{Configuration, Profile, Tokens};

/// Verifies tokens in one of the configured ways.
#[derive(Clone, Debug)]
pub(super) enum Verifier {
    Jwt(JwtVerifier),
    Introspection(Introspection<GuardedClient>),
}

impl Verifier {
    pub(super) fn new(
        broker: &Broker,
        configuration: &Configuration,
        client: GuardedClient,
        authority: Option<&Authority<SqlStore>>,
    ) -> Result<Self, GatewayError> {
        match &configuration.tokens {
            Tokens::Jwt { issuer, profile, key_set, algorithms } => {
                let keys = match key_set {
                    Some(url) => RemoteKeys::new(broker, client, url.clone()),
                    None => RemoteKeys::discover(broker, client, issuer)
                        .map_err(|error| wrong(&error))?,
                };
                let keys = keys.algorithms(Algorithms::of(algorithms.iter().copied()));
                let verifier = JwtVerifier::new(issuer, keys).profile(token_profile(profile));
                Ok(Self::Jwt(verifier))
            }
            Tokens::Introspection { .. } => {
                introspection(broker, &configuration.tokens, client).map(Self::Introspection)
            }
            Tokens::Trial { .. } => {
                let issuer = trial_issuer(configuration)?;
                Ok(Self::Jwt(JwtVerifier::new(issuer.name(), issuer.keys())))
            }
            Tokens::Login(_) => {
                let authority = authority.ok_or(GatewayError::NoTrial)?;
                Ok(Self::Jwt(JwtVerifier::new(authority.issuer().as_str(), authority.keys())))
            }
        }
    }
}

fn wrong(error: &EndpointError) -> GatewayError {
    GatewayError::Tokens(error.to_string())
}

fn introspection(
    broker: &Broker,
    tokens: &Tokens,
    client: GuardedClient,
) -> Result<Introspection<GuardedClient>, GatewayError> {
    let Tokens::Introspection { issuer, endpoint, client_id, client_secret, audience, clients } =
        tokens
    else {
        return Err(GatewayError::NoTrial);
    };
    let us = IntrospectionClient::basic(client_id, client_secret.clone());
    let endpoint = endpoint.to_string();
    let mut verifier =
        Introspection::new(broker, client, issuer, &endpoint, us).map_err(|error| wrong(&error))?;
    if let Some(audience) = audience {
        verifier = verifier.audience(audience);
    }
    if !clients.is_empty() {
        verifier = verifier.only_clients(clients.iter().map(String::as_str));
    }
    Ok(verifier)
}

fn token_profile(profile: &Profile) -> TokenProfile {
    match profile {
        Profile::Rfc9068 { audience: None } => TokenProfile::rfc9068(),
        Profile::Rfc9068 { audience: Some(audience) } => TokenProfile::rfc9068().audience(audience),
        Profile::Entra(audience) => TokenProfile::entra(audience),
        Profile::Okta(audience) => TokenProfile::okta(audience),
        Profile::Auth0(audience) => TokenProfile::auth0(audience),
        Profile::Keycloak(audience) => TokenProfile::keycloak(audience),
        Profile::Cognito(clients) => TokenProfile::cognito(clients.iter().map(String::as_str)),
    }
}

/// Returns the issuer of tokens for trials: its name is the public URL.
///
/// # Errors
/// The signing key cannot be read, or tokens are not those of a trial.
pub fn trial_issuer(configuration: &Configuration) -> Result<Issuer, GatewayError> {
    let Tokens::Trial { signing_key_file: file } = &configuration.tokens else {
        return Err(GatewayError::NoTrial);
    };
    let unreadable =
        |error: String| GatewayError::SigningKey { file: file.clone(), error: error.into() };
    let document = fs::read(file).map_err(|error| unreadable(error.to_string()))?;
    let key = SigningKey::from_pkcs8(Algorithm::Es256, Secret::new(document))
        .map_err(|error| unreadable(error.to_string()))?;
    let keys = SigningKeys::new(key).map_err(|error| unreadable(error.to_string()))?;
    Ok(Issuer::new(&origin(&configuration.public_url), keys))
}

/// Returns scheme and host of a URL.
pub(crate) fn origin(url: &Uri) -> String {
    let (scheme, authority) = (url.scheme_str(), url.authority());
    format!("{}://{}", scheme.unwrap_or_default(), authority.map_or("", |host| host.as_str()))
}

impl VerifyToken for Verifier {
    fn recall(&self, request: &VerifyRequest<'_>) -> Option<Result<Verified, VerifyError>> {
        match self {
            Self::Jwt(verifier) => verifier.recall(request),
            Self::Introspection(verifier) => verifier.recall(request),
        }
    }

    async fn verify(&self, request: &VerifyRequest<'_>) -> Result<Verified, VerifyError> {
        match self {
            Self::Jwt(verifier) => verifier.verify(request).await,
            Self::Introspection(verifier) => verifier.verify(request).await,
        }
    }

    fn authorization_servers(&self) -> &[Box<str>] {
        match self {
            Self::Jwt(verifier) => verifier.authorization_servers(),
            Self::Introspection(verifier) => verifier.authorization_servers(),
        }
    }
}
