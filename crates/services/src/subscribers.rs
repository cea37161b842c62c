//! Subscribers (contract §7.1): making, finding, changing and deleting them, and what was issued for them. The issuing itself
//! is in `issue_from.rs`.

use crate::audit::{self, Object};
use crate::certificates::{Bundle, Record};
use crate::context::{Context, failed};
use async_recursion::async_recursion as compiled_here;
use domain::authority::Authority;
use domain::caller::Caller;
use domain::issuance::{IssuanceRequest, Subject, Wishes, alt_name_type, check_names};
use domain::permission::{Action, Field, ObjectFields};
use domain::renewal::{days_before_end, renew_at};
use domain::slug::parse_slug;
use domain::subscriber::{SUBSCRIBER_NAME_CHARACTERS, Subscriber, SubscriberDocument, SubscriberStatus};
use domain::{AuthorityId, Error, ProjectId, Result, SubscriberId};
use keys::Secret;
use serde_json::json;
use store::{Changes, StoreError};

/// What a subscriber is made with.
pub struct NewSubscriber {
    /// The authority that signs.
    pub authority: AuthorityId,
    /// Its name, a slug.
    pub name: String,
    /// Whether it is given certificates.
    pub status: SubscriberStatus,
    /// What its certificates say.
    pub document: SubscriberDocument,
}

/// What can change in a subscriber. Absent stays as it is.
#[derive(Default)]
pub struct SubscriberChange {
    /// The authority that signs.
    pub authority: Option<AuthorityId>,
    /// Its name.
    pub name: Option<String>,
    /// Whether it is given certificates.
    pub status: Option<SubscriberStatus>,
}

impl Context {
    /// Makes a subscriber.
    #[compiled_here]
    pub async fn create_subscriber(
        &self,
        caller: &Caller,
        project: ProjectId,
        new: NewSubscriber,
    ) -> Result<Subscriber> {
        let name = checked_name(&new.name)?;
        caller.may(project, Action::CreateSubscriber, &about(&name))?;
        let authority = self.authority_of_subscriber(caller, project, new.authority).await?;
        check(&new.document)?;
        let now = self.now();
        let subscriber = Subscriber {
            id: self.new_id(),
            project,
            authority: authority.id,
            name,
            status: new.status,
            version: 1,
            document: new.document,
            created_at: now,
            updated_at: now,
        };
        let changes = Changes::new().statement(store::subscriber::insert(&subscriber));
        self.commit_subscriber(caller, changes, &authority, &subscriber, "pki-subscriber-created").await?;
        Ok(subscriber)
    }

    async fn authority_of_subscriber(&self, caller: &Caller, project: ProjectId, id: AuthorityId) -> Result<Authority> {
        let authority = self.find_authority(caller, id).await?;
        match authority.project == project {
            true => Ok(authority),
            false => Err(Error::invalid(format!("the certificate authority {id} is of another project"))),
        }
    }

    /// A subscriber of a project by its name.
    #[compiled_here]
    pub async fn subscriber(&self, caller: &Caller, project: ProjectId, name: &str) -> Result<Subscriber> {
        self.subscriber_to(caller, project, name, Action::ReadSubscriber).await
    }

    /// A subscriber of a project by its name, for who may do this to it.
    #[compiled_here]
    pub async fn subscriber_to(
        &self,
        caller: &Caller,
        project: ProjectId,
        name: &str,
        action: Action,
    ) -> Result<Subscriber> {
        caller.rules(project)?;
        let subscriber = store::subscriber::by_name(&self.db, project, name).await.map_err(failed)?;
        let subscriber = subscriber.ok_or_else(|| Error::not_found(format!("there is no subscriber {name}")))?;
        caller.may(project, action, &about(&subscriber.name))?;
        Ok(subscriber)
    }

    pub(crate) async fn find_subscriber(&self, caller: &Caller, id: SubscriberId) -> Result<Subscriber> {
        let subscriber = store::subscriber::by_id(&self.db, caller.organization, id).await.map_err(failed)?;
        let subscriber = subscriber.ok_or_else(|| Error::not_found("the subscriber is not there any more"))?;
        caller.rules(subscriber.project)?;
        Ok(subscriber)
    }

    /// The subscribers of a project that the caller may see.
    #[compiled_here]
    pub async fn subscribers(&self, caller: &Caller, project: ProjectId) -> Result<Vec<Subscriber>> {
        caller.may_some(project, Action::ReadSubscriber)?;
        let all = store::subscriber::list(&self.db, project).await.map_err(failed)?;
        let is_seen = |one: &Subscriber| caller.can(project, Action::ReadSubscriber, &about(&one.name));
        Ok(all.into_iter().filter(is_seen).collect())
    }

    /// Changes a subscriber; `edit` changes what its certificates say. Those that it has stay as they are, and the newest of
    /// them is renewed as the subscriber says from now on.
    #[compiled_here]
    pub async fn change_subscriber(
        &self,
        caller: &Caller,
        subscriber: Subscriber,
        change: SubscriberChange,
        document: SubscriberDocument,
    ) -> Result<Subscriber> {
        let mut subscriber = subscriber;
        if let Some(name) = &change.name {
            subscriber.name = checked_name(name)?;
            caller.may(subscriber.project, Action::EditSubscriber, &about(&subscriber.name))?;
        }
        let authority = change.authority.unwrap_or(subscriber.authority);
        let authority = self.authority_of_subscriber(caller, subscriber.project, authority).await?;
        check(&document)?;
        subscriber.authority = authority.id;
        subscriber.status = change.status.unwrap_or(subscriber.status);
        subscriber.document = document;
        subscriber.version += 1;
        subscriber.updated_at = self.now();
        let mut changes = Changes::new()
            .statement(store::subscriber::update(&subscriber))
            .statement(store::renewal::forget_plans_of_subscriber(subscriber.id));
        if let Some(days) = subscriber.renew_before_days()
            && let Some(newest) = self.newest_of_subscriber(&subscriber).await?
            && newest.row.renewed_by.is_none()
            && let Some(days) = days_before_end(days, &newest.certificate, self.now())
        {
            let at = renew_at(&newest.certificate, days);
            changes = changes.statement(store::renewal::plan(newest.row.issued.id, days, at));
        }
        self.commit_subscriber(caller, changes, &authority, &subscriber, "pki-subscriber-changed").await?;
        Ok(subscriber)
    }

    /// Deletes a subscriber. Its certificates stay, and are not renewed by this server any more.
    #[compiled_here]
    pub async fn delete_subscriber(&self, caller: &Caller, project: ProjectId, name: &str) -> Result<Subscriber> {
        let subscriber = self.subscriber_to(caller, project, name, Action::DeleteSubscriber).await?;
        let authority = self.find_authority(caller, subscriber.authority).await?;
        let changes = Changes::new()
            .statement(store::renewal::forget_plans_of_subscriber(subscriber.id))
            .statement(store::subscriber::delete(&subscriber));
        self.commit_subscriber(caller, changes, &authority, &subscriber, "pki-subscriber-deleted").await?;
        Ok(subscriber)
    }

    /// The newest certificate of a subscriber that is valid now and whose key is kept, with that key.
    #[compiled_here]
    pub async fn latest_of_subscriber(
        &self,
        caller: &Caller,
        project: ProjectId,
        name: &str,
    ) -> Result<(Bundle, Option<Secret>)> {
        let subscriber = self.subscriber(caller, project, name).await?;
        let newest = self.newest_of_subscriber(&subscriber).await?;
        let record = newest.ok_or_else(|| {
            Error::not_found(format!("the subscriber {name} has no valid certificate whose key is kept"))
        })?;
        self.must_see(caller, &record)?;
        let key = self.key_of(caller, &record).await?;
        Ok((self.bundle_of(record).await?, key))
    }

    async fn newest_of_subscriber(&self, subscriber: &Subscriber) -> Result<Option<Record>> {
        let row = store::certificate::newest_of_subscriber(&self.db, subscriber.id, self.now()).await;
        row.map_err(failed)?.map(|row| self.read(row)).transpose()
    }

    /// The certificates of a subscriber, newest first, and how many there are.
    #[compiled_here]
    pub async fn certificates_of_subscriber(
        &self,
        caller: &Caller,
        project: ProjectId,
        name: &str,
        offset: u32,
        limit: u32,
    ) -> Result<(Vec<Record>, i64)> {
        let subscriber = self.subscriber_to(caller, project, name, Action::ListSubscriberCertificates).await?;
        let (rows, total) =
            store::certificate::of_subscriber(&self.db, subscriber.id, offset, limit).await.map_err(failed)?;
        Ok((rows.into_iter().map(|row| self.read(row)).collect::<Result<_>>()?, total))
    }

    async fn commit_subscriber(
        &self,
        caller: &Caller,
        changes: Changes,
        authority: &Authority,
        subscriber: &Subscriber,
        event: &'static str,
    ) -> Result<()> {
        let detail = json!({
            "name": subscriber.name, "version": subscriber.version, "caId": subscriber.authority,
            "status": subscriber.status.as_str(), "rules": subscriber.document,
        });
        let object = Object::new("pki-subscriber", subscriber.id);
        let record = audit::record(caller, Some(subscriber.project), event, object, &detail, self.now());
        // The authority must be there when the subscriber is: one that signs for somebody is not deleted.
        let held = store::authority::is_unchanged(authority.project, authority.id, authority.version);
        match self.db.commit(changes.statement(held).audit(record).configuration()).await {
            Ok(()) => Ok(()),
            Err(StoreError::Conflict { constraint }) if constraint == store::subscriber::UNIQUE_NAME => {
                Err(Error::already_exists(format!("the project has a subscriber {} already", subscriber.name)))
            }
            Err(StoreError::Stale(_)) => Err(Error::wrong_state(format!(
                "the subscriber {} or its certificate authority was changed meanwhile: try again",
                subscriber.name
            ))),
            Err(error) => Err(failed(error)),
        }
    }
}

/// What a certificate of a subscriber is asked for with; its lifetime and usages are the subscriber's in any case.
pub fn request_for(subscriber: &Subscriber) -> IssuanceRequest {
    let document = &subscriber.document;
    let names = document.subject_alternative_names.iter();
    let subject = Subject::Fields {
        attributes: document.subject(),
        alt_names: names.filter_map(|name| Some((alt_name_type(name)?, name.clone()))).collect(),
        key_algorithm: None,
    };
    IssuanceRequest { subject, wishes: Wishes::default() }
}

/// Refuses what no certificate could be made of.
fn check(document: &SubscriberDocument) -> Result<()> {
    document.ttl_millis()?;
    let mut alt_names = Vec::new();
    for name in &document.subject_alternative_names {
        let kind = alt_name_type(name).ok_or_else(|| {
            Error::invalid(format!("subjectAlternativeNames: {name:?} is no DNS name, address, URI or e-mail address"))
        })?;
        alt_names.push((kind, name.clone()));
    }
    check_names(&document.subject(), &alt_names)?;
    match (document.enable_auto_renewal, document.auto_renewal_period_in_days) {
        (true, None) => Err(Error::invalid("with enableAutoRenewal autoRenewalPeriodInDays says how many days before")),
        (true, Some(_)) | (false, _) => Ok(()),
    }
}

fn checked_name(name: &str) -> Result<String> {
    parse_slug(name, SUBSCRIBER_NAME_CHARACTERS).map_err(|problem| Error::invalid(format!("name {problem}")))
}

fn about(name: &str) -> ObjectFields {
    ObjectFields::with(Field::Name, name)
}
