//! The connector with authorization servers that move, break and return: whose client, whose
//! endpoints, and which tokens are revoked.

use std::{
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use token_broker_outbound::{Guard, GuardedClient, Resolve};
use token_broker_store::{
    Account, Grant, GrantKey, GrantStore, StoreError,
    authority::{LookupKey, SessionId},
    connect::{
        BeginConnect, ConnectError, ConnectStore, Connected, ConnectionState, Connections,
        FinishConnect, PendingRevocation, RevocationId, RevokedToken, RevokedTokenKind,
    },
};
use token_broker_tests::{
    account_server::{AccountServer, AuthorizeRequest},
    flaky_grants::{Failure, FlakyGrants},
    token_endpoint::guarded,
};
use token_broker_upstream::{ClientAuthentication, ConnectServer, Connector, StoredGrants};
use tokio::net::TcpListener;
use tower_token_broker::{
    Broker, Secret,
    audit::{InMemory, Operation, Trail},
    clock::{Clock, Timestamp},
    exchange::{
        Credential, CredentialError, CredentialRequest, ProvideCredential, Upstream,
        UpstreamRefusal,
    },
    principal::{GrantId, Principal, Resource, Scopes, TokenTimes, User, Verified},
};

static OPERATION: LazyLock<Operation> =
    LazyLock::new(|| Operation::new("tools/call", Some("get_item")));

/// A connector with a manual clock, for alice.
struct Story {
    broker: Broker,
    clock: Clock,
    records: InMemory,
    store: FlakyGrants,
    connector: Connector<FlakyGrants>,
    trail: Trail,
    session: SessionId,
}

fn now() -> Timestamp {
    Timestamp::from_unix_seconds(1_800_000_000)
}

fn alice() -> User {
    User::new("https://broker.example", "alice")
}

fn key(server: &str) -> GrantKey {
    GrantKey::new(alice(), server, Account::default_account())
}

/// The server of an authorization server with this name.
fn server(name: &str, at: &AccountServer) -> ConnectServer {
    let server = ConnectServer::new(name, &at.server.url("/mcp"), guarded()).unwrap();
    server.scopes(Scopes::parse("mail:read").unwrap())
}

fn client() -> ClientAuthentication {
    ClientAuthentication::basic("ours", Secret::from_text("configured-client-secret".into()))
}

impl Story {
    fn at(url: &str) -> Self {
        let (clock, records, store) = (Clock::manual(now()), InMemory::new(), FlakyGrants::new());
        let broker = Broker::builder().audit(records.clone()).clock(clock.clone());
        let broker = broker.build().unwrap();
        let connector = Connector::new(&broker, store.clone(), LookupKey::generate(), url);
        let (trail, _) = Trail::for_test(broker.audit_log());
        let session = SessionId::new("browser");
        Self { broker, clock, records, store, connector, trail, session }
    }

    fn with(servers: impl IntoIterator<Item = ConnectServer>) -> Self {
        let story = Self::at("http://127.0.0.1:1");
        story.connector.replace_servers(servers);
        story
    }

    async fn begin(&self, server: &str) -> Result<Box<str>, ConnectError> {
        let (user, account) = (alice(), Account::default_account());
        self.connector.begin(&BeginConnect::new(&user, server, &account, &self.session)).await
    }

    /// Goes the whole way at an authorization server.
    async fn connect(&self, name: &str, at: &AccountServer) -> Result<Connected, ConnectError> {
        let location = self.begin(name).await?;
        self.come_back(name, &at.agree(&location)).await
    }

    async fn come_back(&self, name: &str, callback: &str) -> Result<Connected, ConnectError> {
        let (user, query) = (alice(), callback.split_once('?').unwrap().1);
        self.connector.finish(&FinishConnect::new(&user, name, &self.session, query)).await
    }

    async fn disconnect(&self, server: &str) {
        let (user, account) = (alice(), Account::default_account());
        assert_eq!(self.connector.disconnect(&user, server, &account, None).await, Ok(true));
    }

    async fn state(&self, server: &str) -> ConnectionState {
        let found = self.connector.connection(&alice(), server, &Account::default_account()).await;
        found.unwrap().unwrap().state
    }

    fn grants(&self, server: &ConnectServer, url: &str) -> StoredGrants<FlakyGrants> {
        let upstream = Upstream::parse(server.name(), url).unwrap();
        StoredGrants::connected(&self.broker, upstream, &self.connector, server)
    }

    async fn credential(
        &self,
        grants: &StoredGrants<FlakyGrants>,
    ) -> Result<Credential, CredentialError> {
        let times = TokenTimes {
            id: "t",
            issued_at: now(),
            expires_at: now().plus(Duration::from_secs(9)),
        };
        let resource = Resource::parse("https://broker.example/mail/mcp").unwrap();
        let caller = Principal::for_test(&Verified::vouch(alice(), "client", resource, times));
        let need = Scopes::none();
        grants.credential(&CredentialRequest::new(&caller, &need, &OPERATION, &self.trail)).await
    }

    fn caller(&self) -> Principal {
        let expires_at = now().plus(Duration::from_secs(9));
        let times = TokenTimes { id: "t", issued_at: now(), expires_at };
        let resource = Resource::parse("https://broker.example/mail/mcp").unwrap();
        Principal::for_test(&Verified::vouch(alice(), "client", resource, times))
    }

    /// Lets the pauses after failures end.
    fn later(&self) {
        self.clock.advance(Duration::from_secs(7 * 3600));
    }

    /// Returns the outcomes of revocations on the record.
    fn outcomes(&self) -> Vec<String> {
        let records = self.records.lines();
        let records = records.iter().map(|line| line.parse::<serde_json::Value>().unwrap());
        let of = records.filter(|record| record["kind"] == "upstream_revocation");
        of.map(|record| record["outcome"].as_str().unwrap().to_owned()).collect()
    }
}

fn revoked(at: &AccountServer) -> usize {
    at.log().iter().filter(|line| line.starts_with("revoke")).count()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what}: does not hold after 20 s");
}

#[tokio::test]
async fn e529_the_operators_client_is_used_at_its_issuer_only() {
    let (ours, other) = (AccountServer::start().await, AccountServer::start().await);
    // The server announces whatever authorization server it likes.
    other.change(|other| other.resource = json!({"authorization_servers": [ours.server.url("")]}));
    let story = Story::with([server("mail", &other).client(client())]);
    let refused = story.begin("mail").await.unwrap_err();
    assert_eq!(refused, ConnectError::Misconfigured { reason: "as.client_issuer" }, "E529");
    assert!(ours.log().is_empty() && other.log().is_empty(), "E529");
    // A pin does not help: the server chooses where its metadata is.
    let pinned = server("mail", &other).client(client()).issuer_pin(&ours.server.url(""));
    story.connector.replace_servers([pinned]);
    let refused = story.begin("mail").await.unwrap_err();
    assert_eq!(refused, ConnectError::Misconfigured { reason: "as.client_issuer" }, "E529");
    // At the issuer that the operator set, it is used.
    let fixed = server("mail", &ours).client(client()).issuer(&ours.server.url(""));
    story.connector.replace_servers([fixed]);
    ours.change(|ours| ours.revocation = 503);
    story.connect("mail", &ours).await.unwrap();
    story.disconnect("mail").await;
    until("E529", || revoked(&ours) == 1).await;
    // Another issuer since: its server gets no secret and no token of the first one.
    let moved = server("mail", &other).client(client()).issuer(&other.server.url(""));
    story.connector.replace_servers([moved]);
    other.change(|other| other.resource = json!({}));
    ours.change(|ours| ours.revocation = 200);
    story.later();
    story.connector.revoke_due().await.unwrap();
    assert_eq!((revoked(&ours), other.log()), (1, vec![]), "E529");
    // Back again: nothing was given up.
    let fixed = server("mail", &ours).client(client()).issuer(&ours.server.url(""));
    story.connector.replace_servers([fixed]);
    story.later();
    until("E529", || revoked(&ours) == 3).await;
}

#[tokio::test]
async fn e530_each_server_has_a_client_document_with_its_own_redirect_uri() {
    let mail = AccountServer::start().await;
    mail.change(|mail| mail.metadata = json!({"client_id_metadata_document_supported": true}));
    let story = Story::at("https://broker.example/");
    story.connector.replace_servers([
        server("mail", &mail).former_name("post"),
        server("crm", &AccountServer::start().await),
    ]);
    let document = |name: &str| -> serde_json::Value {
        story.connector.client_document(name).unwrap().parse().unwrap()
    };
    for name in ["mail", "crm", "post"] {
        let (base, document) = (format!("https://broker.example/connect/{name}"), document(name));
        assert_eq!(document["client_id"], format!("{base}/client-metadata.json"), "E530");
        assert_eq!(document["redirect_uris"], json!([format!("{base}/callback")]), "E530");
    }
    assert_eq!(story.connector.client_document("other"), None, "E530");
    let request = AuthorizeRequest::of(&story.begin("mail").await.unwrap());
    let url = "https://broker.example/connect/mail/client-metadata.json";
    assert_eq!(request.get("client_id"), url, "E530");
    assert_eq!(Story::with([server("mail", &mail)]).connector.client_document("mail"), None);
}

#[tokio::test]
async fn e531_endpoints_of_the_operator_are_of_its_issuer_only() {
    let (first, second) = (AccountServer::start().await, AccountServer::start().await);
    let story = Story::with([server("mail", &first)]);
    first.change(|first| first.revocation = 503);
    story.connect("mail", &first).await.unwrap();
    let url = |at: &AccountServer, path: &str| at.server.url(path).parse().unwrap();
    let moved = server("mail", &first)
        .issuer(&second.server.url(""))
        .authorization_endpoint(url(&second, "/authorize"))
        .token_endpoint(url(&second, "/token"))
        .revocation_endpoint(url(&second, "/revoke"));
    story.connector.replace_servers([moved.clone()]);
    let grants = story.grants(&moved, &first.server.url("/mcp"));
    let refused = story.credential(&grants).await.unwrap_err();
    assert_eq!(refused, CredentialError::ConnectRequired, "E531");
    first.change(|first| first.revocation = 200);
    story.disconnect("mail").await;
    until("E531", || revoked(&first) == 2).await;
    assert!(second.log().is_empty(), "E531 {:?}", second.log());
}

#[tokio::test]
async fn c072_a_pinned_issuer_is_the_only_one() {
    let mail = AccountServer::start().await;
    let pinned = server("mail", &mail).issuer_pin("https://accounts.example");
    let story = Story::with([pinned]);
    let refused = story.begin("mail").await.unwrap_err();
    assert_eq!(refused, ConnectError::Misconfigured { reason: "as.issuer_mismatch" }, "C072");
    mail.change(|mail| mail.metadata = json!({"issuer": "https://accounts.example"}));
    story.clock.advance(Duration::from_secs(60));
    // Endpoints at the place of the metadata are not at the origin of the pinned issuer.
    let refused = story.begin("mail").await.unwrap_err();
    assert_eq!(refused, ConnectError::Misconfigured { reason: "as.endpoint_origin" }, "C072");
    let pinned = server("mail", &mail).issuer_pin("https://accounts.example");
    story.connector.replace_servers([pinned.endpoint_origin(&mail.server.url(""))]);
    story.begin("mail").await.unwrap();
}

#[tokio::test]
async fn e532_the_tokens_of_a_server_do_not_follow_its_name_to_another_host() {
    let (first, second) = (AccountServer::start().await, AccountServer::start().await);
    let here = server("mail", &first);
    let story = Story::with([here.clone()]);
    story.connect("mail", &first).await.unwrap();
    let grants = story.grants(&here, &first.server.url("/mcp"));
    assert!(story.credential(&grants).await.is_ok(), "E532");
    // The name is that of another host now.
    let moved = server("mail", &second);
    story.connector.replace_servers([moved.clone()]);
    let grants = story.grants(&moved, &second.server.url("/mcp"));
    let refused = story.credential(&grants).await.unwrap_err();
    assert_eq!(refused, CredentialError::ConnectRequired, "E532");
    assert_eq!(story.state("mail").await, ConnectionState::EndedByServer, "E532");
    // Nor does a source that was built before the change.
    let before = story.grants(&here, &first.server.url("/mcp"));
    let refused = story.credential(&before).await.unwrap_err();
    assert_eq!(refused, CredentialError::ConnectRequired, "E532");
    // The operator names the issuer: users agreed to it, and the host is the operator's decision.
    let moved = server("mail", &second).issuer(&first.server.url(""));
    story.connector.replace_servers([moved.clone()]);
    assert_eq!(story.state("mail").await, ConnectionState::Connected, "E532");
    let grants = story.grants(&moved, &second.server.url("/mcp"));
    assert!(story.credential(&grants).await.is_ok(), "E532");
    // The first host again: no user had to connect again.
    story.connector.replace_servers([server("mail", &first)]);
    assert_eq!(story.state("mail").await, ConnectionState::Connected, "E532");
}

#[tokio::test]
async fn n533_a_late_revocation_does_not_end_a_new_connection() {
    let mail = AccountServer::start().await;
    let story = Story::with([server("mail", &mail)]);
    mail.change(|mail| mail.revocation = 503);
    story.connect("mail", &mail).await.unwrap();
    story.disconnect("mail").await;
    until("N533", || revoked(&mail) == 1).await;
    story.clock.advance(Duration::from_secs(1));
    story.connect("mail", &mail).await.unwrap();
    mail.change(|mail| mail.revocation = 200);
    story.later();
    until("N533", || story.outcomes() == ["replaced"]).await;
    assert_eq!(revoked(&mail), 1, "N533");
    // Nor do tokens with too many scopes, which are not used.
    mail.change(|mail| mail.grants = Some("mail:read admin".to_owned()));
    let refused = story.connect("mail", &mail).await.unwrap_err();
    assert!(matches!(refused, ConnectError::WiderScopes { .. }), "N533 {refused:?}");
    until("N533", || story.outcomes() == ["replaced", "replaced"]).await;
    assert_eq!(revoked(&mail), 1, "N533");
    assert_eq!(story.state("mail").await, ConnectionState::Connected, "N533");
}

#[tokio::test]
async fn n265_what_can_be_set_right_is_tried_for_a_week() {
    let mail = AccountServer::start().await;
    let story = Story::with([server("mail", &mail)]);
    story.connect("mail", &mail).await.unwrap();
    mail.change(|mail| mail.revocation = 404);
    story.disconnect("mail").await;
    let mut attempts = 1;
    until("N265", || revoked(&mail) == attempts).await;
    for status in [401, 403, 503] {
        mail.change(|mail| mail.revocation = status);
        story.later();
        attempts += 1;
        until("N265", || revoked(&mail) == attempts).await;
    }
    assert!(story.outcomes().is_empty(), "N265");
    story.clock.advance(Duration::from_secs(8 * 24 * 3600));
    until("N265", || story.outcomes() == ["given_up"]).await;
    assert_eq!(revoked(&mail), attempts, "N265");
}

/// Returns a revocation of bob's tokens that is due.
fn due(number: usize, server: &str, issuer: &str) -> PendingRevocation {
    let key = GrantKey::new(User::new("i", "bob"), server, Account::default_account());
    let token = RevokedToken::new(
        RevokedTokenKind::Refresh,
        Secret::from_text(format!("refresh-token-of-bob-{number}")),
    );
    PendingRevocation::new(
        RevocationId::new(&format!("r{number}")),
        (key, GrantId::new(&format!("g{number}"))),
        issuer,
        vec![token],
        now(),
    )
}

/// Starts an authorization server that closes each connection, and returns its URL and the number
/// of connections.
async fn closed_connections() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            drop(stream);
        }
    });
    (url, count)
}

#[tokio::test]
async fn n534_a_server_that_is_down_delays_no_other_revocation() {
    let (mail, (down, connections)) = (AccountServer::start().await, closed_connections().await);
    let fixed = |path: &str| format!("{down}{path}").parse().unwrap();
    let broken = ConnectServer::new("broken", &format!("{down}/mcp"), guarded()).unwrap();
    let broken = broken
        .issuer(&down)
        .client(client())
        .authorization_endpoint(fixed("/authorize"))
        .token_endpoint(fixed("/token"))
        .revocation_endpoint(fixed("/revoke"));
    let (here, story) = (mail.server.url(""), Story::with([]));
    story.connector.replace_servers([broken, server("mail", &mail).issuer(&here).client(client())]);
    for number in 0..200 {
        story.store.put_revocation(&due(number, "broken", &down)).await.unwrap();
    }
    story.store.put_revocation(&due(200, "mail", &here)).await.unwrap();
    // One that fails in between ends nothing else.
    story.store.fail("postpone_revocation", Failure::Refused(StoreError::Unreachable), 1);
    assert_eq!(story.connector.revoke_due().await.unwrap(), 201, "N534");
    assert_eq!((revoked(&mail), story.outcomes()), (1, vec!["revoked".to_owned()]), "N534");
    // It is not asked again in the same turn: the attempts that ran at the same time are all, with
    // one repetition of each at most.
    let asked = connections.load(Ordering::SeqCst);
    assert!((1..=32).contains(&asked), "N534 {asked}");
}

#[tokio::test]
async fn x06_a_store_that_responds_late_costs_no_connection() {
    let mail = AccountServer::start().await;
    let here = server("mail", &mail);
    let story = Story::with([here.clone()]);
    story.store.fail("finish_connect", Failure::Late, 2);
    story.connect("mail", &mail).await.unwrap();
    assert_eq!(story.state("mail").await, ConnectionState::Connected, "X06");
    // The refresh: its step is repeated, and finds its lease used.
    let grants = story.grants(&here, &mail.server.url("/mcp"));
    story.clock.advance(Duration::from_secs(4000));
    story.store.fail("complete", Failure::Late, 1);
    drop(story.credential(&grants).await);
    assert!(story.credential(&grants).await.is_ok(), "X06");
    assert_eq!(story.state("mail").await, ConnectionState::Connected, "X06");
    story.later();
    story.connector.revoke_due().await.unwrap();
    assert_eq!((revoked(&mail), story.outcomes().len()), (0, 0), "X06");
}

#[tokio::test]
async fn x06_tokens_that_a_store_refuses_are_revoked() {
    let mail = AccountServer::start().await;
    let story = Story::with([server("mail", &mail)]);
    let invalid = StoreError::Invalid { field: "the refresh token", limit: 16 };
    story.store.fail("finish_connect", Failure::Refused(invalid), 1);
    // Also if the store fails again when they are to be kept for that.
    story.store.fail("put_revocation", Failure::Late, 2);
    let refused = story.connect("mail", &mail).await.unwrap_err();
    assert_eq!(refused, ConnectError::Unavailable, "X06");
    until("X06", || revoked(&mail) == 2).await;
    assert_eq!(story.state("mail").await, ConnectionState::None, "X06");
}

#[tokio::test]
async fn x06_a_store_that_cannot_be_read_uses_up_no_code() {
    let mail = AccountServer::start().await;
    let story = Story::with([server("mail", &mail)]);
    let location = story.begin("mail").await.unwrap();
    let callback = mail.agree(&location);
    story.store.fail("list", Failure::Refused(StoreError::Unreachable), 1);
    let refused = story.come_back("mail", &callback).await.unwrap_err();
    assert_eq!(refused, ConnectError::Unavailable, "X06");
    assert!(!mail.log().iter().any(|line| line.starts_with("code")), "X06");
}

#[tokio::test]
async fn a_new_connection_ends_those_under_former_names() {
    let mail = AccountServer::start().await;
    let story = Story::with([server("post", &mail)]);
    story.connect("post", &mail).await.unwrap();
    let before = story.store.load(&key("post")).await.unwrap().unwrap();
    story.connector.replace_servers([server("mail", &mail).former_name("post")]);
    story.connect("mail", &mail).await.unwrap();
    let grants: Vec<Grant> = vec![
        story.store.load(&key("post")).await.unwrap().unwrap(),
        story.store.load(&key("mail")).await.unwrap().unwrap(),
    ];
    assert!(!grants[0].state.is_usable() && grants[1].state.is_usable(), "{grants:?}");
    assert!(story.broker.is_grant_revoked(&before.id));
    assert!(!story.broker.is_grant_revoked(&grants[1].id));
    let shown = story.connector.connections(&alice()).await.unwrap();
    assert_eq!(shown.len(), 1, "{shown:?}");
}

#[tokio::test]
async fn a_secret_that_ends_soon_is_used_in_the_first_half_of_its_life() {
    let mail = AccountServer::start().await;
    let story = Story::with([server("mail", &mail)]);
    mail.change(|mail| {
        mail.secret_expires_at = now().plus(Duration::from_secs(3600)).unix_seconds()
    });
    let registered = || mail.log().iter().filter(|line| *line == "register").count();
    story.connect("mail", &mail).await.unwrap();
    story.clock.advance(Duration::from_secs(1700));
    story.begin("mail").await.unwrap();
    assert_eq!(registered(), 1);
    story.clock.advance(Duration::from_secs(200));
    story.begin("mail").await.unwrap();
    assert_eq!(registered(), 2);
}

#[tokio::test]
async fn i535_a_rule_that_needs_more_has_a_link_with_its_scopes() {
    let mail = AccountServer::start().await;
    let scopes = |text: &str| Scopes::parse(text).unwrap();
    let here = server("mail", &mail).step_up_scopes(scopes("mail:send mail:delete"));
    let story = Story::with([here.clone()]);
    story.connect("mail", &mail).await.unwrap();
    let grants = story.grants(&here, &mail.server.url("/mcp"));
    let value = |need: &str| {
        let url = grants.step_up_url(&story.caller(), &scopes(need)).unwrap();
        url.split_once("?for=").unwrap().1.to_owned()
    };
    let read = |value: &str| story.connector.scopes_of_link(&alice(), "mail", value);
    assert_eq!(read(&value("mail:send mail:read")), Some(scopes("mail:send")), "I535");
    assert_eq!(read(&value("mail:read")), Some(Scopes::none()), "I535");
    let plain = ProvideCredential::connect_url(&grants, &story.caller());
    assert_eq!(plain, grants.step_up_url(&story.caller(), &scopes("mail:read")));
    // No one changes it: another user, another server, other scopes.
    let (sends, deletes) = (value("mail:send"), value("mail:delete"));
    let (hash, of_delete) = (sends.split_once('.').unwrap().0, deletes.split_once('.').unwrap().1);
    for changed in [
        format!("{hash}.{of_delete}"),
        hash.to_owned(),
        format!("{hash}."),
        format!("{sends}."),
        format!("{sends}.{of_delete}"),
        String::new(),
        ".".to_owned(),
    ] {
        assert_eq!(read(&changed), None, "I535 {changed}");
    }
    let bob = User::new("https://broker.example", "bob");
    assert_eq!(story.connector.scopes_of_link(&bob, "mail", &sends), None, "I535");
    assert_eq!(story.connector.scopes_of_link(&alice(), "crm", &sends), None, "I535");
    // The scopes that were given stay; those that no rule has any more are not requested.
    let requested = async |more: &str| {
        let (user, account) = (alice(), Account::default_account());
        let mut begin = BeginConnect::new(&user, "mail", &account, &story.session);
        begin.scopes = scopes(more);
        let location = story.connector.begin(&begin).await.unwrap();
        let requested = AuthorizeRequest::of(&location).get("scope").to_owned();
        story.come_back("mail", &mail.agree(&location)).await.unwrap();
        requested
    };
    assert_eq!(requested("mail:send everything").await, "mail:read mail:send", "I535");
    assert_eq!(requested("mail:delete").await, "mail:delete mail:read mail:send", "I535");
    let fewer = server("mail", &mail).step_up_scopes(scopes("mail:send"));
    story.connector.replace_servers([fewer]);
    assert_eq!(requested("mail:delete").await, "mail:read mail:send", "I535");
}

#[tokio::test]
async fn n536_a_server_that_refuses_a_token_is_asked_for_its_authorization_server_again() {
    let (mail, next) = (AccountServer::start().await, AccountServer::start().await);
    let here = server("mail", &mail);
    let story = Story::with([here.clone()]);
    story.connect("mail", &mail).await.unwrap();
    let issuers = json!({"authorization_servers": [next.server.url("")]});
    mail.change(|mail| mail.resource = issuers);
    story.connect("mail", &mail).await.unwrap();
    let grants = story.grants(&here, &mail.server.url("/mcp"));
    let credential = story.credential(&grants).await.unwrap();
    grants.refused(&UpstreamRefusal::new(&credential)).await;
    let location = story.begin("mail").await.unwrap();
    assert!(location.starts_with(&next.server.url("/authorize")), "N536 {location}");
    assert_eq!(next.log(), ["register"], "N536");
}

#[tokio::test]
async fn c075_the_metadata_of_a_host_names_the_host() {
    let mail = AccountServer::start().await;
    let root = mail.server.url("/.well-known/oauth-protected-resource");
    mail.change(|mail| mail.challenge = Some(root));
    let story = Story::with([server("mail", &mail)]);
    let location = story.begin("mail").await.unwrap();
    assert_eq!(AuthorizeRequest::of(&location).get("resource"), mail.server.url(""), "C075");
    story.come_back("mail", &mail.agree(&location)).await.unwrap();
    // A refresh names the same resource, and does not depend on the metadata.
    mail.change(|mail| mail.challenge = Some("http://169.254.169.254/".to_owned()));
    story.clock.advance(Duration::from_secs(4000));
    let grants = story.grants(&server("mail", &mail), &mail.server.url("/mcp"));
    story.credential(&grants).await.unwrap();
    let received = mail.server.received();
    let refresh =
        received.iter().map(|request| String::from_utf8_lossy(&request.body).into_owned());
    let refresh = refresh.filter(|body| body.contains("grant_type=refresh_token")).last().unwrap();
    let resource =
        url::form_urlencoded::parse(refresh.as_bytes()).find(|(name, _)| name == "resource");
    assert_eq!(resource.unwrap().1, mail.server.url(""), "C075");
    // At the place of the path, only the server itself.
    let host = json!({"resource": mail.server.url("")});
    mail.change(|mail| (mail.challenge, mail.resource) = (None, host));
    let story = Story::with([server("mail", &mail)]);
    let refused = story.begin("mail").await.unwrap_err();
    assert_eq!(refused, ConnectError::Misconfigured { reason: "prm.resource_mismatch" }, "C075");
}

#[tokio::test]
async fn a_server_of_the_newer_revision_only_is_found_by_its_challenge() {
    let mail = AccountServer::start().await;
    mail.change(|mail| mail.is_without_initialize = true);
    // Only the challenge names this place.
    let root = mail.server.url("/.well-known/oauth-protected-resource");
    mail.change(|mail| mail.challenge = Some(root));
    let story = Story::with([server("mail", &mail)]);
    let location = story.begin("mail").await.unwrap();
    assert_eq!(AuthorizeRequest::of(&location).get("resource"), mail.server.url(""));
}

#[tokio::test]
async fn a_client_is_registered_again_for_scopes_that_it_does_not_have() {
    let mail = AccountServer::start().await;
    let scopes = |text: &str| Scopes::parse(text).unwrap();
    let registered = || mail.log().iter().filter(|line| *line == "register").count();
    let story = Story::with([server("mail", &mail)]);
    story.connect("mail", &mail).await.unwrap();
    story.connector.replace_servers([server("mail", &mail).scopes(scopes("mail:read mail:send"))]);
    story.connect("mail", &mail).await.unwrap();
    assert_eq!(registered(), 2);
    let rule = server("mail", &mail).step_up_scopes(scopes("mail:delete"));
    story.connector.replace_servers([rule]);
    story.begin("mail").await.unwrap();
    assert_eq!(registered(), 3);
    // Fewer scopes need no other client.
    story.connector.replace_servers([server("mail", &mail).step_up_scopes(scopes("mail:delete"))]);
    story.begin("mail").await.unwrap();
    assert_eq!(registered(), 3);
}

#[tokio::test]
async fn endpoints_without_their_issuer_are_refused() {
    let mail = AccountServer::start().await;
    let endpoint = mail.server.url("/token").parse().unwrap();
    let story = Story::with([server("mail", &mail).token_endpoint(endpoint)]);
    let refused = story.begin("mail").await.unwrap_err();
    assert_eq!(refused, ConnectError::Misconfigured { reason: "as.endpoint_issuer" });
}

#[tokio::test]
async fn two_connects_that_finish_at_once_leave_one_grant() {
    let mail = AccountServer::start().await;
    let here = server("mail", &mail);
    let story = Story::with([here.clone()]);
    let (first, second) = (story.begin("mail").await.unwrap(), story.begin("mail").await.unwrap());
    let (first, second) = (mail.agree(&first), mail.agree(&second));
    let both = tokio::join!(story.come_back("mail", &first), story.come_back("mail", &second));
    assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
    let current = story.store.load(&key("mail")).await.unwrap().unwrap();
    assert!(current.state.is_usable() && !story.broker.is_grant_revoked(&current.id));
    let grants = story.grants(&here, &mail.server.url("/mcp"));
    assert!(story.credential(&grants).await.is_ok());
}

/// A resolver whose address changes.
#[derive(Clone)]
struct Changing(Arc<parking_lot::Mutex<IpAddr>>);

impl Resolve for Changing {
    fn resolve(
        &self,
        _: &str,
    ) -> Pin<Box<dyn Future<Output = std::io::Result<Vec<IpAddr>>> + Send>> {
        let address = *self.0.lock();
        Box::pin(async move { Ok(vec![address]) })
    }
}

#[tokio::test]
async fn x31_a_name_that_leads_to_a_private_address_later_costs_no_grant() {
    let mail = AccountServer::start().await;
    let base = mail.server.url("").replace("127.0.0.1", "mail.example");
    let at = |path: &str| format!("{base}{path}");
    mail.change(|mail| {
        mail.challenge = Some(at("/.well-known/oauth-protected-resource/mcp"));
        mail.resource = json!({"resource": at("/mcp"), "authorization_servers": [base]});
        mail.metadata = json!({
            "issuer": base, "authorization_endpoint": at("/authorize"),
            "token_endpoint": at("/token"), "registration_endpoint": at("/register"),
            "revocation_endpoint": at("/revoke"),
            "authorization_response_iss_parameter_supported": false,
        });
    });
    let address = Changing(Arc::new(parking_lot::Mutex::new([127, 0, 0, 1].into())));
    let host = base.strip_prefix("http://").unwrap();
    let guard = Guard::new().allow_loopback(host).with_resolver(address.clone());
    // Connections that are idle for an hour are closed: each time, a client without any.
    let here = || {
        let client = GuardedClient::new(&guard).unwrap();
        let server = ConnectServer::new("mail", &at("/mcp"), client).unwrap();
        server.scopes(Scopes::parse("mail:read").unwrap())
    };
    let story = Story::with([here()]);
    let callback = mail.agree(&story.begin("mail").await.unwrap());
    let callback = callback.split_once("&iss=").unwrap().0;
    story.come_back("mail", callback).await.unwrap();
    let served = mail.log();
    for private in [[10, 0, 0, 7], [169, 254, 169, 254], [192, 168, 1, 1]] {
        *address.0.lock() = private.into();
        story.clock.advance(Duration::from_secs(4000));
        story.connector.replace_servers([here()]);
        let grants = story.grants(&here(), &at("/mcp"));
        let refused = story.credential(&grants).await.unwrap_err();
        assert!(matches!(refused, CredentialError::Unavailable { .. }), "X31 {refused:?}");
        let refused = story.begin("mail").await;
        assert!(refused.is_err(), "X31 {refused:?}");
        assert_eq!(story.state("mail").await, ConnectionState::Connected, "X31");
    }
    assert_eq!(mail.log(), served, "X31: nothing reached a server");
    *address.0.lock() = [127, 0, 0, 1].into();
    story.later();
    story.connector.replace_servers([here()]);
    let grants = story.grants(&here(), &at("/mcp"));
    assert!(story.credential(&grants).await.is_ok(), "X31");
}
