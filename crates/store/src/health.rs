//! Round trips that tell whether the database does what Guildex needs of it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;
use sqlx::postgres::{PgListener, types::PgInterval};
use uuid::Uuid;

use crate::StoreError;

/// The server's version, as it tells it.
///
/// # Errors
/// If Postgres fails.
pub async fn version(pool: &PgPool) -> Result<String, StoreError> {
    Ok(sqlx::query_scalar("SELECT current_setting('server_version')").fetch_one(pool).await?)
}

/// Writes a row, reads it, and takes it all back.
///
/// # Errors
/// If Postgres fails, or what was written is not what is read.
pub async fn write_and_read(pool: &PgPool) -> Result<(), StoreError> {
    let mut tx = pool.begin().await?;
    // Beyond Discord's ids, and never committed.
    let (id, name) = (i64::MAX, Uuid::new_v4().to_string());
    sqlx::query("INSERT INTO guilds (id, name) VALUES ($1, $2)")
        .bind(id)
        .bind(&name)
        .execute(&mut *tx)
        .await?;
    let read: String =
        sqlx::query_scalar("SELECT name FROM guilds WHERE id = $1").bind(id).fetch_one(&mut *tx).await?;
    tx.rollback().await?;
    if read == name { Ok(()) } else { Err(StoreError::Corrupt("a row was not read as written".to_owned())) }
}

/// Sends a notification to itself and waits for it.
///
/// # Errors
/// If Postgres fails.
pub async fn notify(pool: &PgPool) -> Result<(), StoreError> {
    let channel = format!("guildex_health_{}", Uuid::new_v4().simple());
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(&channel).await?;
    sqlx::query("SELECT pg_notify($1, '')").bind(&channel).execute(pool).await?;
    listener.recv().await?;
    Ok(())
}

/// What the server's clock shows.
///
/// # Errors
/// If Postgres fails.
pub async fn clock(pool: &PgPool) -> Result<DateTime<Utc>, StoreError> {
    Ok(sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(pool).await?)
}

/// What waits in the ledger, and for how long.
#[derive(Debug, Clone, PartialEq, Serialize, sqlx::FromRow)]
pub struct Backlog {
    /// Jobs that a dispatcher could move by now.
    pub due: i64,
    /// For how long the first of them has been due, in seconds.
    pub due_seconds: f64,
    /// Jobs that workers could claim.
    pub queued: i64,
    /// For how long the first of them has been in the queue, in seconds.
    pub queued_seconds: f64,
    /// Jobs that workers hold.
    pub running: i64,
    /// Jobs that cannot succeed.
    pub dead: i64,
}

/// How much waits. `queued_lease` is the dispatchers'.
///
/// # Errors
/// If Postgres fails.
pub async fn backlog(pool: &PgPool, queued_lease: Duration) -> Result<Backlog, StoreError> {
    let lease = PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(queued_lease.as_micros()).unwrap_or(i64::MAX),
    };
    Ok(sqlx::query_as(
        "SELECT count(*) FILTER (WHERE due) AS due,
                coalesce(extract(epoch FROM now() - min(run_at) FILTER (WHERE due)), 0)::float8 AS due_seconds,
                count(*) FILTER (WHERE state = 'queued') AS queued,
                coalesce(extract(epoch FROM now() - min(lease_expires_at - $1) FILTER (WHERE state = 'queued')), 0)::float8
                    AS queued_seconds,
                count(*) FILTER (WHERE state = 'running') AS running,
                count(*) FILTER (WHERE state = 'dead') AS dead
         FROM (SELECT state, run_at, lease_expires_at, state = 'pending' AND run_at <= now() AS due
               FROM jobs WHERE state IN ('pending', 'queued', 'running', 'dead')) open",
    )
    .bind(lease)
    .fetch_one(pool)
    .await?)
}
