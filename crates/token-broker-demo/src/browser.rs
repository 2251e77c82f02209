//! A user's browser, in which the user signs in, allows the client, and connects accounts.

use std::{collections::BTreeMap, net::SocketAddr};

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    DemoError, form,
    raw_http::{Response, exchange},
    sign_in::{CLIENT_ID, Login, REDIRECT_URI, VERIFIER},
};

/// A browser. It keeps its cookies, so that the user signs in once.
pub(crate) struct Browser {
    /// The listener of the broker.
    broker: SocketAddr,
    /// The public origin of the broker.
    origin: String,
    login: Login,
    cookies: BTreeMap<String, String>,
    pages: Vec<String>,
}

/// The decision of the user on the page that offers to connect an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Account {
    Connect,
    Later,
}

/// A page, or a redirect to the client.
struct Page {
    /// The origin that it is from.
    at: String,
    response: Response,
}

impl Page {
    fn has(&self, text: &str) -> bool {
        self.response.body().contains(text)
    }

    fn without(&self, what: &str) -> DemoError {
        let (status, at) = (self.response.status, &self.at);
        DemoError::new(format!("no {what} on a page of status {status} at {at}"))
    }
}

impl Browser {
    pub(crate) const fn new(broker: SocketAddr, origin: String, login: Login) -> Self {
        Self { broker, origin, login, cookies: BTreeMap::new(), pages: Vec::new() }
    }

    /// Returns all pages of the broker so far, with their headers.
    pub(crate) fn pages(&self) -> Vec<String> {
        self.pages.clone()
    }

    /// Opens the client's authorization request, signs in if needed, allows it, connects the
    /// account if the server needs one, and returns the code that the browser brings to the client.
    pub(crate) async fn allow(
        &mut self,
        (server, scopes): (&str, &str),
        account: Account,
    ) -> Result<String, DemoError> {
        let challenge = digest::digest(&digest::SHA256, VERIFIER.as_bytes());
        let query = form::encode(&[
            ("response_type", "code"),
            ("client_id", CLIENT_ID),
            ("redirect_uri", REDIRECT_URI),
            ("code_challenge", &URL_SAFE_NO_PAD.encode(challenge)),
            ("code_challenge_method", "S256"),
            ("resource", server),
            ("scope", scopes),
        ]);
        let page = self.signed_in(&format!("{}/oauth/authorize?{query}", self.origin)).await?;
        let mut page = self.submit(&page, "", &[("decision", "allow")]).await?;
        if page.has("value=\"connect\"") {
            page = match account {
                Account::Connect => self.connect(&page).await?,
                Account::Later => self.continue_without(&page).await?,
            };
        }
        let code = page.response.header("location").and_then(|location| {
            let query = location.strip_prefix(REDIRECT_URI)?.strip_prefix('?')?;
            query.split('&').find_map(|pair| pair.strip_prefix("code="))
        });
        code.map(str::to_owned).ok_or_else(|| page.without("code"))
    }

    /// Opens a link of the broker to connect an account, and connects it.
    pub(crate) async fn follow(&mut self, link: &str) -> Result<(), DemoError> {
        let page = self.signed_in(link).await?;
        let page = self.connect(&page).await?;
        let is_connected = page.has("Your account is connected");
        is_connected.then_some(()).ok_or_else(|| page.without("connected account"))
    }

    /// Disconnects an account on the page of connections.
    pub(crate) async fn disconnect(&mut self, server: &str) -> Result<(), DemoError> {
        let page = self.signed_in(&format!("{}/connections", self.origin)).await?;
        let of_server = format!("value=\"{server}\"");
        let page = self.submit(&page, &of_server, &[("action", "disconnect")]).await?;
        let has_ended = page.has("Your account is disconnected");
        has_ended.then_some(()).ok_or_else(|| page.without("disconnected account"))
    }

    /// Allows access on the page of an upstream, for a client without the broker.
    pub(crate) async fn allow_at_upstream(&mut self, url: &str) -> Result<(), DemoError> {
        let page = self.visit(url, None, "none").await?;
        self.submit(&page, "", &[("decision", "allow")]).await.map(drop)
    }

    /// Leaves a page of the broker for the upstream, allows the access there, and comes back.
    async fn connect(&mut self, page: &Page) -> Result<Page, DemoError> {
        let there = self.submit(page, "value=\"connect\"", &[("action", "connect")]).await?;
        self.submit(&there, "value=\"allow\"", &[("decision", "allow")]).await
    }

    async fn continue_without(&mut self, page: &Page) -> Result<Page, DemoError> {
        let (_, rest) = page
            .response
            .body()
            .split_once("\"/oauth/allowed?")
            .ok_or_else(|| page.without("way to continue"))?;
        let query = rest.split('"').next().unwrap_or_default().to_owned();
        self.visit(&format!("{}/oauth/allowed?{query}", self.origin), None, "same-origin").await
    }

    /// Opens a page, and signs in if it requires that.
    async fn signed_in(&mut self, url: &str) -> Result<Page, DemoError> {
        let page = self.visit(url, None, "none").await?;
        if !page.has("name=\"password\"") {
            return Ok(page);
        }
        let (user, password) = (self.login.user, self.login.password.clone());
        self.submit(&page, "", &[("user", user), ("password", &password)]).await
    }

    /// Sends the last form of a page that contains this text.
    async fn submit(
        &mut self,
        page: &Page,
        text: &str,
        values: &[(&str, &str)],
    ) -> Result<Page, DemoError> {
        let form = form::with_text(page.response.body(), text);
        let form = form.ok_or_else(|| page.without("form"))?;
        let hidden = form.hidden.iter().map(|(name, value)| (&**name, &**value));
        let fields: Vec<_> = hidden.chain(values.iter().copied()).collect();
        let url = absolute(&page.at, &form.action);
        self.visit(&url, Some(form::encode(&fields)), "same-origin").await
    }

    /// Opens a page, and follows redirects up to the client.
    async fn visit(
        &mut self,
        url: &str,
        mut body: Option<String>,
        site: &'static str,
    ) -> Result<Page, DemoError> {
        let (mut url, mut site) = (url.to_owned(), site);
        for _ in 0..10 {
            let page = self.send(&url, body.as_deref(), site).await?;
            let location = page.response.header("location").map(str::to_owned);
            let Some(location) = location.filter(|to| !to.starts_with(REDIRECT_URI)) else {
                return Ok(page);
            };
            url = absolute(&page.at, &location);
            body = None;
            if !url.starts_with(&page.at) {
                site = "cross-site";
            }
        }
        Err(DemoError::new("too many redirects"))
    }

    async fn send(&mut self, url: &str, body: Option<&str>, site: &str) -> Result<Page, DemoError> {
        let outside = || DemoError::new(format!("a page led away from the demo: {url}"));
        let rest = url.strip_prefix("http://").ok_or_else(outside)?;
        let (host, path) = rest.split_once('/').ok_or_else(outside)?;
        let (at, target) = (format!("http://{host}"), format!("/{path}"));
        let is_broker = at == self.origin;
        let to = if is_broker { self.broker } else { host.parse().map_err(|_| outside())? };
        let mut fields = vec![("sec-fetch-site", site.to_owned())];
        if is_broker {
            let cookies = self.cookies.iter().map(|(name, value)| format!("{name}={value}"));
            fields.push(("cookie", cookies.collect::<Vec<_>>().join("; ")));
        }
        if body.is_some() {
            fields.push(("origin", at.clone()));
        }
        let response = exchange(to, &target, &fields, body).await?;
        if is_broker {
            let set = response.headers("set-cookie").filter_map(|cookie| {
                let (pair, _) = cookie.split_once(';')?;
                pair.split_once('=')
            });
            self.cookies.extend(set.map(|(name, value)| (name.to_owned(), value.to_owned())));
            self.pages.push(response.text.clone());
        }
        Ok(Page { at, response })
    }
}

fn absolute(at: &str, target: &str) -> String {
    if target.starts_with('/') { format!("{at}{target}") } else { target.to_owned() }
}
