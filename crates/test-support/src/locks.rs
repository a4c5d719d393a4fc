//! Waiting for statements that Postgres' locks block.

use sqlx::PgPool;

use crate::sync::wait_until;

/// Waits until `statements` statements on the test's database wait for locks.
///
/// # Panics
/// If they do not within [`TEST_TIMEOUT`](crate::TEST_TIMEOUT).
pub async fn until_blocked(pool: &PgPool, statements: i64) {
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let blocked = async || sqlx::query_scalar::<_, i64>(waiting).fetch_one(pool).await.unwrap() >= statements;
    wait_until("statements that wait for locks", blocked).await;
}
