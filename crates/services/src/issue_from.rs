//! What certificates come from: a profile, or what there is without one (contract §6.8, 7.1): an authority itself, a template
//! of the first family, a subscriber. Who may issue from each, and what is kept of it.

use crate::context::{Context, failed};
use crate::issue::certificate_fields_of;
use domain::authority::{Authority, Switch};
use domain::caller::Caller;
use domain::inventory::Origin;
use domain::issuance::{Approved, Case, DirectIssuer, Grounds, IssuanceRequest, Issuer};
use domain::permission::{Action, Field, ObjectFields};
use domain::profile::{Enrollment, Profile};
use domain::renewal::{days_before_end, days_of_profile};
use domain::{
    AuthorityId, CertificateId, CollectionId, Error, ProfileId, ProjectId, Result, SubscriberId, TemplateId, Time,
};
use serde_json::{Value, json};
use std::sync::Arc;
use store::{Changes, Statement};
use x509::Certificate;

/// What a certificate is asked for from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A profile.
    Profile(ProfileId),
    /// An authority itself.
    Authority(AuthorityId),
    /// A template of the first family.
    Template(TemplateId),
    /// A subscriber.
    Subscriber(SubscriberId),
}

/// The same, read.
pub(crate) enum Basis {
    Profile(Arc<Issuer>),
    Direct(Arc<DirectIssuer>),
}

impl Source {
    /// Whether whoever may issue is given the key that was made for the certificate (contract §6.8), and not only who may
    /// read keys.
    pub(crate) fn gives_key_always(self) -> bool {
        match self {
            Self::Profile(_) => false,
            Self::Authority(_) | Self::Template(_) | Self::Subscriber(_) => true,
        }
    }
}

impl Context {
    /// What is asked for from, of the caller's organisation.
    pub(crate) async fn basis_of(&self, caller: &Caller, source: Source) -> Result<Basis> {
        Ok(match source {
            Source::Profile(id) => Basis::Profile(self.issuer_for(caller.organization, id).await?),
            Source::Authority(id) => {
                let authority = self.find_authority(caller, id).await?;
                self.direct_issuer(&authority, Grounds::Authority).await?
            }
            Source::Template(id) => {
                let template = self.find_template(caller, id).await?.template;
                let authority = self.authority_of(caller, template.authority).await?;
                self.direct_issuer(&authority, Grounds::Template(template)).await?
            }
            Source::Subscriber(id) => {
                let subscriber = self.find_subscriber(caller, id).await?;
                let authority = self.authority_of(caller, subscriber.authority).await?;
                self.direct_issuer(&authority, Grounds::Subscriber(subscriber)).await?
            }
        })
    }

    async fn authority_of(&self, caller: &Caller, id: AuthorityId) -> Result<Authority> {
        let authority = store::authority::by_id(&self.db, caller.organization, id).await.map_err(failed)?;
        authority.ok_or_else(|| Error::not_found("the certificate authority is not there any more"))
    }

    async fn direct_issuer(&self, authority: &Authority, grounds: Grounds) -> Result<Basis> {
        let direct_issuance = if authority.enable_direct_issuance { Switch::On } else { Switch::Off };
        let issuing = self.issuing(authority).await?;
        let issuer = DirectIssuer::new(authority.project, issuing, direct_issuance, grounds)?;
        Ok(Basis::Direct(Arc::new(issuer)))
    }

    /// The collection that a certificate is put into: the named one, which must be of its project, else that of its template.
    pub(crate) async fn collection_for(
        &self,
        caller: &Caller,
        basis: &Basis,
        named: Option<CollectionId>,
    ) -> Result<Option<CollectionId>> {
        let Some(id) = named else { return Ok(basis.collection()) };
        let collection = self.find_collection(caller, id).await?;
        if collection.project != basis.project() {
            return Err(Error::invalid(format!("the collection {id} is of another project")));
        }
        Ok(Some(id))
    }
}

impl Basis {
    /// The project.
    pub(crate) fn project(&self) -> ProjectId {
        match self {
            Self::Profile(issuer) => issuer.profile.project,
            Self::Direct(issuer) => issuer.project,
        }
    }

    /// The profile, if it is one.
    pub(crate) fn profile(&self) -> Option<&Profile> {
        match self {
            Self::Profile(issuer) => Some(&issuer.profile),
            Self::Direct(_) => None,
        }
    }

    /// For messages: the short name of a profile, or what else it is.
    pub(crate) fn title(&self) -> String {
        match self {
            Self::Profile(issuer) => issuer.profile.slug.clone(),
            Self::Direct(issuer) => issuer.title(),
        }
    }

    /// What is to be decided.
    pub(crate) fn case<'a>(&'a self, request: &'a IssuanceRequest) -> Case<'a> {
        match self {
            Self::Profile(issuer) => Case::Leaf(issuer, request),
            Self::Direct(issuer) => Case::Direct(issuer, request),
        }
    }

    /// Refuses unless the caller may issue from here, whatever it is (contract §6.1 steps 2 and 3, §6.8, §2.7).
    pub(crate) fn must_allow(&self, caller: &Caller) -> Result<()> {
        match self {
            Self::Profile(issuer) => may_issue(caller, issuer),
            Self::Direct(issuer) => match &issuer.grounds {
                Grounds::Authority => caller.may_some(issuer.project, Action::CreateCertificate),
                // Who may issue from this template alone needs no right over all certificates.
                Grounds::Template(template) => {
                    match caller.can(issuer.project, Action::IssueFromTemplate, &about(&template.name)) {
                        true => Ok(()),
                        false => caller.may_some(issuer.project, Action::CreateCertificate),
                    }
                }
                Grounds::Subscriber(subscriber) => {
                    caller.may(issuer.project, Action::IssueForSubscriber, &about(&subscriber.name))
                }
            },
        }
    }

    /// Refuses unless the caller may issue a certificate of these names: roles can have conditions on them.
    pub(crate) fn must_allow_names(&self, caller: &Caller, approved: &Approved) -> Result<()> {
        let may_create = |issuer: &DirectIssuer| {
            let (common_name, alt_names) = approved.names();
            caller.may(issuer.project, Action::CreateCertificate, &certificate_fields_of(common_name, alt_names))
        };
        match self {
            Self::Profile(_) => Ok(()),
            Self::Direct(issuer) => match &issuer.grounds {
                Grounds::Authority => may_create(issuer),
                Grounds::Template(template) => {
                    match caller.can(issuer.project, Action::IssueFromTemplate, &about(&template.name)) {
                        true => Ok(()),
                        false => may_create(issuer),
                    }
                }
                Grounds::Subscriber(_) => Ok(()),
            },
        }
    }

    /// Holds the commit to what it was decided on. The authority is held in any case.
    pub(crate) fn unchanged(&self) -> Changes {
        let guard: Option<Statement> = match self {
            Self::Profile(issuer) => Some(store::profile::is_unchanged(&issuer.profile, issuer.policy.version)),
            Self::Direct(issuer) => match &issuer.grounds {
                Grounds::Authority => None,
                Grounds::Template(template) => Some(store::template::is_unchanged(template)),
                Grounds::Subscriber(subscriber) => Some(store::subscriber::is_unchanged(subscriber)),
            },
        };
        guard.into_iter().fold(Changes::new(), Changes::statement)
    }

    /// What the inventory keeps of where a certificate came from.
    pub(crate) fn origin_of(&self, certificate: CertificateId) -> Changes {
        let kept = match self {
            Self::Profile(_) => None,
            Self::Direct(issuer) => match &issuer.grounds {
                Grounds::Authority => None,
                Grounds::Template(template) => {
                    Some((Origin { template: Some(template.id), subscriber: None }, template.version))
                }
                Grounds::Subscriber(subscriber) => {
                    Some((Origin { template: None, subscriber: Some(subscriber.id) }, subscriber.version))
                }
            },
        };
        match kept {
            None => Changes::new(),
            Some((origin, version)) => {
                Changes::new().statement(store::certificate::insert_origin(certificate, &origin, version))
            }
        }
    }

    /// What is not to be renewed by itself any more once a new certificate is: of a subscriber only the newest is.
    pub(crate) fn plans_end(&self) -> Changes {
        match self {
            Self::Profile(_) => Changes::new(),
            Self::Direct(issuer) => match &issuer.grounds {
                Grounds::Authority | Grounds::Template(_) => Changes::new(),
                Grounds::Subscriber(subscriber) => {
                    Changes::new().statement(store::renewal::forget_plans_of_subscriber(subscriber.id))
                }
            },
        }
    }

    /// What the audit says of where a certificate came from, besides its profile.
    pub(crate) fn describe(&self, detail: &mut Value) {
        let Self::Direct(issuer) = self else { return };
        detail["directly"] = match &issuer.grounds {
            Grounds::Authority => json!("authority"),
            Grounds::Template(template) => {
                detail["templateId"] = json!(template.id);
                detail["templateVersion"] = json!(template.version);
                json!("template")
            }
            Grounds::Subscriber(subscriber) => {
                detail["subscriberId"] = json!(subscriber.id);
                detail["subscriberVersion"] = json!(subscriber.version);
                json!("subscriber")
            }
        };
    }

    /// Whether the caller is given the key that was made here, whatever its other rights.
    pub(crate) fn gives_key_always(&self) -> bool {
        match self {
            Self::Profile(_) => false,
            Self::Direct(_) => true,
        }
    }

    /// How many days before its end a new certificate is renewed by itself, if it is.
    pub(crate) fn renew_before_days(&self, certificate: &Certificate, now: Time) -> Option<u32> {
        match self {
            Self::Profile(issuer) => days_of_profile(issuer.profile.document.api.as_ref(), certificate, now),
            Self::Direct(issuer) => match &issuer.grounds {
                Grounds::Authority | Grounds::Template(_) => None,
                Grounds::Subscriber(subscriber) => days_before_end(subscriber.renew_before_days()?, certificate, now),
            },
        }
    }

    fn collection(&self) -> Option<CollectionId> {
        match self {
            Self::Profile(_) => None,
            Self::Direct(issuer) => match &issuer.grounds {
                Grounds::Authority | Grounds::Subscriber(_) => None,
                Grounds::Template(template) => template.collection,
            },
        }
    }
}

/// Contract §6.1 steps 2 and 3.
fn may_issue(caller: &Caller, issuer: &Issuer) -> Result<()> {
    let profile = &issuer.profile;
    match profile.enrollment {
        Enrollment::Api => {}
        Enrollment::Est | Enrollment::Acme => {
            return Err(Error::forbidden(format!(
                "the profile {} enrols by {}, not by the API",
                profile.slug,
                profile.enrollment.as_str()
            )));
        }
    }
    caller.may(profile.project, Action::IssueCertificate, &ObjectFields::with(Field::Slug, profile.slug.as_str()))
}

fn about(name: &str) -> ObjectFields {
    ObjectFields::with(Field::Name, name)
}
