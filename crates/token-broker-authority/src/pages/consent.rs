//! The consent page: who wants access to what, and for how long.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use maud::{Markup, html};

use super::{
    Site,
    headers::{Flow, page},
    layout::{check_icon, hidden, layout, never_icon, sign_out_form, tiles, warning},
    outside::{Outside, OutsideHost, id},
    times::words,
};
use crate::authorize::{
    ClientIdentity, ConsentClient, ConsentRequest, ConsentScope, ConsentServer, RedirectTarget,
    SignedIn,
};

/// Renders the consent page.
///
/// Claims of the client are marked as claims. The first button of the form is "Deny", so that the
/// return key never allows (RFC 9700 §4.16: a decision is made on purpose).
pub(crate) fn consent(site: &Site, user: &SignedIn, request: &ConsentRequest) -> Response<Bytes> {
    let title = title(request);
    let name = name(&request.client);
    let body = html! {
        @if let [server] = &*request.servers { (tiles(&name, &server.title)) }
        (heading(request, &name))
        (claims(&request.client, &name))
        (facts(site, user, request))
        (redirect_warning(request))
        form.decision method="post" action=(request.action) {
            (hidden(ConsentRequest::CSRF_FIELD, &user.csrf_token))
            (hidden(ConsentRequest::REQUEST_FIELD, &request.sealed))
            (grants(&request.servers))
            (limits(site, request))
            (next_step(&request.servers))
            div.choice {
                // Without a chosen server, too.
                (decision("secondary", ConsentRequest::DENY, "Deny", true))
                (decision("primary", ConsentRequest::ALLOW, "Allow", false))
            }
        }
    };
    page(StatusCode::OK, Flow::Consent, layout(site, &title, &body))
}

fn decision(class: &str, value: &str, label: &str, is_always_sent: bool) -> Markup {
    let name = ConsentRequest::DECISION_FIELD;
    html! {
        button class=(class) type="submit" name=(name) value=(value)
            formnovalidate[is_always_sent] { (label) }
    }
}

fn name(client: &ConsentClient) -> String {
    match client.claimed_name.as_deref().map(str::trim) {
        Some(name) if !name.is_empty() => name.into(),
        _ => "an application without a name".into(),
    }
}

fn title(request: &ConsentRequest) -> String {
    let name = Outside(&name(&request.client)).to_text();
    match &*request.servers {
        [server] => format!("Allow {name} to use {}?", Outside(&server.title).to_text()),
        _ => format!("Allow {name} to use a server?"),
    }
}

fn heading(request: &ConsentRequest, name: &str) -> Markup {
    html! {
        h1 {
            "Allow " (Outside(name)) " to use "
            @if let [server] = &*request.servers { (Outside(&server.title)) } @else { "a server" }
            "?"
        }
    }
}

fn claims(client: &ConsentClient, name: &str) -> Markup {
    let claim = match client.claimed_name {
        Some(_) => html! { "It says it is " strong { (Outside(name)) } ". " },
        None => html! { "It gives no name. " },
    };
    html! {
        p.claim {
            @match &client.identity {
                ClientIdentity::Configured => {
                    span.badge.good { "Verified" } " "
                    span {
                        strong { (Outside(name)) } " was set up by the people who run this broker."
                    }
                },
                ClientIdentity::MetadataDocument { host } => {
                    span.badge.good { "Verified host" } " "
                    span {
                        "The application is described by " strong { (OutsideHost(host)) } ". "
                        (claim)
                    }
                },
                ClientIdentity::SelfRegistered { since } => {
                    span.badge { "Not verified" } " "
                    span { (claim) "It registered itself " (since_words(*since)) "." }
                },
            }
        }
    }
}

fn since_words(since: Duration) -> String {
    if since.as_secs() < 60 { "just now".into() } else { format!("{} ago", words(since)) }
}

fn facts(site: &Site, user: &SignedIn, request: &ConsentRequest) -> Markup {
    let pending = Some(&*request.pending).filter(|pending| !pending.is_empty());
    html! {
        dl.facts {
            div {
                dt { "Signed in as" }
                dd {
                    strong { (Outside(&user.display_name)) } " "
                    (sign_out_form(site, "Not you?", &user.csrf_token, pending))
                }
            }
            div {
                dt { "Will return to" }
                dd {
                    code { (OutsideHost(&request.redirect.host)) }
                    @if request.redirect.target == RedirectTarget::Loopback { " on this computer" }
                }
            }
            @if let [server] = &*request.servers {
                div { dt { "Server" } dd { code { (Outside(server.resource.as_str())) } } }
            }
            div { dt { "Application ID" } dd { (id(&request.client.id)) } }
        }
    }
}

fn redirect_warning(request: &ConsentRequest) -> Markup {
    match request.redirect.target {
        RedirectTarget::Web => html! {},
        RedirectTarget::Loopback => warning(&html! {
            "a program on this computer receives the access. Allow it only if you have just \
             started to sign in there."
        }),
        RedirectTarget::CustomScheme => warning(&html! {
            "the program that opens " code { (OutsideHost(&request.redirect.host)) }
            " links on this \
             device receives the access. Allow it only if you have just started to sign in there."
        }),
    }
}

fn grants(servers: &[ConsentServer]) -> Markup {
    html! {
        @if let [server] = servers {
            h2 { "It will be able to" }
            (scopes(&server.scopes))
        } @else {
            fieldset {
                legend { "Which server may it use?" }
                @for server in servers { (server_choice(server)) }
            }
        }
        h2 { "It will never get" }
        ul.list.never {
            @for server in servers.iter().take(1).filter(|_| servers.len() == 1) {
                li { (never_icon()) span { "your " (Outside(&server.title)) " password or token" } }
            }
            @if servers.len() != 1 {
                li { (never_icon()) span { "your password or token of any server" } }
            }
        }
    }
}

fn server_choice(server: &ConsentServer) -> Markup {
    let uri = server.resource.as_str();
    html! {
        label.option {
            input type="radio" name=(ConsentRequest::RESOURCE_FIELD) value=(uri) required;
            span {
                strong { (Outside(&server.title)) } " "
                small { code { (Outside(uri)) } }
                (scopes(&server.scopes))
            }
        }
    }
}

fn scopes(scopes: &[ConsentScope]) -> Markup {
    html! {
        ul.list {
            @for scope in scopes {
                li {
                    (check_icon())
                    @match scope.text.as_deref() {
                        Some(text) => span { (Outside(text)) },
                        None => span { "use " code { (Outside(&scope.name)) } },
                    }
                }
            }
            @if scopes.is_empty() {
                li { (check_icon()) span { "use the tools that need no permission of their own" } }
            }
        }
    }
}

/// Renders what follows the decision: the user connects an account.
fn next_step(servers: &[ConsentServer]) -> Markup {
    html! {
        @for server in servers.iter().filter(|server| server.needs_account) {
            p.note {
                span {
                    strong { "Next: connect your " (Outside(&server.title)) " account." }
                    " You sign in at " (Outside(&server.title)) " yourself."
                }
            }
        }
    }
}

fn limits(site: &Site, request: &ConsentRequest) -> Markup {
    html! {
        p.muted {
            "Access ends after " (words(request.idle_lifetime)) " without use, and after "
            (words(request.absolute_lifetime)) " in any case. You can end it at any time under "
            a href=(site.path("/connections")) { "Connections" } "."
        }
    }
}
