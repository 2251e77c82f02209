//! Validates an authorization request before anything is shown.
//!
//! The order decides the channel of an error: until client and redirect URI are verified, an error
//! is a page, and the browser is redirected nowhere. From then on it has the registered code,
//! `state` and `iss`: in a redirect, or in the link of a page if the client described itself
//! (RFC 9700 §4.11.2).

use token_broker_store::authority::ClientStore;
use tower_token_broker::principal::{Resource, Scopes};

use super::{AuthorizePageError, Pending, RedirectTarget};
use crate::{
    client::{Client, ClientError, ClientOrigin, Directory, VerifiedRedirect},
    limits::Network,
    oauth_error::ErrorCode,
    params::Params,
    servers::Servers,
    token::pkce,
};

/// Longest `state`, in bytes.
const MAX_STATE: usize = 2 * 1024;
/// Longest `client_id`, in bytes.
const MAX_CLIENT: usize = 2 * 1024;
/// Longest `scope`, in bytes.
const MAX_SCOPE: usize = 4 * 1024;
/// Longest part of a claimed name that is kept for the sign-in page, in characters.
const MAX_NAME: usize = 100;
/// Scopes of OpenID Connect that mean nothing here and that clients add by habit.
const IGNORED_SCOPES: [&str; 4] = ["openid", "profile", "email", "offline_access"];

/// The reasons why a request is not shown to the user.
#[derive(Debug)]
pub(crate) enum Refused {
    /// An error page.
    Page(AuthorizePageError),
    /// A redirect with an error. Only [`Verified::refused`] decides on it.
    Redirect(ErrorForClient),
    /// A page with the error, and a link to the client.
    Link(ErrorForClient, Box<Client>),
}

/// An error, and the URI at which the client receives it.
#[derive(Debug)]
pub(crate) struct ErrorForClient {
    pub(crate) to: VerifiedRedirect,
    pub(crate) state: Option<Box<str>>,
    pub(crate) code: ErrorCode,
}

/// Client and redirect URI, which decide whether there is a redirect.
pub(crate) struct Verified {
    pub(crate) client: Client,
    pub(crate) redirect: VerifiedRedirect,
}

impl Verified {
    /// Refuses the request, on the channel that is safe for this client.
    ///
    /// A client that registered itself, or wrote its own document, chose its page. It could send
    /// users there by an error that it causes on purpose, with a link that begins with our host. So
    /// the user sees a page of ours first. A program on the user's computer, which waits for the
    /// response, is no such page, and the operator vouches for configured clients.
    // D531
    pub(super) fn refused(&self, state: Option<&str>, code: ErrorCode) -> Refused {
        let (to, state) = (self.redirect.clone(), state.map(Into::into));
        let error = ErrorForClient { to, state, code };
        let is_trusted = match &self.client.origin {
            ClientOrigin::Configured => true,
            ClientOrigin::Document { .. } | ClientOrigin::Registered { .. } => {
                self.redirect.target() == RedirectTarget::Loopback
            }
        };
        if is_trusted {
            return Refused::Redirect(error);
        }
        Refused::Link(error, Box::new(self.client.clone()))
    }
}

/// Verifies client and redirect URI. A fetch of the client's document counts for `caller`.
// D085, D086, D089, D090
pub(crate) async fn verify<S: ClientStore>(
    directory: &Directory<S>,
    (client, redirect_uri): (Option<&str>, Option<&str>),
    caller: Network,
) -> Result<Verified, AuthorizePageError> {
    let id = client.filter(|id| id.len() <= MAX_CLIENT);
    let id = id.ok_or(AuthorizePageError::UnknownClient)?;
    let found = directory.find(id, caller).await.map_err(|error| match error {
        ClientError::Document(_) => AuthorizePageError::ClientDocument,
        ClientError::Store(_) => AuthorizePageError::Unavailable,
    })?;
    let client = found.ok_or(AuthorizePageError::UnknownClient)?;
    let redirect = redirect_uri.and_then(|uri| client.redirect_uris.verify(uri));
    let redirect = redirect.ok_or(AuthorizePageError::RedirectUri)?;
    Ok(Verified { client, redirect })
}

/// Validates the parameters of a request whose client and redirect URI were verified.
pub(crate) fn validate(
    params: &Params,
    verified: &Verified,
    servers: &Servers,
) -> Result<Pending, Refused> {
    let state = state(params);
    let refused = |code| verified.refused(state.ok().flatten(), code);
    state.map_err(&refused)?;
    // D095: before the others, because it has a code of its own.
    if params.is_repeated("resource") {
        return Err(refused(ErrorCode::InvalidTarget));
    }
    // D089
    if params.has_repeated() {
        return Err(refused(ErrorCode::InvalidRequest));
    }
    // D109
    if params.get("request").is_some() {
        return Err(refused(ErrorCode::RequestNotSupported));
    }
    if params.get("request_uri").is_some() {
        return Err(refused(ErrorCode::RequestUriNotSupported));
    }
    // D091
    if params.get("response_type") != Some("code") {
        return Err(refused(ErrorCode::UnsupportedResponseType));
    }
    if params.get("response_mode").is_some_and(|mode| mode != "query") {
        return Err(refused(ErrorCode::InvalidRequest));
    }
    // D092, D093
    let challenge = params.get("code_challenge").filter(|challenge| pkce::is_challenge(challenge));
    let is_s256 = params.get("code_challenge_method") == Some("S256");
    let challenge = challenge.filter(|_| is_s256);
    let challenge = challenge.ok_or_else(|| refused(ErrorCode::InvalidRequest))?;
    let resource = resource(params, servers).map_err(&refused)?;
    let scopes = scopes(params, resource.as_ref(), servers).map_err(&refused)?;
    // A page is always needed: consent is not remembered.
    if params.get("prompt") == Some("none") {
        return Err(refused(ErrorCode::ConsentRequired));
    }
    let claimed_name = verified.client.name.as_deref();
    let claimed_name = claimed_name.map(|name| name.chars().take(MAX_NAME).collect::<String>());
    Ok(Pending {
        client: verified.client.id.as_str().into(),
        claimed_name: claimed_name.map(Into::into),
        redirect_uri: verified.redirect.as_str().into(),
        state: state.ok().flatten().map(Into::into),
        challenge: challenge.into(),
        resource,
        scopes,
        location: "".into(),
    })
}

/// Returns `state`, which is returned octet by octet.
// D106
fn state(params: &Params) -> Result<Option<&str>, ErrorCode> {
    if params.is_repeated("state") {
        return Err(ErrorCode::InvalidRequest);
    }
    let is_printable = |state: &&str| {
        state.len() <= MAX_STATE && state.bytes().all(|byte| matches!(byte, b' '..=b'~'))
    };
    match params.get("state") {
        None => Ok(None),
        Some(state) => Some(state).filter(is_printable).map(Some).ok_or(ErrorCode::InvalidRequest),
    }
}

// D095
fn resource(params: &Params, servers: &Servers) -> Result<Option<Resource>, ErrorCode> {
    match params.get("resource") {
        None => Ok(None),
        Some(resource) => {
            let server = servers.find(resource).ok_or(ErrorCode::InvalidTarget)?;
            Ok(Some(server.resource().clone()))
        }
    }
}

// D096
fn scopes(
    params: &Params,
    resource: Option<&Resource>,
    servers: &Servers,
) -> Result<Option<Scopes>, ErrorCode> {
    let known = match resource {
        Some(resource) => servers.find(resource.as_str()).map(|server| server.scopes().clone()),
        None => Some(servers.scopes()),
    };
    let known = known.ok_or(ErrorCode::InvalidTarget)?;
    let requested = match params.get("scope") {
        None => return Ok(None),
        Some(scopes) if scopes.len() > MAX_SCOPE => return Err(ErrorCode::InvalidScope),
        Some(scopes) => Scopes::parse(scopes).map_err(|_| ErrorCode::InvalidScope)?,
    };
    let requested = without_ignored(&requested, &known);
    if requested.is_empty() {
        return Ok(None);
    }
    if !known.contains_all(&requested) {
        return Err(ErrorCode::InvalidScope);
    }
    Ok(Some(requested))
}

/// Removes the scopes of OpenID Connect, unless they are known here.
pub(crate) fn without_ignored(requested: &Scopes, known: &Scopes) -> Scopes {
    let is_ignored = |scope: &&str| IGNORED_SCOPES.contains(scope) && !known.contains(scope);
    let kept: Vec<_> = requested.iter().filter(|scope| !is_ignored(scope)).collect();
    Scopes::parse(&kept.join(" ")).unwrap_or_else(|_| requested.clone())
}
