//! PKI syncs: making, changing and deleting them, the certificates that they carry, and what makes them run
//! (contract syncs §1.1–1.4, 1.9). What a run does is in `sync_run.rs`.

use crate::audit::{self, Object};
use crate::certificates::Record;
use crate::context::{Context, failed, key_failed};
use crate::sync_plan::{Preview, wanted};
use async_recursion::async_recursion as compiled_here;
use domain::caller::Caller;
use domain::connection::Connection;
use domain::inventory::ShownStatus;
use domain::job::Job;
use domain::permission::{Action, Field, ObjectFields};
use domain::sync::config::SyncCredentials;
use domain::sync::name::NameSchema;
use domain::sync::{DestinationConfig, DestinationKind, LastRun, Sync, SyncLink, SyncObject, SyncOptions, SyncStatus};
use domain::{ApplicationId, CertificateId, ConnectionId, Error, ProjectId, Result, SyncId, SyncLinkId, Time};
use keys::Place;
use outbound::destination::Opening;
use outbound::destination::any::AnyDestination;
use serde_json::json;
use store::connection::SealedCredentials;
use store::{Changes, StoreError};

/// How many certificates one request links or unlinks at most.
pub const CERTIFICATES_MAX: usize = 1_000;

/// What a sync is made with.
pub struct NewSync {
    /// The project.
    pub project: ProjectId,
    /// The application of the project that it is made in.
    pub application: Option<ApplicationId>,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The kind of destination.
    pub destination: DestinationKind,
    /// The connection that leads there.
    pub connection: Option<ConnectionId>,
    /// Whether it runs by itself.
    pub is_automatic: bool,
    /// The place.
    pub config: DestinationConfig,
    /// How it goes about its work.
    pub options: SyncOptions,
    /// Secrets of its own.
    pub secrets: SyncCredentials,
    /// The certificates that it carries from the beginning.
    pub certificates: Vec<CertificateId>,
}

/// What can change in a sync. Absent stays as it is.
#[derive(Default)]
pub struct SyncChange {
    /// Its name.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<Option<String>>,
    /// Another connection.
    pub connection: Option<ConnectionId>,
    /// Whether it runs by itself.
    pub is_automatic: Option<bool>,
    /// Another place; what was made at the old one stays there.
    pub config: Option<DestinationConfig>,
    /// Other options, whole.
    pub options: Option<SyncOptions>,
    /// Secrets of its own.
    pub secrets: Option<SyncCredentials>,
}

/// A sync with the connection that leads to its destination.
pub struct SyncWithConnection {
    /// The sync.
    pub sync: Sync,
    /// Its connection.
    pub connection: Option<Connection>,
}

/// A link with what is known of its certificate.
pub struct LinkedCertificate {
    /// The link.
    pub link: SyncLink,
    /// The certificate.
    pub record: Option<Record>,
    /// What the sync made for it.
    pub object: Option<SyncObject>,
}

impl Context {
    /// Makes a sync.
    #[compiled_here]
    pub async fn create_sync(&self, caller: &Caller, mut new: NewSync) -> Result<SyncWithConnection> {
        new.certificates.sort_unstable();
        new.certificates.dedup();
        let application = match new.application {
            None => None,
            Some(id) => Some(self.application(caller, id).await?),
        };
        caller.may(new.project, Action::CreateSync, &about(&new.name))?;
        if application.is_some_and(|application| application.project != new.project) {
            return Err(Error::invalid("applicationId names an application of another project"));
        }
        let connection = self.connection_of_new(caller, &new).await?;
        let now = self.now();
        let sync = Sync {
            id: self.new_id(),
            organization: caller.organization,
            project: new.project,
            application: new.application,
            name: new.name,
            description: new.description,
            destination: new.destination,
            connection: new.connection,
            is_automatic: new.is_automatic,
            config: new.config,
            options: new.options,
            version: 1,
            last_run: LastRun { status: new.is_automatic.then_some(SyncStatus::Pending), ..LastRun::default() },
            last_removal: LastRun::default(),
            is_unfinished: false,
            created_at: now,
            updated_at: now,
        };
        self.must_work(&sync, connection.as_ref(), &new.secrets).await?;
        self.must_be_linkable(caller, &sync, &new.certificates).await?;
        let secrets = self.seal_sync_secrets(&sync, &new.secrets).await?;
        let mut changes = Changes::new().statement(store::sync::insert(&sync, secrets.as_ref()));
        for certificate in &new.certificates {
            changes = changes
                .statement(store::sync::link::hold(*certificate))
                .statement(store::sync::link::insert(&self.new_link(&sync, *certificate, now)));
        }
        if sync.is_automatic {
            changes = changes.statement(self.run_soon(sync.id, now));
        }
        self.commit_sync(caller, changes, &sync, "sync-created").await?;
        Ok(SyncWithConnection { sync, connection })
    }

    async fn connection_of_new(&self, caller: &Caller, new: &NewSync) -> Result<Option<Connection>> {
        match (new.destination.connection(), new.connection) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(Error::invalid(format!("{} needs no connection", new.destination.display_name()))),
            (Some(_), None) => Err(Error::invalid("connectionId is needed for this destination")),
            (Some(kind), Some(id)) => self.connection_for_sync(caller, new.project, kind, id).await.map(Some),
        }
    }

    /// Refuses what can be seen to be wrong without asking the destination.
    async fn must_work(&self, sync: &Sync, connection: Option<&Connection>, secrets: &SyncCredentials) -> Result<()> {
        if sync.options.can_import_certificates {
            return Err(Error::invalid(format!(
                "canImportCertificates: certificates cannot be imported from {}",
                sync.destination.display_name()
            )));
        }
        if sync.options.can_remove_certificates && !sync.destination.can_remove() {
            return Err(Error::invalid(format!(
                "canRemoveCertificates: nothing can be removed from {}",
                sync.destination.display_name()
            )));
        }
        match sync.options.certificate_name_schema.as_deref().or(sync.destination.default_name_schema()) {
            Some(schema) => drop(NameSchema::parse(schema, sync.destination)?),
            None => return Err(Error::invalid("certificateNameSchema is needed for this destination")),
        }
        let credentials = match connection {
            None => None,
            Some(connection) => Some(self.connection_credentials(connection).await?),
        };
        let opening = Opening {
            kind: sync.destination,
            http: &self.outward.http,
            credentials: credentials.as_ref(),
            config: &sync.config,
            options: &sync.options,
            secrets,
        };
        AnyDestination::open(&opening, &self.outward.places, &self.outward.google)
            .map(drop)
            .map_err(|error| Error::invalid(error.to_string()))
    }

    /// A destination, opened for a run.
    pub(crate) async fn open_destination(&self, sync: &Sync) -> Result<AnyDestination> {
        let credentials = match sync.connection {
            None => None,
            Some(id) => {
                let connection = store::connection::by_id(&self.db, sync.organization, id).await.map_err(failed)?;
                let connection = connection.ok_or_else(|| Error::wrong_state("the connection of the sync is gone"))?;
                Some(self.connection_credentials(&connection).await?)
            }
        };
        let secrets = self.sync_secrets(sync).await?;
        let opening = Opening {
            kind: sync.destination,
            http: &self.outward.http,
            credentials: credentials.as_ref(),
            config: &sync.config,
            options: &sync.options,
            secrets: &secrets,
        };
        AnyDestination::open(&opening, &self.outward.places, &self.outward.google)
            .map_err(|error| Error::wrong_state(error.to_string()))
    }

    async fn seal_sync_secrets(&self, sync: &Sync, secrets: &SyncCredentials) -> Result<Option<SealedCredentials>> {
        if secrets == &SyncCredentials::default() {
            return Ok(None);
        }
        let document = serde_json::to_vec(secrets)
            .map_err(|error| Error::failed_because("secrets do not become a document", error))?;
        let data_key = self.data_key(sync.project).await?;
        let sealed = data_key.seal(place(sync), &document).map_err(key_failed)?;
        Ok(Some(SealedCredentials { data_key_version: data_key.version(), sealed }))
    }

    /// Another text for each time that the secrets of a sync were chosen; it says nothing of them.
    pub(crate) async fn sync_secrets_digest(&self, sync: &Sync) -> Result<String> {
        let sealed = store::sync::secrets(&self.db, sync.id).await.map_err(failed)?;
        let digest = sealed.map(|sealed| x509::digest::sha256(&sealed.sealed));
        Ok(digest.iter().flatten().map(|octet| format!("{octet:02x}")).collect())
    }

    async fn sync_secrets(&self, sync: &Sync) -> Result<SyncCredentials> {
        let Some(sealed) = store::sync::secrets(&self.db, sync.id).await.map_err(failed)? else {
            return Ok(SyncCredentials::default());
        };
        let opened = self.open(place(sync), &sealed.sealed).await?;
        serde_json::from_slice(opened.expose())
            .map_err(|error| Error::failed_because("sealed secrets do not read", error))
    }

    /// The kind of destination of a sync, for who is a member of its project.
    #[compiled_here]
    pub async fn destination_of_sync(&self, caller: &Caller, id: SyncId) -> Result<DestinationKind> {
        let sync = store::sync::by_id(&self.db, caller.organization, id).await.map_err(failed)?;
        let sync = sync.ok_or_else(|| Error::not_found(format!("there is no PKI sync {id}")))?;
        caller.rules(sync.project)?;
        Ok(sync.destination)
    }

    /// A sync.
    #[compiled_here]
    pub async fn sync(&self, caller: &Caller, id: SyncId) -> Result<SyncWithConnection> {
        let sync = self.sync_for(caller, id, Action::ReadSync).await?;
        self.with_connection(caller, sync).await
    }

    /// The syncs of a project that the caller may see: of a kind, and each with whether it carries a certificate when one
    /// is asked for.
    #[compiled_here]
    pub async fn syncs(
        &self,
        caller: &Caller,
        project: ProjectId,
        destination: Option<DestinationKind>,
        certificate: Option<CertificateId>,
    ) -> Result<Vec<(SyncWithConnection, Option<bool>)>> {
        caller.may_some(project, Action::ReadSync)?;
        let mut seen = Vec::new();
        for sync in store::sync::list(&self.db, project).await.map_err(failed)? {
            if destination.is_some_and(|kind| kind != sync.destination)
                || !caller.can(project, Action::ReadSync, &about(&sync.name))
            {
                continue;
            }
            let carries = match certificate {
                None => None,
                Some(id) => Some(store::sync::link::of(&self.db, sync.id, id).await.map_err(failed)?.is_some()),
            };
            seen.push((self.with_connection(caller, sync).await?, carries));
        }
        Ok(seen)
    }

    async fn with_connection(&self, caller: &Caller, sync: Sync) -> Result<SyncWithConnection> {
        let connection = match sync.connection {
            None => None,
            Some(id) => store::connection::by_id(&self.db, caller.organization, id).await.map_err(failed)?,
        };
        Ok(SyncWithConnection { sync, connection })
    }

    /// Changes a sync. That does not make it run.
    #[compiled_here]
    pub async fn change_sync(&self, caller: &Caller, id: SyncId, change: SyncChange) -> Result<SyncWithConnection> {
        let mut sync = self.sync_for(caller, id, Action::EditSync).await?;
        let before = sync.clone();
        if let Some(name) = change.name {
            caller.may(sync.project, Action::EditSync, &about(&name))?;
            sync.name = name;
        }
        sync.description = change.description.unwrap_or(sync.description);
        sync.is_automatic = change.is_automatic.unwrap_or(sync.is_automatic);
        sync.config = change.config.unwrap_or(sync.config);
        sync.options = change.options.unwrap_or(sync.options);
        let connection = match (sync.destination.connection(), change.connection.or(sync.connection)) {
            (Some(kind), Some(id)) => Some(self.connection_for_sync(caller, sync.project, kind, id).await?),
            (None, None) => None,
            (None, Some(_)) | (Some(_), None) => {
                return Err(Error::invalid(format!("{} needs no connection", sync.destination.display_name())));
            }
        };
        sync.connection = connection.as_ref().map(|connection| connection.id);
        sync.version += 1;
        sync.updated_at = self.now();
        let (secrets, sealed) = match change.secrets {
            Some(secrets) => {
                let sealed = self.seal_sync_secrets(&sync, &secrets).await?;
                (secrets, sealed)
            }
            None => (self.sync_secrets(&sync).await?, None),
        };
        self.must_work(&sync, connection.as_ref(), &secrets).await?;
        self.must_have_names_for_all(&sync).await?;
        let mut changes = Changes::new().statement(store::sync::update(&sync, sealed.as_ref()));
        if sync.config != before.config || sync.connection != before.connection {
            // What was made at the old place stays there, and is not ours to change from here any more.
            changes = changes.statement(store::sync::object::forget_all(sync.id));
        }
        self.commit_sync(caller, changes, &sync, "sync-changed").await?;
        Ok(SyncWithConnection { sync, connection })
    }

    /// Refuses a name schema by which the linked certificates would have one name.
    async fn must_have_names_for_all(&self, sync: &Sync) -> Result<()> {
        let Some(schema) = sync.options.certificate_name_schema.as_deref() else { return Ok(()) };
        let linked = wanted(&self.members_of_sync(sync).await?).len();
        match linked > 1 && NameSchema::parse(schema, sync.destination)?.is_constant() {
            false => Ok(()),
            true => Err(Error::invalid(format!(
                "certificateNameSchema gives every certificate the same name, and {linked} are linked"
            ))),
        }
    }

    /// Deletes a sync. What it made at its destination stays there.
    #[compiled_here]
    pub async fn delete_sync(&self, caller: &Caller, id: SyncId) -> Result<SyncWithConnection> {
        let sync = self.sync_for(caller, id, Action::DeleteSync).await?;
        let changes = Changes::new().statement(store::sync::delete(id, sync.version));
        self.commit_sync(caller, changes, &sync, "sync-deleted").await?;
        self.with_connection(caller, sync).await
    }

    /// Lets a sync run now.
    #[compiled_here]
    pub async fn begin_sync(&self, caller: &Caller, id: SyncId) -> Result<()> {
        let sync = self.sync_for(caller, id, Action::SyncCertificates).await?;
        let now = self.now();
        let changes = Changes::new().statement(store::sync::queued(id, now)).statement(self.run_soon(id, now));
        self.commit_sync(caller, changes, &sync, "sync-run-asked-for").await
    }

    /// Lets a sync remove everything that it made.
    #[compiled_here]
    pub async fn begin_clearing(&self, caller: &Caller, id: SyncId) -> Result<()> {
        let sync = self.sync_for(caller, id, Action::SyncRemove).await?;
        if !sync.destination.can_remove() {
            return Err(Error::invalid(format!("nothing can be removed from {}", sync.destination.display_name())));
        }
        let now = self.now();
        let job = store::job::enqueue(self.new_id(), &Job::ClearSync { sync: id }, now, now);
        let changes = Changes::new().statement(store::sync::removal_queued(id, now)).statement(job);
        self.commit_sync(caller, changes, &sync, "sync-removal-asked-for").await
    }

    /// What a run would do now. The destination is asked.
    #[compiled_here]
    pub async fn preview_sync(&self, caller: &Caller, id: SyncId) -> Result<Preview> {
        let sync = self.sync_for(caller, id, Action::ReadSync).await?;
        self.plan_run(&sync).await.map_err(|error| match error.reason() {
            // The destination's words are for the caller.
            None => Error::unavailable(error.to_string(), 5),
            Some(_) => error,
        })
    }

    /// The certificates that a sync carries, newest link first, and how many there are.
    #[compiled_here]
    pub async fn sync_certificates(
        &self,
        caller: &Caller,
        id: SyncId,
        offset: u32,
        limit: u32,
    ) -> Result<(Sync, Vec<LinkedCertificate>, i64)> {
        let sync = self.sync_for(caller, id, Action::ReadSync).await?;
        let (links, total) = store::sync::link::page(&self.db, id, offset, limit).await.map_err(failed)?;
        let objects = store::sync::object::all(&self.db, id).await.map_err(failed)?;
        let mut linked = Vec::with_capacity(links.len());
        for link in links {
            let row = store::certificate::by_id(&self.db, sync.organization, link.certificate).await.map_err(failed)?;
            let record = row.map(|row| self.read(row)).transpose()?;
            let is_of = |object: &&SyncObject| object.certificate == link.certificate && object.is_current();
            let object = objects.iter().find(is_of).cloned();
            linked.push(LinkedCertificate { link, record, object });
        }
        Ok((sync, linked, total))
    }

    /// Links certificates to a sync. One that is linked already stays as it is, and is given back too.
    #[compiled_here]
    pub async fn add_to_sync(
        &self,
        caller: &Caller,
        id: SyncId,
        certificates: &[CertificateId],
    ) -> Result<Vec<SyncLink>> {
        let sync = self.sync_for(caller, id, Action::EditSync).await?;
        let mut wanted: Vec<CertificateId> = Vec::new();
        for certificate in certificates {
            if !wanted.contains(certificate) {
                wanted.push(*certificate);
            }
        }
        self.must_be_linkable(caller, &sync, &wanted).await?;
        let now = self.now();
        let mut changes = Changes::new();
        for certificate in &wanted {
            changes = changes
                .statement(store::sync::link::hold(*certificate))
                .statement(store::sync::link::insert(&self.new_link(&sync, *certificate, now)));
        }
        if sync.is_automatic {
            changes = changes.statement(store::sync::queued(id, now)).statement(self.run_soon(id, now));
        }
        self.commit_sync(caller, changes, &sync, "sync-certificates-added").await?;
        let mut links = Vec::with_capacity(wanted.len());
        for certificate in wanted {
            let link = store::sync::link::of(&self.db, id, certificate).await.map_err(failed)?;
            links.push(
                link.ok_or_else(|| Error::wrong_state(format!("certificate {certificate} was changed meanwhile")))?,
            );
        }
        Ok(links)
    }

    /// Ends the links of certificates, and says how many there were.
    #[compiled_here]
    pub async fn remove_from_sync(&self, caller: &Caller, id: SyncId, certificates: &[CertificateId]) -> Result<usize> {
        let sync = self.sync_for(caller, id, Action::EditSync).await?;
        let now = self.now();
        let (mut changes, mut removed) = (Changes::new(), 0);
        for certificate in certificates.iter().collect::<std::collections::BTreeSet<_>>() {
            if store::sync::link::of(&self.db, id, *certificate).await.map_err(failed)?.is_some() {
                removed += 1;
                changes = changes.statement(store::sync::link::delete(id, *certificate));
            }
        }
        if sync.is_automatic && removed > 0 {
            changes = changes.statement(store::sync::queued(id, now)).statement(self.run_soon(id, now));
        }
        self.commit_sync(caller, changes, &sync, "sync-certificates-removed").await?;
        Ok(removed)
    }

    /// Refuses certificates that a sync cannot carry, in the order of the contract (syncs §1.2).
    async fn must_be_linkable(&self, caller: &Caller, sync: &Sync, certificates: &[CertificateId]) -> Result<()> {
        let (mut missing, mut foreign, mut renewed) = (Vec::new(), Vec::new(), Vec::new());
        for id in certificates {
            let row = store::certificate::by_id(&self.db, caller.organization, *id).await.map_err(failed)?;
            match row.map(|row| self.read(row)).transpose()? {
                None => missing.push(*id),
                Some(record) if record.row.issued.project != sync.project => {
                    match caller.rules(record.row.issued.project) {
                        Ok(_) => foreign.push(*id),
                        // One that the caller may not even know of is not there.
                        Err(_) => missing.push(*id),
                    }
                }
                Some(record) if record.status != ShownStatus::Active => missing.push(*id),
                Some(record) if record.row.renewed_by.is_some() => renewed.push(*id),
                Some(_) => {}
            }
        }
        let named = |ids: &[CertificateId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if !missing.is_empty() {
            return Err(Error::not_found(format!(
                "these certificates are not there, revoked or expired: {}",
                named(&missing)
            )));
        }
        if !foreign.is_empty() {
            return Err(Error::invalid(format!("these certificates belong to another project: {}", named(&foreign))));
        }
        if !renewed.is_empty() {
            return Err(Error::invalid(format!(
                "these certificates were renewed; link their successors: {}",
                named(&renewed)
            )));
        }
        if let Some(schema) = sync.options.certificate_name_schema.as_deref()
            && NameSchema::parse(schema, sync.destination)?.is_constant()
        {
            // Those that are revoked, expired or renewed give their name to the next one.
            let present = wanted(&self.members_of_sync(sync).await?);
            let others = present.iter().filter(|present| !certificates.contains(present)).count();
            if certificates.len() + others > 1 {
                return Err(Error::invalid(
                    "certificateNameSchema gives every certificate the same name, so only one can be linked",
                ));
            }
        }
        Ok(())
    }

    fn new_link(&self, sync: &Sync, certificate: CertificateId, now: Time) -> SyncLink {
        SyncLink {
            id: self.new_id(),
            sync: sync.id,
            certificate,
            status: SyncStatus::Pending,
            message: None,
            last_synced_at: None,
            prove_until: None,
            created_at: now,
            updated_at: now,
        }
    }

    async fn sync_for(&self, caller: &Caller, id: SyncId, action: Action) -> Result<Sync> {
        let sync = store::sync::by_id(&self.db, caller.organization, id).await.map_err(failed)?;
        let sync = sync.ok_or_else(|| Error::not_found(format!("there is no PKI sync {id}")))?;
        caller.may(sync.project, action, &about(&sync.name))?;
        Ok(sync)
    }

    async fn commit_sync(&self, caller: &Caller, changes: Changes, sync: &Sync, event: &'static str) -> Result<()> {
        let detail = json!({ "name": sync.name, "destination": sync.destination.slug() });
        let object = Object::new("pki-sync", sync.id);
        let record = audit::record(caller, Some(sync.project), event, object, &detail, self.now());
        match self.db.commit(changes.audit(record)).await {
            Ok(()) => Ok(()),
            Err(StoreError::Conflict { constraint }) if constraint == store::sync::UNIQUE_NAME => {
                Err(Error::already_exists(format!("the project has a PKI sync {} already", sync.name)))
            }
            Err(StoreError::Stale(_)) => {
                Err(Error::wrong_state(format!("the PKI sync {} was changed meanwhile", sync.name)))
            }
            Err(error) => Err(failed(error)),
        }
    }

    pub(crate) fn run_soon(&self, sync: SyncId, now: Time) -> store::Statement {
        store::job::enqueue(self.new_id(), &Job::RunSync { sync }, now, now)
    }

    /// What follows for syncs when a certificate is renewed, in the commit of the renewal: the successor is linked wherever
    /// the certificate is, and the syncs that run by themselves do.
    pub(crate) async fn syncs_follow_renewal(
        &self,
        predecessor: CertificateId,
        successor: CertificateId,
    ) -> Result<Changes, StoreError> {
        let linked = store::sync::link::syncs_of(&self.db, predecessor).await?;
        let links: Vec<(SyncLinkId, SyncId)> = linked.iter().map(|(sync, _)| (self.new_id(), *sync)).collect();
        let handed_over = store::sync::link::hand_over(predecessor, successor, &links, self.now());
        Ok(handed_over.with(self.run_automatic(&linked)))
    }

    /// What follows for syncs when a certificate is revoked or deleted, in the same commit.
    pub(crate) async fn syncs_follow(&self, certificate: CertificateId) -> Result<Changes> {
        let linked = store::sync::link::syncs_of(&self.db, certificate).await.map_err(failed)?;
        Ok(self.run_automatic(&linked))
    }

    /// Lets those syncs run that do so by themselves.
    fn run_automatic(&self, syncs: &[(SyncId, bool)]) -> Changes {
        let now = self.now();
        let automatic = syncs.iter().filter(|(_, is_automatic)| *is_automatic);
        automatic.fold(Changes::new(), |changes, (sync, _)| {
            changes.statement(store::sync::queued(*sync, now)).statement(self.run_soon(*sync, now))
        })
    }

    /// Lets every sync that runs by itself look at its destination once a day, after midnight in UTC.
    #[compiled_here]
    pub async fn begin_daily_syncs(&self) -> Result<()> {
        const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;
        let now = self.now();
        let midnight = Time::from_millis(now.millis() - now.millis().rem_euclid(DAY_MILLIS));
        for sync in store::sync::idle_since(&self.db, midnight).await.map_err(failed)? {
            let run = Job::RunSync { sync };
            let job = store::job::enqueue_if_absent(self.new_id(), &run, now, now);
            // One that was given up on another day gets another chance.
            let revived = store::job::revive(&run, midnight, now);
            self.commit(Changes::new().statement(job).statement(revived)).await?;
        }
        Ok(())
    }

    /// When a certificate ends next that a sync carries which runs by itself, if that is in so many seconds.
    #[compiled_here]
    pub async fn next_end_in_syncs(&self, seconds: i64) -> Result<Option<Time>> {
        let now = self.now();
        store::sync::next_end(&self.db, now, now.plus_seconds(seconds)).await.map_err(failed)
    }

    /// Lets the syncs run whose certificates have expired meanwhile.
    #[compiled_here]
    pub async fn begin_syncs_of_expired(&self) -> Result<()> {
        let now = self.now();
        for sync in store::sync::with_expired(&self.db, now).await.map_err(failed)? {
            let job = store::job::enqueue_if_absent(self.new_id(), &Job::RunSync { sync }, now, now);
            self.commit(Changes::new().statement(job)).await?;
        }
        Ok(())
    }
}

/// What conditions of roles can ask about a sync.
fn about(name: &str) -> ObjectFields {
    ObjectFields::with(Field::Name, name)
}

/// Where the secrets of a sync are sealed for.
fn place(sync: &Sync) -> Place<'_> {
    Place { table: "syncs", row: sync.id.as_bytes(), project: sync.project.as_bytes() }
}
