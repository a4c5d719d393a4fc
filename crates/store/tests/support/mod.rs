//! What the tests of the store share.
#![allow(dead_code, reason = "each test file uses a part")]

use std::time::Duration;

use sqlx::PgPool;
use tokio::time::timeout;

/// Long enough for a busy machine; a test that works does not wait for it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until so many of the test's own statements wait for a lock that another holds.
pub async fn until_blocked(pool: &PgPool, statements: i64) {
    let blocked = async {
        loop {
            let waiting: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event_type = 'Lock'",
            )
            .fetch_one(pool)
            .await
            .unwrap();
            if waiting >= statements {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, blocked).await.expect("statements that wait for each other");
}
