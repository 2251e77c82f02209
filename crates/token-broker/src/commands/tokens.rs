//! `token-broker tokens`.

use std::time::Duration;

use token_broker_authority::issue::Mint;
use token_broker_store::authority::ClientId;
use tower_token_broker::{
    audit::{IssuedToken, Note},
    clock::Timestamp,
    principal::{Resource, Scopes, User},
    revocation::RevocationTarget,
};

use super::{CommandError, Session, issuer, server};
use crate::{
    configuration::Tokens,
    escaped::escaped,
    gateway::{scopes_of, trial_issuer},
};

impl Session<'_> {
    /// Ends broker tokens.
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn revoke_tokens(
        &self,
        target: RevocationTarget,
        shown: &str,
    ) -> Result<String, CommandError> {
        let noted = self.note("tokens revoke", Some(shown)).await;
        // With accounts of its own: also what clients would obtain with their refresh tokens.
        let has_families = matches!(self.configuration.tokens, Tokens::Login(_));
        match &target {
            RevocationTarget::User(user) if has_families => {
                self.end_access(Some(user), None).await?;
            }
            RevocationTarget::Client { id, .. } if has_families => {
                self.end_access(None, Some(&ClientId::new(id))).await?;
            }
            RevocationTarget::Everything if has_families => {
                self.end_access(None, None).await?;
            }
            RevocationTarget::Token { .. }
            | RevocationTarget::Family { .. }
            | RevocationTarget::Client { .. }
            | RevocationTarget::User(_)
            | RevocationTarget::Grant(_)
            | RevocationTarget::Server(_)
            | RevocationTarget::Everything
            | _ => self.revoke(target).await?,
        }
        self.has_revoked().await;
        noted.map_err(CommandError::done_not_recorded)?;
        Ok(format!("revoked: {}, issuer {}", escaped(shown), issuer(self.configuration)))
    }

    /// Issues a broker token for trials.
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn issue(&self, new: &NewToken<'_>) -> Result<Issued, CommandError> {
        let server = server(self.configuration, new.server)?;
        let issuer = trial_issuer(self.configuration)?;
        let scopes = match new.scopes {
            Some(scopes) => {
                Scopes::parse(scopes).map_err(|error| CommandError::Argument(error.to_string()))?
            }
            None => scopes_of(server),
        };
        let mint = Mint::for_user(new.user)
            .client("trial")
            .resource(&server.resource)
            .scopes(scopes.clone())
            .lifetime(new.lifetime);
        let token = issuer.mint(mint).map_err(|error| CommandError::Argument(error.to_string()))?;
        let user = User::new(issuer.name(), new.user);
        let issued = IssuedToken {
            user: &user,
            client: "trial",
            resource: &server.resource,
            scopes: &scopes,
            token: token.id(),
            family: None,
            expires: token.expires_at(),
        };
        self.broker.audit_log().note(&self.initiator, Note::token_issued(issued)).await?;
        let (id, resource) = (token.id().to_owned(), server.resource.clone());
        let expires_at = token.expires_at();
        Ok(Issued { token: token.into_text(), id, resource, scopes, expires_at })
    }
}

/// A broker token to issue.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "the arguments of a command")]
pub struct NewToken<'a> {
    /// The subject of the user.
    pub user: &'a str,
    /// The name of the server.
    pub server: &'a str,
    /// The scopes; all that the server's rules name if there are none.
    pub scopes: Option<&'a str>,
    /// The lifetime.
    pub lifetime: Duration,
}

/// An issued broker token.
#[non_exhaustive]
pub struct Issued {
    /// The token.
    pub token: String,
    /// Its ID.
    pub id: String,
    /// The resource that it is valid for.
    pub resource: Resource,
    /// Its scopes.
    pub scopes: Scopes,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// Does not print the token.
impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("id", &self.id).finish_non_exhaustive()
    }
}
