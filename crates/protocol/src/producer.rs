//! Changes to messages and the jobs that they cause, as `guildex_producer` makes them.

use crate::config::{Config, Mutation};
use crate::content::Content;
use crate::ids::SessionId;
use crate::jobs::{self, JobKind, JobQueue, NewJob};
use crate::state::State;

/// Changes a session and enqueues its job in one transaction; none if no more changes may happen.
pub(crate) fn change(
    config: &Config,
    state: &mut State,
    id: SessionId,
    content: Content,
    removed: bool,
) -> Option<()> {
    state.remaining.changes = state.remaining.changes.checked_sub(1)?;
    let next = state.next_revision();
    let session = state.sessions.get_mut(id)?;
    let (guild, was_eligible) = (session.guild, session.content.is_eligible());
    let target_revision = session.bump_revision(config, next, content, removed);
    if config.has(Mutation::EnqueueSeparately) && state.spend_fault().is_some() {
        return Some(());
    }
    let (kind, queue) = match (content.is_eligible(), was_eligible) {
        (true, _) => (JobKind::IndexSession, JobQueue::Live),
        (false, true) => (JobKind::DeleteSession, JobQueue::Delete),
        (false, false) => {
            if !config.has(Mutation::SkipTargetRevisionOfIneligible) {
                jobs::raise_target_revision(&mut state.jobs, guild, id, target_revision);
            }
            return Some(());
        }
    };
    jobs::enqueue(config, &mut state.jobs, NewJob { guild, session: id, kind, queue, target_revision });
    Some(())
}

/// Deletes one of a session's messages, and enqueues `remove_points` beside the session's job.
pub(crate) fn delete(config: &Config, state: &mut State, id: SessionId, text: Content) -> Option<()> {
    let content = state.sessions.get(id)?.content.without(text);
    change(config, state, id, content, true)?;
    let session = state.sessions.get_mut(id)?;
    if !config.has(Mutation::DeleteKeepsHash) {
        session.clear_content_hash();
    }
    if !config.has(Mutation::DeleteWithoutRemoval) {
        let removal = NewJob {
            guild: session.guild,
            session: id,
            kind: JobKind::RemovePoints,
            queue: JobQueue::Delete,
            target_revision: session.revision,
        };
        jobs::enqueue(config, &mut state.jobs, removal);
    }
    Some(())
}

/// Enqueues a session that a backfill selected, unless it is indexed by now.
pub(crate) fn backfill(config: &Config, state: &mut State, id: SessionId) -> Option<()> {
    let session = state.sessions.get_mut(id).filter(|session| session.awaits_backfill)?;
    session.awaits_backfill = false;
    if session.is_missing() {
        reindex(config, state, id)?;
    }
    Some(())
}

/// Enqueues a session that has no valid record, with a new revision as its target: a job that is running now, and may
/// have written its record before it was deleted, runs once more.
pub(crate) fn reindex(config: &Config, state: &mut State, id: SessionId) -> Option<()> {
    let next = state.next_revision();
    let session = state.sessions.get(id)?;
    let target_revision =
        if config.has(Mutation::ReindexAtSessionRevision) { session.revision } else { next };
    let new = NewJob {
        guild: session.guild,
        session: id,
        kind: JobKind::IndexSession,
        queue: JobQueue::Backfill,
        target_revision,
    };
    jobs::enqueue(config, &mut state.jobs, new);
    Some(())
}

/// Creates a new index after a loss: clears the records of the lost one and schedules a backfill (`rebuild`).
pub(crate) fn rebuild(config: &Config, state: &mut State) -> Option<()> {
    state.index.is_none().then_some(())?;
    state.index = Some(crate::index::Points::new());
    state.workers.iter_mut().flatten().for_each(|claimed| claimed.index_replaced = true);
    if config.has(Mutation::RebuildKeepsRecords) {
        return Some(());
    }
    let any_lost = state.sessions.iter().any(|session| session.indexed.is_some());
    for session in &mut state.sessions {
        session.indexed = None;
        session.awaits_backfill |= any_lost;
    }
    Some(())
}
