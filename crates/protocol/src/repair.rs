//! `verify --repair`, as `guildex_consistency::verify` does it; here it scans one session at a time.

use crate::config::{Config, Mutation};
use crate::ids::{Revision, SessionId};
use crate::jobs::{self, JobKind, JobQueue, NewJob};
use crate::state::{RepairProgress, State};

/// Scans a session's points; none if a repair runs or there is no index.
pub(crate) fn scan(state: &mut State, session: SessionId) -> Option<()> {
    if state.repair != RepairProgress::Idle || state.index.is_none() {
        return None;
    }
    let mut revisions: Vec<Revision> =
        state.points(state.sessions.get(session)?.guild, session).map(|point| point.revision).collect();
    let count = u8::try_from(revisions.len()).ok()?;
    revisions.dedup();
    let points = match revisions.as_slice() {
        [] => None,
        [one] => Some((Some(*one), count)),
        _ => Some((None, count)),
    };
    state.repair = RepairProgress::Scanned { session, points };
    Some(())
}

/// Compares the scanned points with the record, and invalidates the session if they differ.
pub(crate) fn repair(config: &Config, state: &mut State) -> Option<()> {
    let RepairProgress::Scanned { session, points } = state.repair else { return None };
    state.repair = RepairProgress::Idle;
    let agrees = match (state.sessions.get(session)?.indexed, points) {
        (Some(indexed), Some((Some(revision), count))) => {
            (indexed.point_revision, indexed.points) == (revision, count)
        }
        (indexed, points) => indexed.is_none() && points.is_none(),
    };
    if !agrees {
        invalidate(config, state, session)?;
    }
    // A backfill follows every repair.
    state.sessions.get_mut(session)?.awaits_backfill = true;
    Some(())
}

/// Models `indexed_sessions::invalidate`: deletes the record, raises the revision, and enqueues a job for it.
fn invalidate(config: &Config, state: &mut State, id: SessionId) -> Option<()> {
    let next = state.next_revision();
    let session = state.sessions.get_mut(id)?;
    session.indexed = None;
    if !config.has(Mutation::InvalidateKeepsRevision) {
        session.revision = next;
    }
    let (kind, queue) = match session.content.is_empty() {
        false => (JobKind::IndexSession, JobQueue::Backfill),
        true => (JobKind::DeleteSession, JobQueue::Delete),
    };
    let new = NewJob { guild: session.guild, session: id, kind, queue, target_revision: next };
    jobs::enqueue(config, &mut state.jobs, new);
    Some(())
}
