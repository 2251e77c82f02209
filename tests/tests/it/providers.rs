//! The exchange layer with user-defined credential sources: refusals, and requests and responses
//! that do not pass.

use std::{
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
    Broker, Secret,
    audit::{AuditLayer, InMemory, MountedAt},
    authenticate::{AuthenticateLayer, JwtVerifier},
    exchange::{
        ApplyCredentialLayer, Credential, CredentialError, CredentialRequest, ExchangeLayer,
        ProvideCredential, Upstream, UpstreamRefusal,
    },
    limits::{Limits, Protocol},
    principal::{Principal, Scopes},
    refusal::Refused,
    scope_filter::{Call, Decision, ScopeFilterLayer},
    stack::StackConfig,
};

/// A source that returns its configured result once, then another secret.
struct ScriptedServer {
    upstream: Upstream,
    gives: Result<&'static str, CredentialError>,
    asked: AtomicUsize,
    hangs: bool,
    hangs_when_refused: bool,
    /// There is no second secret.
    only_one: bool,
    /// There is a connect page.
    has_page: bool,
}

fn gives(gives: Result<&'static str, CredentialError>) -> ScriptedServer {
    let upstream = Upstream::parse("items", "https://items.example.com/api").unwrap();
    ScriptedServer {
        upstream,
        gives,
        asked: AtomicUsize::new(0),
        hangs: false,
        hangs_when_refused: false,
        only_one: false,
        has_page: true,
    }
}

impl ProvideCredential for ScriptedServer {
    fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    async fn credential(&self, _: &CredentialRequest<'_>) -> Result<Credential, CredentialError> {
        if self.hangs {
            std::future::pending().await
        }
        let secret = match self.asked.fetch_add(1, Ordering::SeqCst) {
            1.. if self.only_one => return Err(CredentialError::Revoked),
            0 => self.gives.clone()?.to_owned(),
            number => format!("{SECRET}{number}"),
        };
        Ok(Credential::vouch(Secret::from_text(secret), self.upstream.origin().clone()))
    }

    async fn refused(&self, _: &UpstreamRefusal<'_>) {
        if self.hangs_when_refused {
            std::future::pending().await
        }
    }

    fn connect_url(&self, caller: &Principal) -> Option<Box<str>> {
        let page = format!("https://broker.example.com/connect?for={}", caller.subject());
        self.has_page.then(|| page.into())
    }
}

struct Seen {
    response: Response<Bytes>,
    /// The credential that the upstream received.
    sent: Vec<Request<()>>,
}

impl Seen {
    fn text(&self) -> &str {
        std::str::from_utf8(self.response.body()).unwrap()
    }
}

/// An error of the inner service.
#[derive(Debug, PartialEq)]
struct Broken;

/// Alice requests `/items` from an upstream with the given response.
async fn ask(provider: ScriptedServer, upstream: fn() -> Response<Full<Bytes>>) -> Seen {
    ask_for("/items", "/", provider, move |_| Ok(upstream())).await.expect("no error")
}

/// Alice requests a path; the exchange layer is mounted at another one, and the upstream always
/// responds alike.
async fn ask_for(
    path: &str,
    mounted_at: &str,
    provider: ScriptedServer,
    upstream: impl Fn(usize) -> Result<Response<Full<Bytes>>, Broken> + Clone + Send + 'static,
) -> Result<Seen, Broken> {
    let broker = Broker::builder().audit(InMemory::new()).build().unwrap();
    let mut config = StackConfig::new("https://broker.example.com/").unwrap();
    config.protocol = Protocol::Http;
    config.limits = Limits::default().credential_timeout(Duration::from_millis(50));
    let resource = config.resource.clone();
    let mut of_exchange = config.clone();
    of_exchange.mounted_at = Some(MountedAt::parse(mounted_at).unwrap());
    let issuer = Issuer::new(ISSUER, SigningKeys::generate(Algorithm::EdDsa).unwrap());
    let sent = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let log = Arc::clone(&sent);
    let inner = service_fn(move |request: Request<_>| {
        let mut log = log.lock();
        log.push(request.map(|_| ()));
        let response = upstream(log.len());
        async move { response }
    });
    let inner = ApplyCredentialLayer::new().layer(inner);
    let exchange = ExchangeLayer::new(&broker, &of_exchange, provider).unwrap();
    let policy = |_: &Principal, _: &Call<'_>| Decision::allow();
    let filter = ScopeFilterLayer::new(&broker, &config, policy);
    let verifier = JwtVerifier::new(ISSUER, issuer.keys());
    let authenticate = AuthenticateLayer::new(&broker, &config, verifier).unwrap();
    let service = AuditLayer::new(&broker, &config)
        .layer(authenticate.layer(filter.layer(exchange.layer(inner))));
    let token =
        issuer.mint(Mint::for_user("alice").client("c").resource(&resource)).unwrap().into_text();
    let request = Request::get(path)
        .header(header::HOST, resource.authority())
        .header(header::RANGE, "bytes=0-9")
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .body(Empty::<Bytes>::new())
        .unwrap();
    let whole = async {
        let (parts, body) = service.oneshot(request).await?.into_parts();
        Ok(Response::from_parts(parts, body.collect().await.unwrap().to_bytes()))
    };
    let response =
        tokio::time::timeout(Duration::from_secs(20), whole).await.expect("a response")?;
    let sent = std::mem::take(&mut *sent.lock());
    Ok(Seen { response, sent })
}

fn says(status: u16) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::default()).unwrap()
}

#[tokio::test]
async fn refusals_name_the_users_connect_page() {
    let lacks_scope = || {
        let mut response = says(403);
        response
            .headers_mut()
            .insert("www-authenticate", "Bearer error=\"insufficient_scope\"".parse().unwrap());
        response
    };
    for (case, provider, upstream) in [
        (
            "never connected",
            gives(Err(CredentialError::ConnectRequired)),
            (|| says(200)) as fn() -> _,
        ),
        ("revoked", gives(Err(CredentialError::Revoked)), || says(200)),
        (
            "too few scopes",
            gives(Err(CredentialError::ScopeRequired { missing: Scopes::none() })),
            || says(200),
        ),
        (
            "refused, and revoked meanwhile",
            ScriptedServer { only_one: true, ..gives(Ok(SECRET)) },
            || says(401),
        ),
        ("more scope", gives(Ok(SECRET)), lacks_scope),
    ] {
        let seen = ask(provider, upstream).await;
        assert_eq!(seen.response.status(), 403, "{case}");
        let page = "https://broker.example.com/connect?for=alice";
        let named = format!(r#""connect_url":"{page}""#);
        assert!(seen.text().contains(&named), "{case}: {}", seen.text());
        assert_eq!(Refused::of(&seen.response).unwrap().connect_url(), Some(page), "{case}");
    }
}

#[tokio::test]
async fn without_a_connect_page_none_is_named() {
    let errors = [
        CredentialError::ConnectRequired,
        CredentialError::Revoked,
        CredentialError::ScopeRequired { missing: Scopes::none() },
    ];
    for error in errors {
        let seen =
            ask(ScriptedServer { has_page: false, ..gives(Err(error.clone())) }, || says(200))
                .await;
        let marker = Refused::of(&seen.response).unwrap();
        assert_eq!(marker.reason(), error.to_refusal().reason());
        assert_eq!((seen.response.status().as_u16(), marker.connect_url()), (403, None), "{error}");
        assert!(!seen.text().contains("connect_url"), "{error}: {}", seen.text());
    }
}

#[tokio::test]
async fn other_refusals_name_no_connect_page() {
    let seen = ask(gives(Err(CredentialError::RefusedByPolicy)), || says(200)).await;
    assert!(!seen.text().contains("connect"), "{}", seen.text());
    let seen = ask(gives(Ok(SECRET)), || says(401)).await;
    assert_eq!(seen.response.status(), 502, "I483");
    let marker = Refused::of(&seen.response).unwrap();
    assert_eq!(marker.connect_url(), None, "I483: connecting does not help");
    assert_eq!(marker.retry_after(), Some(Duration::from_secs(30)), "I483");
    assert!(!seen.text().contains("connect_url"), "I483: {}", seen.text());
}

#[tokio::test]
async fn an_unguardable_credential_is_not_sent() {
    let seen = ask(gives(Ok("")), || says(200)).await;
    assert_eq!((seen.response.status().as_u16(), seen.sent.len()), (503, 0));
}

#[tokio::test]
async fn a_hanging_provider_times_out_without_a_send() {
    let seen = ask(ScriptedServer { hangs: true, ..gives(Ok(SECRET)) }, || says(200)).await;
    assert_eq!((seen.response.status().as_u16(), seen.sent.len()), (503, 0));
}

#[tokio::test]
async fn a_path_outside_the_mount_path_is_refused() {
    for (path, sent) in [
        ("/v1/items", Some("/api/items")),
        ("/v1", Some("/api")),
        ("/v10", None),
        ("/v2/items", None),
    ] {
        let seen = ask_for(path, "/v1", gives(Ok(SECRET)), |_| Ok(says(200))).await.unwrap();
        assert_eq!(seen.sent.first().map(|request| request.uri().path()), sent, "{path}");
        assert_eq!(seen.response.status(), if sent.is_some() { 200 } else { 403 }, "{path}");
    }
}

#[tokio::test]
async fn the_second_response_is_guarded_too() {
    let second = |number| Ok(says(if number == 1 { 401 } else { 500 }));
    let seen = ask_for("/items", "/", gives(Ok(SECRET)), second).await.unwrap();
    assert_eq!((seen.response.status().as_u16(), seen.sent.len()), (502, 2));
}

#[tokio::test]
async fn inner_service_errors_are_passed_on() {
    for failing in [1, 2] {
        let upstream = move |number| if number == failing { Err(Broken) } else { Ok(says(401)) };
        let ended = ask_for("/items", "/", gives(Ok(SECRET)), upstream).await;
        assert_eq!(ended.err(), Some(Broken), "try {failing}");
    }
}

#[tokio::test]
async fn a_provider_hanging_on_refusal_delays_no_request() {
    let provider = ScriptedServer { hangs_when_refused: true, ..gives(Ok(SECRET)) };
    let seen = ask(provider, || says(401)).await;
    assert_eq!((seen.response.status().as_u16(), seen.sent.len()), (502, 2));
}

#[tokio::test]
async fn i181_partial_responses_are_neither_requested_nor_forwarded() {
    let seen = ask(gives(Ok(SECRET)), || says(206)).await;
    assert_eq!(seen.sent[0].headers().get(header::RANGE), None);
    assert_eq!(seen.response.status(), 502);
}

#[tokio::test]
async fn i181_upstream_extensions_are_removed() {
    #[derive(Clone)]
    struct ReasonPhrase;
    let upstream = || {
        let mut response = says(200);
        response.extensions_mut().insert(ReasonPhrase);
        response
    };
    let seen = ask(gives(Ok(SECRET)), upstream).await;
    assert_eq!(seen.response.status(), 200);
    assert!(seen.response.extensions().get::<ReasonPhrase>().is_none());
}
