//! Who a broker token speaks for, and for which protected resource.

use std::{
    fmt,
    sync::{Arc, LazyLock, OnceLock},
};

use crate::clock::Timestamp;

/// A set of OAuth scope tokens (RFC 6749 §3.3), sorted, each once. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scopes(Arc<[Box<str>]>);

impl Scopes {
    /// No scope at all.
    #[must_use]
    pub fn none() -> Self {
        static NONE: LazyLock<Scopes> = LazyLock::new(|| Scopes(Arc::new([])));
        NONE.clone()
    }

    /// Reads a space-delimited list, as the `scope` parameter and claim hold it (RFC 6749 §3.3).
    ///
    /// # Errors
    /// A token with a character outside of `%x21 / %x23-5B / %x5D-7E`, more than 1 000 tokens, or more than 16 KiB.
    pub fn parse(text: &str) -> Result<Self, ScopesError> {
        if text.len() > 16 * 1024 || text.split(' ').count() > 1000 {
            return Err(ScopesError::TooLarge);
        }
        let mut tokens = Vec::new();
        for token in text.split(' ').filter(|token| !token.is_empty()) {
            if !token.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e)) {
                return Err(ScopesError::Character);
            }
            tokens.push(Box::from(token));
        }
        Ok(Self::of(tokens))
    }

    fn of(mut tokens: Vec<Box<str>>) -> Self {
        tokens.sort_unstable();
        tokens.dedup();
        Self(tokens.into())
    }

    /// Whether this very token is in the set.
    #[must_use]
    pub fn contains(&self, token: &str) -> bool {
        self.0.binary_search_by(|held| held.as_ref().cmp(token)).is_ok()
    }

    /// Whether all of `needed` is in the set.
    #[must_use]
    pub fn contains_all(&self, needed: &Self) -> bool {
        needed.iter().all(|token| self.contains(token))
    }

    /// Both together.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        if self.contains_all(other) {
            return self.clone();
        }
        Self::of(self.0.iter().chain(other.0.iter()).cloned().collect())
    }

    /// The tokens in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Space-delimited, as on the wire.
impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, token) in self.iter().enumerate() {
            if position > 0 {
                f.write_str(" ")?;
            }
            f.write_str(token)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scopes({self})")
    }
}

/// Why a text is no list of scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScopesError {
    /// A character that RFC 6749 §3.3 does not allow.
    #[error("a scope has a character that RFC 6749 section 3.3 does not allow")]
    Character,
    /// More than 1 000 tokens or 16 KiB.
    #[error("more than 1000 scopes or 16 KiB of them")]
    TooLarge,
}

/// One protected resource: an MCP server (or an HTTP API) as the broker exposes it, named by its resource URI
/// (RFC 8707 §2, RFC 9728 §1.2). Cheap to clone; compared octet by octet.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Resource(Arc<ResourceParts>);

#[derive(PartialEq, Eq, Hash)]
struct ResourceParts {
    uri: Box<str>,
    origin_len: usize,
    metadata_url: Box<str>,
}

impl Resource {
    /// Reads an absolute `https` URI without user information, query or fragment; `http` is for loopback hosts alone.
    ///
    /// The URI is kept as given: a token's `aud` must be these very octets.
    ///
    /// # Errors
    /// What is wrong with the URI.
    pub fn parse(uri: &str) -> Result<Self, ResourceError> {
        let parsed: http::Uri = uri.parse().map_err(|_| ResourceError::NotAUri)?;
        let (Some(scheme), Some(authority)) = (parsed.scheme_str(), parsed.authority()) else {
            return Err(ResourceError::NotAbsolute);
        };
        let host = authority.host();
        let loopback = matches!(host, "127.0.0.1" | "localhost" | "[::1]");
        match scheme {
            "https" => {}
            "http" if loopback => {}
            _ => return Err(ResourceError::Scheme),
        }
        let exact_prefix = format!("{scheme}://{authority}");
        if authority.as_str().contains('@') || !uri.starts_with(&exact_prefix) {
            return Err(ResourceError::UserInformation);
        }
        if authority.as_str().bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(ResourceError::UpperCaseHost);
        }
        if parsed.query().is_some() || uri.contains('#') {
            return Err(ResourceError::QueryOrFragment);
        }
        let origin_len = exact_prefix.len();
        let path = uri.get(origin_len..).unwrap_or_default();
        // RFC 9728 §3.1: the well-known part goes between host and path; a terminating slash after the host is dropped.
        let suffix = if path == "/" { "" } else { path };
        let metadata_url = format!("{exact_prefix}/.well-known/oauth-protected-resource{suffix}");
        Ok(Self(Arc::new(ResourceParts { uri: uri.into(), origin_len, metadata_url: metadata_url.into() })))
    }

    /// The URI, octet by octet as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.uri
    }

    /// Scheme and authority, such as `https://broker.example.com`.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.0.uri.get(..self.0.origin_len).unwrap_or_default()
    }

    /// The authority alone, such as `broker.example.com` or `127.0.0.1:8080`.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.origin().split_once("://").map_or("", |(_, authority)| authority)
    }

    /// The path, such as `/crm/mcp`; empty if the URI has none.
    #[must_use]
    pub fn path(&self) -> &str {
        self.0.uri.get(self.0.origin_len..).unwrap_or_default()
    }

    /// Where its metadata is found (RFC 9728 §3.1).
    #[must_use]
    pub fn metadata_url(&self) -> &str {
        &self.0.metadata_url
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.uri)
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resource({})", self.0.uri)
    }
}

/// Why a text names no protected resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResourceError {
    /// It can't be read as a URI.
    #[error("the resource is not a URI; write it like https://broker.example.com/crm/mcp")]
    NotAUri,
    /// It has no scheme or no host.
    #[error("the resource is not absolute; write it like https://broker.example.com/crm/mcp")]
    NotAbsolute,
    /// Neither `https`, nor `http` on a loopback host.
    #[error("the resource must be https; http is for 127.0.0.1, [::1] and localhost alone")]
    Scheme,
    /// It has user information before the host, or a scheme that is not in lower case.
    #[error("the resource must begin with its scheme in lower case and its host, without user information")]
    UserInformation,
    /// Its host has upper-case letters, so that two spellings would name one server.
    #[error("the host of the resource must be in lower case")]
    UpperCaseHost,
    /// It has a query or a fragment.
    #[error("the resource must have neither query nor fragment")]
    QueryOrFragment,
}

/// A user: issuer and subject, as octets. Nothing is folded, trimmed or normalised, and an e-mail address is no key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct User {
    issuer: Arc<str>,
    subject: Arc<str>,
}

impl User {
    /// Issuer and subject, as the token has them.
    #[must_use]
    pub fn new(issuer: impl Into<Arc<str>>, subject: impl Into<Arc<str>>) -> Self {
        Self { issuer: issuer.into(), subject: subject.into() }
    }

    /// Who says so.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Who it is at that issuer.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

/// Who acts for the user: one link of the chain of RFC 8693 §4.1.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Actor {
    user: User,
    acts_for: Option<Arc<Self>>,
}

impl Actor {
    /// An actor, and the one who acted before it, if any.
    #[must_use]
    pub fn new(user: User, before: Option<Self>) -> Self {
        Self { user, acts_for: before.map(Arc::new) }
    }

    /// Issuer and subject of the actor.
    #[must_use]
    pub const fn user(&self) -> &User {
        &self.user
    }

    /// The actor before this one; for information alone (RFC 8693 §4.1).
    #[must_use]
    pub fn before(&self) -> Option<&Self> {
        self.acts_for.as_deref()
    }
}

/// Which grant a credential came from, as the store names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GrantId(Arc<str>);

impl GrantId {
    /// As the store names it.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self(id.into())
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a verified token proves. Made by [`Verified::vouch`], which verifiers call and nobody else should.
#[derive(Clone, Debug)]
#[must_use = "a proof that nobody looks at lets nobody in"]
pub struct Verified(Arc<Proof>);

#[derive(Debug)]
struct Proof {
    user: User,
    client: Box<str>,
    token_id: Box<str>,
    family: Option<Box<str>>,
    actor: Option<Actor>,
    scopes: Scopes,
    resource: Resource,
    issued_at: Timestamp,
    expires_at: Timestamp,
    /// How the audit writes it.
    in_record: OnceLock<Box<[u8]>>,
}

impl Verified {
    /// Vouches that the presented token was verified for `resource` and proves all this. Whoever calls it has
    /// checked signature, issuer, audience and times, or has asked somebody who did.
    pub fn vouch(user: User, client: &str, resource: Resource, token: TokenTimes<'_>) -> Self {
        Self(Arc::new(Proof {
            user,
            client: client.into(),
            token_id: token.id.into(),
            family: None,
            actor: None,
            scopes: Scopes::none(),
            resource,
            issued_at: token.issued_at,
            expires_at: token.expires_at,
            in_record: OnceLock::new(),
        }))
    }

    /// With these scopes.
    pub fn with_scopes(self, scopes: Scopes) -> Self {
        self.with(|proof| proof.scopes = scopes)
    }

    /// From this token family: all tokens of one authorization.
    pub fn with_family(self, family: &str) -> Self {
        self.with(|proof| proof.family = Some(family.into()))
    }

    /// With this actor (RFC 8693 §4.1).
    pub fn with_actor(self, actor: Actor) -> Self {
        self.with(|proof| proof.actor = Some(actor))
    }

    fn with(self, change: impl FnOnce(&mut Proof)) -> Self {
        let mut proof = Arc::try_unwrap(self.0).unwrap_or_else(|shared| Proof {
            user: shared.user.clone(),
            client: shared.client.clone(),
            token_id: shared.token_id.clone(),
            family: shared.family.clone(),
            actor: shared.actor.clone(),
            scopes: shared.scopes.clone(),
            resource: shared.resource.clone(),
            issued_at: shared.issued_at,
            expires_at: shared.expires_at,
            in_record: OnceLock::new(),
        });
        change(&mut proof);
        Self(Arc::new(proof))
    }

    /// For which resource the token is good.
    #[must_use]
    pub fn resource(&self) -> &Resource {
        &self.0.resource
    }

    /// Until when (`exp`, without leeway).
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.0.expires_at
    }
}

/// The token's own id and times, for [`Verified::vouch`].
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "the three are all that a token has of its own; users write them out")]
pub struct TokenTimes<'a> {
    /// `jti`: unique for its issuer.
    pub id: &'a str,
    /// `iat`.
    pub issued_at: Timestamp,
    /// `exp`, without leeway.
    pub expires_at: Timestamp,
}

/// Who a request speaks for. Only the authenticate layer makes one, so holding one is the check. Cheap to clone.
///
/// Forged, it does not compile, whatever one has vouched for:
///
/// ```compile_fail,E0624
/// # use tower_token_broker::principal::{Principal, Verified};
/// fn forged(verified: &Verified) -> Principal {
///     Principal::of(verified)
/// }
/// ```
///
/// It is found where the layer has put it:
///
/// ```
/// # use tower_token_broker::principal::Principal;
/// fn found(request: &http::Request<()>) -> Option<&Principal> {
///     request.extensions().get::<Principal>()
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Principal(Arc<Proof>);

impl Principal {
    pub(crate) fn of(verified: &Verified) -> Self {
        Self(Arc::clone(&verified.0))
    }

    /// How the audit writes it: worked out once.
    pub(crate) fn in_record(&self, write: impl FnOnce(&Self) -> Vec<u8>) -> &[u8] {
        self.0.in_record.get_or_init(|| write(self).into())
    }

    /// For the tests of those who use the layers.
    #[cfg(feature = "test-util")]
    #[must_use]
    pub fn for_test(verified: &Verified) -> Self {
        Self::of(verified)
    }

    /// Issuer and subject.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.0.user
    }

    /// Who it is at its issuer (`sub`).
    #[must_use]
    pub fn subject(&self) -> &str {
        self.0.user.subject()
    }

    /// Who issued the token (`iss`).
    #[must_use]
    pub fn issuer(&self) -> &str {
        self.0.user.issuer()
    }

    /// The OAuth client that holds the token (`client_id`).
    #[must_use]
    pub fn client(&self) -> &str {
        &self.0.client
    }

    /// The token's own id (`jti`).
    #[must_use]
    pub fn token_id(&self) -> &str {
        &self.0.token_id
    }

    /// The token family, if the issuer names one.
    #[must_use]
    pub fn family(&self) -> Option<&str> {
        self.0.family.as_deref()
    }

    /// Who acts for the user (`act`), if somebody does.
    #[must_use]
    pub fn actor(&self) -> Option<&Actor> {
        self.0.actor.as_ref()
    }

    /// What the token allows.
    #[must_use]
    pub fn scopes(&self) -> &Scopes {
        &self.0.scopes
    }

    /// The protected resource that the token is good for.
    #[must_use]
    pub fn resource(&self) -> &Resource {
        &self.0.resource
    }

    /// When the token was issued (`iat`).
    #[must_use]
    pub fn issued_at(&self) -> Timestamp {
        self.0.issued_at
    }

    /// When the token ends (`exp`, without leeway).
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.0.expires_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_a_set() {
        let scopes = Scopes::parse("b a  b").unwrap();
        assert_eq!(scopes.to_string(), "a b");
        assert!(scopes.contains("a") && !scopes.contains("A"));
        assert_eq!(scopes.union(&Scopes::parse("c").unwrap()).to_string(), "a b c");
        assert_eq!(Scopes::parse("a\"b"), Err(ScopesError::Character));
        assert_eq!(Scopes::parse("a\tb"), Err(ScopesError::Character));
        assert_eq!(Scopes::parse(&"a ".repeat(1000)), Err(ScopesError::TooLarge));
        assert_eq!(Scopes::parse(&"a".repeat(16 * 1024 + 1)), Err(ScopesError::TooLarge));
        assert_eq!(Scopes::parse(&["a"; 1000].join(" ")).unwrap().to_string(), "a");
    }

    #[test]
    fn a_resource_knows_its_metadata() {
        let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
        assert_eq!(resource.origin(), "https://broker.example.com");
        assert_eq!(resource.authority(), "broker.example.com");
        assert_eq!(resource.path(), "/crm/mcp");
        assert_eq!(resource.metadata_url(), "https://broker.example.com/.well-known/oauth-protected-resource/crm/mcp");
    }

    #[test]
    fn what_is_no_resource_is_refused() {
        for (uri, error) in [
            ("https://broker.example.com/a b", ResourceError::NotAUri),
            ("/crm", ResourceError::NotAbsolute),
            ("http://broker.example.com/crm", ResourceError::Scheme),
            ("ftp://127.0.0.1/crm", ResourceError::Scheme),
            ("https://a@broker.example.com/", ResourceError::UserInformation),
            ("https://Broker.example.com/", ResourceError::UpperCaseHost),
            ("https://broker.example.com/?a", ResourceError::QueryOrFragment),
            ("https://broker.example.com/#a", ResourceError::QueryOrFragment),
        ] {
            assert_eq!(Resource::parse(uri), Err(error), "{uri}");
        }
        assert!(Resource::parse("http://127.0.0.1:8080/mcp").is_ok());
    }
}
