//! Name resolution, with a check of every address.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    vec,
};

use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

use crate::guard::Guard;

/// Resolves names. The guard checks each address.
pub trait Resolve: Send + Sync + 'static {
    /// Returns the addresses of a name.
    ///
    /// # Errors
    /// The name cannot be resolved.
    ///
    /// # Cancellation
    /// May be dropped at any await.
    fn resolve(&self, name: &str) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;
}

/// Resolver of the system, on tokio's blocking threads.
#[derive(Debug)]
pub(crate) struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: &str) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        let name = name.to_owned();
        Box::pin(async move {
            Ok(tokio::net::lookup_host((name, 0)).await?.map(|found| found.ip()).collect())
        })
    }
}

/// Resolver of the connectors: the guard's resolver, with the guard's check.
#[derive(Clone, Debug)]
pub(crate) struct GuardedResolver(pub(crate) Guard);

type Resolving<T> =
    Pin<Box<dyn Future<Output = Result<T, Box<dyn std::error::Error + Send + Sync>>> + Send>>;

impl GuardedResolver {
    fn addresses(&self, name: &str) -> Resolving<vec::IntoIter<SocketAddr>> {
        let (guard, name): (_, Arc<str>) = (self.0.clone(), name.into());
        Box::pin(async move {
            let addresses = guard.resolve(&name).await?;
            // Port 0: the connector uses the port of the URL.
            let sockets: Vec<_> =
                addresses.into_iter().map(|address| SocketAddr::new(address, 0)).collect();
            Ok(sockets.into_iter())
        })
    }
}

impl Service<Name> for GuardedResolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Resolving<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        self.addresses(name.as_str())
    }
}

impl reqwest::dns::Resolve for GuardedResolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let resolving = self.addresses(name.as_str());
        Box::pin(async move { Ok(Box::new(resolving.await?) as reqwest::dns::Addrs) })
    }
}

/// Resolver that returns the same addresses for every name.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Fixed(pub(crate) Vec<IpAddr>);

#[cfg(test)]
impl Resolve for Fixed {
    fn resolve(&self, _: &str) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        let addresses = self.0.clone();
        Box::pin(async move { Ok(addresses) })
    }
}
