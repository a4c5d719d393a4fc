//! Planner statistics.
//!
//! Without them, statements that look up a few rows scan whole channels and guilds. Postgres' autovacuum
//! updates them with a delay of a minute or more, and never for a partitioned table as a whole.

use sqlx::{Executor, PgPool};

use crate::StoreError;

/// Updates the statistics if the number of messages grew by more than half since the last update, and returns
/// whether it did. Takes a second or two, and blocks no other statement.
pub async fn refresh(pool: &PgPool) -> Result<bool, StoreError> {
    let outdated: bool = sqlx::query_scalar(
        "SELECT coalesce(sum(n_live_tup), 0) > 100 + 1.5 * (SELECT greatest(reltuples, 0) FROM pg_class
                                                            WHERE oid = 'messages'::regclass)
         FROM pg_stat_user_tables JOIN pg_inherits ON inhrelid = relid WHERE inhparent = 'messages'::regclass",
    )
    .fetch_one(pool)
    .await?;
    if outdated {
        pool.execute("ANALYZE messages, sessions, indexed_sessions, channels, jobs").await?;
    }
    Ok(outdated)
}
