//! TLS of client and connector: aws-lc-rs by name, not the default of the process; the roots of the
//! platform and of the operator.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::CertificateDer};
use rustls_platform_verifier::Verifier;
use tower_token_broker::alarm::Alarm;

use crate::{error::OutboundError, guard::Guard};

pub(crate) fn client_config(guard: &Guard) -> Result<ClientConfig, OutboundError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let roots: Vec<_> = guard.roots().iter().map(|der| CertificateDer::from(der.clone())).collect();
    for root in &roots {
        RootCertStore::empty().add(root.clone()).map_err(|_| OutboundError::RootCertificate)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| OutboundError::Tls(error.to_string()))?;
    // C083: every certificate is verified. There is no option to disable this.
    let config = match Verifier::new_with_extra_roots(roots, provider) {
        Ok(verifier) => config.dangerous().with_custom_certificate_verifier(Arc::new(verifier)),
        Err(error) => {
            // A machine without root certificates can still serve loopback, but trusts no https
            // peer.
            tracing::warn!(
                alarm = Alarm::NoRootCertificates.code(),
                error = %error,
                "the platform has no root certificates: no https peer is trusted"
            );
            config.with_root_certificates(RootCertStore::empty())
        }
    };
    Ok(config.with_no_client_auth())
}
