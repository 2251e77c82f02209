//! Notes: records of what happened outside of requests to a protected resource.

use std::net::SocketAddr;

use super::{
    EndedFamily, Head, IssuedCode, Member, PolicyDigest, PublishedKey, RecordKind,
    RegisteredClient, TokenGrant, encode::Line,
};
use crate::{
    clock::Timestamp,
    principal::{GrantId, Initiator, Resource, Scopes, User},
    revocation::{RevocationChange, RevocationTarget},
};

/// A record of a sign-in, a consent, an issued token, a connection, a command or a reload; see
/// [`AuditLog::note`](super::super::AuditLog::note).
///
/// What was revoked or blocked is recorded by the [`Broker`](crate::Broker) that does it.
#[derive(Clone, Copy, Debug)]
#[must_use = "a note is not recorded until `AuditLog::note` takes it"]
pub struct Note<'a> {
    subject: Subject<'a>,
    peer: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug)]
enum Subject<'a> {
    SignIn { user: Option<&'a User>, failure: Option<SignInFailure> },
    SignOut { user: &'a User, extent: SignOutExtent },
    PasswordChanged { user: &'a User, has_succeeded: bool },
    FirstAccount { user: &'a User, has_succeeded: bool },
    Consent { consent: Consent<'a>, is_allowed: bool },
    CodeIssued(IssuedCode<'a>),
    TokenIssued { token: IssuedToken<'a>, grant: Option<TokenGrant> },
    ClientRegistered(RegisteredClient<'a>),
    FamilyEnded(EndedFamily<'a>),
    KeyPublished(PublishedKey<'a>),
    Connected(Connection<'a>),
    Disconnected(Connection<'a>),
    UpstreamRevocation(UpstreamRevocation<'a>),
    Command { name: &'static str, target: Option<&'a str>, outcome: &'static str },
    Reloaded { what: Reloaded, policy: Option<PolicyDigest>, is_applied: bool },
    Revocation(&'a RevocationChange),
    SegmentsRemoved(RemovedSegments<'a>),
}

/// The records that are removed with whole segments of one chain.
#[derive(Clone, Copy, Debug)]
pub(in crate::audit) struct RemovedSegments<'a> {
    /// The writer of the chain.
    pub(in crate::audit) writer: &'a str,
    /// The random name of the chain.
    pub(in crate::audit) chain: &'a [u8; 16],
    /// The sequence number of the first record that is removed.
    pub(in crate::audit) from: u64,
    /// The last record that is removed.
    pub(in crate::audit) until: Head,
}

/// The decision that a user makes on the consent page.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "each of these facts belongs on the record")]
pub struct Consent<'a> {
    /// The user who decides.
    pub user: &'a User,
    /// The client that wants to act for the user.
    pub client: &'a str,
    /// The protected resource.
    pub resource: &'a Resource,
    /// The scopes of the broker token.
    pub scopes: &'a Scopes,
}

/// A broker token that is about to be issued.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "each of these facts belongs on the record")]
pub struct IssuedToken<'a> {
    /// The user for whom the token speaks.
    pub user: &'a User,
    /// The client that receives the token.
    pub client: &'a str,
    /// The protected resource.
    pub resource: &'a Resource,
    /// The scopes of the token.
    pub scopes: &'a Scopes,
    /// The ID of the token (`jti`), never the token.
    pub token: &'a str,
    /// The family of the token, if it has one.
    pub family: Option<&'a str>,
    /// The time at which the token expires.
    pub expires: Timestamp,
}

/// A user's connection to an account at an upstream.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "each of these facts belongs on the record")]
pub struct Connection<'a> {
    /// The user.
    pub user: &'a User,
    /// The name of the upstream.
    pub upstream: &'a str,
    /// The name of the account there, if the user has several.
    pub account: Option<&'a str>,
    /// The ID of the grant.
    pub grant: &'a GrantId,
    /// The scopes of the grant.
    pub scopes: &'a Scopes,
}

/// Tokens of a connection that was removed, and what their authorization server did with them.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "each of these facts belongs on the record")]
pub struct UpstreamRevocation<'a> {
    /// The user.
    pub user: &'a User,
    /// The name of the upstream.
    pub upstream: &'a str,
    /// The name of the account there, if the user has several.
    pub account: Option<&'a str>,
    /// The ID of the grant that had the tokens, or of the connect that did not become one.
    pub grant: &'a GrantId,
    /// The outcome.
    pub outcome: UpstreamRevocationOutcome,
}

/// The outcome of a revocation at an authorization server (RFC 7009).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UpstreamRevocationOutcome {
    /// The authorization server revoked the tokens, or did not know them any more.
    Revoked,
    /// The authorization server refused to revoke them.
    Refused,
    /// The authorization server revokes no tokens, or not these.
    NotSupported,
    /// The authorization server did not accept a request for days.
    GivenUp,
    /// The user connected the account again before: at some authorization servers, a revocation
    /// would have ended the new connection as well. Nothing was sent.
    Replaced,
}

impl UpstreamRevocationOutcome {
    /// All of them.
    pub const ALL: &'static [Self] =
        &[Self::Revoked, Self::Refused, Self::NotSupported, Self::GivenUp, Self::Replaced];

    /// Returns the word in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Refused => "refused",
            Self::NotSupported => "not_supported",
            Self::GivenUp => "given_up",
            Self::Replaced => "replaced",
        }
    }
}

/// The reason why a sign-in failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SignInFailure {
    /// There is no account with this name.
    UnknownAccount,
    /// The password is wrong.
    WrongPassword,
    /// The password is right, and the account is disabled or the user is blocked.
    Disabled,
    /// The password is right, and the user must set another one first.
    MustChangePassword,
    /// Too many attempts. Only the first one that is refused has a record.
    Throttled,
}

impl SignInFailure {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::UnknownAccount,
        Self::WrongPassword,
        Self::Disabled,
        Self::MustChangePassword,
        Self::Throttled,
    ];

    /// Returns the code in the record. Codes are permanent.
    pub const fn code(self) -> &'static str {
        match self {
            Self::UnknownAccount => "sign_in.unknown_account",
            Self::WrongPassword => "sign_in.wrong_password",
            Self::Disabled => "sign_in.disabled",
            Self::MustChangePassword => "sign_in.must_change_password",
            Self::Throttled => "sign_in.throttled",
        }
    }
}

/// How much a user signed out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SignOutExtent {
    /// The session of one browser.
    Session,
    /// All sessions of the user, and all access of clients.
    Everywhere,
}

impl SignOutExtent {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Session, Self::Everywhere];

    /// Returns the word in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Everywhere => "everywhere",
        }
    }
}

/// The part of the configuration that was read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reloaded {
    /// The rules of a policy.
    Policy,
    /// The list of servers.
    Servers,
    /// Keys: of the issuer, for sealing, or for encryption.
    Keys,
}

impl Reloaded {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Policy, Self::Servers, Self::Keys];

    /// Returns the word in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Servers => "servers",
            Self::Keys => "keys",
        }
    }
}

impl<'a> Note<'a> {
    /// A user signed in.
    pub const fn signed_in(user: &'a User) -> Self {
        Self::new(Subject::SignIn { user: Some(user), failure: None })
    }

    /// A sign-in failed; of which user, if the account exists. The name that a visitor typed is not
    /// recorded otherwise: it may be a password in the wrong field.
    pub const fn sign_in_failed(user: Option<&'a User>, failure: SignInFailure) -> Self {
        Self::new(Subject::SignIn { user, failure: Some(failure) })
    }

    /// A user signed out.
    pub const fn signed_out(user: &'a User, extent: SignOutExtent) -> Self {
        Self::new(Subject::SignOut { user, extent })
    }

    /// The password of a local account is about to be set, by its user or an operator. Record it
    /// before it is set.
    pub const fn password_changed(user: &'a User) -> Self {
        Self::new(Subject::PasswordChanged { user, has_succeeded: true })
    }

    /// The password of a local account was not set, after all.
    pub const fn password_change_failed(user: &'a User) -> Self {
        Self::new(Subject::PasswordChanged { user, has_succeeded: false })
    }

    /// The first local account is about to be created, by its one-time link.
    pub const fn first_account(user: &'a User) -> Self {
        Self::new(Subject::FirstAccount { user, has_succeeded: true })
    }

    /// The first local account was not created, after all.
    pub const fn first_account_failed(user: &'a User) -> Self {
        Self::new(Subject::FirstAccount { user, has_succeeded: false })
    }

    /// A user allowed a client to act for them.
    pub const fn consent_allowed(consent: Consent<'a>) -> Self {
        Self::new(Subject::Consent { consent, is_allowed: true })
    }

    /// A user did not allow a client to act for them.
    pub const fn consent_denied(consent: Consent<'a>) -> Self {
        Self::new(Subject::Consent { consent, is_allowed: false })
    }

    /// A token is about to be issued. Record it before the token is sent.
    pub const fn token_issued(token: IssuedToken<'a>) -> Self {
        Self::new(Subject::TokenIssued { token, grant: None })
    }

    /// A token is about to be issued for a code or a refresh token. Record it before the token is
    /// sent.
    pub const fn token_issued_for(token: IssuedToken<'a>, grant: TokenGrant) -> Self {
        Self::new(Subject::TokenIssued { token, grant: Some(grant) })
    }

    /// An authorization code is about to be issued. Record it before the code is sent.
    pub const fn code_issued(code: IssuedCode<'a>) -> Self {
        Self::new(Subject::CodeIssued(code))
    }

    /// A client registers itself. Record it before the registration is returned.
    pub const fn client_registered(client: RegisteredClient<'a>) -> Self {
        Self::new(Subject::ClientRegistered(client))
    }

    /// A token family ends before its time. The revocation of its access tokens is recorded by the
    /// [`Broker`](crate::Broker).
    pub const fn family_ended(family: EndedFamily<'a>) -> Self {
        Self::new(Subject::FamilyEnded(family))
    }

    /// A key was published, to sign broker tokens later.
    pub const fn key_published(key: PublishedKey<'a>) -> Self {
        Self::new(Subject::KeyPublished(key))
    }

    /// A user connected an account.
    pub const fn connected(connection: Connection<'a>) -> Self {
        Self::new(Subject::Connected(connection))
    }

    /// A connection was removed.
    pub const fn disconnected(connection: Connection<'a>) -> Self {
        Self::new(Subject::Disconnected(connection))
    }

    /// Tokens of a removed connection were revoked at their authorization server, or not.
    pub const fn upstream_revocation(revocation: UpstreamRevocation<'a>) -> Self {
        Self::new(Subject::UpstreamRevocation(revocation))
    }

    /// A command begins, on `target` if it concerns one thing; for example `users block` on a user.
    pub const fn command_begun(name: &'static str, target: Option<&'a str>) -> Self {
        Self::new(Subject::Command { name, target, outcome: "begun" })
    }

    /// A command ran, on `target` if it concerns one thing; for example `users block` on a user.
    pub const fn command(name: &'static str, target: Option<&'a str>) -> Self {
        Self::new(Subject::Command { name, target, outcome: "succeeded" })
    }

    /// A command failed.
    pub const fn command_failed(name: &'static str, target: Option<&'a str>) -> Self {
        Self::new(Subject::Command { name, target, outcome: "failed" })
    }

    /// A part of the configuration was replaced; of a policy, with the digest of its rules.
    pub const fn reloaded(what: Reloaded, policy: Option<PolicyDigest>) -> Self {
        Self::new(Subject::Reloaded { what, policy, is_applied: true })
    }

    /// A part of the configuration was invalid. The previous one stays in use.
    pub const fn reload_refused(what: Reloaded) -> Self {
        Self::new(Subject::Reloaded { what, policy: None, is_applied: false })
    }

    /// Adds the address from which the initiator connected.
    pub const fn peer(mut self, peer: SocketAddr) -> Self {
        self.peer = Some(peer);
        self
    }

    pub(crate) const fn revocation(change: &'a RevocationChange) -> Self {
        Self::new(Subject::Revocation(change))
    }

    pub(in crate::audit) const fn segments_removed(removed: RemovedSegments<'a>) -> Self {
        Self::new(Subject::SegmentsRemoved(removed))
    }

    const fn new(subject: Subject<'a>) -> Self {
        Self { subject, peer: None }
    }

    pub(super) const fn kind(&self) -> RecordKind {
        match self.subject {
            Subject::SignIn { .. } => RecordKind::SignIn,
            Subject::SignOut { .. } => RecordKind::SignOut,
            Subject::PasswordChanged { .. } => RecordKind::PasswordChanged,
            Subject::FirstAccount { .. } => RecordKind::FirstAccount,
            Subject::Consent { .. } => RecordKind::Consent,
            Subject::CodeIssued(_) => RecordKind::CodeIssued,
            Subject::TokenIssued { .. } => RecordKind::TokenIssued,
            Subject::ClientRegistered(_) => RecordKind::ClientRegistered,
            Subject::FamilyEnded(_) => RecordKind::FamilyEnded,
            Subject::KeyPublished(_) => RecordKind::KeyPublished,
            Subject::Connected(_) => RecordKind::Connected,
            Subject::Disconnected(_) => RecordKind::Disconnected,
            Subject::UpstreamRevocation(_) => RecordKind::UpstreamRevocation,
            Subject::Command { .. } => RecordKind::Command,
            Subject::Reloaded { .. } => RecordKind::Reloaded,
            Subject::SegmentsRemoved(_) => RecordKind::SegmentsRemoved,
            Subject::Revocation(RevocationChange::Revoked(_)) => RecordKind::Revoked,
            Subject::Revocation(RevocationChange::Blocked(_)) => RecordKind::Blocked,
            Subject::Revocation(RevocationChange::Unblocked(_)) => RecordKind::Unblocked,
            Subject::Revocation(RevocationChange::GrantRestored(_)) => RecordKind::GrantRestored,
        }
    }

    /// Whether the record must be written even while nothing else may be: a revocation and the end
    /// of a token family hold before they are recorded.
    pub(in crate::audit) const fn must_be_written(&self) -> bool {
        matches!(self.subject, Subject::Revocation(_) | Subject::FamilyEnded(_))
    }

    pub(super) fn write(&self, initiator: &Initiator, line: &mut Line<'_>) {
        line.word(Member::Initiator, initiator.kind());
        if let Some(name) = initiator.name() {
            line.text(Member::InitiatorName, name);
        }
        if let Some(user) = initiator.as_user() {
            line.text(Member::InitiatorIssuer, user.issuer());
            line.text(Member::InitiatorSubject, user.subject());
        }
        if let Some(peer) = self.peer {
            line.text(Member::Peer, &peer.to_string());
        }
        self.subject.write(line);
    }
}

impl Subject<'_> {
    fn write(&self, line: &mut Line<'_>) {
        match self {
            Self::SignIn { user, failure } => {
                line.word(Member::Outcome, success(failure.is_none()));
                failure.iter().for_each(|failure| line.word(Member::Reason, failure.code()));
                user.iter().for_each(|user| line.user(user));
            }
            Self::SignOut { user, extent } => {
                line.word(Member::What, extent.as_str());
                line.user(user);
            }
            Self::PasswordChanged { user, has_succeeded }
            | Self::FirstAccount { user, has_succeeded } => {
                line.word(Member::Outcome, success(*has_succeeded));
                line.user(user);
            }
            Self::Consent { consent, is_allowed } => {
                line.word(Member::Outcome, if *is_allowed { "allowed" } else { "denied" });
                consent.write(line);
            }
            Self::CodeIssued(code) => code.write(line),
            Self::TokenIssued { token, grant } => {
                token.write(line);
                grant.iter().for_each(|grant| grant.write(line));
            }
            Self::ClientRegistered(client) => client.write(line),
            Self::FamilyEnded(family) => family.write(line),
            Self::KeyPublished(key) => key.write(line),
            Self::Connected(connection) | Self::Disconnected(connection) => connection.write(line),
            Self::UpstreamRevocation(revocation) => revocation.write(line),
            Self::Command { name, target, outcome } => {
                line.word(Member::Command, name);
                target.iter().for_each(|target| line.text(Member::Target, target));
                line.word(Member::Outcome, outcome);
            }
            Self::Reloaded { what, policy, is_applied } => {
                line.word(Member::What, what.as_str());
                if let Some(policy) = policy {
                    line.hex(Member::PolicyVersion, policy.as_bytes());
                }
                line.word(Member::Outcome, if *is_applied { "applied" } else { "refused" });
            }
            Self::Revocation(change) => write_change(change, line),
            Self::SegmentsRemoved(removed) => removed.write(line),
        }
    }
}

const fn success(has_succeeded: bool) -> &'static str {
    if has_succeeded { "succeeded" } else { "failed" }
}

impl RemovedSegments<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.text(Member::Writer, self.writer);
        line.hex(Member::Chain, self.chain);
        line.number(Member::From, self.from);
        line.number(Member::Until, self.until.sequence);
        line.hex(Member::UntilHash, &self.until.hash);
    }
}

impl Consent<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.user(self.user);
        line.text(Member::Client, self.client);
        line.setting(Member::Resource, self.resource.as_str());
        line.scopes(Member::Scopes, self.scopes);
    }
}

impl IssuedToken<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.user(self.user);
        line.text(Member::Client, self.client);
        line.text(Member::Token, self.token);
        if let Some(family) = self.family {
            line.text(Member::Family, family);
        }
        line.setting(Member::Resource, self.resource.as_str());
        line.scopes(Member::Scopes, self.scopes);
        line.time(Member::Expires, self.expires);
    }
}

impl Connection<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.user(self.user);
        line.setting(Member::Upstream, self.upstream);
        if let Some(account) = self.account {
            line.text(Member::Account, account);
        }
        line.text(Member::Grant, self.grant.as_str());
        line.scopes(Member::UpstreamScopes, self.scopes);
    }
}

impl UpstreamRevocation<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.user(self.user);
        line.setting(Member::Upstream, self.upstream);
        if let Some(account) = self.account {
            line.text(Member::Account, account);
        }
        line.text(Member::Grant, self.grant.as_str());
        line.word(Member::Outcome, self.outcome.as_str());
    }
}

fn write_change(change: &RevocationChange, line: &mut Line<'_>) {
    match change {
        RevocationChange::Revoked(target) => {
            line.word(Member::What, target.kind());
            write_target(target, line);
        }
        RevocationChange::Blocked(user) | RevocationChange::Unblocked(user) => line.user(user),
        RevocationChange::GrantRestored(grant) => line.text(Member::Grant, grant.as_str()),
    }
}

fn write_target(target: &RevocationTarget, line: &mut Line<'_>) {
    let mut of_issuer = |issuer: &str, member: Member, id: &str| {
        line.text(Member::Issuer, issuer);
        line.text(member, id);
    };
    match target {
        RevocationTarget::Token { issuer, id } => of_issuer(issuer, Member::Token, id),
        RevocationTarget::Family { issuer, id } => of_issuer(issuer, Member::Family, id),
        RevocationTarget::Client { issuer, id } => of_issuer(issuer, Member::Client, id),
        RevocationTarget::User(user) => line.user(user),
        RevocationTarget::Grant(grant) => line.text(Member::Grant, grant.as_str()),
        RevocationTarget::Server(resource) => line.setting(Member::Resource, resource.as_str()),
        RevocationTarget::Everything => {}
    }
}
