use std::collections::HashSet;
use std::time::Duration;

use guildex_types::JobId;
use sqlx::{FromRow, PgPool};

use super::filter::{Filter, Tenants};
use super::state::JobState;
use crate::StoreError;
use crate::jobs::notify::notify;

/// Error of a cancelled job.
const CANCELLED: &str = "cancelled by an operator";

/// Maximum number of retries if a job with the same deduplication key is enqueued at the same time.
const MAX_CONFLICTS: u32 = 10;

/// Action of an operator. Jobs in states that the action does not apply to are skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminAction {
    /// Makes a dead or delayed job due at once and resets its attempts. It stays quarantined if it was. A
    /// dead job whose deduplication key has an unfinished job is merged into that one.
    Retry,
    /// Makes an unfinished job dead. A worker that runs it loses its claim.
    Cancel,
    /// Deletes a finished job.
    Purge,
}

/// A job that an action may apply to.
#[derive(Debug, Clone, FromRow)]
pub struct JobSummary {
    /// Job id.
    pub id: JobId,
    /// State.
    pub state: JobState,
    is_decodable: bool,
    retries_forever: bool,
}

/// Result of an action on one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActionResult {
    /// The action was applied.
    Applied,
    /// The job was merged into this unfinished one with the same deduplication key.
    Merged(JobId),
    /// The job was deleted or changed its state meanwhile.
    Skipped,
}

/// Returns the matching jobs.
pub async fn pick(pool: &PgPool, filter: &Filter) -> Result<Vec<JobSummary>, StoreError> {
    let mut query = filter.apply(
        "SELECT id, state, guild_id IS NOT NULL AS is_decodable, max_attempts IS NULL AS retries_forever
         FROM jobs WHERE",
    );
    query.push(" ORDER BY id");
    Ok(query.build_query_as().fetch_all(pool).await?)
}

impl AdminAction {
    /// Returns the states that the action applies to by default.
    pub fn states(self) -> Vec<JobState> {
        match self {
            Self::Retry => vec![JobState::Dead],
            Self::Cancel => JobState::UNFINISHED.to_vec(),
            Self::Purge => vec![JobState::Dead, JobState::Completed],
        }
    }

    /// Returns why the action does not apply to a job, or `None` if it does.
    pub fn refuses(self, job: &JobSummary) -> Option<&'static str> {
        match self {
            Self::Retry if !job.is_decodable => Some("not a job: an undecodable message from Redis"),
            Self::Retry => match job.state {
                JobState::Dead | JobState::Pending => None,
                JobState::Queued => Some("already queued"),
                JobState::Running => Some("already running"),
                JobState::Completed => Some("completed; run `guildex backfill` to index what is out of date"),
            },
            Self::Cancel if job.state.is_finished() => Some("already finished"),
            Self::Cancel if job.retries_forever => {
                Some("deletions cannot be cancelled: they are retried until they complete")
            }
            Self::Purge if !job.state.is_finished() => Some("not finished; cancel it first"),
            Self::Purge if job.is_decodable && job.retries_forever => Some("deletions cannot be purged"),
            Self::Cancel | Self::Purge => None,
        }
    }

    /// Applies the action to jobs of `tenants` and returns the result for each, in no particular order. After
    /// an error it may be repeated.
    pub async fn run(
        self,
        pool: &PgPool,
        tenants: Tenants,
        ids: &[JobId],
    ) -> Result<Vec<(JobId, ActionResult)>, StoreError> {
        match self {
            Self::Retry => retry(pool, tenants, ids).await,
            Self::Cancel => Ok(results(ids, &cancel(pool, tenants, ids).await?)),
            Self::Purge => Ok(results(ids, &purge(pool, tenants, ids).await?)),
        }
    }
}

fn results(ids: &[JobId], changed: &HashSet<JobId>) -> Vec<(JobId, ActionResult)> {
    let result = |id| if changed.contains(id) { ActionResult::Applied } else { ActionResult::Skipped };
    ids.iter().map(|id| (*id, result(id))).collect()
}

async fn cancel(pool: &PgPool, tenants: Tenants, ids: &[JobId]) -> Result<HashSet<JobId>, StoreError> {
    let cancelled: Vec<JobId> = sqlx::query_scalar(
        "WITH held AS (
             SELECT id, state = 'running' AS ran FROM jobs
             WHERE id = ANY($1) AND ($2::bigint IS NULL OR guild_id = $2)
               AND is_unfinished(state) AND max_attempts IS NOT NULL
             ORDER BY dedup_key, id FOR UPDATE)
         UPDATE jobs j SET state = 'dead', finished_at = now(), error = $3, lease_expires_at = NULL, claim_token = NULL,
             attempts_log = append_attempt(attempts_log, attempts, CASE WHEN ran THEN claimed_by END,
                                           CASE WHEN ran THEN claimed_at END, $3)
         FROM held WHERE j.id = held.id RETURNING j.id",
    )
    .bind(ids)
    .bind(tenants.guild())
    .bind(CANCELLED)
    .fetch_all(pool)
    .await?;
    Ok(cancelled.into_iter().collect())
}

async fn purge(pool: &PgPool, tenants: Tenants, ids: &[JobId]) -> Result<HashSet<JobId>, StoreError> {
    let purged: Vec<JobId> = sqlx::query_scalar(
        "DELETE FROM jobs
         WHERE id = ANY($1) AND ($2::bigint IS NULL OR guild_id = $2)
           AND state IN ('completed', 'dead') AND (guild_id IS NULL OR max_attempts IS NOT NULL)
         RETURNING id",
    )
    .bind(ids)
    .bind(tenants.guild())
    .fetch_all(pool)
    .await?;
    Ok(purged.into_iter().collect())
}

/// Retries one job per statement, so that none holds one deduplication key while it waits for another.
async fn retry(
    pool: &PgPool,
    tenants: Tenants,
    ids: &[JobId],
) -> Result<Vec<(JobId, ActionResult)>, StoreError> {
    let mut results = Vec::with_capacity(ids.len());
    for id in ids {
        results.push((*id, retry_one(pool, tenants, *id).await?));
    }
    notify(pool, Duration::ZERO).await?;
    Ok(results)
}

async fn retry_one(pool: &PgPool, tenants: Tenants, id: JobId) -> Result<ActionResult, StoreError> {
    for _ in 0..MAX_CONFLICTS {
        match try_retry(pool, tenants, id).await {
            // A job with the same key was enqueued after the statement's snapshot; the next attempt sees it.
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {}
            outcome => return Ok(outcome?),
        }
    }
    Ok(ActionResult::Skipped)
}

async fn try_retry(pool: &PgPool, tenants: Tenants, id: JobId) -> sqlx::Result<ActionResult> {
    let outcome: Option<Option<JobId>> = sqlx::query_scalar(
        "WITH chosen AS (
             SELECT id, dedup_key, state, target_revision FROM jobs
             WHERE id = $1 AND ($2::bigint IS NULL OR guild_id = $2) AND guild_id IS NOT NULL
               AND state IN ('dead', 'pending')
             FOR UPDATE),
         survivor AS (
             UPDATE jobs j SET target_revision = greatest(j.target_revision, chosen.target_revision),
                 attempts = CASE WHEN j.state = 'pending' THEN 0 ELSE j.attempts END,
                 run_at = CASE WHEN j.state = 'pending' THEN least(j.run_at, now()) ELSE j.run_at END
             FROM chosen
             WHERE chosen.state = 'dead' AND j.dedup_key = chosen.dedup_key AND j.id <> chosen.id
               AND is_unfinished(j.state)
             RETURNING j.id),
         merged AS (DELETE FROM jobs j USING chosen, survivor WHERE j.id = chosen.id RETURNING j.id),
         retried AS (
             UPDATE jobs j SET state = 'pending', attempts = 0, run_at = now(), finished_at = NULL
             FROM chosen WHERE j.id = chosen.id AND NOT EXISTS (SELECT FROM survivor)
             RETURNING j.id)
         SELECT (SELECT id FROM survivor) FROM chosen
         WHERE EXISTS (SELECT FROM merged) OR EXISTS (SELECT FROM retried)",
    )
    .bind(id)
    .bind(tenants.guild())
    .fetch_optional(pool)
    .await?;
    Ok(match outcome {
        None => ActionResult::Skipped,
        Some(None) => ActionResult::Applied,
        Some(Some(survivor)) => ActionResult::Merged(survivor),
    })
}
