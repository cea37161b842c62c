//! How many certificates a project has, by status, authority and profile, and when they end.

use crate::context::{Context, failed};
use crate::{authorities, profiles};
use async_recursion::async_recursion as compiled_here;
use domain::caller::Caller;
use domain::permission::Action;
use domain::{AuthorityId, Error, ProfileId, ProjectId, Result, Time};
use std::collections::BTreeMap;
pub use store::inventory::Counts;

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;

/// How many certificates there are: exact, whatever their number.
#[derive(Clone, Debug, Default)]
pub struct InventoryCounts {
    /// All of the project.
    pub all: Counts,
    /// By authority; those of none signed themselves, or were issued elsewhere.
    pub by_authority: Vec<(Option<Named<AuthorityId>>, Counts)>,
    /// By profile; those of none were issued elsewhere.
    pub by_profile: Vec<(Option<Named<ProfileId>>, Counts)>,
}

/// An object and its name, if it is there and the caller may see it.
#[derive(Clone, Debug)]
pub struct Named<T> {
    /// Its id.
    pub id: T,
    /// Its name.
    pub name: Option<String>,
}

/// Which ends of certificates are asked for.
#[derive(Clone, Copy, Debug)]
pub struct EndsAsked {
    /// Only of this authority.
    pub authority: Option<AuthorityId>,
    /// Only of this profile.
    pub profile: Option<ProfileId>,
    /// For so many days from today on, which counts from now on.
    pub days: u32,
    /// So many days at a time.
    pub step: u32,
}

/// How many certificates that are not revoked end in a stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Where it begins.
    pub from: Time,
    /// Where it ends, which is not in it.
    pub to: Time,
    /// How many.
    pub certificates: i64,
}

impl Context {
    /// How many certificates of a project there are, by status, authority and profile.
    #[compiled_here]
    pub async fn inventory_counts(&self, caller: &Caller, project: ProjectId) -> Result<InventoryCounts> {
        must_see_all(caller, project)?;
        let counted = store::inventory::counts(&self.db, project, self.now()).await.map_err(failed)?;
        let mut all = Counts::default();
        let mut by_authority: BTreeMap<Option<AuthorityId>, Counts> = BTreeMap::new();
        let mut by_profile: BTreeMap<Option<ProfileId>, Counts> = BTreeMap::new();
        for (group, counts) in counted.into_iter().filter(|(_, counts)| counts.total() != 0) {
            all = all.and(counts);
            let authority = by_authority.entry(group.authority).or_default();
            *authority = authority.and(counts);
            let profile = by_profile.entry(group.profile).or_default();
            *profile = profile.and(counts);
        }
        let mut named = InventoryCounts { all, ..InventoryCounts::default() };
        for (id, counts) in by_authority {
            let authority = match id {
                None => None,
                Some(id) => Some(Named { id, name: self.authority_name(caller, project, id).await? }),
            };
            named.by_authority.push((authority, counts));
        }
        for (id, counts) in by_profile {
            let profile = match id {
                None => None,
                Some(id) => Some(Named { id, name: self.profile_name(caller, project, id).await? }),
            };
            named.by_profile.push((profile, counts));
        }
        Ok(named)
    }

    /// How many certificates of a project end when. The stretches follow each other without a gap.
    #[compiled_here]
    pub async fn inventory_ends(&self, caller: &Caller, project: ProjectId, asked: EndsAsked) -> Result<Vec<Ends>> {
        must_see_all(caller, project)?;
        let now = Time::from_seconds(self.now().seconds());
        let found = store::inventory::ends(&self.db, project, now, asked.days).await.map_err(failed)?;
        let (today, step) = (now.millis() / DAY, i64::from(asked.step.max(1)));
        let stretches = asked.days.div_ceil(asked.step.max(1));
        let mut ends: Vec<Ends> = (0..i64::from(stretches))
            .map(|at| {
                let (from, to) = (today + at * step, today + ((at + 1) * step).min(i64::from(asked.days)));
                let from = if at == 0 { now } else { Time::from_millis(from * DAY) };
                Ends { from, to: Time::from_millis(to * DAY), certificates: 0 }
            })
            .collect();
        for (day, group, count) in found {
            let is_asked = asked.authority.is_none_or(|id| group.authority == Some(id))
                && asked.profile.is_none_or(|id| group.profile == Some(id));
            let place = usize::try_from((day - today) / step).ok();
            if let Some(stretch) = place.and_then(|place| ends.get_mut(place)).filter(|_| is_asked) {
                stretch.certificates += count;
            }
        }
        Ok(ends)
    }

    async fn authority_name(&self, caller: &Caller, project: ProjectId, id: AuthorityId) -> Result<Option<String>> {
        let authority = store::authority::by_id_even_deleted(&self.db, id).await.map_err(failed)?;
        let may_see = |name: &str| caller.can(project, Action::ReadAuthority, &authorities::about(name));
        Ok(authority.map(|authority| authority.name.to_string()).filter(|name| may_see(name)))
    }

    async fn profile_name(&self, caller: &Caller, project: ProjectId, id: ProfileId) -> Result<Option<String>> {
        let profile = store::profile::by_id(&self.db, caller.organization, id).await.map_err(failed)?;
        let may_see = |name: &str| caller.can(project, Action::ReadProfile, &profiles::about(name));
        Ok(profile.map(|profile| profile.slug.to_string()).filter(|name| may_see(name)))
    }
}

/// Numbers of everything would tell what a rule with conditions hides.
fn must_see_all(caller: &Caller, project: ProjectId) -> Result<()> {
    caller.may_some(project, Action::ReadCertificate)?;
    match caller.can_always(project, Action::ReadCertificate) {
        true => Ok(()),
        false => {
            Err(Error::forbidden("your roles have conditions: only who may read every certificate gets counts of all"))
        }
    }
}
