//! The layer and what its services share.

use tower_layer::Layer;

use super::{log::AuditLog, mount::MountPath, service::Audit};
use crate::principal::Resource;

/// Opens a trail for each request and records its result. See the [module](super).
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it is put onto a service"]
pub struct AuditLayer {
    config: Config,
}

/// What a layer is built from.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) log: AuditLog,
    pub(crate) resource: Option<Resource>,
    /// Where the resource is served; anywhere, if it is not said.
    pub(crate) mount_path: Option<MountPath>,
    pub(crate) trusts_request_id: bool,
}

impl AuditLayer {
    /// Into this log, for no resource and at any path.
    #[cfg(test)]
    pub(crate) fn for_test(log: &AuditLog) -> Self {
        let log = log.clone();
        Self::build(Config { log, resource: None, mount_path: None, trusts_request_id: false })
    }

    pub(crate) const fn build(config: Config) -> Self {
        Self { config }
    }
}

impl<S> Layer<S> for AuditLayer {
    type Service = Audit<S>;

    fn layer(&self, inner: S) -> Audit<S> {
        Audit::new(inner, self.config.clone())
    }
}
