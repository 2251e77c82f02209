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
    /// tool, prompt or path that it names. Texts longer than [`MAX_TEXT`] are truncated; the record
    /// then has the SHA-256 of the whole, too.
    pub fn new(method: &str, name: Option<&str>) -> Self {
        Self::from_parts(method, name)
    }

    /// Creates an operation on a resource. Of its URI, the user information and everything after
    /// `?` or `#` are left out, because they may be secret.
    pub fn on_resource(method: &str, uri: &str) -> Self {
        Self::from_parts(method, Some(&without_secrets(uri)))
    }

    fn from_parts(method: &str, name: Option<&str>) -> Self {
        let name = name.map(|name| Shortened::new(name, MAX_TEXT).to_owned());
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
        line.scopes(Member::UpstreamScopes, self.scopes);
        if let Some((grant, version)) = self.grant {
            line.text(Member::Grant, grant.as_str());
            line.number(Member::GrantVersion, version);
        }
    }
}

/// The parts of a URI before `@`, and after `?` or `#`, may hold secrets. Slashes of either
/// kind, and any number of them, are read as the start of an authority, as lenient parsers do.
// P294.
fn without_secrets(uri: &str) -> Cow<'_, str> {
    // The delimiter stays: it shows that something was left out.
    let uri = uri.split_inclusive(['?', '#']).next().unwrap_or_default();
    let after_scheme = uri.find([':', '/', '\\']).filter(|at| uri.get(*at..=*at) == Some(":"));
    let rest = uri.get(after_scheme.map_or(0, |colon| colon + 1)..).unwrap_or_default();
    let authority = rest.trim_start_matches(['/', '\\']);
    if authority.len() == rest.len() {
        return Cow::Borrowed(uri);
    }
    let authority_at = uri.len() - authority.len();
    let end = authority.find(['/', '\\', '?', '#']).unwrap_or(authority.len());
    match authority.get(..end).and_then(|authority| authority.rfind('@')) {
        Some(user) => {
            let (before, host) = (uri.get(..authority_at), authority.get(user..));
            Cow::Owned([before.unwrap_or_default(), host.unwrap_or_default()].concat())
        }
        None => Cow::Borrowed(uri),
    }
}
