//! One request on its way to the upstream, and its answer on the way back.

use std::{
    future::{self, poll_fn},
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    Extensions, HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
    request, response, uri,
};
use http_body::Body;
use tower_service::Service;

use super::{
    caller::Stamped,
    credential::{Credential, Upstream},
    headers,
    layer::{Requests, Shared},
    leak_guard::{LeakGuardBody, Watched},
    outgoing::{OutgoingCredential, Withdraw},
    provide::{CredentialRequest, ProvideCredential, UpstreamRefusal},
};
#[cfg(feature = "grpc")]
use crate::grpc::metadata as grpc;
use crate::{
    audit::{Intent, Trail},
    body::{RequestBody, ResponseBody},
    dialect::Dialect,
    media_type,
    principal::Principal,
    refusal::{Answer, Reason, Refusal, Refused},
    revocation::Standing,
    scope_filter::{Judged, JudgedBody},
};

/// The service that [`super::ExchangeLayer`] makes.
#[derive(Debug)]
pub struct Exchange<S, P> {
    inner: S,
    shared: Arc<Shared<P>>,
}

impl<S, P> Exchange<S, P> {
    pub(super) const fn new(inner: S, shared: Arc<Shared<P>>) -> Self {
        Self { inner, shared }
    }
}

impl<S: Clone, P> Clone for Exchange<S, P> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: Arc::clone(&self.shared) }
    }
}

/// The future of [`Exchange`]: one box, where the request waits for the audit's disk anyway.
pub type ResponseFuture<R, E> =
    Pin<Box<dyn Future<Output = Result<Response<ResponseBody<LeakGuardBody<R>>>, E>> + Send>>;

impl<S, P, B, R> Service<Request<B>> for Exchange<S, P>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    P: ProvideCredential,
    B: Body<Data = Bytes> + Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<ResponseBody<LeakGuardBody<R>>>;
    type Error = S::Error;
    type Future = ResponseFuture<R, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The service that was polled ready goes along, its clone stays.
        let unready = self.inner.clone();
        let mut ready = mem::replace(&mut self.inner, unready);
        let shared = Arc::clone(&self.shared);
        let dialect = Dialect::of(&request);
        let (mut parts, body) = request.into_parts();
        // H169: what the layers outside have to vouch for is asked of them; without it nothing is
        // sent.
        let asked = match Asked::take(&mut parts.extensions, shared.requests, &dialect) {
            Ok(asked) => asked,
            Err(missing) => {
                tracing::error!(
                    missing,
                    "the exchange layer found no proof of the {missing} layer outside it"
                );
                let refused = refuse(&dialect, &Refusal::new(Reason::MissingLayer));
                return Box::pin(future::ready(Ok(refused)));
            }
        };
        Box::pin(async move {
            match send(&mut ready, &shared, &asked, &parts, body).await {
                Ok(answer) => answer,
                Err(refusal) => {
                    asked.note(refusal.reason());
                    let refusal = with_connect_url(refusal, &shared.provider, &asked.principal);
                    Ok(refuse(&asked.dialect, &refusal))
                }
            }
        })
    }
}

/// What the layers outside have found out about the request.
pub(crate) struct Asked {
    pub(crate) trail: Trail,
    pub(crate) principal: Principal,
    pub(crate) standing: Standing,
    pub(crate) judged: Judged,
    pub(crate) dialect: Dialect,
    /// The credentials that the answer must not echo; shared with the handler's own answer where a
    /// handler sends.
    pub(crate) watched: Watched,
    /// A handler's own request: its fields and its path are the handler's, not a client's.
    pub(crate) by_handler: bool,
}

impl Asked {
    /// Takes what is for the layers alone; who it is and what was asked for, a service further in
    /// may know.
    fn take(
        extensions: &mut Extensions,
        requests: Requests,
        own: &Dialect,
    ) -> Result<Self, &'static str> {
        let stamped = extensions.remove::<Stamped>();
        match (requests, stamped) {
            (Requests::OfAHandler, Some(Stamped(caller))) => return Ok(caller.asked(own)),
            // Without it the client's message would be sent in place of the handler's request.
            (Requests::OfAHandler, None) => {
                return Err("credential_for_handler (`CallerHandle::stamp`)");
            }
            (Requests::OfClients, _) => {}
        }
        let trail = extensions.get::<Trail>().ok_or("audit")?.clone();
        let principal = extensions.get::<Principal>().ok_or("authenticate")?.clone();
        let standing = extensions.remove::<Standing>().ok_or("authenticate")?;
        let judged = extensions.get::<Judged>().ok_or("scope filter")?.clone();
        let (dialect, watched) = (judged.dialect().clone(), Watched::default());
        Ok(Self { trail, principal, standing, judged, dialect, watched, by_handler: false })
    }

    /// In the trail of the client's request; but of a handler's own one the handler knows what it
    /// means for the client's.
    fn note(&self, reason: Reason) {
        if self.by_handler {
            tracing::info!(
                request.id = %self.trail.request_id(),
                refusal.reason = reason.code(),
                "a handler's own request was refused"
            );
        } else {
            self.trail.refused(reason);
        }
    }

    /// What is sent, as often as it must be: the judged bytes, nothing, or (once) the stream.
    fn body<B: Body<Data = Bytes>>(&self, stream: B) -> (RequestBody<B>, Option<Bytes>) {
        match self.judged.body() {
            _ if self.by_handler => {
                let replay = stream.is_end_stream().then(Bytes::new);
                (RequestBody::stream(stream), replay)
            }
            JudgedBody::Bytes(bytes) => (RequestBody::bytes(bytes.clone()), Some(bytes.clone())),
            JudgedBody::Nothing => (RequestBody::bytes(Bytes::new()), Some(Bytes::new())),
            #[cfg(feature = "grpc")]
            JudgedBody::Rpc(rpc) => match &rpc.message {
                Some(message) => (RequestBody::bytes(message.clone()), Some(message.clone())),
                None => (RequestBody::stream(stream), None),
            },
            JudgedBody::Http(..) => {
                let replay = stream.is_end_stream().then(Bytes::new);
                (RequestBody::stream(stream), replay)
            }
        }
    }
}

type Answered<R, E> = Result<Response<ResponseBody<LeakGuardBody<R>>>, E>;

async fn send<S, P, B, R>(
    ready: &mut S,
    shared: &Shared<P>,
    asked: &Asked,
    parts: &request::Parts,
    body: B,
) -> Result<Answered<R, S::Error>, Refusal>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone + Send,
    S::Future: Send,
    P: ProvideCredential,
    B: Body<Data = Bytes> + Send,
    R: Body<Data = Bytes>,
{
    let (body, replay) = asked.body(body);
    let outgoing = Outgoing::build(shared, asked, parts)?;
    let credential = credential(shared, asked).await?;
    let (answer, was_applied) = match try_once(ready, &outgoing, &credential, body).await? {
        Ok(answered) => answered,
        Err(error) => return Ok(Err(error)),
    };
    // A 401 to a request that carried no credential is not about the credential.
    if !was_applied || !refuses_the_credential(asked, &answer) {
        return Ok(Ok(guard(asked, answer, was_applied)?));
    }
    // Boxed, like all that few requests come to: what most of them carry stays small.
    Box::pin(once_more(ready, &outgoing, &credential, answer.into_parts().0, replay)).await
}

/// I183: the upstream refused the credential before it acted. One refresh, one replay of the very
/// bytes that were judged; what can't be sent again is refused, and never said to be the broker
/// token's fault.
async fn once_more<S, P, B, R>(
    ready: &mut S,
    outgoing: &Outgoing<'_, P>,
    refused: &Credential,
    answer: response::Parts,
    replay: Option<Bytes>,
) -> Result<Answered<R, S::Error>, Refusal>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>>,
    P: ProvideCredential,
    B: Body<Data = Bytes>,
    R: Body<Data = Bytes>,
{
    let Outgoing { shared, asked, .. } = *outgoing;
    tell_refused(shared, refused, &answer).await;
    let Some(replay) = replay.filter(|_| may_be_replayed(asked, &outgoing.parts.method)) else {
        return Err(Refusal::new(Reason::CredentialRefused));
    };
    let fresh = credential(shared, asked).await?;
    if fresh.is_same_secret(refused) {
        return Err(Refusal::new(Reason::CredentialRefused));
    }
    if let Err(error) = poll_fn(|cx| ready.poll_ready(cx)).await {
        return Ok(Err(error));
    }
    let again = try_once(ready, outgoing, &fresh, RequestBody::bytes(replay)).await?;
    let (answer, was_applied) = match again {
        Ok(answered) => answered,
        Err(error) => return Ok(Err(error)),
    };
    if was_applied && refuses_the_credential(asked, &answer) {
        tell_refused(shared, &fresh, &answer.into_parts().0).await;
        return Err(Refusal::new(Reason::CredentialRefused));
    }
    Ok(Ok(guard(asked, answer, was_applied)?))
}

#[cfg_attr(
    not(feature = "grpc"),
    expect(unused_variables, reason = "HTTP's status says it, whoever asked")
)]
fn refuses_the_credential<R>(asked: &Asked, answer: &Response<R>) -> bool {
    // Our own refusals, from further in, speak of no credential of the upstream's.
    #[cfg(feature = "grpc")]
    if asked.dialect.is_grpc()
        && Refused::of(answer).is_none()
        && super::grpc::refuses_the_credential(answer.headers())
    {
        return true;
    }
    answer.status() == StatusCode::UNAUTHORIZED
}

/// A message was refused as a whole; a plain HTTP request may be sent again only if it changes
/// nothing.
fn may_be_replayed(asked: &Asked, method: &Method) -> bool {
    // Of a client's gRPC only judged messages are at hand.
    #[cfg(feature = "grpc")]
    if asked.dialect.is_grpc() && !asked.by_handler {
        return true;
    }
    (asked.dialect.is_mcp() && !asked.by_handler) || method.is_safe()
}

async fn credential<P: ProvideCredential>(
    shared: &Shared<P>,
    asked: &Asked,
) -> Result<Credential, Refusal> {
    let Asked { principal, judged, trail, .. } = asked;
    let request =
        CredentialRequest::new(principal, judged.upstream_scopes(), judged.operation(), trail);
    if let Some(known) = shared.provider.recall(&request) {
        return Ok(known);
    }
    let got = Box::pin(shared.provider.credential(&request));
    match tokio::time::timeout(shared.credential_timeout, got).await {
        Ok(Ok(credential)) => Ok(credential),
        Ok(Err(none)) => Err(none.to_refusal().at(asked.principal.resource())),
        Err(_elapsed) => Err(Refusal::new(Reason::CredentialUnavailable)),
    }
}

/// A provider that does not come back holds no request: it may not have heard, and gives the same
/// once more.
async fn tell_refused<P: ProvideCredential>(
    shared: &Shared<P>,
    credential: &Credential,
    answer: &response::Parts,
) {
    let challenge = answer.headers.get(header::WWW_AUTHENTICATE);
    let refusal = UpstreamRefusal::new(credential).response(answer.status, challenge);
    let told = shared.provider.refused(&refusal);
    let told = tokio::time::timeout(shared.credential_timeout, told).await;
    if told.is_err() {
        let server = shared.provider.upstream().name();
        tracing::warn!(
            server.name = server,
            "the provider was not told in time that its credential was refused"
        );
    }
}

/// An upstream's response, and whether the request carried the credential.
type Tried<R, E> = Result<(Response<R>, bool), E>;

/// Makes the intent durable and passes the credential inward. Whoever sends the request applies it,
/// and from there on there is no await (design, sections 14 and 15.1).
async fn try_once<S, P, B, R>(
    ready: &mut S,
    outgoing: &Outgoing<'_, P>,
    credential: &Credential,
    body: RequestBody<B>,
) -> Result<Tried<R, S::Error>, Refusal>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>>,
    P: ProvideCredential,
    B: Body<Data = Bytes>,
{
    let Outgoing { shared, asked, .. } = *outgoing;
    let upstream = shared.provider.upstream();
    // What the guard can't look for could come back unseen.
    let Some(sought) = credential.sought() else {
        tracing::error!(
            server.name = upstream.name(),
            "a credential is empty or can't be guarded, and was not sent"
        );
        return Err(Refusal::new(Reason::CredentialUnavailable));
    };
    let grant = credential.grant();
    let intent =
        Intent::new(upstream.name(), upstream.origin().as_str(), credential.scopes(), grant);
    let receipt =
        asked.trail.intent(intent).await.map_err(|_| Refusal::new(Reason::AuditUnavailable))?;
    let mut request = outgoing.request(body);
    if let Some(grant) = credential.grant_seen_first() {
        asked.standing.note_seen_grant(grant);
    }
    asked.standing.ask_again(grant.map(|(id, _)| id)).map_err(|reason| {
        let refusal = Refusal::new(reason);
        refusal.at(asked.principal.resource())
    })?;
    let outgoing =
        OutgoingCredential::holding(credential, receipt, &asked.standing, sought, &asked.watched);
    request.extensions_mut().insert(outgoing.clone());
    // Also if this future is dropped, or the service inside panics.
    let outgoing = Withdraw(outgoing);
    // The request is on its way in the future of the call alone: none of it is held here beside it.
    let answer = ready.call(request);
    let answer = answer.await;
    let was_applied = outgoing.was_applied();
    if !was_applied && answer.as_ref().is_ok_and(|answer| Refused::of(answer).is_none()) {
        tracing::error!(
            alarm = "exchange.credential_unused",
            request.id = %asked.trail.request_id(),
            server.name = upstream.name(),
            "a service inside the exchange layer responded without applying the credential: \
             put the proxy or `ApplyCredentialLayer` there, or use `credential_for_handler`"
        );
    }
    Ok(answer.map(|answer| (answer, was_applied)))
}

/// The request towards the upstream, made anew as often as it is sent.
struct Outgoing<'a, P> {
    shared: &'a Shared<P>,
    asked: &'a Asked,
    parts: &'a request::Parts,
    method: &'a Method,
    uri: Uri,
}

impl<'a, P: ProvideCredential> Outgoing<'a, P> {
    /// What of it can be refused, before a credential is asked for.
    fn build(
        shared: &'a Shared<P>,
        asked: &'a Asked,
        parts: &'a request::Parts,
    ) -> Result<Self, Refusal> {
        let upstream = shared.provider.upstream();
        // J207: method and path are those that were judged, whatever a layer between made of them.
        let (method, uri) = match asked.judged.body() {
            // The handler chose the path; the origin is compared when the credential is put on.
            _ if asked.by_handler => (&parts.method, Some(parts.uri.clone())),
            JudgedBody::Http(method, uri) => {
                let path = plain_path(upstream, &shared.mount_path, uri);
                (method, path.and_then(|path| upstream.uri_with(path)))
            }
            JudgedBody::Bytes(_) => (&Method::POST, Some(upstream.uri().clone())),
            JudgedBody::Nothing => (&parts.method, Some(upstream.uri().clone())),
            #[cfg(feature = "grpc")]
            JudgedBody::Rpc(rpc) => {
                let path = plain_path(upstream, "", &Uri::from(rpc.path.clone()));
                (&Method::POST, path.and_then(|path| upstream.uri_with(path)))
            }
        };
        let uri = uri.ok_or_else(|| Refusal::new(Reason::RequestDenied))?;
        Ok(Self { shared, asked, parts, method, uri })
    }

    fn request<B: Body<Data = Bytes>>(&self, body: RequestBody<B>) -> Request<RequestBody<B>> {
        let length = body.size_hint().exact();
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers();
        // J213: framing is written anew from the body that is sent, never copied from what a client
        // claimed.
        request.headers_mut().remove(header::TRANSFER_ENCODING);
        request.headers_mut().remove(header::CONTENT_LENGTH);
        if let Some(length) = length.filter(|length| *length > 0 || *self.method == Method::POST) {
            request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        // What we know of the caller goes along for a service inside (a handler, a trace); nothing
        // of it is sent.
        *request.extensions_mut() = self.parts.extensions.clone();
        request
    }

    fn headers(&self) -> HeaderMap {
        let (forwarded, from) = (&self.shared.forwarded, &self.parts.headers);
        let mut headers = match self.asked.judged.body() {
            _ if self.asked.by_handler => from.clone(),
            #[cfg(feature = "grpc")]
            JudgedBody::Rpc(rpc) => {
                let mut headers = forwarded.of_grpc_request(from);
                if let Some(deadline) = rpc.deadline {
                    // Of the client's time, what is left of it.
                    let left = deadline.saturating_duration_since(tokio::time::Instant::now());
                    headers.insert(grpc::TIMEOUT, grpc::timeout_value(left));
                }
                headers
            }
            JudgedBody::Bytes(_) | JudgedBody::Nothing | JudgedBody::Http(..) => {
                forwarded.of_request(from)
            }
        };
        headers.insert(header::HOST, self.shared.provider.upstream().host().clone());
        // I191: the guard and the filter must be able to read the answer.
        headers.insert(header::ACCEPT_ENCODING, media_type::IDENTITY);
        headers
    }
}

/// The upstream's own path, and after it what was judged without the mount path. Queries are never
/// merged: two readers would find two values in it.
fn plain_path(upstream: &Upstream, mount_path: &str, uri: &Uri) -> Option<uri::PathAndQuery> {
    let rest = match uri.path().strip_prefix(mount_path) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        _ => return None,
    };
    let query = match (upstream.query(), uri.query()) {
        (Some(_), Some(_)) => return None,
        (query, None) | (None, query) => query,
    };
    let base = upstream.path().trim_end_matches('/');
    let mut path = format!("{base}{rest}");
    if path.is_empty() {
        path.push('/');
    }
    if let Some(query) = query {
        path.push('?');
        path.push_str(query);
    }
    path.parse().ok()
}

/// What of the upstream's answer may go back.
#[cfg_attr(
    not(feature = "grpc"),
    expect(unused_variables, reason = "HTTP's 401 was handled before")
)]
fn guard<R: Body<Data = Bytes>>(
    asked: &Asked,
    answer: Response<R>,
    was_applied: bool,
) -> Result<Response<ResponseBody<LeakGuardBody<R>>>, Refusal> {
    // The proxy's own word on why it got no answer: said again, to this message.
    if let Some(refused) = Refused::of(&answer) {
        let refusal = Refusal::new(refused.reason()).at(asked.principal.resource());
        return Err(match refused.retry_after() {
            Some(wait) => refusal.retry_after(wait),
            None => refusal,
        });
    }
    let status = answer.status();
    let is_mcp = asked.dialect.is_mcp() && !asked.by_handler;
    // I186: a failing upstream says nothing of its inside. H172: a redirect is not followed, and
    // MCP has none.
    if status.is_server_error()
        || status == StatusCode::PROXY_AUTHENTICATION_REQUIRED
        || status.is_informational()
    {
        return Err(Refusal::new(Reason::UpstreamFailed));
    }
    if status.is_redirection() && is_mcp {
        return Err(Refusal::new(Reason::UpstreamFailed));
    }
    // I181: a part may hold half an echo, and the next one the other half. A handler puts its parts
    // together itself.
    if status == StatusCode::PARTIAL_CONTENT && !asked.by_handler {
        return Err(Refusal::new(Reason::AnswerUnreadable));
    }
    // An upstream that wants more scope says so to us: its challenge is not the client's.
    if status == StatusCode::FORBIDDEN && is_insufficient_scope(answer.headers()) {
        return Err(Refusal::new(Reason::UpstreamScopeRequired));
    }
    #[cfg(feature = "grpc")]
    let is_grpc = asked.dialect.is_grpc() && !asked.by_handler;
    #[cfg(feature = "grpc")]
    if is_grpc && (status != StatusCode::OK || !grpc::is_grpc(answer.headers())) {
        return Err(Refusal::new(Reason::UpstreamFailed));
    }
    // I191: what is coded can be neither guarded nor filtered.
    if media_type::is_coded(answer.headers()) {
        return Err(Refusal::new(Reason::AnswerUnreadable));
    }
    let (mut parts, body) = answer.into_parts();
    headers::remove_from_answer(&mut parts.headers);
    if !asked.by_handler {
        // I181: a client of one's own may put there what the upstream said (hyper: the reason
        // phrase).
        parts.extensions.clear();
        // I187: where the upstream would send a client is its own business, and may carry a token.
        for name in [header::LOCATION, header::CONTENT_LOCATION, header::LINK] {
            parts.headers.remove(name);
        }
        // I188: one user's answer is no other's.
        parts.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    }
    let masked = asked.watched.mask_fields(&mut parts.headers);
    if masked > 0 {
        tracing::error!(
            alarm = Reason::UpstreamEcho.code(),
            request.id = %asked.trail.request_id(),
            "the upstream echoed a credential in a header field"
        );
        asked.trail.echo_masked(masked);
    }
    let body = LeakGuardBody::new(body, asked.watched.clone(), asked.trail.clone());
    #[cfg(feature = "grpc")]
    let body = if is_grpc {
        let end = super::grpc::End { dialect: asked.dialect.clone(), was_applied };
        end.rewrite(&asked.trail, &mut parts.headers);
        body.of_grpc(end)
    } else {
        body
    };
    Ok(Response::from_parts(parts, ResponseBody::inner(body)))
}

fn is_insufficient_scope(headers: &HeaderMap) -> bool {
    let needle = b"insufficient_scope";
    headers
        .get_all(header::WWW_AUTHENTICATE)
        .iter()
        .any(|challenge| challenge.as_bytes().windows(needle.len()).any(|window| window == needle))
}

/// Whoever must connect is told where, whichever way that was found out.
fn with_connect_url<P: ProvideCredential>(
    refusal: Refusal,
    provider: &P,
    caller: &Principal,
) -> Refusal {
    if refusal.reason().answer() != Answer::Connect || refusal.connect_url().is_some() {
        return refusal;
    }
    match provider.connect_url(caller) {
        Some(url) => refusal.connect_at(&url),
        None => refusal,
    }
}

fn refuse<R>(dialect: &Dialect, refusal: &Refusal) -> Response<ResponseBody<LeakGuardBody<R>>> {
    dialect.say(refusal).map(ResponseBody::bytes)
}
