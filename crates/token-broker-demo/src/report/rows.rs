//! The rows of a step: what the client, the servers and the audit log have of it.

use std::fmt;

use serde_json::Value;

use super::{
    Report,
    layout::{folded, row},
};
use crate::{
    scenario::Step,
    upstream::{CRM, Seen, TICKETS},
};

/// Writes the rows of a step.
pub(super) fn of(f: &mut fmt::Formatter<'_>, report: &Report, step: &Step) -> fmt::Result {
    let crm = report.crm.get(step.crm.clone()).unwrap_or_default();
    let tickets = report.tickets.get(step.tickets.clone()).unwrap_or_default();
    let audit = report.audit.get(step.audit.clone()).unwrap_or_default();
    cell(f, "client", std::slice::from_ref(&step.heard))?;
    let seen = [(CRM.title, crm), (TICKETS.title, tickets)]
        .map(|(title, log)| (title, folded(log.iter().filter_map(by_server))));
    if seen.iter().all(|(_, lines)| lines.is_empty()) {
        cell(f, "servers", &["nothing reached them".to_owned()])?;
    }
    for (title, lines) in seen.into_iter().filter(|(_, lines)| !lines.is_empty()) {
        cell(f, title, &lines)?;
    }
    let recorded = folded(audit.iter().filter_map(by_audit));
    let recorded = if recorded.is_empty() { vec!["nothing".to_owned()] } else { recorded };
    cell(f, "audit", &recorded)
}

fn cell(f: &mut fmt::Formatter<'_>, title: &str, lines: &[String]) -> fmt::Result {
    let start = format!("      {title:8}  ");
    row(f, (&start, &" ".repeat(start.len())), &lines.join("; "))
}

/// Returns a line of a server's log; `None` for what belongs to each connection.
fn by_server(seen: &Seen) -> Option<String> {
    let Seen { door, what, token, scopes, status, .. } = seen;
    let what = what.trim_start_matches("tools/call ");
    let refused = || format!("refused ({status})");
    Some(match (*door, what, *status) {
        ("metadata", ..) => "the broker reads where to sign in".to_owned(),
        ("register", ..) => "the broker registers itself".to_owned(),
        ("authorize", "page", _) => return None,
        ("authorize", "allow", _) => format!("alice allows {scopes}"),
        ("authorize", ..) => "alice declines".to_owned(),
        ("token", "authorization_code", 200) => "it issues tokens to the broker".to_owned(),
        ("token", "refresh_token", 200) => "it refreshes the token".to_owned(),
        ("token", ..) => format!("a token request is {}", refused()),
        ("revoke", kind, 200) => format!("it revokes the {}", kind.replace('_', " ")),
        (_, _, 401) if token.is_empty() => format!("a request without a token is {}", refused()),
        (_, what, _) if is_handshake(what) => return None,
        (_, what, 200) => format!("{what} is served, with {scopes}"),
        (_, what, _) => format!("{what} is {}", refused()),
    })
}

/// Returns a line of the audit log; `None` for records that others of the same request include.
fn by_audit(record: &Value) -> Option<String> {
    let text = |name: &str| record[name].as_str().unwrap_or_default();
    Some(match text("kind") {
        "sign_in" => format!("alice's sign-in {}", text("outcome")),
        "consent" => format!("alice {} {}", text("outcome"), text("scopes")),
        "token_issued" => format!("broker token with {}", text("scopes")),
        "connected" => format!("{} account connected", title(record)),
        "disconnected" => format!("{} account disconnected", title(record)),
        "upstream_revocation" => {
            format!("tokens at {} {}", title(record), text("outcome").replace('_', " "))
        }
        "revoked" => match text("what") {
            "user" => "alice's access revoked by the operator".to_owned(),
            "grant" => "use of the account's tokens revoked".to_owned(),
            what => format!("{what} revoked"),
        },
        "result" => return result(record),
        _ => return None,
    })
}

/// Returns the title of the upstream in a record.
fn title(record: &Value) -> &str {
    let name = record["upstream"].as_str().unwrap_or_default();
    let known = [CRM, TICKETS].into_iter().find(|kind| kind.name == name);
    known.map_or(name, |kind| kind.title)
}

fn result(record: &Value) -> Option<String> {
    let text = |name: &str| record[name].as_str().unwrap_or_default();
    let (outcome, reason) = (text("outcome"), text("reason"));
    let what =
        [text("name"), text("method"), "request"].into_iter().find(|what| !what.is_empty())?;
    if is_handshake(what) && reason.is_empty() {
        return None;
    }
    Some(match reason {
        "" => format!("{what} {outcome}"),
        reason => format!("{what} {outcome}: {} ({reason})", in_words(reason)),
    })
}

/// Returns what a refusal of the demo means.
fn in_words(reason: &str) -> &'static str {
    match reason {
        "filter.tool_denied" => "no rule allows the tool",
        "filter.insufficient_scope" => "a scope is missing",
        "authn.resource" => "the token is for another server",
        "authn.revoked" => "access was revoked",
        "exchange.connect_required" | "exchange.grant_revoked" => "no account is connected",
        _ => "see docs/operating.md",
    }
}

/// Returns whether a method belongs to the start of each connection, which the rows leave out.
pub(super) fn is_handshake(what: &str) -> bool {
    what == "initialize" || what.starts_with("notifications/")
}
