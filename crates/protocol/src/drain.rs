//! What comes of a state when nothing more happens to it.

use crate::steps::{next_of, take};
use crate::{Config, JobState, Repairer, State, Step, repair};

/// More steps than any state needs.
const PATIENCE: usize = 1_000;

/// Everybody does what is to be done, without changes and faults, until all is at rest; none if that never comes.
pub fn drain(config: &Config, mut state: State) -> Option<State> {
    for _ in 0..PATIENCE {
        match next(config, &state) {
            Some(next) => state = next,
            None => return Some(state),
        }
    }
    None
}

/// Whether nobody has anything to do.
pub(crate) fn is_at_rest(config: &Config, state: &State) -> bool {
    next(config, state).is_none()
}

fn next(config: &Config, state: &State) -> Option<State> {
    steps(state).into_iter().find_map(|step| take(config, state, step))
}

/// What somebody could do, workers first: what they are at is out of the way before a lease ends.
fn steps(state: &State) -> Vec<Step> {
    let mut steps = vec![Step::StartOver];
    steps.extend((0..state.workers.len()).filter_map(|worker| next_of(state, worker)));
    steps.extend([Step::Mend, Step::Push]);
    if state.workers.iter().any(Option::is_none) {
        steps.extend(state.redis.first().map(|id| Step::Claim(*id)));
    }
    for job in &state.jobs {
        steps.push(match job.state {
            JobState::Pending => Step::Dispatch(job.id),
            JobState::Queued | JobState::Running => Step::Sweep(job.id),
        });
    }
    steps.extend((0..state.sessions.len()).map(Step::AskForMissing));
    steps
}

/// The same after a whole `verify --repair`, of a state at rest.
pub(crate) fn repaired(config: &Config, mut state: State) -> Option<State> {
    for session in 0..state.sessions.len() {
        state.repairer = Repairer::Away;
        repair::look(&mut state, session)?;
        while repair::go_on(config, &mut state).is_some() {}
    }
    drain(config, crate::canonical::canonical(state))
}
