//! Devices: making, finding, changing and deleting them.

use super::credentials::{NewCredentials, taken};
use super::folders::may;
use super::operations::{Asked, Decided, Setback, decide_again};
use super::page::{Page, PageRequest};
use crate::context::{Context, failed};
use async_recursion::async_recursion as compiled_here;
use domain::caller::Caller;
use domain::permission::Action;
use domain::registry::alias::parse_aliases;
use domain::registry::operation::{Operation, Outcome};
use domain::registry::{AccessEnd, Device, DeviceId, Labels, Monitoring, Owner, RegistryId};
use domain::{Error, ProjectId, Reason, Refusal, Result, Time};
use serde_json::json;
use std::collections::BTreeMap;
use store::Changes;
use store::registry::{credentials, devices, registries};

/// A device, and when it was last seen.
pub type SeenDevice = (Device, Monitoring);

/// What a device is made with.
#[derive(Default)]
pub struct NewDevice {
    /// Its registry.
    pub registry: String,
    /// Its name; may be empty.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its labels.
    pub labels: Labels,
    /// Other names of its topics; `{id}` in what they stand for is the new id.
    pub topic_aliases: BTreeMap<String, String>,
    /// What it proves itself with.
    pub credentials: NewCredentials,
}

/// What changes in a device. Absent stays as it is.
#[derive(Clone, Default)]
pub struct DeviceChange {
    /// Its name.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Its labels, all of them.
    pub labels: Option<Labels>,
    /// Other names of its topics, all of them.
    pub topic_aliases: Option<BTreeMap<String, String>>,
}

/// Whose devices are listed.
pub enum DevicesOf {
    /// Those of a registry.
    Registry(String),
    /// Those of all registries of a folder.
    Folder(String),
}

const EVENT_KIND: &str = "device";

impl Context {
    /// A device by its id.
    #[compiled_here]
    pub async fn device(&self, caller: &Caller, id: &str) -> Result<SeenDevice> {
        self.device_for(caller, id, Action::ReadRegistry).await
    }

    async fn device_for(&self, caller: &Caller, id: &str, action: Action) -> Result<SeenDevice> {
        let unknown = || Error::not_found(format!("there is no device {id}"));
        let device = devices::by_id(&self.db, id).await.map_err(failed)?.ok_or_else(unknown)?;
        may(caller, device.0.project, action, unknown)?;
        Ok(device)
    }

    /// A device by its name.
    #[compiled_here]
    pub async fn device_named(&self, caller: &Caller, registry: &str, name: &str) -> Result<SeenDevice> {
        let registry = self.registry(caller, registry).await?;
        let device = devices::by_name(&self.db, &registry.id, name).await.map_err(failed)?;
        device.ok_or_else(|| Error::not_found(format!("there is no device \"{name}\" in registry {}", registry.id)))
    }

    /// The devices of a registry or of a folder, oldest first.
    #[compiled_here]
    pub async fn devices(&self, caller: &Caller, of: &DevicesOf, page: &PageRequest) -> Result<Page<SeenDevice>> {
        let first = (i64::MIN, "");
        let (list, rows) = match of {
            DevicesOf::Registry(id) => {
                let registry = self.registry(caller, id).await?;
                let list = format!("devices of registry {}", registry.id);
                let (number, id) = page.after(&list, first)?;
                let after = (Time::from_millis(number), id);
                (list, devices::page_of_registry(&self.db, &registry.id, &after, page.rows()).await)
            }
            DevicesOf::Folder(id) => {
                let folder = self.folder(caller, id, Action::ReadRegistry).await?;
                let list = format!("devices of folder {} {}", folder.project, folder.key);
                let (number, id) = page.after(&list, first)?;
                let after = (Time::from_millis(number), id);
                (list, devices::page_of_folder(&self.db, &folder, &after, page.rows()).await)
            }
        };
        Ok(page.page(&list, rows.map_err(failed)?, |(device, _)| (device.created_at.millis(), device.id.as_str())))
    }

    /// Makes a device, with what it proves itself with, or nothing of it.
    #[compiled_here]
    pub async fn create_device(&self, asked: &Asked<'_>, new: NewDevice) -> Result<Operation> {
        if let Some(operation) = self.repeated(asked).await? {
            return Ok(operation);
        }
        let began = self.now();
        let (device, changes, fingerprints) = self.ready_device(asked.caller, &new, began).await?;
        let mut registry_id = device.registry.clone();
        let done = decide_again!(async {
            let decided = Decided {
                project: device.project,
                event: "yandex.cloud.audit.iot.devices.CreateDevice",
                kind: EVENT_KIND,
                detail: json!({
                    "id": device.id.as_str(), "registryId": device.registry.as_str(), "name": device.name,
                    "certificates": fingerprints,
                }),
                changes: self.held_aliases(&device).await?.with(changes.clone()),
                ends: Vec::new(),
                began,
                outcome: Outcome::CreateDevice(device.clone()),
            };
            self.carry_out(asked, decided).await
        });
        let done = done.map_err(|setback| {
            setback.into_error(|constraint| {
                clash(constraint, &device.name).or_else(|| {
                    let registry = std::mem::replace(&mut registry_id, "".into());
                    (constraint == "foreign key").then(|| Error::not_found(format!("there is no registry {registry}")))
                })
            })
        })?;
        if !device.topic_aliases.is_empty() {
            self.aliases_were_changed(&device.registry).await;
        }
        Ok(done)
    }

    /// A device that is going to be made, what adds it, and the fingerprints of its certificates.
    pub(super) async fn ready_device(
        &self,
        caller: &Caller,
        new: &NewDevice,
        began: Time,
    ) -> Result<(Device, Changes, Vec<String>)> {
        let registry = self.registry_for(caller, &new.registry, Action::WriteRegistry).await?;
        self.must_have_room_for_device(registry.folder.project).await?;
        let id = DeviceId::from_random(self.random.octets());
        let device = Device {
            topic_aliases: checked_aliases(&new.topic_aliases, &id)?,
            registry: registry.id,
            project: registry.folder.project,
            folder_key: registry.folder.key,
            name: new.name.clone(),
            description: new.description.clone(),
            labels: new.labels.clone(),
            version: 1,
            created_at: began,
            id,
        };
        let owner = Owner::Device(device.id.clone());
        let ready =
            self.ready_credentials(&new.credentials, &owner, device.project, Some(&device.registry), began).await?;
        let changes = devices::insert(&device).with(ready.changes(device.project));
        Ok((device, changes, ready.fingerprints()))
    }

    /// What holds a commit to the aliases of the registry as they are now, in which those of this device have room.
    pub(super) async fn held_aliases(&self, device: &Device) -> Result<Changes, Setback> {
        let held = self.room_for_aliases(device).await?;
        let touched = held.map(|(registry, version)| registries::touch(&registry, version));
        Ok(touched.into_iter().fold(Changes::new(), Changes::statement))
    }

    /// What tells every node to read the aliases of a device's registry anew, since this device is to have none any more.
    async fn aliases_end(&self, device: &Device) -> Result<Changes, Setback> {
        if device.topic_aliases.is_empty() {
            return Ok(Changes::new());
        }
        let registry = registries::by_id(&self.db, device.registry.as_str()).await?;
        Ok(registry.map_or_else(Changes::new, |registry| {
            Changes::new().statement(registries::touch(&registry.id, registry.version))
        }))
    }

    /// Lets the sessions of this node know the aliases of a registry as they are since a commit; other nodes follow.
    pub(super) async fn aliases_were_changed(&self, registry: &RegistryId) {
        if let Err(error) = self.topic_aliases_changed(registry).await {
            tracing::warn!(%error, "the aliases of a registry are read anew within a second");
        }
    }

    /// The registry in which the aliases of this device have room, and its version; none for a device without aliases.
    pub(super) async fn room_for_aliases(&self, device: &Device) -> Result<Option<(RegistryId, i64)>, Setback> {
        if device.topic_aliases.is_empty() {
            return Ok(None);
        }
        let registry = registries::by_id(&self.db, device.registry.as_str()).await?;
        let registry = registry.ok_or_else(|| Error::not_found(format!("there is no registry {}", device.registry)))?;
        for alias in device.topic_aliases.keys() {
            if let Some((other, _)) = devices::clashing_alias(&self.db, &registry.id, &device.id, alias).await? {
                return Err(Error::already_exists(format!(
                    "the alias \"{alias}\" cannot stand beside the alias \"{other}\" of another device: of two aliases of a \
                     registry none is a prefix of the other"
                ))
                .into());
            }
        }
        Ok(Some((registry.id, registry.version)))
    }

    /// Changes a device.
    #[compiled_here]
    pub async fn update_device(&self, asked: &Asked<'_>, id: &str, change: DeviceChange) -> Result<Operation> {
        if let Some(operation) = self.repeated(asked).await? {
            return Ok(operation);
        }
        let name = change.name.clone().unwrap_or_default();
        decide_again!(self.try_update_device(asked, id, change.clone()))
            .map_err(|setback| setback.into_error(|constraint| clash(constraint, &name)))
    }

    async fn try_update_device(&self, asked: &Asked<'_>, id: &str, change: DeviceChange) -> Result<Operation, Setback> {
        let began = self.now();
        let (mut device, _) = self.device_for(asked.caller, id, Action::WriteRegistry).await?;
        device.name = change.name.unwrap_or(device.name);
        device.description = change.description.unwrap_or(device.description);
        device.labels = change.labels.unwrap_or(device.labels);
        device.version += 1;
        let (mut changes, mut has_other_aliases) = (Changes::new(), false);
        if let Some(aliases) = change.topic_aliases {
            let ended = self.aliases_end(&device).await?;
            device.topic_aliases = checked_aliases(&aliases, &device.id)?;
            let held = match device.topic_aliases.is_empty() {
                true => ended,
                false => self.held_aliases(&device).await?,
            };
            changes = held.with(devices::replace_aliases(&device));
            has_other_aliases = true;
        }
        let registry = device.registry.clone();
        let decided = Decided {
            project: device.project,
            event: "yandex.cloud.audit.iot.devices.UpdateDevice",
            kind: EVENT_KIND,
            detail: json!({ "id": device.id.as_str(), "name": device.name }),
            changes: changes.statement(devices::update(&device)),
            ends: Vec::new(),
            began,
            outcome: Outcome::UpdateDevice(device),
        };
        let done = self.carry_out(asked, decided).await?;
        if has_other_aliases {
            self.aliases_were_changed(&registry).await;
        }
        Ok(done)
    }

    /// Deletes a device with all that belongs to it: its sessions are closed.
    #[compiled_here]
    pub async fn delete_device(&self, asked: &Asked<'_>, id: &str) -> Result<Operation> {
        if let Some(operation) = self.repeated(asked).await? {
            return Ok(operation);
        }
        decide_again!(self.try_delete_device(asked, id)).map_err(|setback| setback.into_error(|_| None))
    }

    async fn try_delete_device(&self, asked: &Asked<'_>, id: &str) -> Result<Operation, Setback> {
        let began = self.now();
        let (device, _) = self.device_for(asked.caller, id, Action::WriteRegistry).await?;
        let owner = Owner::Device(device.id.clone());
        let ended = self.aliases_end(&device).await?;
        let registry = device.registry.clone();
        let decided = Decided {
            project: device.project,
            event: "yandex.cloud.audit.iot.devices.DeleteDevice",
            kind: EVENT_KIND,
            detail: json!({ "id": device.id.as_str(), "registryId": device.registry.as_str(), "name": device.name }),
            changes: ended.with(credentials::delete_all(&owner)).with(devices::delete(&device.id, device.version)),
            ends: vec![AccessEnd::Owner(owner)],
            began,
            outcome: Outcome::DeleteDevice(device.id),
        };
        let done = self.carry_out(asked, decided).await?;
        self.aliases_were_changed(&registry).await;
        Ok(done)
    }

    pub(super) async fn must_have_room_for_device(&self, project: ProjectId) -> Result<()> {
        let Some(max) = self.registry_settings.devices_per_project else { return Ok(()) };
        let there = devices::count(&self.db, project).await.map_err(failed)?;
        super::must_be_below(there, max, "devices")
    }
}

pub(super) fn checked_aliases(given: &BTreeMap<String, String>, device: &DeviceId) -> Result<BTreeMap<String, String>> {
    parse_aliases(given, device).map_err(|violations| Refusal::violations(Reason::Invalid, violations).into())
}

pub(super) fn clash(constraint: &str, name: &str) -> Option<Error> {
    match constraint {
        devices::UNIQUE_NAME => {
            Some(Error::already_exists(format!("there is a device \"{name}\" in this registry already")))
        }
        devices::UNIQUE_ALIAS => Some(Error::already_exists("one of the aliases belongs to another device already")),
        other => taken(other),
    }
}
