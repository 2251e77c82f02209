//! The posture report: each setting that is weaker than the default, and its consequence.

use http::Uri;
use tower_token_broker::Secret;

use crate::configuration::{
    Key, Loaded, Located, Tokens,
    written::{
        ClientAuthentication, Credential, CredentialKind, Document, Login, Profile, Rule, Server,
        Tokens as TokensSection, TokensKind,
    },
};

/// Weakened defaults with their positions.
#[derive(Default)]
struct Report(Vec<(usize, String, &'static str)>);

/// Returns the report of a configuration without errors.
pub(super) fn report(file: &str, loaded: &Loaded) -> String {
    let document = &loaded.document;
    let servers = document.server.elements();
    let rules: usize = servers
        .iter()
        .map(|server| server.value.allow.elements().len() + server.value.deny.elements().len())
        .sum();
    let mut report = Report::default();
    report.gateway(loaded);
    if let Some(tokens) = document.tokens.value() {
        report.tokens(tokens);
    }
    if let Some(login) = document.login.value() {
        report.login(login);
    }
    for server in servers {
        report.server(&server.value);
    }
    let mut text = format!(
        "{file}: no errors; {}, {}",
        counted(servers.len(), "server"),
        counted(rules, "rule")
    );
    report.0.sort();
    match report.0.as_slice() {
        [] => text.push_str("\nno weakened defaults"),
        weakened => {
            text.push_str(&format!("\n{}", counted(weakened.len(), "weakened default")));
            for (at, what, consequence) in weakened {
                let place = loaded.shown_place(file, *at);
                text.push_str(&format!("\n{place}: {what}\n  {consequence}"));
            }
        }
    }
    text
}

fn counted(count: usize, noun: &str) -> String {
    match count {
        0 => format!("no {noun}s"),
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}

impl Report {
    /// Adds a line if the key is set.
    fn add(&mut self, at: Option<usize>, what: impl Into<String>, consequence: &'static str) {
        if let Some(at) = at {
            self.0.push((at, what.into(), consequence));
        }
    }

    fn gateway(&mut self, loaded: &Loaded) {
        let (document, configuration) = (&loaded.document, &loaded.configuration);
        if configuration.public_url.scheme_str() == Some("http") {
            let consequence = "only clients on this machine can use the gateway";
            self.add(document.public_url.at(), "plain http in `public_url`", consequence);
            if configuration.public_url.port_u16().unwrap_or(80) != configuration.listen.port() {
                let consequence = "clients reach the gateway only through something else on that \
                                   port; otherwise correct one of the two";
                self.add(document.listen.at(), "`public_url` has another port", consequence);
            }
        }
        if configuration.tls.is_none() {
            let consequence = "tokens can be read between proxy and gateway: that network must be \
                               trusted";
            let at = document.trusted_proxies.at();
            self.add(at, "plain connections from `trusted_proxies`", consequence);
        }
        if configuration.public_url.scheme_str() == Some("https")
            && configuration.tls.is_none()
            && configuration.trusted_proxies.is_empty()
            && matches!(configuration.tokens, Tokens::Login(_))
        {
            let consequence = "all clients share the address of the proxy, and so its limits on \
                               passwords and registrations: name it, such as \"127.0.0.1\"";
            let at = document.public_url.at();
            self.add(at, "a proxy that `trusted_proxies` does not name", consequence);
        }
        if configuration.trusted_proxies.iter().any(|network| network.prefix_len() == 0) {
            let consequence = "plain connections are accepted from every address, and every client \
                               chooses the address that limits and records have";
            self.add(
                document.trusted_proxies.at(),
                "every address is a trusted proxy",
                consequence,
            );
        }
        self.store(loaded);
        if let Some(log) = document.log.value()
            && is_verbose(&configuration.log_filter)
        {
            let consequence = "these lines name subjects, claims and URLs";
            self.add(log.filter.at(), "log lines for developers", consequence);
        }
        self.denied_servers(document);
    }

    fn store(&mut self, loaded: &Loaded) {
        let Some(store) = loaded.document.store.value() else { return };
        let at = store.url.at().or(store.url_file.at());
        match StoreUrl::of(&loaded.configuration.store.url) {
            StoreUrl::Memory => {
                self.add(at, "a store in memory", "grants and revocations are lost at a restart");
            }
            StoreUrl::Unverified => {
                let consequence = "the connection can be read or redirected; set \
                                   `sslmode=verify-full`, or remove `sslmode`";
                self.add(at, "the database is not authenticated", consequence);
            }
            StoreUrl::Other => {}
        }
        if has_password(&loaded.configuration.store.url) && loaded.is_in_file(store.url.at()) {
            let consequence = "all who may read this file can read it; use `url_file` or \
                               TOKEN_BROKER__STORE__URL";
            self.add(store.url.at(), "a password in the URL of the store", consequence);
        }
    }

    fn denied_servers(&mut self, document: &Document) {
        for server in document.server.elements() {
            if server.value.allow.elements().is_empty() {
                let what = format!("{}: no rule allows anything", name_of(&server.value));
                self.add(Some(server.at), what, "all calls are denied; add `[[server.allow]]`");
            }
        }
    }

    fn tokens(&mut self, tokens: &TokensSection) {
        let at = tokens.kind.at();
        match tokens.kind.value() {
            Some(TokensKind::Trial) => {
                let consequence = "all who can read the signing key can issue tokens for any user; \
                                   use the tokens of an identity provider in production";
                self.add(at, "tokens for trials", consequence);
            }
            Some(TokensKind::Jwt | TokensKind::Introspection) | None => {}
        }
        let consequence = "a token for one server is valid for all servers";
        self.add(tokens.audience.at(), "one `audience` for all servers", consequence);
        if tokens.profile.value() == Some(&Profile::Cognito) {
            self.add(tokens.profile.at(), "tokens without an audience", consequence);
        }
        self.network(
            "tokens",
            [
                &tokens.loopback_hosts,
                &tokens.private_hosts,
                &tokens.plain_http,
                &tokens.trusted_roots,
            ],
        );
    }

    fn login(&mut self, login: &Login) {
        self.network(
            "login",
            [&login.loopback_hosts, &login.private_hosts, &Key::default(), &login.trusted_roots],
        );
    }

    fn server(&mut self, server: &Server) {
        let name = name_of(server);
        self.network(
            name,
            [
                &server.loopback_hosts,
                &server.private_hosts,
                &server.plain_http,
                &server.trusted_roots,
            ],
        );
        let upstream = server.upstream.value().and_then(|url| url.parse::<Uri>().ok());
        if upstream.is_some_and(|url| url.query().is_some()) {
            let what = format!("{name}: `upstream` has a query");
            let consequence = "a key in it can be read by all who may read this file";
            self.add(server.upstream.at(), what, consequence);
        }
        if let Some(credential) = server.credential.value() {
            self.credential(name, credential);
        }
        for rule in server.allow.elements() {
            self.rule(name, &rule.value);
        }
    }

    fn network(&mut self, name: &str, keys: [&Key<Vec<Located<String>>>; 4]) {
        let settings = [
            ("loopback_hosts", "requests may go to services on this machine, by http, too"),
            ("private_hosts", "requests may go to a private network"),
            ("plain_http", "credentials and calls can be read and changed in the network"),
            ("trusted_roots", "the owners of these roots can impersonate any host here"),
        ];
        for (key, (setting, consequence)) in keys.into_iter().zip(settings) {
            if !key.elements().is_empty() {
                self.add(key.at(), format!("{name}: `{setting}`"), consequence);
            }
        }
    }

    fn credential(&mut self, name: &str, credential: &Credential) {
        let at = credential.kind.at();
        match credential.kind.value() {
            Some(CredentialKind::Static) => {
                let what = format!("{name}: one static secret for all users");
                let consequence = "the upstream cannot distinguish users, and the secret does not \
                                   expire";
                self.add(at, what, consequence);
            }
            Some(CredentialKind::ClientCredentials) => {
                let what = format!("{name}: one token for all users");
                self.add(at, what, "the upstream cannot distinguish users");
            }
            Some(CredentialKind::OAuth | CredentialKind::TokenExchange) | None => {}
        }
        if credential.scopes.elements().is_empty() {
            let what = format!("{name}: no `scopes`");
            let consequence = match credential.kind.value() {
                Some(CredentialKind::Static) => {
                    "`upstream_scopes` of rules are not compared with what the secret may do"
                }
                _ => "the authorization server decides which scopes a token has",
            };
            self.add(at, what, consequence);
        }
        if credential.omit_scope_on_refresh.value() == Some(&true) {
            let what = format!("{name}: refreshes without `scope`");
            let consequence = "the authorization server decides which scopes a new token has";
            self.add(credential.omit_scope_on_refresh.at(), what, consequence);
        }
        if credential.client_authentication.value() == Some(&ClientAuthentication::None) {
            let what = format!("{name}: a client without a secret");
            let consequence = "all who obtain a refresh token or assertion can use it";
            self.add(credential.client_authentication.at(), what, consequence);
        }
    }

    fn rule(&mut self, name: &str, rule: &Rule) {
        let lists = [
            ("tools", &rule.tools),
            ("resources", &rule.resources),
            ("prompts", &rule.prompts),
            ("methods", &rule.methods),
        ];
        for (key, names) in lists {
            let is_all = |name: &&Located<String>| name.value.chars().all(|part| part == '*');
            let all = names.elements().iter().find(is_all);
            let what = format!("{name}: all {key} (`*`)");
            let consequence = "those that the upstream adds later are allowed, too";
            self.add(all.map(|all| all.at), what, consequence);
        }
    }
}

/// Kinds of stores that the report distinguishes.
enum StoreUrl {
    Memory,
    /// PostgreSQL without a verified certificate.
    Unverified,
    Other,
}

impl StoreUrl {
    #[expect(clippy::disallowed_methods, reason = "reviewed: nothing of it is printed")]
    fn of(url: &Secret) -> Self {
        match url.expose_text() {
            Some("sqlite::memory:") => Self::Memory,
            // Without a mode, the certificate of another host is verified.
            Some(url) if url.contains("mode=") && !url.contains("mode=verify-full") => {
                Self::Unverified
            }
            Some(_) | None => Self::Other,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "reviewed: nothing of it is printed")]
fn has_password(url: &Secret) -> bool {
    let text = url.expose_text().unwrap_or_default();
    let user = text.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
    user.is_some_and(|(user, _)| user.contains(':')) || text.contains("password=")
}

fn is_verbose(filter: &str) -> bool {
    let filter = filter.to_ascii_lowercase();
    ["debug", "trace"].iter().any(|level| filter.contains(level))
}

fn name_of(server: &Server) -> &str {
    server.name.value().map_or("", String::as_str)
}
