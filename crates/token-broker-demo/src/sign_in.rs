//! Alice's browser, in which she signs in and allows the client, and the client's token request.

use std::{collections::BTreeMap, net::SocketAddr};

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use token_broker_authority::sign_in::{Password, Passwords, PasswordsOptions, new_subject};
use token_broker_store::authority::{
    AccountCreation, AccountStore as _, MemoryAuthority, NewAccount, UserName,
};
use tower_token_broker::{Secret, clock::Clock};

use crate::{
    DemoError,
    raw_http::{Response, exchange},
};

/// The ID of the client.
pub(crate) const CLIENT_ID: &str = "demo-client";
/// The redirect URI of the client. No one listens there: the demo reads where it leads.
pub(crate) const REDIRECT_URI: &str = "http://127.0.0.1/callback";
/// The path of the token endpoint.
pub(crate) const TOKEN_PATH: &str = "/oauth/token";

const USER: &str = "alice";
const PASSWORD: &str = "four words of a demo";
/// The proof that the one who redeems a code is the one who requested it (RFC 7636).
const VERIFIER: &str = "the-demo-keeps-no-secret-so-this-one-is-fixed";

/// Creates alice's account, and returns her subject.
pub(crate) async fn create_alice(store: &MemoryAuthority) -> Result<Box<str>, DemoError> {
    let name = UserName::parse(USER).map_err(DemoError::new)?;
    let password = Password::new(PASSWORD, USER).map_err(DemoError::new)?;
    let hash = Passwords::new(PasswordsOptions::default()).hash(&password).await;
    let hash = Secret::from_text(hash.map_err(DemoError::new)?);
    let account = NewAccount::new(&new_subject(), name, hash, Clock::system().now());
    match store.create_account(&account).await.map_err(DemoError::new)? {
        AccountCreation::Created(account) => Ok(account.subject),
        AccountCreation::NameTaken => Err(DemoError::new("alice has an account already")),
    }
}

/// Alice's browser. It keeps its cookies, so that she signs in once.
pub(crate) struct Browser {
    /// The listener of the broker.
    to: SocketAddr,
    /// The public origin.
    origin: String,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    pub(crate) const fn new(to: SocketAddr, origin: String) -> Self {
        Self { to, origin, cookies: BTreeMap::new() }
    }

    /// Opens the client's authorization request, signs in if needed, allows it, and returns the
    /// code that the browser brings to the client.
    pub(crate) async fn allow(&mut self, server: &str, scopes: &str) -> Result<String, DemoError> {
        let challenge = digest::digest(&digest::SHA256, VERIFIER.as_bytes());
        let query = form(&[
            ("response_type", "code"),
            ("client_id", CLIENT_ID),
            ("redirect_uri", REDIRECT_URI),
            ("code_challenge", &URL_SAFE_NO_PAD.encode(challenge)),
            ("code_challenge_method", "S256"),
            ("resource", server),
            ("scope", scopes),
        ]);
        let mut page = self.open(&format!("/oauth/authorize?{query}"), None).await?;
        if page.text.contains("name=\"password\"") {
            page = self.submit(&page, &[("user", USER), ("password", PASSWORD)]).await?;
        }
        page = self.submit(&page, &[("decision", "allow")]).await?;
        let code = page.header("location").and_then(|location| {
            let query = location.strip_prefix(REDIRECT_URI)?.strip_prefix('?')?;
            query.split('&').find_map(|pair| pair.strip_prefix("code="))
        });
        code.map(str::to_owned)
            .ok_or_else(|| DemoError::new(format!("no code came back, but status {}", page.status)))
    }

    /// Sends the form of a page.
    async fn submit(
        &mut self,
        page: &Response,
        values: &[(&str, &str)],
    ) -> Result<Response, DemoError> {
        let broken = || DemoError::new(format!("no form on a page of status {}", page.status));
        let (_, html) = page.text.rsplit_once("<form ").ok_or_else(broken)?;
        let action = attribute(html, "action").ok_or_else(broken)?;
        let hidden = html.split("<input ").filter(|input| input.starts_with("type=\"hidden\""));
        let mut fields: Vec<_> = hidden
            .filter_map(|input| Some((attribute(input, "name")?, attribute(input, "value")?)))
            .collect();
        fields.extend(values.iter().copied());
        let body = form(&fields);
        self.open(action, Some(&body)).await
    }

    /// Opens a page, and follows redirects within the broker.
    async fn open(&mut self, target: &str, body: Option<&str>) -> Result<Response, DemoError> {
        let (mut target, mut body) = (target.to_owned(), body.map(str::to_owned));
        for _ in 0..5 {
            let page = self.send(&target, body.as_deref()).await?;
            match page.header("location").filter(|location| location.starts_with('/')) {
                Some(location) => (target, body) = (location.to_owned(), None),
                None => return Ok(page),
            }
        }
        Err(DemoError::new("too many redirects"))
    }

    async fn send(&mut self, target: &str, body: Option<&str>) -> Result<Response, DemoError> {
        let cookies: Vec<_> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut fields = vec![
            ("cookie", cookies.join("; ")),
            ("sec-fetch-site", if body.is_some() { "same-origin" } else { "none" }.to_owned()),
        ];
        if body.is_some() {
            fields.push(("origin", self.origin.clone()));
        }
        let page = exchange(self.to, target, &fields, body).await?;
        let set = page.headers("set-cookie").filter_map(|cookie| {
            let (pair, _) = cookie.split_once(';')?;
            pair.split_once('=')
        });
        self.cookies.extend(set.map(|(name, value)| (name.to_owned(), value.to_owned())));
        Ok(page)
    }
}

/// Redeems a code at the token endpoint, as the client does, for its broker token.
pub(crate) async fn redeem(to: SocketAddr, code: &str) -> Result<String, DemoError> {
    let body = form(&[
        ("grant_type", "authorization_code"),
        ("client_id", CLIENT_ID),
        ("code", code),
        ("redirect_uri", REDIRECT_URI),
        ("code_verifier", VERIFIER),
    ]);
    let response = exchange(to, TOKEN_PATH, &[], Some(&body)).await?;
    let token = response.text.split_once("\r\n\r\n").and_then(|(_, body)| {
        let body: Value = body.parse().ok()?;
        Some(body.get("access_token")?.as_str()?.to_owned())
    });
    token.ok_or_else(|| DemoError::new(format!("no token came back, but {}", response.status)))
}

/// Returns an attribute of a tag. The values that are read here need no unescaping.
fn attribute<'t>(tag: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = tag.split_once(&format!("{name}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

fn form(pairs: &[(&str, &str)]) -> String {
    let encoded = |text: &str| -> String {
        let of = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        };
        text.bytes().map(of).collect()
    };
    let pairs: Vec<_> =
        pairs.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    pairs.join("&")
}
