//! The pages of the authority for a real browser (`tests/interop/pages`), with accounts and access
//! in memory.
//!
//! Run: `cargo run -p token-broker-tests --bin interop_pages`
//!
//! It prints its URL, the one-time link for the first account, and the password of the accounts
//! that it creates once there is a first one (`POST /test/accounts`). `/test/start?client=KIND`
//! begins an authorization request as a client does; `&redirect=URI` is where its consent returns.
//! Not published.

#![expect(clippy::expect_used, reason = "a test server may panic on failure")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Query, State},
    http::{HeaderMap, Response, StatusCode, header},
    routing::{get, post},
};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use token_broker_authority::{
    authorize::{
        AuthorizePageError, ClientIdentity, ConsentClient, ConsentRedirect, ConsentRequest,
        ConsentScope, ConsentServer, Interaction as _, PendingRequests, RedirectTarget,
    },
    pages::{ClientFamily, ConnectedClient, ConnectionsView, Site},
    sign_in::{
        AccessUnavailable, BrowserPages, BrowserPagesOptions, ClientAccess, Password, Passwords,
        PasswordsOptions, first_account_link, new_subject,
    },
};
use token_broker_store::authority::{AccountStore, MemoryAuthority, NewAccount, UserName};
use tokio::net::TcpListener;
use tower_token_broker::{
    Broker, Secret,
    audit::InMemory,
    clock::{Clock, Timestamp},
    principal::{Resource, User},
    request_id::RequestId,
    sealing::SealingKeys,
};

const PASSWORD: &str = "a password for tests only";

struct Server {
    pages: BrowserPages<MemoryAuthority, Access>,
    store: MemoryAuthority,
    keys: SealingKeys,
    issuer: String,
    /// Where the next consent returns.
    redirect: Mutex<String>,
    /// The number of consents that were allowed.
    allowed: Mutex<u32>,
}

/// Client, server and ID.
type Family = (&'static str, &'static str, &'static str);

/// Families that have not ended, of all users.
#[derive(Clone)]
struct Access(Arc<Mutex<Vec<Family>>>);

impl Access {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(vec![
            ("Claude Code", "CRM", "f1"),
            ("Claude Code", "Mail", "f2"),
            ("MCP Inspector with a rather long name that a client chose", "CRM", "f3"),
        ])))
    }
}

impl ClientAccess for Access {
    async fn clients(&self, _: &User) -> Result<ConnectionsView, AccessUnavailable> {
        let now = Clock::system().now();
        let days = |days: u64| Duration::from_secs(days * 86_400);
        let mut clients: Vec<ConnectedClient> = Vec::new();
        for (name, server, id) in self.0.lock().iter() {
            let family = ClientFamily::new(id, server, now.minus(days(3)), now.plus(days(27)))
                .scopes(vec!["read contacts".into(), "create contacts".into()])
                .last_used((*id != "f2").then_some(now.minus(Duration::from_secs(640))));
            match clients.iter_mut().find(|client| client.claimed_name.as_deref() == Some(name)) {
                Some(client) => client.families.push(family),
                None => {
                    let since = days(3);
                    let id = "b2f1c0d4e5a697887766554433221100";
                    let client = ConnectedClient::new(id, Some(name), vec![family]);
                    clients.push(client.identity(ClientIdentity::SelfRegistered { since }));
                }
            }
        }
        Ok(ConnectionsView::new(clients))
    }

    async fn end(&self, _: &User, family: &str) -> Result<bool, AccessUnavailable> {
        self.0.lock().retain(|(.., id)| *id != family);
        Ok(true)
    }

    async fn end_all(&self, _: &User) -> Result<(), AccessUnavailable> {
        self.0.lock().clear();
        Ok(())
    }
}

#[tokio::main]
async fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let here = format!("http://{}", listener.local_addr().expect("an address"));
    let broker = Broker::builder().audit(InMemory::new()).build().expect("a broker");
    let site = Site::new(&here)
        .expect("a loopback URL")
        .server("crm", &format!("{here}/crm/mcp"))
        .server("mail", &format!("{here}/mail/mcp"))
        .link_command("token-broker users link");
    let (store, keys) = (MemoryAuthority::new(), SealingKeys::generate());
    let pending = PendingRequests::new(keys.clone(), broker.clock().clone(), &here, "");
    let pages = BrowserPages::new(
        &broker,
        (site.clone(), &here),
        (store.clone(), Access::new()),
        pending,
        BrowserPagesOptions::default(),
    );
    let link = first_account_link(&store, &site, broker.clock().now()).await.expect("a link");
    #[expect(clippy::disallowed_methods, reason = "a browser of the test opens it")]
    let link = link.expose_text().expect("text").to_owned();
    let (redirect, allowed) = (Mutex::default(), Mutex::default());
    let router = pages.router();
    let server = Server { pages, store, keys, issuer: here.clone(), redirect, allowed };
    let app = Router::new()
        .route("/test/start", get(start))
        .route("/test/accounts", post(accounts))
        .route("/test/allowed", get(allowed_consents))
        .route("/test/error", get(error))
        .route("/oauth/continue", get(consent))
        .route("/oauth/consent", post(decide))
        .with_state(Arc::new(server))
        .merge(router);
    #[expect(clippy::print_stdout, reason = "read by the test")]
    {
        println!("LISTENING {here}\nPASSWORD {PASSWORD}\nLINK {link}");
    }
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).await.expect("a server");
}

type Shared = State<Arc<Server>>;

#[derive(Deserialize)]
struct Start {
    client: String,
    redirect: Option<String>,
}

/// Begins an authorization request, as the authorize endpoint does after it has verified one.
async fn start(State(server): Shared, Query(start): Query<Start>) -> Response<Body> {
    *server.redirect.lock() =
        start.redirect.unwrap_or_else(|| "http://127.0.0.1:33418/callback".into());
    let request = json!({
        "client": start.client, "name": claimed(&start.client), "redirect_uri": "http://c/cb",
        "challenge": "c", "at": Clock::system().now().unix_seconds(),
    });
    let request = request.to_string();
    let sealed =
        server.keys.seal_state("authorization request", &[&server.issuer], request.as_bytes());
    server.pages.sign_in(&sealed).map(Body::from)
}

/// Creates the accounts `alice`, and `temporary` with a password that must be changed.
async fn accounts(State(server): Shared) -> StatusCode {
    let password = Password::new(PASSWORD, "alice").expect("a good password");
    let passwords = Passwords::new(PasswordsOptions::default());
    for name in ["alice", "temporary"] {
        let hash = Secret::from_text(passwords.hash(&password).await.expect("a hash"));
        let user_name = UserName::parse(name).expect("a name");
        let now = Timestamp::from_unix_seconds(0);
        let account = NewAccount::new(&new_subject(), user_name, hash, now);
        let account = if name == "alice" { account } else { account.must_change_password() };
        let created = server.store.create_account(&account).await;
        created.map(drop).expect("an account");
    }
    StatusCode::NO_CONTENT
}

async fn allowed_consents(State(server): Shared) -> String {
    server.allowed.lock().to_string()
}

async fn error(State(server): Shared) -> Response<Body> {
    let id = RequestId::from_bits([7; 16]);
    server.pages.error(AuthorizePageError::RedirectUri, &id).map(Body::from)
}

#[derive(Deserialize)]
struct Continue {
    request: String,
}

async fn consent(
    State(server): Shared,
    Query(query): Query<Continue>,
    headers: HeaderMap,
) -> Response<Body> {
    let pending = PendingRequests::new(server.keys.clone(), Clock::system(), &server.issuer, "");
    let (Some(pending), Ok(user)) =
        (pending.open(&query.request), server.pages.signed_in(&headers).await)
    else {
        return refused(&server, AuthorizePageError::Expired);
    };
    let Some(user) = user else {
        return server.pages.sign_in(&query.request).map(Body::from);
    };
    let request = request_of(pending.client(), &server.redirect.lock(), &server.issuer);
    server.pages.consent(&user, &request).map(Body::from)
}

async fn decide(
    State(server): Shared,
    headers: HeaderMap,
    axum::Form(form): axum::Form<Vec<(String, String)>>,
) -> Response<Body> {
    let field = |name: &str| form.iter().find(|(found, _)| found == name).map(|(_, value)| value);
    let Ok(Some(user)) = server.pages.signed_in(&headers).await else {
        return refused(&server, AuthorizePageError::Expired);
    };
    if !server.pages.is_own_form(&user, &headers, field("csrf").map(String::as_str)) {
        return refused(&server, AuthorizePageError::Forged);
    }
    let is_allowed = field("decision").is_some_and(|decision| decision == ConsentRequest::ALLOW);
    *server.allowed.lock() += u32::from(is_allowed);
    let location = format!(
        "{}?{}",
        server.redirect.lock(),
        if is_allowed { "code=c" } else { "error=access_denied" }
    );
    let response = Response::builder().status(303).header(header::LOCATION, location);
    response.body(Body::empty()).expect("a redirect")
}

fn refused(server: &Server, error: AuthorizePageError) -> Response<Body> {
    server.pages.error(error, &RequestId::from_bits([7; 16])).map(Body::from)
}

fn claimed(kind: &str) -> Option<&'static str> {
    match kind {
        "hostile" => Some(
            "\u{202e}edoC <b>Claude</b> 👩\u{200d}💻 of broker.example.com, verified by everyone who \
             matters, really",
        ),
        "nameless" => None,
        _ => Some("Claude Code"),
    }
}

fn request_of(kind: &str, redirect: &str, issuer: &str) -> ConsentRequest {
    let scopes = || {
        vec![
            ConsentScope::new("crm:read", Some("read contacts")),
            ConsentScope::new("crm:write", Some("create and change contacts")),
            ConsentScope::new("crm:export", None),
        ]
    };
    let server = |name: &str, title: &str, scopes| {
        let resource = Resource::parse(&format!("{issuer}/{name}/mcp")).expect("a resource");
        ConsentServer::new(resource, title, scopes)
    };
    let since = Duration::from_secs(600);
    let identity = match kind {
        "document" => ClientIdentity::MetadataDocument { host: "claude.ai".into() },
        "configured" => ClientIdentity::Configured,
        _ => ClientIdentity::SelfRegistered { since },
    };
    let id = match kind {
        "document" => "https://claude.ai/oauth/claude-code-client-metadata.json",
        _ => "b2f1c0d4e5a697887766554433221100",
    };
    let (scheme, rest) = redirect.split_once("://").unwrap_or((redirect, ""));
    let host = rest.split('/').next().unwrap_or_default();
    let redirect = match scheme {
        "http" => ConsentRedirect::new(redirect, host, RedirectTarget::Loopback),
        "https" => ConsentRedirect::new(redirect, host, RedirectTarget::Web),
        _ => ConsentRedirect::new(redirect, &format!("{scheme}:"), RedirectTarget::CustomScheme),
    };
    let mut servers = vec![server("crm", "CRM", scopes())];
    if kind == "several" {
        servers.push(server(
            "mail",
            "Mail",
            vec![ConsentScope::new("mail:read", Some("read mail"))],
        ));
    }
    ConsentRequest::new(
        ConsentClient::new(id, claimed(kind), identity),
        redirect,
        servers,
        "sealed",
    )
}
