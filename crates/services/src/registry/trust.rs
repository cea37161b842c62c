//! Authorities that a registry trusts: a device with a certificate of theirs is registered when it first connects
//! (`registry/take_in.rs`).
//!
//! An authority of ours is trusted by its id, an outside one with a proof that it is the caller's: a certificate that it
//! signed over the registry's id. Ending a trust removes no device: what was taken in stays until it is deleted.

use super::folders::may;
use super::operations::{Recorded, Setback, decide_again};
use super::page::{Page, PageRequest};
use crate::authorities::about;
use crate::context::{Context, failed};
use async_recursion::async_recursion as compiled_here;
use domain::authority::AuthorityStatus;
use domain::caller::Caller;
use domain::permission::Action;
use domain::registry::credential::{HandedIn, hex};
use domain::registry::trust::{TRUSTED_PER_REGISTRY_MAX, Template, TrustedAuthority};
use domain::registry::{Labels, Registry, TrustedAuthorityId};
use domain::{AuthorityId, Error, Reason, Refusal, Result, Time, Violation};
use serde_json::json;
use store::Changes;
use store::registry::{registries, trust};
use x509::{AttributeType, Certificate, KeyUsage, digest};

/// Which authority is to be trusted.
#[derive(Clone)]
pub enum NewTrust {
    /// One of ours.
    Own(AuthorityId),
    /// One outside.
    Foreign {
        /// Its certificate in PEM.
        certificate: String,
        /// A certificate that it signed, with the registry's id as common name, in PEM.
        verification: String,
    },
}

/// The template of devices as a caller asks for it.
#[derive(Clone, Default)]
pub struct NewTemplate {
    /// The name; the common name when it is absent.
    pub name: Option<String>,
    /// The labels.
    pub labels: Labels,
}

const EVENT_KIND: &str = "registry";

impl Context {
    /// Lets a registry trust an authority.
    #[compiled_here]
    pub async fn trust_authority(
        &self,
        caller: &Caller,
        registry: &str,
        new: &NewTrust,
        template: NewTemplate,
    ) -> Result<TrustedAuthority> {
        let name = template.name.unwrap_or_else(|| Template::default().name);
        let template = Template::parse(&name, &template.labels)
            .map_err(|violations| Error::from(Refusal::violations(Reason::Invalid, violations)))?;
        let done = decide_again!(self.try_trust_authority(caller, registry, new, &template));
        done.map_err(|setback| {
            setback.into_error(|constraint| {
                (constraint == trust::UNIQUE_KEY).then(|| {
                    Error::already_exists(
                        "an authority with this key is trusted by a registry already; it is trusted by one at most",
                    )
                })
            })
        })
    }

    async fn try_trust_authority(
        &self,
        caller: &Caller,
        registry: &str,
        new: &NewTrust,
        template: &Template,
    ) -> Result<TrustedAuthority, Setback> {
        let registry = self.registry_for(caller, registry, Action::WriteRegistry).await?;
        let there = usize::try_from(trust::count(&self.db, &registry.id).await?).unwrap_or(usize::MAX);
        if there >= TRUSTED_PER_REGISTRY_MAX {
            let message = format!("a registry trusts at most {TRUSTED_PER_REGISTRY_MAX} authorities");
            return Err(Error::too_many(message, 60).into());
        }
        let now = self.now();
        let (authority, certificate) = match new {
            NewTrust::Own(id) => (Some(*id), self.own_authority(caller, &registry, *id).await?),
            NewTrust::Foreign { certificate, verification } => {
                (None, foreign_authority(certificate, verification, &registry, now)?)
            }
        };
        let trusted = TrustedAuthority {
            id: TrustedAuthorityId::from_random(self.random.octets()),
            registry: registry.id.clone(),
            project: registry.folder.project,
            authority,
            spki_sha256: digest::sha256(certificate.spki_der()),
            subject_sha256: digest::sha256(certificate.subject().as_der()),
            der: certificate.into_der(),
            template: template.clone(),
            created_at: now,
        };
        let recorded = Recorded {
            project: trusted.project,
            event: "registry-authority-trusted",
            kind: EVENT_KIND,
            detail: detail(&trusted),
            changes: Changes::new()
                .statement(registries::touch(&registry.id, registry.version))
                .statement(trust::insert(&trusted)),
            ends: Vec::new(),
        };
        self.record_change(caller, recorded).await?;
        // What was refused a moment ago may be taken in now.
        self.state.registry.take_in.forget();
        Ok(trusted)
    }

    /// The active certificate of an authority in the registry's project.
    async fn own_authority(&self, caller: &Caller, registry: &Registry, id: AuthorityId) -> Result<Certificate> {
        let unknown = || Error::not_found(format!("there is no certificate authority {id} in the registry's project"));
        let project = registry.folder.project;
        let authority = store::authority::in_project(&self.db, project, id).await.map_err(failed)?;
        let authority = authority.ok_or_else(unknown)?;
        caller.may(project, Action::ReadAuthority, &about(&authority.name))?;
        let (AuthorityStatus::Active, Some(active)) = (authority.status, authority.active_certificate) else {
            return Err(Error::wrong_state(format!("the certificate authority {} is not active", authority.name)));
        };
        let stored = store::authority::certificate(&self.db, id, active).await.map_err(failed)?;
        let stored = stored.ok_or_else(|| Error::failed("an authority's active certificate is not stored"))?;
        Certificate::from_der(stored.der)
            .map_err(|error| Error::failed_because("a stored authority certificate does not read", error))
    }

    /// The authorities that a registry trusts, oldest first.
    #[compiled_here]
    pub async fn trusted_authorities(
        &self,
        caller: &Caller,
        registry: &str,
        page: &PageRequest,
    ) -> Result<Page<TrustedAuthority>> {
        let registry = self.registry(caller, registry).await?;
        let list = format!("authorities of {}", registry.id);
        let (number, id) = page.after(&list, (i64::MIN, ""))?;
        let after = (Time::from_millis(number), id);
        let rows = trust::page(&self.db, &registry.id, &after, page.rows()).await.map_err(failed)?;
        Ok(page.page(&list, rows, |trusted| (trusted.created_at.millis(), trusted.id.as_str())))
    }

    /// Ends the trust of a registry in an authority. Devices that were taken in by it stay.
    #[compiled_here]
    pub async fn distrust_authority(&self, caller: &Caller, registry: &str, id: &str) -> Result<()> {
        decide_again!(self.try_distrust_authority(caller, registry, id)).map_err(|setback| setback.into_error(|_| None))
    }

    async fn try_distrust_authority(&self, caller: &Caller, registry: &str, id: &str) -> Result<(), Setback> {
        let registry = self.registry(caller, registry).await?;
        may(caller, registry.folder.project, Action::WriteRegistry, || Error::not_found("there is no such registry"))?;
        let unknown = || Error::not_found(format!("registry {} trusts no authority {id}", registry.id));
        let trusted = trust::by_id(&self.db, &registry.id, id).await?.ok_or_else(unknown)?;
        let recorded = Recorded {
            project: trusted.project,
            event: "registry-authority-distrusted",
            kind: EVENT_KIND,
            detail: detail(&trusted),
            changes: Changes::new()
                .statement(registries::touch(&registry.id, registry.version))
                .statement(trust::delete(&registry.id, &trusted.id)),
            ends: Vec::new(),
        };
        self.record_change(caller, recorded).await
    }
}

fn detail(trusted: &TrustedAuthority) -> serde_json::Value {
    json!({
        "id": trusted.registry.as_str(), "authority": trusted.id.as_str(),
        "caId": trusted.authority.map(|id| id.to_string()),
        "fingerprint": hex(&digest::sha256(&trusted.der)), "template": trusted.template,
    })
}

/// An authority's certificate, when it can sign certificates now and the caller has shown that it is theirs.
fn foreign_authority(certificate: &str, verification: &str, registry: &Registry, now: Time) -> Result<Certificate> {
    let authority = read(certificate, "certificate_data")?;
    let refuse = |message: String| refusal("certificate_data", message);
    let extensions = authority.extensions();
    let unreadable = |error: x509::ParseError| refuse(format!("an extension of the certificate: {error}"));
    if !extensions.basic_constraints().map_err(unreadable)?.is_some_and(|constraints| constraints.ca) {
        return Err(refuse("this is not the certificate of an authority: its basic constraints do not say so".into()));
    }
    if extensions.key_usages().map_err(unreadable)?.is_some_and(|usages| !usages.contains(KeyUsage::KeyCertSign)) {
        return Err(refuse("the key usage of this certificate does not allow it to sign certificates".into()));
    }
    must_hold_now(&authority, "certificate_data", now)?;
    let proof = read(verification, "verification_certificate")?;
    let refuse = |message: &str| refusal("verification_certificate", message.into());
    let key = authority.public_key().map_err(|problem| refusal("certificate_data", format!("its key: {problem}")))?;
    if proof.issuer().as_der() != authority.subject().as_der() || !proof.verify_signature(&key) {
        return Err(refuse("the verification certificate was not signed by the authority"));
    }
    let mut common_names = proof.subject().attributes().filter(|(kind, _)| *kind == AttributeType::CommonName);
    let is_proof =
        matches!((common_names.next(), common_names.next()), (Some((_, name)), None) if name == registry.id.as_str());
    if !is_proof {
        let message =
            format!("the common name of the verification certificate must be the registry's id, {}", registry.id);
        return Err(refuse(&message));
    }
    must_hold_now(&proof, "verification_certificate", now)?;
    Ok(authority)
}

fn read(data: &str, field: &str) -> Result<Certificate> {
    Ok(HandedIn::read(data, field)?.certificate)
}

fn must_hold_now(certificate: &Certificate, field: &'static str, now: Time) -> Result<()> {
    let message = match now.seconds() {
        now if now < certificate.not_before() => "the certificate is not valid yet",
        now if now > certificate.not_after() => "the certificate has expired",
        _ => return Ok(()),
    };
    Err(refusal(field, message.into()))
}

fn refusal(field: &str, message: String) -> Error {
    Refusal::violations(Reason::Invalid, vec![Violation::new(field, "certificate", message)]).into()
}
