//! The members of records.

macro_rules! members {
    ($($variant:ident = $name:literal;)+) => {
        /// A member of a record. `docs/audit-schema.md` lists the members of each kind, with their
        /// types and meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[expect(missing_docs, reason = "each is described in `docs/audit-schema.md` by its name")]
        pub enum Member {
            $($variant,)+
        }

        impl Member {
            /// All members.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the name in the record.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Returns the member with this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

members! {
    Seq = "seq";
    Time = "time";
    Kind = "kind";
    Prev = "prev";
    Hash = "hash";
    Schema = "schema";
    Chain = "chain";
    Writer = "writer";
    Carried = "carried";
    Continues = "continues";
    DroppedBytes = "dropped_bytes";
    Request = "request";
    Job = "job";
    JobName = "job_name";
    Late = "late";
    TokenRequest = "token_request";
    GrantType = "grant_type";
    Count = "count";
    Outcome = "outcome";
    Reason = "reason";
    Status = "status";
    Started = "started";
    Resource = "resource";
    Peer = "peer";
    OuterRequest = "outer_request";
    Issuer = "issuer";
    Subject = "subject";
    Client = "client";
    Token = "token";
    Family = "family";
    Actors = "actors";
    ActorLinks = "actor_links";
    Upstream = "upstream";
    Origin = "origin";
    UpstreamScopes = "upstream_scopes";
    Grant = "grant";
    GrantVersion = "grant_version";
    Method = "method";
    Name = "name";
    Rule = "rule";
    PolicyVersion = "policy_version";
    Intents = "intents";
    Uses = "uses";
    EchoMasked = "echo_masked";
    ResponseBytes = "response_bytes";
    GrpcStatus = "grpc_status";
    MessagesIn = "messages_in";
    MessagesOut = "messages_out";
    Initiator = "initiator";
    InitiatorName = "initiator_name";
    InitiatorIssuer = "initiator_issuer";
    InitiatorSubject = "initiator_subject";
    What = "what";
    Scopes = "scopes";
    Expires = "expires";
    Account = "account";
    Command = "command";
    Target = "target";
    From = "from";
    Until = "until";
    UntilHash = "until_hash";
    Stale = "stale";
    ClientName = "client_name";
    RedirectUris = "redirect_uris";
    Key = "key";
    SignsFrom = "signs_from";
}

/// Added to the name of a member for the SHA-256 of a text that was truncated.
pub(in crate::audit) const SHA256_SUFFIX: &str = "_sha256";
