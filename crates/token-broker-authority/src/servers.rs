//! Servers of the deployment: the resources that tokens are issued for, and their scopes.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tower_token_broker::principal::{Resource, Scopes};

use crate::{
    authorize::{ConsentScope, ConsentServer},
    token::is_same_resource,
};

/// A server, as the authorization server knows it.
#[derive(Clone, Debug)]
#[must_use = "does nothing unless it is used"]
pub struct ProtectedServer {
    resource: Resource,
    title: Box<str>,
    scopes: Scopes,
    texts: Vec<(Box<str>, Box<str>)>,
    default_scopes: Option<Scopes>,
    is_only_named: bool,
}

impl ProtectedServer {
    /// Creates a server with these scopes. `title` is what users see.
    pub fn new(resource: Resource, title: &str, scopes: Scopes) -> Self {
        Self {
            resource,
            title: title.into(),
            scopes,
            texts: Vec::new(),
            default_scopes: None,
            is_only_named: false,
        }
    }

    /// Sets what a scope allows, in plain words.
    pub fn scope_text(mut self, scope: &str, text: &str) -> Self {
        self.texts.push((scope.into(), text.into()));
        self
    }

    /// Sets the scopes of a request that names none; all scopes of the server by default.
    pub fn default_scopes(mut self, scopes: Scopes) -> Self {
        self.default_scopes = Some(scopes);
        self
    }

    /// Offers the server only to a request that names its resource, such as a former URL of a
    /// server. The consent page of a request without `resource` lists the others.
    pub const fn only_if_named(mut self) -> Self {
        self.is_only_named = true;
        self
    }

    /// Returns the resource.
    pub const fn resource(&self) -> &Resource {
        &self.resource
    }

    /// Returns all scopes of the server.
    pub const fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// Returns the scopes that are granted for a request; `None` if the server has none of them.
    fn granted(&self, requested: Option<&Scopes>) -> Option<Scopes> {
        let Some(requested) = requested else {
            return Some(self.default_scopes.as_ref().unwrap_or(&self.scopes).clone());
        };
        let both: Vec<_> = requested.iter().filter(|scope| self.scopes.contains(scope)).collect();
        let granted = Scopes::parse(&both.join(" ")).ok()?;
        (!granted.is_empty()).then_some(granted)
    }

    pub(crate) fn on_page(&self, scopes: &Scopes) -> ConsentServer {
        let text = |scope: &str| {
            self.texts.iter().find(|(name, _)| **name == *scope).map(|(_, text)| &**text)
        };
        let scopes = scopes.iter().map(|scope| ConsentScope::new(scope, text(scope))).collect();
        ConsentServer::new(self.resource.clone(), &self.title, scopes)
    }
}

/// All servers. A changed configuration replaces them at once.
#[derive(Debug, Default)]
pub(crate) struct Servers(ArcSwap<Vec<ProtectedServer>>);

impl Servers {
    pub(crate) fn new(servers: Vec<ProtectedServer>) -> Self {
        Self(ArcSwap::from_pointee(servers))
    }

    pub(crate) fn replace(&self, servers: Vec<ProtectedServer>) {
        self.0.store(Arc::new(servers));
    }

    /// Returns the server that a `resource` parameter names.
    pub(crate) fn find(&self, resource: &str) -> Option<ProtectedServer> {
        let servers = self.0.load();
        servers.iter().find(|server| is_same_resource(resource, &server.resource)).cloned()
    }

    /// Returns the scopes of all servers.
    pub(crate) fn scopes(&self) -> Scopes {
        self.0.load().iter().fold(Scopes::none(), |all, server| all.union(&server.scopes))
    }

    /// Returns which of the scopes that were offered at a server it still has; `None` if the server
    /// is not configured any more, or has none of them.
    pub(crate) fn remaining(&self, resource: &Resource, offered: &Scopes) -> Option<Scopes> {
        let servers = self.0.load();
        let server = servers.iter().find(|server| server.resource == *resource)?;
        if offered.is_empty() {
            return Some(Scopes::none());
        }
        server.granted(Some(offered))
    }

    /// Returns the servers to which a request may be granted access, with the scopes at each.
    pub(crate) fn offered(
        &self,
        resource: Option<&Resource>,
        requested: Option<&Scopes>,
    ) -> Vec<(ProtectedServer, Scopes)> {
        let servers = self.0.load();
        let named = servers.iter().filter(|server| match resource {
            Some(resource) => *resource == server.resource,
            None => !server.is_only_named,
        });
        named.filter_map(|server| Some((server.clone(), server.granted(requested)?))).collect()
    }
}
