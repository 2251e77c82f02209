//! Token exchange and client credentials against a token endpoint on loopback that misbehaves on demand.

mod asked;
mod failures;
mod kept;

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use serde_json::Value;
use token_broker_outbound::{FetchLimits, Guard, GuardedClient};
use tower_token_broker::{
    Secret,
    audit::{AuditLog, InMemory, Trail},
    clock::{Clock, Timestamp},
    exchange::{Credential, CredentialError, ProvideCredential, Upstream},
    principal::{Principal, Resource, Scopes, TokenTimes, User, Verified},
    tasks::Tasks,
};

use crate::{
    Assertion, AuthorizationServer, ClientAuthentication, ClientCredentials, SignError, TokenExchange, TokenSource,
    endpoint::{Endpoint, Reply},
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

/// Signs with nothing, but in the form of a JWT.
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

/// The fields of the form in a request.
fn form(request: &str) -> Vec<(String, String)> {
    let body = request.split_once("\r\n\r\n").unwrap().1;
    url::form_urlencoded::parse(body.as_bytes()).into_owned().collect()
}

/// The one field of this name.
fn field(request: &str, name: &str) -> Option<String> {
    let mut found = form(request).into_iter().filter(|(field, _)| field == name);
    let value = found.next().map(|(_, value)| value);
    assert!(found.next().is_none(), "{name} twice in {request}");
    value
}

/// What a JWT in the form says.
fn claims(request: &str, name: &str) -> Value {
    let jwt = field(request, name).unwrap();
    let claims = URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1).unwrap()).unwrap();
    std::str::from_utf8(&claims).unwrap().parse().unwrap()
}

/// A provider at a token endpoint, with a clock that is set by hand.
struct Broker<P> {
    endpoint: Endpoint,
    next: Arc<Mutex<VecDeque<Reply>>>,
    provider: Arc<P>,
    clock: Clock,
    tasks: Tasks,
    records: InMemory,
    trail: Trail,
}

/// What a provider is made of here.
struct Made {
    upstream: Upstream,
    server: AuthorizationServer,
    client: GuardedClient,
    clock: Clock,
    tasks: Tasks,
}

fn tokens(number: usize, more: &str) -> String {
    format!(
        r#"{{"access_token":"at-{number}","token_type":"Bearer","expires_in":3600,"issued_token_type":"urn:ietf:params:oauth:token-type:access_token"{more}}}"#
    )
}

fn says(status: u16, body: &str) -> Reply {
    Reply::Says(status, "", body.to_owned())
}

fn denies(error: &str) -> Reply {
    Reply::Says(400, "", format!(r#"{{"error":"{error}","error_description":"peer-marker"}}"#))
}

impl Broker<TokenExchange> {
    async fn exchange() -> Self {
        Self::exchange_of(Assertion::of_caller(BROKER, sign), |server| server).await
    }

    async fn exchange_of(
        subject: impl Into<TokenSource>,
        configure: impl FnOnce(AuthorizationServer) -> AuthorizationServer,
    ) -> Self {
        Self::of(configure, |made| {
            TokenExchange::new(subject, made.upstream, made.server, made.client)
                .with_clock(made.clock)
                .with_tasks(made.tasks)
        })
        .await
    }
}

impl Broker<ClientCredentials> {
    async fn client_credentials() -> Self {
        Self::client_credentials_of(|server| server).await
    }

    async fn client_credentials_of(configure: impl FnOnce(AuthorizationServer) -> AuthorizationServer) -> Self {
        Self::of(configure, |made| {
            ClientCredentials::new(made.upstream, made.server, made.client)
                .with_clock(made.clock)
                .with_tasks(made.tasks)
        })
        .await
    }
}

impl<P: ProvideCredential> Broker<P> {
    async fn of(
        configure: impl FnOnce(AuthorizationServer) -> AuthorizationServer,
        make: impl FnOnce(Made) -> P,
    ) -> Self {
        let (next, given) = (Arc::new(Mutex::new(VecDeque::new())), AtomicUsize::new(0));
        let replies = Arc::clone(&next);
        let endpoint = Endpoint::start(move |_| {
            let reply = replies.lock().pop_front();
            reply.unwrap_or_else(|| says(200, &tokens(given.fetch_add(1, Ordering::SeqCst) + 1, "")))
        })
        .await;
        let (clock, tasks) = (Clock::manual(now()), Tasks::new());
        let client = GuardedClient::with_limits(
            &Guard::new().allow_loopback("127.0.0.1"),
            FetchLimits::default().total(Duration::from_secs(5)),
        );
        let authentication = ClientAuthentication::basic("broker", secret("client-marker"));
        let server = AuthorizationServer::new(ISSUER, endpoint.url.parse().unwrap(), authentication);
        let provider = make(Made {
            upstream: Upstream::parse("crm", "https://mcp.crm.example/mcp").unwrap(),
            server: configure(server.scopes(scopes("crm:read"))),
            client: client.unwrap(),
            clock: clock.clone(),
            tasks: tasks.clone(),
        });
        let (log, records) = AuditLog::in_memory();
        let (trail, _) = Trail::for_test(&log);
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
        match self.provider.recall(caller, &scopes(need)) {
            Some(credential) => Ok(credential),
            None => self.provider.credential(caller, &scopes(need), &self.trail).await,
        }
    }

    async fn all_landed(&self) {
        assert!(self.tasks.shutdown(Duration::from_secs(30)).await);
    }
}

/// Which token it is, by the order in which they were asked for.
fn number(credential: &Credential) -> u64 {
    credential.grant().unwrap().1
}

fn numbers(got: Result<Credential, CredentialError>) -> Result<u64, CredentialError> {
    got.map(|credential| number(&credential))
}

fn unavailable(seconds: u64) -> CredentialError {
    CredentialError::Unavailable { retry_after: Some(Duration::from_secs(seconds)) }
}
