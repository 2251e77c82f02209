//! Error codes of authorization servers, and what each means for the grant.

use std::sync::Arc;

/// Kind of a refusal by the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    /// The grant or token of the user has ended, or is not accepted.
    Grant,
    /// The server does not accept the broker's authentication.
    Client,
    /// The server does not grant these scopes.
    Scopes,
    /// The user must act at the server first (OpenID Connect Core §3.1.2.6).
    User,
    /// The server's policy forbids this target, client or grant type.
    Policy,
}

/// Error codes of RFC 6749 §5.2 and its extensions.
const STANDARD: &[(&str, Denial)] = &[
    ("invalid_grant", Denial::Grant),
    ("invalid_scope", Denial::Scopes),
    ("interaction_required", Denial::User),
    ("login_required", Denial::User),
    ("consent_required", Denial::User),
    ("account_selection_required", Denial::User),
    // RFC 8693 §2.2.2: `invalid_request` also means an unacceptable subject or actor token.
    ("invalid_request", Denial::Policy),
    ("invalid_target", Denial::Policy),
    ("unauthorized_client", Denial::Policy),
    ("unsupported_grant_type", Denial::Policy),
    ("access_denied", Denial::Policy),
];

// G480
/// Error codes with which providers refuse a refresh token that has ended, and which name it. An
/// `error_description` is never judged: it is text for people, and changes without notice.
const OF_REFRESH_TOKENS: &[&str] = &[
    // GitHub, and HubSpot in upper case.
    "bad_refresh_token",
    // Slack.
    "invalid_refresh_token",
];

// G517
/// Error codes with which providers refuse a refresh token that has ended, and others any token or
/// code. They end a grant only where those providers write them.
const OF_SOME_TOKEN: &[&str] = &[
    // Slack.
    "token_revoked",
    "token_expired",
    // Zoho.
    "invalid_code",
];

// G516
/// Error codes with which servers refuse the broker as a client. They concern no grant, also not
/// if the operator configures them.
const OF_CLIENTS: &[&str] = &[
    "invalid_client",
    // GitHub.
    "incorrect_client_credentials",
    // Slack.
    "bad_client_secret",
    "invalid_client_id",
];

/// Error codes of an outage. They concern no grant, at whatever status, also not if the operator
/// configures them.
const OF_OUTAGES: &[&str] = &[
    "temporarily_unavailable",
    "server_error",
    "internal_error",
    "slow_down",
    "ratelimited",
    "rate_limited",
];

/// Error codes that the operator added for one server.
#[derive(Clone, Debug, Default)]
pub(crate) struct ErrorCodes {
    grant: Arc<[Box<str>]>,
    user: Arc<[Box<str>]>,
}

impl ErrorCodes {
    pub(super) fn end_grants<'c>(&mut self, codes: impl IntoIterator<Item = &'c str>) {
        self.grant = self.grant.iter().cloned().chain(codes.into_iter().map(Into::into)).collect();
    }

    pub(super) fn need_user<'c>(&mut self, codes: impl IntoIterator<Item = &'c str>) {
        self.user = self.user.iter().cloned().chain(codes.into_iter().map(Into::into)).collect();
    }
}

/// The codes that a response is compared with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Codes<'a> {
    /// Those of the standards: the request had no refresh token.
    Standard,
    /// Those of the standards, of providers and of the operator.
    OfRefresh(&'a ErrorCodes),
}

/// Where a response has its error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The text of `error`, in a success.
    InSuccess,
    /// The text of `error`, in a 400.
    InBadRequest,
    /// In a part of `error`, in another member, or in a response of another status: it may be about
    /// another token, such as one that a gateway in front of the server expects.
    Elsewhere,
}

impl Codes<'_> {
    /// Returns what a code means in this place; `None` if it is not known, or that of an outage.
    /// Case makes no difference.
    // G516: an outage or an unaccepted client ends no grant, whatever was configured.
    pub(super) fn denial(self, code: &str, place: Place) -> Option<Denial> {
        if is_outage(code) {
            return None;
        }
        if is_among(OF_CLIENTS, code) {
            return Some(Denial::Client);
        }
        let is = |known: &str| known.eq_ignore_ascii_case(code);
        let configured = match self {
            Self::Standard => None,
            Self::OfRefresh(own) if own.user.iter().any(|known| is(known)) => Some(Denial::User),
            Self::OfRefresh(own) if own.grant.iter().any(|known| is(known)) => Some(Denial::Grant),
            Self::OfRefresh(_) if is_among(OF_REFRESH_TOKENS, code) => Some(Denial::Grant),
            // G517: a code that may be about something else counts only if it lasts.
            Self::OfRefresh(_) => {
                let is_meant = place == Place::InSuccess && is_among(OF_SOME_TOKEN, code);
                is_meant.then_some(Denial::Grant)
            }
        };
        let standard = STANDARD.iter().find(|(known, _)| is(known)).map(|(_, denial)| *denial);
        let standard =
            standard.filter(|denial| *denial != Denial::User || place != Place::Elsewhere);
        configured.or(standard)
    }
}

/// Returns whether a code is that of an outage.
pub(super) fn is_outage(code: &str) -> bool {
    is_among(OF_OUTAGES, code)
}

fn is_among(codes: &[&str], code: &str) -> bool {
    codes.iter().any(|known| known.eq_ignore_ascii_case(code))
}

impl Denial {
    pub(crate) const fn what(self) -> &'static str {
        match self {
            Self::Grant => "the authorization server does not accept the grant",
            Self::Client => "the authorization server does not accept the broker as a client",
            Self::Scopes => "the authorization server does not accept the scopes",
            Self::User => "the authorization server wants the user to act first",
            Self::Policy => "the authorization server's policy forbids it",
        }
    }
}
