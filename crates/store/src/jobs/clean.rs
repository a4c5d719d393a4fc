use std::time::Duration;

use sqlx::PgPool;

use crate::StoreError;
use crate::sql::interval;

/// Deletes up to `limit` jobs that completed more than `retention` ago, and returns their number.
pub async fn delete_completed(pool: &PgPool, retention: Duration, limit: i64) -> Result<u64, StoreError> {
    let deleted = sqlx::query(
        "/* jobs.delete_completed */
         DELETE FROM jobs WHERE id IN (
             SELECT id FROM jobs WHERE state = 'completed' AND finished_at < now() - $1
             ORDER BY finished_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
    )
    .bind(interval(retention))
    .bind(limit)
    .execute(pool)
    .await?;
    Ok(deleted.rows_affected())
}
