//! Hosts that may be reached, and URLs that are.

use std::net::IpAddr;

use http::{
    Uri,
    uri::{Authority, Scheme},
};
use token_broker_outbound::{BlockedAddress, FetchError, Guard};

use super::{
    super::{
        key::{Key, Located},
        model::Network,
    },
    Checks,
};

/// The keys of a network, of a server or of the tokens.
pub(super) struct NetworkKeys<'a> {
    pub(super) loopback_hosts: &'a Key<Vec<Located<String>>>,
    pub(super) private_hosts: &'a Key<Vec<Located<String>>>,
    pub(super) plain_http: &'a Key<Vec<Located<String>>>,
    pub(super) trusted_roots: &'a Key<Vec<Located<String>>>,
}

/// The section whose keys allow hosts.
#[derive(Clone, Copy)]
pub(super) enum Section {
    Server,
    Tokens,
}

impl Checks<'_> {
    pub(super) fn network(&mut self, keys: &NetworkKeys<'_>) -> Network {
        let mut network = Network::default();
        for host in keys.loopback_hosts.elements() {
            network.loopback_hosts.extend(self.host("loopback_hosts", host));
        }
        for host in keys.private_hosts.elements() {
            network.private_hosts.extend(self.host("private_hosts", host));
        }
        for host in keys.plain_http.elements() {
            network.plain_http.extend(self.host_and_port(host));
        }
        for file in keys.trusted_roots.elements() {
            network.trusted_roots.extend(self.certificates("trusted_roots", file));
        }
        network
    }

    fn host(&mut self, key: &str, entry: &Located<String>) -> Option<String> {
        if authority(&entry.value).is_some() {
            return Some(entry.value.clone());
        }
        let problem = format!("an entry of `{key}` is not a host");
        let remedy = "write each host by its name or address, with or without a port, like \
                      \"mcp.corp.example\" or \"10.1.2.3:8443\"";
        self.fail(entry.at, problem, remedy);
        None
    }

    fn host_and_port(&mut self, entry: &Located<String>) -> Option<(String, u16)> {
        let parsed = authority(&entry.value);
        if let Some((authority, port)) = parsed.and_then(|of| of.port_u16().map(|port| (of, port)))
        {
            return Some((authority.host().to_owned(), port));
        }
        let problem = "an entry of `plain_http` is not a host with a port";
        self.fail(
            entry.at,
            problem,
            "write it like \"crm:8080\": http is allowed on one port only",
        );
        None
    }

    /// Returns a URL that may be reached in the network of its section.
    pub(super) fn destination(
        &mut self,
        key: &str,
        url: &Located<String>,
        (section, network): (Section, &Network),
    ) -> Option<Uri> {
        let allowed = allowed(&url.value, network);
        let parsed: Option<Uri> = url.value.parse().ok();
        let (problem, remedy) = match allowed {
            Ok(()) => match parsed {
                Some(uri) => return Some(uri),
                None => refusal(key, FetchError::Url, section),
            },
            Err(error) => refusal(key, error, section),
        };
        self.fail(url.at, problem, remedy);
        None
    }
}

/// Asks the guard of the connections. Its setting for plain `http` is not used here, because each
/// use is logged.
fn allowed(url: &str, network: &Network) -> Result<(), FetchError> {
    let mut guard = Guard::new();
    for host in &network.loopback_hosts {
        guard = guard.allow_loopback(host);
    }
    for host in &network.private_hosts {
        guard = guard.allow_private_host(host);
    }
    if let Ok(uri) = url.parse::<Uri>()
        && uri.scheme() == Some(&Scheme::HTTP)
        && let Some(host) = uri.host()
    {
        let port = uri.port_u16().unwrap_or(80);
        let is_listed = |(name, of): &(String, u16)| name.eq_ignore_ascii_case(host) && *of == port;
        if network.plain_http.iter().any(is_listed) {
            let https = url.replacen("http://", "https://", 1);
            guard.allow_private_host(host).check(&https)?;
            // A name is resolved later.
            let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
            return match is_address && Guard::new().check(&https).is_ok() {
                true => Err(FetchError::BlockedAddress(BlockedAddress::Public)),
                false => Ok(()),
            };
        }
    }
    guard.check(url).map(drop)
}

/// Returns the problem and its remedy in terms of the configuration.
fn refusal(key: &str, error: FetchError, section: Section) -> (String, String) {
    let place = match section {
        Section::Server => "its `[[server]]`",
        Section::Tokens => "`[tokens]`",
    };
    let by_name = |entry: &str| format!("allow the host by name in {place}: `{entry}`");
    let (problem, remedy) = if error == FetchError::Scheme {
        let remedy = format!(
            "or allow http by name in {place}: `loopback_hosts` for this machine, `plain_http` \
             for a private network"
        );
        ("must be https", remedy)
    } else if let FetchError::BlockedAddress(blocked) = error {
        match blocked {
            BlockedAddress::Loopback => {
                ("is on this machine", by_name("loopback_hosts = [\"HOST:PORT\"]"))
            }
            BlockedAddress::Private => {
                ("is in a private network", by_name("private_hosts = [\"HOST\"]"))
            }
            BlockedAddress::Public => (
                "is a public address, which `plain_http` does not allow",
                format!("use https, and remove its entry in {place}"),
            ),
            BlockedAddress::Never => (
                "is a link-local or reserved address, or a metadata service",
                "use another address; no setting allows it".to_owned(),
            ),
        }
    } else {
        (
            "is not a URL that is accepted",
            "write it like https://host/path, without user name, password or fragment".to_owned(),
        )
    };
    (format!("`{key}` {problem}"), remedy)
}

/// Parses `host` or `host:port`.
fn authority(entry: &str) -> Option<Authority> {
    let authority: Authority = entry.parse().ok()?;
    let has_port = authority.port().is_some();
    let is_plain = !entry.contains(['@', '*', '/'])
        && !authority.host().is_empty()
        && (authority.as_str() == authority.host() || has_port);
    (is_plain && authority.port_u16() != Some(0)).then_some(authority)
}
