//! The ID of a grant.

use std::sync::Arc;

/// The ID of a grant, as the store names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GrantId(Arc<str>);

impl GrantId {
    /// Creates an ID from the store's name for the grant.
    pub fn new(id: &str) -> Self {
        Self(id.into())
    }

    /// Returns the ID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
