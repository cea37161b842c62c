//! TLS with client certificates that are recognised as they are (contract §6.2).
//!
//! A certificate is asked for and not demanded, and no chain is looked at: any certificate that can be read is taken, and
//! whether it is registered is asked at CONNECT. What is really verified is the signature of the handshake, over the bare
//! public key, so that certificates of version 1, with unknown critical extensions or without a sensible name, are as
//! good as others.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use x509::{Certificate, VerifyingKey};

/// What accepts TLS connections with this server certificate.
///
/// Sessions are not resumed: each handshake proves the key anew, and no state is kept for clients that do not come back.
pub fn acceptor(certificates: Arc<dyn ResolvesServerCert>) -> Result<TlsAcceptor, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(ExactCertificates(provider.clone()));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificates);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[derive(Debug)]
struct ExactCertificates(Arc<CryptoProvider>);

impl ClientCertVerifier for ExactCertificates {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// A list of authorities would make some clients keep a self-signed certificate to themselves.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        key_of(end_entity).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // In TLS 1.2 the scheme names the hash, and the curve is that of the key.
        self.verify(message, certificate, signed, |_| true)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let is_of_tls13 = |scheme| {
            !matches!(
                scheme,
                SignatureScheme::RSA_PKCS1_SHA256
                    | SignatureScheme::RSA_PKCS1_SHA384
                    | SignatureScheme::RSA_PKCS1_SHA512
            )
        };
        if !is_of_tls13(signed.scheme) {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        // In TLS 1.3 the scheme names the curve, and the first algorithm of the provider's list is that one.
        self.verify(message, certificate, signed, |position| position == 0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl ExactCertificates {
    fn verify(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
        is_allowed: impl Fn(usize) -> bool,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = key_of(certificate)?;
        let of_scheme = self.0.signature_verification_algorithms.mapping.iter();
        let of_scheme = of_scheme.filter(|(scheme, _)| *scheme == signed.scheme);
        let algorithms = of_scheme.flat_map(|(_, algorithms)| algorithms.iter().enumerate());
        let is_valid = algorithms.filter(|(position, _)| is_allowed(*position)).any(|(_, algorithm)| {
            is_for(*algorithm, &key)
                && algorithm.verify_signature(key.key_octets(), message, signed.signature()).is_ok()
        });
        match is_valid {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(CertificateError::BadSignature.into()),
        }
    }
}

/// Whether an algorithm is for keys of this kind: its identifier stands in the key's own.
fn is_for(algorithm: &dyn SignatureVerificationAlgorithm, key: &VerifyingKey) -> bool {
    let identifier = algorithm.public_key_alg_id();
    let spki = key.spki_der();
    // SubjectPublicKeyInfo is a sequence of the sequence of this identifier and the key's bits.
    spki.windows(identifier.as_ref().len()).take(16).any(|window| window == identifier.as_ref())
}

/// The key of a certificate that can be read: RSA of 2048 to 8192 bits, the three NIST curves, Ed25519.
fn key_of(certificate: &CertificateDer<'_>) -> Result<VerifyingKey, Error> {
    let certificate =
        Certificate::from_der(certificate.to_vec()).map_err(|_| Error::from(CertificateError::BadEncoding))?;
    certificate.verifying_key().map_err(|_| CertificateError::BadEncoding.into())
}
