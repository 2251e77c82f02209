//! The account page: which applications have access, and how to end it.

use bytes::Bytes;
use http::{Response, StatusCode};
use maud::{Markup, html};
use token_broker_store::connect::Connection;
use tower_token_broker::clock::Timestamp;

use super::{
    Site, accounts,
    headers::{Flow, page},
    layout::{hidden, layout, sign_out_form, warning},
    outside::{Outside, OutsideHost, id},
    times::{ago, from_now},
};
use crate::authorize::{ClientIdentity, SignedIn};

/// The content of the account page.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionsView {
    /// The clients that have access, each once.
    pub clients: Vec<ConnectedClient>,
    /// Whether there are more than these.
    pub has_more: bool,
    /// Number of token families that cannot be read.
    pub unreadable: usize,
}

/// A client with access for the user.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectedClient {
    /// ID of the client.
    pub id: Box<str>,
    /// The name that it claims.
    pub claimed_name: Option<Box<str>>,
    /// How its identity is known; `None` if the client is not known any more.
    pub identity: Option<ClientIdentity>,
    /// Its token families for this user.
    pub families: Vec<ClientFamily>,
}

/// A token family: the access from one authorization.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientFamily {
    /// ID of the family.
    pub id: Box<str>,
    /// Title of the server.
    pub server: Box<str>,
    /// Scopes that it allows, in plain words.
    pub scopes: Vec<Box<str>>,
    /// When the user allowed it.
    pub created: Timestamp,
    /// When it was last used; `None` if never.
    pub last_used: Option<Timestamp>,
    /// When it ends, if it is used again before.
    pub ends: Timestamp,
}

impl ConnectionsView {
    /// Creates the view of these clients.
    pub const fn new(clients: Vec<ConnectedClient>) -> Self {
        Self { clients, has_more: false, unreadable: 0 }
    }

    /// Sets that there are more clients than these.
    #[must_use = "returns the new value"]
    pub const fn and_more(mut self) -> Self {
        self.has_more = true;
        self
    }

    /// Sets the number of token families that cannot be read.
    #[must_use = "returns the new value"]
    pub const fn unreadable(mut self, count: usize) -> Self {
        self.unreadable = count;
        self
    }
}

impl ConnectedClient {
    /// Creates a client with these families.
    pub fn new(id: &str, claimed_name: Option<&str>, families: Vec<ClientFamily>) -> Self {
        Self { id: id.into(), claimed_name: claimed_name.map(Into::into), identity: None, families }
    }

    /// Sets how its identity is known.
    #[must_use = "returns the new value"]
    pub fn identity(mut self, identity: ClientIdentity) -> Self {
        self.identity = Some(identity);
        self
    }
}

impl ClientFamily {
    /// Creates a family that has not been used.
    pub fn new(id: &str, server: &str, created: Timestamp, ends: Timestamp) -> Self {
        let (id, server) = (id.into(), server.into());
        Self { id, server, scopes: Vec::new(), created, last_used: None, ends }
    }

    /// Sets what it allows, in plain words.
    #[must_use = "returns the new value"]
    pub fn scopes(mut self, scopes: Vec<Box<str>>) -> Self {
        self.scopes = scopes;
        self
    }

    /// Sets when it was last used.
    #[must_use = "returns the new value"]
    pub const fn last_used(mut self, last_used: Option<Timestamp>) -> Self {
        self.last_used = last_used;
        self
    }
}

/// News that is shown above the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Access was ended.
    Ended,
    /// An account was connected.
    Connected,
    /// An account was disconnected.
    Disconnected,
}

/// The accounts of a user at servers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accounts<'a> {
    /// The connections, or the places for them; `None` if they cannot be read.
    pub(crate) connections: Option<&'a [Connection]>,
}

/// Renders the account page.
pub(crate) fn connections(
    site: &Site,
    user: &SignedIn,
    (view, accounts): (&ConnectionsView, Option<Accounts<'_>>),
    notice: Option<Notice>,
    now: Timestamp,
) -> Response<Bytes> {
    let csrf = &user.csrf_token;
    let body = html! {
        h1 { "Connections" }
        div.lead {
            "Signed in as " strong { (Outside(&user.display_name)) } ". "
            (sign_out_form(site, "Sign out", csrf, None))
            " · " a href=(site.path("/password")) { "Change password" }
        }
        @match notice {
            Some(Notice::Ended) => {
                p.note.good role="status" { "Access ended. The application must sign in again." }
            },
            Some(Notice::Connected) => {
                p.note.good role="status" {
                    "Your account is connected. You can go back to your application."
                }
            },
            Some(Notice::Disconnected) => {
                p.note.good role="status" {
                    "Your account is disconnected here, and its access is being given back."
                }
            },
            None => {},
        }
        @if let Some(accounts) = accounts { (accounts::list(site, accounts, view, csrf, now)) }
        h2 { "Applications with access" }
        @if view.unreadable > 0 { (unreadable(view.unreadable)) }
        @if view.clients.is_empty() && view.unreadable == 0 { (empty(site)) }
        @for client in &view.clients { (client_card(site, client, csrf, now)) }
        @if view.has_more {
            p.muted { "There are more applications. End some of these to see the others." }
        }
        (everywhere(site, csrf))
    };
    page(StatusCode::OK, Flow::Own, layout(site, "Connections", &body))
}

fn client_card(site: &Site, client: &ConnectedClient, csrf: &str, now: Timestamp) -> Markup {
    let name = match client.claimed_name.as_deref().map(str::trim) {
        Some(name) if !name.is_empty() => name,
        _ => "Application without a name",
    };
    html! {
        section.card {
            h3 { (Outside(name)) }
            p.muted.small { (known(client.identity.as_ref())) " · ID " (id(&client.id)) }
            @for family in &client.families { (family_row(site, family, name, csrf, now)) }
        }
    }
}

fn known(identity: Option<&ClientIdentity>) -> Markup {
    html! {
        @match identity {
            Some(ClientIdentity::Configured) => "Set up by the people who run this broker",
            Some(ClientIdentity::MetadataDocument { host }) => {
                "Described by " (OutsideHost(host))
            },
            Some(ClientIdentity::SelfRegistered { .. }) => "Not verified: registered itself",
            None => "Not known any more",
        }
    }
}

fn family_row(
    site: &Site,
    family: &ClientFamily,
    client: &str,
    csrf: &str,
    now: Timestamp,
) -> Markup {
    let label = format!(
        "End access of {} to {}",
        Outside(client).to_text(),
        Outside(&family.server).to_text()
    );
    html! {
        div.row {
            div {
                strong { (Outside(&family.server)) }
                @if !family.scopes.is_empty() {
                    ul.plain { @for scope in &family.scopes { li { (Outside(scope)) } } }
                }
                p.muted.small {
                    @match family.last_used {
                        Some(used) => { "Last used " (ago(now, used)) },
                        None => "Never used",
                    }
                    " · allowed " (ago(now, family.created))
                    " · ends " (from_now(now, family.ends))
                }
            }
            form method="post" action=(site.path("/connections")) {
                (hidden("csrf", csrf))
                (hidden("family", &family.id))
                button.secondary type="submit" name="action" value="end" aria-label=(label) {
                    "End"
                }
            }
        }
    }
}

fn unreadable(count: usize) -> Markup {
    let access = match count {
        1 => "the access of one application".into(),
        count => format!("the access of {count} applications"),
    };
    warning(&html! {
        (access) " cannot be shown. Ask the people who run this broker to look at it, or end all \
        access below, which ends this, too."
    })
}

fn empty(site: &Site) -> Markup {
    html! {
        section.card.empty {
            p { strong { "No application has access yet." } }
            @if site.servers().next().is_some() {
                p { "Add a server to your application. In Claude Code, for example, paste:" }
                @for (name, url) in site.servers().take(5) {
                    pre tabindex="0" {
                        code { "claude mcp add --transport http " (name) " " (url) }
                    }
                }
                p.muted { "The application opens this site, and you decide there what it may use." }
            } @else {
                p.muted { "Access that you allow to an application is listed here." }
            }
        }
    }
}

fn everywhere(site: &Site, csrf: &str) -> Markup {
    html! {
        section.end {
            h2 { "Lost a device?" }
            p.muted {
                "This signs you out in every browser, and ends the access of every application at \
                 once. Your account here stays, and so do the accounts that you connected."
            }
            form method="post" action=(site.path("/connections")) {
                (hidden("csrf", csrf))
                button.danger.wide type="submit" name="action" value="end-all" {
                    "Sign out everywhere and end all access"
                }
            }
        }
    }
}
