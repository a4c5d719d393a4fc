//! What Postgres' planner knows of the tables.
//!
//! Without it statements that look up a handful of rows read whole channels and guilds. Postgres gathers it by itself,
//! a minute or more after much has changed; but never for a partitioned table as a whole.

use sqlx::{Executor, PgPool};

use crate::StoreError;

/// Has it gathered anew where messages are more than half as many again as when it was gathered last. Returns whether
/// that was so. Takes a second or two; nobody waits for it meanwhile.
///
/// # Errors
/// If Postgres fails.
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
