//! Clients: configured by the operator, described by a document at the URL that is their ID, or
//! registered by themselves.

pub(crate) mod assertion;
pub(crate) mod authentication;
mod configured;
mod directory;
mod document;
mod document_fetch;
mod document_url;
mod documents;
mod fetch_quotas;
mod host;
mod key_sets;
mod least_recently_used;
mod metadata;
#[cfg(test)]
mod metadata_tests;
mod redirect_uri;
#[cfg(test)]
mod redirect_uri_tests;
mod registration;
mod used_assertions;

/// The parts that `readers` exposes.
#[cfg(feature = "fuzzing")]
pub(crate) mod readers {
    pub(crate) use super::{
        authentication::Presented,
        metadata::{ClientMetadata, parse},
    };
}

use std::fmt;

use token_broker_store::authority::{ClientAuthMethod, ClientId, ClientKeys, StoredHash};
use tower_token_broker::{Secret, clock::Timestamp};

pub use self::{
    configured::{ConfiguredClient, ConfiguredClientError},
    documents::{ClientDocuments, DocumentLimits},
    redirect_uri::{RedirectUri, RedirectUriError, RedirectUris, VerifiedRedirect},
    registration::RegistrationLimits,
};
pub(crate) use self::{
    directory::{ClientError, Directory},
    registration::Registrar,
};

/// A client, wherever it is described.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) id: ClientId,
    /// As the client claims it; of a configured client, as the operator wrote it.
    pub(crate) name: Option<Box<str>>,
    pub(crate) origin: ClientOrigin,
    pub(crate) redirect_uris: RedirectUris,
    pub(crate) authentication: Authentication,
}

/// Where a client is described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClientOrigin {
    Configured,
    /// A metadata document at this host.
    Document {
        host: Box<str>,
    },
    /// It registered itself, at this time.
    Registered {
        at: Timestamp,
    },
}

/// How a client authenticates.
#[derive(Clone)]
pub(crate) enum Authentication {
    /// It does not: a public client.
    None,
    /// By a secret of the configuration.
    Secret(Secret),
    /// By a secret whose keyed hash is stored.
    StoredSecret(StoredHash),
    /// By an assertion that one of these keys signed.
    PrivateKeyJwt(ClientKeys),
}

impl Authentication {
    /// Returns the method of a client that registered itself.
    pub(crate) fn of_registered(client: &token_broker_store::authority::Client) -> Option<Self> {
        match (client.auth_method, &client.secret, &client.keys) {
            (ClientAuthMethod::None, None, _) => Some(Self::None),
            (
                ClientAuthMethod::ClientSecretBasic | ClientAuthMethod::ClientSecretPost,
                Some(secret),
                _,
            ) => Some(Self::StoredSecret(secret.clone())),
            (ClientAuthMethod::PrivateKeyJwt, _, Some(keys)) => {
                Some(Self::PrivateKeyJwt(keys.clone()))
            }
            _ => None,
        }
    }
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Secret(_) => "Secret",
            Self::StoredSecret(_) => "StoredSecret",
            Self::PrivateKeyJwt(_) => "PrivateKeyJwt",
        })
    }
}
