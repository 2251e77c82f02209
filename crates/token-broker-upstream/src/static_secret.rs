//! The same configured secret for all callers: an API key, the token of a service account.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use http::HeaderName;
use tower_token_broker::{
    Secret,
    alarm::Alarm,
    exchange::{
        Credential, CredentialError, CredentialRequest, ProvideCredential, Upstream,
        UpstreamRefusal,
    },
    principal::Scopes,
};

use crate::short_secret::{self, ShortSecretError};

/// Provides one configured secret for one upstream, as `Authorization: Bearer` or in a header of
/// its own.
///
/// Every caller that the policy allows acts upstream as the owner of this secret. The account of a
/// broker token makes no difference.
///
/// # Example
/// ```
/// use token_broker_upstream::StaticSecret;
/// use tower_token_broker::{
///     Secret,
///     exchange::{ProvideCredential, Upstream},
/// };
///
/// let upstream = Upstream::parse("search", "https://mcp.search.example/mcp")?;
/// let key = StaticSecret::new(Secret::from_text("from a file, long".into()), upstream)?
///     .in_header(http::HeaderName::from_static("x-api-key"));
/// assert_eq!(key.upstream().name(), "search");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a provider does nothing until an exchange layer has it"]
pub struct StaticSecret {
    upstream: Upstream,
    credential: Credential,
    /// Whether its refusal was logged, by this provider or a clone.
    is_reported: Arc<AtomicBool>,
}

impl StaticSecret {
    /// Creates a provider of this secret for this upstream. It is sent as `Authorization: Bearer`.
    ///
    /// # Errors
    /// The secret has less than 12 octets: the leak guard would mask it in ordinary text.
    pub fn new(secret: Secret, upstream: Upstream) -> Result<Self, ShortSecretError> {
        let credential = short_secret::vouch(secret, &upstream)?;
        Ok(Self::with(upstream, credential))
    }

    /// Creates a provider of a secret of any length. The leak guard masks it wherever a response
    /// contains its text, in words and numbers, too. Such a secret is logged.
    pub fn dangerous_short_secret(secret: Secret, upstream: Upstream) -> Self {
        let credential = short_secret::vouch_short(secret, &upstream);
        Self::with(upstream, credential)
    }

    fn with(upstream: Upstream, credential: Credential) -> Self {
        let credential = credential.with_all_scopes();
        Self { upstream, credential, is_reported: Arc::default() }
    }

    /// Sends the secret as the value of this header field instead.
    pub fn in_header(mut self, name: HeaderName) -> Self {
        self.credential = self.credential.in_header(name);
        self
    }

    /// Sets the scopes that the issuer of the secret granted. A rule that needs more is refused,
    /// and the audit names the scopes. Without this setting the scopes are unknown, and what a rule
    /// needs is not compared with them.
    pub fn scopes(mut self, scopes: Scopes) -> Self {
        self.credential = self.credential.with_scopes(scopes);
        self
    }

    fn covering(&self, need: &Scopes) -> Result<Credential, CredentialError> {
        let known = self.credential.scopes();
        if known.is_empty() || known.contains_all(need) {
            return Ok(self.credential.clone());
        }
        Err(CredentialError::ScopeRequired { missing: crate::scopes::missing(need, known) })
    }

    /// Returns whether the refusal of the secret is to be logged: once.
    fn report_once(&self) -> bool {
        !self.is_reported.swap(true, Ordering::Relaxed)
    }
}

impl ProvideCredential for StaticSecret {
    fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    fn recall(&self, request: &CredentialRequest<'_>) -> Option<Credential> {
        self.covering(request.scopes).ok()
    }

    async fn credential(
        &self,
        request: &CredentialRequest<'_>,
    ) -> Result<Credential, CredentialError> {
        self.covering(request.scopes)
    }

    /// Keeps the secret, because there is no other, and logs once that the operator must replace
    /// it.
    // R518
    async fn refused(&self, refusal: &UpstreamRefusal<'_>) {
        if !self.report_once() {
            return;
        }
        tracing::error!(
            alarm = Alarm::SecretRefused.code(),
            server.name = self.upstream.name(),
            request.id =
                refusal.request.map(|(_, trail)| tracing::field::display(trail.request_id())),
            "the upstream refuses the configured secret; replace it"
        );
    }
}

#[cfg(test)]
mod tests {
    use tower_token_broker::{
        audit::{AuditLog, Operation, Trail},
        test_util::{TestCall, TestCaller, caller},
    };

    use super::*;

    /// One call of a client, by a rule that needs these scopes.
    struct Call {
        caller: TestCaller,
        scopes: Scopes,
        operation: Operation,
        trail: Trail,
    }

    impl Call {
        fn needing(scopes: &str) -> Self {
            let (trail, _) = Trail::for_test(&AuditLog::in_memory().0);
            let operation = TestCall::tool("search", "{}").operation();
            Self { caller: caller("ana"), scopes: Scopes::parse(scopes).unwrap(), operation, trail }
        }

        fn request(&self) -> CredentialRequest<'_> {
            CredentialRequest::new(&self.caller, &self.scopes, &self.operation, &self.trail)
        }
    }

    fn key() -> StaticSecret {
        let upstream = Upstream::parse("search", "https://mcp.search.example/mcp").unwrap();
        StaticSecret::new(Secret::from_text("marker-0123456789".into()), upstream).unwrap()
    }

    #[test]
    fn r485_a_short_secret_is_refused() {
        let upstream = || Upstream::parse("search", "https://mcp.search.example/mcp").unwrap();
        let of = |text: &str| StaticSecret::new(Secret::from_text(text.into()), upstream());
        for (text, octets) in [
            ("", 0),
            ("1", 1),
            ("demo", 4),
            ("elevenoctet", 11),
            ("token demo", 10),
            ("ApiKey 12345678", 8),
            ("Basic dXNlcjpkZW1v", 4),
            ("Basic YWJjZDo=", 4),
        ] {
            let refused = of(text).unwrap_err();
            assert_eq!((refused.server(), refused.octets()), ("search", octets), "R485 {text}");
            assert!(!refused.to_string().contains("demo"), "R485: the secret is not shown");
            let allowed =
                StaticSecret::dangerous_short_secret(Secret::from_text(text.into()), upstream());
            assert_eq!(allowed.credential.guarded_octets(), octets, "R485 {text}");
        }
        for text in ["twelve-octet", "token twelve-octet", "Basic dXNlcjp0d2VsdmUtb2N0ZXQ="] {
            assert!(of(text).is_ok(), "R485 {text}");
        }
    }

    #[tokio::test]
    async fn the_secret_has_one_origin_and_is_not_printed() {
        let (key, call) = (key(), Call::needing(""));
        let recalled = key.recall(&call.request()).unwrap();
        let credential = key.credential(&call.request()).await.unwrap();
        for credential in [&recalled, &credential] {
            assert_eq!(credential.origin(), key.upstream().origin());
            assert!(credential.grant().is_none());
        }
        key.refused(&UpstreamRefusal::new(&credential)).await;
        assert!(key.recall(&call.request()).is_some(), "there is no other secret");
        assert!(!format!("{key:?} {credential:?}").contains("marker"));
    }

    #[tokio::test]
    async fn r518_a_refused_static_secret_is_reported_once() {
        let (key, call) = (key(), Call::needing(""));
        let clone = key.clone().in_header(HeaderName::from_static("x-api-key"));
        let credential = key.recall(&call.request()).unwrap();
        clone.refused(&UpstreamRefusal::new(&credential).request(&call.caller, &call.trail)).await;
        assert!(!key.report_once() && !clone.report_once(), "R518: the same secret");
        let other = self::key();
        assert!(other.report_once() && !other.report_once(), "R518: another one");
        assert!(other.clone().scopes(call.scopes).recall(&Call::needing("").request()).is_some());
    }

    #[tokio::test]
    async fn known_scopes_are_compared_with_what_a_rule_needs() {
        let (read, write) = (Call::needing("read"), Call::needing("read write"));
        assert!(key().recall(&write.request()).is_some(), "unknown scopes are not compared");
        let key = key().scopes(read.scopes.clone());
        assert_eq!(key.recall(&read.request()).unwrap().scopes(), &read.scopes);
        assert!(key.recall(&write.request()).is_none());
        let refused = key.credential(&write.request()).await.unwrap_err();
        let missing = Scopes::parse("write").unwrap();
        assert_eq!(refused, CredentialError::ScopeRequired { missing });
    }
}
