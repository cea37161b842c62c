//! Machine identities and how they log in (contract §2.5, 2.6).

use crate::audit::{self, Object};
use crate::context::{Context, failed};
use crate::login::sha256;
use async_recursion::async_recursion as compiled_here;
use domain::caller::{Caller, OrganizationRole};
use domain::identity::{ClientSecret, Identity, MetadataEntry, UniversalAuth, UniversalAuthSettings};
use domain::{ClientSecretId, Error, IdentityId, Result};
use serde_json::json;
use store::{Changes, StoreError};

/// What an identity is made with.
pub struct NewIdentity {
    /// Its name.
    pub name: String,
    /// Its role in the organisation.
    pub role: OrganizationRole,
    /// Whether it refuses to be deleted.
    pub has_delete_protection: bool,
    /// Free pairs.
    pub metadata: Vec<MetadataEntry>,
}

/// What can change in an identity. Absent stays as it is.
#[derive(Default)]
pub struct IdentityChange {
    /// Its name.
    pub name: Option<String>,
    /// Its role in the organisation.
    pub role: Option<OrganizationRole>,
    /// Whether it refuses to be deleted.
    pub has_delete_protection: Option<bool>,
    /// Free pairs.
    pub metadata: Option<Vec<MetadataEntry>>,
}

/// What a client secret is made with.
pub struct NewClientSecret {
    /// What it is for.
    pub description: String,
    /// Logins allowed; 0 is without limit.
    pub uses_limit: i64,
    /// Seconds until it is void; 0 is never.
    pub ttl_seconds: i64,
}

/// A secret that is shown once.
pub struct ShownSecret {
    /// The secret itself, which is not kept.
    pub secret: String,
    /// Its record.
    pub record: ClientSecret,
}

impl Context {
    /// Makes an identity. Only an admin of the organisation may, so no role is ever given that the caller lacks.
    #[compiled_here]
    pub async fn create_identity(&self, caller: &Caller, new: NewIdentity) -> Result<Identity> {
        caller.must_administer_organization("make identities")?;
        let now = self.now();
        let identity = Identity {
            id: self.new_id(),
            organization: caller.organization,
            name: new.name,
            role: new.role,
            has_delete_protection: new.has_delete_protection,
            metadata: new.metadata,
            has_universal_auth: false,
            created_at: now,
            updated_at: now,
        };
        let detail = json!({ "name": identity.name, "role": identity.role.as_str() });
        let changes = Changes::new().statement(store::identity::insert(&identity));
        self.commit_identity(caller, changes, identity.id, "identity-created", &detail).await?;
        Ok(identity)
    }

    /// The identities of the organisation, and how many there are.
    #[compiled_here]
    pub async fn identities(&self, caller: &Caller, offset: u32, limit: u32) -> Result<(Vec<Identity>, i64)> {
        must_read_identities(caller)?;
        let identities = store::identity::list(&self.db, caller.organization, offset, limit).await.map_err(failed)?;
        let total = store::identity::count(&self.db, caller.organization).await.map_err(failed)?;
        Ok((identities, total))
    }

    /// An identity of the organisation.
    #[compiled_here]
    pub async fn identity(&self, caller: &Caller, id: IdentityId) -> Result<Identity> {
        if caller.identity() != Some(id) {
            must_read_identities(caller)?;
        }
        self.find_identity(caller, id).await
    }

    async fn find_identity(&self, caller: &Caller, id: IdentityId) -> Result<Identity> {
        let identity = store::identity::by_id(&self.db, caller.organization, id).await.map_err(failed)?;
        identity.ok_or_else(|| Error::not_found(format!("there is no identity {id}")))
    }

    /// Changes an identity.
    #[compiled_here]
    pub async fn change_identity(&self, caller: &Caller, id: IdentityId, change: IdentityChange) -> Result<Identity> {
        let mut identity = self.find_identity(caller, id).await?;
        caller.must_administer_organization("change identities")?;
        if change.role.is_some_and(|role| role != identity.role) {
            must_be_another(caller, id)?;
        }
        identity.name = change.name.unwrap_or(identity.name);
        identity.role = change.role.unwrap_or(identity.role);
        identity.has_delete_protection = change.has_delete_protection.unwrap_or(identity.has_delete_protection);
        identity.metadata = change.metadata.unwrap_or(identity.metadata);
        identity.updated_at = self.now();
        let detail = json!({ "name": identity.name, "role": identity.role.as_str() });
        let changes = Changes::new().statement(store::identity::update(&identity));
        self.commit_identity(caller, changes, id, "identity-changed", &detail).await?;
        Ok(identity)
    }

    /// Deletes an identity with its credentials; its tokens stop working with this answer.
    #[compiled_here]
    pub async fn delete_identity(&self, caller: &Caller, id: IdentityId) -> Result<Identity> {
        let identity = self.find_identity(caller, id).await?;
        caller.must_administer_organization("delete identities")?;
        must_be_another(caller, id)?;
        if identity.has_delete_protection {
            return Err(Error::forbidden("the identity is protected from deletion; take the protection off first"));
        }
        let changes = Changes::new().statement(store::identity::delete(caller.organization, id));
        self.commit_identity(caller, changes, id, "identity-deleted", &json!({ "name": identity.name })).await?;
        Ok(identity)
    }

    /// Lets an identity log in with Universal Auth.
    #[compiled_here]
    pub async fn attach_universal_auth(
        &self,
        caller: &Caller,
        id: IdentityId,
        settings: UniversalAuthSettings,
    ) -> Result<UniversalAuth> {
        let identity = self.find_identity(caller, id).await?;
        caller.must_administer_organization("configure Universal Auth")?;
        if identity.has_universal_auth {
            return Err(Error::already_exists("Universal Auth is configured for this identity already"));
        }
        let now = self.now();
        let auth = UniversalAuth {
            id: self.new_id(),
            identity: id,
            client_id: uuid::Builder::from_random_bytes(self.random.octets()).into_uuid().to_string(),
            settings,
            failures: 0,
            failures_until: domain::Time::from_millis(0),
            locked_until: domain::Time::from_millis(0),
            created_at: now,
            updated_at: now,
        };
        let changes = Changes::new().statement(store::credential::insert(&auth));
        let detail = json!({ "clientId": auth.client_id });
        self.commit_identity(caller, changes, id, "universal-auth-attached", &detail).await?;
        Ok(auth)
    }

    /// The Universal Auth configuration of an identity.
    #[compiled_here]
    pub async fn universal_auth(&self, caller: &Caller, id: IdentityId) -> Result<UniversalAuth> {
        self.find_identity(caller, id).await?;
        must_read_identities(caller)?;
        self.find_universal_auth(id).await
    }

    async fn find_universal_auth(&self, id: IdentityId) -> Result<UniversalAuth> {
        let auth = store::credential::by_identity(&self.db, id).await.map_err(failed)?;
        auth.ok_or_else(|| Error::not_found("Universal Auth is not configured for this identity"))
    }

    async fn administered(&self, caller: &Caller, id: IdentityId) -> Result<UniversalAuth> {
        self.find_identity(caller, id).await?;
        caller.must_administer_organization("manage how identities log in")?;
        self.find_universal_auth(id).await
    }

    /// Changes the Universal Auth settings of an identity.
    pub async fn change_universal_auth(
        &self,
        caller: &Caller,
        id: IdentityId,
        change: impl FnOnce(UniversalAuthSettings) -> Result<UniversalAuthSettings>,
    ) -> Result<UniversalAuth> {
        let mut auth = self.administered(caller, id).await?;
        auth.settings = change(auth.settings)?;
        auth.updated_at = self.now();
        let changes = Changes::new().statement(store::credential::update(&auth));
        self.commit_identity(caller, changes, id, "universal-auth-changed", &json!({})).await?;
        Ok(auth)
    }

    /// Takes Universal Auth away from an identity; its secrets and tokens stop working with this answer.
    #[compiled_here]
    pub async fn detach_universal_auth(&self, caller: &Caller, id: IdentityId) -> Result<UniversalAuth> {
        let auth = self.administered(caller, id).await?;
        let changes = Changes::new()
            .statement(store::credential::delete(auth.id))
            .statement(store::credential::revoke_tokens_of(id));
        self.commit_identity(caller, changes, id, "universal-auth-detached", &json!({})).await?;
        Ok(auth)
    }

    /// Makes a client secret. It is shown here and never again.
    #[compiled_here]
    pub async fn create_client_secret(
        &self,
        caller: &Caller,
        id: IdentityId,
        new: NewClientSecret,
    ) -> Result<ShownSecret> {
        let auth = self.administered(caller, id).await?;
        let now = self.now();
        let secret = self.random.hex(32);
        let record = ClientSecret {
            id: self.new_id(),
            universal_auth: auth.id,
            description: new.description,
            prefix: secret[..4].to_owned(),
            hash: sha256(secret.as_bytes()),
            uses: 0,
            uses_limit: new.uses_limit,
            ttl_seconds: new.ttl_seconds,
            is_revoked: false,
            created_at: now,
            updated_at: now,
        };
        let changes = Changes::new().statement(store::credential::insert_secret(&record));
        let detail = json!({ "clientSecretId": record.id.to_string(), "prefix": record.prefix });
        self.commit_identity(caller, changes, id, "client-secret-created", &detail).await?;
        Ok(ShownSecret { secret, record })
    }

    /// The client secrets of an identity, without the secrets themselves.
    #[compiled_here]
    pub async fn client_secrets(&self, caller: &Caller, id: IdentityId) -> Result<Vec<ClientSecret>> {
        let auth = self.universal_auth(caller, id).await?;
        store::credential::secrets(&self.db, auth.id).await.map_err(failed)
    }

    /// One client secret of an identity, without the secret itself.
    #[compiled_here]
    pub async fn client_secret(&self, caller: &Caller, id: IdentityId, secret: ClientSecretId) -> Result<ClientSecret> {
        let secrets = self.client_secrets(caller, id).await?;
        secrets
            .into_iter()
            .find(|candidate| candidate.id == secret)
            .ok_or_else(|| Error::not_found(format!("this identity has no client secret {secret}")))
    }

    /// Withdraws a client secret.
    #[compiled_here]
    pub async fn revoke_client_secret(
        &self,
        caller: &Caller,
        id: IdentityId,
        secret: ClientSecretId,
    ) -> Result<ClientSecret> {
        self.administered(caller, id).await?;
        let mut record = self.client_secret(caller, id, secret).await?;
        let changes = Changes::new().statement(store::credential::revoke_secret(secret, self.now()));
        let detail = json!({ "clientSecretId": secret.to_string() });
        self.commit_identity(caller, changes, id, "client-secret-revoked", &detail).await?;
        record.is_revoked = true;
        Ok(record)
    }

    /// Lifts the lock that wrong secrets brought about, and says how many locks were lifted.
    #[compiled_here]
    pub async fn clear_lockouts(&self, caller: &Caller, id: IdentityId) -> Result<u32> {
        let auth = self.administered(caller, id).await?;
        let was_locked = auth.locked_until > self.now();
        let changes = Changes::new().statement(store::credential::clear_lockout(auth.id));
        self.commit_identity(caller, changes, id, "lockouts-cleared", &json!({})).await?;
        Ok(u32::from(was_locked))
    }

    async fn commit_identity(
        &self,
        caller: &Caller,
        changes: Changes,
        id: IdentityId,
        event: &'static str,
        detail: &serde_json::Value,
    ) -> Result<()> {
        let record = audit::record(caller, None, event, Object::new("identity", id), detail, self.now());
        match self.db.commit(changes.audit(record).configuration()).await {
            Ok(()) => Ok(()),
            Err(StoreError::Conflict { .. }) => Err(Error::already_exists("somebody else has just made the same")),
            Err(error) => Err(failed(error)),
        }
    }
}

/// Only an admin changes who is an admin, and never itself: so there is always one left.
fn must_be_another(caller: &Caller, id: IdentityId) -> Result<()> {
    if caller.identity() == Some(id) {
        return Err(Error::forbidden("an admin cannot delete itself or change its own role; let another admin do it"));
    }
    Ok(())
}

fn must_read_identities(caller: &Caller) -> Result<()> {
    match caller.organization_role {
        OrganizationRole::Admin | OrganizationRole::Member => Ok(()),
        OrganizationRole::NoAccess => {
            Err(Error::permission_denied("your role in the organisation does not allow seeing identities"))
        }
    }
}
