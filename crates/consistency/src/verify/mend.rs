//! Asks for the jobs that put differences right.
//!
//! A session that the guild has gets a fresh revision, and the job that brings its points in step with that writes all
//! of them anew and removes whatever is older: lost, stale, misplaced and surplus points alike. Of a session that the
//! guild does not have, points older than a fresh revision are removed; should there be such a session one day, its
//! points are newer.

use std::collections::BTreeSet;

use guildex_store::jobs::NewJob;
use guildex_store::{StoreError, indexed_sessions, sessions};
use guildex_types::{JobQueue, Revision, SessionId, Task};

use super::VerifyError;
use super::guild::Walk;
use super::report::Finding;

impl Walk<'_> {
    /// All jobs of a page in one transaction.
    pub(super) async fn mend(&mut self, findings: &[Finding]) -> Result<(), VerifyError> {
        let (findings, beyond): (Vec<&Finding>, Vec<&Finding>) =
            findings.iter().partition(|finding| finding.seen.get() <= sessions::HIGHEST);
        if !beyond.is_empty() {
            // No job can outdo them.
            tracing::warn!(
                guild = %self.guild, points = beyond.len(),
                "points carry revisions that no database gives: `guildex init --recreate` takes them away"
            );
        }
        let Some(seen) = findings.iter().map(|finding| finding.seen).max() else { return Ok(()) };
        let ingest = self.of.ingest;
        let mut tx = ingest.pool().begin().await.map_err(StoreError::from)?;
        let fresh = sessions::revision_above(&mut tx, seen).await?;
        let mut unknown: BTreeSet<SessionId> = findings.iter().map(|finding| finding.session_id).collect();
        let ids: Vec<SessionId> = unknown.iter().copied().collect();
        let mut wanted: Vec<NewJob> = Vec::with_capacity(ids.len());
        for struck in indexed_sessions::invalidate(&mut tx, self.guild, self.of.model, &ids).await? {
            let session_id = struck.session_id;
            unknown.remove(&session_id);
            wanted.push(match struck.is_live {
                true => {
                    self.report.to_index += 1;
                    let task = Task::IndexSession { session_id };
                    ingest.enqueuer().new_job(self.guild, task, JobQueue::Backfill, struck.revision)
                }
                false => self.removal(session_id, struck.revision),
            });
        }
        for session_id in unknown {
            wanted.push(self.removal(session_id, fresh));
        }
        ingest.enqueuer().enqueue(&mut tx, wanted).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(())
    }

    fn removal(&mut self, session_id: SessionId, below: Revision) -> NewJob {
        self.report.to_remove += 1;
        self.of.ingest.enqueuer().new_job(
            self.guild,
            Task::DeleteSession { session_id },
            JobQueue::Delete,
            below,
        )
    }
}
