//! Universal Auth: logging in, renewing and revoking access tokens (contract §2.2–2.4).

use crate::audit::{self, Object};
use crate::context::{Context, failed};
use async_recursion::async_recursion as compiled_here;
use domain::caller::{Actor, ActorKind, Caller, OrganizationRole};
use domain::identity::{AccessToken, ClientSecret, Identity, UniversalAuth, is_trusted};
use domain::{AccessTokenId, Error, Result};
use serde_json::json;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use store::{Changes, StoreError};
use subtle::ConstantTimeEq;

/// What a client gets for its secret.
pub struct Login {
    /// The signed token.
    pub access_token: String,
    /// Seconds until it ends.
    pub expires_in: i64,
    /// Seconds from issue until which it can be renewed.
    pub access_token_ttl_max: i64,
}

/// The greatest lifetime that is reported for a token which may be renewed for ever (contract §2.2).
const TTL_MAX_OF_PERIODIC: i64 = 1_000_000_000;

impl Context {
    /// Exchanges a client id and secret for an access token.
    #[compiled_here]
    pub async fn log_in(&self, client_id: &str, client_secret: &str, address: Option<IpAddr>) -> Result<Login> {
        let refused = || Error::unauthenticated("the client id or the client secret is wrong");
        let auth = store::credential::by_client_id(&self.db, client_id).await.map_err(failed)?.ok_or_else(refused)?;
        if !is_trusted(&auth.settings.client_secret_trusted_ips, address) {
            return Err(Error::forbidden("this identity may not log in from your address"));
        }
        let now = self.now();
        if auth.settings.lockout_enabled && auth.locked_until > now {
            return Err(Error::unauthenticated(
                "too many wrong secrets: this client id is locked for a while; an admin can clear the lock",
            ));
        }
        let secrets = store::credential::secrets(&self.db, auth.id).await.map_err(failed)?;
        let Some(secret) = matching(&secrets, client_secret) else {
            if auth.settings.lockout_enabled {
                self.commit(Changes::new().statement(store::credential::count_failure(&auth, now))).await?;
            }
            return Err(refused());
        };
        if secret.has_expired(now) || secret.is_used_up() {
            self.commit(Changes::new().statement(store::credential::revoke_secret(secret.id, now)).configuration())
                .await?;
            return Err(Error::unauthenticated("the client secret has expired or was used as often as it may be"));
        }
        let identity = store::identity::by_token(&self.db, auth.identity).await.map_err(failed)?.ok_or_else(refused)?;
        self.start_token(&auth, &identity, secret, address).await
    }

    async fn start_token(
        &self,
        auth: &UniversalAuth,
        identity: &Identity,
        secret: &ClientSecret,
        address: Option<IpAddr>,
    ) -> Result<Login> {
        let now = self.now();
        let settings = &auth.settings;
        let token = AccessToken {
            id: self.new_id(),
            identity: identity.id,
            client_secret: secret.id,
            ttl_seconds: settings.access_token_ttl,
            ttl_seconds_max: settings.access_token_ttl_max,
            period_seconds: settings.access_token_period,
            uses: 0,
            uses_limit: settings.access_token_num_uses_limit,
            is_revoked: false,
            created_at: now,
            renewed_at: now,
        };
        let caller = actor_of(identity, secret.id.0, address);
        let object = Object::new("access-token", token.id);
        let mut changes = Changes::new()
            .statement(store::credential::use_secret(secret.id))
            .statement(store::credential::prune_tokens(identity.id, now))
            .statement(store::credential::insert_token(&token))
            .audit(audit::record(&caller, None, "login", object, &json!({}), now));
        if auth.failures > 0 {
            changes = changes.statement(store::credential::clear_lockout(auth.id));
        }
        match self.db.commit(changes).await {
            Ok(()) => self.signed(&token).await,
            Err(StoreError::Stale(_)) => {
                Err(Error::unauthenticated("the client secret was used as often as it may be"))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Prolongs a token and gives its new signed form.
    #[compiled_here]
    pub async fn renew_token(&self, text: &str) -> Result<Login> {
        let now = self.now();
        let verified = self.token_key().await?.verify(text, now)?;
        if verified.is_shortened {
            return Err(Error::unauthenticated(
                "the access token was made of another one for a limited time and is not renewed: exchange that one again",
            ));
        }
        let token = self.usable_token(verified.token).await?;
        if token.has_expired(now) || token.is_past_renewal(now) {
            self.commit(Changes::new().statement(store::credential::revoke_token(token.id)).configuration()).await?;
            return Err(Error::unauthenticated("the access token has reached its greatest lifetime; log in again"));
        }
        let caller = self.caller_of(verified.identity, token.id.0).await?;
        let object = Object::new("access-token", token.id);
        let changes = Changes::new()
            .statement(store::credential::renew_token(token.id, now))
            .audit(audit::record(&caller, None, "access-token-renewed", object, &json!({}), now))
            .configuration();
        match self.db.commit(changes).await {
            Ok(()) => self.signed(&AccessToken { renewed_at: now, ..token }).await,
            Err(StoreError::Stale(_)) => Err(unknown_token()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Withdraws a token: it stops working with this answer.
    #[compiled_here]
    pub async fn revoke_token(&self, text: &str) -> Result<()> {
        let now = self.now();
        let verified = self.token_key().await?.verify(text, now)?;
        let token = self.usable_token(verified.token).await?;
        let caller = self.caller_of(verified.identity, token.id.0).await?;
        let object = Object::new("access-token", token.id);
        let changes = Changes::new()
            .statement(store::credential::revoke_token(token.id))
            .audit(audit::record(&caller, None, "access-token-revoked", object, &json!({}), now))
            .configuration();
        match self.db.commit(changes).await {
            Ok(()) => Ok(()),
            Err(StoreError::Stale(_)) => Err(unknown_token()),
            Err(error) => Err(failed(error)),
        }
    }

    async fn usable_token(&self, id: AccessTokenId) -> Result<AccessToken> {
        let token = store::credential::token(&self.db, id).await.map_err(failed)?.ok_or_else(unknown_token)?;
        if token.is_revoked || token.is_used_up() {
            return Err(unknown_token());
        }
        Ok(token)
    }

    async fn caller_of(&self, identity: domain::IdentityId, credential: uuid::Uuid) -> Result<Caller> {
        let identity =
            store::identity::by_token(&self.db, identity).await.map_err(failed)?.ok_or_else(unknown_token)?;
        Ok(actor_of(&identity, credential, None))
    }

    async fn signed(&self, token: &AccessToken) -> Result<Login> {
        let lifetime = token.lifetime_seconds();
        let access_token = self.token_key().await?.sign(token, self.now(), lifetime, self.random.hex(8))?;
        let access_token_ttl_max = if token.period_seconds > 0 { TTL_MAX_OF_PERIODIC } else { token.ttl_seconds_max };
        Ok(Login { access_token, expires_in: lifetime, access_token_ttl_max })
    }
}

/// The secret that was given, found without telling by time how close a wrong one came.
fn matching<'a>(secrets: &'a [ClientSecret], given: &str) -> Option<&'a ClientSecret> {
    let hash = sha256(given.as_bytes());
    secrets
        .iter()
        .filter(|secret| !secret.is_revoked)
        .fold(None, |found, secret| if bool::from(secret.hash.ct_eq(&hash)) { Some(secret) } else { found })
}

/// SHA-256, which is how secrets that the server made are kept: they have enough random bits of their own.
pub(crate) fn sha256(octets: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, octets);
    digest.as_ref().try_into().expect("SHA-256 has 32 octets")
}

fn actor_of(identity: &Identity, credential: uuid::Uuid, address: Option<IpAddr>) -> Caller {
    Caller {
        actor: Actor {
            kind: ActorKind::Identity,
            id: Some(identity.id.0),
            method: "universal-auth",
            credential: Some(credential),
            address,
        },
        organization: identity.organization,
        organization_role: OrganizationRole::NoAccess,
        default_project: None,
        projects: Arc::new(HashMap::new()),
        applications: Arc::new(HashMap::new()),
    }
}

fn unknown_token() -> Error {
    Error::unauthenticated("the access token is unknown or was revoked; log in again")
}
