//! The layer as a whole, over a service that panics when it is called before it was ready.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tower::{Layer, ServiceExt};
use tower_service::Service;

use super::{
    Authenticate, AuthenticateLayer, Config, HostAndOrigin, VerifyError, VerifyRequest,
    VerifyToken,
    jwt::{
        JwtVerifier,
        tests::{ISSUER, NOW, RESOURCE, Signer, claims, header},
    },
};
use crate::{
    audit::{Audit, AuditLayer, AuditLog, InMemory, TrailBody},
    body::{BodyError, ResponseBody},
    clock::{Clock, LEEWAY, Timestamp},
    limits::Limits,
    principal::GrantId,
    principal::{Principal, Resource, Scopes, TokenTimes, User, Verified},
    refusal::Reason,
    revocation::{FeedError, FeedEvent, RevocationFeed, RevocationTarget, Revocations, Standing},
    tasks::Tasks,
};

/// A JWT verifier that counts its calls.
struct Counting(JwtVerifier, Arc<AtomicUsize>);

impl VerifyToken for Counting {
    async fn verify(&self, request: &VerifyRequest<'_>) -> Result<Verified, VerifyError> {
        // Pending once, so that there is an await at which it can be dropped.
        tokio::task::yield_now().await;
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.verify(request).await
    }
}

/// A request as the inner service received it.
struct Seen {
    headers: HeaderMap,
    principal: Option<Principal>,
    standing: Option<Standing>,
}

type Frames = mpsc::Receiver<Result<Frame<Bytes>, &'static str>>;

/// A response body, frame by frame.
struct Stream(Frames);

impl Body for Stream {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        self.0.poll_recv(cx)
    }
}

/// The inner service's response to the next request; `{}` without a plan.
enum Plan {
    Stream(&'static str, Frames),
    /// Never responds; the sender is dropped with the future.
    Hang(mpsc::Sender<()>),
}

#[derive(Default)]
struct Inner {
    seen: Arc<Mutex<Vec<Seen>>>,
    plans: Arc<Mutex<VecDeque<Plan>>>,
    is_ready: bool,
}

impl Clone for Inner {
    fn clone(&self) -> Self {
        Self { seen: Arc::clone(&self.seen), plans: Arc::clone(&self.plans), is_ready: false }
    }
}

impl Service<Request<Full<Bytes>>> for Inner {
    type Response = Response<Stream>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Stream>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        assert!(std::mem::take(&mut self.is_ready), "called before it was ready");
        self.seen.lock().push(Seen {
            headers: request.headers().clone(),
            principal: request.extensions().get().cloned(),
            standing: request.extensions().get().cloned(),
        });
        let plan = self.plans.lock().pop_front();
        Box::pin(async move {
            let (media, frames) = match plan {
                Some(Plan::Hang(held)) => {
                    let _held = held;
                    std::future::pending().await
                }
                Some(Plan::Stream(media, frames)) => (media, frames),
                None => {
                    let (send, frames) = mpsc::channel(1);
                    send.try_send(Ok(Frame::data(Bytes::from_static(b"{}")))).unwrap();
                    ("application/json", frames)
                }
            };
            Ok(Response::builder()
                .header(header::CONTENT_TYPE, media)
                .body(Stream(frames))
                .unwrap())
        })
    }
}

/// A mounted layer and its parts.
struct Setting {
    signer: Signer,
    clock: Clock,
    revocations: Revocations,
    verified: Arc<AtomicUsize>,
    verifier: Arc<Counting>,
    inner: Inner,
    layer: AuthenticateLayer<Arc<Counting>>,
    log: AuditLog,
    sink: InMemory,
}

fn layer<V: VerifyToken>(
    verifier: V,
    clock: &Clock,
    revocations: &Revocations,
    challenge_scopes: &str,
) -> AuthenticateLayer<V> {
    let config = Config {
        resource: &Resource::parse(RESOURCE).unwrap(),
        host_and_origin: &HostAndOrigin::new(),
        challenge_scopes: &Scopes::parse(challenge_scopes).unwrap(),
        revocations,
        clock,
        verdict_cache_capacity: 1000,
        verify_timeout: Limits::default().verify_timeout,
    };
    AuthenticateLayer::build(verifier, &config).unwrap()
}

fn setting() -> Setting {
    let signer = Signer::new();
    let clock = Clock::manual(Timestamp::from_unix_seconds(NOW));
    let revocations = Revocations::new(clock.clone());
    let verified = Arc::new(AtomicUsize::new(0));
    let verifier =
        Arc::new(Counting(JwtVerifier::new(ISSUER, signer.keys()), Arc::clone(&verified)));
    let layer = layer(Arc::clone(&verifier), &clock, &revocations, "");
    let (log, sink) = AuditLog::in_memory();
    Setting {
        signer,
        clock,
        revocations,
        verified,
        verifier,
        inner: Inner::default(),
        layer,
        log,
        sink,
    }
}

type Answer = Response<TrailBody<ResponseBody<ResponseBody<super::CutBody<Stream>>>>>;
type Stack = Audit<Authenticate<Inner, Arc<Counting>>>;

impl Setting {
    fn token(&self) -> String {
        self.signer.sign(&header(), &claims())
    }

    fn stack(&self) -> Stack {
        AuditLayer::for_test(&self.log).layer(self.layer.layer(self.inner.clone()))
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        self.stack().oneshot(request).await.unwrap()
    }

    /// Outcome and reason of each request that has ended, from the audit.
    async fn records(&self) -> Vec<String> {
        self.log.flush().await.unwrap();
        let lines = self.sink.lines();
        let records = lines.iter().map(|line| line.parse::<serde_json::Value>().unwrap());
        let results = records.filter(|record| record["kind"] == "result");
        results
            .map(|record| {
                format!(
                    "{} {}",
                    record["outcome"].as_str().unwrap(),
                    record["reason"].as_str().unwrap_or("-")
                )
            })
            .collect()
    }

    async fn send_good(&self) -> Answer {
        self.send(good(&self.token())).await
    }

    fn calls(&self) -> usize {
        self.inner.seen.lock().len()
    }

    fn verified(&self) -> usize {
        self.verified.load(Ordering::SeqCst)
    }

    fn plan_stream(&self, media: &'static str) -> mpsc::Sender<Result<Frame<Bytes>, &'static str>> {
        let (send, frames) = mpsc::channel(16);
        self.inner.plans.lock().push_back(Plan::Stream(media, frames));
        send
    }

    fn alice() -> RevocationTarget {
        RevocationTarget::User(User::new(ISSUER, "alice"))
    }
}

fn bare() -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::from("{}"));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = "/crm/mcp".parse().unwrap();
    request.headers_mut().insert(header::HOST, "broker.example.com".parse().unwrap());
    request
}

fn good(token: &str) -> Request<Full<Bytes>> {
    let mut request = bare();
    request.headers_mut().insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    request
}

const METADATA: &str = concat!(
    r#"resource_metadata="https://broker.example.com"#,
    r#"/.well-known/oauth-protected-resource/crm/mcp""#,
);

/// Status and challenge, in short form.
fn form(answer: &Answer) -> &'static str {
    assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store", "C0");
    let challenge =
        answer.headers().get(header::WWW_AUTHENTICATE).map(|value| value.to_str().unwrap());
    match (answer.status().as_u16(), challenge) {
        (401, Some(challenge)) if challenge == format!("Bearer {METADATA}") => "B401",
        (401, Some(challenge))
            if challenge.starts_with("Bearer error=\"invalid_token\"")
                && challenge.contains(METADATA) =>
        {
            "I401"
        }
        (400, Some(challenge)) if challenge.starts_with("Bearer error=\"invalid_request\"") => {
            "B400"
        }
        (403, None) => "403",
        (421, None) => "421",
        (503, None) => "503",
        other => panic!("{other:?}"),
    }
}

async fn text(answer: Answer) -> Result<Bytes, BodyError<&'static str>> {
    answer.into_body().collect().await.map(http_body_util::Collected::to_bytes)
}

#[tokio::test]
async fn a_valid_token_is_accepted_and_removed() {
    let setting = setting();
    let mut request = good(&setting.token());
    request.headers_mut().insert(header::COOKIE, "access_token=tok".parse().unwrap());
    request.headers_mut().insert(header::PROXY_AUTHORIZATION, "Bearer tok".parse().unwrap());
    let answer = setting.send(request).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(text(answer).await.unwrap(), "{}");
    let seen = setting.inner.seen.lock();
    assert_eq!(
        seen[0].headers.keys().map(http::HeaderName::as_str).collect::<Vec<_>>(),
        ["host"],
        "A014"
    );
    assert_eq!(seen[0].principal.as_ref().unwrap().subject(), "alice");
    assert!(seen[0].standing.is_some());
}

#[tokio::test]
async fn hostile_credentials_are_refused() {
    let setting = setting();
    let token = setting.token();
    let authorization = |value: &str| {
        let mut request = bare();
        request.headers_mut().insert(header::AUTHORIZATION, value.parse().unwrap());
        request
    };
    let doubled = || {
        let mut request = good(&token);
        request.headers_mut().append(header::AUTHORIZATION, "garbage".parse().unwrap());
        request
    };
    let at = |target: &str, mut request: Request<Full<Bytes>>| {
        *request.uri_mut() = target.parse().unwrap();
        request
    };
    let with = |name: &'static str, value: &str, mut request: Request<Full<Bytes>>| {
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    };
    for (case, request, expected, reason) in [
        ("A001", bare(), "B401", Reason::Missing),
        ("A002", authorization("Bearer"), "B401", Reason::EmptyToken),
        ("A002", authorization("Bearer   "), "B401", Reason::EmptyToken),
        ("A003", doubled(), "B400", Reason::DuplicateHeader),
        ("A009", authorization(&format!("Bearer  {token}")), "B400", Reason::Malformed),
        ("A009", authorization(&format!("Bearer\t{token}")), "B400", Reason::Malformed),
        ("A010", authorization("Basic dTp2YWxpZHRva2Vu"), "B401", Reason::UnsupportedScheme),
        ("A010", authorization(&format!("DPoP {token}")), "B401", Reason::UnsupportedScheme),
        ("A011", at(&format!("/crm/mcp?access_token={token}"), bare()), "B401", Reason::QueryToken),
        (
            "A011",
            at(&format!("/crm/mcp?access_token={token}"), good(&token)),
            "B400",
            Reason::QueryAndHeader,
        ),
        ("A014", with("cookie", &format!("access_token={token}"), bare()), "B401", Reason::Missing),
        (
            "A014",
            with("proxy-authorization", &format!("Bearer {token}"), bare()),
            "B401",
            Reason::Missing,
        ),
        (
            "A015",
            authorization(&format!("Bearer {}", "a".repeat(16 * 1024 + 1))),
            "B400",
            Reason::TokenTooLarge,
        ),
        ("A018", with("x-forwarded-user", "alice", bare()), "B401", Reason::Missing),
        ("A021", with("host", "evil.example", good(&token)), "421", Reason::HostNotAllowed),
        ("A021", at("https://evil.example/crm/mcp", good(&token)), "421", Reason::HostNotAllowed),
        (
            "A022",
            with("origin", "https://evil.example", good(&token)),
            "403",
            Reason::OriginNotAllowed,
        ),
        (
            "A023",
            authorization("Bearer gho_16C7e42F292c6912E7710c838347Ae178B4a"),
            "I401",
            Reason::JwtFormat,
        ),
    ] {
        assert_eq!(form(&setting.send(request).await), expected, "{case}");
        assert_eq!(
            setting.records().await.pop(),
            Some(format!("refused {}", reason.code())),
            "{case}"
        );
    }
    assert_eq!((setting.calls(), setting.verified()), (0, 1), "only A023 was worth a look");
    for (case, scheme) in
        [("A008", "bearer"), ("A008", "BEARER"), ("A008", "BeArEr"), ("A009", "Bearer")]
    {
        let trailing = if case == "A009" { " " } else { "" };
        let answer = setting.send(authorization(&format!("{scheme} {token}{trailing}"))).await;
        assert_eq!(answer.status(), StatusCode::OK, "{case} {scheme}");
    }
    assert_eq!(setting.calls(), 4);
}

#[tokio::test]
async fn a_401_names_the_scopes_to_request() {
    let mut setting = setting();
    for (scopes, named) in
        [("", None), ("crm:write crm:read", Some("scope=\"crm:read crm:write\""))]
    {
        let verifier = Arc::clone(&setting.verifier);
        setting.layer = layer(verifier, &setting.clock, &setting.revocations, scopes);
        for (request, status, is_named) in
            [(bare(), 401, true), (good("rubbish"), 401, true), (good("two tokens"), 400, false)]
        {
            let answer = setting.send(request).await;
            let challenge = answer.headers()[header::WWW_AUTHENTICATE].to_str().unwrap();
            assert_eq!(answer.status(), status);
            assert!(challenge.contains(METADATA), "{challenge}");
            let expected = named.filter(|_| is_named);
            assert_eq!(challenge.contains("scope="), expected.is_some(), "{challenge}");
            assert!(challenge.contains(expected.unwrap_or_default()), "{challenge}");
        }
    }
}

#[tokio::test]
async fn every_bad_token_is_answered_alike() {
    let setting = setting();
    let mut answers = Vec::new();
    let other = serde_json::json!("https://broker.example.com/mail/mcp");
    let mut foreign = claims();
    foreign["aud"] = other;
    let mut expired = claims();
    (expired["iat"], expired["exp"]) = ((NOW - 600).into(), (NOW - 31).into());
    for token in [
        setting.signer.sign(&header(), &foreign),
        setting.signer.sign(&header(), &expired),
        Signer::new().sign(&header(), &claims()),
        "rubbish".into(),
    ] {
        let answer = setting.send(good(&token)).await;
        assert_eq!(form(&answer), "I401", "A017");
        let challenge = answer.headers()[header::WWW_AUTHENTICATE].clone();
        let mut body: serde_json::Value =
            std::str::from_utf8(&text(answer).await.unwrap()).unwrap().parse().unwrap();
        assert!(body.as_object_mut().unwrap().remove("request_id").is_some());
        answers.push((challenge, body));
    }
    answers.dedup();
    assert_eq!((answers.len(), setting.calls()), (1, 0));
    let expected = ["authn.resource", "jwt.expired", "jwt.signature", "jwt.format"]
        .map(|code| format!("refused {code}"));
    assert_eq!(setting.records().await, expected, "the record tells what the answer does not");
}

#[tokio::test]
async fn without_the_audit_layer_nothing_passes() {
    let setting = setting();
    let answer =
        setting.layer.layer(setting.inner.clone()).oneshot(good(&setting.token())).await.unwrap();
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!((setting.calls(), setting.verified()), (0, 0));
}

#[tokio::test]
async fn a_forged_principal_is_removed() {
    let setting = setting();
    setting.send_good().await;
    let (principal, standing) = {
        let seen = setting.inner.seen.lock();
        (seen[0].principal.clone().unwrap(), seen[0].standing.clone().unwrap())
    };
    let planted = |mut request: Request<Full<Bytes>>| {
        request.extensions_mut().insert(principal.clone());
        request.extensions_mut().insert(standing.clone());
        request
    };
    assert_eq!(form(&setting.send(planted(bare())).await), "B401");
    let mut bobs = claims();
    (bobs["sub"], bobs["jti"]) = ("bob".into(), "token-2".into());
    setting.send(planted(good(&setting.signer.sign(&header(), &bobs)))).await;
    assert_eq!(setting.inner.seen.lock()[1].principal.as_ref().unwrap().subject(), "bob");
}

#[tokio::test]
async fn a_cached_verdict_avoids_verification() {
    let setting = setting();
    let token = setting.token();
    for _ in 0..100 {
        assert_eq!(setting.send(good(&token)).await.status(), StatusCode::OK);
    }
    assert_eq!(setting.verified(), 1);
    setting.revocations.revoke(RevocationTarget::User(User::new(ISSUER, "bob")));
    assert_eq!(setting.send(good(&token)).await.status(), StatusCode::OK);
    assert_eq!(setting.verified(), 1, "another's revoke is no signature");
    setting.clock.advance(Duration::from_secs(60));
    assert_eq!(setting.send(good(&token)).await.status(), StatusCode::OK);
    assert_eq!(setting.verified(), 2);
}

/// A verifier whose result is available at once.
struct Knowing(Result<Verified, Reason>);

impl VerifyToken for Knowing {
    fn recall(&self, _: &VerifyRequest<'_>) -> Option<Result<Verified, VerifyError>> {
        Some(self.0.clone().map_err(VerifyError::because))
    }

    async fn verify(&self, _: &VerifyRequest<'_>) -> Result<Verified, VerifyError> {
        unreachable!("it knows the token")
    }
}

#[tokio::test]
async fn recalled_results_are_judged_like_verified_ones() {
    let user = || User::new(ISSUER, "alice");
    let verified = |resource: &str, expires_at: u64| {
        let (from, until) =
            (Timestamp::from_unix_seconds(NOW - 60), Timestamp::from_unix_seconds(expires_at));
        let times = TokenTimes { id: "t1", issued_at: from, expires_at: until };
        Ok(Verified::vouch(user(), "c", Resource::parse(resource).unwrap(), times))
    };
    for (what, known, status, record) in [
        ("a good one", verified(RESOURCE, NOW + 60), 200, "completed -"),
        (
            "for another resource",
            verified("https://other.example.com/mcp", NOW + 60),
            401,
            "refused authn.resource",
        ),
        (
            "that has expired",
            verified(RESOURCE, NOW - LEEWAY.as_secs()),
            401,
            "refused jwt.expired",
        ),
        ("that is unknown", Err(Reason::UnknownToken), 401, "refused authn.unknown"),
    ] {
        let setting = setting();
        let layer = layer(Arc::new(Knowing(known)), &setting.clock, &setting.revocations, "");
        let stack = AuditLayer::for_test(&setting.log).layer(layer.layer(setting.inner.clone()));
        let answer = stack.oneshot(good("tok")).await.unwrap();
        assert_eq!(answer.status(), status, "{what}");
        drop(text(answer).await);
        assert_eq!(setting.records().await, [record], "{what}");
    }
}

#[tokio::test]
async fn layers_with_other_revocations_share_no_verdict() {
    let setting = setting();
    let others = Revocations::new(setting.clock.clone());
    let verifier = Arc::clone(&setting.verifier);
    let other = Setting { layer: layer(verifier, &setting.clock, &others, ""), ..self::setting() };
    let token = setting.token();
    assert_eq!(other.send(good(&token)).await.status(), StatusCode::OK);
    // As many revocations in each, so that the epochs of both are equal.
    setting.revocations.revoke(Setting::alice());
    others.revoke(RevocationTarget::Grant(GrantId::new("g")));
    assert_eq!(other.send(good(&token)).await.status(), StatusCode::OK);
    assert_eq!(setting.send(good(&token)).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn n258_after_a_revoke_not_one_request_passes() {
    for (what, case) in [
        (Setting::alice(), "N258"),
        (RevocationTarget::Token { issuer: ISSUER.into(), id: "token-1".into() }, "N258"),
        (RevocationTarget::Family { issuer: ISSUER.into(), id: "family-1".into() }, "N267"),
        (RevocationTarget::Client { issuer: ISSUER.into(), id: "inspector".into() }, "N258"),
        (RevocationTarget::Server(Resource::parse(RESOURCE).unwrap()), "N258"),
        (RevocationTarget::Everything, "N258"),
    ] {
        let setting = setting();
        let token = setting.token();
        assert_eq!(setting.send(good(&token)).await.status(), StatusCode::OK);
        setting.revocations.revoke(what.clone());
        for _ in 0..10_000 {
            assert_eq!(form(&setting.send(good(&token)).await), "I401", "{case} {what:?}");
        }
        assert_eq!((setting.calls(), setting.verified()), (1, 1), "{case} {what:?}");
        setting.log.flush().await.unwrap();
        // A flood of them is counted in the end.
        let lines = setting.sink.lines();
        let names = |line: &&String| line.contains("alice") && line.contains("authn.revoked");
        assert!(lines.iter().find(names).is_some(), "the records name who came back: {lines:?}");
    }
}

#[tokio::test]
async fn a_revoke_ends_the_wait_for_an_answer() {
    let setting = setting();
    let (held, mut gone) = mpsc::channel(1);
    setting.inner.plans.lock().push_back(Plan::Hang(held));
    let waiting = Tasks::new().spawn("test", setting.stack().oneshot(good(&setting.token())));
    while setting.calls() == 0 {
        tokio::task::yield_now().await;
    }
    setting.revocations.revoke(Setting::alice());
    assert_eq!(form(&waiting.await.unwrap().unwrap()), "I401");
    assert_eq!(gone.recv().await, None, "the inner future is gone");
    assert_eq!(setting.records().await, ["refused authn.revoked"]);
}

#[tokio::test]
async fn a_cut_event_stream_ends_after_a_whole_event() {
    let setting = setting();
    let upstream = setting.plan_stream("text/event-stream; charset=utf-8");
    let mut body = setting.send_good().await.into_body();
    for part in ["data: 1\n", "\ndata: 2\n\nda", "ta: half"] {
        upstream.send(Ok(Frame::data(Bytes::from(part)))).await.unwrap();
    }
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "data: 1\n\ndata: 2\n\n");
    let next = Tasks::new().spawn("test", async move {
        (body.frame().await.is_none(), body.is_end_stream(), body.frame().await.is_none())
    });
    tokio::task::yield_now().await;
    setting.revocations.revoke(Setting::alice());
    assert_eq!(next.await.unwrap(), (true, true, true));
    assert!(upstream.is_closed(), "what feeds the stream ends with it");
    assert_eq!(setting.records().await, ["cut authn.revoked"]);
}

#[tokio::test]
async fn any_other_cut_body_ends_with_an_error() {
    for media in ["application/json", "application/grpc"] {
        let setting = setting();
        let upstream = setting.plan_stream(media);
        for _ in 0..3 {
            upstream.send(Ok(Frame::data(Bytes::from_static(b"{")))).await.unwrap();
        }
        let mut body = setting.send_good().await.into_body();
        assert!(body.frame().await.unwrap().is_ok());
        setting.revocations.revoke(Setting::alice());
        assert!(matches!(body.frame().await, Some(Err(BodyError::Cut))), "{media}");
        assert!(body.frame().await.is_none());
        assert!(upstream.is_closed());
        assert_eq!(setting.records().await, ["cut authn.revoked"]);
    }
}

#[tokio::test]
async fn another_s_revoke_leaves_a_stream_open() {
    let setting = setting();
    let upstream = setting.plan_stream("text/event-stream");
    let mut body = setting.send_good().await.into_body();
    let reading = Tasks::new()
        .spawn("test", async move { body.frame().await.unwrap().unwrap().into_data().unwrap() });
    for _ in 0..3 {
        tokio::task::yield_now().await;
        setting.revocations.revoke(RevocationTarget::User(User::new(ISSUER, "bob")));
    }
    upstream.send(Ok(Frame::data(Bytes::from_static(b"data: 1\n\n")))).await.unwrap();
    assert_eq!(reading.await.unwrap(), "data: 1\n\n");
}

#[tokio::test]
async fn n262_a_stream_ends_when_its_token_does() {
    let setting = setting();
    let _upstream = setting.plan_stream("text/event-stream");
    let mut body = setting.send_good().await.into_body();
    let (heard, mut hears) = mpsc::channel(1);
    let mut reading = Tasks::new().spawn("test", async move {
        heard.send(()).await.unwrap();
        body.frame().await.is_none()
    });
    hears.recv().await.unwrap();
    setting.clock.advance(Duration::from_secs(600) + LEEWAY - Duration::from_millis(1));
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(
        std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut reading).poll(cx).is_pending())).await
    );
    setting.clock.advance(Duration::from_millis(1));
    assert!(reading.await.unwrap(), "N262");
    assert_eq!(setting.records().await, ["cut jwt.expired"]);
    assert_eq!(form(&setting.send_good().await), "I401", "the same instant for the cache");
}

#[tokio::test]
async fn a_revoked_grant_cuts_streams_that_used_it() {
    let setting = setting();
    let grant = GrantId::new("grant-1");
    let _upstream =
        (setting.plan_stream("text/event-stream"), setting.plan_stream("text/event-stream"));
    let mut used = setting.send_good().await.into_body();
    let mut unused = setting.send_good().await.into_body();
    let standing = setting.inner.seen.lock()[0].standing.clone().unwrap();
    standing.check_before_send(Some(&grant)).unwrap();
    setting.revocations.revoke(RevocationTarget::Grant(grant.clone()));
    assert!(used.frame().await.is_none());
    assert_eq!(standing.check_before_send(Some(&grant)), Err(Reason::GrantRevoked));
    let pending =
        std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut unused).poll_frame(cx).is_pending()))
            .await;
    assert!(pending, "another request of hers goes on");
    assert_eq!(setting.send_good().await.status(), StatusCode::OK, "and so does her token");
}

#[tokio::test]
async fn the_end_of_an_event_stream_passes_unchanged() {
    let setting = setting();
    let upstream = setting.plan_stream("text/event-stream");
    let body = setting.send_good().await.into_body();
    upstream
        .send(Ok(Frame::data(Bytes::from_static(b"data: 1\n\ndata: unfinished"))))
        .await
        .unwrap();
    upstream
        .send(Ok(Frame::trailers(HeaderMap::from_iter([(header::ETAG, "x".parse().unwrap())]))))
        .await
        .unwrap();
    drop(upstream);
    let collected = body.collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()[header::ETAG], "x");
    assert_eq!(collected.to_bytes(), "data: 1\n\ndata: unfinished");

    let upstream = setting.plan_stream("text/event-stream");
    let body = setting.send_good().await.into_body();
    upstream.send(Err("broken")).await.unwrap();
    assert!(matches!(body.collect().await, Err(BodyError::Inner("broken"))));
}

#[tokio::test]
async fn a_cut_within_a_long_event_is_an_error() {
    let setting = setting();
    let upstream = setting.plan_stream("text/event-stream");
    let mut body = setting.send_good().await.into_body();
    let long = Bytes::from(vec![b'x'; 64 * 1024]);
    upstream.send(Ok(Frame::data(long.clone()))).await.unwrap();
    upstream.send(Ok(Frame::data(Bytes::from_static(b"y")))).await.unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len(), long.len() + 1);
    setting.revocations.revoke(Setting::alice());
    assert!(matches!(body.frame().await, Some(Err(BodyError::Cut))));
}

struct Silent;

impl RevocationFeed for Silent {
    async fn next(&mut self) -> Result<FeedEvent, FeedError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn n260_a_stale_replica_refuses_cached_tokens() {
    let setting = setting();
    let token = setting.token();
    assert_eq!(setting.send(good(&token)).await.status(), StatusCode::OK);
    let tasks = Tasks::new();
    drop(setting.revocations.follow(Silent, &tasks));
    let answer = setting.send(good(&token)).await;
    assert!(answer.headers().contains_key(header::RETRY_AFTER));
    assert_eq!((form(&answer), setting.calls()), ("503", 1));
}

#[tokio::test]
async fn x25_a_request_dropped_anywhere_has_one_record() {
    for polls in 1_usize.. {
        let setting = setting();
        // A cached token and an unknown one take different paths.
        if polls % 2 == 0 {
            assert_eq!(setting.send_good().await.status(), StatusCode::OK);
        }
        let before = setting.records().await.len();
        let (stack, token) = (setting.stack(), setting.token());
        let mut left = polls.div_ceil(2);
        let mut work = Box::pin(async move {
            let answer = stack.oneshot(good(&token)).await.unwrap();
            // The body is awaited once before it ends.
            tokio::task::yield_now().await;
            answer.into_body().collect().await.unwrap();
        });
        let done = std::future::poll_fn(|cx| {
            left -= 1;
            match work.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(true),
                Poll::Pending if left == 0 => Poll::Ready(false),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        drop(work);
        let records = setting.records().await;
        let ended = records.get(before..).unwrap();
        let outcome = if done { "completed -" } else { "dropped -" };
        assert_eq!(ended, [outcome], "X25 after {polls} polls");
        assert_eq!(setting.send_good().await.status(), StatusCode::OK, "X25 after {polls} polls");
        if done && polls % 2 == 1 {
            assert!(polls > 2, "X25: it was dropped at least once");
            break;
        }
    }
}

#[tokio::test]
async fn dropping_at_any_await_has_no_effect() {
    for polls in 0..4 {
        let setting = setting();
        let (held, mut gone) = mpsc::channel(1);
        setting.inner.plans.lock().push_back(Plan::Hang(held));
        let mut future = Box::pin(setting.stack().oneshot(good(&setting.token())));
        for _ in 0..polls {
            assert!(
                std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
            );
        }
        let began = setting.calls();
        drop(future);
        if began == 0 {
            setting.inner.plans.lock().clear();
        }
        assert_eq!(gone.recv().await, None);
        assert_eq!(setting.send_good().await.status(), StatusCode::OK, "after {polls} polls");
    }
}

#[tokio::test]
async fn axum_serves_a_pass_a_refusal_and_a_stream() {
    let setting = setting();
    let stream = axum::body::Body::new(http_body_util::Full::from("data: 1\n\n"));
    let stream = Arc::new(Mutex::new(Some(stream)));
    let app = axum::Router::new()
        .route("/crm/mcp", axum::routing::post(|| async { "{}" }))
        .route(
            "/stream",
            axum::routing::get(move || {
                let body = stream.lock().take().unwrap();
                async move { ([("content-type", "text/event-stream")], body) }
            }),
        )
        .layer(setting.layer.clone())
        .layer(AuditLayer::for_test(&setting.log));
    let send = |request: Request<Full<Bytes>>| {
        let app = app.clone();
        async move {
            let answer = app.oneshot(request.map(axum::body::Body::new)).await.unwrap();
            let status = answer.status();
            (status, answer.into_body().collect().await.unwrap().to_bytes())
        }
    };
    assert_eq!(send(good(&setting.token())).await, (StatusCode::OK, Bytes::from_static(b"{}")));
    assert_eq!(send(bare()).await.0, StatusCode::UNAUTHORIZED);
    let mut request = good(&setting.token());
    (*request.method_mut(), *request.uri_mut()) = (Method::GET, "/stream".parse().unwrap());
    assert_eq!(send(request).await, (StatusCode::OK, Bytes::from_static(b"data: 1\n\n")));
}

/// Counts the polls of a service's future, which never completes.
#[derive(Clone, Default)]
struct CountsPolls(Arc<AtomicUsize>, Arc<Mutex<Option<mpsc::Sender<()>>>>);

impl Service<Request<Full<Bytes>>> for CountsPolls {
    type Response = Response<Stream>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Stream>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
        let (polls, held) = (Arc::clone(&self.0), self.1.lock().take());
        Box::pin(std::future::poll_fn(move |_| {
            let _held = &held;
            polls.fetch_add(1, Ordering::SeqCst);
            Poll::Pending
        }))
    }
}

#[tokio::test]
async fn n404_a_revoked_request_is_not_polled_again() {
    let setting = setting();
    let (held, mut dropped) = mpsc::channel(1);
    let inner = CountsPolls(Arc::default(), Arc::new(Mutex::new(Some(held))));
    let stack = AuditLayer::for_test(&setting.log).layer(setting.layer.layer(inner.clone()));
    let mut sent = Box::pin(stack.oneshot(good(&setting.token())));
    // The verification is pending once.
    for _ in 0..2 {
        assert!(poll_once(sent.as_mut()).await.is_pending());
    }
    let polls = inner.0.load(Ordering::SeqCst);
    assert!(polls > 0);
    setting.revocations.revoke(Setting::alice());
    let Poll::Ready(answer) = poll_once(sent.as_mut()).await else { panic!("N404") };
    assert_eq!(form(&answer.unwrap()), "I401", "N404");
    assert_eq!(inner.0.load(Ordering::SeqCst), polls, "N404: not polled again");
    assert_eq!(dropped.try_recv(), Err(mpsc::error::TryRecvError::Disconnected), "N404: dropped");
}

/// Never verifies a token; holds the sender until it is dropped.
struct Hanging(mpsc::Sender<()>);

impl VerifyToken for Hanging {
    async fn verify(&self, _: &VerifyRequest<'_>) -> Result<Verified, VerifyError> {
        let _held = self.0.clone();
        std::future::pending().await
    }
}

#[tokio::test]
async fn n405_a_verifier_that_hangs_refuses_its_request() {
    let setting = setting();
    let (held, dropped) = mpsc::channel(1);
    let (hanging, resource) = (Hanging(held.clone()), Resource::parse(RESOURCE).unwrap());
    let config = Config {
        resource: &resource,
        host_and_origin: &HostAndOrigin::new(),
        challenge_scopes: &Scopes::none(),
        revocations: &setting.revocations,
        clock: &setting.clock,
        verdict_cache_capacity: 1000,
        // Over at its first poll, so that the test does not wait.
        verify_timeout: Duration::ZERO,
    };
    let layer = AuthenticateLayer::build(hanging, &config).unwrap();
    let stack = AuditLayer::for_test(&setting.log).layer(layer.layer(setting.inner.clone()));
    let answer = stack.oneshot(good("any")).await.unwrap();
    assert_eq!(form(&answer), "503", "N405");
    assert_eq!(setting.calls(), 0, "N405");
    drop((answer, layer));
    assert_eq!(dropped.sender_strong_count(), 1, "N405: the verification was dropped");
    assert_eq!(setting.records().await, ["refused authn.verifier_timeout"], "N405");
    drop(held);
}

#[tokio::test]
async fn n402_an_actor_that_is_revoked_ends_requests_and_streams() {
    for target in ["user", "client", "block"] {
        let setting = setting();
        let mut claims = claims();
        claims["act"] = serde_json::json!({
            "iss": "https://agents.example", "sub": "agent", "client_id": "agents",
            "act": {"sub": "first"},
        });
        let token = setting.signer.sign(&header(), &claims);
        let feed = setting.plan_stream("text/event-stream");
        feed.try_send(Ok(Frame::data(Bytes::from_static(b"data: 1\n\n")))).unwrap();
        let mut open = setting.send(good(&token)).await;
        assert_eq!(open.status(), StatusCode::OK);
        assert!(open.body_mut().frame().await.unwrap().is_ok());
        let standing = setting.inner.seen.lock()[0].standing.clone().unwrap();
        assert_eq!(standing.check_before_send(None), Ok(()));
        let agent = User::new("https://agents.example", "agent");
        let reason = match target {
            "user" => {
                setting.revocations.revoke(RevocationTarget::User(agent));
                Reason::Revoked
            }
            "client" => {
                setting.revocations.revoke(RevocationTarget::Client {
                    issuer: "https://agents.example".into(),
                    id: "agents".into(),
                });
                Reason::Revoked
            }
            _ => {
                setting.revocations.block(agent);
                Reason::Blocked
            }
        };
        assert_eq!(standing.check_before_send(None), Err(reason), "N402 {target}: at the send");
        feed.try_send(Ok(Frame::data(Bytes::from_static(b"data: 2\n\n")))).unwrap();
        assert!(open.body_mut().frame().await.is_none(), "N402 {target}: the stream is cut");
        assert_eq!(setting.send(good(&token)).await.status(), 401, "N402 {target}: cached");
        // Tokens by which the user acts without the agent are not affected.
        assert_eq!(setting.send_good().await.status(), 200, "N402 {target}");
    }
}

async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}
