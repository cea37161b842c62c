//! Brokers: making, finding, changing and deleting them.

use super::credentials::{NewCredentials, taken};
use super::folders::may;
use super::operations::{Asked, Decided, Setback, decide_again};
use super::page::{Page, PageRequest};
use crate::context::{Context, failed};
use async_recursion::async_recursion as compiled_here;
use domain::caller::Caller;
use domain::permission::Action;
use domain::registry::operation::{Operation, Outcome};
use domain::registry::{AccessEnd, Broker, BrokerId, Labels, LogOptions, LogOptionsChange, Owner};
use domain::{Error, Result, Time};
use serde_json::json;
use store::Changes;
use store::registry::{brokers, credentials};

/// What a broker is made with.
pub struct NewBroker {
    /// The folder, as the caller names it.
    pub folder: String,
    /// Its name; may be empty.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its labels.
    pub labels: Labels,
    /// Where its connections are logged.
    pub log_options: LogOptions,
    /// What its clients prove themselves with.
    pub credentials: NewCredentials,
}

/// What changes in a broker. Absent stays as it is.
#[derive(Clone, Default)]
pub struct BrokerChange {
    /// Its name.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Its labels, all of them.
    pub labels: Option<Labels>,
    /// Where its connections are logged.
    pub log_options: LogOptionsChange,
}

const EVENT_KIND: &str = "broker";

impl Context {
    /// A broker by its id.
    #[compiled_here]
    pub async fn broker(&self, caller: &Caller, id: &str) -> Result<Broker> {
        self.broker_for(caller, id, Action::ReadRegistry).await
    }

    async fn broker_for(&self, caller: &Caller, id: &str, action: Action) -> Result<Broker> {
        let unknown = || Error::not_found(format!("there is no broker {id}"));
        let broker = brokers::by_id(&self.db, id).await.map_err(failed)?.ok_or_else(unknown)?;
        may(caller, broker.folder.project, action, unknown)?;
        Ok(broker)
    }

    /// The brokers of a folder, oldest first.
    #[compiled_here]
    pub async fn brokers(&self, caller: &Caller, folder: &str, page: &PageRequest) -> Result<Page<Broker>> {
        let folder = self.folder(caller, folder, Action::ReadRegistry).await?;
        let list = format!("brokers of {} {}", folder.project, folder.key);
        let (number, id) = page.after(&list, (i64::MIN, ""))?;
        let after = (Time::from_millis(number), id);
        let rows = brokers::page(&self.db, &folder, &after, page.rows()).await.map_err(failed)?;
        Ok(page.page(&list, rows, |broker| (broker.created_at.millis(), broker.id.as_str())))
    }

    /// Makes a broker, with what its clients prove themselves with, or nothing of it.
    #[compiled_here]
    pub async fn create_broker(&self, asked: &Asked<'_>, new: NewBroker) -> Result<Operation> {
        if let Some(operation) = self.repeated(asked).await? {
            return Ok(operation);
        }
        let began = self.now();
        let folder = self.folder(asked.caller, &new.folder, Action::WriteRegistry).await?;
        let broker = Broker {
            id: BrokerId::from_random(self.random.octets()),
            name: new.name,
            description: new.description,
            labels: new.labels,
            log_options: new.log_options.or_folder(&folder.id),
            version: 1,
            created_at: began,
            folder,
        };
        let project = broker.folder.project;
        let owner = Owner::Broker(broker.id.clone());
        let ready = self.ready_credentials(&new.credentials, &owner, project, None, began).await?;
        let decided = Decided {
            project,
            event: "yandex.cloud.audit.iot.broker.CreateBroker",
            kind: EVENT_KIND,
            detail: json!({ "id": broker.id.as_str(), "name": broker.name, "certificates": ready.fingerprints() }),
            changes: Changes::new().statement(brokers::insert(&broker)).with(ready.changes(project)),
            ends: Vec::new(),
            began,
            outcome: Outcome::CreateBroker(broker.clone()),
        };
        let done = self.carry_out(asked, decided).await;
        done.map_err(|setback| setback.into_error(|constraint| clash(constraint, &broker.name)))
    }

    /// Changes a broker.
    #[compiled_here]
    pub async fn update_broker(&self, asked: &Asked<'_>, id: &str, change: BrokerChange) -> Result<Operation> {
        if let Some(operation) = self.repeated(asked).await? {
            return Ok(operation);
        }
        let name = change.name.clone().unwrap_or_default();
        decide_again!(self.try_update_broker(asked, id, change.clone()))
            .map_err(|setback| setback.into_error(|constraint| clash(constraint, &name)))
    }

    async fn try_update_broker(&self, asked: &Asked<'_>, id: &str, change: BrokerChange) -> Result<Operation, Setback> {
        let began = self.now();
        let mut broker = self.broker_for(asked.caller, id, Action::WriteRegistry).await?;
        broker.name = change.name.unwrap_or(broker.name);
        broker.description = change.description.unwrap_or(broker.description);
        broker.labels = change.labels.unwrap_or(broker.labels);
        broker.log_options = broker.log_options.changed(change.log_options).or_folder(&broker.folder.id);
        broker.version += 1;
        let decided = Decided {
            project: broker.folder.project,
            event: "yandex.cloud.audit.iot.broker.UpdateBroker",
            kind: EVENT_KIND,
            detail: json!({ "id": broker.id.as_str(), "name": broker.name }),
            changes: Changes::new().statement(brokers::update(&broker)),
            ends: Vec::new(),
            began,
            outcome: Outcome::UpdateBroker(broker),
        };
        self.carry_out(asked, decided).await
    }

    /// Deletes a broker and its credentials: its sessions are closed.
    #[compiled_here]
    pub async fn delete_broker(&self, asked: &Asked<'_>, id: &str) -> Result<Operation> {
        if let Some(operation) = self.repeated(asked).await? {
            return Ok(operation);
        }
        decide_again!(self.try_delete_broker(asked, id)).map_err(|setback| setback.into_error(|_| None))
    }

    async fn try_delete_broker(&self, asked: &Asked<'_>, id: &str) -> Result<Operation, Setback> {
        let began = self.now();
        let broker = self.broker_for(asked.caller, id, Action::WriteRegistry).await?;
        let owner = Owner::Broker(broker.id.clone());
        let decided = Decided {
            project: broker.folder.project,
            event: "yandex.cloud.audit.iot.broker.DeleteBroker",
            kind: EVENT_KIND,
            detail: json!({ "id": broker.id.as_str(), "name": broker.name }),
            changes: credentials::delete_all(&owner).statement(brokers::delete(&broker.id, broker.version)),
            ends: vec![AccessEnd::Owner(owner)],
            began,
            outcome: Outcome::DeleteBroker(broker.id),
        };
        self.carry_out(asked, decided).await
    }
}

fn clash(constraint: &str, name: &str) -> Option<Error> {
    match constraint {
        brokers::UNIQUE_NAME => {
            Some(Error::already_exists(format!("there is a broker \"{name}\" in this folder already")))
        }
        other => taken(other),
    }
}
