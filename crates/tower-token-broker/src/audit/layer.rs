//! Layer configuration.

use tower_layer::Layer;

#[cfg(test)]
use super::log::AuditLog;
use super::service::{Audit, Config};

/// Opens a trail for each request and records its result. See the [module](super).
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it wraps a service"]
pub struct AuditLayer {
    config: Config,
}

impl AuditLayer {
    /// Records into this log, for no resource and at any path.
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
