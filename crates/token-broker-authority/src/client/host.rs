//! Host and port of an https URL.

use http::Uri;

/// Host and port of an https URL, in one spelling: lower case, no dot at its end, no default port.
/// Quotas count by it.
// F521
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Host(Box<str>);

impl Host {
    /// Returns the host of a URL; `None` for user information, an address of IPv6, an empty label,
    /// and a port that is not a number from 1 to 65535.
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let authority = uri.authority()?.as_str();
        let (name, port) = match authority.split_once(':') {
            Some((name, port)) => (name, port_of(port)?),
            None => (authority, DEFAULT_PORT),
        };
        // A dot at the end is the root of the DNS: the same host.
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let is_label = |label: &str| {
            let is_octet =
                |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
            !label.is_empty() && label.bytes().all(is_octet)
        };
        if !name.split('.').all(is_label) {
            return None;
        }
        Some(Self(match port {
            DEFAULT_PORT => name.into(),
            port => format!("{name}:{port}").into(),
        }))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

const DEFAULT_PORT: u16 = 443;

fn port_of(text: &str) -> Option<u16> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| is_number && *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(url: &str) -> Option<String> {
        Host::of(&url.parse().ok()?).map(|host| host.as_str().to_owned())
    }

    #[test]
    fn f521_a_host_has_one_spelling() {
        for url in [
            "https://client.example/c",
            "https://CLIENT.Example/c",
            "https://client.example./c",
            "https://client.example:443/c",
            "https://client.example:0443/c",
            "https://Client.example.:443/c",
        ] {
            assert_eq!(host(url).as_deref(), Some("client.example"), "F521 {url}");
        }
        assert_eq!(host("https://Client.example:08443/").as_deref(), Some("client.example:8443"));
    }

    #[test]
    fn f521_what_is_no_host_has_no_spelling() {
        for url in [
            "https://u@client.example/c",
            "https://u:p@client.example/c",
            "https://client.example:/c",
            "https://client.example:0/c",
            "https://client.example:65536/c",
            "https://client.example:443:443/c",
            "https://client.example../c",
            "https://.client.example/c",
            "https://client..example/c",
            "https://./c",
            "https://client%2eexample/c",
            "https://[2001:db8::1]/c",
            "/c",
        ] {
            assert_eq!(host(url), None, "F521 {url}");
        }
    }
}
