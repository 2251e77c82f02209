//! Why a request is not let through: one reason out of a closed list.
//!
//! The list is what the audit records and what an operator searches for; what the client sees of it is said by
//! the [`crate::dialect`], and is less.

use std::time::Duration;

use crate::principal::{Resource, Scopes};

/// How much of a protocol version that we do not speak is said again.
const LONGEST_VERSION: usize = 64;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $answer:ident;)+) => {
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
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
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
    HostNotAllowed = "req.host_not_allowed", Misdirected;
    /// A browser's page of another origin sent it (DNS rebinding).
    OriginNotAllowed = "req.origin_not_allowed", OriginNotAllowed;
    /// Header fields or a target beyond the limits: 128 fields, 64 KiB of names and values, 16 KiB of path and query.
    HeadersTooLarge = "req.headers_too_large", HeadersTooLarge;

    // The credentials of the request
    /// No token.
    Missing = "authn.missing", NoToken;
    /// A scheme that is neither `Bearer` nor otherwise known here.
    UnsupportedScheme = "authn.unsupported_scheme", NoToken;
    /// A token in the query string, which is refused wherever else one stands.
    QueryToken = "authn.query_token", NoToken;
    /// A scheme with nothing behind it.
    EmptyToken = "authn.malformed", NoToken;
    /// Credentials that can't be read as RFC 6750 §2.1 has them.
    Malformed = "authn.malformed_credentials", InvalidRequest;
    /// More than one `Authorization` field.
    DuplicateHeader = "authn.duplicate_header", InvalidRequest;
    /// A token over the limit.
    TokenTooLarge = "authn.too_large", InvalidRequest;

    // The token
    /// A token that the verifier does not know.
    UnknownToken = "authn.unknown", InvalidToken;
    /// A token for another resource.
    WrongResource = "authn.resource", InvalidToken;
    /// The token, its family, client or user was revoked, or its server or everything was shut.
    Revoked = "authn.revoked", InvalidToken;
    /// The user is blocked until unblocked.
    Blocked = "authn.blocked", InvalidToken;
    /// The verifier can't tell at the moment: no keys.
    KeysUnavailable = "authn.keys_unavailable", Unavailable;
    /// Not three parts, JWE, JSON serialisation.
    JwtFormat = "jwt.format", InvalidToken;
    /// Not canonical base64url.
    JwtEncoding = "jwt.encoding", InvalidToken;
    /// Header or claims are no JSON object.
    JwtJson = "jwt.json", InvalidToken;
    /// A doubled member in header or claims.
    JwtDuplicateMember = "jwt.duplicate_member", InvalidToken;
    /// `typ` is not `at+jwt`.
    JwtType = "jwt.typ", InvalidToken;
    /// An algorithm that is not on the list.
    JwtAlgorithm = "jwt.alg", InvalidToken;
    /// The key is for another algorithm.
    JwtAlgorithmKeyMismatch = "jwt.alg_key_mismatch", InvalidToken;
    /// A key, or where to find one, in the header.
    JwtHeaderKey = "jwt.header_key", InvalidToken;
    /// `crit`, `b64`, `zip`: extensions that we do not know.
    JwtCritical = "jwt.crit", InvalidToken;
    /// A `kid` that can't be one, or that names no key.
    JwtKeyId = "jwt.kid", InvalidToken;
    /// A key that was retired.
    JwtKeyRetired = "jwt.key_retired", InvalidToken;
    /// The signature is wrong.
    JwtSignature = "jwt.signature", InvalidToken;
    /// A claim of the wrong type.
    JwtClaimType = "jwt.claim_type", InvalidToken;
    /// A required claim is missing or empty.
    JwtMissingClaim = "jwt.missing_claim", InvalidToken;
    /// Another issuer.
    JwtIssuer = "jwt.iss", InvalidToken;
    /// `aud` can't be read as an audience.
    JwtAudience = "jwt.aud", InvalidToken;
    /// Past its end.
    JwtExpired = "jwt.expired", InvalidToken;
    /// Before its time.
    JwtNotYetValid = "jwt.not_yet_valid", InvalidToken;
    /// It lives longer than we can remember revocations.
    JwtLifetime = "jwt.lifetime", InvalidToken;

    // The message
    /// No JSON (RFC 8259), or not UTF-8.
    NotJson = "filter.not_json", ParseError;
    /// No JSON-RPC message, or parameters of the wrong type.
    NotAMessage = "filter.not_a_message", InvalidMessage;
    /// A doubled member, at any depth, after unescaping.
    DuplicateMember = "filter.duplicate_member", InvalidMessage;
    /// A known member in another case (`Method`): two readings of one text.
    CaseVariant = "filter.case_variant", InvalidMessage;
    /// Nested deeper than the limit.
    TooDeep = "filter.too_deep", InvalidMessage;
    /// A batch: neither revision has them.
    Batch = "filter.batch", InvalidMessage;
    /// A member or id over its limit.
    MemberTooLarge = "filter.member_too_large", InvalidMessage;
    /// A gRPC frame that can't be read.
    NotAFrame = "filter.not_a_frame", InvalidMessage;
    /// A gRPC request with no message, or with more than one, where there is exactly one.
    NotOneMessage = "filter.not_one_message", InvalidMessage;
    /// Not the protobuf message that the method takes: other fields, other types, another form than the strict one.
    NotProtobuf = "filter.not_protobuf", InvalidMessage;
    /// More gRPC messages than the limit.
    TooManyMessages = "filter.too_many_messages", BodyTooLarge;
    /// The client's own deadline has passed.
    DeadlineExceeded = "filter.deadline_exceeded", DeadlineExceeded;
    /// Headers and body disagree (MCP 2026-07-28, "Streamable HTTP").
    HeaderMismatch = "filter.header_mismatch", HeaderMismatch;
    /// A request of MCP 2026-07-28 that does not say its version in its own `_meta`.
    NoVersion = "filter.no_version", InvalidParams;
    /// A protocol version that we do not speak.
    UnsupportedVersion = "filter.unsupported_version", UnsupportedVersion;
    /// A body over the limit.
    BodyTooLarge = "filter.body_too_large", BodyTooLarge;
    /// The body ended early, failed, or did not come in time.
    BodyIncomplete = "filter.body_incomplete", BodyIncomplete;
    /// A media type that is not `application/json`.
    MediaType = "filter.media_type", UnsupportedMedia;
    /// gRPC-Web, which only a layer outside of ours can turn into gRPC.
    GrpcWeb = "filter.grpc_web", UnsupportedMedia;
    /// A content coding, or a coding of gRPC messages, that is not switched on.
    ContentEncoding = "filter.content_encoding", UnsupportedMedia;
    /// An HTTP method that this endpoint does not have.
    HttpMethod = "filter.http_method", MethodNotAllowed;
    /// A JSON-RPC method that no rule names.
    MethodDenied = "filter.method_denied", UnknownMethod;
    /// A tool that no rule allows; said like one that does not exist.
    ToolDenied = "filter.tool_denied", UnknownItem;
    /// A resource that no rule allows; said like one that does not exist.
    ResourceDenied = "filter.resource_denied", UnknownItem;
    /// A prompt that no rule allows; said like one that does not exist.
    PromptDenied = "filter.prompt_denied", UnknownItem;
    /// Arguments that the rule does not allow.
    ArgumentsDenied = "filter.arguments_denied", UnknownItem;
    /// A session id that was not given to this user at this server, or a stream that is taken up again without one.
    UnknownSession = "filter.unknown_session", UnknownSession;
    /// A `requestState` that was not given to this user for this very request.
    RequestState = "filter.request_state", InvalidState;
    /// A JSON-RPC answer of the client outside of a session.
    AnswerWithoutSession = "filter.answer_without_session", InvalidMessage;
    /// An HTTP request that no rule allows.
    RequestDenied = "filter.request_denied", Forbidden;
    /// A gRPC path that is not exactly a service and a method.
    RpcPath = "filter.rpc_path", UnknownMethod;
    /// A gRPC method that no rule allows.
    RpcDenied = "filter.rpc_denied", Forbidden;
    /// The token lacks scopes that this operation needs.
    InsufficientScope = "filter.insufficient_scope", InsufficientScope;
    /// The answer of the upstream can't be read, so it can't be filtered.
    AnswerUnreadable = "filter.answer_unreadable", BadGateway;

    // The upstream credential
    /// The user has no grant for this server yet.
    ConnectRequired = "exchange.connect_required", Connect;
    /// The grant lacks scopes that this operation needs upstream.
    UpstreamScopeRequired = "exchange.scope_required", Connect;
    /// The grant was revoked, here or at the authorization server.
    GrantRevoked = "exchange.grant_revoked", Connect;
    /// The upstream refused the credential, and a refreshed one too.
    CredentialRefused = "exchange.credential_refused", Connect;
    /// The policy of the authorization server forbids it.
    AuthorizationServerPolicy = "exchange.authorization_server_policy", Forbidden;
    /// The authorization server, or the store of the grants, can't be reached.
    CredentialUnavailable = "exchange.unavailable", Unavailable;
    /// The credential is for another origin than this upstream.
    WrongOrigin = "exchange.origin", Internal;
    /// The upstream can't be reached, or failed.
    UpstreamFailed = "exchange.upstream_failed", BadGateway;
    /// The upstream did not answer in time.
    UpstreamTimeout = "exchange.upstream_timeout", BadGateway;
    /// The answer echoed the credential where it can't be masked.
    UpstreamEcho = "leak.upstream_echo", BadGateway;

    // The house itself
    /// The audit sink fails or hangs, so nothing may be used.
    AuditUnavailable = "audit.unavailable", Unavailable;
    /// The revocation feed has not been heard from.
    RevocationStale = "revocation.stale", Unavailable;
    /// A layer that should stand outside this one is missing.
    MissingLayer = "stack.missing_layer", Internal;
    /// Our own fault.
    Internal = "stack.internal", Internal;
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
        Self { reason, resource: None, scopes: None, connect_url: None, requested_version: None, retry_after: None }
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

    /// With the page where the user connects an account. It is the broker's own, never the upstream's.
    pub fn connect_at(mut self, url: &str) -> Self {
        self.connect_url = Some(url.into());
        self
    }

    /// With the protocol version that the client asked for, cut and without what is not ASCII: it is told of it again, and nobody else.
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
    #[must_use]
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
            assert!(area.bytes().chain(what.bytes()).all(|b| b.is_ascii_lowercase() || b == b'_'), "{code}");
        }
    }
}
