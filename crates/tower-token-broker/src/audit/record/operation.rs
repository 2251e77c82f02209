//! The operation of a request, and the intent to use a credential.

use std::{borrow::Cow, sync::Arc};

use super::{
    Member,
    encode::{Line, MAX_TEXT, Shortened},
};
use crate::principal::{GrantId, Scopes};

/// The operation that a client requests: the method, and the name of the tool, resource, prompt or
/// path. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation(Arc<OperationParts>);

#[derive(Debug, PartialEq, Eq)]
struct OperationParts {
    method: Shortened<Box<str>>,
    name: Option<Shortened<Box<str>>>,
}

impl Operation {
    /// Creates an operation from a method, such as `tools/call`, or `GET` for plain HTTP, and the
    /// tool, URI, prompt or path that it names.
    ///
    /// Of a URI, the user information and everything after `?` or `#` are left out. Texts longer
    /// than [`MAX_TEXT`] are truncated; the record then has the SHA-256 of the whole, too.
    pub fn new(method: &str, name: Option<&str>) -> Self {
        let name = name.map(|name| Shortened::new(&without_secrets(name), MAX_TEXT).to_owned());
        Self(Arc::new(OperationParts { method: Shortened::new(method, MAX_TEXT).to_owned(), name }))
    }

    /// Returns the method, as the record has it.
    pub fn method(&self) -> &str {
        self.0.method.as_str()
    }

    /// Returns the name of the tool, resource, prompt or path, as the record has it.
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_ref().map(Shortened::as_str)
    }

    pub(super) fn write(&self, line: &mut Line<'_>) {
        line.shortened(Member::Method, &self.0.method);
        if let Some(name) = &self.0.name {
            line.shortened(Member::Name, name);
        }
    }
}

/// The intent to use a credential or to obtain one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent<'a> {
    upstream: &'a str,
    origin: &'a str,
    scopes: &'a Scopes,
    grant: Option<(&'a GrantId, u64)>,
}

impl<'a> Intent<'a> {
    /// To send a credential with these scopes to `origin`, on behalf of the upstream of this name.
    pub const fn new(
        upstream: &'a str,
        origin: &'a str,
        scopes: &'a Scopes,
        grant: Option<(&'a GrantId, u64)>,
    ) -> Self {
        Self { upstream, origin, scopes, grant }
    }

    pub(super) fn write(&self, line: &mut Line<'_>) {
        line.setting(Member::Upstream, self.upstream);
        line.setting(Member::Origin, self.origin);
        line.scopes(Member::UpstreamScopes, self.scopes.iter());
        if let Some((grant, version)) = self.grant {
            line.text(Member::Grant, grant.as_str());
            line.number(Member::GrantVersion, version);
        }
    }
}

/// P294: the parts of a URI before `@`, and after `?` or `#`, may hold secrets. A name without a
/// scheme is not a URI.
fn without_secrets(name: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = name.split_once(':') else { return Cow::Borrowed(name) };
    // The delimiter stays: it shows that something was left out.
    let rest = rest.split_inclusive(['?', '#']).next().unwrap_or_default();
    let Some(rest) = rest.strip_prefix("//") else { return Cow::Owned(format!("{scheme}:{rest}")) };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let start = authority.rfind('@').unwrap_or_default();
    Cow::Owned(format!("{scheme}://{}", rest.get(start..).unwrap_or_default()))
}
