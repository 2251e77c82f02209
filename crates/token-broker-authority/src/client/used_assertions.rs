//! The assertions of clients that were used and have not ended.

use std::collections::{BTreeSet, HashMap, HashSet};

use aws_lc_rs::digest;
use tower_token_broker::clock::Timestamp;

/// Most assertions that are remembered of one client. With the longest lifetime, 3 per second.
const MOST_OF_CLIENT: usize = 1_000;
/// Number of assertions from which on a client may only have its share of them.
const MANY: usize = 100_000;
/// Most clients of which assertions are remembered.
const MOST_CLIENTS: usize = 20_000;

type Digest = [u8; 32];

/// The use of an assertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    First,
    Again,
    /// It is not remembered, so it cannot be used.
    NoSpace,
}

/// The assertions that were used and have not ended. Each client fills only its own part.
#[derive(Debug, Default)]
pub(super) struct UsedAssertions {
    /// By digest of the client, the digests of its `jti`.
    by_client: HashMap<Digest, HashSet<Digest>>,
    /// When each of them ends.
    ends: BTreeSet<(Timestamp, Digest, Digest)>,
}

impl UsedAssertions {
    /// Remembers an assertion until it ends. A client with too many is refused until some have
    /// ended; other clients are not affected.
    // F525
    pub(super) fn insert(
        &mut self,
        client: &str,
        id: &str,
        (until, now): (Timestamp, Timestamp),
    ) -> Use {
        self.remove_ended(now);
        let (client, id) = (digest_of(client), digest_of(id));
        let (total, clients) = (self.ends.len(), self.by_client.len());
        let is_known = self.by_client.contains_key(&client);
        if !is_known && clients >= MOST_CLIENTS {
            return Use::NoSpace;
        }
        let used = self.by_client.entry(client).or_default();
        // The more clients, the smaller the share: the number in all grows with the logarithm of
        // the number of clients.
        let most = if total < MANY { MOST_OF_CLIENT } else { MANY / (clients + 1) };
        if used.contains(&id) {
            return Use::Again;
        }
        if used.len() >= most.min(MOST_OF_CLIENT) {
            return Use::NoSpace;
        }
        used.insert(id);
        self.ends.insert((until, client, id));
        Use::First
    }

    fn remove_ended(&mut self, now: Timestamp) {
        while let Some((_, client, id)) = self.ends.first().filter(|(until, ..)| *until <= now) {
            if let Some(used) = self.by_client.get_mut(client) {
                used.remove(id);
                if used.is_empty() {
                    self.by_client.remove(client);
                }
            }
            self.ends.pop_first();
        }
    }
}

fn digest_of(text: &str) -> Digest {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 octets")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);

    fn is_first(
        used: &mut UsedAssertions,
        client: &str,
        id: &str,
        times: (Timestamp, Timestamp),
    ) -> bool {
        used.insert(client, id, times) == Use::First
    }

    fn after(seconds: u64) -> Timestamp {
        NOW.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn f504_an_assertion_is_used_once() {
        let mut used = UsedAssertions::default();
        assert!(is_first(&mut used, "a", "1", (after(60), NOW)), "F504");
        assert!(!is_first(&mut used, "a", "1", (after(60), NOW)), "F504");
        assert!(!is_first(&mut used, "a", "1", (after(300), after(59))), "F504: another end");
        assert!(is_first(&mut used, "b", "1", (after(60), NOW)), "another client");
        assert!(is_first(&mut used, "a", "2", (after(60), NOW)), "another ID");
        // No two pairs of client and ID are one.
        assert!(is_first(&mut used, "a1", "", (after(60), NOW)));
        assert!(is_first(&mut used, "", "a1", (after(60), NOW)));
        // Ended, it is refused for its time; its row is not needed any more.
        assert!(is_first(&mut used, "c", "1", (after(120), after(60))));
        assert_eq!((used.ends.len(), used.by_client.len()), (1, 1));
    }

    #[test]
    fn f525_one_client_leaves_room_for_others() {
        let mut used = UsedAssertions::default();
        let of_one =
            (0..5_000).filter(|id| is_first(&mut used, "a", &id.to_string(), (after(300), NOW)));
        assert_eq!(of_one.count(), 1_000, "F525");
        assert_eq!(used.insert("a", "0", (after(300), NOW)), Use::Again, "F525: also while full");
        assert_eq!(used.insert("a", "new", (after(300), NOW)), Use::NoSpace, "F525");
        assert!(is_first(&mut used, "b", "0", (after(300), NOW)), "F525: another client");
        assert!(is_first(&mut used, "a", "new", (after(600), after(300))), "F525: they have ended");
    }

    #[test]
    fn f525_many_clients_leave_room_for_others() {
        let mut used = UsedAssertions::default();
        for client in 0..300 {
            for id in 0..1_000 {
                let _ =
                    is_first(&mut used, &client.to_string(), &id.to_string(), (after(300), NOW));
            }
        }
        assert!(used.ends.len() < 3 * MANY, "F525: bounded: {}", used.ends.len());
        for id in 0..20 {
            assert!(is_first(&mut used, "quiet", &id.to_string(), (after(300), NOW)), "F525 {id}");
        }
        assert!(!is_first(&mut used, "quiet", "0", (after(300), NOW)), "F525: and once each");
        assert!(is_first(&mut used, "quiet", "x", (after(600), after(300))));
        assert_eq!((used.ends.len(), used.by_client.len()), (1, 1), "F525: all have ended");
    }

    #[test]
    fn f525_the_number_of_clients_is_bounded() {
        let mut used = UsedAssertions::default();
        for client in 0..MOST_CLIENTS + 10 {
            let is_first = is_first(&mut used, &client.to_string(), "1", (after(300), NOW));
            assert_eq!(is_first, client < MOST_CLIENTS);
        }
        assert!(is_first(&mut used, "0", "2", (after(300), NOW)), "F525: a known client");
    }
}
