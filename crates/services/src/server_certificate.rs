//! The TLS certificate of this server itself: issued like any other, kept sealed, renewed before it runs out.

use crate::bootstrap::SERVER_PROFILE;
use crate::context::Context;
use crate::issue::IssueOptions;
use async_recursion::async_recursion as compiled_here;
use domain::issuance::{IssuanceRequest, Subject, Wishes};
use domain::job::Job;
use domain::policy::{SanType, SubjectAttribute};
use domain::{Error, Result, Time};
use keys::Secret;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use x509::{ExtendedKeyUsage, KeyAlgorithm, KeyUsage, KeyUsages, pem};

/// The server's certificate, its issuers and its key. All PEM.
#[derive(Clone, Serialize, Deserialize)]
pub struct ServerCertificate {
    /// The certificate and its issuers without the root.
    pub chain: String,
    /// The root that clients have to trust.
    pub root: String,
    /// The private key.
    key: String,
    /// When it begins.
    pub not_before: Time,
    /// When it ends.
    pub not_after: Time,
    /// The names that it is for.
    pub names: Vec<String>,
}

const RECORD: &str = "server-certificate";
const LIFETIME_MILLIS: i64 = 30 * 24 * 60 * 60 * 1000;

impl ServerCertificate {
    /// The private key in PEM.
    pub fn expose_key(&self) -> &str {
        &self.key
    }

    /// When it should be renewed: after two thirds of its life.
    pub fn renew_at(&self) -> Time {
        let life = self.not_after.millis() - self.not_before.millis();
        self.not_before.plus_millis(life / 3 * 2)
    }
}

impl Context {
    /// The server's certificate for these names: the kept one, or a new one when that is missing, for other names, or due.
    /// When no new one can be had, the kept one goes on, even after its end: a server that does not start could not be helped.
    #[compiled_here]
    pub async fn server_certificate(&self, names: &[String]) -> Result<ServerCertificate> {
        let now = self.now();
        let kept = self.kept_server_certificate().await?;
        if let Some(kept) = kept.as_ref().filter(|kept| self.is_for(kept, names) && now < kept.renew_at()) {
            return Ok(kept.clone());
        }
        match (self.renew_server_certificate(names).await, kept) {
            (Ok(new), _) => Ok(new),
            (Err(error), Some(kept)) if now < kept.not_after => {
                tracing::warn!(%error, "the server's own certificate cannot be renewed; the present one stays");
                Ok(kept)
            }
            (Err(error), Some(kept)) => {
                tracing::error!(
                    %error,
                    "the server's own certificate has run out and cannot be renewed: clients refuse it until its authority is \
                     renewed"
                );
                Ok(kept)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// Nodes of one database share the certificate, which then is for the names of all of them.
    fn is_for(&self, kept: &ServerCertificate, names: &[String]) -> bool {
        match self.db.is_shared() {
            true => names.iter().all(|name| kept.names.contains(name)),
            false => kept.names == names,
        }
    }

    /// Issues the server a new certificate and plans the next renewal.
    #[compiled_here]
    pub async fn renew_server_certificate(&self, names: &[String]) -> Result<ServerCertificate> {
        let mut names = names.to_vec();
        if self.db.is_shared() {
            let kept = self.kept_server_certificate().await?.map(|kept| kept.names).unwrap_or_default();
            names.extend(kept.into_iter().filter(|name| !names.contains(name)).collect::<Vec<_>>());
        }
        let bootstrap = self.bootstrap_record().await?;
        let bootstrap = bootstrap.ok_or_else(|| Error::wrong_state("the server has no issuing authority yet"))?;
        let caller = self.node_in(bootstrap.organization_id, bootstrap.project_id);
        let profile = self.profile_by_slug(&caller, bootstrap.project_id, SERVER_PROFILE).await?;
        let issuer = self.issuer_for(bootstrap.organization_id, profile.id).await?;
        let alt_names = names
            .iter()
            .map(|name| match name.parse::<IpAddr>() {
                Ok(_) => (SanType::IpAddress, name.clone()),
                Err(_) => (SanType::DnsName, name.clone()),
            })
            .collect();
        let common_name = names.first().cloned().unwrap_or_else(|| "localhost".into());
        let request = IssuanceRequest {
            subject: Subject::Fields {
                attributes: vec![(SubjectAttribute::CommonName, common_name)],
                alt_names,
                key_algorithm: Some(KeyAlgorithm::EcP256),
            },
            wishes: Wishes {
                ttl_millis: Some(LIFETIME_MILLIS),
                key_usages: Some(KeyUsages::of(&[KeyUsage::DigitalSignature])),
                extended_key_usages: Some(vec![ExtendedKeyUsage::ServerAuth]),
                signature_algorithm: issuer
                    .authority
                    .as_ref()
                    .map(|authority| authority.key_algorithm.default_signature()),
                ..Wishes::default()
            },
        };
        let issued = self.issue(&caller, profile.id, request, IssueOptions::default()).await?;
        let key =
            issued.private_key.as_ref().ok_or_else(|| Error::failed("the server's own key was not given to it"))?;
        let (without_root, root) = split_root(&issued.chain_pem);
        let certificate = ServerCertificate {
            chain: format!("{}\n{without_root}", issued.certificate_pem),
            root,
            key: pem::encode(pem::PRIVATE_KEY, key.expose()),
            not_before: Time::from_seconds(issued.certificate.not_before()),
            not_after: Time::from_seconds(issued.certificate.not_after()),
            names,
        };
        let text = serde_json::to_vec(&certificate)
            .map_err(|error| Error::failed_because("the server's certificate", error))?;
        self.write_server_secret(RECORD, &Secret::new(text)).await?;
        self.enqueue(&Job::RenewServerCertificate, certificate.renew_at()).await?;
        Ok(certificate)
    }

    /// Plans the renewal of the server's certificate when it is due and was not planned, as after a restored backup.
    #[compiled_here]
    pub async fn plan_server_certificate(&self) -> Result<()> {
        match self.kept_server_certificate().await? {
            Some(kept) if kept.renew_at() <= self.now() => {
                self.enqueue(&Job::RenewServerCertificate, kept.renew_at()).await
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The server's certificate as it is kept.
    #[compiled_here]
    pub async fn kept_server_certificate(&self) -> Result<Option<ServerCertificate>> {
        match self.read_server_secret(RECORD).await? {
            None => Ok(None),
            Some(text) => serde_json::from_slice(text.expose())
                .map(Some)
                .map_err(|error| Error::failed_because("the server's kept certificate does not read", error)),
        }
    }
}

/// The last certificate of a chain, and what stands before it.
fn split_root(chain: &str) -> (String, String) {
    match chain.rfind("-----BEGIN") {
        Some(start) => (chain[..start].trim_end().to_owned(), chain[start..].to_owned()),
        None => (String::new(), chain.to_owned()),
    }
}
