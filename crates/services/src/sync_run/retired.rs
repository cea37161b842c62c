//! Objects that are to be gone. "Not found" may be a lie, so none is forgotten until its absence was seen in several runs some
//! time apart; the looks are planned here, and cost nothing while no object is in doubt.
//!
//! A retired object is no certificate's any more: links and further deliveries do not wait for these looks. When it turns out to
//! be there after all, as we left it, it is removed.

use super::{AT_ONCE, PAUSE, Run};
use crate::context::{Context, failed};
use crate::sync_items::Member;
use crate::sync_plan::{Obstacle, changed_by_others, is_ours};
use async_recursion::async_recursion as compiled_here;
use domain::job::Job;
use domain::sync::{ObjectState, Sync, SyncObject};
use domain::{CertificateId, Error, Result, SyncId, Time};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use outbound::destination::{Destination, Found};
use std::collections::HashSet;
use std::sync::atomic::Ordering;
use store::Changes;

/// How long after each absence a retired object is looked for again; after one more it is forgotten.
const PAUSES_SECONDS: [i64; 3] = [5, 60, 300];
/// The same for one that was there, before another one is made in its place.
const PAUSES_BEFORE_ANOTHER_SECONDS: [i64; 2] = [2, 5];
/// How long after a look that failed the next one comes.
const PAUSE_AFTER_FAILURE_SECONDS: i64 = 30;
/// How long a look gives way to a run.
const PAUSE_FOR_RUN_SECONDS: i64 = 2;

impl Context {
    /// Looks for what is in doubt at a destination, under a job. Nothing else is looked at.
    #[compiled_here]
    pub async fn recheck_sync(&self, id: SyncId) -> Result<()> {
        let Some(sync) = store::sync::any_by_id(&self.db, id).await.map_err(failed)? else { return Ok(()) };
        if self.is_running(&Job::RunSync { sync: id }).await? || self.is_running(&Job::ClearSync { sync: id }).await? {
            return self.recheck_at(id, self.now().plus_seconds(PAUSE_FOR_RUN_SECONDS)).await;
        }
        self.try_to_recheck(&sync).await?;
        self.plan_recheck(id).await
    }

    async fn try_to_recheck(&self, sync: &Sync) -> Result<()> {
        let now = self.now();
        let is_in_doubt = |object: &&SyncObject| object.look_at.is_some_and(|at| at <= now);
        let ledger = store::sync::object::all(&self.db, sync.id).await.map_err(failed)?;
        if !ledger.iter().any(|object| is_in_doubt(&object)) {
            return Ok(());
        }
        let destination = self.open_destination(sync).await?;
        let secrets = self.sync_secrets_digest(sync).await?;
        let run = Run::new(self, sync, &destination, (&ledger, HashSet::new()), secrets);
        let current: HashSet<CertificateId> =
            ledger.iter().filter(|object| object.is_current()).filter(is_in_doubt).map(|one| one.certificate).collect();
        if !current.is_empty() {
            run.bring_all(&run.members_of(&current, &ledger).await?, &ledger).await;
        }
        let ledger = store::sync::object::all(&self.db, sync.id).await.map_err(failed)?;
        let retired: Vec<&SyncObject> =
            ledger.iter().filter(|object| !object.is_current()).filter(is_in_doubt).collect();
        if sync.options.can_remove_certificates {
            run.look_for_retired(&retired, &ledger).await?;
        }
        run.finish().await?;
        if let Some(message) = run.cut_off_by.into_inner().unwrap_or_default() {
            return Err(Error::failed(message));
        }
        // What is not to be looked for now, since it is not wanted or must not be removed, waits for the next whole run.
        let mut changes = Changes::new();
        for object in store::sync::object::all(&self.db, sync.id).await.map_err(failed)?.iter().filter(is_in_doubt) {
            let waiting = SyncObject { look_at: None, ..object.clone() };
            changes = changes.statement(store::sync::object::update(&waiting, now));
        }
        // What failed is tried again as it is after any run.
        if run.failures.into_inner().is_ok_and(|failures| !failures.is_empty()) {
            changes = changes.statement(self.run_soon(sync.id, now));
        }
        self.commit(changes).await
    }

    /// Plans the next look at what is in doubt, if anything is.
    pub(super) async fn plan_recheck(&self, id: SyncId) -> Result<()> {
        match store::sync::object::next_look(&self.db, id).await.map_err(failed)? {
            None => Ok(()),
            Some(at) => self.recheck_at(id, at.max(self.now().plus_seconds(1))).await,
        }
    }

    async fn recheck_at(&self, id: SyncId, at: Time) -> Result<()> {
        let job = store::job::enqueue(self.new_id(), &Job::RecheckSync { sync: id }, at, self.now());
        self.commit(Changes::new().statement(job)).await
    }

    /// Waits for a look that is under way. One that begins now sees what waits for it, and gives way.
    pub(super) async fn until_rechecked(&self, id: SyncId) -> Result<()> {
        while self.is_running(&Job::RecheckSync { sync: id }).await? {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }
}

impl Run<'_> {
    /// The certificates whose objects are among those of other certificates, or are their own.
    async fn members_of(&self, doubtful: &HashSet<CertificateId>, ledger: &[SyncObject]) -> Result<Vec<Member>> {
        let mut members = Vec::new();
        for member in self.services.members_of_sync(self.sync).await? {
            if member.left_out().is_none() {
                let object = self.planner.object_of(&member, ledger).await?;
                if object.is_some_and(|object| doubtful.contains(&object.certificate)) {
                    members.push(member);
                }
            }
        }
        Ok(members)
    }

    /// Looks for retired objects, a few at a time: those that are there after all are removed.
    pub(super) async fn look_for_retired(&self, retired: &[&SyncObject], ledger: &[SyncObject]) -> Result<()> {
        if !self.sync.destination.can_remove() {
            return Ok(());
        }
        let mut under_way = FuturesUnordered::new();
        for object in retired {
            if under_way.len() >= AT_ONCE
                && let Some(looked) = under_way.next().await
            {
                looked?;
            }
            under_way.push(self.look_for(object, ledger));
        }
        while let Some(looked) = under_way.next().await {
            looked?;
        }
        Ok(())
    }

    async fn look_for(&self, object: &SyncObject, ledger: &[SyncObject]) -> Result<()> {
        if self.is_cut_off.load(Ordering::Relaxed) {
            return Ok(());
        }
        let obstacle = match self.try_to_look_for(object, ledger).await {
            Ok(()) => return Ok(()),
            Err(Obstacle::Ours(error)) if error.reason().is_none() => return Err(error),
            Err(obstacle) => obstacle,
        };
        // The certificate may have another object by now, of which its link speaks.
        tracing::warn!(sync.id = %self.sync.id, object.id = %object.id, error = %obstacle, "an object that is to be gone was not removed");
        self.note_cut_off(&obstacle);
        let now = self.services.now();
        let may_pass = matches!(&obstacle, Obstacle::Delivery(error) if error.may_pass());
        let look_at = may_pass.then(|| now.plus_seconds(PAUSE_AFTER_FAILURE_SECONDS));
        self.write(SyncObject { absences: 0, look_at, ..object.clone() }).await
    }

    async fn try_to_look_for(&self, object: &SyncObject, ledger: &[SyncObject]) -> Result<(), Obstacle> {
        let mut found: Vec<Found> = match &object.external_id {
            Some(id) => self.destination.look(id).await?.into_iter().collect(),
            None => self.planner.made_meanwhile(object).await?,
        };
        let is_of_another = |found: &Found| {
            let is_it = |other: &SyncObject| other.id != object.id && other.external_id.as_deref() == Some(&*found.id);
            ledger.iter().any(is_it)
        };
        // Under a name that is free again there may be what is somebody else's, or what took its place.
        let bears_mark = |found: &Found| self.destination.tells_by_marks_alone() || found.mark == Some(object.id);
        found.retain(|found| bears_mark(found) && !is_of_another(found));
        if found.len() > 1 {
            self.retire_twins(object, found.split_off(1)).await?;
        }
        let Some(found) = found.into_iter().next() else {
            return Ok(self.note_absence_of_retired(object).await?);
        };
        if !is_ours(object, &found) {
            return Err(changed_by_others(&found).into());
        }
        let seen = SyncObject {
            external_id: Some(found.id.clone()),
            fingerprint: Some(found.fingerprint.to_string()),
            absences: 0,
            ..object.clone()
        };
        let found = match object.details.is_empty() {
            true => found,
            false => Found { details: object.details.clone(), ..found },
        };
        tracing::info!(sync.id = %self.sync.id, object.id = %object.id, "an object that was said to be gone is there, and is removed");
        self.take_away(&seen, found).await?;
        Ok(self.write(retired(&seen, self.services.now())).await?)
    }

    /// Further objects that bear one mark are ours and too many: each gets a row of its own, so that it is removed.
    pub(super) async fn retire_twins(&self, object: &SyncObject, twins: Vec<Found>) -> Result<()> {
        let now = self.services.now();
        let mut changes = Changes::new();
        for twin in twins.into_iter().filter(|twin| is_ours(object, twin)) {
            let row = SyncObject {
                id: self.services.new_id(),
                state: ObjectState::Retired,
                external_id: Some(twin.id),
                fingerprint: Some(twin.fingerprint.to_string()),
                intended: None,
                details: twin.details,
                absences: 0,
                look_at: Some(now),
                ..object.clone()
            };
            changes = changes.statement(store::sync::object::intend(&row, now));
        }
        self.services.commit(changes).await
    }

    /// An object that was there is said not to be.
    pub(super) async fn note_absence(&self, object: &SyncObject) -> Result<()> {
        let now = self.services.now();
        if !object.is_due(now) {
            return Ok(());
        }
        let pause = pause_after(object.absences, &PAUSES_BEFORE_ANOTHER_SECONDS).unwrap_or(PAUSE_FOR_RUN_SECONDS);
        let look_at = Some(now.plus_seconds(pause));
        self.write(SyncObject { absences: object.absences + 1, look_at, ..object.clone() }).await
    }

    /// An object that was said not to be there is.
    pub(super) async fn note_seen(&self, object: &SyncObject) -> Result<()> {
        self.write(SyncObject { absences: 0, look_at: None, ..object.clone() }).await
    }

    async fn note_absence_of_retired(&self, object: &SyncObject) -> Result<()> {
        let now = self.services.now();
        if !object.is_due(now) {
            return Ok(());
        }
        match pause_after(object.absences, &PAUSES_SECONDS) {
            Some(pause) => {
                let look_at = Some(now.plus_seconds(pause));
                self.write(SyncObject { absences: object.absences + 1, look_at, ..object.clone() }).await
            }
            None => self.services.commit(Changes::new().statement(store::sync::object::forget(object))).await,
        }
    }

    async fn write(&self, object: SyncObject) -> Result<()> {
        let written = store::sync::object::update(&object, self.services.now());
        self.services.commit(Changes::new().statement(written)).await
    }
}

/// An object that is not to be there any more, and was just said not to be.
pub(super) fn retired(object: &SyncObject, now: Time) -> SyncObject {
    let look_at = Some(now.plus_seconds(PAUSES_SECONDS[0]));
    SyncObject { state: ObjectState::Retired, absences: 1, look_at, ..object.clone() }
}

/// How long it is waited after one more absence; none when that was the last one that it takes.
fn pause_after(absences: u32, pauses_seconds: &[i64]) -> Option<i64> {
    pauses_seconds.get(usize::try_from(absences).ok()?).copied()
}
