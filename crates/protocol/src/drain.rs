//! Runs all remaining work, without further changes or faults.

use crate::canonical::canonical;
use crate::config::Config;
use crate::jobs::JobState;
use crate::repair;
use crate::state::{RepairProgress, State};
use crate::steps::{Step, next_of_worker, take};

/// More steps than any state needs.
const MAX_STEPS: usize = 1_000;

/// Runs all remaining work until none is left; none if it never ends.
pub fn drain(config: &Config, mut state: State) -> Option<State> {
    for _ in 0..MAX_STEPS {
        match next(config, &state) {
            Some(next) => state = next,
            None => return Some(state),
        }
    }
    None
}

/// Returns whether no work is left.
pub(crate) fn is_idle(config: &Config, state: &State) -> bool {
    next(config, state).is_none()
}

/// Runs a whole `verify --repair` on an idle state, and the work that it causes.
pub(crate) fn repaired(config: &Config, mut state: State) -> Option<State> {
    for session in 0..state.sessions.len() {
        state.repair = RepairProgress::Idle;
        repair::scan(&mut state, session)?;
        while repair::repair(config, &mut state).is_some() {}
    }
    drain(config, canonical(state))
}

fn next(config: &Config, state: &State) -> Option<State> {
    candidates(state).into_iter().find_map(|step| take(config, state, step))
}

/// Lists possible steps, workers first: their jobs end before a lease expires.
fn candidates(state: &State) -> Vec<Step> {
    let mut steps = vec![Step::Rebuild];
    steps.extend((0..state.workers.len()).filter_map(|worker| next_of_worker(state, worker)));
    steps.extend([Step::Repair, Step::Push]);
    if state.workers.iter().any(Option::is_none) {
        steps.extend(state.redis.first().map(|id| Step::Claim(*id)));
    }
    for job in &state.jobs {
        steps.push(match job.state {
            JobState::Pending => Step::Dispatch(job.id),
            JobState::Queued | JobState::Running => Step::RescueExpired(job.id),
        });
    }
    steps.extend((0..state.sessions.len()).map(Step::Backfill));
    steps
}
