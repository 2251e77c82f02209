//! Alarms: conditions that an operator must know of and that are not refusals.

use std::fmt;

macro_rules! alarms {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal;)+) => {
        /// A condition that an operator must know of and that is not a refusal. Each error and
        /// warning in the log has one, as the field `alarm`. `docs/operating.md` lists what to do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Alarm {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Alarm {
            /// All alarms.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the code, `area.what`. Codes are permanent.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }
        }
    };
}

alarms! {
    // Audit
    /// Records cannot be written: every request is refused until they can.
    AuditClosed = "audit.closed";
    /// The audit log could not start: every request is refused.
    AuditNotStarted = "audit.not_started";
    /// Earlier records cannot be continued: every request is refused.
    AuditNotResumed = "audit.not_resumed";
    /// The sink failed to write a batch. It is retried.
    AuditSinkFailed = "audit.sink_failed";
    /// The audit file was deleted, renamed, replaced, truncated or written to by another program:
    /// every request is refused.
    AuditFileChanged = "audit.file_changed";
    /// Too many requests without a verified user are refused: they are counted, and share their
    /// records.
    RefusalsCounted = "audit.refusals_counted";

    // The stack
    /// A layer is missing outside another one.
    LayerMissing = "stack.layer_missing";
    /// A request for another path reached the stack of a resource.
    PathNotServed = "stack.path_not_served";
    /// A setting of the stack has no effect.
    SettingWithoutEffect = "stack.setting_without_effect";

    // Clocks
    /// The clock of this process and that of another party differ.
    ClockSkewed = "clock.skewed";
    /// The system clock was set back.
    ClockSetBack = "clock.set_back";
    /// The system clock was set forward.
    ClockSetForward = "clock.set_forward";

    // Authentication
    /// The verifier did not verify a token in time.
    VerifierTimeout = "authn.verifier_timeout";
    /// The introspection endpoint of an issuer failed.
    IntrospectionFailed = "authn.introspection_failed";

    // Key sets
    /// A public key set contains a private key.
    JwksPrivateKey = "jwks.private_key";
    /// A key of a key set cannot be used.
    JwksKeyUnusable = "jwks.key_unusable";
    /// A key set could not be fetched.
    JwksFetchFailed = "jwks.fetch_failed";

    // Filter
    /// An event or list entry of a response could not be judged, and was withheld.
    ResponseWithheld = "filter.response_withheld";

    // Exchange
    /// The upstream returned the credential. It was masked.
    UpstreamEcho = "exchange.upstream_echo";
    /// The upstream returned a live credential of another user. It was masked.
    CredentialOfAnotherUser = "exchange.credential_of_another_user";
    /// More credentials are in use than the leak guard remembers.
    CredentialRegistryFull = "exchange.credential_registry_full";
    /// The transport of an upload panicked.
    TransportPanicked = "exchange.transport_panicked";
    /// The inner service responded without applying the credential.
    CredentialUnused = "exchange.credential_unused";
    /// A credential source returned a credential that cannot be sent safely.
    CredentialUnusable = "exchange.credential_unusable";
    /// A credential source did not handle the refusal of its credential in time.
    SourceTimeout = "exchange.source_timeout";
    /// The upstream did not respond.
    UpstreamUnavailable = "exchange.upstream_unavailable";
    /// A response of the upstream was replaced by a refusal.
    UpstreamResponseRefused = "exchange.upstream_response_refused";
    /// The platform has no root certificates: no https peer is trusted.
    NoRootCertificates = "outbound.no_root_certificates";
    /// Plain http to a host of a private network is allowed.
    PlainHttp = "outbound.plain_http";

    // The authorization server
    /// A code or a refresh token was presented again: its family is ended.
    TokenReplayed = "authority.token_replayed";
    /// A client presented the refresh token of another one.
    TokenOfAnotherClient = "authority.token_of_another_client";
    /// A token family could not be ended everywhere.
    FamilyNotEnded = "authority.family_not_ended";
    /// A broker token could not be signed.
    SigningFailed = "authority.signing_failed";
    /// Signing keys could not be read.
    SigningKeysNotLoaded = "authority.signing_keys_not_loaded";
    /// The store of the authorization server cannot be reached.
    AuthorityStoreUnavailable = "authority.store_unavailable";
    /// Nearly as many clients are registered as may be. Then new ones are refused.
    ClientsNearlyFull = "authority.clients_nearly_full";
    /// A row of the authorization server's store cannot be read.
    AuthorityRowUnreadable = "authority.row_unreadable";

    // Credential sources
    /// A refresh or another request to a token endpoint failed.
    TokenRequestFailed = "upstream.token_request_failed";
    /// The broker could not authenticate at an authorization server, or sign its assertion.
    ClientAuthenticationFailed = "upstream.client_authentication_failed";
    /// An authorization server issued more scopes than requested.
    WiderScopes = "upstream.wider_scopes";
    /// An authorization server issued a refresh token that was not requested.
    UnrequestedRefreshToken = "upstream.unrequested_refresh_token";
    /// An authorization server ended a grant: the user must connect again.
    GrantEnded = "upstream.grant_ended";
    /// An authorization server refuses a grant until the user acts, or for too long: the user
    /// should connect again. The grant is kept and tried each hour.
    GrantNeedsUser = "upstream.grant_needs_user";
    /// Refreshed tokens, or the state of a refresh, could not be stored.
    TokensNotStored = "upstream.tokens_not_stored";
    /// A grant that its user replaced could not be ended everywhere.
    GrantNotEnded = "upstream.grant_not_ended";
    /// Users cannot connect accounts at a server, or one account was not connected.
    ConnectFailed = "upstream.connect_failed";
    /// Tokens of a disconnected account could not be revoked at their authorization server.
    RevocationGivenUp = "upstream.revocation_given_up";
    /// The grant store cannot be reached.
    StoreUnavailable = "upstream.store_unavailable";
    /// The tokens of a grant cannot be decrypted.
    GrantUnreadable = "upstream.grant_unreadable";
    /// A secret is so short that the leak guard masks ordinary text, and was allowed.
    ShortSecret = "upstream.short_secret";
    /// The upstream refuses a configured secret.
    SecretRefused = "upstream.secret_refused";
    /// A caller of another issuer than the assertion may name.
    CallerNotVouchedFor = "upstream.caller_not_vouched_for";

    // Revocation
    /// The revocation feed failed. Requests are refused once it is stale.
    RevocationFeedFailed = "revocation.feed_failed";
    /// The revocation store lost entries.
    RevocationEntriesLost = "revocation.entries_lost";
    /// The table of revocations is full: older ones were widened.
    RevocationTableFull = "revocation.table_full";

    // Sign-in
    /// Too many attempts to sign in come from addresses that are not known. More are refused.
    SignInFlood = "sign_in.flood";

    // Gateway
    /// A plain connection from an address that is no trusted proxy was closed.
    UntrustedPeer = "gateway.untrusted_peer";
    /// A connection was closed, because its address has too many.
    PeerConnections = "gateway.peer_connections";
    /// The process cannot accept connections.
    AcceptFailed = "gateway.accept_failed";
    /// The store is older than it was.
    StoreOutdated = "gateway.store_outdated";
    /// How far the store has come cannot be noted.
    StoreMarkNotNoted = "gateway.store_mark_not_noted";
    /// A changed configuration was not applied.
    ReloadRefused = "gateway.reload_refused";
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}
