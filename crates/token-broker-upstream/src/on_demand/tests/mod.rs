//! Tests of token exchange and client credentials, with a token endpoint on loopback that
//! misbehaves on demand.

mod cache;
mod failures;
mod requests;

use std::{
    collections::VecDeque,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use serde_json::Value;
use token_broker_outbound::{FetchLimits, Guard, GuardedClient};
use tower_token_broker::{
    Broker, Secret,
    audit::{InMemory, Operation, Trail},
    clock::{Clock, Timestamp},
    exchange::{
        Credential, CredentialError, CredentialRequest, ProvideCredential, Upstream,
        UpstreamRefusal,
    },
    principal::{Principal, Resource, Scopes, TokenTimes, User, Verified},
    tasks::Tasks,
};

use crate::{
    Assertion, AuthorizationServer, ClientAuthentication, ClientCredentials, SignError,
    TokenExchange, TokenSource,
    test_endpoint::{Endpoint, Reply},
};

const BROKER: &str = "https://broker.example.com";
const ISSUER: &str = "https://login.crm.example";
const HOUR: Duration = Duration::from_secs(3600);

fn now() -> Timestamp {
    Timestamp::from_unix_seconds(1_800_000_000)
}

fn scopes(text: &str) -> Scopes {
    Scopes::parse(text).unwrap()
}

fn secret(text: &str) -> Secret {
    Secret::from_text(text.to_owned())
}

/// Returns an unsigned text in the form of a JWT.
fn sign(claims: &str) -> Result<Secret, SignError> {
    Ok(Secret::from_text(format!("e30.{}.signature-marker", URL_SAFE_NO_PAD.encode(claims))))
}

fn verified(subject: &str) -> Verified {
    let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
    let times = TokenTimes { id: "t", issued_at: now(), expires_at: now().plus(HOUR) };
    Verified::vouch(User::new(BROKER, subject), "client", resource, times)
}

fn caller(subject: &str) -> Principal {
    Principal::for_test(&verified(subject))
}

/// Returns the members of the form in a request.
fn form(request: &str) -> Vec<(String, String)> {
    let body = request.split_once("\r\n\r\n").unwrap().1;
    url::form_urlencoded::parse(body.as_bytes()).into_owned().collect()
}

/// Returns the only member of this name.
fn field(request: &str, name: &str) -> Option<String> {
    let mut found = form(request).into_iter().filter(|(field, _)| field == name);
    let value = found.next().map(|(_, value)| value);
    assert!(found.next().is_none(), "{name} twice in {request}");
    value
}

/// Returns the claims of a JWT in the form.
fn claims(request: &str, name: &str) -> Value {
    let jwt = field(request, name).unwrap();
    let claims = URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1).unwrap()).unwrap();
    std::str::from_utf8(&claims).unwrap().parse().unwrap()
}

/// Provider with a token endpoint and a manual clock.
struct Harness<P> {
    endpoint: Endpoint,
    next: Arc<Mutex<VecDeque<Reply>>>,
    provider: Arc<P>,
    clock: Clock,
    tasks: Tasks,
    records: InMemory,
    trail: Trail,
}

/// Parts of a provider.
struct Made {
    upstream: Upstream,
    server: AuthorizationServer,
    client: GuardedClient,
    broker: Broker,
}

fn tokens(number: usize, more: &str) -> String {
    let kind = "urn:ietf:params:oauth:token-type:access_token";
    let token = format!(r#""access_token":"at-{number}","issued_token_type":"{kind}""#);
    format!(r#"{{{token},"token_type":"Bearer","expires_in":3600{more}}}"#)
}

fn says(status: u16, body: &str) -> Reply {
    Reply::Says(status, "", body.to_owned())
}

fn denies(error: &str) -> Reply {
    Reply::Says(400, "", format!(r#"{{"error":"{error}","error_description":"peer-marker"}}"#))
}

impl Harness<TokenExchange> {
    async fn exchange() -> Self {
        Self::exchange_of(Assertion::of_caller(BROKER, sign), |server| server).await
    }

    async fn exchange_of(
        subject: impl Into<TokenSource>,
        configure: impl FnOnce(AuthorizationServer) -> AuthorizationServer,
    ) -> Self {
        Self::of(configure, |made| {
            TokenExchange::new(&made.broker, subject, made.upstream, made.server, made.client)
        })
        .await
    }
}

impl Harness<ClientCredentials> {
    async fn client_credentials() -> Self {
        Self::client_credentials_of(|server| server).await
    }

    async fn client_credentials_of(
        configure: impl FnOnce(AuthorizationServer) -> AuthorizationServer,
    ) -> Self {
        Self::of(configure, |made| {
            ClientCredentials::new(&made.broker, made.upstream, made.server, made.client)
        })
        .await
    }
}

impl<P: ProvideCredential> Harness<P> {
    async fn of(
        configure: impl FnOnce(AuthorizationServer) -> AuthorizationServer,
        make: impl FnOnce(Made) -> P,
    ) -> Self {
        let (next, sent) = (Arc::new(Mutex::new(VecDeque::new())), AtomicUsize::new(0));
        let replies = Arc::clone(&next);
        let endpoint = Endpoint::start(move |_| {
            let reply = replies.lock().pop_front();
            reply.unwrap_or_else(|| says(200, &tokens(sent.fetch_add(1, Ordering::SeqCst) + 1, "")))
        })
        .await;
        let (clock, tasks) = (Clock::manual(now()), Tasks::new());
        let client = GuardedClient::with_limits(
            &Guard::new().allow_loopback("127.0.0.1"),
            FetchLimits::default().total(Duration::from_secs(5)),
        );
        let authentication = ClientAuthentication::basic("broker", secret("client-marker"));
        let server =
            AuthorizationServer::new(ISSUER, endpoint.url.parse().unwrap(), authentication);
        let records = InMemory::new();
        let broker = Broker::builder().audit(records.clone()).clock(clock.clone());
        let broker = broker.tasks(tasks.clone()).build().unwrap();
        let (trail, _) = Trail::for_test(broker.audit_log());
        let provider = make(Made {
            upstream: Upstream::parse("crm", "https://mcp.crm.example/mcp").unwrap(),
            server: configure(server.scopes(scopes("crm:read"))),
            client: client.unwrap(),
            broker,
        });
        Self { endpoint, next, provider: Arc::new(provider), clock, tasks, records, trail }
    }

    fn next(&self, reply: Reply) {
        self.next.lock().push_back(reply);
    }

    fn posts(&self) -> Vec<String> {
        self.endpoint.posts()
    }

    async fn get(&self) -> Result<Credential, CredentialError> {
        self.get_for(&caller("ana"), "").await
    }

    async fn get_for(&self, caller: &Principal, need: &str) -> Result<Credential, CredentialError> {
        match self.recall(caller, need) {
            Some(credential) => Ok(credential),
            None => self.credential(caller, need).await,
        }
    }

    fn recall(&self, caller: &Principal, need: &str) -> Option<Credential> {
        let need = scopes(need);
        self.provider.recall(&CredentialRequest::new(caller, &need, &OPERATION, &self.trail))
    }

    async fn credential(
        &self,
        caller: &Principal,
        need: &str,
    ) -> Result<Credential, CredentialError> {
        credential_of(&*self.provider, caller, need, &self.trail).await
    }

    /// Reports that the upstream refused this credential.
    async fn refuse(&self, credential: &Credential) {
        self.provider.refused(&UpstreamRefusal::new(credential)).await;
    }

    async fn all_landed(&self) {
        assert!(self.tasks.shutdown(Duration::from_secs(30)).await);
    }
}

static OPERATION: LazyLock<Operation> =
    LazyLock::new(|| Operation::new("tools/call", Some("get_item")));

/// Requests the credential for this caller and these scopes of a rule, without recalling it first.
async fn credential_of(
    provider: &impl ProvideCredential,
    caller: &Principal,
    need: &str,
    trail: &Trail,
) -> Result<Credential, CredentialError> {
    let need = scopes(need);
    provider.credential(&CredentialRequest::new(caller, &need, &OPERATION, trail)).await
}

/// Returns the number of the token, in the order of the requests.
fn number(credential: &Credential) -> u64 {
    credential.grant().unwrap().1
}

fn numbers(outcome: Result<Credential, CredentialError>) -> Result<u64, CredentialError> {
    outcome.map(|credential| number(&credential))
}

fn unavailable(seconds: u64) -> CredentialError {
    CredentialError::Unavailable { retry_after: Some(Duration::from_secs(seconds)) }
}
