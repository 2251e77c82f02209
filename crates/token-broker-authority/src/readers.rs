//! The parsers of the endpoints, exposed for fuzzing. Not a stable API.

use http::{HeaderMap, HeaderValue, header};
use token_broker_store::authority::ClientId;
use tower_token_broker::principal::{Resource, Scopes};

use crate::{
    authorize::readers::{Refused, Verified, redirect_location, validate},
    client::{
        Authentication, Client, ClientOrigin, RedirectUri, RedirectUris,
        readers::{ClientMetadata, Presented, parse},
    },
    params::{Params, encode},
    servers::{ProtectedServer, Servers},
};

/// The outcome of an authorization request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "for fuzzing only")]
pub enum Outcome {
    /// An error page.
    Page,
    /// A redirect: the verified URI, and the whole location.
    Redirect(String, String),
    /// The user is asked, and the browser returns to this URI.
    Asked(String),
}

/// Reads the query of an authorization request of a client with these redirect URIs.
pub fn authorization(query: &[u8], registered: &[&str]) -> Outcome {
    let Ok(redirect_uris) = RedirectUris::parse(registered.iter().copied()) else {
        return Outcome::Page;
    };
    let Ok(params) = Params::parse(query) else { return Outcome::Page };
    let requested = params.get("redirect_uri").and_then(|uri| redirect_uris.verify(uri));
    let Some(redirect) = requested else { return Outcome::Page };
    let client = Client {
        id: ClientId::new("client"),
        name: None,
        origin: ClientOrigin::Configured,
        redirect_uris,
        authentication: Authentication::None,
    };
    let server = Resource::parse("https://broker.example.com/crm/mcp").map(|resource| {
        let scopes = Scopes::parse("crm:read crm:write").unwrap_or_else(|_| Scopes::none());
        ProtectedServer::new(resource, "CRM", scopes)
    });
    let servers = Servers::new(server.into_iter().collect());
    let verified = Verified { client, redirect };
    match validate(&params, &verified, &servers) {
        Ok(_pending) => Outcome::Asked(verified.redirect.as_str().to_owned()),
        Err(Refused::Page(_)) => Outcome::Page,
        Err(Refused::Redirect(error) | Refused::Link(error, _)) => {
            let location = redirect_location(&error.to, error.code, error.state.as_deref());
            Outcome::Redirect(error.to.as_str().to_owned(), location)
        }
    }
}

/// Reads the metadata of a client, and returns its redirect URIs.
pub fn client_metadata(text: &[u8]) -> Option<Vec<String>> {
    let metadata = ClientMetadata::read(parse(text).ok()?).ok()?;
    Some(metadata.redirect_uris.iter().map(RedirectUri::as_str).map(str::to_owned).collect())
}

/// Reads the credentials of a client, and returns the client that they name.
pub fn credentials(authorization: Option<&[u8]>, body: &[u8]) -> Option<String> {
    let mut headers = HeaderMap::new();
    if let Some(authorization) = authorization {
        let authorization = HeaderValue::from_bytes(authorization).ok()?;
        headers.insert(header::AUTHORIZATION, authorization);
    }
    let params = Params::parse(body).ok()?;
    Presented::read(&headers, &params).ok().map(|presented| presented.client().to_owned())
}

/// Reads parameters, and writes them again.
pub fn parameters(text: &[u8]) -> Option<String> {
    Params::parse(text).ok().map(|params| encode(&params))
}
