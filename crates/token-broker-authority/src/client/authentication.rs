//! Client authentication at the token and revocation endpoints: `none`, `client_secret_basic`,
//! `client_secret_post`, `private_key_jwt`.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, header};
use token_broker_store::authority::{ClientKeys, ClientStore, LookupKey};
use tower_token_broker::{
    Secret,
    authenticate::jwt::{KeySource, Keys},
};

use super::{
    Authentication, Client, ClientError, ClientOrigin, Directory,
    assertion::{self, ASSERTION_TYPE, AssertionError, Assertions},
    documents::DocumentError,
};
use crate::{
    limits::Network,
    oauth_error::EndpointError,
    params::{Params, decode_value},
    request::EndpointRequest,
};

/// Authenticates clients.
#[derive(Debug)]
pub(crate) struct Authenticator<S> {
    directory: Arc<Directory<S>>,
    assertions: Assertions,
    lookup: LookupKey,
}

/// A client that is who it claims to be; of a public client, only its ID is known.
#[derive(Debug)]
pub(crate) struct AuthenticatedClient(Client);

impl AuthenticatedClient {
    pub(crate) fn id(&self) -> &str {
        self.0.id.as_str()
    }

    /// Returns whether it registered itself.
    pub(crate) const fn is_registered(&self) -> bool {
        matches!(self.0.origin, ClientOrigin::Registered { .. })
    }
}

/// The credentials of a request.
pub(crate) enum Presented {
    Public { client: Box<str> },
    Secret { client: Box<str>, secret: Secret },
    Assertion { client: Box<str>, assertion: Box<str> },
}

const NOT_AUTHENTICATED: EndpointError =
    EndpointError::invalid_client("the client is unknown, or did not authenticate");
const SEVERAL_METHODS: EndpointError =
    EndpointError::invalid_client("the client authenticates in more than one way");
const MALFORMED: EndpointError =
    EndpointError::invalid_client("the client's credentials are malformed");
const NO_KEYS: EndpointError = EndpointError::unavailable("the client's keys are not available");

impl<S: ClientStore> Authenticator<S> {
    pub(crate) const fn new(
        directory: Arc<Directory<S>>,
        assertions: Assertions,
        lookup: LookupKey,
    ) -> Self {
        Self { directory, assertions, lookup }
    }

    /// Returns the client of a request, whose form was read.
    pub(crate) async fn authenticate(
        &self,
        request: &EndpointRequest,
        params: &Params,
    ) -> Result<AuthenticatedClient, EndpointError> {
        let presented = Presented::read(&request.headers, params)?;
        let caller = Network::of(request.peer);
        let found = self.directory.find(presented.client(), caller).await;
        let client = found.map_err(|error| match error {
            ClientError::Document(DocumentError::Invalid) => NOT_AUTHENTICATED,
            ClientError::Document(_) => {
                EndpointError::unavailable("the client's metadata document is not available")
            }
            ClientError::Store(_) => EndpointError::unavailable("the store is not available"),
        })?;
        let client = client.ok_or(NOT_AUTHENTICATED)?;
        let is_authentic = match (&client.authentication, &presented) {
            (Authentication::None, Presented::Public { .. }) => true,
            (Authentication::Secret(ours), Presented::Secret { secret, .. }) => {
                ours.matches(secret)
            }
            (Authentication::StoredSecret(hash), Presented::Secret { secret, .. }) => {
                self.lookup.client_secret(&client.id, secret).matches(hash)
            }
            (Authentication::PrivateKeyJwt(keys), Presented::Assertion { assertion, .. }) => {
                self.has_signed(&client, keys, (assertion, caller)).await?
            }
            // A client that has a secret or a key uses it, and one that has none has no use for it.
            _ => false,
        };
        if is_authentic { Ok(AuthenticatedClient(client)) } else { Err(NOT_AUTHENTICATED) }
    }

    /// Notes that a user allowed this client access, and that it has used it.
    pub(crate) fn mark_in_use(&self, client: &AuthenticatedClient) {
        let documents = self.directory.documents();
        documents.mark_in_use(client.id());
        if let Authentication::PrivateKeyJwt(ClientKeys::Uri(url)) = &client.0.authentication {
            documents.mark_keys_in_use(url);
        }
    }

    async fn has_signed(
        &self,
        client: &Client,
        keys: &ClientKeys,
        (assertion, caller): (&str, Network),
    ) -> Result<bool, EndpointError> {
        let keys = match keys {
            ClientKeys::Inline(set) => {
                let keys = Keys::parse_untrusted(set.as_bytes(), assertion::algorithms());
                keys.ok().map(KeySource::from)
            }
            ClientKeys::Uri(uri) => {
                let keys = self.directory.documents().keys(uri, caller);
                keys.map_err(|_too_many| NO_KEYS)?
            }
        };
        let Some(keys) = keys else { return Ok(false) };
        match self.assertions.verify(client.id.as_str(), &keys, assertion).await {
            Ok(()) => Ok(true),
            Err(AssertionError::Invalid) => Ok(false),
            Err(AssertionError::Unavailable) => Err(NO_KEYS),
        }
    }
}

impl Presented {
    pub(crate) fn client(&self) -> &str {
        match self {
            Self::Public { client }
            | Self::Secret { client, .. }
            | Self::Assertion { client, .. } => client,
        }
    }

    // F136: one method, and one client.
    pub(crate) fn read(headers: &HeaderMap, params: &Params) -> Result<Self, EndpointError> {
        let basic = basic(headers)?;
        let in_body = params.get("client_secret");
        let assertion = assertion(params)?;
        let methods = [basic.is_some(), in_body.is_some(), assertion.is_some()];
        if methods.into_iter().filter(|is_used| *is_used).count() > 1 {
            return Err(SEVERAL_METHODS);
        }
        let named = params.get("client_id");
        let presented = match (basic, in_body, assertion) {
            (Some((client, secret)), ..) => Self::Secret { client, secret },
            (None, Some(secret), _) => Self::Secret {
                client: named.ok_or(NOT_AUTHENTICATED)?.into(),
                secret: Secret::from_text(secret.to_owned()),
            },
            (None, None, Some(assertion)) => {
                let client = assertion::claimed_client(&assertion).ok_or(MALFORMED)?;
                Self::Assertion { client, assertion }
            }
            (None, None, None) => Self::Public { client: named.ok_or(NOT_AUTHENTICATED)?.into() },
        };
        if named.is_some_and(|named| *named != *presented.client()) {
            return Err(NOT_AUTHENTICATED);
        }
        Ok(presented)
    }
}

fn assertion(params: &Params) -> Result<Option<Box<str>>, EndpointError> {
    match (params.get("client_assertion_type"), params.get("client_assertion")) {
        (None, None) => Ok(None),
        (Some(ASSERTION_TYPE), Some(assertion)) => Ok(Some(assertion.into())),
        _ => Err(MALFORMED),
    }
}

/// Reads `Authorization: Basic`, whose two halves are encoded like form values (RFC 6749 §2.3.1).
fn basic(headers: &HeaderMap) -> Result<Option<(Box<str>, Secret)>, EndpointError> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let field = match (fields.next(), fields.next()) {
        (None, _) => return Ok(None),
        (Some(field), None) => field,
        (Some(_), Some(_)) => return Err(SEVERAL_METHODS),
    };
    let field = field.to_str().map_err(|_| MALFORMED)?;
    let (scheme, encoded) = field.split_once(' ').ok_or(MALFORMED)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(MALFORMED);
    }
    let decoded = STANDARD.decode(encoded.trim_matches(' ')).map_err(|_| MALFORMED)?;
    let decoded = zeroize::Zeroizing::new(decoded);
    let decoded = std::str::from_utf8(&decoded).map_err(|_| MALFORMED)?;
    let (client, secret) = decoded.split_once(':').ok_or(MALFORMED)?;
    let client = decode_value(client).filter(|client| !client.is_empty()).ok_or(MALFORMED)?;
    let secret = decode_value(secret).filter(|secret| !secret.is_empty()).ok_or(MALFORMED)?;
    Ok(Some((client, Secret::from_text(secret.into_string()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(authorization: &[&str], body: &str) -> Result<(String, &'static str), EndpointError> {
        let mut headers = HeaderMap::new();
        for field in authorization {
            headers.append(header::AUTHORIZATION, field.parse().unwrap());
        }
        let presented = Presented::read(&headers, &Params::parse(body.as_bytes()).unwrap())?;
        let method = match &presented {
            Presented::Public { .. } => "none",
            Presented::Secret { .. } => "secret",
            Presented::Assertion { .. } => "assertion",
        };
        Ok((presented.client().to_owned(), method))
    }

    fn encoded(text: &str) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn each_method_is_read() {
        let basic = encoded("a%3Ab+c:s%25%3A");
        assert_eq!(read(&[&basic], ""), Ok(("a:b c".to_owned(), "secret")));
        assert_eq!(read(&[&basic], "client_id=a:b+c"), Ok(("a:b c".to_owned(), "secret")));
        assert_eq!(read(&[], "client_id=a&client_secret=s"), Ok(("a".to_owned(), "secret")));
        assert_eq!(read(&[], "client_id=a"), Ok(("a".to_owned(), "none")));
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"sub":"a"}"#);
        let body = format!("client_assertion_type={ASSERTION_TYPE}&client_assertion=x.{claims}.y");
        assert_eq!(read(&[], &body), Ok(("a".to_owned(), "assertion")));
    }

    #[test]
    fn f136_unclear_credentials_are_no_client() {
        let good = encoded("a:s");
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"sub":"a"}"#);
        let assertion =
            format!("client_assertion_type={ASSERTION_TYPE}&client_assertion=x.{claims}.y");
        for (fields, body) in [
            (vec![good.clone()], "client_secret=s".to_owned()),
            (vec![good.clone()], format!("client_id=a&{assertion}")),
            (vec![], format!("client_id=a&client_secret=s&{assertion}")),
            (vec![good.clone(), good.clone()], String::new()),
            (vec![good.clone()], "client_id=b".to_owned()),
            (vec![], format!("client_id=b&{assertion}")),
            (vec![encoded("a%3:s")], String::new()),
            (vec![encoded("a%zz:s")], String::new()),
            (vec![encoded("a:s%")], String::new()),
            (vec![encoded("as")], String::new()),
            (vec![encoded(":s")], String::new()),
            (vec![encoded("a:")], String::new()),
            (vec!["Basic".to_owned()], String::new()),
            (vec!["Basic !!!".to_owned()], String::new()),
            (vec!["Bearer x".to_owned()], "client_id=a".to_owned()),
            (vec![], String::new()),
            (vec![], "client_secret=s".to_owned()),
            (vec![], "client_id=a&client_assertion=x.y.z".to_owned()),
            (vec![], "client_id=a&client_assertion_type=other&client_assertion=x".to_owned()),
        ] {
            let fields: Vec<_> = fields.iter().map(String::as_str).collect();
            let error = read(&fields, &body).expect_err(&body);
            assert_eq!(error.response().status(), 401, "F136 {fields:?} {body}");
        }
    }

    #[test]
    fn a_colon_in_the_id_is_read_as_its_end() {
        assert_eq!(read(&[&encoded("a:b:c")], ""), Ok(("a".to_owned(), "secret")));
    }
}
