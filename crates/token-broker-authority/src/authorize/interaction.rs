//! The pages of the authorize endpoint, as a trait: who is signed in, and how a page is rendered.

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use tower_token_broker::{
    clock::Timestamp,
    principal::{Resource, User},
    request_id::RequestId,
};

use super::{ConsentRequest, RefusedRequest};

/// Renders the pages of the authorize endpoint, and knows who is signed in.
///
/// The authorize endpoint decides what is shown; an implementation renders it, and adds the
/// headers that keep a page from being framed or stored.
pub trait Interaction: Send + Sync + 'static {
    /// Returns who is signed in, in the browser that sent these headers.
    ///
    /// # Errors
    /// The store of sessions is not reachable.
    fn signed_in(
        &self,
        headers: &HeaderMap,
    ) -> impl Future<Output = Result<Option<SignedIn>, SessionsUnavailable>> + Send;

    /// Returns the response that lets the user sign in. After it, the browser continues at
    /// [`Pending::location`](super::Pending::location) of the value that
    /// [`PendingRequests::open`](super::PendingRequests::open) opens `pending` to.
    fn sign_in(&self, pending: &str) -> Response<Bytes>;

    /// Returns the consent page.
    fn consent(&self, user: &SignedIn, request: &ConsentRequest) -> Response<Bytes>;

    /// Returns whether a server needs an account of this user that is not connected. The consent
    /// page announces it before the decision. By default, no server does.
    ///
    /// # Errors
    /// It is not known.
    fn needs_account(
        &self,
        user: &SignedIn,
        resource: &Resource,
    ) -> impl Future<Output = Result<bool, SessionsUnavailable>> + Send {
        let _ = (user, resource);
        std::future::ready(Ok(false))
    }

    /// Returns the response that lets a user connect such an account, after the user has allowed
    /// access and before the code is issued; `None` to issue it at once. Afterwards, or if the user
    /// does not connect it, the browser continues at the authority's `/oauth/allowed`, with
    /// `ticket` as its parameter of that name. By default, the code is issued at once.
    ///
    /// # Errors
    /// It is not known.
    fn connect_first(
        &self,
        user: &SignedIn,
        resource: &Resource,
        ticket: &str,
    ) -> impl Future<Output = Result<Option<Response<Bytes>>, SessionsUnavailable>> + Send {
        let _ = (user, resource, ticket);
        std::future::ready(Ok(None))
    }

    /// Returns whether a form was sent from our own page in the session of this user: by the
    /// request's `Sec-Fetch-Site` and `Origin`, and the token in the form
    /// ([`ConsentRequest::CSRF_FIELD`]).
    fn is_own_form(&self, user: &SignedIn, headers: &HeaderMap, token: Option<&str>) -> bool;

    /// Returns an error page: what happened, what to do, and the ID of the request.
    fn error(&self, error: AuthorizePageError, request: &RequestId) -> Response<Bytes>;

    /// Returns the error page of a request that is refused, of a client that described itself: what
    /// happened, a link to the client, and the ID of the request. It must not lead the browser
    /// there by itself.
    fn refused(&self, refused: &RefusedRequest, request: &RequestId) -> Response<Bytes>;
}

/// A user who is signed in, in one browser.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SignedIn {
    /// The user.
    pub user: User,
    /// The name that the page shows.
    pub display_name: Box<str>,
    /// Text that identifies the session, and is no secret (such as the stored hash of its ID).
    /// Consent forms are sealed for it.
    pub session: Box<str>,
    /// The session's token against forged forms.
    pub csrf_token: Box<str>,
    /// When the user last signed in, if it is known.
    pub authenticated_at: Option<Timestamp>,
}

impl SignedIn {
    /// Creates the description of a session.
    pub fn new(user: User, display_name: &str, session: &str, csrf_token: &str) -> Self {
        let (display_name, session) = (display_name.into(), session.into());
        let csrf_token = csrf_token.into();
        Self { user, display_name, session, csrf_token, authenticated_at: None }
    }

    /// Sets when the user last signed in.
    #[must_use = "returns the changed value"]
    pub const fn authenticated_at(mut self, at: Timestamp) -> Self {
        self.authenticated_at = Some(at);
        self
    }
}

/// The store of sessions is not reachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store of sessions is not reachable; try again")]
#[non_exhaustive]
pub struct SessionsUnavailable;

impl SessionsUnavailable {
    /// Creates the error.
    pub const fn new() -> Self {
        Self
    }
}

impl Default for SessionsUnavailable {
    fn default() -> Self {
        Self::new()
    }
}

/// The reasons why the authorize endpoint shows an error page and does not redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuthorizePageError {
    /// The request has no `client_id`, several, or one that is no client's.
    UnknownClient,
    /// The client's metadata document could not be fetched, or is not valid.
    ClientDocument,
    /// The request has no `redirect_uri`, several, or one that the client did not register.
    RedirectUri,
    /// The query is too long or not readable.
    Unreadable,
    /// The pending request or the consent form has expired, or was made for another session.
    Expired,
    /// The consent form was sent before: another decision, or one whose code was redeemed or has
    /// expired.
    AlreadyDecided,
    /// The form did not come from our page.
    Forged,
    /// Too many requests.
    TooManyRequests,
    /// The broker cannot process the request now.
    Unavailable,
}

impl AuthorizePageError {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::UnknownClient,
        Self::ClientDocument,
        Self::RedirectUri,
        Self::Unreadable,
        Self::Expired,
        Self::AlreadyDecided,
        Self::Forged,
        Self::TooManyRequests,
        Self::Unavailable,
    ];

    /// Returns the status of the page.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::UnknownClient
            | Self::ClientDocument
            | Self::RedirectUri
            | Self::Unreadable
            | Self::Expired
            | Self::AlreadyDecided => StatusCode::BAD_REQUEST,
            Self::Forged => StatusCode::FORBIDDEN,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Returns the code, for logs and records.
    pub const fn code(self) -> &'static str {
        match self {
            Self::UnknownClient => "authz.client",
            Self::ClientDocument => "authz.client_document",
            Self::RedirectUri => "authz.redirect_uri",
            Self::Unreadable => "authz.unreadable",
            Self::Expired => "authz.expired",
            Self::AlreadyDecided => "consent.replayed",
            Self::Forged => "consent.csrf",
            Self::TooManyRequests => "authz.rate_limited",
            Self::Unavailable => "authz.unavailable",
        }
    }

    /// Returns what happened, as a sentence.
    pub const fn what_happened(self) -> &'static str {
        match self {
            Self::UnknownClient => {
                "The application that sent you here is not known to this broker."
            }
            Self::ClientDocument => {
                "The application that sent you here is described by a document that could not be \
                 read."
            }
            Self::RedirectUri => {
                "The application asked to return to an address that it did not register, so you \
                 are not sent there."
            }
            Self::Unreadable => "The request of the application could not be read.",
            Self::Expired => "This page has expired, or belongs to another sign-in.",
            Self::AlreadyDecided => {
                "This request was already decided, and the application has the decision."
            }
            Self::Forged => "The form was not sent from this page.",
            Self::TooManyRequests => "There were too many requests.",
            Self::Unavailable => "The broker cannot process the request at the moment.",
        }
    }

    /// Returns what the user can do, as a sentence.
    pub const fn what_to_do(self) -> &'static str {
        match self {
            Self::UnknownClient => {
                "Close this window. Let the application sign in again; if that does not help, \
                 remove this server from the application and add it again."
            }
            Self::ClientDocument => {
                "Close this window and try again from the application in a minute."
            }
            Self::RedirectUri | Self::Unreadable => {
                "Close this window, and report this to the makers of the application."
            }
            Self::Expired | Self::Forged => "Close this window and try again from the application.",
            Self::AlreadyDecided => {
                "Close this window and go back to the application. If it is not connected, sign in \
                 again from there."
            }
            Self::TooManyRequests | Self::Unavailable => {
                "Wait a minute, then try again from the application."
            }
        }
    }
}
