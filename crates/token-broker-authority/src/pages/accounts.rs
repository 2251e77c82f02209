//! The accounts of a user at servers, as the account page lists them.

use maud::{Markup, html};
use token_broker_store::{
    Account,
    connect::{Connection, ConnectionState},
};
use tower_token_broker::clock::Timestamp;

use super::{
    Site,
    connect::{missing, reason},
    connections::{Accounts, ConnectionsView},
    layout::{hidden, warning},
    outside::{Outside, OutsideHost},
    times::ago,
};

/// Renders the list, with a form for each account.
pub(super) fn list(
    site: &Site,
    accounts: Accounts<'_>,
    view: &ConnectionsView,
    csrf: &str,
    now: Timestamp,
) -> Markup {
    html! {
        @if !accounts.connections.is_some_and(<[Connection]>::is_empty) {
            h2 { "Your accounts" }
        }
        @if accounts.connections.is_none() {
            (warning(&html! { "they cannot be shown at the moment. Try again in a minute." }))
        }
        @for connection in accounts.connections.unwrap_or_default() {
            (card(site, connection, view, csrf, now))
        }
    }
}

fn card(
    site: &Site,
    connection: &Connection,
    view: &ConnectionsView,
    csrf: &str,
    now: Timestamp,
) -> Markup {
    let is_connected = connection.state != ConnectionState::None;
    let is_named = connection.account != Account::default_account();
    html! {
        section.card {
            h3 {
                (Outside(&connection.title))
                @if is_named { " · " (Outside(connection.account.as_str())) }
            }
            p.muted.small { (OutsideHost(&connection.host)) }
            (state(connection))
            @if is_connected && !connection.granted.is_empty() {
                ul.plain {
                    @for scope in connection.granted.iter() { li { code { (Outside(scope)) } } }
                }
            }
            @if is_connected { p.muted.small { (history(connection, view, now)) } }
            (buttons(site, connection, csrf))
        }
    }
}

fn state(connection: &Connection) -> Markup {
    html! {
        @match connection.state {
            ConnectionState::None => p.muted { "Not connected" },
            ConnectionState::Connected => p { span.badge.good { "Connected" } },
            ConnectionState::NeedsScopes => {
                p { span.badge.good { "Connected" } }
                (warning(&html! {
                    "tools that need this access will not work until you connect again: "
                    @for scope in missing(connection) { code { (Outside(scope)) } " " }
                }))
            },
            other => {
                p { span.badge { "Needs you" } }
                (warning(&html! { (reason(other)) }))
            },
        }
    }
}

fn history(connection: &Connection, view: &ConnectionsView, now: Timestamp) -> Markup {
    html! {
        @match connection.last_used_at {
            Some(used) => {
                "Last used " (ago(now, used))
                @if let Some(client) = &connection.last_used_by {
                    " by " (Outside(name_of(client, view)))
                }
            },
            None => "Never used",
        }
        @if let Some(at) = connection.connected_at { " · connected " (ago(now, at)) }
    }
}

/// Returns the name of a client, if it still has access, or else its ID.
fn name_of<'a>(client: &'a str, view: &'a ConnectionsView) -> &'a str {
    let known = view.clients.iter().find(|known| *known.id == *client);
    known.and_then(|known| known.claimed_name.as_deref()).unwrap_or(client)
}

fn buttons(site: &Site, connection: &Connection, csrf: &str) -> Markup {
    let title = Outside(&connection.title).to_text();
    let (label, of) = match connection.state {
        ConnectionState::None => ("Connect", format!("Connect your {title} account")),
        ConnectionState::Connected
        | ConnectionState::NeedsScopes
        | ConnectionState::NeedsUser
        | ConnectionState::EndedByServer
        | ConnectionState::Unreadable => {
            ("Reconnect", format!("Connect your {title} account again"))
        }
    };
    let path = site.path(&format!("/connect/{}", connection.server));
    html! {
        div.row {
            a.button.secondary href=(path) aria-label=(of) { (label) }
            @if connection.state != ConnectionState::None {
                form method="post" action=(site.path("/connections")) {
                    (hidden("csrf", csrf))
                    (hidden("server", &connection.server))
                    (hidden("account", connection.account.as_str()))
                    button.secondary type="submit" name="action" value="disconnect"
                        aria-label=(format!("Disconnect your {title} account")) {
                        "Disconnect"
                    }
                }
            }
        }
        @if connection.state != ConnectionState::None {
            p.muted.small {
                "Disconnecting ends this broker's access to the account for all your applications."
            }
        }
    }
}
