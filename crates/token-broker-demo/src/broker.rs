//! The broker: its store, its authorization server with pages, and a stack for each upstream.

use std::path::Path;

use axum::{
    Router,
    http::HeaderValue,
    middleware::map_response,
    response::{Redirect, Response},
    routing::get,
};
use token_broker_authority::{
    Authority, IssuerUrl, ProtectedServer,
    client::ConfiguredClient,
    pages::Site,
    sign_in::{BrowserPages, BrowserPagesOptions},
};
use token_broker_outbound::{Guard, GuardedClient, Proxy};
use token_broker_sql::{SqlStore, StoreUrl};
use token_broker_store::{
    authority::AuthorityStore as _, connect::BoxConnections, sealing::KeyRing,
};
use token_broker_upstream::{ConnectServer, Connector, StoredGrants};
use tower_token_broker::{
    Broker,
    audit::JsonLines,
    authenticate::JwtVerifier,
    exchange::Upstream as Target,
    principal::{Resource, Scopes},
    scope_filter::{Rules, tools},
};

use crate::{
    DemoError, Sabotage,
    sign_in::{CLIENT_ID, REDIRECT_URI},
    upstream::Upstream,
};

/// Opens a new SQLite store in a folder, encrypted with a new key.
pub(crate) async fn open_store(folder: &Path) -> Result<SqlStore, DemoError> {
    let url = StoreUrl::parse("sqlite://store.db").map_err(DemoError::new)?.relative_to(folder);
    let line = KeyRing::generate_line();
    #[expect(clippy::disallowed_methods, reason = "reviewed: the new key of the temporary store")]
    let line = line.expose_text().unwrap_or_default();
    let keys = KeyRing::parse(line).map_err(DemoError::new)?;
    SqlStore::open(&url, keys).await.map_err(DemoError::new)
}

/// Creates the broker, which writes its records to this file.
pub(crate) async fn build(store: &SqlStore, audit: &Path) -> Result<Broker, DemoError> {
    let keys = store.sealing_keys().await.map_err(DemoError::new)?;
    let builder = Broker::builder().audit(JsonLines::append(audit)?);
    let builder = builder.sealing_keys(keys).revocation_store(store.clone());
    builder.build().map_err(DemoError::new)
}

/// Returns all routes of the broker, at this public origin.
pub(crate) async fn router(
    (broker, store): (&Broker, &SqlStore),
    origin: &str,
    upstreams: [&Upstream; 2],
    sabotage: Option<Sabotage>,
) -> Result<Router, DemoError> {
    let lookup = store.lookup_key().await.map_err(DemoError::new)?;
    let connector = Connector::new(broker, store.clone(), lookup, origin);
    let authority = authority(broker, origin, store, upstreams).await?;
    let guard = Guard::new().allow_loopback("127.0.0.1");
    let mut router = Router::new();
    let mut servers = Vec::new();
    for upstream in upstreams {
        let path = format!("/{}/mcp", upstream.name());
        let audience = match sabotage {
            Some(Sabotage::OneAudienceForAll) => "/crm/mcp",
            _ => path.as_str(),
        };
        let server = connect_server(upstream, origin, &guard, sabotage)?;
        let target = Target::parse(upstream.name(), &upstream.mcp_url()).map_err(DemoError::new)?;
        let layer = broker
            .protect(&format!("{origin}{audience}"))
            .mounted_at(&path)
            .authenticate(JwtVerifier::new(origin, authority.keys()))
            .scope_filter(policy(upstream, sabotage))
            .exchange(StoredGrants::connected(broker, target, &connector, &server))
            .build()
            .map_err(DemoError::new)?;
        let proxy = Proxy::new(&guard).map_err(DemoError::new)?;
        router = router.route_service(&path, layer.layer(proxy));
        servers.push(server);
    }
    connector.replace_servers(servers);
    let pages = pages((broker, store), origin, &authority, (&connector, upstreams))?;
    let router = router.merge(pages).merge(broker.metadata_router());
    Ok(match sabotage {
        Some(Sabotage::LeaveARouteUnwatched) => {
            router.route("/unwatched", get(async || "no layer counts this"))
        }
        Some(Sabotage::LeakTheToken) => leaking(router, upstreams[0].clone()),
        _ => router,
    })
}

/// Returns how users connect their accounts at an upstream. All else is discovered.
fn connect_server(
    upstream: &Upstream,
    origin: &str,
    guard: &Guard,
    sabotage: Option<Sabotage>,
) -> Result<ConnectServer, DemoError> {
    let scopes = match sabotage {
        Some(Sabotage::ForwardEveryScope) => upstream.kind().every_scope(),
        _ => upstream.kind().operators_scopes(),
    };
    let client = GuardedClient::new(guard).map_err(DemoError::new)?;
    let server = ConnectServer::new(upstream.name(), &upstream.mcp_url(), client);
    let server = server.map_err(DemoError::new)?.title(upstream.kind().title);
    Ok(server
        .scopes(Scopes::parse(&scopes).map_err(DemoError::new)?)
        .resource(resource(upstream, origin)?))
}

/// Starts the broker's own authorization server.
async fn authority(
    broker: &Broker,
    origin: &str,
    store: &SqlStore,
    upstreams: [&Upstream; 2],
) -> Result<Authority<SqlStore>, DemoError> {
    let issuer = IssuerUrl::parse(origin).map_err(DemoError::new)?;
    let client = ConfiguredClient::new(CLIENT_ID, [REDIRECT_URI]).map_err(DemoError::new)?;
    let mut builder =
        Authority::builder(broker, issuer, store.clone()).client(client.name("Demo client"));
    for upstream in upstreams {
        let kind = upstream.kind();
        let scopes = Scopes::parse(&kind.broker_scopes()).map_err(DemoError::new)?;
        let default_scopes = Scopes::parse(&kind.default_scopes()).map_err(DemoError::new)?;
        let mut server = ProtectedServer::new(resource(upstream, origin)?, kind.title, scopes)
            .default_scopes(default_scopes);
        for (scope, what) in [("read", "read your"), ("write", "create"), ("admin", "delete")] {
            let scope = format!("{}:{scope}", kind.name);
            server = server.scope_text(&scope, &format!("{what} {}s", kind.noun));
        }
        builder = builder.server(server);
    }
    builder.start().await.map_err(DemoError::new)
}

/// Returns the routes of the authorization server and of its pages.
fn pages(
    (broker, store): (&Broker, &SqlStore),
    origin: &str,
    authority: &Authority<SqlStore>,
    (connector, upstreams): (&Connector<SqlStore>, [&Upstream; 2]),
) -> Result<Router, DemoError> {
    let mut site = Site::new(origin).map_err(DemoError::new)?;
    for upstream in upstreams {
        site = site.server(upstream.name(), &format!("{origin}/{}/mcp", upstream.name()));
    }
    let pages = BrowserPages::new(
        broker,
        (site, origin),
        (store.clone(), authority.clone()),
        authority.pending().clone(),
        BrowserPagesOptions::default(),
    );
    let pages = pages.connections(BoxConnections::new(connector.clone()));
    let router = Router::new().route("/", get(async || Redirect::to("/connections")));
    Ok(router.merge(pages.router()).merge(authority.router(pages)))
}

fn policy(upstream: &Upstream, sabotage: Option<Sabotage>) -> Rules {
    let name = upstream.name();
    let (read, write) = (format!("{name}:read"), format!("{name}:read {name}:write"));
    let write = match sabotage {
        Some(Sabotage::AskForNoScope) => &read,
        _ => &write,
    };
    let rules = Rules::new().allow(tools(["create_*"]).with_scope(write));
    let rules = match sabotage {
        Some(Sabotage::RefuseEveryCall) => rules.allow(tools(["list_*"])),
        _ => rules.allow(tools(["list_*", "get_*", "watch_*"]).with_scope(&read)),
    };
    match sabotage {
        Some(Sabotage::ShowEveryTool) => {
            rules.allow(tools(["delete_*"]).with_scope(&format!("{name}:admin")))
        }
        Some(Sabotage::AllowEveryTool) => rules.allow(tools(["*"])),
        _ => rules,
    }
}

/// Returns the URL under which the broker protects an upstream.
pub(crate) fn resource(upstream: &Upstream, origin: &str) -> Result<Resource, DemoError> {
    Resource::parse(&format!("{origin}/{}/mcp", upstream.name())).map_err(DemoError::new)
}

/// Adds the upstream's secret to every response.
fn leaking(router: Router, upstream: Upstream) -> Router {
    router.layer(map_response(move |mut response: Response| {
        let secret = upstream.secrets().pop();
        if let Some(secret) = secret.and_then(|secret| HeaderValue::from_str(&secret).ok()) {
            response.headers_mut().insert("x-debug", secret);
        }
        async move { response }
    }))
}
