//! Metadata of a client, as in a registration (RFC 7591 §2) and in a metadata document.

use http::Uri;
use token_broker_store::authority::{ApplicationType, ClientAuthMethod, ClientKeys};
use tower_token_broker::{
    authenticate::jwt::{KeyError, Keys},
    json::{Kind, Limits, Value},
    principal::Scopes,
};

use super::{RedirectUriError, RedirectUris, assertion};
use crate::authorize::RedirectTarget;

/// Metadata that was checked.
#[derive(Debug)]
pub(crate) struct ClientMetadata {
    pub(crate) name: Option<Box<str>>,
    pub(crate) redirect_uris: RedirectUris,
    pub(crate) application_type: Option<ApplicationType>,
    /// `None` if the metadata names none.
    pub(crate) auth_method: Option<ClientAuthMethod>,
    pub(crate) keys: Option<ClientKeys>,
    pub(crate) software_id: Option<Box<str>>,
    pub(crate) software_version: Option<Box<str>>,
    /// `None` if the metadata names none.
    pub(crate) scopes: Option<Scopes>,
}

/// The reasons why metadata is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetadataError {
    RedirectUri(RedirectUriError),
    /// The text names the member and what is wrong with it.
    Metadata(&'static str),
}

/// Longest metadata, in bytes.
pub(crate) const MAX_BYTES: usize = 64 * 1024;
const MAX_DEPTH: usize = 16;
const MAX_NAME: usize = 1024;
const MAX_SOFTWARE: usize = 255;
const MAX_JWKS: usize = 32 * 1024;

impl ClientMetadata {
    /// Reads metadata. Members that mean nothing here are ignored.
    pub(crate) fn read(object: Value<'_>) -> Result<Self, MetadataError> {
        if object.kind() != Kind::Object {
            return Err(MetadataError::Metadata("the metadata is not a JSON object"));
        }
        if has_control_character(object) {
            return Err(MetadataError::Metadata("a member has a control character"));
        }
        let redirect_uris = texts(object, "redirect_uris", "redirect_uris is not a list of texts")?
            .ok_or(MetadataError::RedirectUri(RedirectUriError::Count))?;
        let redirect_uris = RedirectUris::parse(redirect_uris.iter().map(|uri| &**uri))
            .map_err(MetadataError::RedirectUri)?;
        let application_type = text(object, "application_type", 32, "application_type")?;
        let application_type = application_type
            .map(|name| ApplicationType::from_name(&name).ok_or("application_type"))
            .transpose()
            .map_err(|_| MetadataError::Metadata("application_type is neither web nor native"))?;
        if application_type == Some(ApplicationType::Web) {
            only_web(&redirect_uris)?;
        }
        check_grants(object)?;
        let auth_method = text(object, "token_endpoint_auth_method", 64, "not a text")?
            .map(|name| ClientAuthMethod::from_name(&name).ok_or(()))
            .transpose()
            .map_err(|()| MetadataError::Metadata("token_endpoint_auth_method is not supported"))?;
        let keys = keys(object)?;
        if auth_method == Some(ClientAuthMethod::PrivateKeyJwt) && keys.is_none() {
            return Err(MetadataError::Metadata("private_key_jwt needs jwks or jwks_uri"));
        }
        let scopes = text(object, "scope", 16 * 1024, "scope is not a text")?;
        let scopes = scopes
            .map(|scopes| Scopes::parse(&scopes))
            .transpose()
            .map_err(|_| MetadataError::Metadata("scope is not a list of scopes"))?;
        Ok(Self {
            name: text(object, "client_name", MAX_NAME, "client_name is too long or not a text")?
                .filter(|name| !name.trim().is_empty()),
            redirect_uris,
            application_type,
            auth_method,
            keys,
            software_id: text(object, "software_id", MAX_SOFTWARE, "software_id is too long")?,
            software_version: text(
                object,
                "software_version",
                MAX_SOFTWARE,
                "software_version is too long",
            )?,
            scopes,
        })
    }
}

/// Parses the text of metadata: strict JSON, and not deep.
pub(crate) fn parse(text: &[u8]) -> Result<Value<'_>, MetadataError> {
    let mut limits = Limits::default();
    limits.depth = MAX_DEPTH;
    if text.len() > MAX_BYTES {
        return Err(MetadataError::Metadata("the metadata is longer than 64 KiB"));
    }
    Value::parse(text, &limits)
        .map_err(|_| MetadataError::Metadata("the metadata is not JSON, or a member occurs twice"))
}

fn optional<'a>(object: Value<'a>, name: &str) -> Option<Value<'a>> {
    object.get(name).filter(|value| value.kind() != Kind::Null)
}

pub(crate) fn text(
    object: Value<'_>,
    name: &str,
    max: usize,
    problem: &'static str,
) -> Result<Option<Box<str>>, MetadataError> {
    let Some(value) = optional(object, name) else { return Ok(None) };
    match value.as_str().filter(|text| text.len() <= max) {
        Some(text) => Ok(Some(text.as_ref().into())),
        None => Err(MetadataError::Metadata(problem)),
    }
}

fn texts(
    object: Value<'_>,
    name: &str,
    problem: &'static str,
) -> Result<Option<Vec<Box<str>>>, MetadataError> {
    let Some(value) = optional(object, name) else { return Ok(None) };
    let elements = value.elements().ok_or(MetadataError::Metadata(problem))?;
    // F145: bounded, however long the list is.
    let elements = elements.take(RedirectUris::MAX_COUNT + 1);
    let texts = elements.map(|element| element.as_str().map(|text| Box::from(&*text)));
    texts.collect::<Option<Vec<_>>>().map(Some).ok_or(MetadataError::Metadata(problem))
}

/// Grant and response types that we do not have are left out of the registration. One that has
/// none of ours could not be used.
fn check_grants(object: Value<'_>) -> Result<(), MetadataError> {
    let grants = texts(object, "grant_types", "grant_types is not a list of texts")?;
    if grants.is_some_and(|grants| !grants.iter().any(|grant| &**grant == "authorization_code")) {
        return Err(MetadataError::Metadata("grant_types has no authorization_code"));
    }
    let responses = texts(object, "response_types", "response_types is not a list of texts")?;
    let has_code =
        |responses: Vec<Box<str>>| responses.iter().any(|response| &**response == "code");
    if responses.is_some_and(|responses| !has_code(responses)) {
        return Err(MetadataError::Metadata("response_types has no code"));
    }
    Ok(())
}

/// OpenID Connect Dynamic Client Registration §2: web clients have https redirect URIs, and not on
/// loopback.
fn only_web(uris: &RedirectUris) -> Result<(), MetadataError> {
    if uris.iter().all(|uri| uri.target() == RedirectTarget::Web) {
        return Ok(());
    }
    Err(MetadataError::RedirectUri(RedirectUriError::Scheme))
}

fn keys(object: Value<'_>) -> Result<Option<ClientKeys>, MetadataError> {
    let uri = text(object, "jwks_uri", 2048, "jwks_uri is too long or not a text")?;
    match (optional(object, "jwks"), uri) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(MetadataError::Metadata("there is both jwks and jwks_uri")),
        (Some(set), None) => {
            let text = set.raw();
            let parsed = Keys::parse_untrusted(text.as_bytes(), assertion::algorithms());
            let is_usable = text.len() <= MAX_JWKS
                && parsed.is_ok_and(|keys| !keys.is_empty() && !has_private_key(&keys));
            if is_usable {
                Ok(Some(ClientKeys::Inline(text.into())))
            } else {
                Err(MetadataError::Metadata("jwks is not a set of public signing keys"))
            }
        }
        (None, Some(uri)) if is_public_https(&uri) => Ok(Some(ClientKeys::Uri(uri))),
        (None, Some(_)) => Err(MetadataError::Metadata("jwks_uri is not a public https URL")),
    }
}

fn has_private_key(keys: &Keys) -> bool {
    keys.problems().iter().any(|(_, problem)| *problem == KeyError::Private)
}

/// Returns whether a text is an https URL whose host has a public name. The client that fetches it
/// checks the addresses of the name.
// F146
fn is_public_https(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return false };
    let Some(authority) = uri.authority() else { return false };
    let host = authority.host();
    let last_label = host.rsplit('.').next().unwrap_or_default();
    let is_name = host.contains('.')
        && !last_label.is_empty()
        && !last_label.bytes().all(|byte| byte.is_ascii_digit())
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
    let is_internal = ["localhost", "local", "internal", "localdomain", "arpa"];
    uri.scheme_str() == Some("https")
        && text.starts_with("https://")
        && !authority.as_str().contains('@')
        && !text.contains('#')
        && is_name
        && !is_internal.iter().any(|label| last_label.eq_ignore_ascii_case(label))
}

// 15.20: a control character in a log, a page or a header is read as something else.
fn has_control_character(value: Value<'_>) -> bool {
    let is_bad = |text: &str| text.chars().any(char::is_control);
    match value.kind() {
        Kind::String => value.as_str().is_none_or(|text| is_bad(&text)),
        Kind::Array => {
            value.elements().is_some_and(|mut elements| elements.any(has_control_character))
        }
        Kind::Object => value.members().is_some_and(|mut members| {
            members.any(|(name, value)| is_bad(&name) || has_control_character(value))
        }),
        Kind::Null | Kind::Bool | Kind::Number => false,
    }
}
