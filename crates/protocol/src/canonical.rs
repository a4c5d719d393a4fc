//! Merges states that differ only in the values of ids and revisions.

use crate::ids::{JobId, Revision};
use crate::state::State;

/// Renumbers revisions, jobs and tokens from 1 in their order, and sorts workers.
pub(crate) fn canonical(mut state: State) -> State {
    renumber_revisions(&mut state);
    renumber_jobs(&mut state);
    state.redis.sort_unstable();
    state.workers.sort_unstable();
    state
}

fn renumber_revisions(state: &mut State) {
    let mut revisions: Vec<Revision> = vec![0];
    state.for_each_revision(|revision| revisions.push(*revision));
    revisions.sort_unstable();
    revisions.dedup();
    state.for_each_revision(|revision| {
        let rank = revisions.binary_search(revision).unwrap_or_default();
        *revision = Revision::try_from(rank).unwrap_or(Revision::MAX);
    });
}

/// Renumbers jobs and tokens. Ids and tokens of finished jobs become 0: they are never reused.
fn renumber_jobs(state: &mut State) {
    let jobs: Vec<(JobId, JobId, u8)> =
        (1..).zip(&state.jobs).map(|(new, job)| (job.id, new, job.token)).collect();
    let renumbered =
        |id: JobId| jobs.iter().find(|(old, ..)| *old == id).map(|(_, new, token)| (*new, *token));
    for claimed in state.workers.iter_mut().flatten() {
        let (id, token) = renumbered(claimed.id).unwrap_or_default();
        claimed.token = if claimed.token == token && token != 0 { id } else { 0 };
        claimed.id = id;
    }
    state.redis = state.redis.iter().filter_map(|id| Some(renumbered(*id)?.0)).collect();
    state.pushing = state.pushing.and_then(|id| Some(renumbered(id)?.0));
    for (id, job) in (1..).zip(&mut state.jobs) {
        job.id = id;
        job.token = if job.token == 0 { 0 } else { id };
    }
}
