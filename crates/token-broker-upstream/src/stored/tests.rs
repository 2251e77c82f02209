//! Tests of stored grants, with a token endpoint on loopback that rotates, counts, and misbehaves
//! on demand.

mod dead_grants;
mod scope_on_refresh;
mod token_responses;

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use parking_lot::Mutex;
use token_broker_outbound::{FetchLimits, Guard, GuardedClient};
use token_broker_store::{
    AccessToken, Account, Attempt, AttemptOutcome, Backoff, Grant, GrantFilter, GrantKey,
    GrantPage, GrantRef, GrantState, GrantStore, Lease, LeaseOutcome, LeaseRequest, MemoryGrants,
    Renewal, StoreError,
};
use tower_token_broker::{
    Broker, Secret,
    audit::{InMemory, Operation, Trail},
    clock::{Clock, Timestamp},
    exchange::{
        Credential, CredentialError, CredentialRequest, ProvideCredential, Upstream,
        UpstreamRefusal,
    },
    principal::{GrantId, Principal, Resource, Scopes, TokenTimes, User, Verified},
    tasks::Tasks,
};

use super::StoredGrants;
use crate::{
    AuthorizationServer, ClientAuthentication,
    cache_key::Parts,
    test_endpoint::{Endpoint, Reply},
};

const ISSUER: &str = "https://login.crm.example";
const HOUR: Duration = Duration::from_secs(3600);

/// Response of the token endpoint to one request.
enum Mode {
    /// This status, this body and these header lines.
    Says(u16, &'static str, &'static str),
    /// These bytes, as they are.
    Raw(Vec<u8>),
    /// These bytes, as they are. Then the connection stays open.
    Stalls(Vec<u8>),
    /// New tokens of these scopes.
    Grants(&'static str),
    /// New tokens with this number, in the response that the function returns.
    RotatesInto(Box<dyn Fn(usize) -> Reply + Send + Sync>),
    /// New tokens, in a response that is lost.
    RotatesAndDrops,
    /// New tokens, in a response that breaks off.
    RotatesAndBreaksOff,
    /// None: the connection is closed.
    Drops,
    /// None: the connection stays open.
    Hangs,
}

/// Authorization server whose refresh tokens are valid once.
struct Server {
    endpoint: Endpoint,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    modes: Mutex<VecDeque<Mode>>,
    rotated: AtomicUsize,
}

impl Server {
    async fn start() -> Self {
        let state = Arc::new(State::default());
        let serving = Arc::clone(&state);
        Self { endpoint: Endpoint::start(move |request| serving.reply(request)).await, state }
    }

    fn next(&self, mode: Mode) {
        self.state.modes.lock().push_back(mode);
    }
}

impl std::ops::Deref for Server {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl State {
    fn reply(&self, request: &str) -> Reply {
        if request.contains("refresh_token=rt-slow&") {
            return Reply::Hangs;
        }
        let current = format!("rt-{}", self.rotated.load(Ordering::SeqCst));
        let rotates = form_value(request, "refresh_token").is_some_and(|sent| sent == current);
        let mode = self.modes.lock().pop_front();
        match mode {
            Some(Mode::Says(status, body, headers)) => {
                Reply::Says(status, headers, body.to_owned())
            }
            Some(Mode::Raw(bytes)) => Reply::Raw(bytes),
            Some(Mode::Stalls(bytes)) => Reply::Stalls(bytes),
            Some(Mode::Drops) => Reply::HangsUp,
            Some(Mode::Hangs) => Reply::Hangs,
            _ if !rotates => Reply::Says(400, "", r#"{"error":"invalid_grant"}"#.to_owned()),
            Some(Mode::Grants(scopes)) => {
                Reply::Says(200, "", self.rotate(&format!(r#","scope":"{scopes}""#)))
            }
            None => Reply::Says(200, "", self.rotate("")),
            Some(Mode::RotatesInto(reply)) => {
                reply(self.rotated.fetch_add(1, Ordering::SeqCst) + 1)
            }
            Some(Mode::RotatesAndDrops) => {
                drop(self.rotate(""));
                Reply::HangsUp
            }
            Some(Mode::RotatesAndBreaksOff) => Reply::BreaksOff(self.rotate("")),
        }
    }

    fn rotate(&self, more: &str) -> String {
        let number = self.rotated.fetch_add(1, Ordering::SeqCst) + 1;
        let tokens = format!(r#""access_token":"at-{number}","refresh_token":"rt-{number}""#);
        format!(r#"{{{tokens},"token_type":"Bearer","expires_in":3600{more}}}"#)
    }
}

/// Returns the value of a form field, as it was sent.
fn form_value<'r>(request: &'r str, name: &str) -> Option<&'r str> {
    let (_, form) = request.split_once("\r\n\r\n")?;
    let pairs = form.split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(found, _)| *found == name).map(|(_, value)| value)
}

/// Provider with a store, the server above, and a manual clock.
struct Harness<S = MemoryGrants> {
    server: Server,
    grants: MemoryGrants,
    provider: Arc<StoredGrants<S>>,
    broker: Broker,
    clock: Clock,
    tasks: Tasks,
    records: InMemory,
    trail: Trail,
}

fn now() -> Timestamp {
    Timestamp::from_unix_seconds(1_800_000_000)
}

fn scopes(text: &str) -> Scopes {
    Scopes::parse(text).unwrap()
}

fn secret(text: &str) -> Secret {
    Secret::from_text(text.to_owned())
}

fn ana() -> User {
    User::new("https://broker.example.com", "ana")
}

/// Returns the key of a user's grant.
fn key(user: User) -> GrantKey {
    GrantKey::new(user, "crm", Account::default_account())
}

/// Returns a grant of ana with two scopes. Its token has the operator's scope, the given age, and a
/// lifetime of an hour.
fn grant(age: Duration) -> Grant {
    let obtained = now().minus(age);
    Grant::new(GrantId::new("g1"), key(ana()), ISSUER)
        .granted(scopes("crm:read crm:write"))
        .refresh_token(secret("rt-0"))
        .access_token(AccessToken::new(
            secret("at-0"),
            scopes("crm:read"),
            obtained,
            obtained.plus(HOUR),
        ))
}

fn provider<S: GrantStore>(
    broker: &Broker,
    server: &Server,
    store: S,
    configure: impl FnOnce(AuthorizationServer) -> AuthorizationServer,
) -> StoredGrants<S> {
    let client = GuardedClient::with_limits(
        &Guard::new().allow_loopback("127.0.0.1"),
        FetchLimits::default().total(Duration::from_secs(5)),
    );
    let at = AuthorizationServer::new(
        ISSUER,
        server.url.parse().unwrap(),
        ClientAuthentication::basic("broker", secret("client-marker")),
    )
    .scopes(scopes("crm:read"));
    let upstream = Upstream::parse("crm", "https://mcp.crm.example/mcp").unwrap();
    StoredGrants::new(broker, store, upstream, configure(at), client.unwrap()).connect_url(
        |caller| format!("https://broker.example.com/connect/crm?for={}", caller.subject()).into(),
    )
}

static OPERATION: LazyLock<Operation> =
    LazyLock::new(|| Operation::new("tools/call", Some("get_item")));

/// Requests the credential for this caller and these scopes of a rule, without recalling it first.
async fn credential_of<S: GrantStore>(
    provider: &StoredGrants<S>,
    caller: Principal,
    need: &str,
    trail: &Trail,
) -> Result<Credential, CredentialError> {
    let need = scopes(need);
    provider.credential(&CredentialRequest::new(&caller, &need, &OPERATION, trail)).await
}

impl Harness {
    async fn with(grant: Grant) -> Self {
        Self::over(grant, |grants| grants, |server| server).await
    }
}

impl<S: GrantStore> Harness<S> {
    async fn over(
        grant: Grant,
        store: impl FnOnce(MemoryGrants) -> S,
        configure: impl FnOnce(AuthorizationServer) -> AuthorizationServer,
    ) -> Self {
        let (server, clock, tasks) = (Server::start().await, Clock::manual(now()), Tasks::new());
        let (grants, records) = (MemoryGrants::new(), InMemory::new());
        grants.put(grant).await.unwrap();
        let broker = Broker::builder().audit(records.clone()).clock(clock.clone());
        let broker = broker.tasks(tasks.clone()).build().unwrap();
        let provider = Arc::new(provider(&broker, &server, store(grants.clone()), configure));
        // A request may end long before its refresh does: its terminal record is written here.
        let (trail, _) = Trail::for_test(broker.audit_log());
        Self { server, grants, provider, broker, clock, tasks, records, trail }
    }

    /// Returns the provider of a new process with the same store and server.
    fn restarted(&self) -> StoredGrants<MemoryGrants> {
        provider(&self.broker, &self.server, self.grants.clone(), |at| at)
    }

    fn recall(&self, caller: &Principal, need: &str) -> Option<Credential> {
        let need = scopes(need);
        self.provider.recall(&CredentialRequest::new(caller, &need, &OPERATION, &self.trail))
    }

    async fn credential(
        &self,
        caller: Principal,
        need: &str,
    ) -> Result<Credential, CredentialError> {
        credential_of(&self.provider, caller, need, &self.trail).await
    }

    /// Reports that the upstream refused this credential.
    async fn refuse(&self, credential: &Credential) {
        self.provider.refused(&UpstreamRefusal::new(credential)).await;
    }

    /// Reports that the upstream refused this credential, which it had accepted before.
    fn refuse_accepted(&self, credential: &Credential) {
        let (grant, version) = credential.grant().unwrap();
        let seen = self.provider.0.sightings.token(grant, version, self.clock.read());
        seen.refuse(true);
    }

    async fn get(&self) -> Result<Credential, CredentialError> {
        self.needing("").await
    }

    async fn needing(&self, need: &str) -> Result<Credential, CredentialError> {
        match self.recall(&caller(), need) {
            Some(credential) => Ok(credential),
            None => self.credential(caller(), need).await,
        }
    }

    fn lease_until(&self, until: Timestamp) -> LeaseRequest {
        LeaseRequest::new(&self.grant(), now(), until)
    }

    fn grant(&self) -> Grant {
        self.grants.get(&key(ana())).unwrap()
    }

    /// Returns the records of refreshes: intents, and the outcomes of results.
    async fn refreshes(&self) -> Vec<String> {
        self.all_landed().await;
        let of = |line: &String| {
            let value: serde_json::Value = line.parse().unwrap();
            match value["kind"].as_str().unwrap() {
                "token_request" => Some("intent".to_owned()),
                "token_result" => Some(value["outcome"].as_str().unwrap().to_owned()),
                _ => None,
            }
        };
        // Results are written in the background; their intents were written before.
        loop {
            let seen: Vec<_> = self.records.lines().iter().filter_map(of).collect();
            if seen.len() % 2 == 0 {
                return seen;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn all_landed(&self) {
        assert!(self.tasks.shutdown(Duration::from_secs(30)).await);
    }
}

fn caller() -> Principal {
    caller_for(ana())
}

fn caller_for(user: User) -> Principal {
    let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
    let times = TokenTimes { id: "t", issued_at: now(), expires_at: now().plus(HOUR) };
    Principal::for_test(&Verified::vouch(user, "client", resource, times))
}

/// Returns the number of the access token, from the version of the grant: version 1 is `at-0`.
fn number(credential: &Credential) -> u64 {
    credential.grant().unwrap().1 - 1
}

fn connect_required() -> CredentialError {
    CredentialError::ConnectRequired
}

fn revoked() -> CredentialError {
    CredentialError::Revoked
}

fn is_unavailable<T>(outcome: &Result<T, CredentialError>) -> bool {
    matches!(outcome, Err(CredentialError::Unavailable { .. }))
}

#[tokio::test]
async fn a_fresh_token_is_given_without_asking_anyone() {
    let broker = Harness::with(grant(Duration::ZERO)).await;
    assert!(broker.recall(&caller(), "").is_none(), "nothing is known yet");
    let first = broker.get().await.unwrap();
    assert_eq!((number(&first), first.scopes()), (0, &scopes("crm:read")));
    assert_eq!(first.origin().as_str(), "https://mcp.crm.example:443");
    assert!(broker.recall(&caller(), "").is_some());
    assert_eq!(broker.server.posts().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x01_ten_thousand_first_uses_are_one_post() {
    let broker = Arc::new(Harness::with(grant(HOUR * 2)).await);
    broker.server.close();
    {
        let mut first = std::pin::pin!(broker.credential(caller(), ""));
        let polled = std::future::poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx))).await;
        assert!(polled.is_pending(), "X01");
    }
    broker.server.until_asked(1).await;
    let callers = Tasks::new();
    let (began, mut pending) = tokio::sync::watch::channel(0);
    let began = Arc::new(began);
    let waiting: Vec<_> = (0..10_000)
        .map(|_| {
            let (broker, began) = (Arc::clone(&broker), Arc::clone(&began));
            callers.spawn("caller", async move {
                let mut work = std::pin::pin!(broker.get());
                let first =
                    std::future::poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx).is_pending()))
                        .await;
                assert!(first, "X01: no one can have the token yet");
                began.send_modify(|began| *began += 1);
                work.await.map(|credential| number(&credential))
            })
        })
        .collect();
    // All of them wait before the response arrives: none uses a cached token.
    assert_eq!(*pending.wait_for(|pending| *pending == 10_000).await.unwrap(), 10_000, "X01");
    broker.server.open();
    for one in waiting {
        assert_eq!(one.await.unwrap(), Ok(1), "X01 G149");
    }
    assert_eq!(broker.server.posts().len(), 1, "X01 G149");
}

#[tokio::test]
async fn x03_many_expired_grants_are_bounded_at_the_endpoint() {
    let broker = Arc::new(Harness::with(grant(HOUR * 2)).await);
    broker.server.close();
    let callers = Tasks::new();
    let waiting: Vec<_> = (0..200)
        .map(|number| {
            let user = User::new("https://broker.example.com", format!("user-{number}"));
            let id = GrantId::new(&format!("grant-{number}"));
            let grant = Grant::new(id, key(user.clone()), ISSUER).granted(scopes("crm:read"));
            broker.grants.insert(grant.refresh_token(secret("rt"))).unwrap();
            broker.server.next(Mode::Says(
                200,
                r#"{"access_token":"at","token_type":"Bearer"}"#,
                "",
            ));
            let broker = Arc::clone(&broker);
            callers.spawn(
                "caller",
                async move { broker.credential(caller_for(user), "").await.is_ok() },
            )
        })
        .collect();
    broker.server.until_asked(64).await;
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(broker.server.posts().len(), 64, "X03");
    broker.server.open();
    for one in waiting {
        assert!(one.await.unwrap(), "X03");
    }
    assert_eq!(broker.server.posts().len(), 200, "X03");
}

#[tokio::test]
async fn g152_a_caller_dropped_at_any_poll_costs_nothing() {
    for polls in 1.. {
        let broker = Harness::with(grant(HOUR * 2)).await;
        let ended = {
            let mut polled = 0;
            let mut call = std::pin::pin!(broker.credential(caller(), ""));
            std::future::poll_fn(|cx| {
                polled += 1;
                match call.as_mut().poll(cx) {
                    Poll::Ready(_) => Poll::Ready(true),
                    Poll::Pending if polled == polls => Poll::Ready(false),
                    Poll::Pending => Poll::Pending,
                }
            })
            .await
        };
        broker.all_landed().await;
        assert_eq!(
            broker.grant().version,
            2,
            "G152: the refresh ran to its end after {polls} polls"
        );
        assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(1), "G152 {polls}");
        assert_eq!(broker.server.posts().len(), 1, "G152 {polls}");
        let leased = broker.grants.lease(&broker.lease_until(now().plus(HOUR))).await.unwrap();
        assert!(
            matches!(leased, LeaseOutcome::Acquired(_)),
            "G152: no lease is held after {polls} polls"
        );
        if ended {
            assert!(polls > 1, "at least one caller was dropped on its way");
            return;
        }
    }
}

#[tokio::test]
async fn each_refresh_sends_the_newest_refresh_token() {
    let broker = Harness::with(grant(HOUR * 2)).await;
    for turn in 1..=3 {
        assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(turn));
        broker.clock.advance(HOUR * 2);
    }
    for (turn, post) in broker.server.posts().iter().enumerate() {
        assert!(post.contains(&format!("refresh_token=rt-{turn}&")), "{post}");
    }
    assert_eq!(broker.server.posts().len(), 3);
}

#[tokio::test]
async fn the_refresh_asks_for_the_operators_scopes_alone() {
    let broker = Harness::with(grant(HOUR * 2)).await;
    broker.get().await.unwrap();
    let post = broker.server.posts().concat();
    assert!(
        post.ends_with("grant_type=refresh_token&refresh_token=rt-0&scope=crm%3Aread"),
        "{post}"
    );
    assert!(post.contains("authorization: Basic YnJva2VyOmNsaWVudC1tYXJrZXI="), "{post}");
}

#[tokio::test]
async fn a_rule_receives_scopes_that_the_user_granted() {
    let broker = Harness::with(grant(Duration::ZERO)).await;
    let wider = broker.needing("crm:write").await.unwrap();
    assert_eq!((wider.scopes(), number(&wider)), (&scopes("crm:read crm:write"), 1));
    let plain = broker.get().await.unwrap();
    assert_eq!(
        (plain.scopes(), number(&plain)),
        (&scopes("crm:read"), 0),
        "the narrow token stays for the other rules"
    );
    let lacking = broker.needing("crm:admin").await.unwrap_err();
    assert_eq!(lacking, CredentialError::ScopeRequired { missing: scopes("crm:admin") });
    let posts = broker.server.posts();
    assert_eq!(posts.len(), 1, "for what the user never agreed to, nobody is asked");
    assert!(posts[0].ends_with("scope=crm%3Aread+crm%3Awrite"), "{}", posts[0]);
}

#[tokio::test]
async fn concurrent_rules_each_receive_their_own_scopes() {
    let needs: Vec<String> = (0..12).map(|number| format!("crm:{number}")).collect();
    let mut many = grant(HOUR * 2);
    many.granted = scopes(&format!("crm:read {}", needs.join(" ")));
    let broker = Harness::with(many).await;
    let call = |need: &String| {
        let (provider, need, trail) =
            (Arc::clone(&broker.provider), need.clone(), broker.trail.clone());
        broker
            .tasks
            .spawn("caller", async move { credential_of(&provider, caller(), &need, &trail).await })
    };
    let calls: Vec<_> = needs.iter().map(call).collect();
    for (call, need) in calls.into_iter().zip(&needs) {
        let credential = call.await.unwrap().map(|credential| credential.scopes().clone());
        assert_eq!(credential, Ok(scopes(&format!("crm:read {need}"))));
    }
    assert_eq!(broker.server.posts().len(), needs.len());
}

#[tokio::test]
async fn a_token_with_more_scopes_is_not_used() {
    let broker = Harness::with(grant(HOUR * 2)).await;
    broker.server.next(Mode::Grants("crm:read crm:admin"));
    assert_eq!(broker.get().await.unwrap_err(), CredentialError::RefusedByPolicy);
    let kept = broker.grant();
    assert_eq!((kept.version, kept.state), (2, GrantState::Active), "what was rotated is kept");
    assert!(kept.access.iter().all(|token| token.version == 1), "the wide token is not");
    broker.clock.advance(Duration::from_secs(5));
    assert_eq!(
        broker.get().await.map(|credential| number(&credential)),
        Ok(2),
        "the next one has the requested scopes"
    );
    assert!(broker.server.posts()[1].contains("refresh_token=rt-1&"));
}

#[tokio::test]
async fn an_operator_can_tolerate_wider_tokens() {
    let tolerant = AuthorizationServer::dangerous_tolerate_wider_scopes;
    let broker = Harness::over(grant(HOUR * 2), |grants| grants, tolerant).await;
    broker.server.next(Mode::Grants("crm:read crm:admin"));
    assert_eq!(broker.get().await.unwrap().scopes(), &scopes("crm:read crm:admin"));
}

#[tokio::test]
async fn a_narrower_token_is_recorded_as_what_it_is() {
    let broker = Harness::with(grant(Duration::ZERO)).await;
    broker.server.next(Mode::Grants("crm:read"));
    let lacking = broker.needing("crm:write").await.unwrap_err();
    assert_eq!(lacking, CredentialError::ScopeRequired { missing: scopes("crm:write") });
    assert_eq!(broker.grant().access.last().unwrap().scopes, scopes("crm:read"));
}

#[tokio::test]
async fn a_token_is_renewed_in_the_background() {
    let broker = Harness::with(grant(Duration::ZERO)).await;
    broker.clock.advance(HOUR / 100 * 77);
    assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(0));
    assert_eq!(broker.server.posts().len(), 0);
    broker.clock.advance(HOUR / 100 * 6);
    broker.server.close();
    for _ in 0..100 {
        assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(0), "no one waits");
    }
    broker.server.until_asked(1).await;
    broker.server.open();
    broker.all_landed().await;
    assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(1));
    assert_eq!(broker.server.posts().len(), 1);
}

#[tokio::test]
async fn a_hundred_refusals_of_one_version_are_one_refresh() {
    let broker = Arc::new(Harness::with(grant(Duration::ZERO)).await);
    let old = broker.get().await.unwrap();
    let callers = Tasks::new();
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let (broker, old) = (Arc::clone(&broker), old.clone());
            callers.spawn("caller", async move {
                broker.refuse(&old).await;
                broker.get().await.map(|credential| number(&credential))
            })
        })
        .collect();
    for one in waiting {
        assert_eq!(one.await.unwrap(), Ok(1));
    }
    broker.refuse(&old).await;
    assert_eq!(
        broker.get().await.map(|credential| number(&credential)),
        Ok(1),
        "a late refusal ends what it names"
    );
    assert_eq!(broker.server.posts().len(), 1);
}

#[tokio::test]
async fn an_upstream_that_refuses_every_token_causes_no_storm() {
    let broker = Harness::with(grant(Duration::ZERO)).await;
    for _ in 0..50 {
        let credential = broker.get().await.unwrap();
        broker.refuse(&credential).await;
    }
    assert_eq!(
        broker.server.posts().len(),
        1,
        "the refreshed one is returned again, and the caller sees that it is the same"
    );
    broker.clock.advance(Duration::from_secs(30));
    assert_eq!(
        broker.get().await.map(|credential| number(&credential)),
        Ok(2),
        "after a while, another try"
    );
}

#[tokio::test]
async fn i515_tokens_that_are_accepted_here_and_refused_there_cause_no_storm() {
    let broker = Harness::with(grant(Duration::ZERO)).await;
    for period in 1..=3 {
        for call in 0..50 {
            let credential = broker.get().await.unwrap();
            broker.refuse_accepted(&credential);
            assert!(broker.server.posts().len() <= 2 * period, "I515 {period} {call}");
            // Alternately accepted before, and not at all.
            if call % 2 == 0 {
                broker.refuse(&broker.get().await.unwrap()).await;
            }
        }
        assert_eq!(broker.server.posts().len(), 2 * period, "I515 {period}");
        broker.clock.advance(Duration::from_secs(31));
    }
}

#[tokio::test]
async fn i515_the_refreshes_of_one_grant_count_together() {
    let broker = Harness::with(grant(Duration::ZERO)).await;
    for _ in 0..20 {
        for need in ["", "crm:write"] {
            let credential = broker.needing(need).await.unwrap();
            broker.refuse_accepted(&credential);
        }
    }
    // The first token of the wider scopes replaced none.
    assert_eq!(broker.server.posts().len(), 3, "I515");
    // Also after a restart, as far as the store shows it.
    let restarted = broker.restarted();
    for _ in 0..20 {
        let credential = credential_of(&restarted, caller(), "", &broker.trail).await.unwrap();
        let (grant, version) = credential.grant().unwrap();
        restarted.0.sightings.token(grant, version, broker.clock.read()).refuse(true);
    }
    assert_eq!(broker.server.posts().len(), 4, "I515");
}

#[tokio::test]
async fn invalid_grant_for_the_current_version_ends_the_grant() {
    let broker = Harness::with(grant(HOUR * 2).refresh_token(secret("rt-stolen"))).await;
    assert_eq!(broker.get().await.unwrap_err(), revoked());
    assert_eq!(broker.grant().state, GrantState::EndedByServer);
    assert_eq!(broker.get().await.unwrap_err(), revoked());
    assert_eq!(broker.server.posts().len(), 1, "what has ended is not requested again");
}

#[tokio::test]
async fn x11_invalid_grant_does_not_end_a_newer_version() {
    let broker = Harness::with(grant(HOUR * 2)).await;
    broker.server.next(Mode::Says(400, r#"{"error":"invalid_grant"}"#, ""));
    broker.server.close();
    let call = broker.credential(caller(), "");
    let meanwhile = async {
        broker.server.until_asked(1).await;
        // Another process sent the token before, and stores the new ones under an expired lease.
        let token = AccessToken::new(secret("at-7"), scopes("crm:read"), now(), now().plus(HOUR));
        let (lease, renewal) = (
            Lease::new(broker.grant().to_ref(), 1, 0),
            Renewal::new(Some(secret("rt-7")), Some(token)),
        );
        assert!(broker.grants.complete(&lease, &renewal).await.unwrap().is_some());
        broker.server.open();
    };
    let (outcome, ()) = tokio::join!(call, meanwhile);
    assert_eq!(outcome.map(|credential| number(&credential)), Ok(1), "X11");
    assert_eq!((broker.grant().state, broker.grant().version), (GrantState::Active, 2), "X11");
    assert_eq!(broker.server.posts().len(), 1, "X11");
}

#[tokio::test]
async fn x11_a_rotated_token_is_kept_after_invalid_grant() {
    let grants = MemoryGrants::new();
    let request =
        LeaseRequest::new(&grants.put(grant(HOUR * 2)).await.unwrap(), now(), now().plus(HOUR));
    let id = grant(HOUR).to_ref();
    let LeaseOutcome::Acquired(lease) = grants.lease(&request).await.unwrap() else { panic!() };
    assert!(grants.end(&id, 1).await.unwrap());
    let stored = grants.complete(&lease, &Renewal::new(Some(secret("rt-1")), None)).await.unwrap();
    assert_eq!(stored.unwrap().state, GrantState::Active, "X11");
    assert!(!grants.end(&id, 1).await.unwrap(), "X11: the old version ends nothing");
    assert!(grants.revoke(&id).await.unwrap());
    let late = grants
        .complete(&Lease::new(id, 2, 1), &Renewal::new(Some(secret("rt-2")), None))
        .await
        .unwrap();
    assert!(late.is_none(), "what the user ended stays ended");
}

#[tokio::test]
async fn x09_an_outage_costs_twelve_tries_and_no_grant() {
    let broker = Harness::with(grant(HOUR / 100 * 90)).await;
    for _ in 0..100 {
        broker.server.next(Mode::Says(500, "{}", ""));
    }
    for second in 0..600 {
        let outcome = broker.get().await;
        broker.all_landed().await;
        // The old token is valid for six more minutes, and is used to its end.
        if second < 360 {
            assert_eq!(
                outcome.map(|credential| number(&credential)),
                Ok(0),
                "X09 G155 at {second} s"
            );
        } else {
            assert!(is_unavailable(&outcome), "X09 G155 at {second} s");
        }
        broker.clock.advance(Duration::from_secs(1));
    }
    let tries = broker.server.posts().len();
    assert!((10..=12).contains(&tries), "X09: {tries}");
    assert_eq!(
        (broker.grant().state, broker.grant().open_attempts),
        (GrantState::Active, 0),
        "X09"
    );
    broker.server.state.modes.lock().clear();
    broker.clock.advance(Duration::from_secs(60));
    assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(1), "X09");
    assert_eq!(broker.grant().backoff, Backoff::default(), "X09");
}

#[tokio::test]
async fn g155_retry_after_is_kept_to() {
    let broker = Harness::with(grant(HOUR * 2)).await;
    broker.server.next(Mode::Says(429, "", "retry-after: 90\r\n"));
    let wait = CredentialError::Unavailable { retry_after: Some(Duration::from_secs(90)) };
    assert_eq!(broker.get().await.unwrap_err(), wait);
    broker.clock.advance(Duration::from_secs(89));
    assert!(is_unavailable(&broker.get().await));
    assert_eq!(broker.server.posts().len(), 1);
    broker.clock.advance(Duration::from_secs(1));
    assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(1));
}

#[tokio::test]
async fn x10_e119_nonsense_keeps_the_grant() {
    let huge: &'static str = Box::leak(" ".repeat(2 * 1024 * 1024).into_boxed_str());
    for (case, mode) in [
        ("X10 2 MiB of an error", Mode::Says(400, huge, "")),
        ("X10 2 MiB of an outage", Mode::Says(503, huge, "")),
        ("X10 2 MiB of a limit", Mode::Says(429, huge, "")),
        ("X10 HTML", Mode::Says(200, "<html>at-9</html>", "content-type: text/html\r\n")),
        ("X10 no content", Mode::Says(204, "", "")),
        ("X10 compressed", Mode::Says(200, "\u{1f}\u{8b}x", "content-encoding: gzip\r\n")),
        ("X10 no JSON in an error", Mode::Says(400, "Bad Request", "")),
        ("E119 mac", Mode::Says(200, r#"{"access_token":"a","token_type":"mac"}"#, "")),
        ("E119 DPoP", Mode::Says(200, r#"{"access_token":"a","token_type":"DPoP"}"#, "")),
        ("E119 no token", Mode::Says(200, r#"{"token_type":"Bearer"}"#, "")),
        ("E119 empty token", Mode::Says(200, r#"{"access_token":"","token_type":"Bearer"}"#, "")),
        (
            "E119 token of two lines",
            Mode::Says(200, r#"{"access_token":"a\r\nb","token_type":"Bearer"}"#, ""),
        ),
        (
            "E119 token is a number",
            Mode::Says(200, r#"{"access_token":7,"token_type":"Bearer"}"#, ""),
        ),
        (
            "E119 doubled member",
            Mode::Says(200, r#"{"access_token":"a","access_token":"b","token_type":"Bearer"}"#, ""),
        ),
        (
            "E119 doubled after unescaping",
            Mode::Says(
                200,
                r#"{"access_token":"a","access\u005ftoken":"b","token_type":"Bearer"}"#,
                "",
            ),
        ),
        ("E119 an array", Mode::Says(200, r#"[["access_token","a"]]"#, "")),
        (
            "E119 scopes that are none",
            Mode::Says(200, r#"{"access_token":"a","token_type":"Bearer","scope":"a\"b"}"#, ""),
        ),
        (
            "invalid_grant of a server that fails",
            Mode::Says(500, r#"{"error":"invalid_grant"}"#, ""),
        ),
        ("doubled error", Mode::Says(400, r#"{"error":"invalid_grant","error":"x"}"#, "")),
        ("invalid_client", Mode::Says(401, r#"{"error":"invalid_client"}"#, "")),
        ("another error", Mode::Says(400, r#"{"error":"temporarily_unavailable"}"#, "")),
        ("C067 a redirect", Mode::Says(307, "", "location: http://169.254.169.254/\r\n")),
    ] {
        let broker = Harness::with(grant(HOUR * 2)).await;
        broker.server.next(mode);
        assert!(is_unavailable(&broker.get().await), "{case}");
        let kept = broker.grant();
        assert_eq!(
            (kept.state, kept.version, kept.open_attempts),
            (GrantState::Active, 1, 0),
            "{case}"
        );
        broker.clock.advance(Duration::from_secs(5));
        assert_eq!(
            broker.get().await.map(|credential| number(&credential)),
            Ok(1),
            "{case}: the next try succeeds"
        );
    }
}

/// The longest lifetime, in seconds.
const YEAR: u64 = 366 * 24 * 3600;

#[tokio::test]
async fn e119_a_token_without_lifetime_is_used_once() {
    let broker = Harness::with(grant(HOUR * 2)).await;
    let once = r#"{"access_token":"a","token_type":"bearer","expires_in":0}"#;
    for posts in 1..=3 {
        broker.server.next(Mode::Says(200, once, ""));
        assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(posts), "E119");
        assert!(broker.recall(&caller(), "").is_none(), "E119");
        assert_eq!(broker.server.posts().len() as u64, posts, "E119");
    }
}

#[tokio::test]
async fn e119_an_impossible_lifetime_is_five_minutes_and_a_long_one_a_year() {
    for (expires_in, seconds) in [
        ("-1", 300),
        (r#""3600""#, 3600),
        (r#"" 3600.0 ""#, 3600),
        (r#""soon""#, 300),
        (r#""NaN""#, 300),
        (r#""inf""#, 300),
        (r#""-infinity""#, 300),
        ("-1e308", 300),
        ("1e308", YEAR),
        ("1e999", YEAR),
        (r#""1e308""#, YEAR),
        ("[3600]", 300),
        ("36e2", 3600),
        ("0", 0),
        ("-0", 0),
        ("null", 300),
        ("3600.5", 3600),
        ("0.5", 0),
        ("31622400", YEAR),
        ("31622401", YEAR),
        ("99999999999999999999", YEAR),
        ("999999999", YEAR),
        (r#"999999999,"expires_in":-1"#, 300),
        ("120", 120),
        (r#"120,"expires_in":60"#, 60),
    ] {
        let body =
            format!(r#"{{"access_token":"a","token_type":"bearer","expires_in":{expires_in}}}"#);
        let broker = Harness::with(grant(HOUR * 2)).await;
        broker.server.next(Mode::Says(200, Box::leak(body.into_boxed_str()), ""));
        let credential = broker.get().await.unwrap();
        assert_eq!(
            credential.expires_at(),
            Some(now().plus(Duration::from_secs(seconds))),
            "E119 {expires_in}"
        );
        let kept = broker.grant().refresh_token.unwrap();
        assert!(kept.matches(&secret("rt-0")), "a refresh token that was not rotated stays");
    }
}

#[tokio::test]
async fn x08_a_lost_response_costs_one_more_try() {
    for mode in [Mode::RotatesAndDrops, Mode::RotatesAndBreaksOff] {
        let broker = Harness::with(grant(HOUR * 2)).await;
        broker.server.next(mode);
        let wait = CredentialError::Unavailable { retry_after: Some(Duration::from_secs(30)) };
        assert_eq!(broker.get().await.unwrap_err(), wait, "X08");
        assert_eq!(
            (broker.grant().state, broker.grant().open_attempts),
            (GrantState::Active, 1),
            "X08"
        );
        broker.clock.advance(Duration::from_secs(30));
        assert_eq!(
            broker.get().await.unwrap_err(),
            revoked(),
            "X08: the server has rotated, and reports it"
        );
        for _ in 0..20 {
            broker.clock.advance(HOUR);
            assert_eq!(broker.get().await.unwrap_err(), revoked(), "X08");
        }
        assert_eq!(broker.server.posts().len(), 2, "X08");
    }
}

#[tokio::test]
async fn x08_the_last_try_waits_for_the_current_token() {
    let broker = Harness::with(grant(HOUR / 100 * 90)).await;
    broker.server.next(Mode::Drops);
    for minute in 0..6 {
        assert_eq!(
            broker.get().await.map(|credential| number(&credential)),
            Ok(0),
            "X08 at {minute} min"
        );
        broker.all_landed().await;
        broker.clock.advance(Duration::from_secs(60));
    }
    assert_eq!((broker.server.posts().len(), broker.grant().open_attempts), (1, 1), "X08");
    assert_eq!(
        broker.get().await.map(|credential| number(&credential)),
        Ok(1),
        "X08: it had not been acted upon"
    );
    assert_eq!((broker.server.posts().len(), broker.grant().open_attempts), (2, 0), "X08");
}

#[tokio::test]
async fn x05_a_token_without_two_responses_is_not_resent() {
    let broker = Harness::with(grant(HOUR * 2)).await;
    broker.server.next(Mode::RotatesAndDrops);
    broker.server.next(Mode::RotatesAndDrops);
    // Make the refresh token the server's current one again, so that its second use is dropped too.
    assert!(is_unavailable(&broker.get().await), "X05");
    broker.server.state.rotated.store(0, Ordering::SeqCst);
    broker.clock.advance(Duration::from_secs(30));
    for _ in 0..20 {
        assert_eq!(broker.get().await.unwrap_err(), connect_required(), "X05: no loop");
        broker.clock.advance(HOUR);
    }
    assert_eq!(broker.server.posts().len(), 2, "X05");
    assert_eq!(
        broker.grant().state,
        GrantState::NeedsUser,
        "no one ended it: an operator may remove the mark"
    );
}

#[tokio::test]
async fn x05_a_mark_of_a_crash_costs_one_try() {
    let mut crashed = grant(HOUR * 2);
    crashed.open_attempts = 1;
    let broker = Harness::with(crashed).await;
    assert_eq!(
        broker.get().await.map(|credential| number(&credential)),
        Ok(1),
        "X04: nothing had been sent"
    );
    assert_eq!(broker.grant().open_attempts, 0);
    let mut crashed = grant(HOUR * 2);
    crashed.open_attempts = 2;
    let broker = Harness::with(crashed).await;
    assert_eq!(broker.get().await.unwrap_err(), connect_required(), "X05");
    assert_eq!(broker.server.posts().len(), 0, "X05");
}

#[tokio::test]
async fn x08_a_server_that_hangs_delays_no_other_grant() {
    let broker = Harness::with(grant(HOUR * 2)).await;
    let bob = User::new("https://broker.example.com", "bob");
    let token = AccessToken::new(secret("at-bob"), scopes("crm:read"), now(), now().plus(HOUR));
    let of_bob =
        Grant::new(GrantId::new("g2"), key(bob.clone()), ISSUER).granted(scopes("crm:read"));
    broker.grants.put(of_bob.access_token(token)).await.unwrap();
    broker.server.next(Mode::Hangs);
    let mut call = std::pin::pin!(broker.credential(caller(), ""));
    assert!(std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await.is_pending());
    broker.server.until_asked(1).await;
    assert!(
        broker.credential(caller_for(bob), "").await.is_ok(),
        "X08: another grant is not affected"
    );
    assert!(is_unavailable(&call.await), "X08");
    assert_eq!(broker.grant().open_attempts, 1, "X08");
}

#[tokio::test]
async fn a_closed_port_leaves_no_mark() {
    let broker = Harness::over(
        grant(HOUR * 2),
        |grants| grants,
        |_| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/token", listener.local_addr().unwrap());
            AuthorizationServer::new(
                ISSUER,
                url.parse().unwrap(),
                ClientAuthentication::public("broker"),
            )
            .scopes(scopes("crm:read"))
        },
    )
    .await;
    for _ in 0..5 {
        assert!(is_unavailable(&broker.get().await));
        assert_eq!((broker.grant().state, broker.grant().open_attempts), (GrantState::Active, 0));
        broker.clock.advance(Duration::from_secs(60));
    }
}

#[tokio::test]
async fn the_connect_page_is_the_callers_own() {
    let broker = Harness::with(grant(Duration::ZERO)).await;
    let bob = User::new("https://broker.example.com", "bob");
    for (caller, page) in [(caller(), "crm?for=ana"), (caller_for(bob), "crm?for=bob")] {
        let named = broker.provider.connect_url(&caller);
        assert_eq!(
            named.as_deref(),
            Some(format!("https://broker.example.com/connect/{page}").as_str())
        );
    }
}

#[tokio::test]
async fn a_user_without_a_matching_grant_must_connect() {
    let mut other_server_grant = grant(Duration::ZERO);
    other_server_grant.authorization_server = "https://evil.example".into();
    let mut other_server = grant(Duration::ZERO);
    other_server.key.server = "mail".into();
    let mut other_user = grant(Duration::ZERO);
    other_user.key.user = User::new("https://broker.example.com/", "ana");
    let mut other_account = grant(Duration::ZERO);
    other_account.key.account = Account::parse("work").unwrap();
    for grant in [other_server_grant, other_server, other_user, other_account] {
        let broker = Harness::with(grant).await;
        assert_eq!(broker.get().await.unwrap_err(), connect_required());
        assert_eq!(broker.server.posts().len(), 0);
    }
}

#[tokio::test]
async fn an_access_token_without_refresh_is_used_fully() {
    let mut short = grant(Duration::ZERO);
    short.refresh_token = None;
    let broker = Harness::with(short).await;
    broker.clock.advance(HOUR / 100 * 99);
    assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(0));
    broker.clock.advance(HOUR);
    assert_eq!(broker.get().await.unwrap_err(), connect_required());
    assert_eq!(broker.server.posts().len(), 0);
}

#[tokio::test]
async fn a_revoked_grant_is_not_used_after_a_minute() {
    let broker = Harness::with(grant(Duration::ZERO)).await;
    broker.get().await.unwrap();
    assert!(broker.grants.revoke(&broker.grant().to_ref()).await.unwrap());
    broker.clock.advance(Duration::from_secs(60));
    assert_eq!(broker.get().await.unwrap_err(), revoked());
}

#[tokio::test]
async fn a_held_lease_is_waited_for() {
    let broker = Harness::with(grant(HOUR * 2)).await;
    let until = now().plus(Duration::from_secs(10));
    let LeaseOutcome::Acquired(lease) =
        broker.grants.lease(&broker.lease_until(until)).await.unwrap()
    else {
        panic!()
    };
    let mut call = std::pin::pin!(broker.credential(caller(), ""));
    assert!(std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await.is_pending());
    let token = AccessToken::new(secret("at-9"), scopes("crm:read"), now(), now().plus(HOUR));
    assert!(
        broker
            .grants
            .complete(&lease, &Renewal::new(Some(secret("rt-9")), Some(token)))
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(call.await.map(|credential| number(&credential)), Ok(1));
    assert_eq!(broker.server.posts().len(), 0, "G150");
}

/// Returns the same user with a broker token that names this account.
fn caller_at(account: &str) -> Principal {
    let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
    let times = TokenTimes { id: "t", issued_at: now(), expires_at: now().plus(HOUR) };
    let verified = Verified::vouch(ana(), "client", resource, times);
    Principal::for_test(&verified.with_account(account))
}

/// Returns a grant of the same user for the account `work`.
fn grant_at_work(age: Duration) -> Grant {
    let mut at_work = grant(age);
    at_work.id = GrantId::new("g-work");
    at_work.key.account = Account::parse("work").unwrap();
    at_work.refresh_token(secret("rt-work"))
}

async fn with_both(age: Duration) -> Harness {
    let broker = Harness::with(grant(age)).await;
    broker.grants.put(grant_at_work(age)).await.unwrap();
    broker
}

fn id(credential: &Credential) -> &str {
    credential.grant().unwrap().0.as_str()
}

#[tokio::test]
async fn each_account_uses_its_own_grant() {
    let broker = with_both(Duration::ZERO).await;
    let at_work = broker.credential(caller_at("work"), "").await.unwrap();
    assert_eq!(id(&at_work), "g-work");
    assert!(broker.recall(&caller(), "").is_none(), "nothing of the other account is cached");
    let by_default = broker.credential(caller(), "").await.unwrap();
    assert_eq!(id(&by_default), "g1");
    for (caller, grant) in
        [(caller_at("work"), "g-work"), (caller(), "g1"), (caller_at("default"), "g1")]
    {
        assert_eq!(id(&broker.recall(&caller, "").unwrap()), grant, "the caches are separate");
    }
    assert_eq!(broker.server.posts().len(), 0);
}

#[tokio::test]
async fn an_account_without_a_grant_must_be_connected() {
    let broker = with_both(Duration::ZERO).await;
    broker.get().await.unwrap();
    for _ in 0..2 {
        assert!(broker.recall(&caller_at("home"), "").is_none());
        let refused = broker.credential(caller_at("home"), "").await.unwrap_err();
        assert_eq!(refused, connect_required());
    }
}

#[tokio::test]
async fn an_impossible_account_name_must_be_connected() {
    let broker = with_both(Duration::ZERO).await;
    broker.get().await.unwrap();
    let too_long = "a".repeat(Account::MAX_LENGTH + 1);
    for name in ["", "Work", "wörk", "a/b", "work ", ".", "..", "work\0", &too_long] {
        assert!(broker.recall(&caller_at(name), "").is_none(), "{name:?}");
        let refused = broker.credential(caller_at(name), "").await.unwrap_err();
        assert_eq!(refused, connect_required(), "{name:?} is no other account either");
    }
    assert_eq!(broker.server.posts().len(), 0);
}

#[tokio::test]
async fn two_accounts_are_refreshed_at_the_same_time() {
    let broker = with_both(HOUR * 2).await;
    broker.server.close();
    for _ in 0..2 {
        broker.server.next(Mode::Says(200, r#"{"access_token":"at","token_type":"Bearer"}"#, ""));
    }
    // The first call of each account begins a refresh; the second joins it.
    let calls = async {
        tokio::join!(
            broker.credential(caller(), ""),
            broker.credential(caller(), ""),
            broker.credential(caller_at("work"), ""),
            broker.credential(caller_at("work"), ""),
        )
    };
    let opened = async {
        broker.server.until_asked(2).await;
        broker.server.open();
    };
    let (credentials, ()) = tokio::join!(calls, opened);
    let (first, second, at_work, again_at_work) = credentials;
    for (credential, grant) in
        [(first, "g1"), (second, "g1"), (at_work, "g-work"), (again_at_work, "g-work")]
    {
        assert_eq!(id(&credential.unwrap()), grant);
    }
    let posts = broker.server.posts();
    assert_eq!(posts.len(), 2, "one refresh for each account");
    for token in ["refresh_token=rt-0&", "refresh_token=rt-work&"] {
        assert_eq!(posts.iter().filter(|post| post.contains(token)).count(), 1, "{token}");
    }
}

#[tokio::test]
async fn a_refused_credential_ends_that_of_its_account_only() {
    let broker = with_both(Duration::ZERO).await;
    let at_work = broker.credential(caller_at("work"), "").await.unwrap();
    broker.get().await.unwrap();
    broker.refuse(&at_work).await;
    assert!(broker.recall(&caller_at("work"), "").is_none());
    assert_eq!(id(&broker.recall(&caller(), "").unwrap()), "g1");
}

#[tokio::test]
async fn a_revoked_grant_leaves_the_other_account_connected() {
    let broker = with_both(Duration::ZERO).await;
    assert!(broker.grants.revoke(&grant_at_work(HOUR).to_ref()).await.unwrap());
    let refused = broker.credential(caller_at("work"), "").await.unwrap_err();
    assert_eq!(refused, revoked());
    assert!(broker.get().await.is_ok());
}

/// Store whose first calls fail.
struct Hiccups {
    grants: MemoryGrants,
    store_fails: Arc<AtomicUsize>,
    mark_fails: Arc<AtomicUsize>,
    unreadable: bool,
}

fn failing(store: usize, mark: usize) -> (Arc<AtomicUsize>, Arc<AtomicUsize>) {
    (Arc::new(AtomicUsize::new(store)), Arc::new(AtomicUsize::new(mark)))
}

fn fails(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl GrantStore for Hiccups {
    async fn load(&self, key: &GrantKey) -> Result<Option<Grant>, StoreError> {
        let loaded = self.grants.load(key).await?;
        match loaded {
            Some(grant) if self.unreadable => Err(StoreError::Unreadable { grant: grant.id }),
            loaded => Ok(loaded),
        }
    }

    async fn list(&self, filter: &GrantFilter) -> Result<GrantPage, StoreError> {
        self.grants.list(filter).await
    }

    async fn put(&self, grant: Grant) -> Result<Grant, StoreError> {
        self.grants.put(grant).await
    }

    async fn revoke(&self, grant: &GrantRef) -> Result<bool, StoreError> {
        self.grants.revoke(grant).await
    }

    async fn delete(&self, grant: &GrantRef) -> Result<bool, StoreError> {
        self.grants.delete(grant).await
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<LeaseOutcome, StoreError> {
        self.grants.lease(request).await
    }

    async fn mark_attempt(&self, lease: &Lease) -> Result<(), StoreError> {
        if fails(&self.mark_fails) {
            return Err(StoreError::Unreachable);
        }
        self.grants.mark_attempt(lease).await
    }

    async fn complete(
        &self,
        lease: &Lease,
        renewal: &Renewal,
    ) -> Result<Option<Grant>, StoreError> {
        if fails(&self.store_fails) {
            return Err(StoreError::Unreachable);
        }
        self.grants.complete(lease, renewal).await
    }

    async fn release(&self, lease: &Lease, attempt: &Attempt) -> Result<(), StoreError> {
        self.grants.release(lease, attempt).await
    }

    async fn end(&self, grant: &GrantRef, version: u64) -> Result<bool, StoreError> {
        self.grants.end(grant, version).await
    }
}

#[tokio::test]
async fn a_store_that_hiccups_costs_no_rotated_token() {
    let (store_fails, mark_fails) = failing(3, 0);
    let broker = Harness::over(
        grant(HOUR * 2),
        |grants| Hiccups { grants, store_fails, mark_fails, unreadable: false },
        |at| at,
    )
    .await;
    assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(1));
    assert!(broker.grant().refresh_token.unwrap().matches(&secret("rt-1")));
    assert_eq!(broker.server.posts().len(), 1);
}

#[tokio::test]
async fn x06_a_crash_before_storing_costs_one_more_try() {
    let (store_fails, mark_fails) = failing(usize::MAX, 0);
    let left = Arc::clone(&store_fails);
    let broker = Harness::over(
        grant(HOUR * 2),
        |grants| Hiccups { grants, store_fails, mark_fails, unreadable: false },
        |at| at,
    )
    .await;
    {
        let mut call = std::pin::pin!(broker.credential(caller(), ""));
        assert!(std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await.is_pending());
        // The response was received, and storing it fails. This process does nothing more.
        while left.load(Ordering::SeqCst) == usize::MAX {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert_eq!(
        (broker.grant().version, broker.grant().open_attempts),
        (1, 1),
        "X06: the state that it leaves"
    );
    broker.clock.advance(Duration::from_secs(21));
    // The lease has expired. The server recognizes the rotated token, and the user must reconnect.
    let restarted = broker.restarted();
    let outcome = credential_of(&restarted, caller(), "", &broker.trail).await;
    assert_eq!(outcome.unwrap_err(), revoked(), "X06");
    for _ in 0..20 {
        broker.clock.advance(HOUR);
        assert!(credential_of(&restarted, caller(), "", &broker.trail).await.is_err());
    }
    assert_eq!(broker.server.posts().len(), 2, "X06: as X05, one more try and no loop");
}

#[tokio::test]
async fn x07_a_crash_after_storing_costs_nothing() {
    let broker = Harness::with(grant(HOUR * 2)).await;
    {
        let mut call = std::pin::pin!(broker.credential(caller(), ""));
        assert!(std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await.is_pending());
        while broker.grant().version == 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    // No caller received the token.
    let outcome = credential_of(&broker.restarted(), caller(), "", &broker.trail).await;
    assert_eq!(outcome.map(|credential| number(&credential)), Ok(1), "X07: nothing is lost");
    assert_eq!(broker.server.posts().len(), 1, "X07: and nothing is requested twice");
    assert!(broker.grant().refresh_token.unwrap().matches(&secret("rt-1")), "X07");
}

#[tokio::test]
async fn x23_a_changed_clock_causes_no_extra_refreshes() {
    for (minutes, forward) in [(2, true), (60, true), (2, false), (60, false)] {
        let broker = Harness::with(grant(HOUR * 2)).await;
        {
            let mut call = std::pin::pin!(broker.credential(caller(), ""));
            assert!(
                std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await.is_pending()
            );
            broker.server.until_asked(1).await;
            let by = Duration::from_secs(minutes * 60);
            let set = if forward { now().plus(by) } else { now().minus(by) };
            broker.clock.set_wall_clock(set);
            assert_eq!(
                call.await.map(|credential| number(&credential)),
                Ok(1),
                "X23 {minutes} {forward}"
            );
        }
        for _ in 0..50 {
            broker.clock.advance(Duration::from_secs(60));
            assert!(broker.get().await.is_ok(), "X23 {minutes} {forward}");
        }
        broker.all_landed().await;
        // One more refresh is due after four fifths of the hour.
        let posts = broker.server.posts().len();
        assert!(posts <= 2, "X23 {minutes} {forward}: {posts}");
        assert_eq!(
            (broker.grant().state, broker.grant().open_attempts),
            (GrantState::Active, 0),
            "X23"
        );
    }
}

#[tokio::test]
async fn without_a_durable_mark_nothing_is_sent() {
    let (store_fails, mark_fails) = failing(0, 1);
    let broker = Harness::over(
        grant(HOUR * 2),
        |grants| Hiccups { grants, store_fails, mark_fails, unreadable: false },
        |at| at,
    )
    .await;
    assert!(is_unavailable(&broker.get().await));
    assert_eq!(broker.server.posts().len(), 0);
}

#[tokio::test]
async fn o281_an_unreadable_grant_is_unavailable_and_kept() {
    let (store_fails, mark_fails) = failing(0, 0);
    let broker = Harness::over(
        grant(HOUR * 2),
        |grants| Hiccups { grants, store_fails, mark_fails, unreadable: true },
        |at| at,
    )
    .await;
    // Not "connect an account": the key may be put back.
    assert!(is_unavailable(&broker.get().await), "O281");
    assert_eq!(broker.server.posts().len(), 0, "O281");
    assert!(broker.grant().refresh_token.is_some(), "O281");
}

#[tokio::test]
async fn without_a_durable_intent_nothing_is_sent() {
    let broker = Harness::with(grant(HOUR * 2)).await;
    broker.records.fail();
    assert!(is_unavailable(&broker.get().await));
    assert_eq!(broker.server.posts().len(), 0);
    let kept = broker.grant();
    assert_eq!((kept.state, kept.open_attempts, kept.backoff.failures), (GrantState::Active, 0, 0));
    let leased = broker.grants.lease(&broker.lease_until(now().plus(HOUR))).await.unwrap();
    assert!(matches!(leased, LeaseOutcome::Acquired(_)), "no lease is held");
}

#[tokio::test]
async fn each_post_is_between_intent_and_outcome() {
    for (modes, outcomes) in [
        (vec![], vec!["intent", "issued"]),
        (vec![Mode::Says(500, "", "")], vec!["intent", "failed"]),
        (vec![Mode::RotatesAndDrops], vec!["intent", "unknown"]),
        (vec![Mode::Says(400, r#"{"error":"invalid_grant"}"#, "")], vec!["intent", "grant_ended"]),
    ] {
        let broker = Harness::with(grant(HOUR * 2)).await;
        for mode in modes {
            broker.server.next(mode);
        }
        broker.server.close();
        let requested = async {
            broker.server.until_asked(1).await;
            let intents = broker
                .records
                .records()
                .iter()
                .filter(|record| record.kind() == "token_request")
                .count();
            assert_eq!(intents, 1, "the intent is durable when the token endpoint is asked");
            broker.server.open();
        };
        let (_, ()) = tokio::join!(broker.get(), requested);
        assert_eq!(broker.refreshes().await, outcomes);
        assert_eq!(broker.server.posts().len(), 1);
        let lines = broker.records.lines().concat();
        assert!(!lines.contains("rt-") && !lines.contains("at-1"), "{lines}");
    }
}

#[test]
fn g157_no_two_lists_of_parts_have_one_key() {
    let parts = [
        "",
        "a",
        "b",
        "c",
        "|",
        ":",
        "\0",
        "a|b",
        "b|c",
        "|a",
        "a|",
        "a:b",
        ":a",
        "a\0",
        "\0a",
        "a\0b",
        "ab",
        "abc",
        "bc",
        "aa",
        "aaa",
        "\0\0",
        "\u{1}",
        "a ",
        " a",
        "A",
        "ä",
        "a\u{308}",
        "0",
        "00000001",
        "\0\0\0\0\0\0\0\u{1}",
        "https://a",
    ];
    let mut keys = HashSet::with_capacity(parts.len().pow(4));
    let mut tried = 0;
    for issuer in parts {
        for subject in parts {
            let user = User::new(issuer, subject);
            for upstream in parts {
                for requested in parts {
                    keys.insert(
                        Parts::of("entry")
                            .user(&user)
                            .part(upstream)
                            .list(std::iter::once(requested))
                            .key(),
                    );
                    tried += 1;
                }
            }
        }
    }
    assert_eq!(keys.len(), tried, "G157");
    assert!(tried > 1_000_000, "G157");
}

#[tokio::test]
async fn nothing_that_can_be_printed_shows_a_secret() {
    let broker = Harness::with(grant(HOUR * 2)).await;
    let credential = broker.get().await.unwrap();
    for post in ["rt-0", "Basic"] {
        assert!(broker.server.posts().concat().contains(post), "the secrets were in play");
    }
    let printed =
        format!("{:?} {:?} {:?} {credential:?}", broker.provider, broker.grant(), broker.grants);
    for marker in ["rt-", "at-0", "at-1", "client-marker", "Y2xpZW50LW1hcmtlcg"] {
        assert!(!printed.contains(marker), "{marker} in {printed}");
    }
}

/// Sets the clock a day ahead, runs `during`, and sets it right again after 20 s.
async fn a_day_ahead<T>(clock: &Clock, during: impl Future<Output = T>) -> T {
    let right = clock.now();
    clock.set_wall_clock(right.plus(HOUR * 24));
    let result = during.await;
    clock.advance(Duration::from_secs(20));
    clock.set_wall_clock(right.plus(Duration::from_secs(20)));
    result
}

#[tokio::test]
async fn g400_a_failure_while_the_clock_was_ahead_is_retried_soon() {
    let broker = Harness::with(grant(HOUR * 2)).await;
    broker.server.next(Mode::Says(500, "", ""));
    assert!(is_unavailable(&a_day_ahead(&broker.clock, broker.get()).await), "G400");
    broker.clock.advance(Duration::from_secs(600));
    assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(1), "G400");
}

#[tokio::test]
async fn g400_the_retry_time_of_another_replica_is_bounded() {
    for ahead in [24, 24 * 365] {
        let mut row = grant(HOUR * 2);
        row.backoff = Backoff::new(1, Some(now().plus(HOUR * ahead)));
        let broker = Harness::with(row).await;
        let refused = broker.get().await.unwrap_err();
        assert_eq!(refused, CredentialError::Unavailable { retry_after: Some(HOUR) }, "G400");
        broker.clock.advance(HOUR);
        assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(1), "G400");
    }
}

#[tokio::test]
async fn g400_a_clock_ahead_ends_no_pause_of_this_process() {
    let broker = Harness::with(grant(HOUR * 2)).await;
    broker.server.next(Mode::Says(429, "", "retry-after: 60\r\n"));
    assert!(is_unavailable(&broker.get().await));
    broker.clock.set_wall_clock(now().plus(HOUR * 24));
    assert!(is_unavailable(&broker.get().await), "G400");
    assert_eq!(broker.server.posts().len(), 1, "G400: no storm");
    broker.clock.advance(Duration::from_secs(60));
    assert!(broker.get().await.is_ok(), "G400");
}

#[tokio::test]
async fn g400_other_replicas_see_no_time_of_a_clock_that_was_ahead() {
    let broker = Harness::with(grant(HOUR * 2)).await;
    broker.server.next(Mode::Says(500, "", ""));
    assert!(is_unavailable(&a_day_ahead(&broker.clock, broker.get()).await));
    let retry_at = broker.grant().backoff.retry_at;
    assert_eq!(retry_at, Some(now().plus(Duration::from_secs(5))), "G400");
}

#[tokio::test]
async fn g401_a_token_from_under_a_clock_ahead_is_used_no_longer() {
    let broker = Harness::with(grant(HOUR * 2)).await;
    let first = a_day_ahead(&broker.clock, broker.get()).await;
    assert_eq!(first.map(|credential| number(&credential)), Ok(1));
    broker.clock.advance(HOUR);
    assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(2), "G401");
}

#[tokio::test]
async fn g401_a_token_of_a_replica_with_a_clock_ahead_is_bounded() {
    let obtained = now().plus(HOUR * 24);
    let mut row = grant(Duration::ZERO);
    row.access[0].obtained_at = obtained;
    row.access[0].expires_at = obtained.plus(HOUR);
    let broker = Harness::with(row).await;
    assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(0));
    broker.clock.advance(HOUR);
    assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(1), "G401");
}

#[tokio::test]
async fn g401_a_slow_clock_extends_no_token() {
    let broker = Harness::with(grant(Duration::ZERO)).await;
    // Slow from the start, and then right: only the second step is one that the clock follows.
    broker.clock.set_wall_clock(now().minus(HOUR * 24));
    assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(0));
    broker.clock.set_wall_clock(now());
    broker.clock.advance(HOUR);
    assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(1), "G401");
}

#[tokio::test]
async fn g401_a_grant_is_loaded_again_after_the_system_slept() {
    let broker = Harness::with(grant(Duration::ZERO)).await;
    assert!(broker.get().await.is_ok());
    assert!(broker.grants.revoke(&broker.grant().to_ref()).await.unwrap());
    assert!(broker.get().await.is_ok(), "cached");
    // The monotonic clock did not run.
    broker.clock.set_wall_clock(now().plus(Duration::from_secs(60)));
    assert_eq!(broker.get().await.unwrap_err(), revoked(), "G401");
}

async fn many_turns() {
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn g405_a_clock_ahead_overtakes_no_lease() {
    let broker = Arc::new(Harness::with(grant(HOUR * 2)).await);
    let until = now().plus(Duration::from_secs(20));
    let leased = broker.grants.lease(&broker.lease_until(until)).await.unwrap();
    let LeaseOutcome::Acquired(lease) = leased else { panic!() };
    broker.clock.set_wall_clock(now().plus(HOUR * 24));
    let (callers, calling) = (Tasks::new(), Arc::clone(&broker));
    let call = callers.spawn("caller", async move { calling.credential(caller(), "").await });
    many_turns().await;
    assert_eq!(broker.grants.mark_attempt(&lease).await, Ok(()), "G405: still the last lease");
    assert_eq!(broker.server.posts().len(), 0, "G405");
    broker.clock.set_wall_clock(now());
    let attempt = Attempt::new(AttemptOutcome::NotSent, Backoff::default());
    broker.grants.release(&lease, &attempt).await.unwrap();
    assert_eq!(call.await.unwrap().map(|credential| number(&credential)), Ok(1));
}

#[tokio::test]
async fn g405_a_lease_from_under_a_clock_ahead_is_over_in_time() {
    let broker = Arc::new(Harness::with(grant(HOUR * 2)).await);
    let until = now().plus(HOUR * 24);
    let leased = broker.grants.lease(&broker.lease_until(until)).await.unwrap();
    assert!(matches!(leased, LeaseOutcome::Acquired(_)), "of a process that ended");
    let (callers, calling) = (Tasks::new(), Arc::clone(&broker));
    let call = callers.spawn("caller", async move { calling.credential(caller(), "").await });
    many_turns().await;
    assert_eq!(broker.server.posts().len(), 0);
    broker.clock.advance(Duration::from_secs(20));
    assert_eq!(call.await.unwrap().map(|credential| number(&credential)), Ok(1), "G405");
}

#[tokio::test]
async fn g402_failures_of_one_grant_pause_no_other() {
    let broker = Harness::with(grant(HOUR * 2)).await;
    for number in 0..10 {
        let user = User::new("https://broker.example.com", format!("user-{number}"));
        let id = GrantId::new(&format!("grant-{number}"));
        let grant = Grant::new(id, key(user.clone()), ISSUER).granted(scopes("crm:read"));
        broker.grants.insert(grant.refresh_token(secret("rt-dead"))).unwrap();
        assert!(broker.credential(caller_for(user), "").await.is_err());
    }
    assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(1), "G402");
}

#[tokio::test]
async fn g402_one_user_leaves_places_for_the_others() {
    let broker = Arc::new(Harness::with(grant(HOUR * 2)).await);
    let bob = User::new("https://broker.example.com", "bob");
    let mut of_bob = grant(HOUR * 2).refresh_token(secret("rt-0"));
    (of_bob.id, of_bob.key.user) = (GrantId::new("bob"), bob.clone());
    broker.grants.put(of_bob).await.unwrap();
    for account in 0..10_000 {
        let mut many = grant(HOUR * 2).refresh_token(secret("rt-slow"));
        many.id = GrantId::new(&format!("many-{account}"));
        many.key.account = Account::parse(&format!("a{account}")).unwrap();
        broker.grants.put(many).await.unwrap();
    }
    let callers = Tasks::new();
    let waiting: Vec<_> = (0..10_000)
        .map(|account| {
            let broker = Arc::clone(&broker);
            callers.spawn("caller", async move {
                broker.credential(caller_at(&format!("a{account}")), "").await.is_ok()
            })
        })
        .collect();
    broker.server.until_asked(4).await;
    let outcome = broker.credential(caller_for(bob), "").await;
    assert_eq!(outcome.map(|credential| number(&credential)), Ok(1), "G402");
    drop(waiting);
}
