//! Last outcome of each periodic task.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgPool};

use crate::StoreError;

/// Last outcome of a task.
#[derive(Debug, Clone, PartialEq, Eq, FromRow, Serialize)]
pub struct SchedulerTask {
    /// Task name.
    pub name: String,
    /// Process that ran the task last.
    pub process: String,
    /// Start of the last run.
    pub started_at: DateTime<Utc>,
    /// Duration of the last run in milliseconds.
    pub duration_ms: i64,
    /// Start of the last successful run.
    pub succeeded_at: Option<DateTime<Utc>>,
    /// Error of the last run, if it failed.
    pub error: Option<String>,
}

/// Stores outcomes. An outcome replaces that of an earlier run, of any process.
pub async fn upsert(pool: &PgPool, tasks: &[SchedulerTask]) -> Result<(), StoreError> {
    let names: Vec<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
    let processes: Vec<&str> = tasks.iter().map(|task| task.process.as_str()).collect();
    let started_at: Vec<DateTime<Utc>> = tasks.iter().map(|task| task.started_at).collect();
    let durations: Vec<i64> = tasks.iter().map(|task| task.duration_ms).collect();
    let succeeded_at: Vec<Option<DateTime<Utc>>> = tasks.iter().map(|task| task.succeeded_at).collect();
    let errors: Vec<Option<&str>> = tasks.iter().map(|task| task.error.as_deref()).collect();
    sqlx::query(
        "INSERT INTO scheduler_tasks AS t (name, process, started_at, duration_ms, succeeded_at, error)
         SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::bigint[], $5::timestamptz[], $6::text[])
         ORDER BY 1
         ON CONFLICT (name) DO UPDATE
         SET process = excluded.process, started_at = excluded.started_at, duration_ms = excluded.duration_ms,
             succeeded_at = coalesce(excluded.succeeded_at, t.succeeded_at), error = excluded.error
         WHERE excluded.started_at >= t.started_at",
    )
    .bind(names)
    .bind(processes)
    .bind(started_at)
    .bind(durations)
    .bind(succeeded_at)
    .bind(errors)
    .execute(pool)
    .await?;
    Ok(())
}

/// Returns the last outcome of every task, by name.
pub async fn list(pool: &PgPool) -> Result<Vec<SchedulerTask>, StoreError> {
    let tasks = sqlx::query_as(
        "SELECT name, process, started_at, duration_ms, succeeded_at, error FROM scheduler_tasks ORDER BY name",
    )
    .fetch_all(pool)
    .await?;
    Ok(tasks)
}
