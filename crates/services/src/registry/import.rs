//! Taking over registries, devices and brokers from the vendor (contract §9): ids, times, certificates and aliases are
//! kept. Safe to repeat: what is there stays as it is, what is missing is added. Each object comes whole or not at all.
//!
//! Objects are committed many at a time, since a commit waits for the disk. When something stands against a commit, its
//! objects are decided and committed one by one, so that each is told by itself what is wrong with it.

use super::credentials::{ReadyCredentials, taken, touch};
use super::operations::{Setback, decide_again};
use crate::audit::{self, Object};
use crate::context::Context;
use async_recursion::async_recursion as compiled_here;
use domain::caller::Caller;
use domain::permission::Action;
use domain::registry::alias::{self, parse_aliases};
use domain::registry::credential::{CertificateState, FingerprintQuery, HandedIn, RegisteredCertificate, hex};
use domain::registry::{Broker, Device, Folder, Owner, OwnerKind, RESOURCE_ID_CHARACTERS_MAX, Registry, RegistryId};
use domain::{Error, ProjectId, Reason, Refusal, Result, Time};
use futures_util::{StreamExt, stream};
use serde_json::json;
use std::collections::{BTreeSet, HashMap, HashSet};
use store::Changes;
use store::registry::{brokers, credentials, devices, registries};

/// How long before its end a certificate is reported, in days.
const ENDS_SOON_DAYS: i64 = 30;
/// How many objects share a commit.
const TOGETHER: usize = 100;
/// How many objects are looked at at once.
const READ_AT_ONCE: usize = 8;
/// How many certificates one owner brings at most.
const CERTIFICATES_MAX: usize = 100;

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
    /// Whether it gives access; the vendor knows only those that do.
    pub state: CertificateState,
}

/// One object of the vendor's export with what it proves itself with.
#[derive(Clone, Debug)]
pub struct ImportedItem {
    /// The object.
    pub object: ImportedObject,
    /// Its certificates.
    pub certificates: Vec<ImportedCertificate>,
    /// What is to be said when it is made.
    pub remark: String,
}

/// One object of the vendor's export.
#[derive(Clone, Debug)]
pub enum ImportedObject {
    /// A registry; its folder is the one that it goes to.
    Registry(Registry),
    /// A device; project and folder are those of its registry, once that is there.
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
    #[compiled_here]
    pub async fn import_folder(&self, caller: &Caller, named: &str, otherwise: &str) -> Result<Folder> {
        match self.folder(caller, named, Action::WriteRegistry).await {
            Err(error) if matches!(error.reason(), Some(Reason::NotFound | Reason::Invalid)) => {
                self.folder(caller, otherwise, Action::WriteRegistry).await
            }
            found => found,
        }
    }

    /// Takes over objects and their certificates, and says what became of each: registries first, then devices, then
    /// brokers.
    #[compiled_here]
    pub async fn import_objects(&self, caller: &Caller, items: &[ImportedItem], mode: ImportMode) -> Vec<ImportLine> {
        let import = Import { caller, mode, shared: shared_certificates(items) };
        let limits = (self.registry_settings.registries_per_project, self.registry_settings.devices_per_project);
        // With a limit each object counts those before it.
        let together = if limits == (None, None) { TOGETHER } else { 1 };
        let mut lines = Vec::new();
        for kind in [OwnerKind::Registry, OwnerKind::Device, OwnerKind::Broker] {
            let of_kind: Vec<&ImportedItem> = items.iter().filter(|item| item.object.owner().kind() == kind).collect();
            for group in of_kind.chunks(together) {
                lines.extend(self.import_group(&import, group).await);
            }
        }
        lines
    }

    async fn import_group(&self, import: &Import<'_>, group: &[&ImportedItem]) -> Vec<ImportLine> {
        let reading: Vec<_> = group.iter().map(|item| self.ready(import, item)).collect();
        let ready: Vec<Result<Ready, Setback>> = stream::iter(reading).buffered(READ_AT_ONCE).collect().await;
        let mut whole = Whole::default();
        let is_in: Vec<bool> =
            ready.iter().map(|ready| ready.as_ref().is_ok_and(|ready| whole.takes_in(ready))).collect();
        if import.mode == ImportMode::DryRun {
            let said = ready.into_iter().zip(group).zip(is_in).map(|((ready, item), is_in)| match ready {
                Ok(ready) if is_in => ready.lines,
                Ok(_) => refused(item, &clashes_in_import()),
                Err(setback) => refused(item, &setback.into_error(|constraint| clash(constraint, &item.object))),
            });
            return said.flatten().collect();
        }
        let is_written = whole.changes.is_empty() || self.db.commit(whole.changes).await.is_ok();
        let mut lines = Vec::new();
        for ((ready, item), is_in) in ready.into_iter().zip(group).zip(is_in) {
            match ready {
                Ok(ready) if is_in && (is_written || ready.changes.is_empty()) => lines.extend(ready.lines),
                _ => lines.extend(self.import_alone(import, item).await),
            }
        }
        lines
    }

    async fn import_alone(&self, import: &Import<'_>, item: &ImportedItem) -> Vec<ImportLine> {
        let done = decide_again!(async {
            let ready = self.ready(import, item).await?;
            let mut whole = Whole::default();
            whole.takes_in(&ready);
            if !whole.changes.is_empty() {
                self.db.commit(whole.changes).await?;
            }
            Ok::<_, Setback>(ready.lines)
        });
        done.unwrap_or_else(|setback| refused(item, &setback.into_error(|constraint| clash(constraint, &item.object))))
    }

    /// What is to be written for an object, and what is to be said of it then.
    async fn ready(&self, import: &Import<'_>, item: &ImportedItem) -> Result<Ready, Setback> {
        let owner = item.object.owner();
        must_be_id(owner.id())?;
        let (object, there) = self.placed(import, &item.object).await?;
        let project = object.project();
        let registry = match &object {
            ImportedObject::Registry(registry) => Some(registry.id.clone()),
            ImportedObject::Device(device) => Some(device.registry.clone()),
            ImportedObject::Broker(_) => None,
        };
        let mut ready = Ready::default();
        let mut written = Changes::new();
        match there {
            Some(_) => ready.lines.push(line(&owner, ImportOutcome::Kept, "it is there already")),
            None => {
                self.must_be_possible(import, &object).await?;
                ready.lines.push(line(&owner, ImportOutcome::Created, item.remark.clone()));
                written = insertion(&object);
                if let ImportedObject::Device(device) = &object {
                    ready.aliases = device.topic_aliases.keys().cloned().collect();
                    ready.held = self.held_registry(import, device).await?;
                }
            }
        }
        let mut added: Vec<RegisteredCertificate> = Vec::new();
        for given in &item.certificates {
            let mut lines = Vec::new();
            let outcome = self.ready_certificate(import, given, &owner, project, registry.clone(), &mut lines).await?;
            let is_twice = outcome
                .as_ref()
                .is_some_and(|one| added.iter().any(|other| other.fingerprint.sha256 == one.fingerprint.sha256));
            if !is_twice {
                ready.lines.extend(lines);
                added.extend(outcome);
            }
        }
        must_fit(&added, self.registry_settings.certificates_per_owner.max(CERTIFICATES_MAX), &owner)?;
        if item.certificates.is_empty() && !self.has_credentials(&owner).await? {
            ready.lines.push(needs_password(&owner));
        }
        match there {
            Some(_) if added.is_empty() => return Ok(ready),
            Some(version) => written = written.statement(touch(&owner, version)),
            None => {}
        }
        let fingerprints: Vec<String> = added.iter().map(|certificate| hex(&certificate.fingerprint.sha256)).collect();
        ready.certificates = added.iter().map(|certificate| certificate.fingerprint.sha256).collect();
        let detail = json!({ "id": owner.id(), "certificates": fingerprints });
        let kind = Object { kind: owner.kind().as_str(), id: None };
        let record = audit::record(import.caller, Some(project), "device-registry-imported", kind, &detail, self.now());
        ready.changes = written.with(ReadyCredentials::of(added).changes(project)).audit(record);
        Ok(ready)
    }

    /// Whether somebody gave it what it connects with, since it was taken over.
    async fn has_credentials(&self, owner: &Owner) -> Result<bool, Setback> {
        let has_password = !credentials::passwords(&self.db, owner).await?.is_empty();
        Ok(has_password || !credentials::certificates(&self.db, owner).await?.is_empty())
    }

    /// Refuses a new object that the schema would refuse, or a limit, so that a dry run says so, too.
    async fn must_be_possible(&self, import: &Import<'_>, object: &ImportedObject) -> Result<(), Setback> {
        let id = object.owner().id().to_owned();
        // Credentials belong to an id, so ids of different kinds are different, too.
        let is_taken = registries::by_id(&self.db, &id).await?.is_some()
            || devices::by_id(&self.db, &id).await?.is_some()
            || brokers::by_id(&self.db, &id).await?.is_some();
        if is_taken {
            return Err(Error::already_exists(format!("the id {id} is in use elsewhere")).into());
        }
        match object {
            ImportedObject::Registry(registry) => self.must_have_room_for_registry(registry.folder.project).await?,
            ImportedObject::Device(device) => self.must_have_room_for_device(device.project).await?,
            ImportedObject::Broker(_) => {}
        }
        if import.mode == ImportMode::Write {
            return Ok(());
        }
        let constraint = match object {
            ImportedObject::Registry(registry) => {
                let other = registries::by_name(&self.db, &registry.folder, &registry.name).await?;
                other.map(|_| registries::UNIQUE_NAME)
            }
            ImportedObject::Device(device) => {
                let other = devices::by_name(&self.db, &device.registry, &device.name).await?;
                other.map(|_| devices::UNIQUE_NAME)
            }
            ImportedObject::Broker(broker) => {
                let other = brokers::by_name(&self.db, &broker.folder, &broker.name).await?;
                other.map(|_| brokers::UNIQUE_NAME)
            }
        };
        constraint.map_or(Ok(()), |constraint| Err(Setback::Conflict(constraint.to_owned())))
    }

    /// The registry whose aliases a device's are decided on, as it is now.
    async fn held_registry(&self, import: &Import<'_>, device: &Device) -> Result<Option<(RegistryId, i64)>, Setback> {
        let is_there = registries::by_id(&self.db, device.registry.as_str()).await?.is_some();
        match import.mode == ImportMode::DryRun && !is_there {
            // It may be one that is still to come, and has no aliases.
            true => Ok(Some((device.registry.clone(), 0))),
            false => self.room_for_aliases(device).await,
        }
    }

    /// The object in its place, and its version when it is there already.
    async fn placed(
        &self,
        import: &Import<'_>,
        object: &ImportedObject,
    ) -> Result<(ImportedObject, Option<i64>), Setback> {
        let elsewhere = |id: &str| Error::already_exists(format!("the id {id} is in use elsewhere"));
        match object {
            ImportedObject::Registry(registry) => match registries::by_id(&self.db, registry.id.as_str()).await? {
                Some(there) if there.folder.project != registry.folder.project => {
                    Err(elsewhere(registry.id.as_str()).into())
                }
                there => Ok((object.clone(), there.map(|there| there.version))),
            },
            ImportedObject::Broker(broker) => match brokers::by_id(&self.db, broker.id.as_str()).await? {
                Some(there) if there.folder.project != broker.folder.project => {
                    Err(elsewhere(broker.id.as_str()).into())
                }
                there => Ok((object.clone(), there.map(|there| there.version))),
            },
            ImportedObject::Device(device) => {
                let device = self.placed_device(import, device.clone()).await?;
                match devices::by_id(&self.db, device.id.as_str()).await? {
                    Some((there, _)) if there.registry != device.registry => Err(elsewhere(device.id.as_str()).into()),
                    there => Ok((ImportedObject::Device(device), there.map(|(there, _)| there.version))),
                }
            }
        }
    }

    async fn placed_device(&self, import: &Import<'_>, mut device: Device) -> Result<Device> {
        match self.registry_for(import.caller, device.registry.as_str(), Action::WriteRegistry).await {
            Ok(registry) => {
                device.project = registry.folder.project;
                device.folder_key = registry.folder.key;
            }
            // In a dry run it may be one that is still to come, in the project that the device names.
            Err(error) if import.mode == ImportMode::DryRun && error.reason() == Some(Reason::NotFound) => {}
            Err(error) => return Err(error),
        }
        device.topic_aliases = parse_aliases(&device.topic_aliases, &device.id)
            .map_err(|violations| Refusal::violations(Reason::Invalid, violations))?;
        Ok(device)
    }

    /// A certificate that is to be added, when it is not there; and what is to be said of it.
    async fn ready_certificate(
        &self,
        import: &Import<'_>,
        given: &ImportedCertificate,
        owner: &Owner,
        project: ProjectId,
        registry: Option<RegistryId>,
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
        if let Some(owners) = import.shared.get(&certificate.fingerprint.sha256) {
            let owners = owners.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
            let reason = format!("{owners} share it, so it is given to none of them: give each one of its own");
            lines.push(of(ImportOutcome::Notice, &sha256, reason));
            return Ok(None);
        }
        let query = FingerprintQuery::Sha256(certificate.fingerprint.sha256);
        if let Some(there) = credentials::certificate(&self.db, &query).await? {
            if there.owner == *owner {
                lines.push(of(ImportOutcome::Kept, &sha256, "it is there already".into()));
            } else {
                lines.push(of(ImportOutcome::Failed, &sha256, "it is registered for somebody else already".into()));
            }
            return Ok(None);
        }
        if given.state != CertificateState::Revoked
            && credentials::was_revoked(&self.db, &certificate.fingerprint.sha256).await?
        {
            let reason = "it was revoked here, which is final: give a new one".into();
            lines.push(of(ImportOutcome::Failed, &sha256, reason));
            return Ok(None);
        }
        certificate.fingerprint.imported = Some(given.fingerprint.clone()).filter(|name| !name.is_empty());
        certificate.created_at = given.created_at.unwrap_or(now);
        certificate.state = given.state;
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

/// What holds for a whole import.
struct Import<'a> {
    caller: &'a Caller,
    mode: ImportMode,
    /// Certificates that several owners of the import have, and these owners.
    shared: HashMap<[u8; 32], BTreeSet<Owner>>,
}

/// What is to be written for one object, and said once it is.
#[derive(Default)]
struct Ready {
    lines: Vec<ImportLine>,
    /// Nothing, when all of it is there already.
    changes: Changes,
    /// The registry whose aliases were looked at, as it was then.
    held: Option<(RegistryId, i64)>,
    aliases: Vec<String>,
    certificates: Vec<[u8; 32]>,
}

/// Several objects that are written in one commit.
#[derive(Default)]
struct Whole {
    changes: Changes,
    held: HashMap<RegistryId, i64>,
    aliases: BTreeSet<(RegistryId, String)>,
    certificates: HashSet<[u8; 32]>,
}

impl Whole {
    /// Adds an object, unless it cannot stand beside those that are in it.
    fn takes_in(&mut self, ready: &Ready) -> bool {
        if ready.certificates.iter().any(|sha256| self.certificates.contains(sha256)) {
            return false;
        }
        if let Some((registry, version)) = &ready.held {
            if self.held.get(registry).is_some_and(|other| other != version) {
                return false;
            }
            if ready.aliases.iter().any(|alias| self.has_clash(registry, alias)) {
                return false;
            }
            if self.held.insert(registry.clone(), *version).is_none() {
                self.changes = std::mem::take(&mut self.changes).statement(registries::touch(registry, *version));
            }
            self.aliases.extend(ready.aliases.iter().map(|alias| (registry.clone(), alias.clone())));
        }
        self.certificates.extend(&ready.certificates);
        self.changes = std::mem::take(&mut self.changes).with(ready.changes.clone());
        true
    }

    /// Of the aliases in their order, what has a prefix follows it, and what is a prefix of it stands right before it.
    fn has_clash(&self, registry: &RegistryId, alias: &str) -> bool {
        let place = (registry.clone(), alias.to_owned());
        let is_clash = |other: Option<&(RegistryId, String)>| {
            other.is_some_and(|(of, other)| of == registry && alias::clash(alias, other))
        };
        is_clash(self.aliases.range(..=&place).next_back()) || is_clash(self.aliases.range(&place..).next())
    }
}

/// Certificates that several owners have. What cannot be read is nobody's.
fn shared_certificates(items: &[ImportedItem]) -> HashMap<[u8; 32], BTreeSet<Owner>> {
    let mut owners: HashMap<[u8; 32], BTreeSet<Owner>> = HashMap::new();
    for item in items {
        for given in &item.certificates {
            if let Ok(handed_in) = HandedIn::read(&given.data, "certificate_data") {
                owners.entry(handed_in.certificate.sha256()).or_default().insert(item.object.owner());
            }
        }
    }
    owners.retain(|_, owners| owners.len() > 1);
    owners
}

fn insertion(object: &ImportedObject) -> Changes {
    match object {
        ImportedObject::Registry(registry) => Changes::new().statement(registries::insert(registry)),
        ImportedObject::Broker(broker) => Changes::new().statement(brokers::insert(broker)),
        ImportedObject::Device(device) => devices::insert(device),
    }
}

fn refused(item: &ImportedItem, error: &Error) -> Vec<ImportLine> {
    vec![line(&item.object.owner(), ImportOutcome::Failed, reason_of(error))]
}

fn clashes_in_import() -> Error {
    Error::already_exists(
        "one of its aliases or certificates cannot stand beside those of another object of this import",
    )
}

fn needs_password(owner: &Owner) -> ImportLine {
    let kind = owner.kind().as_str();
    let reason =
        format!("the {kind} has no certificate, so it used a password, which cannot be taken over: add a new one");
    ImportLine { kind: "password", ..line(owner, ImportOutcome::Notice, reason) }
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

/// Who has more than the limit has at the vendor keeps them; only what cannot be meant is refused.
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
