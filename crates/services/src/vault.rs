//! Sealing: values that must not be read from the database by whoever holds only the database.
//!
//! Each project has data keys; the nil project is the server itself. A sealed value opens only at the place that it was
//! sealed for.

use crate::context::{Context, failed, key_failed};
use async_recursion::async_recursion as compiled_here;
use domain::caller::ActorKind;
use domain::{Error, ProjectId, Result};
use keys::{DataKey, KeyError, Place, SealedDataKey, Secret};
use serde_json::json;
use std::sync::Arc;
use store::secret::DataKeyRow;
use store::{AuditRecord, Changes, StoreError};
use uuid::Uuid;

/// The project that stands for the server itself.
pub(crate) const SERVER: ProjectId = ProjectId(Uuid::nil());

/// The version of data keys that seals now; older ones stay readable.
const DATA_KEY_VERSION: u32 = 1;

impl Context {
    /// The data key that seals a project's values, made when it is not there yet.
    pub(crate) async fn data_key(&self, project: ProjectId) -> Result<Arc<DataKey>> {
        if let Some(key) = self.keyring.data_key(project.as_bytes(), DATA_KEY_VERSION) {
            return Ok(key);
        }
        self.load_data_keys().await?;
        if let Some(key) = self.keyring.data_key(project.as_bytes(), DATA_KEY_VERSION) {
            return Ok(key);
        }
        let (_, sealed) = self.keyring.new_data_key(project.as_bytes(), DATA_KEY_VERSION).map_err(key_failed)?;
        let row = DataKeyRow {
            project,
            version: DATA_KEY_VERSION,
            master_key_id: sealed.master_key_id,
            sealed: sealed.sealed,
        };
        let changes = Changes::new().statement(store::secret::insert_data_key(&row, self.now()));
        match self.db.commit(changes).await {
            // Another request was faster: its key stands.
            Ok(()) | Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(failed(error)),
        }
        self.reseal_data_keys().await?;
        self.load_data_keys().await?;
        self.keyring
            .data_key(project.as_bytes(), DATA_KEY_VERSION)
            .ok_or_else(|| Error::failed("a data key that was just stored is not there"))
    }

    /// Opens every stored data key that is not open yet. There are as many as projects.
    #[compiled_here]
    pub async fn load_data_keys(&self) -> Result<()> {
        for row in store::secret::data_keys(&self.db).await.map_err(failed)? {
            let sealed = SealedDataKey { master_key_id: row.master_key_id, sealed: row.sealed };
            self.keyring.open_data_key(row.project.as_bytes(), &sealed).map_err(|error| match error {
                KeyError::WrongKey => Error::failed(format!(
                    "the master key at hand does not open the data key of project {}; it was sealed by master key {}",
                    row.project, sealed.master_key_id
                )),
                other => key_failed(other),
            })?;
        }
        Ok(())
    }

    /// Seals every data key under the newest master key and says how many were changed. It may be stopped and begun
    /// again at any point: rows name the master key that seals them.
    #[compiled_here]
    pub async fn reseal_data_keys(&self) -> Result<usize> {
        let mut changed = 0;
        for row in store::secret::data_keys(&self.db).await.map_err(failed)? {
            let sealed = SealedDataKey { master_key_id: row.master_key_id.clone(), sealed: row.sealed };
            let Some(resealed) = self.keyring.rewrap(row.project.as_bytes(), &sealed).map_err(key_failed)? else {
                continue;
            };
            let new = DataKeyRow {
                project: row.project,
                version: row.version,
                master_key_id: resealed.master_key_id,
                sealed: resealed.sealed,
            };
            let changes = Changes::new()
                .statement(store::secret::reseal_data_key(&new, &row.master_key_id))
                .audit(self.resealed(&new, &row.master_key_id));
            match self.db.commit(changes).await {
                Ok(()) => changed += 1,
                // Another node, or the command, was faster.
                Err(StoreError::Stale(_)) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(changed)
    }

    fn resealed(&self, key: &DataKeyRow, old_master_key_id: &str) -> AuditRecord {
        let project = (key.project != SERVER).then_some(key.project.0);
        let detail = json!({ "version": key.version, "masterKey": key.master_key_id, "before": old_master_key_id });
        AuditRecord {
            at_millis: self.now().millis(),
            organization: None,
            project,
            actor_kind: ActorKind::Node.as_str(),
            actor_id: None,
            actor_method: "internal",
            actor_credential: None,
            actor_address: None,
            event: "data-key-resealed",
            object_kind: "data-key",
            object_id: Some(key.project.0),
            detail: detail.to_string(),
        }
    }

    /// Opens a sealed value.
    pub(crate) async fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Secret> {
        if let Some(opened) = self.keyring.open_value(place, sealed) {
            return opened.map_err(key_failed);
        }
        self.load_data_keys().await?;
        self.keyring
            .open_value(place, sealed)
            .ok_or_else(|| Error::failed("the data key of a sealed value is not in the database"))?
            .map_err(key_failed)
    }

    /// One of the server's own secrets, made with `make` when it is not there yet. All nodes get the same one.
    pub(crate) async fn server_secret(
        &self,
        name: &'static str,
        make: impl FnOnce() -> Result<Secret>,
    ) -> Result<Secret> {
        if let Some(secret) = self.read_server_secret(name).await? {
            return Ok(secret);
        }
        let value = make()?;
        let id = self.random.id(self.now());
        let place = Place { table: "server_secrets", row: id.as_bytes(), project: SERVER.as_bytes() };
        let sealed = self.data_key(SERVER).await?.seal(place, value.expose()).map_err(key_failed)?;
        let changes = Changes::new().statement(store::secret::add_server_secret(name, id, sealed, self.now()));
        match self.db.commit(changes).await {
            Ok(()) | Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(failed(error)),
        }
        self.read_server_secret(name)
            .await?
            .ok_or_else(|| Error::failed(format!("the server secret {name} is not there")))
    }

    /// One of the server's own secrets, when it is there.
    pub(crate) async fn read_server_secret(&self, name: &'static str) -> Result<Option<Secret>> {
        match store::secret::server_secret(&self.db, name).await.map_err(failed)? {
            None => Ok(None),
            Some((id, sealed)) => {
                let place = Place { table: "server_secrets", row: id.as_bytes(), project: SERVER.as_bytes() };
                self.open(place, &sealed).await.map(Some)
            }
        }
    }

    /// Replaces one of the server's own secrets.
    pub(crate) async fn write_server_secret(&self, name: &'static str, value: &Secret) -> Result<()> {
        let id = self.random.id(self.now());
        let place = Place { table: "server_secrets", row: id.as_bytes(), project: SERVER.as_bytes() };
        let sealed = self.data_key(SERVER).await?.seal(place, value.expose()).map_err(key_failed)?;
        self.commit(Changes::new().statement(store::secret::put_server_secret(name, id, sealed, self.now()))).await
    }
}
