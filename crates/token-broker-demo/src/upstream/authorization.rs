//! The authorization server of an upstream: metadata, registration, a page where the user allows
//! access, tokens and revocation.

use std::collections::BTreeMap;

use axum::{
    Form, Json, Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse as _, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

use super::{
    Upstream,
    accounts::{Code, Issued},
};
use crate::form::{encode, escaped};

type Fields = BTreeMap<String, String>;

/// Returns the endpoints.
pub(super) fn router() -> Router<Upstream> {
    Router::new()
        .route("/.well-known/oauth-protected-resource/mcp", get(resource_metadata))
        .route("/.well-known/oauth-authorization-server", get(metadata))
        .route("/register", post(register))
        .route("/authorize", get(page).post(decision))
        .route("/token", post(token))
        .route("/revoke", post(revoke))
}

/// RFC 9728. It offers more scopes than the operator of the broker wants.
async fn resource_metadata(State(upstream): State<Upstream>) -> Response {
    let what = "protected resource".to_owned();
    upstream.note("metadata", what, "", String::new(), StatusCode::OK);
    let document = json!({
        "resource": upstream.mcp_url(),
        "authorization_servers": [upstream.issuer()],
        "scopes_supported": upstream.kind().every_scope().split(' ').collect::<Vec<_>>(),
    });
    Json(document).into_response()
}

/// RFC 8414.
async fn metadata(State(upstream): State<Upstream>) -> Response {
    let what = "authorization server".to_owned();
    upstream.note("metadata", what, "", String::new(), StatusCode::OK);
    let issuer = upstream.issuer();
    let document = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "registration_endpoint": format!("{issuer}/register"),
        "revocation_endpoint": format!("{issuer}/revoke"),
        "scopes_supported": upstream.kind().every_scope().split(' ').collect::<Vec<_>>(),
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        "revocation_endpoint_auth_methods_supported": ["client_secret_basic"],
        "authorization_response_iss_parameter_supported": true,
    });
    Json(document).into_response()
}

/// RFC 7591.
async fn register(State(upstream): State<Upstream>, Json(request): Json<Value>) -> Response {
    let list = request.get("redirect_uris").and_then(Value::as_array);
    let texts = list.into_iter().flatten().filter_map(Value::as_str);
    let redirect_uris: Vec<_> = texts.map(str::to_owned).collect();
    if redirect_uris.is_empty() {
        let status = StatusCode::BAD_REQUEST;
        upstream.note("register", "client".to_owned(), "", String::new(), status);
        return (status, Json(json!({ "error": "invalid_redirect_uri" }))).into_response();
    }
    let (id, secret) = upstream.accounts.lock().register(redirect_uris.clone());
    upstream.note("register", "client".to_owned(), "", String::new(), StatusCode::CREATED);
    let client = json!({
        "client_id": id,
        "client_secret": secret,
        "client_secret_expires_at": 0,
        "redirect_uris": redirect_uris,
        "token_endpoint_auth_method": "client_secret_basic",
    });
    (StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(client)).into_response()
}

/// The page where the user allows access. A real one would have the user sign in first.
async fn page(State(upstream): State<Upstream>, Query(query): Query<Fields>) -> Response {
    let is_good = is_good(&upstream, &query);
    let status = if is_good { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    let scopes = field(&query, "scope").to_owned();
    upstream.note("authorize", "page".to_owned(), "", scopes.clone(), status);
    if !is_good {
        return (status, "this authorization request cannot be used").into_response();
    }
    let hidden: String = query
        .iter()
        .map(|(name, value)| {
            let (name, value) = (escaped(name), escaped(value));
            format!("<input type=\"hidden\" name=\"{name}\" value=\"{value}\">")
        })
        .collect();
    let title = upstream.kind().title;
    let scopes: String =
        scopes.split(' ').map(|scope| format!("<li>{}</li>", escaped(scope))).collect();
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
         <body style=\"font: 1rem sans-serif; max-width: 30rem; margin: 4rem auto\">\
         <h1>{title}</h1><p>This is the {title} of the demo. A real server would ask you to sign \
         in here.</p><p><strong>token-broker</strong> requests access to your account:</p>\
         <ul>{scopes}</ul><form method=\"post\" action=\"/authorize\">{hidden}\
         <button name=\"decision\" value=\"allow\">Allow</button> \
         <button name=\"decision\" value=\"decline\">Decline</button></form></body></html>"
    );
    ([(header::X_FRAME_OPTIONS, "DENY")], Html(html)).into_response()
}

/// Sends the browser back, with a code if the user allowed it.
async fn decision(State(upstream): State<Upstream>, Form(form): Form<Fields>) -> Response {
    let allows = field(&form, "decision") == "allow";
    let is_good = is_good(&upstream, &form);
    let status = if is_good { StatusCode::SEE_OTHER } else { StatusCode::BAD_REQUEST };
    let scopes = field(&form, "scope").to_owned();
    let what = if allows { "allow" } else { "decline" };
    upstream.note("authorize", what.to_owned(), "", scopes.clone(), status);
    if !is_good {
        return (status, "this authorization request cannot be used").into_response();
    }
    let redirect_uri = field(&form, "redirect_uri").to_owned();
    let issuer = upstream.issuer();
    let (state, iss) = (("state", field(&form, "state")), ("iss", &*issuer));
    let query = if allows {
        let code = upstream.accounts.lock().code(Code {
            client: field(&form, "client_id").to_owned(),
            redirect_uri: redirect_uri.clone(),
            challenge: field(&form, "code_challenge").to_owned(),
            scopes,
        });
        encode(&[("code", &code), state, iss])
    } else {
        encode(&[("error", "access_denied"), state, iss])
    };
    (status, [(header::LOCATION, format!("{redirect_uri}?{query}"))]).into_response()
}

/// RFC 6749 §4.1.3 and §6.
async fn token(
    State(upstream): State<Upstream>,
    headers: HeaderMap,
    Form(form): Form<Fields>,
) -> Response {
    let grant_type = field(&form, "grant_type");
    let response = tokens(&upstream, &headers, &form);
    let status = response.as_ref().err().map_or(StatusCode::OK, |(status, _)| *status);
    let presented = match grant_type {
        "refresh_token" => field(&form, "refresh_token"),
        _ => field(&form, "code"),
    };
    let scopes = response.as_ref().map_or(field(&form, "scope"), |issued| &issued.scopes);
    upstream.note("token", grant_type.to_owned(), presented, scopes.to_owned(), status);
    match response {
        Ok(Issued { access_token, refresh_token, scopes }) => {
            let tokens = json!({
                "access_token": access_token, "token_type": "Bearer", "expires_in": 300,
                "refresh_token": refresh_token, "scope": scopes,
            });
            ([(header::CACHE_CONTROL, "no-store")], Json(tokens)).into_response()
        }
        Err((status, error)) => (status, Json(json!({ "error": error }))).into_response(),
    }
}

fn tokens(
    upstream: &Upstream,
    headers: &HeaderMap,
    form: &Fields,
) -> Result<Issued, (StatusCode, &'static str)> {
    let bad = |error| (StatusCode::BAD_REQUEST, error);
    let mut accounts = upstream.accounts.lock();
    let client = accounts.client_of(basic(headers));
    let client = client.ok_or((StatusCode::UNAUTHORIZED, "invalid_client"))?;
    match field(form, "grant_type") {
        "authorization_code" => {
            let proof = (&*client, field(form, "redirect_uri"), field(form, "code_verifier"));
            accounts.redeem(field(form, "code"), proof).ok_or(bad("invalid_grant"))
        }
        "refresh_token" => {
            let token = field(form, "refresh_token");
            let refreshed = accounts.refresh(token, &client, field(form, "scope"));
            refreshed.ok_or(bad("invalid_grant"))?.map_err(|()| bad("invalid_scope"))
        }
        _ => Err(bad("unsupported_grant_type")),
    }
}

/// RFC 7009.
async fn revoke(
    State(upstream): State<Upstream>,
    headers: HeaderMap,
    Form(form): Form<Fields>,
) -> Response {
    let client = upstream.accounts.lock().client_of(basic(&headers));
    let token = field(&form, "token");
    let status = match &client {
        Some(client) => {
            upstream.accounts.lock().revoke(token, client);
            StatusCode::OK
        }
        None => StatusCode::UNAUTHORIZED,
    };
    let hint = field(&form, "token_type_hint").to_owned();
    upstream.note("revoke", hint, token, String::new(), status);
    status.into_response()
}

/// Returns whether a client may request this: with its redirect URI, a code and PKCE, for this
/// server.
fn is_good(upstream: &Upstream, request: &Fields) -> bool {
    let accounts = upstream.accounts.lock();
    accounts.has_redirect_uri(field(request, "client_id"), field(request, "redirect_uri"))
        && field(request, "response_type") == "code"
        && field(request, "code_challenge_method") == "S256"
        && !field(request, "code_challenge").is_empty()
        && field(request, "resource") == upstream.mcp_url()
}

fn field<'f>(fields: &'f Fields, name: &str) -> &'f str {
    fields.get(name).map_or("", String::as_str)
}

fn basic(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()
}
