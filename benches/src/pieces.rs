//! The pieces of a request's path, each around a service that responds at once. criterion times
//! them, callgrind counts their instructions.
//!
//! A layer needs what the layers outside of it insert, so a piece runs inside these. Its own cost
//! is the difference to the piece that [`Piece::within`] names.

use std::{convert::Infallible, future::poll_fn};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use token_broker_authority::issue::{Algorithm, Issuer, Mint, SigningKeys};
use token_broker_upstream::StaticSecret;
use tower_layer::Layer as _;
use tower_service::Service;
use tower_token_broker::{
    Broker, Secret,
    audit::AuditLayer,
    authenticate::{AuthenticateLayer, JwtVerifier},
    exchange::{ApplyCredentialLayer, Upstream},
    principal::Scopes,
    stack::StackConfig,
};

use crate::{
    fixtures::{self, Call, HOST, ISSUER, PATH, RESOURCE, SCOPES},
    services::{Dropped, Instant},
};

/// A piece to measure.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Piece {
    /// Name of the piece.
    pub name: &'static str,
    /// Name of the piece whose cost is included.
    pub within: Option<&'static str>,
    /// Number of runs that give a stable count.
    pub times: usize,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Audit,
    Authenticate(Algorithm, Tokens),
    Stack(Message, Reply),
}

#[derive(Clone, Copy, Debug)]
enum Message {
    Small,
    /// A call with arguments of so many bytes.
    Arguments(usize),
    List,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tokens {
    One,
    /// Each once.
    NeverSeen,
}

#[derive(Clone, Copy, Debug)]
enum Reply {
    Small,
    Large,
    Json(usize),
    Events(usize),
    Hostile(Hostile),
}

/// 64 KiB that are expensive to search.
#[derive(Clone, Copy, Debug)]
enum Hostile {
    /// Base64 of bytes that are no text.
    Image,
    /// Most of the secret, again and again.
    NearMisses,
    /// Text that is base64 of base64 of near misses.
    Nested,
}

impl Hostile {
    fn text(self) -> String {
        let almost = SECRET.get(..SECRET.len() - 1).unwrap_or_default();
        let near = |bytes: usize| almost.get(16..).unwrap_or_default().repeat(bytes / 15);
        let text = match self {
            Self::Image => {
                let bytes: Vec<u8> = (0..48 * 1024_u64)
                    .map(|at| at.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()[1])
                    .collect();
                STANDARD.encode(bytes)
            }
            Self::NearMisses => near(64 * 1024),
            Self::Nested => STANDARD.encode(STANDARD.encode(near(36 * 1024))),
        };
        format!(r#"{{"jsonrpc":"2.0","id":17,"result":{{"text":"{text}"}}}}"#)
    }
}

/// The upstream's secret.
const SECRET: &str = "upstream-secret-f3b1c9d27a5e4886";

/// All pieces.
pub const PIECES: [Piece; 15] = {
    use Algorithm::{EdDsa, Es256};
    use Tokens::{NeverSeen, One};
    const fn piece(name: &'static str, within: &'static str, times: usize, what: What) -> Piece {
        Piece { name, within: Some(within), times, what }
    }
    const fn stack(name: &'static str, times: usize, message: Message, reply: Reply) -> Piece {
        piece(name, "stack-300-bytes", times, What::Stack(message, reply))
    }
    [
        Piece { name: "audit-append", within: None, times: 1000, what: What::Audit },
        piece("authenticate-cached", "audit-append", 1000, What::Authenticate(Es256, One)),
        piece(
            "authenticate-uncached-es256",
            "audit-append",
            200,
            What::Authenticate(Es256, NeverSeen),
        ),
        piece(
            "authenticate-uncached-eddsa",
            "audit-append",
            200,
            What::Authenticate(EdDsa, NeverSeen),
        ),
        piece(
            "stack-300-bytes",
            "authenticate-cached",
            1000,
            What::Stack(Message::Small, Reply::Small),
        ),
        stack("message-1-kib", 1000, Message::Arguments(1024), Reply::Small),
        stack("message-64-kib", 200, Message::Arguments(64 * 1024), Reply::Small),
        stack("list-filter-20-json", 200, Message::List, Reply::Json(20)),
        stack("list-filter-500-json", 40, Message::List, Reply::Json(500)),
        stack("list-filter-20-sse", 200, Message::List, Reply::Events(20)),
        stack("list-filter-500-sse", 40, Message::List, Reply::Events(500)),
        stack("leak-guard-64-kib", 200, Message::Small, Reply::Large),
        stack("leak-guard-64-kib-image", 100, Message::Small, Reply::Hostile(Hostile::Image)),
        stack("leak-guard-64-kib-near", 100, Message::Small, Reply::Hostile(Hostile::NearMisses)),
        stack("leak-guard-64-kib-nested", 100, Message::Small, Reply::Hostile(Hostile::Nested)),
    ]
};

/// Runs a piece once. The argument is the number of earlier runs.
pub type Run = Box<dyn FnMut(usize)>;

impl Piece {
    /// Creates everything that is not measured: keys, tokens for so many runs, the layers, and a
    /// runtime with one thread.
    ///
    /// # Panics
    /// If something cannot be set up. The run panics on an unexpected response.
    pub fn prepare(&self, runs: usize) -> Run {
        let broker = Broker::builder().audit(Dropped::new()).build().expect("a broker");
        let config = StackConfig::new(RESOURCE).expect("a resource");
        let audit = AuditLayer::new(&broker, &config);
        let small = Instant::new("application/json", Call::Small.response());
        match self.what {
            What::Audit => {
                let requests = vec![request("none", Call::Small.request())];
                repeat(audit.layer(small), broker, requests)
            }
            What::Authenticate(algorithm, tokens) => {
                let issuer = issuer(algorithm);
                let tokens = if tokens == Tokens::One { 1 } else { runs };
                let requests = requests(&issuer, tokens, &Call::Small.request());
                let verifier = JwtVerifier::new(ISSUER, issuer.keys());
                let authenticate =
                    AuthenticateLayer::new(&broker, &config, verifier).expect("a layer");
                repeat(audit.layer(authenticate.layer(small)), broker, requests)
            }
            What::Stack(message, reply) => {
                let issuer = issuer(Algorithm::Es256);
                let upstream =
                    Upstream::parse("items", "http://127.0.0.1:1/mcp").expect("an upstream");
                let secret = Secret::from_text(SECRET.into());
                let stack = broker
                    .protect(RESOURCE)
                    .authenticate(JwtVerifier::new(ISSUER, issuer.keys()))
                    .scope_filter(fixtures::rules())
                    .exchange(StaticSecret::new(secret, upstream).expect("a long secret"))
                    .build()
                    .expect("a stack");
                let client = ApplyCredentialLayer::new().layer(reply.service());
                repeat(stack.layer(client), broker, requests(&issuer, 1, &message.body()))
            }
        }
    }
}

impl Message {
    fn body(self) -> String {
        match self {
            Self::Small => Call::Small.request(),
            Self::Arguments(bytes) => fixtures::call(bytes),
            Self::List => Call::List(20).request(),
        }
    }
}

impl Reply {
    fn service(self) -> Instant {
        match self {
            Self::Small => Instant::new("application/json", Call::Small.response()),
            Self::Large => Instant::new("application/json", Call::Large.response()),
            Self::Hostile(hostile) => Instant::new("application/json", hostile.text()),
            Self::Json(tools) => Instant::new("application/json", fixtures::list(tools)),
            Self::Events(tools) => Instant::new(
                "text/event-stream",
                format!("event: message\ndata: {}\n\n", fixtures::list(tools)),
            ),
        }
    }
}

fn issuer(algorithm: Algorithm) -> Issuer {
    Issuer::new(ISSUER, SigningKeys::generate(algorithm).expect("keys"))
}

fn requests(issuer: &Issuer, tokens: usize, body: &str) -> Vec<Request<Full<Bytes>>> {
    let (resource, scopes) = (fixtures::resource(), Scopes::parse(SCOPES).expect("scopes"));
    let mint = Mint::for_user("alice").client("bench").resource(&resource).scopes(scopes);
    let tokens = (0..tokens).map(|_| issuer.mint(&mint).expect("a token").into_text());
    tokens.map(|token| request(&token, body.to_owned())).collect()
}

fn request(token: &str, body: String) -> Request<Full<Bytes>> {
    let mut request = Request::post(PATH).body(Full::new(body.into())).expect("a request");
    let mut set = |name, value: &str| {
        request.headers_mut().insert(name, HeaderValue::from_str(value).expect("a field value"));
    };
    set(header::HOST, HOST);
    set(header::AUTHORIZATION, &format!("Bearer {token}"));
    set(header::USER_AGENT, "bench/1");
    set(header::ACCEPT, "application/json, text/event-stream");
    set(header::CONTENT_TYPE, "application/json");
    set(header::HeaderName::from_static("mcp-protocol-version"), "2025-11-25");
    request
}

/// Sends one request after another. Each response is read to its end and its records are written,
/// so that each run does the same work.
fn repeat<S, R>(mut service: S, broker: Broker, requests: Vec<Request<Full<Bytes>>>) -> Run
where
    S: Service<Request<Full<Bytes>>, Response = Response<R>, Error = Infallible> + 'static,
    R: Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    Box::new(move |number| {
        let request = requests.get(number % requests.len()).expect("a request").clone();
        runtime.block_on(async {
            poll_fn(|cx| service.poll_ready(cx)).await.unwrap_or_else(|error| match error {});
            let response = service.call(request).await.unwrap_or_else(|error| match error {});
            assert_eq!(response.status(), http::StatusCode::OK, "a status other than 200");
            let body = response.into_body().collect().await.expect("a body to its end");
            assert!(!body.to_bytes().is_empty(), "an empty response");
            broker.audit_log().flush().await.expect("a log that takes records");
        });
    })
}
