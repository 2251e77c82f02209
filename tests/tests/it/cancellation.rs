//! X25: the client hangs up at every await, and nothing is lost.

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full};
use token_broker::demo::upstream::{CLIENT_ID, Upstream};
use token_broker_authority::issue::{Algorithm, Issuer, Mint, SigningKeys};
use token_broker_outbound::{Guard, GuardedClient};
use token_broker_tests::{
    harness::{Broker, CALL, ISSUER, proxy},
    polls,
    upstream::{Scripted, events, json},
};
use token_broker_upstream::{AuthorizationServer, ClientAuthentication, Grant, MemoryGrants, StoredGrants};
use tower::{Layer as _, ServiceExt as _};
use tower_token_broker::{
    BrokerStack, Secret,
    audit::AuditLog,
    authenticate::JwtVerifier,
    exchange::{self, GrantId},
    principal::{Person, Resource, Scopes},
    scope_filter::{Rules, tools},
    tasks::Tasks,
};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;

fn request(broker: &Broker) -> Request<Full<Bytes>> {
    let bearer = format!("Bearer {}", broker.token("items:read"));
    broker.ledger().sent(0, bearer.as_bytes());
    Request::post(broker.resource().path())
        .header(header::HOST, broker.host())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, text/event-stream")
        .header(header::AUTHORIZATION, bearer)
        .body(Full::from(CALL))
        .unwrap()
}

#[tokio::test]
async fn x25_each_request_has_one_terminal_record_wherever_it_is_dropped() {
    for streamed in [false, true] {
        let upstream = Scripted::start(move |_| if streamed { events(&[RESULT, RESULT]) } else { json(RESULT) }).await;
        let (_listener, stack, broker) = Broker::before(&upstream).prepare().await;
        let service = stack.layer(proxy());
        for polls in 0.. {
            // A future that was never polled has not called the service, so there was no request.
            broker.ledger().sent(u64::from(polls > 0), b"");
            let whole = async { broker.read(service.clone().oneshot(request(&broker)).await.unwrap()).await.status };
            let done = polls::at_most(polls, whole).await;
            broker.records().await;
            // The next call succeeds: nothing is held.
            broker.ledger().sent(1, b"");
            let next = service.clone().oneshot(request(&broker)).await.unwrap();
            assert_eq!(broker.read(next).await.status, 200, "after {polls} polls");
            broker.records().await;
            if done.is_some() {
                assert!(polls > 1, "a request waits for the upstream at least: {done:?}");
                break;
            }
        }
        // No use without a record: the upstream saw at most as many requests as intents were written.
        let intents = broker.records().await.iter().filter(|record| record["kind"] == "intent").count();
        assert!(upstream.received().len() <= intents);
        broker.done().await;
    }
}

/// A broker with a grant whose access token must be refreshed first, at a real token endpoint.
#[tokio::test]
async fn x25_a_refresh_is_one_post_wherever_its_caller_hangs_up() {
    let mut hung_up = 0;
    for polls in 1.. {
        let servers = Tasks::new();
        let upstream = Upstream::start("items", &servers).await.unwrap();
        let connected = upstream.connect("contacts:read");
        let resource = Resource::parse("https://broker.example.com/items/mcp").unwrap();
        let issuer = Issuer::new(ISSUER, SigningKeys::generate(Algorithm::Es256).unwrap());
        let store = MemoryGrants::new();
        let scopes = Scopes::parse("contacts:read").unwrap();
        let alice = Person::new(ISSUER, "alice");
        store.put(
            Grant::new(GrantId::new("g1"), alice, "items", &upstream.issuer(), scopes.clone())
                .refresh_token(Secret::from_text(connected.refresh_token)),
        );
        let client = ClientAuthentication::basic(CLIENT_ID, Secret::from_text(connected.client_secret));
        let server = AuthorizationServer::new(&upstream.issuer(), upstream.token_endpoint().parse().unwrap(), client);
        let target = exchange::Upstream::parse("items", &upstream.mcp_url()).unwrap();
        let guarded = GuardedClient::new(&Guard::new().allow_loopback("127.0.0.1")).unwrap();
        let refreshes = Tasks::new();
        let grants = StoredGrants::new(store, target, server.scopes(scopes), guarded).with_tasks(refreshes.clone());
        let (log, records) = AuditLog::in_memory();
        let service = BrokerStack::for_resource(resource.as_str())
            .audit(log.clone())
            .authenticate(JwtVerifier::new(ISSUER, issuer.keys()))
            .scope_filter(Rules::new().allow(tools(["get_*"])))
            .exchange(grants)
            .build()
            .unwrap()
            .layer(proxy());
        let token = issuer.mint(Mint::for_person("alice").client("c").resource(&resource)).unwrap().into_text();
        let call = || {
            let request = Request::post(resource.as_str())
                .header(header::HOST, resource.authority())
                .header(header::CONTENT_TYPE, "application/json")
                .header(header::ACCEPT, "application/json, text/event-stream")
                .header(header::AUTHORIZATION, format!("Bearer {token}"))
                .body(Full::<Bytes>::from(
                    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_contact","arguments":{}}}"#,
                ))
                .unwrap();
            let service = service.clone();
            async move {
                let answer = service.oneshot(request).await.unwrap();
                (answer.status(), answer.into_body().collect().await.unwrap().to_bytes())
            }
        };
        let done = polls::at_most(polls, call()).await;
        // What was begun goes on without its caller, and ends.
        assert!(refreshes.finish(std::time::Duration::from_secs(10)).await, "after {polls} polls");
        let (status, body) = call().await;
        assert!(status == 200 && body.windows(4).any(|window| window == b"done"), "after {polls} polls: {body:?}");
        let posts = upstream.log().iter().filter(|seen| seen.door == "token").count();
        assert_eq!(posts, 1, "one POST, after {polls} polls");
        log.flush().await.unwrap();
        let counted = records.lines().iter().filter(|line| line.contains(r#""count":1"#)).count();
        assert_eq!(counted, 2, "one terminal record a request, after {polls} polls");
        if done.is_some() {
            break;
        }
        hung_up += 1;
    }
    assert!(hung_up > 2, "{hung_up}");
}
