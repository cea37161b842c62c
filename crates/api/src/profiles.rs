//! Certificate profiles (contract §5.3). Both names of the policy, `certificateTemplateId` and `certificatePolicyId`, are
//! taken and given.

mod shapes;

use domain::caller::Caller;
use domain::profile::{
    AcmeEnrollment, ApiEnrollment, Enrollment, EstEnrollment, IssuerKind, Policy, Profile, ProfileDefaults,
};
use domain::{AuthorityId, Error, PolicyId, ProfileId, ProjectId};
use serde::Deserialize;
use serde_json::{Value, json};
use services::account_binding::AccountBinding;
use services::profiles::{NewEnrollment, NewProfile, ProfileChange, ProfileFilter, ProfileWithParts};

use crate::app::App;
use crate::error::Result;
use crate::render::{Page, page, timestamp, wrapped, wrapper};
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{
    Schema, integer, list, object, one_of, optional, present, profile_slug, required, search_text, text, uuid,
};
use shapes::{ENROLLMENTS, ISSUERS, change_schema, new_profile_schema, profile_schema, profile_with_parts_schema};

const PROFILES: &str = "Certificate profiles";

/// Every route of this family.
pub fn routes() -> Vec<Route<App>> {
    const ALL: &str = "/api/v1/pki/certificate-profiles";
    const ALL_NEW: &str = "/api/v1/cert-manager/certificate-profiles";
    const ONE: &str = "/api/v1/pki/certificate-profiles/{profileId}";
    const ONE_NEW: &str = "/api/v1/cert-manager/certificate-profiles/{profileId}";
    const SLUG: &str = "/api/v1/pki/certificate-profiles/slug/{slug}";
    const SLUG_NEW: &str = "/api/v1/cert-manager/certificate-profiles/slug/{slug}";
    const REVEAL: &str = "/api/v1/pki/certificate-profiles/{profileId}/acme/eab-secret/reveal";
    const REVEAL_NEW: &str = "/api/v1/cert-manager/certificate-profiles/{profileId}/acme/eab-secret/reveal";
    const ROTATE: &str = "/api/v1/pki/certificate-profiles/{profileId}/acme/eab-secret/rotate";
    const ROTATE_NEW: &str = "/api/v1/cert-manager/certificate-profiles/{profileId}/acme/eab-secret/rotate";
    let one = |endpoint: Endpoint| endpoint.also_at(ONE_NEW).path([required("profileId", uuid())]);
    let profile = || wrapper("certificateProfile", profile_schema());
    vec![
        Endpoint::post(ALL, PROFILES, "Make a certificate profile")
            .also_at(ALL_NEW)
            .body(new_profile_schema())
            .returns(profile())
            .bearer(create),
        Endpoint::get(ALL, PROFILES, "List certificate profiles")
            .also_at(ALL_NEW)
            .query([
                optional("projectId", uuid()),
                optional("search", search_text().default(json!(""))),
                optional("enrollmentType", one_of(ENROLLMENTS)),
                optional("issuerType", one_of(ISSUERS)),
                optional("caId", uuid()),
            ])
            .query(page(20, 100))
            .returns(object([
                required("certificateProfiles", list(profile_with_parts_schema())),
                required("totalCount", integer()),
            ]))
            .bearer(list_all),
        one(Endpoint::get(ONE, PROFILES, "Show a certificate profile"))
            .returns(wrapper("certificateProfile", profile_with_parts_schema()))
            .bearer(show),
        Endpoint::get(SLUG, PROFILES, "Show a certificate profile by its slug")
            .also_at(SLUG_NEW)
            .path([required("slug", profile_slug())])
            .query([optional("projectId", uuid())])
            .returns(profile())
            .bearer(show_by_slug),
        one(Endpoint::patch(ONE, PROFILES, "Change a certificate profile"))
            .body(change_schema())
            .returns(profile())
            .bearer(change),
        one(Endpoint::delete(ONE, PROFILES, "Delete a certificate profile"))
            .describe("Its certificates stay.")
            .returns(profile())
            .bearer(delete),
        Endpoint::get(REVEAL, PROFILES, "Show the secret that ACME accounts of a profile begin with")
            .also_at(REVEAL_NEW)
            .describe(
                "For profiles that enroll by ACME: the external account binding of RFC 8555 §7.3.4, in base64url.",
            )
            .path([required("profileId", uuid())])
            .returns(account_binding_schema())
            .bearer(reveal),
        Endpoint::post(ROTATE, PROFILES, "Put another secret in its place")
            .also_at(ROTATE_NEW)
            .path([required("profileId", uuid())])
            .returns(account_binding_schema())
            .bearer(rotate),
    ]
}

fn account_binding_schema() -> Schema {
    object([required("eabKid", text()), required("eabSecret", text())])
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct New {
    project_id: Option<ProjectId>,
    ca_id: Option<AuthorityId>,
    certificate_template_id: Option<PolicyId>,
    certificate_policy_id: Option<PolicyId>,
    slug: String,
    description: Option<String>,
    enrollment_type: Option<String>,
    api_config: Option<SentApi>,
    est_config: Option<SentEst>,
    acme_config: Option<SentAcme>,
    external_configs: Option<Value>,
    defaults: Option<ProfileDefaults>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    slug: Option<String>,
    #[serde(default, deserialize_with = "present")]
    description: Option<Option<String>>,
    enrollment_type: Option<String>,
    issuer_type: Option<String>,
    api_config: Option<SentApi>,
    est_config: Option<SentEst>,
    acme_config: Option<SentAcme>,
    #[serde(default, deserialize_with = "present")]
    external_configs: Option<Option<Value>>,
    #[serde(default, deserialize_with = "present")]
    defaults: Option<Option<ProfileDefaults>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SentApi {
    auto_renew: Option<bool>,
    renew_before_days: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SentEst {
    disable_bootstrap_ca_validation: Option<bool>,
    passphrase: Option<String>,
    ca_chain: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SentAcme {
    skip_dns_ownership_verification: Option<bool>,
    skip_eab_binding: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct List {
    project_id: Option<ProjectId>,
    search: String,
    enrollment_type: Option<String>,
    issuer_type: Option<String>,
    ca_id: Option<AuthorityId>,
    #[serde(flatten)]
    page: Page,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfProfile {
    profile_id: ProfileId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InProject {
    project_id: Option<ProjectId>,
}

async fn create(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let new: New = input.body()?;
    let project = app.services.project_for(&caller, new.project_id).await?;
    reply(&app.services.create_profile(&caller, project, new.profile()?).await?)
}

async fn list_all(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let sent: List = input.query()?;
    let project = app.services.project_for(&caller, sent.project_id).await?;
    let filter = ProfileFilter {
        search: sent.search,
        enrollment: sent.enrollment_type.as_deref().map(enrollment).transpose()?,
        issuer: sent.issuer_type.as_deref().map(issuer).transpose()?,
        authority: sent.ca_id,
    };
    let Page { offset, limit } = sent.page;
    let (profiles, total) = app.services.profiles(&caller, project, &filter, offset, limit).await?;
    let profiles: Vec<Value> = profiles.iter().map(|profile| render_with_parts(&app, profile)).collect();
    Reply::json(&json!({ "certificateProfiles": profiles, "totalCount": total }))
}

async fn show(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfProfile { profile_id } = input.path()?;
    let profile = app.services.profile(&caller, profile_id).await?;
    Reply::json(&wrapped("certificateProfile", render_with_parts(&app, &profile)))
}

async fn show_by_slug(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let InProject { project_id } = input.query()?;
    let project = app.services.project_for(&caller, project_id).await?;
    reply(&app.services.profile_by_slug(&caller, project, input.parameter("slug")).await?)
}

async fn reveal(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfProfile { profile_id } = input.path()?;
    account_binding(&app.services.reveal_account_binding(&caller, profile_id).await?)
}

async fn rotate(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfProfile { profile_id } = input.path()?;
    account_binding(&app.services.rotate_account_binding(&caller, profile_id).await?)
}

fn account_binding(binding: &AccountBinding) -> Result<Reply> {
    Ok(Reply::json(&json!({ "eabKid": binding.kid, "eabSecret": binding.secret_text() }))?.no_store())
}

async fn change(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfProfile { profile_id } = input.path()?;
    let change = input.body::<Change>()?.change()?;
    reply(&app.services.change_profile(&caller, profile_id, change).await?)
}

async fn delete(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfProfile { profile_id } = input.path()?;
    reply(&app.services.delete_profile(&caller, profile_id).await?)
}

impl New {
    fn profile(self) -> Result<NewProfile> {
        let policy = self.certificate_policy_id.or(self.certificate_template_id);
        let policy = policy.ok_or_else(|| Error::failed("the schema let a profile without a policy through"))?;
        Ok(NewProfile {
            policy,
            slug: self.slug,
            description: self.description,
            authority: self.ca_id,
            enrollment: new_enrollment(self.enrollment_type, self.api_config, self.est_config, self.acme_config)?,
            defaults: self.defaults,
            external_configs: self.external_configs,
        })
    }
}

/// The enrollment with its configuration. Clients that name none mean the API (C:TF).
fn new_enrollment(
    named: Option<String>,
    api: Option<SentApi>,
    est: Option<SentEst>,
    acme: Option<SentAcme>,
) -> Result<NewEnrollment> {
    let missing = || Error::failed("the schema let an enrollment without its configuration through");
    Ok(match named.as_deref().map_or(Ok(Enrollment::Api), enrollment)? {
        Enrollment::Api => {
            let SentApi { auto_renew, renew_before_days } = api.unwrap_or_default();
            NewEnrollment::Api { auto_renew: auto_renew.unwrap_or_default(), renew_before_days }
        }
        Enrollment::Est => {
            let SentEst { disable_bootstrap_ca_validation, passphrase, ca_chain } = est.ok_or_else(missing)?;
            NewEnrollment::Est {
                disable_bootstrap_ca_validation: disable_bootstrap_ca_validation.unwrap_or_default(),
                passphrase: passphrase.ok_or_else(missing)?,
                ca_chain,
            }
        }
        Enrollment::Acme => {
            let SentAcme { skip_dns_ownership_verification, skip_eab_binding } = acme.ok_or_else(missing)?;
            NewEnrollment::Acme {
                skip_dns_ownership_verification: skip_dns_ownership_verification.unwrap_or_default(),
                skip_eab_binding: skip_eab_binding.unwrap_or_default(),
            }
        }
    })
}

impl Change {
    fn change(self) -> Result<ProfileChange> {
        let est = |sent: SentEst| (sent.disable_bootstrap_ca_validation, sent.passphrase, sent.ca_chain);
        Ok(ProfileChange {
            slug: self.slug,
            description: self.description,
            enrollment: self.enrollment_type.as_deref().map(enrollment).transpose()?,
            issuer: self.issuer_type.as_deref().map(issuer).transpose()?,
            api: self.api_config.map(|sent| (sent.auto_renew, sent.renew_before_days)),
            est: self.est_config.map(est),
            acme: self.acme_config.map(|sent| (sent.skip_dns_ownership_verification, sent.skip_eab_binding)),
            defaults: self.defaults,
            external_configs: self.external_configs,
        })
    }
}

fn enrollment(name: &str) -> Result<Enrollment> {
    Ok(Enrollment::parse(name).ok_or_else(|| Error::failed("the schema let an unknown enrollment through"))?)
}

fn issuer(name: &str) -> Result<IssuerKind> {
    Ok(IssuerKind::parse(name).ok_or_else(|| Error::failed("the schema let an unknown kind of issuer through"))?)
}

fn reply(profile: &Profile) -> Result<Reply> {
    Reply::json(&wrapped("certificateProfile", render(profile)))
}

fn render(profile: &Profile) -> Value {
    let document = &profile.document;
    json!({
        "id": profile.id,
        "projectId": profile.project,
        "caId": profile.authority(),
        "certificateTemplateId": profile.policy,
        "certificatePolicyId": profile.policy,
        "slug": profile.slug,
        "description": profile.description,
        "enrollmentType": profile.enrollment.as_str(),
        "issuerType": document.issuer.as_str(),
        "apiConfigId": document.api.as_ref().map(|config| config.id),
        "estConfigId": document.est.as_ref().map(|config| config.id),
        "acmeConfigId": document.acme.as_ref().map(|config| config.id),
        "externalConfigs": document.external_configs,
        "defaults": document.defaults,
        "createdAt": timestamp(profile.created_at),
        "updatedAt": timestamp(profile.updated_at),
    })
}

fn render_with_parts(app: &App, parts: &ProfileWithParts) -> Value {
    let ProfileWithParts { profile, authority, policy } = parts;
    let mut shown = render(profile);
    if let Some(authority) = authority {
        shown["certificateAuthority"] = json!({
            "id": authority.id,
            "name": authority.name,
            "status": authority.status.as_str(),
            "isExternal": false,
        });
    }
    if let Some(policy) = policy {
        shown["certificateTemplate"] = render_policy(policy);
        shown["certificatePolicy"] = render_policy(policy);
    }
    if let Some(config) = &profile.document.api {
        shown["apiConfig"] = render_api(config);
    }
    if let Some(config) = &profile.document.est {
        shown["estConfig"] = render_est(config);
    }
    if let Some(config) = &profile.document.acme {
        shown["acmeConfig"] = render_acme(config, &app.services.addresses.public_url, profile.id);
    }
    shown
}

fn render_policy(policy: &Policy) -> Value {
    json!({
        "id": policy.id,
        "projectId": policy.project,
        "name": policy.name,
        "description": policy.description,
    })
}

fn render_api(config: &ApiEnrollment) -> Value {
    let mut shown = json!({ "id": config.id, "autoRenew": config.auto_renew });
    if let Some(days) = config.renew_before_days {
        shown["renewBeforeDays"] = days.into();
    }
    shown
}

/// The passphrase is never shown. The empty text stands for it, which no client can send back as a passphrase.
fn render_est(config: &EstEnrollment) -> Value {
    let mut shown = json!({
        "id": config.id,
        "disableBootstrapCaValidation": config.disable_bootstrap_ca_validation,
        "passphrase": "",
    });
    if let Some(chain) = &config.ca_chain {
        shown["caChain"] = chain.trim().into();
    }
    shown
}

fn render_acme(config: &AcmeEnrollment, public_url: &str, profile: ProfileId) -> Value {
    json!({
        "id": config.id,
        "directoryUrl": format!("{public_url}/api/v1/cert-manager/acme/profiles/{profile}/directory"),
        "skipDnsOwnershipVerification": config.skip_dns_ownership_verification,
        "skipEabBinding": config.skip_eab_binding,
    })
}
