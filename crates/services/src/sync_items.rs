//! What a sync carries: its certificates with their chains and keys, as a destination takes them.

use crate::certificates::Record;
use crate::context::{Context, failed};
use domain::inventory::{ShownStatus, serial_hex};
use domain::secret::SecretText;
use domain::sync::name::{NameFacts, NameSchema};
use domain::sync::{Sync, SyncLink};
use domain::{CertificateId, Error, Result};
use outbound::destination::Item;
use uuid::Uuid;
use x509::{Certificate, digest, pem};

/// A linked certificate as a run finds it.
pub(crate) struct Member {
    pub(crate) link: SyncLink,
    pub(crate) record: Record,
}

impl Member {
    /// Why it is not to be at the destination, or not any more; none when it is.
    pub(crate) fn left_out(&self) -> Option<&'static str> {
        match (self.record.status, self.record.row.renewed_by) {
            (ShownStatus::Revoked, _) => Some("the certificate is revoked"),
            (ShownStatus::Expired, _) => Some("the certificate has expired"),
            (ShownStatus::Active, Some(_)) => Some("the certificate was renewed: its successor takes its place"),
            (ShownStatus::Active, None) => None,
        }
    }

    pub(crate) fn certificate(&self) -> CertificateId {
        self.link.certificate
    }
}

impl Context {
    /// The linked certificates of a sync, oldest link first.
    pub(crate) async fn members_of_sync(&self, sync: &Sync) -> Result<Vec<Member>> {
        let mut members = Vec::new();
        for link in store::sync::link::all(&self.db, sync.id).await.map_err(failed)? {
            let row = store::certificate::by_id(&self.db, sync.organization, link.certificate).await.map_err(failed)?;
            if let Some(row) = row {
                members.push(Member { link, record: self.read(row)? });
            }
        }
        Ok(members)
    }

    /// The name of a certificate by the sync's schema.
    pub(crate) fn name_by_schema(sync: &Sync, record: &Record) -> Result<String> {
        let schema = sync.options.certificate_name_schema.as_deref().or(sync.destination.default_name_schema());
        let schema = schema.ok_or_else(|| Error::invalid("the sync has no certificateNameSchema"))?;
        NameSchema::parse(schema, sync.destination)?.render(&NameFacts {
            certificate: record.row.issued.id,
            profile: record.row.issued.judged_by.map(|judged| judged.profile),
            common_name: record.common_name(),
        })
    }

    /// A certificate as a destination takes it.
    pub(crate) async fn item(&self, sync: &Sync, record: &Record, mark: Uuid, name: String) -> Result<Item> {
        let issued = &record.row.issued;
        let above = self.chain_above(issued).await?;
        let mut chain =
            above.into_iter().map(|der| Certificate::from_der(der).map_err(unread)).collect::<Result<Vec<_>>>()?;
        let is_root = |one: &Certificate| one.subject().as_der() == one.issuer().as_der();
        let root = chain.last().filter(|last| is_root(last)).cloned();
        if !sync.options.include_root_ca {
            chain.retain(|one| !is_root(one));
        }
        let key = match store::certificate::leaf_key(&self.db, record.row.pk).await.map_err(failed)? {
            None => None,
            Some(sealed) => {
                let pkcs8 = self.open_leaf_key(issued, &record.certificate, &sealed.sealed).await?;
                Some(SecretText::new(pem::encode(pem::PRIVATE_KEY, pkcs8.expose())))
            }
        };
        Ok(Item {
            certificate: issued.id,
            mark,
            name,
            leaf: record.certificate.clone(),
            chain,
            root,
            key,
            common_name: record.common_name().to_owned(),
            serial_number: serial_hex(&record.certificate),
        })
    }
}

/// What an item asks for, in one digest: it changes with the certificate, its chain, and the options that shape an object.
pub(crate) fn content_of(sync: &Sync, item: &Item, secrets: &str) -> String {
    let mut octets = item.leaf.as_der().to_vec();
    for one in item.chain.iter().chain(&item.root) {
        octets.extend_from_slice(one.as_der());
    }
    let options = domain::sync::SyncOptions {
        // What does not shape an object: what is removed, how it is named, and what is done afterwards.
        can_remove_certificates: false,
        certificate_name_schema: None,
        post_sync_command: None,
        health_check_command: None,
        prove: None,
        ..sync.options.clone()
    };
    octets.extend_from_slice(serde_json::to_string(&options).unwrap_or_default().as_bytes());
    octets.extend_from_slice(secrets.as_bytes());
    digest::sha256(&octets).iter().map(|octet| format!("{octet:02x}")).collect()
}

fn unread(error: impl std::error::Error + Send + ::core::marker::Sync + 'static) -> Error {
    Error::failed_because("a stored certificate of an authority does not read", error)
}
