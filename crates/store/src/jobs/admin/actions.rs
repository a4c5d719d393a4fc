//! What an operator does to jobs. Each act says which jobs it takes; a job that it does not take is left alone.

use std::collections::HashSet;

use guildex_types::JobId;
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use super::{Filter, JobState, Tenants};
use crate::StoreError;
use crate::jobs::{NOTIFY_CHANNEL, raw};

/// What is noted of a job that was cancelled.
const CANCELLED: &str = "cancelled by an operator";

/// Tries of a job whose key gets an unfinished job at this very moment.
const TRIES: u32 = 10;

/// Something to be done to jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminAction {
    /// A dead job, or one that waits for its time, may run at once, its attempts counted from nought. It stays a
    /// suspect if it was one. If the same has been asked for since, the dead job is merged into that one.
    Retry,
    /// An unfinished job is dead, and may be retried. Whoever works on it loses the claim.
    Cancel,
    /// A job that is over is deleted.
    Purge,
}

/// A job that an act may be meant for.
#[derive(Debug, Clone, FromRow)]
pub struct JobSummary {
    id: Uuid,
    /// Where it stands.
    pub state: JobState,
    is_job: bool,
    mortal: bool,
}

/// What became of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActionResult {
    /// What was asked for.
    Yes,
    /// It was merged into this one, which does the same and is not finished.
    Merged(JobId),
    /// Nothing: it is gone, or in another state by now.
    No,
}

impl JobSummary {
    /// The job's id.
    pub fn id(&self) -> JobId {
        self.id.into()
    }
}

/// The jobs that fit.
///
/// # Errors
/// If Postgres fails.
pub async fn pick(pool: &PgPool, filter: &Filter) -> Result<Vec<JobSummary>, StoreError> {
    let mut query = filter.narrow(
        "SELECT id, state, guild_id IS NOT NULL AS is_job, max_attempts IS NOT NULL AS mortal FROM jobs WHERE",
    );
    query.push(" ORDER BY id");
    Ok(query.build_query_as().fetch_all(pool).await?)
}

impl AdminAction {
    /// The states of jobs that it is meant for where nobody says so.
    pub fn states(self) -> Vec<JobState> {
        match self {
            Self::Retry => vec![JobState::Dead],
            Self::Cancel => JobState::UNFINISHED.to_vec(),
            Self::Purge => vec![JobState::Dead, JobState::Completed],
        }
    }

    /// Why it does not take a job, if so.
    pub fn refuses(self, job: &JobSummary) -> Option<&'static str> {
        match self {
            Self::Retry if !job.is_job => Some("it came out of Redis and is no job"),
            Self::Retry => match job.state {
                JobState::Dead | JobState::Pending => None,
                JobState::Queued => Some("it is about to run"),
                JobState::Running => Some("it is running"),
                JobState::Completed => {
                    Some("it is done; `guildex backfill` asks again for what is not in step")
                }
            },
            Self::Cancel if job.state.is_finished() => Some("it is over"),
            Self::Cancel if !job.mortal => {
                Some("deletions cannot be cancelled: they go on until they are done")
            }
            Self::Purge if !job.state.is_finished() => Some("it is not finished; cancel it first"),
            Self::Purge if job.is_job && !job.mortal => Some("deletions cannot be purged"),
            Self::Cancel | Self::Purge => None,
        }
    }

    /// Does it to these jobs of `tenants`, and tells for each, in some order, what became of it.
    ///
    /// # Errors
    /// If Postgres fails. What is done already stays done; it may be done again.
    pub async fn run(
        self,
        pool: &PgPool,
        tenants: Tenants,
        ids: &[JobId],
    ) -> Result<Vec<(JobId, ActionResult)>, StoreError> {
        match self {
            Self::Retry => retry(pool, tenants, ids).await,
            Self::Cancel => Ok(told(ids, &cancel(pool, tenants, ids).await?)),
            Self::Purge => Ok(told(ids, &purge(pool, tenants, ids).await?)),
        }
    }
}

fn told(ids: &[JobId], changed: &HashSet<Uuid>) -> Vec<(JobId, ActionResult)> {
    let done = |id: &JobId| if changed.contains(&id.get()) { ActionResult::Yes } else { ActionResult::No };
    ids.iter().map(|id| (*id, done(id))).collect()
}

async fn cancel(pool: &PgPool, tenants: Tenants, ids: &[JobId]) -> Result<HashSet<Uuid>, StoreError> {
    let cancelled: Vec<Uuid> = sqlx::query_scalar(
        "WITH held AS (
             SELECT id, state = 'running' AS ran FROM jobs
             WHERE id = ANY($1) AND ($2::bigint IS NULL OR guild_id = $2)
               AND state IN ('pending', 'queued', 'running') AND max_attempts IS NOT NULL
             ORDER BY dedup_key, id FOR UPDATE)
         UPDATE jobs j SET state = 'dead', finished_at = now(), error = $3, lease_expires_at = NULL, claim_token = NULL,
             attempts_log = append_attempt(attempts_log, attempts, CASE WHEN ran THEN claimed_by END,
                                    CASE WHEN ran THEN claimed_at END, $3)
         FROM held WHERE j.id = held.id RETURNING j.id",
    )
    .bind(raw(ids))
    .bind(tenants.only())
    .bind(CANCELLED)
    .fetch_all(pool)
    .await?;
    Ok(cancelled.into_iter().collect())
}

async fn purge(pool: &PgPool, tenants: Tenants, ids: &[JobId]) -> Result<HashSet<Uuid>, StoreError> {
    let purged: Vec<Uuid> = sqlx::query_scalar(
        "DELETE FROM jobs
         WHERE id = ANY($1) AND ($2::bigint IS NULL OR guild_id = $2)
           AND state IN ('completed', 'dead') AND (guild_id IS NULL OR max_attempts IS NOT NULL)
         RETURNING id",
    )
    .bind(raw(ids))
    .bind(tenants.only())
    .fetch_all(pool)
    .await?;
    Ok(purged.into_iter().collect())
}

/// One job a statement, so that nobody holds one key while waiting for another.
async fn retry(
    pool: &PgPool,
    tenants: Tenants,
    ids: &[JobId],
) -> Result<Vec<(JobId, ActionResult)>, StoreError> {
    let mut told = Vec::with_capacity(ids.len());
    for id in ids {
        told.push((*id, retry_one(pool, tenants, *id).await?));
    }
    sqlx::query("SELECT pg_notify($1, '0')").bind(NOTIFY_CHANNEL).execute(pool).await?;
    Ok(told)
}

async fn retry_one(pool: &PgPool, tenants: Tenants, id: JobId) -> Result<ActionResult, StoreError> {
    for _ in 0..TRIES {
        match try_retry(pool, tenants, id).await {
            // Somebody has asked for the same since the statement looked: next time it sees that job.
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {}
            outcome => return Ok(outcome?),
        }
    }
    Ok(ActionResult::No)
}

async fn try_retry(pool: &PgPool, tenants: Tenants, id: JobId) -> sqlx::Result<ActionResult> {
    let outcome: Option<Option<Uuid>> = sqlx::query_scalar(
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
               AND j.state IN ('pending', 'queued', 'running')
             RETURNING j.id),
         merged AS (DELETE FROM jobs j USING chosen, survivor WHERE j.id = chosen.id RETURNING j.id),
         retried AS (
             UPDATE jobs j SET state = 'pending', attempts = 0, run_at = now(), finished_at = NULL
             FROM chosen WHERE j.id = chosen.id AND NOT EXISTS (SELECT FROM survivor)
             RETURNING j.id)
         SELECT (SELECT id FROM survivor) FROM chosen
         WHERE EXISTS (SELECT FROM merged) OR EXISTS (SELECT FROM retried)",
    )
    .bind(id.get())
    .bind(tenants.only())
    .fetch_optional(pool)
    .await?;
    Ok(match outcome {
        None => ActionResult::No,
        Some(None) => ActionResult::Yes,
        Some(Some(survivor)) => ActionResult::Merged(survivor.into()),
    })
}
