//! What is seen of the certificate that an address serves, in TLS from the start and after each protocol that begins in
//! clear. PostgreSQL is a real one; SMTP and IMAP are spoken by scripts, as their RFCs have them.
#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod authority;

use authority::{Authority, rules};
use domain::sync::config::{ProveAddress, StartTls};
use outbound::DeliveryError;
use outbound::destination::Item;
use outbound::egress::EgressRules;
use outbound::probe::served_certificate;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::PrivateCluster;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use x509::Certificate;

const LIMIT: Duration = Duration::from_secs(20);

/// The lines that a server says and expects before TLS; the expected ones begin with `>`.
type Script = &'static [&'static str];

const SMTP: Script = &[
    "220-mail.example.com",
    "220 ESMTP",
    ">EHLO [127.0.0.1]",
    "250-mail.example.com",
    "250-STARTTLS",
    "250 8BITMIME",
    ">STARTTLS",
    "220 ready",
];
const IMAP: Script = &["* OK IMAP4rev2", ">a1 STARTTLS", "* CAPABILITY IMAP4rev2", "a1 OK begin"];

/// Answers with one certificate and key, whether they belong together or not, and remembers which name was asked for.
#[derive(Debug)]
struct Holder(Arc<CertifiedKey>, Mutex<Option<String>>);

impl ResolvesServerCert for Holder {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        *self.1.lock().unwrap() = hello.server_name().map(str::to_owned);
        Some(self.0.clone())
    }
}

fn holder(certificate: &Item, key: &Item) -> Arc<Holder> {
    let der = x509::pem::decode_one(key.key.as_ref().unwrap().expose(), &["PRIVATE KEY"]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(der));
    let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let chain = [&certificate.leaf, &certificate.chain[0]].map(|one| CertificateDer::from(one.as_der().to_vec()));
    Arc::new(Holder(Arc::new(CertifiedKey::new(chain.to_vec(), signer)), Mutex::default()))
}

fn tls(holder: &Arc<Holder>, version: &'static SupportedProtocolVersion) -> ServerConfig {
    builder(version).with_no_client_auth().with_cert_resolver(holder.clone())
}

fn builder(version: &'static SupportedProtocolVersion) -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ServerConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap()
}

/// Serves one connection, and gives back what was sent to it once TLS was up.
async fn serve(script: Script, config: ServerConfig) -> (u16, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        for line in script {
            match line.strip_prefix('>') {
                Some(expected) => {
                    let mut said = String::new();
                    stream.read_line(&mut said).await.unwrap();
                    assert_eq!(said, format!("{expected}\r\n"));
                }
                None => stream.write_all(format!("{line}\r\n").as_bytes()).await.unwrap(),
            }
        }
        let mut sent = Vec::new();
        if let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await {
            // How the connection ends does not matter.
            drop(stream.read_to_end(&mut sent).await);
        }
        sent
    });
    (port, served)
}

fn address(port: u16, start_tls: Option<StartTls>) -> ProveAddress {
    ProveAddress { host: "127.0.0.1".into(), port, server_name: Some("www.example.com".into()), start_tls }
}

async fn probe(address: &ProveAddress) -> Result<Certificate, DeliveryError> {
    served_certificate(&rules(), address, LIMIT).await
}

#[tokio::test]
async fn the_served_leaf_is_seen_in_every_protocol_and_nothing_is_sent() {
    let item = Authority::new().item("a");
    for (script, start_tls) in [(&[] as Script, None), (SMTP, Some(StartTls::Smtp)), (IMAP, Some(StartTls::Imap))] {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let holder = holder(&item, &item);
            let (port, sent) = serve(script, tls(&holder, version)).await;
            let seen = probe(&address(port, start_tls)).await.unwrap();
            assert_eq!(seen.as_der(), item.leaf.as_der());
            assert_eq!(sent.await.unwrap(), b"");
            assert_eq!(holder.1.lock().unwrap().as_deref(), Some("www.example.com"));
        }
    }
}

#[tokio::test]
async fn an_address_needs_no_name() {
    let item = Authority::new().item("a");
    let holder = holder(&item, &item);
    let (port, _) = serve(&[], tls(&holder, &rustls::version::TLS13)).await;
    let bare = ProveAddress { server_name: None, ..address(port, None) };
    assert_eq!(probe(&bare).await.unwrap().as_der(), item.leaf.as_der());
    assert_eq!(*holder.1.lock().unwrap(), None);
    let bad = ProveAddress { server_name: Some("not a name".into()), ..address(port, None) };
    assert!(matches!(probe(&bad).await, Err(DeliveryError::Refused(_))));
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_shows_its_own_first() {
    let item = Authority::new().item("a");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(item.chain[0].as_der().to_vec())).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config =
            builder(version).with_client_cert_verifier(verifier.clone()).with_cert_resolver(holder(&item, &item));
        let (port, _) = serve(&[], config).await;
        assert_eq!(probe(&address(port, None)).await.unwrap().as_der(), item.leaf.as_der());
    }
}

#[tokio::test]
async fn a_certificate_without_its_key_is_no_proof() {
    let authority = Authority::new();
    let holder = holder(&authority.item("a"), &authority.item("b"));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (port, _) = serve(&[], tls(&holder, version)).await;
        let error = probe(&address(port, None)).await.unwrap_err();
        assert!(error.to_string().contains("does not speak TLS"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_begin_tls_is_said_so_in_its_own_words() {
    let item = Authority::new().item("a");
    for (script, start_tls, said) in [
        (&["554 go away"] as Script, StartTls::Smtp, "554 go away"),
        (&["220 x", ">EHLO [127.0.0.1]", "250 x", ">STARTTLS", "502 what"], StartTls::Smtp, "502 what"),
        (&["* BYE"], StartTls::Imap, "* BYE"),
        (&["* OK x", ">a1 STARTTLS", "a1 NO never"], StartTls::Imap, "NO never"),
        (&["N"], StartTls::Postgres, "it has no TLS"),
        (&["E"], StartTls::Postgres, "it answers 0x45"),
    ] {
        let (port, served) = serve(script, tls(&holder(&item, &item), &rustls::version::TLS13)).await;
        let error = probe(&address(port, Some(start_tls))).await.unwrap_err();
        assert!(matches!(&error, DeliveryError::Unavailable(text) if text.contains(said)), "{error}");
        served.abort();
    }
}

#[tokio::test]
async fn postgresql_shows_its_certificate() {
    let item = Authority::new().item("a");
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        use std::os::unix::fs::{PermissionsExt, chown};
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let output = std::process::Command::new("id").args(["-u", "postgres"]).output().unwrap();
        // The server runs as that user when the tests run as root.
        if let Ok(user) = String::from_utf8(output.stdout).unwrap().trim().parse() {
            drop(chown(&path, Some(user), None));
            drop(chown(folder.path(), Some(user), None));
        }
        path.display().to_string()
    };
    let certificate = write("server.crt", &item.leaf.to_pem());
    let key = write("server.key", item.key.as_ref().unwrap().expose());
    let cluster = PrivateCluster::start(&[
        "ssl = on",
        &format!("ssl_cert_file = '{certificate}'"),
        &format!("ssl_key_file = '{key}'"),
    ]);
    let url = cluster.url();
    let port = url.rsplit_once(':').unwrap().1.split_once('/').unwrap().0.parse().unwrap();
    let seen = probe(&address(port, Some(StartTls::Postgres))).await.unwrap();
    assert_eq!(seen.as_der(), item.leaf.as_der());
    let plain = PrivateCluster::start(&[]);
    let url = plain.url();
    let port = url.rsplit_once(':').unwrap().1.split_once('/').unwrap().0.parse().unwrap();
    let error = probe(&address(port, Some(StartTls::Postgres))).await.unwrap_err();
    assert!(error.to_string().contains("it has no TLS"), "{error}");
}

#[tokio::test]
async fn nobody_is_waited_for_beyond_the_limit_and_nobody_is_asked_whom_the_rules_forbid() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for start_tls in [None, Some(StartTls::Smtp), Some(StartTls::Imap), Some(StartTls::Postgres)] {
        let silent = served_certificate(&rules(), &address(port, start_tls), Duration::from_millis(200)).await;
        assert!(matches!(silent, Err(DeliveryError::Unavailable(text)) if text.contains("within 200 ms")));
    }
    drop(listener);
    assert!(matches!(probe(&address(port, None)).await, Err(DeliveryError::Connection(_))));
    let nowhere = EgressRules::public_and(vec![]);
    let error = served_certificate(&nowhere, &address(port, None), LIMIT).await.unwrap_err();
    assert!(error.to_string().contains("CHANCERY_EGRESS_ALLOW"), "{error}");
}
