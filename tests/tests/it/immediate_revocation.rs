//! Immediate revocation: after a revocation returns, no request passes, and open streams are cut.
//!
//! All caches are warm: verdict, policy, access token.

use std::pin::pin;

use bytes::Bytes;
use parking_lot::Mutex;
use token_broker_authority::issue::Mint;
use token_broker_tests::{
    harness::{Broker, CALL, ISSUER},
    polls,
    token_endpoint::{GRANT, TokenEndpoint},
    upstream::{ScriptedServer, json, live_events},
    wire::{self, RawResponse},
};
use tokio::sync::mpsc;
use tower_token_broker::{
    principal::{GrantId, User},
    revocation::RevocationTarget,
};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;
const FAMILY: &str = "a-family";
const KINDS: [&str; 7] = ["token", "family", "client", "user", "grant", "server", "everything"];

/// A broker whose caller alice has a grant and a token of a family.
struct World {
    broker: Broker,
    endpoint: TokenEndpoint,
    token_id: String,
    call: Vec<u8>,
}

impl World {
    async fn before(upstream: &ScriptedServer) -> Self {
        let endpoint = TokenEndpoint::start().await;
        let broker = Broker::in_front_of(upstream)
            .start_with(|handle| endpoint.grants(handle, upstream))
            .await;
        let mint = Mint::for_user("alice")
            .client("test-client")
            .resource(broker.resource())
            .family(FAMILY);
        let token = broker.issuer().mint(mint).unwrap();
        let token_id = token.id().to_owned();
        let token = token.into_text();
        broker.ledger().token(&token);
        let call = wire::post(
            "/mcp",
            broker.host(),
            &[("authorization", &format!("Bearer {token}"))],
            CALL,
        );
        Self { broker, endpoint, token_id, call }
    }

    /// Targets of each kind that end the call.
    async fn revoke(&self, kind: &str) {
        let revoked = self.broker.revoke(self.target(kind)).await;
        assert!(revoked.was_known(), "{kind}: it was seen in this process");
    }

    fn target(&self, kind: &str) -> RevocationTarget {
        let issuer = || ISSUER.into();
        match kind {
            "token" => {
                RevocationTarget::Token { issuer: issuer(), id: self.token_id.as_str().into() }
            }
            "family" => RevocationTarget::Family { issuer: issuer(), id: FAMILY.into() },
            "client" => RevocationTarget::Client { issuer: issuer(), id: "test-client".into() },
            "user" => RevocationTarget::User(User::new(ISSUER, "alice")),
            "grant" => RevocationTarget::Grant(GrantId::new(GRANT)),
            "server" => RevocationTarget::Server(self.broker.resource().clone()),
            "everything" => RevocationTarget::Everything,
            _ => panic!("{kind}"),
        }
    }

    async fn done(&self) {
        assert_eq!(self.endpoint.posts(), 1);
        self.endpoint.report_to(self.broker.ledger(), &[1], &[0, 1]);
        self.broker.done().await;
    }
}

/// Without the grant the token remains valid and the user must connect. Every other target ends the
/// token.
fn is_refused(kind: &str, response: &RawResponse) {
    if kind == "grant" {
        assert_eq!(
            (response.status, &response.json()["error"]["code"]),
            (200, &(-32001).into()),
            "{kind}: {response:?}"
        );
        assert_eq!(response.header("www-authenticate"), None, "{kind}");
    } else {
        assert_eq!(response.status, 401, "{kind}: {}", response.text());
        assert!(response.header("www-authenticate").unwrap().contains("invalid_token"), "{kind}");
    }
}

fn reason(kind: &str) -> &'static str {
    if kind == "grant" { "exchange.grant_revoked" } else { "authn.revoked" }
}

#[tokio::test]
async fn n258_a_revoke_after_the_intent_sends_nothing() {
    for kind in KINDS {
        let upstream = ScriptedServer::start(|_| json(RESULT)).await;
        let world = World::before(&upstream).await;
        let World { broker, call, .. } = &world;
        assert_eq!(broker.send(call).await.status, 200, "{kind}");
        broker.records().await;

        // The intent is being written; its caller has not been notified.
        broker.sink().hang();
        let writes = broker.sink().calls();
        let revoke = async {
            broker.sink().called(writes + 1).await;
            // It takes effect when first polled; its own record waits for the sink.
            let mut revoke = pin!(world.revoke(kind));
            assert!(polls::once(revoke.as_mut()).await.is_none(), "{kind}");
            broker.sink().work();
            revoke.await;
        };
        let (refused, ()) = tokio::join!(broker.send(call), revoke);
        is_refused(kind, &refused);
        assert_eq!(upstream.received().len(), 1, "{kind}: nothing was sent after the revoke");
        let records = broker.records().await;
        let last = records.iter().rfind(|record| record["count"].is_u64()).unwrap();
        let found = (last["reason"].as_str(), last["intents"].as_u64(), last["uses"].as_u64());
        assert_eq!(found, (Some(reason(kind)), Some(1), Some(0)), "{kind}: {last}");
        world.done().await;
    }
}

#[tokio::test]
async fn n258_no_later_request_passes() {
    for kind in KINDS {
        let upstream = ScriptedServer::start(|_| json(RESULT)).await;
        let world = World::before(&upstream).await;
        let World { broker, call, .. } = &world;
        assert_eq!(broker.send(call).await.status, 200, "{kind}");
        world.revoke(kind).await;
        for _ in 0..30 {
            is_refused(kind, &broker.send(call).await);
        }
        assert_eq!(upstream.received().len(), 1, "{kind}");
        let records = broker.expect_records(31).await;
        let refused = records.iter().filter(|record| record["reason"] == reason(kind)).count();
        assert_eq!(refused, 30, "{kind}: {records:#?}");
        world.done().await;
    }
}

#[tokio::test]
async fn an_open_stream_is_cut_between_events() {
    for kind in KINDS {
        let (events, chunks) = mpsc::channel(8);
        let chunks = Mutex::new(Some(chunks));
        let upstream =
            ScriptedServer::start(move |_| live_events(chunks.lock().take().expect("one stream")))
                .await;
        let world = World::before(&upstream).await;

        let mut stream = world.broker.open(&world.call).await;
        let event =
            "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{}}\n\n";
        events.send(Bytes::from(event)).await.unwrap();
        stream.until(event.trim_end()).await;

        world.revoke(kind).await;
        // The upstream continues to send; the client receives none of it, and its stream ends.
        drop(events.try_send(Bytes::from(event)));
        let response = stream.rest().await;
        assert_eq!(response.text(), event, "{kind}");
        assert!(
            response.raw.ends_with(b"0\r\n\r\n"),
            "{kind}: an event stream ends cleanly: {response:?}"
        );
        let records = world.broker.records().await;
        let last = records.iter().find(|record| record["count"].is_u64()).unwrap();
        assert_eq!(
            (last["outcome"].as_str(), last["reason"].as_str()),
            (Some("cut"), Some(reason(kind))),
            "{last}"
        );
        world.done().await;
    }
}
