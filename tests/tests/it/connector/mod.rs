//! The connector with authorization servers that move, break and return: whose client, whose
//! endpoints, and which tokens are revoked.

mod authorization_servers;
mod revocations;
mod scopes;
mod stores;

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
