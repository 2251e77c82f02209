//! Records of the authorization server: codes, registrations, ended families, signing keys.

use super::{Member, encode::Line};
use crate::{
    clock::Timestamp,
    principal::{Resource, Scopes, User},
};

/// An authorization code that is about to be issued.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "each of these facts belongs on the record")]
pub struct IssuedCode<'a> {
    /// The user who allowed access.
    pub user: &'a User,
    /// The client that receives the code.
    pub client: &'a str,
    /// The protected resource.
    pub resource: &'a Resource,
    /// The scopes that the user allowed.
    pub scopes: &'a Scopes,
    /// The family of the tokens that the code is redeemed for.
    pub family: &'a str,
    /// The time at which the code expires.
    pub expires: Timestamp,
}

/// The kind of grant that a client redeemed for a broker token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenGrant {
    /// An authorization code.
    AuthorizationCode,
    /// The current refresh token of its family.
    RefreshToken,
    /// A refresh token that another one has superseded a short time ago.
    StaleRefreshToken,
}

impl TokenGrant {
    /// Returns the word in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::RefreshToken | Self::StaleRefreshToken => "refresh_token",
        }
    }

    pub(super) fn write(self, line: &mut Line<'_>) {
        line.word(Member::GrantType, self.as_str());
        if self == Self::StaleRefreshToken {
            line.flag(Member::Stale);
        }
    }
}

/// A client that registers itself.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "each of these facts belongs on the record")]
pub struct RegisteredClient<'a> {
    /// The ID of the client.
    pub client: &'a str,
    /// The name that it claims.
    pub name: Option<&'a str>,
    /// Its redirect URIs, separated by blanks.
    pub redirect_uris: &'a str,
}

/// A token family that is about to end.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "each of these facts belongs on the record")]
pub struct EndedFamily<'a> {
    /// The user who allowed access.
    pub user: &'a User,
    /// The client.
    pub client: &'a str,
    /// The protected resource.
    pub resource: &'a Resource,
    /// The family.
    pub family: &'a str,
    /// Why it ends.
    pub cause: FamilyEndCause,
}

/// Why a token family ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FamilyEndCause {
    /// Its authorization code was presented again.
    CodeReplay,
    /// A refresh token was presented again after it had been superseded.
    RefreshReplay,
    /// The client revoked a token (RFC 7009).
    Client,
    /// The user ended it.
    User,
    /// The user, the client or the family was revoked, or the user was blocked or disabled.
    Revoked,
}

impl FamilyEndCause {
    /// All of them.
    pub const ALL: &'static [Self] =
        &[Self::CodeReplay, Self::RefreshReplay, Self::Client, Self::User, Self::Revoked];

    /// Returns the word in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CodeReplay => "code_replay",
            Self::RefreshReplay => "refresh_replay",
            Self::Client => "client",
            Self::User => "user",
            Self::Revoked => "revoked",
        }
    }
}

/// A key that is published, to sign broker tokens later.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "each of these facts belongs on the record")]
pub struct PublishedKey<'a> {
    /// The ID of the key (`kid`).
    pub key: &'a str,
    /// The time from which it signs.
    pub signs_from: Timestamp,
}

impl IssuedCode<'_> {
    pub(super) fn write(&self, line: &mut Line<'_>) {
        line.user(self.user);
        line.text(Member::Client, self.client);
        line.text(Member::Family, self.family);
        line.setting(Member::Resource, self.resource.as_str());
        line.scopes(Member::Scopes, self.scopes);
        line.time(Member::Expires, self.expires);
    }
}

impl RegisteredClient<'_> {
    pub(super) fn write(&self, line: &mut Line<'_>) {
        line.text(Member::Client, self.client);
        if let Some(name) = self.name {
            line.text(Member::ClientName, name);
        }
        line.text(Member::RedirectUris, self.redirect_uris);
    }
}

impl EndedFamily<'_> {
    pub(super) fn write(&self, line: &mut Line<'_>) {
        line.user(self.user);
        line.text(Member::Client, self.client);
        line.text(Member::Family, self.family);
        line.setting(Member::Resource, self.resource.as_str());
        line.word(Member::What, self.cause.as_str());
    }
}

impl PublishedKey<'_> {
    pub(super) fn write(&self, line: &mut Line<'_>) {
        line.text(Member::Key, self.key);
        line.time(Member::SignsFrom, self.signs_from);
    }
}
