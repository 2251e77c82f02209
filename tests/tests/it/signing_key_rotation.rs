//! Signing keys rotate while four replicas on one store issue and verify tokens.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use serde_json::Value;
use token_broker_authority::{
    Authority, AuthoritySettings, IssuerUrl, ProtectedServer,
    authorize::{
        AuthorizePageError, ConsentRequest, Interaction, RefusedRequest, SessionsUnavailable,
        SignedIn,
    },
};
use token_broker_outbound::{Guard, GuardedClient};
use token_broker_sql::{SqlStore, StoreUrl};
use token_broker_store::sealing::KeyRing;
use token_broker_tests::{
    harness::{CALL, SECRET, proxy, serve},
    person::{App, Browser},
    upstream::{ScriptedServer, json},
    wire,
};
use token_broker_upstream::StaticSecret;
use tokio::{net::TcpListener, task::JoinSet};
use tower_token_broker::{
    Broker, Secret,
    audit::InMemory,
    authenticate::{JwtVerifier, PresentedToken, VerifyRequest, VerifyToken as _, jwt::RemoteKeys},
    clock::{Clock, Timestamp},
    exchange::Upstream,
    principal::{Initiator, Principal, Resource, Scopes, User},
    request_id::RequestId,
    scope_filter::{Call, Decision},
    sealing::SealingKeys,
};

const REPLICAS: usize = 4;
/// The time for which a key is published before it signs.
const PUBLISHED: Duration = Duration::from_secs(3600);

/// Pages on which alice is signed in.
struct Pages(Box<str>);

impl Interaction for Pages {
    async fn signed_in(&self, _: &HeaderMap) -> Result<Option<SignedIn>, SessionsUnavailable> {
        Ok(Some(SignedIn::new(User::new(&*self.0, "alice"), "alice", "session", "csrf")))
    }

    fn sign_in(&self, _: &str) -> Response<Bytes> {
        unreachable!("alice is signed in")
    }

    fn consent(&self, _: &SignedIn, request: &ConsentRequest) -> Response<Bytes> {
        let hidden = |name: &str, value: &str| {
            format!("<input type=\"hidden\" name=\"{name}\" value=\"{value}\">")
        };
        let page = format!(
            "<form action=\"{}\">{}{}<button name=\"decision\" value=\"allow\"></form>",
            request.action,
            hidden(ConsentRequest::REQUEST_FIELD, &request.sealed),
            hidden(ConsentRequest::CSRF_FIELD, "csrf"),
        );
        Response::new(page.into())
    }

    fn is_own_form(&self, _: &SignedIn, _: &HeaderMap, token: Option<&str>) -> bool {
        token == Some("csrf")
    }

    fn error(&self, error: AuthorizePageError, _: &RequestId) -> Response<Bytes> {
        let mut response = Response::new(error.code().into());
        *response.status_mut() = StatusCode::BAD_REQUEST;
        response
    }

    fn refused(&self, _: &RefusedRequest, _: &RequestId) -> Response<Bytes> {
        unreachable!("the requests are right")
    }
}

/// A gateway: authorization server and protected server, with a connection of its own to the store.
struct Replica {
    address: SocketAddr,
    authority: Authority<SqlStore>,
    _broker: Broker,
}

/// Four replicas on one database, and a verifier elsewhere that fetches their keys.
struct Replicas {
    all: Vec<Replica>,
    clock: Clock,
    resource: Resource,
    elsewhere: JwtVerifier,
    _folder: tempfile::TempDir,
    _broker: Broker,
}

impl Replicas {
    async fn start(settings: AuthoritySettings) -> Arc<Self> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("store.db");
        let url = StoreUrl::parse(&format!("sqlite://{}", file.display())).unwrap();
        let key = KeyRing::generate_line().expose_text().unwrap().to_owned();
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_800_000_000));
        let upstream = ScriptedServer::start(|_| json(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#));
        let upstream = upstream.await;
        let mut listeners = Vec::new();
        for _ in 0..REPLICAS {
            listeners.push(TcpListener::bind(("127.0.0.1", 0)).await.unwrap());
        }
        // As with a load balancer, all have the public URL of one.
        let public = format!("http://{}", listeners[0].local_addr().unwrap());
        let issuer = IssuerUrl::parse(&public).unwrap();
        let resource = Resource::parse(&format!("{public}/crm/mcp")).unwrap();
        let mut all = Vec::new();
        for listener in listeners {
            let broker = Broker::builder()
                .audit(InMemory::new())
                .clock(clock.clone())
                .sealing_keys(SealingKeys::new(&[7; 32]))
                .build()
                .unwrap();
            let store = SqlStore::open(&url, KeyRing::parse(&key).unwrap()).await.unwrap();
            let scopes = Scopes::parse("crm:read").unwrap();
            let authority = Authority::builder(&broker, issuer.clone(), store)
                .server(ProtectedServer::new(resource.clone(), "CRM", scopes))
                .settings(settings)
                .start()
                .await
                .unwrap();
            let url = Upstream::parse("crm", &upstream.url("/mcp")).unwrap();
            let secret = StaticSecret::new(Secret::from_text(SECRET.to_owned()), url).unwrap();
            let stack = broker
                .protect(resource.as_str())
                .authenticate(JwtVerifier::new(issuer.as_str(), authority.keys()))
                .scope_filter(|_: &Principal, _: &Call<'_>| Decision::allow())
                .exchange(secret)
                .build()
                .unwrap();
            let address = listener.local_addr().unwrap();
            let pages = Pages(issuer.as_str().into());
            let router = authority.router(pages).route_service("/crm/mcp", stack.layer(proxy()));
            serve(listener, router);
            all.push(Replica { address, authority, _broker: broker });
        }
        let broker = Broker::builder().audit(InMemory::new()).clock(clock.clone()).build().unwrap();
        let client = GuardedClient::new(&Guard::new().allow_loopback("127.0.0.1")).unwrap();
        let key_set = format!("http://{}/oauth/jwks", all[REPLICAS - 1].address);
        let keys = RemoteKeys::new(&broker, client, key_set.parse().unwrap());
        let elsewhere = JwtVerifier::new(issuer.as_str(), keys);
        Arc::new(Self { all, clock, resource, elsewhere, _folder: folder, _broker: broker })
    }

    /// Returns an application that alice allowed, as it is known at this replica, and its token.
    async fn family(&self) -> Family {
        let app = App::register(self.all[0].address, "Editor").await;
        let mut browser = Browser::at(self.all[0].address);
        let tokens = app.connect(&mut browser, "crm", ("alice", "")).await;
        Family { client: app.client_id, refresh: tokens.refresh }
    }

    /// Obtains a token at one replica, and presents it everywhere.
    async fn issue(&self, family: &mut Family, at: usize) -> String {
        let app = App::known(self.all[at].address, &family.client);
        let tokens = app.refresh(&family.refresh).await.unwrap();
        family.refresh = tokens.refresh;
        self.accepted(&tokens.access).await;
        tokens.access
    }

    /// Presents a token at each replica and to the verifier elsewhere.
    async fn accepted(&self, token: &str) {
        let host = self.resource.authority();
        let bearer = format!("Bearer {token}");
        let request = wire::post("/crm/mcp", host, &[("authorization", &bearer)], CALL);
        for (number, replica) in self.all.iter().enumerate() {
            let response = wire::send(replica.address, &request).await;
            let minute = self.minute();
            assert_eq!(response.status, 200, "X21 replica {number}, minute {minute}");
        }
        assert_eq!(self.verified_elsewhere(token).await, Ok(()), "X21 minute {}", self.minute());
    }

    async fn verified_elsewhere(&self, token: &str) -> Result<(), &'static str> {
        let token = PresentedToken::new(Secret::from_text(token.to_owned()));
        let request = VerifyRequest::new(&token, &self.resource, &self.clock);
        let verified = self.elsewhere.verify(&request).await;
        verified.map(drop).map_err(|error| error.reason().code())
    }

    fn minute(&self) -> u64 {
        (self.clock.now().unix_seconds() - 1_800_000_000) / 60
    }

    async fn key_ids(&self, at: usize) -> Vec<String> {
        let request = "GET /oauth/jwks HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
        let set = wire::send(self.all[at].address, request.as_bytes()).await.json();
        set["keys"].as_array().unwrap().iter().map(|key| text(&key["kid"])).collect()
    }
}

struct Family {
    client: String,
    refresh: String,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn key_id(token: &str) -> String {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    text(&str::from_utf8(&header).unwrap().parse::<Value>().unwrap()["kid"])
}

/// One step of the load: each application obtains a token at another replica, all at once, and
/// presents it and its last one everywhere; meanwhile, operators rotate the key at these replicas.
async fn step(
    replicas: &Arc<Replicas>,
    families: Vec<(Family, Option<String>)>,
    number: usize,
    rotate_at: &'static [usize],
) -> Vec<(Family, Option<String>)> {
    let mut tasks = JoinSet::new();
    let mut rotations = JoinSet::new();
    for (at, (mut family, last)) in families.into_iter().enumerate() {
        let replicas = Arc::clone(replicas);
        tasks.spawn(async move {
            let token = replicas.issue(&mut family, (at + number) % REPLICAS).await;
            if let Some(last) = last {
                replicas.accepted(&last).await;
            }
            (family, Some(token))
        });
    }
    for at in rotate_at {
        let replicas = Arc::clone(replicas);
        rotations.spawn(async move {
            let authority = &replicas.all[*at].authority;
            authority.rotate_keys(&Initiator::operator("olga")).await.unwrap();
        });
    }
    rotations.join_all().await;
    tasks.join_all().await
}

/// Rotates under load, by operators at these replicas at once.
async fn rotates_without_false_refusal(rotate_at: &'static [usize]) {
    let mut settings = AuthoritySettings::default();
    settings.token.per_address = token_broker_authority::Quota::per_minute(1_000_000);
    let replicas = Replicas::start(settings).await;
    let mut families = Vec::new();
    for _ in 0..3 * REPLICAS {
        families.push((replicas.family().await, None));
    }
    let first = replicas.key_ids(0).await;
    assert_eq!(first.len(), 1);
    // The rotation is in minute 12; the new key signs from minute 72 on.
    for number in 0..=20 {
        let rotated: &[usize] = if number == 3 { rotate_at } else { &[] };
        families = step(&replicas, families, number, rotated).await;
        let signed: Vec<_> =
            families.iter().map(|(_, token)| key_id(token.as_ref().unwrap())).collect();
        let by_first = signed.iter().filter(|id| **id == first[0]).count();
        let expected = if replicas.minute() < 72 { families.len() } else { 0 };
        assert_eq!(by_first, expected, "X21 O282 minute {}", replicas.minute());
        replicas.clock.advance(Duration::from_secs(4 * 60));
    }
    // All replicas publish the same keys: each new one, and the first one still.
    let published = replicas.key_ids(0).await;
    assert_eq!(published.len(), 1 + rotate_at.len(), "X21");
    assert!(published.contains(&first[0]), "O282");
    for at in 1..REPLICAS {
        assert_eq!(replicas.key_ids(at).await, published, "X21");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x21_o282_four_replicas_rotate_under_load() {
    rotates_without_false_refusal(&[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x21_o282_two_operators_rotate_at_once() {
    rotates_without_false_refusal(&[1, 3]).await;
}

/// The longest token, signed in the last second of a key, is valid until it expires.
#[tokio::test]
async fn o282_a_key_is_published_as_long_as_its_tokens_live() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let mut settings = AuthoritySettings::default();
    settings.token.access_token_lifetime = DAY;
    let replicas = Replicas::start(settings).await;
    let first = replicas.key_ids(0).await.remove(0);
    let mut family = replicas.family().await;
    // Elsewhere, the keys are fetched now, and again when they are 15 minutes old.
    replicas.issue(&mut family, 0).await;
    let operator = Initiator::operator("olga");
    replicas.all[2].authority.rotate_keys(&operator).await.unwrap();
    replicas.clock.advance(PUBLISHED - Duration::from_secs(1));
    for replica in &replicas.all {
        replica.authority.refresh_keys().await.unwrap();
    }
    let mut last = Vec::new();
    for at in 0..REPLICAS {
        last.push(replicas.issue(&mut family, at).await);
    }
    assert!(last.iter().all(|token| key_id(token) == first), "O282: not yet");
    replicas.clock.advance(Duration::from_secs(1));
    for at in 0..REPLICAS {
        let token = replicas.issue(&mut family, at).await;
        assert_ne!(key_id(&token), first, "O282: known everywhere before its first use");
    }
    for hour in 1..24 {
        replicas.clock.advance(Duration::from_secs(3600));
        for replica in &replicas.all {
            replica.authority.refresh_keys().await.unwrap();
        }
        replicas.accepted(&last[hour % REPLICAS]).await;
    }
    // Its last two seconds.
    replicas.clock.advance(Duration::from_secs(3600 - 2));
    for (at, replica) in replicas.all.iter().enumerate() {
        replica.authority.refresh_keys().await.unwrap();
        replicas.accepted(&last[at]).await;
    }
    // After it, the key leaves the set, and no token of it comes back.
    replicas.clock.advance(Duration::from_secs(60));
    for (at, replica) in replicas.all.iter().enumerate() {
        replica.authority.refresh_keys().await.unwrap();
        assert!(!replicas.key_ids(at).await.contains(&first), "O282");
        let refused = replicas.verified_elsewhere(&last[at]).await.unwrap_err();
        assert!(["jwt.expired", "jwt.key_retired"].contains(&refused), "O282 {refused}");
    }
}
