//! External account binding of ACME (RFC 8555 §7.3.4): the secret by which an account proves to which profile it belongs.
//! It is made when it is first asked for, and kept sealed.

use crate::audit::{self, Object};
use crate::context::{Context, failed, key_failed};
use crate::profiles::about;
use async_recursion::async_recursion as compiled_here;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::caller::Caller;
use domain::permission::Action;
use domain::profile::{Enrollment, Profile};
use domain::{Error, ProfileId, Result};
use keys::{Place, Secret};
use serde_json::json;
use store::{Changes, Statement};

/// How long a secret is: as long as what HMAC with SHA-256 gives.
const SECRET_OCTETS: usize = 32;

/// What an ACME client is configured with.
pub struct AccountBinding {
    /// The name of the key.
    pub kid: String,
    /// The key.
    pub secret: Secret,
}

impl AccountBinding {
    /// The key as clients take it: base64url without padding.
    pub fn secret_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.secret.expose())
    }
}

impl Context {
    /// Shows what ACME clients of a profile are configured with.
    #[compiled_here]
    pub async fn reveal_account_binding(&self, caller: &Caller, profile: ProfileId) -> Result<AccountBinding> {
        let profile = self.profile_of_acme(caller, profile, Action::RevealAcmeSecret).await?;
        if store::account_binding::of_profile(&self.db, profile.id).await.map_err(failed)?.is_none() {
            let secret = Secret::random(SECRET_OCTETS).map_err(key_failed)?;
            self.keep_account_binding(
                caller,
                &profile,
                &secret,
                "acme-eab-secret-made",
                store::account_binding::insert,
            )
            .await?;
        }
        let sealed = store::account_binding::of_profile(&self.db, profile.id).await.map_err(failed)?;
        let sealed =
            sealed.ok_or_else(|| Error::not_found(format!("there is no certificate profile {}", profile.id)))?;
        let secret = self.open(place(&profile), &sealed).await?;
        let record = self.binding_record(caller, &profile, "acme-eab-secret-revealed");
        self.commit(Changes::new().audit(record)).await?;
        Ok(AccountBinding { kid: profile.id.to_string(), secret })
    }

    /// Puts another secret in its place. Accounts that are there stay; new ones need the new one.
    #[compiled_here]
    pub async fn rotate_account_binding(&self, caller: &Caller, profile: ProfileId) -> Result<AccountBinding> {
        let profile = self.profile_of_acme(caller, profile, Action::RotateAcmeSecret).await?;
        let secret = Secret::random(SECRET_OCTETS).map_err(key_failed)?;
        self.keep_account_binding(
            caller,
            &profile,
            &secret,
            "acme-eab-secret-rotated",
            store::account_binding::replace,
        )
        .await?;
        Ok(AccountBinding { kid: profile.id.to_string(), secret })
    }

    async fn profile_of_acme(&self, caller: &Caller, id: ProfileId, action: Action) -> Result<Profile> {
        let profile = self.find_profile(caller, id).await?;
        caller.may(profile.project, action, &about(&profile.slug))?;
        match profile.enrollment {
            Enrollment::Acme => Ok(profile),
            Enrollment::Api | Enrollment::Est => {
                Err(Error::wrong_state(format!("the certificate profile {} does not enroll by ACME", profile.slug)))
            }
        }
    }

    async fn keep_account_binding(
        &self,
        caller: &Caller,
        profile: &Profile,
        secret: &Secret,
        event: &'static str,
        keep: fn(ProfileId, u32, Vec<u8>, domain::Time) -> Statement,
    ) -> Result<()> {
        let data_key = self.data_key(profile.project).await?;
        let sealed = data_key.seal(place(profile), secret.expose()).map_err(key_failed)?;
        let keep = keep(profile.id, data_key.version(), sealed, self.now());
        let record = self.binding_record(caller, profile, event);
        self.commit(Changes::new().statement(keep).audit(record)).await
    }

    fn binding_record(&self, caller: &Caller, profile: &Profile, event: &'static str) -> store::AuditRecord {
        let object = Object::new("certificate-profile", profile.id);
        audit::record(caller, Some(profile.project), event, object, &json!({ "slug": profile.slug }), self.now())
    }
}

fn place(profile: &Profile) -> Place<'_> {
    Place { table: "account_bindings", row: profile.id.as_bytes(), project: profile.project.as_bytes() }
}
