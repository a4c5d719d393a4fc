//! States that differ in names alone are one state.

use crate::worker::At;
use crate::{JobId, Outcome, Repairer, Revision, State};

/// Gives revisions, jobs and tokens the lowest numbers that keep their order, and puts workers in one order.
pub(crate) fn canonical(mut state: State) -> State {
    name_revisions(&mut state);
    name_jobs(&mut state);
    state.redis.sort_unstable();
    state.workers.sort_unstable();
    state
}

fn name_revisions(state: &mut State) {
    let mut names: Vec<Revision> = vec![0];
    each_revision(state, |revision| names.push(*revision));
    names.sort_unstable();
    names.dedup();
    each_revision(state, |revision| {
        let name = names.binary_search(revision).unwrap_or_default();
        *revision = Revision::try_from(name).unwrap_or(Revision::MAX);
    });
}

/// An id or token that the ledger does not know any more is 0: neither is ever given again.
fn name_jobs(state: &mut State) {
    let known: Vec<(JobId, JobId, u8)> =
        (1..).zip(&state.jobs).map(|(name, job)| (job.id, name, job.token)).collect();
    let named = |id: JobId| known.iter().find(|(old, ..)| *old == id).map(|(_, name, token)| (*name, *token));
    for held in state.workers.iter_mut().flatten() {
        let (name, token) = named(held.id).unwrap_or_default();
        held.token = if held.token == token && token != 0 { name } else { 0 };
        held.id = name;
    }
    state.redis = state.redis.iter().filter_map(|id| Some(named(*id)?.0)).collect();
    state.pushing = state.pushing.and_then(|id| Some(named(id)?.0));
    for (name, job) in (1..).zip(&mut state.jobs) {
        job.id = name;
        job.token = if job.token == 0 { 0 } else { name };
    }
}

/// Shows every revision that the state remembers.
pub(crate) fn each_revision(state: &mut State, mut see: impl FnMut(&mut Revision)) {
    for session in &mut state.sessions {
        see(&mut session.revision);
        see(&mut session.removed_revision);
        see(&mut session.dead);
        if let Some(book) = &mut session.book {
            see(&mut book.point_revision);
            see(&mut book.indexed_revision);
        }
    }
    for job in &mut state.jobs {
        see(&mut job.wanted);
        see(&mut job.claimed);
    }
    state.index.iter_mut().flatten().for_each(|(_, point)| see(&mut point.revision));
    for held in state.workers.iter_mut().flatten() {
        see(&mut held.wanted);
        match &mut held.at {
            At::Loaded(read) | At::Writing(read, _) | At::Removing(read) | At::Recording(read) => {
                see(&mut read.revision);
                if let Some(book) = &mut read.book {
                    see(&mut book.point_revision);
                    see(&mut book.indexed_revision);
                }
            }
            At::Ending(Outcome::Done(revision)) => see(revision),
            At::Claimed | At::Ending(Outcome::LetGo) => {}
        }
    }
    match &mut state.repairer {
        Repairer::Away => {}
        Repairer::Found { now, found, .. } => {
            see(now);
            if let Some((Some(revision), _)) = found {
                see(revision);
            }
        }
        Repairer::Gone { now, .. } => see(now),
    }
}
