//! Guard: defines where requests may go.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use http::Uri;
use tower_token_broker::alarm::Alarm;
use url::{Host, Url};

use crate::{
    address::Kind,
    error::{BlockedAddress, FetchError},
    resolve::{Resolve, SystemResolver},
};

/// Destinations of requests: public hosts by `https`, and the hosts that are allowed by name.
///
/// | host | scheme | addresses |
/// |---|---|---|
/// | any | `https` | public |
/// | [`Guard::allow_loopback`] | both | loopback only |
/// | [`Guard::allow_private_host`] | `https` | private or public |
/// | [`Guard::dangerous_allow_http`], on its port | both | private only |
///
/// A name is compared with the host of the URL as the parser (WHATWG) writes it: lower case, IPv6
/// in brackets, IPv4 as four decimal numbers. Cheap to clone.
#[derive(Clone, Debug)]
#[must_use = "does nothing unless it is used"]
pub struct Guard(Arc<AddressRules>);

#[derive(Clone)]
struct AddressRules {
    loopback: Vec<Box<str>>,
    private: Vec<Box<str>>,
    http: Vec<(Box<str>, u16)>,
    roots: Vec<Vec<u8>>,
    connect_timeout: Duration,
    resolver: Arc<dyn Resolve>,
}

impl Guard {
    /// Longest accepted URL, in bytes.
    pub const MAX_URL: usize = 8 * 1024;

    /// Creates a guard that allows public hosts by `https`, and nothing else.
    pub fn new() -> Self {
        Self(Arc::new(AddressRules {
            loopback: Vec::new(),
            private: Vec::new(),
            http: Vec::new(),
            roots: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            resolver: Arc::new(SystemResolver),
        }))
    }

    /// Allows this host on loopback, by `http` too: `127.0.0.1:8080`, `[::1]:8080`,
    /// `localhost:8080`, or without a port for any port. A name must resolve to loopback addresses
    /// only. An entry that names another address allows nothing.
    pub fn allow_loopback(self, host: &str) -> Self {
        self.with(|rules| rules.loopback.push(host.to_ascii_lowercase().into()))
    }

    /// Allows this host (`mcp.corp.example`, `10.1.2.3`; with or without a port) to have an address
    /// of a private network: RFC 1918, unique-local, shared. By `https` only; never loopback,
    /// link-local or metadata.
    pub fn allow_private_host(self, host: &str) -> Self {
        self.with(|rules| rules.private.push(host.to_ascii_lowercase().into()))
    }

    /// Allows plain `http` to this host (`mcp.crm.svc.cluster.local`, `10.1.2.3`, `[fd00::1]`) on
    /// this port, and `https`, too. The host must have private addresses only, on each of its
    /// ports: never public, loopback, link-local or metadata ones.
    ///
    /// Everything that is sent there can be read and changed in the network: the credential, calls
    /// and responses. Use it where the network itself encrypts or is trusted (a service mesh, one
    /// host's containers); prefer `https` elsewhere. Each call is logged (`outbound.plain_http`).
    ///
    /// ```
    /// use token_broker_outbound::Guard;
    ///
    /// let guard = Guard::new().dangerous_allow_http("crm", 8080);
    /// assert!(guard.check("http://crm:8080/mcp").is_ok());
    /// for other in ["http://crm/mcp", "http://crm:8081/mcp", "http://mail:8080/mcp"] {
    ///     assert!(guard.check(other).is_err());
    /// }
    /// ```
    ///
    /// There is no such call for all ports of a host:
    ///
    /// ```compile_fail,E0061
    /// token_broker_outbound::Guard::new().dangerous_allow_http("crm");
    /// ```
    pub fn dangerous_allow_http(self, host: &str, port: u16) -> Self {
        tracing::warn!(
            alarm = Alarm::PlainHttp.code(),
            host,
            port,
            "plain http is allowed: credentials and calls are readable in the network"
        );
        self.with(|rules| rules.http.push((host.to_ascii_lowercase().into(), port)))
    }

    /// Trusts this root certificate (DER) in addition to those of the platform.
    pub fn trust_root(self, certificate: Vec<u8>) -> Self {
        self.with(|rules| rules.roots.push(certificate))
    }

    /// Sets the timeout for name resolution, connection and TLS together; 10 s by default.
    pub fn connect_timeout(self, bound: Duration) -> Self {
        self.with(|rules| rules.connect_timeout = bound)
    }

    /// Replaces the resolver of the system. The addresses that it returns are checked as well.
    pub fn with_resolver(self, resolver: impl Resolve) -> Self {
        self.with(|rules| rules.resolver = Arc::new(resolver))
    }

    /// Parses a URL and checks whether a request may go there. Returns the URI that was checked.
    /// The addresses of a name are checked when it is resolved, right before the connection, which
    /// uses only those addresses.
    ///
    /// # Errors
    /// [`FetchError::Url`], [`FetchError::Scheme`], [`FetchError::BlockedAddress`].
    pub fn check(&self, url: &str) -> Result<Uri, FetchError> {
        // C069: WHATWG removes white space and control characters, and turns a backslash into a
        // slash. Refuse them instead.
        if url.len() > Self::MAX_URL
            || url.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\')
        {
            return Err(FetchError::Url);
        }
        let parsed = Url::parse(url).map_err(|_| FetchError::Url)?;
        if !matches!(parsed.scheme(), "https" | "http") {
            return Err(FetchError::Scheme);
        }
        let (_, rest) = url.split_once("://").ok_or(FetchError::Url)?;
        // C069: also an empty `@` or `#`, which the parsed URL does not show.
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') || url.contains('#') {
            return Err(FetchError::Url);
        }
        self.check_parsed(&parsed)?;
        parsed.as_str().parse().map_err(|_| FetchError::Url)
    }

    /// Checks the URI of a request, parsed again by the same parser.
    pub(crate) fn check_uri(&self, uri: &Uri) -> Result<Url, FetchError> {
        let parsed = Url::parse(&uri.to_string()).map_err(|_| FetchError::Url)?;
        let checked = self.check(parsed.as_str());
        // C063: the connector would parse another spelling of the host again.
        if uri.host().is_none_or(|host| {
            !parsed.host_str().is_some_and(|read| host.eq_ignore_ascii_case(read))
        }) {
            return Err(checked.err().unwrap_or(FetchError::Url));
        }
        if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
            return Err(FetchError::Url);
        }
        checked.map(|_| parsed)
    }

    /// Resolves a name and checks all of its addresses. A blocked address blocks the name.
    ///
    /// # Cancellation
    /// Has no effect.
    pub(crate) async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, FetchError> {
        let resolved = self.0.resolver.resolve(name).await;
        let addresses = resolved.map_err(|_| FetchError::Unresolved)?;
        if addresses.is_empty() {
            return Err(FetchError::Unresolved);
        }
        // C065, H178: the connector receives exactly the addresses that were checked.
        let permit = self.permit_of_name(&name.to_ascii_lowercase());
        for address in &addresses {
            permit.admit(*address)?;
        }
        Ok(addresses)
    }

    pub(crate) fn roots(&self) -> &[Vec<u8>] {
        &self.0.roots
    }

    pub(crate) fn connect_bound(&self) -> Duration {
        self.0.connect_timeout
    }

    fn with(mut self, change: impl FnOnce(&mut AddressRules)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    fn check_parsed(&self, url: &Url) -> Result<(), FetchError> {
        let (Some(host), Some(text), Some(port)) =
            (url.host(), url.host_str(), url.port_or_known_default())
        else {
            return Err(FetchError::Url);
        };
        if port == 0 {
            return Err(FetchError::Url);
        }
        let permit = self.permit(text, port);
        match host {
            // C062: address literals do not pass the resolver, so they are checked here.
            Host::Ipv4(address) => permit.admit(address.into())?,
            Host::Ipv6(address) => permit.admit(address.into())?,
            // A name that is allowed on another port is refused here, because the resolver does not
            // know the port.
            Host::Domain(name) => permit.admit_name(self.permit_of_name(name))?,
        }
        // C497: also where the entry for another port would allow it.
        if url.scheme() == "http" && !permit.is_for_http() {
            return Err(FetchError::Scheme);
        }
        Ok(())
    }

    /// Returns the addresses that this host may have on this port.
    fn permit(&self, host: &str, port: u16) -> Permit {
        let named =
            |entries: &[Box<str>]| entries.iter().any(|entry| names(entry, host, Some(port)));
        if named(&self.0.loopback) {
            Permit::Loopback
        } else if self.0.http.iter().any(|(entry, of)| **entry == *host && *of == port) {
            Permit::PrivateOnly
        } else if named(&self.0.private) {
            Permit::Private
        } else {
            Permit::Public
        }
    }

    /// Returns the addresses that this name may have whatever the port: the least that an entry
    /// for one of its ports allows.
    fn permit_of_name(&self, name: &str) -> Permit {
        let named = |entries: &[Box<str>]| entries.iter().any(|entry| names(entry, name, None));
        if named(&self.0.loopback) {
            Permit::Loopback
        } else if self.0.http.iter().any(|(entry, _)| **entry == *name) {
            Permit::PrivateOnly
        } else if named(&self.0.private) {
            Permit::Private
        } else {
            Permit::Public
        }
    }
}

impl Default for Guard {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for AddressRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressRules")
            .field("loopback", &self.loopback)
            .field("private", &self.private)
            .field("http", &self.http)
            .field("roots", &self.roots.len())
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}

/// Kinds of address that a host may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Permit {
    Public,
    Private,
    /// Only private, because plain `http` may go there.
    PrivateOnly,
    /// Only loopback, because plain `http` may go there.
    Loopback,
}

impl Permit {
    const fn is_for_http(self) -> bool {
        matches!(self, Self::Loopback | Self::PrivateOnly)
    }

    fn admit(self, address: IpAddr) -> Result<(), FetchError> {
        let blocked = match (self, Kind::of(address)) {
            (Self::Public | Self::Private, Kind::Public)
            | (Self::Private | Self::PrivateOnly, Kind::Private)
            | (Self::Loopback, Kind::Loopback) => return Ok(()),
            (_, Kind::Loopback) => BlockedAddress::Loopback,
            (_, Kind::Private) => BlockedAddress::Private,
            (_, Kind::Public) => BlockedAddress::Public,
            (_, Kind::Never) => BlockedAddress::Never,
        };
        Err(FetchError::BlockedAddress(blocked))
    }

    /// Checks that the resolver, which does not know the port, will admit no address that this
    /// permit would not.
    fn admit_name(self, of_name: Self) -> Result<(), FetchError> {
        match (self, of_name) {
            (Self::Public, Self::Public)
            | (Self::Private, Self::Private | Self::PrivateOnly)
            | (Self::PrivateOnly, Self::PrivateOnly)
            | (Self::Loopback, Self::Loopback) => Ok(()),
            (_, Self::Loopback) => Err(FetchError::BlockedAddress(BlockedAddress::Loopback)),
            (_, Self::Public | Self::Private | Self::PrivateOnly) => {
                Err(FetchError::BlockedAddress(BlockedAddress::Private))
            }
        }
    }
}

/// Whether an entry names this host. An entry without a port names it on any port; without a port
/// of the host, any entry for the host does.
fn names(entry: &str, host: &str, port: Option<u16>) -> bool {
    let (entry_host, entry_port) = match entry.rsplit_once(':') {
        Some((entry_host, digits)) if !digits.ends_with(']') => {
            (entry_host, digits.parse::<u16>().ok())
        }
        _ => (entry, None),
    };
    // An entry such as `host:nonsense` has no valid port, and names nothing.
    let any_port = entry_host.len() == entry.len();
    if !any_port && entry_port.is_none() {
        return false;
    }
    entry_host == host && (any_port || port.is_none() || port == entry_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocked(address: BlockedAddress) -> FetchError {
        FetchError::BlockedAddress(address)
    }

    #[test]
    fn hostile_urls_are_refused_for_their_own_reason() {
        let guard = Guard::new();
        for (case, url, code) in [
            ("C062", "https://127.0.0.1/", "fetch.blocked_address"),
            ("C062", "http://127.0.0.1/", "fetch.blocked_address"),
            ("C062", "https://[::1]/", "fetch.blocked_address"),
            ("C062", "https://0.0.0.0/", "fetch.blocked_address"),
            ("C062", "http://169.254.169.254/latest/meta-data/", "fetch.blocked_address"),
            ("C062", "https://10.0.0.1/", "fetch.blocked_address"),
            ("C062", "https://172.16.0.1/", "fetch.blocked_address"),
            ("C062", "https://192.168.1.1/", "fetch.blocked_address"),
            ("C062", "https://100.64.0.1/", "fetch.blocked_address"),
            ("C062", "https://[fd00::1]/", "fetch.blocked_address"),
            ("C062", "https://[fe80::1]/", "fetch.blocked_address"),
            ("C062", "https://[::]/", "fetch.blocked_address"),
            // The parser does not support zone identifiers.
            ("C062", "https://[fe80::1%eth0]/", "fetch.url"),
            ("C062", "https://[fe80::%25eth0]/", "fetch.url"),
            ("C063", "https://2130706433/", "fetch.blocked_address"),
            ("C063", "https://0x7f.1/", "fetch.blocked_address"),
            ("C063", "https://0x7f000001/", "fetch.blocked_address"),
            ("C063", "https://0177.0.0.1/", "fetch.blocked_address"),
            ("C063", "https://127.1/", "fetch.blocked_address"),
            ("C063", "https://①②⑦.0.0.1/", "fetch.blocked_address"),
            ("C063", "https://127。0。0。1/", "fetch.blocked_address"),
            ("C063", "https://127.0.0.1./", "fetch.blocked_address"),
            ("C063", "https://%31%32%37.0.0.1/", "fetch.blocked_address"),
            ("C063", "https://[::ffff:127.0.0.1]/", "fetch.blocked_address"),
            ("C063", "https://[::ffff:7f00:1]/", "fetch.blocked_address"),
            ("C063", "https://[0:0:0:0:0:ffff:a9fe:a9fe]/", "fetch.blocked_address"),
            ("C063", "https://[64:ff9b::7f00:1]/", "fetch.blocked_address"),
            ("C063", "https://[2002:7f00:1::]/", "fetch.blocked_address"),
            ("C063", "https://[2001:0:7f00:1::]/", "fetch.blocked_address"),
            ("C063", "https://[::127.0.0.1]/", "fetch.blocked_address"),
            ("C063", "https://127.0.0.256/", "fetch.url"),
            ("C069", "http://login.example.com/", "fetch.scheme"),
            ("C069", "file:///etc/passwd", "fetch.scheme"),
            ("C069", "ftp://ok.example/", "fetch.scheme"),
            ("C069", "gopher://ok.example/", "fetch.scheme"),
            ("C069", "data:text/plain,x", "fetch.scheme"),
            ("C069", "unix:/run/x.sock", "fetch.scheme"),
            ("C069", "javascript:alert(1)", "fetch.scheme"),
            ("C069", "ws://ok.example/", "fetch.scheme"),
            ("C069", "https://a@b.example/", "fetch.url"),
            ("C069", "https://a:b@b.example/", "fetch.url"),
            ("C069", "https://@b.example/", "fetch.url"),
            ("C069", "https://ok.example/#fragment", "fetch.url"),
            ("C069", "https://ok.example/#", "fetch.url"),
            ("C069", "https://ok.example\\@evil.example/", "fetch.url"),
            ("C069", "https:ok.example/", "fetch.url"),
            ("C069", "https:/ok.example/", "fetch.url"),
            ("C069", " https://ok.example/", "fetch.url"),
            ("C069", "https://ok.exa\tmple/", "fetch.url"),
            ("C069", "https://ok.example/\r\nX: y", "fetch.url"),
            ("C069", "https://ok.example:0/", "fetch.url"),
            ("C069", "//ok.example/", "fetch.url"),
            ("C069", "", "fetch.url"),
        ] {
            assert_eq!(guard.check(url).unwrap_err().code(), code, "{case} {url}");
        }
        let long = format!("https://ok.example/{}", "a".repeat(Guard::MAX_URL));
        assert_eq!(guard.check(&long), Err(FetchError::Url), "C069 too long");
    }

    #[test]
    fn a_public_host_passes_in_parsed_form() {
        let uri = Guard::new().check("https://Login.Example.com:443/token?x=1").unwrap();
        assert_eq!(uri, "https://login.example.com/token?x=1");
        assert!(Guard::new().check("https://93.184.216.34/").is_ok());
    }

    #[test]
    fn loopback_is_allowed_by_name_and_port_alone() {
        let guard = Guard::new()
            .allow_loopback("127.0.0.1:8080")
            .allow_loopback("localhost:81")
            .allow_loopback("[::1]");
        for url in [
            "http://127.0.0.1:8080/x",
            "https://127.0.0.1:8080/x",
            "http://localhost:81/",
            "http://[::1]:9/",
        ] {
            assert!(guard.check(url).is_ok(), "{url}");
        }
        for url in [
            "http://127.0.0.1:8081/",
            "http://127.0.0.2:8080/",
            "http://localhost:82/",
            "https://localhost/",
        ] {
            assert_eq!(guard.check(url), Err(blocked(BlockedAddress::Loopback)), "{url}");
        }
        // Another name of the same host is not allowed. Its addresses would be checked later; plain
        // http is refused at once.
        assert_eq!(guard.check("http://localhost.:81/"), Err(FetchError::Scheme));
    }

    #[test]
    fn an_entry_can_allow_no_more_than_its_kind() {
        let guard = Guard::new()
            .allow_loopback("10.0.0.1")
            .allow_loopback("1.1.1.1")
            .allow_private_host("127.0.0.1")
            .allow_private_host("169.254.169.254")
            .allow_private_host("10.0.0.2")
            .allow_private_host("10.0.0.3:8443");
        for (url, address) in [
            ("http://10.0.0.1/", BlockedAddress::Private),
            ("http://1.1.1.1/", BlockedAddress::Public),
            ("https://127.0.0.1/", BlockedAddress::Loopback),
            ("https://169.254.169.254/", BlockedAddress::Never),
        ] {
            assert_eq!(guard.check(url), Err(blocked(address)), "{url}");
        }
        assert!(guard.check("https://10.0.0.2/").is_ok());
        assert!(guard.check("https://10.0.0.3:8443/").is_ok());
        assert_eq!(guard.check("https://10.0.0.3/"), Err(blocked(BlockedAddress::Private)));
        assert_eq!(guard.check("http://10.0.0.2/"), Err(FetchError::Scheme));
    }

    #[test]
    fn an_unreadable_port_in_an_entry_names_nothing() {
        let guard = Guard::new().allow_loopback("127.0.0.1:").allow_loopback("localhost:http");
        assert_eq!(guard.check("http://127.0.0.1/"), Err(blocked(BlockedAddress::Loopback)));
        assert_eq!(guard.check("http://localhost/"), Err(FetchError::Scheme));
    }

    #[test]
    fn a_uri_whose_host_has_two_spellings_is_refused() {
        let guard = Guard::new().allow_loopback("127.0.0.1");
        assert!(guard.check_uri(&Uri::from_static("http://127.0.0.1:1/")).is_ok());
        for uri in
            ["http://2130706433/", "http://127.1/", "http://0177.0.0.1/", "http://127.0.0.1./"]
        {
            assert_eq!(
                guard.check_uri(&Uri::from_static(uri)).err(),
                Some(FetchError::Url),
                "C063 {uri}"
            );
        }
        assert_eq!(
            guard.check_uri(&Uri::from_static("https://a@ok.example/")).err(),
            Some(FetchError::Url),
            "C069"
        );
        assert_eq!(guard.check_uri(&Uri::from_static("/path")).err(), Some(FetchError::Url));
    }

    #[tokio::test]
    async fn one_blocked_address_blocks_the_name() {
        for (addresses_text, passes) in [
            ("93.184.216.34", true),
            ("93.184.216.34 127.0.0.1", false),
            ("127.0.0.1", false),
            ("10.0.0.1", false),
            ("169.254.169.254", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("", false),
        ] {
            let addresses: Vec<IpAddr> =
                addresses_text.split_whitespace().map(|text| text.parse().unwrap()).collect();
            let guard = Guard::new().with_resolver(crate::resolve::Fixed(addresses.clone()));
            let outcome = guard.resolve("name.example").await;
            assert_eq!(outcome.is_ok(), passes, "H178 {addresses_text}");
            assert_eq!(outcome.unwrap_or(addresses.clone()), addresses);
        }
    }

    #[tokio::test]
    async fn an_allowed_name_resolves_within_its_kind() {
        let to = |address: &str| crate::resolve::Fixed(vec![address.parse().unwrap()]);
        let guard = Guard::new().allow_private_host("in.example").allow_loopback("localhost:80");
        for (name, address, passes) in [
            ("in.example", "10.0.0.1", true),
            ("in.example", "fd00::1", true),
            ("in.example", "127.0.0.1", false),
            ("in.example", "169.254.169.254", false),
            ("in.example", "fd00:ec2::254", false),
            ("other.example", "10.0.0.1", false),
            ("localhost", "127.0.0.1", true),
            ("LocalHost", "127.0.0.1", true),
            ("localhost", "93.184.216.34", false),
        ] {
            let outcome = guard.clone().with_resolver(to(address)).resolve(name).await;
            assert_eq!(outcome.is_ok(), passes, "{name} {address}");
        }
    }

    #[test]
    fn c497_plain_http_is_allowed_by_host_and_port() {
        let guard = Guard::new()
            .dangerous_allow_http("Crm.svc.cluster.local", 8080)
            .dangerous_allow_http("10.1.2.3", 80)
            .dangerous_allow_http("[fd00::1]", 3000)
            .dangerous_allow_http("crm", 80);
        for url in [
            "http://crm.svc.cluster.local:8080/mcp",
            "http://CRM.svc.cluster.local:8080/mcp",
            "https://crm.svc.cluster.local:8080/mcp",
            "http://10.1.2.3/mcp",
            "http://10.1.2.3:80/mcp",
            "http://[fd00::1]:3000/mcp",
            "http://[FD00:0::1]:3000/mcp",
            "http://crm/mcp",
        ] {
            assert!(guard.check(url).is_ok(), "C497 {url}");
        }
        // Controls: another port, another host, a spelling, another kind of address.
        for (url, error) in [
            ("http://crm.svc.cluster.local/mcp", blocked(BlockedAddress::Private)),
            ("http://crm.svc.cluster.local:8081/mcp", blocked(BlockedAddress::Private)),
            ("https://crm.svc.cluster.local/mcp", blocked(BlockedAddress::Private)),
            ("http://10.1.2.3:8080/mcp", blocked(BlockedAddress::Private)),
            ("http://10.1.2.4/mcp", blocked(BlockedAddress::Private)),
            ("http://[fd00::2]:3000/mcp", blocked(BlockedAddress::Private)),
            ("http://crm.svc.cluster.local.:8080/mcp", FetchError::Scheme),
            ("http://mail.svc.cluster.local:8080/mcp", FetchError::Scheme),
            ("http://crm.svc.cluster.local.evil.example:8080/mcp", FetchError::Scheme),
            ("http://a@crm.svc.cluster.local:8080/mcp", FetchError::Url),
            ("ftp://crm.svc.cluster.local:8080/mcp", FetchError::Scheme),
        ] {
            assert_eq!(guard.check(url), Err(error), "C497 {url}");
        }
    }

    #[test]
    fn c497_an_http_entry_allows_private_addresses_only() {
        for (host, address) in [
            ("127.0.0.1", BlockedAddress::Loopback),
            ("[::1]", BlockedAddress::Loopback),
            ("93.184.216.34", BlockedAddress::Public),
            ("169.254.169.254", BlockedAddress::Never),
            ("100.100.100.200", BlockedAddress::Never),
            ("[fd00:ec2::254]", BlockedAddress::Never),
            ("[fe80::1]", BlockedAddress::Never),
            ("0.0.0.0", BlockedAddress::Never),
        ] {
            let guard = Guard::new().dangerous_allow_http(host, 80);
            assert_eq!(
                guard.check(&format!("http://{host}/")),
                Err(blocked(address)),
                "C497 {host}"
            );
        }
        // An entry that is no host allows nothing.
        for host in ["", "*", "*.example", "crm:80", "http://crm", "crm/mcp", "10.0.0.0/8"] {
            let guard = Guard::new().dangerous_allow_http(host, 80);
            for url in ["http://crm/", "http://10.0.0.1/", "http://a.example/"] {
                assert!(guard.check(url).is_err(), "C497 {host} {url}");
            }
        }
    }

    #[tokio::test]
    async fn c497_a_name_with_an_http_entry_resolves_to_private_addresses() {
        let to = |addresses: &str| {
            let parsed = addresses.split(' ').map(|text| text.parse().unwrap()).collect();
            crate::resolve::Fixed(parsed)
        };
        // The entry for https on another port does not widen it: the resolver knows no port.
        let guard = Guard::new().allow_private_host("crm").dangerous_allow_http("crm", 8080);
        assert!(guard.check("https://crm/").is_ok());
        for (addresses, outcome) in [
            ("10.96.0.10", Ok(())),
            ("172.18.0.2 fd00::2", Ok(())),
            ("93.184.216.34", Err(BlockedAddress::Public)),
            ("10.96.0.10 93.184.216.34", Err(BlockedAddress::Public)),
            ("127.0.0.1", Err(BlockedAddress::Loopback)),
            ("10.96.0.10 ::1", Err(BlockedAddress::Loopback)),
            ("169.254.169.254", Err(BlockedAddress::Never)),
            ("::ffff:169.254.169.254", Err(BlockedAddress::Never)),
        ] {
            let resolved = guard.clone().with_resolver(to(addresses)).resolve("CRM").await;
            assert_eq!(resolved.map(|_| ()), outcome.map_err(blocked), "C497 {addresses}");
        }
        // Entries for one name that allow different kinds allow neither.
        let both = Guard::new().allow_loopback("crm:81").dangerous_allow_http("crm", 8080);
        assert_eq!(both.check("http://crm:8080/"), Err(blocked(BlockedAddress::Loopback)));
    }
}
