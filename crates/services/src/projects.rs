//! Projects: making, finding, changing and deleting them. Who makes a project is its admin.

use crate::audit::{self, Object};
use crate::context::{Context, failed};
use async_recursion::async_recursion as compiled_here;
use domain::caller::{Caller, OrganizationRole};
use domain::identity::{Membership, Organization, PROJECT_KIND_CERTIFICATES, Project, RoleAssignment};
use domain::permission::{Action, ObjectFields};
use domain::slug::{PROJECT_SLUG_CHARACTERS, parse_slug, slugify};
use domain::{Error, ProjectId, Result};
use serde_json::json;
use store::{Changes, StoreError};

/// What a project is made with.
pub struct NewProject {
    /// Its name.
    pub name: String,
    /// Its short name; made from the name when absent.
    pub slug: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Whether it refuses to be deleted.
    pub has_delete_protection: bool,
}

/// What can change in a project. Absent stays as it is.
#[derive(Default)]
pub struct ProjectChange {
    /// Its name.
    pub name: Option<String>,
    /// Its short name.
    pub slug: Option<String>,
    /// What it is for.
    pub description: Option<Option<String>>,
    /// Whether it refuses to be deleted.
    pub has_delete_protection: Option<bool>,
}

impl Context {
    /// Makes a project for certificates, with the caller as its admin.
    #[compiled_here]
    pub async fn create_project(&self, caller: &Caller, new: NewProject) -> Result<Project> {
        match caller.organization_role {
            OrganizationRole::Admin | OrganizationRole::Member => {}
            OrganizationRole::NoAccess => {
                return Err(Error::permission_denied("your role in the organisation does not allow making projects"));
            }
        }
        let now = self.now();
        let slug = match new.slug {
            Some(slug) => checked_slug(&slug)?,
            None => format!("{}-{}", short(&slugify(&new.name)), &self.random.hex(2)),
        };
        let project = Project {
            id: self.new_id(),
            organization: caller.organization,
            name: new.name,
            slug,
            description: new.description,
            kind: PROJECT_KIND_CERTIFICATES.into(),
            has_delete_protection: new.has_delete_protection,
            created_at: now,
            updated_at: now,
        };
        let mut changes = Changes::new()
            .statement(store::project::insert(&project))
            .audit(audit::record(
                caller,
                Some(project.id),
                "project-created",
                Object::new("project", project.id),
                &json!({ "slug": project.slug }),
                now,
            ))
            .configuration();
        if let Some(identity) = caller.identity() {
            changes = changes.statement(store::identity::insert_membership(&Membership {
                id: self.new_id(),
                project: project.id,
                identity,
                identity_name: String::new(),
                roles: vec![RoleAssignment::permanent("admin")],
                created_at: now,
                updated_at: now,
            }));
        }
        self.db.commit(changes).await.map_err(|error| taken(error, &project.slug))?;
        Ok(project)
    }

    /// The projects that the caller is a member of.
    #[compiled_here]
    pub async fn projects(&self, caller: &Caller) -> Result<Vec<Project>> {
        let projects = store::project::list(&self.db, caller.organization).await.map_err(failed)?;
        Ok(projects.into_iter().filter(|project| caller.projects.contains_key(&project.id)).collect())
    }

    /// A project by its id, for its members.
    #[compiled_here]
    pub async fn project(&self, caller: &Caller, id: ProjectId) -> Result<Project> {
        let project = store::project::by_id(&self.db, caller.organization, id).await.map_err(failed)?;
        let project = project.ok_or_else(|| Error::not_found(format!("there is no project {id}")))?;
        caller.rules(project.id)?;
        Ok(project)
    }

    /// A project by its short name, for its members.
    #[compiled_here]
    pub async fn project_by_slug(&self, caller: &Caller, slug: &str) -> Result<Project> {
        let project = store::project::by_slug(&self.db, caller.organization, slug).await.map_err(failed)?;
        let project = project.ok_or_else(|| Error::not_found(format!("there is no project with the slug {slug}")))?;
        caller.rules(project.id)?;
        Ok(project)
    }

    /// The project that a request means: the one it names, or the organisation's default one.
    #[compiled_here]
    pub async fn project_for(&self, caller: &Caller, named: Option<ProjectId>) -> Result<ProjectId> {
        match (named, caller.default_project) {
            (Some(id), _) => Ok(self.certificate_project(caller, id).await?.id),
            (None, Some(id)) => {
                caller.rules(id)?;
                Ok(id)
            }
            (None, None) => Err(Error::not_found("the organisation has no project for certificates; make one first")),
        }
    }

    /// A project by its id that is one for certificates.
    #[compiled_here]
    pub async fn certificate_project(&self, caller: &Caller, id: ProjectId) -> Result<Project> {
        let project = store::project::by_id(&self.db, caller.organization, id).await.map_err(failed)?;
        let project = project.ok_or_else(|| Error::not_found(format!("there is no project {id}")))?;
        must_be_for_certificates(&project)?;
        caller.rules(project.id)?;
        Ok(project)
    }

    /// A project by its short name that is one for certificates.
    #[compiled_here]
    pub async fn certificate_project_by_slug(&self, caller: &Caller, slug: &str) -> Result<Project> {
        let project = store::project::by_slug(&self.db, caller.organization, slug).await.map_err(failed)?;
        let project = project.ok_or_else(|| Error::not_found(format!("there is no project with the slug {slug}")))?;
        must_be_for_certificates(&project)?;
        caller.rules(project.id)?;
        Ok(project)
    }

    /// Changes a project.
    #[compiled_here]
    pub async fn change_project(&self, caller: &Caller, id: ProjectId, change: ProjectChange) -> Result<Project> {
        let mut project = self.project(caller, id).await?;
        caller.may(project.id, Action::EditProject, &ObjectFields::unknown())?;
        let now = self.now();
        project.name = change.name.unwrap_or(project.name);
        project.description = change.description.unwrap_or(project.description);
        project.has_delete_protection = change.has_delete_protection.unwrap_or(project.has_delete_protection);
        if let Some(slug) = change.slug {
            project.slug = checked_slug(&slug)?;
        }
        project.updated_at = now;
        let changes = Changes::new()
            .statement(store::project::update(&project))
            .audit(audit::record(
                caller,
                Some(project.id),
                "project-changed",
                Object::new("project", project.id),
                &json!({ "slug": project.slug, "name": project.name }),
                now,
            ))
            .configuration();
        self.db.commit(changes).await.map_err(|error| taken(error, &project.slug))?;
        Ok(project)
    }

    /// Deletes a project. What was revoked in it stays revoked, and its lists stay up.
    #[compiled_here]
    pub async fn delete_project(&self, caller: &Caller, project: Project) -> Result<Project> {
        caller.may(project.id, Action::DeleteProject, &ObjectFields::unknown())?;
        if project.has_delete_protection {
            return Err(Error::forbidden("the project is protected from deletion; take the protection off first"));
        }
        let now = self.now();
        let changes = Changes::new()
            .statement(store::project::delete(caller.organization, project.id, now))
            .audit(audit::record(
                caller,
                Some(project.id),
                "project-deleted",
                Object::new("project", project.id),
                &json!({ "slug": project.slug }),
                now,
            ))
            .configuration();
        self.commit(changes).await?;
        Ok(project)
    }

    /// The caller's organisation.
    #[compiled_here]
    pub async fn organization(&self, caller: &Caller) -> Result<Organization> {
        let organization = store::project::organization(&self.db, caller.organization).await.map_err(failed)?;
        organization.ok_or_else(|| Error::not_found("your organisation is gone"))
    }
}

fn must_be_for_certificates(project: &Project) -> Result<()> {
    if project.kind == PROJECT_KIND_CERTIFICATES {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "project {} is of type {}, not {PROJECT_KIND_CERTIFICATES}",
        project.slug, project.kind
    )))
}

fn checked_slug(slug: &str) -> Result<String> {
    parse_slug(slug, PROJECT_SLUG_CHARACTERS).map_err(|problem| Error::invalid(format!("slug {problem}")))
}

fn short(slug: &str) -> &str {
    let end = slug.char_indices().nth(50).map_or(slug.len(), |(position, _)| position);
    match slug[..end].trim_end_matches('-') {
        "" => "project",
        short => short,
    }
}

fn taken(error: StoreError, slug: &str) -> Error {
    match error {
        StoreError::Conflict { .. } => {
            Error::already_exists(format!("there is already a project with the slug {slug}; choose another"))
        }
        other => failed(other),
    }
}
