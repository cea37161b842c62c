//! Installs a certificate that an outside authority made for one of ours (contract §3.11).
//!
//! Either everything holds and the certificate is active with its chain, or nothing is changed and the answer says which
//! rule which certificate breaks.

use crate::authorities::{about, activate};
use crate::context::{Context, failed};
use domain::authority::{Authority, AuthorityCertificate, AuthorityKind};
use domain::caller::Caller;
use domain::permission::Action;
use domain::{AuthorityId, Error, Result};
use serde_json::json;
use store::Changes;
use x509::{AttributeType, Certificate, chain, pem};

impl Context {
    /// Installs a certificate and the chain above it.
    pub async fn import_authority_certificate(
        &self,
        caller: &Caller,
        id: AuthorityId,
        certificate: &str,
        certificate_chain: &str,
    ) -> Result<()> {
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
        if imported.spki_der() != key.spki {
            return Err(Error::invalid("the certificate is not imported: it certifies another key than the one of this authority"));
        }
        must_match(&authority, &imported)?;
        let path: Vec<&Certificate> = order.iter().filter_map(|position| given.get(*position)).collect();
        let chain_pem =
            path.iter().map(|parent| pem::encode(pem::CERTIFICATE, parent.as_der())).collect::<Vec<_>>().join("\n");
        let parent = match path.first() {
            None => None,
            Some(direct) => store::authority::owner_of_certificate(&self.db, authority.project, direct.as_der())
                .await
                .map_err(failed)?
                .filter(|(parent, _)| *parent != authority.id),
        };
        let stored = AuthorityCertificate {
            id: self.new_id(),
            authority: authority.id,
            project: authority.project,
            key: authority.active_key,
            version: store::authority::newest_version(&self.db, authority.id).await.map_err(failed)? + 1,
            der: imported.as_der().to_vec(),
            chain: chain_pem,
            parent_certificate: parent.map(|(_, certificate)| certificate),
            created_at: now,
        };
        activate(&mut authority, &imported, stored.id, parent.map(|(parent, _)| parent));
        authority.version += 1;
        authority.updated_at = now;
        let subject = imported.subject().as_der();
        let detail = json!({
            "name": authority.name, "serialNumber": authority.serial_number,
            "issuer": imported.issuer().render(), "chainLength": path.len(),
        });
        let changes = Changes::new()
            .statement(store::authority::ensure_issuer_name(subject))
            .statement(store::authority::rename_issuer(
                key.id,
                subject,
                x509::digest::sha1(subject),
                x509::digest::sha256(subject),
            ))
            .statement(store::authority::insert_certificate(&stored, &imported))
            .statement(store::authority::update(&authority));
        self.commit_authority(caller, changes, &authority, "authority-certificate-imported", &detail).await?;
        // The list's issuer is the name that the certificate carries; sign the list anew under it.
        self.publish_list(key.crl).await
    }
}

fn read_one(text: &str) -> Result<Certificate> {
    let unreadable = |error: x509::ParseError| Error::invalid(format!("certificate: {error}"));
    let mut ders = pem::decode_all(text, pem::CERTIFICATE).map_err(unreadable)?.into_iter();
    match (ders.next(), ders.next()) {
        (Some(der), None) => Certificate::from_der(der).map_err(unreadable),
        (None, _) => Err(Error::invalid("certificate holds no PEM certificate")),
        (Some(_), Some(_)) => {
            Err(Error::invalid("certificate holds several certificates; put the parents into certificateChain"))
        }
    }
}

fn read_chain(text: &str) -> Result<Vec<Certificate>> {
    let unreadable = |error: x509::ParseError| Error::invalid(format!("certificateChain: {error}"));
    let ders = pem::decode_all(text, pem::CERTIFICATE).map_err(unreadable)?;
    if ders.is_empty() {
        return Err(Error::invalid("certificateChain holds no PEM certificate; it must hold the issuer and its parents"));
    }
    ders.into_iter().map(|der| Certificate::from_der(der).map_err(unreadable)).collect()
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
    Err(Error::invalid(format!("the certificate is not imported: {}", differences.join(", "))))
}
