//! The address of a client behind trusted proxies.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

/// The header in which each proxy appends the address that it was called from.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Returns the address that a request came from: that of the connection, unless it is one of the
/// trusted proxies. Then it is the last address in `X-Forwarded-For` that is none of them. The
/// entries before it were sent by the client, and count for nothing.
pub(super) fn client_address(
    peer: SocketAddr,
    headers: &HeaderMap,
    trusted: &[IpNet],
) -> SocketAddr {
    let is_trusted = |address: IpAddr| {
        let address = address.to_canonical();
        trusted.iter().any(|network| network.contains(&address))
    };
    if !is_trusted(peer.ip()) {
        return peer;
    }
    let mut client = peer;
    // Several lines are one list (RFC 9110 §5.3).
    let lines = headers.get_all(FORWARDED_FOR).into_iter().collect::<Vec<_>>();
    let last_first = lines.into_iter().rev().flat_map(|line| {
        let entries = line.to_str().unwrap_or_default().split(',').rev();
        entries.map(str::trim).collect::<Vec<_>>()
    });
    for entry in last_first {
        // An entry that is no address was not written by a proxy that is configured well.
        let Some(address) = parse(entry) else { break };
        client = address;
        if !is_trusted(address.ip()) {
            break;
        }
    }
    client
}

/// Parses an address, with or without a port.
fn parse(entry: &str) -> Option<SocketAddr> {
    let without_port = || {
        let address = entry.strip_prefix('[').and_then(|entry| entry.strip_suffix(']'));
        Some(SocketAddr::new(address.unwrap_or(entry).parse().ok()?, 0))
    };
    entry.parse().ok().or_else(without_port)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(peer: &str, lines: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        let peer = SocketAddr::new(peer.parse().unwrap(), 7);
        client_address(peer, &headers, &trusted).ip().to_string()
    }

    const PROXIES: &[&str] = &["10.0.0.0/24", "fd00::/8"];

    #[test]
    fn a_trusted_proxy_names_the_client() {
        for (peer, lines, client) in [
            ("10.0.0.5", &["192.0.2.7"][..], "192.0.2.7"),
            ("10.0.0.5", &["192.0.2.7:4711"], "192.0.2.7"),
            ("10.0.0.5", &["[2001:db8::7]:4711"], "2001:db8::7"),
            ("10.0.0.5", &["2001:db8::7"], "2001:db8::7"),
            ("fd00::1", &["[2001:db8::7]"], "2001:db8::7"),
            ("::ffff:10.0.0.5", &["192.0.2.7"], "192.0.2.7"),
            // Two proxies, one after the other, also in two lines.
            ("10.0.0.5", &["192.0.2.7, 10.0.0.6"], "192.0.2.7"),
            ("10.0.0.5", &["192.0.2.7", "10.0.0.6"], "192.0.2.7"),
            // A request of a proxy itself.
            ("10.0.0.5", &[], "10.0.0.5"),
            ("10.0.0.5", &["10.0.0.6"], "10.0.0.6"),
        ] {
            assert_eq!(of(peer, lines, PROXIES), client, "{peer} {lines:?}");
        }
    }

    #[test]
    fn a_client_cannot_choose_its_address() {
        for (peer, lines, client) in [
            // No proxy.
            ("192.0.2.7", &["198.51.100.1"][..], "192.0.2.7"),
            ("127.0.0.1", &["198.51.100.1"], "127.0.0.1"),
            // What the client sent is first.
            ("10.0.0.5", &["198.51.100.1, 192.0.2.7"], "192.0.2.7"),
            ("10.0.0.5", &["198.51.100.1", "192.0.2.7, 10.0.0.6"], "192.0.2.7"),
            ("10.0.0.5", &["10.0.0.9, 192.0.2.7"], "192.0.2.7"),
            // No address: that of the last proxy is known for certain.
            ("10.0.0.5", &["192.0.2.7, unknown"], "10.0.0.5"),
            ("10.0.0.5", &["192.0.2.7, 192.0.2.7.example, 10.0.0.6"], "10.0.0.6"),
            ("10.0.0.5", &["192.0.2.7, "], "10.0.0.5"),
        ] {
            assert_eq!(of(peer, lines, PROXIES), client, "{peer} {lines:?}");
        }
    }
}
