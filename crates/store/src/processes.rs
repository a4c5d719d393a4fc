//! Heartbeats of Guildex's processes.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgPool};

use crate::StoreError;
use crate::sql::interval;

/// Heartbeat of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Host and process id, as in `jobs.claimed_by`.
    pub name: String,
    /// Subcommand.
    pub role: &'static str,
    /// Start time.
    pub started_at: DateTime<Utc>,
    /// Memory in use, in bytes.
    pub memory_bytes: Option<i64>,
    /// Peak memory use, in bytes.
    pub peak_bytes: Option<i64>,
    /// Maximum number of concurrent jobs; 0 for roles that run none.
    pub slots: i32,
}

/// A process and its last heartbeat.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
pub struct ProcessStatus {
    /// Host and process id.
    pub name: String,
    /// Subcommand.
    pub role: String,
    /// Uptime, in seconds.
    pub up_seconds: f64,
    /// Time since the last heartbeat, in seconds.
    pub seen_seconds: f64,
    /// Memory in use then, in bytes.
    pub memory_bytes: Option<i64>,
    /// Peak memory use until then, in bytes.
    pub peak_bytes: Option<i64>,
    /// Number of running jobs.
    pub jobs: i64,
    /// Maximum number of concurrent jobs.
    pub slots: i32,
}

/// Stores a heartbeat, and deletes processes without one for `expire_after`.
pub async fn upsert(pool: &PgPool, process: &Process, expire_after: Duration) -> Result<(), StoreError> {
    sqlx::query(
        "WITH expired AS (DELETE FROM processes WHERE seen_at < now() - $7 AND name <> $1)
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
    .bind(interval(expire_after))
    .execute(pool)
    .await?;
    Ok(())
}

/// Deletes a process that shuts down.
pub async fn remove(pool: &PgPool, name: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM processes WHERE name = $1").bind(name).execute(pool).await?;
    Ok(())
}

/// Returns the processes with a heartbeat within `stale_after`, ordered by role and name.
pub async fn list_recent(pool: &PgPool, stale_after: Duration) -> Result<Vec<ProcessStatus>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT p.name, p.role, extract(epoch FROM now() - p.started_at)::float8 AS up_seconds,
                extract(epoch FROM now() - p.seen_at)::float8 AS seen_seconds,
                p.memory_bytes, p.peak_bytes, coalesce(j.jobs, 0) AS jobs, p.slots
         FROM processes p
         LEFT JOIN (SELECT claimed_by, count(*) AS jobs FROM jobs WHERE state = 'running' GROUP BY 1) j ON j.claimed_by = p.name
         WHERE p.seen_at >= now() - $1
         ORDER BY p.role, p.name",
    )
    .bind(interval(stale_after))
    .fetch_all(pool)
    .await?)
}
