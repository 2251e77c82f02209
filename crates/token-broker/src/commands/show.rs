//! Lists, as text for people or as JSON.

use serde_json::{Value, json};
use token_broker_sql::KeyUse;
use token_broker_store::{GrantSummary, sealing::KeyId};

use crate::{
    configuration::{Configuration, Credential, Server},
    escaped::escaped,
};

/// Returns grants as text, a line each, or as JSON.
pub fn show_grants(grants: &[GrantSummary], as_json: bool) -> String {
    if as_json {
        let all: Vec<Value> = grants.iter().map(grant_as_json).collect();
        return serde_json::to_string_pretty(&all).unwrap_or_default();
    }
    let line = |id: &str, user: &str, server: &str, account: &str, state: &str| {
        format!("{id:<24} {user:<24} {server:<16} {account:<12} {state}")
    };
    let mut lines = vec![line("GRANT", "USER", "SERVER", "ACCOUNT", "STATE")];
    lines.extend(grants.iter().map(|grant| {
        let key = &grant.key;
        let (user, account) = (escaped(key.user.subject()), key.account.as_str());
        line(grant.id.as_str(), &user, &key.server, account, grant.state.as_str())
    }));
    lines.join("\n")
}

fn grant_as_json(grant: &GrantSummary) -> Value {
    json!({
        "id": grant.id.as_str(),
        "user": { "issuer": grant.key.user.issuer(), "subject": grant.key.user.subject() },
        "server": &*grant.key.server,
        "account": grant.key.account.as_str(),
        "authorization_server": &*grant.authorization_server,
        "scopes": grant.granted.to_string(),
        "state": grant.state.as_str(),
        "version": grant.version,
        "has_refresh_token": grant.has_refresh_token,
        "failed_refreshes": grant.backoff.failures,
    })
}

/// Returns the servers as text, a line each, or as JSON.
pub fn show_servers(configuration: &Configuration, as_json: bool) -> String {
    let kind = |server: &Server| match &server.credential {
        Credential::Static { .. } => "static",
        Credential::OAuth(_) => "oauth",
        Credential::ClientCredentials(_) => "client_credentials",
        Credential::TokenExchange(_) => "token_exchange",
    };
    if as_json {
        let of = |server: &Server| {
            json!({
                "name": server.name,
                "url": server.resource.as_str(),
                "upstream": server.upstream.to_string(),
                "credential": kind(server),
            })
        };
        let all: Vec<Value> = configuration.servers.iter().map(of).collect();
        return serde_json::to_string_pretty(&all).unwrap_or_default();
    }
    let line = |name: &str, kind: &str, url: &str| format!("{name:<24} {kind:<20} {url}");
    let mut lines = vec![line("SERVER", "CREDENTIAL", "URL")];
    lines.extend(
        configuration
            .servers
            .iter()
            .map(|server| line(&server.name, kind(server), server.resource.as_str())),
    );
    lines.join("\n")
}

/// Returns the keys that the store needs as text, a line each, or as JSON. `current` is the first
/// key of the key file.
pub fn show_keys(uses: &[KeyUse], current: &KeyId, as_json: bool) -> String {
    let is_current = |used: &KeyUse| used.key_id == *current;
    if as_json {
        let of = |used: &KeyUse| {
            json!({
                "id": used.key_id.as_str(),
                "uses": used.count,
                "is_current": is_current(used),
            })
        };
        let all: Vec<Value> = uses.iter().map(of).collect();
        return serde_json::to_string_pretty(&all).unwrap_or_default();
    }
    let line = |id: &str, uses: &str, state: &str| format!("{id:<24} {uses:<10} {state}");
    let mut lines = vec![line("KEY", "USES", "STATE")];
    lines.extend(uses.iter().map(|used| {
        let state = if is_current(used) { "current" } else { "old: `keys rotate`" };
        line(used.key_id.as_str(), &used.count.to_string(), state)
    }));
    if !uses.iter().any(is_current) {
        lines.push(line(current.as_str(), "0", "current: no use yet; `keys rotate`"));
    }
    lines.join("\n")
}
