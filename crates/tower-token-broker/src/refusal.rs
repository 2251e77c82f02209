//! Why a request is not let through: one reason out of a closed list.
//!
//! The list is what the audit records and what an operator searches for; what the client sees of it
//! is said by the [`crate::dialect`], and is less.

use std::time::Duration;

use crate::principal::{Resource, Scopes};

/// How much of a protocol version that we do not speak is said again.
const LONGEST_VERSION: usize = 64;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $answer:ident, $fault:ident;)+) => {
        /// Why a request is not let through. Each has a code, `area.what`, that is kept for ever.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// All reasons, in the order of their definition.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The code of the audit record and of `refusal.reason`: `area.what`.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// Whose fault it is: who can do something about it.
            pub const fn fault(self) -> Fault {
                match self { $(Self::$variant => Fault::$fault,)+ }
            }

            /// How it is answered.
            pub(crate) const fn answer(self) -> Answer {
                match self { $(Self::$variant => Answer::$answer,)+ }
            }
        }
    };
}

reasons! {
    // Before the token is looked at
    /// The request is for another host than the resource's.
    HostNotAllowed = "req.host_not_allowed", Misdirected, Caller;
    /// A browser's page of another origin sent it (DNS rebinding).
    OriginNotAllowed = "req.origin_not_allowed", OriginNotAllowed, Caller;
    /// A path at which this resource is not served.
    PathNotServed = "req.path_not_served", NotFound, Caller;
    /// Header fields or a target beyond the limits: 128 fields, 64 KiB of names and values, 16 KiB
    /// of path and query.
    HeadersTooLarge = "req.headers_too_large", HeadersTooLarge, Caller;

    // The credentials of the request
    /// No token.
    Missing = "authn.missing", NoToken, Caller;
    /// A scheme that is neither `Bearer` nor otherwise known here.
    UnsupportedScheme = "authn.unsupported_scheme", NoToken, Caller;
    /// A token in the query string, which is refused wherever else one stands.
    QueryToken = "authn.query_token", NoToken, Caller;
    /// A scheme with nothing behind it.
    EmptyToken = "authn.malformed", NoToken, Caller;
    /// Credentials that can't be read as RFC 6750 §2.1 has them.
    Malformed = "authn.malformed_credentials", InvalidRequest, Caller;
    /// More than one `Authorization` field.
    DuplicateHeader = "authn.duplicate_header", InvalidRequest, Caller;
    /// A token over the limit.
    TokenTooLarge = "authn.too_large", InvalidRequest, Caller;

    // The token
    /// A token that the verifier does not know.
    UnknownToken = "authn.unknown", InvalidToken, Caller;
    /// A token for another resource.
    WrongResource = "authn.resource", InvalidToken, Caller;
    /// The token, its family, client or user was revoked, or its server or everything was shut.
    Revoked = "authn.revoked", InvalidToken, Caller;
    /// The user is blocked until unblocked.
    Blocked = "authn.blocked", InvalidToken, Caller;
    /// The token is bound to a key (`cnf`) that the client did not prove to have.
    ConfirmationFailed = "authn.confirmation", InvalidToken, Caller;
    /// The verifier can't tell at the moment: no keys.
    KeysUnavailable = "authn.keys_unavailable", Unavailable, Operator;
    /// Not three parts, JWE, JSON serialisation.
    JwtFormat = "jwt.format", InvalidToken, Caller;
    /// Not canonical base64url.
    JwtEncoding = "jwt.encoding", InvalidToken, Caller;
    /// Header or claims are no JSON object.
    JwtJson = "jwt.json", InvalidToken, Caller;
    /// A doubled member in header or claims.
    JwtDuplicateMember = "jwt.duplicate_member", InvalidToken, Caller;
    /// `typ` is not `at+jwt`.
    JwtType = "jwt.typ", InvalidToken, Caller;
    /// An algorithm that is not on the list.
    JwtAlgorithm = "jwt.alg", InvalidToken, Caller;
    /// The key is for another algorithm.
    JwtAlgorithmKeyMismatch = "jwt.alg_key_mismatch", InvalidToken, Caller;
    /// A key, or where to find one, in the header.
    JwtHeaderKey = "jwt.header_key", InvalidToken, Caller;
    /// `crit`, `b64`, `zip`: extensions that we do not know.
    JwtCritical = "jwt.crit", InvalidToken, Caller;
    /// A `kid` that can't be one, or that names no key.
    JwtKeyId = "jwt.kid", InvalidToken, Caller;
    /// A key that was retired.
    JwtKeyRetired = "jwt.key_retired", InvalidToken, Caller;
    /// The signature is wrong.
    JwtSignature = "jwt.signature", InvalidToken, Caller;
    /// A claim of the wrong type.
    JwtClaimType = "jwt.claim_type", InvalidToken, Caller;
    /// A required claim is missing or empty.
    JwtMissingClaim = "jwt.missing_claim", InvalidToken, Caller;
    /// Another issuer.
    JwtIssuer = "jwt.iss", InvalidToken, Caller;
    /// `aud` can't be read as an audience.
    JwtAudience = "jwt.aud", InvalidToken, Caller;
    /// Past its end.
    JwtExpired = "jwt.expired", InvalidToken, Caller;
    /// Before its time.
    JwtNotYetValid = "jwt.not_yet_valid", InvalidToken, Caller;
    /// It lives longer than we can remember revocations.
    JwtLifetime = "jwt.lifetime", InvalidToken, Caller;

    // The message
    /// No JSON (RFC 8259), or not UTF-8.
    NotJson = "filter.not_json", ParseError, Caller;
    /// No JSON-RPC message, or parameters of the wrong type.
    NotAMessage = "filter.not_a_message", InvalidMessage, Caller;
    /// A doubled member, at any depth, after unescaping.
    DuplicateMember = "filter.duplicate_member", InvalidMessage, Caller;
    /// A known member in another case (`Method`): two readings of one text.
    CaseVariant = "filter.case_variant", InvalidMessage, Caller;
    /// Nested deeper than the limit.
    TooDeep = "filter.too_deep", InvalidMessage, Caller;
    /// A batch: neither revision has them.
    Batch = "filter.batch", InvalidMessage, Caller;
    /// A member or id over its limit.
    MemberTooLarge = "filter.member_too_large", InvalidMessage, Caller;
    /// A gRPC frame that can't be read.
    NotAFrame = "filter.not_a_frame", InvalidMessage, Caller;
    /// A gRPC request with no message, or with more than one, where there is exactly one.
    NotOneMessage = "filter.not_one_message", InvalidMessage, Caller;
    /// Not the protobuf message that the method takes: other fields, other types, another form than
    /// the strict one.
    NotProtobuf = "filter.not_protobuf", InvalidMessage, Caller;
    /// More gRPC messages than the limit.
    TooManyMessages = "filter.too_many_messages", BodyTooLarge, Caller;
    /// The client's own deadline has passed.
    DeadlineExceeded = "filter.deadline_exceeded", DeadlineExceeded, Caller;
    /// Headers and body disagree (MCP 2026-07-28, "Streamable HTTP").
    HeaderMismatch = "filter.header_mismatch", HeaderMismatch, Caller;
    /// A request of MCP 2026-07-28 that does not say its version in its own `_meta`.
    NoVersion = "filter.no_version", InvalidParams, Caller;
    /// A protocol version that we do not speak.
    UnsupportedVersion = "filter.unsupported_version", UnsupportedVersion, Caller;
    /// A body over the limit.
    BodyTooLarge = "filter.body_too_large", BodyTooLarge, Caller;
    /// The body ended early, failed, or did not come in time.
    BodyIncomplete = "filter.body_incomplete", BodyIncomplete, Caller;
    /// A media type that is not `application/json`.
    MediaType = "filter.media_type", UnsupportedMedia, Caller;
    /// gRPC-Web, which only a layer outside of ours can turn into gRPC.
    GrpcWeb = "filter.grpc_web", UnsupportedMedia, Caller;
    /// A content coding, or a coding of gRPC messages, that is not switched on.
    ContentEncoding = "filter.content_encoding", UnsupportedMedia, Caller;
    /// An HTTP method that this endpoint does not have.
    HttpMethod = "filter.http_method", MethodNotAllowed, Caller;
    /// A JSON-RPC method that no rule names.
    MethodDenied = "filter.method_denied", UnknownMethod, Caller;
    /// A tool that no rule allows; said like one that does not exist.
    ToolDenied = "filter.tool_denied", UnknownItem, Caller;
    /// A resource that no rule allows; said like one that does not exist.
    ResourceDenied = "filter.resource_denied", UnknownItem, Caller;
    /// A prompt that no rule allows; said like one that does not exist.
    PromptDenied = "filter.prompt_denied", UnknownItem, Caller;
    /// Arguments that the rule does not allow.
    ArgumentsDenied = "filter.arguments_denied", UnknownItem, Caller;
    /// A session id that was not given to this user at this server, or a stream that is taken up
    /// again without one.
    UnknownSession = "filter.unknown_session", UnknownSession, Caller;
    /// A `requestState` that was not given to this user for this very request.
    RequestState = "filter.request_state", InvalidState, Caller;
    /// A JSON-RPC answer of the client outside of a session.
    AnswerWithoutSession = "filter.answer_without_session", InvalidMessage, Caller;
    /// An HTTP request that no rule allows.
    RequestDenied = "filter.request_denied", Forbidden, Caller;
    /// A gRPC path that is not exactly a service and a method.
    RpcPath = "filter.rpc_path", UnknownMethod, Caller;
    /// A gRPC method that no rule allows.
    RpcDenied = "filter.rpc_denied", Forbidden, Caller;
    /// The token lacks scopes that this operation needs.
    InsufficientScope = "filter.insufficient_scope", InsufficientScope, Caller;
    /// The answer of the upstream can't be read, so it can't be filtered.
    AnswerUnreadable = "filter.answer_unreadable", BadGateway, Upstream;

    // The upstream credential
    /// The user has no grant for this server yet.
    ConnectRequired = "exchange.connect_required", Connect, Caller;
    /// The grant lacks scopes that this operation needs upstream.
    UpstreamScopeRequired = "exchange.scope_required", Connect, Caller;
    /// The grant was revoked, here or at the authorization server.
    GrantRevoked = "exchange.grant_revoked", Connect, Caller;
    /// The upstream refused the credential, and a refreshed one too.
    CredentialRefused = "exchange.credential_refused", Connect, Upstream;
    /// The policy of the authorization server forbids it.
    AuthorizationServerPolicy = "exchange.authorization_server_policy", Forbidden, Upstream;
    /// The authorization server, or the store of the grants, can't be reached.
    CredentialUnavailable = "exchange.unavailable", Unavailable, Upstream;
    /// The credential is for another origin than this upstream.
    WrongOrigin = "exchange.origin", Internal, Operator;
    /// The credential was placed on another copy of the request before: it is placed once.
    CredentialTaken = "exchange.credential_taken", Internal, Operator;
    /// The upstream can't be reached, or failed.
    UpstreamFailed = "exchange.upstream_failed", BadGateway, Upstream;
    /// The upstream did not answer in time.
    UpstreamTimeout = "exchange.upstream_timeout", BadGateway, Upstream;
    /// The answer echoed the credential where it can't be masked.
    UpstreamEcho = "leak.upstream_echo", BadGateway, Upstream;

    // The house itself
    /// The audit sink fails or hangs, so nothing may be used.
    AuditUnavailable = "audit.unavailable", Unavailable, Operator;
    /// The revocation feed has not been heard from.
    RevocationStale = "revocation.stale", Unavailable, Operator;
    /// The broker is shutting down.
    ShuttingDown = "stack.shutting_down", Unavailable, Ours;
    /// A layer that should stand outside this one is missing.
    MissingLayer = "stack.missing_layer", Internal, Operator;
    /// Our own fault.
    Internal = "stack.internal", Internal, Ours;
}

impl Reason {
    /// Whether the same request may succeed later, without any change to it.
    pub const fn is_retryable(self) -> bool {
        match self.answer() {
            Answer::Unavailable
            | Answer::BadGateway
            | Answer::DeadlineExceeded
            | Answer::BodyIncomplete => true,
            Answer::NoToken
            | Answer::InvalidToken
            | Answer::InvalidRequest
            | Answer::InsufficientScope
            | Answer::Misdirected
            | Answer::OriginNotAllowed
            | Answer::HeadersTooLarge
            | Answer::ParseError
            | Answer::InvalidMessage
            | Answer::HeaderMismatch
            | Answer::InvalidParams
            | Answer::UnsupportedVersion
            | Answer::BodyTooLarge
            | Answer::UnsupportedMedia
            | Answer::MethodNotAllowed
            | Answer::NotFound
            | Answer::UnknownMethod
            | Answer::UnknownSession
            | Answer::InvalidState
            | Answer::UnknownItem
            | Answer::Forbidden
            | Answer::Connect
            | Answer::Internal => false,
        }
    }
}

/// Whose fault a refusal is: who can do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the four parties of a request; a fifth would change every alert"
)]
pub enum Fault {
    /// The client or its user: the request, the token, or a consent that is missing.
    Caller,
    /// Whoever runs the broker: configuration, keys, the audit sink, the revocation store.
    Operator,
    /// The upstream or its authorization server.
    Upstream,
    /// A defect of the broker, or its shutdown.
    Ours,
}

/// The kinds of answers; the dialects say each in their own way (design, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    NoToken,
    InvalidToken,
    InvalidRequest,
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
    BadGateway,
    Unavailable,
    Internal,
}

/// A request is not let through: the reason, and what the client must know to do better.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a refusal that is not said lets the request hang"]
pub struct Refusal {
    reason: Reason,
    resource: Option<Resource>,
    scopes: Option<Scopes>,
    connect_url: Option<Box<str>>,
    requested_version: Option<Box<str>>,
    retry_after: Option<Duration>,
}

impl Refusal {
    /// For this reason.
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

    /// With the resource whose metadata the challenge names (RFC 9728 §5.1).
    pub fn at(mut self, resource: &Resource) -> Self {
        self.resource = Some(resource.clone());
        self
    }

    /// With all scopes of the operation at once (RFC 6750 §3.1).
    pub fn needing(mut self, scopes: Scopes) -> Self {
        self.scopes = Some(scopes);
        self
    }

    /// With the page where the user connects an account. It is the broker's own, never the
    /// upstream's.
    pub fn connect_at(mut self, url: &str) -> Self {
        self.connect_url = Some(url.into());
        self
    }

    /// With the protocol version that the client asked for, cut and without what is not ASCII: it
    /// is told of it again, and nobody else.
    pub(crate) fn requested(mut self, version: &[u8]) -> Self {
        let cut = version.get(..LONGEST_VERSION).unwrap_or(version);
        let text = match std::str::from_utf8(cut) {
            Ok(text) if text.is_ascii() => text.into(),
            _ => cut.escape_ascii().to_string().into(),
        };
        self.requested_version = Some(text);
        self
    }

    /// With the time after which trying again may help.
    pub const fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Why.
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

/// The mark of a response that is a refusal of ours, in its extensions: for middleware, metrics and
/// handlers. The layers and the proxy insert it; a handler inside the stack cannot pass it on.
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

    /// The mark of a response, if it is a refusal.
    pub fn of<B>(response: &http::Response<B>) -> Option<&Self> {
        response.extensions().get()
    }

    /// The reason.
    pub const fn reason(&self) -> Reason {
        self.0.reason()
    }

    /// The page where the user connects an account, if that helps.
    pub fn connect_url(&self) -> Option<&str> {
        self.0.connect_url()
    }

    /// The scopes of the broker token that the operation needs, if one was missing.
    pub const fn scopes(&self) -> Option<&Scopes> {
        self.0.scopes()
    }

    /// When trying again may help.
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
    fn each_reason_has_a_code_of_its_own() {
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
