//! A server on loopback, a browser with a session, and a client.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use serde_json::{Value, json};
use token_broker_authority::{
    Authority, AuthorityBuilder, IssuerUrl, ProtectedServer,
    authorize::{
        AuthorizePageError, ConsentRequest, Interaction, RefusedRequest, SessionsUnavailable,
        SignedIn,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};
use tower_token_broker::{
    Broker,
    audit::InMemory,
    clock::{Clock, Timestamp},
    principal::{Resource, Scopes, TokenTimes, User, Verified},
    refusal::Reason,
    request_id::RequestId,
    sealing::SealingKeys,
};

use crate::faulty_store::{TestRevocations, TestStore};

pub(crate) const ISSUER: &str = "https://broker.example.com";
pub(crate) const CRM: &str = "https://broker.example.com/crm/mcp";
pub(crate) const HR: &str = "https://broker.example.com/hr/mcp";
pub(crate) const REDIRECT: &str = "http://127.0.0.1:4711/callback";
pub(crate) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

/// One process: a broker, its authorization server, and a socket.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) broker: Broker,
    pub(crate) authority: Authority<TestStore>,
    pub(crate) store: TestStore,
    pub(crate) records: InMemory,
    pub(crate) clock: Clock,
}

type Build = AuthorityBuilder<TestStore>;

pub(crate) fn crm() -> ProtectedServer {
    let scopes = Scopes::parse("crm:read crm:write").unwrap();
    ProtectedServer::new(Resource::parse(CRM).unwrap(), "CRM", scopes)
        .scope_text("crm:read", "Read contacts")
        .default_scopes(Scopes::parse("crm:read").unwrap())
}

pub(crate) fn hr() -> ProtectedServer {
    let scopes = Scopes::parse("hr:read").unwrap();
    ProtectedServer::new(Resource::parse(HR).unwrap(), "Staff", scopes)
}

impl Server {
    /// Starts one with the server `CRM`.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_, builder| builder.server(crm())).await
    }

    pub(crate) async fn start_with(build: impl FnOnce(&Broker, Build) -> Build) -> Self {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_800_000_000));
        Self::start_on(TestStore::new(), clock, build).await
    }

    /// Starts another process on the store of this one.
    pub(crate) async fn replica(&self) -> Self {
        let (store, clock) = (self.store.clone(), self.clock.clone());
        Self::start_on(store, clock, |_, builder| builder.server(crm())).await
    }

    pub(crate) async fn start_on(
        store: TestStore,
        clock: Clock,
        build: impl FnOnce(&Broker, Build) -> Build,
    ) -> Self {
        Self::start_in(store, clock, None, build).await
    }

    /// Starts one with this store of revocations.
    pub(crate) async fn start_with_revocations(revocations: &TestRevocations) -> Self {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_800_000_000));
        let build = |_: &Broker, builder: Build| builder.server(crm());
        let server = Self::start_in(TestStore::new(), clock, Some(revocations), build).await;
        server.until_current().await;
        server
    }

    /// Waits until the revocation feed was read.
    pub(crate) async fn until_current(&self) {
        while self.permits() == Err(Reason::RevocationStale) {
            tokio::task::yield_now().await;
        }
    }

    /// Returns whether tokens may be issued for another user.
    pub(crate) fn permits(&self) -> Result<(), Reason> {
        let (resource, now) = (Resource::parse(CRM).unwrap(), self.clock.now());
        let times = TokenTimes { id: "", issued_at: now, expires_at: now };
        let other = Verified::vouch(User::new(ISSUER, "other"), "other", resource, times);
        self.broker.revocations().permits(&other)
    }

    async fn start_in(
        store: TestStore,
        clock: Clock,
        revocations: Option<&TestRevocations>,
        build: impl FnOnce(&Broker, Build) -> Build,
    ) -> Self {
        let records = InMemory::new();
        let builder = Broker::builder()
            .audit(records.clone())
            .clock(clock.clone())
            .sealing_keys(SealingKeys::new(&[7; 32]));
        let builder = match revocations {
            Some(store) => builder.revocation_store(store.clone()),
            None => builder,
        };
        let broker = builder.build().unwrap();
        let issuer = IssuerUrl::parse(ISSUER).unwrap();
        let builder = build(&broker, Authority::builder(&broker, issuer, store.clone()));
        let authority = builder.start().await.unwrap();
        let router = authority.router(TestPages::default());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let serving = async move { axum::serve(listener, service).await.unwrap() };
        drop(broker.tasks().spawn("server", serving));
        Self { address, broker, authority, store, records, clock }
    }

    /// Sends these bytes and reads the response to its end.
    pub(crate) async fn send(&self, request: &[u8]) -> Reply {
        send_to(self.address, request).await
    }

    pub(crate) async fn request(
        &self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: &str,
    ) -> Reply {
        self.send(request(method, target, fields, body).as_bytes()).await
    }

    pub(crate) async fn get(&self, target: &str) -> Reply {
        self.request("GET", target, &[], "").await
    }

    /// Sends a form, with the session of a browser if there is one.
    pub(crate) async fn post(&self, path: &str, form: &[(&str, &str)]) -> Reply {
        self.post_with(path, form, &[]).await
    }

    pub(crate) async fn post_with(
        &self,
        path: &str,
        form: &[(&str, &str)],
        more: &[(&str, &str)],
    ) -> Reply {
        let mut fields = vec![("content-type", "application/x-www-form-urlencoded")];
        fields.extend(more);
        self.request("POST", path, &fields, &encode(form)).await
    }

    pub(crate) async fn post_json(&self, path: &str, body: &Value) -> Reply {
        let fields = [("content-type", "application/json")];
        self.request("POST", path, &fields, &body.to_string()).await
    }

    /// Registers a public client with these redirect URIs; returns its ID.
    pub(crate) async fn register(&self, redirect_uris: &[&str]) -> String {
        let metadata = json!({
            "redirect_uris": redirect_uris,
            "client_name": "Inspector",
            "token_endpoint_auth_method": "none",
        });
        let reply = self.post_json("/oauth/register", &metadata).await;
        assert_eq!(reply.status, 201, "{}", reply.body);
        text(&reply.json()["client_id"])
    }

    /// Requests authorization as a browser in which `user` is signed in.
    pub(crate) async fn authorize_as(&self, user: &str, query: &[(&str, &str)]) -> Reply {
        let target = format!("/oauth/authorize?{}", encode(query));
        self.request("GET", &target, &[("cookie", &format!("session={user}"))], "").await
    }

    /// As [`Server::authorize_as`] without a session, from the address 127.0.0.`last`.
    pub(crate) async fn authorize_from(&self, last: u8, query: &[(&str, &str)]) -> Reply {
        self.from(last, "GET", &format!("/oauth/authorize?{}", encode(query)), "").await
    }

    /// Sends a request with a body of JSON from the address 127.0.0.`last`.
    pub(crate) async fn from(&self, last: u8, method: &str, target: &str, body: &str) -> Reply {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, last], 0).into()).unwrap();
        let socket = socket.connect(self.address).await.unwrap();
        let fields = [("content-type", "application/json")];
        exchange(socket, request(method, target, &fields, body).as_bytes()).await
    }

    /// Sends a consent page's form.
    pub(crate) async fn decide(&self, user: &str, page: &Value, decision: &str) -> Reply {
        let (sealed, csrf) = (text(&page["sealed"]), format!("csrf-{user}"));
        let form = [("request", &*sealed), ("decision", decision), ("csrf", &csrf)];
        let cookie = format!("session={user}");
        self.post_with(&text(&page["action"]), &form, &[("cookie", &cookie)]).await
    }

    /// Returns a code that `alice` allowed this client.
    pub(crate) async fn code(&self, client: &str) -> String {
        self.code_for(client, &authorization(client)).await
    }

    pub(crate) async fn code_for(&self, _client: &str, query: &[(&str, &str)]) -> String {
        let page = self.authorize_as("alice", query).await;
        assert_eq!(page.status, 200, "{}", page.body);
        let reply = self.decide("alice", &page.json(), "allow").await;
        assert_eq!(reply.status, 303, "{}", reply.body);
        reply.redirect_param("code").expect("a code")
    }

    pub(crate) async fn redeem(&self, client: &str, code: &str) -> Reply {
        self.post("/oauth/token", &redemption(client, code)).await
    }

    pub(crate) async fn refresh(&self, client: &str, token: &str) -> Reply {
        let form =
            [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", client)];
        self.post("/oauth/token", &form).await
    }

    /// Returns a client and its first refresh token.
    pub(crate) async fn family(&self) -> (String, String) {
        let client = self.register(&[REDIRECT]).await;
        let code = self.code(&client).await;
        let reply = self.redeem(&client, &code).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        (client, text(&reply.json()["refresh_token"]))
    }

    /// Returns the records of this kind.
    pub(crate) async fn recorded(&self, kind: &str) -> Vec<Value> {
        self.broker.audit_log().flush().await.unwrap();
        let lines = self.records.lines();
        let records = lines.iter().map(|line| line.parse::<Value>().unwrap());
        records.filter(|record| record["kind"] == kind).collect()
    }
}

async fn send_to(address: SocketAddr, request: &[u8]) -> Reply {
    exchange(TcpStream::connect(address).await.unwrap(), request).await
}

async fn exchange(mut socket: TcpStream, request: &[u8]) -> Reply {
    socket.write_all(request).await.unwrap();
    let mut response = Vec::new();
    socket.read_to_end(&mut response).await.unwrap();
    Reply::parse(&String::from_utf8(response).unwrap())
}

fn request(method: &str, target: &str, fields: &[(&str, &str)], body: &str) -> String {
    let mut request = format!(
        "{method} {target} HTTP/1.1\r\nhost: broker.example.com\r\nconnection: close\r\n\
         content-length: {}\r\n",
        body.len()
    );
    for (name, value) in fields {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    format!("{request}\r\n{body}")
}

/// As [`Server::refresh`], for a task of its own.
pub(crate) async fn refresh_at(address: SocketAddr, client: &str, token: &str) -> Reply {
    let form = [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", client)];
    let fields = [("content-type", "application/x-www-form-urlencoded")];
    send_to(address, request("POST", "/oauth/token", &fields, &encode(&form)).as_bytes()).await
}

/// The parameters of a valid authorization request.
pub(crate) fn authorization(client: &str) -> Vec<(&str, &str)> {
    vec![
        ("response_type", "code"),
        ("client_id", client),
        ("redirect_uri", REDIRECT),
        ("state", "xyz"),
        ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
        ("code_challenge_method", "S256"),
        ("resource", CRM),
        ("scope", "crm:read"),
    ]
}

/// The same with one parameter replaced, or removed if the value is empty.
pub(crate) fn with<'a>(
    query: &[(&'a str, &'a str)],
    name: &'a str,
    value: &'a str,
) -> Vec<(&'a str, &'a str)> {
    let others = query.iter().copied().filter(|(other, _)| *other != name);
    let mut changed: Vec<_> = others.collect();
    if !value.is_empty() {
        changed.push((name, value));
    }
    changed
}

pub(crate) fn redemption<'a>(client: &'a str, code: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", REDIRECT),
        ("client_id", client),
        ("code_verifier", VERIFIER),
        ("resource", CRM),
    ]
}

pub(crate) fn encode(pairs: &[(&str, &str)]) -> String {
    let escaped = |text: &str| {
        let escape = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        };
        text.bytes().map(escape).collect::<String>()
    };
    let pairs = pairs.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value)));
    pairs.collect::<Vec<_>>().join("&")
}

pub(crate) fn decode(text: &str) -> String {
    let mut decoded = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
            decoded.push(u8::from_str_radix(str::from_utf8(&digits).unwrap(), 16).unwrap());
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).unwrap()
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// A response.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Reply {
    fn parse(response: &str) -> Self {
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            let name: header::HeaderName = name.parse().unwrap();
            headers.append(name, value.parse().unwrap());
        }
        Self { status, headers, body: body.to_owned() }
    }

    pub(crate) fn json(&self) -> Value {
        self.body.parse().unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub(crate) fn error(&self) -> String {
        text(&self.json()["error"])
    }

    pub(crate) fn location(&self) -> Option<&str> {
        self.headers.get(header::LOCATION)?.to_str().ok()
    }

    /// Returns a parameter of the URI that the browser is redirected to.
    pub(crate) fn redirect_param(&self, name: &str) -> Option<String> {
        let (_, query) = self.location()?.split_once('?')?;
        let mut values = query.split('&').filter_map(|pair| {
            let (found, value) = pair.split_once('=')?;
            (found == name).then(|| decode(value))
        });
        let value = values.next();
        assert_eq!(values.next(), None, "{name} twice in {query}");
        value
    }

    /// Returns the error of a redirect to the client, which has `state` and `iss`.
    pub(crate) fn redirected_error(&self, state: Option<&str>) -> String {
        assert_eq!(self.status, 302, "{self:?}");
        let location = self.location().unwrap();
        assert!(location.starts_with(&format!("{REDIRECT}?")), "{location}");
        assert_eq!(self.redirect_param("state").as_deref(), state, "{location}");
        assert_eq!(self.redirect_param("iss").as_deref(), Some(ISSUER), "{location}");
        assert_eq!(self.redirect_param("code"), None, "{location}");
        self.redirect_param("error").unwrap()
    }

    /// Returns the code of an error page, which has no redirect.
    pub(crate) fn page_error(&self) -> String {
        assert_eq!(self.location(), None, "{self:?}");
        text(&self.json()["page_error"])
    }
}

/// Pages as JSON. The session of a browser is its cookie: the name of the user.
#[derive(Default)]
pub(crate) struct TestPages(AtomicUsize);

impl Interaction for TestPages {
    async fn signed_in(
        &self,
        headers: &HeaderMap,
    ) -> Result<Option<SignedIn>, SessionsUnavailable> {
        // A session that ends after its first request with this field.
        if headers.contains_key("x-signed-in") && self.0.fetch_add(1, Ordering::SeqCst) > 0 {
            return Ok(None);
        }
        let cookie = headers.get(header::COOKIE).and_then(|cookie| cookie.to_str().ok());
        Ok(cookie.and_then(|cookie| cookie.strip_prefix("session=")).map(|name| {
            // `alice-2` is another session of alice.
            let user = name.split('-').next().unwrap_or(name);
            let user = User::new(ISSUER, user);
            SignedIn::new(user, name, &format!("session of {name}"), &format!("csrf-{name}"))
        }))
    }

    fn sign_in(&self, pending: &str) -> Response<Bytes> {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::SEE_OTHER;
        let location = format!("/sign-in?continue={pending}").parse().unwrap();
        response.headers_mut().insert(header::LOCATION, location);
        response
    }

    fn consent(&self, user: &SignedIn, request: &ConsentRequest) -> Response<Bytes> {
        let servers: Vec<_> = request.servers.iter().map(|server| {
            let scopes: Vec<_> = server.scopes.iter().map(|scope| {
                json!({"name": scope.name, "text": scope.text})
            }).collect();
            json!({"resource": server.resource.as_str(), "title": server.title, "scopes": scopes})
        }).collect();
        let page = json!({
            "user": user.display_name,
            "action": request.action,
            "client": request.client.id,
            "claimed_name": request.client.claimed_name,
            "identity": format!("{:?}", request.client.identity),
            "redirect_uri": request.redirect.uri,
            "redirect_host": request.redirect.host,
            "target": format!("{:?}", request.redirect.target),
            "servers": servers,
            "days": [request.idle_lifetime.as_secs() / 86_400,
                request.absolute_lifetime.as_secs() / 86_400],
            "sealed": request.sealed,
            "pending": request.pending,
        });
        Response::new(Bytes::from(page.to_string()))
    }

    fn is_own_form(&self, user: &SignedIn, headers: &HeaderMap, token: Option<&str>) -> bool {
        let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
        site.is_none_or(|site| site == b"same-origin") && token == Some(&*user.csrf_token)
    }

    fn error(&self, error: AuthorizePageError, request: &RequestId) -> Response<Bytes> {
        let page = json!({"page_error": error.code(), "request": request.to_string()});
        let mut response = Response::new(Bytes::from(page.to_string()));
        *response.status_mut() = error.status();
        response
    }

    fn refused(&self, refused: &RefusedRequest, request: &RequestId) -> Response<Bytes> {
        let page = json!({"refused": refused.code.as_str(), "link": refused.link,
            "client": refused.client.id, "host": refused.redirect.host,
            "request": request.to_string()});
        let mut response = Response::new(Bytes::from(page.to_string()));
        *response.status_mut() = RefusedRequest::STATUS;
        response
    }
}

pub(crate) const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}
