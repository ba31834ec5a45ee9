//! TLS: one configuration for all agents, so that roots are parsed once and sessions are resumed.

use std::sync::Arc;

use ureq::Error;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::transport::{ConnectionDetails, Connector, RustlsConnector, Transport};

use super::marks::{Phase, note};
use crate::clock::{Clock, SystemClock};

/// Trusts the system's roots (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured); where there are none, the bundled
/// ones.
pub fn config() -> TlsConfig {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        log::debug!("a system root could not be read: {error}");
    }
    let roots = if found.certs.is_empty() {
        log::info!("no system root certificates; trusting the bundled ones");
        RootCerts::WebPki
    } else {
        log::debug!("trusting {} system root certificates", found.certs.len());
        let owned = found.certs.iter().map(|der| Certificate::from_der(der.as_ref()).to_owned());
        RootCerts::new_with_certs(&owned.collect::<Vec<_>>())
    };
    TlsConfig::builder().root_certs(roots).build()
}

/// A rustls connector that agents share, and that notes how long handshakes take.
#[derive(Clone, Default)]
pub struct SharedTls(Arc<RustlsConnector>);

impl std::fmt::Debug for SharedTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedTls")
    }
}

impl<In: Transport> Connector<In> for SharedTls {
    type Out = <RustlsConnector as Connector<In>>::Out;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        if !details.needs_tls() {
            return self.0.connect(details, chained);
        }
        let before = SystemClock.now();
        note(|marks| marks.phase = Phase::Handshake);
        let connected = self.0.connect(details, chained);
        let took = SystemClock.now().since(before);
        note(|marks| {
            marks.trace.tls = Some(took);
            if connected.is_ok() {
                marks.phase = Phase::Sending;
            }
        });
        connected
    }
}
