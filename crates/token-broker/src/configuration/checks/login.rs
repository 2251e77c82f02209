//! Sign-in at the gateway, known clients, and scopes in words.

use std::{collections::HashSet, ops::RangeInclusive, time::Duration};

use token_broker_authority::{
    AuthoritySettings,
    client::{ConfiguredClient, ConfiguredClientError},
};

use super::{
    super::{
        document::{Client, Document, Login as Section, Scope},
        key::{Key, Located},
        model::{Login, Network, Tokens},
    },
    Checks,
    files::Content,
    network::NetworkKeys,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const YEAR: Duration = Duration::from_secs(366 * 24 * 60 * 60);
const SECOND: Duration = Duration::from_secs(1);

impl Checks<'_> {
    /// Returns who issues the tokens that clients show, and the hosts that may be reached for that.
    pub(super) fn issuer_of_tokens(&mut self, document: &Document) -> Option<(Tokens, Network)> {
        match (document.login.as_located(), document.tokens.as_located()) {
            (Some(login), None) => {
                let (login, network) = self.login(&login.value, document)?;
                Some((Tokens::Login(Box::new(login)), network))
            }
            (None, tokens) => {
                self.only_with_login(document);
                match tokens {
                    Some(tokens) => self.tokens(tokens),
                    None => {
                        let problem = "one of the sections `[login]` and `[tokens]` is missing";
                        let remedy = "add `[login]` with `kind = \"local\"` for accounts of the \
                                      gateway, or `[tokens]` for those of an identity provider";
                        if !["login", "tokens"].iter().any(|key| self.problems.is_broken(key)) {
                            self.fail(None, problem, remedy);
                        }
                        None
                    }
                }
            }
            (Some(_), Some(tokens)) => {
                let problem = "both `[login]` and `[tokens]` are set";
                let remedy = "keep `[login]` if users sign in at the gateway, or `[tokens]` if \
                              clients obtain their tokens from an identity provider";
                self.fail(tokens.at, problem, remedy);
                None
            }
        }
    }

    fn only_with_login(&mut self, document: &Document) {
        for (key, at) in [("client", document.client.at()), ("scope", document.scope.at())] {
            if at.is_some() && !self.problems.is_broken("login") {
                let problem = format!("`[[{key}]]` applies only to `[login]`");
                self.fail(at, problem, "remove it, or let users sign in at the gateway");
            }
        }
    }

    fn login(&mut self, section: &Section, document: &Document) -> Option<(Login, Network)> {
        let network = self.network(&NetworkKeys {
            loopback_hosts: &section.loopback_hosts,
            private_hosts: &section.private_hosts,
            plain_http: &Key::default(),
            trusted_roots: &section.trusted_roots,
        });
        let title = self.text("title", &section.title);
        let mut settings = AuthoritySettings::default();
        for (key, written, value, bounds) in [
            (
                "access_token_lifetime",
                &section.access_token_lifetime,
                &mut settings.token.access_token_lifetime,
                SECOND..=DAY,
            ),
            (
                "refresh_idle_lifetime",
                &section.refresh_idle_lifetime,
                &mut settings.token.refresh_idle_lifetime,
                SECOND..=YEAR,
            ),
            (
                "refresh_absolute_lifetime",
                &section.refresh_absolute_lifetime,
                &mut settings.token.refresh_absolute_lifetime,
                SECOND..=YEAR,
            ),
            (
                "refresh_reuse_window",
                &section.refresh_reuse_window,
                &mut settings.token.stale_generation_grace,
                Duration::ZERO..=DAY,
            ),
        ] {
            if let Some(set) = self.duration(key, written, &bounds) {
                *value = set;
            }
        }
        let session =
            self.duration("session_lifetime", &section.session_lifetime, &(SECOND..=30 * DAY));
        let clients = self.clients(document);
        let scope_texts = self.scope_texts(document);
        section.kind.as_located()?;
        let login = Login {
            title,
            settings,
            session_lifetime: session.unwrap_or(DAY / 2),
            has_registration: section.registration.value() != Some(&false),
            has_client_documents: section.client_documents.value() != Some(&false),
            clients,
            scope_texts,
        };
        Some((login, network))
    }

    /// Returns a time such as `10m`, and reports one that is none or out of bounds.
    fn duration(
        &mut self,
        key: &str,
        value: &Key<String>,
        bounds: &RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let located = value.as_located()?;
        let parsed = parse_duration(&located.value);
        let in_bounds = parsed.filter(|parsed| bounds.contains(parsed));
        if in_bounds.is_none() {
            let problem = match parsed {
                None => format!("`{key}` is not a time"),
                Some(_) => {
                    let (shortest, days) =
                        (bounds.start().as_secs(), bounds.end().as_secs() / DAY.as_secs());
                    format!("`{key}` must be from {shortest} s to {days} days")
                }
            };
            let remedy = "write a number and its unit, like \"90s\", \"10m\", \"12h\" or \"30d\"";
            self.fail(located.at, problem, remedy);
        }
        in_bounds
    }

    fn clients(&mut self, document: &Document) -> Vec<ConfiguredClient> {
        let mut known = HashSet::new();
        let mut clients = Vec::new();
        for located in document.client.elements() {
            let Some(client) = self.client(located) else { continue };
            if !known.insert(client.id().to_owned()) {
                let remedy = "give each client its own ID";
                self.fail(located.at, "this client ID occurs twice", remedy);
                continue;
            }
            clients.push(client);
        }
        clients
    }

    fn client(&mut self, located: &Located<Client>) -> Option<ConfiguredClient> {
        let section = &located.value;
        let id = self.text("id", &section.id);
        let name = self.text("name", &section.name);
        let redirect_uris = self.texts("redirect_uris", &section.redirect_uris);
        let secret = match section.secret_file.is_set() {
            true => Some(self.secret("secret", &Key::default(), &section.secret_file)?),
            false => None,
        };
        let key_set = match section.key_set_file.as_located() {
            Some(file) => Some(self.read("key_set_file", file, Content::Public)?),
            None => None,
        };
        if section.redirect_uris.is_set() && section.redirect_uris.elements().is_empty() {
            let remedy = "write at least one, like \"https://app.example.com/callback\"";
            self.fail(section.redirect_uris.at(), "`redirect_uris` is empty", remedy);
            return None;
        }
        let id = id?;
        let client = ConfiguredClient::new(&id, redirect_uris.iter().map(String::as_str));
        let client = client.and_then(|client| {
            let client = match &name {
                Some(name) => client.name(name),
                None => client,
            };
            match (secret, key_set) {
                (Some(secret), None) => client.secret(secret),
                (None, Some((_, keys))) => {
                    client.private_key_jwt(&String::from_utf8(keys).unwrap_or_default())
                }
                (None, None) => Ok(client),
                (Some(_), Some(_)) => Err(ConfiguredClientError::Secret),
            }
        });
        if section.secret_file.is_set() && section.key_set_file.is_set() {
            let problem = "a client has either `secret_file` or `key_set_file`";
            self.fail(section.key_set_file.at(), problem, "remove one of the two");
            return None;
        }
        client
            .map_err(|error| {
                let (at, remedy) = match error {
                    ConfiguredClientError::Id => (section.id.at(), "use another ID"),
                    ConfiguredClientError::RedirectUri(_) => {
                        (section.redirect_uris.at(), "correct the redirect URI")
                    }
                    ConfiguredClientError::Secret => {
                        (section.secret_file.at(), "use a longer random secret")
                    }
                    ConfiguredClientError::Keys(_) | _ => (
                        section.key_set_file.at(),
                        "name a file with a JSON object that has `keys`, without private members",
                    ),
                };
                self.fail(at.unwrap_or(located.at), error.to_string(), remedy);
            })
            .ok()
    }

    fn scope_texts(&mut self, document: &Document) -> Vec<(String, String)> {
        let servers = document.server.elements().iter();
        let rules = servers.flat_map(|server| server.value.allow.elements());
        let named: HashSet<&str> = rules
            .filter_map(|rule| rule.value.scope.value())
            .flat_map(|scopes| scopes.split_ascii_whitespace())
            .collect();
        let mut texts: Vec<(String, String)> = Vec::new();
        for located in document.scope.elements() {
            let Scope { name, text } = &located.value;
            let (Some(name), Some(text)) = (self.text("name", name), self.text("text", text))
            else {
                continue;
            };
            if !named.contains(name.as_str()) {
                let remedy = "correct the name, or remove it: scopes are those of `scope` in \
                              `[[server.allow]]`";
                self.fail(located.at, "no rule names this scope", remedy);
            } else if texts.iter().any(|(known, _)| *known == name) {
                self.fail(located.at, "this scope occurs twice", "keep one of them");
            } else {
                texts.push((name, text));
            }
        }
        texts
    }
}

/// Parses a number with a unit: `s`, `m`, `h` or `d`.
fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return None,
    };
    let number = text.strip_suffix(unit)?;
    // `parse` would accept a sign.
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| is_number)?;
    number.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_number_and_a_unit() {
        for (text, seconds) in
            [("5s", 5), ("10m", 600), ("12h", 43_200), ("30d", 2_592_000), ("0s", 0)]
        {
            assert_eq!(parse_duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "10", "+5s", "-5s", "5 s", "1.5h", "5S", "99999999999999999d", "5ü"]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
