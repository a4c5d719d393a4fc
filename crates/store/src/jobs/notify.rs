use std::time::Duration;

use sqlx::PgExecutor;

use crate::StoreError;

/// Channel on which Postgres notifies dispatchers of new jobs. The payload is the delay in milliseconds until
/// the first of them is due.
pub const NOTIFY_CHANNEL: &str = "guildex_jobs";

pub(super) async fn notify(db: impl PgExecutor<'_>, due_in: Duration) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_notify($1, $2)")
        .bind(NOTIFY_CHANNEL)
        .bind(due_in.as_millis().to_string())
        .execute(db)
        .await?;
    Ok(())
}
