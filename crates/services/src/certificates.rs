//! Certificate records: finding, listing, exporting and deleting what was issued (contract §6.7, 6.10).

use crate::audit::{self, Object};
use crate::context::{Context, failed};
use crate::issue::{Issued, certificate_fields, leaf_place};
use domain::authority::Authority;
use domain::caller::Caller;
use domain::inventory::{CertificateStatus, ShownStatus, serial_hex};
use domain::permission::{Action, Field, ObjectFields};
use domain::profile::Profile;
use domain::{CertificateId, CertificateRequestId, Error, ProfileId, ProjectId, Result};
use keys::Secret;
use serde_json::json;
use store::Changes;
use store::certificate::InventoryRow;
pub use store::certificate::{CertificateFilter, PROFILES_IN_FILTER_MAX};
use x509::{Certificate, pem};

/// A certificate of the inventory with its content read.
pub struct Record {
    /// What is stored.
    pub row: InventoryRow,
    /// The certificate.
    pub certificate: Certificate,
    /// What a person sees.
    pub status: ShownStatus,
}

/// A certificate with its chain, as it is handed out.
pub struct Bundle {
    /// The record.
    pub record: Record,
    /// The certificate in PEM.
    pub certificate_pem: String,
    /// The issuing authority's certificate in PEM; empty when the certificate signed itself.
    pub issuing_ca_pem: String,
    /// The issuing authority and its parents in PEM; the certificate itself when it signed itself.
    pub chain_pem: String,
}

/// What a request has come to.
pub struct RequestState {
    /// Its id.
    pub id: CertificateRequestId,
    /// `issued`, `pending`, …
    pub status: String,
    /// The certificate, once there is one.
    pub bundle: Option<Bundle>,
    /// The private key, when it was made here and the caller may have it.
    pub private_key: Option<Secret>,
    /// Why it failed.
    pub error_message: Option<String>,
    /// The profile.
    pub profile: Option<ProfileId>,
    /// When it was made.
    pub created_at: domain::Time,
    /// When it was last changed.
    pub updated_at: domain::Time,
}

/// How a certificate is named in a path.
pub enum CertificateName {
    /// By its id.
    Id(CertificateId),
    /// By its serial number in hex.
    Serial(String),
}

impl Context {
    /// A certificate's record.
    pub async fn certificate(&self, caller: &Caller, name: &CertificateName) -> Result<Record> {
        self.certificate_for(caller, name, Action::ReadCertificate).await
    }

    /// A certificate with its chain.
    pub async fn bundle(&self, caller: &Caller, name: &CertificateName) -> Result<Bundle> {
        let record = self.certificate(caller, name).await?;
        self.bundle_of(record).await
    }

    /// A certificate with its chain and its key.
    pub async fn bundle_with_key(&self, caller: &Caller, name: &CertificateName) -> Result<(Bundle, Option<Secret>)> {
        let record = self.certificate(caller, name).await?;
        let key = self.key_of(caller, &record).await?;
        Ok((self.bundle_of(record).await?, key))
    }

    /// A certificate's private key.
    pub async fn private_key(&self, caller: &Caller, name: &CertificateName) -> Result<Secret> {
        let record = self.find_certificate(caller, name).await?;
        let key = self.key_of(caller, &record).await?;
        key.ok_or_else(|| Error::not_found("no private key is stored for this certificate: it was made from a CSR"))
    }

    /// Deletes a certificate's record and key. A revocation stays.
    pub async fn delete_certificate(&self, caller: &Caller, name: &CertificateName) -> Result<Record> {
        let record = self.certificate_for(caller, name, Action::DeleteCertificate).await?;
        let issued = &record.row.issued;
        let now = self.now();
        let detail = json!({ "serialNumber": serial_hex(&record.certificate) });
        let object = Object::new("certificate", issued.id);
        let changes = Changes::new()
            .statement(store::certificate::delete(issued.project, issued.id))
            .audit(audit::record(caller, Some(issued.project), "certificate-deleted", object, &detail, now));
        self.commit(changes).await?;
        Ok(record)
    }

    /// Certificates of a project, newest first, and how many match.
    pub async fn certificates(
        &self,
        caller: &Caller,
        project: ProjectId,
        filter: &CertificateFilter,
        offset: u32,
        limit: u32,
    ) -> Result<(Vec<Record>, i64)> {
        caller.may_some(project, Action::ReadCertificate)?;
        let now = self.now();
        let (rows, total) =
            store::certificate::list(&self.db, project, filter, now, offset, limit).await.map_err(failed)?;
        Ok((self.visible(caller, rows)?, total))
    }

    /// Certificates of a profile, newest first, and how many there are.
    pub async fn certificates_of_profile(
        &self,
        caller: &Caller,
        profile: ProfileId,
        offset: u32,
        limit: u32,
    ) -> Result<(Vec<Record>, i64)> {
        let profile = self.profile(caller, profile).await?.profile;
        caller.may_some(profile.project, Action::ReadCertificate)?;
        let (rows, total) =
            store::certificate::list_of_profile(&self.db, profile.project, profile.id, offset, limit)
                .await
                .map_err(failed)?;
        Ok((self.visible(caller, rows)?, total))
    }

    /// The newest certificate of a profile that is valid now, with its key.
    pub async fn latest_active(&self, caller: &Caller, profile: ProfileId) -> Result<Option<(Bundle, Option<Secret>)>> {
        const LOOKED_AT: u32 = 100;
        let (records, _) = self.certificates_of_profile(caller, profile, 0, LOOKED_AT).await?;
        match records.into_iter().find(|record| record.status == ShownStatus::Active) {
            None => Ok(None),
            Some(record) => {
                let key = self.key_of(caller, &record).await?;
                Ok(Some((self.bundle_of(record).await?, key)))
            }
        }
    }

    /// What a request has come to. One that was answered at once has its certificate's id.
    pub async fn certificate_request(&self, caller: &Caller, id: CertificateRequestId) -> Result<RequestState> {
        let waiting = store::certificate::request(&self.db, caller.organization, id).await.map_err(failed)?;
        let certificate = match &waiting {
            None => Some(CertificateId(id.0)),
            Some(request) => {
                caller.may_some(request.project, Action::ReadCertificate)?;
                request.certificate
            }
        };
        let (bundle, private_key) = match certificate {
            None => (None, None),
            Some(certificate) => {
                let name = CertificateName::Id(certificate);
                let record = self.certificate(caller, &name).await.map_err(|error| match error.reason() {
                    Some(domain::Reason::NotFound) => Error::not_found(format!("there is no certificate request {id}")),
                    _ => error,
                })?;
                let may_have = caller.can(record.row.issued.project, Action::ReadPrivateKey, &fields(&record));
                let key = if may_have { self.key_of(caller, &record).await? } else { None };
                (Some(self.bundle_of(record).await?), key)
            }
        };
        let issued = bundle.as_ref().map(|bundle| &bundle.record.row.issued);
        let created_at = issued.map(|issued| issued.created_at);
        Ok(RequestState {
            id,
            status: waiting.as_ref().map_or("issued".into(), |request| request.status.clone()),
            error_message: waiting.as_ref().and_then(|request| request.error_message.clone()),
            profile: issued.and_then(|issued| issued.judged_by).map(|judged| judged.profile),
            created_at: waiting.as_ref().map(|request| request.created_at).or(created_at).unwrap_or(self.now()),
            updated_at: waiting.as_ref().map(|request| request.updated_at).or(created_at).unwrap_or(self.now()),
            bundle,
            private_key,
        })
    }

    /// What a repeated request gets whose first answer was not kept: the same certificate, and the key if the caller may
    /// still have it.
    pub async fn issued_again(&self, caller: &Caller, certificate: CertificateId) -> Result<Issued> {
        let record = self.find_certificate(caller, &CertificateName::Id(certificate)).await?;
        let may_have = caller.can(record.row.issued.project, Action::ReadPrivateKey, &fields(&record));
        let private_key = if may_have { self.key_of(caller, &record).await? } else { None };
        let bundle = self.bundle_of(record).await?;
        Ok(Issued {
            id: certificate,
            certificate: bundle.record.certificate,
            certificate_pem: bundle.certificate_pem,
            issuing_ca_pem: bundle.issuing_ca_pem,
            chain_pem: bundle.chain_pem,
            private_key,
        })
    }

    /// Whether the caller may be given the key of a certificate. One that is gone gives no key.
    pub async fn may_have_key(&self, caller: &Caller, certificate: CertificateId) -> Result<bool> {
        match self.find_certificate(caller, &CertificateName::Id(certificate)).await {
            Ok(record) => Ok(caller.can(record.row.issued.project, Action::ReadPrivateKey, &fields(&record))),
            Err(error) if error.reason().is_some() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The names that a record shows beside its ids: its profile and its authority, when they are still there.
    pub async fn origin_of(&self, caller: &Caller, record: &Record) -> Result<(Option<Profile>, Option<Authority>)> {
        let issued = &record.row.issued;
        let profile = match issued.judged_by {
            None => None,
            Some(judged) => {
                store::profile::by_id(&self.db, caller.organization, judged.profile).await.map_err(failed)?
            }
        };
        let authority = match issued.issuer {
            None => None,
            Some(by) => store::authority::by_id_even_deleted(&self.db, by.authority).await.map_err(failed)?,
        };
        Ok((profile, authority))
    }

    async fn find_certificate(&self, caller: &Caller, name: &CertificateName) -> Result<Record> {
        let missing = || Error::not_found("there is no such certificate");
        let row = match name {
            CertificateName::Id(id) => {
                store::certificate::by_id(&self.db, caller.organization, *id).await.map_err(failed)?
            }
            CertificateName::Serial(text) => {
                let serial = x509::SerialNumber::from_hex(text).ok_or_else(missing)?;
                let rows = store::certificate::by_serial(&self.db, caller.organization, &serial.integer_content())
                    .await
                    .map_err(failed)?;
                // Of two with one serial number the caller means one of its own projects.
                let mut rows = rows.into_iter();
                let first = rows.next();
                match &first {
                    Some(row) if caller.projects.contains_key(&row.issued.project) => first,
                    _ => rows.find(|row| caller.projects.contains_key(&row.issued.project)).or(first),
                }
            }
        };
        let row = row.ok_or_else(missing)?;
        caller.rules(row.issued.project)?;
        self.read(row)
    }

    async fn certificate_for(&self, caller: &Caller, name: &CertificateName, action: Action) -> Result<Record> {
        let record = self.find_certificate(caller, name).await?;
        caller.may(record.row.issued.project, action, &fields(&record))?;
        Ok(record)
    }

    fn read(&self, row: InventoryRow) -> Result<Record> {
        let certificate = Certificate::from_der(row.issued.der.clone())
            .map_err(|error| Error::failed_because(format!("certificate {} does not read", row.issued.id), error))?;
        let status = match row.issued.status {
            CertificateStatus::Revoked => ShownStatus::Revoked,
            CertificateStatus::Active if certificate.not_after() < self.now().seconds() => ShownStatus::Expired,
            CertificateStatus::Active => ShownStatus::Active,
        };
        Ok(Record { row, certificate, status })
    }

    fn visible(&self, caller: &Caller, rows: Vec<InventoryRow>) -> Result<Vec<Record>> {
        let mut records = Vec::with_capacity(rows.len());
        for row in rows {
            let record = self.read(row)?;
            if caller.can(record.row.issued.project, Action::ReadCertificate, &fields(&record)) {
                records.push(record);
            }
        }
        Ok(records)
    }

    async fn key_of(&self, caller: &Caller, record: &Record) -> Result<Option<Secret>> {
        let issued = &record.row.issued;
        caller.may(issued.project, Action::ReadPrivateKey, &fields(record))?;
        let Some(sealed) = store::certificate::leaf_key(&self.db, record.row.pk).await.map_err(failed)? else {
            return Ok(None);
        };
        let key = self.open(leaf_place(issued), &sealed.sealed).await?;
        let now = self.now();
        let detail = json!({ "serialNumber": serial_hex(&record.certificate) });
        let object = Object::new("certificate", issued.id);
        let read = audit::record(caller, Some(issued.project), "private-key-read", object, &detail, now);
        self.commit(Changes::new().audit(read)).await?;
        Ok(Some(key))
    }

    async fn bundle_of(&self, record: Record) -> Result<Bundle> {
        let certificate_pem = pem::encode(pem::CERTIFICATE, &record.row.issued.der);
        let Some(by) = record.row.issued.issuer else {
            let chain_pem = certificate_pem.clone();
            return Ok(Bundle { record, certificate_pem, issuing_ca_pem: String::new(), chain_pem });
        };
        let stored = store::authority::certificate(&self.db, by.authority, by.certificate).await.map_err(failed)?;
        let stored = stored.ok_or_else(|| Error::failed("the authority certificate of a certificate is not stored"))?;
        let issuing_ca_pem = pem::encode(pem::CERTIFICATE, &stored.der);
        let chain_pem = match stored.chain.as_str() {
            "" => issuing_ca_pem.clone(),
            parents => format!("{issuing_ca_pem}\n{parents}"),
        };
        Ok(Bundle { record, certificate_pem, issuing_ca_pem, chain_pem })
    }
}

/// What conditions of roles can ask about a record.
fn fields(record: &Record) -> ObjectFields {
    certificate_fields(&record.certificate).and(Field::Status, [record.status.as_str().to_owned()])
}
