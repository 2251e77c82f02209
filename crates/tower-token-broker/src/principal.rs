//! Who a broker token speaks for, and for which protected resource.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{Hash, Hasher},
    sync::{Arc, LazyLock, OnceLock},
};

use crate::{bad_value::BadValue, clock::Timestamp, json::Value};

/// A set of OAuth scope tokens (RFC 6749 §3.3), sorted, each once. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scopes(Arc<[Box<str>]>);

impl Scopes {
    /// No scope at all.
    pub fn none() -> Self {
        static NONE: LazyLock<Scopes> = LazyLock::new(|| Scopes(Arc::new([])));
        NONE.clone()
    }

    /// Reads a space-delimited list, as the `scope` parameter and claim hold it (RFC 6749 §3.3).
    ///
    /// # Errors
    /// A token with a character outside of `%x21 / %x23-5B / %x5D-7E`, more than 1 000 tokens, or
    /// more than 16 KiB.
    pub fn parse(text: &str) -> Result<Self, ScopesError> {
        if text.len() > 16 * 1024 || text.split(' ').count() > 1000 {
            return Err(ScopesError::TooLarge { bytes: text.len() });
        }
        let mut tokens = Vec::new();
        for token in text.split(' ').filter(|token| !token.is_empty()) {
            if !token.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e)) {
                return Err(ScopesError::Character { scope: token.into() });
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
    pub fn contains(&self, token: &str) -> bool {
        self.0.binary_search_by(|held| held.as_ref().cmp(token)).is_ok()
    }

    /// Whether all of `needed` is in the set.
    pub fn contains_all(&self, needed: &Self) -> bool {
        needed.iter().all(|token| self.contains(token))
    }

    /// Both together.
    #[must_use = "returns the new value"]
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

/// The reasons why a text is not a list of scopes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScopesError {
    /// A character that RFC 6749 §3.3 does not allow.
    #[error("the scope {scope} has a character that RFC 6749 section 3.3 does not allow")]
    Character {
        /// The scope.
        scope: BadValue,
    },
    /// More than 1 000 scopes, or more than 16 KiB.
    #[error("more than 1000 scopes or 16 KiB of them ({bytes} bytes)")]
    TooLarge {
        /// The length of the text.
        bytes: usize,
    },
}

/// One protected resource: an MCP server (or an HTTP API) as the broker exposes it, named by its
/// resource URI (RFC 8707 §2, RFC 9728 §1.2). Cheap to clone.
///
/// Two resources are compared octet by octet, except that an empty path and `/` are one path
/// (RFC 3986 §6.2.3): `https://h` and `https://h/` name one resource.
#[derive(Clone)]
pub struct Resource(Arc<ResourceParts>);

struct ResourceParts {
    uri: Box<str>,
    origin_len: usize,
    metadata_url: Box<str>,
}

impl Resource {
    /// Parses an absolute `https` URI without user information, query or fragment; `http` is only
    /// for loopback hosts.
    ///
    /// # Errors
    /// What is wrong with the URI.
    pub fn parse(uri: &str) -> Result<Self, ResourceError> {
        let bad = |problem: fn(BadValue) -> ResourceError| problem(uri.into());
        let parsed: http::Uri = uri.parse().map_err(|_| bad(ResourceError::NotAUri))?;
        let (Some(scheme), Some(authority)) = (parsed.scheme_str(), parsed.authority()) else {
            return Err(bad(ResourceError::NotAbsolute));
        };
        let host = authority.host();
        let loopback = matches!(host, "127.0.0.1" | "localhost" | "[::1]");
        match scheme {
            "https" => {}
            "http" if loopback => {}
            _ => return Err(bad(ResourceError::Scheme)),
        }
        let exact_prefix = format!("{scheme}://{authority}");
        if authority.as_str().contains('@') || !uri.starts_with(&exact_prefix) {
            return Err(bad(ResourceError::UserInformation));
        }
        if authority.as_str().bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(bad(ResourceError::UpperCaseHost));
        }
        if parsed.query().is_some() || uri.contains('#') {
            return Err(bad(ResourceError::QueryOrFragment));
        }
        let origin_len = exact_prefix.len();
        let path = uri.get(origin_len..).unwrap_or_default();
        // RFC 9728 §3.1: the well-known part is inserted between host and path; a terminating slash
        // after the host is removed.
        let suffix = if path == "/" { "" } else { path };
        let metadata_url = format!("{exact_prefix}/.well-known/oauth-protected-resource{suffix}");
        let metadata_url = metadata_url.into();
        Ok(Self(Arc::new(ResourceParts { uri: uri.into(), origin_len, metadata_url })))
    }

    /// The URI, octet by octet as it was given.
    pub fn as_str(&self) -> &str {
        &self.0.uri
    }

    /// Whether a text, such as the `aud` of a token, names this resource.
    pub fn is_named_by(&self, text: &str) -> bool {
        let has_no_path = matches!(self.path(), "" | "/");
        text == self.as_str()
            || (has_no_path && text.strip_suffix('/').unwrap_or(text) == self.origin())
    }

    /// Scheme and authority, such as `https://broker.example.com`.
    pub fn origin(&self) -> &str {
        self.0.uri.get(..self.0.origin_len).unwrap_or_default()
    }

    /// The authority, such as `broker.example.com` or `127.0.0.1:8080`.
    pub fn authority(&self) -> &str {
        self.origin().split_once("://").map_or("", |(_, authority)| authority)
    }

    /// The path, such as `/crm/mcp`; empty if the URI has none.
    pub fn path(&self) -> &str {
        self.0.uri.get(self.0.origin_len..).unwrap_or_default()
    }

    /// The URL of its metadata (RFC 9728 §3.1).
    pub fn metadata_url(&self) -> &str {
        &self.0.metadata_url
    }

    /// The URI without the slash of an otherwise empty path: equal for equal resources.
    fn canonical(&self) -> &str {
        if self.path() == "/" { self.origin() } else { self.as_str() }
    }
}

impl PartialEq for Resource {
    fn eq(&self, other: &Self) -> bool {
        self.canonical() == other.canonical()
    }
}

impl Eq for Resource {}

impl Hash for Resource {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.canonical().hash(state);
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

/// The reasons why a text names no protected resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResourceError {
    /// It is not a URI.
    #[error("the resource {0} is not a URI; write it like https://broker.example.com/crm/mcp")]
    NotAUri(BadValue),
    /// It has no scheme or no host.
    #[error("the resource {0} is not absolute; write it like https://broker.example.com/crm/mcp")]
    NotAbsolute(BadValue),
    /// Neither `https`, nor `http` on a loopback host.
    #[error("the resource {0} must be https; http is only for 127.0.0.1, [::1] and localhost")]
    Scheme(BadValue),
    /// It has user information before the host, or a scheme that is not in lower case.
    #[error(
        "the resource {0} must begin with its scheme in lower case and its host, without user information"
    )]
    UserInformation(BadValue),
    /// Its host has upper-case letters, so that two spellings would name one server.
    #[error("the host of the resource {0} must be in lower case")]
    UpperCaseHost(BadValue),
    /// It has a query or a fragment.
    #[error("the resource {0} must have neither query nor fragment")]
    QueryOrFragment(BadValue),
}

/// A user: issuer and subject, as octets. Nothing is folded, trimmed or normalised, and an e-mail
/// address is no key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct User {
    issuer: Arc<str>,
    subject: Arc<str>,
}

impl User {
    /// Issuer and subject, as the token has them.
    pub fn new(issuer: impl Into<Arc<str>>, subject: impl Into<Arc<str>>) -> Self {
        Self { issuer: issuer.into(), subject: subject.into() }
    }

    /// Who says so.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Who it is at that issuer.
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
    pub fn new(user: User, before: Option<Self>) -> Self {
        Self { user, acts_for: before.map(Arc::new) }
    }

    /// Issuer and subject of the actor.
    pub const fn user(&self) -> &User {
        &self.user
    }

    /// The actor before this one; for information alone (RFC 8693 §4.1).
    pub fn before(&self) -> Option<&Self> {
        self.acts_for.as_deref()
    }
}

/// Which grant a credential came from, as the store names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GrantId(Arc<str>);

impl GrantId {
    /// As the store names it.
    pub fn new(id: &str) -> Self {
        Self(id.into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The one who ran a revoke, a block or a command, or did what else a [note](crate::audit::Note)
/// records.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Initiator(InitiatorKind);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum InitiatorKind {
    Operator(Box<str>),
    User(User),
    System(Box<str>),
    Anonymous,
}

impl Initiator {
    /// An operator, by the name under which they work.
    pub fn operator(name: &str) -> Self {
        Self(InitiatorKind::Operator(name.into()))
    }

    /// A user, on a page of the broker or of your own.
    pub fn user(user: &User) -> Self {
        Self(InitiatorKind::User(user.clone()))
    }

    /// A program, such as a webhook of the identity provider.
    pub fn system(name: &str) -> Self {
        Self(InitiatorKind::System(name.into()))
    }

    /// A visitor who has not signed in.
    pub const fn anonymous() -> Self {
        Self(InitiatorKind::Anonymous)
    }

    /// The kind, as the record has it: `operator`, `user`, `system` or `anonymous`.
    pub const fn kind(&self) -> &'static str {
        match self.0 {
            InitiatorKind::Operator(_) => "operator",
            InitiatorKind::User(_) => "user",
            InitiatorKind::System(_) => "system",
            InitiatorKind::Anonymous => "anonymous",
        }
    }

    /// The name of an operator or a system.
    pub fn name(&self) -> Option<&str> {
        match &self.0 {
            InitiatorKind::Operator(name) | InitiatorKind::System(name) => Some(name),
            InitiatorKind::User(_) | InitiatorKind::Anonymous => None,
        }
    }

    /// The user, if it is one.
    pub const fn as_user(&self) -> Option<&User> {
        match &self.0 {
            InitiatorKind::User(user) => Some(user),
            InitiatorKind::Operator(_) | InitiatorKind::System(_) | InitiatorKind::Anonymous => {
                None
            }
        }
    }
}

/// What a verified token proves. Made by [`Verified::vouch`], which verifiers call and nobody else
/// should.
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
    more: Option<Box<More>>,
    /// The members of an audit record, written once per token.
    is_for_this_request: bool,
    in_record: OnceLock<Box<[u8]>>,
}

/// Facts that few tokens have.
#[derive(Clone, Debug, Default)]
struct More {
    groups: Box<[Box<str>]>,
    acr: Option<Box<str>>,
    account: Option<Box<str>>,
    confirmation: Option<Confirmation>,
    /// The JSON text of each claim that the verifier was told to keep.
    claims: BTreeMap<Box<str>, Box<str>>,
}

/// The key to which a token is bound (RFC 7800 §3). The authenticate layer compares a certificate
/// with that of the connection, and refuses a token that is bound to a JWK: as a bearer token it
/// has no proof of possession.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Confirmation {
    /// The SHA-256 thumbprint of a JWK, `jkt` (RFC 9449 §6).
    JwkThumbprint(Box<str>),
    /// The SHA-256 thumbprint of a client certificate, `x5t#S256` (RFC 8705 §3.1).
    CertificateThumbprint(Box<str>),
}

impl Verified {
    /// Vouches that the presented token was verified for `resource` and proves all this. Whoever
    /// calls it has checked signature, issuer, audience and times, or has asked somebody who did.
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
            more: None,
            is_for_this_request: false,
            in_record: OnceLock::new(),
        }))
    }

    /// It proves this for one request alone, because it depends on more than the token and the
    /// client certificate: a proof of possession over method and URI (RFC 9449). The layer does not
    /// keep it, and asks the verifier again for the next request.
    pub fn for_this_request(self) -> Self {
        self.with(|proof| proof.is_for_this_request = true)
    }

    pub(crate) fn is_for_this_request(&self) -> bool {
        self.0.is_for_this_request
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

    /// Adds the groups or roles that the token names.
    pub fn with_groups<'a>(self, groups: impl IntoIterator<Item = &'a str>) -> Self {
        let groups = groups.into_iter().map(Box::from).collect();
        self.with_more(|more| more.groups = groups)
    }

    /// Sets the authentication context class (`acr`, OpenID Connect Core §2).
    pub fn with_acr(self, acr: &str) -> Self {
        self.with_more(|more| more.acr = Some(acr.into()))
    }

    /// Sets the account that the token is for, where a user has several at one server.
    pub fn with_account(self, account: &str) -> Self {
        self.with_more(|more| more.account = Some(account.into()))
    }

    /// Binds the token to a key (`cnf`, RFC 7800 §3).
    pub fn with_confirmation(self, confirmation: Confirmation) -> Self {
        self.with_more(|more| more.confirmation = Some(confirmation))
    }

    /// Keeps a claim for policies and credential sources.
    pub fn with_claim(self, name: &str, value: Value<'_>) -> Self {
        let value = value.raw().into();
        self.with_more(|more| drop(more.claims.insert(name.into(), value)))
    }

    fn with_more(self, change: impl FnOnce(&mut More)) -> Self {
        self.with(|proof| change(proof.more.get_or_insert_default()))
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
            more: shared.more.clone(),
            is_for_this_request: shared.is_for_this_request,
            in_record: OnceLock::new(),
        });
        change(&mut proof);
        Self(Arc::new(proof))
    }

    /// For which resource the token is good.
    pub fn resource(&self) -> &Resource {
        &self.0.resource
    }

    /// Until when (`exp`, without leeway).
    pub fn expires_at(&self) -> Timestamp {
        self.0.expires_at
    }
}

/// The token's own id and times, for [`Verified::vouch`].
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "the three are all that a token has of its own; users write them out"
)]
pub struct TokenTimes<'a> {
    /// `jti`: unique for its issuer.
    pub id: &'a str,
    /// `iat`.
    pub issued_at: Timestamp,
    /// `exp`, without leeway.
    pub expires_at: Timestamp,
}

/// Who a request speaks for. Only the authenticate layer makes one, so holding one is the check.
/// Cheap to clone.
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
    pub fn for_test(verified: &Verified) -> Self {
        Self::of(verified)
    }

    /// Issuer and subject.
    pub fn user(&self) -> &User {
        &self.0.user
    }

    /// Who it is at its issuer (`sub`).
    pub fn subject(&self) -> &str {
        self.0.user.subject()
    }

    /// Who issued the token (`iss`).
    pub fn issuer(&self) -> &str {
        self.0.user.issuer()
    }

    /// The OAuth client that holds the token (`client_id`).
    pub fn client(&self) -> &str {
        &self.0.client
    }

    /// The token's own id (`jti`).
    pub fn token_id(&self) -> &str {
        &self.0.token_id
    }

    /// The token family, if the issuer names one.
    pub fn family(&self) -> Option<&str> {
        self.0.family.as_deref()
    }

    /// Who acts for the user (`act`), if somebody does.
    pub fn actor(&self) -> Option<&Actor> {
        self.0.actor.as_ref()
    }

    /// What the token allows.
    pub fn scopes(&self) -> &Scopes {
        &self.0.scopes
    }

    /// The protected resource that the token is good for.
    pub fn resource(&self) -> &Resource {
        &self.0.resource
    }

    /// The groups or roles that the token names; empty if it names none.
    pub fn groups(&self) -> &[Box<str>] {
        self.0.more.as_ref().map_or(&[], |more| &more.groups)
    }

    /// The authentication context class (`acr`), if the token has one.
    pub fn acr(&self) -> Option<&str> {
        self.0.more.as_ref()?.acr.as_deref()
    }

    /// The account that the token is for, if it names one.
    pub fn account(&self) -> Option<&str> {
        self.0.more.as_ref()?.account.as_deref()
    }

    /// The key to which the token is bound (`cnf`), if it is.
    pub fn confirmation(&self) -> Option<&Confirmation> {
        self.0.more.as_ref()?.confirmation.as_ref()
    }

    /// A claim that the verifier was told to keep; `None` if the token has no such claim, or the
    /// verifier does not keep it.
    pub fn claim(&self, name: &str) -> Option<Value<'_>> {
        self.0.more.as_ref()?.claims.get(name).map(|raw| Value::known(raw))
    }

    /// Returns the claims that the verifier was told to keep, in the order of their names.
    pub fn claims(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        let claims = self.0.more.iter().flat_map(|more| &more.claims);
        claims.map(|(name, raw)| (&**name, Value::known(raw)))
    }

    /// When the token was issued (`iat`).
    pub fn issued_at(&self) -> Timestamp {
        self.0.issued_at
    }

    /// When the token ends (`exp`, without leeway).
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
        assert_eq!(Scopes::parse("a\"b"), Err(ScopesError::Character { scope: "a\"b".into() }));
        assert_eq!(Scopes::parse("a\tb"), Err(ScopesError::Character { scope: "a\tb".into() }));
        assert_eq!(Scopes::parse(&"a ".repeat(1000)), Err(ScopesError::TooLarge { bytes: 2000 }));
        assert_eq!(
            Scopes::parse(&"a".repeat(16 * 1024 + 1)),
            Err(ScopesError::TooLarge { bytes: 16 * 1024 + 1 })
        );
        assert_eq!(Scopes::parse(&["a"; 1000].join(" ")).unwrap().to_string(), "a");
    }

    #[test]
    fn a_resource_knows_its_metadata() {
        let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
        assert_eq!(resource.origin(), "https://broker.example.com");
        assert_eq!(resource.authority(), "broker.example.com");
        assert_eq!(resource.path(), "/crm/mcp");
        assert_eq!(
            resource.metadata_url(),
            "https://broker.example.com/.well-known/oauth-protected-resource/crm/mcp"
        );
    }

    #[test]
    fn what_is_no_resource_is_refused() {
        type Error = fn(BadValue) -> ResourceError;
        let rows: [(&str, Error); 8] = [
            ("https://broker.example.com/a b", ResourceError::NotAUri),
            ("/crm", ResourceError::NotAbsolute),
            ("http://broker.example.com/crm", ResourceError::Scheme),
            ("ftp://127.0.0.1/crm", ResourceError::Scheme),
            ("https://a@broker.example.com/", ResourceError::UserInformation),
            ("https://Broker.example.com/", ResourceError::UpperCaseHost),
            ("https://broker.example.com/?a", ResourceError::QueryOrFragment),
            ("https://broker.example.com/#a", ResourceError::QueryOrFragment),
        ];
        for (uri, error) in rows {
            assert_eq!(Resource::parse(uri), Err(error(uri.into())), "{uri}");
        }
        assert!(Resource::parse("http://127.0.0.1:8080/mcp").is_ok());
        let error = Resource::parse("https://Broker.example.com/").unwrap_err();
        assert!(error.to_string().contains(r#""https://Broker.example.com/""#), "{error}");
    }

    #[test]
    fn an_empty_path_and_a_slash_are_one_resource() {
        let (bare, slash) = (
            Resource::parse("https://h.example").unwrap(),
            Resource::parse("https://h.example/").unwrap(),
        );
        assert_eq!(bare, slash);
        assert_eq!(std::collections::HashSet::from([bare.clone(), slash.clone()]).len(), 1);
        for text in ["https://h.example", "https://h.example/"] {
            assert!(bare.is_named_by(text) && slash.is_named_by(text), "{text}");
        }
        let with_path = Resource::parse("https://h.example/a").unwrap();
        assert_ne!(with_path, Resource::parse("https://h.example/a/").unwrap());
        for text in ["https://h.example//", "https://h.example/a/", "https://h.exampl", ""] {
            assert!(!bare.is_named_by(text) && !with_path.is_named_by(text), "{text}");
        }
    }

    #[test]
    fn a_principal_has_what_the_verifier_kept() {
        let at = Timestamp::from_unix_seconds(1);
        let times = TokenTimes { id: "t", issued_at: at, expires_at: at };
        let resource = Resource::parse("https://h.example").unwrap();
        let plain = Verified::vouch(User::new("i", "alice"), "c", resource, times);
        let limits = crate::json::Limits::default();
        let department = Value::parse(br#""sales""#, &limits).unwrap();
        let kept = plain.clone().with_groups(["staff", "eu"]).with_acr("mfa").with_account("work");
        let kept = Principal::of(&kept.with_claim("department", department));
        assert_eq!(kept.groups(), &["staff".into(), "eu".into()]);
        assert_eq!((kept.acr(), kept.account()), (Some("mfa"), Some("work")));
        assert_eq!(kept.claim("department").and_then(Value::as_str).as_deref(), Some("sales"));
        assert!(kept.claim("salary").is_none() && kept.confirmation().is_none());
        let claims: Vec<_> = kept.claims().map(|(name, value)| (name, value.raw())).collect();
        assert_eq!(claims, [("department", r#""sales""#)]);
        let plain = Principal::of(&plain);
        assert!(
            plain.groups().is_empty()
                && plain.acr().is_none()
                && plain.claim("department").is_none()
        );
        assert_eq!(plain.claims().count(), 0);
    }
}
