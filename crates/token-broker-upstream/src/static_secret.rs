//! One secret of the operator's for all callers: an API key, the token of a service account.

use http::HeaderName;
use tower_token_broker::{
    Secret,
    audit::Trail,
    exchange::{Credential, CredentialError, ProvideCredential, Upstream},
    principal::{Principal, Scopes},
};

/// Gives one configured secret for one upstream, as `Authorization: Bearer` or in a header of its own.
///
/// Every caller that the policy lets through acts upstream as the owner of this secret.
///
/// # Example
/// ```
/// use token_broker_upstream::StaticSecret;
/// use tower_token_broker::{Secret, exchange::{ProvideCredential, Upstream}};
///
/// let upstream = Upstream::parse("search", "https://mcp.search.example/mcp")?;
/// let key = StaticSecret::new(Secret::from_text("from a file".into()), upstream)
///     .in_header(http::HeaderName::from_static("x-api-key"));
/// assert_eq!(key.upstream().name(), "search");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a provider that is put into no exchange layer gives nothing"]
pub struct StaticSecret {
    upstream: Upstream,
    credential: Credential,
}

impl StaticSecret {
    /// This secret for this upstream, sent as `Authorization: Bearer`.
    pub fn new(secret: Secret, upstream: Upstream) -> Self {
        let credential = Credential::vouch(secret, upstream.origin().clone());
        Self { upstream, credential }
    }

    /// Sent in this field instead, as it is.
    pub fn in_header(mut self, name: HeaderName) -> Self {
        self.credential = self.credential.in_header(name);
        self
    }

    /// With these scopes, as whoever issued the secret set them: what a rule needs beyond them is refused, and the audit
    /// names them. Without this, nothing is known of its scopes, and what rules need is not compared.
    pub fn scopes(mut self, scopes: Scopes) -> Self {
        self.credential = self.credential.with_scopes(scopes);
        self
    }

    fn covering(&self, need: &Scopes) -> Result<Credential, CredentialError> {
        let known = self.credential.scopes();
        if known.is_empty() || known.contains_all(need) {
            return Ok(self.credential.clone());
        }
        Err(CredentialError::ScopeRequired { missing: crate::scopes::missing(need, known), connect_url: None })
    }
}

impl ProvideCredential for StaticSecret {
    fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    fn recall(&self, _: &Principal, need: &Scopes) -> Option<Credential> {
        self.covering(need).ok()
    }

    async fn credential(&self, _: &Principal, need: &Scopes, _: &Trail) -> Result<Credential, CredentialError> {
        self.covering(need)
    }

    /// There is no other to be had: it stays, and the operator is told.
    async fn refused(&self, _: &Credential) {
        tracing::error!(server.name = self.upstream.name(), "the upstream refuses the configured secret; replace it");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tower_token_broker::{
        audit::AuditLog,
        clock::Timestamp,
        principal::{Resource, TokenTimes, User, Verified},
    };

    use super::*;

    fn anyone() -> Principal {
        let resource = Resource::parse("https://broker.example.com/search/mcp").unwrap();
        let issued_at = Timestamp::from_unix_seconds(1_800_000_000);
        let times = TokenTimes { id: "t", issued_at, expires_at: issued_at.plus(Duration::from_secs(60)) };
        Principal::for_test(&Verified::vouch(User::new("https://i", "ana"), "client", resource, times))
    }

    fn key() -> StaticSecret {
        let upstream = Upstream::parse("search", "https://mcp.search.example/mcp").unwrap();
        StaticSecret::new(Secret::from_text("marker".into()), upstream)
    }

    #[tokio::test]
    async fn the_secret_is_for_its_origin_alone_and_is_not_printed() {
        let key = key();
        let (trail, _) = Trail::for_test(&AuditLog::in_memory().0);
        let recalled = key.recall(&anyone(), &Scopes::none()).unwrap();
        let given = key.credential(&anyone(), &Scopes::none(), &trail).await.unwrap();
        for credential in [&recalled, &given] {
            assert_eq!(credential.origin(), key.upstream().origin());
            assert!(credential.grant().is_none());
        }
        key.refused(&given).await;
        assert!(key.recall(&anyone(), &Scopes::none()).is_some(), "there is no other to be had");
        assert!(!format!("{key:?} {given:?}").contains("marker"));
    }

    #[tokio::test]
    async fn known_scopes_are_compared_with_what_a_rule_needs() {
        let (read, write) = (Scopes::parse("read").unwrap(), Scopes::parse("read write").unwrap());
        let (trail, _) = Trail::for_test(&AuditLog::in_memory().0);
        assert!(key().recall(&anyone(), &write).is_some(), "unknown ones are not");
        let key = key().scopes(read.clone());
        assert_eq!(key.recall(&anyone(), &read).unwrap().scopes(), &read);
        assert!(key.recall(&anyone(), &write).is_none());
        let refused = key.credential(&anyone(), &write, &trail).await.unwrap_err();
        let missing = Scopes::parse("write").unwrap();
        assert_eq!(refused, CredentialError::ScopeRequired { missing, connect_url: None });
    }
}
