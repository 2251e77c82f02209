//! One secret of the operator's for all callers: an API key, the token of a service account.

use http::HeaderName;
use tower_token_broker::{
    Secret,
    audit::Trail,
    exchange::{Credential, NoCredential, ProvideCredential, Upstream},
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

    fn covering(&self, need: &Scopes) -> Result<Credential, NoCredential> {
        let known = self.credential.scopes();
        if known.is_empty() || known.contains_all(need) {
            return Ok(self.credential.clone());
        }
        Err(NoCredential::ScopeRequired { missing: crate::stored::missing(need, known), connect_url: None })
    }
}

impl ProvideCredential for StaticSecret {
    fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    fn recall(&self, _: &Principal, need: &Scopes) -> Option<Credential> {
        self.covering(need).ok()
    }

    async fn credential(&self, _: &Principal, need: &Scopes, _: &Trail) -> Result<Credential, NoCredential> {
        self.covering(need)
    }

    /// There is no other to be had: it stays, and the operator is told.
    async fn refused(&self, _: &Credential) {
        tracing::error!(server.name = self.upstream.name(), "the upstream refuses the configured secret; replace it");
    }
}
