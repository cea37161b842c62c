//! Provisions a device: the device and its certificate are made in one commit, or neither is.

use super::devices::{NewDevice, clash};
use super::operations::{Asked, Decided, Repeat, Setback};
use crate::context::{Context, failed};
use crate::issue::{IssueOptions, Issued};
use crate::issue_from::Source;
use async_recursion::async_recursion as compiled_here;
use domain::caller::Caller;
use domain::inventory::IssuedCertificate;
use domain::issuance::IssuanceRequest;
use domain::permission::Action;
use domain::registry::credential::{CertificateState, Fingerprints, RegisteredCertificate, hex};
use domain::registry::operation::{Operation, Outcome};
use domain::registry::provision::subject_and_wishes;
use domain::registry::{Device, Labels, Owner};
use domain::{Error, ProfileId, Reason, Result, Time};
use serde_json::json;
use std::collections::BTreeMap;
use store::registry::operations::UNIQUE_IDEMPOTENCY;
use store::registry::{credentials, devices};
use store::{Changes, StoreError};
use x509::{Certificate, CertificationRequest, digest, pem};

/// What a device is provisioned with.
pub struct NewProvision {
    /// Its registry.
    pub registry: String,
    /// Its name.
    pub name: String,
    /// The profile that its certificate comes from.
    pub profile: ProfileId,
    /// The request that says which key it has, in PEM; without one the key is made here.
    pub csr: Option<String>,
    /// Its labels.
    pub labels: Labels,
    /// Other names of its topics.
    pub topic_aliases: BTreeMap<String, String>,
}

/// A device that was provisioned.
pub struct Provisioned {
    /// The device.
    pub device: Device,
    /// Its certificate.
    pub issued: Issued,
}

impl Provisioned {
    /// The private key in PEM, when it was made here and the caller may have it.
    pub fn private_key_pem(&self) -> Option<String> {
        self.issued.private_key.as_ref().map(|key| pem::encode(pem::PRIVATE_KEY, key.expose()))
    }
}

/// A device that is made in the commit of its certificate.
pub struct ReadyDevice {
    device: Device,
    changes: Changes,
    began: Time,
    repeat: Option<Repeat>,
}

/// The greatest length of a certification request.
const CSR_OCTETS_MAX: usize = 64 * 1024;
/// How often it is decided again when the registry or the profile changed meanwhile.
const ATTEMPTS_MAX: usize = 4;

impl Context {
    /// Makes a device together with its certificate. A repetition is given the same device and the same certificate, and the
    /// private key that was made for it as long as the caller may read private keys.
    #[compiled_here]
    pub async fn provision_device(&self, asked: &Asked<'_>, new: NewProvision) -> Result<Provisioned> {
        if let Some(operation) = self.repeated(asked).await? {
            return self.provisioned_again(asked.caller, new.profile, operation).await;
        }
        if new.name.is_empty() {
            return Err(Error::invalid_field(
                "name",
                "required",
                "name is empty: a device that is provisioned needs one, its certificate carries it",
            ));
        }
        let csr = match &new.csr {
            Some(text) if text.len() > CSR_OCTETS_MAX => {
                return Err(Error::invalid_field(
                    "csr",
                    "length",
                    format!("csr has more than {CSR_OCTETS_MAX} octets"),
                ));
            }
            Some(text) => Some(Box::new(
                CertificationRequest::from_pem(text)
                    .map_err(|error| Error::invalid_field("csr", "pem", format!("csr: {error}")))?,
            )),
            None => None,
        };
        let mut attempt = 1;
        loop {
            let error = match self.try_provision(asked, &new, csr.clone()).await {
                Ok(made) => return Ok(made),
                Err(error) => error,
            };
            // Perhaps the same request came twice at once and the other one was faster.
            if let Some(operation) = self.repeated(asked).await? {
                return self.provisioned_again(asked.caller, new.profile, operation).await;
            }
            if error.reason() != Some(Reason::Conflict) || attempt == ATTEMPTS_MAX {
                return Err(error);
            }
            attempt += 1;
        }
    }

    /// What an earlier request with the same idempotency key made, for who could ask for it now.
    async fn provisioned_again(
        &self,
        caller: &Caller,
        profile: ProfileId,
        operation: Operation,
    ) -> Result<Provisioned> {
        self.must_be_allowed_to_issue(caller, Source::Profile(profile)).await?;
        let Outcome::ProvisionDevice { device, certificate } = operation.outcome else {
            return Err(Error::failed("the key of a provisioned device is another operation's"));
        };
        let issued =
            self.issued_again(caller, Source::Profile(profile), certificate).await.map_err(|error| {
                match error.reason() {
                    Some(Reason::NotFound) => Error::wrong_state(format!(
                        "this request made the device {} already, and its certificate is not in the inventory any more",
                        device.id
                    )),
                    _ => error,
                }
            })?;
        Ok(Provisioned { device, issued })
    }

    async fn try_provision(
        &self,
        asked: &Asked<'_>,
        new: &NewProvision,
        csr: Option<Box<CertificationRequest>>,
    ) -> Result<Provisioned> {
        let caller = asked.caller;
        let began = self.now();
        let registry = self.registry_for(caller, &new.registry, Action::WriteRegistry).await?;
        let unknown =
            || Error::not_found(format!("there is no certificate profile {} in the registry's project", new.profile));
        let issuer = self.issuer_for(caller.organization, new.profile).await?;
        (issuer.profile.project == registry.folder.project).then_some(()).ok_or_else(unknown)?;
        self.must_be_allowed_to_issue(caller, Source::Profile(new.profile)).await?;
        // Nothing is signed for a name that is taken; the commit holds it once more.
        if devices::by_name(&self.db, &registry.id, &new.name).await.map_err(failed)?.is_some() {
            return Err(name_taken(&new.name));
        }
        let wanted = NewDevice {
            registry: new.registry.clone(),
            name: new.name.clone(),
            labels: new.labels.clone(),
            topic_aliases: new.topic_aliases.clone(),
            ..NewDevice::default()
        };
        let (device, changes, _) = self.ready_device(caller, &wanted, began).await?;
        let held = self.held_aliases(&device).await.map_err(|setback| setback.into_error(|_| None))?;
        let (subject, wishes) = subject_and_wishes(&issuer, &new.name, csr, began);
        let ready = ReadyDevice { device: device.clone(), changes: held.with(changes), began, repeat: asked.repeat };
        let options = IssueOptions { device: Some(ready), ..IssueOptions::default() };
        let issued = self.issue(caller, new.profile, IssuanceRequest { subject, wishes }, options).await?;
        if !device.topic_aliases.is_empty() {
            self.aliases_were_changed(&device.registry).await;
        }
        Ok(Provisioned { device, issued })
    }

    /// What makes the device of a certificate that was just signed.
    pub(crate) fn device_follows(
        &self,
        caller: &Caller,
        ready: &ReadyDevice,
        issued: &IssuedCertificate,
        certificate: &Certificate,
    ) -> Changes {
        let device = &ready.device;
        let registered = RegisteredCertificate {
            fingerprint: Fingerprints { sha256: certificate.sha256(), sha1: certificate.sha1(), imported: None },
            project: device.project,
            owner: Owner::Device(device.id.clone()),
            registry: Some(device.registry.clone()),
            certificate_data: pem::encode(pem::CERTIFICATE, &issued.der),
            not_before: Time::from_seconds(certificate.not_before()),
            not_after: Time::from_seconds(certificate.not_after()),
            state: CertificateState::Active,
            issued_by: issued.issuer.map(|by| (by.key, certificate.serial_content().to_vec())),
            trusted_authority: None,
            created_at: ready.began,
        };
        let sha256 = hex(&digest::sha256(&issued.der));
        let decided = Decided {
            project: device.project,
            event: "yandex.cloud.audit.iot.devices.CreateDevice",
            kind: "device",
            detail: json!({
                "id": device.id.as_str(), "registryId": device.registry.as_str(), "name": device.name,
                "certificates": [sha256], "certificateId": issued.id.to_string(),
            }),
            changes: ready.changes.clone().with(credentials::insert_certificate(&registered)),
            ends: Vec::new(),
            began: ready.began,
            outcome: Outcome::ProvisionDevice { device: device.clone(), certificate: issued.id },
        };
        self.operation_of(&Asked { caller, repeat: ready.repeat }, decided).1
    }
}

impl ReadyDevice {
    /// What the caller is told when the commit of the device and its certificate did not go through.
    pub(crate) fn refusal(&self, error: &StoreError) -> Option<Error> {
        match error {
            StoreError::Conflict { constraint } if constraint == "foreign key" => {
                Some(Error::not_found(format!("there is no registry {}", self.device.registry)))
            }
            // The same request came twice at once, and the other one was faster.
            StoreError::Conflict { constraint } if constraint == UNIQUE_IDEMPOTENCY => {
                Some(Error::conflict("this idempotency key is being used at this moment; try again"))
            }
            StoreError::Conflict { constraint } => clash(constraint, &self.device.name),
            // The whole is decided again: what the device was decided on has moved, or what the certificate was.
            StoreError::Stale(_) => Some(failed(error.clone())),
            _ => None,
        }
    }
}

fn name_taken(name: &str) -> Error {
    Setback::Conflict(devices::UNIQUE_NAME.into()).into_error(|constraint| clash(constraint, name))
}
