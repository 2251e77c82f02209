//! A secret of each user's own: a personal access token, an API key per account.

use std::{
    collections::HashMap,
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};

use http::HeaderName;
use parking_lot::RwLock;
use token_broker_store::Account;
use tower_token_broker::{
    Secret,
    alarm::Alarm,
    exchange::{
        Credential, CredentialError, CredentialRequest, ProvideCredential, Upstream,
        UpstreamRefusal,
    },
    principal::{Principal, Scopes, User},
};

use crate::{
    connect_url::ConnectUrl,
    principal_id::principal_id,
    short_secret::{self, ShortSecretError},
};

/// Provides each user's own secret for one upstream, as `Authorization: Bearer` or in a header of
/// its own. It is kept in memory, and can be set and removed while requests run.
///
/// A user acts upstream as the owner of this secret. A broker token that names an account uses the
/// secret of that account. A user without a secret must connect; a secret that the upstream refuses
/// stays, because there is no other, and the caller receives
/// [`CredentialRefused`](tower_token_broker::refusal::Reason::CredentialRefused).
///
/// # Example
/// ```
/// use token_broker_store::Account;
/// use token_broker_upstream::UserSecrets;
/// use tower_token_broker::{
///     Secret,
///     exchange::{ProvideCredential, Upstream},
///     principal::User,
/// };
///
/// let upstream = Upstream::parse("search", "https://mcp.search.example/mcp")?;
/// let secrets = UserSecrets::new(upstream).in_header(http::HeaderName::from_static("x-api-key"));
/// let alice = User::new("https://broker.example.com", "alice");
/// let account = Account::default_account();
/// secrets.set(&alice, &account, Secret::from_text("of alice, from a file".into()))?;
/// assert!(secrets.set(&alice, &account, Secret::from_text("demo".into())).is_err());
/// assert!(secrets.remove(&alice, &account));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a provider does nothing until an exchange layer has it"]
pub struct UserSecrets {
    upstream: Upstream,
    header: Option<HeaderName>,
    scopes: Scopes,
    connect_url: ConnectUrl,
    secrets: RwLock<HashMap<User, HashMap<Account, Held>>>,
}

/// One secret of a user.
struct Held {
    credential: Credential,
    /// Whether it was logged that the upstream refuses it.
    is_reported: AtomicBool,
}

impl UserSecrets {
    /// Creates a provider without secrets for this upstream. They are sent as `Authorization:
    /// Bearer`.
    pub fn new(upstream: Upstream) -> Self {
        Self {
            upstream,
            header: None,
            scopes: Scopes::none(),
            connect_url: ConnectUrl::default(),
            secrets: RwLock::default(),
        }
    }

    /// Sends the secrets as the value of this header field instead. Secrets that were set before
    /// are removed.
    pub fn in_header(mut self, name: HeaderName) -> Self {
        self.header = Some(name);
        self.secrets.get_mut().clear();
        self
    }

    /// Sets the scopes that the issuer of the secrets granted, as in
    /// [`StaticSecret::scopes`](crate::StaticSecret::scopes). Secrets that were set before are
    /// removed.
    pub fn scopes(mut self, scopes: Scopes) -> Self {
        self.scopes = scopes;
        self.secrets.get_mut().clear();
        self
    }

    /// Sets the page where a caller enters a secret. It is a page of the broker, and its URL
    /// contains no secret.
    pub fn connect_url(
        mut self,
        of: impl Fn(&Principal) -> Box<str> + Send + Sync + 'static,
    ) -> Self {
        self.connect_url = ConnectUrl::new(of);
        self
    }

    /// Sets the secret of one account of a user, from the next request on. It replaces an earlier
    /// one.
    ///
    /// # Errors
    /// The secret has less than 12 octets. The earlier one stays.
    pub fn set(
        &self,
        user: &User,
        account: &Account,
        secret: Secret,
    ) -> Result<(), ShortSecretError> {
        self.keep(user, account, short_secret::vouch(secret, &self.upstream)?);
        Ok(())
    }

    /// Sets a secret of any length. The leak guard masks it wherever a response contains its text,
    /// in words and numbers, too. Each such secret is logged.
    pub fn dangerous_short_secret(&self, user: &User, account: &Account, secret: Secret) {
        self.keep(user, account, short_secret::vouch_short(secret, &self.upstream));
    }

    /// Removes the secret of one account of a user, and returns whether there was one.
    pub fn remove(&self, user: &User, account: &Account) -> bool {
        let mut secrets = self.secrets.write();
        let Some(accounts) = secrets.get_mut(user) else { return false };
        let was_there = accounts.remove(account).is_some();
        if accounts.is_empty() {
            secrets.remove(user);
        }
        was_there
    }

    fn keep(&self, user: &User, account: &Account, credential: Credential) {
        let credential = credential.with_scopes(self.scopes.clone());
        let credential = match &self.header {
            Some(name) => credential.in_header(name.clone()),
            None => credential,
        };
        let mut secrets = self.secrets.write();
        let held = Held { credential, is_reported: AtomicBool::new(false) };
        secrets.entry(user.clone()).or_default().insert(account.clone(), held);
    }

    fn provide(&self, request: &CredentialRequest<'_>) -> Result<Credential, CredentialError> {
        let account = account(request.account).ok_or(CredentialError::ConnectRequired)?;
        let secrets = self.secrets.read();
        let of_user = secrets.get(request.caller.user());
        let held = of_user.and_then(|accounts| accounts.get(&account));
        let credential = held.map(|held| held.credential.clone());
        drop(secrets);
        let credential = credential.ok_or(CredentialError::ConnectRequired)?;
        let (need, known) = (request.scopes, credential.scopes());
        if known.is_empty() || known.contains_all(need) {
            return Ok(credential);
        }
        Err(CredentialError::ScopeRequired { missing: crate::scopes::missing(need, known) })
    }
}

impl UserSecrets {
    /// Returns whether the refusal of this secret is to be logged: once per secret of an account.
    /// A secret that was replaced meanwhile is not reported.
    fn report_once(&self, user: &User, credential: &Credential) -> bool {
        let secrets = self.secrets.read();
        let Some(accounts) = secrets.get(user) else { return false };
        let mut first = false;
        for held in accounts.values().filter(|held| held.credential.is_same_secret(credential)) {
            first |= !held.is_reported.swap(true, Ordering::Relaxed);
        }
        first
    }
}

fn account(name: Option<&str>) -> Option<Account> {
    name.map_or_else(|| Some(Account::default_account()), |name| Account::parse(name).ok())
}

impl ProvideCredential for UserSecrets {
    fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    fn recall(&self, request: &CredentialRequest<'_>) -> Option<Credential> {
        self.provide(request).ok()
    }

    async fn credential(
        &self,
        request: &CredentialRequest<'_>,
    ) -> Result<Credential, CredentialError> {
        self.provide(request)
    }

    /// Keeps the secret, because there is no other, and logs once that its user must replace it.
    // R518
    async fn refused(&self, refusal: &UpstreamRefusal<'_>) {
        let user = refusal.request.map(|(caller, _)| caller.user());
        if user.is_some_and(|user| !self.report_once(user, refusal.credential)) {
            return;
        }
        tracing::error!(
            alarm = Alarm::SecretRefused.code(),
            server.name = self.upstream.name(),
            principal.id = user.and_then(principal_id).map(tracing::field::display),
            request.id =
                refusal.request.map(|(_, trail)| tracing::field::display(trail.request_id())),
            "the upstream refuses a user's own secret; the user must replace it"
        );
    }

    fn connect_url(&self, caller: &Principal) -> Option<Box<str>> {
        self.connect_url.of(caller)
    }
}

impl fmt::Debug for UserSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserSecrets").field("upstream", &self.upstream).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tower_token_broker::{
        audit::{AuditLog, Operation, Trail},
        test_util::{TestCall, caller},
    };

    use super::*;

    fn secrets() -> UserSecrets {
        UserSecrets::new(Upstream::parse("search", "https://mcp.search.example/mcp").unwrap())
    }

    fn secret(text: &str) -> Secret {
        Secret::from_text(text.into())
    }

    fn request_for<T>(
        subject: &str,
        account: Option<&str>,
        scopes: &str,
        then: impl FnOnce(&CredentialRequest<'_>) -> T,
    ) -> T {
        let (trail, _) = Trail::for_test(&AuditLog::in_memory().0);
        let operation: Operation = TestCall::tool("search", "{}").operation();
        let (caller, scopes) = (caller(subject), Scopes::parse(scopes).unwrap());
        let mut request = CredentialRequest::new(&caller, &scopes, &operation, &trail);
        request.account = account;
        then(&request)
    }

    #[test]
    fn each_user_and_account_has_a_secret_of_its_own() {
        let secrets = secrets();
        let (ana, default) = (caller("ana").user().clone(), Account::default_account());
        let work = Account::parse("work").unwrap();
        secrets.set(&ana, &default, secret("ana-marker-1")).unwrap();
        secrets.set(&ana, &work, secret("ana-marker-22")).unwrap();
        let same = |account: Option<&str>, text: &str| {
            request_for("ana", account, "", |request| {
                let found = secrets.recall(request).unwrap();
                assert_eq!(found.origin(), secrets.upstream().origin());
                assert!(!format!("{found:?} {secrets:?}").contains("marker"));
                found.guarded_octets() == text.len()
            })
        };
        assert!(same(None, "ana-marker-1") && same(Some("default"), "ana-marker-1"));
        assert!(same(Some("work"), "ana-marker-22"));
        for (subject, account) in
            [("bob", None), ("Ana", None), ("ana", Some("home")), ("ana", Some("no account"))]
        {
            request_for(subject, account, "", |request| {
                assert!(secrets.recall(request).is_none(), "{subject} {account:?}");
                let none = secrets.provide(request).unwrap_err();
                assert_eq!(none, CredentialError::ConnectRequired, "{subject} {account:?}");
            });
        }
        assert!(secrets.remove(&ana, &work) && !secrets.remove(&ana, &work));
        request_for("ana", Some("work"), "", |request| assert!(secrets.recall(request).is_none()));
        assert!(same(None, "ana-marker-1"));
    }

    #[tokio::test]
    async fn r518_a_refused_secret_is_reported_once() {
        let (secrets, ana, bob) = (secrets(), caller("ana"), caller("bob"));
        let account = Account::default_account();
        secrets.set(ana.user(), &account, secret("ana-marker-1")).unwrap();
        secrets.set(bob.user(), &account, secret("bob-marker-1")).unwrap();
        let of =
            |subject| request_for(subject, None, "", |request| secrets.recall(request).unwrap());
        let (first, of_bob) = (of("ana"), of("bob"));
        assert!(!secrets.report_once(ana.user(), &of_bob), "R518: a secret of another user");
        assert!(secrets.report_once(ana.user(), &first), "R518");
        assert!(!secrets.report_once(ana.user(), &first), "R518: once");
        assert!(secrets.report_once(bob.user(), &of_bob), "R518: each user's");
        secrets.set(ana.user(), &account, secret("ana-marker-2")).unwrap();
        assert!(!secrets.report_once(ana.user(), &first), "R518: it was replaced");
        assert!(secrets.report_once(ana.user(), &of("ana")), "R518: the new one");
        // The refusal itself marks it.
        secrets.set(ana.user(), &account, secret("ana-marker-3")).unwrap();
        let (trail, _) = Trail::for_test(&AuditLog::in_memory().0);
        let third = of("ana");
        secrets.refused(&UpstreamRefusal::new(&third).request(&ana, &trail)).await;
        assert!(!secrets.report_once(ana.user(), &third), "R518");
        assert!(of("ana").is_same_secret(&third), "R518: there is no other");
    }

    #[test]
    fn r485_a_short_secret_of_a_user_is_refused() {
        let (secrets, user) = (secrets(), caller("ana").user().clone());
        let account = Account::default_account();
        secrets.set(&user, &account, secret("twelve-octet")).unwrap();
        for short in ["", "1", "demo", "elevenoctet", "token demo", "Basic dXNlcjpkZW1v"] {
            assert!(secrets.set(&user, &account, secret(short)).is_err(), "R485 {short}");
        }
        request_for("ana", None, "", |request| {
            assert_eq!(secrets.recall(request).unwrap().guarded_octets(), 12);
        });
        secrets.dangerous_short_secret(&user, &account, secret("demo"));
        request_for("ana", None, "", |request| {
            assert_eq!(secrets.recall(request).unwrap().guarded_octets(), 4);
        });
    }

    #[test]
    fn known_scopes_are_compared_with_what_a_rule_needs() {
        let secrets = secrets().scopes(Scopes::parse("read").unwrap());
        let user = caller("ana").user().clone();
        secrets.set(&user, &Account::default_account(), secret("twelve-octet")).unwrap();
        request_for("ana", None, "read", |request| assert!(secrets.recall(request).is_some()));
        request_for("ana", None, "read write", |request| {
            let missing = Scopes::parse("write").unwrap();
            let refused = secrets.provide(request).unwrap_err();
            assert_eq!(refused, CredentialError::ScopeRequired { missing });
        });
    }
}
