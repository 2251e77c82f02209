//! The proxies that are compared: the same server, the same client, and what stands between.

use std::{
    convert::Infallible,
    io,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use token_broker_benches::fixtures::{self, ISSUER, RESOURCE};
use token_broker_outbound::{Guard, Proxy};
use token_broker_upstream::StaticSecret;
use tokio::net::TcpListener;
use tower_layer::Layer;
use tower_service::Service;
use tower_token_broker::{
    BrokerStack, Secret,
    audit::{AuditLog, AuditSink, JsonLines, Record, SinkError},
    authenticate::{JwtVerifier, jwt::Keys},
    exchange::Upstream,
    tasks::Tasks,
};

use super::{Outcome, noop::NoopLayer, role::Setting};

/// What the upstream knows the broker by.
const UPSTREAM_SECRET: &str = "upstream-secret-f3b1c9d27a5e4886";

/// The proxy alone: what all figures are a ratio to.
pub(crate) async fn bare(listener: TcpListener, setting: &Setting, tasks: &Tasks) -> Outcome<()> {
    serve(listener, to_upstream(setting)?, tasks).await
}

/// The proxy within four layers that do nothing.
pub(crate) async fn noop(listener: TcpListener, setting: &Setting, tasks: &Tasks) -> Outcome<()> {
    let four = NoopLayer.layer(NoopLayer.layer(NoopLayer.layer(NoopLayer.layer(to_upstream(setting)?))));
    serve(listener, four, tasks).await
}

/// The proxy within our layers. Ends the audit log when `closed` does.
pub(crate) async fn stack(listener: TcpListener, setting: &Setting, tasks: &Tasks, closed: impl Future) -> Outcome<()> {
    let keys = Keys::parse(&std::fs::read(setting.required("jwks")?)?)?;
    let audit = match setting.required("audit")? {
        "dropped" => AuditLog::from(Dropped),
        path => AuditLog::from(JsonLines::append(path)?),
    };
    let upstream = Upstream::parse("items", &upstream_url(setting)?)?;
    let broker = BrokerStack::for_resource(RESOURCE)
        .audit(audit.clone())
        .authenticate(JwtVerifier::new(ISSUER, &keys))
        .scope_filter(fixtures::rules())
        .exchange(StaticSecret::new(Secret::from_text(UPSTREAM_SECRET.into()), upstream))
        .build()?;
    let service = broker.layer(Proxy::new(&guard())?);
    tokio::select! {
        // Either may be dropped: the process ends, and the log is closed behind it.
        served = serve(listener, service, tasks) => served?,
        _ = closed => {}
    }
    Ok(audit.close(Duration::from_secs(10)).await?)
}

async fn serve<S, R>(listener: TcpListener, service: S, tasks: &Tasks) -> Outcome<()>
where
    S: Service<Request<Incoming>, Response = Response<R>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    R: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
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

fn to_upstream(setting: &Setting) -> Outcome<ToUpstream> {
    Ok(ToUpstream { inner: Proxy::new(&guard())?, uri: upstream_url(setting)?.parse()? })
}

/// What the exchange layer does for the stack and a bare proxy must do too: the request's URI becomes the upstream's.
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

/// A sink that keeps nothing: what the disk costs is the difference. There is none outside of this bench.
#[derive(Debug)]
struct Dropped;

impl AuditSink for Dropped {
    async fn write(&self, _: &[Record]) -> Result<(), SinkError> {
        Ok(())
    }
}
