//! The pages as one handler, and what all of them share.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Response};
use token_broker_store::{authority::AuthorityStore, connect::BoxConnections};
use tower_token_broker::{
    Broker,
    audit::{AuditError, Note},
    clock::Clock,
    principal::{Initiator, User},
};

use super::{
    BrowserRequest, ClientAccess, Passwords, PasswordsOptions, ThrottleOptions,
    connect::ConnectPath,
    form::Form,
    request::{method_not_allowed, see_other},
    throttle::Throttle,
};
use crate::{
    authorize::PendingRequests,
    pages::{PageError, Site, error, style_sheet},
};

/// Settings of [`BrowserPages`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "does nothing unless it is used"]
pub struct BrowserPagesOptions {
    /// How password hashes are computed.
    pub passwords: PasswordsOptions,
    /// Limits on guessing passwords.
    pub throttle: ThrottleOptions,
    /// Lifetime of a session. Default: 12 hours.
    pub session_lifetime: Duration,
}

impl Default for BrowserPagesOptions {
    fn default() -> Self {
        Self {
            passwords: PasswordsOptions::default(),
            throttle: ThrottleOptions::default(),
            session_lifetime: Duration::from_secs(12 * 60 * 60),
        }
    }
}

impl BrowserPagesOptions {
    /// Sets how password hashes are computed.
    pub const fn passwords(mut self, options: PasswordsOptions) -> Self {
        self.passwords = options;
        self
    }

    /// Sets the limits on guessing passwords.
    pub const fn throttle(mut self, options: ThrottleOptions) -> Self {
        self.throttle = options;
        self
    }

    /// Sets the lifetime of a session.
    pub const fn session_lifetime(mut self, lifetime: Duration) -> Self {
        self.session_lifetime = lifetime;
        self
    }
}

/// The pages of the authority, with their sessions. Cheap to clone.
///
/// `S` is the store, and `A` the access of clients, which the account page lists and ends.
pub struct BrowserPages<S, A>(Arc<Shared<S, A>>);

/// The parts that all pages share.
pub(super) struct Shared<S, A> {
    pub(super) site: Site,
    pub(super) issuer: Box<str>,
    pub(super) store: S,
    pub(super) access: A,
    pub(super) pending: PendingRequests,
    pub(super) broker: Broker,
    pub(super) passwords: Passwords,
    pub(super) throttle: Throttle,
    pub(super) session_lifetime: Duration,
    /// The accounts that users connect; `None` if no server needs any.
    pub(super) connections: Option<BoxConnections>,
}

impl<S: AuthorityStore, A: ClientAccess> BrowserPages<S, A> {
    /// Creates the pages at `site`. Local accounts are users of `issuer`, the authority.
    pub fn new(
        broker: &Broker,
        (site, issuer): (Site, &str),
        (store, access): (S, A),
        pending: PendingRequests,
        options: BrowserPagesOptions,
    ) -> Self {
        Self(Arc::new(Shared {
            site,
            issuer: issuer.into(),
            store,
            access,
            pending,
            broker: broker.clone(),
            passwords: Passwords::new(options.passwords),
            throttle: Throttle::new(options.throttle, broker.clock().clone()),
            session_lifetime: options.session_lifetime,
            connections: None,
        }))
    }

    /// Adds the pages on which users connect their own accounts at servers.
    #[must_use = "returns the pages with the new ones"]
    pub fn connections(mut self, connections: BoxConnections) -> Self {
        // There are no clones yet.
        if let Some(shared) = Arc::get_mut(&mut self.0) {
            shared.connections = Some(connections);
        }
        self
    }

    /// Handles the request of a browser; `None` if its path is no page.
    ///
    /// # Cancellation
    /// An account may have been created, a session may have begun or ended, and access may have
    /// ended, without the browser knowing of it.
    pub async fn respond(&self, request: &BrowserRequest<'_>) -> Option<Response<Bytes>> {
        let path = self.0.site.path_of(request.uri)?;
        if let Some(style_sheet) = style_sheet(path) {
            return Some(match is_get(request.method) {
                true => style_sheet,
                false => method_not_allowed("GET, HEAD"),
            });
        }
        if let Some(path) = ConnectPath::of(path) {
            return Some(self.0.connect_requests(path, request).await);
        }
        let page = Page::at(path)?;
        Some(if is_get(request.method) {
            self.get(page, request).await
        } else if *request.method == Method::POST {
            self.post(page, request).await
        } else {
            method_not_allowed("GET, HEAD, POST")
        })
    }

    async fn get(&self, page: Page, request: &BrowserRequest<'_>) -> Response<Bytes> {
        let shared = &*self.0;
        match page {
            Page::SignIn => shared.sign_in_page(request).await,
            Page::Password => shared.password_page(request).await,
            Page::FirstAccount => shared.first_account_page(request).await,
            Page::Connections => shared.connections_page(request).await,
            // The page after signing out, loaded again.
            Page::SignOut => see_other(&shared.site.path("/connections")),
        }
    }

    async fn post(&self, page: Page, request: &BrowserRequest<'_>) -> Response<Bytes> {
        let shared = &*self.0;
        let Ok(form) = Form::read(request.headers, request.body) else {
            return error(&shared.site, PageError::FormUnreadable, request.id);
        };
        match page {
            Page::SignIn => shared.sign_in(request, &form).await,
            Page::Password => shared.change_password(request, &form).await,
            Page::FirstAccount => shared.create_first_account(request, &form).await,
            Page::Connections => shared.change_connections(request, &form).await,
            Page::SignOut => shared.sign_out(request, &form).await,
        }
    }

    pub(super) fn shared(&self) -> &Shared<S, A> {
        &self.0
    }
}

/// A page with a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    SignIn,
    Password,
    FirstAccount,
    Connections,
    SignOut,
}

impl Page {
    fn at(path: &str) -> Option<Self> {
        Some(match path {
            "/sign-in" => Self::SignIn,
            "/password" => Self::Password,
            "/first-account" => Self::FirstAccount,
            "/connections" => Self::Connections,
            "/sign-out" => Self::SignOut,
            _ => return None,
        })
    }
}

fn is_get(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}

impl<S, A> Shared<S, A> {
    pub(super) fn clock(&self) -> &Clock {
        self.broker.clock()
    }

    /// Records what a browser did, and waits until that is durable.
    pub(super) async fn note(
        &self,
        request: &BrowserRequest<'_>,
        user: Option<&User>,
        note: Note<'_>,
    ) -> Result<(), AuditError> {
        let initiator = user.map_or(Initiator::anonymous(), Initiator::user);
        let note = match request.peer {
            Some(peer) => note.peer(peer),
            None => note,
        };
        self.broker.audit_log().note(&initiator, note).await
    }

    pub(super) fn error(&self, request: &BrowserRequest<'_>, what: PageError) -> Response<Bytes> {
        // The page shows the ID, so that it can be found.
        tracing::info!(request.id = %request.id, page = ?what, "an error page was shown");
        error(&self.site, what, request.id)
    }
}

impl<S, A> Clone for BrowserPages<S, A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S, A> fmt::Debug for BrowserPages<S, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrowserPages").field("site", &self.0.site).finish_non_exhaustive()
    }
}
