//! The recipe of the audit layer.

use tower_layer::Layer;

use super::{log::AuditLog, service::Audit};
use crate::principal::Resource;

/// Opens a trail for each request and records how it came out. See the [module](super).
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it is put onto a service"]
pub struct AuditLayer {
    log: AuditLog,
    resource: Option<Resource>,
}

impl AuditLayer {
    /// Into this log. Share one between all stacks of a process.
    pub fn new(log: impl Into<AuditLog>) -> Self {
        Self { log: log.into(), resource: None }
    }

    /// For this resource: it stands in the record of each request, also of those that are refused.
    pub fn for_resource(mut self, resource: &Resource) -> Self {
        self.resource = Some(resource.clone());
        self
    }
}

impl<S> Layer<S> for AuditLayer {
    type Service = Audit<S>;

    fn layer(&self, inner: S) -> Audit<S> {
        Audit::new(inner, self.log.clone(), self.resource.clone())
    }
}
