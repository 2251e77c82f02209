//! Starts two upstreams, the broker in front of them, and a relay that records what clients send.

use std::path::{Path, PathBuf};

use axum::{Router, http::HeaderValue, middleware::map_response, response::Response};
use tempfile::TempDir;
use token_broker_authority::{
    Authority, IssuerUrl, ProtectedServer,
    client::ConfiguredClient,
    pages::Site,
    sign_in::{BrowserPages, BrowserPagesOptions},
};
use token_broker_outbound::{Guard, GuardedClient, Proxy};
use token_broker_store::{Account, Grant, GrantKey, MemoryGrants, authority::MemoryAuthority};
use token_broker_upstream::{AuthorizationServer, ClientAuthentication, StoredGrants};
use tokio::{net::TcpListener, sync::Mutex};
use tower_token_broker::{
    Broker, Secret,
    audit::JsonLines,
    authenticate::JwtVerifier,
    exchange::Upstream as Target,
    principal::{GrantId, Resource, Scopes, User},
    revocation::RevocationTarget,
    scope_filter::{Rules, tools},
    tasks::Tasks,
};

use crate::{
    DemoError, Sabotage,
    sign_in::{self, Browser, CLIENT_ID as DEMO_CLIENT, REDIRECT_URI},
    upstream::{CLIENT_ID, Connected, Upstream},
    wiretap::Wiretap,
};

/// Scopes that alice allowed: more than any server needs.
const GRANTED: &str = "admin contacts:read contacts:write export";
/// Scopes that the operator configured for the upstreams.
pub(crate) const OPERATORS_SCOPES: &str = "contacts:read contacts:write";
/// Every scope of the broker.
pub(crate) const EVERY_SCOPE: &str = "crm:admin crm:read crm:write";

pub(crate) struct Setup {
    pub(crate) crm: Upstream,
    pub(crate) tickets: Upstream,
    pub(crate) wire: Wiretap,
    pub(crate) broker: Broker,
    /// Servers next to the broker, which end with the runtime.
    pub(crate) tasks: Tasks,
    alice: User,
    browser: Mutex<Browser>,
    folder: TempDir,
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

impl Setup {
    pub(crate) async fn start(sabotage: Option<Sabotage>) -> Result<Self, DemoError> {
        let tasks = Tasks::new();
        let crm = Upstream::start("crm", &tasks).await?;
        let tickets = Upstream::start("tickets", &tasks).await?;
        if sabotage == Some(Sabotage::CloseTheBackDoor) {
            crm.close_the_api();
        }
        let folder = tempfile::tempdir()?;
        let sink = JsonLines::append(folder.path().join("audit.jsonl"))?;
        let broker = Broker::builder().audit(sink).build().map_err(DemoError::new)?;

        // Clients connect to the relay, which connects to the broker.
        let public = TcpListener::bind(("127.0.0.1", 0)).await?;
        let inside = TcpListener::bind(("127.0.0.1", 0)).await?;
        let origin = format!("http://{}", public.local_addr()?);
        let wire = Wiretap::start(public, inside.local_addr()?, &tasks)?;

        let browser = Browser::new(inside.local_addr()?, origin.clone());
        let store = MemoryAuthority::new();
        let alice = User::new(&*origin, &*sign_in::create_alice(&store).await?);
        let authority = authority(&broker, &origin, &store, [&crm, &tickets]).await?;
        let mut router = Router::new().merge(pages(&broker, &origin, &store, &authority)?);
        for upstream in [&crm, &tickets] {
            let path = format!("/{}/mcp", upstream.name());
            let audience = match sabotage {
                Some(Sabotage::OneAudienceForAll) => "/crm/mcp",
                _ => path.as_str(),
            };
            let guard = Guard::new().allow_loopback("127.0.0.1");
            let layer = broker
                .protect(&format!("{origin}{audience}"))
                .mounted_at(&path)
                .authenticate(JwtVerifier::new(&origin, authority.keys()))
                .scope_filter(policy(sabotage))
                .exchange(grants(&broker, upstream, &alice, &guard, sabotage)?)
                .build()
                .map_err(DemoError::new)?;
            let proxy = Proxy::new(&guard).map_err(DemoError::new)?;
            router = router.route_service(&path, layer.layer(proxy));
        }
        router = router.merge(broker.metadata_router());
        router = router.route("/unwatched", axum::routing::get(async || "no layer counts this"));
        if sabotage == Some(Sabotage::LeakTheToken) {
            router = leaking(router, crm.clone());
        }
        drop(tasks.spawn("demo-broker", async move { axum::serve(inside, router).await }));
        let browser = Mutex::new(browser);
        Ok(Self { crm, tickets, wire, broker, tasks, alice, browser, folder })
    }

    /// Lets alice allow the client these scopes at one server, and returns its broker token.
    pub(crate) async fn token(&self, server: &Upstream, scopes: &str) -> Result<String, DemoError> {
        let code = self.browser.lock().await.allow(&self.url(server), scopes).await?;
        sign_in::redeem(self.wire.address(), &code).await
    }

    /// Returns the URL of a server for clients.
    pub(crate) fn url(&self, server: &Upstream) -> String {
        format!("http://{}/{}/mcp", self.wire.address(), server.name())
    }

    pub(crate) fn audit_file(&self) -> PathBuf {
        Path::join(self.folder.path(), "audit.jsonl")
    }

    /// Returns alice as a revocation target.
    pub(crate) fn alice(&self) -> RevocationTarget {
        RevocationTarget::User(self.alice.clone())
    }

    /// Returns all tokens for one server as a revocation target.
    pub(crate) fn server(&self, server: &Upstream) -> Result<RevocationTarget, DemoError> {
        let resource = Resource::parse(&self.url(server)).map_err(DemoError::new)?;
        Ok(RevocationTarget::Server(resource))
    }
}

/// Starts the broker's own authorization server.
async fn authority(
    broker: &Broker,
    origin: &str,
    store: &MemoryAuthority,
    servers: [&Upstream; 2],
) -> Result<Authority<MemoryAuthority>, DemoError> {
    let issuer = IssuerUrl::parse(origin).map_err(DemoError::new)?;
    let client = ConfiguredClient::new(DEMO_CLIENT, [REDIRECT_URI]).map_err(DemoError::new)?;
    let mut builder =
        Authority::builder(broker, issuer, store.clone()).client(client.name("Demo client"));
    for server in servers {
        let resource = Resource::parse(&format!("{origin}/{}/mcp", server.name()));
        let scopes = Scopes::parse(EVERY_SCOPE).map_err(DemoError::new)?;
        let resource = resource.map_err(DemoError::new)?;
        builder = builder.server(ProtectedServer::new(resource, server.name(), scopes));
    }
    builder.start().await.map_err(DemoError::new)
}

/// Returns the routes of the authorization server and of its pages.
fn pages(
    broker: &Broker,
    origin: &str,
    store: &MemoryAuthority,
    authority: &Authority<MemoryAuthority>,
) -> Result<Router, DemoError> {
    let site = Site::new(origin).map_err(DemoError::new)?;
    let pages = BrowserPages::new(
        broker,
        (site, origin),
        (store.clone(), authority.clone()),
        authority.pending().clone(),
        BrowserPagesOptions::default(),
    );
    Ok(pages.router().merge(authority.router(pages)))
}

fn policy(sabotage: Option<Sabotage>) -> Rules {
    let write = match sabotage {
        Some(Sabotage::AskForNoScope) => "crm:read",
        _ => "crm:read crm:write",
    };
    let rules = Rules::new().allow(tools(["create_contact"]).with_scope(write));
    let rules = match sabotage {
        Some(Sabotage::RefuseEveryCall) => rules.allow(tools(["list_*"])),
        _ => rules.allow(tools(["list_*", "get_*", "watch_*"]).with_scope("crm:read")),
    };
    match sabotage {
        Some(Sabotage::ShowEveryTool) => rules.allow(tools(["delete_*"]).with_scope("crm:admin")),
        Some(Sabotage::AllowEveryTool) => rules.allow(tools(["*"])),
        _ => rules,
    }
}

fn grants(
    broker: &Broker,
    upstream: &Upstream,
    alice: &User,
    guard: &Guard,
    sabotage: Option<Sabotage>,
) -> Result<StoredGrants<MemoryGrants>, DemoError> {
    let Connected { refresh_token, granted, client_secret, .. } = upstream.connect(GRANTED);
    let all = Scopes::parse(&granted).map_err(DemoError::new)?;
    let operators = match sabotage {
        Some(Sabotage::ForwardEveryScope) => all.clone(),
        _ => Scopes::parse(OPERATORS_SCOPES).map_err(DemoError::new)?,
    };
    let client = ClientAuthentication::basic(CLIENT_ID, Secret::from_text(client_secret));
    let endpoint = upstream.token_endpoint().parse().map_err(DemoError::new)?;
    let server = AuthorizationServer::new(&upstream.issuer(), endpoint, client).scopes(operators);
    let target = Target::parse(upstream.name(), &upstream.mcp_url()).map_err(DemoError::new)?;
    let store = MemoryGrants::new();
    // The user as broker tokens name her: issuer and subject.
    let key = GrantKey::new(alice.clone(), upstream.name(), Account::default_account());
    let id = GrantId::new(&format!("{}-alice", upstream.name()));
    let grant = Grant::new(id, key, &upstream.issuer()).granted(all);
    store.insert(grant.refresh_token(Secret::from_text(refresh_token))).map_err(DemoError::new)?;
    let client = GuardedClient::new(guard).map_err(DemoError::new)?;
    Ok(StoredGrants::new(broker, store, target, server, client))
}
