//! TLS in front of a stand-in that speaks plain HTTP.

use super::Material;
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use x509::pem;

/// Serves TLS in front of another server, with a certificate for 127.0.0.1 that these tests made.
pub async fn serve_tls(behind: SocketAddr) -> (SocketAddr, Material) {
    serve_tls_as("127.0.0.1", behind).await
}

/// Serves TLS in front of another server, with a certificate for a name.
pub async fn serve_tls_as(name: &str, behind: SocketAddr) -> (SocketAddr, Material) {
    let material = Material::p256(name);
    let chain = vec![CertificateDer::from(material.leaf.clone()), CertificateDer::from(material.issuing.clone())];
    let key = pem::decode_one(&material.key, &["PRIVATE KEY"]).expect("the key was just written");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the library has default versions")
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::Pkcs8(key.into()))
        .expect("certificate and key were made for each other");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port of this host is free");
    let address = listener.local_addr().expect("it listens");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut outside) = acceptor.accept(socket).await else { return };
                let Ok(mut inside) = TcpStream::connect(behind).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
            });
        }
    });
    (address, material)
}
