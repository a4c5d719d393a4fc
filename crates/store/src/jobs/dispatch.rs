use std::time::Duration;

use guildex_types::{JobId, JobQueue};
use sqlx::PgPool;

use crate::StoreError;
use crate::sql::{bigint, interval};

/// Result of [`dispatch`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dispatched {
    /// Jobs that are queued now, in the order in which to push them.
    pub ids: Vec<JobId>,
    /// Whether the queue was full already.
    pub full: bool,
}

/// Moves due jobs of a queue from pending to queued and returns them; push them to Redis once this has
/// committed.
///
/// At most `max_queued` jobs are queued, counting the larger of the queued rows and `depth`, the length of
/// the Redis queue. Guilds take turns; within a guild the oldest job is first. Does nothing while another
/// dispatcher runs.
///
/// Queued jobs have a lease: if Redis loses them, [`rescue_expired`](super::rescue_expired) finds them.
pub async fn dispatch(
    pool: &PgPool,
    queue: JobQueue,
    max_queued: usize,
    depth: usize,
    lease: Duration,
) -> Result<Dispatched, StoreError> {
    let (leader, room, ids): (bool, i64, Vec<JobId>) = sqlx::query_as(
        // The recursion walks the index from guild to guild, so it reads one entry per guild, not one per
        // job. Jobs are looked up by arrays of ids: Postgres cannot estimate the size of a join and would
        // scan the whole table.
        "/* jobs.dispatch */
         WITH RECURSIVE leader (ok) AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(hashtextextended($4, 0))),
         room (jobs) AS MATERIALIZED (
             SELECT CASE WHEN (SELECT ok FROM leader) THEN greatest($2 - greatest($5, count(*)), 0) ELSE 0 END
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
         SELECT (SELECT ok FROM leader), (SELECT jobs FROM room),
                coalesce((SELECT array_agg(id ORDER BY place) FROM picked JOIN taken USING (id)), '{}')",
    )
    .bind(queue)
    .bind(bigint(max_queued))
    .bind(interval(lease))
    .bind(format!("guildex/dispatch/{queue}"))
    .bind(bigint(depth))
    .fetch_one(pool)
    .await?;
    Ok(Dispatched { full: leader && room == 0, ids })
}

/// Returns the jobs of a queue that were dispatched with this `lease` more than `age` ago and are still
/// queued.
pub async fn queued_for(
    pool: &PgPool,
    queue: JobQueue,
    age: Duration,
    lease: Duration,
) -> Result<Vec<JobId>, StoreError> {
    Ok(sqlx::query_scalar(
        "/* jobs.queued_for */
         SELECT id FROM jobs WHERE state = 'queued' AND queue = $1 AND lease_expires_at < now() + $3 - $2",
    )
    .bind(queue)
    .bind(interval(age))
    .bind(interval(lease))
    .fetch_all(pool)
    .await?)
}

/// Returns queued jobs that were not pushed, or that Redis lost, to pending.
pub async fn requeue(pool: &PgPool, ids: &[JobId]) -> Result<(), StoreError> {
    sqlx::query(
        "/* jobs.requeue */
         WITH queued AS (
             SELECT id FROM jobs WHERE id = ANY($1) AND state = 'queued' ORDER BY dedup_key, id FOR UPDATE)
         UPDATE jobs j SET state = 'pending', lease_expires_at = NULL FROM queued WHERE j.id = queued.id",
    )
    .bind(ids)
    .execute(pool)
    .await?;
    Ok(())
}
