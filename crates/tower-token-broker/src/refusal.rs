//! The closed list of reasons why a request is refused.
//!
//! The audit records the reason, and operators search for it. The [dialect](crate::dialect) renders
//! less of it to the client.

use std::time::Duration;

use crate::principal::{Resource, Scopes};

/// The maximum length of an unsupported protocol version that is echoed.
const LONGEST_VERSION: usize = 64;

macro_rules! reasons {
    ($(
        $(#[doc = $doc:literal])+
        $variant:ident = $code:literal, $response:ident, $fault:ident;
    )+) => {
        /// The reason why a request is refused. Each has a permanent code, `area.what`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// All reasons, in the order of their definition.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the code in the audit record and in `refusal.reason`: `area.what`.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// Returns whose fault it is, and so who can fix it.
            pub const fn fault(self) -> Fault {
                match self { $(Self::$variant => Fault::$fault,)+ }
            }

            /// Returns the kind of response that a client receives.
            pub(crate) const fn response_kind(self) -> ResponseKind {
                match self { $(Self::$variant => ResponseKind::$response,)+ }
            }
        }
    };
}

reasons! {
    // Before the token is read
    /// The request is for a host other than the resource's.
    HostNotAllowed = "req.host_not_allowed", Misdirected, Caller;
    /// A browser page of another origin sent the request (DNS rebinding).
    OriginNotAllowed = "req.origin_not_allowed", OriginNotAllowed, Caller;
    /// The resource is not served at this path.
    PathNotServed = "req.path_not_served", NotFound, Caller;
    /// The headers or the target exceed the limits: 128 headers, 64 KiB of names and values, 16 KiB
    /// of path and query.
    HeadersTooLarge = "req.headers_too_large", HeadersTooLarge, Caller;

    // The credentials of the request
    /// There is no token.
    Missing = "authn.missing", NoToken, Caller;
    /// The scheme is not `Bearer` or another one that is supported here.
    UnsupportedScheme = "authn.unsupported_scheme", NoToken, Caller;
    /// A token is in the query string, and none in the header.
    QueryToken = "authn.query_token", NoToken, Caller;
    /// A token is in the query string in addition to the one in the header (RFC 6750 §2: one method
    /// per request). It is refused even if both are valid.
    QueryAndHeader = "authn.query_and_header", TwoMethods, Caller;
    /// The scheme is not followed by a token.
    EmptyToken = "authn.empty", NoToken, Caller;
    /// The credentials do not have the syntax of RFC 6750 §2.1.
    Malformed = "authn.malformed", InvalidRequest, Caller;
    /// There is more than one `Authorization` header.
    DuplicateHeader = "authn.duplicate_header", InvalidRequest, Caller;
    /// The token exceeds the limit.
    TokenTooLarge = "authn.too_large", InvalidRequest, Caller;

    // The token
    /// The verifier does not know the token.
    UnknownToken = "authn.unknown", InvalidToken, Caller;
    /// The token is for another resource.
    WrongResource = "authn.resource", InvalidToken, Caller;
    /// The token, its family, its client or its user was revoked, or everything for its server was.
    Revoked = "authn.revoked", InvalidToken, Caller;
    /// The user is blocked until unblocked.
    Blocked = "authn.blocked", InvalidToken, Caller;
    /// The token is bound to a key (`cnf`) that the client did not prove to possess.
    ConfirmationFailed = "authn.confirmation", InvalidToken, Caller;
    /// The verifier has no keys at the moment.
    KeysUnavailable = "authn.keys_unavailable", Unavailable, Operator;
    /// The introspection endpoint of the issuer did not give a usable response.
    IntrospectionUnavailable = "authn.introspection_unavailable", Unavailable, Operator;
    /// The verifier did not verify the token in time.
    VerifierTimeout = "authn.verifier_timeout", Unavailable, Operator;
    /// The token is not a compact JWS: not three parts, JWE, or JSON serialization.
    JwtFormat = "jwt.format", InvalidToken, Caller;
    /// The base64url is not canonical.
    JwtEncoding = "jwt.encoding", InvalidToken, Caller;
    /// The header or the claims are not a JSON object.
    JwtJson = "jwt.json", InvalidToken, Caller;
    /// The header or the claims have a duplicate member.
    JwtDuplicateMember = "jwt.duplicate_member", InvalidToken, Caller;
    /// `typ` is not `at+jwt`.
    JwtType = "jwt.typ", InvalidToken, Caller;
    /// The algorithm is not allowed.
    JwtAlgorithm = "jwt.alg", InvalidToken, Caller;
    /// The key is for another algorithm.
    JwtAlgorithmKeyMismatch = "jwt.alg_key_mismatch", InvalidToken, Caller;
    /// The header contains a key or a reference to one.
    JwtHeaderKey = "jwt.header_key", InvalidToken, Caller;
    /// The header has an unsupported extension: `crit`, `b64`, `zip`.
    JwtCritical = "jwt.crit", InvalidToken, Caller;
    /// The `kid` is invalid or names no key.
    JwtKeyId = "jwt.kid", InvalidToken, Caller;
    /// The key was retired.
    JwtKeyRetired = "jwt.key_retired", InvalidToken, Caller;
    /// The signature is wrong.
    JwtSignature = "jwt.signature", InvalidToken, Caller;
    /// A claim has the wrong type.
    JwtClaimType = "jwt.claim_type", InvalidToken, Caller;
    /// A required claim is missing or empty.
    JwtMissingClaim = "jwt.missing_claim", InvalidToken, Caller;
    /// The issuer is another one.
    JwtIssuer = "jwt.iss", InvalidToken, Caller;
    /// `aud` is not a valid audience.
    JwtAudience = "jwt.aud", InvalidToken, Caller;
    /// The token has expired.
    JwtExpired = "jwt.expired", InvalidToken, Caller;
    /// The token is not valid yet.
    JwtNotYetValid = "jwt.not_yet_valid", InvalidToken, Caller;
    /// The token lives longer than revocations are kept.
    JwtLifetime = "jwt.lifetime", InvalidToken, Caller;

    // The message
    /// The body is not JSON (RFC 8259), or not UTF-8.
    NotJson = "filter.not_json", ParseError, Caller;
    /// The body is not a JSON-RPC message, or a parameter has the wrong type.
    NotAMessage = "filter.not_a_message", InvalidMessage, Caller;
    /// A member occurs twice, at any depth, after unescaping.
    DuplicateMember = "filter.duplicate_member", InvalidMessage, Caller;
    /// A known member is written in another case or spelling (`Method`, `"name "`), which parsers
    /// read differently.
    CaseVariant = "filter.case_variant", InvalidMessage, Caller;
    /// The nesting exceeds the limit.
    TooDeep = "filter.too_deep", InvalidMessage, Caller;
    /// The message is a batch, which only MCP 2025-03-26 had; of a client, or of a server.
    Batch = "filter.batch", InvalidMessage, Caller;
    /// A member or id exceeds its limit, or a name has more readings than are compared with rules
    /// that deny.
    MemberTooLarge = "filter.member_too_large", InvalidMessage, Caller;
    /// A gRPC frame cannot be read.
    NotAFrame = "filter.not_a_frame", InvalidMessage, Caller;
    /// A gRPC request that must have exactly one message has none, or several.
    NotOneMessage = "filter.not_one_message", InvalidMessage, Caller;
    /// The message is not the protobuf message of the method: other fields, other types, or not in
    /// its strict form.
    NotProtobuf = "filter.not_protobuf", InvalidMessage, Caller;
    /// The number of gRPC messages exceeds the limit.
    TooManyMessages = "filter.too_many_messages", BodyTooLarge, Caller;
    /// The client's own deadline has passed.
    DeadlineExceeded = "filter.deadline_exceeded", DeadlineExceeded, Caller;
    /// The headers and the body disagree (MCP 2026-07-28, "Streamable HTTP").
    HeaderMismatch = "filter.header_mismatch", HeaderMismatch, Caller;
    /// A request of MCP 2026-07-28 does not state its version in `_meta`.
    NoVersion = "filter.no_version", InvalidParams, Caller;
    /// The protocol version is not supported.
    UnsupportedVersion = "filter.unsupported_version", UnsupportedVersion, Caller;
    /// The body exceeds the limit.
    BodyTooLarge = "filter.body_too_large", BodyTooLarge, Caller;
    /// The body ended early, failed, or did not arrive in time.
    BodyIncomplete = "filter.body_incomplete", BodyIncomplete, Caller;
    /// The request has content that its method, or the rule that allows it, does not provide for.
    UnexpectedContent = "filter.unexpected_content", UnexpectedContent, Caller;
    /// The media type is not `application/json`.
    MediaType = "filter.media_type", UnsupportedMedia, Caller;
    /// The request is gRPC-Web, which only a layer outside the stack can translate into gRPC.
    GrpcWeb = "filter.grpc_web", UnsupportedMedia, Caller;
    /// The body has a content coding, or a gRPC message a coding that is not enabled.
    ContentEncoding = "filter.content_encoding", UnsupportedMedia, Caller;
    /// The endpoint does not have this HTTP method.
    HttpMethod = "filter.http_method", MethodNotAllowed, Caller;
    /// No rule names the JSON-RPC method.
    MethodDenied = "filter.method_denied", UnknownMethod, Caller;
    /// No rule allows the tool. Rendered like a tool that does not exist.
    ToolDenied = "filter.tool_denied", UnknownItem, Caller;
    /// No rule allows the resource. Rendered like a resource that does not exist.
    ResourceDenied = "filter.resource_denied", UnknownItem, Caller;
    /// No rule allows the prompt. Rendered like a prompt that does not exist.
    PromptDenied = "filter.prompt_denied", UnknownItem, Caller;
    /// The rule does not allow these arguments, or judges by one that a completion does not name.
    ArgumentsDenied = "filter.arguments_denied", UnknownItem, Caller;
    /// The session id was not issued to this user at this server, or a stream is resumed without
    /// one.
    UnknownSession = "filter.unknown_session", UnknownSession, Caller;
    /// The `requestState` was not issued to this user for this request.
    RequestState = "filter.request_state", InvalidState, Caller;
    /// A client's JSON-RPC response is outside a session.
    ResponseWithoutSession = "filter.response_without_session", InvalidMessage, Caller;
    /// No rule allows the HTTP request.
    RequestDenied = "filter.request_denied", Forbidden, Caller;
    /// The gRPC path is not exactly a service and a method.
    RpcPath = "filter.rpc_path", UnknownMethod, Caller;
    /// No rule allows the gRPC method.
    RpcDenied = "filter.rpc_denied", Forbidden, Caller;
    /// The token lacks scopes that this operation needs.
    InsufficientScope = "filter.insufficient_scope", InsufficientScope, Caller;
    /// The upstream's response cannot be read, so it cannot be filtered.
    ResponseUnreadable = "filter.response_unreadable", UnreadableResponse, Upstream;

    // The upstream credential
    /// The user has no grant for this server yet.
    ConnectRequired = "exchange.connect_required", Connect, Caller;
    /// The grant lacks scopes that this operation needs upstream.
    UpstreamScopeRequired = "exchange.scope_required", Connect, Caller;
    /// The grant was revoked, by the broker or at the authorization server.
    GrantRevoked = "exchange.grant_revoked", Connect, Caller;
    /// The upstream refused the credential, and a refreshed one as well, or there is no other.
    /// Connecting an account does not help.
    CredentialRefused = "exchange.credential_refused", CredentialRefused, Upstream;
    /// The policy of the authorization server forbids it.
    AuthorizationServerPolicy = "exchange.authorization_server_policy", Forbidden, Upstream;
    /// The authorization server, or the store of the grants, cannot be reached.
    CredentialUnavailable = "exchange.unavailable", Unavailable, Upstream;
    /// The credential is for an origin other than this upstream.
    WrongOrigin = "exchange.origin", Internal, Operator;
    /// The credential was already applied to another copy of the request.
    CredentialTaken = "exchange.credential_taken", Internal, Operator;
    /// The upstream cannot be reached, or failed.
    UpstreamFailed = "exchange.upstream_failed", BadGateway, Upstream;
    /// The upstream did not respond in time.
    UpstreamTimeout = "exchange.upstream_timeout", BadGateway, Upstream;

    // Internal errors
    /// The audit sink fails or hangs, so no credential may be used.
    AuditUnavailable = "audit.unavailable", Unavailable, Operator;
    /// The user has as many open requests as one user may have.
    UserQuota = "audit.user_quota", Unavailable, Caller;
    /// The revocation feed is silent.
    RevocationStale = "revocation.stale", Unavailable, Operator;
    /// The broker is shutting down.
    ShuttingDown = "stack.shutting_down", Unavailable, Ours;
    /// A required outer layer is missing.
    MissingLayer = "stack.missing_layer", Internal, Operator;
    /// The broker has a defect.
    Internal = "stack.internal", Internal, Ours;
}

impl Reason {
    /// Whether the same request may succeed later without any change.
    pub const fn is_retryable(self) -> bool {
        match self.response_kind() {
            ResponseKind::Unavailable
            | ResponseKind::BadGateway
            | ResponseKind::UnreadableResponse
            | ResponseKind::CredentialRefused
            | ResponseKind::DeadlineExceeded
            | ResponseKind::BodyIncomplete => true,
            ResponseKind::NoToken
            | ResponseKind::InvalidToken
            | ResponseKind::InvalidRequest
            | ResponseKind::TwoMethods
            | ResponseKind::InsufficientScope
            | ResponseKind::Misdirected
            | ResponseKind::OriginNotAllowed
            | ResponseKind::HeadersTooLarge
            | ResponseKind::ParseError
            | ResponseKind::InvalidMessage
            | ResponseKind::HeaderMismatch
            | ResponseKind::InvalidParams
            | ResponseKind::UnsupportedVersion
            | ResponseKind::BodyTooLarge
            | ResponseKind::UnexpectedContent
            | ResponseKind::UnsupportedMedia
            | ResponseKind::MethodNotAllowed
            | ResponseKind::NotFound
            | ResponseKind::UnknownMethod
            | ResponseKind::UnknownSession
            | ResponseKind::InvalidState
            | ResponseKind::UnknownItem
            | ResponseKind::Forbidden
            | ResponseKind::Connect
            | ResponseKind::Internal => false,
        }
    }
}

/// The party at fault, which can fix the problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the four parties of a request; a fifth would change every alert"
)]
pub enum Fault {
    /// The client or its user: the request, the token, or a missing consent.
    Caller,
    /// The operator of the broker: configuration, keys, the audit sink, the revocation store.
    Operator,
    /// The upstream or its authorization server.
    Upstream,
    /// The broker itself: a defect, or its shutdown.
    Ours,
}

/// The kinds of responses. Each dialect renders them in its own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseKind {
    NoToken,
    InvalidToken,
    InvalidRequest,
    TwoMethods,
    InsufficientScope,
    Misdirected,
    OriginNotAllowed,
    HeadersTooLarge,
    ParseError,
    InvalidMessage,
    HeaderMismatch,
    InvalidParams,
    UnsupportedVersion,
    BodyTooLarge,
    BodyIncomplete,
    UnexpectedContent,
    UnsupportedMedia,
    MethodNotAllowed,
    DeadlineExceeded,
    NotFound,
    UnknownMethod,
    UnknownSession,
    InvalidState,
    UnknownItem,
    Forbidden,
    Connect,
    CredentialRefused,
    BadGateway,
    UnreadableResponse,
    Unavailable,
    Internal,
}

impl ResponseKind {
    /// Returns the time after which a client may retry, if the refusal names none: a temporary
    /// failure always has a `Retry-After`.
    pub(crate) const fn default_wait(self) -> Option<Duration> {
        if matches!(self, Self::Unavailable) {
            return Some(Duration::from_secs(1));
        }
        // I483: another credential is requested then at the earliest.
        if matches!(self, Self::CredentialRefused) { Some(Duration::from_secs(30)) } else { None }
    }
}

/// A refused request: the reason, and what the client must know to succeed.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a refusal has no effect until it is rendered"]
pub struct Refusal {
    reason: Reason,
    resource: Option<Resource>,
    scopes: Option<Scopes>,
    connect_url: Option<Box<str>>,
    requested_version: Option<Box<str>>,
    retry_after: Option<Duration>,
}

impl Refusal {
    /// Creates a refusal for a reason.
    pub const fn new(reason: Reason) -> Self {
        Self {
            reason,
            resource: None,
            scopes: None,
            connect_url: None,
            requested_version: None,
            retry_after: None,
        }
    }

    /// Adds the resource whose metadata the challenge names (RFC 9728 §5.1).
    pub fn at(mut self, resource: &Resource) -> Self {
        self.resource = Some(resource.clone());
        self
    }

    /// Adds all scopes of the operation at once (RFC 6750 §3.1).
    pub fn needing(mut self, scopes: Scopes) -> Self {
        self.scopes = Some(scopes);
        self
    }

    /// Adds the page where the user connects an account. It is the broker's own page, never the
    /// upstream's.
    pub fn connect_at(mut self, url: &str) -> Self {
        self.connect_url = Some(url.into());
        self
    }

    /// Adds the protocol version that the client requested, truncated and escaped to ASCII. It is
    /// echoed to this client only.
    pub(crate) fn requested(mut self, version: &[u8]) -> Self {
        let cut = version.get(..LONGEST_VERSION).unwrap_or(version);
        let text = match std::str::from_utf8(cut) {
            Ok(text) if text.is_ascii() => text.into(),
            _ => cut.escape_ascii().to_string().into(),
        };
        self.requested_version = Some(text);
        self
    }

    /// Adds the time after which a retry may succeed.
    pub const fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Returns the reason.
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    pub(crate) const fn resource(&self) -> Option<&Resource> {
        self.resource.as_ref()
    }

    pub(crate) const fn scopes(&self) -> Option<&Scopes> {
        self.scopes.as_ref()
    }

    pub(crate) fn connect_url(&self) -> Option<&str> {
        self.connect_url.as_deref()
    }

    pub(crate) fn requested_version(&self) -> Option<&str> {
        self.requested_version.as_deref()
    }

    pub(crate) const fn wait(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::new(reason)
    }
}

/// Marks a response as a refusal of the broker, in its extensions: for middleware, metrics and
/// handlers. The layers and the proxy insert it. A handler inside the stack cannot forward one.
///
/// ```
/// use http::Response;
/// use tower_token_broker::refusal::Refused;
///
/// fn log<B>(response: &Response<B>) {
///     if let Some(refused) = Refused::of(response) {
///         println!("refused: {} {:?}", refused.reason().code(), refused.connect_url());
///     }
/// }
/// # log(&Response::new(()));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Refused(Refusal);

impl Refused {
    pub(crate) fn new(refusal: &Refusal) -> Self {
        Self(refusal.clone())
    }

    /// Returns the mark of a response that is a refusal.
    pub fn of<B>(response: &http::Response<B>) -> Option<&Self> {
        response.extensions().get()
    }

    /// Returns the reason.
    pub const fn reason(&self) -> Reason {
        self.0.reason()
    }

    /// Returns the page where the user connects an account, if that helps.
    pub fn connect_url(&self) -> Option<&str> {
        self.0.connect_url()
    }

    /// Returns the scopes of the broker token that the operation needs, if the token lacks any.
    pub const fn scopes(&self) -> Option<&Scopes> {
        self.0.scopes()
    }

    /// Returns the time after which a retry may succeed.
    pub const fn retry_after(&self) -> Option<Duration> {
        self.0.wait()
    }

    pub(crate) const fn refusal(&self) -> &Refusal {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_reason_has_its_own_code() {
        let codes: HashSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        for code in codes {
            let (area, what) = code.split_once('.').unwrap();
            assert!(
                area.bytes().chain(what.bytes()).all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{code}"
            );
        }
    }
}
