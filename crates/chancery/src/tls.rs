//! TLS of the listeners: certificates from files or from an internal authority, replaced while the server runs.

use crate::config::TlsSource;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use services::Context;
use services::server_certificate::ServerCertificate;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// The certificate that new connections get. Replaced when it was renewed.
#[derive(Debug)]
pub struct Certificates(RwLock<Arc<CertifiedKey>>);

impl Certificates {
    /// From the server's own certificate.
    pub fn own(certificate: &ServerCertificate) -> Result<Arc<Self>, String> {
        Ok(Arc::new(Self(RwLock::new(certified(certificate.chain.as_bytes(), certificate.expose_key().as_bytes())?))))
    }

    /// From files.
    pub fn files(certificate: &Path, key: &Path) -> Result<Arc<Self>, String> {
        let read = |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
        Ok(Arc::new(Self(RwLock::new(certified(&read(certificate)?, &read(key)?)?))))
    }

    /// When it ends, in seconds since 1970.
    pub fn not_after(&self) -> Option<i64> {
        let present = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let first = present.cert.first()?;
        x509::Certificate::from_der(first.to_vec()).ok().map(|certificate| certificate.not_after())
    }

    /// The DNS names that it is for.
    pub fn dns_names(&self) -> Vec<String> {
        let present = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let read = present.cert.first().and_then(|der| x509::Certificate::from_der(der.to_vec()).ok());
        let names = read.and_then(|certificate| certificate.contents().extensions().subject_alt_names().ok().flatten());
        let dns = |name: &x509::GeneralName| match name {
            x509::GeneralName::Dns(name) => Some(name.as_str().to_owned()),
            _ => None,
        };
        names.iter().flat_map(|names| names.valid()).filter_map(dns).collect()
    }

    fn replace(&self, new: Arc<CertifiedKey>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = new;
    }

    /// What accepts connections with it.
    pub fn acceptor(self: Arc<Self>) -> Result<TlsAcceptor, String> {
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS: {error}"))?
            .with_no_client_auth()
            .with_cert_resolver(self);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Follows renewals until the end: of files by their content, of the own certificate by what is kept.
pub async fn follow(
    certificates: Arc<Certificates>,
    source: TlsSource,
    services: Context,
    mut stop: watch::Receiver<bool>,
) {
    const PAUSE: Duration = Duration::from_secs(5);
    loop {
        if tokio::time::timeout(PAUSE, stop.wait_for(|stop| *stop)).await.is_ok() {
            return;
        }
        let read = match &source {
            TlsSource::Auto => match services.kept_server_certificate().await {
                Ok(Some(kept)) => certified(kept.chain.as_bytes(), kept.expose_key().as_bytes()),
                Ok(None) => continue,
                Err(error) => Err(error.to_string()),
            },
            TlsSource::Files { certificate, key } => Certificates::files(certificate, key)
                .map(|read| read.0.read().unwrap_or_else(PoisonError::into_inner).clone()),
        };
        match read {
            Ok(new) => certificates.replace(new),
            Err(error) => tracing::warn!(%error, "the TLS certificate cannot be read again; the present one stays"),
        }
    }
}

fn certified(chain: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, String> {
    let chain = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("the TLS certificate: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("the TLS key: {error}"))?;
    let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
        .map_err(|error| format!("the TLS certificate and its key: {error}"))?;
    Ok(Arc::new(certified))
}
