//! Steps of the system, each named after the function of the code that it models.

use crate::canonical::canonical;
use crate::claimed_job::{Outcome, Stage};
use crate::config::Config;
use crate::content::Content;
use crate::ids::{JobId, SessionId};
use crate::jobs::{JobKind, JobState};
use crate::state::State;
use crate::{producer, repair, scheduler, worker};

/// Step of one process, or a fault. Worker steps name a worker by its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Ingests messages: the change and `jobs::enqueue` in one transaction.
    Ingest(SessionId, Change),
    /// Deletes one of a session's messages.
    Delete(SessionId, Content),
    /// Erases a member, channel or guild, with everything in the session.
    Erase(SessionId),
    /// Commits `jobs::dispatch`.
    Dispatch(JobId),
    /// Pushes a dispatched job to Redis.
    Push,
    /// `jobs::requeue`: Redis has no room, or the worker that got the delivery stops.
    Requeue(JobId),
    /// `jobs::rescue_expired`, for one job.
    RescueExpired(JobId),
    /// The scheduler crashes between dispatch and push.
    CrashScheduler,
    /// A job waits in Redis until its lease expires.
    ExpireQueued(JobId),
    /// Redis loses everything.
    LoseRedis,
    /// `requeue_lost`: Redis does not contain a queued job.
    RequeueLost(JobId),
    /// Redis delivers a job twice.
    Redeliver(JobId),
    /// `jobs::claim` of a delivery.
    Claim(JobId),
    /// `sessions::load`.
    Load(usize),
    /// `sessions::begin_rewrite`; an unchanged session skips to `record`.
    BeginRewrite(usize),
    /// `VectorIndex::upsert` of one point.
    Upsert(usize),
    /// `VectorIndex::delete_below`.
    DeleteBelow(usize),
    /// `sessions::record`.
    Record(usize),
    /// `jobs::complete`.
    Complete(usize),
    /// `jobs::fail`.
    Fail(usize),
    /// `jobs::release`.
    Release(usize),
    /// `jobs::renew`.
    Renew(usize),
    /// The lease of a worker expires, and the worker continues.
    ExpireLease(usize),
    /// A worker crashes.
    Crash(usize),
    /// The index is lost.
    LoseIndex,
    /// `rebuild`: creates a new index.
    Rebuild,
    /// `backfill::run`, for one session.
    Backfill(SessionId),
    /// `verify --repair` scans a session's points.
    Scan(SessionId),
    /// `verify --repair` compares what it scanned with the record.
    Repair,
}

/// Change that ingest makes to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Edits the first message; holds the content after that.
    Edit(Content),
    /// Adds a message.
    Add,
    /// Adds a message without text: the content stays the same.
    AddEmpty,
}

/// Returns the state after a step; none if the step is not possible.
pub(crate) fn take(config: &Config, state: &State, step: Step) -> Option<State> {
    let mut next = state.clone();
    apply(config, &mut next, step)?;
    Some(canonical(next))
}

/// Returns the next step of a worker, apart from faults.
pub(crate) fn next_of_worker(state: &State, worker: usize) -> Option<Step> {
    let claimed = state.workers.get(worker)?.as_ref()?;
    Some(match claimed.stage {
        Stage::Claimed if claimed.kind == JobKind::RemovePoints => Step::DeleteBelow(worker),
        Stage::Claimed => Step::Load(worker),
        Stage::Loaded(_) => Step::BeginRewrite(worker),
        Stage::Upserting(..) => Step::Upsert(worker),
        Stage::DeletingBelow(_) => Step::DeleteBelow(worker),
        Stage::Recording(_) => Step::Record(worker),
        Stage::Ending(Outcome::Reached(_)) => Step::Complete(worker),
        Stage::Ending(Outcome::Released) => Step::Release(worker),
    })
}

fn apply(config: &Config, state: &mut State, step: Step) -> Option<()> {
    match step {
        Step::Ingest(id, change) => {
            let content = state.sessions.get(id)?.content;
            let (content, removed) = match change {
                Change::Edit(content) => (content, true),
                Change::Add => (content.with(Content::MORE), false),
                Change::AddEmpty => (content, false),
            };
            producer::change(config, state, id, content, removed)
        }
        Step::Delete(id, text) => producer::delete(config, state, id, text),
        Step::Erase(id) => producer::change(config, state, id, Content::NONE, true),
        Step::Backfill(id) => producer::backfill(config, state, id),
        Step::Rebuild => producer::rebuild(config, state),

        Step::Dispatch(id) => scheduler::dispatch(state, id),
        Step::Push => {
            let id = state.pushing.take()?;
            state.redis.push(id);
            Some(())
        }
        Step::Requeue(id) => scheduler::requeue(state, id),
        Step::RequeueLost(id) => scheduler::requeue_lost(state, id),
        Step::RescueExpired(id) => scheduler::rescue(config, state, id),

        Step::Claim(id) => worker::claim(config, state, id),
        Step::Load(at)
        | Step::BeginRewrite(at)
        | Step::Upsert(at)
        | Step::DeleteBelow(at)
        | Step::Record(at) => worker::advance(config, state, at),
        Step::Complete(at) => worker::complete(config, state, at),
        Step::Fail(at) => worker::fail(config, state, at),
        Step::Release(at) => worker::release(config, state, at),
        Step::Renew(at) => worker::renew(config, state, at),
        Step::ExpireLease(at) => worker::expire_lease(config, state, at),
        Step::Crash(at) => worker::crash(config, state, at),

        Step::Scan(id) => {
            state.remaining.repairs = state.remaining.repairs.checked_sub(1)?;
            repair::scan(state, id)
        }
        Step::Repair => repair::repair(config, state),

        Step::CrashScheduler
        | Step::ExpireQueued(_)
        | Step::LoseRedis
        | Step::Redeliver(_)
        | Step::LoseIndex => {
            state.spend_fault()?;
            apply_fault(state, step)
        }
    }
}

fn apply_fault(state: &mut State, step: Step) -> Option<()> {
    match step {
        Step::CrashScheduler => {
            state.pushing.take()?;
        }
        Step::ExpireQueued(id) => {
            let job = state.job(id).filter(|job| job.state == JobState::Queued && !job.lease_expired)?;
            job.lease_expired = true;
        }
        Step::LoseRedis => {
            (!state.redis.is_empty()).then_some(())?;
            state.redis.clear();
        }
        Step::Redeliver(id) => {
            state.job(id)?;
            state.redis.push(id);
        }
        Step::LoseIndex => {
            state.index.take()?;
        }
        _ => return None,
    }
    Some(())
}
