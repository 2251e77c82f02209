//! Starts two upstreams, the broker in front of them, and a relay that records what clients send.

use std::path::{Path, PathBuf};

use axum::{Router, http::HeaderValue, middleware::map_response, response::Response};
use tempfile::TempDir;
use token_broker_authority::issue::{Algorithm, Issuer, Mint, SigningKeys};
use token_broker_outbound::{Guard, GuardedClient, Proxy};
use token_broker_store::{Account, Grant, GrantKey, MemoryGrants};
use token_broker_upstream::{AuthorizationServer, ClientAuthentication, StoredGrants};
use tokio::net::TcpListener;
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
    issuer: Issuer,
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

        let issuer =
            Issuer::new(&origin, SigningKeys::generate(Algorithm::Es256).map_err(DemoError::new)?);
        let mut router = Router::new();
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
                .authenticate(JwtVerifier::new(&origin, issuer.keys()))
                .scope_filter(policy(sabotage))
                .exchange(grants(&broker, upstream, &origin, &guard, sabotage)?)
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
        Ok(Self { crm, tickets, wire, broker, tasks, issuer, folder })
    }

    /// Issues a broker token for alice at one server.
    pub(crate) fn token(&self, server: &Upstream, scopes: &str) -> Result<String, DemoError> {
        let resource = Resource::parse(&self.url(server)).map_err(DemoError::new)?;
        let scopes = Scopes::parse(scopes).map_err(DemoError::new)?;
        let mint = Mint::for_user("alice").client("demo-client").resource(&resource).scopes(scopes);
        Ok(self.issuer.mint(mint).map_err(DemoError::new)?.into_text())
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
        RevocationTarget::User(User::new(self.issuer.name(), "alice"))
    }

    /// Returns all tokens for one server as a revocation target.
    pub(crate) fn server(&self, server: &Upstream) -> Result<RevocationTarget, DemoError> {
        let resource = Resource::parse(&self.url(server)).map_err(DemoError::new)?;
        Ok(RevocationTarget::Server(resource))
    }
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
    issuer: &str,
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
    let key =
        GrantKey::new(User::new(issuer, "alice"), upstream.name(), Account::default_account());
    let id = GrantId::new(&format!("{}-alice", upstream.name()));
    let grant = Grant::new(id, key, &upstream.issuer()).granted(all);
    store.insert(grant.refresh_token(Secret::from_text(refresh_token))).map_err(DemoError::new)?;
    let client = GuardedClient::new(guard).map_err(DemoError::new)?;
    Ok(StoredGrants::new(broker, store, target, server, client))
}
