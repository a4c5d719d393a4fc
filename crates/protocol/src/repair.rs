//! `verify --repair`, as `guildex_consistency::verify` does it; here it scans one session at a time.

use crate::config::Config;
use crate::ids::{Revision, SessionId};
use crate::index;
use crate::producer::reindex;
use crate::state::{RepairProgress, State};

/// Takes a revision and scans a session's points; none if a repair runs or there is no index.
pub(crate) fn scan(state: &mut State, session: SessionId) -> Option<()> {
    if state.repair != RepairProgress::Idle || state.index.is_none() {
        return None;
    }
    let revision = state.next_revision();
    let mut revisions: Vec<Revision> =
        state.points(state.sessions.get(session)?.guild, session).map(|point| point.revision).collect();
    let count = u8::try_from(revisions.len()).ok()?;
    revisions.dedup();
    let points = match revisions.as_slice() {
        [] => None,
        [one] => Some((Some(*one), count)),
        _ => Some((None, count)),
    };
    state.repair = RepairProgress::Scanned { session, revision, points };
    Some(())
}

/// Compares the scanned points with the record, then reindexes the session or deletes orphaned points.
pub(crate) fn repair(config: &Config, state: &mut State) -> Option<()> {
    match state.repair {
        RepairProgress::Idle => return None,
        RepairProgress::Scanned { session, revision, points } => {
            let row = state.sessions.get(session)?;
            let is_deleted = row.content.is_empty();
            state.repair = RepairProgress::Idle;
            match (row.indexed, points) {
                (Some(indexed), Some((Some(point_revision), count)))
                    if (indexed.point_revision, indexed.points) == (point_revision, count) => {}
                (Some(_), _) => invalidate(config, state, session)?,
                (None, None) => {}
                (None, Some(_)) if is_deleted => {
                    state.repair = RepairProgress::Orphaned { session, revision }
                }
                (None, Some(_)) => invalidate(config, state, session)?,
            }
            // A backfill follows every repair.
            state.sessions.get_mut(session)?.awaits_backfill = true;
        }
        RepairProgress::Orphaned { session, revision } => {
            let guild = state.sessions.get(session)?.guild;
            index::delete_below(config, state.index.as_mut()?, guild, session, revision);
            state.repair = RepairProgress::Idle;
        }
    }
    Some(())
}

/// Models `indexed_sessions::invalidate`: deletes the record, and enqueues a live session.
fn invalidate(config: &Config, state: &mut State, id: SessionId) -> Option<()> {
    let session = state.sessions.get_mut(id)?;
    session.indexed = None;
    if !session.content.is_empty() {
        reindex(config, state, id)?;
    }
    Some(())
}
