//! The exchange around a provider of one's own: what it says to whom, and what it does not send or pass on.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Empty, Full};
use token_broker_authority::issue::{Algorithm, Issuer, Mint, SigningKeys};
use token_broker_tests::harness::{ISSUER, SECRET};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_token_broker::{
    Secret,
    audit::{AuditLayer, AuditLog, Trail},
    authenticate::{AuthenticateLayer, JwtVerifier},
    exchange::{Credential, ExchangeLayer, NoCredential, ProvideCredential, Upstream},
    principal::{Principal, Resource, Scopes},
    scope_filter::{Call, Decision, ScopeFilterLayer},
};

/// Gives what it was told to, once; then another secret.
struct Scripted {
    upstream: Upstream,
    gives: Result<&'static str, NoCredential>,
    asked: AtomicUsize,
    hangs_when_refused: bool,
}

fn gives(gives: Result<&'static str, NoCredential>) -> Scripted {
    let upstream = Upstream::parse("items", "https://items.example.com/api").unwrap();
    Scripted { upstream, gives, asked: AtomicUsize::new(0), hangs_when_refused: false }
}

impl ProvideCredential for Scripted {
    fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    async fn credential(&self, _: &Principal, _: &Scopes, _: &Trail) -> Result<Credential, NoCredential> {
        let secret = match self.asked.fetch_add(1, Ordering::SeqCst) {
            0 => self.gives.clone()?.to_owned(),
            number => format!("{SECRET}{number}"),
        };
        Ok(Credential::vouch(Secret::from_text(secret), self.upstream.origin().clone()))
    }

    async fn refused(&self, _: &Credential) {
        if self.hangs_when_refused {
            std::future::pending().await
        }
    }

    fn connect_url(&self, caller: &Principal) -> Option<Box<str>> {
        Some(format!("https://broker.example.com/connect?for={}", caller.subject()).into())
    }
}

struct Seen {
    answer: Response<Bytes>,
    /// What the upstream was sent.
    sent: Vec<Request<()>>,
}

impl Seen {
    fn text(&self) -> &str {
        std::str::from_utf8(self.answer.body()).unwrap()
    }
}

/// Alice asks for `/items`; the upstream answers so.
async fn ask(provider: Scripted, upstream: fn() -> Response<Full<Bytes>>) -> Seen {
    let resource = Resource::parse("https://broker.example.com/").unwrap();
    let issuer = Issuer::new(ISSUER, SigningKeys::generate(Algorithm::EdDsa).unwrap());
    let sent = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let log = Arc::clone(&sent);
    let inner = service_fn(move |request: Request<_>| {
        log.lock().push(request.map(|_| ()));
        async move { Ok::<_, Infallible>(upstream()) }
    });
    let exchange = ExchangeLayer::new(provider).credential_deadline(Duration::from_millis(50));
    let filter = ScopeFilterLayer::new(|_: &Principal, _: &Call<'_>| Decision::allow()).plain_http();
    let authenticate = AuthenticateLayer::new(JwtVerifier::new(ISSUER, issuer.keys()), &resource);
    let service =
        AuditLayer::new(AuditLog::in_memory().0).layer(authenticate.layer(filter.layer(exchange.layer(inner))));
    let token = issuer.mint(Mint::for_person("alice").client("c").resource(&resource)).unwrap().into_text();
    let request = Request::get("/items")
        .header(header::HOST, resource.authority())
        .header(header::RANGE, "bytes=0-9")
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .body(Empty::<Bytes>::new())
        .unwrap();
    let whole = async {
        let (parts, body) = service.oneshot(request).await.unwrap().into_parts();
        Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
    };
    let answer = tokio::time::timeout(Duration::from_secs(20), whole).await.expect("an answer");
    let sent = std::mem::take(&mut *sent.lock());
    Seen { answer, sent }
}

fn says(status: u16) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::default()).unwrap()
}

#[tokio::test]
async fn each_refusal_that_needs_the_person_names_the_persons_own_page() {
    let lacks_scope = || {
        let mut answer = says(403);
        answer.headers_mut().insert("www-authenticate", "Bearer error=\"insufficient_scope\"".parse().unwrap());
        answer
    };
    for (case, provider, upstream) in [
        (
            "never connected",
            gives(Err(NoCredential::ConnectRequired { connect_url: None })),
            (|| says(200)) as fn() -> _,
        ),
        ("revoked", gives(Err(NoCredential::Revoked { connect_url: None })), || says(200)),
        ("refused twice", gives(Ok(SECRET)), || says(401)),
        ("more scope", gives(Ok(SECRET)), lacks_scope),
    ] {
        let seen = ask(provider, upstream).await;
        assert_eq!(seen.answer.status(), 403, "{case}");
        let page = r#""connect_url":"https://broker.example.com/connect?for=alice""#;
        assert!(seen.text().contains(page), "{case}: {}", seen.text());
    }
}

#[tokio::test]
async fn a_page_that_the_provider_names_in_its_refusal_is_kept() {
    let own = Some("https://broker.example.com/this-one".into());
    let seen = ask(gives(Err(NoCredential::ConnectRequired { connect_url: own })), || says(200)).await;
    assert!(seen.text().contains(r#""connect_url":"https://broker.example.com/this-one""#), "{}", seen.text());
}

#[tokio::test]
async fn where_connecting_does_not_help_no_page_is_named() {
    let seen = ask(gives(Err(NoCredential::RefusedByPolicy)), || says(200)).await;
    assert!(!seen.text().contains("connect"), "{}", seen.text());
}

#[tokio::test]
async fn what_the_guard_can_not_look_for_is_not_sent() {
    let seen = ask(gives(Ok("")), || says(200)).await;
    assert_eq!((seen.answer.status().as_u16(), seen.sent.len()), (503, 0));
}

#[tokio::test]
async fn a_provider_that_hangs_when_it_hears_of_a_refusal_holds_no_request() {
    let provider = Scripted { hangs_when_refused: true, ..gives(Ok(SECRET)) };
    let seen = ask(provider, || says(401)).await;
    assert_eq!((seen.answer.status().as_u16(), seen.sent.len()), (403, 2));
}

#[tokio::test]
async fn i181_no_part_of_an_answer_is_asked_for_or_passed_on() {
    let seen = ask(gives(Ok(SECRET)), || says(206)).await;
    assert_eq!(seen.sent[0].headers().get(header::RANGE), None);
    assert_eq!(seen.answer.status(), 502);
}

#[tokio::test]
async fn i181_what_the_upstream_put_into_the_extensions_stays_here() {
    #[derive(Clone)]
    struct ReasonPhrase;
    let upstream = || {
        let mut answer = says(200);
        answer.extensions_mut().insert(ReasonPhrase);
        answer
    };
    let seen = ask(gives(Ok(SECRET)), upstream).await;
    assert_eq!(seen.answer.status(), 200);
    assert!(seen.answer.extensions().get::<ReasonPhrase>().is_none());
}
