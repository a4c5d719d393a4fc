//! From Postgres to Redis, and back where Redis has no room.

use std::time::Duration;

use guildex_types::{JobClass, JobId};
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

/// Moves due jobs of a class from pending to queued, as far as `window` has room for more than what is queued by
/// the ledger or waits in Redis (`depth`); they are to be pushed once this has committed. Guilds take turns,
/// oldest job first. Does nothing while another dispatcher is at it.
///
/// The jobs carry a lease: if Redis loses them, [`sweep`](super::sweep) finds them.
///
/// # Errors
/// If Postgres fails.
pub async fn dispatch(
    pool: &PgPool,
    class: JobClass,
    window: usize,
    depth: usize,
    lease: Duration,
) -> Result<Dispatched, StoreError> {
    let mut tx = pool.begin().await?;
    let alone: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(format!("guildex/dispatch/{class}"))
        .fetch_one(&mut *tx)
        .await?;
    if !alone {
        tx.rollback().await?;
        return Ok(Dispatched::default());
    }
    let queued: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs WHERE state = 'queued' AND class = $1")
        .bind(class.rank())
        .fetch_one(&mut *tx)
        .await?;
    let room = window.saturating_sub(depth.max(usize::try_from(queued).unwrap_or(usize::MAX)));
    if room == 0 {
        // At once, and not when the connection is used next: the lock goes with it.
        tx.rollback().await?;
        return Ok(Dispatched { ids: Vec::new(), full: true });
    }
    let mut taken: Vec<(Uuid, i64)> = sqlx::query_as(
        // The recursion hops from guild to guild over the index, and so reads one entry a guild, not one a job.
        "WITH RECURSIVE guild (id) AS (
             (SELECT min(guild_id) FROM jobs WHERE state = 'pending' AND class = $1)
             UNION ALL
             SELECT (SELECT min(guild_id) FROM jobs WHERE state = 'pending' AND class = $1 AND guild_id > guild.id)
             FROM guild WHERE guild.id IS NOT NULL),
         share (jobs) AS (SELECT ceil($2::numeric / greatest(count(id), 1))::bigint FROM guild),
         turn AS (
             SELECT due.id, due.run_at, row_number() OVER (PARTITION BY guild.id ORDER BY due.run_at, due.id) AS number
             FROM guild CROSS JOIN LATERAL (
                 SELECT id, run_at FROM jobs
                 WHERE state = 'pending' AND class = $1 AND guild_id = guild.id AND run_at <= now()
                 ORDER BY run_at, id LIMIT (SELECT jobs FROM share)) AS due),
         picked AS (
             SELECT id, row_number() OVER (ORDER BY number, run_at, id) AS place
             FROM turn ORDER BY place LIMIT $2),
         free AS (
             SELECT j.id, picked.place FROM jobs j JOIN picked ON picked.id = j.id
             WHERE j.state = 'pending' ORDER BY j.key, j.id FOR UPDATE OF j SKIP LOCKED)
         UPDATE jobs SET state = 'queued', lease_until = now() + $3
         FROM free WHERE jobs.id = free.id
         RETURNING jobs.id, free.place",
    )
    .bind(class.rank())
    .bind(i64::try_from(room).unwrap_or(i64::MAX))
    .bind(interval(lease))
    .fetch_all(&mut *tx)
    .await?;
    tx.commit().await?;
    taken.sort_unstable_by_key(|(_, place)| *place);
    Ok(Dispatched { ids: taken.into_iter().map(|(id, _)| id.into()).collect(), full: false })
}

/// The jobs of a class that have been queued for longer than `age`, if they were dispatched with this `lease`.
///
/// # Errors
/// If Postgres fails.
pub async fn queued_for(
    pool: &PgPool,
    class: JobClass,
    age: Duration,
    lease: Duration,
) -> Result<Vec<JobId>, StoreError> {
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "SELECT id FROM jobs WHERE state = 'queued' AND class = $1 AND lease_until < now() + $3 - $2",
    )
    .bind(class.rank())
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
pub async fn take_back(pool: &PgPool, ids: &[JobId]) -> Result<(), StoreError> {
    sqlx::query(
        "WITH waiting AS (
             SELECT id FROM jobs WHERE id = ANY($1) AND state = 'queued' ORDER BY key, id FOR UPDATE)
         UPDATE jobs j SET state = 'pending', lease_until = NULL FROM waiting WHERE j.id = waiting.id",
    )
    .bind(raw(ids))
    .execute(pool)
    .await?;
    Ok(())
}
