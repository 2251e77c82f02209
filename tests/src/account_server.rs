//! An MCP server that accepts only tokens of its own authorization server, which users sign in to.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Response, StatusCode};
use parking_lot::Mutex;
use serde_json::json;
use url::{Url, form_urlencoded};

use crate::upstream::{Received, ScriptedBody, ScriptedServer, full, json as json_response};

/// The server, with what its authorization server did.
#[derive(Debug)]
#[non_exhaustive]
pub struct AccountServer {
    /// The server itself.
    pub server: ScriptedServer,
    state: Arc<Mutex<State>>,
}

/// Settings that a test changes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Behaviour {
    /// Scopes that are granted, in place of those that were requested.
    pub grants: Option<String>,
    /// Lifetime of access tokens in seconds.
    pub lifetime: u64,
    /// Status of the revocation endpoint.
    pub revocation: u16,
    /// Members of the metadata that replace others.
    pub metadata: serde_json::Value,
    /// Members of the metadata of the server that replace others.
    pub resource: serde_json::Value,
    /// The place of the metadata in the challenge of the server.
    pub challenge: Option<String>,
    /// Whether it has only MCP 2026-07-28, without `initialize`.
    pub is_without_initialize: bool,
    /// Whether it responds to each call that the token has too few scopes.
    pub requires_more_scopes: bool,
    /// When the secrets of registered clients end, in Unix seconds; 0 means never.
    pub secret_expires_at: u64,
    /// The response of the token endpoint, in place of tokens.
    pub token_response: Option<(u16, String)>,
}

#[derive(Debug)]
struct State {
    behaviour: Behaviour,
    codes: BTreeMap<String, Code>,
    /// The refresh tokens that are valid, with their scopes.
    refresh_tokens: BTreeMap<String, String>,
    access_tokens: Vec<String>,
    log: Vec<String>,
    count: usize,
}

#[derive(Clone, Debug)]
struct Code {
    challenge: String,
    redirect_uri: String,
    client: String,
    scope: String,
    resource: Option<String>,
}

/// An authorize request, as the browser brings it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuthorizeRequest {
    /// Its parameters.
    pub query: BTreeMap<String, String>,
}

impl AuthorizeRequest {
    /// Reads the target of a redirect.
    ///
    /// # Panics
    /// It is no URL.
    pub fn of(location: &str) -> Self {
        let url = Url::parse(location).expect("a URL");
        Self { query: url.query_pairs().into_owned().collect() }
    }

    /// Returns a parameter.
    pub fn get(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }
}

impl AccountServer {
    /// Starts the server.
    ///
    /// # Panics
    /// No loopback port is available.
    pub async fn start() -> Self {
        let state = Arc::new(Mutex::new(State {
            behaviour: Behaviour {
                grants: None,
                lifetime: 3600,
                revocation: 200,
                metadata: json!({}),
                resource: json!({}),
                challenge: None,
                is_without_initialize: false,
                requires_more_scopes: false,
                secret_expires_at: 0,
                token_response: None,
            },
            codes: BTreeMap::new(),
            refresh_tokens: BTreeMap::new(),
            access_tokens: Vec::new(),
            log: Vec::new(),
            count: 0,
        }));
        let base = Arc::new(OnceLock::<String>::new());
        let (known, shared) = (Arc::clone(&base), Arc::clone(&state));
        let server = ScriptedServer::start(move |received| {
            let base = known.get().map_or("", String::as_str);
            shared.lock().respond(base, received)
        })
        .await;
        base.set(server.url("")).expect("set once");
        Self { server, state }
    }

    /// Changes how it behaves.
    pub fn change(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.state.lock().behaviour);
    }

    /// The user signs in and agrees. Returns the target of the callback, on the broker.
    ///
    /// # Panics
    /// The request has no redirect URI.
    pub fn agree(&self, location: &str) -> String {
        let request = AuthorizeRequest::of(location);
        let mut state = self.state.lock();
        state.count += 1;
        let code = format!("code-{:04}-of-the-account-server", state.count);
        state.log.push(format!("authorize {}", request.get("scope")));
        let issued = Code {
            challenge: request.get("code_challenge").to_owned(),
            redirect_uri: request.get("redirect_uri").to_owned(),
            client: request.get("client_id").to_owned(),
            scope: request.get("scope").to_owned(),
            resource: request.query.get("resource").cloned(),
        };
        let mut callback = Url::parse(&issued.redirect_uri).expect("a redirect URI");
        callback.query_pairs_mut().append_pair("code", &code);
        callback.query_pairs_mut().append_pair("state", request.get("state"));
        callback.query_pairs_mut().append_pair("iss", &self.server.url(""));
        state.codes.insert(code, issued);
        target(&callback)
    }

    /// The user declines. Returns the target of the callback.
    ///
    /// # Panics
    /// The request has no redirect URI.
    pub fn decline(&self, location: &str) -> String {
        let request = AuthorizeRequest::of(location);
        let mut callback = Url::parse(request.get("redirect_uri")).expect("a redirect URI");
        callback
            .query_pairs_mut()
            .append_pair("error", "access_denied")
            .append_pair("error_description", "<script>alert(1)</script>")
            .append_pair("state", request.get("state"))
            .append_pair("iss", &self.server.url(""));
        target(&callback)
    }

    /// Returns what it did, one line each: `register`, `authorize SCOPES`, `code SCOPES`,
    /// `refresh SCOPES`, `revoke HINT`.
    pub fn log(&self) -> Vec<String> {
        self.state.lock().log.clone()
    }

    /// Returns all tokens that it issued.
    pub fn issued(&self) -> Vec<String> {
        let state = self.state.lock();
        (1..=state.count).flat_map(|count| [access_token(count), refresh_token(count)]).collect()
    }
}

fn target(callback: &Url) -> String {
    format!("{}?{}", callback.path(), callback.query().unwrap_or_default())
}

fn access_token(count: usize) -> String {
    format!("up-at-{count:04}-b1946ac92492d2347c6235b4d2611184")
}

fn refresh_token(count: usize) -> String {
    format!("up-rt-{count:04}-591785b794601e212b260e25925636fd")
}

impl State {
    fn respond(&mut self, base: &str, received: &Received) -> Response<ScriptedBody> {
        let path = received.target.split('?').next().unwrap_or_default();
        match path {
            "/mcp" => self.mcp(base, received),
            "/.well-known/oauth-protected-resource/mcp" => changed(
                json!({
                    "resource": format!("{base}/mcp"),
                    "authorization_servers": [base],
                    "scopes_supported": ["everything", "admin"],
                }),
                &self.behaviour.resource,
            ),
            // The metadata of the host.
            "/.well-known/oauth-protected-resource" => json_response(
                &json!({"resource": base, "authorization_servers": [base]}).to_string(),
            ),
            "/.well-known/oauth-authorization-server" => self.metadata(base),
            "/register" => {
                self.log.push("register".to_owned());
                self.count += 1;
                let client = json!({
                    "client_id": format!("registered-{}", self.count),
                    "client_secret": "client-secret-5f4dcc3b5aa765d6",
                    "client_secret_expires_at": self.behaviour.secret_expires_at,
                });
                let mut response = json_response(&client.to_string());
                *response.status_mut() = StatusCode::CREATED;
                response
            }
            "/token" => self.token(received),
            "/revoke" => {
                let form = form(received);
                let hint = form.get("token_type_hint").cloned().unwrap_or_default();
                self.log.push(format!("revoke {hint}"));
                if self.behaviour.revocation == 200 {
                    let token = form.get("token").cloned().unwrap_or_default();
                    self.refresh_tokens.remove(&token);
                    self.access_tokens.retain(|valid| *valid != token);
                }
                status(self.behaviour.revocation, "")
            }
            _ => status(404, ""),
        }
    }

    fn mcp(&self, base: &str, received: &Received) -> Response<ScriptedBody> {
        let bearer = received.values("authorization").pop().unwrap_or_default();
        let token = bearer.strip_prefix("Bearer ").unwrap_or_default();
        let is_initialize = received.body.windows(12).any(|bytes| bytes == b"\"initialize\"");
        if self.behaviour.is_without_initialize && is_initialize {
            return status(400, "");
        }
        let is_valid = self.access_tokens.iter().any(|valid| valid == token);
        if self.behaviour.requires_more_scopes && is_valid {
            let mut response = status(403, "");
            let challenge = "Bearer error=\"insufficient_scope\", scope=\"admin\"";
            let challenge = challenge.parse().expect("a header value");
            response.headers_mut().insert("www-authenticate", challenge);
            return response;
        }
        if is_valid {
            return json_response(r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#);
        }
        let usual = || format!("{base}/.well-known/oauth-protected-resource/mcp");
        let metadata = self.behaviour.challenge.clone().unwrap_or_else(usual);
        let mut response = status(401, "");
        let challenge = format!("Bearer resource_metadata=\"{metadata}\"");
        let challenge = challenge.parse().expect("a header value");
        response.headers_mut().insert("www-authenticate", challenge);
        response
    }

    fn metadata(&self, base: &str) -> Response<ScriptedBody> {
        let metadata = json!({
            "issuer": base,
            "authorization_endpoint": format!("{base}/authorize"),
            "token_endpoint": format!("{base}/token"),
            "registration_endpoint": format!("{base}/register"),
            "revocation_endpoint": format!("{base}/revoke"),
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": true,
            "scopes_supported": ["everything", "admin"],
        });
        changed(metadata, &self.behaviour.metadata)
    }

    fn token(&mut self, received: &Received) -> Response<ScriptedBody> {
        let form = form(received);
        let get = |name: &str| form.get(name).cloned().unwrap_or_default();
        let scope = match get("grant_type").as_str() {
            "authorization_code" => {
                let Some(code) = self.codes.remove(&get("code")) else {
                    return status(400, r#"{"error":"invalid_grant"}"#);
                };
                let digest = digest::digest(&digest::SHA256, get("code_verifier").as_bytes());
                let is_right = code.challenge == URL_SAFE_NO_PAD.encode(digest)
                    && code.redirect_uri == get("redirect_uri")
                    && code.resource == form.get("resource").cloned()
                    && has_client(received, &form, &code.client);
                if !is_right {
                    return status(400, r#"{"error":"invalid_request"}"#);
                }
                self.log.push(format!("code {}", code.scope));
                code.scope
            }
            _ => {
                let Some(scope) = self.refresh_tokens.remove(&get("refresh_token")) else {
                    return status(400, r#"{"error":"invalid_grant"}"#);
                };
                self.log.push(format!("refresh {}", get("scope")));
                scope
            }
        };
        if let Some((code, body)) = &self.behaviour.token_response {
            return status(*code, body);
        }
        self.count += 1;
        let (access, refresh) = (access_token(self.count), refresh_token(self.count));
        self.access_tokens.push(access.clone());
        self.refresh_tokens.insert(refresh.clone(), scope.clone());
        let granted = self.behaviour.grants.clone().unwrap_or(scope);
        json_response(
            &json!({
                "access_token": access,
                "refresh_token": refresh,
                "token_type": "Bearer",
                "expires_in": self.behaviour.lifetime,
                "scope": granted,
            })
            .to_string(),
        )
    }
}

/// Responds with a document in which some members are replaced.
fn changed(mut document: serde_json::Value, by: &serde_json::Value) -> Response<ScriptedBody> {
    if let (Some(all), Some(by)) = (document.as_object_mut(), by.as_object()) {
        all.extend(by.clone());
    }
    json_response(&document.to_string())
}

fn has_client(received: &Received, form: &BTreeMap<String, String>, client: &str) -> bool {
    let basic = received.values("authorization").pop().is_some_and(|value| value.contains("Basic"));
    basic || form.get("client_id").is_some_and(|id| id == client)
}

fn form(received: &Received) -> BTreeMap<String, String> {
    form_urlencoded::parse(&received.body).into_owned().collect()
}

fn status(code: u16, body: &str) -> Response<ScriptedBody> {
    let mut response = json_response(body);
    *response.status_mut() = StatusCode::from_u16(code).expect("a status");
    *response.body_mut() = full(body.to_owned());
    response
}
