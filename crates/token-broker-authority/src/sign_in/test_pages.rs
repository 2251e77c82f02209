//! Pages over stores in memory, and a browser that keeps cookies, for tests.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use parking_lot::Mutex;
use serde_json::{Value, json};
use token_broker_store::authority::{
    AccountCreation, AccountStore, MemoryAuthority, NewAccount, UserName,
};
use tower_token_broker::{
    Broker, Secret,
    audit::InMemory,
    clock::{Clock, Timestamp},
    principal::User,
    request_id::RequestId,
    sealing::SealingKeys,
};

use super::{
    AccessUnavailable, BrowserPages, BrowserPagesOptions, BrowserRequest, ClientAccess, HashCost,
    Password, Passwords, PasswordsOptions, new_subject,
};
use crate::{
    authorize::PendingRequests,
    pages::{ClientFamily, ConnectedClient, ConnectionsView, Site},
};

pub(in crate::sign_in) const ISSUER: &str = "https://broker.example.com";
pub(in crate::sign_in) const PASSWORD: &str = "correct horse battery";

/// User, client and family.
type Access = (User, &'static str, &'static str);

/// The access of clients.
#[derive(Clone, Default)]
pub(in crate::sign_in) struct TestAccess {
    pub(in crate::sign_in) families: Arc<Mutex<Vec<Access>>>,
    pub(in crate::sign_in) is_down: Arc<Mutex<bool>>,
}

impl ClientAccess for TestAccess {
    async fn clients(&self, user: &User) -> Result<ConnectionsView, AccessUnavailable> {
        let at = Timestamp::from_unix_seconds(1_795_400_000);
        let of = |(_, client, family): &(User, &str, &str)| {
            let family = ClientFamily::new(family, "CRM", at, at);
            ConnectedClient::new(client, Some(client), vec![family])
        };
        let families = self.families.lock();
        let own = families.iter().filter(|(owner, ..)| owner == user);
        Ok(ConnectionsView::new(own.map(of).collect()))
    }

    async fn end(&self, user: &User, family: &str) -> Result<bool, AccessUnavailable> {
        let mut families = self.families.lock();
        let before = families.len();
        families.retain(|(owner, _, id)| owner != user || *id != family);
        Ok(families.len() < before)
    }

    async fn end_all(&self, user: &User) -> Result<(), AccessUnavailable> {
        if *self.is_down.lock() {
            return Err(AccessUnavailable);
        }
        self.families.lock().retain(|(owner, ..)| owner != user);
        Ok(())
    }
}

/// The pages, and what they use.
pub(in crate::sign_in) struct TestPages {
    pub(in crate::sign_in) pages: BrowserPages<MemoryAuthority, TestAccess>,
    pub(in crate::sign_in) store: MemoryAuthority,
    pub(in crate::sign_in) access: TestAccess,
    pub(in crate::sign_in) site: Site,
    pub(in crate::sign_in) clock: Clock,
    pub(in crate::sign_in) records: InMemory,
    pub(in crate::sign_in) keys: SealingKeys,
}

impl TestPages {
    pub(in crate::sign_in) fn new() -> Self {
        Self::at(ISSUER)
    }

    pub(in crate::sign_in) fn at(public_url: &str) -> Self {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_795_500_000));
        let site = Site::new(public_url).unwrap().link_command("token-broker users link");
        Self::on(site, MemoryAuthority::new(), (clock, SealingKeys::generate()))
    }

    fn on(site: Site, store: MemoryAuthority, (clock, keys): (Clock, SealingKeys)) -> Self {
        let records = InMemory::new();
        let broker = Broker::builder().audit(records.clone()).clock(clock.clone());
        let broker = broker.sealing_keys(keys.clone()).build().unwrap();
        let access = TestAccess::default();
        let pending = PendingRequests::new(keys.clone(), clock.clone(), ISSUER, "");
        let cost = PasswordsOptions::default().cost(HashCost::cheap_for_tests());
        let options = BrowserPagesOptions::default().passwords(cost);
        let stores = (store.clone(), access.clone());
        let pages = BrowserPages::new(&broker, (site.clone(), ISSUER), stores, pending, options);
        Self { pages, store, access, site, clock, records, keys }
    }

    /// Returns the pages of another process on the same store, with the same sealing keys.
    pub(in crate::sign_in) fn restarted(&self) -> Self {
        Self::on(self.site.clone(), self.store.clone(), (self.clock.clone(), self.keys.clone()))
    }

    /// Creates an account with [`PASSWORD`], and returns its user.
    pub(in crate::sign_in) async fn account(&self, name: &str) -> User {
        self.create(name, false).await
    }

    pub(in crate::sign_in) async fn create(&self, name: &str, must_change: bool) -> User {
        let cost = PasswordsOptions::default().cost(HashCost::cheap_for_tests());
        let password = Password::parse(PASSWORD).unwrap();
        let hash = Secret::from_text(Passwords::new(cost).hash(&password).await.unwrap());
        let name = UserName::parse(name).unwrap();
        let new = NewAccount::new(&new_subject(), name, hash, self.clock.now());
        let new = if must_change { new.must_change_password() } else { new };
        match self.store.create_account(&new).await.unwrap() {
            AccountCreation::Created(account) => User::new(ISSUER, &*account.subject),
            AccountCreation::NameTaken => panic!("the name is taken"),
        }
    }

    /// Returns a sealed authorization request of this client, as the authorize endpoint makes it.
    pub(in crate::sign_in) fn pending(&self, client: &str) -> String {
        let request = json!({
            "client": "client-1", "name": client, "redirect_uri": "http://127.0.0.1/cb",
            "challenge": "c", "at": self.clock.now().unix_seconds(),
        });
        let request = request.to_string();
        self.keys.seal_state("authorization request", &[ISSUER], request.as_bytes())
    }

    pub(in crate::sign_in) fn browser(&self) -> Browser<'_> {
        Browser { pages: self, cookies: BTreeMap::new(), csrf: String::new(), last: 1 }
    }

    /// Returns the records of these kinds.
    pub(in crate::sign_in) fn recorded(&self, kinds: &[&str]) -> Vec<Value> {
        let records = self.records.lines();
        let records = records.iter().map(|line| line.parse::<Value>().unwrap());
        records.filter(|record| kinds.contains(&record["kind"].as_str().unwrap())).collect()
    }
}

/// A browser: cookies, and the token of the last form that it received.
pub(in crate::sign_in) struct Browser<'p> {
    pages: &'p TestPages,
    pub(in crate::sign_in) cookies: BTreeMap<String, String>,
    pub(in crate::sign_in) csrf: String,
    /// Last part of its address.
    pub(in crate::sign_in) last: u8,
}

impl Browser<'_> {
    pub(in crate::sign_in) async fn get(&mut self, path: &str) -> Response<Bytes> {
        self.send(Request::get(path), Bytes::new()).await
    }

    /// Sends a form with the token of the last page, as a page of the site does.
    pub(in crate::sign_in) async fn post(
        &mut self,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Response<Bytes> {
        let csrf = self.csrf.clone();
        let fields: Vec<_> = fields.iter().copied().chain([("csrf", &*csrf)]).collect();
        self.post_from(path, &fields, &[("sec-fetch-site", "same-origin")]).await
    }

    /// Sends a form with these headers.
    pub(in crate::sign_in) async fn post_from(
        &mut self,
        path: &str,
        fields: &[(&str, &str)],
        headers: &[(&'static str, &str)],
    ) -> Response<Bytes> {
        let mut request =
            Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(HeaderName::from_static(name), *value);
        }
        let pairs = fields.iter().map(|(name, value)| format!("{name}={}", escaped(value)));
        let body = pairs.collect::<Vec<_>>().join("&");
        self.send(request, body.into()).await
    }

    pub(in crate::sign_in) async fn sign_in(&mut self, user: &str) -> Response<Bytes> {
        self.get("/sign-in").await;
        self.post("/sign-in", &[("user", user), ("password", PASSWORD)]).await
    }

    pub(in crate::sign_in) async fn is_signed_in(&mut self) -> bool {
        self.get("/connections").await.status() == StatusCode::OK
    }

    async fn send(&mut self, request: http::request::Builder, body: Bytes) -> Response<Bytes> {
        let mut request = request;
        if !self.cookies.is_empty() {
            let pairs = self.cookies.iter().map(|(name, value)| format!("{name}={value}"));
            let cookies = pairs.collect::<Vec<_>>().join("; ");
            request = request.header(header::COOKIE, cookies);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let peer: SocketAddr = ([192, 0, 2, self.last], 50_000).into();
        parts.extensions.insert(peer);
        let request = BrowserRequest::new(&parts, &body, RequestId::from_bits([7; 16]));
        let response = self.pages.pages.respond(&request).await.expect("a page");
        for cookie in response.headers().get_all(header::SET_COOKIE) {
            self.keep(cookie);
        }
        if let Some(token) = field(&text(&response), "csrf") {
            self.csrf = token;
        }
        assert!(is_hardened(&parts.method, &response), "{response:?}");
        response
    }

    fn keep(&mut self, cookie: &HeaderValue) {
        let (name, rest) = cookie.to_str().unwrap().split_once('=').unwrap();
        let value = rest.split(';').next().unwrap();
        if value.is_empty() {
            self.cookies.remove(name);
        } else {
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
    }
}

/// Whether a response has the headers that each has.
fn is_hardened(_method: &Method, response: &Response<Bytes>) -> bool {
    let has = |name: HeaderName, value: &str| {
        response.headers().get(name).is_some_and(|found| found == value)
    };
    let is_style = has(header::CONTENT_TYPE, "text/css; charset=utf-8");
    is_style
        || (has(header::CACHE_CONTROL, "no-store")
            && has(header::REFERRER_POLICY, "same-origin")
            && has(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
}

#[expect(clippy::disallowed_methods, reason = "a browser opens the link")]
pub(in crate::sign_in) fn exposed(secret: &Secret) -> String {
    secret.expose_text().unwrap().to_owned()
}

pub(in crate::sign_in) fn text(response: &Response<Bytes>) -> String {
    String::from_utf8(response.body().to_vec()).unwrap()
}

pub(in crate::sign_in) fn location(response: &Response<Bytes>) -> &str {
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    response.headers()[header::LOCATION].to_str().unwrap()
}

/// Returns the value of the first hidden field with this name.
pub(in crate::sign_in) fn field(page: &str, name: &str) -> Option<String> {
    let (_, rest) = page.split_once(&format!("name=\"{name}\" value=\""))?;
    rest.split('"').next().map(str::to_owned)
}

fn escaped(value: &str) -> String {
    value.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
