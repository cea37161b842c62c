//! Taking over registries, devices and brokers from the vendor (contract §9): ids, times, certificates and aliases are
//! kept. Safe to repeat: what is there stays as it is, what is missing is added. Each object comes whole or not at all.

use super::credentials::{ReadyCredentials, taken, touch};
use super::operations::Setback;
use crate::audit::{self, Object};
use crate::context::{Context, failed};
use domain::caller::Caller;
use domain::permission::Action;
use domain::registry::alias::parse_aliases;
use domain::registry::credential::{HandedIn, RegisteredCertificate, hex};
use domain::registry::{Broker, Device, Folder, Owner, RESOURCE_ID_CHARACTERS_MAX, Registry};
use domain::{Error, ProjectId, Reason, Refusal, Result, Time};
use serde_json::json;
use store::Changes;
use store::registry::{brokers, credentials, devices, registries};

/// How long before its end a certificate is reported, in days.
const ENDS_SOON_DAYS: i64 = 30;

/// Whether anything is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportMode {
    /// It is.
    Write,
    /// It is only said what would be.
    DryRun,
}

/// A certificate of the vendor's export.
#[derive(Clone, Debug)]
pub struct ImportedCertificate {
    /// As it was registered.
    pub data: String,
    /// What the vendor called it.
    pub fingerprint: String,
    /// When it was registered.
    pub created_at: Option<Time>,
}

/// One object of the vendor's export.
#[derive(Clone, Debug)]
pub enum ImportedObject {
    /// A registry; its folder is the one that it goes to.
    Registry(Registry),
    /// A device; project and folder are those of its registry.
    Device(Device),
    /// A broker; its folder is the one that it goes to.
    Broker(Broker),
}

/// What became of something in an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportLine {
    /// `registry`, `device`, `broker`, `certificate` or `password`.
    pub kind: &'static str,
    /// The id of the object, or of the owner.
    pub id: String,
    /// The SHA-256 of a certificate, or what the vendor called it when it cannot be read.
    pub fingerprint: Option<String>,
    /// What became of it.
    pub outcome: ImportOutcome,
    /// Why, or what to look at.
    pub reason: String,
}

/// The outcome of an [`ImportLine`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportOutcome {
    /// It was made.
    Created,
    /// It was there.
    Kept,
    /// It is as it should be, and somebody should look at it.
    Notice,
    /// It could not be taken over.
    Failed,
}

impl ImportOutcome {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Kept => "kept",
            Self::Notice => "notice",
            Self::Failed => "failed",
        }
    }
}

impl Context {
    /// The folder that an import goes to: the named one when a project stands for it, else the other one.
    pub async fn import_folder(&self, caller: &Caller, named: &str, otherwise: &str) -> Result<Folder> {
        match self.folder(caller, named, Action::WriteRegistry).await {
            Ok(folder) => Ok(folder),
            Err(_) => self.folder(caller, otherwise, Action::WriteRegistry).await,
        }
    }

    /// Takes over one object and its certificates, and says what became of each.
    pub async fn import_object(
        &self,
        caller: &Caller,
        object: ImportedObject,
        certificates: &[ImportedCertificate],
        mode: ImportMode,
    ) -> Vec<ImportLine> {
        let owner = object.owner();
        let mut lines = Vec::new();
        let mut attempts = super::operations::ATTEMPTS;
        loop {
            lines.clear();
            match self.try_import(caller, &object, certificates, mode, &mut lines).await {
                Ok(()) => break,
                Err(Setback::Stale) if attempts > 0 => attempts -= 1,
                Err(setback) => {
                    let error = setback.into_error(|constraint| clash(constraint, &object));
                    lines.clear();
                    lines.push(line(&owner, ImportOutcome::Failed, reason_of(&error)));
                    break;
                }
            }
        }
        if certificates.is_empty() {
            lines.push(ImportLine {
                kind: "password",
                id: owner.id().to_owned(),
                fingerprint: None,
                outcome: ImportOutcome::Notice,
                reason: format!(
                    "the {} has no certificate, so it used a password, which cannot be taken over: add a new one",
                    owner.kind().as_str()
                ),
            });
        }
        lines
    }

    async fn try_import(
        &self,
        caller: &Caller,
        object: &ImportedObject,
        certificates: &[ImportedCertificate],
        mode: ImportMode,
        lines: &mut Vec<ImportLine>,
    ) -> Result<(), Setback> {
        let owner = object.owner();
        must_be_id(owner.id())?;
        let (object, there) = self.placed(caller, object, mode).await?;
        let project = object.project();
        let registry = match &object {
            ImportedObject::Registry(registry) => Some(registry.id.clone()),
            ImportedObject::Device(device) => Some(device.registry.clone()),
            ImportedObject::Broker(_) => None,
        };
        let mut changes = Changes::new();
        match there {
            Some(version) => {
                lines.push(line(&owner, ImportOutcome::Kept, "it is there already"));
                changes = changes.statement(touch(&owner, version));
            }
            None => {
                lines.push(line(&owner, ImportOutcome::Created, ""));
                changes = changes.with(self.insertion(&object).await?);
            }
        }
        let mut added = Vec::new();
        for given in certificates {
            let outcome = self.ready_import(given, &owner, project, registry.clone(), lines).await?;
            added.extend(outcome);
        }
        must_fit(&added, self.registry_settings.certificates_per_owner, &owner)?;
        if mode == ImportMode::DryRun || (there.is_some() && added.is_empty()) {
            return Ok(());
        }
        let now = self.now();
        let fingerprints: Vec<String> = added.iter().map(|certificate| hex(&certificate.fingerprint.sha256)).collect();
        changes = changes.with(ReadyCredentials::of(added).changes(project));
        let detail = json!({ "id": owner.id(), "certificates": fingerprints });
        let kind = Object { kind: owner.kind().as_str(), id: None };
        let record = audit::record(caller, Some(project), "device-registry-imported", kind, &detail, now);
        self.db.commit(changes.audit(record)).await.map_err(Setback::from)
    }

    /// The object in its place, and its version when it is there already.
    async fn placed(
        &self,
        caller: &Caller,
        object: &ImportedObject,
        mode: ImportMode,
    ) -> Result<(ImportedObject, Option<i64>)> {
        let elsewhere = |id: &str| Error::already_exists(format!("the id {id} is in use elsewhere"));
        match object {
            ImportedObject::Registry(registry) => {
                let there = registries::by_id(&self.db, registry.id.as_str()).await.map_err(failed)?;
                match there {
                    Some(there) if there.folder.project != registry.folder.project => {
                        Err(elsewhere(registry.id.as_str()))
                    }
                    Some(there) => Ok((ImportedObject::Registry(registry.clone()), Some(there.version))),
                    None => Ok((ImportedObject::Registry(registry.clone()), None)),
                }
            }
            ImportedObject::Broker(broker) => {
                let there = brokers::by_id(&self.db, broker.id.as_str()).await.map_err(failed)?;
                match there {
                    Some(there) if there.folder.project != broker.folder.project => Err(elsewhere(broker.id.as_str())),
                    Some(there) => Ok((ImportedObject::Broker(broker.clone()), Some(there.version))),
                    None => Ok((ImportedObject::Broker(broker.clone()), None)),
                }
            }
            ImportedObject::Device(device) => {
                let mut device = device.clone();
                let registry = self.registry_for(caller, device.registry.as_str(), Action::WriteRegistry).await;
                match registry {
                    Ok(registry) => {
                        device.project = registry.folder.project;
                        device.folder_key = registry.folder.key;
                    }
                    // In a dry run it is not there yet.
                    Err(error) if mode == ImportMode::DryRun && error.reason() == Some(Reason::NotFound) => {
                        device.project = caller.default_project.ok_or(error)?;
                    }
                    Err(error) => return Err(error),
                }
                device.topic_aliases = parse_aliases(&device.topic_aliases, &device.id)
                    .map_err(|violations| Refusal::violations(Reason::Invalid, violations))?;
                let there = devices::by_id(&self.db, device.id.as_str()).await.map_err(failed)?;
                match there {
                    Some((there, _)) if there.registry != device.registry => Err(elsewhere(device.id.as_str())),
                    Some((there, _)) => Ok((ImportedObject::Device(device), Some(there.version))),
                    None => Ok((ImportedObject::Device(device), None)),
                }
            }
        }
    }

    async fn insertion(&self, object: &ImportedObject) -> Result<Changes, Setback> {
        Ok(match object {
            ImportedObject::Registry(registry) => Changes::new().statement(registries::insert(registry)),
            ImportedObject::Broker(broker) => Changes::new().statement(brokers::insert(broker)),
            ImportedObject::Device(device) => self.held_aliases(device).await?.with(devices::insert(device)),
        })
    }

    /// A certificate that is to be added, when it is not there; and what is to be said of it.
    async fn ready_import(
        &self,
        given: &ImportedCertificate,
        owner: &Owner,
        project: ProjectId,
        registry: Option<domain::registry::RegistryId>,
        lines: &mut Vec<ImportLine>,
    ) -> Result<Option<RegisteredCertificate>, Setback> {
        let now = self.now();
        let of = |outcome, fingerprint: &str, reason: String| ImportLine {
            kind: "certificate",
            id: owner.id().to_owned(),
            fingerprint: Some(fingerprint.to_owned()),
            outcome,
            reason,
        };
        let handed_in = match HandedIn::read(&given.data, "certificate_data") {
            Ok(handed_in) => handed_in,
            Err(error) => {
                lines.push(of(ImportOutcome::Failed, &given.fingerprint, reason_of(&error)));
                return Ok(None);
            }
        };
        let mut certificate = self.registered(handed_in, owner.clone(), project, registry, now).await?;
        let sha256 = hex(&certificate.fingerprint.sha256);
        let query = domain::registry::credential::FingerprintQuery::Sha256(certificate.fingerprint.sha256);
        if let Some(there) = credentials::certificate(&self.db, &query).await? {
            if there.owner == *owner {
                lines.push(of(ImportOutcome::Kept, &sha256, "it is there already".into()));
            } else {
                lines.push(of(ImportOutcome::Failed, &sha256, "it is registered for somebody else already".into()));
            }
            return Ok(None);
        }
        certificate.fingerprint.imported = Some(given.fingerprint.clone()).filter(|name| !name.is_empty());
        certificate.created_at = given.created_at.unwrap_or(now);
        lines.push(of(ImportOutcome::Created, &sha256, String::new()));
        if certificate.not_after < now {
            lines.push(of(ImportOutcome::Notice, &sha256, "it has expired and gives no access".into()));
        } else if certificate.not_after < now.plus_seconds(ENDS_SOON_DAYS * 24 * 3600) {
            lines.push(of(ImportOutcome::Notice, &sha256, format!("it expires within {ENDS_SOON_DAYS} days")));
        }
        Ok(Some(certificate))
    }
}

impl ImportedObject {
    /// Whose certificates come with it.
    pub fn owner(&self) -> Owner {
        match self {
            Self::Registry(registry) => Owner::Registry(registry.id.clone()),
            Self::Device(device) => Owner::Device(device.id.clone()),
            Self::Broker(broker) => Owner::Broker(broker.id.clone()),
        }
    }

    fn project(&self) -> ProjectId {
        match self {
            Self::Registry(registry) => registry.folder.project,
            Self::Device(device) => device.project,
            Self::Broker(broker) => broker.folder.project,
        }
    }
}

fn line(owner: &Owner, outcome: ImportOutcome, reason: impl Into<String>) -> ImportLine {
    ImportLine {
        kind: owner.kind().as_str(),
        id: owner.id().to_owned(),
        fingerprint: None,
        outcome,
        reason: reason.into(),
    }
}

fn must_be_id(id: &str) -> Result<()> {
    let is_id = !id.is_empty()
        && id.len() <= RESOURCE_ID_CHARACTERS_MAX
        && id.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet));
    is_id.then_some(()).ok_or_else(|| Error::invalid("an id has 1 to 50 letters, digits, hyphens and underscores"))
}

/// The vendor's limit holds for what comes at once; what was there before is not counted again.
fn must_fit(added: &[RegisteredCertificate], max: usize, owner: &Owner) -> Result<()> {
    match added.len() <= max {
        true => Ok(()),
        false => {
            Err(Error::too_many(format!("{owner} has {} certificates, at most {max} are allowed", added.len()), 60))
        }
    }
}

fn clash(constraint: &str, object: &ImportedObject) -> Option<Error> {
    match constraint {
        registries::UNIQUE_NAME | brokers::UNIQUE_NAME => {
            Some(Error::already_exists("another object of this name is in the folder already"))
        }
        devices::UNIQUE_NAME => Some(Error::already_exists("another device of this name is in the registry already")),
        devices::UNIQUE_ALIAS => Some(Error::already_exists("one of its aliases belongs to another device already")),
        "registries_pkey" | "devices_pkey" | "brokers_pkey" => {
            Some(Error::already_exists(format!("the id {} was taken at this moment", object.owner().id())))
        }
        other => taken(other),
    }
}

/// What a stranger is told; the cause of a failure of ours goes to the log.
fn reason_of(error: &Error) -> String {
    match error {
        Error::Refused(refusal) => refusal.message.clone(),
        Error::Failed(failure) => {
            tracing::error!(?failure, "an import failed");
            "the server failed; its log says why".into()
        }
    }
}
