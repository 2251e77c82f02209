//! What stands in a record: closed and typed; nothing of a body, an argument's value or a secret.

use crate::{exchange::GrantId, principal::Scopes};

/// What a client asked for, in few words: the method, and the name of the thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    method: Box<str>,
    name: Option<Box<str>>,
}

impl Operation {
    /// Longest method or name that a record keeps, in bytes; what is longer is cut there.
    pub const MAX_TEXT: usize = 256;

    /// A method, such as `tools/call`, or `GET` for plain HTTP; and the tool, URI, prompt or path it names.
    #[must_use]
    pub fn new(method: &str, name: Option<&str>) -> Self {
        Self { method: cut(method), name: name.map(cut) }
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The name of the thing.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

fn cut(text: &str) -> Box<str> {
    let mut end = text.len().min(Operation::MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().into()
}

/// What is about to be done with a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The upstream's name.
    pub(crate) upstream: Box<str>,
    /// Where it will be sent.
    pub(crate) origin: Box<str>,
    /// The scopes it carries.
    pub(crate) scopes: Scopes,
    /// The grant it came from, and its version.
    pub(crate) grant: Option<(GrantId, u64)>,
}

impl Intent {
    /// To send a credential with these scopes to `origin`, on behalf of the upstream of this name.
    #[must_use]
    pub fn new(upstream: &str, origin: &str, scopes: &Scopes, grant: Option<(&GrantId, u64)>) -> Self {
        Self {
            upstream: upstream.into(),
            origin: origin.into(),
            scopes: scopes.clone(),
            grant: grant.map(|(id, version)| (id.clone(), version)),
        }
    }
}

/// How a refresh came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefreshOutcome {
    /// New tokens were received and stored.
    Refreshed,
    /// `invalid_grant`: the grant is over.
    GrantEnded,
    /// The authorization server failed or could not be reached; the grant is kept.
    Failed,
    /// It may have rotated the token without our hearing of it.
    Unknown,
}
