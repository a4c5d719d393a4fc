use chrono::{DateTime, Utc};
use guildex_types::{GuildId, JobId, JobQueue, Revision};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgPool};

use super::filter::{Filter, Tenants};
use super::state::JobState;
use crate::StoreError;
use crate::sql::unsigned;

/// Entry of a job's attempts log: a failed attempt, or an action of an operator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Number of the attempt, starting at 1.
    pub attempt: u32,
    /// Worker.
    pub claimed_by: Option<String>,
    /// Time of the claim.
    pub claimed_at: Option<DateTime<Utc>>,
    /// Time of the failure.
    pub ended_at: DateTime<Utc>,
    /// Error.
    pub error: String,
}

/// A row of the `jobs` table.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
pub struct JobRow {
    /// Job id.
    pub id: JobId,
    /// Tenant; `None` for undecodable messages from Redis.
    pub guild_id: Option<GuildId>,
    /// Kind, as stored. A newer release may store kinds that this one does not know.
    pub kind: String,
    /// Queue.
    pub queue: JobQueue,
    /// State.
    pub state: JobState,
    /// Attempts since the job was enqueued, changed or retried.
    #[sqlx(try_from = "i32")]
    pub attempts: u32,
    /// Maximum number of attempts; `None` if it retries forever.
    pub max_attempts: Option<i32>,
    /// Attempts whose lease expired. From the second on the job is quarantined.
    #[sqlx(try_from = "i32")]
    pub crash_count: u32,
    /// Last error.
    pub error: Option<String>,
    /// Last failed attempts, oldest first.
    #[sqlx(json)]
    pub attempts_log: Vec<Attempt>,
    /// Payload.
    pub payload: serde_json::Value,
    /// Deduplication key.
    pub dedup_key: Option<String>,
    /// Session revision to reach.
    pub target_revision: Revision,
    /// Target revision when the job was last claimed.
    pub target_revision_at_claim: Revision,
    /// Worker that claimed the job last.
    pub claimed_by: Option<String>,
    /// Time of creation.
    pub created_at: DateTime<Utc>,
    /// Time from which on the job may run.
    pub run_at: DateTime<Utc>,
    /// Time of the last claim.
    pub claimed_at: Option<DateTime<Utc>>,
    /// Time at which the lease of the queue or of the worker expires.
    pub lease_expires_at: Option<DateTime<Utc>>,
    /// Time at which the job became completed or dead.
    pub finished_at: Option<DateTime<Utc>>,
}

/// Returns up to `limit` matching jobs, and the number of all that match. Dead jobs come first, then running,
/// failed and pending, queued, pending, and completed ones; within these the latest to change.
pub async fn list(pool: &PgPool, filter: &Filter, limit: u32) -> Result<(Vec<JobRow>, u64), StoreError> {
    let total = filter.apply("SELECT count(*) FROM jobs WHERE").build_query_scalar().fetch_one(pool).await?;
    let mut page = filter.apply("SELECT * FROM jobs WHERE");
    page.push(
        " ORDER BY CASE WHEN state = 'dead' THEN 0 WHEN state = 'running' THEN 1
                        WHEN state = 'pending' AND error IS NOT NULL THEN 2
                        WHEN state = 'queued' THEN 3 WHEN state = 'pending' THEN 4 ELSE 5 END,
                   coalesce(finished_at, claimed_at, created_at) DESC, id LIMIT ",
    );
    page.push_bind(i64::from(limit));
    Ok((page.build_query_as().fetch_all(pool).await?, unsigned(total)))
}

/// Returns one job.
pub async fn show(pool: &PgPool, tenants: Tenants, id: JobId) -> Result<Option<JobRow>, StoreError> {
    let filter = Filter { ids: vec![id], ..Filter::new(tenants) };
    Ok(list(pool, &filter, 1).await?.0.pop())
}
