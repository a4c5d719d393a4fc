//! Dispatch to Redis, and recovery of lost and expired jobs, as `guildex_producer::scheduler` does them.

use crate::config::{Config, Mutation};
use crate::ids::JobId;
use crate::jobs::JobState;
use crate::state::State;

/// Commits the dispatch of a job; it is pushed afterwards.
pub(crate) fn dispatch(state: &mut State, id: JobId) -> Option<()> {
    state.pushing.is_none().then_some(())?;
    state.job(id)?.dispatch()?;
    state.pushing = Some(id);
    Some(())
}

/// Requeues a job that Redis has no room for, or whose worker stops before the claim.
pub(crate) fn requeue(state: &mut State, id: JobId) -> Option<()> {
    state.spend_fault()?;
    if state.pushing == Some(id) {
        state.pushing = None
    } else {
        state.take_delivery(id)?
    }
    state.job(id)?.requeue();
    Some(())
}

/// Requeues a queued job that is not in Redis.
pub(crate) fn requeue_lost(state: &mut State, id: JobId) -> Option<()> {
    let is_in_redis = state.redis.contains(&id);
    state.job(id).filter(|job| job.state == JobState::Queued && !is_in_redis)?.requeue();
    Some(())
}

/// Returns a job whose lease expired to the queue, or ends it.
pub(crate) fn rescue(config: &Config, state: &mut State, id: JobId) -> Option<()> {
    let is_in_redis = state.redis.contains(&id) || state.pushing == Some(id);
    let job = state.job(id)?;
    // No process holds a lost job, so its lease expires in the end.
    let is_lost = job.state == JobState::Queued && !is_in_redis;
    ((job.lease_expired || is_lost) && !config.has(Mutation::NeverRescue)).then_some(())?;
    let token = job.token;
    let is_dead = job.rescue(config);
    state.claim_lost |= token != 0 && state.workers.iter().flatten().any(|claimed| claimed.token == token);
    if is_dead {
        state.finish_dead(id)?;
    }
    Some(())
}
