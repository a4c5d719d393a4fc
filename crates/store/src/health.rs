//! Checks of the database: version, writes, notifications, clock and queue backlog.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use uuid::Uuid;

use crate::StoreError;
use crate::sql::interval;

/// Returns the server's version.
pub async fn version(pool: &PgPool) -> Result<String, StoreError> {
    Ok(sqlx::query_scalar("SELECT current_setting('server_version')").fetch_one(pool).await?)
}

/// Writes a row, reads it and rolls back.
///
/// # Errors
/// [`StoreError::Corrupt`] if the row is not read as it was written.
pub async fn write_and_read(pool: &PgPool) -> Result<(), StoreError> {
    let mut tx = pool.begin().await?;
    // Higher than any Discord id, and never committed.
    let (id, name) = (i64::MAX, Uuid::new_v4().to_string());
    sqlx::query("INSERT INTO guilds (id, name) VALUES ($1, $2)")
        .bind(id)
        .bind(&name)
        .execute(&mut *tx)
        .await?;
    let read: String =
        sqlx::query_scalar("SELECT name FROM guilds WHERE id = $1").bind(id).fetch_one(&mut *tx).await?;
    tx.rollback().await?;
    if read == name {
        Ok(())
    } else {
        Err(StoreError::Corrupt("a row was not read as it was written".to_owned()))
    }
}

/// Sends a notification on a unique channel and waits for it.
pub async fn notify(pool: &PgPool) -> Result<(), StoreError> {
    let channel = format!("guildex_health_{}", Uuid::new_v4().simple());
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(&channel).await?;
    sqlx::query("SELECT pg_notify($1, '')").bind(&channel).execute(pool).await?;
    listener.recv().await?;
    Ok(())
}

/// Returns the time of the server's clock.
pub async fn clock(pool: &PgPool) -> Result<DateTime<Utc>, StoreError> {
    Ok(sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(pool).await?)
}

/// Backlog of the job queue.
#[derive(Debug, Clone, PartialEq, Serialize, sqlx::FromRow)]
pub struct Backlog {
    /// Due jobs that are not dispatched yet.
    pub due: i64,
    /// Time since the first of them was due, in seconds.
    pub due_seconds: f64,
    /// Queued jobs.
    pub queued: i64,
    /// Time since the first of them was queued, in seconds.
    pub queued_seconds: f64,
    /// Running jobs.
    pub running: i64,
    /// Dead jobs.
    pub dead: i64,
}

/// Measures the backlog of all queues. `queue_timeout` is the lease that the dispatcher gives to queued jobs.
pub async fn backlog(pool: &PgPool, queue_timeout: Duration) -> Result<Backlog, StoreError> {
    Ok(sqlx::query_as(
        "SELECT count(*) FILTER (WHERE due) AS due,
                coalesce(extract(epoch FROM now() - min(run_at) FILTER (WHERE due)), 0)::float8 AS due_seconds,
                count(*) FILTER (WHERE state = 'queued') AS queued,
                coalesce(extract(epoch FROM now() - min(lease_expires_at - $1) FILTER (WHERE state = 'queued')), 0)::float8
                    AS queued_seconds,
                count(*) FILTER (WHERE state = 'running') AS running,
                count(*) FILTER (WHERE state = 'dead') AS dead
         FROM (SELECT state, run_at, lease_expires_at, state = 'pending' AND run_at <= now() AS due
               FROM jobs WHERE is_unfinished(state) OR state = 'dead') open",
    )
    .bind(interval(queue_timeout))
    .fetch_one(pool)
    .await?)
}
