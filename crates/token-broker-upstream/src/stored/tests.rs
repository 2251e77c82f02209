//! Stored grants against a token endpoint on loopback that rotates, counts, and misbehaves on demand.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use parking_lot::Mutex;
use token_broker_outbound::{FetchLimits, Guard, GuardedClient};
use token_broker_store::{
    AccessToken, Account, Attempt, Backoff, Grant, GrantFilter, GrantKey, GrantPage, GrantState, GrantStore, Lease,
    LeaseOutcome, LeaseRequest, MemoryGrants, Renewal, StoreError,
};
use tower_token_broker::{
    Secret,
    audit::{AuditLog, InMemory, Trail},
    clock::{Clock, Timestamp},
    exchange::{Credential, CredentialError, ProvideCredential, Upstream},
    principal::{GrantId, Principal, Resource, Scopes, TokenTimes, User, Verified},
    tasks::Tasks,
};

use super::StoredGrants;
use crate::{
    AuthorizationServer, ClientAuthentication,
    endpoint::{Endpoint, Reply},
    key::Parts,
};

const ISSUER: &str = "https://login.crm.example";
const HOUR: Duration = Duration::from_secs(3600);

/// How the token endpoint answers one request.
enum Mode {
    /// With this status and body, and these header lines.
    Says(u16, &'static str, &'static str),
    /// New tokens of these scopes.
    Grants(&'static str),
    /// New tokens, of which nobody hears.
    RotatesAndDrops,
    /// New tokens, of which half is heard.
    RotatesAndBreaksOff,
    /// By hanging up.
    Drops,
    /// Never.
    Hangs,
}

/// An authorization server whose refresh tokens are good once.
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
        let rotates = request.contains(&format!("refresh_token=rt-{}&", self.rotated.load(Ordering::SeqCst)));
        let mode = self.modes.lock().pop_front();
        match mode {
            Some(Mode::Says(status, body, headers)) => Reply::Says(status, headers, body.to_owned()),
            Some(Mode::Drops) => Reply::HangsUp,
            Some(Mode::Hangs) => Reply::Hangs,
            _ if !rotates => Reply::Says(400, "", r#"{"error":"invalid_grant"}"#.to_owned()),
            Some(Mode::Grants(scopes)) => Reply::Says(200, "", self.rotate(&format!(r#","scope":"{scopes}""#))),
            None => Reply::Says(200, "", self.rotate("")),
            Some(Mode::RotatesAndDrops) => {
                drop(self.rotate(""));
                Reply::HangsUp
            }
            Some(Mode::RotatesAndBreaksOff) => Reply::BreaksOff(self.rotate("")),
        }
    }

    fn rotate(&self, more: &str) -> String {
        let number = self.rotated.fetch_add(1, Ordering::SeqCst) + 1;
        format!(
            r#"{{"access_token":"at-{number}","token_type":"Bearer","expires_in":3600,"refresh_token":"rt-{number}"{more}}}"#
        )
    }
}

/// A provider over a store, at the server above, with a clock that is set by hand.
struct Broker<S = MemoryGrants> {
    server: Server,
    grants: MemoryGrants,
    provider: Arc<StoredGrants<S>>,
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

/// The key of a user's grant for this server.
fn key(user: User) -> GrantKey {
    GrantKey::new(user, "crm", Account::default_account())
}

/// Ana's grant of two scopes, with a token of the operator's one that was got `age` ago and lives an hour.
fn grant(age: Duration) -> Grant {
    let obtained = now().minus(age);
    Grant::new(GrantId::new("g1"), key(ana()), ISSUER)
        .granted(scopes("crm:read crm:write"))
        .refresh_token(secret("rt-0"))
        .access_token(AccessToken::new(secret("at-0"), scopes("crm:read"), obtained, obtained.plus(HOUR)))
}

fn provider<S: GrantStore>(
    server: &Server,
    store: S,
    clock: &Clock,
    tasks: &Tasks,
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
    StoredGrants::new(store, upstream, configure(at), client.unwrap())
        .connect_url(|caller| format!("https://broker.example.com/connect/crm?for={}", caller.subject()).into())
        .with_clock(clock.clone())
        .with_tasks(tasks.clone())
}

impl Broker {
    async fn with(grant: Grant) -> Self {
        Self::over(grant, |grants| grants, |server| server).await
    }
}

impl<S: GrantStore> Broker<S> {
    async fn over(
        grant: Grant,
        store: impl FnOnce(MemoryGrants) -> S,
        configure: impl FnOnce(AuthorizationServer) -> AuthorizationServer,
    ) -> Self {
        let (server, clock, tasks) = (Server::start().await, Clock::manual(now()), Tasks::new());
        let grants = MemoryGrants::new();
        grants.put(grant).await.unwrap();
        let provider = provider(&server, store(grants.clone()), &clock, &tasks, configure);
        let (log, records) = AuditLog::in_memory();
        // The request may be over long before the refresh is: its terminal record is written here and now.
        let (trail, _) = Trail::for_test(&log);
        Self { server, grants, provider: Arc::new(provider), clock, tasks, records, trail }
    }

    /// What a new process finds that has this store and server alone.
    fn restarted(&self) -> StoredGrants<MemoryGrants> {
        provider(&self.server, self.grants.clone(), &self.clock, &self.tasks, |at| at)
    }

    async fn get(&self) -> Result<Credential, CredentialError> {
        self.needing("").await
    }

    async fn needing(&self, need: &str) -> Result<Credential, CredentialError> {
        match self.provider.recall(&caller(), &scopes(need)) {
            Some(credential) => Ok(credential),
            None => self.provider.credential(&caller(), &scopes(need), &self.trail).await,
        }
    }

    fn lease_until(&self, until: Timestamp) -> LeaseRequest {
        LeaseRequest::new(&self.grant(), now(), until)
    }

    fn grant(&self) -> Grant {
        self.grants.get(&key(ana())).unwrap()
    }

    /// The records of refreshes: intents, and the outcomes of results.
    async fn refreshes(&self) -> Vec<String> {
        self.all_landed().await;
        let of = |line: &String| {
            let value: serde_json::Value = line.parse().unwrap();
            match value["kind"].as_str().unwrap() {
                "refresh_intent" => Some("intent".to_owned()),
                "refresh_result" => Some(value["outcome"].as_str().unwrap().to_owned()),
                _ => None,
            }
        };
        // A result is written soon after it is known; the intents were written before.
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

/// Which access token it is: the server's number, as the grant's version says it (version 1 is `at-0`).
fn number(credential: &Credential) -> u64 {
    credential.grant().unwrap().1 - 1
}

fn connect_required() -> CredentialError {
    CredentialError::ConnectRequired { connect_url: None }
}

fn revoked() -> CredentialError {
    CredentialError::Revoked { connect_url: None }
}

fn is_unavailable<T>(got: &Result<T, CredentialError>) -> bool {
    matches!(got, Err(CredentialError::Unavailable { .. }))
}

#[tokio::test]
async fn a_fresh_token_is_given_without_asking_anyone() {
    let broker = Broker::with(grant(Duration::ZERO)).await;
    assert!(broker.provider.recall(&caller(), &Scopes::none()).is_none(), "nothing is known yet");
    let first = broker.get().await.unwrap();
    assert_eq!((number(&first), first.scopes()), (0, &scopes("crm:read")));
    assert_eq!(first.origin().as_str(), "https://mcp.crm.example:443");
    assert!(broker.provider.recall(&caller(), &Scopes::none()).is_some());
    assert_eq!(broker.server.posts().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x01_ten_thousand_first_uses_of_one_expired_grant_are_one_post() {
    let broker = Arc::new(Broker::with(grant(HOUR * 2)).await);
    broker.server.close();
    {
        let (caller, need, trail) = (caller(), Scopes::none(), broker.trail.clone());
        let mut first = std::pin::pin!(broker.provider.credential(&caller, &need, &trail));
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
                let first = std::future::poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx).is_pending())).await;
                assert!(first, "X01: nobody can have the token yet");
                began.send_modify(|began| *began += 1);
                work.await.map(|credential| number(&credential))
            })
        })
        .collect();
    // All of them wait before the one answer comes: none finds a token that is there already.
    assert_eq!(*pending.wait_for(|pending| *pending == 10_000).await.unwrap(), 10_000, "X01");
    broker.server.open();
    for one in waiting {
        assert_eq!(one.await.unwrap(), Ok(1), "X01 G149");
    }
    assert_eq!(broker.server.posts().len(), 1, "X01 G149");
}

#[tokio::test]
async fn x03_many_expired_grants_are_a_bounded_crowd_at_the_token_endpoint() {
    let broker = Arc::new(Broker::with(grant(HOUR * 2)).await);
    broker.server.close();
    let callers = Tasks::new();
    let waiting: Vec<_> = (0..200)
        .map(|number| {
            let user = User::new("https://broker.example.com", format!("user-{number}"));
            let id = GrantId::new(&format!("grant-{number}"));
            let grant = Grant::new(id, key(user.clone()), ISSUER).granted(scopes("crm:read"));
            broker.grants.insert(grant.refresh_token(secret("rt"))).unwrap();
            broker.server.next(Mode::Says(200, r#"{"access_token":"at","token_type":"Bearer"}"#, ""));
            let broker = Arc::clone(&broker);
            callers.spawn("caller", async move {
                broker.provider.credential(&caller_for(user), &Scopes::none(), &broker.trail).await.is_ok()
            })
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
async fn g152_a_caller_that_hangs_up_at_any_poll_costs_nothing() {
    for polls in 1.. {
        let broker = Broker::with(grant(HOUR * 2)).await;
        let ended = {
            let (caller, need, trail, mut polled) = (caller(), Scopes::none(), broker.trail.clone(), 0);
            let mut call = std::pin::pin!(broker.provider.credential(&caller, &need, &trail));
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
        assert_eq!(broker.grant().version, 2, "G152: the refresh ran to its end after {polls} polls");
        assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(1), "G152 {polls}");
        assert_eq!(broker.server.posts().len(), 1, "G152 {polls}");
        let leased = broker.grants.lease(&broker.lease_until(now().plus(HOUR))).await.unwrap();
        assert!(matches!(leased, LeaseOutcome::Acquired(_)), "G152: no lease is held after {polls} polls");
        if ended {
            assert!(polls > 1, "at least one caller was dropped on its way");
            return;
        }
    }
}

#[tokio::test]
async fn each_refresh_sends_the_newest_refresh_token() {
    let broker = Broker::with(grant(HOUR * 2)).await;
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
    let broker = Broker::with(grant(HOUR * 2)).await;
    broker.get().await.unwrap();
    let post = broker.server.posts().concat();
    assert!(post.ends_with("grant_type=refresh_token&refresh_token=rt-0&scope=crm%3Aread"), "{post}");
    assert!(post.contains("authorization: Basic YnJva2VyOmNsaWVudC1tYXJrZXI="), "{post}");
}

#[tokio::test]
async fn a_rule_gets_its_own_scopes_if_the_user_agreed_to_them() {
    let broker = Broker::with(grant(Duration::ZERO)).await;
    let wider = broker.needing("crm:write").await.unwrap();
    assert_eq!((wider.scopes(), number(&wider)), (&scopes("crm:read crm:write"), 1));
    let plain = broker.get().await.unwrap();
    assert_eq!(
        (plain.scopes(), number(&plain)),
        (&scopes("crm:read"), 0),
        "the narrow token stays for the other rules"
    );
    let lacking = broker.needing("crm:admin").await.unwrap_err();
    assert_eq!(lacking, CredentialError::ScopeRequired { missing: scopes("crm:admin"), connect_url: None });
    let posts = broker.server.posts();
    assert_eq!(posts.len(), 1, "for what the user never agreed to, nobody is asked");
    assert!(posts[0].ends_with("scope=crm%3Aread+crm%3Awrite"), "{}", posts[0]);
}

#[tokio::test]
async fn rules_of_many_scopes_that_are_first_used_at_once_all_get_theirs() {
    let needs: Vec<String> = (0..12).map(|number| format!("crm:{number}")).collect();
    let mut many = grant(HOUR * 2);
    many.granted = scopes(&format!("crm:read {}", needs.join(" ")));
    let broker = Broker::with(many).await;
    let call = |need: &String| {
        let (provider, need, trail) = (Arc::clone(&broker.provider), scopes(need), broker.trail.clone());
        broker.tasks.spawn("caller", async move { provider.credential(&caller(), &need, &trail).await })
    };
    let calls: Vec<_> = needs.iter().map(call).collect();
    for (call, need) in calls.into_iter().zip(&needs) {
        let given = call.await.unwrap().map(|credential| credential.scopes().clone());
        assert_eq!(given, Ok(scopes(&format!("crm:read {need}"))));
    }
    assert_eq!(broker.server.posts().len(), needs.len());
}

#[tokio::test]
async fn a_token_with_more_scopes_than_asked_for_is_not_used() {
    let broker = Broker::with(grant(HOUR * 2)).await;
    broker.server.next(Mode::Grants("crm:read crm:admin"));
    assert_eq!(broker.get().await.unwrap_err(), CredentialError::RefusedByPolicy);
    let kept = broker.grant();
    assert_eq!((kept.version, kept.state), (2, GrantState::Active), "what was rotated is kept");
    assert!(kept.access.iter().all(|token| token.version == 1), "the wide token is not");
    broker.clock.advance(Duration::from_secs(5));
    assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(2), "the next one is as asked for");
    assert!(broker.server.posts()[1].contains("refresh_token=rt-1&"));
}

#[tokio::test]
async fn an_operator_can_tolerate_wider_tokens() {
    let tolerant = AuthorizationServer::dangerous_tolerate_wider_scopes;
    let broker = Broker::over(grant(HOUR * 2), |grants| grants, tolerant).await;
    broker.server.next(Mode::Grants("crm:read crm:admin"));
    assert_eq!(broker.get().await.unwrap().scopes(), &scopes("crm:read crm:admin"));
}

#[tokio::test]
async fn a_narrower_token_is_recorded_as_what_it_is() {
    let broker = Broker::with(grant(Duration::ZERO)).await;
    broker.server.next(Mode::Grants("crm:read"));
    let lacking = broker.needing("crm:write").await.unwrap_err();
    assert_eq!(lacking, CredentialError::ScopeRequired { missing: scopes("crm:write"), connect_url: None });
    assert_eq!(broker.grant().access.last().unwrap().scopes, scopes("crm:read"));
}

#[tokio::test]
async fn at_four_fifths_of_its_life_a_token_is_renewed_behind_its_users() {
    let broker = Broker::with(grant(Duration::ZERO)).await;
    broker.clock.advance(HOUR / 100 * 77);
    assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(0));
    assert_eq!(broker.server.posts().len(), 0);
    broker.clock.advance(HOUR / 100 * 6);
    broker.server.close();
    for _ in 0..100 {
        assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(0), "nobody waits");
    }
    broker.server.until_asked(1).await;
    broker.server.open();
    broker.all_landed().await;
    assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(1));
    assert_eq!(broker.server.posts().len(), 1);
}

#[tokio::test]
async fn a_hundred_refusals_of_one_version_are_one_refresh() {
    let broker = Arc::new(Broker::with(grant(Duration::ZERO)).await);
    let old = broker.get().await.unwrap();
    let callers = Tasks::new();
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let (broker, old) = (Arc::clone(&broker), old.clone());
            callers.spawn("caller", async move {
                broker.provider.refused(&old).await;
                broker.get().await.map(|credential| number(&credential))
            })
        })
        .collect();
    for one in waiting {
        assert_eq!(one.await.unwrap(), Ok(1));
    }
    broker.provider.refused(&old).await;
    assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(1), "a late refusal ends what it names");
    assert_eq!(broker.server.posts().len(), 1);
}

#[tokio::test]
async fn an_upstream_that_refuses_every_token_is_no_storm_at_the_token_endpoint() {
    let broker = Broker::with(grant(Duration::ZERO)).await;
    for _ in 0..50 {
        let given = broker.get().await.unwrap();
        broker.provider.refused(&given).await;
    }
    assert_eq!(
        broker.server.posts().len(),
        1,
        "the refreshed one is given again, and the caller sees that it is the same"
    );
    broker.clock.advance(Duration::from_secs(30));
    assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(2), "after a while, another try");
}

#[tokio::test]
async fn invalid_grant_for_the_current_version_ends_the_grant() {
    let broker = Broker::with(grant(HOUR * 2).refresh_token(secret("rt-stolen"))).await;
    assert_eq!(broker.get().await.unwrap_err(), revoked());
    assert_eq!(broker.grant().state, GrantState::EndedByServer);
    assert_eq!(broker.get().await.unwrap_err(), revoked());
    assert_eq!(broker.server.posts().len(), 1, "what has ended is not asked for again");
}

#[tokio::test]
async fn x11_invalid_grant_is_not_believed_when_a_newer_version_is_there() {
    let broker = Broker::with(grant(HOUR * 2)).await;
    broker.server.next(Mode::Says(400, r#"{"error":"invalid_grant"}"#, ""));
    broker.server.close();
    let (caller, need, trail) = (caller(), Scopes::none(), broker.trail.clone());
    let call = broker.provider.credential(&caller, &need, &trail);
    let meanwhile = async {
        broker.server.until_asked(1).await;
        // Another process had sent the token before and stores what it got, by a lease that has run out.
        let token = AccessToken::new(secret("at-7"), scopes("crm:read"), now(), now().plus(HOUR));
        let (lease, renewal) = (Lease::new(GrantId::new("g1"), 1, 0), Renewal::new(Some(secret("rt-7")), Some(token)));
        assert!(broker.grants.complete(&lease, &renewal).await.unwrap().is_some());
        broker.server.open();
    };
    let (got, ()) = tokio::join!(call, meanwhile);
    assert_eq!(got.map(|credential| number(&credential)), Ok(1), "X11");
    assert_eq!((broker.grant().state, broker.grant().version), (GrantState::Active, 2), "X11");
    assert_eq!(broker.server.posts().len(), 1, "X11");
}

#[tokio::test]
async fn x11_what_was_rotated_is_kept_even_if_invalid_grant_was_believed_first() {
    let grants = MemoryGrants::new();
    let request = LeaseRequest::new(&grants.put(grant(HOUR * 2)).await.unwrap(), now(), now().plus(HOUR));
    let id = GrantId::new("g1");
    let LeaseOutcome::Acquired(lease) = grants.lease(&request).await.unwrap() else { panic!() };
    assert!(grants.end(&id, 1).await.unwrap());
    let stored = grants.complete(&lease, &Renewal::new(Some(secret("rt-1")), None)).await.unwrap();
    assert_eq!(stored.unwrap().state, GrantState::Active, "X11");
    assert!(!grants.end(&id, 1).await.unwrap(), "X11: the old version ends nothing");
    assert!(grants.revoke(&id).await.unwrap());
    let late = grants.complete(&Lease::new(id, 2, 1), &Renewal::new(Some(secret("rt-2")), None)).await.unwrap();
    assert!(late.is_none(), "what the user ended stays ended");
}

#[tokio::test]
async fn x09_an_outage_of_ten_minutes_is_twelve_tries_and_no_lost_grant() {
    let broker = Broker::with(grant(HOUR / 100 * 90)).await;
    for _ in 0..100 {
        broker.server.next(Mode::Says(500, "{}", ""));
    }
    for second in 0..600 {
        let got = broker.get().await;
        broker.all_landed().await;
        // The old token is good for six minutes more, and is used to its end.
        if second < 360 {
            assert_eq!(got.map(|credential| number(&credential)), Ok(0), "X09 G155 at {second} s");
        } else {
            assert!(is_unavailable(&got), "X09 G155 at {second} s");
        }
        broker.clock.advance(Duration::from_secs(1));
    }
    let tries = broker.server.posts().len();
    assert!((10..=12).contains(&tries), "X09: {tries}");
    assert_eq!((broker.grant().state, broker.grant().open_attempts), (GrantState::Active, 0), "X09");
    broker.server.state.modes.lock().clear();
    broker.clock.advance(Duration::from_secs(60));
    assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(1), "X09");
    assert_eq!(broker.grant().backoff, Backoff::default(), "X09");
}

#[tokio::test]
async fn g155_retry_after_is_kept_to() {
    let broker = Broker::with(grant(HOUR * 2)).await;
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
        ("X10 2 MiB", Mode::Says(200, huge, "")),
        ("X10 2 MiB of an error", Mode::Says(400, huge, "")),
        ("X10 HTML", Mode::Says(200, "<html>at-9</html>", "content-type: text/html\r\n")),
        ("X10 no content", Mode::Says(204, "", "")),
        ("X10 half JSON", Mode::Says(200, r#"{"access_token":"#, "")),
        ("X10 compressed", Mode::Says(200, "\u{1f}\u{8b}x", "content-encoding: gzip\r\n")),
        ("X10 no JSON in an error", Mode::Says(400, "Bad Request", "")),
        ("E119 mac", Mode::Says(200, r#"{"access_token":"a","token_type":"mac"}"#, "")),
        ("E119 no type", Mode::Says(200, r#"{"access_token":"a"}"#, "")),
        ("E119 no token", Mode::Says(200, r#"{"token_type":"Bearer"}"#, "")),
        ("E119 empty token", Mode::Says(200, r#"{"access_token":"","token_type":"Bearer"}"#, "")),
        ("E119 token of two lines", Mode::Says(200, r#"{"access_token":"a\r\nb","token_type":"Bearer"}"#, "")),
        ("E119 token is a number", Mode::Says(200, r#"{"access_token":7,"token_type":"Bearer"}"#, "")),
        (
            "E119 doubled member",
            Mode::Says(200, r#"{"access_token":"a","access_token":"b","token_type":"Bearer"}"#, ""),
        ),
        (
            "E119 doubled after unescaping",
            Mode::Says(200, r#"{"access_token":"a","access\u005ftoken":"b","token_type":"Bearer"}"#, ""),
        ),
        ("E119 trailing bytes", Mode::Says(200, r#"{"access_token":"a","token_type":"Bearer"}x"#, "")),
        ("E119 an array", Mode::Says(200, r#"[{"access_token":"a","token_type":"Bearer"}]"#, "")),
        (
            "E119 a refresh token that is none",
            Mode::Says(200, r#"{"access_token":"a","token_type":"Bearer","refresh_token":{}}"#, ""),
        ),
        (
            "E119 scopes that are none",
            Mode::Says(200, r#"{"access_token":"a","token_type":"Bearer","scope":"a\"b"}"#, ""),
        ),
        ("invalid_grant, but as a success", Mode::Says(200, r#"{"error":"invalid_grant"}"#, "")),
        ("invalid_grant of a server that fails", Mode::Says(500, r#"{"error":"invalid_grant"}"#, "")),
        ("doubled error", Mode::Says(400, r#"{"error":"invalid_grant","error":"x"}"#, "")),
        ("invalid_client", Mode::Says(401, r#"{"error":"invalid_client"}"#, "")),
        ("another error", Mode::Says(400, r#"{"error":"temporarily_unavailable"}"#, "")),
        ("C067 a redirect", Mode::Says(307, "", "location: http://169.254.169.254/\r\n")),
    ] {
        let broker = Broker::with(grant(HOUR * 2)).await;
        broker.server.next(mode);
        assert!(is_unavailable(&broker.get().await), "{case}");
        let kept = broker.grant();
        assert_eq!((kept.state, kept.version, kept.open_attempts), (GrantState::Active, 1, 0), "{case}");
        broker.clock.advance(Duration::from_secs(5));
        assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(1), "{case}: the next try succeeds");
    }
}

#[tokio::test]
async fn e119_a_lifetime_that_can_not_be_true_is_five_minutes() {
    for (expires_in, seconds) in [
        ("-1", 300),
        (r#""3600""#, 300),
        ("1e308", 300),
        ("0", 300),
        ("null", 300),
        ("3600.5", 300),
        ("99999999999999999999", 300),
        ("999999999", 300),
        ("120", 120),
    ] {
        let body = format!(r#"{{"access_token":"a","token_type":"bearer","expires_in":{expires_in}}}"#);
        let broker = Broker::with(grant(HOUR * 2)).await;
        broker.server.next(Mode::Says(200, Box::leak(body.into_boxed_str()), ""));
        let given = broker.get().await.unwrap();
        assert_eq!(given.expires_at(), Some(now().plus(Duration::from_secs(seconds))), "E119 {expires_in}");
        let kept = broker.grant().refresh_token.unwrap();
        assert!(kept.matches(&secret("rt-0")), "a refresh token that was not rotated stays");
    }
}

#[tokio::test]
async fn x08_a_lost_answer_costs_one_more_try_and_no_loop() {
    for mode in [Mode::RotatesAndDrops, Mode::RotatesAndBreaksOff] {
        let broker = Broker::with(grant(HOUR * 2)).await;
        broker.server.next(mode);
        let wait = CredentialError::Unavailable { retry_after: Some(Duration::from_secs(30)) };
        assert_eq!(broker.get().await.unwrap_err(), wait, "X08");
        assert_eq!((broker.grant().state, broker.grant().open_attempts), (GrantState::Active, 1), "X08");
        broker.clock.advance(Duration::from_secs(30));
        assert_eq!(broker.get().await.unwrap_err(), revoked(), "X08: the server has rotated, and says so");
        for _ in 0..20 {
            broker.clock.advance(HOUR);
            assert_eq!(broker.get().await.unwrap_err(), revoked(), "X08");
        }
        assert_eq!(broker.server.posts().len(), 2, "X08");
    }
}

#[tokio::test]
async fn x08_the_last_try_is_kept_until_the_token_at_hand_has_ended() {
    let broker = Broker::with(grant(HOUR / 100 * 90)).await;
    broker.server.next(Mode::Drops);
    for minute in 0..6 {
        assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(0), "X08 at {minute} min");
        broker.all_landed().await;
        broker.clock.advance(Duration::from_secs(60));
    }
    assert_eq!((broker.server.posts().len(), broker.grant().open_attempts), (1, 1), "X08");
    assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(1), "X08: it had not been acted upon");
    assert_eq!((broker.server.posts().len(), broker.grant().open_attempts), (2, 0), "X08");
}

#[tokio::test]
async fn x05_a_token_that_was_sent_twice_without_an_answer_is_never_sent_again() {
    let broker = Broker::with(grant(HOUR * 2)).await;
    broker.server.next(Mode::RotatesAndDrops);
    broker.server.next(Mode::RotatesAndDrops);
    // The second time it is not the server's current one any more; let it be, so that it drops again.
    assert!(is_unavailable(&broker.get().await), "X05");
    broker.server.state.rotated.store(0, Ordering::SeqCst);
    broker.clock.advance(Duration::from_secs(30));
    assert!(is_unavailable(&broker.get().await), "X05");
    for _ in 0..20 {
        broker.clock.advance(HOUR);
        assert_eq!(broker.get().await.unwrap_err(), connect_required(), "X05: no loop");
    }
    assert_eq!(broker.server.posts().len(), 2, "X05");
    assert_eq!(broker.grant().state, GrantState::Active, "nobody has ended it: an operator may lift the mark");
}

#[tokio::test]
async fn x05_a_mark_that_a_crash_left_behind_costs_one_try() {
    let mut crashed = grant(HOUR * 2);
    crashed.open_attempts = 1;
    let broker = Broker::with(crashed).await;
    assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(1), "X04: nothing had been sent");
    assert_eq!(broker.grant().open_attempts, 0);
    let mut crashed = grant(HOUR * 2);
    crashed.open_attempts = 2;
    let broker = Broker::with(crashed).await;
    assert_eq!(broker.get().await.unwrap_err(), connect_required(), "X05");
    assert_eq!(broker.server.posts().len(), 0, "X05");
}

#[tokio::test]
async fn x08_a_server_that_hangs_is_left_after_a_while_and_others_do_not_wait() {
    let broker = Broker::with(grant(HOUR * 2)).await;
    let bob = User::new("https://broker.example.com", "bob");
    let token = AccessToken::new(secret("at-bob"), scopes("crm:read"), now(), now().plus(HOUR));
    let of_bob = Grant::new(GrantId::new("g2"), key(bob.clone()), ISSUER).granted(scopes("crm:read"));
    broker.grants.put(of_bob.access_token(token)).await.unwrap();
    broker.server.next(Mode::Hangs);
    let (caller, need, trail) = (caller(), Scopes::none(), broker.trail.clone());
    let mut call = std::pin::pin!(broker.provider.credential(&caller, &need, &trail));
    assert!(std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await.is_pending());
    broker.server.until_asked(1).await;
    assert!(
        broker.provider.credential(&caller_for(bob), &need, &trail).await.is_ok(),
        "X08: another grant is not affected"
    );
    assert!(is_unavailable(&call.await), "X08");
    assert_eq!(broker.grant().open_attempts, 1, "X08");
}

#[tokio::test]
async fn a_closed_port_leaves_no_mark() {
    let broker = Broker::over(
        grant(HOUR * 2),
        |grants| grants,
        |_| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/token", listener.local_addr().unwrap());
            AuthorizationServer::new(ISSUER, url.parse().unwrap(), ClientAuthentication::public("broker"))
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
    let broker = Broker::with(grant(Duration::ZERO)).await;
    let bob = User::new("https://broker.example.com", "bob");
    for (caller, page) in [(caller(), "crm?for=ana"), (caller_for(bob), "crm?for=bob")] {
        let named = broker.provider.connect_url(&caller);
        assert_eq!(named.as_deref(), Some(format!("https://broker.example.com/connect/{page}").as_str()));
    }
}

#[tokio::test]
async fn without_a_grant_or_with_that_of_another_server_the_user_must_connect() {
    let mut foreign = grant(Duration::ZERO);
    foreign.authorization_server = "https://evil.example".into();
    let mut other_server = grant(Duration::ZERO);
    other_server.key.server = "mail".into();
    let mut other_user = grant(Duration::ZERO);
    other_user.key.user = User::new("https://broker.example.com/", "ana");
    let mut other_account = grant(Duration::ZERO);
    other_account.key.account = Account::parse("work").unwrap();
    for grant in [foreign, other_server, other_user, other_account] {
        let broker = Broker::with(grant).await;
        assert_eq!(broker.get().await.unwrap_err(), connect_required());
        assert_eq!(broker.server.posts().len(), 0);
    }
}

#[tokio::test]
async fn without_a_refresh_token_the_access_token_is_used_to_its_end() {
    let mut short = grant(Duration::ZERO);
    short.refresh_token = None;
    let broker = Broker::with(short).await;
    broker.clock.advance(HOUR / 100 * 99);
    assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(0));
    broker.clock.advance(HOUR);
    assert_eq!(broker.get().await.unwrap_err(), connect_required());
    assert_eq!(broker.server.posts().len(), 0);
}

#[tokio::test]
async fn a_grant_that_the_user_ended_is_not_used_after_the_next_look() {
    let broker = Broker::with(grant(Duration::ZERO)).await;
    broker.get().await.unwrap();
    assert!(broker.grants.revoke(&GrantId::new("g1")).await.unwrap());
    broker.clock.advance(Duration::from_secs(60));
    assert_eq!(broker.get().await.unwrap_err(), revoked());
}

#[tokio::test]
async fn who_finds_the_lease_taken_waits_for_what_the_holder_stores() {
    let broker = Broker::with(grant(HOUR * 2)).await;
    let until = now().plus(Duration::from_secs(10));
    let LeaseOutcome::Acquired(lease) = broker.grants.lease(&broker.lease_until(until)).await.unwrap() else {
        panic!()
    };
    let (caller, need, trail) = (caller(), Scopes::none(), broker.trail.clone());
    let mut call = std::pin::pin!(broker.provider.credential(&caller, &need, &trail));
    assert!(std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await.is_pending());
    let token = AccessToken::new(secret("at-9"), scopes("crm:read"), now(), now().plus(HOUR));
    assert!(broker.grants.complete(&lease, &Renewal::new(Some(secret("rt-9")), Some(token))).await.unwrap().is_some());
    assert_eq!(call.await.map(|credential| number(&credential)), Ok(1));
    assert_eq!(broker.server.posts().len(), 0, "G150");
}

/// A store that fails now and then.
struct Hiccups {
    grants: MemoryGrants,
    store_fails: Arc<AtomicUsize>,
    mark_fails: Arc<AtomicUsize>,
}

fn failing(store: usize, mark: usize) -> (Arc<AtomicUsize>, Arc<AtomicUsize>) {
    (Arc::new(AtomicUsize::new(store)), Arc::new(AtomicUsize::new(mark)))
}

fn fails(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl GrantStore for Hiccups {
    async fn load(&self, key: &GrantKey) -> Result<Option<Grant>, StoreError> {
        self.grants.load(key).await
    }

    async fn load_by_id(&self, id: &GrantId) -> Result<Option<Grant>, StoreError> {
        self.grants.load_by_id(id).await
    }

    async fn list(&self, filter: &GrantFilter) -> Result<GrantPage, StoreError> {
        self.grants.list(filter).await
    }

    async fn put(&self, grant: Grant) -> Result<Grant, StoreError> {
        self.grants.put(grant).await
    }

    async fn revoke(&self, id: &GrantId) -> Result<bool, StoreError> {
        self.grants.revoke(id).await
    }

    async fn delete(&self, id: &GrantId) -> Result<bool, StoreError> {
        self.grants.delete(id).await
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

    async fn complete(&self, lease: &Lease, renewal: &Renewal) -> Result<Option<Grant>, StoreError> {
        if fails(&self.store_fails) {
            return Err(StoreError::Unreachable);
        }
        self.grants.complete(lease, renewal).await
    }

    async fn release(&self, lease: &Lease, attempt: &Attempt) -> Result<(), StoreError> {
        self.grants.release(lease, attempt).await
    }

    async fn end(&self, id: &GrantId, version: u64) -> Result<bool, StoreError> {
        self.grants.end(id, version).await
    }
}

#[tokio::test]
async fn a_store_that_hiccups_costs_no_rotated_token() {
    let (store_fails, mark_fails) = failing(3, 0);
    let broker = Broker::over(grant(HOUR * 2), |grants| Hiccups { grants, store_fails, mark_fails }, |at| at).await;
    assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(1));
    assert!(broker.grant().refresh_token.unwrap().matches(&secret("rt-1")));
    assert_eq!(broker.server.posts().len(), 1);
}

#[tokio::test]
async fn x06_a_crash_before_the_new_tokens_are_stored_costs_one_more_try() {
    let (store_fails, mark_fails) = failing(usize::MAX, 0);
    let left = Arc::clone(&store_fails);
    let broker = Broker::over(grant(HOUR * 2), |grants| Hiccups { grants, store_fails, mark_fails }, |at| at).await;
    {
        let (caller, need) = (caller(), Scopes::none());
        let mut call = std::pin::pin!(broker.provider.credential(&caller, &need, &broker.trail));
        assert!(std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await.is_pending());
        // The answer is read, and storing it is tried: from here on this process does nothing any more.
        while left.load(Ordering::SeqCst) == usize::MAX {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert_eq!((broker.grant().version, broker.grant().open_attempts), (1, 1), "X06: what it leaves behind");
    broker.clock.advance(Duration::from_secs(21));
    // The lease has run out. A server that knows what it rotated says no, and the user connects anew.
    let restarted = broker.restarted();
    let got = restarted.credential(&caller(), &Scopes::none(), &broker.trail).await;
    assert_eq!(got.unwrap_err(), revoked(), "X06");
    for _ in 0..20 {
        broker.clock.advance(HOUR);
        assert!(restarted.credential(&caller(), &Scopes::none(), &broker.trail).await.is_err());
    }
    assert_eq!(broker.server.posts().len(), 2, "X06: as X05, one more try and no loop");
}

#[tokio::test]
async fn x07_a_crash_after_the_new_tokens_are_stored_costs_nothing() {
    let broker = Broker::with(grant(HOUR * 2)).await;
    {
        let (caller, need) = (caller(), Scopes::none());
        let mut call = std::pin::pin!(broker.provider.credential(&caller, &need, &broker.trail));
        assert!(std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await.is_pending());
        while broker.grant().version == 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    // Nobody was told.
    let got = broker.restarted().credential(&caller(), &Scopes::none(), &broker.trail).await;
    assert_eq!(got.map(|credential| number(&credential)), Ok(1), "X07: nothing is lost");
    assert_eq!(broker.server.posts().len(), 1, "X07: and nothing is asked for twice");
    assert!(broker.grant().refresh_token.unwrap().matches(&secret("rt-1")), "X07");
}

#[tokio::test]
async fn x23_a_clock_that_is_set_during_a_refresh_is_no_storm_at_the_token_endpoint() {
    for (minutes, forward) in [(2, true), (60, true), (2, false), (60, false)] {
        let broker = Broker::with(grant(HOUR * 2)).await;
        {
            let (caller, need) = (caller(), Scopes::none());
            let mut call = std::pin::pin!(broker.provider.credential(&caller, &need, &broker.trail));
            assert!(std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await.is_pending());
            broker.server.until_asked(1).await;
            let by = Duration::from_secs(minutes * 60);
            let set = if forward { now().plus(by) } else { now().minus(by) };
            broker.clock.set_wall_clock(set);
            assert_eq!(call.await.map(|credential| number(&credential)), Ok(1), "X23 {minutes} {forward}");
        }
        for _ in 0..50 {
            broker.clock.advance(Duration::from_secs(60));
            assert!(broker.get().await.is_ok(), "X23 {minutes} {forward}");
        }
        broker.all_landed().await;
        // One more where four fifths of its hour have passed.
        let posts = broker.server.posts().len();
        assert!(posts <= 2, "X23 {minutes} {forward}: {posts}");
        assert_eq!((broker.grant().state, broker.grant().open_attempts), (GrantState::Active, 0), "X23");
    }
}

#[tokio::test]
async fn without_a_durable_mark_nothing_is_sent() {
    let (store_fails, mark_fails) = failing(0, 1);
    let broker = Broker::over(grant(HOUR * 2), |grants| Hiccups { grants, store_fails, mark_fails }, |at| at).await;
    assert!(is_unavailable(&broker.get().await));
    assert_eq!(broker.server.posts().len(), 0);
}

#[tokio::test]
async fn without_a_durable_intent_nothing_is_sent_and_nothing_is_lost() {
    let broker = Broker::with(grant(HOUR * 2)).await;
    broker.records.fail();
    assert!(is_unavailable(&broker.get().await));
    assert_eq!(broker.server.posts().len(), 0);
    let kept = broker.grant();
    assert_eq!((kept.state, kept.open_attempts, kept.backoff.failures), (GrantState::Active, 0, 0));
    let leased = broker.grants.lease(&broker.lease_until(now().plus(HOUR))).await.unwrap();
    assert!(matches!(leased, LeaseOutcome::Acquired(_)), "no lease is held");
}

#[tokio::test]
async fn each_post_has_its_intent_before_it_and_its_outcome_after_it() {
    for (modes, outcomes) in [
        (vec![], vec!["intent", "refreshed"]),
        (vec![Mode::Says(500, "", "")], vec!["intent", "failed"]),
        (vec![Mode::RotatesAndDrops], vec!["intent", "unknown"]),
        (vec![Mode::Says(400, r#"{"error":"invalid_grant"}"#, "")], vec!["intent", "grant_ended"]),
    ] {
        let broker = Broker::with(grant(HOUR * 2)).await;
        for mode in modes {
            broker.server.next(mode);
        }
        broker.server.close();
        let asked = async {
            broker.server.until_asked(1).await;
            let intents = broker.records.records().iter().filter(|record| record.kind() == "refresh_intent").count();
            assert_eq!(intents, 1, "the intent is durable when the token endpoint is asked");
            broker.server.open();
        };
        let (_, ()) = tokio::join!(broker.get(), asked);
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
                for asked in parts {
                    keys.insert(Parts::of("entry").user(&user).part(upstream).list(std::iter::once(asked)).key());
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
    let broker = Broker::with(grant(HOUR * 2)).await;
    let given = broker.get().await.unwrap();
    for post in ["rt-0", "Basic"] {
        assert!(broker.server.posts().concat().contains(post), "the secrets were in play");
    }
    let printed = format!("{:?} {:?} {:?} {given:?}", broker.provider, broker.grant(), broker.grants);
    for marker in ["rt-", "at-0", "at-1", "client-marker", "Y2xpZW50LW1hcmtlcg"] {
        assert!(!printed.contains(marker), "{marker} in {printed}");
    }
}
