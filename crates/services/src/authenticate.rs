//! From a bearer token to a caller: signature, record, addresses, memberships and rules.
//!
//! What was read is kept for a few seconds and dropped at once when the configuration changes, so a revoked token or a
//! role that was taken away stops working with the answer that said so, on every node: each call asks the database
//! whether the configuration is still the one that is remembered.

use crate::context::{Context, failed};
use crate::login::sha256;
use crate::token::{TokenKey, VerifiedToken};
use async_recursion::async_recursion as compiled_here;
use domain::caller::{Actor, ActorKind, ApplicationAccess, Caller};
use domain::identity::{AccessToken, TrustedNetwork, is_trusted};
use domain::permission::Rule;
use domain::role::{BuiltInRole, CustomRole};
use domain::{AccessTokenId, ApplicationId, Error, IdentityId, ProjectId, Result, Time};
use keys::Secret;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use store::{Changes, StoreError};

/// How long what was read of a token is believed. Bounds what another node's clock or a temporary role can do.
const BELIEVED_MILLIS: i64 = 5_000;
/// How many tokens are remembered at once.
const REMEMBERED_MAX: usize = 10_000;

/// Callers by their token, of one epoch of the configuration.
#[derive(Default)]
pub(crate) struct CallerCache(RwLock<Remembered>);

#[derive(Default)]
struct Remembered {
    epoch: u64,
    callers: HashMap<AccessTokenId, Arc<KnownCaller>>,
    /// What was read from signed tokens whose signature holds, by the SHA-256 of their text.
    verified: HashMap<[u8; 32], VerifiedToken>,
}

struct KnownCaller {
    caller: Caller,
    token: AccessToken,
    trusted: Vec<TrustedNetwork>,
    until: Time,
}

impl Context {
    /// The caller that an `Authorization` header names. The scheme word is not looked at (contract §2.1).
    #[compiled_here]
    pub async fn authenticate(&self, authorization: Option<&str>, address: Option<IpAddr>) -> Result<Caller> {
        let Some(text) = authorization.and_then(|value| value.split_once(' ')).map(|(_, token)| token.trim()) else {
            return Err(Error::unauthenticated("this needs an access token: send it as \"Authorization: Bearer …\""));
        };
        if text.starts_with("st.") {
            return Err(Error::forbidden("service tokens are not accepted here; log in with Universal Auth"));
        }
        let now = self.now();
        let verified = self.verified(text, now).await?;
        // What another node has withdrawn is not believed here for a moment longer.
        self.db.confirmed_epoch().await.map_err(failed)?;
        let known = match self.remembered(verified.token, now) {
            Some(known) => known,
            None => self.read_caller(verified.token, now).await?,
        };
        if known.token.has_expired(now) {
            return Err(Error::unauthenticated("the access token has expired; log in again"));
        }
        if !is_trusted(&known.trusted, address) {
            return Err(Error::forbidden("access tokens of this identity are not accepted from your address"));
        }
        if known.token.uses_limit > 0 {
            self.count_use(&known.token).await?;
        }
        let mut caller = known.caller.clone();
        caller.actor.address = address;
        Ok(caller)
    }

    /// Checks the signature of a token once for as long as it is remembered, and its end each time.
    async fn verified(&self, text: &str, now: Time) -> Result<VerifiedToken> {
        let digest = sha256(text.as_bytes());
        let known = {
            let remembered = self.state.callers.0.read().unwrap_or_else(PoisonError::into_inner);
            remembered.verified.get(&digest).copied()
        };
        if let Some(known) = known {
            known.must_not_have_ended(now)?;
            return Ok(known);
        }
        let verified = self.token_key().await?.verify(text, now).map_err(|error| match error.reason() {
            Some(domain::Reason::Invalid) => Error::forbidden("this kind of token is not accepted here"),
            _ => error,
        })?;
        let mut remembered = self.state.callers.0.write().unwrap_or_else(PoisonError::into_inner);
        if remembered.verified.len() >= REMEMBERED_MAX {
            remembered.verified.clear();
        }
        remembered.verified.insert(digest, verified);
        Ok(verified)
    }

    fn remembered(&self, token: AccessTokenId, now: Time) -> Option<Arc<KnownCaller>> {
        let remembered = self.state.callers.0.read().unwrap_or_else(PoisonError::into_inner);
        if remembered.epoch != self.db.configuration_epoch() {
            return None;
        }
        remembered.callers.get(&token).filter(|known| now < known.until).cloned()
    }

    async fn read_caller(&self, id: AccessTokenId, now: Time) -> Result<Arc<KnownCaller>> {
        let unusable = || Error::unauthenticated("the access token is unknown or was revoked; log in again");
        // The epoch is taken before the rows are read: a change in between makes what was read count as old.
        let epoch = self.db.configuration_epoch();
        let token = store::credential::token(&self.db, id).await.map_err(failed)?.ok_or_else(unusable)?;
        if token.is_revoked || token.is_used_up() {
            return Err(unusable());
        }
        let identity =
            store::identity::by_token(&self.db, token.identity).await.map_err(failed)?.ok_or_else(unusable)?;
        let auth = store::credential::by_identity(&self.db, token.identity).await.map_err(failed)?;
        let projects = self.rules_of(&identity, now).await?;
        let caller = Caller {
            actor: Actor {
                kind: ActorKind::Identity,
                id: Some(identity.id.0),
                method: "universal-auth",
                credential: Some(token.id.0),
                address: None,
            },
            organization: identity.organization,
            organization_role: identity.role,
            default_project: store::project::default_of(&self.db, identity.organization).await.map_err(failed)?,
            projects: Arc::new(projects),
            applications: Arc::new(self.applications_of(identity.id).await?),
        };
        let known = Arc::new(KnownCaller {
            caller,
            token,
            trusted: auth.ok_or_else(unusable)?.settings.access_token_trusted_ips,
            until: now.plus_millis(BELIEVED_MILLIS),
        });
        self.remember(epoch, id, known.clone());
        Ok(known)
    }

    fn remember(&self, epoch: u64, id: AccessTokenId, known: Arc<KnownCaller>) {
        let mut remembered = self.state.callers.0.write().unwrap_or_else(PoisonError::into_inner);
        if remembered.epoch < epoch || remembered.callers.len() >= REMEMBERED_MAX {
            remembered.callers.clear();
            remembered.epoch = remembered.epoch.max(epoch);
        }
        if remembered.epoch == epoch {
            remembered.callers.insert(id, known);
        }
    }

    async fn rules_of(
        &self,
        identity: &domain::identity::Identity,
        now: Time,
    ) -> Result<HashMap<ProjectId, Arc<[Rule]>>> {
        let mut projects = HashMap::new();
        for membership in store::identity::memberships(&self.db, identity.id).await.map_err(failed)? {
            let mut rules = Vec::new();
            let mut custom: Option<Vec<CustomRole>> = None;
            for assignment in membership.roles.iter().filter(|assignment| assignment.holds_at(now)) {
                if let Some(role) = BuiltInRole::parse(&assignment.role) {
                    rules.extend_from_slice(role.rules());
                    continue;
                }
                if custom.is_none() {
                    custom = Some(store::identity::roles(&self.db, membership.project).await.map_err(failed)?);
                }
                let role = custom.iter().flatten().find(|role| role.slug == assignment.role);
                rules.extend(role.into_iter().flat_map(|role| role.permissions.iter().cloned()));
            }
            projects.insert(membership.project, rules.into());
        }
        Ok(projects)
    }

    async fn applications_of(&self, identity: IdentityId) -> Result<HashMap<ApplicationId, ApplicationAccess>> {
        let accesses = store::application::accesses(&self.db, identity).await.map_err(failed)?;
        let rules_of = |access: store::application::Access| {
            let rules = access.role.rules(&access.profiles).into();
            (access.application, ApplicationAccess { project: access.project, rules })
        };
        Ok(accesses.into_iter().map(rules_of).collect())
    }

    async fn count_use(&self, token: &AccessToken) -> Result<()> {
        let changes = Changes::new().statement(store::credential::use_token(token.id));
        match self.db.commit(changes).await {
            Ok(()) => Ok(()),
            Err(StoreError::Stale(_)) => {
                Err(Error::unauthenticated("the access token was used as often as it may be; log in again"))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// The key that signs access tokens, the same on all nodes.
    pub(crate) async fn token_key(&self) -> Result<Arc<TokenKey>> {
        if let Some(key) = self.state.token_key.read().unwrap_or_else(PoisonError::into_inner).clone() {
            return Ok(key);
        }
        let make = || Secret::random(32).map_err(crate::context::key_failed);
        let secret = self.server_secret("access-token-key", make).await?;
        let key = Arc::new(TokenKey::new(secret.expose()));
        *self.state.token_key.write().unwrap_or_else(PoisonError::into_inner) = Some(key.clone());
        Ok(key)
    }
}
