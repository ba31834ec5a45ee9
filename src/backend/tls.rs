//! TLS: one configuration for all agents, so that roots are parsed once and sessions are resumed.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore};
use ureq::Error;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};
use ureq::unversioned::transport::{ConnectionDetails, Connector, Either, RustlsConnector, Transport};

use super::marks::{Phase, note};
use super::named_roots::{self, NamedTls};
use super::network::Network;
use crate::clock::{Clock, SystemClock};

/// Trusts what `--cacert` names, else the system's roots (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured), and where
/// there are none, the bundled ones.
///
/// # Errors
/// Names the file that cannot be used.
pub fn config(network: &Network) -> Result<TlsConfig, String> {
    let roots = match &network.cacert {
        // nothing is looked up in them
        _ if network.insecure => RootCerts::WebPki,
        Some(path) => owned(&read_roots(path).map_err(in_file(path))?).into(),
        None => system_roots(),
    };
    config_with(network, roots)
}

/// For servers beside the one under load: trusts what `--cacert` names and what the system does.
///
/// # Errors
/// Names the file that cannot be used.
pub fn config_beside_system(network: &Network) -> Result<TlsConfig, String> {
    let mut roots = rustls_native_certs::load_native_certs().certs;
    let roots = match &network.cacert {
        None => system_roots(),
        Some(path) => {
            roots.extend(read_roots(path).map_err(in_file(path))?);
            owned(&roots).into()
        }
    };
    config_with(network, roots)
}

fn config_with(network: &Network, roots: RootCerts) -> Result<TlsConfig, String> {
    let identity = match (&network.cert, &network.key) {
        (Some(cert), Some(key)) => Some(client_cert(cert, key).map_err(in_file(cert))?),
        _ => None,
    };
    let config = TlsConfig::builder().root_certs(roots).client_cert(identity);
    Ok(config.disable_verification(network.insecure).build())
}

/// Puts the file before what is wrong with it.
fn in_file(path: &Path) -> impl Fn(String) -> String {
    let shown = path.display().to_string();
    move |problem| format!("'{shown}': {problem}")
}

fn system_roots() -> RootCerts {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        log::debug!("a system root could not be read: {error}");
    }
    if !found.certs.is_empty() {
        log::debug!("trusting {} system root certificates", found.certs.len());
        return owned(&found.certs).into();
    }
    match ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().find(|name| std::env::var_os(name).is_some()) {
        Some(name) => log::warn!("{name} names no certificate that can be read; trusting the bundled ones"),
        None => log::info!("no system root certificates; trusting the bundled ones"),
    }
    RootCerts::WebPki
}

fn owned(certs: &[CertificateDer<'_>]) -> Vec<Certificate<'static>> {
    certs.iter().map(|der| Certificate::from_der(der.as_ref()).to_owned()).collect()
}

/// The certificates of a PEM file, each fit to be trusted.
///
/// # Errors
/// What completes "this file …", with advice.
pub fn read_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certs = read_certs(path)?;
    for cert in &certs {
        let usable = RootCertStore::empty().add(cert.clone());
        usable.map_err(|error| format!("holds a certificate that cannot be used: {error}"))?;
    }
    Ok(certs)
}

/// The certificates of a PEM file.
///
/// # Errors
/// What completes "this file …", with advice.
pub fn read_certs(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(path)?;
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match certs {
        Ok(certs) if certs.is_empty() => {
            Err("holds no certificate in PEM form; name a file with a part that \
                                              begins with -----BEGIN CERTIFICATE-----"
                .to_owned())
        }
        Ok(certs) => Ok(certs),
        Err(error) => Err(format!("is no PEM file of certificates: {error}")),
    }
}

/// Whether a PEM file has a key that can be used.
///
/// # Errors
/// What completes "this file …", with advice.
pub fn check_key(path: &Path) -> Result<(), String> {
    key_in(&read(path)?).map(|_| ())
}

fn key_in(text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let key = PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            "holds no private key in PEM form; one that is encrypted must be decrypted first".to_owned()
        }
        error => format!("is no PEM file of a private key: {error}"),
    })?;
    let usable = ring::default_provider().key_provider.load_private_key(key.clone_key());
    usable.map(|_| key).map_err(|error| format!("holds a private key that cannot be used: {error}"))
}

/// Whether the certificate of one file is that of the other's key.
///
/// # Errors
/// What completes "this file of certificates …".
pub fn check_pair(cert: &Path, key: &Path) -> Result<(), String> {
    client_cert(cert, key).map(|_| ())
}

/// A client certificate with its key, both known to be usable: ureq takes them for granted.
fn client_cert(cert: &Path, key: &Path) -> Result<ClientCert, String> {
    let chain = read_certs(cert)?;
    let in_key = |problem: String| format!("its key '{}' {problem}", key.display());
    let text = read(key).map_err(in_key)?;
    let key_der = key_in(&text).map_err(in_key)?;
    match CertifiedKey::from_der(chain.clone(), key_der, &ring::default_provider()) {
        Ok(_) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            return Err(format!("'{}' is the key of another certificate", key.display()));
        }
        Err(error) => return Err(format!("holds a certificate that cannot be used: {error}")),
    }
    let key = PrivateKey::from_pem(&text).map_err(|error| in_key(error.to_string()))?;
    Ok(ClientCert::new_with_certs(&owned(&chain), key))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let size = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    match size {
        Ok(size) if size as u64 > MAX_FILE => Err("is larger than 16 MiB; is it a PEM file?".to_owned()),
        Ok(_) => Ok(bytes),
        Err(cause) => Err(format!("{cause}; name a PEM file that can be read")),
    }
}

const MAX_FILE: u64 = 16 << 20;

/// A rustls connector that agents share, and that notes how long handshakes take.
#[derive(Clone, Default)]
pub struct SharedTls {
    usual: Arc<RustlsConnector>,
    /// Takes its place where the user names whom to trust.
    named: Option<Arc<ClientConfig>>,
}

impl SharedTls {
    /// For a server that is reached so.
    ///
    /// # Errors
    /// Names the file that cannot be used.
    pub fn of(network: &Network) -> Result<Self, String> {
        let Some(cacert) = network.cacert.as_ref().filter(|_| !network.insecure) else {
            return Ok(Self::default());
        };
        let identity = match (&network.cert, &network.key) {
            (Some(cert), Some(key)) => {
                let key = read(key).and_then(|text| key_in(&text)).map_err(in_file(key))?;
                Some((read_certs(cert).map_err(in_file(cert))?, key))
            }
            _ => None,
        };
        let roots = read_roots(cacert).map_err(in_file(cacert))?;
        let named = named_roots::config(roots, identity).map_err(in_file(cacert))?;
        Ok(Self { usual: Arc::default(), named: Some(named) })
    }
}

impl std::fmt::Debug for SharedTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedTls")
    }
}

impl<In: Transport> Connector<In> for SharedTls {
    type Out = Either<<RustlsConnector as Connector<In>>::Out, NamedTls>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        if !details.needs_tls() {
            return Ok(self.usual.connect(details, chained)?.map(Either::A));
        }
        let before = SystemClock.now();
        note(|marks| marks.phase = Phase::Handshake);
        let connected = match (&self.named, chained) {
            (Some(config), Some(line)) => {
                NamedTls::connect(config, details, line).map(|tls| Some(Either::B(tls)))
            }
            (_, chained) => self.usual.connect(details, chained).map(|tls| tls.map(Either::A)),
        };
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
