//! The profiles of an application: attaching them, and how certificates of each are come to through it (contract §8,
//! syncs §4.5).

use crate::applications::Entered;
use crate::context::{Context, failed};
use crate::issue::IssueOptions;
use crate::profiles::{about, check_chain};
use async_recursion::async_recursion as compiled_here;
use domain::application::{
    Application, ApplicationEnrollment, Attachment, PROFILES_OF_APPLICATION_MAX, RENEW_BEFORE_DAYS,
};
use domain::caller::Caller;
use domain::permission::Action;
use domain::profile::{ApiEnrollment, EstEnrollment, Profile};
use domain::{ApplicationId, Error, ProfileId, Result};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use store::Changes;
pub use store::application::AttachedProfile;

/// How certificates of an attached profile are to be come to.
pub enum EnrollmentChange {
    /// By the API, with renewal by this server or without.
    Api {
        /// Whether this server renews by itself.
        auto_renew: bool,
        /// How many days before the end; a number of ours when absent.
        renew_before_days: Option<u32>,
    },
    /// By the API no longer.
    NoApi,
    /// By EST, which is served later.
    Est {
        /// The passphrase of the first enrolment.
        passphrase: String,
        /// Whether a client certificate from elsewhere is accepted for it.
        disable_bootstrap_ca_validation: bool,
        /// The authorities whose certificates are accepted for it; those of before stay when absent.
        ca_chain: Option<String>,
    },
    /// By EST no longer.
    NoEst,
    /// By something that was never configured, no longer.
    Nothing,
}

impl Context {
    /// The profiles that are attached to an application, the last one first.
    #[compiled_here]
    pub async fn attached_profiles(&self, caller: &Caller, id: ApplicationId) -> Result<Vec<AttachedProfile>> {
        self.enter(caller, id, Action::ReadApplication).await?;
        store::application::attached(&self.db, id).await.map_err(failed)
    }

    /// Attaches profiles; those that are attached already stay as they are. Gives all that are attached now.
    #[compiled_here]
    pub async fn attach_profiles(
        &self,
        caller: &Caller,
        id: ApplicationId,
        profiles: &[ProfileId],
    ) -> Result<Vec<AttachedProfile>> {
        let Entered { application, caller } = self.enter(caller, id, Action::ReadApplication).await?;
        let there = store::application::attached(&self.db, id).await.map_err(failed)?;
        let attached = self.attachments(&caller, &application, profiles, &there).await?;
        if attached.is_empty() {
            return Ok(there);
        }
        let slugs: Vec<&String> = attached.iter().map(|(_, slug)| slug).collect();
        let detail = json!({ "profiles": slugs });
        let attach = attached.iter().map(|(attachment, _)| store::application::attach(attachment));
        let changes = attach.fold(Changes::new(), Changes::statement);
        self.commit_application(&caller, changes, &application, "application-profiles-attached", detail).await?;
        store::application::attached(&self.db, id).await.map_err(failed)
    }

    /// What attaches those of these profiles that are not attached yet, each with its slug. Members of the application
    /// issue from them, so only those attach a profile who may issue from it themselves.
    pub(crate) async fn attachments(
        &self,
        caller: &Caller,
        application: &Application,
        profiles: &[ProfileId],
        there: &[AttachedProfile],
    ) -> Result<Vec<(Attachment, String)>> {
        let mut found = Vec::new();
        for id in profiles.iter().collect::<BTreeSet<_>>() {
            if there.iter().all(|attached| attached.attachment.profile != *id) {
                found.push(self.find_profile(caller, *id).await?);
            }
        }
        let name = crate::applications::about(&application.name);
        caller.may(application.project, Action::ManageApplicationProfiles, &name)?;
        if let Some(profile) = found.iter().find(|profile| profile.project != application.project) {
            return Err(Error::invalid(format!("the profile {} belongs to another project", profile.slug)));
        }
        if there.len() + found.len() > PROFILES_OF_APPLICATION_MAX {
            return Err(Error::invalid(format!("an application has at most {PROFILES_OF_APPLICATION_MAX} profiles")));
        }
        let may_give = |profile: &&Profile| {
            [Action::ReadProfile, Action::IssueCertificate]
                .into_iter()
                .all(|action| caller.can(application.project, action, &about(&profile.slug)))
        };
        if let Some(profile) = found.iter().find(|profile| !may_give(profile)) {
            return Err(Error::permission_boundary(format!(
                "members of the application would issue from the profile {}, from which you may not issue yourself",
                profile.slug
            )));
        }
        let now = self.now();
        let attachment = |profile: Profile| {
            let attachment = Attachment {
                id: self.new_id(),
                project: application.project,
                application: application.id,
                profile: profile.id,
                enrollment: ApplicationEnrollment::default(),
                version: 1,
                created_at: now,
                updated_at: now,
            };
            (attachment, profile.slug)
        };
        Ok(found.into_iter().map(attachment).collect())
    }

    /// Detaches a profile. Certificates that were made through the application stay, and are renewed as before.
    #[compiled_here]
    pub async fn detach_profile(&self, caller: &Caller, id: ApplicationId, profile: ProfileId) -> Result<()> {
        let Entered { application, caller } = self.enter(caller, id, Action::ReadApplication).await?;
        let attached = self.attached_profile(&application, profile).await?;
        let name = crate::applications::about(&application.name);
        caller.may(application.project, Action::ManageApplicationProfiles, &name)?;
        let changes = Changes::new().statement(store::application::detach(attached.attachment.id));
        let detail = json!({ "profile": attached.slug });
        self.commit_application(&caller, changes, &application, "application-profile-detached", detail).await
    }

    /// How certificates of an attached profile are come to, and the profile itself.
    #[compiled_here]
    pub async fn application_enrollment(
        &self,
        caller: &Caller,
        id: ApplicationId,
        profile: ProfileId,
    ) -> Result<(AttachedProfile, Profile)> {
        let Entered { application, caller } = self.enter(caller, id, Action::ReadApplication).await?;
        let attached = self.attached_profile(&application, profile).await?;
        let profile = self.find_profile(&caller, profile).await?;
        Ok((attached, profile))
    }

    /// Changes how certificates of an attached profile are come to.
    #[compiled_here]
    pub async fn change_application_enrollment(
        &self,
        caller: &Caller,
        id: ApplicationId,
        profile: ProfileId,
        change: EnrollmentChange,
    ) -> Result<Attachment> {
        let Entered { application, caller } = self.enter(caller, id, Action::EditApplication).await?;
        let AttachedProfile { mut attachment, slug, .. } = self.attached_profile(&application, profile).await?;
        let before = attachment.enrollment.clone();
        self.change_enrollment_of(&mut attachment.enrollment, change).await?;
        if attachment.enrollment == before {
            return Ok(attachment);
        }
        attachment.version += 1;
        attachment.updated_at = self.now();
        let changes = Changes::new().statement(store::application::update_enrollment(&attachment));
        let detail = json!({ "profile": slug, "enrollment": shown(&attachment.enrollment) });
        self.commit_application(&caller, changes, &application, "application-enrollment-changed", detail).await?;
        Ok(attachment)
    }

    async fn change_enrollment_of(
        &self,
        enrollment: &mut ApplicationEnrollment,
        change: EnrollmentChange,
    ) -> Result<()> {
        match change {
            EnrollmentChange::Api { auto_renew, renew_before_days } => {
                let id = enrollment.api.as_ref().map_or_else(|| self.random.id(self.now()), |api| api.id);
                let renew_before_days = renew_before_days.or(auto_renew.then_some(RENEW_BEFORE_DAYS));
                enrollment.api = Some(ApiEnrollment { id, auto_renew, renew_before_days });
            }
            EnrollmentChange::NoApi => enrollment.api = None,
            EnrollmentChange::Est { passphrase, disable_bootstrap_ca_validation, ca_chain } => {
                check_chain(ca_chain.as_deref())?;
                let before = enrollment.est.take();
                let id = before.as_ref().map_or_else(|| self.random.id(self.now()), |est| est.id);
                let ca_chain = ca_chain.or(before.and_then(|est| est.ca_chain));
                let passphrase_hash = self.passphrase_hash(passphrase).await?;
                enrollment.est = Some(EstEnrollment { id, disable_bootstrap_ca_validation, passphrase_hash, ca_chain });
            }
            EnrollmentChange::NoEst => enrollment.est = None,
            EnrollmentChange::Nothing => {}
        }
        Ok(())
    }

    async fn attached_profile(&self, application: &Application, profile: ProfileId) -> Result<AttachedProfile> {
        let attached = store::application::attachment(&self.db, application.id, profile).await.map_err(failed)?;
        attached.ok_or_else(|| {
            Error::not_found(format!("the application {} has no profile {profile} attached", application.name))
        })
    }

    /// The attachment that a certificate is asked for by, when it is asked for through an application. A renewal goes on
    /// by the rights over the profile, also when that was detached or the application is gone.
    pub(crate) async fn attached_to_issue_by(
        &self,
        caller: &Caller,
        profile: Option<&Profile>,
        options: &IssueOptions,
    ) -> Result<Option<AttachedProfile>> {
        let (Some(id), Some(profile)) = (options.application, profile) else { return Ok(None) };
        let attached = store::application::attachment(&self.db, id, profile.id).await.map_err(failed)?;
        if options.renews.is_some() {
            return Ok(attached);
        }
        let application = self.enter(caller, id, Action::ReadApplication).await?.application;
        let Some(attached) = attached else {
            return Err(Error::invalid(format!(
                "the profile {} is not attached to the application {}",
                profile.slug, application.name
            )));
        };
        if attached.attachment.enrollment.api.is_none() {
            return Err(Error::forbidden(format!(
                "the application {} does not issue from the profile {} by the API: configure that first, at \
                 .../enrollment/api",
                application.name, profile.slug
            )));
        }
        Ok(Some(attached))
    }
}

/// What the audit says of a configuration: no passphrase in any form.
fn shown(enrollment: &ApplicationEnrollment) -> Value {
    let mut shown = json!({});
    if let Some(api) = &enrollment.api {
        shown["api"] = json!({ "autoRenew": api.auto_renew, "renewBeforeDays": api.renew_before_days });
    }
    if let Some(est) = &enrollment.est {
        shown["est"] = json!({ "disableBootstrapCaValidation": est.disable_bootstrap_ca_validation });
    }
    shown
}
