//! Hooks: ways in for brokers outside, each a URL with a secret that is shown once. What is asked below it is answered in
//! `registry/hook_answers.rs`.

use super::folders::may;
use super::operations::Recorded;
use super::page::{Page, PageRequest};
use crate::context::{Context, failed};
use crate::login::sha256;
use async_recursion::async_recursion as compiled_here;
use domain::caller::Caller;
use domain::permission::Action;
use domain::registry::BrokerHookId;
use domain::registry::hook::{BrokerHook, HOOKS_PER_FOLDER_MAX, HookKind};
use domain::{Error, Result, Time};
use serde_json::json;
use store::Changes;
use store::registry::hooks;

/// Octets of a hook's secret.
const SECRET_OCTETS: usize = 24;
/// The greatest length of a secret that is looked for.
const SECRET_CHARACTERS_MAX: usize = 128;
const EVENT_KIND: &str = "broker-hook";

impl Context {
    /// Makes a hook: it, and the URL below which the broker asks. The URL is shown now and never again.
    #[compiled_here]
    pub async fn create_hook(&self, caller: &Caller, folder: &str, kind: HookKind) -> Result<(BrokerHook, String)> {
        let folder = self.folder(caller, folder, Action::WriteRegistry).await?;
        let there = usize::try_from(hooks::count(&self.db, &folder).await.map_err(failed)?).unwrap_or(usize::MAX);
        if there >= HOOKS_PER_FOLDER_MAX {
            return Err(Error::too_many(format!("a folder has at most {HOOKS_PER_FOLDER_MAX} hooks"), 60));
        }
        let hook =
            BrokerHook { id: BrokerHookId::from_random(self.random.octets()), folder, kind, created_at: self.now() };
        let secret = self.random.hex(SECRET_OCTETS);
        let insert = hooks::insert(&hook, sha256(secret.as_bytes()));
        self.record_hook(caller, &hook, "broker-hook-created", Changes::new().statement(insert)).await?;
        let url = format!("{}/iot-devices/v1/hooks/{secret}", self.addresses.public_url);
        Ok((hook, url))
    }

    /// The hooks of a folder, oldest first. Their URLs are shown to nobody.
    #[compiled_here]
    pub async fn hooks(&self, caller: &Caller, folder: &str, page: &PageRequest) -> Result<Page<BrokerHook>> {
        let folder = self.folder(caller, folder, Action::ReadRegistry).await?;
        let list = format!("hooks of {} {}", folder.project, folder.key);
        let (number, id) = page.after(&list, (i64::MIN, ""))?;
        let rows = hooks::page(&self.db, &folder, &(Time::from_millis(number), id), page.rows()).await;
        Ok(page.page(&list, rows.map_err(failed)?, |hook| (hook.created_at.millis(), hook.id.as_str())))
    }

    /// Deletes a hook: its URL lets nobody in any more.
    #[compiled_here]
    pub async fn delete_hook(&self, caller: &Caller, id: &str) -> Result<()> {
        let unknown = || Error::not_found(format!("there is no hook {id}"));
        let hook = hooks::by_id(&self.db, id).await.map_err(failed)?.ok_or_else(unknown)?;
        may(caller, hook.folder.project, Action::WriteRegistry, unknown)?;
        let delete = Changes::new().statement(hooks::delete(&hook.id));
        self.record_hook(caller, &hook, "broker-hook-deleted", delete).await
    }

    async fn record_hook(
        &self,
        caller: &Caller,
        hook: &BrokerHook,
        event: &'static str,
        changes: Changes,
    ) -> Result<()> {
        let recorded = Recorded {
            project: hook.folder.project,
            event,
            kind: EVENT_KIND,
            detail: json!({ "id": hook.id.as_str(), "folderId": hook.folder.id, "kind": hook.kind.as_str() }),
            changes,
            ends: Vec::new(),
        };
        self.record_change(caller, recorded).await.map_err(|setback| setback.into_error(|_| None))
    }

    /// The hook of a secret, when there is one. The secret is found by its digest, so that how long it takes says nothing
    /// of it.
    #[compiled_here]
    pub async fn hook_of(&self, secret: &str) -> Result<Option<BrokerHook>> {
        if secret.len() > SECRET_CHARACTERS_MAX {
            return Ok(None);
        }
        hooks::by_secret(&self.db, sha256(secret.as_bytes())).await.map_err(failed)
    }
}
