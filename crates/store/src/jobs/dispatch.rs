//! From Postgres to Redis, and back where Redis has no room.

use std::time::Duration;

use guildex_types::{JobId, JobQueue};
use sqlx::PgPool;
use uuid::Uuid;

use super::{interval, raw};
use crate::StoreError;

/// What a dispatch did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dispatched {
    /// The jobs that are queued now, in the order in which they are to be pushed.
    pub ids: Vec<JobId>,
    /// Whether the window was full already.
    pub full: bool,
}

/// Moves due jobs of a queue from pending to queued, as far as `window` has room for more than what is queued by
/// the ledger or waits in Redis (`depth`); they are to be pushed once this has committed. Guilds take turns,
/// oldest job first. Does nothing while another dispatcher is at it.
///
/// The jobs carry a lease: if Redis loses them, [`rescue_expired`](super::rescue_expired) finds them.
///
/// # Errors
/// If Postgres fails.
pub async fn dispatch(
    pool: &PgPool,
    queue: JobQueue,
    window: usize,
    depth: usize,
    lease: Duration,
) -> Result<Dispatched, StoreError> {
    let (alone, room, ids): (bool, i64, Vec<Uuid>) = sqlx::query_as(
        // The recursion hops from guild to guild over the index, and so reads one entry a guild, not one a job. Jobs are
        // looked up by arrays of ids: for a join, not knowing how few there will be, Postgres reads all of the ledger.
        "WITH RECURSIVE alone (ok) AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(hashtextextended($4, 0))),
         room (jobs) AS MATERIALIZED (
             SELECT CASE WHEN (SELECT ok FROM alone) THEN greatest($2 - greatest($5, count(*)), 0) ELSE 0 END
             FROM jobs WHERE state = 'queued' AND queue = $1),
         guild (id) AS (
             (SELECT min(guild_id) FROM jobs WHERE state = 'pending' AND queue = $1 AND (SELECT jobs FROM room) > 0)
             UNION ALL
             SELECT (SELECT min(guild_id) FROM jobs WHERE state = 'pending' AND queue = $1 AND guild_id > guild.id)
             FROM guild WHERE guild.id IS NOT NULL),
         share (jobs) AS (
             SELECT ceil((SELECT jobs FROM room)::numeric / greatest(count(id), 1))::bigint FROM guild),
         turn AS (
             SELECT due.id, due.run_at, row_number() OVER (PARTITION BY guild.id ORDER BY due.run_at, due.id) AS number
             FROM guild CROSS JOIN LATERAL (
                 SELECT id, run_at FROM jobs
                 WHERE state = 'pending' AND queue = $1 AND guild_id = guild.id AND run_at <= now()
                 ORDER BY run_at, id LIMIT (SELECT jobs FROM share)) AS due),
         picked AS (
             SELECT id, row_number() OVER (ORDER BY number, run_at, id) AS place
             FROM turn ORDER BY place LIMIT (SELECT jobs FROM room)),
         free AS (
             SELECT id FROM jobs WHERE id = ANY(ARRAY(SELECT id FROM picked)) AND state = 'pending'
             ORDER BY dedup_key, id FOR UPDATE SKIP LOCKED),
         taken AS (
             UPDATE jobs SET state = 'queued', lease_expires_at = now() + $3
             WHERE id = ANY(ARRAY(SELECT id FROM free)) RETURNING id)
         SELECT (SELECT ok FROM alone), (SELECT jobs FROM room),
                coalesce((SELECT array_agg(id ORDER BY place) FROM picked JOIN taken USING (id)), '{}')",
    )
    .bind(queue)
    .bind(i64::try_from(window).unwrap_or(i64::MAX))
    .bind(interval(lease))
    .bind(format!("guildex/dispatch/{queue}"))
    .bind(i64::try_from(depth).unwrap_or(i64::MAX))
    .fetch_one(pool)
    .await?;
    Ok(Dispatched { full: alone && room == 0, ids: ids.into_iter().map(JobId::from).collect() })
}

/// The jobs of a queue that have been queued for longer than `age`, if they were dispatched with this `lease`.
///
/// # Errors
/// If Postgres fails.
pub async fn queued_for(
    pool: &PgPool,
    queue: JobQueue,
    age: Duration,
    lease: Duration,
) -> Result<Vec<JobId>, StoreError> {
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "SELECT id FROM jobs WHERE state = 'queued' AND queue = $1 AND lease_expires_at < now() + $3 - $2",
    )
    .bind(queue)
    .bind(interval(age))
    .bind(interval(lease))
    .fetch_all(pool)
    .await?;
    Ok(ids.into_iter().map(JobId::from).collect())
}

/// Takes back what was dispatched and was not pushed, or was lost: pending again.
///
/// # Errors
/// If Postgres fails.
pub async fn requeue(pool: &PgPool, ids: &[JobId]) -> Result<(), StoreError> {
    sqlx::query(
        "WITH waiting AS (
             SELECT id FROM jobs WHERE id = ANY($1) AND state = 'queued' ORDER BY dedup_key, id FOR UPDATE)
         UPDATE jobs j SET state = 'pending', lease_expires_at = NULL FROM waiting WHERE j.id = waiting.id",
    )
    .bind(raw(ids))
    .execute(pool)
    .await?;
    Ok(())
}
