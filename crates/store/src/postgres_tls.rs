//! TLS of connections to PostgreSQL: what a URL says about it, and who is trusted.

use crate::StoreError;
use rustls::pki_types::{CertificateDer, pem::PemObject};

/// What the URL says about TLS beyond what the driver reads.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsOptions {
    /// The file of the certificates that are trusted; the system's when there is none.
    pub(crate) root_file: Option<String>,
}

/// Takes `sslrootcert` out of the URL and makes `verify-ca` and `verify-full` the `require` that the driver knows; we
/// verify the chain and the name with all of them. A mode that may fall back to plain text is made not to use TLS at
/// all.
pub(crate) fn tls_options(url: &str) -> Result<(String, TlsOptions), StoreError> {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let mut options = TlsOptions::default();
    let mut kept = vec![];
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("sslrootcert", file) => options.root_file = Some(file.replace("%2F", "/").replace("%20", " ")),
            ("sslmode", "require" | "verify-ca" | "verify-full") => kept.push("sslmode=require"),
            ("sslmode", "disable" | "allow" | "prefer") => kept.push("sslmode=disable"),
            ("sslmode", other) => {
                return Err(StoreError::Refused(format!("PostgreSQL URL: sslmode={other} is not known")));
            }
            _ => kept.push(pair),
        }
    }
    if !kept.iter().any(|pair| pair.starts_with("sslmode=")) {
        kept.push("sslmode=disable");
    }
    Ok((format!("{base}?{}", kept.join("&")), options))
}

/// Who is trusted to be the server.
pub(crate) fn tls_config(root_file: Option<&str>) -> Result<rustls::ClientConfig, StoreError> {
    let mut roots = rustls::RootCertStore::empty();
    match root_file {
        Some(file) => {
            let failed = |error: &dyn std::fmt::Display| StoreError::Refused(format!("sslrootcert {file}: {error}"));
            for certificate in CertificateDer::pem_file_iter(file).map_err(|error| failed(&error))? {
                roots.add(certificate.map_err(|error| failed(&error))?).map_err(|error| failed(&error))?;
            }
        }
        None => {
            // A system has odd certificates among its roots; those that rustls cannot use are left out.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let builder = rustls::ClientConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| StoreError::Refused(format!("TLS: {error}")))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_used_fully_or_not_at_all() {
        let check = |url: &str, expected: &str, root: Option<&str>| {
            let options = TlsOptions { root_file: root.map(str::to_owned) };
            assert_eq!(tls_options(url).unwrap(), (expected.to_owned(), options));
        };
        check("postgresql://a@h/d", "postgresql://a@h/d?sslmode=disable", None);
        check("postgresql://a@h/d?sslmode=prefer", "postgresql://a@h/d?sslmode=disable", None);
        check("postgresql://h/d?x=1&sslmode=verify-full", "postgresql://h/d?x=1&sslmode=require", None);
        check(
            "postgresql://h/d?sslmode=require&sslrootcert=%2Fa%2Fb.pem",
            "postgresql://h/d?sslmode=require",
            Some("/a/b.pem"),
        );
        assert!(matches!(tls_options("postgresql://h/d?sslmode=sometimes"), Err(StoreError::Refused(_))));
    }
}
