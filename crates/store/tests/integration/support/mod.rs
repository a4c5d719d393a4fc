//! Helpers of the store's tests.
#![allow(dead_code, reason = "each test file uses a part")]

use std::time::Duration;

use sqlx::PgPool;
use tokio::time::timeout;

/// A timeout that only a hung test reaches.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Waits until `statements` statements of the test's database wait for locks.
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
    timeout(TEST_TIMEOUT, blocked).await.expect("the statement blocks");
}
