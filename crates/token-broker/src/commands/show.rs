//! Lists, as text for people or as JSON.

use std::iter;

use serde_json::{Value, json};
use token_broker_sql::KeyUse;
use token_broker_store::{GrantSummary, sealing::KeyId};

use super::{ShownClient, ShownUser};
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
    let of = |grant: &GrantSummary| {
        let key = &grant.key;
        [
            grant.id.as_str().to_owned(),
            escaped(key.user.subject()),
            key.server.to_string(),
            key.account.as_str().to_owned(),
            grant.state.as_str().to_owned(),
        ]
    };
    table(["GRANT", "USER", "SERVER", "ACCOUNT", "STATE"], grants.iter().map(of))
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

/// Returns users as text, a line each, or as JSON.
pub fn show_users(users: &[ShownUser], as_json: bool) -> String {
    if as_json {
        let of = |user: &ShownUser| {
            let account = user.account.as_ref();
            json!({
                "name": account.map(|account| account.name.as_str()),
                "user": { "issuer": &*user.issuer, "subject": &*user.subject },
                "is_enabled": account.map(|account| account.enabled),
                "is_blocked": user.is_blocked,
                "must_change_password": account.map(|account| account.must_change_password),
                "created_at": account.map(|account| account.created_at.to_string()),
            })
        };
        let all: Vec<Value> = users.iter().map(of).collect();
        return serde_json::to_string_pretty(&all).unwrap_or_default();
    }
    let of = |user: &ShownUser| {
        let name = user.account.as_ref().map_or("-", |account| account.name.as_str());
        [escaped(name), user.state().to_owned(), escaped(&*user.subject)]
    };
    table(["NAME", "STATE", "SUBJECT"], users.iter().map(of))
}

/// Returns clients as text, a line each, or as JSON.
pub fn show_clients(clients: &[ShownClient], as_json: bool) -> String {
    let used = |client: &ShownClient| client.last_used_at.map(|at| at.to_string());
    if as_json {
        let of = |client: &ShownClient| {
            json!({
                "id": client.id,
                "name": client.name,
                "origin": client.origin,
                "users": client.users,
                "families": client.families,
                "last_used_at": used(client),
            })
        };
        let all: Vec<Value> = clients.iter().map(of).collect();
        return serde_json::to_string_pretty(&all).unwrap_or_default();
    }
    let of = |client: &ShownClient| {
        [
            escaped(&client.id),
            escaped(&client.name),
            client.origin.to_owned(),
            client.users.to_string(),
            used(client).unwrap_or_else(|| "never".to_owned()),
        ]
    };
    table(["CLIENT", "NAME", "KNOWN AS", "USERS", "LAST USED"], clients.iter().map(of))
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
    let of = |server: &Server| {
        [server.name.clone(), kind(server).to_owned(), server.resource.as_str().to_owned()]
    };
    table(["SERVER", "CREDENTIAL", "URL"], configuration.servers.iter().map(of))
}

/// Returns the keys of the key file and those that the store needs as text, a line each, or as
/// JSON. `known` are the keys of the key file, of which the first one is current.
pub fn show_keys(uses: &[KeyUse], known: &[KeyId], as_json: bool) -> String {
    let uses: Vec<_> = uses.iter().map(|used| (&used.key_id, used.count)).collect();
    let keys = keys(&uses, known);
    if as_json {
        let of = |key: &ShownKey<'_>| {
            json!({
                "id": key.id.as_str(),
                "uses": key.uses,
                "is_current": key.place == KeyPlace::First,
                "is_in_key_file": key.place != KeyPlace::Missing,
            })
        };
        let all: Vec<Value> = keys.iter().map(of).collect();
        return serde_json::to_string_pretty(&all).unwrap_or_default();
    }
    let of = |key: &ShownKey<'_>| {
        [key.id.as_str().to_owned(), key.uses.to_string(), key.state().to_owned()]
    };
    table(["KEY", "USES", "STATE"], keys.iter().map(of))
}

struct ShownKey<'a> {
    id: &'a KeyId,
    uses: u64,
    place: KeyPlace,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyPlace {
    /// The first line of the key file.
    First,
    /// Another line.
    Other,
    /// None: rows of the store cannot be read.
    Missing,
}

impl ShownKey<'_> {
    const fn state(&self) -> &'static str {
        match (self.place, self.uses) {
            (KeyPlace::First, 0) => "current: no use yet; `keys rotate`",
            (KeyPlace::First, _) => "current",
            (KeyPlace::Other, 0) => "no use: new, or can be removed",
            (KeyPlace::Other, _) => "old: `keys rotate`",
            (KeyPlace::Missing, _) => "not in the key file: put it back",
        }
    }
}

/// Returns the keys of the key file in their order, then those that are missing in it.
fn keys<'a>(uses: &[(&'a KeyId, u64)], known: &'a [KeyId]) -> Vec<ShownKey<'a>> {
    let of_file = known.iter().enumerate().map(|(line, id)| ShownKey {
        id,
        uses: uses.iter().find(|(used, _)| *used == id).map_or(0, |(_, count)| *count),
        place: if line == 0 { KeyPlace::First } else { KeyPlace::Other },
    });
    let missing = uses.iter().filter(|(id, _)| !known.contains(id));
    let missing = missing.map(|&(id, uses)| ShownKey { id, uses, place: KeyPlace::Missing });
    of_file.chain(missing).collect()
}

/// Longest cell that makes its column wider: a longer one moves only the rest of its row.
const WIDEST: usize = 40;

/// Returns lines with columns that are as wide as their content.
fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let lines: Vec<_> = iter::once(head.map(str::to_owned)).chain(rows).collect();
    let mut widths = [0; N];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            let length = cell.chars().count();
            if length <= WIDEST {
                *width = length.max(*width);
            }
        }
    }
    let aligned = |line: &[String; N]| {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(aligned).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::slice;

    use token_broker_store::{Account, GrantKey};
    use tower_token_broker::principal::{GrantId, User};

    use super::*;

    fn grant(id: &str, subject: &str, server: &str, account: &str) -> GrantSummary {
        let user = User::new("https://issuer.example", subject);
        let key = GrantKey::new(user, server, Account::parse(account).unwrap());
        GrantSummary::new(GrantId::new(id), key, "https://login.example")
    }

    /// Checks that in each line, the columns begin where they do in the first one.
    fn assert_aligned(text: &str) {
        let (head, rows) = text.split_once('\n').unwrap();
        let columns: Vec<_> = head.split_whitespace().map(|of| head.find(of).unwrap()).collect();
        for row in rows.lines() {
            let row: Vec<_> = row.chars().collect();
            for column in columns.iter().filter(|column| **column > 0) {
                assert_eq!(row[column - 2..*column], [' ', ' '], "{text}");
                assert_ne!(row[*column], ' ', "{text}");
            }
        }
        assert!(!text.lines().any(|line| line.ends_with(' ')), "{text}");
    }

    #[test]
    fn columns_of_grants_are_aligned() {
        let id = "78dca4312994dfbcfe8d141d3614b58e";
        let alice = grant(id, "alice", "crm", "default");
        assert_eq!(
            show_grants(slice::from_ref(&alice), false),
            "GRANT                             USER   SERVER  ACCOUNT  STATE\n\
             78dca4312994dfbcfe8d141d3614b58e  alice  crm     default  active"
        );
        assert_aligned(&show_grants(
            &[
                alice.clone(),
                grant("7", "0b2f6a8e-5f2c-4a43-9a3f-1d5f6d9f0d11", "a", "work"),
                grant(id, "\u{fc}mlaut@corp.example", &"s".repeat(40), "default"),
                grant(id, "line\nbreak", "crm", &"a".repeat(30)),
            ],
            false,
        ));
        // With a UUID as the subject, rows have fewer than 100 characters.
        let uuid = grant(id, "0b2f6a8e-5f2c-4a43-9a3f-1d5f6d9f0d11", "crm", "default");
        let text = show_grants(&[uuid, alice.clone()], false);
        assert!(text.lines().all(|line| line.len() < 100), "{text}");
        // A cell that is very long moves only its own row.
        let long = grant(id, &"x".repeat(200), "crm", "default");
        let text = show_grants(&[alice.clone(), long], false);
        let (short, _) = text.rsplit_once('\n').unwrap();
        assert_eq!(short, show_grants(&[alice], false));
        assert_eq!(show_grants(&[], false), "GRANT  USER  SERVER  ACCOUNT  STATE");
    }

    #[test]
    fn keys_without_a_use_are_shown() {
        let [first, second, third, gone] = ["one", "two", "three", "gone"].map(KeyId::new);
        let known = [first.clone(), second.clone(), third];
        let state = |uses: &[(&KeyId, u64)], known: &[KeyId]| -> Vec<(String, u64, &str)> {
            keys(uses, known)
                .iter()
                .map(|key| (key.id.to_string(), key.uses, key.state()))
                .collect()
        };
        let row = |id: &str, uses, state| (id.to_owned(), uses, state);
        // After step 1 of a rotation: the second line has no use yet.
        assert_eq!(
            state(&[(&first, 7)], &known[..2]),
            [row("one", 7, "current"), row("two", 0, "no use: new, or can be removed")]
        );
        // After step 2, and in the middle of step 3.
        assert_eq!(
            state(&[(&second, 7)], &known[..2]),
            [
                row("one", 0, "current: no use yet; `keys rotate`"),
                row("two", 7, "old: `keys rotate`")
            ]
        );
        assert_eq!(
            state(&[(&second, 3), (&first, 4)], &known),
            [
                row("one", 4, "current"),
                row("two", 3, "old: `keys rotate`"),
                row("three", 0, "no use: new, or can be removed"),
            ]
        );
        assert_eq!(
            state(&[(&gone, 1), (&first, 4)], &known[..1]),
            [row("one", 4, "current"), row("gone", 1, "not in the key file: put it back")]
        );
    }

    #[test]
    fn keys_are_shown_as_json() {
        let known = ["one", "two"].map(KeyId::new);
        let shown: Value = show_keys(&[], &known, true).parse().unwrap();
        assert_eq!(
            shown,
            json!([
                { "id": "one", "uses": 0, "is_current": true, "is_in_key_file": true },
                { "id": "two", "uses": 0, "is_current": false, "is_in_key_file": true },
            ])
        );
        assert_aligned(&show_keys(&[], &known, false));
    }
}
