//! What registries, devices and brokers prove themselves with: registering, listing and taking away certificates and
//! passwords (contract §5).

use super::folders::may;
use super::operations::{Asked, Decided, Setback, decide_again};
use crate::context::{Context, failed};
use async_recursion::async_recursion as compiled_here;
use domain::caller::Caller;
use domain::permission::Action;
use domain::registry::credential::{
    CertificateState, FINGERPRINT_CHARACTERS_MAX, FingerprintQuery, HandedIn, RegisteredCertificate,
    RegisteredPassword, check_password,
};
use domain::registry::operation::{Operation, Outcome};
use domain::registry::{AccessEnd, Owner, OwnerKind, PasswordId, RegistryId};
use domain::{Error, ProjectId, Reason, Refusal, Result, Time, Violation};
use serde_json::json;
use store::registry::credentials::{self, UNIQUE_CERTIFICATE};
use store::{Changes, Statement};
use x509::Certificate;

/// The certificates and the password that an owner is made with.
#[derive(Default)]
pub struct NewCredentials {
    /// Certificates in PEM form.
    pub certificates: Vec<String>,
    /// A password; empty is none.
    pub password: String,
}

/// What is known of an owner before its credentials change.
pub(super) struct OwnerState {
    pub(super) project: ProjectId,
    pub(super) name: String,
    pub(super) version: i64,
    /// The registry that its certificates count for.
    pub(super) registry: Option<RegistryId>,
}

/// Credentials that were read, with what an owner's commit needs of them.
pub(super) struct ReadyCredentials {
    certificates: Vec<RegisteredCertificate>,
    password: Option<(RegisteredPassword, String)>,
}

impl ReadyCredentials {
    /// Certificates alone.
    pub(super) fn of(certificates: Vec<RegisteredCertificate>) -> Self {
        Self { certificates, password: None }
    }

    /// The statements that add them.
    pub(super) fn changes(&self, project: ProjectId) -> Changes {
        let certificates = self.certificates.iter().map(credentials::insert_certificate);
        let certificates = certificates.fold(Changes::new(), Changes::with);
        let password =
            self.password.iter().map(|(password, hash)| credentials::insert_password(password, project, hash));
        password.fold(certificates, Changes::statement)
    }

    /// What the audit says of them.
    pub(super) fn fingerprints(&self) -> Vec<String> {
        self.certificates
            .iter()
            .map(|certificate| domain::registry::credential::hex(&certificate.fingerprint.sha256))
            .collect()
    }
}

impl Context {
    /// Reads the credentials that an owner is going to be made with.
    pub(super) async fn ready_credentials(
        &self,
        new: &NewCredentials,
        owner: &Owner,
        project: ProjectId,
        registry: Option<&RegistryId>,
        now: Time,
    ) -> Result<ReadyCredentials> {
        must_have_room("certificates", new.certificates.len(), self.registry_settings.certificates_per_owner)?;
        let mut certificates = Vec::with_capacity(new.certificates.len());
        for (position, data) in new.certificates.iter().enumerate() {
            let handed_in = HandedIn::read(data, &format!("certificates[{position}].certificate_data"))?;
            self.must_not_be_withdrawn(&handed_in.certificate).await?;
            certificates.push(self.registered(handed_in, owner.clone(), project, registry.cloned(), now).await?);
        }
        let password = match new.password.as_str() {
            "" => None,
            password => Some(self.ready_password(password, owner, now).await?),
        };
        Ok(ReadyCredentials { certificates, password })
    }

    /// A certificate as it is going to be registered, with what we know of it when it is one of ours.
    pub(super) async fn registered(
        &self,
        handed_in: HandedIn,
        owner: Owner,
        project: ProjectId,
        registry: Option<RegistryId>,
        now: Time,
    ) -> Result<RegisteredCertificate> {
        let certificate = &handed_in.certificate;
        let key = store::certificate::issuer_key_of(&self.db, certificate).await.map_err(failed)?;
        let contents = certificate.contents();
        Ok(RegisteredCertificate {
            fingerprint: handed_in.fingerprints(),
            project,
            owner,
            registry,
            not_before: Time::from_seconds(contents.not_before()),
            not_after: Time::from_seconds(contents.not_after()),
            state: CertificateState::Active,
            issued_by: key.map(|key| (key, contents.serial_content().to_vec())),
            trusted_authority: None,
            created_at: now,
            certificate_data: handed_in.data,
        })
    }

    /// Refuses a certificate that was made REVOKED in the registry, whoever had it.
    pub(super) async fn must_not_be_withdrawn(&self, certificate: &Certificate) -> Result<()> {
        match credentials::was_revoked(&self.db, &certificate.sha256()).await.map_err(failed)? {
            true => Err(Error::wrong_state("this certificate was revoked, which is final: register another one")),
            false => Ok(()),
        }
    }

    async fn ready_password(&self, password: &str, owner: &Owner, now: Time) -> Result<(RegisteredPassword, String)> {
        check_password(password).map_err(|violation| Refusal::violations(Reason::Invalid, vec![violation]))?;
        let hash = self.hash_registered_password(password).await?;
        let id = PasswordId::from_random(self.random.octets());
        Ok((RegisteredPassword { id, owner: owner.clone(), created_at: now }, hash))
    }

    /// The owner of that kind and id, in whose project the caller may do this.
    pub(super) async fn owner_state(&self, caller: &Caller, owner: &Owner, action: Action) -> Result<OwnerState> {
        let unknown = || Error::not_found(format!("there is no {owner}"));
        let found = match owner {
            Owner::Registry(id) => {
                let registry = store::registry::registries::by_id(&self.db, id.as_str()).await.map_err(failed)?;
                registry.map(|registry| OwnerState {
                    project: registry.folder.project,
                    name: registry.name,
                    version: registry.version,
                    registry: Some(registry.id),
                })
            }
            Owner::Device(id) => {
                let device = store::registry::devices::by_id(&self.db, id.as_str()).await.map_err(failed)?;
                device.map(|(device, _)| OwnerState {
                    project: device.project,
                    name: device.name,
                    version: device.version,
                    registry: Some(device.registry),
                })
            }
            Owner::Broker(id) => {
                let broker = store::registry::brokers::by_id(&self.db, id.as_str()).await.map_err(failed)?;
                broker.map(|broker| OwnerState {
                    project: broker.folder.project,
                    name: broker.name,
                    version: broker.version,
                    registry: None,
                })
            }
        };
        let state = found.ok_or_else(unknown)?;
        may(caller, state.project, action, unknown)?;
        Ok(state)
    }

    /// The certificates of an owner, newest first.
    #[compiled_here]
    pub async fn registered_certificates(&self, caller: &Caller, owner: &Owner) -> Result<Vec<RegisteredCertificate>> {
        self.owner_state(caller, owner, Action::ReadRegistry).await?;
        credentials::certificates(&self.db, owner).await.map_err(failed)
    }

    /// The passwords of an owner, newest first, without what they are.
    #[compiled_here]
    pub async fn registered_passwords(&self, caller: &Caller, owner: &Owner) -> Result<Vec<RegisteredPassword>> {
        self.owner_state(caller, owner, Action::ReadRegistry).await?;
        credentials::passwords(&self.db, owner).await.map_err(failed)
    }

    /// Registers a certificate.
    #[compiled_here]
    pub async fn register_certificate(&self, asked: &Asked<'_>, owner: &Owner, data: &str) -> Result<Operation> {
        if let Some(operation) = self.repeated(asked).await? {
            return Ok(operation);
        }
        let done = decide_again!(self.try_register_certificate(asked, owner, data));
        done.map_err(|setback| setback.into_error(taken))
    }

    async fn try_register_certificate(
        &self,
        asked: &Asked<'_>,
        owner: &Owner,
        data: &str,
    ) -> Result<Operation, Setback> {
        let began = self.now();
        let state = self.owner_state(asked.caller, owner, Action::WriteRegistry).await?;
        let handed_in = HandedIn::read(data, "certificate_data")?;
        self.must_not_be_withdrawn(&handed_in.certificate).await?;
        let there = credentials::certificates(&self.db, owner).await?.len();
        must_have_room("certificates", there + 1, self.registry_settings.certificates_per_owner)?;
        let certificate =
            self.registered(handed_in, owner.clone(), state.project, state.registry.clone(), began).await?;
        if certificate.not_after < began {
            tracing::warn!(%owner, "a certificate was registered that has expired; it gives no access");
        }
        let sha256 = domain::registry::credential::hex(&certificate.fingerprint.sha256);
        let decided = Decided {
            project: state.project,
            event: events(owner.kind()).add_certificate,
            kind: owner.kind().as_str(),
            detail: json!({ "id": owner.id(), "fingerprint": sha256 }),
            changes: Changes::new()
                .statement(touch(owner, state.version))
                .with(credentials::insert_certificate(&certificate)),
            ends: Vec::new(),
            began,
            outcome: Outcome::AddCertificate(Box::new(certificate)),
        };
        self.carry_out(asked, decided).await
    }

    /// Takes a certificate away: its sessions are closed.
    #[compiled_here]
    pub async fn unregister_certificate(
        &self,
        asked: &Asked<'_>,
        owner: &Owner,
        fingerprint: &str,
    ) -> Result<Operation> {
        if let Some(operation) = self.repeated(asked).await? {
            return Ok(operation);
        }
        decide_again!(self.try_unregister_certificate(asked, owner, fingerprint))
            .map_err(|setback| setback.into_error(|_| None))
    }

    async fn try_unregister_certificate(
        &self,
        asked: &Asked<'_>,
        owner: &Owner,
        fingerprint: &str,
    ) -> Result<Operation, Setback> {
        let began = self.now();
        let state = self.owner_state(asked.caller, owner, Action::WriteRegistry).await?;
        let certificate = self.certificate_of(owner, fingerprint).await?;
        let sha256 = certificate.fingerprint.sha256;
        let decided = Decided {
            project: state.project,
            event: events(owner.kind()).delete_certificate,
            kind: owner.kind().as_str(),
            detail: json!({ "id": owner.id(), "fingerprint": domain::registry::credential::hex(&sha256) }),
            changes: Changes::new()
                .statement(touch(owner, state.version))
                .statement(credentials::delete_certificate(owner, sha256)),
            ends: vec![AccessEnd::Certificate(sha256)],
            began,
            outcome: Outcome::DeleteCertificate { owner: owner.clone(), fingerprint: fingerprint.to_owned() },
        };
        self.carry_out(asked, decided).await
    }

    /// The certificate of an owner that somebody names.
    pub(super) async fn certificate_of(&self, owner: &Owner, fingerprint: &str) -> Result<RegisteredCertificate> {
        if fingerprint.is_empty() || fingerprint.chars().count() > FINGERPRINT_CHARACTERS_MAX {
            return Err(Error::invalid_field("fingerprint", "length", "fingerprint has 1 to 128 characters"));
        }
        let query = FingerprintQuery::parse(fingerprint);
        let certificates = credentials::certificates(&self.db, owner).await.map_err(failed)?;
        let named = certificates.into_iter().find(|certificate| certificate.fingerprint.is(&query, fingerprint));
        named.ok_or_else(|| Error::not_found(format!("{owner} has no certificate {fingerprint}")))
    }

    /// Adds a password. It is kept as a hash and shown to nobody.
    #[compiled_here]
    pub async fn add_password(&self, asked: &Asked<'_>, owner: &Owner, password: &str) -> Result<Operation> {
        if let Some(operation) = self.repeated(asked).await? {
            return Ok(operation);
        }
        let began = self.now();
        // Before the costly hash, and once more when it is decided.
        self.owner_state(asked.caller, owner, Action::WriteRegistry).await?;
        let ready = self.ready_password(password, owner, began).await?;
        decide_again!(self.try_add_password(asked, owner, &ready)).map_err(|setback| setback.into_error(|_| None))
    }

    async fn try_add_password(
        &self,
        asked: &Asked<'_>,
        owner: &Owner,
        (password, hash): &(RegisteredPassword, String),
    ) -> Result<Operation, Setback> {
        let state = self.owner_state(asked.caller, owner, Action::WriteRegistry).await?;
        let there = credentials::passwords(&self.db, owner).await?.len();
        must_have_room("passwords", there + 1, self.registry_settings.passwords_per_owner)?;
        let decided = Decided {
            project: state.project,
            event: events(owner.kind()).add_password,
            kind: owner.kind().as_str(),
            detail: json!({ "id": owner.id(), "passwordId": password.id.as_str() }),
            changes: Changes::new().statement(touch(owner, state.version)).statement(credentials::insert_password(
                password,
                state.project,
                hash,
            )),
            ends: Vec::new(),
            began: password.created_at,
            outcome: Outcome::AddPassword(password.clone()),
        };
        self.carry_out(asked, decided).await
    }

    /// Takes a password away: its sessions are closed.
    #[compiled_here]
    pub async fn delete_password(&self, asked: &Asked<'_>, owner: &Owner, id: &PasswordId) -> Result<Operation> {
        if let Some(operation) = self.repeated(asked).await? {
            return Ok(operation);
        }
        decide_again!(self.try_delete_password(asked, owner, id)).map_err(|setback| setback.into_error(|_| None))
    }

    async fn try_delete_password(
        &self,
        asked: &Asked<'_>,
        owner: &Owner,
        id: &PasswordId,
    ) -> Result<Operation, Setback> {
        let began = self.now();
        let state = self.owner_state(asked.caller, owner, Action::WriteRegistry).await?;
        let passwords = credentials::passwords(&self.db, owner).await?;
        if !passwords.iter().any(|password| password.id == *id) {
            return Err(Error::not_found(format!("{owner} has no password {id}")).into());
        }
        let decided = Decided {
            project: state.project,
            event: events(owner.kind()).delete_password,
            kind: owner.kind().as_str(),
            detail: json!({ "id": owner.id(), "passwordId": id.as_str() }),
            changes: Changes::new()
                .statement(touch(owner, state.version))
                .statement(credentials::delete_password(owner, id)),
            ends: vec![AccessEnd::Password(id.clone())],
            began,
            outcome: Outcome::DeletePassword { owner: owner.clone(), password: id.clone() },
        };
        self.carry_out(asked, decided).await
    }
}

/// Counts a change of what an owner proves itself with, so that two at once do not pass its limits together.
pub(super) fn touch(owner: &Owner, version: i64) -> Statement {
    match owner {
        Owner::Registry(id) => store::registry::registries::touch(id, version),
        Owner::Device(id) => store::registry::devices::touch(id, version),
        Owner::Broker(id) => store::registry::brokers::touch(id, version),
    }
}

/// What is said when a certificate is somebody's already. Whose it is is not told.
pub(super) fn taken(constraint: &str) -> Option<Error> {
    UNIQUE_CERTIFICATE
        .contains(&constraint)
        .then(|| Error::already_exists("this certificate is registered already; one certificate belongs to one owner"))
}

fn must_have_room(what: &'static str, number: usize, max: usize) -> Result<()> {
    if number <= max {
        return Ok(());
    }
    let message = format!("at most {max} {what} are allowed for one owner; take one away first");
    let mut refusal = Refusal::new(Reason::TooMany { retry_after_seconds: 60 }, message.clone());
    refusal.violations.push(Violation::new(what, "quota", message));
    Err(refusal.into())
}

/// The names in the audit of what happens to the credentials of an owner (contract §5.1).
struct CredentialEvents {
    add_certificate: &'static str,
    delete_certificate: &'static str,
    add_password: &'static str,
    delete_password: &'static str,
}

const fn events(kind: OwnerKind) -> CredentialEvents {
    match kind {
        OwnerKind::Registry => CredentialEvents {
            add_certificate: "yandex.cloud.audit.iot.devices.AddRegistryCertificate",
            delete_certificate: "yandex.cloud.audit.iot.devices.DeleteRegistryCertificate",
            add_password: "yandex.cloud.audit.iot.devices.AddRegistryPassword",
            delete_password: "yandex.cloud.audit.iot.devices.DeleteRegistryPassword",
        },
        OwnerKind::Device => CredentialEvents {
            add_certificate: "yandex.cloud.audit.iot.devices.AddDeviceCertificate",
            delete_certificate: "yandex.cloud.audit.iot.devices.DeleteDeviceCertificate",
            add_password: "yandex.cloud.audit.iot.devices.AddDevicePassword",
            delete_password: "yandex.cloud.audit.iot.devices.DeleteDevicePassword",
        },
        OwnerKind::Broker => CredentialEvents {
            add_certificate: "yandex.cloud.audit.iot.broker.AddBrokerCertificate",
            delete_certificate: "yandex.cloud.audit.iot.broker.DeleteBrokerCertificate",
            add_password: "yandex.cloud.audit.iot.broker.AddBrokerPassword",
            delete_password: "yandex.cloud.audit.iot.broker.DeleteBrokerPassword",
        },
    }
}
