//! Registries: making, finding, changing, refusing and deleting them.

use super::credentials::{NewCredentials, taken};
use super::folders::may;
use super::operations::{Asked, Decided, Setback, decide_again};
use super::page::{self, Page, PageRequest};
use crate::context::{Context, failed};
use async_recursion::async_recursion as compiled_here;
use domain::caller::Caller;
use domain::permission::Action;
use domain::registry::alias::ALIASES_PER_DEVICE_MAX;
use domain::registry::operation::{Operation, Outcome};
use domain::registry::{AccessEnd, DeviceId, Labels, LogOptions, LogOptionsChange, Owner, Registry, RegistryId};
use domain::{Error, ProjectId, Result, Time};
use serde_json::json;
use store::Changes;
use store::registry::{credentials, devices, registries};

/// What a registry is made with.
pub struct NewRegistry {
    /// The folder, as the caller names it.
    pub folder: String,
    /// Its name; may be empty.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its labels.
    pub labels: Labels,
    /// Where its connections are logged.
    pub log_options: LogOptions,
    /// What it proves itself with.
    pub credentials: NewCredentials,
}

/// What changes in a registry. Absent stays as it is.
#[derive(Clone, Default)]
pub struct RegistryChange {
    /// Its name.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Its labels, all of them.
    pub labels: Option<Labels>,
    /// Where its connections are logged.
    pub log_options: LogOptionsChange,
}

const EVENT_KIND: &str = "registry";

impl Context {
    /// A registry by its id.
    #[compiled_here]
    pub async fn registry(&self, caller: &Caller, id: &str) -> Result<Registry> {
        self.registry_for(caller, id, Action::ReadRegistry).await
    }

    /// A registry in whose project the caller may do this.
    pub(super) async fn registry_for(&self, caller: &Caller, id: &str, action: Action) -> Result<Registry> {
        let unknown = || Error::not_found(format!("there is no registry {id}"));
        let registry = registries::by_id(&self.db, id).await.map_err(failed)?.ok_or_else(unknown)?;
        may(caller, registry.folder.project, action, unknown)?;
        Ok(registry)
    }

    /// A registry by its name.
    #[compiled_here]
    pub async fn registry_named(&self, caller: &Caller, folder: &str, name: &str) -> Result<Registry> {
        let folder = self.folder(caller, folder, Action::ReadRegistry).await?;
        let registry = registries::by_name(&self.db, &folder, name).await.map_err(failed)?;
        registry.ok_or_else(|| Error::not_found(format!("there is no registry \"{name}\" in folder {}", folder.id)))
    }

    /// The registries of a folder, oldest first.
    #[compiled_here]
    pub async fn registries(&self, caller: &Caller, folder: &str, page: &PageRequest) -> Result<Page<Registry>> {
        let folder = self.folder(caller, folder, Action::ReadRegistry).await?;
        let list = format!("registries of {} {}", folder.project, folder.key);
        let (number, id) = page.after(&list, (i64::MIN, ""))?;
        let after = (Time::from_millis(number), id);
        let rows = registries::page(&self.db, &folder, &after, page.rows()).await.map_err(failed)?;
        Ok(page.page(&list, rows, |registry| (registry.created_at.millis(), registry.id.as_str())))
    }

    /// The aliases of all devices of a registry: device, what it stands for, alias.
    #[compiled_here]
    pub async fn topic_aliases(
        &self,
        caller: &Caller,
        registry: &str,
        page: &PageRequest,
    ) -> Result<Page<(DeviceId, String, String)>> {
        let registry = self.registry(caller, registry).await?;
        let list = format!("aliases of {}", registry.id);
        // By device, and how many of its aliases were given already: an alias itself may be longer than a token.
        let (given, device) = page.after(&list, (0, ""))?;
        let mut rows = devices::aliases(&self.db, &registry.id, &device, page.rows()).await.map_err(failed)?;
        let given = usize::try_from(given).unwrap_or(0).min(ALIASES_PER_DEVICE_MAX);
        let skipped = rows.iter().take(given).take_while(|(id, ..)| id.as_str() == device).count();
        rows.drain(..skipped);
        let size = usize::try_from(page.size).unwrap_or(usize::MAX);
        let has_more = rows.len() > size;
        rows.truncate(size);
        let next = match rows.last() {
            Some((last, ..)) if has_more => {
                let here = rows.iter().rev().take_while(|(id, ..)| id == last).count();
                let before = if last.as_str() == device { skipped } else { 0 };
                page::token(&list, (i64::try_from(here + before).unwrap_or(0), last.as_str()))
            }
            _ => String::new(),
        };
        Ok(Page { items: rows, next })
    }

    /// Makes a registry, with what it proves itself with, or nothing of it.
    #[compiled_here]
    pub async fn create_registry(&self, asked: &Asked<'_>, new: NewRegistry) -> Result<Operation> {
        if let Some(operation) = self.repeated(asked).await? {
            return Ok(operation);
        }
        let began = self.now();
        let folder = self.folder(asked.caller, &new.folder, Action::WriteRegistry).await?;
        self.must_have_room_for_registry(folder.project).await?;
        let registry = Registry {
            id: RegistryId::from_random(self.random.octets()),
            name: new.name,
            description: new.description,
            labels: new.labels,
            log_options: new.log_options.or_folder(&folder.id),
            log_group_id: String::new(),
            is_disabled: false,
            version: 1,
            created_at: began,
            folder,
        };
        let project = registry.folder.project;
        let owner = Owner::Registry(registry.id.clone());
        let ready = self.ready_credentials(&new.credentials, &owner, project, Some(&registry.id), began).await?;
        let decided = Decided {
            project,
            event: "yandex.cloud.audit.iot.devices.CreateRegistry",
            kind: EVENT_KIND,
            detail: json!({ "id": registry.id.as_str(), "name": registry.name, "certificates": ready.fingerprints() }),
            changes: Changes::new().statement(registries::insert(&registry)).with(ready.changes(project)),
            ends: Vec::new(),
            began,
            outcome: Outcome::CreateRegistry(registry.clone()),
        };
        let done = self.carry_out(asked, decided).await;
        done.map_err(|setback| setback.into_error(|constraint| clash(constraint, &registry.name)))
    }

    /// Changes a registry.
    #[compiled_here]
    pub async fn update_registry(&self, asked: &Asked<'_>, id: &str, change: RegistryChange) -> Result<Operation> {
        if let Some(operation) = self.repeated(asked).await? {
            return Ok(operation);
        }
        let name = change.name.clone().unwrap_or_default();
        decide_again!(self.try_update_registry(asked, id, change.clone()))
            .map_err(|setback| setback.into_error(|constraint| clash(constraint, &name)))
    }

    async fn try_update_registry(
        &self,
        asked: &Asked<'_>,
        id: &str,
        change: RegistryChange,
    ) -> Result<Operation, Setback> {
        let began = self.now();
        let mut registry = self.registry_for(asked.caller, id, Action::WriteRegistry).await?;
        registry.name = change.name.unwrap_or(registry.name);
        registry.description = change.description.unwrap_or(registry.description);
        registry.labels = change.labels.unwrap_or(registry.labels);
        registry.log_options = registry.log_options.changed(change.log_options).or_folder(&registry.folder.id);
        registry.version += 1;
        let changes = Changes::new().statement(registries::update(&registry));
        let event = "yandex.cloud.audit.iot.devices.UpdateRegistry";
        self.carry_out(asked, written(registry, began, event, changes, Outcome::UpdateRegistry)).await
    }

    /// Refuses a registry and its devices: their sessions are closed.
    #[compiled_here]
    pub async fn disable_registry(&self, asked: &Asked<'_>, id: &str) -> Result<Operation> {
        self.switch_registry(asked, id, Switch::Off).await
    }

    /// Lets a registry and its devices in again.
    #[compiled_here]
    pub async fn enable_registry(&self, asked: &Asked<'_>, id: &str) -> Result<Operation> {
        self.switch_registry(asked, id, Switch::On).await
    }

    async fn switch_registry(&self, asked: &Asked<'_>, id: &str, switch: Switch) -> Result<Operation> {
        if let Some(operation) = self.repeated(asked).await? {
            return Ok(operation);
        }
        decide_again!(self.try_switch_registry(asked, id, switch)).map_err(|setback| setback.into_error(|_| None))
    }

    async fn try_switch_registry(&self, asked: &Asked<'_>, id: &str, switch: Switch) -> Result<Operation, Setback> {
        let began = self.now();
        let mut registry = self.registry_for(asked.caller, id, Action::WriteRegistry).await?;
        registry.is_disabled = matches!(switch, Switch::Off);
        registry.version += 1;
        let changes = Changes::new().statement(registries::update(&registry));
        let owner = Owner::Registry(registry.id.clone());
        let decided = match switch {
            Switch::Off => Decided {
                ends: vec![AccessEnd::Owner(owner)],
                ..written(
                    registry,
                    began,
                    "yandex.cloud.audit.iot.devices.DisableRegistry",
                    changes,
                    Outcome::DisableRegistry,
                )
            },
            Switch::On => written(
                registry,
                began,
                "yandex.cloud.audit.iot.devices.EnableRegistry",
                changes,
                Outcome::EnableRegistry,
            ),
        };
        self.carry_out(asked, decided).await
    }

    /// Deletes a registry without devices, and what it proves itself with.
    #[compiled_here]
    pub async fn delete_registry(&self, asked: &Asked<'_>, id: &str) -> Result<Operation> {
        if let Some(operation) = self.repeated(asked).await? {
            return Ok(operation);
        }
        decide_again!(self.try_delete_registry(asked, id))
            .map_err(|setback| setback.into_error(|constraint| (constraint == "foreign key").then(|| has_devices(id))))
    }

    async fn try_delete_registry(&self, asked: &Asked<'_>, id: &str) -> Result<Operation, Setback> {
        let began = self.now();
        let registry = self.registry_for(asked.caller, id, Action::WriteRegistry).await?;
        if devices::any_of(&self.db, &registry.id).await? {
            return Err(has_devices(id).into());
        }
        let owner = Owner::Registry(registry.id.clone());
        let decided = Decided {
            project: registry.folder.project,
            event: "yandex.cloud.audit.iot.devices.DeleteRegistry",
            kind: EVENT_KIND,
            detail: json!({ "id": registry.id.as_str(), "name": registry.name }),
            changes: credentials::delete_all(&owner).with(registries::delete(&registry.id, registry.version)),
            ends: vec![AccessEnd::Owner(owner)],
            began,
            outcome: Outcome::DeleteRegistry(registry.id),
        };
        self.carry_out(asked, decided).await
    }

    pub(super) async fn must_have_room_for_registry(&self, project: ProjectId) -> Result<()> {
        let Some(max) = self.registry_settings.registries_per_project else { return Ok(()) };
        let there = registries::count(&self.db, project).await.map_err(failed)?;
        super::must_be_below(there, max, "registries")
    }
}

#[derive(Clone, Copy)]
enum Switch {
    On,
    Off,
}

fn written(
    registry: Registry,
    began: Time,
    event: &'static str,
    changes: Changes,
    outcome: impl FnOnce(Registry) -> Outcome,
) -> Decided {
    Decided {
        project: registry.folder.project,
        event,
        kind: EVENT_KIND,
        detail: json!({ "id": registry.id.as_str(), "name": registry.name }),
        changes,
        ends: Vec::new(),
        began,
        outcome: outcome(registry),
    }
}

fn has_devices(id: &str) -> Error {
    Error::wrong_state(format!("the registry {id} has devices; delete them first"))
}

fn clash(constraint: &str, name: &str) -> Option<Error> {
    match constraint {
        registries::UNIQUE_NAME => {
            Some(Error::already_exists(format!("there is a registry \"{name}\" in this folder already")))
        }
        other => taken(other),
    }
}
