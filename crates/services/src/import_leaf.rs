//! Takes a certificate that somebody else issued into the inventory, with those above it and its key (contract §6.9).
//!
//! Either everything holds and all of it is there, or nothing is changed and the answer says which rule is broken. Nothing
//! that a certificate names is fetched.

use crate::audit::{self, Object};
use crate::context::{Context, failed, key_failed};
use crate::issue::certificate_fields;
use async_recursion::async_recursion as compiled_here;
use domain::caller::Caller;
use domain::collection::Member;
use domain::inventory::{
    CertificateDetails, CertificateStatus, DerivedColumns, ImportedWith, IssuedCertificate, ShownStatus, serial_hex,
};
use domain::permission::{Action, Field};
use domain::secret::SecretText;
use domain::{CertificateId, CollectionId, Error, ProfileId, ProjectId, Result, Time};
use keys::{KeyError, PrivateKey};
use serde_json::json;
use store::{Changes, StoreError};
use x509::{Certificate, pem};

/// A certificate that somebody else issued, as it is handed in.
pub struct ForeignCertificate {
    /// One certificate in PEM.
    pub certificate: String,
    /// Those above it in PEM, its issuer first; the certificate itself may lead them.
    pub chain: Option<String>,
    /// Its private key in PEM.
    pub key: Option<SecretText>,
    /// The name for people, when it is not to be the common name.
    pub friendly_name: Option<String>,
    /// A collection to put it into.
    pub collection: Option<CollectionId>,
    /// A profile of the project. Nothing here judged the certificate, so it is looked for and not kept.
    pub profile: Option<ProfileId>,
}

/// A certificate that is in the inventory now.
pub struct ImportedCertificate {
    /// Its id.
    pub id: CertificateId,
    /// Its serial number in hex.
    pub serial_number: String,
}

impl Context {
    /// Takes a certificate of somebody else into a project that the caller is a member of.
    #[compiled_here]
    pub async fn import_leaf_certificate(
        &self,
        caller: &Caller,
        project: ProjectId,
        foreign: ForeignCertificate,
    ) -> Result<ImportedCertificate> {
        caller.may_some(project, Action::ImportCertificate)?;
        if let Some(id) = foreign.collection
            && self.find_collection(caller, id).await?.project != project
        {
            return Err(Error::invalid(format!("the collection {id} is of another project")));
        }
        if let Some(id) = foreign.profile {
            let profile = store::profile::by_id(&self.db, caller.organization, id).await.map_err(failed)?;
            if profile.is_none_or(|profile| profile.project != project) {
                return Err(Error::not_found(format!("there is no profile {id}")));
            }
        }
        let certificate = read_certificate(&foreign.certificate)?;
        let status = match certificate.not_after() < self.now().seconds() {
            true => ShownStatus::Expired,
            false => ShownStatus::Active,
        };
        let mut fields = certificate_fields(&certificate, status);
        if let Some(name) = &foreign.friendly_name {
            fields = fields.and(Field::FriendlyName, [name.clone()]);
        }
        caller.may(project, Action::ImportCertificate, &fields)?;
        let chain = match &foreign.chain {
            Some(text) => read_chain(&certificate, text)?,
            None => Vec::new(),
        };
        must_be_signed(&certificate, &chain)?;
        self.must_be_of_others(caller, &certificate).await?;
        let key = foreign.key.as_ref().map(|key| read_key(&certificate, key)).transpose()?;
        self.record_import(caller, project, certificate, &chain, key, &foreign).await
    }

    /// One that an authority here issued is no foreign one: it stands in the inventory under its authority, or its record
    /// was deleted, and what OCSP and the lists say of it does not follow what is imported.
    async fn must_be_of_others(&self, caller: &Caller, certificate: &Certificate) -> Result<()> {
        let issuer = certificate.contents().issuer().as_der();
        let named =
            store::authority::certificates_named(&self.db, caller.organization, issuer).await.map_err(failed)?;
        for der in named {
            let issuer = Certificate::from_der(der)
                .map_err(|error| Error::failed_because("the certificate of an authority does not read", error))?;
            if issuer.verifying_key().is_ok_and(|key| certificate.verify_signature(&key)) {
                let problem = "an authority of this server issued it";
                return Err(not_imported(certificate, problem, "issued-here"));
            }
        }
        Ok(())
    }

    async fn record_import(
        &self,
        caller: &Caller,
        project: ProjectId,
        certificate: Certificate,
        chain: &[Certificate],
        key: Option<PrivateKey>,
        foreign: &ForeignCertificate,
    ) -> Result<ImportedCertificate> {
        let serial = certificate.serial_content();
        let same = store::certificate::in_project_by_serial(&self.db, project, serial).await.map_err(failed)?;
        if !same.is_empty() {
            return Err(is_there(&certificate));
        }
        let now = self.now();
        let chain_pem = chain.iter().map(Certificate::to_pem).collect::<Vec<_>>().join("\n");
        let issued = IssuedCertificate {
            id: self.new_id(),
            project,
            judged_by: None,
            issuer: None,
            status: CertificateStatus::Active,
            details: CertificateDetails {
                imported: Some(ImportedWith { chain: chain_pem }),
                friendly_name: foreign.friendly_name.clone(),
                ..CertificateDetails::default()
            },
            created_at: now,
            der: certificate.as_der().to_vec(),
        };
        let sealed = match &key {
            None => None,
            Some(key) => Some(self.seal_leaf_key(&issued, key).await?.0),
        };
        let serial_number = serial_hex(&certificate);
        let mut detail = json!({
            "serialNumber": serial_number, "issuer": certificate.issuer().render(), "chainLength": chain.len(),
        });
        if sealed.is_some() {
            detail["key"] = "kept".into();
        }
        let place = self.place_of_imports(project).await?;
        let object = Object::new("certificate", issued.id);
        let changes = store::certificate::insert(&issued, &certificate, place, sealed.as_ref()).audit(audit::record(
            caller,
            Some(project),
            "certificate-imported",
            object,
            &detail,
            now,
        ));
        let member = foreign.collection.map(|collection| {
            store::collection::add(project, collection, self.new_id(), Member::Certificate(issued.id), now)
        });
        let not_after = Time::from_seconds(certificate.not_after());
        let changes = member.into_iter().fold(changes, Changes::statement);
        let changes = changes.with(self.alerts_follow_import(project, issued.id, not_after).await?);
        match self.db.commit(changes).await {
            Ok(()) => {
                self.clock.note_committed(now);
                Ok(ImportedCertificate { id: issued.id, serial_number })
            }
            // Another import was faster.
            Err(StoreError::Conflict { .. }) => Err(is_there(&certificate)),
            Err(StoreError::Stale(_)) => Err(Error::not_found("the collection is gone")),
            Err(error) => Err(failed(error)),
        }
    }

    /// The number under which serial numbers of a project's imported certificates are unique.
    async fn place_of_imports(&self, project: ProjectId) -> Result<i64> {
        if let Some(place) = store::imported::place(&self.db, project).await.map_err(failed)? {
            return Ok(place);
        }
        self.commit(Changes::new().statement(store::imported::ensure_place(project))).await?;
        let place = store::imported::place(&self.db, project).await.map_err(failed)?;
        place.ok_or_else(|| Error::failed("the place of a project's imported certificates was made and is not there"))
    }
}

/// In the form of the validator's refusals: which certificate, what is wrong with it, and the rule's name.
fn not_imported(certificate: &Certificate, problem: &str, rule: &str) -> Error {
    let subject = certificate.subject().render();
    Error::invalid(format!("the certificate is not imported: the certificate \"{subject}\": {problem} [{rule}]"))
}

fn is_there(certificate: &Certificate) -> Error {
    let (subject, serial) = (certificate.subject().render(), serial_hex(certificate));
    Error::already_exists(format!(
        "the certificate is not imported: the certificate \"{subject}\": the project has one with the serial number \
         {serial} [duplicate-serial]"
    ))
}

fn read_certificate(text: &str) -> Result<Certificate> {
    let unreadable =
        |error: x509::ParseError| Error::invalid(format!("certificatePem: it does not read: {error} [unreadable]"));
    let mut ders = pem::decode_all(text, pem::CERTIFICATE).map_err(unreadable)?.into_iter();
    let certificate = match (ders.next(), ders.next()) {
        (Some(der), None) => Certificate::from_der(der).map_err(unreadable)?,
        (None, _) => return Err(Error::invalid("certificatePem holds no PEM certificate [no-certificate]")),
        (Some(_), Some(_)) => {
            return Err(Error::invalid(
                "certificatePem holds several certificates; put those above it into chainPem [several-certificates]",
            ));
        }
    };
    match certificate.serial_number() {
        Ok(_) if names_of(&certificate).any(|name| name.contains('\0')) => {
            Err(not_imported(&certificate, "one of its names holds U+0000, which nothing keeps", "name-invalid"))
        }
        Ok(_) => Ok(certificate),
        Err(_) => Err(not_imported(
            &certificate,
            "its serial number is not positive or has more than 20 octets",
            "serial-invalid",
        )),
    }
}

/// The names that are kept beside it.
fn names_of(certificate: &Certificate) -> impl Iterator<Item = String> {
    let derived = DerivedColumns::of(certificate);
    std::iter::once(derived.common_name).chain(derived.alt_names)
}

/// The certificates above, its issuer first, without the copy of the certificate that may lead them.
fn read_chain(certificate: &Certificate, text: &str) -> Result<Vec<Certificate>> {
    if text.contains("PRIVATE KEY-----") {
        return Err(Error::invalid("chainPem holds a private key, which belongs into privateKeyPem [private-key]"));
    }
    let unreadable =
        |error: x509::ParseError| Error::invalid(format!("chainPem: it does not read: {error} [unreadable]"));
    let ders = pem::decode_all(text, pem::CERTIFICATE).map_err(unreadable)?;
    let read = |(index, der)| {
        let unreadable =
            |error| Error::invalid(format!("chainPem: certificate {} does not read: {error} [unreadable]", index + 1));
        Certificate::from_der(der).map_err(unreadable)
    };
    let mut chain: Vec<Certificate> = ders.into_iter().enumerate().map(read).collect::<Result<_>>()?;
    if chain.first() == Some(certificate) {
        chain.remove(0);
    }
    if chain.is_empty() {
        return Err(Error::invalid("chainPem holds no certificate above the one that is imported [no-chain]"));
    }
    Ok(chain)
}

/// Each certificate must have been signed by the next one. One alone is taken at its word, unless it names itself.
fn must_be_signed(certificate: &Certificate, chain: &[Certificate]) -> Result<()> {
    if chain.is_empty() && certificate.is_self_issued() {
        return signed_by(certificate, certificate);
    }
    std::iter::once(certificate).chain(chain).zip(chain).try_for_each(|(one, issuer)| signed_by(one, issuer))
}

fn signed_by(certificate: &Certificate, issuer: &Certificate) -> Result<()> {
    if certificate.signature_algorithm().is_none() {
        let problem =
            "its signature is not one of RSA PKCS#1 v1.5 or ECDSA with SHA-256, SHA-384 or SHA-512, or Ed25519";
        return Err(not_imported(certificate, problem, "signature-algorithm-not-allowed"));
    }
    let key = issuer
        .verifying_key()
        .map_err(|problem| not_imported(issuer, &format!("its key is not supported: {problem}"), "unsupported-key"))?;
    if certificate.verify_signature(&key) {
        return Ok(());
    }
    let problem = match certificate == issuer {
        true => "it names itself as its issuer, and was not signed by its own key".to_owned(),
        false => format!("it was not signed by the next certificate, \"{}\"", issuer.subject().render()),
    };
    Err(not_imported(certificate, &problem, "signature-invalid"))
}

fn read_key(certificate: &Certificate, text: &SecretText) -> Result<PrivateKey> {
    let key = PrivateKey::from_pem(text.expose()).map_err(|error| match error {
        KeyError::Malformed => Error::bad_key(
            "privateKeyPem is not one private key in PEM (PKCS#8, PKCS#1 or SEC 1, not encrypted) [key-unreadable]",
        ),
        KeyError::Unsupported => Error::bad_key(
            "privateKeyPem is not a key of RSA with 2048, 3072 or 4096 bits, ECDSA on P-256, P-384 or P-521, or Ed25519 \
             [unsupported-key]",
        ),
        KeyError::WrongKey | KeyError::Busy | KeyError::Failed(_) => key_failed(error),
    })?;
    match key.public_spki_der() == certificate.spki_der() {
        true => Ok(key),
        false => Err(not_imported(certificate, "the private key is not that of the certificate", "key-mismatch")),
    }
}
