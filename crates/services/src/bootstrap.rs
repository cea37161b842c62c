//! The first start: an organisation, a project, a root and an issuing authority, policies and profiles, and an admin
//! identity. Every step looks first whether it was done, so a start that was killed goes on where it stopped.

use crate::authorities::NewAuthority;
use crate::certify_authority::CertifyAuthority;
use crate::context::{Context, failed, key_failed};
use crate::identities::{NewClientSecret, NewIdentity};
use crate::login::sha256;
use crate::policies::NewPolicy;
use crate::profiles::{NewEnrollment, NewProfile};
use crate::projects::NewProject;
use async_recursion::async_recursion as compiled_here;
use domain::authority::{Authority, AuthorityConfiguration, AuthorityKind, AuthorityStatus};
use domain::caller::{Caller, OrganizationRole};
use domain::identity::{Organization, Project, RoleAssignment, UniversalAuthSettings};
use domain::policy::PolicyRules;
use domain::profile::ProfileDefaults;
use domain::role::BuiltInRole;
use domain::{AuthorityId, Error, IdentityId, OrganizationId, ProfileId, ProjectId, Result};
use keys::Secret;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use store::{Changes, FirstStartHold};
use subtle::ConstantTimeEq;
use x509::KeyAlgorithm;

/// What the first start made, as it is remembered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bootstrap {
    /// The organisation.
    pub organization_id: OrganizationId,
    /// The project.
    pub project_id: ProjectId,
    /// The project's short name.
    pub project_slug: String,
    /// The admin identity.
    pub identity_id: IdentityId,
    /// The public half of its login.
    pub client_id: String,
    /// The root.
    pub root_ca_id: AuthorityId,
    /// The issuing authority.
    pub issuing_ca_id: AuthorityId,
    /// The profiles by their short names.
    pub profiles: BTreeMap<String, ProfileId>,
    /// Whether the admin's secret was handed out.
    pub announced: bool,
}

/// What a start found or made. Other nodes that start for the first time wait until it is dropped.
pub struct FirstStart {
    /// What there is.
    pub bootstrap: Bootstrap,
    /// The admin's client secret, until it is noted as announced.
    pub secret: Option<String>,
    _hold: Option<FirstStartHold>,
}

const RECORD: &str = "bootstrap";
const PROJECT_SLUG: &str = "default";
/// The profile of the server's own TLS certificate.
pub(crate) const SERVER_PROFILE: &str = "chancery-server";
/// The profile of devices.
const DEVICE_PROFILE: &str = "device";

impl Context {
    /// Makes what is missing of the first start, and gives the admin's client secret until it is noted as announced.
    /// `handed_out` is the secret that an earlier start wrote down, if one did.
    #[compiled_here]
    pub async fn bootstrap(&self, handed_out: Option<&str>) -> Result<FirstStart> {
        let kept = |bootstrap| FirstStart { bootstrap, secret: None, _hold: None };
        if let Some(known) = self.bootstrap_record().await?.filter(|known| known.announced) {
            return Ok(kept(known));
        }
        let hold = self.db.hold_first_start().await.map_err(failed)?;
        // Another node may have done it all while this one waited.
        if let Some(known) = self.bootstrap_record().await?.filter(|known| known.announced) {
            return Ok(kept(known));
        }
        let (bootstrap, secret) = self.first_start(handed_out).await?;
        Ok(FirstStart { bootstrap, secret: Some(secret), _hold: Some(hold) })
    }

    async fn first_start(&self, handed_out: Option<&str>) -> Result<(Bootstrap, String)> {
        let organization = self.first_organization().await?;
        let mut caller = Caller::node(organization.id);
        let project = self.first_project(&caller).await?;
        caller = administering(&caller, project.id);
        let identity = self.first_identity(&caller, project.id).await?;
        let root = self.first_root(&caller, project.id).await?;
        let issuing = self.first_issuing(&caller, project.id, &root).await?;
        let mut profiles = BTreeMap::new();
        for (slug, description, rules) in first_policies()? {
            profiles.insert(
                slug.to_owned(),
                self.first_profile(&caller, project.id, issuing.id, slug, description, rules).await?,
            );
        }
        profiles.remove(SERVER_PROFILE);
        let auth = self.first_universal_auth(&caller, identity).await?;
        let secret = self.first_secret(&caller, identity, handed_out).await?;
        let bootstrap = Bootstrap {
            organization_id: organization.id,
            project_id: project.id,
            project_slug: project.slug,
            identity_id: identity,
            client_id: auth,
            root_ca_id: root.id,
            issuing_ca_id: issuing.id,
            profiles,
            announced: false,
        };
        self.remember_bootstrap(&bootstrap).await?;
        Ok((bootstrap, secret))
    }

    /// Notes that the admin's secret was handed out.
    #[compiled_here]
    pub async fn bootstrap_announced(&self, bootstrap: &Bootstrap) -> Result<()> {
        self.remember_bootstrap(&Bootstrap { announced: true, ..bootstrap.clone() }).await
    }

    /// What the first start made.
    pub(crate) async fn bootstrap_record(&self) -> Result<Option<Bootstrap>> {
        match self.read_server_secret(RECORD).await? {
            None => Ok(None),
            Some(text) => serde_json::from_slice(text.expose())
                .map(Some)
                .map_err(|error| Error::failed_because("the record of the first start does not read", error)),
        }
    }

    async fn remember_bootstrap(&self, bootstrap: &Bootstrap) -> Result<()> {
        let text = serde_json::to_vec(bootstrap)
            .map_err(|error| Error::failed_because("the record of the first start", error))?;
        self.write_server_secret(RECORD, &Secret::new(text)).await
    }

    async fn first_organization(&self) -> Result<Organization> {
        if let Some(organization) = store::project::first_organization(&self.db).await.map_err(failed)? {
            return Ok(organization);
        }
        let organization = Organization { id: self.new_id(), name: "Chancery".into(), slug: "chancery".into() };
        let insert = store::project::insert_organization(&organization, self.now());
        match self.db.commit(Changes::new().statement(insert).configuration()).await {
            // Another node was faster.
            Ok(()) | Err(store::StoreError::Conflict { .. }) => {}
            Err(error) => return Err(failed(error)),
        }
        let organization = store::project::first_organization(&self.db).await.map_err(failed)?;
        organization.ok_or_else(|| Error::failed("the organisation that was just made is not there"))
    }

    async fn first_project(&self, caller: &Caller) -> Result<Project> {
        let find = || store::project::by_slug(&self.db, caller.organization, PROJECT_SLUG);
        if let Some(project) = find().await.map_err(failed)? {
            return Ok(project);
        }
        let new = NewProject {
            name: "Default".into(),
            slug: Some(PROJECT_SLUG.into()),
            description: Some("Made at the first start".into()),
            has_delete_protection: false,
        };
        match self.create_project(caller, new).await {
            Err(error) if error.reason() == Some(domain::Reason::AlreadyExists) => {
                find().await.map_err(failed)?.ok_or(error)
            }
            other => other,
        }
    }

    async fn first_identity(&self, caller: &Caller, project: ProjectId) -> Result<IdentityId> {
        const NAME: &str = "admin";
        let (identities, _) = self.identities(caller, 0, 100).await?;
        let identity = match identities.into_iter().find(|identity| identity.name == NAME) {
            Some(identity) => identity,
            None => {
                let new = NewIdentity {
                    name: NAME.into(),
                    role: OrganizationRole::Admin,
                    has_delete_protection: false,
                    metadata: Vec::new(),
                };
                self.create_identity(caller, new).await?
            }
        };
        match self.add_member(caller, project, identity.id, vec![RoleAssignment::permanent("admin")]).await {
            Ok(_) => {}
            Err(error) if error.reason() == Some(domain::Reason::AlreadyExists) => {}
            Err(error) => return Err(error),
        }
        Ok(identity.id)
    }

    async fn first_universal_auth(&self, caller: &Caller, identity: IdentityId) -> Result<String> {
        match self.universal_auth(caller, identity).await {
            Ok(auth) => Ok(auth.client_id),
            Err(error) if error.reason() == Some(domain::Reason::NotFound) => {
                // A token that lives as long as it may be renewed could never be renewed: give the first one a year.
                let access_token_ttl_max = 365 * 24 * 60 * 60;
                let settings = UniversalAuthSettings { access_token_ttl_max, ..UniversalAuthSettings::default() };
                Ok(self.attach_universal_auth(caller, identity, settings).await?.client_id)
            }
            Err(error) => Err(error),
        }
    }

    /// The secret of a start that wrote it down and was killed before it noted that; else a new one, and one that was
    /// made and never written down is withdrawn.
    async fn first_secret(&self, caller: &Caller, identity: IdentityId, handed_out: Option<&str>) -> Result<String> {
        let mut kept = None;
        for secret in self.client_secrets(caller, identity).await?.into_iter().filter(|secret| !secret.is_revoked) {
            match handed_out.filter(|text| bool::from(secret.hash.ct_eq(&sha256(text.as_bytes())))) {
                Some(text) => kept = Some(text.to_owned()),
                None => drop(self.revoke_client_secret(caller, identity, secret.id).await?),
            }
        }
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let new = NewClientSecret { description: "made at the first start".into(), uses_limit: 0, ttl_seconds: 0 };
        Ok(self.create_client_secret(caller, identity, new).await?.secret)
    }

    async fn first_root(&self, caller: &Caller, project: ProjectId) -> Result<Authority> {
        self.first_authority(caller, project, "root-ca", "Chancery Root CA", AuthorityKind::Root, KeyAlgorithm::EcP384)
            .await
    }

    async fn first_issuing(&self, caller: &Caller, project: ProjectId, root: &Authority) -> Result<Authority> {
        const LIFETIME_SECONDS: i64 = 5 * 365 * 24 * 60 * 60;
        let kind = AuthorityKind::Intermediate;
        let issuing = self
            .first_authority(caller, project, "issuing-ca", "Chancery Issuing CA", kind, KeyAlgorithm::EcP256)
            .await?;
        match issuing.status {
            AuthorityStatus::Active | AuthorityStatus::Disabled => return Ok(issuing),
            AuthorityStatus::PendingCertificate => {}
        }
        let now = self.now();
        let asked = CertifyAuthority {
            not_before: now,
            not_after: now.plus_seconds(LIFETIME_SECONDS),
            path_length: Some(0),
            parent: Some(root.id),
        };
        self.certify_authority(caller, issuing.id, asked).await?;
        self.authority(caller, issuing.id).await
    }

    async fn first_authority(
        &self,
        caller: &Caller,
        project: ProjectId,
        name: &str,
        common_name: &str,
        kind: AuthorityKind,
        key_algorithm: KeyAlgorithm,
    ) -> Result<Authority> {
        if let Some(authority) = store::authority::by_name(&self.db, project, name).await.map_err(failed)? {
            return Ok(authority);
        }
        let configuration = AuthorityConfiguration {
            friendly_name: common_name.into(),
            common_name: common_name.into(),
            organization: "Chancery".into(),
            ..AuthorityConfiguration::default()
        };
        let new = NewAuthority {
            name: Some(name.into()),
            kind,
            configuration,
            key_algorithm,
            path_length_max: None,
            not_before: None,
            not_after: None,
            enable_direct_issuance: true,
        };
        self.create_authority(caller, project, new).await
    }

    async fn first_profile(
        &self,
        caller: &Caller,
        project: ProjectId,
        authority: AuthorityId,
        slug: &str,
        description: &str,
        rules: PolicyRules,
    ) -> Result<ProfileId> {
        if let Some(profile) = store::profile::by_slug(&self.db, project, slug).await.map_err(failed)? {
            return Ok(profile.id);
        }
        let (policies, _) = self.policies(caller, project, slug, 0, 100).await?;
        let policy = match policies.into_iter().find(|policy| policy.name == slug) {
            Some(policy) => policy,
            None => {
                let new = NewPolicy { name: slug.into(), description: Some(description.into()), rules };
                self.create_policy(caller, project, new).await?
            }
        };
        // A device is a client first; who needs more of what the policy allows asks for it.
        let defaults = (slug == DEVICE_PROFILE).then(|| ProfileDefaults {
            extended_key_usages: Some(vec!["client_auth".into()]),
            ..ProfileDefaults::default()
        });
        let new = NewProfile {
            slug: slug.into(),
            description: Some(description.into()),
            authority: Some(authority),
            policy: policy.id,
            enrollment: NewEnrollment::Api { auto_renew: false, renew_before_days: None },
            defaults,
            external_configs: None,
        };
        Ok(self.create_profile(caller, project, new).await?.id)
    }

    /// The server itself as an admin of one project.
    pub(crate) fn node_in(&self, organization: OrganizationId, project: ProjectId) -> Caller {
        administering(&Caller::node(organization), project)
    }

    /// Opens what every later call needs: the data keys, the key of the audit, the time of the newest record.
    #[compiled_here]
    pub async fn open_up(&self) -> Result<()> {
        self.load_data_keys().await?;
        let make = || Secret::random(32).map_err(key_failed);
        let key = self.server_secret("audit-key", make).await?;
        let key: [u8; 32] =
            key.expose().try_into().map_err(|_| Error::failed("the audit key does not have 32 octets"))?;
        self.db.set_audit_key(key);
        self.token_key().await?;
        if let Some(highest) = self.db.highest_time().await.map_err(failed)? {
            self.clock.note_committed(domain::Time::from_millis(highest));
        }
        self.compare_clocks().await
    }

    /// Reads the database's clock, when it has one. A clock that a test puts is not compared with it.
    #[compiled_here]
    pub async fn compare_clocks(&self) -> Result<()> {
        if self.clock.is_manual() {
            return Ok(());
        }
        if let Some(millis) = self.db.database_time_millis().await.map_err(failed)? {
            self.clock.note_database(domain::Time::from_millis(millis));
        }
        Ok(())
    }
}

fn administering(caller: &Caller, project: ProjectId) -> Caller {
    let rules = HashMap::from([(project, Arc::from(BuiltInRole::Admin.rules()))]);
    Caller { projects: Arc::new(rules), default_project: Some(project), ..caller.clone() }
}

/// The policies of the first start. Each is also the profile of the same name.
fn first_policies() -> Result<Vec<(&'static str, &'static str, PolicyRules)>> {
    let keys = json!(["EC_prime256v1", "EC_secp384r1", "RSA_2048", "RSA_3072", "RSA_4096"]);
    let signatures = json!(["ECDSA-SHA256", "ECDSA-SHA384", "ECDSA-SHA512"]);
    let algorithms = json!({ "signature": signatures, "keyAlgorithm": keys });
    let anything = |kind: &str| json!({ "type": kind, "allowed": ["*"] });
    let usages = json!({ "allowed": ["digital_signature", "key_encipherment"] });
    let policies = [
        (
            "web-server",
            "TLS servers: any DNS name and IP address, up to 90 days",
            json!({
                "subject": [anything("common_name")],
                "sans": [anything("dns_name"), anything("ip_address")],
                "keyUsages": usages,
                "extendedKeyUsages": { "allowed": ["server_auth"] },
                "algorithms": algorithms,
                "validity": { "max": "90d" },
            }),
        ),
        (
            "client",
            "TLS clients: people and programs, up to one year",
            json!({
                "subject": [anything("common_name"), anything("organization"), anything("organizational_unit")],
                "sans": [anything("email"), anything("uri")],
                "keyUsages": usages,
                "extendedKeyUsages": { "allowed": ["client_auth"] },
                "algorithms": algorithms,
                "validity": { "max": "1y" },
            }),
        ),
        (
            DEVICE_PROFILE,
            "Devices that are client and server at once, up to two years",
            json!({
                "subject": [anything("common_name"), anything("organization"), anything("organizational_unit")],
                "sans": [anything("dns_name"), anything("ip_address"), anything("uri")],
                "keyUsages": usages,
                "extendedKeyUsages": { "allowed": ["client_auth", "server_auth"] },
                "algorithms": algorithms,
                "validity": { "max": "2y" },
            }),
        ),
        (
            SERVER_PROFILE,
            "The TLS certificate of this server itself, which it renews",
            json!({
                "subject": [anything("common_name")],
                "sans": [anything("dns_name"), anything("ip_address")],
                "keyUsages": { "allowed": ["digital_signature"] },
                "extendedKeyUsages": { "allowed": ["server_auth"] },
                "algorithms": { "signature": signatures, "keyAlgorithm": ["EC_prime256v1"] },
                "validity": { "max": "90d" },
            }),
        ),
    ];
    policies
        .into_iter()
        .map(|(slug, description, rules)| {
            let rules = serde_json::from_value(rules)
                .map_err(|error| Error::failed_because(format!("the built-in policy {slug}"), error))?;
            Ok((slug, description, rules))
        })
        .collect()
}
