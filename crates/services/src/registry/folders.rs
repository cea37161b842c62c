//! Folders: what the caller names one by, and the project that it stands for (contract §1).

use crate::context::{Context, failed};
use domain::caller::Caller;
use domain::permission::{Action, ObjectFields};
use domain::registry::Folder;
use domain::{Error, ProjectId, Result};

impl Context {
    /// The folder of that name, in which the caller may do this.
    pub(super) async fn folder(&self, caller: &Caller, id: &str, action: Action) -> Result<Folder> {
        let folder = self.named_folder(caller, id).await?;
        caller.may(folder.project, action, &ObjectFields::unknown())?;
        Ok(folder)
    }

    async fn named_folder(&self, caller: &Caller, id: &str) -> Result<Folder> {
        let unknown = || {
            Error::not_found(format!(
                "there is no folder \"{id}\": use the id or the slug of one of your projects, or \"default\""
            ))
        };
        if !is_folder_id(id) {
            return Err(Error::invalid_field(
                "folder_id",
                "pattern",
                "folder_id has 1 to 50 letters, digits, hyphens and underscores",
            ));
        }
        let configured = self.registry_settings.folders.get(id);
        let (key, name) = match configured {
            Some(name) => (id, name.as_str()),
            None => ("", id),
        };
        let project = self.project_named(caller, name).await?.ok_or_else(unknown)?;
        // Who is no member does not learn which projects there are.
        caller.projects.contains_key(&project).then_some(()).ok_or_else(unknown)?;
        Ok(Folder { project, key: key.to_owned(), id: id.to_owned() })
    }

    async fn project_named(&self, caller: &Caller, name: &str) -> Result<Option<ProjectId>> {
        if name == "default" {
            return Ok(caller.default_project);
        }
        if let Some(id) = ProjectId::parse(name) {
            return Ok(Some(id));
        }
        let project = store::project::by_slug(&self.db, caller.organization, name).await.map_err(failed)?;
        Ok(project.map(|project| project.id))
    }
}

fn is_folder_id(id: &str) -> bool {
    (1..=50).contains(&id.len()) && id.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet))
}

/// Refuses unless the caller may do this in the project of an object that was found. Who is no member of it gets the answer
/// for an object that is not there.
pub(super) fn may(caller: &Caller, project: ProjectId, action: Action, unknown: impl FnOnce() -> Error) -> Result<()> {
    if !caller.projects.contains_key(&project) {
        return Err(unknown());
    }
    caller.may(project, action, &ObjectFields::unknown())
}
