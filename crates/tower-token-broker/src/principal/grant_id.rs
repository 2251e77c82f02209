//! The name of a grant.

use std::sync::Arc;

/// Which grant a credential came from, as the store names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GrantId(Arc<str>);

impl GrantId {
    /// As the store names it.
    pub fn new(id: &str) -> Self {
        Self(id.into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
