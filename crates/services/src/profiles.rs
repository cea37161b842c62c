//! Certificate profiles: making, finding, changing and deleting them (contract §5.3).

use crate::audit::{self, Object};
use crate::context::{Context, failed};
use crate::visible::VisiblePage;
use async_recursion::async_recursion as compiled_here;
use domain::authority::Authority;
use domain::caller::Caller;
use domain::duration::parse_limit;
use domain::permission::{Action, Field, ObjectFields};
use domain::profile::{
    AcmeEnrollment, ApiEnrollment, Enrollment, EstEnrollment, IssuerKind, Policy, Profile, ProfileDefaults,
    ProfileDocument,
};
use domain::{AuthorityId, Error, PolicyId, ProfileId, ProjectId, Result};
use serde_json::json;
pub use store::{Changes, StoreError};

pub use store::profile::ProfileFilter;

/// What a profile is made with.
pub struct NewProfile {
    /// Its short name.
    pub slug: String,
    /// What it is for.
    pub description: Option<String>,
    /// The authority that signs; none for self-signed certificates.
    pub authority: Option<AuthorityId>,
    /// The policy that judges.
    pub policy: PolicyId,
    /// How clients enrol, with its configuration.
    pub enrollment: NewEnrollment,
    /// Values taken where a request leaves them out.
    pub defaults: Option<ProfileDefaults>,
    /// Configuration for outside authorities.
    pub external_configs: Option<serde_json::Value>,
}

/// How clients of a new profile enrol.
pub enum NewEnrollment {
    /// By the REST API.
    Api {
        /// Whether this server renews by itself.
        auto_renew: bool,
        /// Days before the end at which it renews.
        renew_before_days: Option<u32>,
    },
    /// By EST.
    Est {
        /// Whether a client certificate from elsewhere is accepted for the first enrolment.
        disable_bootstrap_ca_validation: bool,
        /// The password of the first enrolment.
        passphrase: String,
        /// Whose certificates are accepted for the first enrolment.
        ca_chain: Option<String>,
    },
    /// By ACME.
    Acme {
        /// Whether names are taken without proof of control.
        skip_dns_ownership_verification: bool,
        /// Whether accounts need no external account binding.
        skip_eab_binding: bool,
    },
}

/// What can change in a profile. Absent stays as it is.
#[derive(Default)]
pub struct ProfileChange {
    /// Its short name.
    pub slug: Option<String>,
    /// What it is for.
    pub description: Option<Option<String>>,
    /// Another way to enrol.
    pub enrollment: Option<Enrollment>,
    /// Another kind of issuer.
    pub issuer: Option<IssuerKind>,
    /// The configuration of the `api` enrollment.
    pub api: Option<(Option<bool>, Option<u32>)>,
    /// The configuration of the `est` enrollment.
    pub est: Option<(Option<bool>, Option<String>, Option<String>)>,
    /// The configuration of the `acme` enrollment.
    pub acme: Option<(Option<bool>, Option<bool>)>,
    /// Values taken where a request leaves them out.
    pub defaults: Option<Option<ProfileDefaults>>,
    /// Configuration for outside authorities.
    pub external_configs: Option<Option<serde_json::Value>>,
}

/// A profile with the authority and the policy that it names.
pub struct ProfileWithParts {
    /// The profile.
    pub profile: Profile,
    /// Its authority.
    pub authority: Option<Authority>,
    /// Its policy.
    pub policy: Option<Policy>,
}

impl Context {
    /// Makes a profile.
    #[compiled_here]
    pub async fn create_profile(&self, caller: &Caller, project: ProjectId, new: NewProfile) -> Result<Profile> {
        caller.may(project, Action::CreateProfile, &about(&new.slug))?;
        let policy = self.find_policy(caller, new.policy).await?;
        if policy.project != project {
            return Err(Error::forbidden("the certificate policy belongs to another project"));
        }
        if let Some(authority) = new.authority {
            self.must_have_authority(caller, project, authority).await?;
        }
        if new.external_configs.is_some() {
            return Err(Error::forbidden("externalConfigs is for outside authorities; this profile has none"));
        }
        check_defaults(new.defaults.as_ref(), &policy)?;
        let mut document = ProfileDocument {
            issuer: if new.authority.is_some() { IssuerKind::Ca } else { IssuerKind::SelfSigned },
            issuers: new.authority.into_iter().collect(),
            api: None,
            est: None,
            acme: None,
            defaults: new.defaults,
            external_configs: None,
        };
        let enrollment = self.configure(&mut document, new.enrollment).await?;
        let now = self.now();
        let profile = Profile {
            id: self.new_id(),
            project,
            slug: new.slug,
            description: new.description,
            version: 1,
            policy: policy.id,
            enrollment,
            document,
            created_at: now,
            updated_at: now,
        };
        self.commit_profile(caller, store::profile::insert(&profile), &profile, "profile-created").await?;
        Ok(profile)
    }

    async fn configure(&self, document: &mut ProfileDocument, enrollment: NewEnrollment) -> Result<Enrollment> {
        let id = self.random.id(self.now());
        match enrollment {
            NewEnrollment::Api { auto_renew, renew_before_days } => {
                document.api = Some(ApiEnrollment { id, auto_renew, renew_before_days });
                Ok(Enrollment::Api)
            }
            NewEnrollment::Est { disable_bootstrap_ca_validation, passphrase, ca_chain } => {
                check_chain(ca_chain.as_deref())?;
                let passphrase_hash = self.passphrase_hash(passphrase).await?;
                document.est = Some(EstEnrollment { id, disable_bootstrap_ca_validation, passphrase_hash, ca_chain });
                Ok(Enrollment::Est)
            }
            NewEnrollment::Acme { skip_dns_ownership_verification, skip_eab_binding } => {
                document.acme = Some(AcmeEnrollment { id, skip_dns_ownership_verification, skip_eab_binding });
                Ok(Enrollment::Acme)
            }
        }
    }

    /// A profile by its id.
    #[compiled_here]
    pub async fn profile(&self, caller: &Caller, id: ProfileId) -> Result<ProfileWithParts> {
        let profile = self.find_profile(caller, id).await?;
        caller.may(profile.project, Action::ReadProfile, &about(&profile.slug))?;
        self.with_parts(caller, profile).await
    }

    pub(crate) async fn find_profile(&self, caller: &Caller, id: ProfileId) -> Result<Profile> {
        let profile = store::profile::by_id(&self.db, caller.organization, id).await.map_err(failed)?;
        profile.ok_or_else(|| Error::not_found(format!("there is no certificate profile {id}")))
    }

    async fn with_parts(&self, caller: &Caller, profile: Profile) -> Result<ProfileWithParts> {
        let policy = store::profile::policy(&self.db, caller.organization, profile.policy).await.map_err(failed)?;
        let authority = match profile.authority() {
            Some(id) => store::authority::by_id(&self.db, caller.organization, id).await.map_err(failed)?,
            None => None,
        };
        Ok(ProfileWithParts { profile, authority, policy })
    }

    /// A profile by its short name.
    #[compiled_here]
    pub async fn profile_by_slug(&self, caller: &Caller, project: ProjectId, slug: &str) -> Result<Profile> {
        caller.may(project, Action::ReadProfile, &about(slug))?;
        let profile = store::profile::by_slug(&self.db, project, slug).await.map_err(failed)?;
        profile.ok_or_else(|| Error::not_found(format!("the project has no certificate profile {slug}")))
    }

    /// Profiles of a project, and how many match.
    #[compiled_here]
    pub async fn profiles(
        &self,
        caller: &Caller,
        project: ProjectId,
        filter: &ProfileFilter,
        offset: u32,
        limit: u32,
    ) -> Result<(Vec<ProfileWithParts>, i64)> {
        caller.may_some(project, Action::ReadProfile)?;
        let mut visible = VisiblePage::new(offset, limit, caller.can_always(project, Action::ReadProfile));
        let mut total = 0;
        while let Some((offset, limit)) = visible.wanted() {
            let (profiles, count) =
                store::profile::list(&self.db, project, filter, offset, limit).await.map_err(failed)?;
            visible.add(
                profiles
                    .into_iter()
                    .map(|profile| caller.can(project, Action::ReadProfile, &about(&profile.slug)).then_some(profile)),
            )?;
            total = count;
        }
        let (profiles, seen) = visible.finish();
        let mut whole = Vec::with_capacity(profiles.len());
        for profile in profiles {
            whole.push(self.with_parts(caller, profile).await?);
        }
        Ok((whole, seen.unwrap_or(total)))
    }

    /// Changes a profile. Certificates keep the version that they were issued by.
    #[compiled_here]
    pub async fn change_profile(&self, caller: &Caller, id: ProfileId, change: ProfileChange) -> Result<Profile> {
        let mut profile = self.find_profile(caller, id).await?;
        caller.may(profile.project, Action::EditProfile, &about(&profile.slug))?;
        let policy = self.find_policy(caller, profile.policy).await?;
        if let Some(slug) = change.slug {
            caller.may(profile.project, Action::EditProfile, &about(&slug))?;
            profile.slug = slug;
        }
        profile.description = change.description.unwrap_or(profile.description);
        if let Some(defaults) = change.defaults {
            check_defaults(defaults.as_ref(), &policy)?;
            profile.document.defaults = defaults;
        }
        if matches!(change.external_configs, Some(Some(_))) {
            return Err(Error::forbidden("externalConfigs is for outside authorities; this profile has none"));
        }
        change_issuer(&mut profile, change.issuer)?;
        self.change_enrollment(&mut profile, change.enrollment, change.api, change.est, change.acme).await?;
        profile.version += 1;
        profile.updated_at = self.now();
        self.commit_profile(caller, store::profile::update(&profile), &profile, "profile-changed").await?;
        Ok(profile)
    }

    /// Configurations are changed only where the profile has them already (contract §5.3).
    async fn change_enrollment(
        &self,
        profile: &mut Profile,
        enrollment: Option<Enrollment>,
        api: Option<(Option<bool>, Option<u32>)>,
        est: Option<(Option<bool>, Option<String>, Option<String>)>,
        acme: Option<(Option<bool>, Option<bool>)>,
    ) -> Result<()> {
        let document = &mut profile.document;
        if let (Some(config), Some((auto_renew, renew_before_days))) = (&mut document.api, api) {
            config.auto_renew = auto_renew.unwrap_or(config.auto_renew);
            config.renew_before_days = renew_before_days.or(config.renew_before_days);
        }
        if let (Some(config), Some((disable, passphrase, ca_chain))) = (&mut document.est, est) {
            check_chain(ca_chain.as_deref())?;
            config.disable_bootstrap_ca_validation = disable.unwrap_or(config.disable_bootstrap_ca_validation);
            config.ca_chain = ca_chain.or(config.ca_chain.take());
            if let Some(passphrase) = passphrase {
                config.passphrase_hash = self.passphrase_hash(passphrase).await?;
            }
        }
        if let (Some(config), Some((skip_dns, skip_eab))) = (&mut document.acme, acme) {
            config.skip_dns_ownership_verification = skip_dns.unwrap_or(config.skip_dns_ownership_verification);
            config.skip_eab_binding = skip_eab.unwrap_or(config.skip_eab_binding);
        }
        if let Some(enrollment) = enrollment {
            let configured = match enrollment {
                Enrollment::Api => document.api.is_some(),
                Enrollment::Est => document.est.is_some(),
                Enrollment::Acme => document.acme.is_some(),
            };
            if enrollment == Enrollment::Api && !configured {
                document.api =
                    Some(ApiEnrollment { id: self.random.id(self.now()), auto_renew: false, renew_before_days: None });
            } else if !configured {
                return Err(Error::forbidden(format!(
                    "the profile has no {} configuration; make a new profile for that enrollment",
                    enrollment.as_str()
                )));
            }
            profile.enrollment = enrollment;
        }
        Ok(())
    }

    /// Deletes a profile that is attached to no application. Its certificates stay.
    #[compiled_here]
    pub async fn delete_profile(&self, caller: &Caller, id: ProfileId) -> Result<Profile> {
        let profile = self.find_profile(caller, id).await?;
        caller.may(profile.project, Action::DeleteProfile, &about(&profile.slug))?;
        let (names, total) = store::application::users_of_profile(&self.db, id).await.map_err(failed)?;
        if total > 0 {
            return Err(is_attached(&profile, &names.join(", ")));
        }
        let changes = Changes::new().statement(store::profile::delete(profile.project, id));
        match self.commit_profile(caller, changes, &profile, "profile-deleted").await {
            // It was attached in between: the reference from there refuses.
            Err(error) if error.reason() == Some(domain::Reason::Forbidden) => Err(is_attached(&profile, "one")),
            other => other.map(|()| profile.clone()),
        }
    }

    async fn must_have_authority(&self, caller: &Caller, project: ProjectId, id: AuthorityId) -> Result<()> {
        let authority = store::authority::by_id(&self.db, caller.organization, id).await.map_err(failed)?;
        match authority {
            Some(authority) if authority.project == project => Ok(()),
            Some(_) => Err(Error::forbidden("the certificate authority belongs to another project")),
            None => Err(Error::not_found(format!("there is no certificate authority {id}"))),
        }
    }

    /// A passphrase that a person chose: salted, and hashed many times over, where it holds up no other request.
    pub(crate) async fn passphrase_hash(&self, passphrase: String) -> Result<String> {
        let salt: [u8; 16] = self.random.octets();
        tokio::task::spawn_blocking(move || {
            const ITERATIONS: std::num::NonZeroU32 = std::num::NonZeroU32::new(600_000).expect("it is not zero");
            let mut hash = [0; 32];
            let algorithm = aws_lc_rs::pbkdf2::PBKDF2_HMAC_SHA256;
            aws_lc_rs::pbkdf2::derive(algorithm, ITERATIONS, &salt, passphrase.as_bytes(), &mut hash);
            format!("pbkdf2-sha256${ITERATIONS}${}${}", crate::context::hex(&salt), crate::context::hex(&hash))
        })
        .await
        .map_err(|error| Error::failed_because("hashing a passphrase", error))
    }

    async fn commit_profile(
        &self,
        caller: &Caller,
        changes: Changes,
        profile: &Profile,
        event: &'static str,
    ) -> Result<()> {
        let detail = json!({ "slug": profile.slug, "version": profile.version });
        let object = Object::new("certificate-profile", profile.id);
        let record = audit::record(caller, Some(profile.project), event, object, &detail, self.now());
        match self.db.commit(changes.audit(record).configuration()).await {
            Ok(()) => Ok(()),
            Err(StoreError::Conflict { .. }) => {
                Err(Error::forbidden(format!("the project has a profile {} already", profile.slug)))
            }
            Err(error) => Err(failed(error)),
        }
    }
}

fn change_issuer(profile: &mut Profile, issuer: Option<IssuerKind>) -> Result<()> {
    match issuer {
        None => Ok(()),
        Some(IssuerKind::Ca) if profile.document.issuers.is_empty() => {
            Err(Error::forbidden("a profile without a certificate authority cannot become one that issues from it"))
        }
        Some(IssuerKind::SelfSigned) => {
            profile.document.issuer = IssuerKind::SelfSigned;
            profile.document.issuers.clear();
            Ok(())
        }
        Some(IssuerKind::Ca) => {
            profile.document.issuer = IssuerKind::Ca;
            Ok(())
        }
    }
}

fn check_defaults(defaults: Option<&ProfileDefaults>, policy: &Policy) -> Result<()> {
    let days = defaults.and_then(|defaults| defaults.ttl_days);
    let max = policy.rules.validity.as_ref().and_then(|validity| validity.max.as_deref());
    if let (Some(days), Some(max)) = (days, max) {
        let max_millis = parse_limit(max).map_err(|_| Error::failed("a stored policy has an unreadable validity"))?;
        if i64::from(days) * 86_400_000 > max_millis {
            return Err(Error::invalid(format!(
                "defaults.ttlDays is {days} days, the policy {} allows at most {max}",
                policy.name
            )));
        }
    }
    Ok(())
}

fn is_attached(profile: &Profile, applications: &str) -> Error {
    Error::wrong_state(format!(
        "the profile {} is attached to applications ({applications}): detach it first",
        profile.slug
    ))
}

/// The chain must parse, and each certificate must be signed by the next.
pub(crate) fn check_chain(chain: Option<&str>) -> Result<()> {
    let Some(text) = chain else { return Ok(()) };
    let unreadable = |error: x509::ParseError| Error::invalid(format!("estConfig.caChain: {error}"));
    let mut certificates = Vec::new();
    for der in x509::pem::decode_all(text, x509::pem::CERTIFICATE).map_err(unreadable)? {
        certificates.push(x509::Certificate::from_der(der).map_err(unreadable)?);
    }
    if certificates.is_empty() {
        return Err(Error::invalid("estConfig.caChain holds no certificate"));
    }
    for pair in certificates.windows(2) {
        let is_named = pair[0].issuer().as_der() == pair[1].subject().as_der();
        if !is_named || !pair[1].verifying_key().is_ok_and(|key| pair[0].verify_signature(&key)) {
            return Err(Error::invalid("estConfig.caChain: each certificate must be signed by the one that follows"));
        }
    }
    Ok(())
}

pub(crate) fn about(slug: &str) -> ObjectFields {
    ObjectFields::with(Field::Slug, slug)
}
