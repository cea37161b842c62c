//! What a run of a sync has to do, by the ledger and by what the destination says is there. The destination is looked at, and
//! nothing is changed here; `sync_run.rs` does it.

use crate::context::{Context, failed};
use crate::sync_items::{Member, content_of};
use domain::sync::{ObjectState, Sync, SyncObject};
use domain::{CertificateId, Error, Result};
use outbound::DeliveryError;
use outbound::destination::any::AnyDestination;
use outbound::destination::{Destination, Fingerprint, Found, Item};
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use uuid::Uuid;

/// How far a line of renewals is followed.
pub(crate) const LINE_MAX: usize = 100;
/// In how many runs an object that was there has to be said to be gone before another one is made: who uses it knows it by
/// its identifier, and would lose it if that was not true.
const ABSENCES_BEFORE_ANOTHER: u32 = 3;

/// What a run would do, or did, with one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedChange {
    /// The certificate.
    pub certificate: CertificateId,
    /// The object's name.
    pub name: String,
    /// The other system's identifier, once there is one.
    pub external_id: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// What a run would do.
#[derive(Clone, Debug, Default)]
pub struct Preview {
    /// Objects that would be made.
    pub create: Vec<PlannedChange>,
    /// Objects that would get another certificate.
    pub replace: Vec<PlannedChange>,
    /// Objects that would be removed.
    pub remove: Vec<PlannedChange>,
    /// What would stay as it is, with the reason where it should not.
    pub unchanged: Vec<PlannedChange>,
}

/// What is to be done for a certificate.
pub(crate) enum Decision {
    /// It is there as it is to be.
    Nothing,
    /// It is there as it is to be, and the ledger does not say so yet.
    Confirm(Found),
    /// It is not there.
    Create,
    /// Something of ours is there that is to hold it.
    Replace(Found),
    /// It is there, and what is beside its content was changed by somebody else.
    Mend(Found, String),
    /// It was there, and is said not to be: that has to be said again, some time later, before another one is made.
    Wait,
}

/// What is to be done for a certificate, and with what.
pub(crate) struct Planned {
    /// What is to be there.
    pub(crate) item: Item,
    /// What is to be done.
    pub(crate) decision: Decision,
    /// Further objects that bear the mark of this one: they are ours, and too many.
    pub(crate) twins: Vec<Found>,
}

/// Why a certificate is not at its destination.
pub(crate) enum Obstacle {
    /// The destination.
    Delivery(DeliveryError),
    /// We.
    Ours(Error),
}

impl From<DeliveryError> for Obstacle {
    fn from(error: DeliveryError) -> Self {
        Self::Delivery(error)
    }
}

impl From<Error> for Obstacle {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Delivery(error) => error.fmt(formatter),
            Self::Ours(error) => error.fmt(formatter),
        }
    }
}

/// What is planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It is done at once.
    Run,
    /// It is shown: the destination is asked in any case, so that one that does not answer is seen.
    Preview,
}

/// What plans one run.
pub(crate) struct Planner<'a> {
    services: &'a Context,
    sync: &'a Sync,
    destination: &'a AnyDestination,
    purpose: Purpose,
    /// Another text for each choice of the sync's own secrets.
    secrets: String,
    /// The certificates that are to be at the destination.
    wanted: HashSet<CertificateId>,
    /// Names that are taken at the destination by this sync, each by a certificate.
    names: Mutex<HashMap<String, CertificateId>>,
}

impl Context {
    /// What a run would do now. The destination is looked at; nothing is changed.
    pub(crate) async fn plan_run(&self, sync: &Sync) -> Result<Preview> {
        let destination = self.open_destination(sync).await?;
        let members = self.members_of_sync(sync).await?;
        let ledger = store::sync::object::all(&self.db, sync.id).await.map_err(failed)?;
        let secrets = self.sync_secrets_digest(sync).await?;
        let wanted = wanted(&members);
        let planner = Planner::new(self, sync, &destination, (&ledger, wanted), (Purpose::Preview, secrets));
        let mut preview = Preview::default();
        let mut kept = HashSet::new();
        for member in members.iter().filter(|member| member.left_out().is_none()) {
            let certificate = member.certificate();
            let object = planner.object_of(member, &ledger).await?;
            if let Some(object) = object {
                kept.insert(object.id);
            }
            let external_id = object.and_then(|object| object.external_id.clone());
            let planned = planner.plan(member, object).await.map(|planned| (planned.item, planned.decision));
            let (list, name, reason) = match planned {
                Ok((item, Decision::Nothing | Decision::Confirm(_))) => (&mut preview.unchanged, item.name, None),
                Ok((item, Decision::Wait)) => (&mut preview.unchanged, item.name, Some(WAITS.to_owned())),
                Ok((item, Decision::Create)) => (&mut preview.create, item.name, None),
                Ok((item, Decision::Replace(_))) => {
                    let reason = object.filter(|object| object.certificate != certificate);
                    let reason =
                        reason.map(|object| format!("it takes the place of certificate {}", object.certificate));
                    (&mut preview.replace, item.name, reason)
                }
                Ok((item, Decision::Mend(_, why))) => (&mut preview.replace, item.name, Some(why)),
                Err(Obstacle::Ours(error)) if error.reason().is_none() => return Err(error),
                Err(obstacle) => {
                    let name = object.map(|object| object.name.clone());
                    let name = name.or_else(|| Self::name_by_schema(sync, &member.record).ok());
                    (&mut preview.unchanged, name.unwrap_or_default(), Some(obstacle.to_string()))
                }
            };
            list.push(PlannedChange { certificate, name, external_id, reason });
        }
        for object in ledger.iter().filter(|object| object.is_current() && !kept.contains(&object.id)) {
            let left_out = members.iter().find(|member| member.certificate() == object.certificate);
            let why = left_out.and_then(Member::left_out).unwrap_or("the certificate is not linked any more");
            let change = PlannedChange {
                certificate: object.certificate,
                name: object.name.clone(),
                external_id: object.external_id.clone(),
                reason: Some(why.to_owned()),
            };
            match sync.options.can_remove_certificates {
                true => preview.remove.push(change),
                false => preview.unchanged.push(PlannedChange {
                    reason: Some(format!("{why}; nothing is removed, since canRemoveCertificates is off")),
                    ..change
                }),
            }
        }
        Ok(preview)
    }
}

/// The certificates that are to be at the destination.
pub(crate) fn wanted(members: &[Member]) -> HashSet<CertificateId> {
    members.iter().filter(|member| member.left_out().is_none()).map(Member::certificate).collect()
}

impl<'a> Planner<'a> {
    pub(crate) fn new(
        services: &'a Context,
        sync: &'a Sync,
        destination: &'a AnyDestination,
        (ledger, wanted): (&[SyncObject], HashSet<CertificateId>),
        (purpose, secrets): (Purpose, String),
    ) -> Self {
        let current = ledger.iter().filter(|object| object.is_current());
        let names = current.map(|object| (object.name.clone(), object.certificate)).collect();
        Self { services, sync, destination, purpose, secrets, wanted, names: Mutex::new(names) }
    }

    /// The object of the ledger that a certificate has, or takes over from the one that it was renewed from.
    pub(crate) async fn object_of<'l>(
        &self,
        member: &Member,
        ledger: &'l [SyncObject],
    ) -> Result<Option<&'l SyncObject>> {
        let of = |id: CertificateId| ledger.iter().find(|object| object.certificate == id && object.is_current());
        let own = of(member.certificate());
        if own.is_some() {
            return Ok(own);
        }
        let mut predecessor = match self.sync.options.preserves_on_renewal() {
            true => member.record.row.renewed_from,
            false => None,
        };
        for _ in 0..LINE_MAX {
            let Some(id) = predecessor else { break };
            if let Some(object) = of(id) {
                return Ok(Some(object));
            }
            predecessor = store::renewal::predecessor(&self.services.db, id).await.map_err(failed)?;
        }
        self.left_under_name(member, ledger).await
    }

    /// The object that stands under the name that a certificate is to have, and that no other certificate is to have any more:
    /// where a name is only there once, it is taken over, since nothing could be made beside it.
    async fn left_under_name<'l>(&self, member: &Member, ledger: &'l [SyncObject]) -> Result<Option<&'l SyncObject>> {
        if !self.destination.has_unique_names() {
            return Ok(None);
        }
        // What is wrong with the name is told by whoever makes an object of it.
        let Ok(name) = Context::name_by_schema(self.sync, &member.record) else { return Ok(None) };
        let is_left = |object: &&SyncObject| {
            object.name == name && !(object.is_current() && self.wanted.contains(&object.certificate))
        };
        let left = ledger.iter().filter(is_left).max_by_key(|object| object.is_current());
        let Some(left) = left else { return Ok(None) };
        if left.is_current() && self.has_heir(left.certificate, member.certificate()).await? {
            return Ok(None);
        }
        let mut names = self.names.lock().map_err(|_| Error::failed("the names of a run"))?;
        let owner = names.entry(name).or_insert(member.certificate());
        if left.is_current() && *owner == left.certificate {
            *owner = member.certificate();
        }
        Ok((*owner == member.certificate()).then_some(left))
    }

    /// Whether an object waits for a certificate that was renewed from its own, and that is another one than this.
    async fn has_heir(&self, certificate: CertificateId, other_than: CertificateId) -> Result<bool> {
        let mut next = Some(certificate);
        for _ in 0..LINE_MAX {
            let Some(certificate) = next else { break };
            next = store::renewal::successor(&self.services.db, certificate).await.map_err(failed)?;
            if next.is_some_and(|next| next != other_than && self.wanted.contains(&next)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What is to be done for a certificate. The destination is looked at, nothing is changed.
    pub(crate) async fn plan(&self, member: &Member, object: Option<&SyncObject>) -> Result<Planned, Obstacle> {
        let mark = object.map_or_else(|| self.services.new_id::<Uuid>(), |object| object.id);
        let name = match object {
            // An object keeps the name that it was made with.
            Some(object) => object.name.clone(),
            None => self.free_name(member)?,
        };
        let item = self.services.item(self.sync, &member.record, mark, name).await?;
        self.destination.must_take(&item)?;
        let content = self.content(&item);
        let (decision, twins) = match object {
            None => (self.plan_new(&item).await?, Vec::new()),
            Some(object) => self.plan_known(object, &item, &content).await?,
        };
        Ok(Planned { item, decision, twins })
    }

    /// What an item asks for: another text when anything of it, or of what shapes it, is another.
    pub(crate) fn content(&self, item: &Item) -> String {
        content_of(self.sync, item, &self.secrets)
    }

    /// The name of a certificate that has no object yet. Two certificates of a sync never share one.
    fn free_name(&self, member: &Member) -> Result<String> {
        let name = Context::name_by_schema(self.sync, &member.record)?;
        let mut names = self.names.lock().map_err(|_| Error::failed("the names of a run"))?;
        match names.get(&name) {
            Some(other) if *other != member.certificate() => Err(Error::wrong_state(format!(
                "certificates {other} and {} both have the name \"{name}\" at this destination, and the first one keeps it: \
                 let certificateNameSchema hold {{{{certificateId}}}} or {{{{shortCertificateId}}}}, or take one of them \
                 out of the sync",
                member.certificate()
            ))),
            _ => {
                names.insert(name.clone(), member.certificate());
                Ok(name)
            }
        }
    }

    /// What is to be done for an item that this sync never had: whatever stands in its place is somebody else's, were it the
    /// very same.
    async fn plan_new(&self, item: &Item) -> Result<Decision, DeliveryError> {
        if !self.destination.has_unique_names() && self.purpose == Purpose::Run {
            return Ok(Decision::Create);
        }
        match self.destination.find(item).await?.first() {
            Some(stranger) => Err(taken(stranger, item)),
            None => Ok(Decision::Create),
        }
    }

    /// What is to be done for an item of which no identifier is known, or whose object is gone: what bears its mark is what an
    /// interrupted creation made.
    async fn plan_by_mark(
        &self,
        object: &SyncObject,
        item: &Item,
        is_wanted: bool,
    ) -> Result<(Decision, Vec<Found>), DeliveryError> {
        let found = self.destination.find(item).await?;
        let (mut ours, strangers): (Vec<Found>, Vec<Found>) =
            found.into_iter().partition(|found| found.mark == Some(item.mark));
        // The one that the ledger knows, or else one that is as it is to be, is kept.
        ours.sort_by_key(|found| (object.external_id.as_deref() != Some(&*found.id), !self.stands(found, item)));
        let mut ours = ours.into_iter();
        let decision = match (ours.next(), strangers.first()) {
            (Some(found), _) if self.was_changed(object, &found) => return Err(changed_by_others(&found)),
            (Some(found), _) if is_wanted && self.stands(&found, item) => Decision::Confirm(found),
            (Some(found), _) => Decision::Replace(found),
            (None, Some(stranger)) => return Err(taken(stranger, item)),
            (None, None) if self.waits(object) => Decision::Wait,
            (None, None) => Decision::Create,
        };
        let twins = match self.destination.tells_by_marks_alone() {
            true => ours.collect(),
            false => Vec::new(),
        };
        Ok((decision, twins))
    }

    /// Whether an object that bears our mark and was seen as we left it is not so any more.
    fn was_changed(&self, object: &SyncObject, found: &Found) -> bool {
        self.destination.bears_marks() && object.fingerprint.is_some() && !is_ours(object, found)
    }

    /// Whether an object that is said not to be there has to be said to be gone again before another one is made.
    fn waits(&self, object: &SyncObject) -> bool {
        let was_there = matches!(object.state, ObjectState::There | ObjectState::Replacing);
        let is_last = object.is_due(self.services.now()) && object.absences + 1 >= ABSENCES_BEFORE_ANOTHER;
        self.destination.tells_by_marks_alone() && was_there && !is_last
    }

    async fn plan_known(
        &self,
        object: &SyncObject,
        item: &Item,
        content: &str,
    ) -> Result<(Decision, Vec<Found>), DeliveryError> {
        let is_wanted = object.content == content && object.certificate == item.certificate;
        let known = match object.external_id.as_deref() {
            Some(external_id) => self.destination.look(external_id).await?,
            None => None,
        };
        match known {
            Some(found) => Ok((self.plan_found(object, item, found, is_wanted).await?, Vec::new())),
            None => self.plan_by_mark(object, item, is_wanted).await,
        }
    }

    /// What is to be done with the object that the ledger knows.
    async fn plan_found(
        &self,
        object: &SyncObject,
        item: &Item,
        found: Found,
        is_wanted: bool,
    ) -> Result<Decision, DeliveryError> {
        if !is_ours(object, &found) {
            return Err(changed_by_others(&found));
        }
        match (object.state, is_wanted) {
            // A part that is gone is put back.
            (ObjectState::There, true) if object.fingerprint.as_deref() == Some(found.fingerprint.as_str()) => {
                Ok(match self.destination.strayed(&found, item).await? {
                    None => Decision::Nothing,
                    Some(why) => Decision::Mend(Found { details: object.details.clone(), ..found }, why),
                })
            }
            (_, true) if self.stands(&found, item) => Ok(Decision::Confirm(found)),
            // What was recorded beside it, such as files of another form, goes with it.
            _ => Ok(Decision::Replace(Found { details: object.details.clone(), ..found })),
        }
    }

    /// Whether what was found is the item.
    fn stands(&self, found: &Found, item: &Item) -> bool {
        self.destination.expected(item).is_some_and(|expected| expected == found.fingerprint)
    }

    /// What an interrupted creation left, by its mark.
    pub(crate) async fn made_meanwhile(&self, object: &SyncObject) -> Result<Vec<Found>, Obstacle> {
        let row = store::certificate::by_id(&self.services.db, self.sync.organization, object.certificate)
            .await
            .map_err(failed)?;
        // Its certificate was deleted: without it nothing tells what it was from what others made.
        let Some(row) = row else { return Ok(Vec::new()) };
        let item = self.services.item(self.sync, &self.services.read(row)?, object.id, object.name.clone()).await?;
        let found = self.destination.find(&item).await?;
        Ok(found.into_iter().filter(|found| found.mark == Some(object.id)).collect())
    }
}

/// Whether what was found is as the ledger says that it was left, or as a change that broke off may have left it.
pub(crate) fn is_ours(object: &SyncObject, found: &Found) -> bool {
    let known = object.fingerprint.as_deref().map(Fingerprint::from_text);
    let intended = object.intended.as_deref().map(Fingerprint::from_text);
    let is_as_known = known.as_ref().is_some_and(|known| found.fingerprint.agrees_with(known));
    match object.state {
        ObjectState::There => is_as_known,
        ObjectState::Making | ObjectState::Replacing => {
            is_as_known
                || found.fingerprint.is_between(known.as_ref(), intended.as_ref())
                || (intended.is_none() && found.mark == Some(object.id))
        }
        // What was seen of it is written down before it is removed; the mark decides only where nothing ever was.
        ObjectState::Removing | ObjectState::Retired => {
            is_as_known
                || found.fingerprint.is_between(known.as_ref(), intended.as_ref())
                || (known.is_none() && intended.is_none() && found.mark == Some(object.id))
        }
    }
}

/// What a link says while its object is said to be gone.
pub(crate) const WAITS: &str =
    "The destination says that it is not there; it is looked for again within seconds before another one is made";

pub(crate) fn changed_by_others(found: &Found) -> DeliveryError {
    DeliveryError::Refused(format!("{} was changed by somebody else; it is left as it is", found.id))
}

fn taken(stranger: &Found, item: &Item) -> DeliveryError {
    DeliveryError::Taken(format!(
        "{} is there already and is not of this sync: the name \"{}\" is taken, and it is left as it is",
        stranger.id, item.name
    ))
}
