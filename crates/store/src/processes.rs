//! The program's processes: who is there, and what memory each takes.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgPool};

use crate::StoreError;
use crate::jobs::interval;

/// What a process tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Host and process id, as jobs name their worker.
    pub name: String,
    /// Its subcommand.
    pub role: &'static str,
    /// When it was started.
    pub started_at: DateTime<Utc>,
    /// The memory that it holds now, in bytes.
    pub memory_bytes: Option<i64>,
    /// The most that it has held, in bytes.
    pub peak_bytes: Option<i64>,
    /// Jobs that it holds at once, at most; none for a role that does none.
    pub slots: i32,
}

/// A process as the others see it.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
pub struct ProcessStatus {
    /// Host and process id.
    pub name: String,
    /// Its subcommand.
    pub role: String,
    /// For how long it has been there, in seconds.
    pub up_seconds: f64,
    /// How long ago it told of itself, in seconds.
    pub seen_seconds: f64,
    /// The memory that it held then, in bytes.
    pub memory_bytes: Option<i64>,
    /// The most that it had held until then, in bytes.
    pub peak_bytes: Option<i64>,
    /// Jobs that it holds now.
    pub jobs: i64,
    /// Jobs that it holds at once, at most.
    pub slots: i32,
}

/// Tells of a process, and takes away those that have not told of themselves for `forgotten`.
///
/// # Errors
/// If Postgres fails.
pub async fn upsert(pool: &PgPool, process: &Process, forgotten: Duration) -> Result<(), StoreError> {
    sqlx::query(
        "WITH gone AS (DELETE FROM processes WHERE seen_at < now() - $7 AND name <> $1)
         INSERT INTO processes (name, role, started_at, memory_bytes, peak_bytes, slots)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (name) DO UPDATE
         SET role = excluded.role, started_at = excluded.started_at, seen_at = now(),
             memory_bytes = excluded.memory_bytes, peak_bytes = excluded.peak_bytes, slots = excluded.slots",
    )
    .bind(&process.name)
    .bind(process.role)
    .bind(process.started_at)
    .bind(process.memory_bytes)
    .bind(process.peak_bytes)
    .bind(process.slots)
    .bind(interval(forgotten))
    .execute(pool)
    .await?;
    Ok(())
}

/// Takes a process away that ends in good order.
///
/// # Errors
/// If Postgres fails.
pub async fn remove(pool: &PgPool, name: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM processes WHERE name = $1").bind(name).execute(pool).await?;
    Ok(())
}

/// The processes that told of themselves within `lately`, by role and name.
///
/// # Errors
/// If Postgres fails.
pub async fn list_recent(pool: &PgPool, lately: Duration) -> Result<Vec<ProcessStatus>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT p.name, p.role, extract(epoch FROM now() - p.started_at)::float8 AS up_seconds,
                extract(epoch FROM now() - p.seen_at)::float8 AS seen_seconds,
                p.memory_bytes, p.peak_bytes, coalesce(j.jobs, 0) AS jobs, p.slots
         FROM processes p
         LEFT JOIN (SELECT claimed_by, count(*) AS jobs FROM jobs WHERE state = 'running' GROUP BY 1) j ON j.claimed_by = p.name
         WHERE p.seen_at >= now() - $1
         ORDER BY p.role, p.name",
    )
    .bind(interval(lately))
    .fetch_all(pool)
    .await?)
}
