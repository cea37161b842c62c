//! A run of a sync: what is at the destination is made equal to what is linked (contract syncs §1.6–1.9).
//!
//! Each change goes through the ledger: it is written down before the other system is asked, and confirmed after it answered.
//! A change whose answer was lost is found again by its mark or by its parts. What is not in the ledger, and what somebody
//! else changed meanwhile, is left alone (invariants E5, E6, I8). What there is to do is decided in `sync_plan.rs`.

mod retired;

use crate::audit::{self, Object};
use crate::context::{Context, failed};
use crate::sync_items::Member;
use crate::sync_plan::{
    Decision, LINE_MAX, Obstacle, Planned, Planner, Purpose, WAITS, changed_by_others, is_ours, wanted,
};
use async_recursion::async_recursion as compiled_here;
use domain::caller::Caller;
use domain::inventory::ShownStatus;
use domain::job::Job;
use domain::sync::{ObjectState, Sync, SyncObject, SyncStatus};
use domain::{CertificateId, Error, JobId, Result, SyncId, Time};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use outbound::DeliveryError;
use outbound::destination::any::AnyDestination;
use outbound::destination::{Changed, Destination, Fingerprint, Found, Item};
use serde_json::json;
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use store::Changes;

/// How long it is waited before it is looked again whether another job has ended.
const PAUSE: Duration = Duration::from_millis(250);
/// How many certificates of one sync are worked on at once.
const AT_ONCE: usize = 8;

/// The last step of a run: a command, saving a configuration.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LastStep {
    ToCome,
    Done,
}

/// One run.
struct Run<'a> {
    services: &'a Context,
    sync: &'a Sync,
    destination: &'a AnyDestination,
    planner: Planner<'a>,
    changed: Mutex<Changed>,
    /// What is confirmed once the last step is done, for destinations that can undo what was delivered.
    unconfirmed: Mutex<Vec<(SyncObject, Found)>>,
    /// The connection itself failed: nothing else will fare better.
    is_cut_off: AtomicBool,
    /// Whether it is written down that the last step is still to come.
    is_unfinished: AtomicBool,
    cut_off_by: Mutex<Option<String>>,
    failures: Mutex<Vec<(CertificateId, String)>>,
}

impl Context {
    /// Runs a sync under a job. A failure that may pass is an error, so that the job is tried again.
    #[compiled_here]
    pub async fn run_sync(&self, id: SyncId, job: JobId) -> Result<()> {
        let Some(sync) = store::sync::any_by_id(&self.db, id).await.map_err(failed)? else { return Ok(()) };
        if self.is_running(&Job::ClearSync { sync: id }).await? {
            return Err(Error::unavailable("everything is being removed from the destination", 5));
        }
        self.until_rechecked(id).await?;
        self.commit(Changes::new().statement(store::sync::began(id, job))).await?;
        let outcome = self.try_to_run(&sync).await;
        let now = self.now();
        // Certificates that failed do not make the run fail, and are tried again like it.
        let (status, message, problem) = match &outcome {
            Ok(failures) => (SyncStatus::Succeeded, None, summary(failures)),
            Err(error) => (SyncStatus::Failed, Some(error.to_string()), Some(error.to_string())),
        };
        let ended = store::sync::ended(id, status, message.as_deref(), message.is_none().then_some(now));
        let detail = json!({
            "name": sync.name, "job": job.to_string(), "status": status.as_str(), "problem": problem,
            "failed": outcome.as_ref().map_or(0, Vec::len),
        });
        let caller = Caller::node(sync.organization);
        let ran = audit::record(&caller, Some(sync.project), "sync-ran", Object::new("pki-sync", id), &detail, now);
        self.commit(Changes::new().statement(ended).audit(ran)).await?;
        self.plan_recheck(id).await?;
        match problem {
            None => Ok(()),
            Some(problem) => Err(Error::failed(problem)),
        }
    }

    /// What kept certificates from their destination; an error when it is the sync itself that failed.
    async fn try_to_run(&self, sync: &Sync) -> Result<Vec<(CertificateId, String)>> {
        let destination = self.open_destination(sync).await?;
        let members = self.members_of_sync(sync).await?;
        let ledger = store::sync::object::all(&self.db, sync.id).await.map_err(failed)?;
        let secrets = self.sync_secrets_digest(sync).await?;
        let run = Run::new(self, sync, &destination, (&ledger, wanted(&members)), secrets);
        let (wanted, left_out): (Vec<Member>, Vec<Member>) =
            members.into_iter().partition(|member| member.left_out().is_none());
        run.bring_all(&wanted, &ledger).await;
        if !run.is_cut_off.load(Ordering::Relaxed) {
            run.clear(&wanted).await?;
        }
        run.finish().await?;
        if !run.is_cut_off.load(Ordering::Relaxed) {
            run.end_links(&left_out).await?;
        }
        if let Some(message) = run.cut_off_by.into_inner().unwrap_or_default() {
            return Err(Error::failed(message));
        }
        Ok(run.failures.into_inner().unwrap_or_default())
    }

    /// Removes everything that a sync made, under a job (endpoint `remove-certificates`).
    #[compiled_here]
    pub async fn remove_all_of_sync(&self, id: SyncId, job: JobId) -> Result<()> {
        let Some(sync) = store::sync::any_by_id(&self.db, id).await.map_err(failed)? else { return Ok(()) };
        // A run that began before this ends first; one that begins now sees this and gives way.
        while self.is_running(&Job::RunSync { sync: id }).await? {
            tokio::time::sleep(PAUSE).await;
        }
        self.until_rechecked(id).await?;
        self.commit(Changes::new().statement(store::sync::removal_began(id, job))).await?;
        let outcome = self.try_to_remove_all(&sync).await;
        let now = self.now();
        let ended = match &outcome {
            Ok(()) => store::sync::removal_ended(id, SyncStatus::Succeeded, None, Some(now)),
            Err(error) => store::sync::removal_ended(id, SyncStatus::Failed, Some(&error.to_string()), None),
        };
        self.commit(Changes::new().statement(ended)).await?;
        self.plan_recheck(id).await?;
        outcome
    }

    async fn is_running(&self, job: &Job) -> Result<bool> {
        store::job::is_running(&self.db, job, self.now()).await.map_err(failed)
    }

    async fn try_to_remove_all(&self, sync: &Sync) -> Result<()> {
        let destination = self.open_destination(sync).await?;
        let ledger = store::sync::object::all(&self.db, sync.id).await.map_err(failed)?;
        let secrets = self.sync_secrets_digest(sync).await?;
        let run = Run::new(self, sync, &destination, (&ledger, HashSet::new()), secrets);
        for object in ledger.iter().filter(|object| object.is_current()) {
            if run.is_cut_off.load(Ordering::Relaxed) {
                break;
            }
            run.remove(object).await?;
        }
        let retired: Vec<&SyncObject> = ledger.iter().filter(|object| !object.is_current()).collect();
        run.look_for_retired(&retired, &ledger).await?;
        run.finish().await?;
        let failures = run.failures.into_inner().unwrap_or_default();
        match (run.cut_off_by.into_inner().unwrap_or_default(), summary(&failures)) {
            (Some(message), _) | (None, Some(message)) => Err(Error::failed(message)),
            (None, None) => Ok(()),
        }
    }
}

impl<'a> Run<'a> {
    fn new(
        services: &'a Context,
        sync: &'a Sync,
        destination: &'a AnyDestination,
        ledger: (&[SyncObject], HashSet<CertificateId>),
        secrets: String,
    ) -> Self {
        Self {
            services,
            sync,
            destination,
            planner: Planner::new(services, sync, destination, ledger, (Purpose::Run, secrets)),
            changed: Mutex::default(),
            unconfirmed: Mutex::default(),
            is_cut_off: AtomicBool::new(false),
            is_unfinished: AtomicBool::new(sync.is_unfinished),
            cut_off_by: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    /// Brings certificates to the destination, a few at a time. Only those hold their keys and chains.
    async fn bring_all(&self, members: &[Member], ledger: &[SyncObject]) {
        let mut under_way = FuturesUnordered::new();
        for member in members {
            if under_way.len() >= AT_ONCE {
                under_way.next().await;
            }
            under_way.push(self.bring(member, ledger));
        }
        while under_way.next().await.is_some() {}
    }

    /// Brings one certificate to the destination, and says in its link what became of it.
    async fn bring(&self, member: &Member, ledger: &[SyncObject]) {
        if self.is_cut_off.load(Ordering::Relaxed) {
            return self.note_not_tried(member).await;
        }
        let outcome = self.try_to_bring(member, ledger).await;
        if let Err(obstacle) = outcome {
            self.note_obstacle(member.certificate(), &obstacle).await;
        }
    }

    /// Says of a certificate that waits why it was not tried: the connection had failed already.
    async fn note_not_tried(&self, member: &Member) {
        if matches!(member.link.status, SyncStatus::Succeeded | SyncStatus::Proven) {
            return;
        }
        let cause = self.cut_off_by.lock().ok().and_then(|cause| cause.clone());
        let noted = self.set_link(member.certificate(), SyncStatus::Failed, cause.as_deref(), None).await;
        if let Err(error) = noted {
            tracing::warn!(%error, "what became of a link was not written down");
        }
    }

    async fn note_obstacle(&self, certificate: CertificateId, obstacle: &Obstacle) {
        let message = obstacle.to_string();
        self.note_cut_off(obstacle);
        tracing::warn!(sync.id = %self.sync.id, certificate.id = %certificate, error = message, "a certificate was not brought to its destination");
        if let Ok(mut failures) = self.failures.lock() {
            failures.push((certificate, message.clone()));
        }
        let noted = self.set_link(certificate, SyncStatus::Failed, Some(&message), None).await;
        if let Err(error) = noted {
            tracing::warn!(%error, "what became of a link was not written down");
        }
    }

    fn note_cut_off(&self, obstacle: &Obstacle) {
        if let Obstacle::Delivery(error) = obstacle
            && error.is_of_connection()
        {
            self.is_cut_off.store(true, Ordering::Relaxed);
            if let Ok(mut first) = self.cut_off_by.lock() {
                first.get_or_insert_with(|| error.to_string());
            }
        }
    }

    async fn set_link(
        &self,
        certificate: CertificateId,
        status: SyncStatus,
        message: Option<&str>,
        synced_at: Option<Time>,
    ) -> Result<()> {
        let now = self.services.now();
        let statement = store::sync::link::set_status(self.sync.id, certificate, status, message, synced_at, now);
        self.services.commit(Changes::new().statement(statement)).await
    }

    async fn try_to_bring(&self, member: &Member, ledger: &[SyncObject]) -> Result<(), Obstacle> {
        let certificate = member.certificate();
        let object = self.planner.object_of(member, ledger).await?;
        let Planned { item, decision, twins } = self.planner.plan(member, object).await?;
        if let Some(object) = object {
            self.retire_twins(object, twins).await?;
        }
        match decision {
            Decision::Nothing => {
                if let Some(object) = object.filter(|object| object.absences > 0) {
                    self.note_seen(object).await?;
                }
                if !matches!(member.link.status, SyncStatus::Succeeded | SyncStatus::Proven) {
                    self.set_link(certificate, SyncStatus::Succeeded, Some(DELIVERED), None).await?;
                }
                if self.sync.options.prove.is_some() && member.link.status != SyncStatus::Proven {
                    let proof = self.services.proof_follows(self.sync, certificate);
                    self.services.commit(proof).await?;
                }
                Ok(())
            }
            Decision::Confirm(found) => {
                let object = object.ok_or_else(|| Error::failed("a confirmation without a row of the ledger"))?;
                // A run that broke off before its last step: that is still to come.
                Ok(self.delivered(object.clone(), found, &item).await?)
            }
            Decision::Wait => {
                let object = object.ok_or_else(|| Error::failed("a look without a row of the ledger"))?;
                self.note_absence(object).await?;
                Ok(self.set_link(certificate, SyncStatus::Pending, Some(WAITS), None).await?)
            }
            Decision::Create => {
                self.set_link(certificate, SyncStatus::Running, Some("it is being delivered"), None).await?;
                self.create(object, &item).await
            }
            Decision::Mend(found, why) => {
                tracing::warn!(sync.id = %self.sync.id, certificate.id = %certificate, why, "a file is put right");
                let object = object.ok_or_else(|| Error::failed("a mending without a row of the ledger"))?;
                self.replace(object, found, &item).await
            }
            Decision::Replace(found) => {
                let object = object.ok_or_else(|| Error::failed("a replacement without a row of the ledger"))?;
                self.set_link(certificate, SyncStatus::Running, Some("it is being delivered"), None).await?;
                self.replace(object, found, &item).await
            }
        }
    }

    /// Makes an object. What only its mark tells from others never gets a mark that was used before: what was made under that
    /// may be there after all, and stays in the ledger until it surely is not.
    async fn create(&self, object: Option<&SyncObject>, item: &Item) -> Result<(), Obstacle> {
        let now = self.services.now();
        let (reused, given_up) = match self.destination.tells_by_marks_alone() {
            true => (None, object),
            false => (object, None),
        };
        let item = &Item { mark: reused.map_or_else(|| self.services.new_id(), |object| object.id), ..item.clone() };
        let intent = SyncObject {
            id: item.mark,
            sync: self.sync.id,
            certificate: item.certificate,
            name: item.name.clone(),
            state: ObjectState::Making,
            external_id: None,
            fingerprint: None,
            intended: self.destination.expected(item).map(|expected| expected.to_string()),
            content: self.planner.content(item),
            details: Vec::new(),
            absences: 0,
            look_at: None,
        };
        let mut written = Changes::new();
        if let Some(object) = given_up {
            written = written.statement(store::sync::object::update(&retired::retired(object, now), now));
        }
        written = written.statement(match reused {
            None => store::sync::object::intend(&intent, now),
            Some(_) => store::sync::object::update(&intent, now),
        });
        self.services.commit(written).await?;
        self.note_unfinished().await?;
        match self.destination.create(item).await {
            Ok(found) => Ok(self.delivered(intent, found, item).await?),
            Err(error) => {
                if !self.may_have_been_made(&error) {
                    let before = match reused {
                        Some(object) => store::sync::object::update(object, now),
                        None => store::sync::object::forget(&intent),
                    };
                    self.services.commit(Changes::new().statement(before)).await?;
                }
                Err(error.into())
            }
        }
    }

    /// Whether something may be there after a creation that failed. Where a mark tells what is there, even the word of the
    /// other system that it is too busy is not believed.
    fn may_have_been_made(&self, error: &DeliveryError) -> bool {
        match error {
            DeliveryError::Unknown(_) => true,
            DeliveryError::Unavailable(_) => self.destination.bears_marks(),
            DeliveryError::Connection(_) | DeliveryError::Refused(_) | DeliveryError::Taken(_) => false,
        }
    }

    async fn replace(&self, object: &SyncObject, found: Found, item: &Item) -> Result<(), Obstacle> {
        let intent = SyncObject {
            certificate: item.certificate,
            state: ObjectState::Replacing,
            external_id: Some(found.id.clone()),
            fingerprint: Some(found.fingerprint.to_string()),
            intended: self.destination.expected(item).map(|expected| expected.to_string()),
            content: self.planner.content(item),
            absences: 0,
            look_at: None,
            ..object.clone()
        };
        let written = store::sync::object::update(&intent, self.services.now());
        self.services.commit(Changes::new().statement(written)).await?;
        self.note_unfinished().await?;
        match self.destination.replace(&found, item).await {
            Ok(found) => Ok(self.delivered(intent, found, item).await?),
            Err(error @ DeliveryError::Unknown(_)) => Err(error.into()),
            // Both contents are known, so that nothing else is taken for ours if it was done after all.
            Err(error @ DeliveryError::Unavailable(_)) if intent.intended.is_some() => Err(error.into()),
            Err(error) => {
                let before = SyncObject { external_id: Some(found.id), absences: 0, look_at: None, ..object.clone() };
                let written = store::sync::object::update(&before, self.services.now());
                self.services.commit(Changes::new().statement(written)).await?;
                Err(error.into())
            }
        }
    }

    /// A change was made. Where the last step of the run may undo it, it is confirmed after that.
    async fn delivered(&self, object: SyncObject, found: Found, item: &Item) -> Result<()> {
        if let Ok(mut changed) = self.changed.lock() {
            changed.delivered.push((found.clone(), item.common_name.clone()));
        }
        if self.destination.can_undo() {
            if let Ok(mut unconfirmed) = self.unconfirmed.lock() {
                unconfirmed.push((object, found));
            }
            return Ok(());
        }
        self.services.confirm_delivery(self.sync, object, found).await
    }

    /// Writes down, before anything is changed, that the last step is to come: a run that breaks off leaves it to the next.
    async fn note_unfinished(&self) -> Result<()> {
        match self.destination.has_last_step() || has_command(self.sync) {
            true => self.note_last_step(LastStep::ToCome).await,
            false => Ok(()),
        }
    }

    /// Writes down whether the last step is to come, unless that is written down already.
    async fn note_last_step(&self, step: LastStep) -> Result<()> {
        let is_unfinished = step == LastStep::ToCome;
        if self.is_unfinished.swap(is_unfinished, Ordering::Relaxed) == is_unfinished {
            return Ok(());
        }
        let noted = store::sync::set_unfinished(self.sync.id, is_unfinished);
        self.services.commit(Changes::new().statement(noted)).await
    }

    /// Removes what is not to be there any more.
    async fn clear(&self, wanted: &[Member]) -> Result<()> {
        let ledger = store::sync::object::all(&self.services.db, self.sync.id).await.map_err(failed)?;
        let is_wanted: HashSet<CertificateId> = wanted.iter().map(Member::certificate).collect();
        if !self.sync.options.can_remove_certificates {
            return Ok(());
        }
        for object in &ledger {
            if self.is_cut_off.load(Ordering::Relaxed) {
                break;
            }
            if object.is_current()
                && !is_wanted.contains(&object.certificate)
                && !self.waits_for_successor(object.certificate, &ledger).await?
            {
                self.remove(object).await?;
            }
        }
        let now = self.services.now();
        let retired = ledger.iter().filter(|object| !object.is_current() && object.is_due(now));
        self.look_for_retired(&retired.collect::<Vec<_>>(), &ledger).await
    }

    /// Ends the links of certificates that are left out, once nothing of theirs is there.
    async fn end_links(&self, left_out: &[Member]) -> Result<()> {
        let ledger = store::sync::object::all(&self.services.db, self.sync.id).await.map_err(failed)?;
        for member in left_out {
            let certificate = member.certificate();
            let why = member.left_out().unwrap_or_default();
            let has_object = ledger.iter().any(|object| object.certificate == certificate && object.is_current());
            let is_replaced = member.record.row.renewed_by.is_some();
            if !has_object && (is_replaced || self.sync.options.can_remove_certificates) {
                let ended = store::sync::link::delete(self.sync.id, certificate);
                self.services.commit(Changes::new().statement(ended)).await?;
            } else if !has_object {
                self.set_link(certificate, SyncStatus::Failed, Some(why), None).await?;
            } else if !self.sync.options.can_remove_certificates {
                let message = format!("{why}; it stays at the destination, since canRemoveCertificates is off");
                self.set_link(certificate, member.link.status, Some(&message), None).await?;
            }
        }
        Ok(())
    }

    /// Whether a certificate has a successor that is linked and not there yet, perhaps since this run began: until then its
    /// object stays, for the successor to take over.
    async fn waits_for_successor(&self, certificate: CertificateId, ledger: &[SyncObject]) -> Result<bool> {
        let mut next = store::renewal::successor(&self.services.db, certificate).await.map_err(failed)?;
        for _ in 0..LINE_MAX {
            let Some(successor) = next else { return Ok(false) };
            let (db, sync) = (&self.services.db, self.sync);
            let link = store::sync::link::of(db, sync.id, successor).await.map_err(failed)?;
            let row = store::certificate::by_id(db, sync.organization, successor).await.map_err(failed)?;
            let record = row.map(|row| self.services.read(row)).transpose()?;
            // One that is revoked or has expired takes nothing over.
            if link.is_some() && record.is_some_and(|record| record.status == ShownStatus::Active) {
                let is_there =
                    |object: &SyncObject| object.certificate == successor && object.state == ObjectState::There;
                return Ok(!ledger.iter().any(is_there));
            }
            next = store::renewal::successor(&self.services.db, successor).await.map_err(failed)?;
        }
        Ok(false)
    }

    /// Removes an object of the ledger, unless somebody else changed it.
    async fn remove(&self, object: &SyncObject) -> Result<()> {
        match self.try_to_remove(object).await {
            Ok(()) => Ok(()),
            Err(Obstacle::Ours(error)) if error.reason().is_none() => Err(error),
            Err(obstacle) => {
                self.note_obstacle(object.certificate, &obstacle).await;
                Ok(())
            }
        }
    }

    async fn try_to_remove(&self, object: &SyncObject) -> Result<(), Obstacle> {
        let known = match &object.external_id {
            Some(id) => self.destination.look(id).await?,
            None => None,
        };
        // One that is said to be gone, or that was being made when we last heard of it, is looked for by its mark as well.
        let mut found = match known {
            Some(found) => vec![found],
            None => self.planner.made_meanwhile(object).await?,
        };
        if self.destination.tells_by_marks_alone() && found.len() > 1 {
            self.retire_twins(object, found.split_off(1)).await?;
        }
        if let Some(found) = found.into_iter().next() {
            if !is_ours(object, &found) {
                return Err(changed_by_others(&found).into());
            }
            let found = match object.details.is_empty() {
                // It was being made: what it consists of is not written down yet.
                true => found,
                false => Found { details: object.details.clone(), ..found },
            };
            let intent = SyncObject {
                state: ObjectState::Removing,
                external_id: Some(found.id.clone()),
                fingerprint: Some(found.fingerprint.to_string()),
                ..object.clone()
            };
            self.take_away(&intent, found).await?;
            return Ok(self.removed(&intent).await?);
        }
        Ok(self.removed(object).await?)
    }

    /// Removes what was found of an object, which is written down before.
    async fn take_away(&self, intent: &SyncObject, found: Found) -> Result<(), Obstacle> {
        let written = store::sync::object::update(intent, self.services.now());
        self.services.commit(Changes::new().statement(written)).await?;
        // Of files only what is delivered wants a command.
        if self.destination.has_last_step() {
            self.note_unfinished().await?;
        }
        self.destination.remove(&found).await?;
        if self.destination.look(&found.id).await?.is_some() {
            return Err(DeliveryError::Unavailable(format!("{} was removed and is there still", found.id)).into());
        }
        if let Ok(mut changed) = self.changed.lock() {
            changed.removed.push(found.id);
        }
        Ok(())
    }

    /// An object is not there any more, by what is said: its link ends. Where that may be untrue the ledger keeps the object for
    /// a while.
    async fn removed(&self, object: &SyncObject) -> Result<()> {
        let now = self.services.now();
        let gone = match self.destination.bears_marks() {
            true => store::sync::object::update(&retired::retired(object, now), now),
            false => store::sync::object::forget(object),
        };
        let gone = Changes::new().statement(gone);
        self.services.commit(gone.statement(store::sync::link::delete(self.sync.id, object.certificate))).await
    }

    /// The last step, when anything changed; then what waited for it is confirmed.
    async fn finish(&self) -> Result<()> {
        let changed = std::mem::take(&mut *self.changed.lock().map_err(|_| Error::failed("the changes of a run"))?);
        let unconfirmed =
            std::mem::take(&mut *self.unconfirmed.lock().map_err(|_| Error::failed("the changes of a run"))?);
        let is_unchanged = changed.delivered.is_empty() && changed.removed.is_empty();
        let changed = match (is_unchanged, self.sync.is_unfinished) {
            // What may have been done and was not answered is confirmed by the next run, and wants its last step then.
            (true, false) if self.failures.lock().is_ok_and(|failures| failures.is_empty()) => {
                return self.note_last_step(LastStep::Done).await;
            }
            (true, false) => return Ok(()),
            (true, true) => self.everything().await?,
            (false, _) => changed,
        };
        match self.destination.finish(&changed).await {
            Ok(()) => {
                for (object, found) in unconfirmed {
                    self.services.confirm_delivery(self.sync, object, found).await?;
                }
                self.note_last_step(LastStep::Done).await
            }
            Err(error) => {
                let message = error.to_string();
                for (object, _) in &unconfirmed {
                    self.set_link(object.certificate, SyncStatus::Failed, Some(&message), None).await?;
                }
                Err(Error::failed(message))
            }
        }
    }
}

impl Run<'_> {
    /// All that is there as if it had just been delivered, for a last step that an earlier run did not come to.
    async fn everything(&self) -> Result<Changed> {
        let (db, sync) = (&self.services.db, self.sync);
        let mut delivered = Vec::new();
        for object in store::sync::object::all(db, sync.id).await.map_err(failed)? {
            let (true, Some(id), Some(fingerprint)) = (object.is_current(), object.external_id, object.fingerprint)
            else {
                continue;
            };
            let row = store::certificate::by_id(db, sync.organization, object.certificate).await.map_err(failed)?;
            let record = row.map(|row| self.services.read(row)).transpose()?;
            let fingerprint = Fingerprint::from_text(fingerprint);
            let found = Found { id, fingerprint, mark: Some(object.id), version: None, details: object.details };
            delivered.push((found, record.map(|record| record.common_name().to_owned()).unwrap_or_default()));
        }
        Ok(Changed { delivered, removed: Vec::new() })
    }
}

/// What a link that was delivered says.
const DELIVERED: &str = "The certificate is at the destination";

impl Context {
    /// Writes down that an object is there, and says so in the link.
    async fn confirm_delivery(&self, sync: &Sync, object: SyncObject, found: Found) -> Result<()> {
        let now = self.now();
        let certificate = object.certificate;
        let there = SyncObject {
            state: ObjectState::There,
            external_id: Some(found.id),
            fingerprint: Some(found.fingerprint.to_string()),
            intended: None,
            details: found.details,
            absences: 0,
            look_at: None,
            ..object
        };
        let delivered =
            store::sync::link::set_status(sync.id, certificate, SyncStatus::Succeeded, Some(DELIVERED), Some(now), now);
        let mut changes = Changes::new().statement(store::sync::object::update(&there, now)).statement(delivered);
        changes = changes.with(self.proof_follows(sync, certificate));
        self.commit(changes).await
    }

    /// Lets the addresses of a sync be asked for a certificate, if it has any.
    fn proof_follows(&self, sync: &Sync, certificate: CertificateId) -> Changes {
        let Some(prove) = &sync.options.prove else { return Changes::new() };
        let now = self.now();
        let until = now.plus_seconds(prove.timeout_seconds.into());
        let job = Job::ProveSync { sync: sync.id };
        Changes::new()
            .statement(store::sync::link::prove_until(sync.id, certificate, Some(until)))
            .statement(store::job::enqueue(self.new_id(), &job, now, now))
    }
}

/// Whether a run of the sync ends with a command.
fn has_command(sync: &Sync) -> bool {
    sync.options.post_sync_command.is_some() || sync.options.health_check_command.is_some()
}

fn summary(failures: &[(CertificateId, String)]) -> Option<String> {
    let (certificate, message) = failures.first()?;
    let others = failures.len() - 1;
    let more = if others == 0 { String::new() } else { format!(", and {others} others") };
    Some(format!("certificate {certificate}: {message}{more}"))
}
