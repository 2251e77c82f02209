//! Counts the connections of each address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use parking_lot::Mutex;

/// The number of connections of each address.
#[derive(Clone)]
pub(super) struct Peers {
    connections: Arc<Mutex<HashMap<IpAddr, usize>>>,
    most: usize,
}

/// The place of one connection of an address, for as long as it lives.
pub(super) struct Place {
    peers: Peers,
    address: IpAddr,
}

impl Peers {
    /// Creates a count that lets this many connections of an address in.
    pub(super) fn new(most: usize) -> Self {
        Self { connections: Arc::default(), most: most.max(1) }
    }

    /// Returns a place, unless the address has all that it may have.
    pub(super) fn enter(&self, peer: IpAddr) -> Option<Place> {
        let address = counted_as(peer);
        let mut connections = self.connections.lock();
        let count = connections.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        drop(connections);
        Some(Place { peers: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut connections = self.peers.connections.lock();
        if let Some(count) = connections.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                connections.remove(&self.address);
            }
        }
    }
}

/// Returns the address under which a peer is counted. One subscriber has a /64 of IPv6.
fn counted_as(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_a_share_of_the_connections() {
        let peers = Peers::new(2);
        let one = address("192.0.2.7");
        let first = peers.enter(one).unwrap();
        // The same address in the form of IPv6.
        let second = peers.enter(address("::ffff:192.0.2.7")).unwrap();
        assert!(peers.enter(one).is_none());
        let other = peers.enter(address("192.0.2.8")).unwrap();
        drop(first);
        let third = peers.enter(one).unwrap();
        drop((second, third, other));
        assert!(peers.connections.lock().is_empty());
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let peers = Peers::new(1);
        let one = peers.enter(address("2001:db8:0:1::1"));
        assert!(one.is_some());
        assert!(peers.enter(address("2001:db8:0:1:ffff::2")).is_none());
        assert!(peers.enter(address("2001:db8:0:2::1")).is_some());
    }
}
