//! What is measured, by name.

use token_broker_benches::fixtures::Ask;

use super::{haproxy, options::Options, variants::Variant};

/// A load that all its variants get. Ratios are to the first of them.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) ask: Ask,
    pub(crate) connections: usize,
    pub(crate) tokens: TokenUse,
    /// Of each variant in each turn.
    pub(crate) requests: usize,
    pub(crate) variants: Vec<Variant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenUse {
    /// So many, over and over, all seen before.
    Seen(usize),
    /// Each once.
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

/// Our stack beside a proxy without it.
pub(crate) fn side_by_side() -> Vec<Case> {
    let (one, many) = (TokenUse::Seen(1), TokenUse::Seen(10_000));
    vec![
        case("small-1", Ask::Small, 1, one, 4_000),
        case("small-32", Ask::Small, 32, one, 24_000),
        case("small-128", Ask::Small, 128, one, 24_000),
        case("small-32-tokens-10000", Ask::Small, 32, many, 24_000),
        case("small-32-never-seen", Ask::Small, 32, TokenUse::NeverSeen, 8_000),
        case("large-32", Ask::Large, 32, one, 4_000),
        case("list-20-32", Ask::List(20), 32, one, 12_000),
        case("list-500-32", Ask::List(500), 32, one, 2_000),
        case("events-32", Ask::Events, 32, one, 8_000),
    ]
}

fn case(
    name: &'static str,
    ask: Ask,
    connections: usize,
    tokens: TokenUse,
    requests: usize,
) -> Case {
    let mut variants =
        vec![Variant::bare(), Variant::noop(), Variant::dropped(), Variant::durable()];
    // A peer for the call itself: it neither reads messages nor filters lists.
    if ask == Ask::Small && haproxy::program().is_some() {
        variants.push(Variant::haproxy());
    }
    Case { name, ask, connections, tokens, requests, variants }
}

/// Our stack beside itself with more of something. The sink drops: the disk has no part in it.
pub(crate) fn growth(options: &Options) -> Vec<Case> {
    let grown = |name, setting, few: usize, many: usize| {
        let variant =
            |count: usize| Variant::dropped().named(format!("{name}-{count}")).with(setting, count);
        let variants = vec![variant(few), variant(many)];
        Case {
            name,
            ask: Ask::Small,
            connections: 32,
            tokens: TokenUse::Seen(10),
            requests: 24_000,
            variants,
        }
    };
    let (few, many) = (10, 100_000);
    let mut users = grown("growth-users", "users", few, many);
    // All of them have called before, so that verdicts and credentials are full, too; in a quick
    // run there is no time for it.
    let asked = if options.quick { [few, few] } else { [few, many] };
    for (variant, asked) in users.variants.iter_mut().zip(asked) {
        *variant = variant.clone().asked_before(asked);
    }
    vec![
        users,
        grown("growth-rules", "rules", 10, 10_000),
        grown("growth-rule-patterns", "patterns", 10, 10_000),
        grown("growth-revocations", "revocations", 0, 100_000),
    ]
}
