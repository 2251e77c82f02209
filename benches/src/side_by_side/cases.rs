//! The cases that are measured.

use token_broker_benches::fixtures::Call;

use super::{gateway, haproxy, options::Options, variants::Variant};

/// A load for all its variants. Ratios are to the first of them.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) call: Call,
    pub(crate) connections: usize,
    pub(crate) tokens: TokenUse,
    /// Requests for each variant in each turn.
    pub(crate) requests: usize,
    pub(crate) variants: Vec<Variant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenUse {
    /// So many tokens in turn, all seen before.
    Seen(usize),
    /// Each token once.
    NeverSeen,
}

impl TokenUse {
    pub(crate) const fn seen(self) -> usize {
        match self {
            Self::Seen(count) => count,
            Self::NeverSeen => 0,
        }
    }
}

/// Returns the cases that compare the stack with a proxy without it.
pub(crate) fn side_by_side() -> Vec<Case> {
    let (one, many) = (TokenUse::Seen(1), TokenUse::Seen(10_000));
    vec![
        case("small-1", Call::Small, 1, one, 4_000),
        case("small-32", Call::Small, 32, one, 24_000),
        case("small-128", Call::Small, 128, one, 24_000),
        case("small-32-tokens-10000", Call::Small, 32, many, 24_000),
        case("small-32-never-seen", Call::Small, 32, TokenUse::NeverSeen, 8_000),
        case("large-32", Call::Large, 32, one, 4_000),
        case("list-20-32", Call::List(20), 32, one, 12_000),
        case("list-500-32", Call::List(500), 32, one, 2_000),
        case("events-32", Call::Events, 32, one, 8_000),
    ]
}

fn case(
    name: &'static str,
    call: Call,
    connections: usize,
    tokens: TokenUse,
    requests: usize,
) -> Case {
    let mut variants =
        vec![Variant::bare(), Variant::noop(), Variant::dropped(), Variant::durable()];
    // A comparison for the call itself: HAProxy neither reads messages nor filters lists.
    if call == Call::Small && haproxy::program().is_some() {
        variants.push(Variant::haproxy());
    }
    if gateway::program().is_some() {
        variants.push(Variant::gateway());
    }
    Case { name, call, connections, tokens, requests, variants }
}

/// Returns the cases that compare the stack with itself, with more users, rules or revocations. The
/// sink discards records, so that the disk has no influence.
pub(crate) fn growth(options: &Options) -> Vec<Case> {
    let grown = |name, setting, few: usize, many: usize| {
        let variant =
            |count: usize| Variant::dropped().named(format!("{name}-{count}")).with(setting, count);
        let variants = vec![variant(few), variant(many)];
        Case {
            name,
            call: Call::Small,
            connections: 32,
            tokens: TokenUse::Seen(10),
            requests: 24_000,
            variants,
        }
    };
    let (few, many) = (10, 100_000);
    let mut users = grown("growth-users", "users", few, many);
    // All users have called before, so that verdicts and credentials are cached, too. A quick run
    // has no time for it.
    let seen = if options.quick { [few, few] } else { [few, many] };
    for (variant, seen) in users.variants.iter_mut().zip(seen) {
        *variant = variant.clone().seen_before(seen);
    }
    vec![
        users,
        grown("growth-rules", "rules", 10, 10_000),
        grown("growth-rule-patterns", "patterns", 10, 10_000),
        grown("growth-revocations", "revocations", 0, 100_000),
    ]
}
