//! A person with a browser, and an application that requests access, both by raw HTTP.

use std::{collections::BTreeMap, fmt::Write as _, net::SocketAddr};

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::wire::{self, RawResponse};

/// A browser: its cookies.
#[derive(Debug)]
pub struct Browser {
    address: SocketAddr,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    /// Creates a browser for a gateway at this address.
    pub fn at(address: SocketAddr) -> Self {
        Self { address, cookies: BTreeMap::new() }
    }

    /// Opens a page of the gateway, and follows its redirects. A redirect elsewhere is returned.
    pub async fn open(&mut self, target: &str) -> Page {
        self.visit("GET", target, "", "none").await
    }

    /// Opens a page that another site leads to.
    pub async fn open_from_elsewhere(&mut self, target: &str) -> Page {
        self.visit("GET", target, "", "cross-site").await
    }

    /// Sends the form of a page with these values.
    pub async fn submit(&mut self, page: &Page, values: &[(&str, &str)]) -> Page {
        let (action, mut form) = page.form();
        form.extend(values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self.visit("POST", &action, &encode(&form), "same-origin").await
    }

    /// Sends the form of a page that contains this text, with these values.
    pub async fn submit_form(&mut self, page: &Page, text: &str, values: &[(&str, &str)]) -> Page {
        let (action, mut form) = page.form_with(text);
        form.extend(values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self.visit("POST", &action, &encode(&form), "same-origin").await
    }

    async fn visit(&mut self, method: &str, target: &str, body: &str, site: &str) -> Page {
        let (mut method, mut target, mut body) = (method, target.to_owned(), body.to_owned());
        for _ in 0..10 {
            let response = self.send(method, &target, &body, site).await;
            match response.header("location").map(str::to_owned) {
                Some(location) if location.starts_with('/') => {
                    (method, target, body) = ("GET", location, String::new());
                }
                location => return Page { response, location },
            }
        }
        panic!("too many redirects, the last one to {target}");
    }

    async fn send(&mut self, method: &str, target: &str, body: &str, site: &str) -> RawResponse {
        let here = self.address;
        let cookies: Vec<_> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = format!(
            "{method} {target} HTTP/1.1\r\nhost: {here}\r\nconnection: close\r\n\
             sec-fetch-site: {site}\r\ncookie: {}\r\n",
            cookies.join("; ")
        );
        if method == "POST" {
            let length = body.len();
            write!(
                request,
                "origin: http://{here}\r\ncontent-type: application/x-www-form-urlencoded\r\n\
                 content-length: {length}\r\n"
            )
            .expect("as expected");
        }
        let response = wire::send(here, format!("{request}\r\n{body}").as_bytes()).await;
        for (name, value) in &response.headers {
            if name == "set-cookie" {
                let (cookie, _) = value.split_once(';').expect("as expected");
                let (name, value) = cookie.split_once('=').expect("as expected");
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        response
    }

    /// Opens an authorization request, signs in if needed, and returns the page that requests
    /// consent.
    pub async fn sign_in(&mut self, target: &str, user: &str, password: &str) -> Page {
        let page = self.open_from_elsewhere(target).await;
        if !page.has("name=\"password\"") {
            return page;
        }
        self.submit(&page, &[("user", user), ("password", password)]).await
    }

    /// Signs in if that is asked, allows access, and returns where the browser is sent.
    ///
    /// # Panics
    /// No consent page, or no redirect.
    pub async fn allow(&mut self, target: &str, user: &str, password: &str) -> String {
        let page = self.sign_in(target, user, password).await;
        assert!(page.has("value=\"allow\""), "{}", page.text());
        let page = self.submit(&page, &[("decision", "allow")]).await;
        page.location.clone().unwrap_or_else(|| panic!("no redirect: {}", page.text()))
    }
}

/// A page, or the redirect to another site.
#[derive(Debug)]
#[non_exhaustive]
pub struct Page {
    /// The response.
    pub response: RawResponse,
    /// The target of a redirect to another site.
    pub location: Option<String>,
}

impl Page {
    /// Returns the body as text.
    pub fn text(&self) -> &str {
        self.response.text()
    }

    /// Returns whether the page contains a text.
    pub fn has(&self, text: &str) -> bool {
        self.text().contains(text)
    }

    /// Returns the action of the last form, and its hidden fields.
    fn form(&self) -> (String, Vec<(String, String)>) {
        let (_, form) = self.text().rsplit_once("<form ").expect("a form");
        fields_of(form)
    }

    /// Returns the action of the first form that contains this text, and its hidden fields.
    fn form_with(&self, text: &str) -> (String, Vec<(String, String)>) {
        let mut forms = self.text().split("<form ").skip(1);
        let of = |form: &&str| form.split("</form>").next().is_some_and(|form| form.contains(text));
        let form = forms.find(of).unwrap_or_else(|| panic!("no form has {text:?}"));
        fields_of(form.split("</form>").next().unwrap_or_default())
    }
}

fn fields_of(form: &str) -> (String, Vec<(String, String)>) {
    let fields = form.split("<input ").filter(|input| input.starts_with("type=\"hidden\""));
    let fields =
        fields.map(|input| (attribute(input, "name"), attribute(input, "value"))).collect();
    (attribute(form, "action"), fields)
}

fn attribute(tag: &str, name: &str) -> String {
    let (_, rest) = tag.split_once(&format!("{name}=\"")).expect("the attribute");
    let (value, _) = rest.split_once('"').expect("as expected");
    value.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// An application: a public client on this machine.
#[derive(Debug)]
#[non_exhaustive]
pub struct App {
    address: SocketAddr,
    /// Its client ID.
    pub client_id: String,
    verifier: String,
}

/// The tokens of an application.
#[derive(Debug)]
#[non_exhaustive]
pub struct Tokens {
    /// The access token.
    pub access: String,
    /// The refresh token.
    pub refresh: String,
}

const REDIRECT: &str = "http://127.0.0.1:33418/callback";

impl App {
    /// Registers it.
    ///
    /// # Panics
    /// It is refused.
    pub async fn register(address: SocketAddr, name: &str) -> Self {
        let body = json!({
            "client_name": name,
            "redirect_uris": ["http://127.0.0.1/callback"],
            "token_endpoint_auth_method": "none",
        });
        let request = wire::post("/oauth/register", &address.to_string(), &[], &body.to_string());
        let response = wire::send(address, &request).await;
        assert_eq!(response.status, 201, "{}", response.text());
        Self::known(address, response.json()["client_id"].as_str().expect("as expected"))
    }

    /// An application that has an ID.
    pub fn known(address: SocketAddr, client_id: &str) -> Self {
        let verifier = "a-verifier-of-at-least-forty-three-characters".to_owned();
        Self { address, client_id: client_id.to_owned(), verifier }
    }

    /// Returns the authorization request, as the target of a request.
    pub fn authorization(&self, server: &str) -> String {
        let digest = digest::digest(&digest::SHA256, self.verifier.as_bytes());
        let pairs = [
            ("response_type", "code".to_owned()),
            ("client_id", self.client_id.clone()),
            ("redirect_uri", REDIRECT.to_owned()),
            ("code_challenge", URL_SAFE_NO_PAD.encode(digest)),
            ("code_challenge_method", "S256".to_owned()),
            ("resource", format!("http://{}/{server}/mcp", self.address)),
            ("state", "xyz".to_owned()),
        ];
        let pairs: Vec<_> = pairs.map(|(name, value)| (name.to_owned(), value)).to_vec();
        format!("/oauth/authorize?{}", encode(&pairs))
    }

    /// Redeems the code of a redirect.
    ///
    /// # Panics
    /// There is no code, or it is refused.
    pub async fn redeem(&self, location: &str) -> Tokens {
        let (to, query) = location.split_once('?').expect("as expected");
        assert_eq!(to, REDIRECT);
        let code = query.split('&').find_map(|pair| pair.strip_prefix("code="));
        let code = code.unwrap_or_else(|| panic!("no code: {location}"));
        let response = self
            .token(&[
                ("grant_type", "authorization_code"),
                ("code", code),
                ("redirect_uri", REDIRECT),
                ("code_verifier", &self.verifier),
            ])
            .await;
        assert_eq!(response.status, 200, "{}", response.text());
        Tokens::of(&response.json())
    }

    /// Refreshes, and returns the new tokens or the error.
    ///
    /// # Errors
    /// The error code of the response.
    pub async fn refresh(&self, refresh_token: &str) -> Result<Tokens, String> {
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
        let response = self.token(&form).await;
        let body = response.json();
        match response.status {
            200 => Ok(Tokens::of(&body)),
            _ => Err(body["error"].as_str().unwrap_or_default().to_owned()),
        }
    }

    /// Revokes a token (RFC 7009).
    ///
    /// # Panics
    /// It is refused.
    pub async fn revoke(&self, token: &str) {
        let response = self.post("/oauth/revoke", &[("token", token)]).await;
        assert_eq!(response.status, 200, "{}", response.text());
    }

    async fn token(&self, form: &[(&str, &str)]) -> RawResponse {
        self.post("/oauth/token", form).await
    }

    async fn post(&self, path: &str, form: &[(&str, &str)]) -> RawResponse {
        let mut pairs = vec![("client_id".to_owned(), self.client_id.clone())];
        pairs.extend(form.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let fields = [("content-type", "application/x-www-form-urlencoded")];
        let host = self.address.to_string();
        wire::send(self.address, &wire::post(path, &host, &fields, &encode(&pairs))).await
    }

    /// Asks a person for access to a server, and obtains the tokens.
    pub async fn connect(
        &self,
        browser: &mut Browser,
        server: &str,
        (user, password): (&str, &str),
    ) -> Tokens {
        let location = browser.allow(&self.authorization(server), user, password).await;
        self.redeem(&location).await
    }
}

impl Tokens {
    fn of(body: &Value) -> Self {
        let text = |member: &str| body[member].as_str().expect("as expected").to_owned();
        Self { access: text("access_token"), refresh: text("refresh_token") }
    }
}

fn encode(pairs: &[(String, String)]) -> String {
    let of = |text: &str| {
        text.bytes().fold(String::new(), |mut encoded, byte| {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    encoded.push(char::from(byte));
                }
                _ => write!(encoded, "%{byte:02X}").expect("as expected"),
            }
            encoded
        })
    };
    let pairs: Vec<_> =
        pairs.iter().map(|(name, value)| format!("{}={}", of(name), of(value))).collect();
    pairs.join("&")
}
