//! Enqueues jobs that repair differences.
//!
//! A session of the guild gets a new revision. Its index job writes all of its points and removes older ones, which
//! repairs missing, stale, misplaced and surplus points alike. For a session that the guild does not have, points below a
//! new revision are removed; if such a session is created later, its points are newer.

use std::collections::BTreeSet;

use guildex_producer::Ingest;
use guildex_store::jobs::NewJob;
use guildex_store::{StoreError, indexed_sessions, sessions};
use guildex_types::{GuildId, JobQueue, ModelSlug, Revision, SessionId, Task};

use super::error::VerifyError;
use super::report::Finding;

/// Numbers of enqueued repairs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Repairs {
    /// Sessions to index.
    pub to_index: u64,
    /// Sessions whose points are to be removed.
    pub to_remove: u64,
}

/// Enqueues the jobs for a page of findings in one transaction.
pub(super) async fn enqueue_repairs(
    ingest: &Ingest,
    guild: GuildId,
    model: &ModelSlug,
    findings: &[Finding],
) -> Result<Repairs, VerifyError> {
    let (findings, unrepairable): (Vec<&Finding>, Vec<&Finding>) =
        findings.iter().partition(|finding| finding.highest_revision.get() <= sessions::MAX_REVISION);
    if !unrepairable.is_empty() {
        tracing::warn!(
            %guild, points = unrepairable.len(),
            "points have revisions beyond the range of the database; remove them with `guildex init --recreate`"
        );
    }
    let mut repairs = Repairs::default();
    let Some(highest) = findings.iter().map(|finding| finding.highest_revision).max() else {
        return Ok(repairs);
    };
    let mut tx = ingest.pool().begin().await.map_err(StoreError::from)?;
    let above = sessions::raise_sequence_above(&mut tx, highest).await?;
    let mut unknown: BTreeSet<SessionId> = findings.iter().map(|finding| finding.session_id).collect();
    let ids: Vec<SessionId> = unknown.iter().copied().collect();
    let removal = |session_id, below: Revision| {
        ingest.enqueuer().new_job(guild, Task::DeleteSession { session_id }, JobQueue::Delete, below)
    };
    let mut jobs: Vec<NewJob> = Vec::with_capacity(ids.len());
    for invalidated in indexed_sessions::invalidate(&mut tx, guild, model, &ids).await? {
        let (session_id, revision) = (invalidated.session_id, invalidated.revision);
        unknown.remove(&session_id);
        if invalidated.is_live {
            repairs.to_index += 1;
            jobs.push(ingest.enqueuer().new_job(
                guild,
                Task::IndexSession { session_id },
                JobQueue::Backfill,
                revision,
            ));
        } else {
            repairs.to_remove += 1;
            jobs.push(removal(session_id, revision));
        }
    }
    repairs.to_remove += unknown.len() as u64;
    jobs.extend(unknown.into_iter().map(|session_id| removal(session_id, above)));
    ingest.enqueuer().enqueue(&mut tx, jobs).await?;
    tx.commit().await.map_err(StoreError::from)?;
    Ok(repairs)
}
