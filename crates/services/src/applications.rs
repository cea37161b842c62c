//! Applications: making, finding, changing and deleting them (contract §8). What is attached to them is in
//! `application_profiles.rs`, who is a member in `application_members.rs`.

use crate::audit::{self, Object};
use crate::context::{Context, failed};
use crate::visible::VisiblePage;
use async_recursion::async_recursion as compiled_here;
use domain::application::{APPLICATION_NAME_CHARACTERS, Application};
use domain::caller::Caller;
use domain::permission::{Action, Field, ObjectFields};
use domain::slug::parse_slug;
use domain::{ApplicationId, Error, ProfileId, ProjectId, Result};
use serde_json::{Value, json};
use std::borrow::Cow;
pub use store::application::ListedApplication;
use store::{Changes, StoreError};

/// What an application is made with.
pub struct NewApplication {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The profiles that are attached to it from the first.
    pub profiles: Vec<ProfileId>,
}

/// What can change in an application. Absent stays as it is.
#[derive(Default)]
pub struct ApplicationChange {
    /// Its name.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<Option<String>>,
}

/// An application, and the caller with the rights that it has over what belongs to it.
pub(crate) struct Entered<'a> {
    pub(crate) application: Application,
    pub(crate) caller: Cow<'a, Caller>,
}

impl Context {
    /// Makes an application. Its maker is no member of it: the project's role goes on to say what the maker may do.
    #[compiled_here]
    pub async fn create_application(
        &self,
        caller: &Caller,
        project: ProjectId,
        new: NewApplication,
    ) -> Result<Application> {
        let name = checked_name(&new.name)?;
        caller.may(project, Action::CreateApplication, &about(&name))?;
        let now = self.now();
        let application = Application {
            id: self.new_id(),
            project,
            name,
            description: new.description,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        let mut changes = Changes::new().statement(store::application::insert(&application));
        let mut detail = json!({});
        if !new.profiles.is_empty() {
            let attached = self.attachments(caller, &application, &new.profiles, &[]).await?;
            detail["profiles"] = json!(attached.iter().map(|(_, slug)| slug).collect::<Vec<_>>());
            for (attachment, _) in &attached {
                changes = changes.statement(store::application::attach(attachment));
            }
        }
        self.commit_application(caller, changes, &application, "application-created", detail).await?;
        Ok(application)
    }

    /// An application by its id.
    #[compiled_here]
    pub async fn application(&self, caller: &Caller, id: ApplicationId) -> Result<Application> {
        Ok(self.enter(caller, id, Action::ReadApplication).await?.application)
    }

    /// An application by its name: of the project that is named, or of the organisation's default one.
    #[compiled_here]
    pub async fn application_by_name(
        &self,
        caller: &Caller,
        project: Option<ProjectId>,
        name: &str,
    ) -> Result<Application> {
        let project = self.project_of_applications(caller, project).await?;
        let found = store::application::by_name(&self.db, project, &name.to_ascii_lowercase()).await.map_err(failed)?;
        let Some(application) = found else {
            return Err(Error::not_found(format!("the project has no application {name}")));
        };
        let within = caller.within(Some(application.id));
        within.may(project, Action::ReadApplication, &about(&application.name))?;
        Ok(application)
    }

    /// The applications of a project that the caller may see, and how many there are.
    #[compiled_here]
    pub async fn applications(
        &self,
        caller: &Caller,
        project: Option<ProjectId>,
        search: &str,
        offset: u32,
        limit: u32,
    ) -> Result<(Vec<ListedApplication>, i64)> {
        let project = self.project_of_applications(caller, project).await?;
        if !caller.has_applications_in(project) {
            caller.may_some(project, Action::ReadApplication)?;
        }
        let mut visible = VisiblePage::new(offset, limit, caller.can_always(project, Action::ReadApplication));
        while let Some((offset, limit)) = visible.wanted() {
            let found =
                store::application::list(&self.db, project, search, offset, limit).await.map_err(failed)?.into_iter();
            visible.add(found.map(|listed| {
                let Application { id, name, .. } = &listed.application;
                let may_see = caller.within(Some(*id)).can(project, Action::ReadApplication, &about(name));
                may_see.then_some(listed)
            }))?;
        }
        let (listed, seen) = visible.finish();
        let total = match seen {
            Some(seen) => seen,
            None => store::application::count(&self.db, project, search).await.map_err(failed)?,
        };
        Ok((listed, total))
    }

    /// Changes an application.
    #[compiled_here]
    pub async fn change_application(
        &self,
        caller: &Caller,
        id: ApplicationId,
        change: ApplicationChange,
    ) -> Result<Application> {
        let Entered { mut application, caller } = self.enter(caller, id, Action::EditApplication).await?;
        if let Some(name) = change.name {
            application.name = checked_name(&name)?;
            caller.may(application.project, Action::EditApplication, &about(&application.name))?;
        }
        application.description = change.description.unwrap_or(application.description);
        application.version += 1;
        application.updated_at = self.now();
        let changes = Changes::new().statement(store::application::update(&application));
        self.commit_application(&caller, changes, &application, "application-changed", json!({})).await?;
        Ok(application)
    }

    /// Deletes an application with its attachments and memberships. Certificates stay as they are.
    #[compiled_here]
    pub async fn delete_application(&self, caller: &Caller, id: ApplicationId) -> Result<Application> {
        let Entered { application, caller } = self.enter(caller, id, Action::DeleteApplication).await?;
        let changes = Changes::new().statement(store::application::delete(application.project, id));
        self.commit_application(&caller, changes, &application, "application-deleted", json!({})).await?;
        Ok(application)
    }

    /// The caller towards what belongs to an application that it may see.
    #[compiled_here]
    pub async fn caller_within(&self, caller: &Caller, application: ApplicationId) -> Result<Caller> {
        Ok(self.enter(caller, application, Action::ReadApplication).await?.caller.into_owned())
    }

    /// Finds an application for an action on it.
    pub(crate) async fn enter<'a>(&self, caller: &'a Caller, id: ApplicationId, action: Action) -> Result<Entered<'a>> {
        let found = store::application::by_id(&self.db, caller.organization, id).await.map_err(failed)?;
        let application = found.ok_or_else(|| Error::not_found(format!("there is no application {id}")))?;
        let caller = caller.within(Some(id));
        caller.may(application.project, action, &about(&application.name))?;
        Ok(Entered { application, caller })
    }

    /// The project whose applications are meant, for its members and for those of one of its applications.
    async fn project_of_applications(&self, caller: &Caller, named: Option<ProjectId>) -> Result<ProjectId> {
        let meant = named.or(caller.default_project).filter(|project| caller.has_applications_in(*project));
        match meant {
            Some(project) => Ok(project),
            None => self.project_for(caller, named).await,
        }
    }

    pub(crate) async fn commit_application(
        &self,
        caller: &Caller,
        changes: Changes,
        application: &Application,
        event: &'static str,
        mut detail: Value,
    ) -> Result<()> {
        detail["name"] = application.name.as_str().into();
        let object = Object::new("application", application.id);
        let record = audit::record(caller, Some(application.project), event, object, &detail, self.now());
        match self.db.commit(changes.audit(record).configuration()).await {
            Ok(()) => Ok(()),
            Err(StoreError::Conflict { constraint }) if constraint == store::application::UNIQUE_NAME => {
                Err(Error::already_exists(format!("the project has an application {} already", application.name)))
            }
            Err(StoreError::Conflict { .. } | StoreError::Stale(_)) => {
                Err(Error::wrong_state(format!("the application {} was changed meanwhile", application.name)))
            }
            Err(error) => Err(failed(error)),
        }
    }
}

fn checked_name(name: &str) -> Result<String> {
    parse_slug(name, APPLICATION_NAME_CHARACTERS).map_err(|problem| Error::invalid(format!("name {problem}")))
}

/// What conditions of roles can ask about an application.
pub(crate) fn about(name: &str) -> ObjectFields {
    ObjectFields::with(Field::Name, name)
}
