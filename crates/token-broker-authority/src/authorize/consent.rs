//! The facts that a consent page shows.

use std::time::Duration;

use tower_token_broker::principal::Resource;

/// The facts of one consent page.
///
/// Texts that a client chose ([`ConsentClient::claimed_name`]) are claims: render them escaped and
/// truncated, next to what is verified.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConsentRequest {
    /// Path to which the form is sent, by `POST`.
    pub action: Box<str>,
    /// The client that requests access.
    pub client: ConsentClient,
    /// Where the browser returns to after either decision.
    pub redirect: ConsentRedirect,
    /// The servers to which access may be allowed. One, unless the client named none and there are
    /// several: then the user chooses one, and the form sends its resource URI as
    /// [`ConsentRequest::RESOURCE_FIELD`].
    pub servers: Vec<ConsentServer>,
    /// The client's access ends after it was not used for this time.
    pub idle_lifetime: Duration,
    /// The client's access ends at the latest after this time.
    pub absolute_lifetime: Duration,
    /// The request, sealed for no session, as [`Interaction::sign_in`](super::Interaction::sign_in)
    /// takes it: when another user is to sign in, the browser comes back to the request with it.
    pub pending: Box<str>,
    /// The request, sealed for the browser's session. The form sends it back unchanged as
    /// [`ConsentRequest::REQUEST_FIELD`].
    pub sealed: Box<str>,
}

impl ConsentRequest {
    /// Name of the hidden field with [`ConsentRequest::sealed`].
    pub const REQUEST_FIELD: &'static str = "request";
    /// Name of the field with the decision: [`ConsentRequest::ALLOW`] or [`ConsentRequest::DENY`].
    pub const DECISION_FIELD: &'static str = "decision";
    /// Value of a decision: allow.
    pub const ALLOW: &'static str = "allow";
    /// Value of a decision: deny.
    pub const DENY: &'static str = "deny";
    /// Name of the field with the resource URI of the chosen server, if there are several.
    pub const RESOURCE_FIELD: &'static str = "resource";
    /// Name of the hidden field with the session's token against forged forms.
    pub const CSRF_FIELD: &'static str = "csrf";
}

/// The client of a consent page.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsentClient {
    /// Its ID: for a metadata document, the URL of the document.
    pub id: Box<str>,
    /// The name that it claims. Not verified, except for a configured client.
    pub claimed_name: Option<Box<str>>,
    /// How its identity is known.
    pub identity: ClientIdentity,
}

/// How a client's identity is known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientIdentity {
    /// The operator configured it.
    Configured,
    /// Its metadata document was fetched from this host, so the host vouches for name and redirect
    /// URIs.
    MetadataDocument {
        /// The host.
        host: Box<str>,
    },
    /// It registered itself, at this time ago. Nothing about it is verified.
    SelfRegistered {
        /// The time since it registered.
        since: Duration,
    },
}

/// Where the browser returns to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsentRedirect {
    /// The redirect URI, as the client registered it and the request gave it.
    pub uri: Box<str>,
    /// Host and port, such as `127.0.0.1:33418`; of a custom scheme, the scheme with its colon.
    pub host: Box<str>,
    /// The kind of its target.
    pub target: RedirectTarget,
}

/// The kind of a redirect URI's target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedirectTarget {
    /// A web site over https.
    Web,
    /// A program on the user's own computer (RFC 8252 §7.3). Any program there may be listening.
    Loopback,
    /// The program that the user's computer has registered for the scheme (RFC 8252 §7.1).
    CustomScheme,
}

/// A server to which access may be allowed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConsentServer {
    /// Its resource URI.
    pub resource: Resource,
    /// Its title, as configured.
    pub title: Box<str>,
    /// The scopes that are granted, in order.
    pub scopes: Vec<ConsentScope>,
    /// Whether the user must connect an account there, which follows the decision.
    pub needs_account: bool,
}

/// A scope on a consent page.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsentScope {
    /// The scope token.
    pub name: Box<str>,
    /// A description in plain words, as configured.
    pub text: Option<Box<str>>,
}

impl ConsentRequest {
    /// Creates a consent request, for tests of pages.
    pub fn new(
        client: ConsentClient,
        redirect: ConsentRedirect,
        servers: Vec<ConsentServer>,
        sealed: &str,
    ) -> Self {
        Self {
            action: "/oauth/consent".into(),
            client,
            redirect,
            servers,
            idle_lifetime: Duration::from_secs(30 * 24 * 60 * 60),
            absolute_lifetime: Duration::from_secs(180 * 24 * 60 * 60),
            pending: "".into(),
            sealed: sealed.into(),
        }
    }

    /// Sets the request as it continues after a sign-in.
    #[must_use = "returns the changed value"]
    pub fn pending(mut self, pending: &str) -> Self {
        self.pending = pending.into();
        self
    }
}

impl ConsentClient {
    /// Creates the client of a consent page.
    pub fn new(id: &str, claimed_name: Option<&str>, identity: ClientIdentity) -> Self {
        Self { id: id.into(), claimed_name: claimed_name.map(Into::into), identity }
    }
}

impl ConsentRedirect {
    /// Creates the target of the redirect.
    pub fn new(uri: &str, host: &str, target: RedirectTarget) -> Self {
        Self { uri: uri.into(), host: host.into(), target }
    }
}

impl ConsentServer {
    /// Creates a server of a consent page.
    pub fn new(resource: Resource, title: &str, scopes: Vec<ConsentScope>) -> Self {
        Self { resource, title: title.into(), scopes, needs_account: false }
    }

    /// Sets that the user must connect an account there.
    #[must_use = "returns the changed value"]
    pub const fn needs_account(mut self, needs_account: bool) -> Self {
        self.needs_account = needs_account;
        self
    }
}

impl ConsentScope {
    /// Creates a scope of a consent page.
    pub fn new(name: &str, text: Option<&str>) -> Self {
        Self { name: name.into(), text: text.map(Into::into) }
    }
}
