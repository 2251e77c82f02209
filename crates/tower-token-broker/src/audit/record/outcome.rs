//! The outcomes of requests and of requests to token endpoints.

/// The outcome of a request or a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// Its response was passed on to the end; the job did its work.
    Completed,
    /// It was refused, for the reason given.
    Refused,
    /// The inner service or its response body failed; the job failed.
    Failed,
    /// The client disconnected before the end; the job was dropped.
    Dropped,
    /// Its response was cut, for the reason given; the job was ended by a shutdown.
    Cut,
    /// Its response was complete, but the rest of its request body was not sent, because it came
    /// too slowly.
    UploadCut,
    /// The process ended before the outcome was known. Written when the log is opened again.
    Unknown,
}

impl Outcome {
    /// Returns the word in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
            Self::Cut => "cut",
            Self::UploadCut => "upload_cut",
            Self::Unknown => "unknown",
        }
    }
}

/// The kind of a request to a token endpoint: its `grant_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GrantType {
    /// A refresh token of a stored grant (RFC 6749 §6).
    RefreshToken,
    /// A code that the user's browser brought (RFC 6749 §4.1.3).
    AuthorizationCode,
    /// The broker's own credentials (RFC 6749 §4.4).
    ClientCredentials,
    /// Token exchange (RFC 8693).
    TokenExchange,
    /// An assertion that names the user (RFC 7523 §2.1).
    JwtBearer,
}

impl GrantType {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::RefreshToken,
        Self::AuthorizationCode,
        Self::ClientCredentials,
        Self::TokenExchange,
        Self::JwtBearer,
    ];

    /// Returns the word in the record: that of RFC 6749, or the last part of the URN.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RefreshToken => "refresh_token",
            Self::AuthorizationCode => "authorization_code",
            Self::ClientCredentials => "client_credentials",
            Self::TokenExchange => "token_exchange",
            Self::JwtBearer => "jwt_bearer",
        }
    }
}

/// The outcome of a request to a token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenOutcome {
    /// A token was received.
    Issued,
    /// `invalid_grant`: the grant can no longer be used.
    GrantEnded,
    /// The authorization server refused or could not be reached. A stored grant is kept.
    Failed,
    /// The response was lost: a token may have been issued, and a refresh token rotated.
    Unknown,
}

impl TokenOutcome {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Issued, Self::GrantEnded, Self::Failed, Self::Unknown];

    /// Returns the word in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::GrantEnded => "grant_ended",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}
