//! Isolated queues for tests with a real Redis.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Duration;

use futures::FutureExt;
use guildex_types::JobQueue;
use redis::aio::ConnectionManager;
use uuid::Uuid;

use crate::{Config, QueueError, Queues};

/// Configuration for the Redis at `REDIS_URL`, with a unique prefix and redelivery after two seconds.
///
/// # Panics
/// If `REDIS_URL` is unset.
#[allow(clippy::expect_used, reason = "for tests only")]
pub fn config() -> Config {
    Config {
        url: std::env::var("REDIS_URL").expect("REDIS_URL is unset: run scripts/test"),
        prefix: format!("test-{}", Uuid::new_v4().simple()),
        poll_interval: Duration::from_millis(10),
        heartbeat_interval: Duration::from_millis(500),
        missed_heartbeats: 4,
        ..Config::default()
    }
}

/// Runs a test with its own queues, and deletes their keys afterwards, also if the test panics.
///
/// # Panics
/// If Redis is unavailable, or if the test panics.
#[allow(clippy::expect_used, reason = "for tests only")]
pub async fn with_queues<F: Future<Output = ()>>(test: impl FnOnce(Queues) -> F) {
    let queues = Queues::connect(&config()).await.expect("Redis at REDIS_URL");
    let outcome = AssertUnwindSafe(test(queues.clone())).catch_unwind().await;
    purge(&queues).await.expect("Redis at REDIS_URL");
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

/// Connection to inspect or change Redis.
pub fn connection(queues: &Queues) -> ConnectionManager {
    queues.redis.clone()
}

/// Names of a queue's keys in apalis.
pub fn layout(queues: &Queues, queue: JobQueue) -> apalis_redis::Config {
    queues.config.redis_queue(queue)
}

/// Names of all keys under the queues' prefix.
///
/// # Errors
/// If Redis fails.
pub async fn keys(queues: &Queues) -> Result<Vec<String>, QueueError> {
    let pattern = format!("{}:*", queues.config.prefix);
    Ok(redis::cmd("KEYS").arg(pattern).query_async(&mut queues.redis.clone()).await?)
}

/// Deletes every key under the queues' prefix, with the ids that wait.
///
/// # Errors
/// If Redis fails.
pub async fn purge(queues: &Queues) -> Result<(), QueueError> {
    let mut pipe = redis::pipe();
    for queue in JobQueue::ALL {
        // The only key that apalis shares between all queues of a server.
        pipe.zrem("core:apalis:queues:list", queues.config.redis_queue(queue).workers_set());
    }
    for key in keys(queues).await? {
        pipe.del(key);
    }
    Ok(pipe.exec_async(&mut queues.redis.clone()).await?)
}
