//! Resolvers for tests.

use std::{future::Future, net::IpAddr, pin::Pin};

use token_broker_outbound::Resolve;

/// A resolver that returns one address for every name.
pub(crate) struct Always(pub(crate) IpAddr);

impl Resolve for Always {
    fn resolve(
        &self,
        _: &str,
    ) -> Pin<Box<dyn Future<Output = std::io::Result<Vec<IpAddr>>> + Send>> {
        let address = self.0;
        Box::pin(async move { Ok(vec![address]) })
    }
}
