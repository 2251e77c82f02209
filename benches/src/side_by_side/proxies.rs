//! The proxies that are compared, with the same server and the same client.

use std::{
    convert::Infallible,
    io,
    path::Path,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use token_broker_benches::{
    Dropped,
    fixtures::{self, ISSUER, RESOURCE},
};
use token_broker_outbound::{Guard, GuardedClient, Proxy};
use token_broker_store::{AccessToken, Account, Grant, GrantKey, MemoryGrants};
use token_broker_upstream::{
    AuthorizationServer, ClientAuthentication, StaticSecret, StoredGrants,
};
use tokio::net::TcpListener;
use tower_layer::Layer;
use tower_service::Service;
use tower_token_broker::{
    Broker, Secret,
    audit::{BoxAuditSink, JsonLines},
    authenticate::{JwtVerifier, jwt::Keys},
    clock::Clock,
    exchange::{ProvideCredential, Upstream},
    principal::{GrantId, Initiator, Scopes, User},
    revocation::RevocationTarget,
    scope_filter::{Rules, tools},
    tasks::Tasks,
};

use super::{Outcome, noop::NoopLayer, role::Setting, tokens};

/// The credential of the broker at the upstream.
pub(crate) const UPSTREAM_SECRET: &str = "upstream-secret-f3b1c9d27a5e4886";
/// Length of each user's token at the upstream.
pub(crate) const UPSTREAM_TOKEN_BYTES: usize = 64;

/// Serves the proxy without layers: all ratios are to this one.
pub(crate) async fn bare(listener: TcpListener, setting: &Setting, tasks: &Tasks) -> Outcome<()> {
    serve(listener, to_upstream(setting)?, tasks).await
}

/// Serves the proxy inside four layers that do nothing.
pub(crate) async fn noop(listener: TcpListener, setting: &Setting, tasks: &Tasks) -> Outcome<()> {
    let four =
        NoopLayer.layer(NoopLayer.layer(NoopLayer.layer(NoopLayer.layer(to_upstream(setting)?))));
    serve(listener, four, tasks).await
}

/// Serves the proxy inside the stack. Shuts the broker down when `closed` is ready.
pub(crate) async fn stack(
    listener: TcpListener,
    setting: &Setting,
    tasks: &Tasks,
    closed: impl Future,
) -> Outcome<()> {
    let audit = match setting.get("audit") {
        None => BoxAuditSink::new(Dropped::new()),
        Some(path) => BoxAuditSink::new(JsonLines::append(path)?),
    };
    let broker = Broker::builder().audit(audit).build()?;
    revoke(&broker, setting.number("revocations")?).await?;
    tokio::select! {
        // Either may be dropped: the process ends, and the broker is shut down first.
        served = serve_stack(&broker, listener, setting, tasks) => served?,
        _ = closed => {}
    }
    Ok(broker.shutdown(Duration::from_secs(10)).await?)
}

async fn serve_stack(
    broker: &Broker,
    listener: TcpListener,
    setting: &Setting,
    tasks: &Tasks,
) -> Outcome<()> {
    match setting.number("users")? {
        0 => {
            let secret = Secret::from_text(UPSTREAM_SECRET.into());
            let credentials = StaticSecret::new(secret, upstream(setting)?)?;
            serve_with(broker, credentials, listener, setting, tasks).await
        }
        users => {
            let credentials = stored_grants(broker, users, setting)?;
            serve_with(broker, credentials, listener, setting, tasks).await
        }
    }
}

async fn serve_with<C: ProvideCredential>(
    broker: &Broker,
    credentials: C,
    listener: TcpListener,
    setting: &Setting,
    tasks: &Tasks,
) -> Outcome<()> {
    let keys = Keys::parse(&std::fs::read(Path::new(setting.required("dir")?).join("jwks.json"))?)?;
    let stack = broker
        .protect(RESOURCE)
        .authenticate(JwtVerifier::new(ISSUER, &keys))
        .scope_filter(rules(setting)?)
        .exchange(credentials)
        .build()?;
    serve(listener, stack.layer(Proxy::new(&guard())?), tasks).await
}

/// Returns the dozen rules, or many rules of which one allows the call.
fn rules(setting: &Setting) -> Outcome<Rules> {
    let (exact, patterns) = (setting.number("rules")?, setting.number("patterns")?);
    if exact + patterns == 0 {
        return Ok(fixtures::rules());
    }
    let mut rules = Rules::new();
    for number in 1..exact {
        rules = rules.allow(tools([format!("work_on_{number}").as_str()]).with_scope("items:read"));
    }
    for number in 1..patterns {
        rules = rules.allow(tools([format!("team_{number}_*").as_str()]).with_scope("items:read"));
    }
    let own = if exact > 0 { "get_item" } else { "get_*" };
    Ok(rules.allow(tools([own]).with_scope("items:read")))
}

/// Revokes this many tokens that no client presents.
async fn revoke(broker: &Broker, count: usize) -> Outcome<()> {
    let initiator = Initiator::operator("bench");
    for number in 0..count {
        let id = format!("revoked-{number:08}").into();
        broker.revoke(RevocationTarget::Token { issuer: ISSUER.into(), id }, &initiator).await?;
    }
    Ok(())
}

/// Returns a credential source with the grants of so many users.
fn stored_grants(
    broker: &Broker,
    users: usize,
    setting: &Setting,
) -> Outcome<StoredGrants<MemoryGrants>> {
    const SERVER: &str = "https://login.items.example";
    let (store, scopes) = (MemoryGrants::new(), Scopes::parse("items:all")?);
    let now = Clock::system().now();
    for number in 0..users {
        let user = User::new(ISSUER, tokens::user(number));
        let secret = Secret::from_text(format!("{number:0UPSTREAM_TOKEN_BYTES$}"));
        let token =
            AccessToken::new(secret, scopes.clone(), now, now.plus(Duration::from_secs(12 * 3600)));
        let id = GrantId::new(&format!("grant-{number:08}"));
        let key = GrantKey::new(user, "items", Account::default_account());
        store.insert(Grant::new(id, key, SERVER).granted(scopes.clone()).access_token(token))?;
    }
    let client = ClientAuthentication::public("bench");
    let server =
        AuthorizationServer::new(SERVER, format!("{SERVER}/token").parse()?, client).scopes(scopes);
    let client = GuardedClient::new(&guard())?;
    Ok(StoredGrants::new(broker, store, upstream(setting)?, server, client))
}

async fn serve<S, R>(listener: TcpListener, service: S, tasks: &Tasks) -> Outcome<()>
where
    S: Service<Request<Incoming>, Response = Response<R>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    R: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + 'static,
{
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let service = TowerToHyperService::new(service.clone());
        let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
        drop(tasks.spawn("connection", connection));
    }
}

fn guard() -> Guard {
    Guard::new().allow_loopback("127.0.0.1")
}

fn upstream_url(setting: &Setting) -> io::Result<String> {
    Ok(format!("http://{}/mcp", setting.required("upstream")?))
}

fn upstream(setting: &Setting) -> Outcome<Upstream> {
    Ok(Upstream::parse("items", &upstream_url(setting)?)?)
}

fn to_upstream(setting: &Setting) -> Outcome<ToUpstream> {
    Ok(ToUpstream {
        inner: Proxy::new(&guard())?.dangerous_without_exchange(),
        uri: upstream_url(setting)?.parse()?,
    })
}

/// Sets the request's URI to the upstream's, as the exchange layer does in the stack.
#[derive(Clone, Debug)]
struct ToUpstream {
    inner: Proxy,
    uri: Uri,
}

impl<B> Service<Request<B>> for ToUpstream
where
    Proxy: Service<Request<B>>,
{
    type Response = <Proxy as Service<Request<B>>>::Response;
    type Error = <Proxy as Service<Request<B>>>::Error;
    type Future = <Proxy as Service<Request<B>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        *request.uri_mut() = self.uri.clone();
        self.inner.call(request)
    }
}
