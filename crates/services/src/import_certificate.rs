//! Installs a certificate that an outside authority made for one of ours (contract §3.11).
//!
//! Either everything holds and the certificate is active with its chain, or nothing is changed and the answer says which
//! rule which certificate breaks.

use crate::authorities::{about, activate};
use crate::context::{Context, failed};
use async_recursion::async_recursion as compiled_here;
use domain::authority::{Authority, AuthorityCertificate, AuthorityKind};
use domain::caller::Caller;
use domain::permission::Action;
use domain::{AuthorityCertificateId, AuthorityId, Error, Result};
use serde_json::json;
use store::Changes;
use x509::{AttributeType, Certificate, KeyUsage, chain, pem};

/// What an administrator should know of a certificate that was installed all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportWarning {
    /// Its key usage does not hold cRLSign: RFC 5280 §6.3.3 (f) lets nobody accept the authority's lists.
    ListsNotAccepted,
}

impl Context {
    /// Installs a certificate and the chain above it.
    #[compiled_here]
    pub async fn import_authority_certificate(
        &self,
        caller: &Caller,
        id: AuthorityId,
        certificate: &str,
        certificate_chain: &str,
    ) -> Result<Option<ImportWarning>> {
        let mut authority = self.find_authority(caller, id).await?;
        caller.may(authority.project, Action::CreateAuthority, &about(&authority.name))?;
        if authority.parent.is_some() {
            return Err(Error::wrong_state(format!(
                "the certificate authority {} is certified by another one here; an outside certificate cannot be imported",
                authority.name
            )));
        }
        let now = self.clock.now_to_sign()?;
        let imported = read_one(certificate)?;
        let given = read_chain(certificate_chain)?;
        let order = chain::build_exact(&imported, &given, now.seconds())
            .map_err(|refusal| Error::invalid(format!("the certificate is not imported: {refusal}")))?;
        let key = self.authority_key(authority.active_key).await?;
        self.key_must_not_be_blocked(caller, &key.spki).await?;
        if imported.spki_der() != key.spki {
            return Err(not_imported(&imported, "its key is not the one of this authority", "key-mismatch"));
        }
        must_match(&authority, &imported)?;
        let path: Vec<&Certificate> = order.iter().filter_map(|position| given.get(*position)).collect();
        let chain_pem =
            path.iter().map(|parent| pem::encode(pem::CERTIFICATE, parent.as_der())).collect::<Vec<_>>().join("\n");
        let parent = match path.first() {
            None => None,
            Some(direct) => self.parent_with(&authority, direct).await?,
        };
        let stored = AuthorityCertificate {
            id: self.new_id(),
            authority: authority.id,
            project: authority.project,
            key: authority.active_key,
            version: store::authority::newest_version(&self.db, authority.id).await.map_err(failed)? + 1,
            der: imported.as_der().to_vec(),
            chain: chain_pem,
            parent_certificate: parent.as_ref().map(|(_, certificate)| *certificate),
            created_at: now,
        };
        activate(&mut authority, &imported, stored.id, parent.as_ref().map(|(parent, _)| parent.id));
        authority.version += 1;
        authority.updated_at = now;
        let subject = imported.subject().as_der();
        let detail = json!({
            "name": authority.name, "serialNumber": authority.serial_number,
            "issuer": imported.issuer().render(), "chainLength": path.len(),
        });
        let list = self.list_for(&key, &imported).await?;
        let mut changes = Changes::new()
            .statement(store::authority::update(&authority))
            .statement(store::authority::ensure_issuer_name(subject))
            .statement(store::authority::rename_issuer(
                key.id,
                subject,
                x509::digest::sha1(subject),
                x509::digest::sha256(subject),
            ))
            .statement(store::authority::insert_certificate(&stored, &imported))
            .statement(store::authority::publish_crl(&list));
        if let Some((parent, _)) = &parent {
            changes = changes.statement(store::authority::is_unchanged(parent.project, parent.id, parent.version));
        }
        let spki_sha256 = x509::digest::sha256(imported.spki_der());
        changes = changes.statement(store::revocation::key_is_not_blocked(caller.organization, spki_sha256));
        self.commit_authority(caller, changes, &authority, "authority-certificate-imported", &detail).await?;
        self.prepare_responder(key.id).await;
        Ok(self.warning_about(&authority, &imported))
    }

    fn warning_about(&self, authority: &Authority, imported: &Certificate) -> Option<ImportWarning> {
        let usages = imported.extensions().key_usages().ok().flatten()?;
        if usages.contains(KeyUsage::CrlSign) {
            return None;
        }
        tracing::warn!(
            authority.name = %authority.name,
            "the imported certificate's key usage does not hold cRLSign: nobody will accept the authority's revocation lists"
        );
        Some(ImportWarning::ListsNotAccepted)
    }

    /// The authority of the project that holds exactly this certificate: then it is the parent.
    async fn parent_with(
        &self,
        authority: &Authority,
        certificate: &Certificate,
    ) -> Result<Option<(Authority, AuthorityCertificateId)>> {
        let project = authority.project;
        let owner = store::authority::owner_of_certificate(&self.db, project, certificate.as_der()).await;
        let Some((id, certificate)) = owner.map_err(failed)?.filter(|(id, _)| *id != authority.id) else {
            return Ok(None);
        };
        let Some(parent) = store::authority::in_project(&self.db, project, id).await.map_err(failed)? else {
            return Ok(None);
        };
        self.must_not_be_below(authority, &parent).await?;
        Ok(Some((parent, certificate)))
    }
}

/// In the form of the validator's refusals: which certificate, what is wrong with it, and the rule's name.
fn not_imported(certificate: &Certificate, problem: &str, rule: &str) -> Error {
    let subject = certificate.subject().render();
    Error::invalid(format!("the certificate is not imported: the certificate \"{subject}\": {problem} [{rule}]"))
}

fn read_one(text: &str) -> Result<Certificate> {
    let unreadable =
        |error: x509::ParseError| Error::invalid(format!("certificate: it does not read: {error} [unreadable]"));
    let mut ders = pem::decode_all(text, pem::CERTIFICATE).map_err(unreadable)?.into_iter();
    match (ders.next(), ders.next()) {
        (Some(der), None) => Certificate::from_der(der).map_err(unreadable),
        (None, _) => Err(Error::invalid("certificate holds no PEM certificate [no-certificate]")),
        (Some(_), Some(_)) => Err(Error::invalid(
            "certificate holds several certificates; put the parents into certificateChain [several-certificates]",
        )),
    }
}

fn read_chain(text: &str) -> Result<Vec<Certificate>> {
    if text.contains("PRIVATE KEY-----") {
        return Err(Error::invalid(
            "certificateChain holds a private key, which belongs nowhere but to its owner [private-key]",
        ));
    }
    let unreadable =
        |error: x509::ParseError| Error::invalid(format!("certificateChain: it does not read: {error} [unreadable]"));
    let ders = pem::decode_all(text, pem::CERTIFICATE).map_err(unreadable)?;
    if ders.is_empty() {
        return Err(Error::invalid(
            "certificateChain holds no PEM certificate; it must hold the issuer and its parents [no-chain]",
        ));
    }
    let read = |(index, der)| {
        let unreadable = |error| {
            Error::invalid(format!("certificateChain: certificate {} does not read: {error} [unreadable]", index + 1))
        };
        Certificate::from_der(der).map_err(unreadable)
    };
    ders.into_iter().enumerate().map(read).collect()
}

/// The configured subject parts and path length must be the certificate's; all that differ are named in one answer.
fn must_match(authority: &Authority, imported: &Certificate) -> Result<()> {
    let configuration = &authority.configuration;
    let parts = [
        (AttributeType::CommonName, "commonName", &configuration.common_name),
        (AttributeType::Organization, "organization", &configuration.organization),
        (AttributeType::OrganizationalUnit, "ou", &configuration.ou),
        (AttributeType::Country, "country", &configuration.country),
        (AttributeType::State, "province", &configuration.province),
        (AttributeType::Locality, "locality", &configuration.locality),
    ];
    let mut differences = Vec::new();
    for (kind, name, configured) in parts {
        let found = imported.subject().first(kind).unwrap_or_default();
        if !configured.is_empty() && found != configured {
            differences.push(format!("{name} is \"{found}\" and \"{configured}\" is configured"));
        }
    }
    let constraints = imported.extensions().basic_constraints().ok().flatten();
    let path_length = constraints.and_then(|constraints| constraints.path_length);
    // An authority that was never certified holds the path length that was asked for; later ones hold the certificate's.
    if let (None, Some(configured)) = (authority.active_certificate, authority.path_length_max)
        && path_length != Some(configured)
        && authority.kind == AuthorityKind::Intermediate
    {
        let found = path_length.map_or("none".into(), |length| length.to_string());
        differences.push(format!("the path length is {found} and {configured} is configured"));
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(not_imported(imported, &differences.join(", "), "configuration-mismatch"))
}
