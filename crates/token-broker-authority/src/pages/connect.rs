//! The page on which a user connects an account at a server, and its errors.

use bytes::Bytes;
use http::{Response, StatusCode};
use maud::{Markup, html};
use token_broker_store::connect::{ConnectError, Connection, ConnectionState};
use tower_token_broker::{clock::Timestamp, principal::Scopes, request_id::RequestId};

use super::{
    Site,
    error::{View, render},
    headers::{Flow, page},
    layout::{check_icon, hidden, layout, sign_out_form, tiles, warning},
    outside::{Outside, OutsideHost},
    times::ago,
};
use crate::authorize::SignedIn;

/// The content of the connect page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectView<'a> {
    pub(crate) connection: &'a Connection,
    /// The page itself, sealed, for a user who signs in as someone else.
    pub(crate) here: &'a str,
    /// The link that led here, if one did.
    pub(crate) link: Option<&'a str>,
    /// The ticket of the application that waits, if one does.
    pub(crate) ticket: Option<&'a str>,
}

/// Renders the connect page.
pub(crate) fn connect(
    site: &Site,
    user: &SignedIn,
    view: &ConnectView<'_>,
    now: Timestamp,
) -> Response<Bytes> {
    let connection = view.connection;
    let title = Outside(&connection.title).to_text();
    let heading = match connection.state {
        ConnectionState::Connected | ConnectionState::NeedsScopes => {
            format!("Your {title} account is connected")
        }
        ConnectionState::None
        | ConnectionState::NeedsUser
        | ConnectionState::EndedByServer
        | ConnectionState::Unreadable => format!("Connect your {title} account"),
    };
    let body = html! {
        (tiles(site.name(), &connection.title))
        h1 { (heading) }
        p.lead {
            (Outside(&connection.title)) " works with your own account there. You sign in at "
            (Outside(&connection.title)) " yourself; this broker keeps the access, and no \
            application ever gets it."
        }
        (facts(site, user, view))
        (state(connection, now))
        h2 { "This broker will ask for" }
        (scopes(&connection.configured))
        (buttons(site, user, view))
    };
    // Its form leads to the authorization server, whose pages redirect as they like.
    page(StatusCode::OK, Flow::Consent, layout(site, &heading, &body))
}

fn facts(site: &Site, user: &SignedIn, view: &ConnectView<'_>) -> Markup {
    let connection = view.connection;
    html! {
        dl.facts {
            div {
                dt { "Signed in as" }
                dd {
                    strong { (Outside(&user.display_name)) } " "
                    (sign_out_form(site, "Not you?", &user.csrf_token, Some(view.here)))
                }
            }
            div { dt { "Server" } dd { code { (OutsideHost(&connection.host)) } } }
            @if let Some(host) = &connection.authorization_server {
                div { dt { "Signs you in at" } dd { code { (OutsideHost(host)) } } }
            }
        }
    }
}

/// Renders the state of a connection, with what to do.
fn state(connection: &Connection, now: Timestamp) -> Markup {
    html! {
        @match connection.state {
            ConnectionState::None => {},
            ConnectionState::Connected => {
                p.note.good role="status" {
                    span {
                        "Connected"
                        @if let Some(at) = connection.connected_at { " " (ago(now, at)) }
                        "."
                    }
                }
            },
            ConnectionState::NeedsScopes => {
                (warning(&html! {
                    "it is connected without some of the access below, so tools that need it will \
                     not work. Missing: "
                    @for scope in missing(connection) { code { (Outside(scope)) } " " }
                }))
            },
            other => (warning(&html! { (reason(other)) })),
        }
    }
}

/// Returns why a connection needs its user.
pub(super) const fn reason(state: ConnectionState) -> &'static str {
    match state {
        ConnectionState::NeedsUser => "the server wants to see you: connect the account again.",
        ConnectionState::EndedByServer => "the server ended the access: connect the account again.",
        ConnectionState::Unreadable => "the access cannot be read: connect the account again.",
        ConnectionState::None | ConnectionState::Connected | ConnectionState::NeedsScopes => {
            "connect the account again."
        }
    }
}

/// Returns the configured scopes that were not granted.
pub(super) fn missing(connection: &Connection) -> impl Iterator<Item = &str> {
    connection.configured.iter().filter(|scope| !connection.granted.contains(scope))
}

fn scopes(scopes: &Scopes) -> Markup {
    html! {
        ul.list {
            @for scope in scopes.iter() {
                li { (check_icon()) span { "use " code { (Outside(scope)) } } }
            }
            @if scopes.is_empty() {
                li { (check_icon()) span { "the access that the server gives by default" } }
            }
        }
    }
}

fn buttons(site: &Site, user: &SignedIn, view: &ConnectView<'_>) -> Markup {
    let connection = view.connection;
    let is_connected = connection.state == ConnectionState::Connected;
    let action = site.path(&format!("/connect/{}", connection.server));
    let onward = view.ticket.map(|ticket| site.path(&format!("/oauth/allowed?ticket={ticket}")));
    let label = match (connection.state, &connection.authorization_server) {
        (ConnectionState::None, None) => format!("Continue to {}", title_of(connection)),
        (ConnectionState::None, Some(host)) => format!("Continue to {host}"),
        _ => format!("Connect {} again", title_of(connection)),
    };
    html! {
        @if let (true, Some(onward)) = (is_connected, &onward) {
            p { a.button.primary.wide href=(onward) { "Continue to your application" } }
        }
        form.decision method="post" action=(action) {
            (hidden("csrf", &user.csrf_token))
            @if let Some(ticket) = view.ticket { (hidden("continue", ticket)) }
            @if let Some(link) = view.link { (hidden("for", link)) }
            button.wide .primary[!is_connected] .secondary[is_connected] type="submit"
                name="action" value="connect" { (label) }
            @if connection.state != ConnectionState::None {
                button.secondary.wide type="submit" name="action" value="choose" {
                    "Connect a different account"
                }
            }
        }
        @if let (false, Some(onward)) = (is_connected, &onward) {
            p.muted {
                a href=(onward) { "Continue without connecting" }
                ". The application will say when it needs the account."
            }
        }
        @if onward.is_none() {
            p.muted { a href=(site.path("/connections")) { "All your connections" } }
        }
    }
}

fn title_of(connection: &Connection) -> String {
    Outside(&connection.title).to_text()
}

/// The reasons why an account was not connected, as pages explain them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConnectProblem {
    /// No one is signed in, in the browser that came back.
    NotSignedIn,
    /// The link was made for another user.
    LinkOfAnother,
    /// The connect flow failed.
    Failed(ConnectError),
}

/// Renders the page of a failed connect.
pub(crate) fn connect_problem(
    site: &Site,
    problem: &ConnectProblem,
    (server, ticket): (&str, Option<&str>),
    request: RequestId,
) -> Response<Bytes> {
    let (status, what_happened, what_to_do) = problem.texts();
    let again = match ticket {
        Some(ticket) => format!("/connect/{server}?continue={ticket}"),
        None => format!("/connect/{server}"),
    };
    let link = match problem {
        ConnectProblem::Failed(ConnectError::UnknownServer) => {
            Some(("/connections", "Go to your connections"))
        }
        ConnectProblem::LinkOfAnother => Some(("/connections", "Go to your connections")),
        ConnectProblem::NotSignedIn | ConnectProblem::Failed(_) => {
            Some((again.as_str(), "Try again"))
        }
    };
    let view = View { status, what_happened, what_to_do, command: None, link, request };
    let onward = ticket.map(|ticket| format!("/oauth/allowed?ticket={ticket}"));
    render(site, &view, onward.as_deref().map(|path| (path, "Continue without connecting")))
}

impl ConnectProblem {
    const fn texts(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::NotSignedIn => (
                StatusCode::BAD_REQUEST,
                "You are not signed in here any more, so nothing was connected.",
                "Try again, and sign in here first.",
            ),
            Self::LinkOfAnother => (
                StatusCode::FORBIDDEN,
                "This link was made for another user, so nothing was connected.",
                "If the link is yours, sign out under Connections, sign in as yourself, and open \
                 it again. Otherwise close this window.",
            ),
            Self::Failed(error) => texts(error),
        }
    }
}

const fn texts(error: &ConnectError) -> (StatusCode, &'static str, &'static str) {
    match error {
        ConnectError::UnknownServer => (
            StatusCode::NOT_FOUND,
            "There is no server with this name that needs your own account.",
            "Check the address, or open the list of your connections.",
        ),
        ConnectError::State => (
            StatusCode::BAD_REQUEST,
            "This return from the server was not expected here: it was used before, is too old, or \
             was begun in another browser. Nothing was connected.",
            "Try again in this browser.",
        ),
        ConnectError::Issuer => (
            StatusCode::BAD_REQUEST,
            "The return came from another server than the one you were sent to. Nothing was \
             connected.",
            "Try again. If it happens again, report it to the people who run this broker.",
        ),
        ConnectError::Denied { .. } => (
            StatusCode::OK,
            "The server did not give the access: it was declined there. Nothing was connected.",
            "Try again if you want to connect the account after all.",
        ),
        ConnectError::WiderScopes { .. } => (
            StatusCode::BAD_GATEWAY,
            "The server gave more access than this broker may hold, so nothing was connected, and \
             the access is not used.",
            "Report this to the people who run this broker.",
        ),
        ConnectError::Overtaken => (
            StatusCode::CONFLICT,
            "The connection was ended while you were connecting it.",
            "Try again if you want to connect the account.",
        ),
        ConnectError::Misconfigured { .. } => (
            StatusCode::BAD_GATEWAY,
            "This server cannot be connected: how it signs people in was not found, or cannot be \
             used.",
            "Report this to the people who run this broker.",
        ),
        ConnectError::AuthorizationServer { .. } => (
            StatusCode::BAD_GATEWAY,
            "The server did not respond as expected. Nothing was connected.",
            "Wait a minute, then try again.",
        ),
        ConnectError::TooMany => (
            StatusCode::TOO_MANY_REQUESTS,
            "There were too many attempts to connect this account.",
            "Wait ten minutes, then try again.",
        ),
        ConnectError::Unavailable => (
            StatusCode::SERVICE_UNAVAILABLE,
            "The broker cannot connect accounts at the moment.",
            "Wait a minute, then try again.",
        ),
    }
}
