//! The conditions of a rule on the caller and on the arguments.

use std::sync::Arc;

use super::digest::Encoder;
use crate::{json::Value, principal::Principal};

pub(super) type When = dyn Fn(Value<'_>) -> bool + Send + Sync;

/// A condition on the caller. More scopes cannot make it hold, so it never leads to a request for
/// scopes.
#[derive(Clone)]
pub(super) enum CallerCondition {
    Group(Box<str>),
    Claim(Box<str>, Box<str>),
    Matches(Arc<dyn Fn(&Principal) -> bool + Send + Sync>),
}

impl CallerCondition {
    pub(super) fn encode(&self, encoder: &mut Encoder) {
        match self {
            Self::Group(group) => {
                encoder.text("group");
                encoder.text(group);
            }
            Self::Claim(name, value) => {
                encoder.text("claim");
                encoder.text(name);
                encoder.text(value);
            }
            Self::Matches(_) => encoder.text("code"),
        }
    }

    pub(super) fn holds(&self, caller: &Principal) -> bool {
        match self {
            Self::Group(group) => caller.groups().iter().any(|one| **one == **group),
            Self::Claim(name, value) => {
                caller.claim(name).is_some_and(|claim| says(claim, value) == Some(true))
            }
            Self::Matches(matches) => matches(caller),
        }
    }

    /// Whether the condition may hold, for a rule that denies. A claim that is not text may have
    /// the value.
    pub(super) fn may_hold(&self, caller: &Principal) -> bool {
        match self {
            Self::Claim(name, value) => {
                caller.claim(name).is_some_and(|claim| says(claim, value) != Some(false))
            }
            Self::Group(_) | Self::Matches(_) => self.holds(caller),
        }
    }
}

/// Whether the claim is this text, or a list that contains it. Returns `None` for any other type.
fn says(claim: Value<'_>, value: &str) -> Option<bool> {
    if let Some(text) = claim.as_str() {
        return Some(*text == *value);
    }
    let mut all_are_texts = true;
    for element in claim.elements()? {
        match element.as_str() {
            Some(text) if *text == *value => return Some(true),
            Some(_) => {}
            None => all_are_texts = false,
        }
    }
    all_are_texts.then_some(false)
}

/// Whether the condition on the arguments of a call holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    Yes,
    No,
    /// For some arguments, in a list.
    ForSome,
    /// It depends on an argument that is not known, or not final.
    Unknown,
    /// The condition read an object that servers read differently.
    Ambiguous,
}
