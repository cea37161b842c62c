//! App connections: making, checking, changing and deleting them (contract syncs §3). Credentials are kept sealed, and
//! nothing is kept that the other system did not accept.

use crate::audit::{self, Object};
use crate::context::{Context, Outward, failed, key_failed};
use crate::vault::SERVER;
use async_recursion::async_recursion as compiled_here;
use domain::caller::Caller;
use domain::connection::{Connection, ConnectionKind, Credentials};
use domain::permission::Action;
use domain::{ConnectionId, Error, ProjectId, Result};
use keys::Place;
use outbound::DeliveryError;
use serde_json::json;
use store::connection::SealedCredentials;
use store::{Changes, StoreError};
use x509::uri::UriHost;

/// What a connection is made with.
pub struct NewConnection {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The project that alone may use it.
    pub project: Option<ProjectId>,
    /// What convinces the other system.
    pub credentials: Credentials,
}

/// What can change in a connection. Absent stays as it is.
#[derive(Default)]
pub struct ConnectionChange {
    /// Its name.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<Option<String>>,
    /// Other credentials of the same method.
    pub credentials: Option<serde_json::Value>,
}

impl Context {
    /// Makes a connection, once the other system has accepted the credentials.
    #[compiled_here]
    pub async fn create_connection(&self, caller: &Caller, new: NewConnection) -> Result<Connection> {
        must_manage(caller, new.project)?;
        let credentials = self.checked(new.credentials).await?;
        let now = self.now();
        let connection = Connection {
            id: self.new_id(),
            organization: caller.organization,
            project: new.project,
            kind: credentials.kind(),
            method: credentials.method().to_owned(),
            name: new.name,
            description: new.description,
            version: 1,
            shown: credentials.shown(),
            created_at: now,
            updated_at: now,
        };
        let sealed = self.seal_credentials(&connection, &credentials).await?;
        self.commit_connection(
            caller,
            Changes::new().statement(store::connection::insert(&connection, &sealed)),
            &connection,
            "connection-created",
        )
        .await?;
        Ok(connection)
    }

    /// Changes a connection; new credentials are checked first, and put in the place of the old ones for every sync.
    #[compiled_here]
    pub async fn change_connection(
        &self,
        caller: &Caller,
        kind: ConnectionKind,
        id: ConnectionId,
        change: ConnectionChange,
    ) -> Result<Connection> {
        let mut connection = self.find_connection(caller, kind, id).await?;
        must_manage(caller, connection.project)?;
        let credentials = match change.credentials {
            Some(fields) => {
                let before = self.connection_credentials(&connection).await?;
                self.checked(Credentials::read(kind, &connection.method, fields)?.pinned_as(&before)).await?
            }
            None => self.connection_credentials(&connection).await?,
        };
        connection.name = change.name.unwrap_or(connection.name);
        connection.description = change.description.unwrap_or(connection.description);
        connection.shown = credentials.shown();
        connection.version += 1;
        connection.updated_at = self.now();
        let sealed = self.seal_credentials(&connection, &credentials).await?;
        self.commit_connection(
            caller,
            Changes::new().statement(store::connection::update(&connection, &sealed)),
            &connection,
            "connection-changed",
        )
        .await?;
        Ok(connection)
    }

    /// Deletes a connection that no sync uses.
    #[compiled_here]
    pub async fn delete_connection(
        &self,
        caller: &Caller,
        kind: ConnectionKind,
        id: ConnectionId,
    ) -> Result<Connection> {
        let connection = self.find_connection(caller, kind, id).await?;
        must_manage(caller, connection.project)?;
        let users = store::connection::users(&self.db, id).await.map_err(failed)?;
        if users > 0 {
            return Err(Error::wrong_state(format!("the connection {} is in use by {users} syncs", connection.name)));
        }
        let deleted = Changes::new().statement(store::connection::delete(id, connection.version));
        self.commit_connection(caller, deleted, &connection, "connection-deleted").await?;
        Ok(connection)
    }

    /// Asks the other system whether it accepts the credentials of a connection.
    #[compiled_here]
    pub async fn check_connection(
        &self,
        caller: &Caller,
        kind: ConnectionKind,
        id: ConnectionId,
    ) -> Result<Connection> {
        let connection = self.connection(caller, kind, id).await?;
        must_manage(caller, connection.project)?;
        self.checked(self.connection_credentials(&connection).await?).await?;
        Ok(connection)
    }

    /// A connection by its id.
    #[compiled_here]
    pub async fn connection(&self, caller: &Caller, kind: ConnectionKind, id: ConnectionId) -> Result<Connection> {
        self.find_connection(caller, kind, id).await
    }

    /// A connection by its name.
    #[compiled_here]
    pub async fn connection_named(&self, caller: &Caller, kind: ConnectionKind, name: &str) -> Result<Connection> {
        let all = self.connections(caller, Some(kind), None).await?;
        let named = all.into_iter().find(|connection| connection.name == name);
        named.ok_or_else(|| Error::not_found(format!("there is no {} connection \"{name}\"", kind.display_name())))
    }

    /// The connections that the caller may see: of a kind, and of those that a project may use.
    #[compiled_here]
    pub async fn connections(
        &self,
        caller: &Caller,
        kind: Option<ConnectionKind>,
        project: Option<ProjectId>,
    ) -> Result<Vec<Connection>> {
        if let Some(project) = project {
            caller.rules(project)?;
        }
        let all = store::connection::list(&self.db, caller.organization).await.map_err(failed)?;
        let seen = all.into_iter().filter(|connection| {
            kind.is_none_or(|kind| connection.kind == kind)
                && (project.is_none() || connection.project.is_none() || connection.project == project)
                && may_see(caller, connection)
        });
        Ok(seen.collect())
    }

    async fn find_connection(&self, caller: &Caller, kind: ConnectionKind, id: ConnectionId) -> Result<Connection> {
        let connection = store::connection::by_id(&self.db, caller.organization, id).await.map_err(failed)?;
        connection
            .filter(|connection| connection.kind == kind && may_see(caller, connection))
            .ok_or_else(|| Error::not_found(format!("there is no {} connection {id}", kind.display_name())))
    }

    /// A connection that a sync of a project is going to use.
    pub(crate) async fn connection_for_sync(
        &self,
        caller: &Caller,
        project: ProjectId,
        kind: ConnectionKind,
        id: ConnectionId,
    ) -> Result<Connection> {
        let connection = store::connection::by_id(&self.db, caller.organization, id).await.map_err(failed)?;
        let connection = connection
            .filter(|connection| may_see(caller, connection))
            .ok_or_else(|| Error::not_found(format!("there is no connection {id}")))?;
        if connection.kind != kind {
            return Err(Error::invalid(format!(
                "the connection {} leads to {}; this destination needs one to {}",
                connection.name,
                connection.kind.display_name(),
                kind.display_name()
            )));
        }
        // One of the whole organisation gives its rights to whoever may use it, so its admins say where it is used.
        must_manage(caller, connection.project)?;
        match connection.project {
            Some(other) if other != project => {
                Err(Error::permission_denied(format!("the connection {} is for another project", connection.name)))
            }
            _ => Ok(connection),
        }
    }

    /// The credentials as the other system accepted them.
    async fn checked(&self, credentials: Credentials) -> Result<Credentials> {
        let kind = credentials.kind();
        must_be_private(&credentials)?;
        let Outward { http, google, .. } = &*self.outward;
        outbound::connection::check(http, credentials, google).await.map_err(|error| {
            let (DeliveryError::Connection(cause)
            | DeliveryError::Refused(cause)
            | DeliveryError::Taken(cause)
            | DeliveryError::Unavailable(cause)
            | DeliveryError::Unknown(cause)) = error;
            Error::invalid(format!("{} does not accept the connection: {cause}", kind.display_name()))
        })
    }

    async fn seal_credentials(&self, connection: &Connection, credentials: &Credentials) -> Result<SealedCredentials> {
        let document = serde_json::to_vec(credentials)
            .map_err(|error| Error::failed_because("credentials do not become a document", error))?;
        let data_key = self.data_key(project_of(connection)).await?;
        let sealed = data_key.seal(place(connection), &document).map_err(key_failed)?;
        Ok(SealedCredentials { data_key_version: data_key.version(), sealed })
    }

    /// What convinces the other system.
    pub(crate) async fn connection_credentials(&self, connection: &Connection) -> Result<Credentials> {
        let sealed = store::connection::credentials(&self.db, connection.id).await.map_err(failed)?;
        let sealed = sealed.ok_or_else(|| Error::not_found("the connection is gone"))?;
        let opened = self.open(place(connection), &sealed.sealed).await?;
        serde_json::from_slice(opened.expose())
            .map_err(|error| Error::failed_because("sealed credentials do not read", error))
    }

    async fn commit_connection(
        &self,
        caller: &Caller,
        changes: Changes,
        connection: &Connection,
        event: &'static str,
    ) -> Result<()> {
        let detail = json!({ "name": connection.name, "kind": connection.kind.slug(), "version": connection.version, "shown": connection.shown });
        let object = Object::new("connection", connection.id);
        let record = audit::record(caller, connection.project, event, object, &detail, self.now());
        match self.db.commit(changes.audit(record)).await {
            Ok(()) => Ok(()),
            Err(StoreError::Conflict { constraint }) if constraint == store::connection::UNIQUE_NAME => {
                Err(Error::already_exists(format!(
                    "there is a {} connection {} already",
                    connection.kind.display_name(),
                    connection.name
                )))
            }
            Err(StoreError::Stale(_)) => {
                Err(Error::wrong_state(format!("the connection {} was changed meanwhile", connection.name)))
            }
            Err(error) => Err(failed(error)),
        }
    }
}

/// Refuses an address over which secrets would go in clear, but on this machine.
fn must_be_private(credentials: &Credentials) -> Result<()> {
    for field in ["endpointUrl", "tokenUrl", "serverUrl", "instanceUrl", "url"] {
        let shown = credentials.shown();
        let Some(text) = shown.get(field).and_then(serde_json::Value::as_str) else { continue };
        let url = x509::Uri::parse(text).map_err(|error| Error::invalid(format!("{field}: {error}")))?;
        let is_here = match url.host() {
            Some(UriHost::Address(address)) => address.is_loopback(),
            Some(UriHost::Name(name)) => name == "localhost",
            None => false,
        };
        match url.scheme() {
            "https" => {}
            "http" if is_here => {}
            _ => {
                return Err(Error::invalid(format!(
                    "{field} must begin with https://; http:// is for this machine alone"
                )));
            }
        }
    }
    Ok(())
}

/// A connection of the whole organisation is made and changed by its admins, one of a project by who may make syncs there.
fn must_manage(caller: &Caller, project: Option<ProjectId>) -> Result<()> {
    match project {
        None => caller.must_administer_organization("use and manage connections of the whole organisation"),
        Some(project) => caller.may_some(project, Action::CreateSync),
    }
}

/// One of the whole organisation is seen by whoever may see syncs anywhere, one of a project by who may there.
fn may_see(caller: &Caller, connection: &Connection) -> bool {
    let sees = |project: ProjectId| caller.may_some(project, Action::ReadSync).is_ok();
    match connection.project {
        Some(project) => sees(project),
        None => {
            caller.must_administer_organization("see connections").is_ok()
                || caller.projects.keys().any(|project| sees(*project))
        }
    }
}

fn project_of(connection: &Connection) -> ProjectId {
    connection.project.unwrap_or(SERVER)
}

/// Where credentials are sealed for.
fn place(connection: &Connection) -> Place<'_> {
    let project = match &connection.project {
        Some(project) => project.as_bytes(),
        None => SERVER.as_bytes(),
    };
    Place { table: "connections", row: connection.id.as_bytes(), project }
}
