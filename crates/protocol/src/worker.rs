//! A worker's progress through one job, as in `guildex_worker`.

use crate::claimed_job::{ClaimedJob, Outcome, Stage};
use crate::config::{Config, Mutation};
use crate::ids::JobId;
use crate::index::{self, Point, PointId};
use crate::jobs::{Job, JobKind};
use crate::postgres::{IndexedSession, LoadedSession};
use crate::state::State;

/// Action that a loaded session needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// Delete its points.
    Remove,
    /// Change only the record.
    Keep(IndexedSession),
    /// Write its points.
    Write,
}

impl Plan {
    fn new(loaded: &LoadedSession) -> Self {
        match loaded.indexed {
            _ if !loaded.content.is_eligible() => Self::Remove,
            Some(indexed) if indexed.content_hash == Some(loaded.content) => Self::Keep(indexed),
            _ => Self::Write,
        }
    }
}

/// Delivers a job to any idle worker; a delivery that cannot be claimed is dropped.
pub(crate) fn claim(config: &Config, state: &mut State, id: JobId) -> Option<()> {
    let idle = state.workers.iter().position(Option::is_none)?;
    state.take_delivery(id)?;
    let token = state.jobs.iter().map(|job| job.token).max()? + 1;
    let job = state.job(id)?;
    if job.claim(config, token).is_some() {
        let Job { guild, session, kind, target_revision, .. } = *job;
        let stage = Stage::Claimed;
        let claimed =
            ClaimedJob { id, token, guild, session, kind, target_revision, index_replaced: false, stage };
        *state.workers.get_mut(idle)? = Some(claimed);
    }
    Some(())
}

/// Advances a worker by one stage, up to the end of its job; none if it cannot go on now.
pub(crate) fn advance(config: &Config, state: &mut State, worker: usize) -> Option<()> {
    let mut claimed = (*state.workers.get(worker)?)?;
    claimed.stage = next_stage(config, state, &claimed)?;
    *state.workers.get_mut(worker)? = Some(claimed);
    Some(())
}

fn next_stage(config: &Config, state: &mut State, claimed: &ClaimedJob) -> Option<Stage> {
    let (guild, session) = (claimed.guild, claimed.session);
    Some(match claimed.stage {
        Stage::Claimed if claimed.kind == JobKind::RemovePoints => {
            index::delete_below(config, state.index.as_mut()?, guild, session, claimed.target_revision);
            Stage::Ending(Outcome::Reached(claimed.target_revision))
        }
        Stage::Claimed => match state.sessions.get(session)?.load(config, guild) {
            Some(loaded) => Stage::Loaded(loaded),
            None => Stage::Ending(Outcome::Reached(claimed.target_revision)),
        },
        Stage::Loaded(loaded) => match Plan::new(&loaded) {
            Plan::Keep(_) => Stage::Recording(loaded),
            _ if !state.sessions.get_mut(session)?.begin_rewrite(config, loaded.revision) => {
                Stage::Ending(reached(claimed, &loaded))
            }
            Plan::Write => Stage::Upserting(loaded, 0),
            Plan::Remove => Stage::DeletingBelow(loaded),
        },
        Stage::Upserting(loaded, chunk) => {
            let content = loaded.content.chunks().nth(chunk)?;
            let point = Point { revision: loaded.revision, content };
            index::upsert(config, state.index.as_mut()?, PointId { guild, session, chunk }, point);
            let is_last = loaded.content.chunks().count() == chunk + 1;
            if is_last { Stage::DeletingBelow(loaded) } else { Stage::Upserting(loaded, chunk + 1) }
        }
        Stage::DeletingBelow(loaded) => {
            index::delete_below(config, state.index.as_mut()?, guild, session, loaded.revision);
            Stage::Recording(loaded)
        }
        Stage::Recording(loaded) => Stage::Ending(record(config, state, claimed, &loaded)?),
        Stage::Ending(_) => return None,
    })
}

fn record(
    config: &Config,
    state: &mut State,
    claimed: &ClaimedJob,
    loaded: &LoadedSession,
) -> Option<Outcome> {
    if claimed.index_replaced && !config.has(Mutation::RecordAnyIndex) {
        return Some(Outcome::Released);
    }
    let indexed = match Plan::new(loaded) {
        Plan::Remove => None,
        Plan::Keep(indexed) => Some(IndexedSession { indexed_revision: loaded.revision, ..indexed }),
        Plan::Write => Some(IndexedSession {
            point_revision: loaded.revision,
            indexed_revision: loaded.revision,
            content_hash: Some(loaded.content),
            points: u8::try_from(loaded.content.chunks().count()).ok()?,
        }),
    };
    state.sessions.get_mut(claimed.session)?.record(config, loaded.revision, indexed);
    Some(reached(claimed, loaded))
}

/// Returns what the job reached: at least its target at the claim, because the session was loaded after that.
fn reached(claimed: &ClaimedJob, loaded: &LoadedSession) -> Outcome {
    Outcome::Reached(loaded.revision.max(claimed.target_revision))
}

/// Completes a job that has reached a revision.
pub(crate) fn complete(config: &Config, state: &mut State, worker: usize) -> Option<()> {
    let claimed = (*state.workers.get(worker)?)?;
    let Stage::Ending(Outcome::Reached(reached)) = claimed.stage else { return None };
    if claimed_row(config, state, worker).is_some_and(|job| job.complete(config, reached)) {
        state.jobs.retain(|job| job.id != claimed.id);
    }
    leave(state, worker)
}

/// Fails a job before its end: a fault.
pub(crate) fn fail(config: &Config, state: &mut State, worker: usize) -> Option<()> {
    let claimed = (*state.workers.get(worker)?)?;
    if let Stage::Ending(_) = claimed.stage {
        return None;
    }
    state.spend_fault()?;
    if claimed_row(config, state, worker).is_some_and(|job| job.fail(config)) {
        state.finish_dead(claimed.id)?;
    }
    leave(state, worker)
}

/// Releases a job that must run again, or one that a stopping worker has not started: a fault.
pub(crate) fn release(config: &Config, state: &mut State, worker: usize) -> Option<()> {
    match (*state.workers.get(worker)?)?.stage {
        Stage::Ending(Outcome::Released) => {}
        Stage::Claimed | Stage::Loaded(_) => state.spend_fault()?,
        _ => return None,
    }
    if let Some(job) = claimed_row(config, state, worker) {
        job.release();
    }
    leave(state, worker)
}

/// Ends a worker between two stages: a fault.
pub(crate) fn crash(config: &Config, state: &mut State, worker: usize) -> Option<()> {
    state.workers.get(worker)?.as_ref()?;
    state.spend_fault()?;
    if let Some(job) = claimed_row(config, state, worker) {
        job.lease_expired = true;
    }
    leave(state, worker)
}

/// Renews an expired lease that was not rescued yet.
pub(crate) fn renew(config: &Config, state: &mut State, worker: usize) -> Option<()> {
    claimed_row(config, state, worker).filter(|job| job.lease_expired)?.lease_expired = false;
    Some(())
}

/// Expires the lease of a worker, which continues: a fault.
pub(crate) fn expire_lease(config: &Config, state: &mut State, worker: usize) -> Option<()> {
    state.spend_fault()?;
    claimed_row(config, state, worker).filter(|job| !job.lease_expired)?.lease_expired = true;
    Some(())
}

/// Returns the row of a worker's job if its claim is valid.
fn claimed_row<'a>(config: &Config, state: &'a mut State, worker: usize) -> Option<&'a mut Job> {
    let claimed = (*state.workers.get(worker)?)?;
    state.job(claimed.id).filter(|job| job.is_claimed_with(config, claimed.token))
}

fn leave(state: &mut State, worker: usize) -> Option<()> {
    *state.workers.get_mut(worker)? = None;
    Some(())
}
