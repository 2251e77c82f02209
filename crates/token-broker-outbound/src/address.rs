//! Classification of addresses: public, private, loopback, or never allowed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Kind of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Routed in the public internet.
    Public,
    /// Address of a private network: RFC 1918, unique-local (RFC 4193), shared (RFC 6598). An
    /// operator may allow a host of it.
    Private,
    /// This host.
    Loopback,
    /// Address to which no request may go: link-local, metadata services, multicast, reserved,
    /// tunnels.
    Never,
}

impl Kind {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => of_v4(address),
            IpAddr::V6(address) => of_v6(address),
        }
    }
}

// C062: the IANA special-purpose registry, and the metadata services that lie outside of it.
fn of_v4(address: Ipv4Addr) -> Kind {
    match address.octets() {
        // Metadata of Azure (a public address) and of Alibaba (in the shared range).
        [168, 63, 129, 16] | [100, 100, 100, 200] => Kind::Never,
        [127, ..] => Kind::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Kind::Private,
        // "This network", link-local, protocol assignments, documentation, 6to4 relays,
        // benchmarking, multicast and above.
        [0, ..]
        | [169, 254, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [224..=255, ..] => Kind::Never,
        _ => Kind::Public,
    }
}

fn of_v6(address: Ipv6Addr) -> Kind {
    let [a, b, c, d, e, f, g, h] = address.segments();
    match [a, b, c, d, e, f, g, h] {
        [0, 0, 0, 0, 0, 0, 0, 1] => Kind::Loopback,
        // C063: an embedded IPv4 address is checked itself: mapped (RFC 4291), NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            of_v4(embedded(high, low))
        }
        // Metadata services of AWS and Google, in unique-local addresses.
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] => Kind::Never,
        [0xfc00..=0xfdff, ..] => Kind::Private,
        // ISATAP (RFC 5214) hides an IPv4 address in the interface identifier of any prefix.
        [_, _, _, _, 0 | 0x200, 0x5efe, high, low]
            if of_v4(embedded(high, low)) != Kind::Public =>
        {
            Kind::Never
        }
        // Protocol assignments with Teredo, ORCHID and benchmarking; documentation; 6to4.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => {
            Kind::Never
        }
        // RFC 4291 §2.4: of the rest, only 2000::/3 is assigned as global unicast.
        [0x2000..=0x3fff, ..] => Kind::Public,
        _ => Kind::Never,
    }
}

fn embedded(high: u16, low: u16) -> Ipv4Addr {
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_of_the_kind_that_the_registries_say() {
        for (kind, addresses) in [
            (
                Kind::Public,
                "1.1.1.1 93.184.216.34 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 \
                 126.255.255.255",
            ),
            (
                Kind::Public,
                "128.0.0.0 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.167.255.255",
            ),
            (
                Kind::Public,
                "192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255 2606:4700::1111 \
                 2a00:1450::1",
            ),
            (Kind::Public, "::ffff:1.1.1.1 64:ff9b::1.1.1.1 2001:200::1 2400::5efe:101:101"),
            (
                Kind::Private,
                "10.0.0.0 10.255.255.255 172.16.0.0 172.31.255.255 192.168.0.1 100.64.0.0 \
                 100.127.255.255",
            ),
            (
                Kind::Private,
                "fc00::1 fd00::1 fdff:ffff::1 ::ffff:10.0.0.1 ::ffff:a00:1 64:ff9b::192.168.0.1",
            ),
            (
                Kind::Loopback,
                "127.0.0.1 127.255.255.254 ::1 ::ffff:127.0.0.1 ::ffff:7f00:1 64:ff9b::7f00:1",
            ),
            (
                Kind::Never,
                "0.0.0.0 0.255.255.255 169.254.169.254 169.254.0.1 192.0.0.192 192.0.2.1 \
                 192.88.99.1",
            ),
            (
                Kind::Never,
                "198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.9 224.0.0.1 239.0.0.1 240.0.0.1",
            ),
            (
                Kind::Never,
                "255.255.255.255 168.63.129.16 100.100.100.200 ::ffff:169.254.169.254 \
                 ::ffff:0.0.0.0",
            ),
            (
                Kind::Never,
                ":: ::127.0.0.1 ::10.0.0.1 ::ffff:0:127.0.0.1 64:ff9b:1::10.0.0.1 100::1 \
                 fe80::1 febf::1",
            ),
            (
                Kind::Never,
                "fec0::1 ff02::1 2001::1 2001:0:7f00:1::1 2001:2::1 2001:db8::1 \
                 2002:7f00:1::1 2002:101:101::1",
            ),
            (
                Kind::Never,
                "3fff::1 3fff:fff::1 fd00:ec2::254 fd20:ce::254 64:ff9b::a9fe:a9fe \
                 2400::5efe:7f00:1 5f00::1",
            ),
            (Kind::Never, "2400::200:5efe:a9fe:a9fe 4000::1"),
        ] {
            for address in addresses.split(' ') {
                assert_eq!(Kind::of(address.parse().unwrap()), kind, "C062 {address}");
            }
        }
    }
}
